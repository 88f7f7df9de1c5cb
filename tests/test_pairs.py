"""Pair accuracy against Kendall's tau, counting by hand, and a bootstrap written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from faceproof import UsageError
from faceproof.pairs import pair_accuracy


def test_without_ties_it_is_kendalls_tau() -> None:
    rng = np.random.default_rng(0)
    values, scores = rng.normal(size=40), rng.normal(size=40)
    found = pair_accuracy(values, scores, np.arange(40), rounds=0)
    assert found.value == pytest.approx((kendalltau(values, scores).statistic + 1) / 2)
    assert (found.pairs, found.pictures, found.groups) == (780, 40, 40)
    assert math.isnan(found.low)


def test_by_hand() -> None:
    """Pairs that differ: (1, 2) right, (1, 2') wrong, (2, 2') a tie of values and left out; one without a value."""
    found = pair_accuracy([1, 2, 2, np.nan], [0.0, 1.0, -1.0, 5.0], ["a", "b", "b", "c"], rounds=0)
    assert (found.value, found.pairs, found.pictures, found.groups) == (0.5, 2, 3, 2)
    assert pair_accuracy([1, 2], [3.0, 3.0], ["a", "b"], rounds=0).value == 0.5  # no opinion
    assert pair_accuracy([1, 2, 3], [1, 2, 3], ["a", "b", "c"], rounds=0).value == 1
    assert math.isnan(pair_accuracy([2, 2], [1, 2], ["a", "b"]).value)
    assert math.isnan(pair_accuracy([], [], []).value)


def test_the_interval_is_that_of_resampled_groups() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 8, 60)
    values = rng.normal(size=60) + groups
    scores = values + rng.normal(0, 2, 60)
    found = pair_accuracy(values, scores, groups, rounds=600)
    draws = []
    for _ in range(600):
        index = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 8, 8)])
        draws.append(pair_accuracy(values[index], scores[index], index, rounds=0).value)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert found.low < found.value < found.high


def test_what_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="one length"):
        pair_accuracy([1, 2], [1], ["a", "b"])
    with pytest.raises(UsageError, match="1 score"):
        pair_accuracy([1, 2], [1, np.nan], ["a", "b"])
