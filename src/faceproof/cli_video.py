"""What `faceproof check` does with videos. As in `cli`, nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from faceproof.pipeline import FaceChecker
    from faceproof.video_check import VideoOptions
    from faceproof.video_records import VideoResult

__all__ = ["FpsOption", "ResizeOption", "ScenesOption", "Watcher", "video_options"]

FpsOption = Annotated[
    float, typer.Option("--fps", help="Videos: frames checked per second of film; 0 takes every frame.")
]
ScenesOption = Annotated[
    bool, typer.Option("--scenes", help="Videos: instead, one frame after each cut and one every 5 seconds.")
]
ResizeOption = Annotated[
    int | None,
    typer.Option(
        "--resize", metavar="PIXELS", help="Videos: shrink frames to this longer side, for speed.", show_default=False
    ),
]


def video_options(fps: float, scenes: bool, resize: int | None) -> VideoOptions:
    """Return the options of the command line.

    Raises:
        UsageError: one is wrong.
    """
    from faceproof.errors import UsageError
    from faceproof.video import Sampling
    from faceproof.video_check import VideoOptions

    if resize is not None and not 64 <= resize <= 16384:
        raise UsageError(f"--resize is a longer side of 64 to 16384 pixels, not {resize}")
    return VideoOptions(Sampling(fps, scenes), resize)


class Watcher:
    """Checks videos with a progress bar; `write` writes what was asked for about the one that is given.

    Raises:
        UsageError, OutputError: what is to be written cannot be, said before the work.
    """

    def __init__(
        self, inputs: Sequence[str], options: VideoOptions, *, annotate: str | None, timeline: str | None, json: bool
    ) -> None:
        from faceproof.errors import UsageError
        from faceproof.video import is_video
        from faceproof.video_write import check_output

        self._options, self._annotate, self._timeline, self._json = options, annotate, timeline, json
        self._last: tuple[FaceChecker, str, VideoResult] | None = None
        if (annotate or timeline) and [is_video(path) for path in inputs].count(True) != 1:
            raise UsageError("--annotate and --timeline are about one video; give exactly one")
        if annotate is not None:
            check_output(annotate)
            if any(_same_file(annotate, path) for path in inputs):
                raise UsageError(f"--annotate {annotate} is the video itself; give another file")

    def __call__(self, checker: FaceChecker, path: str) -> VideoResult:
        """Check one video."""
        from faceproof import terminal_video
        from faceproof.video_check import check_video

        with terminal_video.watched("checking", hidden=self._json) as progress:
            result = check_video(checker, path, self._options, progress=progress)
        self._last = (checker, path, result)
        return result

    def write(self) -> None:
        """Write what was asked for about the video; its verdict has been said by then."""
        if self._last is not None and self._last[2].status != "error":
            self._write(*self._last)

    def _write(self, checker: FaceChecker, path: str, result: VideoResult) -> None:
        from faceproof import terminal, terminal_video
        from faceproof.tables import write_atomically
        from faceproof.timeline import timeline_svg
        from faceproof.video_annotate import annotate_video

        if self._timeline is not None:
            write_atomically(self._timeline, timeline_svg(result) + "\n")
        if self._annotate is not None:
            with terminal_video.watched("annotating", hidden=self._json) as progress:
                annotate_video(path, result, self._annotate, self._options, limits=checker.limits, progress=progress)
        if not self._json:
            for name, file in (("timeline", self._timeline), ("annotated video", self._annotate)):
                if file is not None:
                    terminal.note(f"{name}: {file}")


def _same_file(one: str, other: str) -> bool:
    from pathlib import Path

    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):
        return False
