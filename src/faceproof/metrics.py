"""The field's metrics, from their definitions. numpy only; the tests hold them against scikit-learn.

Throughout: `labels` (N,) with 1 = generated and 0 = photograph; `scores` (N,), higher = more likely
generated; `groups` (N,) the unit of resampling. Rates and probabilities are shares of 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError

__all__ = [
    "auc", "average_precision", "balanced_accuracy", "bootstrap", "ece", "eer", "nll", "ppv",
    "spearman", "tpr_at_fpr", "wilson",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Ints, Floats]:
    y, s = np.asarray(labels).astype(np.int64), np.asarray(scores, dtype=np.float64)
    if y.shape != s.shape or y.ndim != 1:
        raise UsageError(f"labels and scores must be two vectors of one length, got {y.shape} and {s.shape}")
    if not np.isin(y, (0, 1)).all():
        raise UsageError("labels are 0 (photograph) and 1 (generated)")
    if not np.isfinite(s).all():
        raise UsageError(f"{int((~np.isfinite(s)).sum())} score(s) are not finite")
    if y.min(initial=1) == y.max(initial=0):
        raise UsageError("both classes are needed; only one is there")
    return y, s


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; ties share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: P(generated scores above photograph) + half the ties (Mann-Whitney)."""
    y, s = _checked(labels, scores)
    positives = int(y.sum())
    rank_sum = float(_midranks(s)[y == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * (len(y) - positives))


def _curve(y: Ints, s: Floats) -> tuple[Floats, Floats]:
    """False and true positives at each distinct threshold, highest first, from (0, 0)."""
    order = np.argsort(-s, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)
    true = np.cumsum(y[order])[ends]
    false = ends + 1 - true
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Sum of precision times the step in recall, no interpolation (scikit-learn's definition)."""
    y, s = _checked(labels, scores)
    false, true = _curve(y, s)
    return float(np.sum(np.diff(true) * true[1:] / (true[1:] + false[1:])) / y.sum())


def eer(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Equal error rate: where the ROC, linear between its points, crosses FPR = 1 - TPR."""
    y, s = _checked(labels, scores)
    false, true = _curve(y, s)
    fpr, fnr = false / (len(y) - y.sum()), 1 - true / y.sum()
    gap = fpr - fnr
    right = int(np.argmax(gap >= 0))
    share = -gap[right - 1] / (gap[right] - gap[right - 1])
    return float(fpr[right - 1] + share * (fpr[right] - fpr[right - 1]))


def tpr_at_fpr(labels: npt.ArrayLike, scores: npt.ArrayLike, fpr: float) -> float:
    """Largest true positive rate among thresholds whose false positive rate is at most `fpr`."""
    y, s = _checked(labels, scores)
    false, true = _curve(y, s)
    allowed = false <= fpr * (len(y) - y.sum()) + 1e-9
    return float(true[allowed].max() / y.sum())


def balanced_accuracy(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> float:
    """Mean of the two classes' accuracies when scores >= `threshold` are called generated."""
    y, s = _checked(labels, scores)
    called = s >= threshold
    return float((called[y == 1].mean() + (~called[y == 0]).mean()) / 2)


def ece(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 15, weights: npt.ArrayLike | None = None
) -> float:
    """Expected calibration error over equally wide bins (Naeini et al. 2015), of P(generated).

    Args:
        labels, probabilities: (N,).
        bins: how many.
        weights: (N,) how much each counts; alike if None.
    """
    y, p = _checked(labels, probabilities)
    w = np.full(len(y), 1 / len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    index = np.clip((p * bins).astype(int), 0, bins - 1)
    gap = np.abs(np.bincount(index, w * p, bins) - np.bincount(index, w * y, bins))
    return float(gap.sum() / w.sum())


def nll(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, weights: npt.ArrayLike | None = None) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept 1e-15 away from 0 and 1.

    `weights` (N,) says how much each counts; alike if None.
    """
    y, p = _checked(labels, probabilities)
    p = np.clip(p, 1e-15, 1 - 1e-15)
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    return float(np.average(loss, weights=None if weights is None else np.asarray(weights, dtype=np.float64)))


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's rank correlation of two vectors (N,), ties sharing the mean rank; nan where one is constant."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise UsageError(f"two vectors of one length are wanted, got {x.shape} and {y.shape}")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(_midranks(x), _midranks(y))[0, 1])


def ppv(tpr: float, fpr: float, prevalence: float) -> float:
    """Share of flags that are right, by Bayes; nan when nothing is ever flagged."""
    flagged = tpr * prevalence + fpr * (1 - prevalence)
    return tpr * prevalence / flagged if flagged > 0 else math.nan


def wilson(hits: int, count: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of `hits` in `count`; 95 % by default."""
    if not 0 <= hits <= count or count < 1:
        raise UsageError(f"hits must lie in 0..count and count be positive, got {hits} of {count}")
    share, spread = hits / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    statistic: Callable[[Ints], float],
    groups: npt.ArrayLike,
    *,
    strata: npt.ArrayLike | None = None,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval, resampling whole groups.

    Args:
        statistic: called with positions (with repeats) into the data.
        groups: (N,) group of each element; pictures of one group are never independent.
        strata: (N,) resampled apart, e.g. the labels, so that no class can vanish.
        rounds: resamples.
        level: coverage, 0 to 1.
        seed: of the resampling.
    """
    names = np.asarray(groups)
    layers = np.zeros(len(names), int) if strata is None else np.asarray(strata)
    pools = []
    for layer in np.unique(layers):
        inside = np.flatnonzero(layers == layer)
        _, member = np.unique(names[inside], return_inverse=True)
        order = np.argsort(member, kind="stable")
        pools.append(np.split(inside[order], np.cumsum(np.bincount(member))[:-1]))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = [pool[i] for pool in pools for i in rng.integers(0, len(pool), len(pool))]
        values.append(statistic(np.concatenate(drawn)))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
