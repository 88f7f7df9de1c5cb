"""What a report says in plain words: how pictures were tested, what a verdict promises, what it cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from faceproof._version import VERSION
from faceproof.detectors.card import Card
from faceproof.errors import UsageError
from faceproof.pipeline import FaceChecker
from faceproof.records import Face, ImageResult

__all__ = ["NOT_TESTED", "Terms", "guarantee", "limits"]

NOT_TESTED = (
    "Whether only a part of the picture, or the background, was generated or retouched.",
    "Whether the person shown is who they are said to be.",
    "Whether copies, near matches or an original of this picture exist elsewhere. Search for them.",
)


@dataclass(frozen=True)
class Terms:
    """How the pictures of a report were tested.

    Attributes:
        card: of the detector.
        face_detector: its name.
        photographs: held-out photographs that the limits rest on.
        fpr: share of photographs that may be called generated.
        alpha: share of generated faces that may be called photographs; None where nothing is promised.
        stability: "off", "quick" or "full".
        metadata: whether files were asked about their origin.
        min_side: pixels an aligned face must have to be judged.
        made: when, UTC.
    """

    card: Card
    face_detector: str
    photographs: int
    fpr: float
    alpha: float | None
    stability: str
    metadata: bool
    min_side: float
    made: datetime

    @classmethod
    def of(cls, checker: FaceChecker, *, made: datetime | None = None) -> Terms:
        """Return the terms of a checker; `made` is now if None."""
        rule, when = checker.rule, made or datetime.now(timezone.utc)
        if when.tzinfo is None:
            raise UsageError("a report's time needs its zone; give datetime.now(timezone.utc)")
        return cls(
            checker.card, checker.face_detector.name, rule.photographs, rule.fpr, rule.alpha, checker.stability,
            checker.metadata, checker.gates.min_side, when.astimezone(timezone.utc),
        )  # fmt: skip

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """What was used and how, as (name, words)."""
        raw: Any = self.card.raw
        missed = "nothing is promised about misses" if self.alpha is None else f"misses {100 * self.alpha:g} % at most"
        return (
            ("made", f"{self.made:%Y-%m-%d %H:%M} UTC"),
            ("faceproof", VERSION),
            ("model", self.card.identity),
            ("model's weights, sha256", str(raw["sha256"])),
            ("face detector", self.face_detector),
            ("limits", f"false alarms {100 * self.fpr:g} % at most, {missed}; set on {self.photographs} photographs"),
            ("stability", {"off": "not tested"}.get(self.stability, f"{self.stability} set of perturbations")),
            ("metadata", "read: EXIF, content credentials, generators' tags" if self.metadata else "not read"),
            ("smallest face judged", f"{self.min_side:g} pixels"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what the report's JSON holds."""
        raw: Any = self.card.raw
        return {
            "made": self.made.isoformat(timespec="seconds"),
            "version": VERSION,
            "model": self.card.identity,
            "weights_sha256": raw["sha256"],
            "face_detector": self.face_detector,
            "fpr": self.fpr,
            "alpha": self.alpha,
            "photographs": self.photographs,
            "stability": self.stability,
            "metadata": self.metadata,
            "min_face": self.min_side,
        }


def guarantee(face: Face | None, result: ImageResult, photographs: int) -> str:
    """Return what stands behind the verdict on a face, in words.

    Args:
        face: that speaks for the picture; None where none can be judged.
        result: of its picture.
        photographs: see `Terms`.
    """
    if result.status == "error":
        return "The picture could not be read, so nothing is said about it."
    if result.status == "no_face":
        return "No face was found, so there is no verdict. Faces under about 16 pixels are not found."
    if face is None or face.quality:
        return "No face is good enough to judge, so nothing is claimed either way."
    rate = f"{100 * result.threshold_fpr:g} %"
    about = f"Set on {photographs} held-out photographs: a promise about many pictures like those, not about this one."
    if face.verdict.label == "inconclusive":
        return "Nothing is claimed either way. Do not take this for a weak form of one of the other answers."
    if face.verdict.label == "generated":
        if result.alpha is None:
            return f"About {rate} of photographs reach this limit: an extrapolation, not a promise. {about}"
        return f"At most {rate} of photographs are called generated. {about}"
    if result.alpha is None:
        return "No trace of a generator was found. Nothing is promised about how many generated faces are missed."
    missed = f"{100 * result.alpha:g} %"
    return (
        f"No trace of a generator was found. At most {missed} of generated faces, of the kinds the limits were set on, "
        "are called photographs; of other generators it may be far more."
    )


def limits(card: Card) -> tuple[str, ...]:
    """Return what a verdict by this model cannot say."""
    raw: Any = card.raw
    return (
        f"The probability assumes that {card.prior:.0%} of the faces asked about are generated. Where fewer are, a "
        "flag is worth less.",
        *(str(limit) for limit in raw["limits"]),
        "A verdict is one piece of evidence. Look for the picture's origin before you accuse anyone.",
    )
