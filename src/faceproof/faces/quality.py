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

__all__ = ["Gates", "measure"]

SHARPNESS_SIZE = 96
"""Side in pixels at which sharpness is measured, so that it does not depend on a model's crop size."""


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
        if self.min_side and values["side"] < self.min_side:
            text = f"too small: the face covers {values['side']:.0f} px, at least {self.min_side:.0f} are needed"
            reasons.append(QualityReason("too_small", text, values["side"], self.min_side))
        if values["inside"] < self.min_inside:
            share = f"{values['inside']:.0%} of the face lies in the picture"
            text = f"cut off: {share}, at least {self.min_inside:.0%} are needed"
            reasons.append(QualityReason("cut_off", text, values["inside"], self.min_inside))
        if values["sharpness"] < self.min_sharpness:
            text = f"blurred: sharpness {values['sharpness']:.1f}, at least {self.min_sharpness:.1f} is needed"
            reasons.append(QualityReason("blurred", text, values["sharpness"], self.min_sharpness))
        if self.max_turn and values["turn"] > self.max_turn:
            turned = f"the head is turned by {values['turn']:.1f} half eye distances"
            text = f"profile: {turned}, at most {self.max_turn:.1f} is allowed"
            reasons.append(QualityReason("profile", text, values["turn"], self.max_turn))
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
