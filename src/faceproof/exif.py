"""EXIF values as numbers with a unit: exposure in seconds, f-number, ISO, focal length in mm.

Files hold these as rationals, as numbers and as text ("1/200", "2 s", "f/2.8", "ISO 400"), and some lie:
"1/0", 10**9, words. Every function here returns a float within what a camera can do, or None, and raises
nothing. Tags and their meaning: CIPA DC-008 (Exif 2.32), sections 4.6.5 and annex C (APEX).
"""

from __future__ import annotations

import math
import re

__all__ = [
    "APERTURES",
    "EXPOSURES",
    "FOCAL_LENGTHS",
    "ISOS",
    "apex_f_number",
    "apex_seconds",
    "exposure_seconds",
    "f_number",
    "focal_length_mm",
    "iso",
    "number",
]

EXPOSURES = (1e-6, 86_400.0)
"""Seconds: electronic shutters end near 1/100,000 s; a day is beyond any single exposure of a face."""

APERTURES = (0.4, 512.0)
"""f-numbers: f/0.7 is the fastest lens used for people; pinholes lie near f/300."""

ISOS = (1.0, 10_000_000.0)
"""ISO speeds: the highest setting sold is 4,560,000."""

FOCAL_LENGTHS = (0.1, 20_000.0)
"""Millimetres: 0.8 occurs in telephones (not 35 mm equivalents), 5,200 is the longest camera lens."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_RATIO = re.compile(r"([+-]?[0-9]+)\s*/\s*([+-]?[0-9]+)")
_SECONDS = re.compile(r"\s*(?:s|sec\.?|secs\.?|seconds?|\")$", re.IGNORECASE)
_MILLISECONDS = re.compile(r"\s*(?:ms|msec\.?|milliseconds?)$", re.IGNORECASE)
_APERTURE = re.compile(r"^(?:f|ƒ)\s*/?\s*", re.IGNORECASE)
_ISO = re.compile(r"^iso\s*:?\s*", re.IGNORECASE)
_MILLIMETRES = re.compile(r"\s*mm\.?$", re.IGNORECASE)
_MAX_TEXT = 64
_ISO_ELSEWHERE = 65535.0  # a SHORT that is full: the speed is in another tag (Exif 2.3, PhotographicSensitivity)


def number(value: object) -> float | None:
    """Return a finite number, or None.

    Args:
        value: a number, a rational with `numerator` and `denominator`, a pair (numerator, denominator), a
            sequence of one of these, or text or ASCII bytes such as "5", "0.5" or "1/200".
    """
    text = _text(value)
    if text is not None:
        if found := _RATIO.fullmatch(text):
            return _ratio(found[1], found[2])
        return _ratio(text, 1) if _NUMBER.fullmatch(text) else None
    if isinstance(value, (tuple, list)):
        if len(value) == 2:
            return _ratio(value[0], value[1])
        return number(value[0]) if len(value) == 1 and not isinstance(value[0], (tuple, list)) else None
    if isinstance(value, bool):
        return None
    if hasattr(value, "numerator") and hasattr(value, "denominator"):
        return _ratio(value.numerator, value.denominator)
    return _ratio(value, 1)


def exposure_seconds(value: object) -> float | None:
    """Return an exposure time in seconds: "1/200" gives 0.005, "2 s" gives 2, "5 ms" gives 0.005.

    None for what is not a time within `EXPOSURES`.
    """
    text = _text(value)
    if text is None:
        return _within(number(value), EXPOSURES)
    short, milliseconds = _MILLISECONDS.subn("", text)
    if milliseconds:
        thousandths = number(short)
        return None if thousandths is None else _within(thousandths / 1000, EXPOSURES)
    return _within(number(_SECONDS.sub("", text)), EXPOSURES)


def f_number(value: object) -> float | None:
    """Return an f-number: "f/2.8", "F2.8", "28/10" and 2.8 give 2.8. None outside `APERTURES`.

    0 and 0/0 mean "unknown" in files (lenses without contacts) and give None.
    """
    text = _text(value)
    return _within(number(value if text is None else _APERTURE.sub("", text)), APERTURES)


def iso(value: object) -> float | None:
    """Return an ISO speed: 400, "ISO 400" and the sequence (400, 0) give 400. None outside `ISOS`.

    65535 gives None: it says that the speed is given elsewhere.
    """
    if isinstance(value, (tuple, list)):  # a tag of any count: the first is the speed
        value = value[0] if value and not isinstance(value[0], (tuple, list)) else None
    text = _text(value)
    speed = _within(number(value if text is None else _ISO.sub("", text)), ISOS)
    return None if speed == _ISO_ELSEWHERE else speed


def focal_length_mm(value: object) -> float | None:
    """Return a focal length in mm: "50 mm", "500/10" and 50 give 50.

    None outside `FOCAL_LENGTHS`, so for 0, which means "unknown".
    """
    text = _text(value)
    return _within(number(value if text is None else _MILLIMETRES.sub("", text)), FOCAL_LENGTHS)


def apex_seconds(value: object) -> float | None:
    """Return the exposure in seconds of a ShutterSpeedValue Tv: t = 2 ** -Tv. None outside `EXPOSURES`."""
    speed = number(value)
    return None if speed is None or abs(speed) > 64 else _within(2.0**-speed, EXPOSURES)


def apex_f_number(value: object) -> float | None:
    """Return the f-number of an ApertureValue Av: N = 2 ** (Av / 2). None outside `APERTURES`."""
    aperture = number(value)
    return None if aperture is None or abs(aperture) > 64 else _within(2.0 ** (aperture / 2), APERTURES)


def _text(value: object) -> str | None:
    """Text of a value, stripped; what is too long or not ASCII-like bytes becomes the empty text."""
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value[: _MAX_TEXT + 1]).decode("latin-1")
    if not isinstance(value, str):
        return None
    return value.strip(" \t\r\n\0") if len(value) <= _MAX_TEXT else ""


def _ratio(numerator: object, denominator: object) -> float | None:
    if isinstance(numerator, (bool, tuple, list)) or isinstance(denominator, (bool, tuple, list)):
        return None
    try:
        result = float(numerator) / float(denominator)  # type: ignore[arg-type]  # what has no float raises
    except (TypeError, ValueError, ArithmeticError):
        return None
    return result if math.isfinite(result) else None


def _within(value: float | None, limits: tuple[float, float]) -> float | None:
    return value if value is not None and limits[0] <= value <= limits[1] else None
