"""From an embedding network and a fitted mixture to a one-class model folder: card, curve, thresholds. No torch."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faceproof._version import VERSION
from faceproof.anomaly_fitting import Fitted
from faceproof.datasets import Sample, pool_digest
from faceproof.detectors.card import CARD_SCHEMA, Card, read_card
from faceproof.detectors.crops import CropSpec
from faceproof.detectors.folders import new_folder, write_card, write_groups
from faceproof.errors import UsageError
from faceproof.evaluation import report
from faceproof.faces.alignment import EYE_DISTANCE, TEMPLATE
from faceproof.heldout import HeldOut, Progress, scored
from faceproof.images import printable
from faceproof.pipeline import FaceChecker
from faceproof.recalibration import FPRS, fields, fit

__all__ = ["EmbeddingSource", "package_anomaly"]

LIMITS = (
    "It has learned what photographs look like, and nothing of generators: what is rare among its photographs "
    "(drawings, heavy filters, children, masks) looks unlikely too.",
    "Recompression and resizing move embeddings: a photograph that was treated in a way its data were not is less "
    "likely. Use it beside a classifier, not alone.",
    "It judges whole generated faces. Swapped, re-enacted or retouched faces were not measured.",
)


@dataclass(frozen=True)
class EmbeddingSource:
    """Where embeddings come from, for the card.

    Attributes:
        network: .onnx file with an output named `embedding`.
        crop: what it takes; mean, std: of RGB in 0-1.
        description: of the network, a sentence.
        pool: photographs the mixture was fitted on.
        trained_on: pictures the network was trained on, where they are known; their groups must not calibrate either.
        licence: of the weights.
        command: that made it.
    """

    network: Path
    crop: CropSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    description: str
    pool: Sequence[Sample]
    trained_on: Sequence[Sample] = ()
    licence: str = "weights: as the licences of the training data allow (training.data)"
    command: str = "faceproof.anomaly_packaging.package_anomaly"

    def __post_init__(self) -> None:
        if any(sample.label for sample in self.pool):
            raise UsageError(
                "a one-class detector is fitted on photographs only; there are generated pictures among them"
            )


def package_anomaly(
    source: EmbeddingSource,
    fitted: Fitted,
    held: HeldOut,
    out: str | Path,
    *,
    method: str = "auto",
    overwrite: bool = False,
    version: str = "1",
    progress: Progress = lambda done, total: None,
) -> Card:
    """Write a one-class model folder, all or nothing.

    Args:
        source: of the embeddings.
        fitted: the mixture.
        held: pictures that fitted nothing. Its photographs give the thresholds; its generated pictures only the
            curve from score to probability, and the card's figures.
        out: the folder; its name becomes the model's.
        method, overwrite, version, progress: as in `packaging.package`.

    Raises:
        UsageError: too few pictures, a group both fitted and held out, scores that run the wrong way, or `out`
            is taken.
        ModelError: network and mixture do not belong together.
        OutputError: the disk does not take it.
    """
    known = {sample.group for sample in (*source.pool, *source.trained_on)}
    leaked = sorted({sample.group for sample in held.samples} & known)
    if leaked:
        raise UsageError(
            f"{len(leaked)} groups fitted the model and are held out too, e.g. {leaked[0]}; leave them out"
        )
    with new_folder(out, overwrite=overwrite) as folder:
        shutil.copyfile(source.network, folder / "model.onnx")
        (folder / "mixture.safetensors").write_bytes(fitted.mixture.to_bytes())
        raw = _first(source, fitted, folder, Path.cwd().joinpath(out).name, version)
        write_card(folder, raw)
        checker = FaceChecker(folder)
        held = scored(held, checker, progress)
        result = replace(fit(held, method, FPRS, checker.card), folder=Path(out))
        raw |= fields(result, held, source.command)
        threshold = next(point.threshold for point in result.points if point.fpr == raw["default_fpr"])
        assert held.scores is not None
        raw["metrics"] = {held.split: report(held.scores, result.calibration, threshold)}
        write_card(folder, raw)
        return read_card(folder)


def _first(source: EmbeddingSource, fitted: Fitted, folder: Path, name: str, version: str) -> dict[str, Any]:
    """The card before calibration."""
    weights, mixture = ((folder / file).read_bytes() for file in ("model.onnx", "mixture.safetensors"))
    choice, crop = fitted.choice, source.crop
    counted = Counter((sample.source, sample.licence) for sample in source.pool)
    groups = [sample.group for sample in (*source.pool, *source.trained_on)]
    return {
        "schema": CARD_SCHEMA,
        "kind": "anomaly",
        "name": printable(name),
        "version": version,
        "description": (
            f"{source.description} Its embeddings of photographs are described by {choice.components} Gaussians "
            f"({choice.kind} covariance) in {choice.dims} principal components; the score is how unlikely a face is "
            "among them."
        ),
        "file": "model.onnx",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights) + len(mixture),
        "mixture": {
            "file": "mixture.safetensors", "sha256": hashlib.sha256(mixture).hexdigest(), "centre": fitted.centre,
            "spread": fitted.spread, "components": choice.components, "covariance": choice.kind, "dims": choice.dims,
            "held_out_log_likelihood": choice.held_out,
        },
        "licence": source.licence,
        "input": {
            "size": crop.size, "frame": crop.frame, "features": crop.features, "layout": "NCHW float32 RGB",
            "mean": list(source.mean), "std": list(source.std), "template": "faceproof-5pt/1",
            "eye_distance": EYE_DISTANCE, "eye_height": round(float(TEMPLATE[:2, 1].mean()), 6),
        },
        "output": f"embedding (N, {fitted.mixture.width}) float32; score = (-log-likelihood - centre) / spread",
        "calibration": {"method": "Platt", "slope": 1.0, "intercept": 0.0, "prior": 0.5, "fitted_on": ""},
        "operating_points": [
            {"fpr": 0.01, "threshold": 0.0, "interval": [0.0, 0.0], "photographs": 0, "method": "none yet"}
        ],
        "default_fpr": 0.01,
        "training": {
            "data": [
                {"source": where, "label": "photograph", "pictures": count, "licence": licence}
                for (where, licence), count in sorted(counted.items())
            ],
            "pictures": len(source.pool),
            "pool": pool_digest(source.pool),
            "groups": write_groups(folder, groups),
            "command": printable(source.command),
        },
        "metrics": {"not yet": {}},
        "selftest": {},
        "limits": list(LIMITS),
        "libraries": {"faceproof": VERSION},
    }  # fmt: skip
