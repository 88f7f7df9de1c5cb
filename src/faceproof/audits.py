"""Does a detector live on a shortcut, and does it treat people alike?

See DATA.md and FIELD.md, section 3. Probes: what file facts alone would give, whether scores follow
them, what is left of a detector when size and format are made equal, and whether it tells one source
of photographs from the others, which it should not. Gaps: false alarms by age, sex and ethnicity, with
what chance alone would give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.calibration import sigmoid
from faceproof.contenders import Frozen
from faceproof.datasets import Sample
from faceproof.errors import UsageError
from faceproof.evaluation import Scores
from faceproof.figures import Figure, rank_correlation
from faceproof.metrics import auc, wilson
from faceproof.resampling import group_weights, interval, weighted_auc, weighted_share
from faceproof.scoring import Facts

__all__ = [
    "AGE_BANDS", "FactClassifier", "age_band", "cross_fitted", "fact_probes", "gaps", "score_probes", "source_floor",
]  # fmt: skip

Floats = npt.NDArray[np.float64]

FACTS = ("picture size", "bytes per pixel", "JPEG quality", "face share")
NOBODY = "file facts"
"""The contender of probes that no detector takes part in."""
MIN_SOURCE = 20
"""Photographs a source must have to be held against the others."""
MIN_SUBGROUP = 10
"""Photographs a subgroup must have to count in a gap; smaller ones are shown and left out."""

AGE_BANDS = ((0, "0-9"), (10, "10-19"), (20, "20-39"), (40, "40-59"), (60, "60 and over"))
"""First year of each band -> its name. UTKFace's ages run from 0 to 116 and are estimates themselves."""


# ---- what the files say


def fact_table(facts: Sequence[Facts]) -> Floats:
    """Return (N, 4) float64, a column for each of `FACTS`: longer side in px, bytes per px, 0-100, share of 1."""
    rows = [(max(f.width, f.height), f.size / max(1, f.width * f.height), f.jpeg_quality, f.face_share) for f in facts]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(FACTS))


@dataclass(frozen=True)
class FactClassifier:
    """Logistic regression on facts cut into bins: it follows any curve, and steps such as one fixed size.

    Attributes:
        edges: for each fact, the inner borders of its bins, ascending.
        weights: (1 + number of bins,) float64, the intercept first.
    """

    edges: tuple[Floats, ...]
    weights: Floats

    @staticmethod
    def fit(facts: npt.ArrayLike, labels: npt.ArrayLike, *, bins: int = 12, ridge: float = 1.0) -> FactClassifier:
        """Fit by Newton's method, both classes with the same weight.

        Args:
            facts: (N, K) finite.
            labels: (N,) 1 = generated, 0 = photograph.
            bins: quantile bins a fact; equal values share one.
            ridge: penalty on squared weights, in units of pictures.
        """
        x, y = np.asarray(facts, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        if not 0 < y.sum() < len(y):
            raise UsageError("a probe needs facts of both classes")
        edges = tuple(np.unique(np.quantile(column, np.arange(1, bins) / bins)) for column in x.T)
        design = _binned(x, edges)
        weight = np.where(y == 1, len(y) / (2 * y.sum()), len(y) / (2 * (len(y) - y.sum())))
        penalty = np.full(design.shape[1], ridge)
        penalty[0] = 1e-6  # the intercept
        beta = np.zeros(design.shape[1])
        for _ in range(50):
            p = sigmoid(design @ beta)
            gradient = design.T @ (weight * (p - y)) + penalty * beta
            hessian = (design * (weight * np.maximum(p * (1 - p), 1e-6))[:, None]).T @ design + np.diag(penalty)
            step = np.linalg.solve(hessian, gradient)
            beta = beta - step
            if np.abs(step).max() < 1e-8:
                break
        return FactClassifier(edges, beta)

    def score(self, facts: npt.ArrayLike) -> Floats:
        """Return log-odds of generated for (N, K) facts: (N,) float64."""
        # Rounded, so that facts that say nothing give ties and not the noise of the last bits.
        return np.round(_binned(np.asarray(facts, dtype=np.float64), self.edges) @ self.weights, 6)


def _binned(x: Floats, edges: Sequence[Floats]) -> Floats:
    parts = [np.ones((len(x), 1))]
    for column, borders in zip(x.T, edges, strict=True):
        parts.append(np.eye(len(borders) + 1)[np.searchsorted(borders, column, side="right")])
    return np.concatenate(parts, axis=1)


def cross_fitted(x: Floats, y: npt.NDArray[np.int64], groups: npt.ArrayLike, *, folds: int = 5) -> Floats:
    """Return scores (N,) of pictures, each from a classifier that saw no picture of its group.

    Args:
        x: (N, K) facts, finite. y: (N,) 1 = generated, 0 = photograph. groups: (N,) names.
        folds: classifiers that are fitted.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    order = np.random.default_rng(0).permutation(int(member.max()) + 1)
    fold = order[member] % folds
    scores = np.zeros(len(y))
    for held in range(folds):
        inside, outside = fold == held, fold != held
        if inside.any():
            scores[inside] = FactClassifier.fit(x[outside], y[outside]).score(x[inside])
    return scores


def fact_probes(
    split: str,
    facts: Sequence[Facts],
    samples: Sequence[Sample],
    training: tuple[Sequence[Facts], Sequence[Sample]] | None,
    *,
    rounds: int = 1000,
) -> list[Figure]:
    """Return the AUC of classifiers that see file facts only: each fact alone, and all together.

    Args:
        split: what is measured.
        facts, samples: of its pictures with a face, in one order, both classes.
        training: facts and samples to fit on; None fits and measures within `samples`, by group.
        rounds: of the bootstrap (by group).
    """
    x, y = fact_table(facts), np.array([sample.label for sample in samples])
    groups = np.array([sample.group for sample in samples])
    weights = group_weights(groups, strata=y, rounds=rounds)
    known = None if training is None else (fact_table(training[0]), np.array([s.label for s in training[1]]))
    how = "fitted within the split by group" if known is None else "fitted on train"
    figures = []
    for name, columns in [*((fact, [k]) for k, fact in enumerate(FACTS)), ("all facts together", [*range(len(FACTS))])]:
        if known is None:
            scores = cross_fitted(x[:, columns], y, groups)
        else:
            scores = FactClassifier.fit(known[0][:, columns], known[1]).score(x[:, columns])
        bounds = interval(weighted_auc(y, scores, weights))
        figures.append(Figure(NOBODY, split, "none", "probe", f"{name}, {how}", "auc", auc(y, scores), *bounds, len(y)))
    return figures


# ---- what the scores follow


def score_probes(name: str, split: str, plain: Scores, level: Scores | None, *, rounds: int = 1000) -> list[Figure]:
    """Return how one contender's scores follow file facts inside a class, and what levelling leaves of them.

    Args:
        name, split: of the contender and the pictures.
        plain: its scores of pictures as they are, with facts.
        level: its scores after the chain `level` (all at 128 px, JPEG 75), if measured.
        rounds: of the bootstrap.
    """
    x, y = fact_table(plain.facts), plain.label
    figures = []
    for column, fact in enumerate(FACTS):
        for label, word in ((0, "photographs"), (1, "generated")):
            inside = y == label
            rho, low, high = rank_correlation(x[inside, column], plain.score[inside])
            subset = f"score against {fact}, {word}"
            figures.append(Figure(name, split, "none", "probe", subset, "spearman", rho, low, high, int(inside.sum())))
    for scores, chain, subset in ((plain, "none", "pictures as they are"), (level, "level", "all at 128 px, JPEG 75")):
        if scores is not None:
            weights = group_weights(scores.group, strata=scores.label, rounds=rounds)
            bounds = interval(weighted_auc(scores.label, scores.score, weights))
            value = auc(scores.label, scores.score)
            figures.append(Figure(name, split, chain, "probe", subset, "auc", value, *bounds, len(scores.score)))
    return figures


def source_floor(name: str, split: str, scores: Scores, *, rounds: int = 1000) -> list[Figure]:
    """Return how well scores tell each source of photographs from the others: .5 is not at all.

    A detector of generated faces that sorts photographs by where they come from has learnt their
    cameras, sizes or codecs. Sources with fewer than `MIN_SOURCE` photographs are left out; "spread"
    is the standard deviation of the sources' AUCs, weighted by their photographs.
    """
    real = scores.take(scores.label == 0)
    sources = np.array([sample.source for sample in real.samples])
    names, counts = np.unique(sources, return_counts=True)
    chosen = [(str(s), int(n)) for s, n in zip(names, counts, strict=True) if n >= MIN_SOURCE and n < len(sources)]
    figures = []
    for source, n in chosen:
        one = (sources == source).astype(int)
        weights = group_weights(real.group, strata=one, rounds=rounds)
        bounds = interval(weighted_auc(one, real.score, weights))
        value = auc(one, real.score)
        figures.append(Figure(name, split, "none", "floor", source, "auc_against_other_photographs", value, *bounds, n))
    if figures:
        values = np.array([figure.value for figure in figures])
        spread = math.sqrt(float(np.average((values - 0.5) ** 2, weights=[n for _, n in chosen])))
        total, everyone = sum(n for _, n in chosen), len(sources)
        # Variance of a Mann-Whitney AUC where there is no difference.
        chance = sum(n * (everyone + 1) / (12 * n * (everyone - n)) for _, n in chosen) / total
        for subset, value in (("all sources", spread), ("all sources, by chance", math.sqrt(chance))):
            figures.append(Figure(name, split, "none", "floor", subset, "spread_about_half", value, n=total))
    return figures


# ---- groups of people


def age_band(age: str) -> str:
    """Return the band of an age in years, "" where it is not known or no number."""
    try:
        years = float(age)
    except ValueError:
        return ""
    inside = [name for first, name in AGE_BANDS if years >= first]
    return inside[-1] if inside else ""


def groups_of(sample: Sample) -> dict[str, str]:
    """Return age band, sex and ethnicity as the data state them, "" where unknown."""
    return {"age": age_band(sample.age), "sex": sample.sex, "ethnicity": sample.ethnicity}


def gaps(name: str, split: str, scores: Scores, limits: Mapping[str, Floats], *, rounds: int = 2000) -> list[Figure]:
    """Return false alarms and mean scores by age, sex and ethnicity, over photographs that state them.

    For each trait: the rate of every subgroup (Wilson interval); the gap, largest minus smallest among
    subgroups of at least `MIN_SUBGROUP` (bootstrap interval by group); and the gap that chance gives
    when the trait is dealt out anew among the same pictures, as `gap_by_chance` (median, and the 95 %
    quantile as its upper end). A gap is never negative, so it must be held against that one, not 0.

    Args:
        name, split: of the contender and the pictures.
        scores: of any pictures; those without a stated trait are left out.
        limits: name of the rate -> (N,) thresholds, such as `thresholds` returns.
        rounds: of bootstrap and of dealing out.
    """
    figures: list[Figure] = []
    for trait in ("age", "sex", "ethnicity"):
        values = np.array([groups_of(s)[trait] if s.label == 0 else "" for s in scores.samples])
        stated = values != ""
        if stated.any():
            part, values = scores.take(stated), values[stated]
            measures = {rate: (part.score >= limit[stated]).astype(float) for rate, limit in limits.items()}
            measures["mean_score"] = part.score
            for metric, observed in measures.items():
                figures += _gap(name, split, trait, metric, observed, values, part.group, rounds)
    return figures


def thresholds(scores: Scores, frozen: Frozen) -> dict[str, Floats]:
    """Return the limits for `gaps` from what was frozen: the one in force, and the 5 % one if there is one."""
    rates = [frozen.default_fpr, *(fpr for fpr in frozen.thresholds if math.isclose(fpr, 0.05))]
    return {
        f"fpr_at_threshold_of_{100 * fpr:g}_percent": np.full(len(scores.score), frozen.thresholds[fpr])
        for fpr in dict.fromkeys(rates)
    }


def fold_thresholds(scores: Scores) -> dict[str, Floats]:
    """Return the limits for `gaps` from leave-out folds: each fold's own, and the one 5 % of its photographs reach."""
    limits = {}
    if all(math.isfinite(value) for value in scores.threshold):
        limits["fpr_at_fold_threshold"] = np.array(scores.threshold)
    five, folds, real = np.zeros(len(scores.score)), np.array(scores.fold), scores.label == 0
    for fold in set(scores.fold):
        five[folds == fold] = np.quantile(scores.score[(folds == fold) & real], 0.95)
    return limits | {"fpr_where_5_percent_of_the_fold_are_flagged": five}


def _gap(
    name: str,
    split: str,
    trait: str,
    metric: str,
    observed: Floats,
    values: npt.NDArray[np.str_],
    groups: npt.NDArray[np.str_],
    rounds: int,
) -> list[Figure]:
    kind = f"gap by {trait}"
    weights = group_weights(groups, rounds=rounds)
    figures, counted = [], []
    for subgroup in sorted(set(values.tolist())):
        inside = values == subgroup
        n = int(inside.sum())
        if metric == "mean_score":
            bounds = interval(weighted_share(observed[inside], weights[:, inside]))
        else:
            bounds = wilson(int(observed[inside].sum()), n)
        value = float(observed[inside].mean())
        figures.append(Figure(name, split, "none", kind, subgroup, metric, value, *bounds, n))
        if n >= MIN_SUBGROUP:
            counted.append(inside)
    if len(counted) > 1:
        n = sum(int(inside.sum()) for inside in counted)
        drawn = np.stack([weighted_share(observed[inside], weights[:, inside]) for inside in counted])
        value, bounds = _range_of(observed, counted), interval(np.ptp(drawn, axis=0))
        figures.append(Figure(name, split, "none", kind, "gap", metric, value, *bounds, n))
        chance = _by_chance(observed, counted, rounds)
        low, high = float(np.median(chance)), float(np.quantile(chance, 0.95))
        figures.append(Figure(name, split, "none", kind, "gap by chance", metric, low, math.nan, high, n))
    return figures


def _range_of(observed: Floats, subgroups: Sequence[npt.NDArray[np.bool_]]) -> float:
    means = [float(observed[inside].mean()) for inside in subgroups]
    return max(means) - min(means)


def _by_chance(observed: Floats, subgroups: Sequence[npt.NDArray[np.bool_]], rounds: int) -> Floats:
    """Gaps when subgroups of the same sizes are dealt out at random among the same pictures."""
    sizes = [int(inside.sum()) for inside in subgroups]
    pool = observed[np.any(np.stack(subgroups), axis=0)]
    borders = np.cumsum(sizes)[:-1]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(rounds):
        means = [part.mean() for part in np.split(rng.permutation(pool), borders)]
        found.append(max(means) - min(means))
    return np.array(found)
