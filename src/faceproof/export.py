"""Write a trained network as ONNX, with its weights stored small, and measure the parity.

Half precision on disk halves what a package and its history weigh, eight bits quarter it. `Cast` and `Mul` nodes
turn the weights back when the session is made, so every computation stays in float32 and speed is the same. (Not
DequantizeLinear: onnxruntime leaves that to be done anew in every run, and does not lay such weights out for its
kernels.) What the rounding costs is measured against torch; thresholds are set on the rounded network's scores.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof.errors import ModelError, unknown_name
from faceproof.extras import require
from faceproof.features.backbone import Network

__all__ = ["STORAGE", "Embedding", "check_storage", "parity", "to_onnx"]

MIN_HALF = 256
"""Tensors with fewer elements stay in float32: nothing to gain, and biases like precision."""
MIN_EIGHT = 2**17
"""Dense layers with fewer weights stay in float16: they take little, and lie early, where rounding costs most."""
STORAGE = {
    "float16": "weights stored as float16, computed in float32",
    "int8": "weights of large layers stored as int8, a scale per channel, others as float16; computed in float32",
}
"""How weights can be stored, and what a card says of it."""


class Embedding(nn.Module):
    """The embedding of a network that has `embed`; (N, 3, S, S) -> (N, E)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) -> (N, E)."""
        embedding: torch.Tensor = self.network.embed(images)
        return embedding


class _Outputs(nn.Module):
    """A network that also gives what the score is made of.

    Outputs: score (N, 1); embedding (N, D), what the head sees; and, where the score is the mean over a map
    of the head's linear layer plus its bias, that map without the bias: evidence (N, h, w) (the class
    activation map of Zhou et al. 2016, equation 2, for one class).
    """

    def __init__(self, network: Network, *, mapped: bool) -> None:
        super().__init__()
        self.network, self.mapped = network, mapped

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        return ["score", "embedding", *(["evidence"] if self.mapped else [])]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not self.mapped:
            embedding = self.network.body(images)
            return self.network.head(embedding), embedding
        features = self.network.body.forward_features(images)
        embedding = features.mean((2, 3))
        evidence = nn.functional.conv2d(features, self.network.head[-1].weight[:, :, None, None])
        return self.network.head(embedding), embedding, evidence[:, 0]


def _with_outputs(network: nn.Module, size: int) -> tuple[nn.Module, list[str]]:
    """Return what is exported, and the names of its outputs."""
    if isinstance(network, Embedding):
        return network, ["embedding"]
    if not isinstance(network, Network):
        return network, ["score"]
    linear = all(isinstance(layer, (nn.Linear, nn.Dropout)) for layer in network.head) and len(network.head) == 2
    mapped = _Outputs(network, mapped=True)
    if linear and hasattr(network.body, "forward_features"):
        crops = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            features = network.body.forward_features(crops)
            # Pooled otherwise than by the mean (a token, a maximum, layers after the pooling), there is no such map.
            if features.ndim == 4 and features.shape[2] > 1:
                pooled = network.body(crops)
                if pooled.shape == features.shape[:2] and torch.allclose(pooled, features.mean((2, 3)), atol=1e-4):
                    return mapped, mapped.names
    plain = _Outputs(network, mapped=False)
    return plain, plain.names


def check_storage(storage: str) -> None:
    """Raise UsageError where weights cannot be stored so."""
    if storage not in STORAGE:
        raise unknown_name("storage", storage, list(STORAGE))


def to_onnx(network: nn.Module, size: int, path: str | Path, *, storage: str = "float16") -> None:
    """Write `network`, (N, 3, size, size) float32 -> (N, 1), with N free; weights stored as `STORAGE` says.

    A `features.backbone.Network` gets further outputs: the embedding, and where its head is linear a map of
    the score, "evidence" (N, h, w), whose mean plus the head's bias is the score. An `Embedding` gives its
    embedding alone.

    Raises:
        UsageError: no such `storage`.
        ModelError: torch cannot export the network, or onnx refuses the result.
    """
    check_storage(storage)
    onnx = require("train", "onnx")
    path = Path(path)
    temporary = path.with_suffix(".tmp")
    network.eval()
    exported, names = _with_outputs(network, size)
    try:
        torch.onnx.export(
            exported.eval(),
            (torch.zeros(2, 3, size, size),),
            str(temporary),
            input_names=["crops"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as err:
        detail = " ".join(str(err).split())[:200]
        raise ModelError(f"torch cannot write this network as ONNX ({detail}); take another backbone") from err
    model = onnx.load(str(temporary))
    _store_small(model, eight_bits=storage == "int8")
    model.doc_string = "faceproof detector; see card.json beside this file"
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as err:
        temporary.unlink(missing_ok=True)
        raise ModelError(f"onnx refuses the exported network: {err}") from err
    temporary.write_bytes(model.SerializeToString())
    os.replace(temporary, path)


def _store_small(model: object, *, eight_bits: bool) -> None:
    """Replace float32 initializers by smaller ones, each followed by what makes float32 of it again."""
    onnx = require("train", "onnx")
    graph = model.graph  # type: ignore[attr-defined]
    dense = _dense_weights(graph) if eight_bits else frozenset()
    nodes, scales = [], []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_HALF:
            continue
        name = tensor.name
        if name in dense and values.size >= MIN_EIGHT:
            whole, scale = _eight_bits(values)
            tensor.CopyFrom(onnx.numpy_helper.from_array(whole, name + ".int8"))
            scales.append(onnx.numpy_helper.from_array(scale, name + ".scale"))
            nodes.append(onnx.helper.make_node("Cast", [name + ".int8"], [name + ".whole"], to=onnx.TensorProto.FLOAT))
            nodes.append(onnx.helper.make_node("Mul", [name + ".whole", name + ".scale"], [name]))
        else:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + ".half"))
            nodes.append(onnx.helper.make_node("Cast", [name + ".half"], [name], to=onnx.TensorProto.FLOAT))
    graph.initializer.extend(scales)
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _dense_weights(graph: object) -> frozenset[str]:
    """Names of the weights of convolutions over all channels: nearly all of a network's size, in few of its layers."""
    return frozenset(
        node.input[1]
        for node in graph.node  # type: ignore[attr-defined]
        if node.op_type == "Conv" and all(a.name != "group" or a.i == 1 for a in node.attribute)
    )


def _eight_bits(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round weights to -127..127 times a scale per output channel, the first axis; symmetric, so zero stays zero."""
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def parity(
    network: nn.Module,
    score: npt.NDArray[np.float32],
    crops: npt.NDArray[np.uint8],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
) -> dict[str, float]:
    """Compare torch's scores with those another engine gave for the same crops.

    Args:
        network: (N, 3, S, S) -> (N, 1).
        score: (N,) of the other engine.
        crops: (N, S, S, 3) uint8 RGB.
        mean, std: of the normalisation, one number or one a channel, of RGB in 0-1.

    Returns:
        Largest and mean absolute difference of scores, and how many crops.
    """
    own = torch_scores(network, crops, mean, std)
    difference = np.abs(own - score)
    return {"largest": float(difference.max()), "mean": float(difference.mean()), "crops": len(crops)}


def torch_scores(
    network: nn.Module, crops: npt.NDArray[np.uint8], mean: npt.ArrayLike, std: npt.ArrayLike, *, batch: int = 32
) -> npt.NDArray[np.float32]:
    """Score crops (N, S, S, 3) uint8 RGB with the torch network; (N,) float32."""
    network.eval()
    parts = []
    shift, spread = (torch.as_tensor(np.asarray(v, np.float32).reshape(-1, 1, 1)) for v in (mean, std))
    with torch.inference_mode():
        for chunk in torch.from_numpy(crops).split(batch):
            images = (chunk.permute(0, 3, 1, 2).float() / 255 - shift) / spread
            parts.append(network(images).squeeze(1).numpy())
    return np.concatenate(parts).astype(np.float32)
