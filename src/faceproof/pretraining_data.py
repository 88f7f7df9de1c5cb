"""The crops of self-supervised pretraining: windows of photographs with EXIF, and faces touched or not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.datasets import Sample, pool_digest
from faceproof.errors import PictureError, UsageError
from faceproof.exif_data import Tagged, TaggedCrop, digest
from faceproof.extras import opencv
from faceproof.faces.alignment import TEMPLATE, align, similarity
from faceproof.faces.detection import FaceDetector
from faceproof.images import load, printable
from faceproof.landmarks import find_faces
from faceproof.manipulation import MANIPULATIONS, REFERENCE, manipulate, region
from faceproof.perturb import View, jpeg

__all__ = ["Faces", "PretrainData", "face_crop", "gather", "window"]

RGB = npt.NDArray[np.uint8]

LEAST_FACES = {"train": 32, "val": 20}


@dataclass(frozen=True)
class Faces:
    """Photographs of faces: N samples, and (N, 5, 2) float32 landmarks in their pixels."""

    samples: tuple[Sample, ...]
    landmarks: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.landmarks.shape != (len(self.samples), 5, 2) or not np.isfinite(self.landmarks).all():
            raise UsageError(f"{len(self.samples)} pictures need ({len(self.samples)}, 5, 2) finite landmarks")
        if any(sample.label for sample in self.samples):
            raise UsageError("pretraining sees photographs only; there are generated pictures among these")


@dataclass(frozen=True)
class PretrainData:
    """What is fitted on, and what is looked at after each epoch: other camera models, other people."""

    tagged: tuple[TaggedCrop, ...]
    faces: Faces
    val_tagged: tuple[TaggedCrop, ...]
    val_faces: Faces

    @property
    def digest(self) -> str:
        """Hash of the lists fitted on."""
        return f"{digest(self.tagged)}{pool_digest(self.faces.samples)}"


def gather(
    tagged: Tagged,
    samples: Sequence[Sample],
    finder: FaceDetector,
    *,
    cache: Path | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> PretrainData:
    """Take the photographs of `train` and `val`, and find their faces.

    Args:
        tagged: crops with EXIF.
        samples: labelled pictures; only photographs of the two splits are looked at.
        finder: of faces.
        cache: folder to remember landmarks in.
        skip_unreadable: leave unreadable pictures out instead of raising.
        progress: called with what is counted, done and in all.

    Raises:
        UsageError: a split has too few photographs, or pictures cannot be read.
    """
    faces = {}
    crops = {split: tagged.split(split) for split in ("train", "val")}  # first: it is quick to refuse
    for split in ("train", "val"):
        chosen = [sample for sample in samples if sample.split == split and not sample.label]
        _enough(len(chosen), split, "photographs")
        kept, landmarks, _ = find_faces(
            chosen, finder, cache=None if cache is None else cache / f"landmarks-{split}.npz",
            skip_unreadable=skip_unreadable, progress=functools.partial(progress, f"finding faces ({split})"),
        )  # fmt: skip
        fit = [index for index, points in enumerate(landmarks) if _manipulable(points)]
        _enough(len(fit), split, "photographs with a usable face")
        faces[split] = Faces(tuple(kept[index] for index in fit), landmarks[fit])
    return PretrainData(crops["train"], faces["train"], crops["val"], faces["val"])


def _manipulable(points: npt.NDArray[np.float32]) -> bool:
    """Whether each part lies within the aligned crop: found now, and not in the middle of a run."""
    try:
        inside = _inside(points, REFERENCE)
        return all(region(kind, inside, REFERENCE) for kind in MANIPULATIONS)
    except ValueError:  # coinciding landmarks, or no face's
        return False


def _inside(points: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float64]:
    """Landmarks of a picture as they lie in its aligned crop: (5, 2)."""
    matrix = similarity(points, TEMPLATE * size)
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _enough(count: int, split: str, what: str) -> None:
    if count < LEAST_FACES[split]:
        raise UsageError(
            f"split {split!r} of the faces has {count} {what}; at least {LEAST_FACES[split]} are needed to learn what "
            "an untouched face is"
        )


def window(path: Path, size: int, rng: np.random.Generator | None) -> RGB:
    """Return a window of a crop at its own scale: (size, size, 3) uint8 RGB.

    Args:
        path: of the crop.
        size: side in pixels; a smaller crop is enlarged until its shorter side has it.
        rng: draws place and flip; None: the middle, not flipped.

    Raises:
        UsageError: it cannot be read.
    """
    pixels = _read(path)
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        scale = size / min(height, width)
        wanted = (max(size, round(width * scale)), max(size, round(height * scale)))
        pixels = opencv().resize(pixels, wanted, interpolation=opencv().INTER_LINEAR)
        height, width = pixels.shape[:2]
    room = (height - size, width - size)
    y, x = (r // 2 if rng is None else int(rng.integers(0, r + 1)) for r in room)
    part = pixels[y : y + size, x : x + size]
    flipped = part[:, ::-1] if rng is not None and rng.random() < 0.5 else part
    return np.ascontiguousarray(flipped)


def face_crop(
    faces: Faces, index: int, size: int, rng: np.random.Generator, *, manipulated: bool, recompressed: float = 0.0
) -> RGB:
    """Return an aligned face, manipulated or not: (size, size, 3) uint8 RGB.

    Both kinds go through the same cut, flip and, with probability `recompressed`, JPEG of quality 60-100.

    Raises:
        UsageError: the picture cannot be read, or its landmarks are no face's.
    """
    sample, points = faces.samples[index], faces.landmarks[index]
    try:
        crop = align(_read(sample.path), points, size)
        if manipulated:
            crop = manipulate(crop, _inside(points, size), rng)
    except ValueError as err:
        raise UsageError(f"{printable(sample.path)} has no usable face ({err}); leave it out of the manifest") from err
    if rng.random() < recompressed:
        crop = jpeg(View(crop), int(rng.integers(60, 101)), chroma="444").pixels
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _read(path: Path) -> RGB:
    try:
        return load(path).pixels
    except PictureError as err:
        raise UsageError(
            f"{printable(path)} cannot be read ({err}); mend it, or take it out of the manifest, and give the same "
            "command again"
        ) from err
