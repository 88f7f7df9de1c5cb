"""Score, calibration, operating point and quality -> photograph, generated or inconclusive, with reasons."""

from __future__ import annotations

import math

from faceproof.detectors.card import Card, OperatingPoint
from faceproof.records import Evidence, QualityReason, Verdict

__all__ = ["decide"]


def decide(score: float, quality: tuple[QualityReason, ...], card: Card, point: OperatingPoint) -> Verdict:
    """Return the verdict on one face.

    Args:
        score: raw score of the detector.
        quality: reasons why the face should not be judged; any makes the verdict inconclusive.
        card: of the detector; gives the calibration.
        point: operating point in force. At or above `point.high` the face is called generated, below
            `point.low` a photograph, between them nothing is claimed.
    """
    curve = card.calibration
    odds = curve.log_odds(score)
    flagged = curve.probability(point.threshold)
    band = (curve.probability(point.low), curve.probability(point.high))
    leaning = "generated" if odds > 0 else "photograph"
    evidence = Evidence(
        f"detector {card.name} {card.version}",
        odds,
        f"the detector speaks for {leaning} with odds of {_odds(odds)} to 1 (score {score:+.2f})",
    )
    rate = f"{100 * point.fpr:g} %"
    if quality:
        label = "inconclusive"
        reasons = [f"not judged: {reason.sentence}" for reason in quality]
    elif score >= point.high:
        label = "generated"
        reasons = [f"the score is above the threshold that {rate} of known photographs reach"]
    elif score < point.low:
        label = "photograph"
        reasons = [
            f"the score is below the threshold that {rate} of known photographs reach: "
            "no trace of a generator was found"
        ]
    else:
        label = "inconclusive"
        reasons = [
            f"the score lies in the band around the {rate} threshold where {point.photographs} known "
            "photographs cannot decide"
        ]
    return Verdict(
        label=label,  # type: ignore[arg-type]
        score=score,
        probability=curve.probability(score),
        threshold=flagged,
        threshold_fpr=point.fpr,
        band=band,
        evidence=(evidence,),
        reasons=(*reasons, evidence.sentence),
    )


def _odds(log_odds: float) -> str:
    value = math.exp(min(abs(log_odds), 14))
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
