"""A verdict per person in a video, from many frames.

Every sampled frame is checked as a picture is. The faces of one person are joined by a track, and the track's
log-odds are a trimmed, weighted mean of its faces' (`robust_mean`), which is held against the checker's own limits.
A mean, not a sum: neighbouring frames show the same face and are no independent witnesses.
"""

from __future__ import annotations

import copy
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from faceproof._version import VERSION
from faceproof.curves import sigmoid
from faceproof.errors import MissingExtraError, PictureError
from faceproof.faces.alignment import align
from faceproof.faces.detection import DetectedFace
from faceproof.faces.quality import Gates, measure
from faceproof.images import Picture, opened, printable
from faceproof.pipeline import FaceChecker
from faceproof.records import Evidence, Face, Label, Verdict
from faceproof.tracking import Tracker
from faceproof.verdict import decide
from faceproof.video import SCHEMES, Frame, Frames, Sampling, Video
from faceproof.video_records import FrameCounts, Sighting, Track, VideoResult

__all__ = ["Followed", "Follower", "VideoOptions", "check_video", "robust_mean", "weight"]

RGB = npt.NDArray[np.uint8]
T = TypeVar("T")

TRIM = 0.2
"""Share of a track's weight left out at each end."""
CONTRADICTION = 0.2
"""Share of a track's weight whose frames say the opposite of others'; "photograph" is not claimed beyond it."""
WORST = 0.25
"""Weight of a face that just passes one quality gate."""
MOST_SIGHTINGS = 8192
"""Sightings kept of a track: more than an hour at two frames a second."""
MOST_PEOPLE = 1000
"""Tracks kept; beyond it the one judged least of those that have ended is forgotten."""
AHEAD = 3
"""Frames decoded ahead of the one that is checked."""
_LOOK = 12
_SHARPNESS_SIDE = 96


@dataclass(frozen=True)
class VideoOptions:
    """How a video is checked.

    Attributes:
        sampling: which frames.
        resize: longer side in pixels that frames are shrunk to; None leaves them.
    """

    sampling: Sampling = field(default_factory=Sampling)
    resize: int | None = None


def robust_mean(values: Sequence[float], weights: Sequence[float], trim: float = TRIM) -> float:
    """Return the weighted mean without a share of the weight at each end.

    Values are sorted; the lowest and the highest that hold `trim` of the total weight each are left out, those at
    the border with the part of their weight that lies inside. With equal weights and trim * n whole this is the
    trimmed mean (Tukey 1962).

    Args:
        values: (N,) finite, N at least 1.
        weights: (N,) not negative, not all zero.
        trim: 0 to below 0.5.
    """
    order = np.argsort(values, kind="stable")
    sorted_values = np.asarray(values, np.float64)[order]
    mass = np.asarray(weights, np.float64)[order]
    ends = np.cumsum(mass)
    low, high = trim * ends[-1], (1 - trim) * ends[-1]
    kept = np.clip(np.minimum(ends, high) - np.maximum(ends - mass, low), 0, None)
    return float((kept * sorted_values).sum() / kept.sum())


def weight(values: dict[str, float], gates: Gates) -> float:
    """Return what a face that passes the gates counts for, `WORST` ** 4 to 1.

    A product of four ramps, each from `WORST` at the gate to 1 where more brings no more: twice the side, twice the
    sharpness, wholly inside, and turned by at most half of what is allowed.

    Args:
        values: what `faces.quality.measure` returns.
        gates: the limits; one that is switched off is taken from the defaults.
    """
    usual = Gates()
    side = gates.min_side or usual.min_side
    sharp = gates.min_sharpness or usual.min_sharpness
    turn = gates.max_turn or usual.max_turn
    inside = min(gates.min_inside or usual.min_inside, 0.99)
    ramps = (
        (values["side"] / side - 1) / 1.0,
        (values["sharpness"] / sharp - 1) / 1.0,
        (values["inside"] - inside) / (1 - inside),
        (turn - values["turn"]) / (turn / 2),
    )
    return float(np.prod([WORST + (1 - WORST) * min(1.0, max(0.0, ramp)) for ramp in ramps]))


def check_video(
    checker: FaceChecker,
    source: str | os.PathLike[str],
    options: VideoOptions | None = None,
    *,
    progress: Callable[[float, float | None], None] = lambda seconds, whole: None,
) -> VideoResult:
    """Check one video.

    Args:
        checker: as for pictures. Faces are not perturbed, whatever its stability.
        source: path of a file, or a stream's URL.
        options: how; `VideoOptions()` if None.
        progress: called with the seconds done and the length (None where unknown).

    Returns:
        The result. A video that cannot be used gives one with status "error" and the reason; one that breaks off
        keeps what was found until then, with a note.

    Raises:
        UsageError: the options are wrong.
    """
    options = options or VideoOptions()
    name, digest = printable(source), None
    try:
        if not os.fspath(source).lower().startswith(SCHEMES):
            digest = _digest(source)
        with Video(source, limits=checker.limits, resize=options.resize) as video:
            return _checked(checker, video, options, digest, progress)
    except (PictureError, MissingExtraError) as err:
        return failed_video(checker, name, str(err), digest)


def failed_video(checker: FaceChecker, path: str, error: str, sha256: str | None = None) -> VideoResult:
    """Return the record of a video that could not be used."""
    return VideoResult(path=path, status="error", error=error, sha256=sha256, **_ground(checker))


def _checked(
    checker: FaceChecker,
    video: Video,
    options: VideoOptions,
    digest: str | None,
    progress: Callable[[float, float | None], None],
) -> VideoResult:
    # A track bridges two missing samples, however rarely they are taken.
    follower = Follower(checker, Tracker(max_gap=max(1.6, 2.5 * options.sampling.interval)))
    problem = None
    ahead = _Ahead(video.frames(options.sampling), AHEAD)
    try:
        for frame in ahead:
            follower.see(frame)
            progress(frame.seconds, video.info.seconds)
    except PictureError as err:
        if not follower.used:
            raise
        problem = str(err)
    finally:
        ahead.stop()
    return follower.result(video, digest, problem=problem)


@dataclass(frozen=True)
class Followed:
    """A face of the frame just seen, with its place in a track.

    Attributes:
        track: number of the track; None where two could claim it.
        face: as checked by itself.
        weight: what it counts for.
    """

    track: int | None
    face: Face
    weight: float


class Follower:
    """Checks frames one after the other and gathers what is known about each person.

    Args:
        checker: to check with; faces are not perturbed, whatever its stability.
        tracker: to follow with; None takes the defaults.
        keep: sightings kept of a track, at least 2; longer ones are thinned evenly.

    Memory is bounded by `keep` times `MOST_PEOPLE` sightings, however long it runs.
    """

    def __init__(self, checker: FaceChecker, tracker: Tracker | None = None, *, keep: int = MOST_SIGHTINGS) -> None:
        self.checker, self.tracker, self._keep = _without_stability(checker), tracker or Tracker(), keep
        self._forgotten = 0
        self.used = self.faces = self.unclear = 0
        self.size = (0, 0)
        self._seconds = 0.0
        self._people: dict[int, _Person] = {}

    def see(self, frame: Frame) -> list[Followed]:
        """Check one frame; return its faces, largest first.

        Args:
            frame: not before the last one's time.
        """
        result = self.checker.check_loaded(Picture(frame.pixels, "<frame>"))
        found = [
            DetectedFace(np.asarray(f.box, np.float32), np.asarray(f.landmarks, np.float32), f.confidence)
            for f in result.faces
        ]
        crops = [align(frame.pixels, face.landmarks, _SHARPNESS_SIDE) for face in found]
        looks = [_look(crop) for crop in crops]
        numbers = self.tracker.update(frame.seconds, found, looks, cut=frame.cut)
        self.used += 1
        self.size, self._seconds = (result.width, result.height), frame.seconds
        followed = []
        for number, face, detected, crop in zip(numbers, result.faces, found, crops, strict=True):
            values = measure(detected, crop, result.width, result.height)
            counts = 0.0 if face.quality else weight(values, self.checker.gates)
            self.faces += 1
            if number is None:
                self.unclear += 1
            else:
                self._person(number).see(frame, face, counts)
            followed.append(Followed(number, face, counts))
        return followed

    def _person(self, number: int) -> _Person:
        if number not in self._people:
            self._people[number] = _Person(number, self._keep)
            ended = self._people.keys() - set(self.tracker.alive)
            if len(self._people) > MOST_PEOPLE and ended:
                del self._people[min(ended, key=lambda one: (self._people[one].judged, one))]
                self._forgotten += 1
        return self._people[number]

    def result(
        self, source: Frames, sha256: str | None, *, dropped: int = 0, problem: str | None = None
    ) -> VideoResult:
        """Return what is known so far.

        Args:
            source: where the frames came from.
            sha256: of the file, None for streams.
            dropped: frames that were passed over because checking took too long.
            problem: why it ended early; None takes the source's.
        """
        tracks = tuple(person.track(self.checker) for person in self._people.values())
        problem = problem or source.problem
        notes = [] if problem is None else [problem]
        if source.damaged:
            notes.append(f"{source.damaged} packets could not be decoded and were passed over")
        if self.unclear:
            notes.append(f"{self.unclear} faces could have been either of two people and were used for neither")
        if self._forgotten:
            notes.append(f"more than {MOST_PEOPLE} tracks: {self._forgotten} that were judged least are not listed")
        counts = FrameCounts(source.read, self.used, source.damaged, dropped, self.faces, self.unclear)
        info = source.info
        return VideoResult(
            path=source.name, status="ok" if tracks else "no_face", sha256=sha256, width=self.size[0],
            height=self.size[1], seconds=self._seconds, container=info.container, codec=info.codec, frames=counts,
            tracks=tracks, notes=tuple(notes), **_ground(self.checker),
        )  # fmt: skip


class _Person:
    """What was seen of one track; thinned evenly when it grows too long."""

    def __init__(self, number: int, keep: int) -> None:
        self.number, self._keep = number, keep
        self.seen = self.judged = 0
        self._every = 1
        self._sightings: list[Sighting] = []
        self._scores: list[float] = []
        self._alarms = 0
        self._best: tuple[float, float, Face] | None = None

    def see(self, frame: Frame, face: Face, counts: float) -> None:
        """Take one sighting."""
        verdict = face.verdict
        if self._best is None or counts > self._best[0]:
            self._best = (counts, frame.seconds, face)
        if self.seen % self._every == 0:
            codes = tuple(reason.code for reason in face.quality)
            sighting = Sighting(
                frame.index, frame.seconds, face.box, verdict.log_odds, verdict.probability, counts, verdict.label,
                codes,
            )  # fmt: skip
            self._sightings.append(sighting)
            self._scores.append(verdict.score)
        self.seen += 1
        self.judged += counts > 0
        self._alarms += verdict.alarm and counts > 0
        if len(self._sightings) > self._keep:
            self._sightings, self._scores = self._sightings[::2], self._scores[::2]
            self._every *= 2

    def track(self, checker: FaceChecker) -> Track:
        """Return the track with its verdict."""
        assert self._best is not None  # it was seen
        _, seconds, best = self._best
        fit = [k for k, sighting in enumerate(self._sightings) if sighting.weight > 0]
        judged = self.judged if fit else 0
        verdict = self._verdict(checker, fit) if fit else best.verdict
        quality = () if fit else best.quality
        return Track(
            self.number, replace(best, verdict=verdict, quality=quality), tuple(self._sightings), self.seen, judged,
            seconds,
        )  # fmt: skip

    def _verdict(self, checker: FaceChecker, fit: Sequence[int]) -> Verdict:
        weights = [self._sightings[k].weight for k in fit]
        odds = robust_mean([self._sightings[k].log_odds for k in fit], weights)
        score = robust_mean([self._scores[k] for k in fit], weights)
        shares = self._shares(fit)
        spread = ", ".join(f"{share:.0%} {label}" for label, share in shares.items() if share)
        frames = "1 frame" if self.judged == 1 else f"{self.judged} frames"
        sentence = (
            f"the trimmed mean of {frames}, weighted by quality, is {odds:+.2f} log-odds; frame by frame: {spread}"
        )
        verdict = decide(score, (Evidence("frames", odds, sentence),), (), checker.rule)
        if shares["generated"] >= CONTRADICTION and shares["photograph"] >= CONTRADICTION:
            verdict = _contradicted(verdict)
        if 2 * self._alarms > self.judged:
            verdict = _alarmed(verdict)
        return verdict

    def _shares(self, fit: Sequence[int]) -> dict[Label, float]:
        """Share of the weight whose frames say each answer by themselves."""
        whole = sum(self._sightings[k].weight for k in fit)
        labels: tuple[Label, ...] = ("photograph", "inconclusive", "generated")
        return {
            label: sum(self._sightings[k].weight for k in fit if self._sightings[k].label == label) / whole
            for label in labels
        }


def _contradicted(verdict: Verdict) -> Verdict:
    """Some frames say one thing, some the other: "photograph" is not claimed of a face generated for a while."""
    reason = "the frames contradict each other: look at the timeline for the part that may have been changed"
    if verdict.label == "photograph":
        return replace(verdict, label="inconclusive", reasons=(reason, *verdict.reasons))
    return replace(verdict, reasons=(*verdict.reasons, reason))


def _alarmed(verdict: Verdict) -> Verdict:
    """Most frames are unlike known photographs: "photograph" is then not claimed."""
    if verdict.label != "photograph":
        return replace(verdict, alarm=True)
    reason = "no trace of a known generator was found, but most frames are unlike photographs: perhaps a new generator"
    return replace(verdict, alarm=True, label="inconclusive", reasons=(reason, *verdict.reasons))


def _without_stability(checker: FaceChecker) -> FaceChecker:
    """The same checker without perturbations: many frames take their place, at a tenth of the work."""
    if checker.stability == "off":
        return checker
    twin = copy.copy(checker)  # shares the networks
    twin.chains, twin.stability = (), "off"
    return twin


def _look(crop: RGB) -> npt.NDArray[np.float64]:
    """What a face looks like, coarsely: a small aligned picture in colour, zero mean, unit length."""
    step = len(crop) // _LOOK
    small = crop[: step * _LOOK, : step * _LOOK].reshape(_LOOK, step, _LOOK, step, 3).mean((1, 3))
    vector = (small - small.mean()).reshape(-1)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def _ground(checker: FaceChecker) -> dict[str, Any]:
    """Fields of a record that say with what it was made."""
    low, high, threshold = (float(v) for v in sigmoid([checker.rule.low, checker.rule.high, checker.rule.threshold]))
    return {
        "model": checker.card.identity, "face_detector": checker.face_detector.name, "version": VERSION,
        "threshold": threshold, "threshold_fpr": checker.rule.fpr, "band": (low, high), "alpha": checker.rule.alpha,
    }  # fmt: skip


def _digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file, read in blocks.

    Raises:
        UnreadableError: it cannot be read.
    """
    digest = hashlib.sha256()
    with opened(path) as (handle, _):
        while block := os.read(handle, 1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _Ahead(Generic[T]):
    """Runs an iterator in a thread, a few items ahead: decoding and checking then share two cores."""

    _END = object()

    def __init__(self, items: Iterator[T], ahead: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while (item := self._queue.get()) is not self._END:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """End the thread, wherever it is."""
        self._stopped.set()
        self._thread.join()

    def _fill(self, items: Iterator[T]) -> None:
        last: Any = self._END
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as err:  # handed to the thread that asked
            last = err
        self._put(last)

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
