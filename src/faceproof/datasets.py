"""Manifests of labelled faces, and the crops a detector is trained and measured on.

A manifest is a CSV with at least `path, label, source, split, group` (and `generator` for generated
pictures); paths are relative to it. Faces are found and aligned by the same code that checks
pictures, so what a detector sees in training is what it will see in use.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.augment import random_chain
from faceproof.errors import UsageError
from faceproof.faces.alignment import align
from faceproof.faces.detection import FaceDetector
from faceproof.images import load
from faceproof.perturb import View

__all__ = ["Sample", "Sampler", "find_landmarks", "read_manifest", "training_crop"]

LABELS = {"photograph": 0, "generated": 1}


@dataclass(frozen=True)
class Sample:
    """One labelled picture of a manifest."""

    path: Path
    label: int
    generator: str
    source: str
    split: str
    group: str
    licence: str

    @property
    def stratum(self) -> str:
        """What sampling is even over: the source, and for generated pictures the generator in it."""
        return f"{self.generator}/{self.source}" if self.label else self.source


def read_manifest(path: str | Path, *, drop_straddling: bool = False) -> list[Sample]:
    """Read a manifest.

    Args:
        path: the CSV.
        drop_straddling: groups found in several splits stay only in the one furthest from fitting
            (any test split before `val` before `train`) instead of being an error.

    Raises:
        UsageError: it is missing, lacks a column, has an unknown label, or a group lies in two splits.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no manifest at {path}; give the manifest.csv of a data set")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    lacking = {"path", "label", "source", "split", "group"} - set(rows[0] if rows else ())
    if lacking:
        raise UsageError(f"{path} lacks the column(s) {', '.join(sorted(lacking))}")
    samples = []
    for number, row in enumerate(rows, 2):
        if row["label"] not in LABELS:
            raise UsageError(f"{path}, line {number}: label {row['label']!r}; known: {', '.join(LABELS)}")
        samples.append(
            Sample(
                path.parent / row["path"],
                LABELS[row["label"]],
                row.get("generator") or "",
                row["source"],
                row["split"],
                row["group"],
                row.get("licence") or "not stated",
            )
        )
    if drop_straddling:
        return _drop_straddling(samples)
    leaks = _straddling(samples)
    if leaks:
        group, where = next(iter(leaks.items()))
        raise UsageError(
            f"{path}: {len(leaks)} group(s) lie in several splits, e.g. {group} in {' and '.join(where)}; "
            "mend the manifest, or pass drop_straddling=True to keep them only in the split furthest from fitting"
        )
    return samples


def _straddling(samples: Iterable[Sample]) -> dict[str, list[str]]:
    """Groups that lie in more than one split, with those splits."""
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    return {group: sorted(where) for group, where in splits.items() if len(where) > 1}


def _drop_straddling(samples: list[Sample]) -> list[Sample]:
    """Keep a straddling group only in the split furthest from fitting (unseen, then val)."""
    order = {"train": 0, "val": 1}
    best: dict[str, str] = {}
    for sample in samples:
        kept = best.setdefault(sample.group, sample.split)
        if order.get(sample.split, 2) > order.get(kept, 2):
            best[sample.group] = sample.split
    return [sample for sample in samples if best[sample.group] == sample.split]


def find_landmarks(samples: Sequence[Sample], detector: FaceDetector) -> npt.NDArray[np.float32]:
    """Return (N, 5, 2) float32 landmarks of the largest face in each picture; NaN where there is none."""
    found = np.full((len(samples), 5, 2), np.nan, np.float32)
    for index, sample in enumerate(samples):
        faces = detector.detect(load(sample.path).pixels)
        if faces:
            found[index] = faces[0].landmarks
    return found


@dataclass(frozen=True)
class Sampler:
    """An endless, repeatable order of samples: classes in turn, sources evenly, pictures reshuffled.

    Attributes:
        samples: what is drawn from.
        seed: the order is a function of the seed and the position alone, so training can resume.
    """

    samples: Sequence[Sample]
    seed: int = 0

    def indices(self, count: int) -> Iterator[int]:
        """Yield `count` positions in `samples`."""
        strata: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
        for index, sample in enumerate(self.samples):
            strata[sample.label].setdefault(sample.stratum, []).append(index)
        if not strata[0] or not strata[1]:
            raise UsageError("training needs photographs and generated pictures; one class is empty")
        rng = np.random.default_rng(self.seed)
        decks: dict[tuple[int, str], list[int]] = {}
        rounds: list[list[str]] = [[], []]
        for position in range(count):
            label = position % 2
            if not rounds[label]:
                rounds[label] = list(rng.permutation(sorted(strata[label])))
            stratum = rounds[label].pop()
            deck = decks.setdefault((label, stratum), [])
            if not deck:
                deck.extend(int(i) for i in rng.permutation(strata[label][stratum]))
            yield deck.pop()


def training_crop(
    pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32], size: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return one augmented crop (size, size, 3) uint8 RGB: random chain, jittered alignment, flip."""
    view = random_chain(View(pixels, landmarks), rng)
    assert view.landmarks is not None  # given above, and chains carry them along
    eyes = float(np.hypot(*(view.landmarks[1] - view.landmarks[0])))
    shaken = view.landmarks + rng.normal(0, 0.03 * eyes, (5, 2)).astype(np.float32)
    centre = shaken.mean(0)
    shaken = (shaken - centre) * np.float32(rng.uniform(0.9, 1.12)) + centre
    result = align(view.pixels, shaken, size)
    return result[:, ::-1].copy() if rng.random() < 0.5 else result


def pool_digest(samples: Sequence[Sample]) -> str:
    """Return a short hash of which pictures, labels and splits a list holds (not of their bytes)."""
    text = "\n".join(f"{s.path.name}|{s.source}|{s.label}|{s.split}|{s.group}" for s in samples)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
