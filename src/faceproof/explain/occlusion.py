"""Cover a patch of the crop, see what the score loses: needs no gradients, so it works on any detector.

Zeiler and Fergus 2014, section 4.2. Patches of several sizes; each is a smooth fill, because the edges of a grey
square are a trace of their own (`fill="grey"` gives the published one).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError, unknown_name
from faceproof.explain.deletion import removed
from faceproof.explain.maps import RGB, Floats, Scorer

__all__ = ["FILLS", "SIZES", "occlusion_map", "patches"]

FILLS = {
    "blur": "a blur of what surrounds the patch, through a soft border",
    "grey": "middle grey with hard edges",
}
SIZES = (0.25, 0.125)
"""Sides of the patches, shares of the crop's."""


def occlusion_map(
    score: Scorer,
    crop: RGB,
    *,
    sizes: Sequence[float] = SIZES,
    fill: str = "blur",
    batch: int = 16,
) -> Floats:
    """Return where covering lowers the score.

    Args:
        score: of a detector.
        crop: (S, S, 3) uint8 RGB.
        sizes: sides of the patches as shares of the crop's side, above 0 to 1/2; at most eight.
        fill: one of `FILLS`.
        batch: crops scored at once.

    Returns:
        (S, S) float32: score lost, divided by the share of the crop that was covered; mean over the patches that
        cover a pixel, then over the sizes. Above 0 speaks for generated.

    Raises:
        UsageError: sizes or fill are wrong.
    """
    if fill not in FILLS:
        raise unknown_name("fill", fill, list(FILLS))
    if not 0 < len(sizes) <= 8 or not all(0 < size <= 0.5 for size in sizes):
        raise UsageError(f"give one to eight patch sizes above 0 and up to 0.5, not {tuple(sizes)}")
    whole = float(score(crop[None])[0])
    maps = []
    for size in sizes:
        places = patches(crop.shape[0], size)
        total, count = (np.zeros(crop.shape[:2], np.float64) for _ in range(2))
        for start in range(0, len(places), batch):
            part = places[start : start + batch]
            lost = whole - score(np.stack([_covered(crop, place, fill) for place in part])).astype(np.float64)
            for (rows, columns), value in zip(part, lost, strict=True):
                covered = (rows.stop - rows.start) * (columns.stop - columns.start) / count.size
                total[rows, columns] += value / covered
                count[rows, columns] += 1
        maps.append(total / count)
    return np.asarray(np.mean(maps, axis=0), np.float32)


def patches(side: int, size: float) -> list[tuple[slice, slice]]:
    """Return rows and columns of patches that cover a crop: large ones overlap by half, those under 1/5 do not."""
    length = max(1, min(side, round(side * size)))
    step = length / 2 if size >= 0.2 else length
    count = max(1, round((side - length) / step)) + 1
    starts = np.round(np.linspace(0, side - length, count)).astype(int)
    return [(slice(y, y + length), slice(x, x + length)) for y in starts.tolist() for x in starts.tolist()]


def _covered(crop: RGB, place: tuple[slice, slice], fill: str) -> RGB:
    if fill == "grey":
        covered = crop.copy()
        covered[place] = 128
        return covered
    mask: npt.NDArray[np.bool_] = np.zeros(crop.shape[:2], bool)
    mask[place] = True
    return removed(crop, mask)
