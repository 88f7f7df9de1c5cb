"""Boxes and verdicts drawn into frames, for annotated videos and the live window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.extras import opencv
from faceproof.records import Label

__all__ = ["COLOURS", "Mark", "draw"]

RGB = npt.NDArray[np.uint8]

COLOURS: dict[str, tuple[int, int, int]] = {
    "photograph": (46, 160, 98),
    "generated": (214, 48, 62),
    "inconclusive": (226, 160, 30),
}
"""RGB."""


@dataclass(frozen=True)
class Mark:
    """What is drawn about one face.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the frame.
        label: decides the colour.
        text: ASCII; written above the box, or inside where there is no room.
        faint: a thin line, for a face that is not judged.
    """

    box: tuple[float, float, float, float]
    label: Label
    text: str
    faint: bool = False


def draw(pixels: RGB, marks: Iterable[Mark]) -> RGB:
    """Return a copy of a frame (H, W, 3) uint8 RGB with the marks drawn into it."""
    cv2 = opencv()
    canvas = np.ascontiguousarray(pixels).copy()
    height, width = canvas.shape[:2]
    unit = max(1, round(max(height, width) / 640))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit
    for mark in marks:
        colour = COLOURS[mark.label]
        x0, y0, x1, y1 = (round(float(v)) for v in mark.box)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, unit if mark.faint else 2 * unit)
        (wide, tall), base = cv2.getTextSize(mark.text, font, scale, unit)
        left = int(np.clip(x0, 0, max(0, width - wide - 4)))
        top = y0 - tall - base - 4 if y0 >= tall + base + 4 else max(0, y0)
        cv2.rectangle(canvas, (left, top), (left + wide + 4, top + tall + base + 4), colour, -1)
        place = (left + 2, top + tall + 2)
        cv2.putText(canvas, mark.text, place, font, scale, (255, 255, 255), unit, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)
