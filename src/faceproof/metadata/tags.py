"""The few EXIF tags we judge, read from a TIFF structure within limits.

Pillow's reader copies whatever an entry claims to hold: five thousand entries of 64 KiB are 0.3 GiB. This one
reads only the tags in `MAIN` and `EXIF`, each bounded. Source: TIFF 6.0, section 2; CIPA DC-008 (Exif 2.32).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["C2PA_TAG", "EXIF", "MAIN", "XMP_TAG", "Tags", "read_tags"]

XMP_TAG = 0x02BC
C2PA_TAG = 0xCD41
_EXIF_IFD = 0x8769
_THUMBNAIL, _THUMBNAIL_SIZE = 0x0201, 0x0202

MAIN = {
    0x000B: "ProcessingSoftware",
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0112: "Orientation",
    0x0131: "Software",
    0x0132: "DateTime",
    0x013B: "Artist",
    0x013C: "HostComputer",
    0x8298: "Copyright",
    0x9C9B: "XPTitle",
    0x9C9C: "XPComment",
}
"""Tags of the first directory that are read, by number."""

EXIF = {
    0x829A: "ExposureTime",
    0x829D: "FNumber",
    0x8827: "ISOSpeedRatings",
    0x9003: "DateTimeOriginal",
    0x9201: "ShutterSpeedValue",
    0x9202: "ApertureValue",
    0x920A: "FocalLength",
    0x927C: "MakerNote",
    0x9286: "UserComment",
    0xA002: "PixelXDimension",
    0xA003: "PixelYDimension",
}
"""Tags of the Exif directory that are read, by number."""

MAX_ENTRIES = 1024
MAX_BYTES = 64 * 1024
MAX_PACKET = 1024 * 1024 + 1
MAX_COUNT = 8
"""Numbers kept of a tag that holds many."""

# Type number -> bytes of one value, struct code (TIFF 6.0, section 2).
_TYPES = {
    1: (1, ""), 2: (1, ""), 3: (2, "H"), 4: (4, "I"), 5: (8, "II"), 6: (1, ""), 7: (1, ""), 8: (2, "h"),
    9: (4, "i"), 10: (8, "ii"), 11: (4, "f"), 12: (8, "d"), 13: (4, "I"),
}  # fmt: skip


@dataclass(frozen=True)
class Tags:
    """Tags by number.

    Text is str; bytes stay bytes; a number is int, float or, for a rational, a pair of ints; several numbers
    are a list of these.

    Attributes:
        main, exif: of the first directory and of the Exif directory.
        thumbnail: bytes of the JPEG in the second directory, b"" without.
        damaged: entries that point outside the data or are of no known type.
    """

    main: Mapping[int, Any] = field(default_factory=dict)
    exif: Mapping[int, Any] = field(default_factory=dict)
    thumbnail: bytes = b""
    damaged: int = 0


def read_tags(data: bytes) -> Tags:
    """Read the tags of a TIFF structure; what is none gives none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return Tags(damaged=1)
    reader = _Reader(data, order)
    main, following = reader.directory(reader.number(4), {*MAIN, XMP_TAG, C2PA_TAG, _EXIF_IFD})
    pointer = main.pop(_EXIF_IFD, None)
    exif = reader.directory(pointer, set(EXIF))[0] if isinstance(pointer, int) else {}
    thumbnail = b""
    if following:
        second = reader.directory(following, {_THUMBNAIL, _THUMBNAIL_SIZE})[0]
        start, size = second.get(_THUMBNAIL), second.get(_THUMBNAIL_SIZE)
        if isinstance(start, int) and isinstance(size, int):
            thumbnail = data[start : start + min(size, MAX_BYTES)]
    return Tags(main, exif, thumbnail, reader.damaged)


class _Reader:
    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order, self.damaged = data, order, 0

    def number(self, at: int, size: int = 4) -> int:
        return int.from_bytes(self.data[at : at + size], "little" if self.order == "<" else "big")

    def directory(self, at: int, wanted: set[int]) -> tuple[dict[int, Any], int]:
        """Return the wanted tags of a directory, and where the next one is (0: nowhere)."""
        found: dict[int, Any] = {}
        entries = self.number(at, 2)
        if at < 8 or at + 2 > len(self.data) or entries > MAX_ENTRIES:
            self.damaged += 1
            return found, 0
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            if entry + 12 > len(self.data):
                self.damaged += 1
                return found, 0
            tag = self.number(entry, 2)
            if tag in wanted and tag not in found:
                value = self.value(entry, tag)
                if value is not None:
                    found[tag] = value
        return found, self.number(at + 2 + 12 * entries)

    def value(self, entry: int, tag: int) -> Any:
        kind, count = self.number(entry + 2, 2), self.number(entry + 4)
        size, code = _TYPES.get(kind, (0, ""))
        total = size * count
        start = entry + 8 if total <= 4 else self.number(entry + 8)
        if not total or start + total > len(self.data):
            self.damaged += 1
            return None
        if tag == C2PA_TAG:
            return True
        if not code:
            raw = self.data[start : start + min(total, MAX_PACKET if tag == XMP_TAG else MAX_BYTES)]
            return _text(raw) if kind == 2 else raw
        used = min(count, MAX_COUNT)
        numbers = struct.unpack_from(self.order + code * used, self.data, start)
        if len(code) == 2:
            numbers = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        return numbers[0] if used == 1 else list(numbers)


def _text(raw: bytes) -> str:
    """ASCII by the standard, UTF-8 or Latin-1 in practice, with padding behind the first NUL."""
    raw = raw.partition(b"\0")[0]
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip()
