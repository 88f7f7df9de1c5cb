"""The curves that turn a score into log-odds, and how a card holds them. numpy only; fitting is in `calibration`.

Every curve rises, assumes a prior of one half, and gives finite log-odds for every finite score.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from faceproof.errors import ModelError, unknown_name

__all__ = ["MAX_KNOTS", "Calibration", "Isotonic", "Platt", "Temperature", "calibration_from_card", "sigmoid"]

Floats = npt.NDArray[np.float64]

MAX_KNOTS = 200
LARGEST = 1e6
"""Beyond this a knot or a temperature is a damaged card: scores and log-odds are a few dozen at most."""


def sigmoid(value: npt.ArrayLike) -> Floats:
    """Logistic function, float64, without overflow."""
    x = np.asarray(value, dtype=np.float64)
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


class Calibration(ABC):
    """A rising curve from score to log-odds of generated, at a prior of one half."""

    method: ClassVar[str]

    @abstractmethod
    def curve(self, scores: npt.ArrayLike) -> Floats:
        """Return natural log-odds of generated, float64 of the shape of `scores`."""

    @abstractmethod
    def to_card(self) -> dict[str, Any]:
        """Return method and numbers as `calibration` in card.json holds them."""

    def log_odds(self, score: float) -> float:
        """Return natural log-odds of generated for one score."""
        return float(self.curve(float(score)))

    @overload
    def probability(self, scores: float) -> float: ...
    @overload
    def probability(self, scores: Floats) -> Floats: ...
    def probability(self, scores: float | Floats) -> float | Floats:
        """Return the probability of generated, 0 to 1: a float for one score, else float64 of their shape."""
        p = sigmoid(self.curve(scores))
        return p if p.ndim else float(p)


@dataclass(frozen=True)
class Platt(Calibration):
    """log-odds = slope * score + intercept (Platt 1999)."""

    slope: float
    intercept: float
    method: ClassVar[str] = "Platt"

    def __post_init__(self) -> None:
        if not 0 < self.slope < math.inf or not math.isfinite(self.intercept):
            raise ModelError(
                f"the calibration's slope must be positive and both numbers finite, "
                f"not slope {self.slope} and intercept {self.intercept}"
            )

    def curve(self, scores: npt.ArrayLike) -> Floats:
        """Return natural log-odds of generated, float64 of the shape of `scores`."""
        return np.asarray(self.slope * np.asarray(scores, dtype=np.float64) + self.intercept)

    def to_card(self) -> dict[str, Any]:
        """Return method, slope and intercept."""
        return {"method": self.method, "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Temperature(Calibration):
    """log-odds = score / temperature: one number, the score's own zero is kept (Guo et al. 2017)."""

    temperature: float
    method: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        if not 1 / LARGEST <= self.temperature <= LARGEST:
            raise ModelError(
                f"a temperature must lie between {1 / LARGEST:g} and {LARGEST:g}, not be {self.temperature}"
            )

    def curve(self, scores: npt.ArrayLike) -> Floats:
        """Return natural log-odds of generated, float64 of the shape of `scores`."""
        return np.asarray(np.asarray(scores, dtype=np.float64) / self.temperature)

    def to_card(self) -> dict[str, Any]:
        """Return method and temperature."""
        return {"method": self.method, "temperature": self.temperature}


@dataclass(frozen=True)
class Isotonic(Calibration):
    """Straight lines between knots, level beyond the first and the last (Zadrozny and Elkan 2002).

    Attributes:
        scores: (K,) knots, 1 <= K <= 200, strictly ascending.
        values: (K,) their natural log-odds, never descending.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]
    method: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.values) or not 1 <= len(self.scores) <= MAX_KNOTS:
            raise ModelError(
                f"an isotonic calibration has 1 to {MAX_KNOTS} knots, as many scores as log-odds, "
                f"not {len(self.scores)} and {len(self.values)}"
            )
        x, y = np.array(self.scores, dtype=np.float64), np.array(self.values, dtype=np.float64)
        # Not <= is also true of NaN.
        if not (np.abs(x) <= LARGEST).all() or not (np.abs(y) <= LARGEST).all():
            raise ModelError(f"an isotonic calibration's knots must be finite numbers within +-{LARGEST:g}")
        if (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
            raise ModelError("an isotonic calibration's scores must ascend and its log-odds never descend")

    def curve(self, scores: npt.ArrayLike) -> Floats:
        """Return natural log-odds of generated, float64 of the shape of `scores`."""
        s, values = np.asarray(scores, dtype=np.float64), np.array(self.values)
        right = np.searchsorted(self.scores, s, side="right")
        low, high = values[np.maximum(right - 1, 0)], values[np.minimum(right, len(values) - 1)]
        # Rounding in the interpolation may pass a knot's value by a last bit, and the curve must not fall.
        return np.asarray(np.clip(np.interp(s, self.scores, values), low, high))

    def to_card(self) -> dict[str, Any]:
        """Return method, scores and log_odds."""
        return {"method": self.method, "scores": list(self.scores), "log_odds": list(self.values)}


def calibration_from_card(raw: Mapping[str, Any]) -> Calibration:
    """Return the curve that `calibration` in card.json holds.

    Cards without a method are Platt's: slope and intercept.

    Raises:
        ModelError: the numbers make no rising, finite curve.
        UsageError: unknown method.
        KeyError, TypeError, ValueError, OverflowError: a number is missing or none; `read_card` names them.
    """
    method = raw.get("method", Platt.method)
    if method == Platt.method:
        return Platt(float(raw["slope"]), float(raw["intercept"]))
    if method == Temperature.method:
        return Temperature(float(raw["temperature"]))
    if method == Isotonic.method:
        scores, values = raw["scores"], raw["log_odds"]
        if not isinstance(scores, list) or not isinstance(values, list):
            raise ModelError("an isotonic calibration's scores and log_odds are two lists")
        return Isotonic(tuple(float(v) for v in scores), tuple(float(v) for v in values))
    raise unknown_name("calibration method", str(method), [Platt.method, Temperature.method, Isotonic.method])
