"""The one-class detector on a network of 400 bytes whose embeddings can be worked out by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from faceproof import Detector, FaceChecker, ModelError, UsageError
from faceproof.anomaly_fitting import Fitted, choose_mixture
from faceproof.anomaly_packaging import EmbeddingSource, package_anomaly
from faceproof.datasets import Sample
from faceproof.detectors.anomaly import AnomalyDetector, AnomalyScorer, read_scorer
from faceproof.detectors.card import read_card
from faceproof.detectors.crops import CropSpec
from faceproof.detectors.folders import write_card
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import load_detector
from faceproof.heldout import HeldOut
from faceproof.images import RGB
from faceproof.mixture import Mixture
from faceproof.recalibration import calibrate

NETWORK = Path(__file__).parent / "fixtures" / "moments.onnx"
SIZE = 64
"""Of its crops."""


def moments(crops: np.ndarray) -> np.ndarray:
    """What the network gives for crops normalised with mean and std 0.5."""
    x = (crops / 255 - 0.5) / 0.5
    return np.concatenate([x.mean((1, 2)), (x**2).mean((1, 2))], axis=1)


def photographs(count: int = 200, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level, spread = rng.uniform(80, 170, (count, 1, 1, 3)), rng.uniform(15, 40, (count, 1, 1, 1))
    return np.clip(level + spread * rng.normal(size=(count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    embeddings = moments(photographs())
    return choose_mixture(embeddings, [str(n) for n in range(200)], components=(1, 2), kinds=("full",), dims=(4, 6))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> list[Sample]:
    """One face cut in many ways; the generated ones are bleached, which the moments show."""
    folder, samples = tmp_path_factory.mktemp("pictures"), []
    for number in range(38):
        left, label = 60 + 2 * (number % 7), int(number >= 26)
        image = Image.fromarray(astronaut).crop((left, number % 5, left + 330 + number, number % 5 + 330 + number))
        image = image.filter(ImageFilter.UnsharpMask(3, 12 * number, 0))
        if label:
            image = Image.fromarray(np.minimum(np.asarray(image).astype(int) + 60 + number, 255).astype(np.uint8))
        image.save(folder / f"{number}.png")
        samples.append(
            Sample(folder / f"{number}.png", label, "gan" if label else "", "web", "val", f"v{number}", "own")
        )
    return samples


def source(samples: list[Sample] | None = None) -> EmbeddingSource:
    pool = samples or [Sample(Path(f"{n}.jpg"), 0, "", "web", "train", f"t{n}", "own") for n in range(200)]
    return EmbeddingSource(NETWORK, CropSpec(SIZE), (0.5,) * 3, (0.5,) * 3, "Moments of a crop.", pool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fitted: Fitted, pictures: list[Sample]) -> Path:
    out = tmp_path_factory.mktemp("models") / "one-class"
    package_anomaly(source(), fitted, HeldOut("test", "val", "d", tuple(pictures)), out)
    return out


def test_a_folder_is_a_detector_that_checks(folder: Path, pictures: list[Sample]) -> None:
    detector = load_detector(folder)
    assert isinstance(detector, AnomalyDetector)
    assert isinstance(detector, Detector)
    card = detector.card
    assert card.kind == "anomaly"
    assert card.raw["metrics"]["val"]["auc"] > 0.9
    assert card.raw["training"]["groups"]["count"] == 200
    point = card.point()
    assert point.photographs > 20
    result = FaceChecker(folder).check(pictures[-1].path)
    assert result.faces[0].verdict.score == pytest.approx(
        float(detector.score(_crop(pictures[-1], card.crop))[0]), rel=1e-5
    )
    assert "one-class 1" in result.model


def _crop(sample: Sample, spec: CropSpec) -> np.ndarray:
    from faceproof.detectors.crops import cut
    from faceproof.faces.detection import face_detector
    from faceproof.images import load

    pixels = load(sample.path).pixels
    return cut(spec, pixels, face_detector(None).detect(pixels)[0].landmarks)[None]


def test_scores_are_those_of_the_definition(folder: Path, fitted: Fitted) -> None:
    detector = AnomalyDetector(folder)
    crops = np.concatenate([photographs(20, seed=1), np.full((1, SIZE, SIZE, 3), 255, np.uint8)])
    np.testing.assert_allclose(detector.embed(crops), moments(crops), atol=1e-5)
    wanted = (-fitted.mixture.log_likelihood(moments(crops)) - fitted.centre) / fitted.spread
    found = detector.score(crops)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:20], wanted[:20], atol=0.02)
    assert found[20] == found.max()  # white is like none of them
    assert found[20] > found[:20].max() + 3
    assert abs(float(np.median(detector.score(photographs(100, seed=2))))) < 0.7  # a usual photograph is near 0
    assert detector.score(crops[:0]).shape == (0,)
    assert detector.embed(crops[:0]).shape == (0, 6)
    with pytest.raises(UsageError, match="crops must be uint8"):
        detector.score(crops[:, :30])


def test_scores_stay_finite() -> None:
    mixture = Mixture("diag", np.ones(1), np.zeros((1, 2)), np.full((1, 2), 1e6))
    scorer = AnomalyScorer(mixture, 0.0, 1e-6)
    assert scorer.score(np.full((1, 2), 1e30)).tolist() == [1e9]
    for centre, spread in ((np.nan, 1), (0, 0), (0, np.inf), (0, -1)):
        with pytest.raises(ModelError, match="spread positive"):
            AnomalyScorer(mixture, centre, spread)


def test_one_run_of_a_classifiers_network_serves_both(folder: Path, tmp_path: Path) -> None:
    """The same folder called a classifier: score and embedding come together, and the mixture scores the latter."""
    place = Path(shutil.copytree(folder, tmp_path / "both"))
    raw = json.loads((place / "card.json").read_text())
    write_card(place, raw | {"kind": "classifier"})
    both = load_detector(place)
    assert isinstance(both, OnnxDetector)
    assert both.embeds
    crops = photographs(5, seed=3)
    scores, embeddings = both.score_and_embed(crops)
    np.testing.assert_allclose(scores, moments(crops)[:, :3].mean(1), atol=1e-5)
    np.testing.assert_array_equal(scores, both.score(crops))
    scorer = read_scorer(place, both.card)
    assert scorer is not None
    np.testing.assert_array_equal(scorer.score(embeddings), AnomalyDetector(folder).score(crops))
    assert both.card.fingerprint == both.card.sha256
    assert read_card(folder).fingerprint not in (both.card.sha256, raw["mixture"]["sha256"])
    dumb = OnnxDetector(without_embedding(place))
    assert not dumb.embeds
    with pytest.raises(ModelError, match="gives no embeddings"):
        dumb.score_and_embed(crops)


def without_embedding(place: Path) -> Path:
    """Give the folder's network another name for its second output: a name of the same length is still valid ONNX."""
    raw = json.loads((place / "card.json").read_text())
    weights = (place / raw["file"]).read_bytes().replace(b"embedding", b"somewhere")
    (place / raw["file"]).write_bytes(weights)
    raw["sha256"] = hashlib.sha256(weights).hexdigest()
    write_card(place, raw)
    return place


def changed(folder: Path, tmp_path: Path, **change: object) -> Path:
    place = Path(shutil.copytree(folder, tmp_path / "changed"))
    raw = json.loads((place / "card.json").read_text())
    for key, value in change.items():
        if value is None:
            del raw[key]
        elif isinstance(value, dict):
            raw[key] |= value
        else:
            raw[key] = value
    write_card(place, raw)
    return place


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "oracle"}, "kind 'oracle'; this version knows: classifier, anomaly"),
        ({"mixture": None}, "field 'mixture' is missing"),
        ({"mixture": {"file": "../mixture.safetensors"}}, "not a file name"),
        ({"mixture": {"file": "none.safetensors"}}, "'none.safetensors', which is not in its folder"),
        ({"mixture": {"sha256": "0" * 64}}, "does not match its card"),
        ({"mixture": {"spread": 0}}, "spread positive"),
        ({"mixture": {"centre": "x"}}, "does not describe its mixture"),
    ],
)
def test_folders_that_must_not_be_used(folder: Path, tmp_path: Path, change: dict[str, object], why: str) -> None:
    with pytest.raises(ModelError, match=why):
        load_detector(changed(folder, tmp_path, **change))


def test_network_and_mixture_belong_together(folder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "narrow"))
    data = Mixture("diag", np.ones(1), np.zeros((1, 5)), np.ones((1, 5))).to_bytes()
    (place / "mixture.safetensors").write_bytes(data)
    raw = json.loads((place / "card.json").read_text())
    raw["mixture"]["sha256"] = hashlib.sha256(data).hexdigest()
    write_card(place, raw)
    with pytest.raises(ModelError, match=r"embeds a crop as \(1, 6\), its mixture takes 5"):
        load_detector(place)
    without_embedding(place)
    with pytest.raises(ModelError, match="no output named 'embedding', but score"):
        load_detector(place)


def test_what_cannot_be_packaged(tmp_path: Path, fitted: Fitted, pictures: list[Sample]) -> None:
    held = HeldOut("test", "val", "d", tuple(pictures))
    with pytest.raises(UsageError, match="photographs only"):
        source(pictures)
    leak = [replace(sample, split="train") for sample in pictures if not sample.label][:3]
    with pytest.raises(UsageError, match="3 groups fitted the model and are held out too, e.g. v0"):
        package_anomaly(source(leak), fitted, held, tmp_path / "a")
    turned = tuple(replace(sample, label=1 - sample.label) for sample in pictures)
    with pytest.raises(UsageError, match="wrong way round|too few for a threshold"):
        package_anomaly(source(), fitted, replace(held, samples=turned), tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_calibrated_anew_it_keeps_its_mixture(folder: Path, tmp_path: Path, pictures: list[Sample]) -> None:
    held = HeldOut("test", "val", "d", tuple(pictures))
    calibrate(folder, held, tmp_path / "again", fprs=(0.1,))
    again = load_detector(tmp_path / "again")
    crops = photographs(3, seed=4)
    np.testing.assert_array_equal(again.score(crops), load_detector(folder).score(crops))
    calibrate(folder, held, tmp_path / "again", fprs=(0.1,), overwrite=True)  # the mixture is a model's file
