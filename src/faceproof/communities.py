"""Groups of vectors that point the same way: `community_detection` of sentence-transformers, in bounded memory.

A group is everything within a cosine of its centre. Groups are taken from the largest to the smallest: one whose centre
is in an earlier group is none, members that are in one are left out, and what then falls below the minimum is none
(FIELD.md 1.1; sentence-transformers 6.2). The same groups come out (a test says so), but no list of neighbours is kept:
they are counted in a first pass over pairs of blocks, and found again in a second one for those that have enough.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError

__all__ = ["communities"]

TILE = 2048
"""Vectors of a block: 16 MiB of cosines at once."""
CANDIDATES = 256

Progress = Callable[[int, int], None]


def communities(
    vectors: npt.NDArray[np.float32],
    *,
    threshold: float,
    minimum: int,
    weights: npt.NDArray[np.int64] | None = None,
    progress: Progress = lambda done, total: None,
) -> npt.NDArray[np.int64]:
    """Return the group of each vector.

    Args:
        vectors: (N, D) float32 of length 1; may be a `numpy.memmap`.
        threshold: cosine, -1 to 1, that members have with the middle of their group, at least.
        minimum: members a group has at least, counted by `weights`.
        weights: (N,) int64, how many texts each vector stands for; one each if None.
        progress: called with steps done and in all.

    Returns:
        (N,) int64: 0 for the largest group, 1 for the next, ...; -1 for none.

    Raises:
        UsageError: a threshold outside -1..1, a minimum below 1, or arrays that do not fit together.
    """
    if not -1 <= threshold <= 1 or minimum < 1:
        raise UsageError(f"a threshold is a cosine (-1 to 1) and a minimum at least 1, not {threshold} and {minimum}")
    count = len(vectors)
    heavy = np.ones(count, np.int64) if weights is None else np.asarray(weights, np.int64)
    if vectors.ndim != 2 or heavy.shape != (count,):
        raise UsageError(f"vectors must be (N, D) and weights (N,), not {vectors.shape} and {heavy.shape}")
    near = _neighbours(vectors, heavy, threshold, progress)
    candidates = np.flatnonzero(near >= minimum)
    candidates = candidates[np.argsort(-near[candidates], kind="stable")]
    groups = _taken(vectors, heavy, candidates, threshold, minimum)
    labels = np.full(count, -1, np.int64)
    for number, members in enumerate(sorted(groups, key=lambda members: -int(heavy[members].sum()))):
        labels[members] = number
    return labels


def _neighbours(
    vectors: npt.NDArray[np.float32], weights: npt.NDArray[np.int64], threshold: float, progress: Progress
) -> npt.NDArray[np.int64]:
    """How many texts lie within the threshold of each vector, its own included."""
    near = np.zeros(len(vectors), np.int64)
    starts = range(0, len(vectors), TILE)
    for step, i in enumerate(starts):
        rows = np.asarray(vectors[i : i + TILE])
        for j in starts[step:]:
            close = rows @ np.asarray(vectors[j : j + TILE]).T >= threshold
            near[i : i + TILE] += close @ weights[j : j + TILE]
            if i != j:
                near[j : j + TILE] += weights[i : i + TILE] @ close
        progress(step + 1, len(starts))
    return near


def _taken(
    vectors: npt.NDArray[np.float32],
    weights: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    threshold: float,
    minimum: int,
) -> list[npt.NDArray[np.int64]]:
    """Groups in the order in which they were taken, members ascending."""
    free = np.ones(len(vectors), bool)
    groups = []
    while len(candidates := candidates[free[candidates]]):
        part, candidates = candidates[:CANDIDATES], candidates[CANDIDATES:]
        left = np.flatnonzero(free)
        close = np.empty((len(part), len(left)), bool)
        middle = np.asarray(vectors[part])
        for i in range(0, len(left), TILE):
            close[:, i : i + TILE] = middle @ np.asarray(vectors[left[i : i + TILE]]).T >= threshold
        for centre, row in zip(part, close, strict=True):
            members = left[row & free[left]]
            if free[centre] and int(weights[members].sum()) >= minimum:
                free[members] = False
                groups.append(members)
    return groups
