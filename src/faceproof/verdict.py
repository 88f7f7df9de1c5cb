"""Evidence, limits, quality, stability -> photograph, generated or inconclusive, with reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from faceproof.curves import sigmoid
from faceproof.fusion import START, Rule
from faceproof.records import Evidence, QualityReason, Stability, Verdict

__all__ = ["decide", "steadied"]


def decide(
    score: float,
    evidence: Sequence[Evidence],
    quality: tuple[QualityReason, ...],
    rule: Rule,
    *,
    alarm: float | None = None,
) -> Verdict:
    """Return the verdict on one face.

    Args:
        score: raw score of the detector, kept for the record.
        evidence: pieces whose weights, natural log-odds, are summed. Only the sum is held against `rule`.
        quality: reasons why the face should not be judged; any makes the verdict inconclusive.
        rule: at or above `rule.high` the face is called generated, below `rule.low` a photograph, between
            them nothing is claimed.
        alarm: share of photographs as unlike photographs as this face, where that is an alarm: a
            "photograph" is then not claimed.
    """
    odds = math.fsum(piece.weight for piece in evidence)
    label, reasons = _answer(odds, rule)
    if quality:
        label, reasons = "inconclusive", [f"not judged: {reason.sentence}" for reason in quality]
    elif alarm is not None and label == "photograph":
        label = "inconclusive"
        reasons = [
            f"no trace of a known generator was found, but only {100 * alarm:.2g} % of photographs are as unlike "
            "other photographs: perhaps a generator never met"
        ]
    ordered = sorted(evidence, key=lambda piece: -abs(piece.weight))
    return Verdict(
        label=label,  # type: ignore[arg-type]
        score=score,
        log_odds=odds,
        probability=_probability(odds),
        threshold=_probability(rule.threshold),
        threshold_fpr=rule.fpr,
        band=(_probability(rule.low), _probability(rule.high)),
        alpha=rule.alpha,
        evidence=tuple(evidence),
        alarm=alarm is not None,
        reasons=(*reasons, *(piece.sentence for piece in ordered if piece.name != START)),
    )


def steadied(verdict: Verdict, after: Sequence[tuple[str, float]], rule: Rule) -> Verdict:
    """Return the verdict with its stability certificate; a flip makes it inconclusive.

    Args:
        verdict: on the face as it is.
        after: (perturbation, log-odds of generated after it), at least one.
        rule: the verdict's.
    """
    other = {"photograph": "generated", "generated": "photograph"}
    opposite = other.get(rule.label(verdict.log_odds))
    flips = tuple(chain for chain, odds in after if rule.label(odds) == opposite)
    stability = Stability(tuple((chain, _probability(odds)) for chain, odds in after), flips)
    reasons, label = verdict.reasons, verdict.label
    if flips and label != "inconclusive":
        label = "inconclusive"
        reasons = (f"the answer turns into {opposite} after {_listed(flips)}", *reasons)
    return replace(verdict, label=label, stability=stability, reasons=reasons)


def _answer(odds: float, rule: Rule) -> tuple[str, list[str]]:
    rate = f"{100 * rule.fpr:g} %"
    label = rule.label(odds)
    if label == "generated":
        return label, [f"the evidence is above the threshold that {rate} of known photographs reach"]
    if label == "photograph":
        missed = "" if rule.alpha is None else f", and {100 * rule.alpha:g} % of known generated faces lie as low"
        return label, [
            f"the evidence is below the threshold that {rate} of known photographs reach{missed}: "
            "no trace of a generator was found"
        ]
    if rule.alpha is None:
        return label, [
            f"the evidence lies in the band around the {rate} threshold where {rule.photographs} known "
            "photographs cannot decide"
        ]
    return label, [
        f"the evidence lies where neither answer keeps its promise: at most {rate} of photographs called generated, "
        f"at most {100 * rule.alpha:g} % of generated faces called photographs"
    ]


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _probability(log_odds: float) -> float:
    return float(sigmoid(log_odds))
