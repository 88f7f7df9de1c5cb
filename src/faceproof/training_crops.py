"""Random changes to training pictures, alike for both classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from faceproof.augment import gentle_chain, random_chain
from faceproof.detectors.crops import CropSpec, cut, native
from faceproof.errors import unknown_name
from faceproof.extras import opencv
from faceproof.perturb import View, blur, jpeg

__all__ = ["training_crop"]

RGB = npt.NDArray[np.uint8]
Landmarks = npt.NDArray[np.float32]


def training_crop(
    pixels: RGB, landmarks: Landmarks, spec: CropSpec, rng: np.random.Generator, augment: str = "life"
) -> RGB:
    """Return one training crop: (S, S, 3) uint8 RGB.

    Args:
        pixels: (H, W, 3) uint8 RGB picture.
        landmarks: (5, 2) float32 x, y pixels.
        spec: the crop.
        rng: everything random comes from it.
        augment: "life", "gentle", "study", "flip" or "none" (recipes.AUGMENTS).

    Raises:
        UsageError: no such `augment`.
        ValueError: the landmarks are no face's.
    """
    kinds = {"life": _life, "gentle": _gentle, "study": _study, "flip": _plain, "none": _plain}
    if augment not in kinds:
        raise unknown_name("augment", augment, list(kinds))
    result = kinds[augment](View(pixels, landmarks), spec, rng)
    return result[:, ::-1].copy() if augment != "none" and rng.random() < 0.5 else result


def _plain(view: View, spec: CropSpec, rng: np.random.Generator) -> RGB:
    assert view.landmarks is not None  # training_crop gives them
    return cut(spec, view.pixels, view.landmarks)


def _life(view: View, spec: CropSpec, rng: np.random.Generator) -> RGB:
    return _shaken(view, random_chain(view, rng), spec, rng)


def _gentle(view: View, spec: CropSpec, rng: np.random.Generator) -> RGB:
    return _shaken(view, gentle_chain(view, rng), spec, rng)


def _shaken(view: View, lived: View, spec: CropSpec, rng: np.random.Generator) -> RGB:
    """Cut what a chain made of the picture, the alignment shaken by 3 % of the eyes' distance."""
    assert lived.landmarks is not None
    eyes = float(np.hypot(*(lived.landmarks[1] - lived.landmarks[0])))
    shaken = lived.landmarks + rng.normal(0, 0.03 * eyes, (5, 2)).astype(np.float32)
    centre = shaken.mean(0)
    shaken = (shaken - centre) * np.float32(rng.uniform(0.9, 1.12)) + centre
    try:
        return cut(spec, lived.pixels, shaken)
    except ValueError:  # a face of a few pixels, shaken out of shape
        return _plain(view, spec, rng)


def _study(view: View, spec: CropSpec, rng: np.random.Generator) -> RGB:
    """Ricker et al. 2024: blur, JPEG and a random resized crop with probability 0.1 each, then a random crop.

    Cut at native scale, as the frame "centre" is in use.
    """
    if rng.random() < 0.1:
        view = blur(view, float(rng.uniform(0.5, 5)))
    if rng.random() < 0.1:
        view = jpeg(view, int(rng.integers(30, 101)))
    assert view.landmarks is not None
    square = native(spec, view.pixels, view.landmarks)
    tall, wide = square.shape[:2]
    if rng.random() < 0.1:
        area, ratio = rng.uniform(0.25, 0.75) * tall * wide, float(np.exp(rng.uniform(np.log(0.8), np.log(1.25))))
        width, height = min(wide, round((area * ratio) ** 0.5)), min(tall, round((area / ratio) ** 0.5))
        x, y = int(rng.integers(0, wide - width + 1)), int(rng.integers(0, tall - height + 1))
        part = square[y : y + height, x : x + width]
        return np.asarray(opencv().resize(part, (spec.size, spec.size), interpolation=1), dtype=np.uint8)  # linear
    x, y = int(rng.integers(0, wide - spec.size + 1)), int(rng.integers(0, tall - spec.size + 1))
    return np.ascontiguousarray(square[y : y + spec.size, x : x + spec.size])
