"""Stretches of time in which something happens more often than it should: Kleinberg's two-state automaton.

J. Kleinberg, Bursty and Hierarchical Structure in Streams, KDD 2002, section 4 (batched arrivals). Against a total (all
posts, all accounts) the emissions are binomial, so that day and night, which move both, are no bursts; without one they
are Poisson around the mean. What is found is then tested: the chance of so many in one given stretch, times the number
of stretches there are (Bonferroni), so that the figure may be believed although the stretch was looked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.extras import require

__all__ = ["Burst", "find_bursts", "states"]

Counts = npt.NDArray[np.int64]
HIGHEST = 0.9999
"""Rate of the high state where `scale` times the mean would reach 1."""


@dataclass(frozen=True)
class Burst:
    """One burst.

    Attributes:
        first, last: bins, both included.
        count: events in it.
        expected: events to expect in it if it were like the rest of the time.
        weight: what the automaton saves by calling it a burst, natural log of the likelihoods.
        p: chance of at least so many in any stretch of the time, by Bonferroni; 1 at most.
    """

    first: int
    last: int
    count: int
    expected: float
    weight: float
    p: float


def states(counts: Sequence[int] | Counts, totals: Sequence[int] | Counts | None, scale: float, gamma: float) -> Counts:
    """Return the cheapest sequence of states, (T,) of 0 (as usual) and 1 (burst); see `find_bursts`."""
    low, high = _costs(counts, totals, scale)
    up = gamma * math.log(max(2, len(low)))
    cost = (0.0, up)
    came: list[tuple[int, int]] = []
    for quiet, busy in zip(low, high, strict=True):
        # Going down is free; a tie stays in the lower state.
        to_low = 0 if cost[0] <= cost[1] else 1
        to_high = 0 if cost[0] + up < cost[1] else 1
        came.append((to_low, to_high))
        cost = (min(cost) + quiet, min(cost[0] + up, cost[1]) + busy)
    state = int(cost[1] < cost[0])
    found = np.zeros(len(low), np.int64)
    for place in range(len(low) - 1, -1, -1):
        found[place] = state
        state = came[place][state]
    return found


def find_bursts(
    counts: Sequence[int] | Counts,
    totals: Sequence[int] | Counts | None = None,
    *,
    scale: float = 3.0,
    gamma: float = 1.0,
) -> tuple[Burst, ...]:
    """Return the bursts, in order of time.

    Args:
        counts: (T,) events in each bin of time.
        totals: (T,) events of which these are a part, so counts <= totals; None for none.
        scale: how many times as often things happen in a burst.
        gamma: how reluctantly a burst begins, in units of ln T.

    Raises:
        UsageError: negative counts, counts above totals, or a scale that is not above 1.
        MissingExtraError: scipy is not installed.
    """
    n = np.asarray(counts, np.int64)
    if not n.sum():
        return ()
    found = states(n, totals, scale, gamma)
    low, high = _costs(n, totals, scale)
    whole = np.ones(len(n)) if totals is None else np.asarray(totals, np.float64)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found, [0]])))
    stats = require("posts", "scipy.stats")
    stretches = len(n) * (len(n) + 1) / 2
    bursts = []
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        count, share = int(n[first:end].sum()), float(whole[first:end].sum() / whole.sum())
        # Given how many there are in all, each falls into the stretch with its share of the total (or of the time).
        chance = float(stats.binom.sf(count - 1, int(n.sum()), share))
        weight = float((low[first:end] - high[first:end]).sum())
        bursts.append(
            Burst(int(first), int(end) - 1, count, share * float(n.sum()), weight, min(1.0, chance * stretches))
        )
    return tuple(bursts)


def _costs(
    counts: Sequence[int] | Counts, totals: Sequence[int] | Counts | None, scale: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """-ln likelihood of every bin in both states, without the terms that both share."""
    n = np.asarray(counts, np.float64)
    if scale <= 1:
        raise UsageError(f"in a burst things happen more often, so the scale is above 1, not {scale}")
    if (n < 0).any():
        raise UsageError("counts cannot be negative")
    if totals is None:
        mean = n.mean() if len(n) else 0.0
        if not mean:
            return np.zeros(len(n)), np.zeros(len(n))
        return mean - n * math.log(mean), scale * mean - n * math.log(scale * mean)
    d = np.asarray(totals, np.float64)
    if d.shape != n.shape or (n > d).any():
        raise UsageError("totals must be as many as counts and at least as large")
    share = n.sum() / d.sum() if d.sum() else 0.0
    if not 0 < share < 1:
        return np.zeros(len(n)), np.zeros(len(n))
    often = min(HIGHEST, scale * share)
    if often <= share:
        return np.zeros(len(n)), np.zeros(len(n))
    return (
        -(n * math.log(share) + (d - n) * math.log1p(-share)),
        -(n * math.log(often) + (d - n) * math.log1p(-often)),
    )
