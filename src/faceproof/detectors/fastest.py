"""Which installed runtime is the fastest one for a model on this machine, among those that give the same scores."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card
from faceproof.detectors.onnx import CropNetwork
from faceproof.errors import MissingExtraError, ModelError, UsageError
from faceproof.images import load
from faceproof.runtimes import installed, taking

__all__ = ["TOLERANCE", "Measured", "fastest", "measured", "real_crops"]

TOLERANCE = 0.01
"""Scores that differ by at most this count as the same; thresholds have intervals of tenths and more."""
WORTH = 0.9
"""Another runtime is taken when it needs at most this share of the usual one's time: less is noise."""
BATCH, ROUNDS = 8, 5
PICTURE = Path(__file__).resolve().parent.parent / "weights" / "selftest.jpg"


@dataclass(frozen=True)
class Measured:
    """One runtime on one model.

    Attributes:
        runtime: its name.
        seconds: for one crop, median over rounds of batches.
        drift: largest difference of an output's values from the usual runtime's, the score's where there is one.
        failure: why it does not run the model; else "".
    """

    runtime: str
    seconds: float
    drift: float
    failure: str = ""


def fastest(folder: str | os.PathLike[str], card: Card, *, threads: int = 1) -> str:
    """Return the name of the fastest installed runtime whose scores are the usual one's, within `TOLERANCE`.

    Takes no time where only one is installed, else about two seconds.

    Raises:
        ModelError, MissingExtraError: the usual runtime does not run the model.
    """
    able = [name for name in taking(card.file) if installed(name)]
    if len(able) < 2:
        return taking(card.file)[0]
    first, *others = measured(folder, card, able, threads=threads)
    same = [one for one in others if not one.failure and one.drift <= TOLERANCE]
    best = min(same, key=lambda one: one.seconds, default=first)
    return best.runtime if best.seconds <= WORTH * first.seconds else first.runtime


def measured(
    folder: str | os.PathLike[str], card: Card, names: list[str], *, threads: int = 1, batch: int = BATCH
) -> list[Measured]:
    """Time runtimes on a model, in turns, and hold their outputs against the first one's.

    Args:
        folder: the model folder.
        card: of it, checked.
        names: of runtimes, as in `RUNTIMES`; the first is the measure.
        threads: of the runs.
        batch: crops in one.

    Raises:
        ModelError, MissingExtraError, UsageError: the first one does not run the model.
    """
    crops = real_crops(card.size, batch)
    networks, failures = {}, {}
    for name in names:
        try:
            network = CropNetwork(folder, card, threads=threads, runtime=name)
            network.run(crops, network.outputs[0])
            networks[name] = network
        except (ModelError, MissingExtraError, UsageError) as err:
            if name == names[0]:
                raise
            failures[name] = str(err)
    spent: dict[str, list[float]] = {name: [] for name in networks}
    found = {}
    for _ in range(ROUNDS):
        for name, network in networks.items():
            begun = time.perf_counter()
            found[name] = network.run(crops, network.outputs[0])[0]
            spent[name].append((time.perf_counter() - begun) / len(crops))
    own = found[names[0]]
    return [
        Measured(name, float("inf"), float("inf"), failures[name])
        if name in failures
        else Measured(name, statistics.median(spent[name]), float(np.abs(found[name] - own).max()))
        for name in names
    ]


def real_crops(size: int, count: int) -> npt.NDArray[np.uint8]:
    """Return windows of the packaged photograph, moved step by step: (count, size, size, 3) uint8 RGB."""
    pixels = load(PICTURE).pixels
    # Sides of a window repeat when the picture ends: a model's crop may be larger than it.
    rows, columns = (np.arange(size)[None] + 7 * np.arange(count)[:, None] for _ in range(2))
    return np.stack(
        [pixels[(r % pixels.shape[0])[:, None], c % pixels.shape[1]] for r, c in zip(rows, columns, strict=True)]
    )
