"""A platform's accounts, their pictures and their posts seen together (FIELD.md 1.1, the whole study)."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.accounts import FLAGS, NUMBERS, Accounts, Pictures
from faceproof.bursts import Burst, find_bursts
from faceproof.campaigns import Campaign, Group, find_campaigns
from faceproof.comparing import Comparison, compare_numbers, compare_shares, corrected
from faceproof.errors import UsageError
from faceproof.flags import Summary, Tally
from faceproof.post_store import PostStore
from faceproof.prevalence import Estimate, Stratum, bootstrap_prevalence, labelled_prevalence
from faceproof.rows import Problem, Table

__all__ = [
    "FLAGGED", "JUDGED", "NO_PICTURE", "UNFIT", "UNREADABLE", "Labelled", "Seen", "Study", "Texts", "join_clusters",
    "join_posts", "join_records", "labelled", "make_study", "sample",
]  # fmt: skip

NO_PICTURE, UNREADABLE, UNFIT, JUDGED, FLAGGED = range(5)
STATES = ("no picture", "not readable", "no face fit to be judged", "judged", "flagged")
"""What is known about an account's picture."""
DAY = 86400
MOST_DAYS = 20_000
GENERATED, PHOTOGRAPH = {"generated", "1", "fake"}, {"photograph", "0", "real"}
Say = Callable[[Problem], None]


@dataclass(frozen=True)
class Seen:
    """What a scan says about the accounts' pictures.

    Attributes:
        state: (N,) int8, an index of `STATES`. score: (N,) float64, NaN where nothing was judged.
        path: (N,) of the picture, "" for none.
        faces: account -> boxes of all faces (x0, y0, x1, y1) in its picture, flagged accounts only.
        summary: what the flags are worth.
        left: records of pictures that belong to no account.
    """

    state: npt.NDArray[np.int8]
    score: npt.NDArray[np.float64]
    path: tuple[str, ...]
    faces: Mapping[int, tuple[tuple[float, float, float, float], ...]]
    summary: Summary
    tally: Tally
    left: int


def join_records(
    accounts: Accounts, pictures: Pictures, records: Iterable[Mapping[str, Any]], tally: Tally, say: Say
) -> Seen:
    """Give every record of a scan to its account.

    What does not fit is said: pictures without an account, a second picture of an account (the first counts).
    """
    count = len(accounts.names)
    state, score = np.zeros(count, np.int8), np.full(count, np.nan)
    paths, faces, left = [""] * count, {}, 0
    threshold = round(tally.point.threshold, 6)  # records hold six digits
    for place, record in enumerate(records, 1):
        owners = pictures.of(record["path"])
        left += not owners
        if not owners:
            say(Problem(place, "picture without account", record["path"][:200]))
        for account in owners:
            if paths[account]:
                say(Problem(place, "second picture of an account", record["path"][:200]))
                continue
            paths[account] = record["path"]
            tally.add(record)
            value = record.get("score")
            if record["status"] == "error":
                state[account] = UNREADABLE
            elif not isinstance(value, (int, float)) or record.get("model") != tally.card.identity:
                state[account] = UNFIT
            else:
                state[account], score[account] = (FLAGGED if value >= threshold else JUDGED), value
                if value >= threshold:
                    faces[account] = tuple(tuple(face["box"]) for face in record["faces"])
    for account, picture in enumerate(accounts.pictures):
        if not paths[account]:
            say(Problem(account + 1, "account without picture", f"{accounts.names[account]} {picture}"[:200]))
    return Seen(state, score, tuple(paths), faces, tally.summary(), tally, left)


def join_clusters(path: str | Path, pictures: Pictures, say: Say) -> dict[int, set[int]]:
    """Return the accounts of each cluster of copied pictures, from the CSV that `faceproof duplicates` writes.

    Raises:
        UsageError: it cannot be read.
    """
    roles = {"path": ("path",), "cluster": ("cluster",)}
    found: defaultdict[int, set[int]] = defaultdict(set)
    for row in Table(path, roles, needed=roles, on_problem=say):
        name, label = row.values["path"], str(row.values["cluster"] or "0")
        if not label.isdigit() or not name:
            say(Problem(row.number, "broken row", f"{label} {name}"[:200]))
        elif int(label):
            # Our tables put ' before what a spreadsheet could take for a formula.
            for account in pictures.of(str(name).removeprefix("'")):
                found[int(label)].add(account)
    return dict(found)


@dataclass(frozen=True)
class Texts:
    """What posts say about accounts: (N,) posts and share of copied ones, accounts by cluster and by copied text."""

    posts: npt.NDArray[np.int64]
    copied: npt.NDArray[np.float64]
    clusters: Mapping[int, set[int]]
    copies: Mapping[int, set[int]]


def join_posts(accounts: Accounts, store: PostStore, say: Say) -> Texts:
    """Give the posts to their accounts; posts of accounts that are not in the table are said and left out."""
    posts, copied = np.zeros(len(accounts.names), np.int64), np.zeros(len(accounts.names))
    clusters: defaultdict[int, set[int]] = defaultdict(set)
    copies: defaultdict[int, set[int]] = defaultdict(set)
    rows = store.sql.execute(
        "SELECT account, COALESCE(cluster, 0), COALESCE(copies, 0), COUNT(*), MIN(post.n) FROM post "
        "LEFT JOIN text ON post.text = text.n GROUP BY 1, 2, 3"
    )
    for name, cluster, copy, count, first in rows:
        account = accounts.index.get(name)
        if account is None:
            if name:
                say(Problem(first, "post without account in the table", f"{name}: {count} posts"[:200]))
            continue
        posts[account] += count
        copied[account] += count if copy else 0
        if cluster:
            clusters[cluster].add(account)
        if copy:
            copies[copy].add(account)
    share = np.divide(copied, posts, out=np.full(len(posts), np.nan), where=posts > 0)
    return Texts(posts, share, dict(clusters), dict(copies))


@dataclass(frozen=True)
class Labelled:
    """What labels by hand say: strata, prevalence, share of flags that are right, share of generated ones flagged."""

    strata: tuple[Stratum, ...]
    prevalence: Estimate
    ppv: Estimate | None
    found: float | None


@dataclass(frozen=True)
class Study:
    """What was found.

    Attributes:
        states: what is known about pictures -> accounts.
        resampled: split of the card -> interval of the prevalence with copies of a picture kept together.
        comparisons: flagged accounts (first) against other judged ones.
        first_day: seconds since 1970 of the first bin of `created`, days; bursts: of creation, Poisson.
        days: (first, last) day of each burst.
        labelled: what labels by hand say; None without them.
    """

    accounts: Accounts
    seen: Seen
    states: dict[str, int]
    resampled: dict[str, tuple[float, float]]
    comparisons: tuple[Comparison, ...]
    campaigns: tuple[Campaign, ...]
    first_day: int
    created: tuple[int, ...]
    flagged_created: tuple[int, ...]
    bursts: tuple[Burst, ...]
    labelled: Labelled | None


def make_study(
    accounts: Accounts,
    seen: Seen,
    clusters: Mapping[int, set[int]],
    texts: Texts | None,
    *,
    as_of: float | None = None,
    minimum: int = 3,
    names: Mapping[str, str] | None = None,
    labels: Labelled | None = None,
) -> Study:
    """Put everything together.

    Args:
        accounts, seen, clusters, texts: what the joins above gave.
        as_of: seconds since 1970 at which ages are counted; the youngest account's creation if None.
        minimum: accounts of a campaign.
        names: "copies 3" -> what to call that group.
        labels: of `labelled`.
    """
    first, created = _days(accounts.created)
    flagged = seen.state == FLAGGED
    flagged_created = _days(np.where(flagged, accounts.created, np.nan), first, len(created))[1]
    groups = list(_groups(seen, clusters, texts, names or {}))
    windows = _windows(groups, accounts.created, first, created, minimum)
    days = len(created)
    campaigns = find_campaigns(
        [*groups, *windows], len(accounts.names), minimum=minimum, tried={"created": days * (days + 1) // 2}
    )
    bursts = tuple(burst for burst in find_bursts(created) if burst.p < 0.01)
    return Study(
        accounts, seen, {name: int((seen.state == n).sum()) for n, name in enumerate(STATES)},
        _resampled(seen, clusters), _comparisons(accounts, seen, clusters, texts, as_of), campaigns,
        first, tuple(map(int, created)), tuple(map(int, flagged_created)), bursts, labels,
    )  # fmt: skip


def _days(
    created: npt.NDArray[np.float64], first: int | None = None, days: int | None = None
) -> tuple[int, npt.NDArray[np.int64]]:
    """Start of the first day, and accounts created on each day."""
    known = created[np.isfinite(created)]
    if first is None or days is None:
        if not len(known):
            return 0, np.zeros(0, np.int64)
        first = int(known.min() // DAY * DAY)
        days = int((known.max() - first) // DAY) + 1
        if days > MOST_DAYS:
            raise UsageError(f"accounts were created over {days} days; dates as far apart as that cannot be right")
    return first, np.bincount(((known - first) // DAY).astype(np.int64), minlength=days)


def _groups(
    seen: Seen, clusters: Mapping[int, set[int]], texts: Texts | None, names: Mapping[str, str]
) -> Iterator[Group]:
    flagged = frozenset(map(int, np.flatnonzero(seen.state == FLAGGED)))
    if flagged:
        yield Group("flagged", "flagged pictures", flagged)
    for number, members in sorted(clusters.items()):
        yield Group("picture", f"picture {number}", frozenset(members))
    if texts is not None:
        # Copies and clusters of texts are two looks at one thing: of one kind, never held against each other.
        for word, found in (("copies", texts.copies), ("cluster", texts.clusters)):
            for number, members in sorted(found.items()):
                name = f"{word} {number}"
                yield Group("text", f"text {names.get(name, name)}", frozenset(members))


def _windows(
    groups: Sequence[Group], created: npt.NDArray[np.float64], first: int, days: npt.NDArray[np.int64], minimum: int
) -> list[Group]:
    """Windows of time in which accounts of some group were created in a burst, against all accounts."""
    if not len(days):
        return []
    # -1 for accounts without a date
    day = np.where(np.isfinite(created), (created - first) // DAY, -1).astype(np.int64)
    spans: set[tuple[int, int]] = set()
    for group in groups:
        own = day[list(group.members)]
        own = own[own >= 0]
        if len(own) >= minimum:
            for burst in find_bursts(np.bincount(own, minlength=len(days)), days):
                if burst.p < 0.01 and burst.count >= minimum:
                    spans.add((burst.first, burst.last))
    return [
        Group("created", f"created {_day(first, start)} to {_day(first, end)}",
              frozenset(map(int, np.flatnonzero((day >= start) & (day <= end)))))
        for start, end in sorted(spans)
    ]  # fmt: skip


def _day(first: int, day: int) -> str:
    return str(np.datetime64(first + day * DAY, "s").astype("datetime64[D]"))


def _resampled(seen: Seen, clusters: Mapping[int, set[int]]) -> dict[str, tuple[float, float]]:
    judged = np.flatnonzero(seen.state >= JUDGED)
    if not len(judged):
        return {}
    group = np.arange(len(seen.state)) + len(clusters) + 1
    for number, members in enumerate(clusters.values()):
        group[list(members)] = number
    found = {}
    for case in seen.summary.cases:
        if case.estimate is not None:
            hits = (seen.state[judged] == FLAGGED).astype(np.int64)
            found[case.split] = bootstrap_prevalence(hits, group[judged], case.rates)
    return found


def _comparisons(
    accounts: Accounts, seen: Seen, clusters: Mapping[int, set[int]], texts: Texts | None, as_of: float | None
) -> tuple[Comparison, ...]:
    """Flagged accounts against other judged ones, in everything the tables say."""
    a, b = seen.state == FLAGGED, seen.state == JUDGED
    known = accounts.created[np.isfinite(accounts.created)]
    end = as_of if as_of is not None else float(known.max()) if len(known) else math.nan
    age = (end - accounts.created) / DAY
    numbers = {"age of account, days": age, **{role: accounts.numbers[role] for role in NUMBERS}}
    with np.errstate(invalid="ignore", divide="ignore"):
        numbers["posts per day"] = np.where(age > 0, accounts.numbers["posts"] / age, np.nan)
        numbers["followers per account followed"] = np.where(
            accounts.numbers["following"] > 0, accounts.numbers["followers"] / accounts.numbers["following"], np.nan
        )
    shares: dict[str, npt.NDArray[np.float64]] = {role: accounts.flags[role] for role in FLAGS}
    shares["picture copied by another account"] = _within(clusters, len(a))
    if texts is not None:
        numbers["posts in the table"] = texts.posts.astype(np.float64)
        numbers["share of copied posts"] = texts.copied
        shares["posts a text that others post"] = _within(texts.copies, len(a))
    found = [
        compare_numbers(name, values[a], values[b]) for name, values in numbers.items() if np.isfinite(values).any()
    ]
    for name, values in shares.items():
        if np.isfinite(values).any():
            one, other = (values[part][np.isfinite(values[part])] for part in (a, b))
            found.append(compare_shares(name, (int(one.sum()), len(one)), (int(other.sum()), len(other))))
    return corrected(found)


def _within(groups: Mapping[int, set[int]], count: int) -> npt.NDArray[np.float64]:
    """1 for accounts in a group of two accounts or more; NaN everywhere without groups."""
    if not groups:
        return np.full(count, np.nan)
    found = np.zeros(count)
    found[list(itertools.chain.from_iterable(members for members in groups.values() if len(members) > 1))] = 1
    return found


def sample(seen: Seen, *, each: int = 200, seed: int = 0) -> list[tuple[int, str]]:
    """Return accounts to label by hand, (account, stratum): at most `each` of the flagged and `each` of the others."""
    rng = np.random.default_rng(seed)
    found = []
    for state in (FLAGGED, JUDGED):
        accounts = np.flatnonzero(seen.state == state)
        found += [(int(n), STATES[state]) for n in rng.permutation(accounts)[:each]]
    return [found[n] for n in rng.permutation(len(found))]  # mixed, so that the order tells a person nothing


def labelled(path: str | Path, seen: Seen, account_of: Callable[[str], int | None], say: Say) -> Labelled:
    """Read labels by hand and estimate the prevalence from them.

    Args:
        path: the table that `sample` went into, with its column `label` filled in: generated or photograph; empty or
            anything else does not count.
        seen: of this scan; it says which stratum an account is of.
        account_of: name in the table -> account.
        say: called for rows that do not count.

    Raises:
        UsageError: it cannot be read, or a stratum has no label.
    """
    counts: dict[int, Counter[str]] = {FLAGGED: Counter(), JUDGED: Counter()}
    done: set[int] = set()
    for row in Table(path, {"account": ("account",), "label": ("label",)}, needed=["account", "label"], on_problem=say):
        account = account_of(str(row.values["account"] or "").removeprefix("'"))
        label = str(row.values["label"] or "").strip().lower()
        word = "generated" if label in GENERATED else "photograph" if label in PHOTOGRAPH else ""
        if account is None or account in done or int(seen.state[account]) not in counts:
            say(Problem(row.number, "label of no judged account, or a second one", str(row.values["account"])[:200]))
        elif not word:
            say(Problem(row.number, "no label", label[:200]))
        else:
            done.add(account)
            counts[int(seen.state[account])][word] += 1
    strata = tuple(
        Stratum(STATES[state], int((seen.state == state).sum()), sum(one.values()), one["generated"])
        for state, one in counts.items()
    )
    prevalence = labelled_prevalence(strata)
    flags = strata[0]
    ppv = labelled_prevalence([flags]) if flags.size else None
    total = sum(one.size * one.generated / one.labelled for one in strata if one.labelled)
    found = flags.size * flags.generated / flags.labelled / total if flags.labelled and total else None
    return Labelled(strata, prevalence, ppv, found)
