"""How often the order of two pictures is right: pair accuracy, with an interval by group. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.resampling import group_weights, interval

__all__ = ["PairAccuracy", "pair_accuracy"]

Floats = npt.NDArray[np.float64]

MOST = 4000
"""Pictures compared, evenly taken: the square of it is held in memory."""


@dataclass(frozen=True)
class PairAccuracy:
    """Share of pairs put in the right order.

    Attributes:
        value: 0-1; chance is 0.5. NaN where no two values differ.
        low, high: 95 % interval, whole groups resampled; NaN as above.
        pairs: pairs whose values differ.
        pictures, groups: with a known value.
    """

    value: float
    low: float
    high: float
    pairs: int
    pictures: int
    groups: int


def pair_accuracy(
    values: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike, *, rounds: int = 1000, seed: int = 0
) -> PairAccuracy:
    """Compare the order of scores with that of values, over all pairs whose values differ; equal scores count half.

    Without ties it is (Kendall's tau + 1) / 2.

    Args:
        values: (N,) the truth; NaN where unknown.
        scores: (N,) finite.
        groups: (N,) unit of resampling, such as camera models. A group drawn twice is paired with its copy.
        rounds, seed: of the bootstrap; 0 rounds: no interval.

    Raises:
        UsageError: shapes differ, or scores are not finite.
    """
    t, s, names = np.asarray(values, np.float64), np.asarray(scores, np.float64), np.asarray(groups)
    if not t.shape == s.shape == names.shape or t.ndim != 1:
        raise UsageError(f"values, scores and groups are three vectors of one length, not {t.shape}, {s.shape}")
    if not np.isfinite(s).all():
        raise UsageError(f"{int((~np.isfinite(s)).sum())} score(s) are not finite")
    known = np.flatnonzero(~np.isnan(t))
    if len(known) > MOST:
        known = known[np.linspace(0, len(known) - 1, MOST).astype(int)]
    t, s, names = t[known], s[known], names[known]
    order, found = np.sign(t[:, None] - t), np.sign(s[:, None] - s)
    differ = order != 0
    right = np.where(found == 0, 0.5, found == order) * differ
    pairs, count = int(differ.sum()) // 2, len(np.unique(names))
    if not pairs:
        return PairAccuracy(float("nan"), float("nan"), float("nan"), 0, len(known), count)
    low = high = float("nan")
    if rounds:
        weights = group_weights(names, rounds=rounds, seed=seed).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a resample of one group may hold one value only
            drawn = ((weights @ right) * weights).sum(1) / ((weights @ differ.astype(float)) * weights).sum(1)
        low, high = interval(drawn)
    return PairAccuracy(float(right.sum() / differ.sum()), low, high, pairs, len(known), count)
