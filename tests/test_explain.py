"""Maps, deletion tests, error levels, noise and spectrum, on detectors and pictures whose answer is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from faceproof import UsageError
from faceproof.detectors.crops import CropSpec, cut
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from faceproof.errors import ModelError
from faceproof.explain import overlay, spectrum
from faceproof.explain.deletion import Deletion, deletion_test, moved, removed
from faceproof.explain.maps import HeatMap, marked, upscaled
from faceproof.explain.occlusion import occlusion_map, patches
from faceproof.explain.residuals import ela_map, levels, noise, noise_map, smoothed
from faceproof.images import RGB

from .test_anomaly import NETWORK
from .test_stability import LANDMARKS

SIZE = 96
PATCH = (slice(20, 38), slice(58, 76))
"""Rows and columns that the synthetic detector looks at: 3.5 % of the crop."""


def bright_patch(crops: RGB) -> np.ndarray:
    """A detector: twenty times the mean brightness of the patch above 0.5; nothing else matters."""
    return np.asarray(20 * (crops[(slice(None), *PATCH)].mean((1, 2, 3)) / 255 - 0.5), np.float32)


@pytest.fixture
def crop() -> RGB:
    """Dull noise with a bright patch where the detector looks."""
    pixels = np.random.default_rng(0).integers(60, 120, (SIZE, SIZE, 3), dtype=np.uint8)
    pixels[PATCH] = np.random.default_rng(1).integers(200, 250, (18, 18, 3), dtype=np.uint8)
    return pixels


def bump(row: float, column: float) -> np.ndarray:
    ys, xs = np.mgrid[0:SIZE, 0:SIZE]
    return np.exp(-((ys - row) ** 2 + (xs - column) ** 2) / 200).astype(np.float32)


class TestSynthetic:
    """A detector whose score depends on one known patch."""

    @pytest.mark.parametrize("fill", ["blur", "grey"])
    def test_occlusion_finds_the_patch_and_passes(self, crop: RGB, fill: str) -> None:
        found = occlusion_map(bright_patch, crop, fill=fill)
        rows, columns = np.nonzero(marked(found, 0.02))
        assert abs(rows.mean() - 28.5) < 5
        assert abs(columns.mean() - 66.5) < 5
        test = deletion_test(bright_patch, crop, found, sign=1)
        assert test.better
        assert test.fall > 5 > test.interval[1] * 0.5
        assert "passed" in test.sentence("generated")

    def test_occlusion_has_the_unit_of_the_score(self, crop: RGB) -> None:
        """A patch of exactly the size looked at: what is lost, over the share covered."""
        found = occlusion_map(bright_patch, crop, sizes=(0.5,), fill="grey")
        lost = float(bright_patch(crop[None])[0]) - 20 * (128 / 255 - 0.5)
        assert found.max() == pytest.approx(lost / 0.25, rel=1e-5)
        assert found.min() == pytest.approx(0, abs=1e-6)

    def test_the_other_answer_turns_the_sign(self, crop: RGB) -> None:
        """For photograph the same map marks what speaks against: removing it raises the score for photograph."""
        found = occlusion_map(bright_patch, crop)
        test = deletion_test(bright_patch, crop, found, sign=-1)
        assert not test.better
        assert test.fall < -5
        turned = deletion_test(lambda crops: -bright_patch(crops), crop, found, sign=-1)
        assert turned == deletion_test(bright_patch, crop, found, sign=1)

    def test_wrong_maps_are_no_better_than_chance(self, crop: RGB) -> None:
        elsewhere = deletion_test(bright_patch, crop, bump(75, 20), sign=1)
        assert not elsewhere.better
        assert elsewhere.sentence("generated").startswith("NO BETTER THAN CHANCE")
        passed = 0
        for seed in range(40):
            dust = np.random.default_rng(seed).normal(size=(SIZE, SIZE)).astype(np.float32)
            passed += deletion_test(bright_patch, crop, smoothed(dust), sign=1, seed=seed, draws=19).better
        assert passed <= 6  # 5 % are expected: more than 6 of 40 has a probability of 0.3 %

    def test_the_same_twice(self, crop: RGB) -> None:
        values = bump(30, 60)
        one, two = (deletion_test(bright_patch, crop, values, sign=1, batch=batch) for batch in (4, 64))
        assert one == two
        assert one != deletion_test(bright_patch, crop, values, sign=1, seed=1)


class TestDeletion:
    def test_figures_by_hand(self) -> None:
        test = Deletion(2.0, (0.0, 1.0, 2.0, 3.0))
        assert test.mean == 1.5
        assert test.chance == 3 / 5  # itself, 2.0 and 3.0
        assert test.interval == (pytest.approx(0.075), pytest.approx(2.925))
        assert not test.better
        assert Deletion(2.0, (0.0,) * 19).chance == 1 / 20
        assert Deletion(2.0, (0.0,) * 19).better
        assert not Deletion(2.0, (0.0,) * 18).better  # too few draws to say so
        assert not Deletion(-0.1, (-1.0,) * 39).better  # the score rises, if less than elsewhere

    def test_marked_is_exact_and_stable(self) -> None:
        values = np.random.default_rng(0).normal(size=(SIZE, SIZE))
        chosen = marked(values, 0.1)
        assert chosen.sum() == round(0.1 * SIZE * SIZE)
        assert values[chosen].min() >= values[~chosen].max()
        flat = marked(np.zeros((10, 10)), 0.1)
        assert flat[0].all()
        assert flat.sum() == 10

    def test_random_places_have_the_same_area_and_reach_everywhere(self) -> None:
        mask, rng = marked(bump(30, 60)), np.random.default_rng(0)
        places = np.array([moved(mask, rng) for _ in range(300)])
        assert (places.sum((1, 2)) == mask.sum()).all()
        share = places.mean(0)
        assert share.min() > 0.02
        assert share.max() < 0.2

    def test_removal_leaks_nothing_and_has_no_edge(self, crop: RGB) -> None:
        mask = marked(bump(30, 60))
        other = crop.copy()
        other[mask] = 255 - other[mask]
        np.testing.assert_array_equal(removed(crop, mask)[mask], removed(other, mask)[mask])
        far = ~scipy.ndimage.binary_dilation(mask, iterations=12)
        np.testing.assert_array_equal(removed(crop, mask)[far], crop[far])
        level = np.full_like(crop, 77)
        np.testing.assert_array_equal(removed(level, mask), level)
        ramp = np.repeat(np.arange(SIZE, dtype=np.uint8)[None, :, None] * 2, 3, 2).repeat(SIZE, 0)
        steps = np.abs(np.diff(removed(ramp, mask).astype(int), axis=1))
        flat = np.where(mask[:, :, None], ramp[~mask].mean(), ramp)
        assert steps.max() < 0.25 * np.abs(np.diff(flat, axis=1)).max()

    def test_almost_everything_can_be_removed(self, crop: RGB) -> None:
        mask = np.ones((SIZE, SIZE), bool)
        mask[0, 0] = False
        assert removed(crop, mask).std((0, 1)).max() < 1

    @pytest.mark.parametrize(("changes", "message"), [({"sign": 0}, "sign is 1 or -1"), ({"draws": 0}, "at least 1")])
    def test_wrong_arguments(self, crop: RGB, changes: dict[str, int], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            deletion_test(bright_patch, crop, bump(1, 1), **{"sign": 1, **changes})
        with pytest.raises(UsageError, match="the map has shape"):
            deletion_test(bright_patch, crop, np.zeros((7, 7)), sign=1)
        with pytest.raises(UsageError, match="between 0 and 1"):
            marked(np.zeros((7, 7)), 1.5)


@pytest.mark.parametrize(("side", "size"), [(96, 0.25), (208, 0.125), (33, 0.5), (32, 0.01)])
def test_patches_cover_the_crop(side: int, size: float) -> None:
    covered = np.zeros((side, side), int)
    for place in patches(side, size):
        covered[place] += 1
    assert covered.min() >= 1


def test_occlusion_refuses_wrong_arguments(crop: RGB) -> None:
    with pytest.raises(UsageError, match="did you mean 'grey'"):
        occlusion_map(bright_patch, crop, fill="gray")
    for sizes in ((), (0.7,), (0.0,), (0.1,) * 9):
        with pytest.raises(UsageError, match="one to eight patch sizes"):
            occlusion_map(bright_patch, crop, sizes=sizes)


class TestEvidenceMap:
    def test_mean_plus_a_constant_is_the_score(self, astronaut: RGB) -> None:
        """The last layer's bias, the same for every crop: the map loses nothing of the score (Zhou et al. 2016)."""
        detector = OnnxDetector(shipped_models()[DEFAULT_MODEL])
        size = detector.card.size
        rng = np.random.default_rng(0)
        face = cut(detector.card.crop, astronaut, LANDMARKS)
        crops = np.stack([face, face[::-1], rng.integers(0, 256, (size, size, 3), dtype=np.uint8), face // 2])
        cells = detector.evidence_map(crops)
        assert cells.ndim == 3
        bias = detector.score(crops) - cells.mean((1, 2))
        np.testing.assert_allclose(bias, bias[0], atol=2e-4)
        assert np.ptp(detector.score(crops)) > 1  # the scores themselves are far apart

    def test_a_network_without_one_says_so(self, tmp_path) -> None:
        from .test_anomaly import photographs

        class Network(OnnxDetector):
            def __init__(self) -> None:
                from faceproof.detectors.card import read_card

                self._card = read_card(shipped_models()[DEFAULT_MODEL])
                self._network = type("Network", (), {"outputs": ("score",)})()  # type: ignore[assignment]

        assert not Network().maps
        with pytest.raises(ModelError, match="no map of its score"):
            Network().evidence_map(photographs(1))
        assert NETWORK.is_file()


class TestOverlay:
    def test_the_scale_is_fixed(self) -> None:
        """A value has its colour whatever else the map holds; signs have their own; the scale ends."""
        grey = np.full((1, 4), 100, np.uint8)
        one = overlay.coloured(grey, [[15, 0, -15, 1]], 30)
        two = overlay.coloured(grey, [[15, 29, -900, 900]], 30)
        np.testing.assert_array_equal(one[0, 0], two[0, 0])
        np.testing.assert_array_equal(one[0, 1], [100, 100, 100])
        assert one[0, 0, 0] > one[0, 0, 2]
        assert one[0, 2, 2] > one[0, 2, 0]
        np.testing.assert_array_equal(two[0, 3], overlay.coloured(grey, [[30] * 4], 30)[0, 0])

    def test_the_words_stand_on_the_picture(self, crop: RGB) -> None:
        """The same map with another outcome of its test gives other pixels below, and the warning's colour."""
        values = bump(30, 60) * 20
        heat = HeatMap("cam", "title", "sentence", values)
        good, bad = (
            overlay.map_picture(heat, crop, marked(values), test, answer="generated", about="face 1 of 1")
            for test in (Deletion(2.0, (0.0,) * 39), Deletion(0.0, (0.0,) * 39))
        )
        assert good.dtype == np.uint8
        below = overlay.SIDE + 20
        np.testing.assert_array_equal(good[:below], bad[:below])
        assert (bad[below:] == overlay.WARN).all(2).any()
        assert not (good[below:] == overlay.WARN).all(2).any()
        short = overlay.map_picture(heat, crop, marked(values), Deletion(0.0, (0.0,) * 39), answer="generated")
        assert len(short) < len(bad)
        assert (short[below:] == overlay.WARN).all(2).any()  # the page's pictures carry the warning too

    @pytest.mark.parametrize("values", [np.zeros((3, 4)), np.full((3, 3), np.nan), np.zeros(9)])
    def test_a_map_is_square_and_finite(self, values: np.ndarray) -> None:
        with pytest.raises(UsageError, match="square"):
            HeatMap("cam", "", "", values.astype(np.float32))


class TestResiduals:
    def test_error_levels_are_what_a_jpeg_changes(self, astronaut: RGB) -> None:
        """Held against Pillow's encoder; not stretched, so a picture in itself twice as flat has lower levels."""
        found = levels(astronaut)
        stream = io.BytesIO()
        Image.fromarray(astronaut).save(stream, "JPEG", quality=90)
        copy = np.asarray(Image.open(stream)).astype(float)
        expected = np.abs(astronaut - copy).mean(2)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
        assert found.mean() == pytest.approx(expected.mean(), rel=0.05)
        assert levels(np.full((32, 32, 3), 90, np.uint8)).max() == 0

    def test_noise_is_luma_minus_its_median(self, astronaut: RGB) -> None:
        grey = np.repeat(np.asarray(Image.fromarray(astronaut).convert("L"))[:, :, None], 3, 2)
        expected = grey[:, :, 0] - scipy.ndimage.median_filter(grey[:, :, 0].astype(float), 3, mode="nearest")
        np.testing.assert_allclose(noise(grey), np.abs(expected), atol=1e-6)

    def test_maps_lie_on_the_crop(self, astronaut: RGB) -> None:
        """Noise added to one side of the face shows on that side of the crop, in both maps."""
        noisy = astronaut.copy()
        left = noisy[:, :214]
        speck = np.random.default_rng(0).integers(-30, 31, (*left.shape[:2], 1))
        noisy[:, :214] = np.clip(left + speck, 0, 255)
        for make in (ela_map, noise_map):
            clean, found = (make(pixels, LANDMARKS, CropSpec(96)) for pixels in (astronaut, noisy))
            assert found.values.shape == (96, 96)
            assert not found.explains
            gain = found.values - clean.values
            assert gain[:, :40].mean() > 1 > 5 * abs(gain[:, 56:].mean())

    def test_landmarks_outside_are_no_reason_to_fail(self, astronaut: RGB) -> None:
        assert np.isfinite(noise_map(astronaut, LANDMARKS - 150, CropSpec(96)).values).all()


class TestSpectrum:
    @pytest.mark.parametrize("cycles", [5, 20, 60])
    def test_a_wave_has_its_power_at_its_frequency(self, cycles: int) -> None:
        size = spectrum.SPEC.size
        wave = 128 + 100 * np.sin(2 * np.pi * cycles * np.arange(size) / size)
        crop = np.round(np.broadcast_to(wave[:, None, None], (size, size, 3))).astype(np.uint8)
        power = spectrum.radial_spectrum(crop)
        assert power.argmax() + 1 == cycles
        assert power[cycles + 5] < power.max() - 30

    def test_white_noise_is_flat_whatever_its_contrast(self) -> None:
        rng = np.random.default_rng(0)
        shape = (spectrum.SPEC.size, spectrum.SPEC.size, 1)
        for spread in (10, 40):
            crop = np.clip(128 + spread * rng.normal(size=shape), 0, 255).astype(np.uint8).repeat(3, 2)
            power = spectrum.radial_spectrum(crop)
            # Rings near the middle have few frequencies to average, so they are held together.
            assert abs(power[5:40].mean()) < 0.7
            assert np.abs(power[40:]).max() < 1.5

    def test_a_level_picture_has_none(self) -> None:
        assert (spectrum.radial_spectrum(np.full((160, 160, 3), 9, np.uint8)) == spectrum.FLOOR).all()

    def test_the_shipped_band(self, astronaut: RGB) -> None:
        band = spectrum.read_band()
        assert band.photographs == 300
        assert 0 < band.usual < 0.8
        found = spectrum.compare(cut(spectrum.SPEC, astronaut, LANDMARKS), band)
        assert not found.unusual
        assert found.above + found.below <= 1
        blurred = scipy.ndimage.gaussian_filter(cut(spectrum.SPEC, astronaut, LANDMARKS), (3, 3, 0))
        far = spectrum.compare(blurred, band)
        assert far.unusual
        assert far.below > 0.5
        assert "jpeg:70" in far.sentence

    def test_another_size_or_file_is_refused(self, tmp_path) -> None:
        with pytest.raises(UsageError, match="crops of 160 px"):
            spectrum.compare(np.zeros((96, 96, 3), np.uint8))
        for content in ("", "{}", '{"schema": "x", "size": 160}', "[" * 100_000):
            path = tmp_path / "band.json"
            path.write_text(content)
            spectrum.read_band.cache_clear()
            with pytest.raises(ModelError, match="cannot be used"):
                spectrum.read_band(path)

    @pytest.mark.data
    def test_the_band_holds_photographs_of_val(self, faces_data) -> None:
        """Photographs it was not made of: about one frequency in ten lies outside, as the quantiles say."""
        import csv

        with (faces_data / "manifest.csv").open(newline="") as stream:
            rows = [r for r in csv.DictReader(stream) if (r["label"], r["split"]) == ("photograph", "val")][::6]
        shares = []
        for row in rows:
            points = np.array([float(v) for v in row["landmarks"].split()], np.float32).reshape(5, 2)
            found = spectrum.compare(
                cut(spectrum.SPEC, np.asarray(Image.open(faces_data / row["path"]).convert("RGB")), points)
            )
            shares.append(found.above + found.below)
        assert len(shares) > 50
        assert 0.03 < np.mean(shares) < 0.25


def test_upscaling_keeps_mean_and_place() -> None:
    cells = np.zeros((7, 7), np.float32)
    cells[2, 4] = 49
    large = upscaled(cells, 70)
    assert large.mean() == pytest.approx(1, rel=0.02)
    assert np.unravel_index(large.argmax(), large.shape) in [(24, 44), (24, 45), (25, 44), (25, 45)]
