"""Bootstrap by group as weights: the resamples of `metrics.bootstrap`, for many statistics at once.

A resample of groups is, for each picture, how often it was drawn. Scores are sorted once and every
statistic is read off cumulated weights, so a thousand resamples of thousands of pictures cost a
fraction of a second, and two detectors measured on the same draws can be compared pair by pair.

Throughout: `labels` (N,) with 1 = generated and 0 = photograph, `scores` (N,) higher = more likely
generated, `weights` (R, N) from `group_weights`, a row a resample.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["group_weights", "interval", "weighted_auc", "weighted_share", "weighted_tpr_at_fpr"]

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.uint16]

BLOCK = 2_000_000
"""Weights cumulated at once: a bound on memory, 16 bytes each."""


def group_weights(
    groups: npt.ArrayLike, *, strata: npt.ArrayLike | None = None, rounds: int = 1000, seed: int = 0
) -> Weights:
    """Return how often each picture is drawn in each resample of whole groups: (rounds, N) uint16.

    Args:
        groups: (N,) group of each picture; pictures of one group are never independent.
        strata: (N,) resampled apart, e.g. the labels, so that no class can vanish.
        rounds: resamples.
        seed: of the draws, which are those of `metrics.bootstrap` with the same seed.
    """
    names = np.asarray(groups)
    layers = np.zeros(len(names), int) if strata is None else np.asarray(strata)
    inside = [np.flatnonzero(layers == layer) for layer in np.unique(layers)]
    members = [np.unique(names[part], return_inverse=True)[1] for part in inside]
    rng = np.random.default_rng(seed)
    weights = np.zeros((rounds, len(names)), np.uint16)
    for row in weights:
        for part, member in zip(inside, members, strict=True):
            count = int(member.max()) + 1
            row[part] = np.bincount(rng.integers(0, count, count), minlength=count)[member]
    return weights


def interval(values: npt.ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values; resamples without a value (NaN) do not count."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def weighted_auc(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: Weights) -> Floats:
    """Return the area under the ROC curve of every resample, (R,); NaN where a class was not drawn."""
    parts = []
    for false, true in _cumulated(labels, scores, weights):
        steps = np.diff(false, prepend=0.0, axis=1)
        before = np.concatenate([np.zeros((len(true), 1)), true[:, :-1]], axis=1)
        area = np.sum(steps * (before + true) / 2, axis=1)  # trapezoids: ties count half
        with np.errstate(invalid="ignore"):
            parts.append(area / (false[:, -1] * true[:, -1]))
    return np.concatenate(parts)


def weighted_tpr_at_fpr(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: Weights, fpr: float) -> Floats:
    """Return `metrics.tpr_at_fpr` of every resample, (R,); NaN where a class was not drawn."""
    parts = []
    for false, true in _cumulated(labels, scores, weights):
        allowed = np.sum(false <= fpr * false[:, -1:] + 1e-9, axis=1)
        hits = np.concatenate([np.zeros((len(true), 1)), true], axis=1)[np.arange(len(true)), allowed]
        with np.errstate(invalid="ignore"):
            parts.append(np.where(false[:, -1] > 0, hits / true[:, -1], np.nan))
    return np.concatenate(parts)


def weighted_share(values: npt.ArrayLike, weights: Weights) -> Floats:
    """Return the weighted mean of `values` (N,) in every resample, (R,); NaN where nothing was drawn."""
    total = weights.sum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ np.asarray(values, dtype=np.float64) / total)


def _cumulated(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: Weights) -> Iterator[tuple[Floats, Floats]]:
    """False and true positives at each distinct score, highest first: blocks of rows (r, distinct scores)."""
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)
    rows = max(1, BLOCK // max(1, len(s)))
    for start in range(0, len(weights), rows):
        drawn = weights[start : start + rows, order].astype(np.float64)
        true = np.cumsum(drawn * (y[order] == 1), axis=1)[:, ends]
        yield np.cumsum(drawn, axis=1)[:, ends] - true, true
