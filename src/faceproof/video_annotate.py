"""A copy of a video with boxes and verdicts drawn into every frame, and its sound."""

from __future__ import annotations

import bisect
import itertools
import math
import os
from collections.abc import Callable

from faceproof.images import Limits
from faceproof.video import Sampling, Video
from faceproof.video_check import VideoOptions
from faceproof.video_draw import Mark, draw
from faceproof.video_records import Track, VideoResult
from faceproof.video_write import VideoWriter

__all__ = ["annotate_video", "box_at"]

Box = tuple[float, float, float, float]

HOLD = 0.75
"""Seconds a box stays after its track was last seen, and half the gap it bridges; more for rarer samples."""


def annotate_video(
    source: str | os.PathLike[str],
    result: VideoResult,
    out: str | os.PathLike[str],
    options: VideoOptions | None = None,
    *,
    limits: Limits | None = None,
    progress: Callable[[float, float | None], None] = lambda seconds, whole: None,
) -> None:
    """Write `source` again with what `result` says about it; every frame is kept, at its time.

    Boxes move evenly between the frames that were checked. Colour and words are the track's verdict.

    Args:
        source: the file that was checked.
        result: of it. options: with which it was checked; frames are as large as then.
        out: .mp4, .m4v, .mov, .mkv or .webm; replaced as a whole.
        limits: what a frame may cost.
        progress: called with the seconds done and the length.

    Raises:
        OutputError, UsageError: it cannot be written.
        PictureError: the video cannot be read any more.
    """
    options = options or VideoOptions()
    with Video(source, limits=limits, resize=options.resize) as video:
        frames = video.frames(Sampling(fps=0))
        first = next(frames)
        height, width = first.pixels.shape[:2]
        sound = source if video.info.audio else None
        with VideoWriter(out, width, height, rate=video.info.rate, sound=sound, start=video.start) as writer:
            hold, cut = max(HOLD, options.sampling.interval), -math.inf
            for frame in itertools.chain([first], frames):
                cut = frame.seconds if frame.cut else cut
                writer.write(draw(frame.pixels, _marks(result, frame.seconds, hold, cut)), frame.seconds)
                progress(frame.seconds, video.info.seconds)


def box_at(track: Track, seconds: float, hold: float = HOLD, cut: float = -math.inf) -> Box | None:
    """Return where a track's face is at a time, between its sightings; None where it is not seen.

    Args:
        track: of the video.
        seconds: of the frame.
        hold: see `HOLD`.
        cut: seconds of the last cut up to now: nobody is shown across it.

    Returns:
        x0, y0, x1, y1 in pixels.
    """
    sightings = track.sightings
    hold *= round(track.seen / len(sightings))  # a long track keeps one sighting in two, four, ...
    place = bisect.bisect_right(sightings, seconds, key=lambda sighting: sighting.seconds)
    before = sightings[place - 1] if place else None
    after = sightings[place] if place < len(sightings) else None
    if before is not None and after is not None and after.seconds - before.seconds <= 2 * hold:
        share = (seconds - before.seconds) / (after.seconds - before.seconds)
        a, b = before.box, after.box
        return (
            a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]),
            a[2] + share * (b[2] - a[2]), a[3] + share * (b[3] - a[3]),
        )  # fmt: skip
    if before is not None and seconds - before.seconds <= hold and before.seconds >= cut:
        return before.box
    # The frames between a cut and the first one checked behind it.
    if after is not None and after.seconds - hold <= cut <= seconds:
        return after.box
    return None


def _marks(result: VideoResult, seconds: float, hold: float, cut: float) -> list[Mark]:
    marks = []
    for track in result.tracks:
        box = box_at(track, seconds, hold, cut)
        if box is not None:
            verdict = track.face.verdict
            text = f"{track.number}: {verdict.label} {verdict.probability:.2f}"
            marks.append(Mark(box, verdict.label, text, faint=not track.judged))
    return marks
