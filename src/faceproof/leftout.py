"""Leave-one-generator-out and leave-one-source-out figures, from scores of models that knew neither.

The models are trained elsewhere, one a fold; each picture is scored by the model that was fitted
without its generator, or without its source. What is read here is one table of such scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.evaluation import Scores
from faceproof.figures import Figure
from faceproof.metrics import auc, wilson
from faceproof.resampling import group_weights, interval, weighted_auc

__all__ = ["left_out"]


def left_out(name: str, scores: Scores, *, rounds: int = 1000) -> list[Figure]:
    """Return AUC and TPR per left-out generator, FPR per left-out source, and the generators' mean.

    A generator is measured against the photographs held out in the same fold. The mean counts every
    generator alike; its interval comes from resampling the groups of every fold.

    Args:
        name: of the run, for tables.
        scores: with `fold`; with `threshold` (fixed inside the fold) also the rates are given.
        rounds: of the bootstrap.

    Raises:
        UsageError: there are no folds, or a fold holds one class.
    """
    if not scores.fold:
        raise UsageError(f"scores of {name} have no column `fold`; leave-out figures need the fold of every row")
    folds = np.array(scores.fold)
    figures: list[Figure] = []
    means: list[tuple[float, npt.NDArray[np.float64]]] = []
    for number, fold in enumerate(sorted(set(scores.fold))):
        part = scores.take(folds == fold)
        if len(set(part.label.tolist())) < 2:
            raise UsageError(
                f"scores of {name}, fold {fold!r}: one class only; a fold must hold back generated pictures and "
                "photographs"
            )
        made, drawn = _generators(name, fold, part, rounds, seed=number)
        figures += made + _sources(name, fold, part)
        means += drawn
    together = np.mean([values for _, values in means], axis=0)
    low, high = interval(together)
    value = float(np.mean([value for value, _ in means]))
    summary = [Figure(name, "left out", "none", "left-out generator", "mean", "auc", value, low, high, len(means))]
    worst = min(value for value, _ in means)
    summary.append(Figure(name, "left out", "none", "left-out generator", "lowest", "auc", worst, n=len(means)))
    return summary + _all_sources(name, scores) + figures


def _generators(
    name: str, fold: str, part: Scores, rounds: int, *, seed: int
) -> tuple[list[Figure], list[tuple[float, npt.NDArray[np.float64]]]]:
    y, s = part.label, part.score
    weights = group_weights(part.group, strata=y, rounds=rounds, seed=seed)
    flagged, known = _flagged(part)
    figures, drawn = [], []
    for generator in sorted({sample.generator for sample in part.samples if sample.label}):
        its = np.array([sample.label == 1 and sample.generator == generator for sample in part.samples])
        mask = (y == 0) | its
        value, values = auc(y[mask], s[mask]), weighted_auc(y[mask], s[mask], weights[:, mask])
        drawn.append((value, values))
        n = int(its.sum())
        figures.append(Figure(name, fold, "none", "left-out generator", generator, "auc", value, *interval(values), n))
        if known[its].all():
            figures.append(
                _rate(name, fold, "left-out generator", generator, "tpr_at_fold_threshold", flagged[its].tolist())
            )
    return figures, drawn


def _sources(name: str, fold: str, part: Scores) -> list[Figure]:
    flagged, known = _flagged(part)
    figures = []
    for source in sorted({sample.source for sample in part.samples if not sample.label}):
        its = np.array([sample.label == 0 and sample.source == source for sample in part.samples])
        if known[its].all():
            figures.append(_rate(name, fold, "left-out source", source, "fpr_at_fold_threshold", flagged[its].tolist()))
    return figures


def _all_sources(name: str, scores: Scores) -> list[Figure]:
    flagged, known = _flagged(scores)
    chosen = (scores.label == 0) & known
    if not chosen.any():
        return []
    return [_rate(name, "left out", "left-out source", "all", "fpr_at_fold_threshold", flagged[chosen].tolist())]


def _flagged(part: Scores) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(N,) at or above the fold's threshold; (N,) whether the fold has one."""
    limit = np.array(part.threshold or [math.nan] * len(part.score))
    return part.score >= limit, np.isfinite(limit)


def _rate(name: str, fold: str, kind: str, subset: str, metric: str, flagged: Sequence[bool]) -> Figure:
    hits, n = sum(flagged), len(flagged)
    return Figure(name, fold, "none", kind, subset, metric, hits / n, *wilson(hits, n), n)
