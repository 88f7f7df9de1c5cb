"""Class-conditional conformal prediction: answers with a promised error rate for each class apart. numpy only.

Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", section 4.5 (Mondrian, label-conditional).
The promise holds for faces that are exchangeable with the calibration faces: same kinds of sources and
generators. On others it has to be measured (`coverage`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import ModelError, UsageError
from faceproof.metrics import wilson

__all__ = ["FEWEST", "MAX_SCORES", "Conformal", "Coverage", "coverage"]

Floats = npt.NDArray[np.float64]

MAX_SCORES = 5000
"""Calibration scores kept for each class: of more, a random part, which keeps the promise and is only coarser."""
FEWEST = 20
"""Calibration scores a class needs; with n of them no error rate under 1 / (n + 1) can be promised."""


@dataclass(frozen=True)
class Conformal:
    """Calibration scores of both classes.

    Attributes:
        photographs, generated: ascending finite scores of faces that fitted nothing, at least 20 each;
            higher = more likely generated.
    """

    photographs: tuple[float, ...]
    generated: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("photographs", "generated"):
            values = getattr(self, name)
            if not FEWEST <= len(values) <= MAX_SCORES:
                raise ModelError(
                    f"conformal sets need {FEWEST} to {MAX_SCORES:,} calibration scores of {name}, not {len(values):,}"
                )
            array = np.array(values, dtype=np.float64)
            if not np.isfinite(array).all() or (np.diff(array) < 0).any():
                raise ModelError(f"the calibration scores of {name} must be finite and ascend")

    @classmethod
    def of(cls, labels: npt.ArrayLike, scores: npt.ArrayLike, *, seed: int = 0) -> Conformal:
        """Take calibration faces: `labels` (N,) with 1 = generated, `scores` (N,).

        Raises:
            UsageError: a class has fewer than 20 faces, or a score is not finite.
        """
        y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
        if y.shape != s.shape or y.ndim != 1:
            raise UsageError(f"labels and scores must be two vectors of one length, got {y.shape} and {s.shape}")
        parts = []
        for label, name in ((0, "photographs"), (1, "generated faces")):
            own = s[y == label]
            if len(own) < FEWEST or not np.isfinite(own).all():
                raise UsageError(
                    f"conformal sets need at least {FEWEST} {name} with finite scores; {len(own)} were given: "
                    "calibrate on more pictures"
                )
            if len(own) > MAX_SCORES:
                own = np.random.default_rng(seed).choice(own, MAX_SCORES, replace=False)
            parts.append(tuple(float(v) for v in np.sort(own)))
        return cls(parts[0], parts[1])

    @classmethod
    def from_card(cls, raw: Mapping[str, Any]) -> Conformal:
        """Read what `to_card` wrote.

        Raises:
            ModelError: the scores are none.
            KeyError, TypeError, ValueError: a list is missing or holds something else.
        """
        lists = [raw[name] for name in ("photographs", "generated")]
        if not all(isinstance(values, list) and len(values) <= MAX_SCORES for values in lists):
            raise ModelError(f"conformal calibration scores are two lists of at most {MAX_SCORES:,} numbers")
        return cls(*(tuple(float(v) for v in values) for values in lists))

    def to_card(self) -> dict[str, Any]:
        """Return plain JSON values, six digits after the point."""
        return {name: [round(v, 6) for v in getattr(self, name)] for name in ("photographs", "generated")}

    def p_photograph(self, scores: npt.ArrayLike) -> Floats:
        """Return the conformal p-value of "photograph" for each score: (1 + photographs at or above) / (n + 1)."""
        own = np.array(self.photographs)
        reached = len(own) - np.searchsorted(own, np.asarray(scores, dtype=np.float64), side="left")
        return np.asarray((1 + reached) / (len(own) + 1))

    def p_generated(self, scores: npt.ArrayLike) -> Floats:
        """Return the conformal p-value of "generated" for each score: (1 + generated at or below) / (n + 1)."""
        own = np.array(self.generated)
        reached = np.searchsorted(own, np.asarray(scores, dtype=np.float64), side="right")
        return np.asarray((1 + reached) / (len(own) + 1))

    def high(self, rate: float) -> float:
        """Return the lowest score at which "photograph" is ruled out: p_photograph <= `rate` from there up.

        Infinite where `rate` is under 1 / (n + 1): so few photographs cannot promise it.

        Raises:
            UsageError: `rate` is not between 0 and 1.
        """
        over = _allowed(rate, len(self.photographs))
        return math.inf if over < 0 else float(np.nextafter(self.photographs[-1 - over], np.inf))

    def low(self, rate: float) -> float:
        """Return the score below which "generated" is ruled out: p_generated <= `rate`; -inf as in `high`."""
        under = _allowed(rate, len(self.generated))
        return -math.inf if under < 0 else self.generated[under]


def _allowed(rate: float, count: int) -> int:
    """How many calibration scores may lie beyond the limit: the largest k with (1 + k) / (n + 1) <= rate; may be -1."""
    if not 0 < rate < 1:
        raise UsageError(f"an error rate must lie between 0 and 1, not {rate}")
    return min(count, math.floor(rate * (count + 1) + 1e-9)) - 1


@dataclass(frozen=True)
class Coverage:
    """What was promised and what was seen, for one kind of faces.

    Attributes:
        label: 0 photograph, 1 generated.
        promised: share of faces whose true answer must not be ruled out: 1 - error rate.
        measured: share seen. low, high: its 95 % interval (Wilson; faces taken as independent).
        decided: share that got one answer, right or wrong; the others are inconclusive.
        count: faces.
    """

    label: int
    promised: float
    measured: float
    low: float
    high: float
    decided: float
    count: int


def coverage(conformal: Conformal, label: int, scores: npt.ArrayLike, *, fpr: float, alpha: float) -> Coverage:
    """Measure coverage on faces of one class.

    Args:
        conformal: calibration scores.
        label: the faces' true class, 0 photograph or 1 generated.
        scores: (N,), N >= 1.
        fpr: error rate promised for photographs. alpha: for generated faces.
    """
    s = np.asarray(scores, dtype=np.float64)
    if label not in (0, 1) or s.ndim != 1 or not len(s):
        raise UsageError("coverage needs a label of 0 or 1 and at least one score")
    photograph, generated = conformal.p_photograph(s) > fpr, conformal.p_generated(s) > alpha
    kept = generated if label else photograph
    low, high = wilson(int(kept.sum()), len(s))
    promised = 1 - (alpha if label else fpr)
    return Coverage(label, promised, float(kept.mean()), low, high, float((photograph != generated).mean()), len(s))
