"""From raw scores to pieces of evidence in log-odds, and the limits between the three answers.

The log-odds of generated are a sum: a starting point, one learned weight times each detector's score
(logistic regression; each class weighs one half, so the prior is one half), and what a file says about itself.
`Fusion` is such a sum over several detectors, as fusion.json beside a model's card holds it; `Single` is
a model by itself, with the curve of its card.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from faceproof.conformal import Conformal
from faceproof.curves import Calibration, calibration_from_card
from faceproof.detectors.card import Card, OperatingPoint
from faceproof.errors import ModelError, UsageError
from faceproof.records import Evidence

__all__ = [
    "ANOMALY",
    "FUSION_SCHEMA",
    "SINGLE_SENTENCE",
    "START",
    "SUPERVISED",
    "TILT",
    "Alarm",
    "Combiner",
    "Fusion",
    "Rule",
    "Single",
    "Term",
    "read_fusion",
]

FUSION_SCHEMA = "faceproof.fusion/1"
FUSION_FILE = "fusion.json"
SUPERVISED, ANOMALY, START = "supervised", "anomaly", "starting point"
"""Terms: the model the fusion lies beside, the mixture of photographs on its embedding, and the bias."""
MAX_BYTES = 2 * 1024 * 1024
TILT = 1e-9
"""Log-odds per unit of score added to a card's curve, so that scores keep their order where the curve is level."""


SINGLE_SENTENCE = "the detector speaks for {leaning} with odds of {odds} to 1 (score {score})"


@dataclass(frozen=True)
class Rule:
    """Where log-odds become answers.

    Attributes:
        high: from here up "generated". low: below it "photograph". Between them nothing is claimed.
        threshold: of the operating point, for showing; fpr: share of photographs at or above `high`
            (or `threshold` where nothing is promised).
        alpha: share of generated faces below `low`, as promised; None where nothing is promised.
        photographs: how many photographs it rests on.
    """

    high: float
    low: float
    threshold: float
    fpr: float
    alpha: float | None
    photographs: int

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise ModelError(
                f"the limits between the answers must be finite and ascend, not {self.low} and {self.high}"
            )

    def label(self, log_odds: float) -> str:
        """Return the answer for a face."""
        if log_odds >= self.high:
            return "generated"
        return "photograph" if log_odds < self.low else "inconclusive"


def _rule(conformal: Conformal, fpr: float, alpha: float, name: str, more: str = "") -> Rule:
    """Limits that keep both promises: where both classes or neither stay possible, nothing is claimed."""
    high, low = conformal.high(fpr), conformal.low(alpha)
    if math.isinf(high) or math.isinf(low):
        short, count = (
            ("false-alarm rate", len(conformal.photographs))
            if math.isinf(high)
            else ("miss rate (alpha)", len(conformal.generated))
        )
        raise UsageError(
            f"{name} was calibrated on {count} such faces, which cannot promise a {short} of "
            f"{fpr if math.isinf(high) else alpha:g}; give at least {1 / (count + 1):.2g}"
            f"{more if math.isinf(high) else ''}"
        )
    return Rule(max(high, low), min(high, low), high, fpr, alpha, len(conformal.photographs))


class Combiner(Protocol):
    """Turns scores into evidence and says where the answers lie."""

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the scores it needs."""
        ...

    def evidence(self, scores: Mapping[str, float]) -> tuple[Evidence, ...]:
        """Return pieces whose weights add up to the log-odds of generated at a prior of one half."""
        ...

    def rule(self, fpr: float | None, alpha: float | None) -> Rule:
        """Return the limits for a false-alarm rate and a miss rate; None takes the defaults.

        Raises:
            UsageError: such rates cannot be promised.
        """
        ...

    def alarm(self, scores: Mapping[str, float]) -> float | None:
        """Return the share of photographs that are as unlike photographs as this face, if that is an alarm."""
        ...


@dataclass(frozen=True)
class Single:
    """One model by itself: log-odds by the curve of its card.

    Attributes:
        card: of the model. alpha: default miss rate, where the card holds conformal scores.
    """

    card: Card
    alpha: float = 0.2

    @property
    def title(self) -> str:
        """Name of its one piece of evidence."""
        return f"detector {self.card.name} {self.card.version}"

    @property
    def detectors(self) -> tuple[str, ...]:
        """The model's own score."""
        return (SUPERVISED,)

    def evidence(self, scores: Mapping[str, float]) -> tuple[Evidence, ...]:
        """Return one piece."""
        score = scores[SUPERVISED]
        odds = self._log_odds(score)
        words = {"odds": _odds(odds), "leaning": _leaning(odds), "score": f"{score:+.2f}"}
        return (Evidence(self.title, odds, _filled(SINGLE_SENTENCE, words)),)

    def rule(self, fpr: float | None, alpha: float | None) -> Rule:
        """Return limits by the card's conformal scores, or its threshold's interval where it has none."""
        wanted = self.card.default_fpr if fpr is None else fpr
        if self.card.conformal is not None and wanted * (len(self.card.conformal.photographs) + 1) >= 1:
            limits = _rule(self.card.conformal, wanted, self.alpha if alpha is None else alpha, self.card.name)
            return Rule(
                self._log_odds(limits.high), self._log_odds(limits.low), self._log_odds(limits.threshold),
                limits.fpr, limits.alpha, limits.photographs,
            )  # fmt: skip
        if alpha is not None:
            raise UsageError(
                f"model {self.card.name} cannot promise a miss rate at a false-alarm rate of {wanted:g}; "
                "calibrate it on more photographs with `faceproof calibrate`, or leave --alpha out"
            )
        point = self.card.point(fpr)
        odds = [self._log_odds(value) for value in (point.high, point.low, point.threshold)]
        return Rule(odds[0], odds[1], odds[2], point.fpr, None, point.photographs)

    def alarm(self, scores: Mapping[str, float]) -> float | None:
        """Return None: there is no second opinion."""
        return None

    def _log_odds(self, score: float) -> float:
        return self.card.calibration.log_odds(score) + TILT * score


@dataclass(frozen=True)
class Term:
    """One detector's part of the sum.

    Attributes:
        name: of the score: "supervised", "anomaly", "alignment".
        sha256: of the weights that give it; "" where there are none.
        slope: natural log-odds per unit of score (or of the curve's log-odds); above 0.
        low, high: the score is held within these, so that no single piece can outweigh all others.
        curve: from score to log-odds before the slope; None weighs the score itself.
        sentence: what the piece says, with {odds}, {leaning} and {score}.
    """

    name: str
    sha256: str
    slope: float
    low: float
    high: float
    sentence: str
    curve: Calibration | None = None

    def __post_init__(self) -> None:
        if not self.name or not 0 < self.slope < math.inf or not -math.inf < self.low < self.high < math.inf:
            raise ModelError(f"a term needs a name, a positive slope and low < high, not {self}")

    def weight(self, score: float) -> float:
        """Natural log-odds for a score."""
        held = min(self.high, max(self.low, score))
        return self.slope * (held if self.curve is None else self.curve.log_odds(held) + TILT * held)


@dataclass(frozen=True)
class Alarm:
    """When a face is so unlike photographs that a "photograph" is not claimed.

    Attributes:
        term: the score it looks at. limits: (score, share of photographs at or above it), shares falling.
        fpr: at or below this share there is an alarm.
    """

    term: str
    limits: tuple[tuple[float, float], ...]
    fpr: float

    def share(self, score: float) -> float:
        """Return the share of photographs at or above a score, to the next limit above."""
        return next((share for limit, share in reversed(self.limits) if score >= limit), 1.0)


@dataclass(frozen=True)
class Fusion:
    """A sum over several detectors.

    Attributes:
        bias: the starting point, natural log-odds. terms: its parts.
        conformal: calibration scores, in log-odds.
        points: operating points in log-odds that reach further than the conformal scores (extrapolated).
        fpr, alpha: defaults.
        warning: the alarm for unknown generators; None if there is none.
        raw: the whole file.
    """

    bias: float
    terms: tuple[Term, ...]
    conformal: Conformal
    points: tuple[OperatingPoint, ...]
    fpr: float
    alpha: float
    warning: Alarm | None
    raw: Mapping[str, Any]

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not math.isfinite(self.bias) or SUPERVISED not in names or len(set(names)) != len(names):
            raise ModelError(f"a fusion needs a finite bias and each term once, {SUPERVISED!r} among them; got {names}")
        if self.warning is not None and self.warning.term not in names:
            raise ModelError(f"the alarm looks at {self.warning.term!r}, which is no term of the fusion")

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the scores it needs."""
        return tuple(term.name for term in self.terms)

    def evidence(self, scores: Mapping[str, float]) -> tuple[Evidence, ...]:
        """Return the starting point and one piece for each score that is there."""
        pieces = [Evidence(START, self.bias, "where the sum starts: what the scores' zero means")]
        for term in self.terms:
            if term.name not in scores:
                continue
            score = scores[term.name]
            weight = term.weight(score)
            words = {"odds": _odds(weight), "leaning": _leaning(weight), "score": f"{score:+.2f}"}
            pieces.append(Evidence(term.name, weight, _filled(term.sentence, words)))
        return tuple(pieces)

    def rule(self, fpr: float | None, alpha: float | None) -> Rule:
        """Return limits by the conformal scores; beyond their reach by an extrapolated operating point."""
        wanted = self.fpr if fpr is None else fpr
        beyond = [point for point in self.points if math.isclose(point.fpr, wanted, rel_tol=1e-6)]
        if beyond and wanted * (len(self.conformal.photographs) + 1) < 1:
            point = beyond[0]
            low = min(self.conformal.low(self.alpha if alpha is None else alpha), point.low)
            return Rule(point.high, low, point.threshold, wanted, None, point.photographs)
        more = "".join(f" or {point.fpr:g} (extrapolated)" for point in self.points)
        return _rule(self.conformal, wanted, self.alpha if alpha is None else alpha, "this fusion", more)

    def alarm(self, scores: Mapping[str, float]) -> float | None:
        """Return the share of photographs as unlike photographs as this face, if it is at most the alarm's."""
        if self.warning is None or self.warning.term not in scores:
            return None
        share = self.warning.share(scores[self.warning.term])
        return share if share <= self.warning.fpr else None


def read_fusion(folder: str | Path) -> Fusion | None:
    """Read fusion.json of a model folder; None if there is none.

    Raises:
        ModelError: it cannot be used.
    """
    path = Path(folder) / FUSION_FILE
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} is larger than a fusion can be ({path.stat().st_size} bytes)")
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except (
        UsageError, ModelError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
    ) as err:  # fmt: skip
        what = f"field {err} is missing" if isinstance(err, KeyError) else str(err)
        raise ModelError(f"{path} is not a usable fusion: {what}; get the model again") from err


def _parse(raw: dict[str, Any]) -> Fusion:
    if raw.get("schema") != FUSION_SCHEMA:
        raise ValueError(f"schema is {raw.get('schema')!r}, this version reads {FUSION_SCHEMA!r}")
    terms = tuple(
        Term(
            str(t["name"]), str(t["sha256"]), float(t["slope"]), float(t["range"][0]), float(t["range"][1]),
            str(t["sentence"]), None if t.get("curve") is None else calibration_from_card(t["curve"]),
        )
        for t in raw["terms"]
    )  # fmt: skip
    points = tuple(
        OperatingPoint(
            float(p["fpr"]), float(p["threshold"]), float(p["interval"][0]), float(p["interval"][1]),
            int(p["photographs"]), str(p["method"]),
        )
        for p in raw.get("operating_points", [])
    )  # fmt: skip
    alarm = raw.get("alarm")
    warning = None
    if alarm is not None:
        limits = tuple((float(limit), float(share)) for limit, share in alarm["limits"])
        warning = Alarm(str(alarm["term"]), limits, float(alarm["fpr"]))
    return Fusion(
        float(raw["bias"]), terms, Conformal.from_card(raw["conformal"]), points, float(raw["fpr"]),
        float(raw["alpha"]), warning, raw,
    )  # fmt: skip


def _filled(sentence: str, words: Mapping[str, str]) -> str:
    """Put words into a sentence; not str.format, which would let a card reach into objects."""
    for name, word in words.items():
        sentence = sentence.replace("{" + name + "}", word)
    return sentence


def _leaning(log_odds: float) -> str:
    return "generated" if log_odds > 0 else "photograph"


def _odds(log_odds: float) -> str:
    value = math.exp(min(abs(log_odds), 14))
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
