"""Two groups side by side: tests, effect sizes with 95 % intervals, and p-values corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.extras import require
from faceproof.metrics import wilson

__all__ = ["Comparison", "compare_numbers", "compare_shares", "corrected"]

Z = 1.959964


@dataclass(frozen=True)
class Comparison:
    """How one group differs from another in one trait.

    Attributes:
        name: of the trait.
        first, other: medians, or shares for a yes or no; NaN for a group without a value.
        first_count, other_count: accounts with a value.
        effect: Cliff's delta (-1 to 1: how much more often a value of the first group is the larger one than the
            smaller one), or the difference of the shares; above 0 where the first group has more.
        low, high: its interval.
        kind: "Cliff's delta" or "difference of shares".
        p: two-sided, by Mann-Whitney or Fisher; NaN where a group is empty.
        q: p by Benjamini and Hochberg, from `corrected`; NaN before.
    """

    name: str
    first: float
    other: float
    first_count: int
    other_count: int
    effect: float
    low: float
    high: float
    kind: str
    p: float
    q: float = math.nan


def compare_numbers(name: str, first: npt.ArrayLike, other: npt.ArrayLike) -> Comparison:
    """Compare numbers: Mann-Whitney's test, and Cliff's delta (1993) with DeLong's variance (1988).

    Args:
        name: of the trait.
        first, other: (N,) and (M,) numbers; NaN is no value.
    """
    a, b = (np.asarray(v, np.float64) for v in (first, other))
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    kind = "Cliff's delta"
    if not len(a) or not len(b):
        nan = math.nan
        return Comparison(name, _median(a), _median(b), len(a), len(b), nan, nan, nan, kind, nan)
    stats = require("study", "scipy.stats")
    # Where each value lies among the other group, ties counting half: DeLong's placements.
    ranks = stats.rankdata(np.concatenate([a, b]))
    v_a = (ranks[: len(a)] - stats.rankdata(a)) / len(b)
    v_b = 1 - (ranks[len(a) :] - stats.rankdata(b)) / len(a)
    delta = 2 * float(v_a.mean()) - 1
    variance = sum(float(v.var(ddof=1)) / len(v) if len(v) > 1 else 0.25 for v in (v_a, v_b))
    half = 2 * Z * math.sqrt(variance)
    constant = len(np.unique(ranks)) == 1
    p = 1.0 if constant else float(stats.mannwhitneyu(a, b, alternative="two-sided").pvalue)
    low, high = max(-1.0, delta - half), min(1.0, delta + half)
    return Comparison(name, _median(a), _median(b), len(a), len(b), delta, low, high, kind, p)


def _median(values: npt.NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else math.nan


def compare_shares(name: str, first: tuple[int, int], other: tuple[int, int]) -> Comparison:
    """Compare shares: Fisher's exact test, and the difference with Newcombe's interval (1998, method 10).

    Args:
        name: of the trait.
        first, other: (accounts that have it, accounts).

    Raises:
        UsageError: impossible counts.
    """
    (k, n), (j, m) = first, other
    if not (0 <= k <= n and 0 <= j <= m):
        raise UsageError(f"{name}: {k} of {n} and {j} of {m} cannot be")
    kind = "difference of shares"
    if not n or not m:
        nan = math.nan
        return Comparison(name, k / n if n else nan, j / m if m else nan, n, m, nan, nan, nan, kind, nan)
    p = float(require("study", "scipy.stats").fisher_exact([[k, n - k], [j, m - j]]).pvalue)
    (l1, u1), (l2, u2) = wilson(k, n), wilson(j, m)
    a, b = k / n, j / m
    low = a - b - math.hypot(a - l1, u2 - b)
    high = a - b + math.hypot(u1 - a, b - l2)
    return Comparison(name, a, b, n, m, a - b, low, high, kind, p)


def corrected(found: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return the comparisons with `q`, the p-values corrected for their number (Benjamini and Hochberg 1995)."""
    tested = [one for one in found if math.isfinite(one.p)]
    if not tested:
        return tuple(found)
    q = iter(require("study", "scipy.stats").false_discovery_control([one.p for one in tested], method="bh"))
    return tuple(replace(one, q=float(next(q))) if math.isfinite(one.p) else one for one in found)
