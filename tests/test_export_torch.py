"""Targets that are converted from torch, where torch and the converters are installed: same scores, on real files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceproof import FaceChecker, ModelError
from faceproof.detectors.card import read_card
from faceproof.detectors.fastest import real_crops
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from tests.training_sets import face_set

torch = pytest.importorskip("torch", reason="needs torch (the extras litert-export, executorch, coreml, train)")
onnx = pytest.importorskip("onnx", reason="needs the extra export")

from faceproof.exporting import Material, export_model  # noqa: E402
from faceproof.onnx_graphs import in_float32, read_graph, with_preprocessing  # noqa: E402
from faceproof.runtimes import OnnxSession, Program  # noqa: E402
from faceproof.torch_graph import OPERATORS, GraphModule  # noqa: E402
from tests.small_models import SIZE, folder_of, network, random_weights  # noqa: E402

# The converters warn as they are imported, of torch and of themselves; as errors that would break them half-way.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SHIPPED = shipped_models()[DEFAULT_MODEL]
BACKBONES = {
    "small-cnn": 64,
    "mobilenetv1_100": 96,
    "mobilenetv2_100": 96,
    "tf_efficientnet_lite0": 96,
    "resnet50": 64,
    "densenet121": 64,
}
"""The backbones of the presets (faceproof.recipes), at small sizes."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_set(tmp_path_factory.mktemp("pictures") / "set", train=10, val=12)


def _same(graph: Any, batch: Any) -> None:
    """The torch module gives what onnxruntime gives, output by output."""
    session = OnnxSession(Program("here", "model.onnx", graph.SerializeToString()), 1)
    module = GraphModule(graph).eval()
    assert module.names == session.outputs
    with torch.inference_mode():
        found = module(torch.from_numpy(batch))
    for name, value, expected in zip(module.names, found, session.run(batch, session.outputs), strict=True):
        scale = max(1.0, float(np.abs(expected).max()))
        assert value.numpy() == pytest.approx(expected, abs=2e-4 * scale), name


def test_the_shipped_network_in_torch() -> None:
    card = read_card(SHIPPED)
    graph = with_preprocessing(in_float32(read_graph(SHIPPED / card.file)), card)
    _same(graph, real_crops(card.size, 3))


@pytest.mark.train
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_presets_backbone_in_torch(tmp_path: Path, backbone: str) -> None:
    pytest.importorskip("timm", reason="needs the extra train")
    from faceproof.export import to_onnx
    from faceproof.features.backbone import build_network

    size = BACKBONES[backbone]
    torch.manual_seed(0)
    built = build_network(backbone, size, start="random", hidden=(8,) if backbone == "mobilenetv1_100" else ())
    torch.nn.init.normal_(built.head[-1].weight)
    to_onnx(built, size, tmp_path / "model.onnx")
    graph = in_float32(read_graph(tmp_path / "model.onnx"))
    _same(graph, (real_crops(size, 2) / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32))


def test_unknown_operators_are_named(tmp_path: Path, pictures: Path) -> None:
    assert "Softplus" not in OPERATORS
    model = folder_of(network(random_weights(4), extra="Softplus"), tmp_path / "odd")
    with pytest.raises(ModelError, match=r"operator\(s\) Softplus, which cannot be converted to this target"):
        GraphModule(read_graph(model / "model.onnx"))
    for to in [to for to, module in CONVERTERS.items() if _there(module)]:
        with pytest.raises(ModelError, match="Softplus"):
            export_model(model, to, tmp_path / "out", Material(pictures, pictures=24))
        assert [entry.name for entry in tmp_path.iterdir()] == ["odd"]


CONVERTERS = {"litert": "litert_torch", "executorch": "executorch.exir"}


def _there(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("to", CONVERTERS)
@pytest.mark.parametrize("preprocessing", [False, True])
def test_phones_files_score_as_the_original(tmp_path: Path, pictures: Path, to: str, preprocessing: bool) -> None:
    pytest.importorskip(CONVERTERS[to], reason=f"{to}'s converter is not installed", exc_type=ImportError)
    model = folder_of(network(random_weights(8, 12, 16)), tmp_path / "small")
    result = export_model(
        model, to, tmp_path / "out", Material(pictures, pictures=24), preprocessing=preprocessing, max_auc_loss=0
    )
    assert result.parity.largest < 1e-3
    raw = json.loads((tmp_path / "out" / "card.json").read_text())
    assert raw["outputs"] == ["score", "embedding", *(["probability"] if preprocessing else [])]
    assert raw["input"]["shape"] == ([1, SIZE, SIZE, 3] if preprocessing else [1, 3, SIZE, SIZE])
    if to == "executorch":
        assert read_card(tmp_path / "out").file == "model.pte"
        with pytest.raises(ModelError, match=r"model\.pte is for ExecuTorch on a phone"):
            FaceChecker(tmp_path / "out")
        return
    crops, detector = real_crops(SIZE, 4), OnnxDetector(tmp_path / "out")
    assert detector.runtime == "litert"
    assert detector.score(crops) == pytest.approx(OnnxDetector(model).score(crops), abs=1e-3)
    # Every output has its own name: the embedding is the original's too.
    one, other = (OnnxDetector(folder).score_and_embed(crops)[1] for folder in (model, tmp_path / "out"))
    assert other == pytest.approx(one, abs=1e-3)


def test_coreml_conversion_runs_on_linux(tmp_path: Path) -> None:
    """The package is made and its inputs and outputs are right; running it takes a Mac."""
    tools = pytest.importorskip("coremltools", reason="coremltools is not installed", exc_type=ImportError)
    from faceproof.converting_torch import to_coreml

    if sys.platform == "win32":
        pytest.skip("coremltools has no Windows wheel")
    card = read_card(folder_of(network(random_weights(4, 4)), tmp_path / "small"))
    name = to_coreml(with_preprocessing(network(random_weights(4, 4)), card), tmp_path)
    spec = tools.utils.load_spec(str(tmp_path / name))
    assert [one.name for one in spec.description.input] == ["pixels"]
    assert list(spec.description.input[0].type.multiArrayType.shape) == [1, SIZE, SIZE, 3]
    assert [one.name for one in spec.description.output] == ["score", "embedding", "probability"]
