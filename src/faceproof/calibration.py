"""Score -> probability, and thresholds for a chosen false-alarm rate. numpy only.

Platt (1999), with the Newton iteration and target smoothing of Lin, Lin and Weng (2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import OperatingPoint
from faceproof.errors import UsageError
from faceproof.metrics import bootstrap

TAIL = "generalised Pareto tail"

__all__ = ["Platt", "fit_platt", "operating_point", "sigmoid"]

Floats = npt.NDArray[np.float64]


def sigmoid(value: npt.ArrayLike) -> Floats:
    """Logistic function, float64, without overflow."""
    x = np.asarray(value, dtype=np.float64)
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


@dataclass(frozen=True)
class Platt:
    """log-odds = slope * score + intercept, at a prior of one half."""

    slope: float
    intercept: float

    def log_odds(self, score: float) -> float:
        """Return natural log-odds of generated."""
        return self.slope * float(score) + self.intercept

    def probability(self, score: float) -> float:
        """Return the probability of generated, 0 to 1."""
        return float(sigmoid(self.log_odds(score)))


def fit_platt(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Platt:
    """Fit by weighted maximum likelihood, each class with half the weight: the prior is one half.

    Args:
        labels: (N,) 1 = generated, 0 = photograph.
        scores: (N,) raw scores.

    Raises:
        UsageError: one class is missing, scores are not finite, or they run the wrong way.
    """
    y = np.asarray(labels, dtype=np.float64)
    s = np.asarray(scores, dtype=np.float64)
    positives, negatives = float(y.sum()), float(len(y) - y.sum())
    if not positives or not negatives or not np.isfinite(s).all():
        raise UsageError("calibration needs finite scores of both classes")
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weight = np.where(y == 1, 0.5 / positives, 0.5 / negatives)
    centre, spread = s.mean(), max(s.std(), 1e-9)
    x = np.stack([(s - centre) / spread, np.ones_like(s)], 1)
    beta = np.zeros(2)

    def loss(b: Floats) -> float:
        z = x @ b
        return float(np.sum(weight * (np.logaddexp(0, z) - target * z)))

    for _ in range(100):
        p = sigmoid(x @ beta)
        gradient = x.T @ (weight * (p - target))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-8 and loss(beta - size * step) > loss(beta) - 1e-4 * size * float(gradient @ step):
            size /= 2
        beta = beta - size * step
        if np.abs(gradient).max() < 1e-10:
            break
    slope = float(beta[0] / spread)
    if slope <= 0:
        raise UsageError("scores are not higher for generated faces; labels or scores are the wrong way round")
    return Platt(slope, float(beta[1] - slope * centre))


def threshold_at(scores: npt.ArrayLike, fpr: float) -> tuple[float, str]:
    """Return the threshold that flags a share `fpr` of photographs, and the method.

    With at least two photographs expected above it, the smallest threshold whose share of scores at
    or above it is not more than `fpr` (order statistic). With fewer, a generalised Pareto tail is
    fitted to the highest tenth (Pickands 1975; Coles 2001, section 4.3): an extrapolation.
    """
    s = np.sort(np.asarray(scores, dtype=np.float64))
    count = len(s)
    if count * fpr >= 2:
        allowed = math.floor(count * fpr + 1e-9)
        # Halfway between the lowest flagged score and the highest one that is not.
        return float((s[count - allowed] + s[count - allowed - 1]) / 2), "order statistic"
    start = s[max(0, math.ceil(count * 0.9) - 1)]
    excess = s[s > start] - start
    if len(excess) < 2:
        return float(np.nextafter(s[-1], np.inf)), TAIL
    shape, scale = _pareto(excess)
    depth = len(excess) / count / fpr
    reach = math.log(depth) if abs(shape) < 1e-6 else (depth**shape - 1) / shape
    return float(start + scale * reach), TAIL


def _pareto(excess: Floats) -> tuple[float, float]:
    """Fit shape and scale to ascending excesses by probability-weighted moments (Hosking and Wallis 1987, eq. 8).

    The shape is kept within +-0.5: beyond, the estimate from a few dozen excesses means nothing.
    """
    n = len(excess)
    weights = 1 - (np.arange(1, n + 1) - 0.35) / n
    mean, weighted = float(excess.mean()), float((weights * excess).mean())
    shape = 2 - mean / max(mean - 2 * weighted, 1e-12)
    shape = min(0.5, max(-0.5, shape))
    return shape, mean * (1 - shape)


def operating_point(
    scores: npt.ArrayLike, groups: npt.ArrayLike, fpr: float, *, rounds: int = 2000, seed: int = 0
) -> OperatingPoint:
    """Return the operating point for a false-alarm rate, with its bootstrap interval.

    Args:
        scores: (N,) raw scores of photographs that fitted nothing.
        groups: (N,) their groups, the unit of resampling.
        fpr: wanted share of photographs at or above the threshold, 0 to 1.
        rounds, seed: of the bootstrap.
    """
    s = np.asarray(scores, dtype=np.float64)
    if len(s) < 20:
        raise UsageError(f"{len(s)} photographs are too few for a threshold; at least 20 are needed")
    threshold, method = threshold_at(s, fpr)
    low, high = bootstrap(lambda i: threshold_at(s[i], fpr)[0], groups, rounds=rounds, seed=seed)
    return OperatingPoint(fpr, threshold, min(low, threshold), max(high, threshold), len(s), method)
