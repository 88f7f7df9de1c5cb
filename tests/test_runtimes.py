"""Runtimes: the same scores from every one that is installed, the choice among them, and what they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from faceproof import FaceChecker, MissingExtraError, ModelError, UsageError
from faceproof.detectors import fastest as choice
from faceproof.detectors.card import read_card
from faceproof.detectors.fastest import TOLERANCE, Measured, fastest, measured, real_crops
from faceproof.detectors.onnx import CropNetwork, OnnxDetector
from faceproof.detectors.store import DEFAULT_MODEL, load_detector, shipped_models
from faceproof.images import RGB
from faceproof.inputs import Item
from faceproof.runtimes import RUNTIMES, Program, open_session, processor_flags, taking
from faceproof.scan import Options, scan
from tests.helpers import run_cli
from tests.test_cli import EXAMPLES

SHIPPED = shipped_models()[DEFAULT_MODEL]
FIXTURE = Path(__file__).parent / "fixtures" / "moments.onnx"


def _have(name: str) -> None:
    pytest.importorskip(RUNTIMES[name].module, reason=f"{name} is not installed")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_network_that_can_be_worked_out_by_hand(name: str) -> None:
    _have(name)
    session = open_session(Program("here", "model.onnx", FIXTURE.read_bytes()), runtime=name)
    assert session.outputs == ("score", "embedding")
    assert not session.takes_pixels
    batch = np.random.default_rng(0).normal(size=(3, 3, 8, 6)).astype(np.float32)
    score, embedding = session.run(batch, ("score", "embedding"))
    assert score == pytest.approx(batch.mean((1, 2, 3))[:, None], abs=1e-6)
    means = np.hstack([batch.mean((2, 3)), (batch**2).mean((2, 3))])
    assert embedding == pytest.approx(means, abs=1e-5)
    # What was given stays as it was when the session runs again.
    again = session.run(2 * batch, ("score",))[0]
    assert score == pytest.approx(batch.mean((1, 2, 3))[:, None], abs=1e-6)
    assert again == pytest.approx(2 * score, abs=1e-6)


def test_openvino_gives_the_shipped_models_scores(astronaut: RGB) -> None:
    _have("openvino")
    crops = real_crops(read_card(SHIPPED).size, 5)
    one, other = (OnnxDetector(SHIPPED, runtime=name) for name in ("onnxruntime", "openvino"))
    assert (one.runtime, other.runtime) == ("onnxruntime", "openvino")
    assert other.score(crops) == pytest.approx(one.score(crops), abs=TOLERANCE)
    for a, b in zip(one.score_and_embed(crops), other.score_and_embed(crops), strict=True):
        assert b == pytest.approx(a, abs=TOLERANCE)
    assert other.evidence_map(crops) == pytest.approx(one.evidence_map(crops), abs=10 * TOLERANCE)
    usual, quick = FaceChecker().check(astronaut), FaceChecker(runtime="openvino").check(astronaut)
    assert quick.verdict == usual.verdict
    assert quick.faces[0].verdict.score == pytest.approx(usual.faces[0].verdict.score, abs=TOLERANCE)


def test_real_crops_differ_and_do_not_change() -> None:
    crops = real_crops(224, 4)
    assert crops.shape == (4, 224, 224, 3)
    assert crops.dtype == np.uint8
    assert len({crop.tobytes() for crop in crops}) == 4
    assert (real_crops(224, 4) == crops).all()
    assert real_crops(1024, 1).shape == (1, 1024, 1024, 3)


def test_measured_says_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    card = read_card(SHIPPED)
    monkeypatch.setattr(choice, "ROUNDS", 1)
    one, other = measured(SHIPPED, card, ["onnxruntime", "litert"], batch=2)
    assert (one.runtime, one.drift, one.failure) == ("onnxruntime", 0.0, "")
    assert one.seconds > 0
    assert "litert does not run model.onnx" in other.failure


def _measured(*found: tuple[str, float, float]) -> list[Measured]:
    return [Measured(name, seconds, drift) for name, seconds, drift in found]


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        ([("onnxruntime", 1.0, 0.0), ("openvino", 0.5, 1e-4)], "openvino"),
        ([("onnxruntime", 1.0, 0.0), ("openvino", 0.95, 1e-4)], "onnxruntime"),  # less than a tenth is noise
        ([("onnxruntime", 1.0, 0.0), ("openvino", 0.5, 2 * TOLERANCE)], "onnxruntime"),  # other scores
        ([("onnxruntime", 1.0, 0.0), ("openvino", 0.6, 0.0), ("openvino-bf16", 0.3, 0.001)], "openvino-bf16"),
    ],
)
def test_the_choice(monkeypatch: pytest.MonkeyPatch, found: list[tuple[str, float, float]], taken: str) -> None:
    monkeypatch.setattr(choice, "installed", lambda name: True)
    monkeypatch.setattr(choice, "measured", lambda *args, **kwargs: _measured(*found))
    assert fastest(SHIPPED, read_card(SHIPPED)) == taken


def test_nothing_is_measured_without_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "installed", lambda name: name == "onnxruntime")
    monkeypatch.setattr(choice, "measured", lambda *args, **kwargs: pytest.fail("measured"))
    assert fastest(SHIPPED, read_card(SHIPPED)) == "onnxruntime"
    assert load_detector(SHIPPED, runtime="auto").score(real_crops(read_card(SHIPPED).size, 1)).shape == (1,)


def test_a_scan_measures_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, face_jpeg: bytes) -> None:
    calls: list[int] = []

    def once(*args: object, **kwargs: object) -> str:
        calls.append(1)
        return "onnxruntime"

    monkeypatch.setattr("faceproof.detectors.store.fastest", once)
    (tmp_path / "a.jpg").write_bytes(face_jpeg)
    results = list(scan([Item(str(tmp_path / "a.jpg"))] * 3, Options(runtime="auto"), workers=1))
    assert [result.status for result in results] == ["ok"] * 3
    assert calls == [1]


@pytest.mark.parametrize(
    ("runtime", "error", "message"),
    [
        ("tensorrt", UsageError, "unknown runtime 'tensorrt'.*auto, onnxruntime, openvino"),
        ("litert", UsageError, "litert does not run model.onnx; what does: onnxruntime.*export --to litert"),
    ],
)
def test_wrong_runtimes_are_named(runtime: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FaceChecker(runtime=runtime)


def test_a_missing_runtime_has_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'pip install "faceproof\[openvino\]"'):
        FaceChecker(runtime="openvino")


@pytest.mark.skipif("amx_bf16" in processor_flags(), reason="this processor has AMX")
def test_bf16_without_amx_is_refused() -> None:
    with pytest.raises(UsageError, match="AMX.*use --runtime openvino"):
        FaceChecker(runtime="openvino-bf16")


@pytest.mark.skipif("amx_bf16" not in processor_flags(), reason="this processor has no AMX")
def test_bf16_is_near(astronaut: RGB) -> None:
    _have("openvino")
    crops = real_crops(read_card(SHIPPED).size, 5)
    one, other = (OnnxDetector(SHIPPED, runtime=name) for name in ("onnxruntime", "openvino-bf16"))
    assert other.score(crops) == pytest.approx(one.score(crops), abs=0.5)


def test_files_of_other_kinds_are_named() -> None:
    assert taking("model.tflite") == ["litert"]
    for name, where in (("model.pte", "ExecuTorch"), ("model.mlpackage", "Core ML")):
        with pytest.raises(ModelError, match=f"{name} is for {where} on a phone"):
            taking(name)
    with pytest.raises(ModelError, match="model.h5 is a kind of file that no runtime here takes"):
        taking("model.h5")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("data", [b"", b"not a network", FIXTURE.read_bytes()[:200]])
def test_damaged_files_are_named(name: str, data: bytes) -> None:
    _have(name)
    with pytest.raises(ModelError, match=f"there: {name} cannot load the weights"):
        open_session(Program("there", "model.onnx", data), runtime=name)


def test_damaged_litert_files_are_named() -> None:
    _have("litert")
    for data in (b"", b"not a network", b"\0" * 4096):
        with pytest.raises(ModelError, match="there: litert cannot load the weights"):
            open_session(Program("there", "model.tflite", data, outputs=("score",)))
    with pytest.raises(ModelError, match="does not name its outputs"):
        open_session(Program("there", "model.tflite", b""))


def test_made_detectors_keep_their_runtime(checker: FaceChecker) -> None:
    with pytest.raises(UsageError, match="made already"):
        FaceChecker(checker.detector, runtime="openvino")


def test_a_session_of_ones_own() -> None:
    class Constant:
        name, outputs, takes_pixels = "constant", ("score",), True

        def run(self, batch: npt.NDArray[np.uint8], outputs: tuple[str, ...]) -> list[npt.NDArray[np.float32]]:
            assert batch.dtype == np.uint8
            return [batch.mean((1, 2, 3), dtype=np.float32)[:, None] for _ in outputs]

    card = read_card(SHIPPED)
    detector = OnnxDetector(SHIPPED, network=CropNetwork(SHIPPED, card, session=Constant()))
    crops = real_crops(card.size, 3)
    assert detector.score(crops) == pytest.approx(crops.mean((1, 2, 3)), abs=1e-3)
    assert detector.runtime == "constant"


def test_the_commands(tmp_path: Path) -> None:
    picture = str(EXAMPLES / "astronaut.jpg")
    done = run_cli("check", "--json", "--stability", "off", "--runtime", "onnxruntime", picture)
    assert done.returncode == 0, done.stderr
    usual = json.loads(run_cli("check", "--json", "--stability", "off", picture).stdout)
    assert json.loads(done.stdout) == usual
    wrong = run_cli("scan", picture, "--out", tmp_path / "r.jsonl", "--runtime", "cuda")
    assert wrong.returncode == 2
    assert "unknown runtime 'cuda'" in wrong.stderr
    _have("openvino")
    done = run_cli("scan", picture, "--out", tmp_path / "s.jsonl", "--runtime", "openvino", "--quiet")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "s.jsonl").read_text())
    assert record["verdict"] == usual["verdict"]
    assert record["score"] == pytest.approx(usual["score"], abs=TOLERANCE)
