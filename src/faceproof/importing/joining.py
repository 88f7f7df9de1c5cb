"""Labels that options tell, groups of what belongs together, and splits that no group straddles."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceproof.clusters import cluster
from faceproof.errors import UsageError
from faceproof.hashing import from_hex
from faceproof.importing.examining import Examined
from faceproof.importing.rows import Notes, Row

__all__ = ["ANSWERS", "Groups", "Told", "apply_told", "assign", "furthest", "grouped", "parse_ratios", "unlabelled"]

ANSWERS = {"photograph": 0, "generated": 1, "skip": None}
ALL = "."


# ---- what options say


@dataclass(frozen=True)
class Told:
    """What options say about pictures: for each kind, (folder or key, value); "." is every picture."""

    label: tuple[tuple[str, str], ...] = ()
    generator: tuple[tuple[str, str], ...] = ()
    source: tuple[tuple[str, str], ...] = ()
    licence: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def parse(**options: Sequence[str]) -> Told:
        """Read options of the form FOLDER=VALUE; without FOLDER it is about every picture.

        Raises:
            UsageError: an unknown label, or an empty value.
        """
        found: dict[str, tuple[tuple[str, str], ...]] = {}
        for kind, texts in options.items():
            pairs = []
            for text in texts:
                key, equals, value = text.rpartition("=")
                if not value or (equals and not key):
                    raise UsageError(f"--{kind} {text!r}: write --{kind} FOLDER=VALUE, or --{kind} VALUE for all")
                if kind == "label" and value not in ANSWERS:
                    raise UsageError(f"--label {text!r}: {value!r} is not one of {', '.join(ANSWERS)}")
                pairs.append((key.strip("/").lower() or ALL, value))
            found[kind] = tuple(pairs)
        return Told(**found)


def apply_told(rows: Sequence[Row], titles: Sequence[str], told: Told, notes: Notes) -> list[Row | None]:
    """Return rows as options change them, None for those left out; of several that fit the longest option counts.

    Args:
        rows: of pictures. titles: name of the folder that each row's name begins below.
        told: the options.
        notes: of what is left out.

    Raises:
        UsageError: an option fits no picture: a typing error, most likely.
    """
    used: set[tuple[str, str]] = set()

    def said(kind: str, row: Row, title: str) -> str | None:
        pairs: tuple[tuple[str, str], ...] = getattr(told, kind)
        fitting = [(key, value) for key, value in pairs if _fits(key, row, title)]
        if not fitting:
            return None
        used.update((kind, key) for key, _ in fitting)
        return max(fitting, key=lambda pair: (pair[0] != ALL, len(pair[0])))[1]

    kept: list[Row | None] = []
    for row, title in zip(rows, titles, strict=True):
        label = said("label", row, title)
        if label == "skip":
            notes.add("skipped", row.name)
            kept.append(None)
            continue
        others = ((kind, said(kind, row, title)) for kind in ("generator", "source", "licence"))
        new = replace(row, **{kind: value for kind, value in others if value is not None})  # type: ignore[arg-type]
        if label is not None:
            new = replace(new, label=ANSWERS[label])
        if new.label == 0:
            new = replace(new, generator="")
        elif new.label == 1 and not new.generator:
            new = replace(new, generator=row.source or "unknown")
        kept.append(new)
    for kind in ("label", "generator", "source", "licence"):
        for key, value in getattr(told, kind):
            if key != ALL and (kind, key) not in used:
                raise UsageError(f"--{kind} {key}={value}: no picture lies in a folder or has a tag of that name")
    return kept


def _fits(key: str, row: Row, title: str) -> bool:
    if key == ALL:
        return True
    name = row.name.lower()
    whole = f"{title.lower()}/{name}"
    folders = (name.rpartition("/")[0], whole.rpartition("/")[0])
    return (
        any(folder == key or folder.startswith(f"{key}/") for folder in folders)
        or key in folders[1].split("/")
        or key in (each.lower() for each in row.keys)
        or (any(letter in key for letter in "*?[") and any(fnmatch.fnmatch(each, key) for each in (name, whole)))
    )


def unlabelled(rows: Iterable[tuple[Row, str]]) -> UsageError | None:
    """Return the error that names the folders of pictures without a label, or None where all have one.

    Args:
        rows: with the folder that each row's name begins below.
    """
    folders, tags = Counter[str](), Counter[str]()
    for row, title in rows:
        if row.label is None:
            folders[row.name.rpartition("/")[0] or title] += 1
            tags.update(row.keys)
    if not folders:
        return None
    shown = ", ".join(f"{folder} ({count:,})" for folder, count in folders.most_common(8))
    more = f" and {len(folders) - 8} more folders" if len(folders) > 8 else ""
    known = f"; their tags are {', '.join(word for word, _ in tags.most_common(8))}" if tags else ""
    key = (tags or folders).most_common(1)[0][0]
    return UsageError(
        f"no label for {folders.total():,} pictures, in {shown}{more}{known}. Labels are not guessed: say "
        f"--label {key}=generated, or photograph, or skip"
    )


# ---- groups


class _Sets:
    """Disjoint sets (union-find), named by the first that was put in."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))
        self._first: dict[Hashable, int] = {}

    def root(self, place: int) -> int:
        while (above := self._parent[place]) != place:
            self._parent[place] = self._parent[above]
            place = self._parent[place]
        return place

    def same(self, place: int, name: Hashable) -> None:
        """Put a place into one set with all others that were given this name."""
        first = self._first.setdefault(name, place)
        one, other = self.root(place), self.root(first)
        if one != other:
            self._parent[max(one, other)] = min(one, other)


@dataclass(frozen=True)
class Groups:
    """Which pictures belong together.

    Attributes:
        of: for each picture the number of its group.
        alike: pictures that are in a group because they look like another one.
        both: groups that hold photographs and generated pictures.
        largest: pictures of the largest group.
    """

    of: tuple[int, ...]
    alike: int
    both: int
    largest: int


def grouped(rows: Sequence[Row], found: Sequence[Examined], radius: int) -> Groups:
    """Join pictures of one origin, of the same bytes, and those whose pHashes lie within a radius.

    Near-duplicates are joined in chains (DBSCAN with two a cluster): whatever a step joins has to stay in one split.

    Args:
        rows, found: of the pictures, in one order.
        radius: bits; negative: do not look for near-duplicates.
    """
    sets = _Sets(len(rows))
    for place, (row, one) in enumerate(zip(rows, found, strict=True)):
        sets.same(place, ("bytes", one.sha256))
        for name in row.groups:
            sets.same(place, ("name", name))
    alike = 0
    if radius >= 0 and rows:
        hashes = from_hex((one.phash for one in found), "phash")[:, None]
        clusters = cluster(hashes, radius, method="dbscan", skip=np.array([one.flat for one in found]))
        for at in np.flatnonzero(clusters.labels).tolist():
            sets.same(at, ("alike", int(clusters.labels[at])))
        alike = int((clusters.labels > 0).sum())
    of = tuple(sets.root(place) for place in range(len(rows)))
    labels: dict[int, set[int | None]] = {}
    for root, row in zip(of, rows, strict=True):
        labels.setdefault(root, set()).add(row.label)
    sizes = Counter(of)
    return Groups(of, alike, sum(len(each) > 1 for each in labels.values()), max(sizes.values(), default=0))


# ---- splits


def furthest(splits: Iterable[str]) -> str:
    """Return the split furthest from fitting: any test split before val before train; the first in order of names."""
    order = {"train": 0, "val": 1}
    return max(sorted(splits), key=lambda split: order.get(split, 2))


def parse_ratios(text: str) -> dict[str, float]:
    """Read "train=0.8,val=0.1,test=0.1"; shares are brought to a sum of 1.

    Raises:
        UsageError: another form, a share that is not above 0, or a split named twice.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not equals or not name.isidentifier() or not 0 < value < float("inf") or name in found:
            raise UsageError(f"--ratios {text!r}: write shares above 0 such as train=0.8,val=0.1,test=0.1")
        found[name] = value
    return {name: value / sum(found.values()) for name, value in found.items()}


def assign(
    groups: Sequence[int], strata: Sequence[str], names: Mapping[int, str], ratios: Mapping[str, float], seed: int
) -> list[str]:
    """Deal whole groups out to splits, so that every stratum is shared out as the ratios say.

    Groups go one by one to the split that lacks most of what they hold: very large ones first, since they fit in few
    places, all others in an order that the seed decides, so that pairs and singles come into every split. The same
    groups and seed give the same splits in whatever order they come.

    Args:
        groups: of each picture.
        strata: of each picture: what should be in every split.
        names: group -> a name that is the same in every run.
        ratios: split -> share, in sum 1.
        seed: of the order.
    """
    total = Counter(strata)
    holds: dict[int, Counter[str]] = {}
    for group, stratum in zip(groups, strata, strict=True):
        holds.setdefault(group, Counter())[stratum] += 1
    given: dict[str, Counter[str]] = {split: Counter() for split in ratios}
    chosen: dict[int, str] = {}
    for group in _dealing_order(holds, names, seed):
        lack = {
            split: sum(n * (share - given[split][stratum] / total[stratum]) for stratum, n in holds[group].items())
            for split, share in ratios.items()
        }
        split = max(lack, key=lambda each: lack[each])
        chosen[group] = split
        given[split].update(holds[group])
    return [chosen[group] for group in groups]


def _dealing_order(holds: Mapping[int, Counter[str]], names: Mapping[int, str], seed: int) -> Iterator[int]:
    large = sum(each.total() for each in holds.values()) / 100

    def key(group: int) -> tuple[int, bytes]:
        size = holds[group].total()
        return -size if size > large else 0, hashlib.blake2b(f"{seed} {names[group]}".encode(), digest_size=8).digest()

    yield from sorted(holds, key=key)
