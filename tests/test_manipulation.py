"""The four manipulations: what moved where, on pictures drawn here and on a photograph."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from skimage.transform import PiecewiseAffineTransform

from faceproof import UsageError
from faceproof.faces.alignment import TEMPLATE
from faceproof.images import RGB
from faceproof.manipulation import (
    MANIPULATIONS,
    _piecewise_linear,
    _warped,
    blend_mask,
    manipulate,
    region,
)

from .training_sets import SIDE, base_landmarks, variant

POINTS = TEMPLATE * 224
"""Eyes 56 px apart."""


class Fixed:
    """An rng that draws the strongest blend."""

    def integers(self, high: int) -> int:
        return 1


def slow_mask(box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """The mask by scipy, as the module's docstring says it."""
    hard = np.zeros((size, size))
    hard[box[1] : box[3], box[0] : box[2]] = 1
    soft = np.maximum(hard, scipy.ndimage.gaussian_filter(hard, 7 * size / 224, mode="mirror", truncate=4))
    worn = scipy.ndimage.minimum_filter(soft, 15, mode="constant", cval=np.inf)
    return scipy.ndimage.gaussian_filter(worn, 10, mode="mirror", truncate=2.5)


def noise(size: int = 224, seed: int = 0) -> RGB:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def test_regions_of_the_template_by_hand() -> None:
    """Eyes at (84, 98.56) and (140, 98.56); mouth corners about 47 px apart; margin 5."""
    (x0, y0, x1, y1), eye = region("eye-mirrored", POINTS, 224), POINTS[1]
    assert (x0, x1) == (round(eye[0] - 0.24 * 56 - 5), round(eye[0] + 0.24 * 56 + 5))
    assert (y0, y1) == (round(eye[1] - 0.12 * 56 - 5), round(eye[1] + 0.12 * 56 + 5))
    x0, y0, x1, y1 = region("mouth-turned", POINTS, 224)
    assert region("mouth-mirrored", POINTS, 224) == (x0, y0, x1, y1)
    for corner in POINTS[3:]:
        assert x0 + 5 <= corner[0] <= x1 - 5
        assert y0 + 5 <= corner[1] <= y1 - 5
    assert x1 - x0 == pytest.approx(POINTS[4, 0] - POINTS[3, 0] + 2 * 0.05 * 56 + 10, abs=1)
    x0, y0, x1, y1 = region("face-warped", POINTS, 224)
    assert (x0, x1) == (round(112 - 66.6), round(112 + 66.6))
    assert y0 < 98.56 - 20
    assert y1 == round(98.56 + 1.85 * 56 + 5)


def test_regions_grow_with_the_crop_and_stay_in_it() -> None:
    for kind in MANIPULATIONS:
        small, large = np.array(region(kind, TEMPLATE * 112, 112)), np.array(region(kind, TEMPLATE * 448, 448))
        assert np.abs(small * 4 - large).max() <= 4
    assert region("face-warped", POINTS + [90, 90], 224)[2:] == (224, 224)
    with pytest.raises(ValueError, match="outside the crop"):
        region("eye-mirrored", POINTS + [300, 0], 224)
    with pytest.raises(UsageError, match=r"\(5, 2\) finite"):
        region("eye-mirrored", POINTS[:4], 224)
    with pytest.raises(UsageError, match=r"\(5, 2\) finite"):
        region("eye-mirrored", POINTS * np.nan, 224)


@pytest.mark.parametrize("kind", MANIPULATIONS)
def test_the_mask_is_the_one_scipy_makes(kind: str) -> None:
    box = region(kind, POINTS, 224)
    mask = blend_mask(box, 224)
    np.testing.assert_allclose(mask, slow_mask(box, 224), atol=2e-4)
    assert 0.3 < mask.max() <= 1 + 1e-6
    assert mask.min() >= 0


@pytest.mark.parametrize(("kind", "axes"), [("mouth-turned", (0, 1)), ("mouth-mirrored", (1,)), ("eye-mirrored", (1,))])
def test_turned_and_mirrored_parts(kind: str, axes: tuple[int, ...]) -> None:
    pixels = noise()
    x0, y0, x1, y1 = box = region(kind, POINTS, 224)
    found = manipulate(pixels, POINTS, Fixed(), kind)  # type: ignore[arg-type]
    wanted = pixels.astype(float)
    part = np.flip(wanted[y0:y1, x0:x1], axes)
    mask = slow_mask(box, 224)[y0:y1, x0:x1, None]
    wanted[y0:y1, x0:x1] += mask * (part - wanted[y0:y1, x0:x1])
    assert np.abs(found - wanted).max() <= 0.6
    outside = np.ones((224, 224), bool)
    outside[y0:y1, x0:x1] = False
    np.testing.assert_array_equal(found[outside], pixels[outside])
    assert (found != pixels).any()


def test_a_warp_by_nothing_moves_nothing_and_a_shift_shifts() -> None:
    class Still:
        def __init__(self, by: float) -> None:
            self.by = by

        def uniform(self, low: float, high: float) -> float:
            return low

        def normal(self, mean: float, spread: float, shape: tuple[int, ...]) -> np.ndarray:
            moves = np.zeros(shape)
            moves[..., 0] = self.by  # a share of the box's width
            return moves

    pixels, box = noise(), (40, 60, 140, 160)
    np.testing.assert_array_equal(_warped(pixels, box, Still(0)), pixels[60:160, 40:140])  # type: ignore[arg-type]
    np.testing.assert_array_equal(_warped(pixels, box, Still(0.1)), pixels[60:160, 50:150])  # type: ignore[arg-type]


def test_the_field_is_exact_at_nodes_and_affine_between() -> None:
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(4, 4, 2))
    field = _piecewise_linear(nodes, 61, 31)
    np.testing.assert_allclose(field[::10, ::20], nodes)
    # A field that is affine as a whole is given back exactly.
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), 2)
    whole = _piecewise_linear(grid @ [[2.0, 1.0], [0.5, -3.0]], 31, 31)
    xs, ys = np.meshgrid(np.arange(31) / 10, np.arange(31) / 10)
    np.testing.assert_allclose(whole, np.stack([xs, ys], 2) @ [[2.0, 1.0], [0.5, -3.0]], atol=1e-12)


def test_the_field_agrees_with_scikit_image_on_edges() -> None:
    """Along the lines between nodes every triangulation of the grid is the same."""
    rng = np.random.default_rng(1)
    moves = rng.normal(0, 1.5, (4, 4, 2))
    field = _piecewise_linear(moves, 61, 61)
    xs, ys = np.meshgrid(np.arange(4) * 20.0, np.arange(4) * 20.0)
    source = np.stack([xs.ravel(), ys.ravel()], 1)
    transform = PiecewiseAffineTransform.from_estimate(source, source + moves.reshape(-1, 2))
    line = np.stack([np.arange(1, 60.0), np.full(59, 20.0)], 1)
    np.testing.assert_allclose(transform(line) - line, field[20, 1:60], atol=1e-6)


@pytest.mark.parametrize("kind", MANIPULATIONS)
def test_a_photograph_changes_where_it_should(kind: str) -> None:
    pixels, _ = variant(3, 0)
    points = base_landmarks()
    before = pixels.copy()
    found = manipulate(pixels, points, np.random.default_rng(0), kind)
    np.testing.assert_array_equal(pixels, before)
    x0, y0, x1, y1 = region(kind, points, SIDE)
    changed = np.abs(found.astype(int) - pixels).max(2)
    outside = changed.copy()
    outside[y0:y1, x0:x1] = 0
    assert outside.max() == 0
    assert changed[y0:y1, x0:x1].max() > 20
    assert changed[y0:y1, x0:x1].mean() > 2
    assert abs(float(found.mean()) - float(pixels.mean())) < 3


def test_random_draws() -> None:
    pixels, _ = variant(3, 0)
    one, two, other = (manipulate(pixels, base_landmarks(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    boxes = set()
    for seed in range(40):
        changed = (manipulate(pixels, base_landmarks(), np.random.default_rng(seed)) != pixels).any(2)
        boxes.add(int(changed.sum()) // 400)
    assert len(boxes) >= 3  # small eyes, mouths and whole faces


def test_what_cannot_be_manipulated() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="did you mean 'mouth-turned'"):
        manipulate(noise(), POINTS, rng, "mouth-turnd")
    with pytest.raises(UsageError, match="uint8"):
        manipulate(noise()[:, :100], POINTS, rng)
    with pytest.raises(UsageError, match="uint8"):
        manipulate(noise().astype(float), POINTS, rng)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no face"):
        manipulate(noise(), np.zeros((5, 2)) - 50, rng)
