"""The crops models take, and error level analysis."""

from __future__ import annotations

import numpy as np
import pytest

from faceproof import RetinaFace, UsageError
from faceproof.detectors.crops import FEATURES, FRAMES, CropSpec, cut, native
from faceproof.faces.alignment import align
from faceproof.features.ela import ela, stretch
from faceproof.images import RGB
from faceproof.perturb import View, jpeg
from faceproof.recipes import AUGMENTS
from faceproof.training_crops import training_crop


def test_ela_by_hand() -> None:
    """Differences 3, 0, 13 and 30 stretch by 255 / 30 = 8.5. In uint8 13 * 8 and 30 * 8.5 would wrap or be cut."""
    picture = np.array([[[10, 20, 30]], [[100, 200, 250]]], np.uint8)
    copy = np.array([[[13, 20, 17]], [[130, 170, 250]]], np.uint8)
    expected = [[[26, 0, 110]], [[255, 255, 0]]]  # 25.5 rounds to even, 110.5 too
    np.testing.assert_array_equal(stretch(picture, copy), expected)
    np.testing.assert_array_equal(stretch(copy, picture), expected)  # unsigned differences must not wrap below 0


def test_ela_of_nothing_is_nothing() -> None:
    flat = np.full((32, 32, 3), 128, np.uint8)
    assert not ela(flat).any()


def test_ela_is_the_definition(astronaut: RGB) -> None:
    again = jpeg(View(astronaut), 90).pixels
    difference = np.abs(astronaut.astype(float) - again)
    expected = difference * 255 / difference.max()
    assert np.abs(ela(astronaut) - expected).max() <= 0.5 + 1e-3
    assert ela(astronaut).max() == 255


def test_ela_shows_a_splice(astronaut: RGB) -> None:
    """A part that was compressed less stands out: what the method was invented for."""
    tired = jpeg(jpeg(View(astronaut), 60), 60).pixels.copy()
    tired[100:200, 200:300] = astronaut[100:200, 200:300]
    levels = ela(tired).astype(float)
    inside = levels[100:200, 200:300].mean()
    assert inside > 1.5 * (levels.sum() - inside * 3e4) / (levels.size - 3e4)


def test_aligned_is_align(astronaut: RGB) -> None:
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    np.testing.assert_array_equal(cut(CropSpec(96), astronaut, landmarks), align(astronaut, landmarks, 96))
    with_ela = cut(CropSpec(96, "aligned", "ela"), astronaut, landmarks)
    np.testing.assert_array_equal(with_ela, align(ela(astronaut), landmarks, 96))


@pytest.mark.parametrize("frame", sorted(FRAMES))
@pytest.mark.parametrize("size", [32, 128, 400])
def test_every_frame_holds_the_face(astronaut: RGB, frame: str, size: int) -> None:
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    crop = cut(CropSpec(size, frame), astronaut, landmarks)
    assert crop.shape == (size, size, 3)
    if size == 400:
        assert len(RetinaFace().detect(crop)) == 1


def test_centre_keeps_native_scale(astronaut: RGB) -> None:
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    assert _is_part_of(cut(CropSpec(64, "centre"), astronaut, landmarks), astronaut)


def _is_part_of(crop: RGB, picture: RGB) -> bool:
    """Whether the very pixels are found somewhere in the picture."""
    height, width = (a - b + 1 for a, b in zip(picture.shape[:2], crop.shape[:2], strict=True))
    places = np.argwhere((picture[:height, :width] == crop[0, 0]).all(2))
    return any(np.array_equal(picture[y : y + crop.shape[0], x : x + crop.shape[1]], crop) for y, x in places)


def test_native_is_the_square_as_it_is(astronaut: RGB) -> None:
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    square = native(CropSpec(64, "centre"), astronaut, landmarks)
    assert _is_part_of(square, astronaut)
    assert min(square.shape[:2]) > 64
    enlarged = native(CropSpec(500), astronaut, landmarks)
    assert min(enlarged.shape[:2]) == 500


def test_study_crops_have_native_scale_and_any_picture_will_do(astronaut: RGB) -> None:
    """Ricker et al. 2024 crop at random what is cropped in the middle in use: at one scale. Pictures may be large."""
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    spec = CropSpec(64, "centre")
    crops = [training_crop(astronaut, landmarks, spec, np.random.default_rng(seed), "study") for seed in range(40)]
    assert all(crop.shape == (64, 64, 3) for crop in crops)
    as_they_are = [_is_part_of(crop, astronaut) or _is_part_of(crop[:, ::-1], astronaut) for crop in crops]
    assert 20 <= sum(as_they_are) <= 38  # 0.9 ** 3 = 73 % are neither blurred, nor saved, nor resized
    assert len({crop.tobytes() for crop in crops}) == 40
    large = np.repeat(np.repeat(astronaut, 3, 0), 3, 1)
    for seed in range(4):
        assert training_crop(large, landmarks * 3, spec, np.random.default_rng(seed), "study").shape == (64, 64, 3)


@pytest.mark.parametrize("frame", sorted(FRAMES))
@pytest.mark.parametrize("augment", sorted(AUGMENTS))
def test_every_augmentation_fits_every_frame(astronaut: RGB, frame: str, augment: str) -> None:
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    for features in FEATURES:
        spec = CropSpec(48, frame, features)
        one, two = (training_crop(astronaut, landmarks, spec, np.random.default_rng(3), augment) for _ in range(2))
        assert one.shape == (48, 48, 3)
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, two)
    if augment == "none":
        np.testing.assert_array_equal(one, cut(spec, astronaut, landmarks))


def test_wrong_specs() -> None:
    with pytest.raises(UsageError, match="did you mean 'aligned'"):
        CropSpec(224, "alined")
    with pytest.raises(UsageError, match="features"):
        CropSpec(224, "aligned", "fft")
    with pytest.raises(UsageError, match="not within 32"):
        CropSpec(16)
    with pytest.raises(ValueError, match="outside"):
        cut(CropSpec(64, "square"), np.zeros((64, 64, 3), np.uint8), np.full((5, 2), 900.0) + np.eye(5)[:, :2] * 3)
