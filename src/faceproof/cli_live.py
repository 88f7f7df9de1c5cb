"""`faceproof live`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from faceproof.cli_options import AlphaOption, FprOption, ModelOption

if TYPE_CHECKING:
    from faceproof.live import Live
    from faceproof.live_window import Window
    from faceproof.video_write import VideoWriter

__all__ = ["live"]


def live(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="Instead of --camera: a stream's URL (http, rtsp, ...), a file or pipe, or - for standard input.",
            show_default=False,
        ),
    ] = None,
    camera: Annotated[
        int | None, typer.Option("--camera", "-c", min=0, help="Number of the camera.", show_default="0")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="No window; for pipes and machines without one.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON record a frame on standard output.")] = False,
    record: Annotated[
        str | None,
        typer.Option("--record", metavar="FILE", help="Write what is shown: .mp4, .mov, .mkv or .webm."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="Stop after so long.", show_default="never")
    ] = None,
    resize: Annotated[
        int | None, typer.Option("--resize", metavar="PIXELS", help="Shrink frames to this longer side.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds without a frame after which the source is given up.")
    ] = 10.0,
    model: ModelOption = None,
    fpr: FprOption = None,
    alpha: AlphaOption = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each network.")] = 1,
) -> None:
    """Check a camera or stream while it runs: boxes and verdicts on screen, smoothed for each person.

    Frames are dropped rather than shown late. Stop with q, Esc or Ctrl-C. Lost cameras end it with exit code 1 and
    what was found until then.
    """
    import contextlib

    from faceproof.errors import UsageError, VideoError
    from faceproof.images import Limits
    from faceproof.live import Live
    from faceproof.live_window import Window
    from faceproof.pipeline import FaceChecker
    from faceproof.video import open_frames
    from faceproof.video_write import check_output

    if source is not None and camera is not None:
        raise UsageError("give either --camera or a source, one of the two")
    if record is not None:
        check_output(record)
    with contextlib.ExitStack() as stack:
        window = None if headless or json else stack.enter_context(Window())
        checker = FaceChecker(model, fpr=fpr, alpha=alpha, threads=threads)
        what = str(camera or 0) if source is None else source
        frames = open_frames(what, limits=Limits(url_timeout=timeout), resize=resize)
        # What has an end could be read faster than it is shown.
        paced = frames.info.seconds is not None or _is_regular(what)
        running = Live(checker, frames, paced=paced, silence=timeout)
        try:
            _show(running, window, record, seconds, json=json)
        except KeyboardInterrupt:
            pass
        finally:
            if running.stop():  # a reader that hangs in its driver still uses the source
                frames.close()
    _tell(running, json=json)
    if running.problem is not None:
        raise VideoError(running.problem)


def _show(running: Live, window: Window | None, record: str | None, seconds: float | None, *, json: bool) -> None:
    """Hand every frame to the window, the file and standard output, until one of them or the source ends it."""
    import time

    from faceproof.reports import to_json
    from faceproof.video_draw import draw
    from faceproof.video_write import VideoWriter

    writer: VideoWriter | None = None
    begun: float | None = None
    try:
        for shown in running:
            begun = time.monotonic() if begun is None else begun
            pixels = shown.frame.pixels
            if window is not None or record is not None:
                pixels = draw(pixels, (face.mark() for face in shown.faces))
            if record is not None:
                if writer is None:
                    writer, first = VideoWriter(record, pixels.shape[1], pixels.shape[0]), shown.frame.seconds
                writer.write(pixels, shown.frame.seconds - first)
            if json:
                print(to_json(shown.to_dict()), flush=True)
            if window is not None and not window.show(pixels):
                return
            if seconds is not None and time.monotonic() - begun >= seconds:
                return
    finally:
        if writer is not None:
            writer.__exit__()


def _tell(running: Live, *, json: bool) -> None:
    """Say what was found, whole or partial."""
    from faceproof import terminal_video
    from faceproof.reports import to_json

    result = running.result()
    if json:
        print(to_json(result.to_dict()), flush=True)
    else:
        terminal_video.card(result)


def _is_regular(source: str) -> bool:
    """Whether a source is a file."""
    import os

    return os.path.isfile(source)
