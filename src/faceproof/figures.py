"""Figures as records: what was measured, on which pictures, with its interval and how many they were.

Every table, plot and page of an evaluation is made from a list of these.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.contenders import Frozen
from faceproof.errors import UsageError
from faceproof.evaluation import Scores, report
from faceproof.metrics import auc, spearman, tpr_at_fpr
from faceproof.resampling import group_weights, interval, weighted_auc, weighted_tpr_at_fpr

__all__ = ["COLUMNS", "Figure", "differences", "measure", "pick", "since_plain"]

COLUMNS = ("contender", "split", "chain", "kind", "subset", "metric", "value", "low", "high", "n")
INTERVALS = {
    "auc": "auc_interval",
    "tpr_at_fpr_1": "tpr_at_fpr_1_interval",
    "fpr_at_threshold": "fpr_at_threshold_interval",
    "tpr_at_threshold": "tpr_at_threshold_interval",
}
"""Keys of `evaluation.report` -> the key of their 95 % interval."""
OF_PHOTOGRAPHS = {"fpr_at_threshold", "not_judged_photographs"}
OF_GENERATED = {"tpr_at_threshold", "not_judged_generated"}


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        contender: whose scores; "file facts" where nobody's.
        split, chain: which pictures, and what was done to them.
        kind: the table it belongs to: "all", "generator", "source", "difference", "chain", "probe",
            "floor", "gap", "left-out generator", "left-out source".
        subset: the row of that table, e.g. the generator's name.
        metric: what it is.
        value: NaN where it cannot be had.
        low, high: 95 % interval; NaN where there is none.
        n: pictures it rests on.
    """

    contender: str
    split: str
    chain: str
    kind: str
    subset: str
    metric: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0

    def row(self) -> tuple[str | int | float, ...]:
        """Return the values in the order of `COLUMNS`."""
        return tuple(getattr(self, column) for column in COLUMNS)


def pick(figures: Sequence[Figure], **wanted: str) -> list[Figure]:
    """Return the figures whose fields have the given values."""
    return [f for f in figures if all(getattr(f, field) == value for field, value in wanted.items())]


def measure(name: str, scores: Scores, frozen: Frozen, split: str, chain: str, *, rounds: int = 1000) -> list[Figure]:
    """Return everything `evaluation.report` says about one contender on one split after one chain.

    Args:
        name: the contender.
        scores: its scores.
        frozen: its threshold and calibration.
        split, chain: which pictures these are.
        rounds: of the bootstrap.

    Raises:
        UsageError: one class has no scored face.
    """
    for label, word in ((0, "photograph"), (1, "generated picture")):
        if not (scores.label == label).any():
            raise UsageError(_nothing(name, scores, split, chain, label, word))
    found = report(scores, frozen.calibration, frozen.threshold, rounds=rounds)
    counts = {"photographs": found["photographs"], "generated": found["generated"]}
    n = dict.fromkeys(OF_PHOTOGRAPHS, counts["photographs"]) | dict.fromkeys(OF_GENERATED, counts["generated"])

    def made(kind: str, subset: str, metric: str, value: float, bounds: Sequence[float], number: int) -> Figure:
        return Figure(name, split, chain, kind, subset, metric, float(value), bounds[0], bounds[1], number)

    figures = [
        made(
            "all", "all", key, value, found.get(INTERVALS.get(key, ""), (math.nan,) * 2), n.get(key, len(scores.score))
        )
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    for generator, part in found["auc_by_generator"].items():
        number = part["pictures"]
        figures.append(made("generator", generator, "auc", part["auc"], part["interval"], number))
        share = part["tpr_at_threshold"]
        figures.append(made("generator", generator, "tpr_at_threshold", share, part["tpr_interval"], number))
    for source, part in found["fpr_by_source"].items():
        figures.append(made("source", source, "fpr_at_threshold", part["fpr"], part["interval"], part["pictures"]))
    return figures


def _nothing(name: str, scores: Scores, split: str, chain: str, label: int, word: str) -> str:
    reasons = [m for m in scores.missing if m.sample.label == label]
    first = f"; e.g. {reasons[0].sample.path}: {reasons[0].reason or 'no face was found'}" if reasons else ""
    return f"{name}, split {split!r}, chain {chain!r}: no {word} has a score{first}; mend the pictures or the contender"


Pair = tuple[float, tuple[float, float]]


def _paired(first: Scores, second: Scores, rounds: int) -> tuple[dict[str, Pair], int]:
    """Metric -> (first - second, interval) on the pictures both have scored, and how many they are.

    Both are measured on the same resamples of groups, so that what makes a resample easy or hard for
    both does not blur their difference.
    """
    where = {sample.path: index for index, sample in enumerate(second.samples)}
    mine = [index for index, sample in enumerate(first.samples) if sample.path in where]
    theirs = [where[first.samples[index].path] for index in mine]
    y, a, b = first.label[mine], first.score[mine], second.score[theirs]
    if len(set(y.tolist())) < 2:
        return {}, len(mine)
    weights = group_weights(first.group[mine], strata=y, rounds=rounds)
    pairs: dict[str, Pair] = {}
    drawn = weighted_auc(y, a, weights) - weighted_auc(y, b, weights)
    pairs["auc"] = auc(y, a) - auc(y, b), interval(drawn)
    drawn = weighted_tpr_at_fpr(y, a, weights, 0.01) - weighted_tpr_at_fpr(y, b, weights, 0.01)
    pairs["tpr_at_fpr_1"] = tpr_at_fpr(y, a, 0.01) - tpr_at_fpr(y, b, 0.01), interval(drawn)
    return pairs, len(mine)


def differences(scores: Mapping[str, Scores], split: str, chain: str, *, rounds: int = 1000) -> list[Figure]:
    """Return AUC and TPR at 1 % of each contender minus each later one, paired by picture and group.

    An interval that does not hold 0 says that one is better on pictures like these.
    """
    figures = []
    for (name, first), (other, second) in itertools.combinations(scores.items(), 2):
        pairs, n = _paired(first, second, rounds)
        figures += [
            Figure(name, split, chain, "difference", f"minus {other}", metric, value, *bounds, n)
            for metric, (value, bounds) in pairs.items()
        ]
    return figures


def since_plain(
    name: str, plain: Scores, perturbed: Scores, split: str, chain: str, *, rounds: int = 1000
) -> list[Figure]:
    """Return what a chain does to one contender: perturbed minus plain, on the same pictures."""
    pairs, n = _paired(perturbed, plain, rounds)
    return [
        Figure(name, split, chain, "chain", "minus none", metric, value, *bounds, n)
        for metric, (value, bounds) in pairs.items()
    ]


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[float, float, float]:
    """Return Spearman's correlation with its 95 % interval (Bonett and Wright 2000); NaN where one is constant."""
    rho, n = spearman(a, b), len(np.asarray(a))
    if not math.isfinite(rho) or n < 5:
        return rho, math.nan, math.nan
    middle = math.atanh(min(max(rho, -0.999999), 0.999999))
    half = 1.959964 * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return rho, math.tanh(middle - half), math.tanh(middle + half)


def to_json(figure: Figure) -> dict[str, Any]:
    """Return the figure for JSON: numbers that are not finite become null."""
    return {
        column: None if isinstance(value, float) and not math.isfinite(value) else value
        for column, value in zip(COLUMNS, figure.row(), strict=True)
    }
