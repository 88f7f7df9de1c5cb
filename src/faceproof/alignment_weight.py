"""How much being cut like StyleGAN's training pictures says: counted on labelled pictures that were kept whole.

In a set of squares cut out around faces every face is in the middle, so such a set says nothing about whole
pictures. A manifest with `original_width`, `original_height` and `crop_scale` tells which of its pictures are the
whole original, shrunk; only these are looked at.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from faceproof.datasets import Sample, read_manifest
from faceproof.detectors.alignment import SIGMAS, Alignment, LogOdds, Reference, alignment_evidence_inputs, log_odds
from faceproof.errors import PictureError, UsageError
from faceproof.faces.detection import FaceDetector
from faceproof.images import load

__all__ = ["ALIGNED_SOURCES", "Placed", "learned", "placed", "whole_originals"]

ALIGNED_SOURCES = frozenset({"celeba-hq", "ffhq-256", "ffhq-512"})
"""Photographs published in StyleGAN's frame: in the wild nobody's profile picture, in data sets a shortcut."""
SLACK = 2
"""Pixels by which a shrunk original may differ from its file: rounding of the scale and of the size."""


@dataclass(frozen=True)
class Placed:
    """One whole picture with one face, and how the face lies in it."""

    sample: Sample
    alignment: Alignment

    def within(self, sigmas: float = SIGMAS) -> bool:
        """Whether the picture could be tested and every coordinate lies within so many standard deviations."""
        return not self.alignment.unfit and self.alignment.worst_sigma <= sigmas


def whole_originals(manifest: str | Path, *, drop_straddling: bool = True) -> list[Sample]:
    """Return a manifest's pictures that are the whole original, all splits.

    Args:
        manifest: CSV as for `read_manifest`, with `original_width`, `original_height`, `crop_scale` (file's side by
            original's).
        drop_straddling: as in `read_manifest`.

    Raises:
        UsageError: the manifest cannot be used, or lacks these columns.
    """
    path = Path(manifest)
    kept = {sample.path: sample for sample in read_manifest(path, drop_straddling=drop_straddling)}
    found = []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            sample = kept.get(path.parent / row["path"])
            try:
                sides = [float(row[key]) * float(row["crop_scale"]) for key in ("original_width", "original_height")]
            except (KeyError, TypeError, ValueError):
                raise UsageError(
                    f"{path}, line {number}: original_width, original_height and crop_scale must be numbers; without "
                    "them it is not known which pictures are whole"
                ) from None
            if sample is not None and _is_whole(sample.path, sides):
                found.append(sample)
    return found


def _is_whole(path: Path, sides: Sequence[float]) -> bool:
    """Whether a file has the size of its shrunk original; one that cannot be read is not looked at either."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return all(abs(side - have) <= SLACK for side, have in zip(sides, image.size, strict=True))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def placed(
    samples: Sequence[Sample],
    reference: Reference,
    detector: FaceDetector,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Placed]:
    """Find the face in whole pictures; those without one, and those that cannot be read, are left out.

    Args:
        samples: from `whole_originals`.
        reference: to hold them against.
        detector: the reference's face detector.
        progress: called with pictures done and pictures in all.
    """
    found = []
    for done, sample in enumerate(samples, 1):
        progress(done, len(samples))
        try:
            picture = load(sample.path)
        except PictureError:
            continue
        if faces := detector.detect(picture.pixels):
            size = (picture.width, picture.height)
            alignment = alignment_evidence_inputs(faces[0].landmarks, *size, reference, faces=len(faces))
            found.append(Placed(sample, alignment))
    return found


def learned(
    pictures: Iterable[Placed],
    *,
    split: str = "val",
    without: frozenset[str] = frozenset(),
    aligned: bool = True,
    sigmas: float = SIGMAS,
) -> LogOdds:
    """Return the log-odds of being aligned, or of not being so, among testable pictures of a split.

    Args:
        pictures: from `placed`.
        split: of the manifest.
        without: sources left out, such as `ALIGNED_SOURCES`.
        aligned: of which outcome.
        sigmas: as in `alignment_evidence_inputs`.

    Raises:
        UsageError: a class has no such picture.
    """
    outcomes: tuple[list[bool], list[bool]] = ([], [])
    for one in pictures:
        if one.sample.split == split and one.sample.source not in without and not one.alignment.unfit:
            outcomes[one.sample.label].append(one.within(sigmas) == aligned)
    return log_odds(outcomes[1], outcomes[0])
