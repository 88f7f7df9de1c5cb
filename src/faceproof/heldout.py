"""Labelled pictures that a model was not trained on: from data or from a score file, checked and scored."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from faceproof import evaluation
from faceproof.datasets import Sample, pool_digest, read_data
from faceproof.detectors.card import Card
from faceproof.detectors.folders import group_key, training_groups
from faceproof.errors import UsageError
from faceproof.evaluation import Scores
from faceproof.images import printable
from faceproof.pipeline import FaceChecker
from faceproof.splits import check_split

__all__ = ["HeldOut", "held_out", "read_scores", "scored", "without_trained"]

MOST_UNREADABLE = 0.1
"""A larger share of unreadable pictures is a wrong path or a broken disk, not a few bad files."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeldOut:
    """Labelled pictures that fitted nothing, scored or not.

    Attributes:
        name: where they come from, as given.
        split: of the data; "" for a score file.
        digest: hash of the list of pictures, or of the score file.
        samples: the pictures.
        pool: the same data's training split; tells whether a model was trained on it.
        scores: of the pictures with a face; None while nothing is scored.
        unreadable: (path, why) of pictures that could not be read when they were scored.
    """

    name: str
    split: str
    digest: str
    samples: tuple[Sample, ...]
    pool: tuple[Sample, ...] = ()
    scores: Scores | None = None
    unreadable: tuple[tuple[str, str], ...] = ()


def held_out(path: str | Path, split: str = "val", *, drop_straddling: bool = False) -> HeldOut:
    """Read one split of labelled data.

    Args:
        path: a manifest, or a folder with one (`faceproof.datasets.read_data`).
        split: which part of it.
        drop_straddling: leave groups of several splits to the one furthest from fitting.

    Raises:
        UsageError: the data cannot be read, the split is empty or holds one class, or groups straddle.
    """
    try:
        everything = read_data(path, drop_straddling=drop_straddling)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise UsageError(f"{printable(path)} cannot be read as labelled data ({err}); give a manifest.csv") from err
    chosen = check_split(everything, split)
    pool = tuple(sample for sample in everything if sample.split == "train")
    return HeldOut(printable(path), split, pool_digest(chosen), tuple(chosen), pool)


def read_scores(path: str | Path) -> HeldOut:
    """Read scores that `faceproof.evaluation.write_scores` wrote, as held-out data that is scored already.

    Raises:
        UsageError: the file is missing, lacks a column, or a row is wrong; the line is named.
    """
    scores = evaluation.read_scores(path)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return HeldOut(printable(path), "", digest, scores.samples, scores=scores)


def without_trained(data: HeldOut, folder: Path, card: Card, *, drop: bool) -> tuple[HeldOut, str]:
    """Hold the groups against those that trained the model.

    Args:
        data: what is to be fitted on.
        folder, card: of the model.
        drop: leave such pictures out instead of raising.

    Returns:
        What may be fitted on, and a sentence if the model does not tell what trained it, else "".

    Raises:
        UsageError: a picture's group trained the model, and `drop` is not asked for.
    """
    keys = training_groups(folder)
    if keys is None and data.pool and pool_digest(data.pool) == card.raw["training"].get("pool"):
        keys = frozenset(group_key(sample.group) for sample in data.pool)
    if keys is None:
        return data, (
            f"{card.name} does not name the groups it was trained on, so it could not be checked that none is here"
        )
    clean = [group_key(sample.group) not in keys for sample in data.samples]
    if all(clean):
        return data, ""
    first = data.samples[clean.index(False)]
    if not drop:
        raise UsageError(
            f"{clean.count(False)} of {len(clean)} pictures are of groups that trained {card.name}, e.g. group "
            f"{first.group} ({printable(first.path)}); calibrate on others, or leave these out "
            "(drop_straddling=True, --drop-straddling)"
        )
    samples = tuple(sample for sample, good in zip(data.samples, clean, strict=True) if good)
    scores = data.scores
    if scores is not None:
        scores = Scores(samples, scores.score[clean], scores.judged[clean], scores.faceless)
    return replace(data, samples=samples, scores=scores), ""


def scored(data: HeldOut, checker: FaceChecker, progress: Progress) -> HeldOut:
    """Check every picture the way a user's pictures are; the largest face's score counts.

    Args:
        data: unscored.
        checker: with the model.
        progress: called with pictures scored and pictures in all.

    Raises:
        UsageError: more than a tenth of the pictures cannot be read.
    """
    total = len(data.samples)
    kept: list[Sample] = []
    score: list[float] = []
    judged: list[bool] = []
    unreadable: list[tuple[str, str]] = []
    results = checker.check_many(sample.path for sample in data.samples)
    for done, (sample, result) in enumerate(zip(data.samples, results, strict=True), 1):
        if result.error is not None:
            unreadable.append((result.path, result.error))
        elif result.faces:
            kept.append(sample)
            score.append(result.faces[0].verdict.score)
            judged.append(not result.faces[0].quality)
        progress(done, total)
    if len(unreadable) > MOST_UNREADABLE * total:
        path, why = unreadable[0]
        raise UsageError(
            f"{len(unreadable)} of {total} pictures cannot be read, e.g. {path}: {why}; mend the data first"
        )
    faceless = total - len(kept) - len(unreadable)
    scores = Scores(tuple(kept), np.array(score, np.float64), np.array(judged, bool), faceless)
    return replace(data, scores=scores, unreadable=tuple(unreadable))
