"""From a picture and a face's landmarks to the crop a model was trained on.

Training, measuring and checking go through this one function, so that what a model sees in use is
what it has seen in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError, unknown_name
from faceproof.extras import opencv
from faceproof.faces.alignment import align, crop_quad
from faceproof.features.ela import ela

__all__ = ["FEATURES", "FRAMES", "CropSpec", "cut", "native"]

RGB = npt.NDArray[np.uint8]

FRAMES = {
    "aligned": "the face turned upright, landmarks on the template (faces/alignment.py)",
    "square": "an upright square around the face, squeezed to the size",
    "centre": "the middle of that square at native scale, enlarged only where it is smaller than the size",
}
FEATURES = {"rgb": "the colours", "ela": "error level analysis, JPEG quality 90 (features/ela.py)"}


@dataclass(frozen=True)
class CropSpec:
    """What a model takes.

    Attributes:
        size: side in pixels, 32 to 1024.
        frame: one of `FRAMES`.
        features: one of `FEATURES`.
    """

    size: int
    frame: str = "aligned"
    features: str = "rgb"

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 32 <= self.size <= 1024:
            raise UsageError(f"crop size {self.size} is not within 32..1024")
        if self.frame not in FRAMES:
            raise unknown_name("frame", self.frame, list(FRAMES))
        if self.features not in FEATURES:
            raise unknown_name("features", self.features, list(FEATURES))


def cut(spec: CropSpec, pixels: RGB, landmarks: npt.ArrayLike) -> RGB:
    """Return the crop of one face: (size, size, 3) uint8 RGB (or the feature's three channels).

    Args:
        spec: what the model takes.
        pixels: (H, W, 3) uint8 RGB picture.
        landmarks: (5, 2) x, y pixels.

    Raises:
        ValueError: the landmarks coincide, or are no face's.
    """
    source = _featured(spec, pixels)
    if spec.frame == "aligned":
        return align(source, landmarks, spec.size)
    region = _square(source, landmarks)
    if spec.frame == "square":
        return _resized(region, spec.size, spec.size)
    region = _at_least(region, spec.size)
    top, left = ((length - spec.size) // 2 for length in region.shape[:2])
    return np.ascontiguousarray(region[top : top + spec.size, left : left + spec.size])


def native(spec: CropSpec, pixels: RGB, landmarks: npt.ArrayLike) -> RGB:
    """Return the square that the frames "square" and "centre" are made of, at native scale.

    Arguments and errors as for `cut`. (H, W, 3) uint8; enlarged only where a side is under `spec.size`.
    """
    return _at_least(_square(_featured(spec, pixels), landmarks), spec.size)


def _featured(spec: CropSpec, pixels: RGB) -> RGB:
    """Before cutting: error levels depend on where the JPEG's 8 x 8 grid lies."""
    return ela(pixels) if spec.features == "ela" else pixels


def _square(pixels: RGB, landmarks: npt.ArrayLike) -> RGB:
    """Cut the upright square with the aligned crop's middle and side, as far as the picture reaches."""
    quad = crop_quad(landmarks)
    middle, half = quad.mean(0), float(np.hypot(*(quad[1] - quad[0]))) / 2
    height, width = pixels.shape[:2]
    x0, y0 = (max(0, round(float(v))) for v in middle - half)
    x1, y1 = (min(limit, round(float(v))) for v, limit in zip(middle + half, (width, height), strict=True))
    if x1 - x0 < 2 or y1 - y0 < 2:
        raise ValueError("the landmarks lie outside the picture; they are no face's")
    return pixels[y0:y1, x0:x1]


def _at_least(region: RGB, size: int) -> RGB:
    """Return a region whose shorter side has `size` pixels or more."""
    height, width = region.shape[:2]
    if min(height, width) >= size:
        return region
    scale = size / min(height, width)
    return _resized(region, max(size, round(width * scale)), max(size, round(height * scale)))


def _resized(region: RGB, width: int, height: int) -> RGB:
    cv2 = opencv()
    shrinks = width * height < region.shape[0] * region.shape[1]
    kernel = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(region, (width, height), interpolation=kernel), dtype=np.uint8)
