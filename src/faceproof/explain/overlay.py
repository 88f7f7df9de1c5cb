"""Maps as pictures: the same colours for the same values always, with a legend, the marked tenth and its test."""

from __future__ import annotations

import textwrap

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from faceproof.explain.deletion import Deletion
from faceproof.explain.maps import RGB, HeatMap
from faceproof.explain.spectrum import Spectrum
from faceproof.extras import opencv

__all__ = ["SIDE", "coloured", "map_picture", "spectrum_picture"]

SIDE = 480
"""Of the picture inside, pixels."""
_PAD, _BAR, _LINE, _LETTERS = 12, 14, 17, 78
_TOWARDS, _AGAINST = np.array([200, 30, 30], np.float32), np.array([30, 90, 200], np.float32)
_STRONGEST = 0.8
"""Share of the colour where it is full: the face stays to be seen."""
INK, PAPER, WARN = (30, 32, 36), (255, 255, 255), (176, 42, 55)


def coloured(grey: npt.NDArray[np.uint8], values: npt.ArrayLike, scale: float) -> RGB:
    """Lay values over a grey picture: red above 0, blue below, full at +-scale.

    Args:
        grey: (H, W) uint8.
        values: (H, W).
        scale: value with the full colour.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    share = np.clip(np.asarray(values, np.float32) / scale, -1, 1)[:, :, None]
    alpha = np.abs(share) * _STRONGEST
    colour = np.where(share > 0, _TOWARDS, _AGAINST)
    return np.asarray(np.round((1 - alpha) * grey[:, :, None] + alpha * colour), np.uint8)


def map_picture(
    heat: HeatMap, base: RGB, mask: npt.NDArray[np.bool_], deletion: Deletion, *, answer: str, about: str = ""
) -> RGB:
    """Return the finished picture of one map.

    Args:
        heat: the map, towards the answer.
        base: (S, S, 3) uint8 RGB crop.
        mask: (S, S) bool, the marked tenth; its border is drawn.
        deletion: its test.
        answer: what is explained: "generated" or "photograph".
        about: a line on which face of which picture this is; without it, only how the test went is written.

    Returns:
        (H, 504, 3) uint8 RGB: map, legend, title and words.
    """
    cv2 = opencv()
    values = cv2.resize(heat.values, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    if heat.explains:
        grey = cv2.resize(cv2.cvtColor(base, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        body = coloured(grey, values, heat.scale)
        signed = bool(heat.values.min() < 0)
        legend = _legend(heat.scale, signed=signed)
        low = f"-{heat.scale:g}: against {answer}" if signed else "0"
        ends = (low, f"+{heat.scale:g} and more: for {answer}")
    else:
        shown = np.clip(np.round(values * (255 / heat.scale)), 0, 255).astype(np.uint8)
        body, legend = np.repeat(shown[:, :, None], 3, 2), _grey_legend()
        ends = ("0", f"{heat.scale:g} and more")
    edges, _ = cv2.findContours(
        cv2.resize(mask.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST),
        cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_NONE,
    )
    body = np.ascontiguousarray(body)
    cv2.drawContours(body, edges, -1, (0, 0, 0), 3)
    cv2.drawContours(body, edges, -1, (255, 255, 255), 1)
    kind = "fixed scale, the same for every picture; the white line holds the marked tenth"
    colour = INK if deletion.better else WARN
    if not about:
        outcome = "deletion test passed" if deletion.better else "NO BETTER THAN CHANCE: do not read anything into it"
        return _framed(body, legend, ends, [(outcome, colour)])
    lines = [(heat.title, INK), (about, INK), (f"{heat.unit}; {kind}", INK)]
    return _framed(body, legend, ends, [*lines, (deletion.sentence(answer), colour)])


def spectrum_picture(spectrum: Spectrum, *, about: str = "") -> RGB:
    """Return the chart of a spectrum: photographs' band in grey, this face's line in red; -60 to 30 decibels, fixed.

    Without a line `about` what it is of, only the axes are explained.
    """
    image = Image.new("RGB", (SIDE, SIDE // 2), PAPER)
    draw = ImageDraw.Draw(image)
    count = len(spectrum.power)

    def place(number: int, decibels: float) -> tuple[float, float]:
        return number * (SIDE - 1) / (count - 1), (30 - min(30.0, max(-60.0, decibels))) * (SIDE // 2 - 1) / 90

    low = [place(number, value) for number, value in enumerate(spectrum.band.low)]
    high = [place(number, value) for number, value in enumerate(spectrum.band.high)]
    draw.polygon([*low, *reversed(high)], fill=(205, 208, 214))
    for level in range(-50, 30, 10):
        draw.line([place(0, level), place(count - 1, level)], fill=(228, 230, 234))
    draw.line([place(number, value) for number, value in enumerate(spectrum.power)], fill=WARN, width=2)
    axis = f"power, -60 to +30 decibels of the mean, over 1 to {count} cycles a crop; grey: nine of ten photographs"
    if not about:
        return _framed(np.asarray(image), None, ("", ""), [(axis, INK)])
    lines = [("radial power spectrum", INK), (about, INK), (axis, INK)]
    verdict = (spectrum.sentence, WARN if spectrum.unusual else INK)
    return _framed(np.asarray(image), None, ("", ""), [*lines, verdict])


def _legend(scale: float, *, signed: bool) -> RGB:
    line = np.linspace(-scale if signed else 0, scale, SIDE, dtype=np.float32)
    return coloured(np.full((_BAR, SIDE), 150, np.uint8), np.tile(line, (_BAR, 1)), scale)


def _grey_legend() -> RGB:
    line = np.round(np.linspace(0, 255, SIDE)).astype(np.uint8)
    return np.repeat(np.tile(line, (_BAR, 1))[:, :, None], 3, 2)


def _framed(body: RGB, legend: RGB | None, ends: tuple[str, str], lines: list[tuple[str, tuple[int, int, int]]]) -> RGB:
    """Put a legend and lines of text below a picture."""
    font = ImageFont.load_default(12)
    text = [(part, colour) for line, colour in lines for part in textwrap.wrap(line, _LETTERS) or [""]]
    top = _PAD + body.shape[0] + 8
    below = top + (_BAR + 4 + _LINE if legend is not None else 0)
    image = Image.new("RGB", (SIDE + 2 * _PAD, below + len(text) * _LINE + _PAD), PAPER)
    image.paste(Image.fromarray(body), (_PAD, _PAD))
    draw = ImageDraw.Draw(image)
    if legend is not None:
        image.paste(Image.fromarray(legend), (_PAD, top))
        draw.text((_PAD, top + _BAR + 2), ends[0], INK, font)
        draw.text((_PAD + SIDE, top + _BAR + 2), ends[1], INK, font, anchor="ra")
    for number, (line, colour) in enumerate(text):
        # The default font holds Latin letters; others, in a file's name, become "?".
        safe = line.encode("latin-1", "replace").decode("latin-1")
        draw.text((_PAD, below + number * _LINE), safe, colour, font)
    return np.asarray(image)
