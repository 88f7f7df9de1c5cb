"""What is said about a video: one verdict per person that was followed through it, and when each was seen.

`VideoResult.to_dict()` has every field of a picture's record, so that results of pictures and videos lie in one
file: `faces` holds one face per track, as it was seen best, with the track's verdict. `video` holds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

from faceproof.errors import UsageError
from faceproof.records import STATUSES, Face, ImageResult, Label, Status

__all__ = ["ENOUGH", "VIDEO_SCHEMA", "AnyResult", "FrameCounts", "Sighting", "Track", "VideoResult"]

VIDEO_SCHEMA = "faceproof.video/1"
ENOUGH = 3
"""Judged faces a track needs to speak for a video in which another track has as many."""


@dataclass(frozen=True)
class Sighting:
    """A tracked face in one sampled frame.

    Attributes:
        index, seconds: of the frame.
        box: x0, y0, x1, y1 in pixels of the upright frame as checked.
        log_odds: of generated, natural, of this face alone. probability: the same, 0 to 1.
        weight: what it counts for in the track's verdict, 0 to 1; 0 for a face that fails quality.
        label: the answer for this face alone.
        quality: codes of what it fails, see `QualityReason`.
    """

    index: int
    seconds: float
    box: tuple[float, float, float, float]
    log_odds: float
    probability: float
    weight: float
    label: Label
    quality: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or not 0 <= self.probability <= 1:
            raise UsageError(f"weight and probability lie in 0..1, not {self.weight}, {self.probability}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "frame": self.index,
            "seconds": round(self.seconds, 3),
            "box": [round(float(v), 1) for v in self.box],
            "log_odds": round(float(self.log_odds), 4),
            "probability": round(float(self.probability), 4),
            "weight": round(float(self.weight), 3),
            "verdict": self.label,
            "quality": list(self.quality),
        }


@dataclass(frozen=True)
class Track:
    """One person from the first to the last time seen without a break.

    Attributes:
        number: counted from 1, in the order of appearance.
        face: as seen best (largest weight), with the track's verdict.
        sightings: in the order of time; of a very long track evenly thinned.
        seen: in how many sampled frames. judged: in how many of them it was fit to be judged.
        best: seconds of the frame `face` is from.
    """

    number: int
    face: Face
    sightings: tuple[Sighting, ...]
    seen: int
    judged: int
    best: float

    def __post_init__(self) -> None:
        if not self.sightings or not 0 <= self.judged <= self.seen or self.seen < len(self.sightings):
            raise UsageError("a track has been seen at least once, and judged at most as often")

    @property
    def first(self) -> float:
        """Seconds of the first sighting."""
        return self.sightings[0].seconds

    @property
    def last(self) -> float:
        """Seconds of the last sighting."""
        return self.sightings[-1].seconds

    def to_dict(self) -> dict[str, Any]:
        """Return what a record's `video` holds about it; the verdict stands in the record's `faces`."""
        return {
            "track": self.number,
            "first": round(self.first, 3),
            "last": round(self.last, 3),
            "best": round(self.best, 3),
            "seen": self.seen,
            "judged": self.judged,
            "timeline": [sighting.to_dict() for sighting in self.sightings],
        }


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames.

    Attributes:
        read: decoded. used: checked. damaged: packets or frames that could not be decoded.
        dropped: wanted and not checked (a live picture is dropped rather than shown late).
        faces: found in the used frames. unclear: of them, those that two people could claim, used for neither.
    """

    read: int = 0
    used: int = 0
    damaged: int = 0
    dropped: int = 0
    faces: int = 0
    unclear: int = 0


@dataclass(frozen=True)
class VideoResult:
    """What is said about one video.

    Attributes:
        path, status, sha256, error, notes, threshold, threshold_fpr, band, alpha, model, face_detector, version:
            as in `ImageResult`. A video that breaks off keeps what was found; `notes` say where it broke.
        width, height: pixels of the upright frames as checked.
        seconds: of the last frame read.
        container, codec: FFmpeg's names.
        frames: what became of the frames.
        tracks: in the order of appearance.
    """

    path: str
    status: Status
    model: str
    face_detector: str
    version: str
    threshold: float
    threshold_fpr: float
    band: tuple[float, float]
    alpha: float | None = None
    sha256: str | None = None
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    container: str = ""
    codec: str = ""
    frames: FrameCounts = FrameCounts()
    tracks: tuple[Track, ...] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise UsageError(f"unknown status {self.status!r}; known: {', '.join(STATUSES)}")
        if (self.status == "error") != (self.error is not None):
            raise UsageError("an error has a message and nothing else has one")
        if (self.status == "ok") != bool(self.tracks):
            raise UsageError("status ok means at least one track")

    @property
    def faces(self) -> tuple[Face, ...]:
        """One face per track, as it was seen best, with the track's verdict."""
        return tuple(track.face for track in self.tracks)

    @property
    def decisive(self) -> Track | None:
        """The track that speaks for the video: the most suspicious of those that were judged often enough.

        A face seen once or twice decides only where none was seen more often: with many tracks, single frames
        would raise false alarms.
        """
        judged = [track for track in self.tracks if track.judged]
        needed = min(ENOUGH, max((track.judged for track in judged), default=0))
        often = [track for track in judged if track.judged >= needed]
        return max(often, key=lambda track: track.face.verdict.log_odds, default=None)

    @property
    def by_suspicion(self) -> tuple[Track, ...]:
        """The tracks: the one that speaks for the video, then the most suspicious, those never judged last."""
        first = self.decisive
        order = sorted(self.tracks, key=lambda t: (t is not first, t.judged == 0, -t.face.verdict.log_odds))
        return tuple(order)

    @property
    def verdict(self) -> Label | None:
        """The video's verdict; "inconclusive" when no face was fit; None without any face."""
        if self.decisive is not None:
            return self.decisive.face.verdict.label
        return "inconclusive" if self.tracks else None

    def to_dict(self) -> dict[str, Any]:
        """Return the record: the fields of a picture's, and `video`."""
        track = self.decisive
        said = None if track is None else track.face.verdict
        counts = self.frames
        return {
            "path": self.path,
            "sha256": self.sha256,
            "status": self.status,
            "error": self.error,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "score": None if said is None else round(said.score, 6),
            "log_odds": None if said is None else round(said.log_odds, 6),
            "probability": None if said is None else round(said.probability, 6),
            "verdict": self.verdict,
            "alarm": None if said is None else said.alarm,
            "threshold": round(self.threshold, 6),
            "threshold_fpr": self.threshold_fpr,
            "band": [round(v, 6) for v in self.band],
            "alpha": self.alpha,
            "notes": list(self.notes),
            "model": self.model,
            "face_detector": self.face_detector,
            "version": self.version,
            "schema": VIDEO_SCHEMA,
            "video": {
                "seconds": round(self.seconds, 3),
                "container": self.container,
                "codec": self.codec,
                "decisive": None if track is None else track.number,
                "frames": {
                    "read": counts.read, "used": counts.used, "damaged": counts.damaged, "dropped": counts.dropped,
                    "faces": counts.faces, "unclear": counts.unclear,
                },
                "tracks": [one.to_dict() for one in self.tracks],
            },
        }  # fmt: skip


AnyResult = Union[ImageResult, VideoResult]
