"""Static int8 by onnxruntime's own tools, and which layers should rather stay in float.

Weights are int8 by channel, activations uint8 by tensor, marked by pairs of QuantizeLinear and DequantizeLinear
(QDQ), which onnxruntime, OpenVINO and phones' runtimes understand. Which layers hurt is found out: every layer is
quantised alone, its effect on the scores measured, and those that move them most stay in float until the whole
network's scores are near enough to the original's.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import ModelError, UsageError
from faceproof.extras import require
from faceproof.runtimes import OnnxSession, Program

__all__ = ["NEAR", "Quantised", "layers_of", "quantise"]

NEAR = 0.05
"""Scores are near enough when they differ on average by this share of the standard deviation of the original's."""
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BATCH = 8

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Quantised:
    """A quantised network, and how it came about.

    Attributes:
        graph: `onnx.ModelProto`, (N, 3, S, S) float32 in.
        layers: how many layers with weights it has; the last one, which gives the score, always stays in float.
        kept: names of those left in float, the most harmful first.
        ranked: how many layers' effect was measured before the time ran out; 0 where nothing had to stay.
        drift: mean difference of scores as a share of the original scores' deviation, on the crops it was tuned on.
        drift_all: the same with every layer quantised.
    """

    graph: Any
    layers: int
    kept: tuple[str, ...]
    ranked: int
    drift: float
    drift_all: float

    def to_dict(self) -> dict[str, Any]:
        """Return all but the graph."""
        return {
            "layers": self.layers,
            "left_in_float": list(self.kept),
            "layers_measured_alone": self.ranked,
            "drift": self.drift,
            "drift_with_every_layer_quantised": self.drift_all,
        }


def layers_of(graph: Any) -> list[str]:
    """Return the names of the nodes that hold weights, in the graph's order."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    return [node.name for node in graph.graph.node if node.op_type in LAYERS and weights & set(node.input[1:])]


def quantise(
    graph: Any,
    calibration: Floats,
    tuning: Floats,
    *,
    near: float = NEAR,
    seconds: float = 120.0,
    progress: Progress = lambda done, total: None,
) -> Quantised:
    """Quantise a network, leaving in float what would move its scores too far.

    Args:
        graph: `onnx.ModelProto` in float32, one input (N, 3, S, S) float32, the score its first output.
        calibration: (N, 3, S, S) normalised crops of both classes that give the ranges.
        tuning: other such crops, on which scores are compared.
        near: as `NEAR`.
        seconds: for finding harmful layers; what was found by then is used.
        progress: called with layers measured and layers in all.

    Raises:
        UsageError: a number is out of range, or crops are missing.
        ModelError: onnxruntime cannot quantise or run the network.
    """
    if not 0 < near < 1 or seconds < 0:
        raise UsageError(f"near must lie between 0 and 1 and seconds not be negative, not {near:g} and {seconds:g}")
    if not len(calibration) or len(tuning) < 2:
        raise UsageError("quantising needs crops to calibrate on and at least two others to compare scores on")
    with tempfile.TemporaryDirectory(prefix="faceproof.") as place, _quietly():
        tool = _Tool(graph, calibration, tuning, Path(place))
        whole = tool.drift(exclude=())
        if whole[1] <= near:
            return Quantised(whole[0], len(tool.layers), (), 0, whole[1], whole[1])
        ranking, ranked = _ranking(tool, time.monotonic() + seconds, progress)
        best, kept = whole, tuple[str, ...]()
        for count in _counts(len(ranking)):
            found = tool.drift(exclude=ranking[:count])
            if found[1] < best[1]:
                best, kept = found, tuple(ranking[:count])
            if best[1] <= near:
                break
        return Quantised(best[0], len(tool.layers), kept, ranked, best[1], whole[1])


def _counts(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, ... up to half of them: more in float is a float network."""
    count = 1
    while count <= most // 2:
        yield count
        count = count + 1 if count < 4 else count * 3 // 2


def _ranking(tool: _Tool, end: float, progress: Progress) -> tuple[list[str], int]:
    """Layers by what each does alone, most harmful first; those not reached in time come last, in their order."""
    harm: dict[str, float] = {}
    for name in tool.layers:
        if time.monotonic() > end:
            break
        harm[name] = tool.drift(only=name)[1]
        progress(len(harm), len(tool.layers))
    return sorted(tool.layers, key=lambda name: -harm.get(name, -1.0)), len(harm)


@dataclass
class _Tool:
    """onnxruntime's quantiser with ranges collected once."""

    graph: Any
    calibration: Floats
    tuning: Floats
    place: Path
    layers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        quantization = require("export", "onnxruntime.quantization")
        shapes = require("export", "onnxruntime.quantization.shape_inference")
        given, prepared = self.place / "given.onnx", self.place / "prepared.onnx"
        # From a file: given a graph, onnxruntime moves its weights out of it.
        given.write_bytes(self.graph.SerializeToString())
        try:
            shapes.quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        except Exception as err:
            raise ModelError(f"onnxruntime cannot prepare the network for int8 ({_said(err)})") from err
        self._library, self._path = quantization, prepared
        graph = require("export", "onnx").load(str(prepared))
        # What gives an output stays in float: int8 would cut scores off at the calibration's highest and lowest.
        ends = {output.name for output in graph.graph.output}
        self._ends = [node.name for node in graph.graph.node if ends & set(node.output)]
        self.layers = [name for name in layers_of(graph) if name not in self._ends]
        if not self.layers:
            raise ModelError(
                "the network has no layer that int8 could speed up (convolution or matrix product); export it as onnx"
            )
        self._scores = self._score(prepared.read_bytes())
        self._spread = max(float(self._scores.std()), 1e-6)

    def drift(self, *, exclude: Sequence[str] = (), only: str | None = None) -> tuple[Any, float]:
        """Quantise all layers but some, or one layer only; return the graph and how far scores move."""
        out, kinds = self.place / "quantised.onnx", self._library.QuantType
        try:
            self._library.quantize_static(
                str(self._path),
                str(out),
                _Reader(self.calibration, self._input),
                quant_format=self._library.QuantFormat.QDQ,
                per_channel=True,
                activation_type=kinds.QUInt8,
                weight_type=kinds.QInt8,
                nodes_to_quantize=None if only is None else [only],
                nodes_to_exclude=[*self._ends, *exclude],
                calibrate_method=self._library.CalibrationMethod.MinMax,
                # No moving average: it keeps what the first batch has shown, and cost 0.9 deviations on lite2-208.
                calibration_cache_path=self.place / "ranges.json",
            )
        except TypeError as err:
            raise ModelError(f"this onnxruntime's quantiser is too old ({_said(err)}); 1.31 is known to work") from err
        except Exception as err:
            raise ModelError(f"onnxruntime cannot make the network int8 ({_said(err)})") from err
        graph = require("export", "onnx").load(str(out))
        return graph, float(np.abs(self._score(out.read_bytes()) - self._scores).mean()) / self._spread

    def _score(self, weights: bytes) -> Floats:
        session = OnnxSession(Program("the network", "model.onnx", weights), 1)
        self._input = session.given
        parts = [
            session.run(self.tuning[start : start + BATCH], session.outputs[:1])[0].reshape(-1)
            for start in range(0, len(self.tuning), BATCH)
        ]
        return np.concatenate(parts).astype(np.float32)


class _Reader:
    """Calibration crops as onnxruntime's quantiser asks for them."""

    def __init__(self, crops: Floats, name: str) -> None:
        self._batches = iter({name: crops[start : start + BATCH]} for start in range(0, len(crops), BATCH))

    def get_next(self) -> dict[str, Floats] | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)

    def __iter__(self) -> Iterator[dict[str, Floats]]:
        return self._batches


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hold back the quantiser's remarks, which go to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _said(err: Exception) -> str:
    return " ".join(str(err).split())[:200] or type(err).__name__
