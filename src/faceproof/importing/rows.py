"""What a layout says about one picture, and what is wrong with a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from faceproof.datasets import CLASS_NAMES
from faceproof.errors import UsageError

__all__ = ["FAULTS", "KINDS", "SPLITS", "Box", "Notes", "Problem", "Row", "label_of", "split_of"]

KINDS = {
    "missing": "named in a list, but not there",
    "outside": "leads out of the data set",
    "broken": "a list, or an entry of one, that cannot be read",
    "twice": "named twice in the lists",
    "unreadable": "cannot be read as a picture",
    "mixed": "the same picture is called a photograph and generated: neither is taken",
    "disagree": "the list's label is not its folder's",
    "repeated": "the same bytes as a picture that was taken",
    "straddling": "of a group that lies in several splits: kept in the one furthest from fitting only",
    "box": "an empty box, or one outside of its picture: the picture is taken, the box is not",
    "unlisted": "not in the lists of the data set",
    "skipped": "left out by --label",
}
"""What can be said about a picture, in the order it is shown."""
FAULTS = ("missing", "outside", "broken", "unreadable", "mixed", "disagree")
"""What makes the command end with 1: something that should be a picture of the set is none."""
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "unseen": "unseen",
}  # fmt: skip
"""Names of splits in folders and lists -> ours."""


@dataclass(frozen=True)
class Box:
    """A box around something: x, y of its upper left corner, width and height in pixels, and what it is called."""

    x: float
    y: float
    width: float
    height: float
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One picture, as its layout tells it.

    Attributes:
        name: path below the tree's root, "/" between.
        label: 1 generated, 0 photograph, None where the layout does not say.
        generator, source: as in a manifest; "" where not known.
        split: "train", "val", "test", ...; "" where the layout has none.
        groups: names that this picture shares with others of the same origin (photo, person, video).
        licence: as stated; "" where it is not.
        keys: what `--label`, `--generator`, ... may name it by besides its folders: tags, categories, values.
        boxes: around faces or other things.
        facts: more columns of the manifest.
    """

    name: str
    label: int | None
    generator: str = ""
    source: str = ""
    split: str = ""
    groups: tuple[str, ...] = ()
    licence: str = ""
    keys: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.label not in (0, 1, None):
            raise UsageError(f"a label is 0, 1 or None, not {self.label!r}")


@dataclass(frozen=True)
class Problem:
    """Something about one picture: a key of `KINDS`, the picture or list, and why."""

    kind: str
    name: str
    why: str


class Notes:
    """All problems of an import, counted by kind."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self.counts = Counter[str]()

    def __iter__(self) -> Iterator[Problem]:
        order = list(KINDS)
        return iter(sorted(self._problems, key=lambda problem: order.index(problem.kind)))

    def __len__(self) -> int:
        return len(self._problems)

    def add(self, kind: str, name: str, why: str = "") -> None:
        """Note something about a picture; `why` defaults to what the kind means."""
        self._problems.append(Problem(kind, name, why or KINDS[kind]))
        self.counts[kind] += 1

    @property
    def faults(self) -> int:
        """Pictures that were lost to a fault of the data."""
        return sum(self.counts[kind] for kind in FAULTS)


def label_of(word: str) -> int | None:
    """Return 1 for a name of generated pictures, 0 for one of photographs, None for any other."""
    lower = word.strip().lower()
    return next((label for label, names in CLASS_NAMES.items() if lower in names), None)


def split_of(word: str) -> str:
    """Return the split that a name of a folder or list stands for, "" for any other name."""
    return SPLITS.get(word.strip().lower(), "")
