"""Measure a detector on labelled pictures, through the whole way a user's picture takes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.contenders import ModelContender
from faceproof.curves import Calibration
from faceproof.datasets import Sample
from faceproof.detectors.base import Detector
from faceproof.errors import UsageError
from faceproof.faces.detection import FaceDetector
from faceproof.faces.quality import Gates
from faceproof.images import printable
from faceproof.metrics import auc, average_precision, balanced_accuracy, ece, eer, nll, tpr_at_fpr, wilson
from faceproof.resampling import group_weights, interval, weighted_auc, weighted_tpr_at_fpr
from faceproof.scoring import Facts, Reading, Task, read_one
from faceproof.tables import write_atomically

__all__ = [
    "COARSE", "Missing", "Scores", "from_readings", "read_scores", "report", "score_samples",
    "write_scores",
]  # fmt: skip

COARSE = 2000
"""With fewer photographs a rate of 0.1 % is one or two of them: such a figure is marked as coarse."""
WRITTEN = {"0": 0, "photograph": 0, "1": 1, "generated": 1}
"""Labels in score files."""
COLUMNS = ("path", "label", "generator", "source", "group", "judged", "score")


@dataclass(frozen=True)
class Missing:
    """A picture without a score.

    Attributes:
        sample: the picture.
        status: "no_face", "unreadable", or "failed" (the detector could not take the face).
        reason: what was wrong.
    """

    sample: Sample
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Scores:
    """Scores of the largest face of each picture that has one.

    Attributes:
        samples: the pictures with a score.
        score: (N,) float64 raw scores.
        judged: (N,) bool: the face passes quality.
        faceless: how many pictures had no face.
        missing: every picture without a score, where that is known.
        facts: of the files, in the order of `samples`; empty where they are not known.
        fold: (N,) names of the leave-out folds the scores come from; empty where there are none.
        threshold: (N,) float64, fixed inside the fold; NaN where there is none; empty without folds.
    """

    samples: tuple[Sample, ...]
    score: npt.NDArray[np.float64]
    judged: npt.NDArray[np.bool_]
    faceless: int
    missing: tuple[Missing, ...] = ()
    facts: tuple[Facts, ...] = ()
    fold: tuple[str, ...] = ()
    threshold: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.samples), len(self.score), len(self.judged)}
        lengths |= {len(part) for part in (self.facts, self.fold, self.threshold) if part}
        if len(lengths) > 1:
            raise UsageError(f"samples, scores and their columns differ in length: {sorted(lengths)}")

    @property
    def label(self) -> npt.NDArray[np.int64]:
        """(N,) 1 = generated, 0 = photograph."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def group(self) -> npt.NDArray[np.str_]:
        """(N,) groups."""
        return np.array([sample.group for sample in self.samples])

    def count(self, status: str, label: int | None = None) -> int:
        """Return how many pictures (of one class) are missing with a status."""
        return sum(m.status == status and label in (None, m.sample.label) for m in self.missing)

    def take(self, chosen: npt.ArrayLike) -> Scores:
        """Return the scores at positions, or where a mask is true; what is missing stays as it is."""
        at = np.arange(len(self.samples))[np.asarray(chosen)].tolist()
        facts, fold, threshold = (tuple(p[i] for i in at) if p else () for p in (self.facts, self.fold, self.threshold))
        samples = tuple(self.samples[i] for i in at)
        return Scores(
            samples, self.score[at], self.judged[at], self.faceless, self.missing, facts, fold, threshold
        )  # fmt: skip


def score_samples(
    samples: Sequence[Sample],
    face_detector: FaceDetector,
    detector: Detector,
    *,
    chain: str = "none",
    gates: Gates | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Scores:
    """Read, perturb, find, align, judge and score every sample, in this process.

    Quality is judged on the detector's own crop. `faceproof.scoring.readings` does the same for several
    detectors, with several processes.
    """
    contenders, spec = {"it": ModelContender(detector)}, detector.card.crop
    readings = []
    for number, sample in enumerate(samples):
        task = Task(sample.path, chain, number, ("it",))
        readings.append(read_one(task, face_detector, contenders, gates=gates, crop=spec))
        if (number + 1) % 200 == 0:
            progress(f"{number + 1}/{len(samples)} pictures scored")
    return from_readings(samples, readings, "it")


def from_readings(samples: Sequence[Sample], readings: Sequence[Reading], name: str) -> Scores:
    """Collect one contender's scores from readings, one for each sample and in the same order."""
    kept, missing = [], []
    for index, (sample, reading) in enumerate(zip(samples, readings, strict=True)):
        if name in reading.scores:
            kept.append(index)
        elif reading.status == "ok":
            missing.append(Missing(sample, "failed", reading.failures.get(name, "it has no score")))
        else:
            missing.append(Missing(sample, reading.status, reading.error))
    return Scores(
        tuple(samples[i] for i in kept),
        np.array([readings[i].scores[name] for i in kept], dtype=np.float64),
        np.array([readings[i].judged for i in kept], dtype=bool),
        sum(m.status == "no_face" for m in missing),
        tuple(missing),
        tuple(readings[i].facts for i in kept),
    )


def report(scores: Scores, calibration: Calibration | None, threshold: float, *, rounds: int = 1000) -> dict[str, Any]:
    """Return the figures a card and a results table hold, over all faces found.

    Args:
        scores: from `score_samples`, of both classes.
        calibration: fixed before; None leaves `ece`, `nll` and `nll_balanced` NaN.
        threshold: the operating point's score, fixed before.
        rounds: of the bootstrap (by group, classes apart); intervals are 95 %.

    Raises:
        UsageError: one class has no scored face.
    """
    y, s, judged = scores.label, scores.score, scores.judged
    flagged, photographs, generated = s >= threshold, y == 0, y == 1
    weights = group_weights(scores.group, strata=y, rounds=rounds)
    hits, found = int(flagged[photographs].sum()), int(flagged[generated].sum())
    both_judged = len(np.unique(y[judged])) == 2
    return {
        "photographs": int(photographs.sum()),
        "generated": int(generated.sum()),
        "no_face": scores.faceless,
        "no_face_photographs": scores.count("no_face", 0),
        "no_face_generated": scores.count("no_face", 1),
        "unreadable": scores.count("unreadable"),
        "failed": scores.count("failed"),
        "not_judged_photographs": float((~judged[photographs]).mean()),
        "not_judged_generated": float((~judged[generated]).mean()),
        "auc": auc(y, s),
        "auc_interval": list(interval(weighted_auc(y, s, weights))),
        "auc_judged": auc(y[judged], s[judged]) if both_judged else math.nan,
        "average_precision": average_precision(y, s),
        "eer": eer(y, s),
        "tpr_at_fpr_01": tpr_at_fpr(y, s, 0.001),
        "tpr_at_fpr_01_coarse": int(photographs.sum()) < COARSE,
        "tpr_at_fpr_1": tpr_at_fpr(y, s, 0.01),
        "tpr_at_fpr_1_interval": list(interval(weighted_tpr_at_fpr(y, s, weights, 0.01))),
        "tpr_at_fpr_5": tpr_at_fpr(y, s, 0.05),
        "fpr_at_threshold": hits / int(photographs.sum()),
        "fpr_at_threshold_interval": list(wilson(hits, int(photographs.sum()))),
        "tpr_at_threshold": found / int(generated.sum()),
        "tpr_at_threshold_interval": list(wilson(found, int(generated.sum()))),
        "balanced_accuracy": balanced_accuracy(y, s, threshold),
        **_calibration_figures(y, s, calibration),
        "auc_by_generator": {
            name: {
                "auc": auc(y[m], s[m]),
                "interval": list(interval(weighted_auc(y[m], s[m], weights[:, m]))),
                "tpr_at_threshold": float(flagged[m & generated].mean()),
                "tpr_interval": list(wilson(int(flagged[m & generated].sum()), int((m & generated).sum()))),
                "pictures": int((m & generated).sum()),
            }
            for name in sorted({x.generator for x in scores.samples if x.label})
            for m in [photographs | np.array([x.label == 1 and x.generator == name for x in scores.samples])]
        },
        "fpr_by_source": {
            name: {
                "fpr": float(flagged[m].mean()),
                "interval": list(wilson(int(flagged[m].sum()), int(m.sum()))),
                "pictures": int(m.sum()),
            }
            for name in sorted({x.source for x in scores.samples if not x.label})
            for m in [photographs & np.array([x.source == name for x in scores.samples])]
        },
    }


def _calibration_figures(
    y: npt.NDArray[np.int64], s: npt.NDArray[np.float64], calibration: Calibration | None
) -> dict[str, float]:
    """`nll_balanced` gives each class half the weight, as the calibration's prior of one half does."""
    if calibration is None:
        return {"ece": math.nan, "nll": math.nan, "nll_balanced": math.nan}
    p = calibration.probability(s)
    weight = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum())
    likelihood = np.clip(np.where(y == 1, p, 1 - p), 1e-15, 1)
    return {"ece": ece(y, p), "nll": nll(y, p), "nll_balanced": float(-2 * np.sum(weight * np.log(likelihood)))}


def write_scores(path: str | Path, scores: Scores) -> None:
    """Write one CSV row a picture: path, label, generator, source, group, judged, score."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for sample, judged, score in zip(scores.samples, scores.judged, scores.score, strict=True):
        name = "/".join(sample.path.parts[-3:])
        writer.writerow(
            [name, sample.label, sample.generator, sample.source, sample.group, int(judged), f"{score:.5f}"]
        )
    write_atomically(path, stream.getvalue())


def read_scores(path: str | Path) -> Scores:
    """Read what `write_scores` wrote, or a table of out-of-fold scores.

    Args:
        path: a CSV with the columns of `write_scores`, and for leave-out runs `fold` (any name of the
            run) and `threshold` (the score that flags 1 % of photographs, fixed inside the fold; may be
            empty). Lines that begin with # are left out.

    Raises:
        UsageError: it is missing, lacks a column, or a row is wrong; the line is named.
    """
    name = printable(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        lines = [(n, line) for n, line in enumerate(text.splitlines(keepends=True), 1) if not line.startswith("#")]
        reader = csv.DictReader(line for _, line in lines)
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise UsageError(f"the score file {name} cannot be read ({err})") from err
    lacking = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if not rows:
        raise UsageError(f"{name} holds no scores; write them again")
    if lacking:
        raise UsageError(f"{name} lacks the column(s) {', '.join(lacking)}; it needs {', '.join(COLUMNS)}")
    parsed = [
        _parsed(row, f"{name}, line {number}, row of {row['path']!r}")
        for (number, _), row in zip(lines[1:], rows, strict=False)
    ]
    folds = tuple(row.get("fold") or "" for row in rows)
    return Scores(
        tuple(sample for sample, _, _, _ in parsed),
        np.array([score for _, score, _, _ in parsed], dtype=np.float64),
        np.array([judged for _, _, judged, _ in parsed], dtype=bool),
        0,
        fold=folds if any(folds) else (),
        threshold=tuple(threshold for _, _, _, threshold in parsed) if any(folds) else (),
    )


def _parsed(row: dict[str, str], where: str) -> tuple[Sample, float, bool, float]:
    """Sample, score, whether it is judged, threshold of its fold."""
    for column, known in (("label", WRITTEN), ("judged", ("0", "1"))):
        if row[column] not in known:
            raise UsageError(f"{where}: {column} {row[column]!r}; known: {', '.join(known)}")
    if not row["group"]:
        raise UsageError(f"{where}: no group; a picture that is alone has a group of its own")
    label = WRITTEN[row["label"]]
    generator = (row["generator"] or "") if label else ""
    sample = Sample(Path(row["path"] or ""), label, generator, row["source"] or "", "", row["group"], "not stated")
    threshold = _number(row, "threshold", where) if row.get("threshold") else math.nan
    return sample, _number(row, "score", where), row["judged"] == "1", threshold


def _number(row: dict[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: {column} {row[column]!r} is not a finite number; score it again or leave it out")
    return value
