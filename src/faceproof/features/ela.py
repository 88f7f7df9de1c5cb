"""Error level analysis: how much a picture changes when it is saved as JPEG once more.

Krawetz, "A Picture's Worth" (2007). The published mobile recipe (FIELD.md 1.5) saves at quality 90,
takes the absolute difference and stretches it by 255 / largest difference. Its training code did the
stretching in uint8, where 13 * 25 is 69: differences wrap around, and the map is noise. Here the
arithmetic is float32, and rounding to uint8 is the last step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from faceproof.perturb import View, jpeg

__all__ = ["ela", "stretch"]

RGB = npt.NDArray[np.uint8]


def ela(pixels: RGB, *, quality: int = 90) -> RGB:
    """Return the stretched difference between a picture and its JPEG copy.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        quality: of the JPEG copy (4:2:0, as Pillow and OpenCV save by default), 1-100.

    Returns:
        (H, W, 3) uint8: |picture - copy| * 255 / the largest difference; zeros where nothing changes.
    """
    return stretch(pixels, jpeg(View(pixels), quality).pixels)


def stretch(pixels: RGB, copy: RGB) -> RGB:
    """Return |pixels - copy| scaled so that its largest value is 255; both (H, W, 3) uint8."""
    difference = np.abs(pixels.astype(np.float32) - copy.astype(np.float32))
    largest = float(difference.max(initial=0.0))
    if largest == 0:
        return np.zeros_like(pixels)
    return np.round(difference * (255.0 / largest)).astype(np.uint8)
