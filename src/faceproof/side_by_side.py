"""Two pictures side by side: what is said about each, and whether one is a copy of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceproof.errors import UsageError
from faceproof.hashing import RADII, VIEWS, HashedPicture, distance, hash_picture
from faceproof.images import Picture, PictureSource
from faceproof.pipeline import FaceChecker
from faceproof.records import ImageResult

__all__ = ["COMPARISON_SCHEMA", "SideBySide", "compare", "compare_loaded"]

COMPARISON_SCHEMA = "faceproof.comparison/1"
KIND = "phash"


@dataclass(frozen=True)
class SideBySide:
    """Two pictures.

    Attributes:
        first, second: what is said about each.
        bits: 0 to 64, by how many bits their pHashes differ, the nearest of the second's views counting.
        view: that view, one of `hashing.VIEWS`.
        flat: whether one of the hashes says nothing, because its picture hardly has contrast.
    """

    first: ImageResult
    second: ImageResult
    bits: int
    view: str
    flat: bool

    def __post_init__(self) -> None:
        if not 0 <= self.bits <= 64 or self.view not in VIEWS:
            raise UsageError(f"bits lie in 0..64 and the view is one of {VIEWS}, not {self.bits}, {self.view!r}")

    @property
    def likeness(self) -> str:
        """One of: "same file", "copies", "different", "unknown" (flat pictures)."""
        if self.first.sha256 is not None and self.first.sha256 == self.second.sha256:
            return "same file"
        if self.flat:
            return "unknown"
        return "copies" if self.bits <= RADII[KIND] else "different"

    @property
    def shift(self) -> float | None:
        """Log-odds of generated of the second less those of the first; None where one was not judged."""
        faces = self.first.decisive, self.second.decisive
        if faces[0] is None or faces[1] is None:
            return None
        return faces[1].verdict.log_odds - faces[0].verdict.log_odds

    @property
    def sentence(self) -> str:
        """What the comparison says, in words."""
        turned = "" if self.view == VIEWS[0] else f" (the second one {self.view})"
        like = {
            "same file": "Both are the same file, byte for byte.",
            "unknown": "One of them has hardly any contrast, so whether they are copies cannot be said.",
            "copies": f"They look like copies of one picture: {self.bits} of 64 bits of their hashes differ{turned}.",
            "different": f"They are no copies of one picture: {self.bits} of 64 bits of their hashes differ.",
        }[self.likeness]
        if self.shift is None:
            return like
        if abs(self.shift) < 0.5:
            return f"{like} The evidence is about the same for both."
        which, other = ("second", "first") if self.shift > 0 else ("first", "second")
        return (
            f"{like} The evidence for generated is stronger for the {which} than for the {other} "
            f"by {abs(self.shift):.1f} log-odds."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return both records and the comparison."""
        return {
            "schema": COMPARISON_SCHEMA,
            "likeness": self.likeness,
            "sentence": self.sentence,
            "bits": self.bits,
            "view": self.view,
            "flat": self.flat,
            "shift": None if self.shift is None else round(self.shift, 6),
            "first": self.first.to_dict(),
            "second": self.second.to_dict(),
        }


def compare(first: PictureSource, second: PictureSource, checker: FaceChecker | None = None) -> SideBySide:
    """Check two pictures and say whether one is a copy of the other.

    Args:
        first, second: as for `FaceChecker.check`.
        checker: to check with; one with the default model for None.

    Raises:
        PictureError: one of them cannot be read.
        UsageError: one is of a type that cannot be a picture.
    """
    checker = checker or FaceChecker()
    return compare_loaded(checker.load(first), checker.load(second), checker)


def compare_loaded(first: Picture, second: Picture, checker: FaceChecker) -> SideBySide:
    """Compare two pictures that `checker` has read; for the rest see `compare`."""
    upright = hash_picture(first.pixels, KIND)
    turned = hash_picture(second.pixels, KIND, views=True)
    bits, view = _nearest(upright, turned)
    return SideBySide(
        checker.check_loaded(first), checker.check_loaded(second), bits, view, upright.flat or turned.flat
    )


def _nearest(upright: HashedPicture, turned: HashedPicture) -> tuple[int, str]:
    apart = distance(turned.hashes, upright.hashes[0])
    nearest = int(apart.argmin())
    return int(apart[nearest]), VIEWS[nearest]
