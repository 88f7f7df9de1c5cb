"""Write a trained network as ONNX, with its weights stored in half precision, and measure the parity.

Half precision on disk halves what a package and its history weigh; `Cast` nodes turn the weights back
when the session is made, so every computation stays in float32 and speed is the same. What the
rounding costs is measured against torch, and thresholds are set on the scores of the rounded network.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof.errors import ModelError
from faceproof.extras import require

__all__ = ["Embedding", "ScoreAndEmbedding", "parity", "to_onnx"]

MIN_HALF = 256
"""Tensors with fewer elements stay in float32: nothing to gain, and biases like precision."""


class Embedding(nn.Module):
    """The embedding of a network that has `embed`; (N, 3, S, S) -> (N, E)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) -> (N, E)."""
        embedding: torch.Tensor = self.network.embed(images)
        return embedding


class ScoreAndEmbedding(Embedding):
    """A detector's logit and what it is made from, in one run; (N, 3, S, S) -> (N, 1), (N, E)."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """(N, 3, S, S) -> (N, 1), (N, E)."""
        embedding = super().forward(images)
        return self.network.head(embedding), embedding


def to_onnx(network: nn.Module, size: int, path: str | Path, *, outputs: tuple[str, ...] = ("score",)) -> None:
    """Write `network`, (N, 3, size, size) float32 -> `outputs`, (N, ...) each, N free; weights stored as float16.

    A detector gives ("score",), `Embedding` ("embedding",), `ScoreAndEmbedding` ("score", "embedding").

    Raises:
        ModelError: torch cannot export the network, or onnx refuses the result.
    """
    onnx = require("train", "onnx")
    path = Path(path)
    temporary = path.with_suffix(".tmp")
    network.eval()
    try:
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, size, size),),
            str(temporary),
            input_names=["crops"],
            output_names=list(outputs),
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
    _store_half(model)
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


def _store_half(model: object) -> None:
    """Replace float32 initializers by float16 ones, each followed by a Cast to float32."""
    onnx = require("train", "onnx")
    graph = model.graph  # type: ignore[attr-defined]
    casts = []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_HALF:
            continue
        name = tensor.name
        half = onnx.numpy_helper.from_array(values.astype(np.float16), name + ".half")
        tensor.CopyFrom(half)
        casts.append(onnx.helper.make_node("Cast", [name + ".half"], [name], to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)


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
