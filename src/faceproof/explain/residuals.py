"""What a crop looks like to a forensic eye: error levels and noise. They show the picture, not the detector.

Both are computed before the face is cut and turned, on its surroundings at their own scale: JPEG's traces lie on
the picture's 8 x 8 grid. Values are grey levels (of 255), on a fixed scale.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from faceproof.detectors.crops import CropSpec, cut
from faceproof.explain.maps import RGB, Floats, HeatMap
from faceproof.explain.stability import face_region
from faceproof.extras import opencv
from faceproof.perturb import View, jpeg

__all__ = ["ELA_SCALE", "NOISE_SCALE", "ela_map", "levels", "noise_map", "smoothed"]

ELA_SCALE, NOISE_SCALE = 12.0, 8.0
"""Grey levels shown as white."""
_GAIN = 8
"""Levels are cut as eighths of a level in uint8: up to 31.9, far above both scales."""


def levels(pixels: RGB, *, quality: int = 90) -> Floats:
    """Return how much saving as JPEG once more changes each pixel.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        quality: of the copy, 1-100, chroma halved.

    Returns:
        (H, W) float32, mean absolute difference of the three channels in grey levels, not stretched.
    """
    copy = jpeg(View(pixels), quality).pixels
    return np.asarray(np.abs(pixels.astype(np.float32) - copy.astype(np.float32)).mean(2), np.float32)


def noise(pixels: RGB) -> Floats:
    """Return |luma - its 3 x 3 median|, (H, W) float32 in grey levels; pixels (H, W, 3) uint8 RGB."""
    cv2 = opencv()
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(np.abs(luma.astype(np.float32) - cv2.medianBlur(luma, 3).astype(np.float32)), np.float32)


def ela_map(pixels: RGB, landmarks: npt.ArrayLike, spec: CropSpec) -> HeatMap:
    """Return the error levels (Krawetz 2007) of one face.

    Args:
        pixels: (H, W, 3) uint8 RGB picture.
        landmarks: (5, 2) x, y pixels.
        spec: the crop.

    Raises:
        ValueError: the landmarks are no face's.
    """
    view = _around(pixels, landmarks)
    return HeatMap(
        "ela",
        "error levels",
        "What saving as JPEG quality 90 once more changes, in grey levels. Parts with another history than the rest "
        "may stand out; so do edges, hair and every fine texture. It says nothing about the detector by itself.",
        _cut(levels(view.pixels), view, spec),
        unit="grey levels of 255",
        scale=ELA_SCALE,
        explains=False,
    )


def noise_map(pixels: RGB, landmarks: npt.ArrayLike, spec: CropSpec) -> HeatMap:
    """Return the noise of one face: what a 3 x 3 median takes away. Arguments and errors as for `ela_map`."""
    view = _around(pixels, landmarks)
    return HeatMap(
        "noise",
        "noise residual",
        "Luma minus its 3 x 3 median, in grey levels. Camera noise is spread evenly over skin of one brightness; "
        "strong JPEG, denoising and shrinking remove it. It says nothing about the detector by itself.",
        _cut(noise(view.pixels), view, spec),
        unit="grey levels of 255",
        scale=NOISE_SCALE,
        explains=False,
    )


def smoothed(values: npt.ArrayLike) -> Floats:
    """Return a map (S, S) averaged over about a twelfth of the crop: its tenth is then a few regions and not dust."""
    array = np.asarray(values, np.float32)
    return np.asarray(opencv().GaussianBlur(array, (0, 0), array.shape[0] / 24), np.float32)


def _around(pixels: RGB, landmarks: npt.ArrayLike) -> View:
    return face_region(pixels, np.asarray(landmarks, np.float32))


def _cut(values: Floats, view: View, spec: CropSpec) -> Floats:
    shown = np.clip(np.round(values * _GAIN), 0, 255).astype(np.uint8)
    assert view.landmarks is not None  # face_region keeps them
    crop = cut(replace(spec, features="rgb"), np.repeat(shown[:, :, None], 3, 2), view.landmarks)
    return np.asarray(crop[:, :, 0] / _GAIN, np.float32)
