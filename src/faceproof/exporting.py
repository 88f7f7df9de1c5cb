"""A model for another engine or a phone: converted, measured beside the original, and kept only if it is as good.

Every export is a model folder: the network's file, and a card that says what it was made from, what goes in and
comes out, where the limits between the answers lie, and how far scores moved on real faces.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof._version import VERSION
from faceproof.datasets import Sample, pool_digest, read_data
from faceproof.detectors.card import Card, read_card
from faceproof.detectors.folders import new_folder, write_card
from faceproof.detectors.onnx import CropNetwork, OnnxDetector
from faceproof.detectors.store import load_detector, model_folder
from faceproof.doctor import SELF_TEST
from faceproof.errors import ModelError, UsageError, unknown_name
from faceproof.export_data import Faces, cut_faces, evenly, without_groups
from faceproof.extras import installed_versions, require
from faceproof.faces.detection import RetinaFace
from faceproof.images import printable
from faceproof.onnx_graphs import checked, in_float32, in_half, read_graph, with_card, with_preprocessing
from faceproof.parity import Parity, compare, decision
from faceproof.pipeline import FaceChecker
from faceproof.quantizing import Quantised, quantise
from faceproof.splits import check_split

__all__ = ["MAX_AUC_LOSS", "TARGETS", "Exported", "Material", "export_model"]

MAX_AUC_LOSS = 0.005
BATCH = 16
LEFT_OUT = ("mixture", "graph", "outputs", "parity_with_torch", "selftest")
"""What of the original's card does not hold for an export."""
LIBRARIES = ("onnx", "onnxruntime", "openvino", "ai-edge-litert", "litert-torch", "executorch", "coremltools", "torch")

Stage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Target:
    """One kind of file to export to.

    Attributes:
        extra: that brings what it needs, and the module looked for before anything is done.
        torch: it is converted from torch; weights are then float32 and the batch one.
        what: in a sentence, for the card.
    """

    extra: str
    module: str
    what: str
    torch: bool = False


TARGETS = {
    "onnx": Target("export", "onnx", "ONNX, weights stored as float16, computed in float32"),
    "onnx-int8": Target("export", "onnx", "ONNX, int8 by channel (QDQ)"),
    "openvino": Target("openvino", "openvino", "OpenVINO IR, weights stored as float16"),
    "litert": Target("litert-export", "litert_torch", "LiteRT (TensorFlow Lite), float32, one crop a run", torch=True),
    "executorch": Target("executorch", "executorch.exir", "ExecuTorch, XNNPACK, float32, one crop a run", torch=True),
    "coreml": Target("coreml", "coremltools", "Core ML program, float32, iOS 16, one crop a run", torch=True),
}
"""Names as --to takes them."""


@dataclass(frozen=True)
class Material:
    """Labelled pictures that an export is measured with and, for int8, calibrated on.

    Attributes:
        data: a manifest, or a folder with one.
        split: to measure with. pictures: how many of it at most.
        calibrate_on: split for int8's ranges. calibration: how many of it at most.
        drop_straddling: leave groups of several splits to the one furthest from fitting.
    """

    data: str | Path
    split: str = "val"
    pictures: int = 400
    calibrate_on: str = "train"
    calibration: int = 128
    drop_straddling: bool = False

    def __post_init__(self) -> None:
        if self.pictures < 20 or self.calibration < 20:
            raise UsageError(
                f"at least 20 pictures are needed to measure with and to calibrate on, not {self.pictures} and "
                f"{self.calibration}"
            )


@dataclass(frozen=True)
class Exported:
    """What was written, and what it is worth.

    Attributes:
        folder: the new model folder. target: as in `TARGETS`.
        model, parent: identities of the export and of the original.
        file: its main file; bytes: of all files that a device needs.
        preprocessing: crops go in as they are, and the probability comes out.
        outputs: names, in order.
        parity: beside the original.
        quantised: how int8 came about; None elsewhere.
        notes: what the reader must know.
    """

    folder: Path
    target: str
    model: str
    parent: str
    file: str
    bytes: int
    preprocessing: bool
    outputs: tuple[str, ...]
    parity: Parity
    quantised: Quantised | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the record that --json prints."""
        return {
            "folder": printable(self.folder), "target": self.target, "model": self.model, "parent": self.parent,
            "file": self.file, "bytes": self.bytes, "preprocessing": self.preprocessing,
            "outputs": list(self.outputs), "parity": self.parity.to_dict(),
            "quantisation": None if self.quantised is None else self.quantised.to_dict(), "notes": list(self.notes),
        }  # fmt: skip


def export_model(
    model: str | os.PathLike[str] | None,
    to: str,
    out: str | os.PathLike[str],
    material: Material,
    *,
    preprocessing: bool = False,
    max_auc_loss: float = MAX_AUC_LOSS,
    seconds: float = 120.0,
    overwrite: bool = False,
    command: str = "faceproof.exporting.export_model",
    stage: Stage = lambda what, done, total: None,
) -> Exported:
    """Convert a model, measure it beside the original on real faces, and keep it if it is as good; all or nothing.

    Args:
        model: shipped name, model folder, or None for the default model; it is not changed.
        to: one of `TARGETS`.
        out: the new model folder; its name becomes the model's.
        material: pictures of both classes.
        preprocessing: put scaling, normalisation and the curve to the probability into the graph.
        max_auc_loss: a larger loss of AUC is refused, and nothing is kept.
        seconds: int8 only: how long to look for layers that should stay in float.
        overwrite: replace an older model at `out`.
        command: what the card says it was made with.
        stage: called with what is being done, steps done and steps in all.

    Raises:
        UsageError: unknown target, pictures of one class, `out` is taken, or this machine cannot run the result.
        ModelError: no card, an operator the target does not have, an opset it does not take, or too much is lost.
        MissingExtraError: what the conversion needs is not installed.
        OutputError: the disk does not take it.
    """
    if to not in TARGETS:
        raise unknown_name("target", to, list(TARGETS))
    if not 0 <= max_auc_loss < 1:
        raise UsageError(f"the largest loss of AUC lies between 0 and 1, not {max_auc_loss:g}; 0.005 is the usual one")
    folder = model_folder(model)
    card = read_card(folder)
    graph = _graph(folder, card, to)
    _ready(to)
    with new_folder(out, overwrite=overwrite) as fresh:
        measured, calibration = _faces(material, card, to, stage)
        before = _scores(load_detector(folder, runtime="onnxruntime"), measured.crops, "scoring the original", stage)
        work = _Work(folder, card, to, fresh, Path.cwd().joinpath(out).name)
        quantised = work.quantise(graph, calibration, seconds, stage) if to == "onnx-int8" else None
        graph = in_float32(graph) if quantised is None else quantised.graph
        if preprocessing:
            graph = with_preprocessing(graph, card)
        file = work.write(graph)
        raw = work.card(file, graph, preprocessing=preprocessing)
        after = _scores(work.detector(raw, graph), measured.crops, "scoring the export", stage)
        parity = compare(measured.label, before, after, card)
        _keep(parity, max_auc_loss, to)
        raw["export"] = _facts(to, parity, quantised, material, measured.samples, preprocessing, command, max_auc_loss)
        work.finish(raw, graph)
        return Exported(
            Path(out), to, f"{raw['name']} {raw['version']}", card.identity, file, int(raw["bytes"]), preprocessing,
            tuple(raw["outputs"]), parity, quantised, tuple(raw["export"]["notes"]),
        )  # fmt: skip


def _graph(folder: Path, card: Card, to: str) -> Any:
    """Read the network, if it can be exported to this target at all."""
    if Path(card.file).suffix != ".onnx":
        raise UsageError(f"{card.name} is an export itself ({card.file}); export from the ONNX model it was made from")
    graph = read_graph(folder / card.file)
    if to != "onnx" and any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        raise UsageError(f"{card.name} is int8 already; export to {to} from the float model it was made from")
    return graph


def _ready(to: str) -> None:
    """Say what is missing before any work is done."""
    target = TARGETS[to]
    if to == "coreml" and sys.platform != "darwin":
        raise UsageError(
            f"Core ML files can only be run on a Mac, and an export is kept only when its scores were measured; this "
            f"is {platform.system()}. Run the same command on a Mac, or export to onnx: onnxruntime runs on iOS too"
        )
    require("export", "onnx")
    if target.torch:
        require(target.extra, "torch")
    require(target.extra, target.module)


def _faces(material: Material, card: Card, to: str, stage: Stage) -> tuple[Faces, Faces | None]:
    """Crops to measure with and, for int8, others to calibrate on."""
    everything = read_data(material.data, drop_straddling=material.drop_straddling)
    to_measure = check_split(everything, material.split)
    picked: list[Sample] = []
    if to == "onnx-int8":
        picked = evenly(check_split(everything, material.calibrate_on), material.calibration)
        to_measure = without_groups(to_measure, picked)
    faces = RetinaFace()

    def cut(samples: Sequence[Sample], what: str) -> Faces:
        return cut_faces(
            samples, card.crop, faces, what=what, progress=lambda done, total: stage(f"faces to {what}", done, total)
        )

    calibration = cut(picked, "calibrate on") if picked else None
    return cut(evenly(to_measure, material.pictures), "measure with"), calibration


def _scores(detector: Any, crops: npt.NDArray[np.uint8], what: str, stage: Stage) -> npt.NDArray[np.float32]:
    parts = []
    for start in range(0, len(crops), BATCH):
        parts.append(detector.score(crops[start : start + BATCH]))
        stage(what, min(start + BATCH, len(crops)), len(crops))
    return np.concatenate(parts)


def _keep(parity: Parity, most: float, to: str) -> None:
    if parity.auc_loss > most:
        raise ModelError(
            f"not kept: as {to} the AUC falls from {parity.auc_before:.4f} to {parity.auc_after:.4f} on "
            f"{parity.photographs + parity.generated} faces (TPR at FPR 1 %: {parity.tpr_before:.3f} to "
            f"{parity.tpr_after:.3f}; scores move by {parity.mean:.3g} on average), more than --max-auc-loss {most:g}; "
            "export another kind, calibrate on more pictures, or allow the loss"
        )


@dataclass(frozen=True)
class _Work:
    """One export on its way: the original's `folder` and `card`, the target `to`, the `fresh` folder, its `name`."""

    folder: Path
    original: Card
    to: str
    fresh: Path
    name: str

    def quantise(self, graph: Any, faces: Faces | None, seconds: float, stage: Stage) -> Quantised:
        """Make it int8, on three quarters of the calibration faces, with the layers chosen on the last quarter."""
        assert faces is not None
        mean, std = np.array(self.original.mean), np.array(self.original.std)
        normal = ((faces.crops / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
        # Classes stand one after the other and sources in turn: every fourth crop has them all.
        tune = np.arange(len(normal)) % 4 == 3
        return quantise(
            in_float32(graph), normal[~tune], normal[tune], seconds=seconds,
            progress=lambda done, total: stage("what each layer does in int8", done, total),
        )  # fmt: skip

    def write(self, graph: Any) -> str:
        """Write the network's file; return its name."""
        if self.to in ("onnx", "onnx-int8"):
            (self.fresh / "model.onnx").write_bytes(checked(in_half(graph)).SerializeToString())
            return "model.onnx"
        checked(graph)
        if self.to == "openvino":
            return self._openvino(graph)
        from faceproof import converting_torch

        convert = {
            "litert": converting_torch.to_litert, "executorch": converting_torch.to_executorch,
            "coreml": converting_torch.to_coreml,
        }[self.to]  # fmt: skip
        return convert(graph, self.fresh)

    def _openvino(self, graph: Any) -> str:
        openvino = require("openvino")
        try:
            network = openvino.Core().read_model(model=graph.SerializeToString(), weights=b"")
            openvino.save_model(network, self.fresh / "model.xml", compress_to_fp16=True)
        except Exception as err:  # OpenVINO's exceptions are RuntimeErrors of many texts
            detail = " ".join(str(err).split())[:200]
            raise ModelError(f"OpenVINO does not take this network ({detail}); export it as onnx") from err
        return "model.bin"

    def card(self, file: str, graph: Any, *, preprocessing: bool) -> dict[str, Any]:
        """The export's card before it is measured."""
        parent = self.original
        raw: dict[str, Any] = {k: v for k, v in json.loads(json.dumps(dict(parent.raw))).items() if k not in LEFT_OUT}
        shape = [dim.dim_value or dim.dim_param for dim in graph.graph.input[0].type.tensor_type.shape.dim]
        raw |= {
            "name": printable(self.name),
            "version": f"{parent.version}{'.' if '+' in parent.version else '+'}{self.to}",
            "file": file,
            "outputs": [output.name for output in graph.graph.output],
            "output": TARGETS[self.to].what,
            "decision": decision(parent) if parent.kind == "classifier" else None,
            "parent": {
                "identity": parent.identity,
                "card_sha256": hashlib.sha256((self.folder / "card.json").read_bytes()).hexdigest(),
            },
        }
        raw["input"] |= {
            "name": graph.graph.input[0].name,
            "layout": "NHWC uint8 RGB" if preprocessing else "NCHW float32 RGB",
            "shape": [1 if TARGETS[self.to].torch else "n", *shape[1:]],
        }
        if parent.kind == "anomaly":
            raw["mixture"] = parent.raw["mixture"]
        if self.to == "openvino":
            raw["graph"] = {"file": "model.xml", "sha256": _digest(self.fresh / "model.xml")}
        for listed in (raw["training"].get("groups"), raw.get("mixture")):
            if listed is not None:
                shutil.copyfile(self.folder / listed["file"], self.fresh / listed["file"])
        return self._weighed(raw)

    def _weighed(self, raw: dict[str, Any]) -> dict[str, Any]:
        """The card with hash and size of the files as they are now."""
        path = self.fresh / raw["file"]
        needed = [path, *([self.fresh / raw["graph"]["file"]] if "graph" in raw else [])]
        files = [file for one in needed for file in ([one] if one.is_file() else sorted(one.rglob("*")))]
        raw |= {"sha256": _digest(path), "bytes": sum(file.stat().st_size for file in files if file.is_file())}
        return raw

    def detector(self, raw: dict[str, Any], graph: Any) -> Any:
        """What scores with the export."""
        if self.to not in ("executorch", "coreml"):
            write_card(self.fresh, raw)
            return load_detector(self.fresh)
        from faceproof import converting_torch

        path, outputs, given = self.fresh / raw["file"], raw["outputs"], raw["input"]["name"]
        pixels = raw["input"]["layout"].startswith("NHWC")
        session = (
            converting_torch.ExecuTorchSession(path, outputs, takes_pixels=pixels)
            if self.to == "executorch"
            else converting_torch.CoreMlSession(path, given, outputs, takes_pixels=pixels)
        )
        return OnnxDetector(
            self.fresh, card=self.original, network=CropNetwork(self.fresh, self.original, session=session)
        )

    def finish(self, raw: dict[str, Any], graph: Any) -> None:
        """Write the card beside the file, and inside where the format has a place for it."""
        raw["limits"] = [*raw["limits"], *raw["export"]["notes"]]
        if (self.folder / "fusion.json").is_file():
            note = (
                f"{self.original.name} weighs its network together with other detectors (fusion.json); the export is "
                "the network alone, with the card's own curve and limits."
            )
            raw["export"]["notes"].append(note)
            raw["limits"].append(note)
        if raw["file"] == "model.onnx":
            inside = {key: value for key, value in raw.items() if key not in ("sha256", "bytes", "conformal")}
            data = with_card(in_half(graph), inside).SerializeToString()
            (self.fresh / "model.onnx").write_bytes(data)
        write_card(self.fresh, self._weighed(raw))
        if self.to in ("executorch", "coreml"):
            return
        face = FaceChecker(self.fresh).check(SELF_TEST).decisive
        if face is not None:
            raw["selftest"] = {
                "picture": SELF_TEST.name, "box_tolerance": 3.0, "score_tolerance": 0.35,
                "score": round(face.verdict.score, 4), "verdict": face.verdict.label,
                "box": [round(value, 2) for value in face.box],
            }  # fmt: skip
        write_card(self.fresh, raw)


def _facts(
    to: str,
    parity: Parity,
    quantised: Quantised | None,
    material: Material,
    samples: Sequence[Sample],
    preprocessing: bool,
    command: str,
    most: float,
) -> dict[str, Any]:
    """What a card says of an export."""
    return {
        "target": to,
        "preprocessing_inside": preprocessing,
        "parity": parity.to_dict(),
        "max_auc_loss": most,
        "measured_on": {
            "name": printable(material.data), "split": material.split, "faces": len(samples),
            "digest": pool_digest(samples),
        },
        "quantisation": None
        if quantised is None
        else quantised.to_dict() | {"calibrated_on": material.calibrate_on, "pictures": material.calibration},
        "notes": [
            "Curve, thresholds and metrics are those of the model it was made from; export.parity says how far "
            "scores moved."
        ],
        "libraries": installed_versions(LIBRARIES) | {"faceproof": VERSION},
        "command": printable(command),
    }  # fmt: skip


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of a package's files with their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0".encode())
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
