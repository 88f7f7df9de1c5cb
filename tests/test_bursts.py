"""Kleinberg's automaton against all sequences of states, and against planted bursts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from faceproof.bursts import find_bursts, states
from faceproof.errors import UsageError


def _cost(sequence: tuple[int, ...], counts: list[int], totals: list[int] | None, scale: float, gamma: float) -> float:
    """Kleinberg 2002, section 4: -ln likelihood of every bin plus gamma ln T for every step up, from state 0."""
    up = gamma * math.log(len(counts))
    cost = sum(up for before, after in itertools.pairwise((0, *sequence)) if after > before)
    for place, state in enumerate(sequence):
        if totals is None:
            rate = sum(counts) / len(counts) * (scale if state else 1)
            cost -= stats.poisson.logpmf(counts[place], rate)
        else:
            share = sum(counts) / sum(totals) * (scale if state else 1)
            cost -= stats.binom.logpmf(counts[place], totals[place], min(share, 0.9999))
    return float(cost)


@pytest.mark.parametrize("seed", range(12))
def test_the_cheapest_of_all_sequences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    totals = rng.integers(5, 30, 9).tolist()
    counts = [int(rng.binomial(t, 0.5 if 3 <= i < 6 else 0.1)) for i, t in enumerate(totals)]
    for given in (totals, None):
        found = tuple(states(counts, given, 2.5, 0.7).tolist())
        every = {s: _cost(s, counts, given, 2.5, 0.7) for s in itertools.product((0, 1), repeat=9)}
        assert every[found] == pytest.approx(min(every.values()), abs=1e-9)


def test_a_planted_burst_is_found_and_the_day_is_none() -> None:
    rng = np.random.default_rng(0)
    hours = np.arange(24 * 30)
    totals = rng.poisson(200 + 150 * np.sin(hours * math.tau / 24))
    counts = rng.binomial(totals, 0.02)
    counts[400:406] = rng.binomial(totals[400:406], 0.2)
    (found,) = find_bursts(counts, totals)
    assert (found.first, found.last) == (400, 405)
    assert found.count == counts[400:406].sum()
    assert found.expected == pytest.approx(counts.sum() * totals[400:406].sum() / totals.sum())
    chance = stats.binom.sf(found.count - 1, counts.sum(), totals[400:406].sum() / totals.sum())
    assert found.p == pytest.approx(chance * 720 * 721 / 2)
    assert found.weight > 0


def test_noise_has_no_significant_burst() -> None:
    """Bonferroni: at 0.01 at most about one in a hundred series without a burst has one."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        totals = rng.poisson(20, 100)
        wrong += any(burst.p < 0.01 for burst in find_bursts(rng.binomial(totals, 0.1), totals))
        wrong += any(burst.p < 0.01 for burst in find_bursts(rng.poisson(2, 100)))
    assert wrong <= 12


def test_degenerate_series() -> None:
    assert find_bursts([]) == find_bursts([0, 0, 0]) == find_bursts([0, 0], [3, 3]) == ()
    assert find_bursts([4, 4, 4], [4, 4, 4]) == ()
    assert find_bursts([5]) == ()
    for counts, totals, scale in (([1], [0], 3.0), ([-1], None, 3.0), ([1, 2], [3], 3.0), ([1], None, 1.0)):
        with pytest.raises(UsageError):
            states(counts, totals, scale, 1.0)
