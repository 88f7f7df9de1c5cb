"""Each quality gate, on a picture made to fail it alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from faceproof import DetectedFace, FaceChecker, Gates, UsageError
from faceproof.faces.alignment import TEMPLATE, align
from faceproof.faces.quality import measure
from faceproof.images import RGB


def _codes(checker: FaceChecker, picture: RGB) -> list[list[str]]:
    return [[reason.code for reason in face.quality] for face in checker.check(picture).faces]


def test_a_good_face_passes(checker: FaceChecker, astronaut: RGB) -> None:
    assert _codes(checker, astronaut) == [[]]


def test_too_small(checker: FaceChecker, astronaut: RGB) -> None:
    tiny = np.asarray(Image.fromarray(astronaut).resize((200, 200), Image.Resampling.LANCZOS))
    face = checker.check(tiny).faces[0]
    assert [reason.code for reason in face.quality] == ["too_small"]
    assert "px, at least 80 are needed" in face.quality[0].sentence
    assert face.quality[0].value < 80 == face.quality[0].limit


def test_cut_off(checker: FaceChecker, astronaut: RGB) -> None:
    """The face lies from x = 179 to 271: cutting at 230 leaves the eye at 246 outside."""
    assert _codes(checker, np.ascontiguousarray(astronaut[:, :230])) == [["cut_off"]]


def test_blurred(checker: FaceChecker, astronaut: RGB) -> None:
    assert _codes(checker, cv2.GaussianBlur(astronaut, (0, 0), 4)) == [["blurred"]]


def test_a_small_face_blown_up_is_blurred(checker: FaceChecker, astronaut: RGB) -> None:
    tiny = Image.fromarray(astronaut).resize((70, 70), Image.Resampling.BOX)
    assert _codes(checker, np.asarray(tiny.resize((900, 900), Image.Resampling.BICUBIC))) == [["blurred"]]


def test_profile_by_geometry(astronaut: RGB) -> None:
    """No free profile photograph could be had in a package: the nose is moved instead, in eye distances."""
    for offset, expected in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.8)):
        points = TEMPLATE * 200 + 100
        points[2, 0] = points[:2, 0].mean() + offset * (points[1, 0] - points[0, 0])
        points[2, 1] = points[:2, 1].mean() + 40
        face = DetectedFace(np.array([120, 120, 280, 290], np.float32), points.astype(np.float32), 1.0)
        crop = align(astronaut, face.landmarks, 160)
        assert measure(face, crop, 512, 512)["turn"] == pytest.approx(expected, abs=0.02)
        codes = [reason.code for reason in Gates(min_sharpness=0).judge(face, crop, 512, 512)]
        assert codes == (["profile"] if expected > 1.3 else [])


def test_turn_does_not_depend_on_roll() -> None:
    points = TEMPLATE * 200
    points[2, 0] += 20
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    crop = np.zeros((96, 96, 3), np.uint8)
    box = np.array([0, 0, 100, 100], np.float32)
    upright = measure(DetectedFace(box, points.astype(np.float32), 1), crop, 500, 500)["turn"]
    rolled = measure(DetectedFace(box, (points @ turn.T + 200).astype(np.float32), 1), crop, 500, 500)["turn"]
    assert rolled == pytest.approx(upright, abs=1e-4)


def test_sharpness_falls_with_blur_and_not_with_contrast(astronaut: RGB) -> None:
    points = TEMPLATE * 200 + 100
    face = DetectedFace(np.array([100, 100, 300, 300], np.float32), points.astype(np.float32), 1.0)
    crop = astronaut[40:232, 130:322]
    values = [measure(face, cv2.GaussianBlur(crop, (0, 0), s), 512, 512)["sharpness"] for s in (0.1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    faint = (crop * 0.5 + 60).astype(np.uint8)
    assert measure(face, faint, 512, 512)["sharpness"] == pytest.approx(values[0], rel=0.1)


def test_an_unfit_face_is_never_accused(checker: FaceChecker, astronaut: RGB) -> None:
    result = checker.check(cv2.GaussianBlur(astronaut, (0, 0), 4))
    assert result.verdict == "inconclusive"
    assert result.decisive is None
    assert result.to_dict()["probability"] is None
    assert result.faces[0].verdict.reasons[0].startswith("not judged: blurred")


def test_gates_can_be_switched_off(astronaut: RGB) -> None:
    open_gates = FaceChecker(gates=Gates(min_side=0, min_inside=0, min_sharpness=0, max_turn=0))
    assert _codes(open_gates, cv2.GaussianBlur(astronaut, (0, 0), 4)) == [[]]
    with pytest.raises(UsageError, match="not be negative"):
        Gates(min_side=-1)
