"""Stability certificates: which pixels are perturbed, and what comes of a whole check."""

from __future__ import annotations

import numpy as np
import pytest

from faceproof import FaceChecker, UsageError
from faceproof.detectors.crops import CropSpec, cut
from faceproof.detectors.onnx import OnnxDetector
from faceproof.explain.stability import LEVELS, perturbed_crops
from faceproof.fusion import ANOMALY, SUPERVISED
from faceproof.images import RGB

LANDMARKS = np.array([[185, 110], [240, 108], [214, 140], [192, 168], [238, 167]], np.float32)
SPEC = CropSpec(96)


def test_the_region_keeps_what_the_crop_needs(astronaut: RGB) -> None:
    """A chain that changes nothing gives the crop of the whole picture."""
    from faceproof.explain import stability

    view = stability.face_region(astronaut, LANDMARKS)
    assert max(view.pixels.shape) < max(astronaut.shape)
    assert view.landmarks is not None
    assert ((LANDMARKS - view.landmarks) % 16 == 0).all()
    np.testing.assert_array_equal(cut(SPEC, view.pixels, view.landmarks), cut(SPEC, astronaut, LANDMARKS))


def test_perturbed_crops_stay_on_the_face(astronaut: RGB) -> None:
    plain = cut(SPEC, astronaut, LANDMARKS).astype(float)
    found = perturbed_crops(astronaut, LANDMARKS, SPEC, "full")
    assert tuple(chain for chain, _ in found) == LEVELS["full"]
    for chain, crop in found:
        assert crop.shape == (96, 96, 3)
        error = np.abs(crop - plain).mean()
        assert 0 < error < 12, chain  # a face shifted by one tenth differs by more than 20
    again = perturbed_crops(astronaut, LANDMARKS, SPEC, "full")
    assert all((a[1] == b[1]).all() for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("shift", [-150, -40, 250])
def test_landmarks_at_or_past_the_border(astronaut: RGB, shift: int) -> None:
    found = perturbed_crops(astronaut, LANDMARKS + np.float32(shift), SPEC, "quick")
    assert [crop.shape for _, crop in found] == [(96, 96, 3)] * 3


def test_large_faces_are_shrunk_first() -> None:
    from faceproof.explain import stability

    picture = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8)
    view = stability.thumbnail(stability.face_region(picture, LANDMARKS * 10), stability.LARGEST)
    assert max(view.pixels.shape) == stability.LARGEST


def test_off_means_none(astronaut: RGB, checker: FaceChecker) -> None:
    assert perturbed_crops(astronaut, LANDMARKS, SPEC, "off") == ()
    assert checker.check(astronaut).to_dict()["faces"][0]["stability"] is None


def test_an_unknown_level_names_the_known() -> None:
    with pytest.raises(UsageError, match="did you mean 'full'"):
        FaceChecker(stability="ful")


def test_a_check_with_its_certificate(astronaut: RGB, checker: FaceChecker) -> None:
    """The probabilities are those of the crops, scored by themselves."""
    steady = FaceChecker(stability="full")
    face = steady.check(astronaut).faces[0]
    assert face.verdict.stability is not None
    given = dict(face.verdict.stability.probabilities)
    assert tuple(given) == LEVELS["full"]
    crops = perturbed_crops(astronaut, np.array(face.landmarks), steady.card.crop, "full")
    assert isinstance(steady.detector, OnnxDetector)
    assert steady.scorer is not None
    scores, embeddings = steady.detector.score_and_embed(np.stack([crop for _, crop in crops]))
    unlike = steady.scorer.score(embeddings)
    for (chain, _), score, far in zip(crops, scores, unlike, strict=True):
        pieces = steady.combiner.evidence({SUPERVISED: float(score), ANOMALY: float(far)})
        assert given[chain] == pytest.approx(1 / (1 + np.exp(-sum(piece.weight for piece in pieces))), abs=1e-3)
    assert face.verdict.probability == pytest.approx(checker.check(astronaut).faces[0].verdict.probability, abs=1e-3)


def test_a_face_that_is_not_judged_gets_none(astronaut: RGB) -> None:
    small = astronaut[60:200:3, 150:280:3]
    for face in FaceChecker(stability="quick").check(small).faces:
        assert face.quality
        assert face.verdict.stability is None
