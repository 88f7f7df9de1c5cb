"""What one stage hands to the next: frozen, validated when made, plain Python values inside.

`to_dict()` gives what JSON, CSV and Parquet hold; `SCHEMA` names its version and changes when a field
is renamed, removed or changes meaning (new fields do not change it).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal, Union

from faceproof.errors import UsageError

__all__ = ["SCHEMA", "Evidence", "Face", "ImageResult", "QualityReason", "Stability", "Verdict"]

SCHEMA = "faceproof.result/1"

Label = Literal["photograph", "generated", "inconclusive"]
Status = Literal["ok", "no_face", "error"]
Scalar = Union[int, float, str]

LABELS = ("photograph", "generated", "inconclusive")
STATUSES = ("ok", "no_face", "error")


@dataclass(frozen=True)
class QualityReason:
    """Why a face should not be judged.

    Attributes:
        code: "too_small" | "cut_off" | "blurred" | "profile".
        sentence: the reason in words, with the figures.
        value: what was measured, in the unit the sentence names.
        limit: what it would have to reach.
    """

    code: str
    sentence: str
    value: float
    limit: float

    def to_dict(self) -> dict[str, Any]:
        """Return the four fields."""
        return {
            "code": self.code,
            "sentence": self.sentence,
            "value": _rounded(self.value),
            "limit": _rounded(self.limit),
        }


@dataclass(frozen=True)
class Evidence:
    """One piece of evidence.

    Attributes:
        name: where it comes from.
        weight: natural log-odds; above 0 speaks for generated, below for photograph.
        sentence: what was found, in words.
    """

    name: str
    weight: float
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return the three fields."""
        return {"name": self.name, "weight": _rounded(self.weight), "sentence": self.sentence}


@dataclass(frozen=True)
class Stability:
    """The same face after a fixed set of perturbations.

    Attributes:
        probabilities: of generated, 0 to 1, by perturbation as `faceproof.chains` writes it; at least one.
        flips: perturbations after which the other of the two answers is given.
    """

    probabilities: tuple[tuple[str, float], ...]
    flips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.probabilities:
            raise UsageError("a stability certificate needs at least one perturbation")
        if not all(0 <= value <= 1 for _, value in self.probabilities):
            raise UsageError("probabilities must lie in 0..1")
        if not set(self.flips) <= {chain for chain, _ in self.probabilities}:
            raise UsageError("a flip must be one of the perturbations tried")

    @property
    def lowest(self) -> float:
        """Lowest probability."""
        return min(value for _, value in self.probabilities)

    @property
    def median(self) -> float:
        """Median probability."""
        return statistics.median(value for _, value in self.probabilities)

    @property
    def highest(self) -> float:
        """Highest probability."""
        return max(value for _, value in self.probabilities)

    def to_dict(self) -> dict[str, Any]:
        """Return the range, the flips and every probability."""
        return {
            "lowest": _rounded(self.lowest),
            "median": _rounded(self.median),
            "highest": _rounded(self.highest),
            "flips": list(self.flips),
            "after": [{"perturbation": chain, "probability": _rounded(p)} for chain, p in self.probabilities],
        }


@dataclass(frozen=True)
class Verdict:
    """What is said about one face.

    Attributes:
        label: "photograph" | "generated" | "inconclusive".
        score: the detector's raw score, unbounded, higher = more likely generated.
        log_odds: of generated, natural; the sum of the evidence's weights.
        probability: calibrated probability of generated, 0 to 1, at the prior the model card names.
        threshold: on the probability's scale; at or above it the operating point flags a face.
        threshold_fpr: share of photographs flagged at that threshold (the card has its interval).
        band: (low, high) probabilities between which nothing is claimed.
        alpha: share of generated faces below the band, as promised; None where nothing is promised.
        evidence: what led to it, weights in log-odds.
        alarm: unlike known photographs, although the detector found no trace of a generator.
        stability: what perturbations make of it; None if not asked for.
        reasons: sentences for a person, the decisive one first.
    """

    label: Label
    score: float
    log_odds: float
    probability: float
    threshold: float
    threshold_fpr: float
    band: tuple[float, float]
    alpha: float | None = None
    evidence: tuple[Evidence, ...] = ()
    alarm: bool = False
    stability: Stability | None = None
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise UsageError(f"unknown verdict {self.label!r}; known: {', '.join(LABELS)}")
        for name in ("score", "log_odds"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"{name} must be finite, not {getattr(self, name)}")
        total = sum(piece.weight for piece in self.evidence)
        if self.evidence and not math.isclose(total, self.log_odds, rel_tol=1e-6, abs_tol=1e-6):
            raise UsageError(f"the evidence's weights add up to {total}, the verdict's log-odds are {self.log_odds}")
        for name in ("probability", "threshold", "threshold_fpr"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie in 0..1, not {getattr(self, name)}")
        if not 0 <= self.band[0] <= self.band[1] <= 1:
            raise UsageError(f"a band is (low, high) within 0..1, not {self.band}")


@dataclass(frozen=True)
class Face:
    """One face of a picture.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the upright picture; may reach past its border.
        landmarks: five (x, y) pixels: the eye on the picture's left, the other eye, the nose, the
            mouth corner on the left, the other one.
        confidence: how sure the face detector is that this is a face, 0 to 1.
        quality: why it should not be judged; empty when it passes.
        verdict: what is said about it.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    confidence: float
    quality: tuple[QualityReason, ...]
    verdict: Verdict

    def __post_init__(self) -> None:
        if len(self.box) != 4 or self.box[0] > self.box[2] or self.box[1] > self.box[3]:
            raise UsageError(f"a box is x0 <= x1, y0 <= y1, not {self.box}")
        if len(self.landmarks) != 5:
            raise UsageError(f"five landmarks wanted, got {len(self.landmarks)}")
        if self.quality and self.verdict.label != "inconclusive":
            raise UsageError("a face that fails quality is inconclusive")

    def to_dict(self) -> dict[str, Any]:
        """Return the face with its verdict laid flat, as results hold it."""
        return {
            "box": [_rounded(v, 2) for v in self.box],
            "landmarks": [[_rounded(x, 2), _rounded(y, 2)] for x, y in self.landmarks],
            "confidence": _rounded(self.confidence),
            "quality": [reason.to_dict() for reason in self.quality],
            "score": _rounded(self.verdict.score),
            "log_odds": _rounded(self.verdict.log_odds),
            "probability": _rounded(self.verdict.probability),
            "verdict": self.verdict.label,
            "alarm": self.verdict.alarm,
            "stability": None if self.verdict.stability is None else self.verdict.stability.to_dict(),
            "evidence": [piece.to_dict() for piece in self.verdict.evidence],
            "reasons": list(self.verdict.reasons),
        }


@dataclass(frozen=True)
class ImageResult:
    """What is said about one picture. Every picture asked about gives exactly one.

    Attributes:
        path: as given, well-formed Unicode.
        status: "ok" (a face was judged or found unfit), "no_face", "error".
        sha256: hex digest of the file's bytes; None for arrays and for files that could not be read.
        width, height: pixels, upright; 0 for errors.
        faces: every face, largest first.
        error: what was wrong and what to do, for status "error".
        notes: what was decided while reading.
        threshold, threshold_fpr, band, alpha: the operating point in force, see `Verdict`.
        model: name and version of the detector.
        face_detector: its name.
        version: of faceproof.
    """

    path: str
    status: Status
    model: str
    face_detector: str
    version: str
    threshold: float
    threshold_fpr: float
    band: tuple[float, float]
    sha256: str | None = None
    width: int = 0
    height: int = 0
    faces: tuple[Face, ...] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise UsageError(f"unknown status {self.status!r}; known: {', '.join(STATUSES)}")
        if (self.status == "error") != (self.error is not None):
            raise UsageError("an error has a message and nothing else has one")
        if (self.status == "ok") != bool(self.faces):
            raise UsageError("status ok means at least one face")

    @property
    def decisive(self) -> Face | None:
        """The most suspicious face that passes quality: the one that speaks for the picture."""
        fit = [face for face in self.faces if not face.quality]
        return max(fit, key=lambda face: face.verdict.log_odds, default=None)

    @property
    def verdict(self) -> Label | None:
        """The picture's verdict; "inconclusive" when faces were found and none is fit; None without any."""
        if self.decisive is not None:
            return self.decisive.verdict.label
        return "inconclusive" if self.faces else None

    def to_dict(self) -> dict[str, Any]:
        """Return the record that JSON, CSV and Parquet hold."""
        decisive = self.decisive
        return {
            "path": self.path,
            "sha256": self.sha256,
            "status": self.status,
            "error": self.error,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "score": None if decisive is None else _rounded(decisive.verdict.score),
            "log_odds": None if decisive is None else _rounded(decisive.verdict.log_odds),
            "probability": None if decisive is None else _rounded(decisive.verdict.probability),
            "verdict": self.verdict,
            "alarm": None if decisive is None else decisive.verdict.alarm,
            "threshold": _rounded(self.threshold),
            "threshold_fpr": self.threshold_fpr,
            "band": [_rounded(v) for v in self.band],
            "alpha": self.alpha,
            "notes": list(self.notes),
            "model": self.model,
            "face_detector": self.face_detector,
            "version": self.version,
            "schema": SCHEMA,
        }


def _rounded(value: float, digits: int = 6) -> float:
    """Round for writing: numpy scalars become floats, and six digits are more than a score is good for."""
    return round(float(value), digits)
