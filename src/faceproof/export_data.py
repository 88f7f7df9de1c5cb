"""Real faces to calibrate an export on and to measure it with: chosen evenly, found once, cut as the model wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.datasets import Sample, read_data
from faceproof.detectors.crops import CropSpec, cut
from faceproof.errors import PictureError, UsageError
from faceproof.faces.detection import FaceDetector
from faceproof.images import load, printable
from faceproof.splits import check_split

__all__ = ["Faces", "chosen", "cut_faces", "evenly", "without_groups"]

LEAST_OF_A_CLASS = 10
"""Fewer faces of a class say nothing about an AUC."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Faces:
    """Labelled crops.

    Attributes:
        samples: the pictures.
        crops: (N, S, S, 3) uint8 RGB, the largest face of each.
        faceless, unreadable: how many pictures gave none, and why.
    """

    samples: tuple[Sample, ...]
    crops: npt.NDArray[np.uint8]
    faceless: int = 0
    unreadable: int = 0

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.crops):
            raise UsageError(f"{len(self.samples)} pictures and {len(self.crops)} crops do not belong together")

    @property
    def label(self) -> npt.NDArray[np.int64]:
        """(N,) 1 = generated, 0 = photograph."""
        return np.array([sample.label for sample in self.samples], np.int64)


def evenly(samples: Iterable[Sample], count: int, *, seed: int = 0) -> list[Sample]:
    """Choose pictures: half of each class, and within a class the sources (and generators) in turn; none twice.

    Args:
        samples: of both classes; a class with too few gives what it has.
        count: at most so many.
        seed: of the order within a source.
    """
    decks: tuple[dict[str, list[Sample]], dict[str, list[Sample]]] = ({}, {})
    for sample in samples:
        decks[sample.label].setdefault(sample.stratum, []).append(sample)
    rng = np.random.default_rng(seed)
    orders = [_in_turn(deck, rng) for deck in decks]
    least = min(len(orders[0]), len(orders[1]))
    wanted = [min(len(order), max(count // 2, count - least)) for order in orders]
    return [sample for order, most in zip(orders, wanted, strict=True) for sample in order[:most]]


def _in_turn(deck: dict[str, list[Sample]], rng: np.random.Generator) -> list[Sample]:
    shuffled = [[deck[name][i] for i in rng.permutation(len(deck[name]))] for name in sorted(deck)]
    longest = max(map(len, shuffled), default=0)
    return [pile[turn] for turn in range(longest) for pile in shuffled if turn < len(pile)]


def chosen(data: str | Path, split: str, count: int, *, drop_straddling: bool = False) -> list[Sample]:
    """Read one split of labelled data and choose pictures from it as `evenly` does.

    Raises:
        UsageError: the data cannot be read, the split is empty or holds one class, or groups straddle.
    """
    return evenly(check_split(read_data(data, drop_straddling=drop_straddling), split), count)


def without_groups(samples: Sequence[Sample], others: Iterable[Sample]) -> list[Sample]:
    """Return the samples whose group is not among `others`."""
    taken = {sample.group for sample in others}
    return [sample for sample in samples if sample.group not in taken]


def cut_faces(
    samples: Sequence[Sample],
    spec: CropSpec,
    faces: FaceDetector,
    *,
    what: str,
    progress: Progress = lambda done, total: None,
) -> Faces:
    """Find the largest face of every picture and cut it as a model wants it.

    Args:
        samples: pictures; those without a usable face are counted and left out.
        spec: what the model takes.
        faces: finds them.
        what: these pictures are for, for messages: "calibrate on", "measure with".
        progress: called with pictures done and in all.

    Raises:
        UsageError: fewer than ten faces of a class are left.
    """
    kept, crops, faceless, unreadable = [], [], 0, 0
    for done, sample in enumerate(samples, 1):
        try:
            pixels = load(sample.path).pixels
            found = faces.detect(pixels)
            if found:
                crops.append(cut(spec, pixels, found[0].landmarks))
                kept.append(sample)
            else:
                faceless += 1
        except PictureError:
            unreadable += 1
        except ValueError:  # coinciding landmarks: a false find, not a face
            faceless += 1
        progress(done, len(samples))
    for label, name in ((0, "photographs"), (1, "generated faces")):
        count = sum(sample.label == label for sample in kept)
        if count < LEAST_OF_A_CLASS:
            example = printable(samples[0].path) if samples else "none"
            raise UsageError(
                f"{count} {name} are too few to {what}; at least {LEAST_OF_A_CLASS} of both classes are needed (of "
                f"{len(samples)} pictures, such as {example}, {unreadable} cannot be read and {faceless} have no face)"
            )
    return Faces(tuple(kept), np.stack(crops), faceless, unreadable)
