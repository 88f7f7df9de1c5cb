"""What happens to pictures on their way: recompression, resizing, thumbnails, blur, noise, cropping.

The same chains serve training and measuring, and both classes always go through the same ones: a
detector trained otherwise learns the chain instead of the trace. Everything is deterministic in the
generator that is handed in. Pixels are (H, W, 3) uint8 RGB throughout; landmarks, where given, are
(5, 2) x, y pixels and follow the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError, unknown_name
from faceproof.extras import opencv

__all__ = [
    "CHAINS",
    "View",
    "apply_chain",
    "blur",
    "crop",
    "jpeg",
    "noise",
    "random_chain",
    "resize",
    "thumbnail",
    "webp",
]

RGB = npt.NDArray[np.uint8]
Rng = np.random.Generator

KERNELS = ("nearest", "linear", "cubic", "area", "lanczos")


@dataclass(frozen=True)
class View:
    """A picture on its way, with the landmarks of the face that is followed (None: nobody's)."""

    pixels: RGB
    landmarks: npt.NDArray[np.float32] | None = None


def jpeg(view: View, quality: int, *, chroma: str = "420") -> View:
    """Recompress as JPEG: `quality` 1-100, `chroma` subsampling "420", "422" or "444"."""
    cv2 = opencv()
    factors = {"420": 0x221111, "422": 0x211111, "444": 0x111111}
    if chroma not in factors:
        raise unknown_name("chroma subsampling", chroma, list(factors))
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors[chroma]]
    return replace(view, pixels=_recode(view.pixels, ".jpg", options))


def webp(view: View, quality: int) -> View:
    """Recompress as lossy WebP: `quality` 1-100."""
    return replace(view, pixels=_recode(view.pixels, ".webp", [opencv().IMWRITE_WEBP_QUALITY, int(quality)]))


def resize(view: View, longer: int, kernel: str = "area") -> View:
    """Resize until the longer side has `longer` pixels, with one of `KERNELS`."""
    cv2 = opencv()
    if kernel not in KERNELS:
        raise unknown_name("kernel", kernel, list(KERNELS))
    height, width = view.pixels.shape[:2]
    scale = longer / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    flag = getattr(cv2, "INTER_" + {"lanczos": "LANCZOS4"}.get(kernel, kernel.upper()))
    pixels = cv2.resize(view.pixels, shape, interpolation=flag)
    factors = np.array([shape[0] / width, shape[1] / height], np.float32)
    # Pixel centres: x' = (x + .5) f - .5
    moved = None if view.landmarks is None else (view.landmarks + 0.5) * factors - 0.5
    return View(pixels, moved)


def thumbnail(view: View, longer: int) -> View:
    """Shrink to `longer` pixels with area averaging; smaller pictures stay as they are."""
    return view if max(view.pixels.shape[:2]) <= longer else resize(view, longer, "area")


def blur(view: View, sigma: float) -> View:
    """Gaussian blur, `sigma` in pixels."""
    return replace(view, pixels=opencv().GaussianBlur(view.pixels, (0, 0), float(sigma)))


def noise(view: View, sigma: float, rng: Rng) -> View:
    """Add Gaussian noise of standard deviation `sigma` (of 255) to every sample."""
    shaken = view.pixels + rng.normal(0.0, sigma, view.pixels.shape).astype(np.float32)
    return replace(view, pixels=np.clip(np.round(shaken), 0, 255).astype(np.uint8))


def crop(view: View, x0: int, y0: int, x1: int, y1: int) -> View:
    """Cut out pixels x0 <= x < x1, y0 <= y < y1; the box is clipped to the picture."""
    height, width = view.pixels.shape[:2]
    x0, y0 = min(max(0, x0), width - 1), min(max(0, y0), height - 1)
    x1, y1 = max(x0 + 1, min(x1, width)), max(y0 + 1, min(y1, height))
    moved = None if view.landmarks is None else view.landmarks - np.array([x0, y0], np.float32)
    return View(np.ascontiguousarray(view.pixels[y0:y1, x0:x1]), moved)


def _avatar(view: View, rng: Rng) -> View:
    """What a social platform does to a profile picture: 400 px, JPEG 75, and JPEG 70 on the way back."""
    return jpeg(jpeg(thumbnail(view, 400), 75), 70)


CHAINS: dict[str, Callable[[View, Rng], View]] = {
    "none": lambda view, rng: view,
    "avatar": _avatar,
    "jpeg95": lambda view, rng: jpeg(view, 95),
    "jpeg75": lambda view, rng: jpeg(view, 75),
    "jpeg50": lambda view, rng: jpeg(view, 50),
    "jpeg30": lambda view, rng: jpeg(view, 30),
    "webp75": lambda view, rng: webp(view, 75),
    "thumb128": lambda view, rng: thumbnail(view, 128),
    "thumb64": lambda view, rng: thumbnail(view, 64),
    "level": lambda view, rng: jpeg(resize(view, 128), 75),
    "blur1": lambda view, rng: blur(view, 1.0),
    "noise4": lambda view, rng: noise(view, 4.0, rng),
}
"""Named chains for measuring."""


def apply_chain(pixels: RGB, name: str, *, seed: int = 0) -> RGB:
    """Send a picture through a named chain.

    Raises:
        UsageError: no chain of that name.
    """
    if name not in CHAINS:
        raise unknown_name("chain", name, list(CHAINS))
    return CHAINS[name](View(pixels), np.random.default_rng(seed)).pixels


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


def _recode(pixels: RGB, suffix: str, options: list[int]) -> RGB:
    cv2 = opencv()
    done, data = cv2.imencode(suffix, pixels[:, :, ::-1], options)
    if not done:
        raise UsageError(f"cannot encode a picture of shape {pixels.shape} as {suffix}")
    decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(decoded[:, :, ::-1])
