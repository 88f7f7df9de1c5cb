"""Quality gates: faces about which nothing can be defended, each with its reason.

The limits were set on train and val so that about 2 % of the faces fail, of either class alike: a gate
that failed more photographs than generated faces would itself be a detector. Every card prints both
shares (metrics, `not_judged_photographs` and `not_judged_generated`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.extras import opencv
from faceproof.faces.alignment import crop_quad
from faceproof.faces.detection import DetectedFace
from faceproof.records import QualityReason

__all__ = ["GATES", "Gate", "Gates", "measure"]

SHARPNESS_SIZE = 96
"""Side in pixels at which sharpness is measured, so that it does not depend on a model's crop size."""


@dataclass(frozen=True)
class Gate:
    """One gate, in words and numbers: what `Gates.judge` and the offline page's JavaScript share.

    Attributes:
        code: of the reason.
        field: of `Gates` that holds its limit.
        measure: of `measure`'s values that it looks at.
        below: whether values under the limit fail; else values over it.
        digits: how a value is written: digits after the point, or "%".
        sentence: with {value} and {limit}.
    """

    code: str
    field: str
    measure: str
    below: bool
    digits: int | str
    sentence: str

    def written(self, value: float) -> str:
        """Return a value as the sentence shows it."""
        return f"{value:.0%}" if self.digits == "%" else f"{value:.{self.digits}f}"


GATES = (
    Gate(
        "too_small", "min_side", "side", True, 0,
        "too small: the face covers {value} px, at least {limit} are needed",
    ),
    Gate(
        "cut_off", "min_inside", "inside", True, "%",
        "cut off: {value} of the face lies in the picture, at least {limit} are needed",
    ),
    Gate("blurred", "min_sharpness", "sharpness", True, 1, "blurred: sharpness {value}, at least {limit} is needed"),
    Gate(
        "profile", "max_turn", "turn", False, 1,
        "profile: the head is turned by {value} half eye distances, at most {limit} is allowed",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Gates:
    """Limits a face must keep. Zero switches a gate off.

    Attributes:
        min_side: side of the aligned crop in the picture, pixels (4 eye distances).
        min_inside: share of the face box that lies in the picture, 0 to 1.
        min_sharpness: see `measure`.
        max_turn: how far the nose may lie from the middle between the eyes, in half eye distances
            along the line of the eyes: 0 is frontal, 1 right below an eye, more is a profile.
    """

    min_side: float = 80.0
    min_inside: float = 0.70
    min_sharpness: float = 6.5
    max_turn: float = 1.3

    def __post_init__(self) -> None:
        if min(self.min_side, self.min_inside, self.min_sharpness, self.max_turn) < 0 or self.min_inside > 1:
            raise UsageError(f"gates must not be negative, and min_inside at most 1: {self}")

    def judge(
        self, face: DetectedFace, crop: npt.NDArray[np.uint8], width: int, height: int
    ) -> tuple[QualityReason, ...]:
        """Return the reasons why this face should not be judged; empty when it passes.

        Args:
            face: as found.
            crop: (S, S, 3) uint8 RGB, its aligned crop.
            width, height: of the picture in pixels.
        """
        values = measure(face, crop, width, height)
        reasons = []
        for gate in GATES:
            value, limit = values[gate.measure], float(getattr(self, gate.field))
            if limit and (value < limit if gate.below else value > limit):
                words = gate.sentence.format(value=gate.written(value), limit=gate.written(limit))
                reasons.append(QualityReason(gate.code, words, value, limit))
        return tuple(reasons)


def measure(face: DetectedFace, crop: npt.NDArray[np.uint8], width: int, height: int) -> dict[str, float]:
    """Return what the gates look at.

    Returns:
        side: side of the aligned crop in the picture, pixels.
        inside: share of the face box inside the picture; 0 when an eye or the mouth lies outside.
        sharpness: standard deviation of the Laplacian of the grey crop at 96 px (Pech-Pacheco et
            al. 2000), in 8-bit grey levels, divided by the crop's contrast relative to 50 levels.
        turn: distance of the nose from the middle between the eyes, along their line, in half eye
            distances.
    """
    cv2 = opencv()
    quad = crop_quad(face.landmarks)
    side = float(np.hypot(*(quad[1] - quad[0])))
    x0, y0, x1, y1 = (float(v) for v in face.box)
    area = max((x1 - x0) * (y1 - y0), 1e-9)
    visible = max(0.0, min(x1, width) - max(x0, 0.0)) * max(0.0, min(y1, height) - max(y0, 0.0))
    points = face.landmarks
    within = (points >= 0).all() and (points[:, 0] <= width).all() and (points[:, 1] <= height).all()
    small = cv2.resize(crop, (SHARPNESS_SIZE, SHARPNESS_SIZE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = float(cv2.Laplacian(grey, cv2.CV_32F).std())
    contrast = max(float(grey.std()), 5.0)
    eyes = (points[1] - points[0]).astype(np.float64)
    along = float(np.dot(points[2] - (points[0] + points[1]) / 2, eyes) / max(float(np.dot(eyes, eyes)), 1e-9))
    return {
        "side": side,
        "inside": visible / area if within else 0.0,
        "sharpness": edges * 50.0 / contrast,
        "turn": abs(along) * 2,
    }
