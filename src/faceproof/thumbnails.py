"""Small pictures for a page: one JPEG each while working, laid out on sheets in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.extras import opencv

__all__ = ["LARGEST", "MOST", "Sheets", "make_sheets", "side_for", "thumbnail"]

RGB = npt.NDArray[np.uint8]

LARGEST = 96
"""Side of the largest thumbnails in pixels."""
STEP = 16
"""Sides are multiples of this, so that no JPEG block holds two thumbnails."""
PIXELS = 10_000 * 64 * 64
"""Pixels of all thumbnails of a page together, so that its size is bounded: about 20 MB."""
MOST = 100_000
"""Pictures a page can show."""
SHEET = 2048
"""Side of a sheet in pixels: every browser decodes that, phones' too."""


@dataclass(frozen=True)
class Sheets:
    """Thumbnails laid out on sheets, row by row, `per_row` x `per_row` on each.

    Attributes:
        side: of a thumbnail, pixels.
        per_row: thumbnails in a row, and rows on a full sheet.
        jpegs: the sheets' files; the last one ends after its last row.
    """

    side: int
    per_row: int
    jpegs: tuple[bytes, ...]


def side_for(count: int) -> int:
    """Return the side in pixels thumbnails may have where there are `count`: a multiple of 16, 16 to 96.

    Raises:
        UsageError: more than `MOST`.
    """
    if count > MOST:
        raise UsageError(f"a map shows at most {MOST} pictures, here are {count}; map a sample of them")
    return int(min(LARGEST, math.sqrt(PIXELS / max(count, 1)) // STEP * STEP))


def thumbnail(pixels: RGB) -> bytes:
    """Return a picture (H, W, 3) uint8 RGB as a JPEG of `LARGEST` x `LARGEST` pixels."""
    cv2 = opencv()
    small = cv2.resize(pixels, (LARGEST, LARGEST), interpolation=cv2.INTER_AREA)
    return _encode(small, 85)


def make_sheets(jpegs: Sequence[bytes]) -> Sheets:
    """Lay thumbnails out in their order.

    Args:
        jpegs: of `thumbnail`, at most `MOST`.

    Raises:
        UsageError: too many, or one is no JPEG of that size.
    """
    side = side_for(len(jpegs))
    per_row = SHEET // side
    sheets = []
    for start in range(0, len(jpegs), per_row * per_row):
        part = jpegs[start : start + per_row * per_row]
        rows = -(-len(part) // per_row)
        sheet = np.zeros((rows * side, per_row * side, 3), np.uint8)
        for place, data in enumerate(part):
            top, left = (side * value for value in divmod(place, per_row))
            sheet[top : top + side, left : left + side] = _decoded(data, side, start + place)
        sheets.append(_encode(sheet, 78))
    return Sheets(side, per_row, tuple(sheets))


def _decoded(data: bytes, side: int, number: int) -> RGB:
    cv2: Any = opencv()
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if found is None or found.shape != (LARGEST, LARGEST, 3):
        raise UsageError(f"thumbnail {number} is not a JPEG of {LARGEST} x {LARGEST} pixels; make the embeddings anew")
    if side != LARGEST:
        found = cv2.resize(found, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(found[:, :, ::-1], dtype=np.uint8)


def _encode(pixels: RGB, quality: int) -> bytes:
    cv2 = opencv()
    # Colour at full resolution: halved, it runs over from one thumbnail of a sheet into the next.
    options = [
        cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    ]  # fmt: skip
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), options)
    return bytes(data.tobytes())
