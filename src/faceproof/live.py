"""Check what a camera or stream shows while it runs: the newest frame only, smoothed per person.

A thread reads frames and keeps none but the newest, so that a verdict is never about the past: what could not be
checked in time is dropped and counted. A file is played at its own speed, as a stand-in for a camera.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from faceproof.curves import sigmoid
from faceproof.errors import PictureError, UsageError, VideoError
from faceproof.pipeline import FaceChecker
from faceproof.records import Label
from faceproof.video import Frame, Frames, Sampling
from faceproof.video_check import Followed, Follower
from faceproof.video_draw import Mark
from faceproof.video_records import VideoResult

__all__ = ["LIVE_SCHEMA", "Live", "LiveFace", "LiveFrame", "NewestFrame"]

LIVE_SCHEMA = "faceproof.live/1"
MEMORY = 1.0
"""Seconds after which a sighting counts for 1/e in the smoothed log-odds."""
SILENCE = 10.0
"""Seconds without a frame after which a source is given up."""


@dataclass(frozen=True)
class LiveFace:
    """A face of the frame just checked.

    Attributes:
        track: its person's number; None where two could claim it.
        box: x0, y0, x1, y1 in pixels.
        label, probability, log_odds: smoothed over the track; of this frame alone where there is no track.
        judged: whether it is fit to be judged in this frame.
    """

    track: int | None
    box: tuple[float, float, float, float]
    label: Label
    probability: float
    log_odds: float
    judged: bool

    def mark(self) -> Mark:
        """Return what is drawn about it."""
        name = "?" if self.track is None else str(self.track)
        return Mark(self.box, self.label, f"{name}: {self.label} {self.probability:.2f}", faint=not self.judged)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "track": self.track,
            "box": [round(float(v), 1) for v in self.box],
            "verdict": self.label,
            "probability": round(self.probability, 4),
            "log_odds": round(self.log_odds, 4),
            "judged": self.judged,
        }


@dataclass(frozen=True)
class LiveFrame:
    """A frame just checked.

    Attributes:
        frame: the frame. faces: largest first.
        dropped: frames dropped so far.
        latency: seconds from the frame's arrival to its verdict.
    """

    frame: Frame
    faces: tuple[LiveFace, ...]
    dropped: int
    latency: float

    def to_dict(self) -> dict[str, Any]:
        """Return the record of one line."""
        return {
            "schema": LIVE_SCHEMA,
            "frame": self.frame.index,
            "seconds": round(self.frame.seconds, 3),
            "latency_ms": round(1000 * self.latency, 1),
            "dropped": self.dropped,
            "faces": [face.to_dict() for face in self.faces],
        }


class NewestFrame:
    """Reads a source in a thread of its own and holds its newest frame.

    Args:
        source: opened; read until it ends.
        paced: hold frames back to the speed at which they are shown (files, which can be read faster).
        silence: seconds without a frame after which the source is given up.

    A reader that hangs in a driver cannot be stopped; its thread ends with the program.
    """

    def __init__(self, source: Frames, *, paced: bool = False, silence: float = SILENCE) -> None:
        self._source, self._paced, self._silence = source, paced, silence
        self._change = threading.Condition()
        self._held: tuple[Frame, float] | None = None
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield (newest frame, when it came, by time.perf_counter).

        Raises:
            VideoError: no frame came for `silence` seconds. PictureError: whatever the source raised.
        """
        while True:
            with self._change:
                there = self._change.wait_for(lambda: self._held is not None or self._ended, self._silence)
                held, self._held = self._held, None
            if not there:
                raise VideoError(f"{self._source.name} gave no frame for {self._silence:g} s; look after the camera")
            if held is None:
                if self._error is not None:
                    raise self._error
                return
            yield held

    def stop(self) -> bool:
        """Ask the thread to end; return whether it has."""
        self._stopped = True
        self._thread.join(1.0)
        return not self._thread.is_alive()

    def _read(self) -> None:
        begun = time.perf_counter()
        try:
            for frame in self._source.frames(Sampling(fps=0)):
                if self._paced and not self._wait(begun + frame.seconds):
                    break
                if self._stopped:
                    break
                with self._change:
                    if self._held is not None:
                        self.dropped += 1
                        # A cut before a dropped frame lies before the next one all the same.
                        cut = frame.cut or self._held[0].cut
                        self._held = (replace(frame, cut=cut), time.perf_counter())
                    else:
                        self._held = (frame, time.perf_counter())
                    self._change.notify()
        except BaseException as err:  # handed to the thread that asks
            self._error = err
        with self._change:
            self._ended = True
            self._change.notify()

    def _wait(self, until: float) -> bool:
        """Sleep until then, awake often enough to be stopped."""
        while (left := until - time.perf_counter()) > 0 and not self._stopped:
            time.sleep(min(left, 0.1))
        return not self._stopped


class Live:
    """Checks a running source. Iterate over it; `result` can be asked at any moment.

    Args:
        checker: to check with; faces are not perturbed, whatever its stability.
        source: opened by `faceproof.video.open_frames`; not closed here.
        paced: see `NewestFrame`. silence: see there.
        memory: seconds after which a sighting counts for 1/e.

    Attributes:
        problem: why it ended before it was stopped; None at a file's end and while it runs.
    """

    def __init__(
        self,
        checker: FaceChecker,
        source: Frames,
        *,
        paced: bool = False,
        silence: float = SILENCE,
        memory: float = MEMORY,
    ) -> None:
        if memory <= 0 or silence <= 0:
            raise UsageError(f"memory and silence are positive seconds, not {memory:g} and {silence:g}")
        self._source, self._memory = source, memory
        self._checker, self._follower = checker, Follower(checker, keep=512)
        self._smooth: dict[int, _Smooth] = {}
        self._newest = NewestFrame(source, paced=paced, silence=silence)
        self.problem: str | None = None

    def __iter__(self) -> Iterator[LiveFrame]:
        """Yield the frames that were checked, until the source ends or is lost (then `problem` says so)."""
        try:
            for frame, came in self._newest:
                followed = self._follower.see(frame)
                faces = tuple(self._smoothed(one, frame.seconds) for one in followed)
                alive = set(self._follower.tracker.alive)
                self._smooth = {number: s for number, s in self._smooth.items() if number in alive}
                yield LiveFrame(frame, faces, self._newest.dropped, time.perf_counter() - came)
            self.problem = self._source.problem
        except PictureError as err:
            self.problem = str(err)

    def stop(self) -> bool:
        """End reading; return whether the reader has ended, so that the source may be closed."""
        return self._newest.stop()

    def result(self) -> VideoResult:
        """Return what is known so far, as for a video."""
        return self._follower.result(self._source, None, dropped=self._newest.dropped, problem=self.problem)

    def _smoothed(self, one: Followed, seconds: float) -> LiveFace:
        verdict, judged = one.face.verdict, one.weight > 0
        if one.track is None:
            return LiveFace(None, one.face.box, "inconclusive", verdict.probability, verdict.log_odds, judged)
        smooth = self._smooth.setdefault(one.track, _Smooth(self._memory))
        if judged:
            smooth.see(seconds, verdict.log_odds, one.weight)
        if smooth.odds is None:  # never fit to be judged so far
            return LiveFace(one.track, one.face.box, verdict.label, verdict.probability, verdict.log_odds, judged)
        label: Label = self._checker.rule.label(smooth.odds)  # type: ignore[assignment]
        return LiveFace(one.track, one.face.box, label, float(sigmoid(smooth.odds)), smooth.odds, judged)


class _Smooth:
    """Weighted mean of a track's log-odds that forgets: a sighting t seconds ago counts exp(-t / memory)."""

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._sum = self._mass = self._seconds = 0.0

    @property
    def odds(self) -> float | None:
        """Smoothed log-odds; None before the first sighting."""
        return self._sum / self._mass if self._mass else None

    def see(self, seconds: float, log_odds: float, weight: float) -> None:
        """Take a sighting."""
        # A floor keeps the mean defined after long breaks; what is old is forgotten all the same.
        fade = max(math.exp(-(seconds - self._seconds) / self._memory), 1e-9)
        self._sum, self._mass = self._sum * fade + weight * log_odds, self._mass * fade + weight
        self._seconds = seconds
