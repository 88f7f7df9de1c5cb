"""Random lives of pictures, for training. Both classes are sent through the same ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from faceproof.perturb import KERNELS, Rng, View, blur, crop, jpeg, noise, resize, webp

__all__ = ["random_chain"]


def random_chain(view: View, rng: Rng) -> View:
    """Send a picture through a random life: cut, resized, up to two of blur, noise or a second resize, recompressed.

    The final size is drawn from one distribution whatever the picture's own size, and the last codec
    and quality too, so that neither says anything about the class (DATA.md: size alone gives AUC 0.79).
    """
    if view.landmarks is not None and rng.random() < 0.35:
        view = _tight(view, view.landmarks, rng)
    if rng.random() < 0.7:
        view = _random_size(view, rng)
    for _ in range(int(rng.integers(0, 3))):
        view = _SPICES[int(rng.integers(len(_SPICES)))](view, rng)
    for _ in range(1 + int(rng.random() < 0.35)):
        if rng.random() < 0.9:
            view = _random_codec(view, rng)
    return view


def _tight(view: View, landmarks: npt.NDArray[np.float32], rng: Rng) -> View:
    """Cut around the face, from a passport picture's frame to one that loses hair and ears."""
    middle = landmarks.mean(0)
    eyes = float(np.hypot(*(landmarks[1] - landmarks[0])))
    half = np.maximum(eyes * rng.uniform(1.15, 2.2), 16) * rng.uniform(0.92, 1.08, 4)
    x0, y0 = middle - half[:2]
    x1, y1 = middle + half[2:]
    return crop(view, int(x0), int(y0), int(x1), int(y1))


def _random_size(view: View, rng: Rng) -> View:
    longer = max(view.pixels.shape[:2])
    target = int(np.exp(rng.uniform(np.log(80), np.log(256))))
    kernel = KERNELS[1 + int(rng.integers(len(KERNELS) - 1))]
    return resize(view, min(target, int(longer * 1.25)), kernel)


def _random_codec(view: View, rng: Rng) -> View:
    if rng.random() < 0.15:
        return webp(view, int(rng.integers(45, 96)))
    chroma = "444" if rng.random() < 0.3 else "420"
    return jpeg(view, int(rng.integers(40, 97)), chroma=chroma)


_SPICES: tuple[Callable[[View, Rng], View], ...] = (
    lambda view, rng: blur(view, rng.uniform(0.3, 1.2)),
    lambda view, rng: noise(view, rng.uniform(1.0, 5.0), rng),
    _random_size,
    _random_codec,
)
