"""Frames of a file, a stream or a camera: one at a time, upright, at the times they are shown.

Every input is hostile. Only containers of `FORMATS` are parsed, so that no playlist inside a file makes FFmpeg open
other files or addresses; nothing larger than the limits is decoded; damaged packets are counted and passed over.
Memory holds one frame, however long the video is. PyAV (FFmpeg) decodes files and streams, OpenCV reads cameras.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.camera import Camera
from faceproof.errors import NotAPictureError, TooLargeError, UnreadableError, UsageError, VideoError
from faceproof.extras import require
from faceproof.images import Limits, opened, printable
from faceproof.video_frames import Choice, Cuts, Frame, Frames, Sampling, VideoInfo

__all__ = [
    "SCHEMES", "VIDEO_SUFFIXES", "Frame", "Frames", "Sampling", "Video", "VideoInfo", "is_video", "open_container",
    "open_frames",
]  # fmt: skip

RGB = npt.NDArray[np.uint8]

_ENDINGS = ".mp4 .m4v .mov .qt .3gp .3g2 .webm .mkv .avi .mpg .mpeg .mts .m2ts .flv .ogv .wmv .asf"
VIDEO_SUFFIXES = frozenset(_ENDINGS.split())
"""Endings that make a file a video when a folder is walked; not .ts, which mostly is TypeScript. Content decides how a
file is decoded."""

FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,ogg,asf,h264,hevc,m4v,mjpeg,yuv4mpegpipe"
"""Containers read from files and pipes, by FFmpeg's names."""
STREAM_FORMATS = f"{FORMATS},mpjpeg,hls,rtsp,rtp,sdp,live_flv"
STREAM_PROTOCOLS = "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,srt,crypto"
"""What a stream's address may lead to; never a file of this machine."""
SCHEMES = ("http://", "https://", "rtsp://", "rtsps://", "rtmp://", "rtmps://", "rtp://", "udp://", "tcp://", "srt://")

MOST_FAILURES = 250
"""Packets in a row that cannot be decoded before a video is given up."""
BACKWARDS = 1.0
"""Seconds by which times may go back as an accident; beyond, the stream was spliced and its clock begins anew."""
_GRID = (36, 64)


def is_video(path: str | os.PathLike[str]) -> bool:
    """Return whether a path or URL should be read as a video.

    A file's first bytes decide; where they are no picture's and no video's, its ending does. Of a URL only the
    ending of its path is looked at.
    """
    name = os.fspath(path)
    if name.lower().startswith(SCHEMES):
        whole = name.split("?")[0].split("#")[0]
        return not name.lower().startswith("http") or os.path.splitext(whole)[1].lower() in VIDEO_SUFFIXES
    ending = os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES
    try:
        with opened(path) as (handle, _):
            head = os.read(handle, 512)
    except UnreadableError:
        return ending
    if _video_head(head):
        return True
    return ending and not _picture_head(head)


def _video_head(head: bytes) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    transport = len(head) > 376 and head[0] == head[188] == head[376] == 0x47
    return transport or head[4:8] in (b"moov", b"mdat", b"wide") or head.startswith(_STARTS)


_STARTS = (
    b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"YUV4MPEG2",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
)  # fmt: skip
"""Matroska and WebM, Flash, Ogg, MPEG program and video streams, Y4M, ASF."""


def _picture_head(head: bytes) -> bool:
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def open_container(source: str | os.PathLike[str], *, timeout: float = 10.0, pipes: bool = False) -> Any:
    """Open a file or stream with PyAV, so that it leads to nothing else.

    Args:
        source: path, or URL of one of `SCHEMES`.
        timeout: seconds without an answer from a server.
        pipes: take pipes too, and "-" for standard input.

    Raises:
        PictureError: it cannot be opened. MissingExtraError: PyAV is not installed.
        FFmpegError, OSError, ValueError: its content is refused; for `Video` to put into words.
    """
    av, name = require("video"), os.fspath(source)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file,pipe"}
    if name.lower().startswith(SCHEMES):
        options = {"format_whitelist": STREAM_FORMATS, "protocol_whitelist": STREAM_PROTOCOLS}
        if name.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # lost datagrams are torn pictures
        return av.open(name, options=options, timeout=timeout)
    if pipes and name == "-":
        return av.open(sys.stdin.buffer, options=options)
    if not (pipes and _is_pipe(name)):
        with opened(name) as (_, size):
            if not size:
                raise NotAPictureError("the file is empty (0 bytes); get the original file again")
    # "file:" keeps FFmpeg from reading names such as "concat:..." as protocols.
    return av.open("file:" + name, options=options)


class Video:
    """A file, pipe or stream, decoded with PyAV. Use it in a `with` block.

    Args:
        source: path, or a URL of one of `SCHEMES`. Pipes only with `live`, where "-" is standard input.
        limits: `max_pixels` a frame may have; `url_timeout` seconds without an answer from a server. Length and
            bytes are not limited, because they are never held.
        resize: longer side in pixels to shrink frames to; None leaves them.
        live: take pipes too, and decode without delay.

    Attributes:
        name, read, damaged, problem: see `Frames`.
        start: seconds of the first frame by the file's own clock; 0 before it was decoded.

    Raises:
        PictureError: it cannot be used, with the reason.
        MissingExtraError: PyAV is not installed.
        UsageError: `resize` is not sensible.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        limits: Limits | None = None,
        resize: int | None = None,
        live: bool = False,
    ) -> None:
        _check_resize(resize)
        self._av = require("video")
        self.limits, self.resize, self._live = limits or Limits(), resize, live
        self.name = printable(source)
        self.read = self.damaged = 0
        self.problem: str | None = None
        self.start = self._last = self._until = 0.0
        self._size = (0, 0)
        with self._foreign_errors():
            self._container = open_container(source, timeout=self.limits.url_timeout, pipes=live)
        try:
            self._stream = self._video_stream()
            self._info = self._header()
            self._remote = self.name.lower().startswith(SCHEMES)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def info(self) -> VideoInfo:
        """What the header says."""
        return self._info

    def close(self) -> None:
        """Let the file or stream go."""
        self._container.close()

    def frames(self, sampling: Sampling) -> Iterator[Frame]:
        """Yield the frames that `sampling` takes, in the order they are shown. Once.

        Damage in the middle is passed over and counted (`damaged`); where nothing more can be read, the iteration
        ends and `problem` says why.

        Raises:
            TooLargeError: a frame has more pixels than the limits allow.
            VideoError: not a single frame could be decoded.
        """
        choose, cuts = Choice(sampling), Cuts()
        for frame in self._decoded():
            if not self.read:
                self._begin(frame)
            seconds = self._shown_at(frame)
            self.read += 1
            cuts.see(self._luma(frame))
            if choose.takes(seconds, cuts.cut):
                yield Frame(self.read - 1, seconds, self._pixels(frame), cuts.taken())
        if not self.read:
            raise VideoError(self.problem or "the video stream holds not a single frame; get the original file again")
        if self.problem is None:
            self.problem = self._missing_end()

    def _video_stream(self) -> Any:
        streams = [s for s in self._container.streams.video if not _is_cover(s)]
        if not streams:
            sound = " (it holds sound only)" if self._container.streams.audio else ""
            raise VideoError(f"no video stream in this file{sound}; give a file with moving pictures")
        known = [s for s in streams if s.codec_context is not None]
        if not known:
            raise VideoError("no decoder for the codec of this video; convert it, such as to H.264 in MP4")
        stream = max(known, key=lambda s: (s.width or 0) * (s.height or 0))
        # Threads that work on several frames at once give each of them out later.
        stream.thread_type = "SLICE" if self._live else "AUTO"
        stream.codec_context.options = {"max_pixels": str(self.limits.max_pixels)}
        self._check_size(stream.width, stream.height)
        return stream

    def _header(self) -> VideoInfo:
        stream, container = self._stream, self._container
        length = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        length = _clock(stream.metadata.get("DURATION")) if length is None else length
        if length is None and container.duration:
            length = Fraction(container.duration, self._av.time_base)
        rate = float(stream.average_rate) if stream.average_rate else None
        width, height = self._square(stream.width, stream.height)
        # Rotation is known with the first frame.
        return VideoInfo(
            width, height, container.format.name.split(",")[0], stream.codec_context.name,
            float(length) if length is not None and length > 0 else None, rate, 0, bool(container.streams.audio),
        )  # fmt: skip

    def _square(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in square pixels: DV, DVD and AVCHD store pictures squeezed."""
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or 1
        return (max(1, round(width * aspect)) if Fraction(1, 4) <= aspect <= 4 else width), height

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.limits.max_pixels:
            raise TooLargeError(
                f"frames of {width} x {height} = {width * height / 1e6:.0f} megapixels, over the limit of "
                f"{self.limits.max_pixels / 1e6:.0f}; raise it with --max-pixels (Limits.max_pixels) if you trust it"
            )

    def _decoded(self) -> Iterator[Any]:
        """Frames in the order they are shown; damage is counted and passed over."""
        failures = 0
        packets = self._container.demux(self._stream)
        while failures < MOST_FAILURES:
            try:
                packet = next(packets)
            except (StopIteration, EOFError):
                return
            except IndexError:
                # Damage has made FFmpeg find a stream that was not there when PyAV listed them.
                self.damaged += 1
                failures += 1
                packets = self._container.demux(self._stream)
                continue
            except (self._av.FFmpegError, OSError) as err:
                begun = f"the stream ended after {self._last:.1f} s: " if self._remote and self.read else ""
                self.problem = begun + self._words(err)
                return
            try:
                frames = packet.decode()
            except EOFError:
                return
            except (self._av.FFmpegError, OSError, ValueError) as err:
                self.damaged += 1
                failures += 1
                if not self.read:
                    self.problem = self._words(err)
                continue
            failures = 0 if frames else failures
            for frame in frames:
                if frame.is_corrupt:  # what a decoder makes up for lost data is nobody's face
                    self.damaged += 1
                else:
                    yield frame
        self.problem = f"{failures} packets in a row could not be decoded; get the original file again"

    def _begin(self, frame: Any) -> None:
        """Take from the first frame what holds for all: where the clock starts, turn and size."""
        self.start = self._own_time(frame) or 0.0
        self._offset = self.start
        turned = round((getattr(frame, "rotation", 0) or 0) / 90) * 90 % 360
        self._size = width, height = self._square(frame.width, frame.height)
        if turned in (90, 270):
            width, height = height, width
        self._info = replace(self._info, rotation=turned, width=width, height=height)
        longer = max(width, height)
        if self.resize is not None and longer > self.resize:
            shrunk = (max(1, round(side * self.resize / longer)) for side in self._size)
            self._size = (next(shrunk), next(shrunk))

    def _own_time(self, frame: Any) -> float | None:
        """Seconds by the file's clock; AVI and others tell when to decode only, which comes to the same."""
        if frame.time is not None:
            return float(frame.time)
        return None if frame.dts is None or frame.time_base is None else float(frame.dts * frame.time_base)

    def _shown_at(self, frame: Any) -> float:
        """Seconds after the first frame. Broken time stamps neither go back nor stop the clock for good."""
        step = 1 / (self._info.rate or 25.0)
        own = self._own_time(frame)
        if own is None:
            seconds = self._last + step if self.read else 0.0
        else:
            if own - self._offset < self._last - BACKWARDS:
                self._offset = own - (self._last + step)
            seconds = max(self._last, own - self._offset)
        self._last = seconds
        lasts = getattr(frame, "duration", 0) or 0
        self._until = seconds + (float(lasts * frame.time_base) if frame.time_base else 0.0)
        return seconds

    def _pixels(self, frame: Any) -> RGB:
        self._check_size(frame.width, frame.height)
        self._check_size(*self._size)
        # All frames get the first one's size: streams may change theirs on the way.
        if (frame.width, frame.height) != self._size:
            way = "AREA" if self._size[0] < frame.width else "BICUBIC"
            frame = frame.reformat(*self._size, "rgb24", interpolation=way)
        pixels = frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(pixels, self._info.rotation // 90))

    def _luma(self, frame: Any) -> npt.NDArray[np.float32]:
        """A coarse grid of luma: straight from the plane where it is 8-bit, converted otherwise."""
        plane, component = frame.planes[0], frame.format.components[0]
        plain = frame.format.name.startswith(("yuv", "nv12", "gray")) and component.bits == 8
        if plain and frame.format.is_planar and plane.line_size >= frame.width:
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            ys, xs = (np.linspace(0, side - 1, n).astype(int) for side, n in zip(
                (frame.height, frame.width), _GRID, strict=True))  # fmt: skip
            return np.asarray(rows[np.ix_(ys, xs)], np.float32)
        grey = frame.reformat(_GRID[1], _GRID[0], "gray", interpolation="FAST_BILINEAR")
        return np.asarray(grey.to_ndarray(), np.float32)

    def _missing_end(self) -> str | None:
        """Hold what was read against the length that the header announces."""
        expected = self._info.seconds
        if expected is None and self._remote:
            return f"the stream ended after {self._last:.1f} s: its sender closed it"
        if expected is None or self._until >= 0.95 * expected - 1.0:
            return None
        return (
            f"the pictures break off after {self._until:.1f} s of the {expected:.1f} s the header announces: "
            "probably truncated or damaged; get the original file again"
        )

    @contextlib.contextmanager
    def _foreign_errors(self) -> Iterator[None]:
        try:
            yield
        except self._av.FFmpegError as err:
            raise VideoError(self._words(err)) from err
        except (OSError, ValueError) as err:
            raise VideoError(f"cannot be opened as a video ({_one_line(err)}); check the path or address") from err

    def _words(self, err: BaseException) -> str:
        """Say in words what FFmpeg's error code means."""
        error = self._av.error
        # FFmpeg calls a container that is not on the list an invalid argument.
        if isinstance(err, (error.InvalidDataError, error.ArgumentError, error.EOFError)):
            return (
                "not a video in a container we read, or its data are damaged or truncated; get the original file again"
            )
        if isinstance(err, (error.HTTPError, error.ProtocolNotFoundError, ConnectionError)):
            return f"the stream cannot be reached ({_one_line(err.args[-1] if err.args else err)}); check its address"
        if isinstance(err, (error.ExitError, TimeoutError)):
            return f"no answer within {self.limits.url_timeout:g} s; check the address and the network"
        detail = getattr(err, "strerror", None) or err
        return f"the video cannot be read ({_one_line(detail)}); check the file or address"


def open_frames(source: str, *, limits: Limits | None = None, resize: int | None = None) -> Frames:
    """Open a camera (digits), a stream's address, a file, a pipe, or standard input ("-").

    Raises:
        PictureError: it cannot be used. UsageError, MissingExtraError: see `Video`.
    """
    if source.isascii() and source.isdigit() and not os.path.lexists(source):
        _check_resize(resize)
        return Camera(int(source), resize=resize)
    return Video(source, limits=limits, resize=resize, live=True)


def _check_resize(resize: int | None) -> None:
    if resize is not None and not 64 <= resize <= 16384:
        raise UsageError(f"frames can be shrunk to a longer side of 64 to 16384 pixels, not {resize}")


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is the picture on a song's cover."""
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and "attached_pic" in str(disposition)


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _clock(text: str | None) -> Fraction | None:
    """Seconds of Matroska's "00:01:02.500000000"; its own length is that of the longest stream."""
    try:
        hours, minutes, seconds = (text or "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def _one_line(text: object) -> str:
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))[:160]
