"""Whole training runs: find faces, train, package; and leave-one-out runs over generators and sources."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from faceproof.calibration import threshold_at
from faceproof.datasets import Sample, pool_digest
from faceproof.detectors.card import Card
from faceproof.detectors.crops import cut
from faceproof.errors import UsageError
from faceproof.export import torch_scores
from faceproof.faces.detection import FaceDetector, face_detector
from faceproof.heldout import HeldOut
from faceproof.images import load
from faceproof.landmarks import Landmarked, Located, locate
from faceproof.packaging import Provenance, package
from faceproof.recipes import Recipe
from faceproof.splits import Fold, check_split, left_out_folds
from faceproof.training import Device, train
from faceproof.training_log import Silent, Watcher

__all__ = ["Job", "leave_out_runs", "train_model"]

LEAST_VAL = 20
"""Photographs val must hold: fewer give no threshold."""

Counted = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """What a run needs beside its recipe.

    Attributes:
        name: of the data, for the card.
        samples: all pictures; `train_split` and `val_split` are taken from them.
        out: the run's folder.
        command: for the card.
        device: what it computes on.
        skip_unreadable: leave unreadable pictures out instead of raising.
        finder: of faces; None makes RetinaFace.
        counted: called with what is counted, done and in all, while faces are found and scored.
    """

    name: str
    samples: Sequence[Sample]
    out: Path
    train_split: str = "train"
    val_split: str = "val"
    command: str = "faceproof.runs.train_model"
    device: Device = field(default_factory=Device)
    skip_unreadable: bool = False
    finder: FaceDetector | None = None
    counted: Counted = lambda what, done, total: None

    def located(self, split: str) -> Located:
        """Find the faces of a split, remembered in the run's folder."""
        chosen = check_split(self.samples, split)
        photographs = sum(not sample.label for sample in chosen)
        if split == self.val_split and photographs < LEAST_VAL:
            raise UsageError(
                f"split {split!r} has {photographs} photographs; at least {LEAST_VAL} are needed for a threshold"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        return locate(
            chosen,
            self.finder or face_detector(None),
            cache=self.out / f"landmarks-{split}.npz",
            skip_unreadable=self.skip_unreadable,
            progress=lambda done, total: self.counted(f"finding faces ({split})", done, total),
        )


def train_model(job: Job, recipe: Recipe, *, watcher: Watcher | None = None, overwrite: bool = False) -> Card:
    """Train, export, calibrate on val, and write `job.out/model`; called again it goes on where it stopped.

    Raises:
        UsageError, ModelError, OutputError: as in `training.train` and `packaging.package`.
    """
    watcher = watcher or Silent()
    if (job.out / "model").exists() and not overwrite:
        raise UsageError(f"{job.out / 'model'} exists: this run is finished; --overwrite packages it again")
    val, pool = job.located(job.val_split), job.located(job.train_split)
    for split, found in ((job.train_split, pool), (job.val_split, val)):
        watcher.note(
            f"{split}: {len(found.data.samples)} faces; {found.faceless} pictures without a usable one, "
            f"{len(found.unreadable)} not readable"
        )
    started = time.monotonic()
    network = train(pool.data, val.data, recipe, job.out, device=job.device, watcher=watcher)
    minutes = _minutes(job.out, (time.monotonic() - started) / 60)
    held = HeldOut(job.name, job.val_split, pool_digest(val.data.samples), val.data.samples)
    return package(
        network,
        Provenance(recipe, pool.data.samples, job.command, minutes),
        held,
        job.out / "model",
        overwrite=overwrite,
        progress=lambda done, total: job.counted("calibrating", done, total),
    )


def _minutes(out: Path, spent: float) -> float:
    """Add up the minutes of a run that was stopped and went on."""
    path = out / "minutes.txt"
    total = spent + (float(path.read_text(encoding="ascii")) if path.is_file() else 0.0)
    path.write_text(f"{total:.2f}", encoding="ascii")
    return round(total, 1)


def leave_out_runs(
    job: Job,
    recipe: Recipe,
    *,
    folds: int | None = None,
    only: Sequence[str] | None = None,
    watcher: Watcher | None = None,
) -> Path:
    """Train once a fold without some generators and sources, and score what was left out.

    `folds` and `only` as in `splits.left_out_folds`. Every fold freezes a 1 % threshold on its own val
    photographs, of sources it was trained with.

    Returns:
        `job.out/left-out.csv`: the columns of `evaluation.write_scores` and `fold, threshold`; written
        anew after every fold. A fold that is finished is not trained again.
    """
    watcher = watcher or Silent()
    pool, val = job.located(job.train_split).data, job.located(job.val_split).data
    table = job.out / "left-out.csv"
    rows: list[list[object]] = []
    for number, fold in enumerate(left_out_folds(pool.samples, folds, only=only)):
        watcher.note(f"fold {number + 1}: {fold.name}")
        known = [
            s for s in val.samples if (s.generator not in fold.generators if s.label else s.source not in fold.sources)
        ]
        place = job.out / f"fold-{number}"
        fitted, held = pool.only(fold.fit), pool.only(fold.held)
        rows += _fold(fold, number, place, fitted, val.only(known), held, recipe, job.device, watcher)
        _write(table, rows, job.command)
    return table


def _fold(
    fold: Fold, number: int, place: Path, fitted: Landmarked, known: Landmarked, held: Landmarked, recipe: Recipe,
    device: Device, watcher: Watcher,
) -> list[list[object]]:  # fmt: skip
    """Train one fold, or take its network, and return its rows."""
    network = train(fitted, known, replace(recipe, seed=recipe.seed + number), place, device=device, watcher=watcher)
    val, out = (_scores(network, data, recipe) for data in (known, held))
    photographs = np.array([not sample.label for sample in known.samples])
    threshold = threshold_at(val[photographs], 0.01)[0]
    return [
        [
            "/".join(sample.path.parts[-3:]), sample.label, sample.generator, sample.source, sample.group, 1,
            f"{score:.5f}", number, f"{threshold:.5f}",
        ]
        for sample, score in zip(held.samples, out, strict=True)
    ]  # fmt: skip


def _scores(network: torch.nn.Module, data: Landmarked, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Score pictures as they are, a few hundred crops in memory at a time."""
    parts = []
    for start in range(0, len(data.samples), 256):
        part = slice(start, start + 256)
        pictures = zip(data.samples[part], data.landmarks[part], strict=True)
        crops = np.stack([cut(recipe.crop, load(sample.path).pixels, points) for sample, points in pictures])
        parts.append(torch_scores(network, crops, recipe.mean, recipe.std))
    return np.concatenate(parts)


def _write(path: Path, rows: list[list[object]], command: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {command}\n")
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "generator", "source", "group", "judged", "score", "fold", "threshold"])
        writer.writerows(rows)
    os.replace(temporary, path)
