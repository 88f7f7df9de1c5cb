"""What files alone tell about the class: a detector that learns this has learned nothing about faces (DATA.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceproof.audits import cross_fitted
from faceproof.importing.results import Picture
from faceproof.metrics import auc
from faceproof.resampling import group_weights, interval, weighted_auc

__all__ = ["FACTS", "LEAST", "MOST", "Probe", "file_probes", "sample_of"]

FACTS = ("longer side", "shape (width / height)", "bytes per pixel", "format", "JPEG quality")
LEAST = 20
"""Pictures, and groups, a class must have for a probe."""
MOST = 4000
"""Pictures of each class that the probes look at; of more, so many are drawn."""
ROUNDS = 200


@dataclass(frozen=True)
class Probe:
    """How well facts of files tell the classes apart.

    Attributes:
        name: of the facts.
        auc: .5 is not at all, 1 always; of classifiers that saw no picture of the same group.
        low, high: 95 % interval, by group.
        pictures: looked at.
    """

    name: str
    auc: float
    low: float
    high: float
    pictures: int


def file_probes(pictures: Sequence[Picture], *, seed: int = 0) -> list[Probe]:
    """Return the probe of each of `FACTS`, and of all together; none where a class has too few pictures or groups.

    Args:
        pictures: of an import.
        seed: of the drawing where there are more than `MOST`.
    """
    for label in (0, 1):
        chosen = [each for each in pictures if each.row.label == label]
        if min(len(chosen), len({each.group for each in chosen})) < LEAST:
            return []
    drawn = [each for label in (0, 1) for each in sample_of([p for p in pictures if p.row.label == label], MOST, seed)]
    formats = {name: code for code, (name, _) in enumerate(Counter(each.file.format for each in drawn).most_common())}
    x = np.array([_facts(each, formats) for each in drawn], dtype=np.float64)
    y = np.array([each.row.label for each in drawn])
    groups = np.array([each.group for each in drawn])
    weights = group_weights(groups, strata=y, rounds=ROUNDS)
    found = []
    for name, columns in [*((fact, [k]) for k, fact in enumerate(FACTS)), ("all together", [*range(len(FACTS))])]:
        scores = cross_fitted(x[:, columns], y, groups)
        low, high = interval(weighted_auc(y, scores, weights))
        found.append(Probe(name, auc(y, scores), low, high, len(drawn)))
    return found


def sample_of(pictures: Sequence[Picture], most: int, seed: int) -> list[Picture]:
    """Return at most so many, drawn at random, in their order."""
    if len(pictures) <= most:
        return list(pictures)
    places = np.random.default_rng(seed).choice(len(pictures), most, replace=False)
    return [pictures[place] for place in sorted(places.tolist())]


def _facts(each: Picture, formats: dict[str, int]) -> tuple[float, ...]:
    file = each.file
    return (
        max(file.width, file.height), file.width / max(1, file.height),
        file.size / max(1, file.width * file.height), formats[file.format], file.jpeg_quality,
    )  # fmt: skip
