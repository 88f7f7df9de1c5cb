"""ONNX graphs, read and rewritten: weights in half or full precision, preprocessing inside, the card inside.

Needs the extra `export` (onnx). Graphs are `onnx.ModelProto`; every function returns a new one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from faceproof.curves import Calibration, Isotonic, Platt, Temperature
from faceproof.detectors.card import Card
from faceproof.errors import ModelError, UsageError
from faceproof.extras import require

__all__ = [
    "CARD_KEY", "LEAST_OPSET", "PIXELS", "PROBABILITY", "card_inside", "checked", "in_float32", "in_half", "read_graph",
    "with_card", "with_preprocessing",
]  # fmt: skip

LEAST_OPSET = 13
"""Weights quantised by channel exist from here on."""
MIN_HALF = 256
"""Tensors with fewer elements stay in float32: nothing to gain, and biases like precision."""
PIXELS, PROBABILITY = "pixels", "probability"
"""Names of what preprocessing adds: the input (N, S, S, 3) uint8 RGB, and the output (N, 1) float32, 0 to 1."""
CARD_KEY = "faceproof.card"
"""Key of the card in a graph's `metadata_props`."""

Graph = Any


def read_graph(path: str | Path) -> Graph:
    """Read an ONNX file and look whether it can be rewritten.

    Raises:
        ModelError: it is not ONNX, keeps weights in other files, or its opset is too old or too new.
        MissingExtraError: onnx is not installed.
    """
    onnx = require("export", "onnx")
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
    except Exception as err:  # protobuf's error, whose class moved between versions
        raise ModelError(f"{path} is not an ONNX file ({' '.join(str(err).split())[:120]})") from err
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(f"{path} keeps weights in other files, which are not read; export it with the weights inside")
    if len(model.graph.input) != 1:
        raise ModelError(f"{path} takes {len(model.graph.input)} inputs; a detector takes crops and nothing else")
    _check_opset(model, str(path), onnx.defs.onnx_opset_version())
    return model


def _check_opset(model: Graph, place: str, newest: int) -> None:
    versions = {one.domain: one.version for one in model.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None:
        raise ModelError(f"{place} names no ONNX opset; export it again with `faceproof train`")
    if version < LEAST_OPSET:
        raise ModelError(
            f"{place} is of opset {version}; int8 by channel and the converters need {LEAST_OPSET} or newer: "
            "export it again with `faceproof train`"
        )
    if version > newest:
        raise ModelError(f"{place} is of opset {version}, the onnx installed knows {newest}: pip install -U onnx")


def checked(model: Graph) -> Graph:
    """Return a graph that onnx's checker accepts.

    Raises:
        ModelError: it does not; what it says is passed on.
    """
    onnx = require("export", "onnx")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as err:  # the checker and the shape inference raise kinds of their own
        raise ModelError(f"onnx refuses the rewritten network: {' '.join(str(err).split())[:200]}") from err
    return model


def in_float32(model: Graph) -> Graph:
    """Return the graph with float16 weights turned into float32 ones, and the `Cast` nodes after them gone."""
    onnx = require("export", "onnx")
    model = copy.deepcopy(model)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type != "Cast" or node.input[0] not in weights:
            continue
        tensor = weights[node.input[0]]
        to = next(attribute.i for attribute in node.attribute if attribute.name == "to")
        if tensor.data_type != onnx.TensorProto.FLOAT16 or to != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in list(graph.initializer):
        if tensor.name not in used:
            graph.initializer.remove(tensor)
    return model


def in_half(model: Graph) -> Graph:
    """Return the graph with its float32 weights stored as float16, each followed by a `Cast` to float32.

    What the weights of a quantised network are computed from (scales, biases) stays as it is.
    """
    onnx = require("export", "onnx")
    model = copy.deepcopy(model)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_HALF or tensor.name.endswith(("_scale", ".scale")):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + ".half"))
        casts.append(onnx.helper.make_node("Cast", [name + ".half"], [name], to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    return model


def with_preprocessing(model: Graph, card: Card) -> Graph:
    """Return the graph with all that lies between the crop and the probability inside.

    The new input `pixels` is the crop, (N, S, S, 3) uint8 RGB; `probability`, (N, 1) float32, is a further
    output: the card's curve from score to log-odds, and the logistic function. The old outputs stay.

    Raises:
        UsageError: the model's score is not made inside the network (one-class detectors), or the graph takes
            pixels already.
    """
    onnx = require("export", "onnx")
    helper = onnx.helper
    if card.kind != "classifier":
        raise UsageError(
            f"{card.name} is a one-class detector: its score is made from the embedding outside the network, so there "
            "is no probability to put inside; leave --with-preprocessing out"
        )
    model = copy.deepcopy(model)
    graph = model.graph
    given = graph.input[0]
    if given.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        raise UsageError(f"{card.name} has its preprocessing inside already; leave --with-preprocessing out")
    score = graph.output[0].name
    mean, std = np.array(card.mean), np.array(card.std)
    # As CropNetwork does it, number for number.
    constants = {"pre.gain": (1 / (255 * std)).astype(np.float32), "pre.shift": (-mean / std).astype(np.float32)}
    before = [
        helper.make_node("Cast", [PIXELS], ["pre.float"], to=onnx.TensorProto.FLOAT, name="pre_cast"),
        helper.make_node("Mul", ["pre.float", "pre.gain"], ["pre.scaled"], name="pre_gain"),
        helper.make_node("Add", ["pre.scaled", "pre.shift"], ["pre.normal"], name="pre_shift"),
        helper.make_node("Transpose", ["pre.normal"], [given.name], perm=[0, 3, 1, 2], name="pre_transpose"),
    ]
    after, more = _curve(helper, card.calibration, score)
    constants |= more
    batch = given.type.tensor_type.shape.dim[0]
    free = batch.dim_param or batch.dim_value or "n"
    graph.input.remove(given)
    graph.input.append(helper.make_tensor_value_info(PIXELS, onnx.TensorProto.UINT8, [free, card.size, card.size, 3]))
    for node in reversed(before):
        graph.node.insert(0, node)
    graph.node.extend(after)
    graph.output.append(helper.make_tensor_value_info(PROBABILITY, onnx.TensorProto.FLOAT, [free, 1]))
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    return model


def _curve(helper: Any, curve: Calibration, score: str) -> tuple[list[Any], dict[str, Any]]:
    """Nodes and constants from `score` (N, 1) to the probability."""
    node, odds = helper.make_node, "post.odds"
    if isinstance(curve, (Platt, Temperature)):
        slope, shift = (curve.slope, curve.intercept) if isinstance(curve, Platt) else (1 / curve.temperature, 0.0)
        nodes = [
            node("Mul", [score, "post.slope"], ["post.sloped"], name="post_slope"),
            node("Add", ["post.sloped", "post.shift"], [odds], name="post_shift"),
        ]
        constants = {"post.slope": np.array([slope], np.float32), "post.shift": np.array([shift], np.float32)}
    elif isinstance(curve, Isotonic):
        nodes, constants = _knots(helper, curve, score, odds)
    else:
        raise UsageError(f"a curve of kind {type(curve).__name__} cannot be put into a network")
    return [*nodes, node("Sigmoid", [odds], [PROBABILITY], name="post_sigmoid")], constants


def _knots(helper: Any, curve: Isotonic, score: str, odds: str) -> tuple[list[Any], dict[str, Any]]:
    """The line through the knots: where it begins, plus the part of every step that lies below the score."""
    x, y = np.array(curve.scores), np.array(curve.values)
    if len(x) == 1:
        x, y = np.array([x[0], x[0] + 1]), np.array([y[0], y[0]])
    # Knots that float32 cannot tell apart are a step; its slope is as steep as it can be.
    steep = np.minimum(1 / np.diff(x), 1e6)
    constants = {
        "post.knots": x[:-1].astype(np.float32)[None], "post.steep": steep.astype(np.float32)[None],
        "post.rise": np.diff(y).astype(np.float32)[:, None], "post.first": y[:1].astype(np.float32),
        "post.zero": np.array(0, np.float32), "post.one": np.array(1, np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Sub", [score, "post.knots"], ["post.beyond"], name="post_beyond"),
        node("Mul", ["post.beyond", "post.steep"], ["post.share"], name="post_share"),
        node("Clip", ["post.share", "post.zero", "post.one"], ["post.part"], name="post_part"),
        node("MatMul", ["post.part", "post.rise"], ["post.risen"], name="post_rise"),
        node("Add", ["post.risen", "post.first"], [odds], name="post_first"),
    ]
    return nodes, constants


def with_card(model: Graph, raw: Mapping[str, Any]) -> Graph:
    """Return the graph with a card in its metadata, as JSON under `CARD_KEY`."""
    model = copy.deepcopy(model)
    for entry in [entry for entry in model.metadata_props if entry.key == CARD_KEY]:
        model.metadata_props.remove(entry)
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, json.dumps(raw, ensure_ascii=False)
    return model


def card_inside(model: Graph) -> dict[str, Any] | None:
    """Return the card a graph carries; None where there is none."""
    found = next((entry.value for entry in model.metadata_props if entry.key == CARD_KEY), None)
    return None if found is None else dict(json.loads(found))
