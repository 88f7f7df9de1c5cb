"""The window of `faceproof live`."""

from __future__ import annotations

import os
import sys

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.extras import opencv

__all__ = ["Window"]

NAME = "faceproof live (q quits)"
_ADVICE = "use --headless, or --headless --json for one record a frame"


class Window:
    """An OpenCV window. Use it in a `with` block.

    Raises:
        UsageError: there is no display, or OpenCV was built without windows.
    """

    def __init__(self) -> None:
        # Without a display Qt ends the whole process, so it is never asked.
        display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
        if sys.platform.startswith("linux") and not display:
            raise UsageError(f"there is no display to show a window on; {_ADVICE}")
        self._cv2 = opencv()
        try:
            self._cv2.namedWindow(NAME, self._cv2.WINDOW_NORMAL | self._cv2.WINDOW_KEEPRATIO)
        except self._cv2.error as err:
            raise UsageError(f"this OpenCV shows no windows (opencv-python-headless?); {_ADVICE}") from err

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._cv2.destroyAllWindows()

    def show(self, pixels: npt.NDArray[np.uint8]) -> bool:
        """Show a frame (H, W, 3) uint8 RGB; return False when the user has closed the window or pressed q or Esc."""
        self._cv2.imshow(NAME, np.ascontiguousarray(pixels[:, :, ::-1]))
        key = self._cv2.waitKey(1) & 0xFF
        open_still = self._cv2.getWindowProperty(NAME, self._cv2.WND_PROP_VISIBLE) >= 1
        return key not in (ord("q"), 27) and open_still
