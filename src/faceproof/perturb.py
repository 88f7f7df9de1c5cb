"""What happens to pictures on their way: recompression, resizing, screenshots, blur, noise, cropping.

These are the single steps; `chains` strings them together, by name for measuring and at random for
training. Both classes always go through the same ones: a detector trained otherwise learns the step
instead of the trace. Whatever is random is a function of the generator that is handed in. Pixels are
(H, W, 3) uint8 RGB throughout; landmarks, where given, are (5, 2) float32 x, y pixels and follow the
picture. A picture of one pixel goes through every step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError, unknown_name
from faceproof.extras import opencv

__all__ = [
    "CHROMA",
    "KERNELS",
    "LARGEST",
    "View",
    "blur",
    "centre_crop",
    "crop",
    "grey",
    "jpeg",
    "noise",
    "rescale",
    "resize",
    "scale",
    "screenshot",
    "shift",
    "thumbnail",
    "tone",
    "webp",
]

RGB = npt.NDArray[np.uint8]
Rng = np.random.Generator

KERNELS = ("nearest", "linear", "cubic", "area", "lanczos")
"""Interpolation of `resize`, as OpenCV defines it: only "area" averages all pixels when shrinking. "nearest"
takes the pixel under the new pixel's centre (OpenCV's plain one takes a corner, off by half a pixel)."""
_FLAGS = dict(zip(KERNELS, ("NEAREST_EXACT", "LINEAR", "CUBIC", "AREA", "LANCZOS4"), strict=True))
CHROMA = {"420": 0x221111, "422": 0x211111, "444": 0x111111}
"""JPEG's chroma subsampling, with OpenCV's code for it."""
LONGEST = {".jpg": 65500, ".webp": 16383}
"""Pixels a side can have in a format."""
LARGEST = 8192
"""`scale` and `screenshot` do not enlarge past this many pixels on the longer side."""


@dataclass(frozen=True)
class View:
    """A picture on its way, with the landmarks of the face that is followed (None: nobody's).

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) float32 x, y pixels (the middle of the top left pixel is 0, 0), or None. They
            may leave the picture when it is cut.
    """

    pixels: RGB
    landmarks: npt.NDArray[np.float32] | None = None


def jpeg(view: View, quality: int, *, chroma: str = "420") -> View:
    """Recompress as JPEG: `quality` 1-100, `chroma` subsampling "420", "422" or "444"."""
    cv2 = opencv()
    if chroma not in CHROMA:
        raise unknown_name("chroma subsampling", chroma, list(CHROMA))
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, CHROMA[chroma]]
    return replace(view, pixels=_recode(view.pixels, ".jpg", options))


def webp(view: View, quality: int) -> View:
    """Recompress as lossy WebP: `quality` 1-100."""
    return replace(view, pixels=_recode(view.pixels, ".webp", [opencv().IMWRITE_WEBP_QUALITY, int(quality)]))


def resize(view: View, longer: int, kernel: str = "area") -> View:
    """Resize until the longer side has `longer` pixels, with one of `KERNELS`."""
    height, width = view.pixels.shape[:2]
    factor = longer / max(height, width)
    return _resize_to(view, max(1, round(width * factor)), max(1, round(height * factor)), kernel)


def _resize_to(view: View, new_width: int, new_height: int, kernel: str) -> View:
    cv2 = opencv()
    if kernel not in _FLAGS:
        raise unknown_name("kernel", kernel, list(KERNELS))
    height, width = view.pixels.shape[:2]
    flag = getattr(cv2, "INTER_" + _FLAGS[kernel])
    pixels = cv2.resize(view.pixels, (new_width, new_height), interpolation=flag)
    factors = np.array([new_width / width, new_height / height], np.float32)
    # Pixel centres: x' = (x + .5) f - .5
    moved = None if view.landmarks is None else (view.landmarks + 0.5) * factors - 0.5
    return View(pixels, moved)


def scale(view: View, factor: float, kernel: str = "area") -> View:
    """Resize both sides by `factor` (rounded to whole pixels, at most `LARGEST`), with one of `KERNELS`."""
    longer = max(view.pixels.shape[:2])
    return resize(view, max(1, min(LARGEST, round(longer * factor))), kernel)


def rescale(view: View, factor: float, kernel: str = "area") -> View:
    """Shrink both sides by `factor` < 1 and go back to the very same size, both with one of `KERNELS`."""
    height, width = view.pixels.shape[:2]
    small = _resize_to(view, max(1, round(width * factor)), max(1, round(height * factor)), kernel)
    return replace(view, pixels=_resize_to(small, width, height, kernel).pixels)


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


def centre_crop(view: View, percent: float) -> View:
    """Cut to `percent` of each side about the middle, moved just far enough to keep the landmarks if they fit."""
    size = np.array(view.pixels.shape[1::-1])
    kept = np.maximum(1, np.round(size * percent / 100)).astype(int)
    start = (size - kept) // 2
    if view.landmarks is not None:
        low, high = np.floor(view.landmarks.min(0)), np.ceil(view.landmarks.max(0))
        start = np.where(high - low < kept, np.clip(start, high + 1 - kept, low), start)
        start = np.clip(start, 0, size - kept).astype(int)
    return crop(view, int(start[0]), int(start[1]), int(start[0] + kept[0]), int(start[1] + kept[1]))


def shift(view: View, pixels: int) -> View:
    """Cut `pixels` rows and columns off the top and left, so that the next JPEG's 8 x 8 grid lies elsewhere."""
    height, width = view.pixels.shape[:2]
    return crop(view, pixels, pixels, width, height)


def grey(view: View) -> View:
    """Turn into black and white (ITU-R BT.601 luma, the one JPEG uses), still with three channels."""
    cv2 = opencv()
    luma = cv2.cvtColor(view.pixels, cv2.COLOR_RGB2GRAY)
    return replace(view, pixels=cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB))


def tone(view: View, gamma: float, gains: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> View:
    """Change brightness and colour: each channel becomes 255 gain (x / 255) ** gamma, rounded to 8 bits."""
    curve = (np.arange(256) / 255.0) ** gamma
    table = np.clip(np.round(255 * curve[:, None] * np.array(gains)), 0, 255).astype(np.uint8)
    return replace(view, pixels=opencv().LUT(view.pixels, table[:, None, :]))


def screenshot(view: View, factor: float, rng: Rng) -> View:
    """Show the picture on a page at `factor` times its size, capture the screen, cut it out and save it again.

    Modelled: scaling by a non-integer factor to whole pixels of the display (linear when enlarged, area
    average when shrunk); a slight change of colours between picture and display profile (gamma 0.96-1.04,
    each channel dimmed by at most 2 %), rounded to 8 bits; a cut by hand, that leaves up to 4 % of the page (one
    plain grey) or loses up to 2 % of the picture on each side; saving as PNG (half of the time, changes
    nothing) or JPEG 80-95. Not modelled: photographs taken of a screen (moire, glare, perspective), text
    or buttons over the picture, sharpening by the browser, wide gamut and HDR displays, night colours.

    Args:
        view: the picture; at most `LARGEST` pixels are shown on the longer side.
        factor: display pixels per picture pixel; CSS size and device pixel ratio in one.
        rng: draws everything else.
    """
    shown = scale(view, factor, "linear" if factor > 1 else "area")
    gains = 1 - rng.uniform(0, 0.02, 3)
    shown = tone(shown, rng.uniform(0.96, 1.04), (gains[0], gains[1], gains[2]))
    edges = np.round(rng.uniform(-0.02, 0.04, 4) * max(shown.pixels.shape[:2])).astype(int)
    page = int(rng.choice([255, 255, 243, 34, 0]))
    captured = _frame(shown, edges, page)
    saved_as_png = rng.random() < 0.5
    return captured if saved_as_png else jpeg(captured, int(rng.integers(80, 96)))


def _frame(view: View, edges: npt.NDArray[np.int_], page: int) -> View:
    """Add (above 0) or cut (below 0) pixels on the left, top, right, bottom; `page` is the grey level added."""
    height, width = view.pixels.shape[:2]
    cut, added = np.maximum(-edges, 0), np.maximum(edges, 0)
    view = crop(view, cut[0], cut[1], width - cut[2], height - cut[3])
    left, top, right, bottom = (int(n) for n in added)
    cv2 = opencv()
    pixels = cv2.copyMakeBorder(view.pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(page,) * 3)
    moved = None if view.landmarks is None else view.landmarks + np.array([left, top], np.float32)
    return View(pixels, moved)


def _recode(pixels: RGB, suffix: str, options: list[int]) -> RGB:
    cv2 = opencv()
    height, width = pixels.shape[:2]
    if max(height, width) > LONGEST[suffix]:
        # Asked first: OpenCV would also write its own lines to standard error.
        name = {".jpg": "JPEG", ".webp": "WebP"}[suffix]
        raise UsageError(f"{name} holds at most {LONGEST[suffix]} pixels a side, the picture has {width} x {height}")
    done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise UsageError(f"cannot encode a picture of shape {pixels.shape} as {suffix}")
    decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    recoded: RGB = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return recoded
