"""What runs a network's file: onnxruntime, OpenVINO or LiteRT behind one protocol, batch in, outputs out.

A file's ending says which of them can: `.onnx` (onnxruntime, OpenVINO), `.bin` with its `.xml` (OpenVINO's own
format), `.tflite` (LiteRT). Every network is given to the library as bytes, never as a path: ONNX's external
data would otherwise let a model file read other files of the machine.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from faceproof.errors import MissingExtraError, ModelError, UsageError, unknown_name
from faceproof.extras import onnx_session, require

__all__ = ["AUTO", "RUNTIMES", "Program", "Session", "installed", "named", "open_session", "processor_flags", "taking"]

Floats = npt.NDArray[np.float32]
AUTO = "auto"
"""Name that stands for the fastest runtime that gives the same scores (`faceproof.detectors.fastest`)."""


@dataclass(frozen=True)
class Program:
    """A network as its files hold it.

    Attributes:
        place: the folder, for messages.
        file: name of the weights' file; its ending decides what can run it.
        weights: the file's bytes.
        graph: bytes of the .xml beside a .bin; empty elsewhere.
        outputs: names in the order of the file's outputs, for formats that do not keep names; empty elsewhere.
    """

    place: str
    file: str
    weights: bytes
    graph: bytes = b""
    outputs: tuple[str, ...] = ()


class Session(Protocol):
    """A network that is ready to run.

    Attributes:
        name: of the runtime, with its precision where that is not float32.
        outputs: names, the score first.
        takes_pixels: crops go in as (N, S, S, 3) uint8 RGB; else normalised, as (N, 3, S, S) float32.
    """

    name: str
    outputs: tuple[str, ...]
    takes_pixels: bool

    def run(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[Floats]:
        """Return the named outputs for a batch of N >= 1, each (N, ...) float32."""
        ...


class OnnxSession:
    """onnxruntime on the processor, in float32 (or what the file's own operators say)."""

    name = "onnxruntime"

    def __init__(self, program: Program, threads: int) -> None:
        self._session = onnx_session(program.weights, threads)
        given = self._session.get_inputs()[0]
        self.given: str = given.name
        self.takes_pixels = given.type == "tensor(uint8)"
        self.outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())

    def run(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[Floats]:
        """Return the named outputs."""
        found: list[Floats] = self._session.run(list(outputs), {self.given: batch})
        return found


class OpenVinoSession:
    """OpenVINO on the processor.

    Args:
        program: ONNX, or OpenVINO's own two files.
        threads: of the run.
        precision: "f32", or "bf16" for processors that multiply matrices in it (AMX); scores move by some
            hundredths then.
    """

    def __init__(self, program: Program, threads: int, precision: str = "f32") -> None:
        openvino = require("openvino")
        self.name = "openvino" if precision == "f32" else f"openvino-{precision}"
        core = openvino.Core()
        if program.graph:
            model = core.read_model(model=program.graph, weights=program.weights)
        else:
            model = core.read_model(model=program.weights, weights=b"")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        self.takes_pixels = compiled.input(0).get_element_type().to_string() == "u8"
        self.outputs: tuple[str, ...] = tuple(port.get_any_name() for port in compiled.outputs)

    def run(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[Floats]:
        """Return the named outputs."""
        self._request.infer([batch], share_inputs=True)
        # Copies: OpenVINO gives views that the next run overwrites.
        return [np.array(self._request.get_tensor(name).data, np.float32) for name in outputs]


class LiteRtSession:
    """LiteRT (formerly TensorFlow Lite) with XNNPACK; its files hold a batch of one."""

    name = "litert"

    def __init__(self, program: Program, threads: int) -> None:
        if not program.outputs:
            raise ValueError("the card does not name its outputs")
        interpreter = require("litert", "ai_edge_litert.interpreter")
        self._network = interpreter.Interpreter(model_content=program.weights, num_threads=threads)
        self._network.allocate_tensors()
        given, *more = self._network.get_input_details()
        found = self._network.get_output_details()
        if more or len(found) != len(program.outputs):
            raise ValueError(f"it has {1 + len(more)} inputs and {len(found)} outputs, the card has {program.outputs}")
        self._input, self.takes_pixels = int(given["index"]), given["dtype"] == np.uint8
        self.outputs = program.outputs
        self._places = dict(zip(program.outputs, (int(one["index"]) for one in found), strict=True))

    def run(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[Floats]:
        """Return the named outputs; the file is run once a crop."""
        rows: list[list[Floats]] = [[] for _ in outputs]
        for one in batch:
            self._network.set_tensor(self._input, one[None])
            self._network.invoke()
            for row, name in zip(rows, outputs, strict=True):
                row.append(np.asarray(self._network.get_tensor(self._places[name]), np.float32))
        return [np.concatenate(row) for row in rows]


def _openvino_bf16(program: Program, threads: int) -> Session:
    if "amx_bf16" not in processor_flags():
        raise UsageError(
            "openvino-bf16 is for processors with AMX (amx_bf16 in /proc/cpuinfo), which this one has not; "
            "use --runtime openvino"
        )
    return OpenVinoSession(program, threads, "bf16")


@dataclass(frozen=True)
class Runtime:
    """One way to run a network.

    Attributes:
        endings: of the files it takes. module: that must be installed. open: makes the session.
    """

    endings: tuple[str, ...]
    module: str
    open: Callable[[Program, int], Session]


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime((".onnx",), "onnxruntime", OnnxSession),
    "openvino": Runtime((".onnx", ".bin"), "openvino", OpenVinoSession),
    "openvino-bf16": Runtime((".onnx", ".bin"), "openvino", _openvino_bf16),
    "litert": Runtime((".tflite",), "ai_edge_litert", LiteRtSession),
}
"""Name as --runtime takes it -> what it is; the first that takes a file runs it unless told otherwise."""


def named(name: str) -> str:
    """Return the name of a runtime if it is one, or "auto".

    Raises:
        UsageError: unknown; the names are listed.
    """
    if name != AUTO and name not in RUNTIMES:
        raise unknown_name("runtime", name, [AUTO, *RUNTIMES])
    return name


def taking(file: str) -> list[str]:
    """Return the names of the runtimes that take a file, by its ending; the usual one first.

    Raises:
        ModelError: none does.
    """
    ending = Path(file).suffix
    names = [name for name, runtime in RUNTIMES.items() if ending in runtime.endings]
    if not names:
        where = {".pte": "ExecuTorch", ".mlpackage": "Core ML"}.get(ending)
        said = f"is for {where} on a phone" if where else "is a kind of file that no runtime here takes"
        raise ModelError(f"{file} {said}; check pictures with the model it was made from")
    return names


def installed(name: str) -> bool:
    """Return whether a runtime's library is there; it is not loaded."""
    return importlib.util.find_spec(RUNTIMES[name].module) is not None


def open_session(program: Program, *, runtime: str | None = None, threads: int = 1) -> Session:
    """Make a network ready to run.

    Args:
        program: the network.
        runtime: name as in `RUNTIMES`; None takes the usual one for the file.
        threads: of the run.

    Raises:
        UsageError: this runtime does not take such files.
        MissingExtraError: it is not installed.
        ModelError: it does not take this one.
    """
    able = taking(program.file)
    name = runtime or able[0]
    if name not in able:
        made = "; `faceproof export --to litert` makes what LiteRT runs" if name == "litert" else ""
        raise UsageError(f"{name} does not run {program.file}; what does: {', '.join(able)}{made}")
    try:
        return RUNTIMES[name].open(program, threads)
    except (UsageError, MissingExtraError):
        raise
    except Exception as err:  # the libraries' exceptions have no common base of their own
        detail = " ".join(str(err).split())[:200]
        raise ModelError(f"{program.place}: {name} cannot load the weights ({detail})") from err


def processor_flags() -> frozenset[str]:
    """Return the flags of the first processor in /proc/cpuinfo; none where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())
