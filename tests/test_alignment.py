"""Alignment against a closed form, another library and laws."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from faceproof.faces.alignment import EYE_DISTANCE, TEMPLATE, align, crop_quad, similarity, visible_share
from faceproof.faces.detection import RetinaFace
from faceproof.images import RGB

coordinate = st.floats(-500, 500)
points = st.lists(st.tuples(coordinate, coordinate), min_size=5, max_size=5).map(np.array)


def _spread(p: np.ndarray) -> bool:
    return float(((p - p.mean(0)) ** 2).sum()) > 1.0


@given(points.filter(_spread), st.floats(0.05, 20), st.floats(-3.1, 3.1), coordinate, coordinate)
def test_similarity_recovers_the_transform(src: np.ndarray, scale: float, angle: float, dx: float, dy: float) -> None:
    expected = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), dx],
            [scale * np.sin(angle), scale * np.cos(angle), dy],
        ]
    )
    target = src @ expected[:, :2].T + expected[:, 2]
    np.testing.assert_allclose(similarity(src, target), expected, atol=1e-6 * max(1.0, scale * 500))


@given(points.filter(_spread), points.filter(_spread))
def test_similarity_equals_umeyama(src: np.ndarray, dst: np.ndarray) -> None:
    """scikit-image solves it by SVD; where its optimum needs no reflection, ours must be the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = SimilarityTransform()
        found = other.estimate(src, dst)
    own = similarity(src, dst)
    residual = ((src @ own[:, :2].T + own[:, 2] - dst) ** 2).sum()
    if found is False or not np.isfinite(other.params).all():
        return
    theirs = ((src @ other.params[:2, :2].T + other.params[:2, 2] - dst) ** 2).sum()
    assert residual <= theirs * (1 + 1e-6) + 1e-6


def test_similarity_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)), TEMPLATE)
    with pytest.raises(ValueError, match="N >= 2"):
        similarity(np.ones((1, 2)), np.ones((1, 2)))


def test_template_keeps_arcface_proportions() -> None:
    arcface = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    own, other = (p - p[:2].mean(0) for p in (TEMPLATE, arcface))
    np.testing.assert_allclose(own / np.hypot(*(own[1] - own[0])), other / np.hypot(*(other[1] - other[0])), atol=1e-4)
    assert TEMPLATE[1, 0] - TEMPLATE[0, 0] == pytest.approx(EYE_DISTANCE)


def _dots(size: int, where: np.ndarray, radius: float) -> RGB:
    """A black picture with soft white dots at the landmarks."""
    ys, xs = np.mgrid[0:size, 0:size]
    value = np.zeros((size, size))
    for x, y in where:
        value = np.maximum(value, np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * radius**2)))
    return np.repeat((value * 255).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(("scale", "angle"), [(0.3, 0.2), (0.9, -0.5), (1.0, 0.0), (2.5, 0.4)])
def test_landmarks_land_on_the_template(scale: float, angle: float) -> None:
    """Dots drawn at the landmarks appear at the template's places, to a third of a pixel."""
    size = 160
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (TEMPLATE - 0.5) @ turn.T * size / scale + 400
    crop = align(_dots(800, landmarks, 3 / scale), landmarks, size).astype(float)[:, :, 0]
    for x, y in TEMPLATE * size:
        window = crop[int(y) - 8 : int(y) + 10, int(x) - 8 : int(x) + 10]
        ys, xs = np.mgrid[int(y) - 8 : int(y) + 10, int(x) - 8 : int(x) + 10]
        weight = window * (window > 40)
        assert (xs * weight).sum() / weight.sum() == pytest.approx(x, abs=0.35)
        assert (ys * weight).sum() / weight.sum() == pytest.approx(y, abs=0.35)


def test_shrinking_does_not_alias() -> None:
    """Stripes two pixels wide vanish into grey at a tenth of the size; sampling would give false bands."""
    stripes = np.zeros((1200, 1200, 3), np.uint8)
    stripes[:, ::2] = 255
    landmarks = TEMPLATE * 1000 + 100
    crop = align(stripes, landmarks, 100)
    assert crop.astype(float).std() < 8


@given(points.filter(_spread), st.integers(1, 300), st.integers(1, 300))
def test_align_gives_a_crop_or_refuses_quickly(landmarks: np.ndarray, width: int, height: int) -> None:
    picture = np.full((height, width, 3), 77, np.uint8)
    try:
        crop = align(picture, landmarks, 64)
    except ValueError:
        return
    assert crop.shape == (64, 64, 3)
    assert crop.dtype == np.uint8
    assert 0.0 <= visible_share(landmarks, width, height) <= 1.0


def test_visible_share_by_hand() -> None:
    landmarks = TEMPLATE * 100
    assert visible_share(landmarks, 100, 100) == pytest.approx(1.0, abs=1e-3)
    assert visible_share(landmarks + [-50, 0], 100, 100) == pytest.approx(0.5, abs=1e-3)
    assert visible_share(landmarks + [50, 50], 100, 100) == pytest.approx(0.25, abs=1e-3)
    assert visible_share(landmarks + 500, 100, 100) == 0.0


def test_crop_quad_is_the_inverse() -> None:
    landmarks = TEMPLATE * 120 + [30, 40]
    np.testing.assert_allclose(crop_quad(landmarks), [[30, 40], [150, 40], [150, 160], [30, 160]], atol=1e-9)


def test_mirrored_picture_gives_a_mirrored_crop(astronaut: RGB) -> None:
    face = RetinaFace().detect(astronaut)[0]
    crop = align(astronaut, face.landmarks, 128)
    flipped = face.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [511, 0]
    mirrored = align(np.ascontiguousarray(astronaut[:, ::-1]), flipped, 128)[:, ::-1]
    # The template's middle is pixel centre size / 2, so the two are one pixel apart. ArcFace's points
    # are not quite symmetric, which leaves a fraction of a pixel; another whole one costs 8 grey levels.
    difference = crop[:, :-1].astype(int) - mirrored[:, 1:].astype(int)
    other = crop[:, 1:].astype(int) - mirrored[:, :-1].astype(int)
    assert min(np.abs(difference).mean(), np.abs(other).mean()) < 5
    assert max(np.abs(difference).mean(), np.abs(other).mean()) > 12
