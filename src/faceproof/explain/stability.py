"""The same face after a fixed set of perturbations: what a stability certificate is made from.

Only the region around the face is perturbed, cut on the picture's own 16 px grid so that JPEG's blocks stay where
they were, and shrunk first where it is larger than `LARGEST`: saving a 24 megapixel picture ten times would
take seconds and tell nothing more about one face.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from faceproof.chains import parse_chain
from faceproof.detectors.crops import CropSpec, cut
from faceproof.errors import unknown_name
from faceproof.faces.alignment import crop_quad
from faceproof.perturb import RGB, View, thumbnail

__all__ = ["LEVELS", "chains_of", "face_region", "perturbed_crops"]

LEVELS: dict[str, tuple[str, ...]] = {
    "off": (),
    "quick": ("jpeg:70", "scale:0.5", "blur:0.8"),
    "full": (
        "jpeg:90", "jpeg:70", "jpeg:50", "webp:70", "scale:0.75", "scale:0.5", "crop:92", "blur:0.8", "noise:2",
        "avatar",
    ),
}  # fmt: skip
"""Perturbations of a certificate, as `faceproof.chains` writes them: none, three, ten."""
LARGEST = 768
"""Longer side of the region that is perturbed, pixels."""
_GRID = 16


def chains_of(level: str) -> tuple[str, ...]:
    """Return the perturbations of a level.

    Raises:
        UsageError: no such level.
    """
    if level not in LEVELS:
        raise unknown_name("stability level", level, list(LEVELS))
    return LEVELS[level]


def perturbed_crops(pixels: RGB, landmarks: npt.ArrayLike, spec: CropSpec, level: str) -> tuple[tuple[str, RGB], ...]:
    """Cut the face out of its perturbed surroundings.

    Args:
        pixels: (H, W, 3) uint8 RGB picture.
        landmarks: (5, 2) x, y pixels.
        spec: the crop.
        level: a key of `LEVELS`.

    Returns:
        (perturbation, crop) in the order of the level; the noise is the same for every face.

    Raises:
        UsageError: no such level.
        ValueError: the landmarks are no face's.
    """
    chains = chains_of(level)
    if not chains:
        return ()
    view = thumbnail(face_region(pixels, np.asarray(landmarks, np.float32)), LARGEST)
    found = []
    for number, chain in enumerate(chains):
        after = parse_chain(chain)(view, np.random.default_rng(number))
        assert after.landmarks is not None  # no step of LEVELS loses them
        found.append((chain, cut(spec, after.pixels, after.landmarks)))
    return tuple(found)


def face_region(pixels: RGB, landmarks: npt.NDArray[np.float32]) -> View:
    """The face's crop with a margin of a tenth, on the grid, inside the picture."""
    quad = crop_quad(landmarks)
    height, width = pixels.shape[:2]
    margin = 0.1 * float(np.ptp(quad, axis=0).max())
    # Landmarks far outside make a crop of mirrored pixels; the region keeps at least one block of the picture.
    low = np.clip(quad.min(0) - margin, 0, [max(0, width - _GRID), max(0, height - _GRID)])
    high = np.clip(quad.max(0) + margin, low + _GRID, [max(width, _GRID), max(height, _GRID)])
    x0, y0 = (int(v) // _GRID * _GRID for v in low)
    x1, y1 = (int(np.ceil(v)) for v in high)
    return View(np.ascontiguousarray(pixels[y0:y1, x0:x1]), landmarks - np.array([x0, y0], np.float32))
