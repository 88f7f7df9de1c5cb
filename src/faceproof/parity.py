"""What an exported network's scores are worth beside those of the network it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card
from faceproof.errors import ModelError, UsageError
from faceproof.fusion import SUPERVISED, Rule, Single
from faceproof.metrics import auc, tpr_at_fpr

__all__ = ["Parity", "compare", "decision"]


@dataclass(frozen=True)
class Parity:
    """Two networks on the same crops.

    Attributes:
        photographs, generated: faces of each class.
        largest, mean: absolute differences of scores.
        probability: largest absolute difference of probabilities by the card's curve.
        auc_before, auc_after: area under the ROC curve, of the original and of the export.
        tpr_before, tpr_after: true positive rate at a false-alarm rate of 1 %, each at its own threshold.
        changed: share of faces whose answer is another one at the card's limits; opposite: whose answer is the
            opposite one (generated instead of photograph or the other way round).
    """

    photographs: int
    generated: int
    largest: float
    mean: float
    probability: float
    auc_before: float
    auc_after: float
    tpr_before: float
    tpr_after: float
    changed: float
    opposite: float

    @property
    def auc_loss(self) -> float:
        """AUC before minus after; below 0 where the export is better."""
        return self.auc_before - self.auc_after

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, and the loss."""
        return asdict(self) | {"auc_loss": self.auc_loss}


def compare(labels: npt.ArrayLike, before: npt.ArrayLike, after: npt.ArrayLike, card: Card) -> Parity:
    """Compare scores (N,) of the original and the export on the same faces.

    Args:
        labels: (N,) 1 = generated, 0 = photograph; both there.
        before, after: raw scores.
        card: of the original, for its curve and limits.

    Raises:
        ModelError: the export's scores are not finite.
        UsageError: lengths differ, or a class is missing.
    """
    y, a, b = np.asarray(labels), np.asarray(before, np.float64), np.asarray(after, np.float64)
    if not (y.shape == a.shape == b.shape) or y.ndim != 1:
        raise UsageError(f"labels and scores must be vectors of one length, got {y.shape}, {a.shape} and {b.shape}")
    if not np.isfinite(b).all():
        raise ModelError(f"{int((~np.isfinite(b)).sum())} of {len(b)} scores of the exported network are not finite")
    difference = np.abs(a - b)
    curve = card.calibration.probability
    one, other = _answers(a, card), _answers(b, card)
    opposite = [{p, q} == {"photograph", "generated"} for p, q in zip(one, other, strict=True)]
    return Parity(
        photographs=int((y == 0).sum()),
        generated=int((y == 1).sum()),
        largest=float(difference.max()),
        mean=float(difference.mean()),
        probability=float(np.abs(curve(a) - curve(b)).max()),
        auc_before=auc(y, a),
        auc_after=auc(y, b),
        tpr_before=tpr_at_fpr(y, a, 0.01),
        tpr_after=tpr_at_fpr(y, b, 0.01),
        changed=float(np.mean([p != q for p, q in zip(one, other, strict=True)])),
        opposite=float(np.mean(opposite)),
    )


def _answers(scores: npt.NDArray[np.float64], card: Card) -> Sequence[str]:
    alone = Single(card)
    rule = alone.rule(None, None)
    return [rule.label(sum(piece.weight for piece in alone.evidence({SUPERVISED: float(s)}))) for s in scores]


def decision(card: Card) -> dict[str, Any]:
    """Return a model's limits between the three answers, as an app needs them: plain numbers.

    `score >= generated_from` is "generated", `score < photograph_below` is "photograph", the rest is
    "inconclusive"; the probabilities are the curve's at these scores, for showing.
    """
    rule: Rule = Single(card).rule(None, None)
    low, high = _limits(card)
    return {
        "generated_from": high,
        "photograph_below": low,
        "probability_generated_from": card.calibration.probability(high),
        "probability_photograph_below": card.calibration.probability(low),
        "false_alarm_rate": rule.fpr,
        "miss_rate": rule.alpha,
        "between": "inconclusive",
    }


def _limits(card: Card) -> tuple[float, float]:
    """Scores of the limits, lowest first: what `Single.rule` has in log-odds."""
    point = card.point()
    if card.conformal is None or card.default_fpr * (len(card.conformal.photographs) + 1) < 1:
        return point.low, point.high
    high, low = card.conformal.high(card.default_fpr), card.conformal.low(Single(card).alpha)
    return min(low, high), max(low, high)
