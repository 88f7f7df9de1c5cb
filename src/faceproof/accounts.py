"""A table of accounts, and which picture belongs to which of them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.images import printable
from faceproof.rows import Problem, Table, seconds
from faceproof.tables import well_formed

__all__ = ["FLAGS", "NUMBERS", "ROLES", "Accounts", "Pictures", "read_accounts"]

ROLES = {
    "account": ("account", "account_id", "user_id", "id", "author_id", "screen_name", "username"),
    "picture": ("picture", "picture_path", "image", "avatar", "file", "path"),
    "created": ("created", "created_at", "account_created_at", "registered", "joined"),
    "followers": ("followers", "followers_count"),
    "following": ("following", "following_count", "friends_count", "followees"),
    "posts": ("posts", "posts_count", "statuses_count", "tweet_count", "tweets"),
    "verified": ("verified", "is_verified"),
    "suspended": ("suspended", "is_suspended"),
    "protected": ("protected", "is_protected", "private"),
}
NUMBERS = ("followers", "following", "posts")
FLAGS = ("verified", "suspended", "protected")
DAY = 86400.0
_YES = {"1", "true", "yes", "t", "y", "1.0"}
_NO = {"0", "false", "no", "f", "n", "0.0"}


@dataclass(frozen=True)
class Accounts:
    """Accounts by number, each id once.

    Attributes:
        names: ids. pictures: as the table names them, "" for none.
        created: (N,) float64, seconds since 1970; NaN where it is not known or cannot be.
        numbers: role -> (N,) float64, NaN where there is none; flags: role -> (N,), 1, 0 or NaN.
        index: id -> number.
    """

    names: tuple[str, ...]
    pictures: tuple[str, ...]
    created: npt.NDArray[np.float64]
    numbers: Mapping[str, npt.NDArray[np.float64]]
    flags: Mapping[str, npt.NDArray[np.float64]]
    index: Mapping[str, int]


def read_accounts(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    now: float | None = None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
) -> Accounts:
    """Read a table of accounts; memory grows with their number (some 300 bytes each).

    Args:
        path: .csv, .tsv, .jsonl, .ndjson or .parquet with a column of ids.
        columns: role -> column, for names of its own.
        now: seconds since 1970 after which (plus a day) a time lies in the future; the clock's if None.
        on_problem: called for what is wrong: broken rows, no id, a repeated id (the first row counts), a time before
            1970, in the future or none at all, a number that is none. The account counts, without that value.

    Raises:
        UsageError: the table cannot be read, or holds no account.
    """
    import time

    latest = (time.time() if now is None else now) + DAY
    index: dict[str, int] = {}
    pictures: list[str] = []
    created: list[float] = []
    numbers: dict[str, list[float]] = {role: [] for role in NUMBERS}
    flags: dict[str, list[float]] = {role: [] for role in FLAGS}
    for row in Table(path, ROLES, needed=["account"], chosen=columns, on_problem=on_problem):
        name = _name(row.values["account"])
        if not name or name in index:
            on_problem(Problem(row.number, "repeated id" if name else "no id", name[:200]))
            continue

        def say(kind: str, value: Any, number: int = row.number) -> None:
            on_problem(Problem(number, kind, well_formed(str(value))[:200]))

        index[name] = len(index)
        pictures.append(_name(row.values["picture"]))
        created.append(_created(row.values["created"], latest, say))
        for role in NUMBERS:
            numbers[role].append(_number(row.values[role], role, say))
        for role in FLAGS:
            flags[role].append(_flag(row.values[role], role, say))
    if not index:
        raise UsageError(f"{printable(path)} holds no account that can be read; look at its format")
    return Accounts(
        tuple(index), tuple(pictures), np.array(created),
        {role: np.array(values) for role, values in numbers.items()},
        {role: np.array(values) for role, values in flags.items()}, index,
    )  # fmt: skip


def _name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else well_formed(str(value).strip())


def _created(value: Any, latest: float, say: Callable[[str, Any], None]) -> float:
    if value is None:
        return math.nan
    try:
        when = seconds(value)
    except ValueError:
        say("time cannot be read", value)
        return math.nan
    if 0 < when <= latest:
        return when
    say("clock in the future" if when > 0 else "clock before 1970", value)
    return math.nan


def _number(value: Any, role: str, say: Callable[[str, Any], None]) -> float:
    if value is None:
        return math.nan
    try:
        found = float(value)
        if math.isfinite(found) and found >= 0:
            return found
    except (TypeError, ValueError):
        pass
    say(f"{role}: no number", value)
    return math.nan


def _flag(value: Any, role: str, say: Callable[[str, Any], None]) -> float:
    if value is None:
        return math.nan
    text = str(value).strip().lower()
    if text in _YES or text in _NO:
        return float(text in _YES)
    say(f"{role}: neither yes nor no", value)
    return math.nan


class Pictures:
    """Finds the account of a picture's path: the one whose table names it, else the one whose id is the file's name.

    Args:
        accounts: of `read_accounts`.
        folder: the pictures lie in; paths in the table may be relative to it.

    Attributes:
        ambiguous: file names that several accounts name; only whole paths decide for them.
    """

    def __init__(self, accounts: Accounts, folder: str | None = None) -> None:
        self._folder, self._accounts = folder, accounts
        self._paths: dict[str, list[int]] = {}
        names: dict[str, list[int]] = {}
        for number, picture in enumerate(accounts.pictures):
            if picture:
                self._paths.setdefault(os.path.normpath(picture), []).append(number)
                names.setdefault(os.path.basename(picture), []).append(number)
        self._names = {name: found for name, found in names.items() if len({accounts.pictures[n] for n in found}) == 1}
        self.ambiguous = Counter({name: len(found) for name, found in names.items() if name not in self._names})

    def of(self, path: str) -> tuple[int, ...]:
        """Return the numbers of the accounts with this picture; several may share a file."""
        own = os.path.normpath(path)
        if own in self._paths:
            return tuple(self._paths[own])
        if self._folder is not None:
            inside = os.path.relpath(own, os.path.normpath(self._folder))
            if inside in self._paths:
                return tuple(self._paths[inside])
        base = os.path.basename(own)
        if base in self._names:
            return tuple(self._names[base])
        stem = self._accounts.index.get(os.path.splitext(base)[0])
        return () if stem is None or self._accounts.pictures[stem] else (stem,)
