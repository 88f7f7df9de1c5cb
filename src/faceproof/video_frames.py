"""What frames of a video are, which of them are taken, and where the cuts lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError

__all__ = ["LONGEST_SCENE", "Choice", "Cuts", "Frame", "Frames", "Sampling", "VideoInfo"]

RGB = npt.NDArray[np.uint8]

CUT = 20.0
"""Mean change of luma, in 8-bit levels, that counts as a cut; see `Cuts`."""
LONGEST_SCENE = 5.0
"""Seconds after which a scene without a cut gives another frame."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        index: how many frames were decoded before it.
        seconds: when it is shown, after the first frame; never less than for the frame before.
        pixels: (H, W, 3) uint8, RGB, upright.
        cut: a cut lies between the frame given out before and this one.
    """

    index: int
    seconds: float
    pixels: RGB
    cut: bool = False


@dataclass(frozen=True)
class Sampling:
    """Which frames are given out.

    Attributes:
        fps: frames per second of the video's own time; 0 takes every frame.
        scenes: instead, the first frame after every cut and one more every `LONGEST_SCENE` seconds.
    """

    fps: float = 2.0
    scenes: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.fps <= 1000:
            raise UsageError(f"frames per second lie within 0..1000 (0 takes all), not {self.fps:g}")

    @property
    def interval(self) -> float:
        """Seconds between two frames given out, at most; 0 where every frame is."""
        if self.scenes:
            return LONGEST_SCENE
        return 1 / self.fps if self.fps else 0.0


@dataclass(frozen=True)
class VideoInfo:
    """What the header says.

    Attributes:
        width, height: pixels, upright, before any resizing.
        container, codec: FFmpeg's names; "camera" for cameras.
        seconds: length; None where the header does not say.
        rate: average frames per second; None where unknown.
        rotation: degrees by which pictures are turned counter-clockwise to be upright: 0, 90, 180, 270.
        audio: whether there is sound.
    """

    width: int
    height: int
    container: str
    codec: str
    seconds: float | None = None
    rate: float | None = None
    rotation: int = 0
    audio: bool = False


class Frames(Protocol):
    """A source of frames: `Video` or `Camera`.

    Attributes:
        name: as given, well-formed Unicode.
        read: frames decoded so far. damaged: packets and frames that could not be.
        problem: why it ended before its end; None while it has not.
    """

    name: str
    read: int
    damaged: int
    problem: str | None

    @property
    def info(self) -> VideoInfo:
        """What the header says."""
        ...

    def frames(self, sampling: Sampling) -> Iterator[Frame]:
        """Yield frames."""
        ...

    def close(self) -> None:
        """Let the source go."""
        ...


class Choice:
    """Which frames a sampling takes."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._due = -1.0

    def takes(self, seconds: float, cut: bool) -> bool:
        """Whether the frame at these seconds is wanted."""
        if self._sampling.scenes:
            wanted = self._due < 0 or cut or seconds >= self._due
            if wanted:
                self._due = seconds + LONGEST_SCENE
            return wanted
        fps = self._sampling.fps
        if not fps:
            return True
        if seconds + 1e-6 < self._due:
            return False
        # Times on the grid k / fps: a late frame does not move those after it.
        self._due = (np.floor((seconds + 1e-6) * fps) + 1) / fps
        return True


class Cuts:
    """Finds cuts as FFmpeg's filter `select` does (its variable `scene`).

    The smaller of the mean absolute luma difference and its change since the frame before, so that steady motion
    and a flash's second half do not count.
    """

    def __init__(self) -> None:
        self._before: npt.NDArray[np.float32] | None = None
        self._difference = 0.0
        self.cut = False

    def see(self, luma: npt.NDArray[np.float32]) -> None:
        """Take the next frame's luma."""
        if self._before is not None:
            difference = float(np.abs(luma - self._before).mean())
            self.cut |= min(difference, abs(difference - self._difference)) >= CUT
            self._difference = difference
        self._before = luma

    def taken(self) -> bool:
        """Whether there was a cut since the last call; begins anew."""
        cut, self.cut = self.cut, False
        return cut
