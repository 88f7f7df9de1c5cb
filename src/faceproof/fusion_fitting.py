"""Fit the weights of a fusion on held-out faces, and the limits between the answers.

Logistic regression on calibrated log-odds, each class weighing one half, with a Gaussian prior that holds the
supervised detector's weight near 1 (its log-odds are calibrated already) and the others' near 0: a second
opinion has to show that it adds something. Conformal limits come from cross-fitted sums: each face's
is made with weights that have not seen its group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.calibration import class_weights, folds_by_group, operating_point
from faceproof.conformal import Conformal
from faceproof.curves import Calibration, sigmoid
from faceproof.errors import UsageError
from faceproof.fusion import FUSION_SCHEMA, SUPERVISED
from faceproof.metrics import nll

__all__ = ["Faces", "FittedFusion", "Part", "fit_fusion"]

Floats = npt.NDArray[np.float64]

PRIOR_SPREAD = 0.5
"""Standard deviation of the prior on a weight, for log-odds or a score of unit spread."""
SHARES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Shares of photographs at which the alarm's score is noted."""
TAIL_FPR = 0.001
STEPS = 100


@dataclass(frozen=True)
class Faces:
    """Held-out faces fit to be judged.

    Attributes:
        labels: (N,) 0 photograph, 1 generated. groups: (N,) names.
        scores: name -> (N,) raw scores.
    """

    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    scores: Mapping[str, Floats]


@dataclass(frozen=True)
class Part:
    """One detector's part before fitting.

    Attributes:
        name: of the score. sha256: of the weights behind it.
        curve: from its card; None where the raw score is weighed.
        sentence: see `fusion.Term`.
    """

    name: str
    sha256: str
    curve: Calibration | None
    sentence: str


@dataclass(frozen=True)
class FittedFusion:
    """What came out.

    Attributes:
        raw: fusion.json, without what the caller adds about the data.
        dropped: parts whose weight would have been zero or negative.
        alone, fused: cross-fitted NLL in nats, classes alike, of the supervised detector and of the sum.
        sums: (N,) cross-fitted log-odds.
    """

    raw: dict[str, Any]
    dropped: tuple[str, ...]
    alone: float
    fused: float
    sums: Floats


def fit_fusion(
    faces: Faces,
    parts: Sequence[Part],
    *,
    fpr: float = 0.01,
    alpha: float = 0.2,
    alarm: str | None = None,
    folds: int = 5,
) -> FittedFusion:
    """Fit weights, conformal limits and the alarm.

    Args:
        faces: at least 20 of each class.
        parts: the supervised detector's first.
        fpr, alpha: defaults of the fusion.
        alarm: name of the score that raises it; None for no alarm.
        folds: of the cross-fitting, by group.

    Raises:
        UsageError: the first part is not the supervised one, or there are too few faces.
    """
    if not parts or parts[0].name != SUPERVISED:
        raise UsageError(f"the first part of a fusion is {SUPERVISED!r}")
    kept, dropped = list(parts), []
    while True:
        x = np.stack([_value(part, faces.scores[part.name]) for part in kept], axis=1)
        bias, slopes = _logistic(x, faces.labels)
        worst = int(np.argmin(slopes))
        if slopes[worst] > 1e-3:
            break
        if worst == 0:
            raise UsageError("the supervised detector's score is no higher for generated faces; check the labels")
        dropped.append(kept.pop(worst).name)
    fold = folds_by_group(faces.labels, faces.groups, folds=folds)
    sums, alone = np.empty(len(x)), np.empty(len(x))
    for number in np.unique(fold):
        rest, own = fold != number, fold == number
        fold_bias, fold_slopes = _logistic(x[rest], faces.labels[rest])
        sums[own] = fold_bias + x[own] @ fold_slopes
        one_bias, one_slope = _logistic(x[rest, :1], faces.labels[rest])
        alone[own] = one_bias + x[own, :1] @ one_slope
    weights = class_weights(faces.labels)
    photographs = faces.labels == 0
    tail = operating_point(sums[photographs], faces.groups[photographs], TAIL_FPR)
    raw: dict[str, Any] = {
        "schema": FUSION_SCHEMA,
        "bias": bias,
        "terms": [
            _term(part, float(slope), faces.scores[part.name]) for part, slope in zip(kept, slopes, strict=True)
        ],
        "conformal": Conformal.of(faces.labels, sums).to_card(),
        "operating_points": [
            {
                "fpr": tail.fpr, "threshold": tail.threshold, "interval": [tail.low, tail.high],
                "photographs": tail.photographs, "method": tail.method,
            }
        ],
        "fpr": fpr,
        "alpha": alpha,
        "alarm": None if alarm is None else _alarm(alarm, faces.scores[alarm][photographs]),
    }  # fmt: skip
    return FittedFusion(
        raw, tuple(dropped), nll(faces.labels, sigmoid(alone), weights=weights),
        nll(faces.labels, sigmoid(sums), weights=weights), sums,
    )  # fmt: skip


def _value(part: Part, scores: Floats) -> Floats:
    """What the weight multiplies: calibrated log-odds, or the score within the range seen."""
    return part.curve.curve(scores) if part.curve is not None else np.clip(scores, *_range(scores))


def _range(scores: Floats) -> tuple[float, float]:
    """The middle 98 % of the scores: no single score outweighs what was seen."""
    low, high = np.quantile(scores, [0.01, 0.99])
    return float(low), float(high)


def _term(part: Part, slope: float, scores: Floats) -> dict[str, Any]:
    low, high = (-1e3, 1e3) if part.curve is not None else _range(scores)
    return {
        "name": part.name, "sha256": part.sha256, "slope": slope, "range": [low, high],
        "curve": None if part.curve is None else part.curve.to_card(), "sentence": part.sentence,
    }  # fmt: skip


def _alarm(name: str, photographs: Floats) -> dict[str, Any]:
    """Scores that the given shares of photographs reach, as conformal p-values: (1 + k) / (n + 1)."""
    ordered, count = np.sort(photographs)[::-1], len(photographs)
    limits = []
    for share in SHARES:
        over = int(share * (count + 1)) - 1
        if over >= 0:
            limits.append([float(np.nextafter(ordered[over], np.inf)), share])
    return {"term": name, "limits": limits, "fpr": 0.01}


def _logistic(x: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, Floats]:
    """Bias and weights of highest posterior, by Newton's method; the loss is convex, and the prior bounds it.

    The prior: the first weight near 1, the others near 0, in units of a score of unit spread.
    """
    spread = np.concatenate([[1.0], np.maximum(x[:, 1:].std(0), 1e-9)])
    design = np.concatenate([np.ones((len(x), 1)), x / spread], axis=1)
    weight = class_weights(labels) * len(labels)
    prior = np.zeros(design.shape[1])
    prior[1] = 1.0
    precision = np.full(design.shape[1], 1 / PRIOR_SPREAD**2)
    precision[0] = 1e-6  # the bias is free
    beta = prior.copy()
    for _ in range(STEPS):
        p = sigmoid(design @ beta)
        gradient = design.T @ (weight * (p - labels)) + precision * (beta - prior)
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        beta -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[0]), beta[1:] / spread
