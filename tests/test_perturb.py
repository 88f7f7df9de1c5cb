"""Perturbations: deterministic, alike for both classes, landmarks travel along."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faceproof import RetinaFace, UsageError
from faceproof.images import RGB
from faceproof.perturb import CHAINS, View, apply_chain, blur, crop, jpeg, noise, random_chain, resize, thumbnail, webp


def _psnr(a: RGB, b: RGB) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_equals_pillow(astronaut: RGB, quality: int) -> None:
    """Two encoders of one standard: nearly the same picture, much nearer than either to the original."""
    stream = io.BytesIO()
    Image.fromarray(astronaut).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    theirs = np.asarray(Image.open(stream).convert("RGB"))
    ours = jpeg(View(astronaut), quality).pixels
    assert _psnr(ours, theirs) > _psnr(ours, astronaut) + 5


def test_worse_quality_is_worse(astronaut: RGB) -> None:
    for codec in (jpeg, webp):
        values = [_psnr(codec(View(astronaut), q).pixels, astronaut) for q in (20, 50, 80, 95)]
        assert values == sorted(values)


def test_chroma_subsampling_costs_colour(astronaut: RGB) -> None:
    full, half = (jpeg(View(astronaut), 90, chroma=c).pixels for c in ("444", "420"))
    assert _psnr(full, astronaut) > _psnr(half, astronaut)
    with pytest.raises(UsageError, match="did you mean '42[02]'"):
        jpeg(View(astronaut), 90, chroma="42")


def test_landmarks_travel(astronaut: RGB) -> None:
    """Resized and cut pictures are searched again: the face is where the landmarks went."""
    detector = RetinaFace()
    landmarks = detector.detect(astronaut)[0].landmarks
    for change in (
        lambda v: resize(v, 300, "cubic"),
        lambda v: crop(v, 60, 20, 400, 330),
        lambda v: resize(crop(v, 100, 10, 380, 300), 500, "linear"),
    ):
        view = change(View(astronaut, landmarks))
        assert view.landmarks is not None
        again = detector.detect(view.pixels)[0].landmarks
        assert np.abs(again - view.landmarks).max() < 0.03 * view.pixels.shape[0]


def test_resize_by_hand() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    view = resize(View(picture, np.array([[0.0, 0.0], [199, 99], [10, 10], [20, 20], [30, 30]], np.float32)), 100)
    assert view.pixels.shape == (50, 100, 3)
    assert view.landmarks is not None
    np.testing.assert_allclose(view.landmarks[:2], [[-0.25, -0.25], [99.25, 49.25]])
    assert thumbnail(View(picture), 400).pixels is picture


def test_blur_and_noise_by_their_moments() -> None:
    point = np.zeros((61, 61, 3), np.uint8)
    point[30, 30] = 255
    spread = blur(View(np.where(point > 0, 255, 0).astype(np.uint8)), 1.0).pixels[:, :, 0].astype(float)
    ys, _ = np.mgrid[0:61, 0:61]
    assert np.sqrt((spread * (ys - 30) ** 2).sum() / spread.sum()) == pytest.approx(1.0, abs=0.12)
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert noise(View(grey), 4.0, np.random.default_rng(0)).pixels.std() == pytest.approx(4.0, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_random_chain_is_a_function_of_the_seed(seed: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (120, 100, 3), dtype=np.uint8)
    landmarks = np.array([[40, 40], [60, 40], [50, 55], [42, 70], [58, 70]], np.float32)
    one, two = (random_chain(View(picture, landmarks), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.pixels.dtype == np.uint8
    assert one.pixels.ndim == 3
    assert one.landmarks is not None
    np.testing.assert_array_equal(one.landmarks, two.landmarks)


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_named_chains(name: str, astronaut: RGB) -> None:
    once, again = apply_chain(astronaut, name, seed=3), apply_chain(astronaut, name, seed=3)
    np.testing.assert_array_equal(once, again)
    if name == "avatar":
        assert max(once.shape) == 400


def test_unknown_chain() -> None:
    with pytest.raises(UsageError, match="did you mean 'avatar'"):
        apply_chain(np.zeros((9, 9, 3), np.uint8), "avatr")
