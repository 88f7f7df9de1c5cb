"""An ONNX graph as a torch module, for the tools that convert from torch (LiteRT, ExecuTorch, Core ML).

So every target is made from the file that ships, with its rounded weights and its preprocessing, and not from a
network built anew. Only operators that detectors consist of are known; an unknown one is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from faceproof.errors import ModelError
from faceproof.extras import require

__all__ = ["OPERATORS", "GraphModule", "unknown_operators"]

Attributes = Mapping[str, Any]


def _pads(given: Attributes, *, dims: int = 2) -> tuple[list[int], list[int]]:
    """Begin and end of the padding; automatic padding is not known."""
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ModelError(f"automatic padding ({given['auto_pad'].decode()}) cannot be converted; export it explicitly")
    pads = list(given.get("pads", [0] * (2 * dims)))
    return pads[:dims], pads[dims:]


def _padded(x: torch.Tensor, given: Attributes, value: float = 0.0) -> tuple[torch.Tensor, list[int]]:
    """Pad unequal sides by hand; return what the operator itself should pad."""
    begin, end = _pads(given)
    if begin == end:
        return x, begin
    return functional.pad(x, (begin[1], end[1], begin[0], end[0]), value=value), [0, 0]


def _conv(given: Attributes, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    x, pads = _padded(x, given)
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    return functional.conv2d(x, weight, bias, strides, pads, dilations, given.get("group", 1))


def _gemm(given: Attributes, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    a, b = (v.t() if given.get(key) else v for v, key in ((a, "transA"), (b, "transB")))
    product = a @ b
    if given.get("alpha", 1.0) != 1.0:
        product = product * given["alpha"]
    return product if c is None else product + c * given.get("beta", 1.0)


def _max_pool(given: Attributes, x: torch.Tensor) -> torch.Tensor:
    x, pads = _padded(x, given, -torch.inf)
    return functional.max_pool2d(
        x, given["kernel_shape"], given.get("strides", [1, 1]), pads, ceil_mode=bool(given.get("ceil_mode"))
    )


def _average_pool(given: Attributes, x: torch.Tensor) -> torch.Tensor:
    begin, end = _pads(given)
    if begin != end:
        raise ModelError("average pooling with unequal padding cannot be converted")
    return functional.avg_pool2d(
        x, given["kernel_shape"], given.get("strides", [1, 1]), begin,
        ceil_mode=bool(given.get("ceil_mode")), count_include_pad=bool(given.get("count_include_pad")),
    )  # fmt: skip


def _batch_norm(
    given: Attributes, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, mean: torch.Tensor, var: torch.Tensor
) -> torch.Tensor:
    return functional.batch_norm(x, mean, var, scale, shift, eps=given.get("epsilon", 1e-5))


def _mean(given: Attributes, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    wanted = given.get("axes") if axes is None else axes.tolist()
    return x.mean(wanted if wanted else list(range(x.ndim)), keepdim=bool(given.get("keepdims", 1)))


def _clip(
    given: Attributes, x: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None
) -> torch.Tensor:
    least = given.get("min") if low is None else float(low)
    most = given.get("max") if high is None else float(high)
    return x.clamp(least, most)


def _reshape(given: Attributes, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    sizes = [x.shape[i] if size == 0 and not given.get("allowzero") else size for i, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _gather(given: Attributes, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    axis = given.get("axis", 0)
    return x.select(axis, int(index)) if index.ndim == 0 else x.index_select(axis, index.reshape(-1))


def _cast(given: Attributes, x: torch.Tensor) -> torch.Tensor:
    onnx = require("export", "onnx")
    kinds = {
        onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT64: torch.int64, onnx.TensorProto.INT32: torch.int32,
    }  # fmt: skip
    if given["to"] not in kinds:
        raise ModelError(f"a cast to type {given['to']} cannot be converted")
    return x.to(kinds[given["to"]])


def _squeeze(given: Attributes, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    wanted = given.get("axes") if axes is None else axes.tolist()
    return x.squeeze() if not wanted else x.squeeze(tuple(wanted))


def _unsqueeze(given: Attributes, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    for axis in sorted(given["axes"] if axes is None else axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _hard_sigmoid(given: Attributes, x: torch.Tensor) -> torch.Tensor:
    return (given.get("alpha", 0.2) * x + given.get("beta", 0.5)).clamp(0, 1)


OPERATORS: dict[str, Callable[..., torch.Tensor]] = {
    "Add": lambda given, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda given, *parts: torch.cat(parts, given["axis"]),
    "Conv": _conv,
    "Div": lambda given, a, b: a / b,
    "Flatten": lambda given, x: x.flatten(given.get("axis", 1)),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda given, x: functional.hardswish(x),
    "Identity": lambda given, x: x,
    "MatMul": lambda given, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda given, a, b: a * b,
    "ReduceMean": _mean,
    "Relu": lambda given, x: x.relu(),
    "Reshape": _reshape,
    "Sigmoid": lambda given, x: x.sigmoid(),
    "Squeeze": _squeeze,
    "Sub": lambda given, a, b: a - b,
    "Transpose": lambda given, x: x.permute(given["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""ONNX operator -> what does the same in torch, called with the attributes and the inputs."""

FIXED = {"Clip": (1, 2), "Gather": (1,), "ReduceMean": (1,), "Reshape": (1,), "Squeeze": (1,), "Unsqueeze": (1,)}
"""Inputs that must be constants: torch wants them as numbers."""


def unknown_operators(model: Any) -> list[str]:
    """Return the names of a graph's operators that are not in `OPERATORS`, each once, in the graph's order."""
    return list(dict.fromkeys(node.op_type for node in model.graph.node if node.op_type not in OPERATORS))


class GraphModule(nn.Module):
    """Runs an ONNX graph node by node.

    Args:
        model: `onnx.ModelProto` with one input.

    Attributes:
        names: of the outputs.

    Raises:
        ModelError: the graph holds an operator that is not known, or one with moving parameters.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        onnx = require("export", "onnx")
        unknown = unknown_operators(model)
        if unknown:
            raise ModelError(
                f"the network holds the operator(s) {', '.join(unknown)}, which cannot be converted to this target; "
                "export it as onnx or openvino, or take another backbone"
            )
        graph = model.graph
        self._given = graph.input[0].name
        self.names = tuple(output.name for output in graph.output)
        self._places: dict[str, str] = {}
        self._constants: dict[str, torch.Tensor] = {}
        for number, tensor in enumerate(graph.initializer):
            # A copy: onnx's arrays may not be written to.
            value = torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
            self._constants[tensor.name] = value
            if value.is_floating_point():
                self._places[tensor.name] = f"weight_{number}"
                self.register_buffer(self._places[tensor.name], value.to(torch.float32))
        self._steps = [self._step(onnx, node) for node in graph.node]

    def _step(self, onnx: Any, node: Any) -> tuple[str, dict[str, Any], tuple[str, ...], str]:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for place in FIXED.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] and node.input[place] not in self._constants:
                raise ModelError(
                    f"the operator {node.op_type} ({node.name}) takes a computed parameter, which cannot be converted; "
                    "export the network as onnx or openvino"
                )
        return node.op_type, given, tuple(node.input), node.output[0]

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the graph; one tensor an output, in the order of `names`."""
        found: dict[str, torch.Tensor] = {self._given: batch}
        for kind, given, inputs, output in self._steps:
            fixed = FIXED.get(kind, ())
            values = [self._value(found, name, fixed=place in fixed) for place, name in enumerate(inputs)]
            found[output] = OPERATORS[kind](given, *values)
        return tuple(found[name] for name in self.names)

    def _value(self, found: dict[str, torch.Tensor], name: str, *, fixed: bool) -> torch.Tensor | None:
        if not name:
            return None
        if name in found:
            return found[name]
        if name in self._places and not fixed:
            return getattr(self, self._places[name])
        return self._constants[name]
