"""Conformal sets: against the definition, the promise by simulation, and degenerate data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.conformal import MAX_SCORES, Conformal, coverage
from faceproof.errors import ModelError, UsageError

SCORES = st.lists(st.integers(-6, 6).map(float), min_size=20, max_size=60)


@given(SCORES, SCORES, st.floats(-8, 8), st.sampled_from([0.01, 0.05, 0.1, 1 / 21, 0.3]))
@settings(max_examples=200, deadline=None)
def test_limits_and_p_values_are_the_definition(
    photographs: list[float], generated: list[float], score: float, rate: float
) -> None:
    """Ties included: the scores are whole numbers."""
    sets = Conformal(tuple(sorted(photographs)), tuple(sorted(generated)))
    for value in (score, round(score)):
        p0 = (1 + sum(s >= value for s in photographs)) / (len(photographs) + 1)
        p1 = (1 + sum(s <= value for s in generated)) / (len(generated) + 1)
        assert sets.p_photograph(value) == pytest.approx(p0)
        assert sets.p_generated(value) == pytest.approx(p1)
        assert (value >= sets.high(rate)) == (p0 <= rate + 1e-12)
        assert (value < sets.low(rate)) == (p1 <= rate + 1e-12)


def test_the_promise_holds_on_average() -> None:
    """Over many draws of calibration and new faces, the wrong answer is given to at most the promised share.

    2,000 rounds of 40 calibration faces and one new face of each class; 3 standard errors are 0.02 at a rate of 0.1.
    The share is floor(0.1 * 41) / 41 = 0.0976 for continuous scores.
    """
    rng = np.random.default_rng(0)
    wrong = np.zeros(2)
    rounds = 2000
    for _ in range(rounds):
        photographs, generated = rng.normal(0, 1, 41), rng.normal(2, 1, 41)
        sets = Conformal.of([0] * 40 + [1] * 40, np.concatenate([photographs[1:], generated[1:]]))
        wrong += (photographs[0] >= sets.high(0.1), generated[0] < sets.low(0.1))
    assert wrong / rounds == pytest.approx([4 / 41, 4 / 41], abs=0.02)


def test_too_few_photographs_cannot_promise_a_small_rate() -> None:
    sets = Conformal.of([0] * 50 + [1] * 50, np.arange(100.0))
    assert sets.high(0.01) == math.inf
    assert sets.low(0.01) == -math.inf
    assert sets.high(1 / 51) == np.nextafter(49.0, np.inf)
    assert sets.low(1 / 51) == 50


def test_of_many_a_random_part_is_kept() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=20_000)
    sets = Conformal.of(np.arange(20_000) % 2, scores)
    assert len(sets.photographs) == len(sets.generated) == MAX_SCORES
    assert sets.high(0.05) == pytest.approx(1.645, abs=0.12)


def test_a_card_keeps_them() -> None:
    sets = Conformal.of([0] * 30 + [1] * 30, np.linspace(-3, 3, 60))
    again = Conformal.from_card(sets.to_card())
    assert np.allclose(again.photographs, sets.photographs, atol=1e-6)
    assert again.high(0.1) == pytest.approx(sets.high(0.1), abs=1e-5)


def test_coverage_counts_what_is_ruled_out() -> None:
    sets = Conformal.of([0] * 99 + [1] * 99, np.concatenate([np.arange(99.0), np.arange(50.0, 149.0)]))
    # p <= .1 for photographs above the 10th largest (89), for generated below the 10th smallest (59).
    given_ = coverage(sets, 0, [0, 10, 60, 70, 95], fpr=0.1, alpha=0.1)
    assert (given_.measured, given_.promised, given_.count) == (0.8, 0.9, 5)
    assert given_.decided == pytest.approx(3 / 5)
    assert coverage(sets, 1, [40, 70], fpr=0.1, alpha=0.1).measured == 0.5


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([0] * 19 + [1] * 30, np.arange(49.0)), ([0] * 40, np.arange(40.0)), ([0, 1] * 30, [math.nan] * 60)],
)
def test_too_few_or_broken_scores(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(UsageError, match="at least 20"):
        Conformal.of(labels, scores)


@pytest.mark.parametrize(
    "raw",
    [
        {"photographs": [1.0] * 5, "generated": [1.0] * 30},
        {"photographs": [2.0, 1.0] * 20, "generated": [1.0] * 30},
        {"photographs": [1.0] * 30, "generated": [math.inf] * 30},
        {"photographs": "1" * 30, "generated": [1.0] * 30},
        {"photographs": [0.0] * (MAX_SCORES + 1), "generated": [1.0] * 30},
    ],
)
def test_a_damaged_card(raw: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="calibration scores"):
        Conformal.from_card(raw)


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan])
def test_rates(rate: float) -> None:
    sets = Conformal.of([0] * 30 + [1] * 30, np.arange(60.0))
    with pytest.raises(UsageError, match="between 0 and 1"):
        sets.high(rate)
    with pytest.raises(UsageError, match="between 0 and 1"):
        sets.low(rate)
