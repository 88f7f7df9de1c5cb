"""What EXIF says about the camera, and whether it agrees with itself and with the picture."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from faceproof import exif
from faceproof.metadata.generators import quoted
from faceproof.metadata.tags import EXIF, MAIN, Tags

__all__ = ["Camera", "named", "read_camera"]

_EDITORS = re.compile(
    r"(?i:photoshop|lightroom|camera raw|\bgimp\b|picasa|snapseed|affinity photo|paint\.net|pixelmator|darktable"
    r"|rawtherapee|capture one|imagemagick|luminar|facetune|faceapp|picsart|meitu|beautyplus|vsco|acdsee|irfanview"
    r"|paint ?shop|polarr|pixlr|canva\b)"
)
"""Programs that change pictures. None of them is a sign of a generator."""

_PARSERS: dict[str, tuple[Callable[[object], float | None], str]] = {
    "ExposureTime": (exif.exposure_seconds, "an exposure time"),
    "FNumber": (exif.f_number, "an f-number"),
    "ISOSpeedRatings": (exif.iso, "an ISO speed"),
    "FocalLength": (exif.focal_length_mm, "a focal length"),
}
_APEX_STOPS = 1.0
"""Stops by which a value and its APEX twin may differ: both are rounded to names, which is less than a half."""
_DAY = timedelta(days=1)
"""EXIF dates carry no time zone."""
_DCF = 4 / 3
"""DCF thumbnails are 160 x 120 whatever the picture's shape (JEITA CP-3461, section 3.3.3)."""


@dataclass(frozen=True)
class Camera:
    """What EXIF says about how a picture was taken.

    Attributes:
        make, model, software: as written, printable; "" where absent.
        exposure_seconds, f_number, iso, focal_length_mm: None where absent, unknown or impossible.
        taken: ISO 8601 without zone, None where absent or impossible.
        contradictions: what cannot be or does not fit together, one clause each.
        edits: signs that the picture was edited, cropped or resized since, one clause each.
    """

    make: str = ""
    model: str = ""
    software: str = ""
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: float | None = None
    focal_length_mm: float | None = None
    taken: str | None = None
    contradictions: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Maker and model, a date and at least three of the four settings: what every camera writes."""
        settings = (self.exposure_seconds, self.f_number, self.iso, self.focal_length_mm)
        return bool(self.make and self.model and self.taken) and sum(value is not None for value in settings) >= 3


def named(tags: Tags) -> dict[str, Any]:
    """Return tags by name, "XMP" and "C2PA" left out."""
    main = {MAIN[tag]: value for tag, value in tags.main.items() if tag in MAIN}
    return {**main, **{EXIF[tag]: value for tag, value in tags.exif.items()}}


def read_camera(tags: Tags, *, width: int, height: int) -> Camera | None:
    """Return what the tags say about the camera, held against a picture of this size (upright pixels).

    None where there is nothing that a camera writes.
    """
    values = named(tags)
    settings, wrong = _settings(values)
    taken, dates = _dates(values, now=datetime.now(timezone.utc).replace(tzinfo=None))
    wrong += [*dates, *_apex(values, settings), *_orientation(values)]
    make, model, software = (quoted(_line(values.get(name))) for name in ("Make", "Model", "Software"))
    if not (make or model or taken or wrong or any(value is not None for value in settings.values())):
        return None
    return Camera(
        make=make,
        model=model,
        software=software,
        exposure_seconds=settings["ExposureTime"],
        f_number=settings["FNumber"],
        iso=settings["ISOSpeedRatings"],
        focal_length_mm=settings["FocalLength"],
        taken=None if taken is None else taken.isoformat(),
        contradictions=tuple(wrong),
        edits=(*_size(values, width, height), *_thumbnail(tags.thumbnail, width, height), *_editor(software)),
    )


def _line(value: object) -> str:
    return value if isinstance(value, str) else ""


def _settings(values: Mapping[str, Any]) -> tuple[dict[str, float | None], list[str]]:
    settings: dict[str, float | None] = {}
    wrong = []
    for name, (parse, words) in _PARSERS.items():
        value = values.get(name)
        settings[name] = parse(value)
        if settings[name] is None and not _unknown(value):
            wrong.append(f'{name} reads "{_shown(value)}", which is not {words} of any camera')
    return settings, wrong


def _unknown(value: object) -> bool:
    """Absent, or written in a way that means so: empty, 0, 0/0, 65535 (ISO), Pentax's and Sony's dashes."""
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None or value in ((0, 0), 65535):
        return True
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode("latin-1")
        return not text.strip(" \0-") or text.strip() == "0/0" or exif.number(text) == 0
    return exif.number(value) == 0


def _shown(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]}/{value[1]}"
    return quoted(value.decode("latin-1") if isinstance(value, bytes) else str(value))


def _dates(values: Mapping[str, Any], *, now: datetime) -> tuple[datetime | None, list[str]]:
    taken, wrong = _date(values, "DateTimeOriginal")
    changed, also = _date(values, "DateTime")
    wrong += also
    for name, when in (("DateTimeOriginal", taken), ("DateTime", changed)):
        if when is not None and when > now + _DAY:
            wrong.append(f"{name} {when} lies in the future, by this computer's clock")
    if taken is not None and changed is not None and changed < taken - _DAY:
        wrong.append(f"the file was changed ({changed}) before the picture was taken ({taken})")
    return taken, wrong


def _date(values: Mapping[str, Any], name: str) -> tuple[datetime | None, list[str]]:
    value = values.get(name)
    text = value if isinstance(value, str) else ""
    if value is None or (isinstance(value, str) and not text.strip(" :0-")):  # Exif: blanks mean unknown
        return None, []
    match = re.match(r"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d):(\d\d)", text, re.ASCII)
    try:
        if match is not None:
            year, month, day, hour, minute, second = (int(part) for part in match.groups())
            return datetime(year, month, day, hour, minute, second), []  # noqa: DTZ001  (Exif dates have no zone)
    except ValueError:
        pass
    return None, [f'{name} reads "{_shown(value)}", which is no date']


def _apex(values: Mapping[str, Any], settings: Mapping[str, float | None]) -> list[str]:
    """Each of the two settings is written twice; the twins must agree."""
    wrong = []
    pairs = (
        ("ExposureTime", "ShutterSpeedValue", exif.apex_seconds, 1.0, "s"),
        ("FNumber", "ApertureValue", exif.apex_f_number, 2.0, ""),
    )
    for name, twin, convert, stops, unit in pairs:
        one, other = settings[name], convert(values.get(twin))
        if one is not None and other is not None and abs(math.log2(one / other)) * stops > _APEX_STOPS:
            wrong.append(f"{name} is {one:.4g}{unit} and {twin} says {other:.4g}{unit}")
    return wrong


def _orientation(values: Mapping[str, Any]) -> list[str]:
    value = values.get("Orientation")
    if value is None or (isinstance(value, int) and 0 <= value <= 8):  # 0 is often written for "unknown"
        return []
    return [f'Orientation reads "{_shown(value)}", where 1 to 8 exist']


def _size(values: Mapping[str, Any], width: int, height: int) -> list[str]:
    stated = (values.get("PixelXDimension"), values.get("PixelYDimension"))
    if not all(isinstance(side, int) and side > 0 for side in stated) or set(stated) == {width, height}:
        return []  # absent, or equal in one of both orders: whether sides were swapped differs between programs
    return [f"EXIF says {stated[0]} x {stated[1]} pixels, the picture has {width} x {height}: resized or cropped"]


def _thumbnail(data: bytes, width: int, height: int) -> list[str]:
    size = _jpeg_size(data)
    if size is None or min(*size, width, height) < 1:
        return []
    shape = max(size) / min(size)
    if math.isclose(shape, _DCF, rel_tol=0.03) or math.isclose(
        shape, max(width, height) / min(width, height), rel_tol=0.05
    ):
        return []
    return [f"the thumbnail ({size[0]} x {size[1]}) has another shape than the picture ({width} x {height}): cropped"]


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a JPEG's frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def _editor(software: str) -> list[str]:
    return [f'edited with "{software}"'] if _EDITORS.search(software) else []
