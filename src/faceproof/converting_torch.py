"""Targets that are converted from torch: LiteRT (Android), ExecuTorch (both), Core ML (Apple).

Each takes an ONNX graph in float32, with or without preprocessing, and writes one file (or package) for a batch of
one, which is what a phone scores.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from faceproof.errors import ModelError, UsageError
from faceproof.extras import require
from faceproof.onnx_graphs import PIXELS
from faceproof.torch_graph import GraphModule

__all__ = ["CoreMlSession", "ExecuTorchSession", "to_coreml", "to_executorch", "to_litert"]

Floats = npt.NDArray[np.float32]


def _module(graph: Any) -> tuple[GraphModule, tuple[torch.Tensor, ...]]:
    """Return the graph as a module, and an example of its input: a batch of one."""
    given = graph.graph.input[0]
    shape = [1, *(dim.dim_value for dim in given.type.tensor_type.shape.dim[1:])]
    if min(shape) < 1:
        raise ModelError(f"the network's input {given.name} leaves its size open {shape}; phones want it fixed")
    kind = torch.uint8 if given.name == PIXELS else torch.float32
    return GraphModule(graph).eval(), (torch.zeros(shape, dtype=kind),)


@contextlib.contextmanager
def _converting(target: str) -> Iterator[None]:
    """Turn what a converter raises into one line; its warnings and remarks are not the user's."""
    try:
        remarks = contextlib.redirect_stdout(io.StringIO())  # standard output is for --json
        with warnings.catch_warnings(), remarks, torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except (ModelError, UsageError):
        raise
    except Exception as err:  # each converter has kinds of its own
        detail = " ".join(str(err).split())[:200] or type(err).__name__
        raise ModelError(
            f"{target} does not take this network ({detail}); export it as onnx, or take another backbone"
        ) from err


def to_litert(graph: Any, folder: Path) -> str:
    """Write model.tflite with litert-torch; return the file's name."""
    converter = require("litert-export", "litert_torch")
    module, example = _module(graph)
    with _converting("litert-torch"):
        converter.convert(module, example).export(str(folder / "model.tflite"))
    return "model.tflite"


def to_executorch(graph: Any, folder: Path) -> str:
    """Write model.pte for ExecuTorch with its XNNPACK kernels; return the file's name."""
    exir = require("executorch", "executorch.exir")
    xnnpack = require("executorch", "executorch.backends.xnnpack.partition.xnnpack_partitioner")
    module, example = _module(graph)
    with _converting("executorch"):
        program = torch.export.export(module, example, strict=False)
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
        (folder / "model.pte").write_bytes(bytes(lowered.to_executorch().buffer))
    return "model.pte"


def to_coreml(graph: Any, folder: Path) -> str:
    """Write model.mlpackage (an ML program for iOS 16 and newer); return its name."""
    tools = require("coreml", "coremltools")
    module, example = _module(graph)
    if example[0].dtype == torch.uint8:
        # Core ML's tensors hold no uint8; the whole numbers 0 to 255 come as float32.
        example = (example[0].float(),)
    with _converting("coremltools"):
        traced = torch.jit.trace(module, example, check_trace=False)
        package = tools.convert(
            traced,
            inputs=[tools.TensorType(name=graph.graph.input[0].name, shape=example[0].shape)],
            outputs=[tools.TensorType(name=name) for name in module.names],
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT32,
            convert_to="mlprogram",
        )
        package.save(str(folder / "model.mlpackage"))
    return "model.mlpackage"


class ExecuTorchSession:
    """Runs a .pte file with ExecuTorch's own Python runtime, to measure it.

    Args:
        path: the file.
        outputs: names in the file's order.
        takes_pixels: as in `faceproof.runtimes.Session`.
    """

    name = "executorch"

    def __init__(self, path: Path, outputs: Sequence[str], *, takes_pixels: bool) -> None:
        runtime = require("executorch", "executorch.runtime")
        with _converting("ExecuTorch's runtime"):
            self._program = runtime.Runtime.get().load_program(path)
            self._method = self._program.load_method("forward")
        self.outputs, self.takes_pixels = tuple(outputs), takes_pixels

    def run(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[Floats]:
        """Return the named outputs; the file is run once a crop."""
        return _one_by_one(batch, outputs, self.outputs, self._run)

    def _run(self, one: npt.NDArray[Any]) -> list[Floats]:
        found = self._method.execute([torch.from_numpy(np.ascontiguousarray(one))])
        return [value.numpy().astype(np.float32) for value in found]


class CoreMlSession:
    """Runs a .mlpackage with coremltools, on a Mac."""

    name = "coreml"

    def __init__(self, path: Path, given: str, outputs: Sequence[str], *, takes_pixels: bool) -> None:
        tools = require("coreml", "coremltools")
        self._network = tools.models.MLModel(str(path))
        self._given = given
        self.outputs, self.takes_pixels = tuple(outputs), takes_pixels

    def run(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[Floats]:
        """Return the named outputs; the package is run once a crop."""
        return _one_by_one(batch, outputs, self.outputs, self._run)

    def _run(self, one: npt.NDArray[Any]) -> list[Floats]:
        found = self._network.predict({self._given: one.astype(np.float32)})
        return [np.asarray(found[name], np.float32) for name in self.outputs]


def _one_by_one(
    batch: npt.NDArray[Any],
    wanted: Sequence[str],
    names: Sequence[str],
    run: Callable[[npt.NDArray[Any]], list[Floats]],
) -> list[Floats]:
    rows = [dict(zip(names, run(one[None]), strict=True)) for one in batch]
    return [np.concatenate([row[name] for row in rows]) for name in wanted]
