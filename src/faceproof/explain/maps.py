"""Heat maps over a crop, all in one unit, and what of a crop they mark.

The unit of a map that explains a score is score for the whole crop: a region that covers a share of the crop adds
its mean value times that share. A class activation map has this unit by itself (its mean, plus a constant, is the
score); occlusion divides what the score loses by the share that was covered. Scales are fixed for each kind of map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.extras import opencv

__all__ = ["OCCLUSION_SCALE", "SCORE_SCALE", "SCORE_UNIT", "HeatMap", "Scorer", "marked", "upscaled"]

RGB = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Scorer = Callable[[RGB], Floats]
"""Crops (N, S, S, 3) uint8 RGB -> scores (N,) float32: `Detector.score`."""

SCORE_UNIT = "network's log-odds (score) per whole crop"
SCORE_SCALE, OCCLUSION_SCALE = 40.0, 15.0
"""Values at which colours are full, for every picture alike; benchmarks/explain.py counts how much lies beyond."""


@dataclass(frozen=True)
class HeatMap:
    """One map over a crop.

    Attributes:
        name: short, also the file's name: "cam", "occlusion", "ela", ...
        title: a few words for a person.
        sentence: what it shows and how it is made.
        values: (S, S) float32, finite, rows from the top. Of a map that `explains`: towards the answer above 0.
        unit: of the values.
        scale: value with the full colour; fixed per kind of map, never taken from the picture.
        explains: whether it says where the score comes from; ELA and noise show the picture only.
    """

    name: str
    title: str
    sentence: str
    values: Floats
    unit: str = SCORE_UNIT
    scale: float = SCORE_SCALE
    explains: bool = True

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 2 or shape[0] != shape[1] or not shape[0] or not np.isfinite(self.values).all():
            raise UsageError(f"a map is square, (S, S), and finite; {self.name} is {shape}")
        if not 0 < self.scale < np.inf or not self.name.replace("-", "").isalnum():
            raise UsageError(f"a map needs a plain name and a positive scale, not {self.name!r} and {self.scale}")


def marked(values: npt.ArrayLike, share: float = 0.1) -> npt.NDArray[np.bool_]:
    """Return which pixels are among the highest.

    Args:
        values: (S, S) numbers.
        share: of the pixels, 0 to 1, exclusive.

    Returns:
        (S, S) bool, exactly round(share * S * S) of them True; of equal values the first in reading order.

    Raises:
        UsageError: the share is out of range.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share to mark must lie between 0 and 1, not {share}")
    array = np.asarray(values)
    order = np.argsort(-array.ravel(), kind="stable")[: max(1, round(share * array.size))]
    chosen = np.zeros(array.size, bool)
    chosen[order] = True
    return chosen.reshape(array.shape)


def upscaled(values: npt.ArrayLike, size: int) -> Floats:
    """Return a map (h, w) at (size, size) float32, linear between the cells' centres."""
    cv2 = opencv()
    found = cv2.resize(np.asarray(values, np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(found, np.float32)
