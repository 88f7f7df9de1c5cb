"""The shipped model: its card, its hash, its golden verdict, and what must not load."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from faceproof import FaceChecker, Gates, ModelError, UsageError
from faceproof.detectors.card import read_card
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import DEFAULT_MODEL, load_detector, shipped_models
from faceproof.doctor import SELF_TEST, examine
from faceproof.fusion import SUPERVISED, Single
from faceproof.images import RGB
from faceproof.verdict import decide

FOLDER = shipped_models()[DEFAULT_MODEL]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "model"))


def _edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    raw = json.loads((folder / "card.json").read_text())
    change(raw)
    (folder / "card.json").write_text(json.dumps(raw))


def test_golden_verdict_for_the_astronaut(checker: FaceChecker) -> None:
    """A photograph by NASA, called one; the numbers are those in the card, written when it was made."""
    result = checker.check(SELF_TEST)
    expected = checker.card.raw["selftest"]
    assert result.verdict == "photograph" == expected["verdict"]
    assert len(result.faces) == 1
    assert result.faces[0].verdict.score == pytest.approx(expected["score"], abs=expected["score_tolerance"])
    np.testing.assert_allclose(result.faces[0].box, expected["box"], atol=expected["box_tolerance"])
    assert result.sha256 == hashlib.sha256(SELF_TEST.read_bytes()).hexdigest()


def test_doctor_is_content() -> None:
    found = examine()
    assert all(finding.good for finding in found), [f for f in found if not f.good]
    assert {"self-test", f"model {DEFAULT_MODEL}", "runtime onnxruntime"} <= {finding.what for finding in found}


def test_shipped_weights_are_small_and_carded() -> None:
    total = sum(path.stat().st_size for path in FOLDER.parent.rglob("*") if path.is_file())
    assert total <= 20e6
    for folder in shipped_models().values():
        card = read_card(folder)
        assert {p.fpr for p in card.points} == {0.05, 0.01, 0.001}
        assert [p.threshold for p in card.points] == sorted(p.threshold for p in card.points)
        assert all(row["licence"] and row["pictures"] for row in card.raw["training"]["data"])
        assert card.raw["metrics"]["val"]["auc"] > 0.5
        assert card.raw["training"]["command"]
        assert card.raw["parity_with_torch"]["largest"] < 0.05


def test_weights_are_what_the_card_says() -> None:
    """Inputs and outputs, and float16 storage, read from the ONNX graph by onnxruntime itself."""
    card = read_card(FOLDER)
    session = onnxruntime.InferenceSession(FOLDER / card.file, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    assert shape[1:] == [3, card.size, card.size]
    assert isinstance(shape[0], str)  # any batch


def test_score_does_not_depend_on_the_batch(astronaut: RGB) -> None:
    detector = load_detector()
    size = detector.card.size
    crops = np.stack([astronaut[i : i + size, i : i + size] for i in range(0, 280, 40)])
    together = detector.score(crops)
    alone = np.concatenate([detector.score(crop[None]) for crop in crops])
    np.testing.assert_allclose(together, alone, atol=2e-3)
    assert detector.score(crops[:0]).shape == (0,)
    with pytest.raises(UsageError, match="crops must be uint8"):
        detector.score(crops.astype(np.float32))


def test_normalisation_is_the_cards(astronaut: RGB) -> None:
    """The network fed by hand, from the definition (rgb / 255 - mean) / std, gives the same score."""
    detector = load_detector()
    card = detector.card
    crop = astronaut[: card.size, : card.size]
    session = onnxruntime.InferenceSession(FOLDER / card.file, providers=["CPUExecutionProvider"])
    image = ((crop / 255.0 - card.mean) / card.std).astype(np.float32).transpose(2, 0, 1)[None]
    expected = session.run(None, {session.get_inputs()[0].name: image})[0]
    assert detector.score(crop[None])[0] == pytest.approx(float(expected[0, 0]), abs=1e-3)


def test_a_changed_model_does_not_load(copy: Path) -> None:
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="does not match its card"):
        FaceChecker(copy)


def test_no_card_no_model(copy: Path) -> None:
    (copy / "card.json").unlink()
    with pytest.raises(ModelError, match=r"a model is a folder with card\.json"):
        FaceChecker(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("sha256"), "'sha256' is missing"),
        (lambda c: c.update(schema="other/1"), "schema is 'other/1'"),
        (lambda c: c.update(file="../../etc/passwd"), "not in its folder"),
        (lambda c: c["calibration"].update(method="Platt", slope=-1, intercept=0), "slope must be positive"),
        (lambda c: c["calibration"]["log_odds"].reverse(), "log-odds never descend"),
        (lambda c: c["input"].update(size=7), "crop size 7"),
        (lambda c: c["input"].update(eye_distance=0.5), "trained on another crop"),
        (lambda c: c["input"].update(size=160), "does not take the card's crops"),
        (lambda c: c["operating_points"][0].update(interval=[9, -9]), "low <= threshold <= high"),
        (lambda c: c["training"].clear(), "training is empty"),
        (lambda c: c.update(default_fpr=0.5), "no threshold for a false-alarm rate of 0.5"),
    ],
)
def test_a_wrong_card_does_not_load(copy: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    _edit(copy, change)
    with pytest.raises((ModelError, UsageError), match=message):
        FaceChecker(copy)


def test_weights_that_are_no_network(copy: Path) -> None:
    junk = b"\x80\x04K\x01."  # a pickle, for that matter
    (copy / "model.onnx").write_bytes(junk)
    _edit(copy, lambda c: c.update(sha256=hashlib.sha256(junk).hexdigest()))
    with pytest.raises(ModelError, match="cannot load the weights"):
        OnnxDetector(copy)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UsageError, match=f"did you mean '{DEFAULT_MODEL}'"):
        FaceChecker(DEFAULT_MODEL[:-1])
    with pytest.raises(UsageError, match=r"rate of 0\.0005; give at least 0\.0012 or 0\.001 \(extrapolated\)"):
        FaceChecker(fpr=0.0005)  # fewer than one of the photographs it was calibrated on


def test_verdict_follows_the_band() -> None:
    card = read_card(FOLDER)
    curve = card.calibration
    for fpr in (0.05, 0.01, 0.001):
        point = card.point(fpr)
        for score, label in (
            (point.high, "generated"),
            (point.high + 1, "generated"),
            ((point.low + point.high) / 2, "inconclusive"),
            (point.low - 1e-6, "photograph"),
        ):
            alone = Single(dataclasses.replace(card, conformal=None))
            verdict = decide(score, alone.evidence({SUPERVISED: score}), (), alone.rule(fpr, None))
            assert verdict.label == label
            assert verdict.probability == pytest.approx(curve.probability(score))
            assert verdict.evidence[0].weight == pytest.approx(curve.log_odds(score))
            assert verdict.threshold_fpr == fpr


def test_stricter_points_flag_less(astronaut: RGB) -> None:
    thresholds = [FaceChecker(fpr=fpr).check(astronaut).threshold for fpr in (0.05, 0.01, 0.001)]
    assert thresholds == sorted(thresholds)


def test_check_many_equals_check(checker: FaceChecker, astronaut: RGB) -> None:
    """Faces of several pictures in one batch, pictures without faces and errors between them: same records."""
    group = np.concatenate([astronaut, astronaut[:, ::-1]], axis=1)
    pictures: list[Any] = [astronaut, b"", np.zeros((90, 90, 3), np.uint8), group, astronaut[:, ::-1].copy()]
    together = [r.to_dict() for r in checker.check_many(pictures * 3, batch=4)]
    alone = [checker.check(p).to_dict() for p in pictures] * 3
    assert [r["status"] for r in together[:5]] == ["ok", "error", "no_face", "ok", "ok"]
    assert len(together[3]["faces"]) == 2
    for a, b in zip(together, alone, strict=True):
        assert (a["verdict"], a["error"], a["sha256"]) == (b["verdict"], b["error"], b["sha256"])
        assert [f["box"] for f in a["faces"]] == [f["box"] for f in b["faces"]]
        for one, other in zip(a["faces"], b["faces"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=5e-3)


def test_check_many_is_lazy(checker: FaceChecker, astronaut: RGB) -> None:
    taken = []

    def pictures() -> Any:
        for number in range(1000):
            taken.append(number)
            yield astronaut

    next(checker.check_many(pictures(), batch=4))
    assert len(taken) == 4


@pytest.mark.data
@pytest.mark.slow
def test_card_metrics_are_what_the_pipeline_gives(faces_data: Path) -> None:
    """The card's AUC on val, found again by FaceChecker on the files themselves (every second one)."""
    from faceproof.datasets import read_manifest
    from faceproof.metrics import auc

    samples = [s for s in read_manifest(faces_data / "manifest.csv", drop_straddling=True) if s.split == "val"][::2]
    checker = FaceChecker(gates=Gates(min_side=0, min_inside=0, min_sharpness=0, max_turn=0))
    pairs = [
        (s, r.faces[0]) for s, r in zip(samples, checker.check_many(s.path for s in samples), strict=True) if r.faces
    ]
    assert len(pairs) >= 0.99 * len(samples)
    labels = np.array([s.label for s, _ in pairs])
    found = auc(labels, [face.verdict.score for _, face in pairs])
    low, high = checker.card.raw["metrics"]["val"]["auc_interval"]
    assert low - 0.01 <= found <= min(1.0, high + 0.01)
    # Calibrated probabilities against counts, classes weighted alike as in the card.
    p = np.array([face.verdict.probability for _, face in pairs])
    for label in (0, 1):
        assert abs((p[labels == label] > 0.5).mean() - label) < 0.1
