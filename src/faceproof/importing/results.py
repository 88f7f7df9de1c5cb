"""What an import found: lines of a manifest, and everything there is to say about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faceproof.importing.examining import Examined
from faceproof.importing.rows import Notes, Row
from faceproof.importing.table import Recognised

__all__ = ["WORDS", "Import", "Picture", "Straddling", "splits_of"]

WORDS = ("photograph", "generated")


@dataclass(frozen=True)
class Picture:
    """One line of the manifest: what the layout says, what the file says, its group and its split."""

    row: Row
    file: Examined
    group: str
    split: str

    @property
    def label(self) -> str:
        """Photograph or generated."""
        return WORDS[self.row.label or 0]

    @property
    def stratum(self) -> str:
        """What splits are even over."""
        return f"{self.row.generator}/{self.row.source}" if self.row.label else self.row.source


def splits_of(pictures: Sequence[Picture]) -> list[str]:
    """Return the splits that there are: train, val, then the others by name."""
    return sorted({each.split for each in pictures}, key=lambda split: (split != "train", split != "val", split))


@dataclass(frozen=True)
class Straddling:
    """A group that lies in several splits: how many pictures in each, and one of them."""

    group: str
    splits: Mapping[str, int]
    example: str


@dataclass(frozen=True)
class Import:
    """What an import found.

    Attributes:
        recognised: what each source was taken for.
        pictures: lines of the manifest.
        notes: everything that was wrong.
        straddling: groups that lay in several of the layouts' own splits.
        groups: how many there are. alike: pictures grouped because they look alike. both: groups of both classes.
        largest: pictures of the largest group.
        dealt: pictures whose split was dealt out here; the others kept theirs.
        hints: what a user has to know about the sets.
    """

    recognised: tuple[Recognised, ...]
    pictures: tuple[Picture, ...]
    notes: Notes
    straddling: tuple[Straddling, ...]
    groups: int
    alike: int
    both: int
    largest: int
    dealt: int
    hints: tuple[str, ...] = ()
