"""Bytes, path, URL, array or PIL picture -> RGB uint8, upright, within limits.

Every input is hostile. Nothing is decoded before its header has been held against the limits; only
regular files are opened, without waiting; only the formats in `FORMATS` are parsed at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from faceproof import remote, servers, shards
from faceproof.errors import (
    DamagedError,
    NotAPictureError,
    PictureError,
    TooLargeError,
    UnreadableError,
    UsageError,
)
from faceproof.metadata import Metadata, read_metadata

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "SUFFIXES", "Encoded", "Limits", "Picture", "PictureSource", "fetch", "load", "printable"]

RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Encoded:
    """The bytes of a picture's file, read already, and the path or URL they go by."""

    name: str
    data: bytes = field(repr=False)


PictureSource = Union[str, "os.PathLike[str]", bytes, Encoded, RGB, "Image.Image"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats read, by Pillow's names (JPEG with MPO); HEIF joins them when the extra `heif` is installed."""

_ENDINGS = ".jpg .jpeg .jpe .jfif .mpo .png .webp .gif .bmp .dib .tif .tiff .avif .heic .heif"
SUFFIXES = frozenset(_ENDINGS.split())
"""Endings that make a file a picture when a folder is walked. Content decides how it is decoded."""

_EXTENSION_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG",
    ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".dib": "BMP", ".tif": "TIFF",
    ".tiff": "TIFF", ".avif": "AVIF",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a picture may cost before it is refused.

    Attributes:
        max_pixels: width x height, checked from the header before anything is decoded.
        max_bytes: size of the file or answer, in bytes.
        url_timeout: seconds to wait for a web server, per read.
    """

    max_pixels: int = 64_000_000
    max_bytes: int = 256 * 1024 * 1024
    url_timeout: float = 20.0

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or self.max_bytes < 1 or self.url_timeout <= 0:
            raise UsageError(f"limits must be positive: {self}")

    @classmethod
    def of_pixels(cls, text: str) -> Limits:
        """Make limits from what a user writes for --max-pixels: 64M, 500k, 64000000.

        Raises:
            UsageError: it is not a positive number.
        """
        number = text.strip().upper()
        factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(number[-1:], 1)
        try:
            return cls(max_pixels=int(float(number.rstrip("KMG")) * factor))
        except (ValueError, OverflowError):
            raise UsageError(f"--max-pixels {text!r} is not a number; write 64M or 64000000") from None

    def widen_pillow(self) -> None:
        """Raise Pillow's own limit of pixels to this one. It is the whole process's: for processes that are ours."""
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = max(self.max_pixels, Image.MAX_IMAGE_PIXELS or 0)


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, 0-255, upright after EXIF orientation.
        name: the path or URL as given, well-formed Unicode; "<bytes>" or "<array>" otherwise.
        sha256: hex digest of the bytes read, None when there were none (arrays, PIL pictures).
        format: Pillow's name of the format, "" for arrays.
        notes: what had to be decided on the way (alpha, first frame, ...), one sentence each.
        metadata: what the file says about its origin; None where it was not read.
    """

    pixels: RGB
    name: str
    sha256: str | None = None
    format: str = ""
    notes: tuple[str, ...] = field(default=())
    metadata: Metadata | None = None

    @property
    def width(self) -> int:
        """Pixels from left to right, after orientation."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels from top to bottom, after orientation."""
        return int(self.pixels.shape[0])


def printable(path: str | os.PathLike[str]) -> str:
    r"""Return a path as well-formed Unicode, different for different paths.

    Bytes that are not UTF-8 become ``\xNN`` and lone surrogates ``\uNNNN``: JSON, CSV and Parquet readers
    refuse the surrogates Python holds them in. In a name that needs this, or that looks as if it had,
    backslashes are doubled, so that no name can pass for another. Of URLs what opens doors (passwords, signatures)
    becomes ***. All other names stay as they are.
    """
    text = os.fspath(path)
    if remote.is_url(text):
        text = servers.redacted(text)
    if not any("\ud800" <= letter <= "\udfff" for letter in text) and not _LOOKS_ESCAPED.search(text):
        return text
    return "".join(_escaped(letter) for letter in text)


_LOOKS_ESCAPED = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4})")


def _escaped(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # how os.fsdecode holds a byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else letter


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """Open a regular file, never blocking on pipes or devices; give (handle, size in bytes).

    Raises:
        UnreadableError: it cannot be opened, read, or is not a regular file.
    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer would otherwise wait for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as err:  # a NUL inside the name
        raise UnreadableError(f"not a possible file name ({err}); check the path") from err
    except OSError as err:
        raise UnreadableError(_why(path, err)) from err
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a pipe, socket or device"
            raise UnreadableError(f"{kind}, not a file with a picture; give the file itself")
        yield handle, state.st_size
    except OSError as err:
        raise UnreadableError(_why(path, err)) from err
    finally:
        os.close(handle)


def read_bytes(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """Read a regular file within `limits`, never blocking on pipes or devices.

    Raises:
        UnreadableError: it cannot be opened or is not a regular file.
        TooLargeError: it has more than `limits.max_bytes` bytes.
    """
    with opened(path) as (handle, size):
        if size > limits.max_bytes:
            raise TooLargeError(_too_many_bytes(size, limits))
        with os.fdopen(handle, "rb", closefd=False) as stream:
            return _drain(stream, limits)


def _drain(stream: Any, limits: Limits) -> bytes:
    """Read to the end or to the limit, in blocks: asking for the limit at once would allocate it."""
    blocks, size = [], 0
    while block := stream.read(1 << 20):
        blocks.append(block)
        size += len(block)
        if size > limits.max_bytes:
            raise TooLargeError(_too_many_bytes(size, limits))
    return b"".join(blocks)


def load(source: PictureSource, *, limits: Limits | None = None, metadata: bool = False) -> Picture:
    """Load one picture.

    Args:
        source: a path, a URL (http, https, s3, gs), SHARD::MEMBER, the bytes of a file, an array (H, W, 3)
            uint8 RGB or (H, W) uint8 grey, or a PIL picture.
        limits: what it may cost; `Limits()` if None.
        metadata: also read what the file says about its origin (`faceproof.metadata`).

    Returns:
        The picture: (H, W, 3) uint8 RGB, upright. Alpha is laid over white; 16-bit samples are
        scaled to 8; of an animation the first frame is taken; colour profiles are not applied
        (detectors are trained that way).

    Raises:
        PictureError: one of its kinds, see `faceproof.errors`.
        StorageError: a bucket fails as a whole.
        UsageError: `source` is of a type we do not take.
    """
    limits = limits or Limits()
    if isinstance(source, np.ndarray):
        return Picture(_from_array(source, limits), "<array>")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), "<bytes>", limits, metadata)
    if isinstance(source, Encoded):
        return _decode(source.data, printable(source.name), limits, metadata)
    if isinstance(source, (str, os.PathLike)):
        return _decode(fetch(source, limits), printable(source), limits, metadata)
    from PIL import Image

    if isinstance(source, Image.Image):
        with _foreign_errors(b""):
            _check_size(source.size, limits)
            pixels, notes = _to_rgb(source)
        return Picture(pixels, "<picture>", None, source.format or "", notes)
    raise UsageError(
        f"cannot read a picture from {type(source).__name__}; "
        "give a path, URL, bytes, uint8 array (H, W, 3) or PIL picture"
    )


def fetch(source: str | os.PathLike[str], limits: Limits) -> bytes:
    """Read the bytes of a picture's file: a path, a URL, or SHARD::MEMBER.

    Raises:
        PictureError, StorageError: as `load`.
    """
    if isinstance(source, str):
        if (inside := shards.split(source)) is not None:
            return shards.member(*inside, limits.max_bytes)
        if remote.is_bucket(source):
            return remote.read(source, limits.max_bytes)
        if remote.is_url(source):
            return _download(source, limits)
    return read_bytes(source, limits)


def _decode(data: bytes, name: str, limits: Limits, metadata: bool) -> Picture:
    from PIL import Image

    digest = hashlib.sha256(data).hexdigest()
    if not data:
        raise NotAPictureError("the file is empty (0 bytes); get the original file again")
    with _foreign_errors(data), _quiet_pillow(), Image.open(io.BytesIO(data), formats=_formats()) as image:
        _check_size(image.size, limits)
        kind = image.format or ""
        pixels, notes = _to_rgb(image)
    expected = _EXTENSION_FORMATS.get(Path(name).suffix.lower())
    if expected and kind != expected and not (kind == "MPO" and expected == "JPEG"):
        notes = (*notes, f"the file is named like {expected} but holds {kind}")
    if not metadata:
        return Picture(pixels, name, digest, kind, notes)
    found = read_metadata(data, width=pixels.shape[1], height=pixels.shape[0])
    return Picture(pixels, name, digest, kind, (*notes, *found.notes), found)


@contextlib.contextmanager
def _foreign_errors(data: bytes) -> Iterator[None]:
    """Turn what Pillow raises about a file of these bytes into our own errors."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError as err:
        kind = _signature(data)
        if kind:
            raise DamagedError(
                f"the file begins like {kind}, but its header is damaged or truncated; get the original file again"
            ) from err
        raise NotAPictureError(_not_a_picture(data)) from None
    except Image.DecompressionBombError as err:
        raise TooLargeError(
            f"more pixels than any limit allows ({_one_line(err)}); if you trust the file, raise --max-pixels "
            "(Limits.max_pixels, and PIL.Image.MAX_IMAGE_PIXELS)"
        ) from err
    except MemoryError as err:
        raise TooLargeError("not enough memory to decode this picture; lower --max-pixels") from err
    # Pillow's parsers raise all of these on broken files (seen while fuzzing), none of them is ours.
    except (
        OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError,
        AttributeError, NotImplementedError, RuntimeError, ZeroDivisionError, struct.error,
    ) as err:  # fmt: skip
        raise DamagedError(
            f"the picture's data are damaged or truncated ({_one_line(err)}); get the original file again"
        ) from err


def _signature(data: bytes) -> str | None:
    """Name the format whose first bytes these are, if it is one we read."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)


_STARTS = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n": "PNG", b"GIF8": "GIF",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP",
}  # fmt: skip


def _formats() -> list[str]:
    """The formats Pillow may try, HEIF included where its plugin is installed."""
    from PIL import Image

    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            return list(FORMATS)
        pillow_heif.register_heif_opener()
    return [*FORMATS, "HEIF"]


def _to_rgb(image: Image.Image) -> tuple[RGB, tuple[str, ...]]:
    from PIL import Image, ImageOps

    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        notes.append(f"animation or several pages: only the first of {getattr(image, 'n_frames', 0)} was checked")
        image.seek(0)
    image.load()
    turned = ImageOps.exif_transpose(image)
    image = turned if turned is not None else image
    if image.mode == "La":  # Pillow converts this one to LA and to nothing else
        image = image.convert("LA")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image, dtype=np.uint32)
        return _grey_to_rgb(((wide * 255 + 32767) // 65535).astype(np.uint8)), ("16-bit samples scaled to 8", *notes)
    if image.mode in ("I", "F"):
        return _grey_to_rgb(_stretch(np.asarray(image, dtype=np.float64))), (
            "32-bit samples scaled to 8",
            *notes,
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if np.asarray(rgba.getchannel("A")).min() < 255:
            notes.append("transparent parts laid over white")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.asarray(image, dtype=np.uint8).copy(), tuple(notes)


def _stretch(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Scale 32-bit samples to 0-255: 16-bit range if they fit it, unit range if floats, else min-max."""
    if not np.isfinite(values).all():
        raise DamagedError("the picture holds infinite or undefined samples; convert it to 8 bits per sample")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return np.round(scaled).astype(np.uint8)


def _from_array(array: npt.NDArray[Any], limits: Limits) -> RGB:
    good = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
    if not good:
        raise UsageError(f"an array must be uint8 (H, W, 3) RGB or (H, W) grey, not {array.dtype} {array.shape}")
    _check_size((array.shape[1], array.shape[0]), limits)
    return _grey_to_rgb(array) if array.ndim == 2 else np.ascontiguousarray(array)


def _grey_to_rgb(grey: npt.NDArray[np.uint8]) -> RGB:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DamagedError(f"the picture has no pixels ({width} x {height}); give one that has")
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"{width} x {height} = {width * height / 1e6:.0f} megapixels, over the limit of "
            f"{limits.max_pixels / 1e6:.0f}; raise it with --max-pixels (Limits.max_pixels) if you trust the file"
        )


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Our own limit comes first, so Pillow's bomb warning says nothing new; parsers' grumbling neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _not_a_picture(data: bytes) -> str:
    head = data[:512].lstrip()
    looks = "of an unknown kind"
    if head[:1] == b"<" or head[:5].lower() == b"<html":
        looks = "a web page, XML or SVG drawing"
    elif head.startswith(b"%PDF"):
        looks = "a PDF"
    elif data[4:8] == b"ftyp":
        looks = 'a video, or a HEIF picture (for those: pip install "faceproof[heif]")'
    elif head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        looks = "text"
    return f"not a picture: the file looks like {looks}; formats read: {', '.join(FORMATS)}, HEIF with its extra"


def _too_many_bytes(size: int, limits: Limits) -> str:
    return (
        f"{size / 2**20:.0f} MiB, over the limit of {limits.max_bytes / 2**20:.0f} MiB; "
        "raise Limits.max_bytes if you trust the file"
    )


def _why(path: str | os.PathLike[str], err: OSError) -> str:
    if err.errno == errno.ENOENT:
        if os.path.islink(path):
            target = printable(os.readlink(path))
            return f"a broken link: it points to {target}, which does not exist; mend or remove the link"
        return "no such file; check the path"
    if err.errno == errno.ELOOP:
        return "a loop of links: it leads back to itself; remove the link"
    if err.errno in (errno.EACCES, errno.EPERM):
        return "no permission to read it; check its owner and mode"
    if err.errno == errno.ENXIO:
        return "a pipe, socket or device, not a file with a picture; give the file itself"
    if err.errno == errno.ENAMETOOLONG:
        return "the name is too long for this file system; check the path"
    return f"cannot be read ({err.strerror or err}); check the path"


def _download(url: str, limits: Limits) -> bytes:
    import http.client
    import urllib.error

    try:
        with servers.asked(url, limits.url_timeout, Accept="image/*") as answer:
            return _drain(answer, limits)
    except urllib.error.HTTPError as err:
        raise UnreadableError(f"the server answered {err.code} ({_one_line(err.reason)}); check the URL") from err
    except (OSError, http.client.HTTPException) as err:
        reason = _one_line(getattr(err, "reason", err))
        raise UnreadableError(f"cannot be fetched ({reason}); check the URL and the network") from err


def _one_line(text: object) -> str:
    """Foreign messages hold line ends, and pieces of the hostile file: one printable line of them."""
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))[:160]
