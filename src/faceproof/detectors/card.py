"""Model cards: what a model folder's `card.json` must say before the model may be used.

Weights never travel without their card: crop size and normalisation, calibration, operating points
with their false-alarm rates, training data with licences, metrics with intervals, limits, sha256.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceproof.conformal import Conformal
from faceproof.curves import Calibration, calibration_from_card
from faceproof.detectors.crops import CropSpec
from faceproof.errors import ModelError, UsageError

__all__ = ["CARD_SCHEMA", "Card", "OperatingPoint", "read_card"]

CARD_SCHEMA = "faceproof.card/1"
MAX_CARD_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the score, with the false-alarm rate it stands for.

    Attributes:
        fpr: share of photographs at or above the threshold, as intended.
        threshold: score.
        low, high: 95 % interval of the threshold (bootstrap by group): the band in which the
            photographs at hand cannot say on which side a face lies.
        photographs: how many photographs it rests on.
        method: "order statistic", or "generalised Pareto tail" where there are too few photographs.
    """

    fpr: float
    threshold: float
    low: float
    high: float
    photographs: int
    method: str

    def __post_init__(self) -> None:
        if not 0 < self.fpr < 1:
            raise ModelError(f"an operating point's fpr must lie between 0 and 1, not {self.fpr}")
        if not -math.inf < self.low <= self.threshold <= self.high < math.inf:
            raise ModelError(f"an operating point needs low <= threshold <= high, all finite: {self}")


@dataclass(frozen=True)
class Card:
    """The part of `card.json` that code depends on; `raw` holds all of it.

    Attributes:
        name, version: of the model.
        file: name of the weights in the same folder.
        sha256: of that file, hex.
        crop: what the model takes; cards before version 0.2 mean the aligned face in colours.
        mean, std: per channel, of RGB in 0-1: input = (rgb / 255 - mean) / std.
        eye_distance, eye_height: of the crop template, shares of the crop's side.
        calibration: the curve from score to log-odds of generated (`faceproof.curves`).
        prior: prevalence of generated faces that the probability assumes.
        points: operating points, strictest last.
        default_fpr: the one in force unless another is asked for.
        conformal: raw scores of held-out faces of both classes, for promised error rates; None in older cards.
        raw: the whole card.
    """

    name: str
    version: str
    file: str
    sha256: str
    crop: CropSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    eye_distance: float
    eye_height: float
    calibration: Calibration
    prior: float
    points: tuple[OperatingPoint, ...]
    default_fpr: float
    conformal: Conformal | None
    raw: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Side of the crop in pixels."""
        return self.crop.size

    @property
    def kind(self) -> str:
        """What scores: a "classifier", or "anomaly", a one-class detector; older cards do not say."""
        return str(self.raw.get("kind", "classifier"))

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that scores: of the weights, or of weights and mixture together."""
        if self.kind != "anomaly":
            return self.sha256
        mixture = str(self.raw["mixture"]["sha256"])
        return hashlib.sha256(f"{self.sha256} {mixture}".encode()).hexdigest()

    @property
    def identity(self) -> str:
        """Name, version and the first digits of the fingerprint: what records carry."""
        return f"{self.name} {self.version} ({self.fingerprint[:12]})"

    def point(self, fpr: float | None = None) -> OperatingPoint:
        """Return the operating point for a false-alarm rate, the default one for None.

        Raises:
            UsageError: the card has no such point.
        """
        wanted = self.default_fpr if fpr is None else fpr
        for point in self.points:
            if math.isclose(point.fpr, wanted, rel_tol=1e-6):
                return point
        known = ", ".join(f"{point.fpr:g}" for point in self.points)
        raise UsageError(f"model {self.name} has no threshold for a false-alarm rate of {wanted:g}; it has: {known}")


def read_card(folder: str | Path) -> Card:
    """Read and check a model folder's `card.json`, and the weights' hash against it.

    Raises:
        ModelError: no folder, card or weights; a field missing or wrong; the hash differs.
    """
    folder = Path(folder)
    path = folder / "card.json"
    if not path.is_file():
        raise ModelError(f"no model at {folder}: a model is a folder with card.json and its weights")
    if path.stat().st_size > MAX_CARD_BYTES:
        raise ModelError(f"{path} is larger than a card can be ({path.stat().st_size} bytes)")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        card = _parse(raw)
    except (
        UsageError,
        ModelError,
        ArithmeticError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as err:
        what = f"field {err} is missing" if isinstance(err, KeyError) else str(err)
        raise ModelError(f"{path} is not a usable card: {what}; get the model again") from err
    weights = folder / card.file
    if Path(card.file).name != card.file or not weights.is_file():
        raise ModelError(f"{path} names the weights {card.file!r}, which are not in its folder; get the model again")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != card.sha256:
        raise ModelError(
            f"{weights} does not match its card (sha256 {digest[:12]}..., card says {card.sha256[:12]}...): "
            "damaged or tampered with; get the model again"
        )
    return card


def _parse(raw: dict[str, Any]) -> Card:
    if raw.get("schema") != CARD_SCHEMA:
        raise ValueError(f"schema is {raw.get('schema')!r}, this version reads {CARD_SCHEMA!r}")
    crop, calibration = raw["input"], raw["calibration"]
    points = tuple(
        OperatingPoint(
            float(p["fpr"]), float(p["threshold"]), float(p["interval"][0]), float(p["interval"][1]),
            int(p["photographs"]), str(p["method"]),
        )
        for p in raw["operating_points"]
    )  # fmt: skip
    mean, std = (tuple(float(v) for v in crop[key]) for key in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError("mean and std must be three numbers each, std positive")
    card = Card(
        name=str(raw["name"]),
        version=str(raw["version"]),
        file=str(raw["file"]),
        sha256=str(raw["sha256"]),
        crop=CropSpec(int(crop["size"]), str(crop.get("frame", "aligned")), str(crop.get("features", "rgb"))),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        eye_distance=float(crop["eye_distance"]),
        eye_height=float(crop["eye_height"]),
        calibration=calibration_from_card(calibration),
        prior=float(calibration["prior"]),
        points=tuple(sorted(points, key=lambda p: -p.fpr)),
        default_fpr=float(raw["default_fpr"]),
        conformal=Conformal.from_card(raw["conformal"]) if raw.get("conformal") is not None else None,
        raw=raw,
    )
    for key in ("training", "metrics", "limits", "licence"):
        if not raw[key]:
            raise ValueError(f"{key} is empty")
    card.point()
    _ = card.fingerprint  # of a one-class detector: it names its mixture
    mixture = raw.get("mixture")
    if mixture is not None and Path(str(mixture["file"])).name != mixture["file"]:
        raise ValueError(f"the mixture {mixture['file']!r} is not a file name")
    return card
