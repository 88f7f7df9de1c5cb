"""Model folders of tiny networks, made node by node: what the tests of exports and runtimes share. Needs onnx."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from faceproof.detectors.folders import write_card
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models

SIZE = 64
Weights = dict[str, npt.NDArray[np.float32]]


def network(weights: Weights, *, opset: int = 18, extra: str = "", size: int = SIZE) -> onnx.ModelProto:
    """Convolutions "c..." with ReLU, in order, then the mean over the map and a Gemm "head"; score and embedding."""
    nodes, last = [], "crops"
    for name in sorted(name for name in weights if name.startswith("c")):
        pads = [weights[name].shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [last, name, f"b{name}"], [f"{name}.out"], name=name, pads=pads))
        nodes.append(helper.make_node("Relu", [f"{name}.out"], [f"{name}.relu"], name=f"relu_{name}"))
        last = f"{name}.relu"
    if extra:
        nodes.append(helper.make_node(extra, [last], ["extra"], name="extra"))
        last = "extra"
    axes: dict[str, Any] = {"axes": [2, 3]} if opset < 18 else {}
    nodes.append(
        helper.make_node("ReduceMean", [last, *([] if axes else ["space"])], ["embedding"], keepdims=0, **axes)
    )
    nodes.append(helper.make_node("Gemm", ["embedding", "head", "bhead"], ["score"], name="head", transB=1))
    value = helper.make_tensor_value_info
    width = weights["head"].shape[1]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if not axes:
        initializers.append(numpy_helper.from_array(np.array([2, 3], np.int64), "space"))
    graph = helper.make_graph(
        nodes,
        "small",
        [value("crops", TensorProto.FLOAT, ["n", 3, size, size])],
        [value("score", TensorProto.FLOAT, ["n", 1]), value("embedding", TensorProto.FLOAT, ["n", width])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def random_weights(*widths: int, seed: int = 0) -> Weights:
    """Weights of 3 x 3 convolutions with so many channels each, and of the head."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    before = 3
    for number, width in enumerate(widths):
        weights[f"c{number}"] = rng.normal(0, (2 / (9 * before)) ** 0.5, (width, before, 3, 3)).astype(np.float32)
        weights[f"bc{number}"] = rng.normal(0, 0.1, width).astype(np.float32)
        before = width
    weights["head"] = rng.normal(0, 2, (1, before)).astype(np.float32)
    weights["bhead"] = np.zeros(1, np.float32)
    return weights


def folder_of(model: onnx.ModelProto, folder: Path, *, size: int = SIZE, **changes: Any) -> Path:
    """Write a model folder: the network, and the shipped model's card changed to describe it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    raw = json.loads((shipped_models()[DEFAULT_MODEL] / "card.json").read_text(encoding="utf-8"))
    raw.pop("mixture", None)
    raw["training"].pop("groups", None)
    raw["input"] |= {"size": size, "mean": [0.5, 0.4, 0.45], "std": [0.5, 0.25, 0.3]}
    raw |= {
        "name": folder.name, "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        "calibration": {"method": "Platt", "slope": 0.7, "intercept": -0.2, "prior": 0.5}, "conformal": None,
    } | changes  # fmt: skip
    write_card(folder, raw)
    return folder
