"""Write videos: frames at their own times, and the sound of another file.

The container is the ending's (.mp4, .m4v, .mov, .mkv: H.264; .webm: VP9). A file is written beside its place and put
there when it is whole; what was written until an interruption is closed properly and kept.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import OutputError, UsageError
from faceproof.extras import require
from faceproof.video import open_container

__all__ = ["VIDEO_OUTPUTS", "VideoWriter", "check_output"]

RGB = npt.NDArray[np.uint8]

_SOUND = {
    ".mp4": ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"),
    ".mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"),
    ".mkv": ("aac", "mp3", "ac3", "eac3", "opus", "vorbis", "flac", "alac", "pcm_s16le", "dts"),
    ".webm": ("opus", "vorbis"),
}
_SOUND[".m4v"] = _SOUND[".mp4"]
VIDEO_OUTPUTS = tuple(_SOUND)
"""Endings that can be written."""
_TICK = Fraction(1, 90_000)
SMPTE_170M, LIMITED = 6, 1
"""FFmpeg's numbers for the matrix of BT.601 and for levels 16 to 235."""


def check_output(path: str | os.PathLike[str]) -> None:
    """Say early what could not be written.

    Raises:
        UsageError: another ending, or a folder. OutputError: the folder is missing or not writable.
        MissingExtraError: PyAV is not installed.
    """
    require("video")
    ending = Path(path).suffix.lower()
    if ending not in VIDEO_OUTPUTS:
        raise UsageError(f"unknown ending {ending or '(none)'!r} of {path}; known: {', '.join(VIDEO_OUTPUTS)}")
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder; give a file")
    folder = Path(path).parent
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: {folder} is no folder one can write to; make it, or choose another")


class VideoWriter:
    """Encodes frames. Use it in a `with` block: leaving it puts the file in place, by an error too if it has frames.

    Args:
        path: of the video; the ending decides the container.
        width, height: pixels of the frames; an odd side loses its last row or column, which H.264 cannot hold.
        rate: frames per second, for players that ask; frames are shown at the times given.
        sound: file or URL whose first sound stream is copied, or converted where the container cannot hold it.
        start: seconds of the first frame by that file's own clock, see `Video.start`.

    Raises:
        UsageError, OutputError, MissingExtraError: see `check_output`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        rate: float | None = None,
        sound: str | os.PathLike[str] | None = None,
        start: float = 0.0,
    ) -> None:
        check_output(path)
        self._av = require("video")
        self.path = Path(path)
        self._temporary = self.path.with_name(f".{self.path.stem}.part{self.path.suffix}")
        self._size = (width - width % 2, height - height % 2)
        self.frames, self._last = 0, -1
        with self._errors():
            self._out = self._av.open(os.fspath(self._temporary), "w")
            self._stream = self._video_stream(rate)
        self._sound = None
        if sound is not None:
            with self._errors():
                self._sound = _Sound(self._av, self._out, sound, start, _SOUND[self.path.suffix.lower()])

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._errors():
                try:
                    if self.frames:
                        self._out.mux(self._stream.encode(None))
                        if self._sound is not None:
                            self._sound.until(None)
                finally:
                    self._out.close()
                    if self._sound is not None:
                        self._sound.close()
                if self.frames:
                    os.replace(self._temporary, self.path)
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def write(self, pixels: RGB, seconds: float) -> None:
        """Write a frame (H, W, 3) uint8 RGB of the size given, shown `seconds` after the first.

        Raises:
            OutputError: the disk is full or the file cannot be written.
        """
        width, height = self._size
        tick = max(self._last + 1, round(seconds / _TICK))
        with self._errors():
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            frame.pts, frame.time_base = tick, _TICK
            self._out.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.until(seconds)
        self._last = tick
        self.frames += 1

    def _video_stream(self, rate: float | None) -> Any:
        webm = self.path.suffix.lower() == ".webm"
        usual = rate is not None and 1 <= rate <= 240  # headers announce 90,000 where they do not know
        whole = Fraction(rate if rate is not None and usual else 30.0).limit_denominator(1001)
        stream = self._out.add_stream("libvpx-vp9" if webm else "libx264", rate=whole)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TICK
        # How RGB becomes YUV by default, said aloud: players take large pictures for BT.709 otherwise.
        stream.codec_context.colorspace, stream.codec_context.color_range = SMPTE_170M, LIMITED
        fast = {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"}
        stream.options = fast if webm else {"preset": "veryfast", "crf": "20"}
        return stream

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (self._av.FFmpegError, OSError, ValueError) as err:
            detail = " ".join(str(getattr(err, "strerror", None) or err).split())[:160]
            raise OutputError(
                f"cannot write the video {self.path}: {detail}; check the folder and the space left"
            ) from err


class _Sound:
    """The first sound stream of a file, moved along with the pictures."""

    def __init__(
        self, av: Any, out: Any, source: str | os.PathLike[str], start: float, copied: tuple[str, ...]
    ) -> None:
        self._av, self._out, self._start = av, out, start
        self._container = open_container(source)
        streams = self._container.streams.audio
        self._input = streams[0] if streams else None
        self._waiting: Any = None
        self._encode = False
        if self._input is None:
            return
        # Sound that cannot be decoded here is copied or left out, never a reason to give no pictures.
        context = self._input.codec_context
        name = "" if context is None else context.name.removesuffix("float")
        if name in copied:
            self._output = out.add_stream_from_template(self._input)
        elif context is not None:
            self._encode = True
            codec = "libopus" if "opus" in copied and "aac" not in copied else "aac"
            self._output = out.add_stream(codec, rate=48_000 if codec == "libopus" else context.sample_rate)
        else:
            self._input = None
            return
        self._packets = self._container.demux(self._input)

    def until(self, seconds: float | None) -> None:
        """Write what is heard until then; None: all that is left."""
        while self._input is not None:
            packet = self._waiting or self._next()
            self._waiting = None
            if packet is None:
                self._finish()
                return
            if packet.dts is None and not self._encode:
                continue  # the last, empty one, or one whose time is lost
            at = None if packet.dts is None else float(packet.dts * packet.time_base) - self._start
            if seconds is not None and at is not None and at > seconds:
                self._waiting = packet
                return
            self._pass_on(packet)

    def close(self) -> None:
        """Let the source go."""
        self._container.close()

    def _next(self) -> Any:
        try:
            return next(self._packets, None)
        except (self._av.FFmpegError, OSError):
            return None  # the source breaks off here

    def _pass_on(self, packet: Any) -> None:
        if self._encode:
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                return  # a damaged packet is silence
            for frame in frames:
                shift = round(self._start / frame.time_base) if frame.time_base else 0
                frame.pts = None if frame.pts is None else max(0, frame.pts - shift)
                self._out.mux(self._output.encode(frame))
            return
        shift = round(self._start / packet.time_base)
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        packet.stream = self._output
        self._out.mux(packet)

    def _finish(self) -> None:
        if self._encode:
            self._out.mux(self._output.encode(None))
        self._input = None
