"""Measure a detector on labelled pictures, through the whole way a user's picture takes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.chains import apply_chain
from faceproof.curves import Calibration
from faceproof.datasets import Sample
from faceproof.detectors.base import Detector
from faceproof.detectors.crops import cut
from faceproof.faces.detection import FaceDetector
from faceproof.faces.quality import Gates
from faceproof.images import load
from faceproof.metrics import auc, average_precision, balanced_accuracy, bootstrap, ece, eer, nll, tpr_at_fpr, wilson

__all__ = ["Scores", "report", "score_samples"]


@dataclass(frozen=True)
class Scores:
    """Scores of the largest face of each picture that has one.

    Attributes:
        samples: the pictures with a face.
        score: (N,) float64 raw scores.
        judged: (N,) bool: the face passes quality.
        faceless: how many pictures had no face.
    """

    samples: tuple[Sample, ...]
    score: npt.NDArray[np.float64]
    judged: npt.NDArray[np.bool_]
    faceless: int

    @property
    def label(self) -> npt.NDArray[np.int64]:
        """(N,) 1 = generated, 0 = photograph."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def group(self) -> npt.NDArray[np.str_]:
        """(N,) groups."""
        return np.array([sample.group for sample in self.samples])


def score_samples(
    samples: Sequence[Sample],
    face_detector: FaceDetector,
    detector: Detector,
    *,
    chain: str = "none",
    gates: Gates | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Scores:
    """Read, perturb, find, align, judge and score every sample."""
    gates, spec = gates or Gates(), detector.card.crop
    kept: list[Sample] = []
    judged: list[bool] = []
    scores: list[float] = []
    for number, sample in enumerate(samples):
        pixels = apply_chain(load(sample.path).pixels, chain, seed=number)
        faces = face_detector.detect(pixels)
        if faces:
            crop = cut(spec, pixels, faces[0].landmarks)
            kept.append(sample)
            judged.append(not gates.judge(faces[0], crop, pixels.shape[1], pixels.shape[0]))
            scores.append(float(detector.score(crop[None])[0]))
        if (number + 1) % 200 == 0:
            progress(f"{number + 1}/{len(samples)} pictures scored")
    return Scores(tuple(kept), np.array(scores), np.array(judged), len(samples) - len(kept))


def report(scores: Scores, calibration: Calibration, threshold: float, *, rounds: int = 1000) -> dict[str, Any]:
    """Return the figures a card and a results table hold, over all faces found.

    Args:
        scores: from `score_samples`.
        calibration: frozen before.
        threshold: the operating point's score, frozen before.
        rounds: of the bootstrap (by group, classes apart).
    """
    y, s, judged = scores.label, scores.score, scores.judged
    p = calibration.probability(s)
    flagged = s >= threshold
    photographs, generated = y == 0, y == 1
    low, high = bootstrap(lambda i: auc(y[i], s[i]), scores.group, strata=y, rounds=rounds)
    hits = int(flagged[photographs].sum())
    weight = np.where(generated, 0.5 / generated.sum(), 0.5 / photographs.sum())
    return {
        "photographs": int(photographs.sum()),
        "generated": int(generated.sum()),
        "no_face": scores.faceless,
        "not_judged_photographs": float((~judged[photographs]).mean()),
        "not_judged_generated": float((~judged[generated]).mean()),
        "auc": auc(y, s),
        "auc_interval": [low, high],
        "auc_judged": auc(y[judged], s[judged]),
        "average_precision": average_precision(y, s),
        "eer": eer(y, s),
        "tpr_at_fpr_1": tpr_at_fpr(y, s, 0.01),
        "tpr_at_fpr_5": tpr_at_fpr(y, s, 0.05),
        "fpr_at_threshold": hits / int(photographs.sum()),
        "fpr_at_threshold_interval": list(wilson(hits, int(photographs.sum()))),
        "tpr_at_threshold": float(flagged[generated].mean()),
        "balanced_accuracy": balanced_accuracy(y, s, threshold),
        "ece": ece(y, p),
        "nll": nll(y, p),
        "nll_balanced": float(-2 * np.sum(weight * np.log(np.clip(np.where(generated, p, 1 - p), 1e-15, 1)))),
        "auc_by_generator": {
            name: {
                "auc": auc(y[m], s[m]),
                "tpr_at_threshold": float(flagged[m & generated].mean()),
                "pictures": int((m & generated).sum()),
            }
            for name in sorted({x.generator for x in scores.samples if x.label})
            for m in [photographs | np.array([x.generator == name for x in scores.samples])]
        },
        "fpr_by_source": {
            name: {"fpr": float(flagged[m].mean()), "pictures": int(m.sum())}
            for name in sorted({x.source for x in scores.samples if not x.label})
            for m in [photographs & np.array([x.source == name for x in scores.samples])]
        },
    }


def write_scores(path: str | Path, scores: Scores) -> None:
    """Write one CSV row a picture: path, label, generator, source, group, judged, score."""
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "generator", "source", "group", "judged", "score"])
        for sample, judged, score in zip(scores.samples, scores.judged, scores.score, strict=True):
            name = "/".join(sample.path.parts[-3:])
            writer.writerow(
                [name, sample.label, sample.generator, sample.source, sample.group, int(judged), f"{score:.5f}"]
            )
