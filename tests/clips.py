"""Real clips, made with PyAV: a face that moves, two people who cross, every container and codec that is tested."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from faceproof import DetectedFace, FaceChecker, Gates
from faceproof.detectors.card import Card
from faceproof.images import RGB

FACE = (60, 0, 380, 300)
"""x0, y0, x1, y1 of the astronaut's head and shoulders in her picture."""


FINE = {"qmin": "1", "qmax": "1"}
"""Options of simple encoders, which would save on flat pictures."""


def person(astronaut: RGB, side: int, *, other: bool = False) -> RGB:
    """The astronaut's head, (side, side, 3); `other` is mirrored and tinted, as a second person."""
    x0, y0, x1, y1 = FACE
    head = cv2.resize(astronaut[y0:y1, x0:x1], (side, side), interpolation=cv2.INTER_AREA)
    if not other:
        return np.asarray(head)
    tinted = head[:, ::-1].astype(np.float32) * [0.55, 0.9, 1.25]
    return np.clip(tinted, 0, 255).astype(np.uint8)


def canvas(width: int, height: int, seed: int = 0) -> RGB:
    """A background with some structure and no face."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (6, 8, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def paste(picture: RGB, head: RGB, x: float, y: float) -> None:
    """Put a head at x, y (its top left), as far as it lies inside."""
    height, width = picture.shape[:2]
    left, top = round(x), round(y)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + head.shape[1]), min(height, top + head.shape[0])
    if x1 > x0 and y1 > y0:
        picture[y0:y1, x0:x1] = head[y0 - top : y1 - top, x0 - left : x1 - left]


def moving(astronaut: RGB, frames: int, *, width: int = 480, height: int = 360, side: int = 240) -> Iterator[RGB]:
    """One face that goes from left to right and grows a little."""
    ground = canvas(width, height)
    for k in range(frames):
        share = k / max(1, frames - 1)
        head = person(astronaut, round(side * (1 + 0.15 * share)))
        picture = ground.copy()
        paste(picture, head, share * (width - len(head)), 20 + 20 * np.sin(6 * share))
        yield picture


def crossing(astronaut: RGB, frames: int, *, width: int = 960, height: int = 400) -> Iterator[RGB]:
    """Two people who walk past each other; the second in front."""
    ground = canvas(width, height)
    one, two = person(astronaut, 240), person(astronaut, 240, other=True)
    for k in range(frames):
        share = k / max(1, frames - 1)
        picture = ground.copy()
        paste(picture, one, share * (width - 240), 60)
        paste(picture, two, (1 - share) * (width - 240), 90)
        yield picture


def write_clip(
    path: str | os.PathLike[str],
    pictures: Iterable[RGB],
    *,
    codec: str = "libx264",
    rate: int = 24,
    times: Callable[[int], float] | None = None,
    sound: str | None = None,
    extra_sound: float = 0.0,
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode pictures; `times` gives seconds by index (even steps of 1 / rate otherwise), `sound` an audio codec.

    Sound ends with the last picture, or `extra_sound` seconds later.
    """
    # MPEG-4 part 2 counts in 16 bits; AVI has no times but the frame's number.
    tick = Fraction(1, rate) if codec == "mpeg4" else Fraction(1, 90_000)
    written = 0
    with av.open(os.fspath(path), "w", format=container) as out:
        stream: Any = None
        for k, picture in enumerate(pictures):
            if stream is None:
                stream = out.add_stream(codec, rate=rate)
                stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
                stream.codec_context.time_base = tick
                fast = {
                    "libx264": {"preset": "veryfast", "crf": "18"},
                    "libx265": {"x265-params": "log-level=none"},
                    "mpeg4": FINE,
                }
                stream.options = options or fast.get(codec, {})
                if codec == "libvpx-vp9":
                    stream.options = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}
                track = None if sound is None else out.add_stream(sound, rate=48_000)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            at = k / rate if times is None else times(k)
            frame.pts, frame.time_base = round(at / tick), tick
            out.mux(stream.encode(frame))
            written = round((at + 1 / rate + extra_sound) * 48_000)
        out.mux(stream.encode(None))
        if track is not None:
            _tone(out, track, written)
    return Path(path)


def _tone(out: Any, track: Any, samples: int) -> None:
    """A tone of 440 Hz."""
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / 48_000)).astype(np.float32)
    for start in range(0, samples, 960):
        part = np.ascontiguousarray(np.stack([wave[start : start + 960]] * 2))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


def sound_only(path: Path, seconds: float = 1.0, codec: str = "aac") -> Path:
    """A file with a tone and no picture."""
    with av.open(os.fspath(path), "w") as out:
        _tone(out, out.add_stream(codec, rate=48_000), round(seconds * 48_000))
    return path


ROTATIONS = {
    90: ((0, 1 << 16, 0), (-(1 << 16), 0, 0)),
    180: ((-(1 << 16), 0, 0), (0, -(1 << 16), 0)),
    270: ((0, -(1 << 16), 0), (1 << 16, 0, 0)),
}


def set_rotation(path: Path, clockwise: int) -> None:
    """Write into an MP4's track header that players turn its pictures clockwise, as telephones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0  # version
    (a, b, u), (c, d, v) = ROTATIONS[clockwise]
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in (a, b, u, c, d, v, 0, 0, 1 << 30))
    data[at + 40 : at + 76] = matrix
    path.write_bytes(bytes(data))


SQUARES = {"red": (0, 1, 2), "blue": (2, 1, 0)}
"""Stand-ins for people: name -> the strong, the free and the weak channel of their colour."""


def square(picture: RGB, who: str, x: float, y: float, *, level: int = 64, side: int = 40) -> None:
    """Draw a stand-in for a face with its middle at x, y; `level` (0 to 128) is what `Levels` scores."""
    strong, free, weak = SQUARES[who]
    height, width = picture.shape[:2]
    left, top = round(x - side / 2), round(y - side / 2)
    part = picture[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    part[..., strong], part[..., free], part[..., weak] = 230, level, 16


class SquareFaces:
    """A face detector that finds the squares of `square`."""

    name = "squares"

    def detect(self, pixels: RGB) -> list[DetectedFace]:
        """One face for each colour that is there."""
        found = []
        for strong, _, weak in SQUARES.values():
            ys, xs = np.nonzero((pixels[..., strong] > 180) & (pixels[..., weak] < 90))
            if len(xs) > 60:
                box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
                shape = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.5], [0.35, 0.8], [0.65, 0.8]], np.float32)
                found.append(DetectedFace(box, box[:2] + shape * (box[2:] - box[:2]), 0.9))
        return found


class Levels:
    """A detector whose score is the level of a square: 0 for 64, one more for every 8."""

    def __init__(self, card: Card) -> None:
        self.card = card

    def score(self, crops: RGB) -> npt.NDArray[np.float32]:
        """Look at the free channel near the middle."""
        middle = crops.shape[1] // 2
        patch = crops[:, middle - 8 : middle + 8, middle - 8 : middle + 8, 1]
        return ((patch.mean((1, 2)) - 64) / 8).astype(np.float32)


def square_checker(card: Card) -> FaceChecker:
    """A checker of squares, without quality gates: fast, and its answers are the clip's to decide."""
    open_gates = Gates(min_side=0, min_inside=0, min_sharpness=0, max_turn=0)
    return FaceChecker(Levels(card), SquareFaces(), gates=open_gates)
