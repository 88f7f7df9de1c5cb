"""Rows of tables that others have written: CSV, TSV, JSON lines, Parquet, in bounded memory.

What is wrong with a row is said, row by row, and the reading goes on: nothing is dropped in silence.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from faceproof.errors import UsageError
from faceproof.extras import require
from faceproof.images import printable

__all__ = ["Problem", "Row", "Table", "seconds"]

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LONGEST = 1 << 20
"""Characters that a row may have."""
BLOCK = 2000
"""Rows of a Parquet file in memory at once."""


@dataclass(frozen=True)
class Problem:
    """What was wrong with one row.

    Attributes:
        row: its number in the file: the line of CSV and JSON lines (a row's last one), the row of Parquet; from 1.
        kind: a few words, the same for the same trouble.
        detail: what was found there, at most 200 characters.
    """

    row: int
    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """One row: its number (see `Problem.row`), and its values by role."""

    number: int
    values: Mapping[str, Any]


class Table:
    """A table on disk, read as often as it is iterated.

    Args:
        path: of the file; its ending tells the format.
        roles: role -> names of columns it may have, the first one that holds something counting; upper and lower
            case are the same.
        needed: roles that must have a column.
        chosen: role -> the column the user named; it replaces the role's names.
        on_problem: called for every row that is broken or was repaired.

    Raises:
        UsageError: no such file, another ending, or a role that does not exist.
    """

    def __init__(
        self,
        path: str | Path,
        roles: Mapping[str, tuple[str, ...]],
        *,
        needed: Iterable[str] = (),
        chosen: Mapping[str, str] | None = None,
        on_problem: Callable[[Problem], None] = lambda problem: None,
    ) -> None:
        self.path, self.needed, self._say = Path(path), tuple(needed), on_problem
        unknown = sorted(set(chosen or {}) - set(roles))
        if unknown:
            raise UsageError(f"no role {unknown[0]!r} for a column; known: {', '.join(roles)}")
        self.roles = {
            role: (chosen[role].casefold(),) if chosen and role in chosen else tuple(n.casefold() for n in names)
            for role, names in roles.items()
        }
        self.columns: tuple[str, ...] = ()
        if self.path.suffix.lower() not in ENDINGS:
            raise UsageError(f"unknown ending of {printable(path)}; tables are {', '.join(ENDINGS)}")
        if not self.path.is_file():
            raise UsageError(f"no table at {printable(path)}; check the path")

    def __iter__(self) -> Iterator[Row]:
        """Yield every row that can be read.

        Raises:
            UsageError: the file cannot be read at all, or lacks a needed column.
        """
        ending = self.path.suffix.lower()
        try:
            if ending == ".parquet":
                raw = self._parquet()
            elif ending in (".csv", ".tsv"):
                raw = self._csv("\t" if ending == ".tsv" else ",")
            else:
                raw = self._json_lines()
            first = True
            for number, values in raw:
                if first:
                    self._check(tuple(values))
                    first = False
                yield Row(number, self._by_role(values))
        except OSError as err:
            raise UsageError(f"{printable(self.path)} cannot be read ({err.strerror or err})") from err

    def _check(self, names: tuple[str, ...]) -> None:
        self.columns = names
        known = {name.casefold() for name in names}
        for role in self.needed:
            if not known & set(self.roles[role]):
                raise UsageError(
                    f"{printable(self.path)} has no column for {role} (looked for {', '.join(self.roles[role])}; it "
                    f"has {', '.join(map(printable, names[:20]))}); name it: --column {role}=NAME"
                )

    def _by_role(self, values: Mapping[str, Any]) -> dict[str, Any]:
        folded = {str(name).casefold(): value for name, value in values.items()}
        found = {}
        for role, names in self.roles.items():
            found[role] = next((folded[name] for name in names if folded.get(name) not in (None, "")), None)
        return found

    def _csv(self, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        with self.path.open("rb") as stream:
            reader = csv.reader(self._lines(stream), delimiter=delimiter)
            header: list[str] | None = None
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as err:
                    self._say(Problem(reader.line_num, "broken row", f"{err}; a quotation mark without its partner?"))
                    continue
                if header is None and row and row[0].startswith("#"):
                    continue  # our own tables say in such a line where they come from
                if header is None:
                    header = [name.strip() for name in row]
                    self._check(tuple(header))
                elif not row:
                    continue  # an empty line is no row
                elif len(row) != len(header):
                    detail = f"{len(row)} fields instead of {len(header)}: {','.join(row)}"
                    self._say(Problem(reader.line_num, "broken row", detail[:200]))
                else:
                    yield reader.line_num, dict(zip(header, row, strict=True))

    def _json_lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.path.open("rb") as stream:
            for number, line in enumerate(self._lines(stream), 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as err:
                    self._say(Problem(number, "broken row", f"not JSON ({err}): {line.strip()}"[:200]))
                    continue
                if not isinstance(value, dict):
                    self._say(Problem(number, "broken row", f"no object but {line.strip()}"[:200]))
                    continue
                yield number, value

    def _parquet(self) -> Iterator[tuple[int, dict[str, Any]]]:
        parquet = require("parquet", "pyarrow.parquet")
        try:
            file = parquet.ParquetFile(self.path)
            self._check(tuple(file.schema_arrow.names))
            wanted = {name for names in self.roles.values() for name in names}
            columns = [name for name in file.schema_arrow.names if name.casefold() in wanted]
            number = 0
            for batch in file.iter_batches(batch_size=BLOCK, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except ValueError as err:  # pyarrow.ArrowInvalid
            raise UsageError(f"{printable(self.path)} cannot be read as Parquet ({err})") from err

    def _lines(self, stream: IO[bytes]) -> Iterator[str]:
        """Lines of text: UTF-8, UTF-16 with its mark, or line by line what Windows-1252 makes of other bytes."""
        head = stream.read(3)
        stream.seek(0)
        if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            yield from io.TextIOWrapper(stream, encoding="utf-16", errors="replace", newline="")
            return
        if head == codecs.BOM_UTF8:
            stream.seek(3)
        number = 0
        while line := stream.readline(LONGEST):
            number += 1
            if len(line) == LONGEST and not line.endswith(b"\n"):
                self._say(Problem(number, "broken row", f"a line of more than {LONGEST} bytes"))
                while line and not line.endswith(b"\n"):
                    line = stream.readline(LONGEST)
                continue
            yield self._decoded(line, number).replace("\0", "\ufffd")

    def _decoded(self, line: bytes, number: int) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode("cp1252", "replace")
            self._say(Problem(number, "not UTF-8, read as Windows-1252", text.strip()[:200]))
            return text


def seconds(value: Any) -> float:
    """Return a time as seconds since 1970, UTC.

    Args:
        value: ISO 8601 ("2024-05-01T12:00:00Z"; without a zone it is UTC), Twitter's and mail's form
            ("Wed Oct 10 20:19:24 +0000 2018", "Wed, 10 Oct 2018 20:19:24 +0000"), seconds or milliseconds since
            1970 (above 1e11 they are milliseconds), or a `datetime`.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, datetime):
        return _stamp(value)
    if isinstance(value, bool):
        raise ValueError(f"{value} is no time")  # noqa: TRY004 -- one error for everything that is no time
    if isinstance(value, (int, float)):
        return _number(float(value))
    text = str(value).strip()
    for read in (_number_text, _iso, _twitter, _mail):
        try:
            return read(text)
        except (ValueError, TypeError, OverflowError):
            continue
    raise ValueError(f"{text[:60]!r} is no time")


def _stamp(when: datetime) -> float:
    try:
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    except (OverflowError, OSError) as err:
        raise ValueError(f"{when} is no time") from err


def _number(value: float) -> float:
    if not math.isfinite(value) or abs(value) > 1e14:
        raise ValueError(f"{value} is no time")
    return value / 1000 if abs(value) > 1e11 else value


def _number_text(text: str) -> float:
    return _number(float(text))


def _iso(text: str) -> float:
    text = text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text.removesuffix(" UTC")
    return _stamp(datetime.fromisoformat(text))


def _twitter(text: str) -> float:
    return _stamp(datetime.strptime(text, "%a %b %d %H:%M:%S %z %Y"))


def _mail(text: str) -> float:
    return _stamp(parsedate_to_datetime(text))
