"""The crops models take, and error level analysis."""

from __future__ import annotations

import numpy as np
import pytest

from faceproof import RetinaFace, UsageError
from faceproof.detectors.crops import FRAMES, CropSpec, cut
from faceproof.faces.alignment import align
from faceproof.features.ela import ela, stretch
from faceproof.images import RGB
from faceproof.perturb import View, jpeg


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
    crop = cut(CropSpec(64, "centre"), astronaut, landmarks)
    windows = np.lib.stride_tricks.sliding_window_view(astronaut, (64, 64, 3)).reshape(-1, 64 * 64 * 3)
    assert (windows[:, 0] == crop[0, 0, 0]).any()
    assert any(np.array_equal(w, crop.reshape(-1)) for w in windows[windows[:, 5000] == crop.reshape(-1)[5000]])


def test_wrong_specs() -> None:
    with pytest.raises(UsageError, match="did you mean 'aligned'"):
        CropSpec(224, "alined")
    with pytest.raises(UsageError, match="features"):
        CropSpec(224, "aligned", "fft")
    with pytest.raises(UsageError, match="not within 32"):
        CropSpec(16)
    with pytest.raises(ValueError, match="outside"):
        cut(CropSpec(64, "square"), np.zeros((64, 64, 3), np.uint8), np.full((5, 2), 900.0) + np.eye(5)[:, :2] * 3)
