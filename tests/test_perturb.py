"""Perturbations: deterministic, alike for both classes, landmarks travel along."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from faceproof import RetinaFace, UsageError
from faceproof.images import RGB
from faceproof.perturb import (
    KERNELS,
    LARGEST,
    View,
    blur,
    centre_crop,
    crop,
    grey,
    jpeg,
    noise,
    rescale,
    resize,
    scale,
    screenshot,
    shift,
    thumbnail,
    tone,
    webp,
)


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


def test_nearest_equals_pillow_and_area_is_the_mean(astronaut: RGB) -> None:
    theirs = np.asarray(Image.fromarray(astronaut).resize((200, 200), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize(View(astronaut), 200, "nearest").pixels, theirs)
    blocks = astronaut.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(resize(View(astronaut), 128, "area").pixels - blocks).max() <= 0.5


def test_enlarging_equals_pillow(astronaut: RGB) -> None:
    small = astronaut[:100, 150:290]
    theirs = np.asarray(Image.fromarray(small).resize((301, 215), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(resize(View(small), 301, "linear").pixels - theirs).max() <= 1


def test_scale_stops_at_the_largest_side() -> None:
    wide = View(np.zeros((2, 3000, 3), np.uint8))
    assert scale(wide, 0.5).pixels.shape == (1, 1500, 3)
    assert scale(wide, 4, "linear").pixels.shape == (5, LARGEST, 3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_rescale_keeps_the_size_and_costs_more_when_stronger(kernel: str, astronaut: RGB) -> None:
    odd = astronaut[:301, :207]
    values = []
    for factor in (0.2, 0.4, 0.8):
        changed = rescale(View(odd), factor, kernel).pixels
        assert changed.shape == odd.shape
        values.append(_psnr(changed, odd))
    assert values == sorted(values)
    assert _psnr(rescale(View(odd), 1.0, kernel).pixels, odd) > 60


def test_more_blur_and_noise_are_worse(astronaut: RGB) -> None:
    rng = np.random.default_rng(0)
    for values in (
        [_psnr(blur(View(astronaut), s).pixels, astronaut) for s in (3, 2, 1, 0.5)],
        [_psnr(noise(View(astronaut), s, rng).pixels, astronaut) for s in (16, 8, 4, 2)],
    ):
        assert values == sorted(values)


def test_grey_equals_pillow(astronaut: RGB) -> None:
    ours = grey(View(astronaut)).pixels
    theirs = np.asarray(Image.fromarray(astronaut).convert("L")).astype(int)
    assert (np.ptp(ours, axis=2) == 0).all()
    assert np.abs(ours[:, :, 0] - theirs).max() <= 1


def test_tone_by_hand() -> None:
    picture = np.array([[[0, 51, 102], [153, 204, 255]]], np.uint8)
    squared = tone(View(picture), 2.0, (1.0, 0.5, 2.0)).pixels
    # (.2, .4, .6, .8, 1) squared, times the channel's gain, of 255
    np.testing.assert_array_equal(squared, [[[0, 5, 82], [92, 82, 255]]])
    np.testing.assert_array_equal(tone(View(picture), 1.0).pixels, picture)


def test_centre_crop_is_moved_for_the_face() -> None:
    ys, xs = np.mgrid[0:100, 0:200]
    picture = np.stack([xs, ys, xs * 0], 2).astype(np.uint8)
    assert centre_crop(View(picture), 50).pixels[0, 0].tolist() == [50, 25, 0]
    assert centre_crop(View(picture), 50).pixels.shape == (50, 100, 3)
    corner = np.array([[10, 5], [40, 5], [25, 20], [12, 30], [38, 30]], np.float32)
    cut = centre_crop(View(picture, corner), 50)
    assert cut.pixels[0, 0].tolist() == [10, 5, 0]
    assert cut.landmarks is not None
    np.testing.assert_array_equal(cut.landmarks, corner - [10, 5])
    # A face larger than the cut cannot be kept whole: the middle is as good as any place.
    assert centre_crop(View(picture, corner * 4), 20).pixels.shape == (20, 40, 3)


def test_a_shifted_grid_compresses_anew(astronaut: RGB) -> None:
    """A second JPEG on the same grid finds its own coefficients and changes little; on another grid it does not."""
    once = jpeg(View(astronaut), 75, chroma="444")
    same, moved = jpeg(once, 75, chroma="444").pixels, shift(once, 3).pixels
    again = jpeg(View(moved), 75, chroma="444").pixels
    assert _psnr(same, once.pixels) > _psnr(again, moved) + 5
    np.testing.assert_array_equal(moved, once.pixels[3:, 3:])


def test_a_screenshot_stays_near_the_picture() -> None:
    """Flat grey comes out as 255 gain (128 / 255) ** gamma, gamma .96-1.04 and gain .98-1, give or take rounding."""
    low, high = 255 * 0.98 * (128 / 255) ** 1.04 - 2, 255 * (128 / 255) ** 0.96 + 2
    framed = []
    for seed in range(60):
        shot = screenshot(View(np.full((150, 200, 3), 128, np.uint8)), 1.3, np.random.default_rng(seed)).pixels
        assert low <= shot[50:150, 50:200].min() <= shot[50:150, 50:200].max() <= high
        height, width = shot.shape[:2]
        assert 195 - 12 <= height <= 195 + 22
        assert 260 - 12 <= width <= 260 + 22
        framed.append(bool(shot.max() > 235 or shot.min() < 40))
    # Each side shows the page in two of three shots, so hardly any has none of it.
    assert np.mean(framed) > 0.9


def test_formats_have_a_largest_side() -> None:
    with pytest.raises(UsageError, match="WebP holds at most 16383 pixels a side, the picture has 20000 x 1"):
        webp(View(np.zeros((1, 20000, 3), np.uint8)), 80)
    with pytest.raises(UsageError, match="JPEG holds at most 65500"):
        jpeg(View(np.zeros((70000, 1, 3), np.uint8)), 80)
