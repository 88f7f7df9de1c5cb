"""Frames of a file, a stream or a camera: one at a time, upright, at the times they are shown.

Every input is hostile. Only containers of `FORMATS` are parsed, so that no playlist inside a file makes FFmpeg open
other files or addresses; nothing larger than the limits is decoded; damaged packets are counted and passed over.
Memory holds one frame, however long the video is. PyAV (FFmpeg) decodes files and streams, OpenCV reads cameras.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from faceproof.errors import NotAPictureError, TooLargeError, UnreadableError, UsageError, VideoError
from faceproof.extras import opencv, require
from faceproof.images import Limits, opened, printable

__all__ = [
    "VIDEO_SUFFIXES", "Camera", "Frame", "Frames", "Sampling", "Video", "VideoInfo", "is_video", "open_frames",
]  # fmt: skip

RGB = npt.NDArray[np.uint8]

_ENDINGS = ".mp4 .m4v .mov .qt .3gp .3g2 .webm .mkv .avi .mpg .mpeg .ts .mts .m2ts .flv .ogv .wmv .asf"
VIDEO_SUFFIXES = frozenset(_ENDINGS.split())
"""Endings that make a file a video when a folder is walked. Content decides how it is decoded."""

FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,ogg,asf,h264,hevc,m4v,mjpeg,yuv4mpegpipe"
"""Containers read from files and pipes, by FFmpeg's names."""
STREAM_FORMATS = f"{FORMATS},mpjpeg,hls,rtsp,rtp,sdp,live_flv"
STREAM_PROTOCOLS = "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,srt,crypto"
"""What a stream's address may lead to; never a file of this machine."""
SCHEMES = ("http://", "https://", "rtsp://", "rtsps://", "rtmp://", "rtmps://", "rtp://", "udp://", "tcp://", "srt://")

MOST_FAILURES = 250
"""Packets in a row that cannot be decoded before a video is given up."""
CUT = 20.0
"""Mean change of luma, in 8-bit levels, that counts as a cut; see `_Cuts`."""
LONGEST_SCENE = 5.0
"""Seconds after which a scene without a cut gives another frame."""
_GRID = (36, 64)


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


class Video:
    """A file, pipe or stream, decoded with PyAV. Use it in a `with` block.

    Args:
        source: path, or a URL of one of `SCHEMES`. Pipes only with `live`, where "-" is standard input.
        limits: `max_pixels` a frame may have; `url_timeout` seconds without an answer from a server. Length and
            bytes are not limited, because they are never held.
        resize: longer side in pixels to shrink frames to; None leaves them.
        live: take pipes too.

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
        if resize is not None and not 64 <= resize <= 16384:
            raise UsageError(f"frames can be shrunk to a longer side of 64 to 16384 pixels, not {resize}")
        self._av = require("video")
        self.limits, self.resize = limits or Limits(), resize
        self.name = printable(source)
        self.read = self.damaged = 0
        self.problem: str | None = None
        self._last = 0.0
        with self._foreign_errors():
            self._container = self._opened(os.fspath(source), live)
        try:
            self._stream = self._video_stream()
            self._info = self._header()
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
        choose, cuts = _Choice(sampling), _Cuts()
        for frame in self._decoded():
            seconds = self._shown_at(frame)
            self.read += 1
            cuts.see(self._luma(frame))
            if choose.takes(seconds, cuts.cut):
                yield Frame(self.read - 1, seconds, self._pixels(frame), cuts.taken())
        if not self.read:
            raise VideoError(self.problem or "the video stream holds not a single frame; get the original file again")
        self._seek_missing_end()

    def _opened(self, source: str, live: bool) -> Any:
        timeout = self.limits.url_timeout
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file,pipe"}
        if source.lower().startswith(SCHEMES):
            options = {"format_whitelist": STREAM_FORMATS, "protocol_whitelist": STREAM_PROTOCOLS}
            if source.lower().startswith("rtsp"):
                options["rtsp_transport"] = "tcp"  # lost datagrams are torn pictures
            return self._av.open(source, options=options, timeout=timeout)
        if live and source == "-":
            return self._av.open(sys.stdin.buffer, options=options)
        if not (live and _is_pipe(source)):
            with opened(source) as (_, size):
                if not size:
                    raise NotAPictureError("the file is empty (0 bytes); get the original file again")
        # "file:" keeps FFmpeg from reading names such as "concat:..." as protocols.
        return self._av.open("file:" + source, options=options)

    def _video_stream(self) -> Any:
        streams = [s for s in self._container.streams.video if not _is_cover(s)]
        if not streams:
            sound = " (it holds sound only)" if self._container.streams.audio else ""
            raise VideoError(f"no video stream in this file{sound}; give a file with moving pictures")
        stream = max(streams, key=lambda s: (s.width or 0) * (s.height or 0))
        if stream.codec_context is None:
            raise VideoError("no decoder for the codec of this video; convert it, such as to H.264 in MP4")
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(self.limits.max_pixels)}
        self._check_size(stream.width, stream.height)
        return stream

    def _header(self) -> VideoInfo:
        stream, container = self._stream, self._container
        length = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if length is None and container.duration:
            length = container.duration / self._av.time_base
        rate = float(stream.average_rate) if stream.average_rate else None
        name = container.format.name.split(",")[0]
        audio = bool(container.streams.audio)
        # Rotation is known with the first frame.
        return VideoInfo(
            stream.width, stream.height, name, stream.codec_context.name, None if length is None else float(length),
            rate, 0, audio,
        )  # fmt: skip

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
            except (self._av.FFmpegError, OSError) as err:
                self.problem = self._words(err)
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
            yield from frames
        self.problem = f"{failures} packets in a row could not be decoded; get the original file again"

    def _shown_at(self, frame: Any) -> float:
        """Seconds after the first frame. Broken time stamps neither go back nor stop the clock for good."""
        rate = self._info.rate or 25.0
        if not self.read:
            self._start = None if frame.time is None else float(frame.time)
            turned = round((getattr(frame, "rotation", 0) or 0) / 90) * 90 % 360
            self._turn(turned)
        if frame.time is None or self._start is None:
            seconds = self._last + 1 / rate if self.read else 0.0
        else:
            seconds = max(self._last, float(frame.time) - self._start)
        self._last = seconds
        return seconds

    def _turn(self, degrees: int) -> None:
        from dataclasses import replace

        info = replace(self._info, rotation=degrees)
        if degrees in (90, 270):
            info = replace(info, width=info.height, height=info.width)
        self._info = info

    def _pixels(self, frame: Any) -> RGB:
        self._check_size(frame.width, frame.height)
        width, height = frame.width, frame.height
        longer = max(width, height)
        if self.resize is not None and longer > self.resize:
            width, height = (max(1, round(side * self.resize / longer)) for side in (width, height))
            frame = frame.reformat(width, height, "rgb24", interpolation="AREA")
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
            return rows[ys][:, xs].astype(np.float32)
        grey = frame.reformat(_GRID[1], _GRID[0], "gray", interpolation="FAST_BILINEAR")
        return np.asarray(grey.to_ndarray(), np.float32)

    def _seek_missing_end(self) -> None:
        """Hold what was read against the length that the header announces."""
        expected = self._info.seconds
        if self.problem is None and expected is not None and self._last < 0.95 * expected - 1.0:
            self.problem = (
                f"the video breaks off after {self._last:.1f} s of the {expected:.1f} s its header announces: "
                "truncated or damaged; get the original file again"
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
        if isinstance(err, error.InvalidDataError):
            return (
                "not a video in a container we read, or its data are damaged or truncated; get the original file again"
            )
        if isinstance(err, (error.HTTPError, error.ProtocolNotFoundError, ConnectionError)):
            return f"the stream cannot be reached ({_one_line(err.args[-1] if err.args else err)}); check its address"
        if isinstance(err, (error.ExitError, TimeoutError)):
            return f"no answer within {self.limits.url_timeout:g} s; check the address and the network"
        detail = getattr(err, "strerror", None) or err
        return f"the video cannot be read ({_one_line(detail)}); check the file or address"


class Camera:
    """A camera of this machine, read with OpenCV.

    Args:
        number: 0 for the first.

    Raises:
        VideoError: there is none of that number, or it gives no picture.
    """

    def __init__(self, number: int) -> None:
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
        if not good:
            self._capture.release()
            raise VideoError(
                f"camera {number} gives no picture: in use by another program, not permitted, or not there; "
                "close the other program, or give another number"
            )
        height, width = first.shape[:2]
        self._info = VideoInfo(width, height, "camera", "camera")

    @property
    def info(self) -> VideoInfo:
        """Size of its pictures."""
        return self._info

    def frames(self, sampling: Sampling) -> Iterator[Frame]:
        """Yield frames until the camera is lost, which `problem` then says."""
        import time

        choose, begun = _Choice(sampling), time.monotonic()
        while True:
            good, pixels = self._capture.read()
            if not good:
                self.problem = f"{self.name} was lost: it gives no more pictures"
                return
            self.read += 1
            seconds = time.monotonic() - begun
            if choose.takes(seconds, False):
                yield Frame(self.read - 1, seconds, np.ascontiguousarray(pixels[:, :, ::-1]))

    def close(self) -> None:
        """Let the camera go."""
        self._capture.release()


def open_frames(source: str, *, limits: Limits | None = None, resize: int | None = None) -> Frames:
    """Open a camera (digits), a stream's address, a file, a pipe, or standard input ("-").

    Raises:
        PictureError: it cannot be used. UsageError, MissingExtraError: see `Video`.
    """
    if source.isascii() and source.isdigit() and not os.path.lexists(source):
        return Camera(int(source))
    return Video(source, limits=limits, resize=resize, live=True)


class _Choice:
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


class _Cuts:
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


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is the picture on a song's cover."""
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and "attached_pic" in str(disposition)


def _is_pipe(path: str) -> bool:
    import stat

    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _one_line(text: object) -> str:
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))[:160]
