"""Does a map mark what the score rests on? Remove the marked tenth of the crop, and compare with random tenths.

Without this a heat map is a pretty picture: some explain nothing about the network they are drawn for (Adebayo et
al. 2018, "Sanity Checks for Saliency Maps"). A random tenth is the marked one, moved, turned and mirrored at random,
so that its size and shape are the same. What is removed is filled with a blur of what surrounds it, through a soft
border: a hard edge would be a trace of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.explain.maps import RGB, Scorer, marked
from faceproof.extras import opencv

__all__ = ["DRAWS", "SHARE", "Deletion", "deletion_test", "moved", "removed"]

Mask = npt.NDArray[np.bool_]

SHARE = 0.1
"""Of the crop's area that is removed."""
DRAWS = 39
"""Random tenths. The marked one is better than chance when at most one of them does as well (2 of 40: `LEVEL`)."""
LEVEL = 0.05
_SMALL = 4
"""The fill is blurred at a quarter of the size: it is smooth, and costs a sixteenth."""


@dataclass(frozen=True)
class Deletion:
    """What removing the marked tenth does, beside random tenths.

    Attributes:
        fall: of the score towards the answer when the marked tenth is removed; below 0 it rises.
        random: the same for each random tenth, at least one.
        share: of the crop that is removed.
    """

    fall: float
    random: tuple[float, ...]
    share: float = SHARE

    def __post_init__(self) -> None:
        if not self.random or not all(math.isfinite(value) for value in (self.fall, *self.random)):
            raise UsageError("a deletion test needs finite falls and at least one random draw")

    @property
    def mean(self) -> float:
        """Mean fall of the random tenths."""
        return math.fsum(self.random) / len(self.random)

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 % of the random tenths' falls."""
        low, high = np.quantile(self.random, [0.025, 0.975])
        return float(low), float(high)

    @property
    def chance(self) -> float:
        """Share of tenths that do at least as well, the marked one counted: a permutation test's p-value."""
        return (1 + sum(value >= self.fall for value in self.random)) / (1 + len(self.random))

    @property
    def better(self) -> bool:
        """Whether the map marks what the score rests on, better than chance."""
        return self.fall > 0 and self.chance <= LEVEL

    def sentence(self, answer: str) -> str:
        """Return it in words; `answer` is what is explained, "generated" or "photograph"."""
        low, high = self.interval
        figures = (
            f"removing the marked {self.share:.0%} of the crop {_moves(self.fall)} the score for {answer} by "
            f"{abs(self.fall):.2f}; random places of the same shape: {self.mean:+.2f} on average, {low:+.2f} to "
            f"{high:+.2f} ({len(self.random)} draws, + is a fall)"
        )
        if self.better:
            return f"deletion test passed: {figures}"
        return f"NO BETTER THAN CHANCE, do not read anything into this map: {figures}"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        low, high = self.interval
        return {
            "share": self.share,
            "fall": round(self.fall, 5),
            "random_mean": round(self.mean, 5),
            "random_interval": [round(low, 5), round(high, 5)],
            "draws": len(self.random),
            "chance": round(self.chance, 5),
            "better_than_chance": self.better,
        }


def deletion_test(
    score: Scorer,
    crop: RGB,
    values: npt.ArrayLike,
    *,
    sign: int,
    draws: int = DRAWS,
    share: float = SHARE,
    seed: int = 0,
    batch: int = 16,
) -> Deletion:
    """Remove what a map marks, and random places of the same shape; compare.

    Args:
        score: of a detector.
        crop: (S, S, 3) uint8 RGB.
        values: (S, S) map; the highest values are marked.
        sign: 1 to explain generated, -1 to explain photograph.
        draws: random places. share: of the crop that is removed. seed: of the draws.
        batch: crops scored at once.

    Raises:
        UsageError: sign, draws or the map's shape are wrong.
    """
    if sign not in (1, -1) or draws < 1:
        raise UsageError(f"sign is 1 or -1 and draws at least 1, not {sign} and {draws}")
    mask = marked(values, share)
    if mask.shape != crop.shape[:2]:
        raise UsageError(f"the map has shape {mask.shape}, the crop {crop.shape[:2]}")
    rng = np.random.default_rng(seed)
    masks = [mask, *(moved(mask, rng) for _ in range(draws))]
    scores = [float(score(crop[None])[0])]
    for start in range(0, len(masks), batch):
        scores += score(np.stack([removed(crop, one) for one in masks[start : start + batch]])).astype(float).tolist()
    falls = sign * (scores[0] - np.array(scores[1:]))
    return Deletion(float(falls[0]), tuple(falls[1:].tolist()), share)


def moved(mask: Mask, rng: np.random.Generator) -> Mask:
    """Return a mask (S, S) turned by quarters, mirrored and shifted at random; what leaves comes in again."""
    turned = np.rot90(mask, int(rng.integers(4)))
    if rng.integers(2):
        turned = turned[:, ::-1]
    down, right = (int(v) for v in rng.integers(0, mask.shape[0], 2))
    return np.roll(turned, (down, right), (0, 1))


def removed(crop: RGB, mask: Mask) -> RGB:
    """Return the crop (S, S, 3) with the mask (S, S) filled by a blur of what surrounds it, through a soft border."""
    cv2 = opencv()
    size = crop.shape[0]
    small = max(2, size // _SMALL)
    keep = np.ascontiguousarray(~mask).astype(np.float32)
    # A blur over the kept pixels only (normalised convolution, Knutsson and Westin 1993): nothing removed leaks.
    planes = np.dstack([crop.astype(np.float32) * keep[:, :, None], keep])
    planes = cv2.resize(planes, (small, small), interpolation=cv2.INTER_AREA)
    near, far = (cv2.GaussianBlur(planes, (0, 0), small * sigma) for sigma in (0.06, 0.3))
    # The farther ones, and the mean of all, only count where nothing kept is near.
    planes = near + 1e-3 * far + 1e-6 * planes.mean((0, 1))
    fill = planes[:, :, :3] / np.maximum(planes[:, :, 3:], 1e-20)
    fill = cv2.resize(fill, (size, size), interpolation=cv2.INTER_LINEAR)
    border = max(1, round(size / 60))
    grown = cv2.dilate((1 - keep), np.ones((2 * border + 1, 2 * border + 1), np.uint8))
    alpha = np.maximum(cv2.GaussianBlur(grown, (0, 0), border), mask)[:, :, None]
    return np.asarray(np.clip(np.round(crop + alpha * (fill - crop)), 0, 255), np.uint8)


def _moves(fall: float) -> str:
    return "lowers" if fall >= 0 else "raises"
