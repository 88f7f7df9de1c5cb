"""A camera of this machine."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from faceproof.errors import VideoError
from faceproof.extras import opencv
from faceproof.video_frames import Choice, Frame, Sampling, VideoInfo

__all__ = ["Camera"]


class Camera:
    """A camera of this machine, read with OpenCV.

    Args:
        number: 0 for the first.
        resize: longer side in pixels to shrink frames to; None leaves them.

    Raises:
        VideoError: there is none of that number, or it gives no picture.
    """

    def __init__(self, number: int, *, resize: int | None = None) -> None:
        cv2 = opencv()
        with contextlib.suppress(AttributeError):  # OpenCV would write its own lines about cameras
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self.name = f"camera {number}"
        device = f"/dev/video{number}"
        if sys.platform.startswith("linux") and not os.access(device, os.F_OK):
            raise VideoError(f"there is no camera {number} ({device} is absent); connect it, or give another number")
        self._capture = cv2.VideoCapture(number)
        self.read = self.damaged = 0
        self.problem: str | None = None
        good, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not good or first is None:
            self._capture.release()
            raise VideoError(
                f"camera {number} gives no picture: in use by another program, not permitted, or not there; "
                "close the other program, or give another number"
            )
        self._resize = resize
        height, width = self._shrunk(first).shape[:2]
        self._info = VideoInfo(width, height, "camera", "camera")

    @property
    def info(self) -> VideoInfo:
        """Size of its pictures."""
        return self._info

    def frames(self, sampling: Sampling) -> Iterator[Frame]:
        """Yield frames until the camera is lost, which `problem` then says."""
        choose, begun = Choice(sampling), time.monotonic()
        while True:
            good, pixels = self._capture.read()
            if not good:
                self.problem = f"{self.name} was lost: it gives no more pictures"
                return
            self.read += 1
            seconds = time.monotonic() - begun
            if choose.takes(seconds, False):
                yield Frame(self.read - 1, seconds, np.ascontiguousarray(self._shrunk(pixels)[:, :, ::-1]))

    def _shrunk(self, pixels: Any) -> Any:
        cv2, longer = opencv(), max(pixels.shape[:2])
        if self._resize is None or longer <= self._resize:
            return pixels
        height, width = (max(1, round(side * self._resize / longer)) for side in pixels.shape[:2])
        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        """Let the camera go."""
        self._capture.release()
