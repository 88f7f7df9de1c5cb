"""Whole training runs: find faces, train, package; and leave-one-out runs over generators and sources."""

from __future__ import annotations

import csv
import functools
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from faceproof import checkpoints
from faceproof.calibration import folds_by_group, threshold_at
from faceproof.datasets import Sample, pool_digest
from faceproof.detectors.card import Card
from faceproof.detectors.crops import cut
from faceproof.errors import UsageError, plain
from faceproof.export import check_storage, torch_scores
from faceproof.faces.detection import FaceDetector, face_detector
from faceproof.faces.quality import Gates
from faceproof.heldout import HeldOut
from faceproof.images import load, printable
from faceproof.landmarks import Landmarked, Located, locate
from faceproof.packaging import Provenance, package
from faceproof.recipes import Recipe
from faceproof.splits import Fold, check_split, left_out_folds
from faceproof.teachers import teacher_of
from faceproof.training import Device, first_process, train
from faceproof.training_log import Silent, Watcher, make_folder, write_text

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
        storage: of the model's weights (export.STORAGE).
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
    storage: str = "float16"
    skip_unreadable: bool = False
    finder: FaceDetector | None = None
    counted: Counted = lambda what, done, total: None

    def located(self, split: str) -> Located:
        """Find the faces of a split, remembered in the run's folder."""
        if self.train_split == self.val_split:
            raise UsageError(f"split {split!r} cannot be fitted on and looked at too; give another --val-split")
        chosen = check_split(self.samples, split)
        if split == self.val_split:
            _enough(chosen, f"split {split!r}")
        make_folder(self.out)
        found = locate(
            chosen,
            self.found_by,
            cache=self.out / f"landmarks-{split}.npz",
            skip_unreadable=self.skip_unreadable,
            progress=lambda done, total: self.counted(f"finding faces ({split})", done, total),
        )
        if split == self.val_split:
            _enough(found.data.samples, f"split {split!r}, where a face is found,")
        return found

    @functools.cached_property
    def found_by(self) -> FaceDetector:
        """What finds faces."""
        return self.finder or face_detector(None)


def _enough(samples: Sequence[Sample], what: str) -> None:
    photographs = sum(not sample.label for sample in samples)
    if photographs < LEAST_VAL:
        raise UsageError(f"{what} has {photographs} photographs; at least {LEAST_VAL} are needed for a threshold")


def _can_calibrate(job: Job, val: Landmarked, recipe: Recipe) -> None:
    """Refuse before training what calibration would refuse after it: too few groups, or faces not fit to be judged.

    Pictures are looked at until enough are found fit.
    """
    folds_by_group([s.label for s in val.samples], [s.group for s in val.samples])
    wanted, gates, reasons = {0: LEAST_VAL, 1: 1}, Gates(), Counter[str]()
    for sample in val.samples:
        if wanted[sample.label] <= 0:
            continue
        pixels = load(sample.path).pixels
        face = job.found_by.detect(pixels)[0]
        why = gates.judge(face, cut(recipe.crop, pixels, face.landmarks), pixels.shape[1], pixels.shape[0])
        wanted[sample.label] -= not why
        reasons.update(reason.code for reason in why[:1])
    if wanted[0] > 0 or wanted[1] > 0:
        lacking = f"{LEAST_VAL - wanted[0]} photographs" if wanted[0] > 0 else "no generated face"
        seen = ", ".join(f"{count} {code}" for code, count in reasons.most_common())
        raise UsageError(
            f"only {lacking} of split {job.val_split!r} can be judged ({seen}); thresholds need at least {LEAST_VAL} "
            "photographs and one generated face that pass the quality gates: add larger or sharper pictures to it"
        )


def train_model(job: Job, recipe: Recipe, *, watcher: Watcher | None = None, overwrite: bool = False) -> Card | None:
    """Train, export, calibrate on val, and write `job.out/model`; called again it goes on where it stopped.

    Returns:
        The model's card; None in the further processes of a run on several devices, which write nothing.

    Raises:
        UsageError, ModelError, OutputError: as in `training.train` and `packaging.package`.
    """
    watcher = watcher if watcher and first_process() else Silent()
    if (job.out / "model").exists() and not overwrite:
        raise UsageError(f"{job.out / 'model'} exists: this run is finished; --overwrite packages it again")
    check_storage(job.storage)  # refused now, not when faces are found; the teacher too
    teacher_of(recipe)
    val, pool = job.located(job.val_split), job.located(job.train_split)
    for split, found in ((job.train_split, pool), (job.val_split, val)):
        watcher.note(
            f"{split}: {len(found.data.samples)} faces; {found.faceless} pictures without a usable one, "
            f"{len(found.unreadable)} not readable"
        )
    _can_calibrate(job, val.data, recipe)
    network = train(pool.data, val.data, recipe, job.out, device=job.device, watcher=watcher)
    if not first_process():
        return None
    held = HeldOut(job.name, job.val_split, pool_digest(val.data.samples), val.data.samples)
    return package(
        network,
        Provenance(recipe, pool.data.samples, job.command, checkpoints.minutes(job.out)),
        held,
        job.out / "model",
        overwrite=overwrite,
        storage=job.storage,
        progress=lambda done, total: job.counted("calibrating", done, total),
    )


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

    Raises:
        UsageError: as in `train_model`, or a fold would lack a class or val photographs; nothing is trained then.
    """
    watcher = watcher if watcher and first_process() else Silent()
    if recipe.teacher is not None:
        raise UsageError("a teacher knows the generators that are left out; train without one (teacher=None)")
    pool, val = job.located(job.train_split).data, job.located(job.val_split).data
    parts = [_parts(fold, pool, val) for fold in left_out_folds(pool.samples, folds, only=only)]
    table = job.out / "left-out.csv"
    rows: list[list[object]] = []
    for number, part in enumerate(parts):
        watcher.note(f"fold {number + 1} of {len(parts)}: {part.name}")
        seeded, place = replace(recipe, seed=recipe.seed + number), job.out / f"fold-{number}"
        network = train(part.fitted, part.known, seeded, place, device=job.device, watcher=watcher)
        if first_process():
            rows += _rows(part, number, network, recipe)
            _write(table, rows, job.command)
    return table


@dataclass(frozen=True)
class _Parts:
    """A fold's name, and its faces: fitted on, known (val without what is left out), held back."""

    name: str
    fitted: Landmarked
    known: Landmarked
    held: Landmarked


def _parts(fold: Fold, pool: Landmarked, val: Landmarked) -> _Parts:
    known = [
        s for s in val.samples if (s.generator not in fold.generators if s.label else s.source not in fold.sources)
    ]
    _enough(known, f"val, in the fold {fold.name},")
    try:
        return _Parts(fold.name, pool.only(fold.fit), val.only(known), pool.only(fold.held))
    except UsageError as err:
        raise UsageError(f"the fold {fold.name}: {err}") from err


def _rows(part: _Parts, number: int, network: torch.nn.Module, recipe: Recipe) -> list[list[object]]:
    """Score what a fold held back."""
    val, out = (_scores(network, data, recipe) for data in (part.known, part.held))
    photographs = np.array([not sample.label for sample in part.known.samples])
    threshold = threshold_at(val[photographs], 0.01)[0]
    return [
        [
            printable("/".join(sample.path.parts[-3:])), sample.label, sample.generator, sample.source, sample.group, 1,
            f"{score:.5f}", number, f"{threshold:.5f}",
        ]
        for sample, score in zip(part.held.samples, out, strict=True)
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
    stream = io.StringIO(newline="")
    stream.write(f"# {plain(command)}\n")
    writer = csv.writer(stream)
    writer.writerow(["path", "label", "generator", "source", "group", "judged", "score", "fold", "threshold"])
    writer.writerows(rows)
    write_text(path, stream.getvalue())
