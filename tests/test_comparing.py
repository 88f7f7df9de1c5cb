"""Effect sizes, tests and corrections against definitions and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from faceproof.comparing import Comparison, compare_numbers, compare_shares, corrected
from faceproof.errors import UsageError
from faceproof.metrics import wilson
from faceproof.prevalence import (
    Rate,
    Rates,
    Stratum,
    bootstrap_prevalence,
    estimate_prevalence,
    labelled_prevalence,
)


@pytest.mark.parametrize("seed", range(4))
def test_cliffs_delta_by_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 8, 23), rng.integers(1, 10, 31)
    found = compare_numbers("x", a, b)
    assert found.effect == pytest.approx(np.sign(a[:, None] - b[None]).mean())
    assert found.p == pytest.approx(stats.mannwhitneyu(a, b).pvalue)
    assert (found.first, found.other) == (np.median(a), np.median(b))
    # DeLong, DeLong and Clarke-Pearson 1988, eq. 5 and 6, pair by pair.
    psi = (np.sign(a[:, None] - b[None]) + 1) / 2
    variance = psi.mean(axis=1).var(ddof=1) / 23 + psi.mean(axis=0).var(ddof=1) / 31
    assert found.high - found.effect == pytest.approx(2 * 1.959964 * math.sqrt(variance))


def test_the_interval_of_delta_covers() -> None:
    rng = np.random.default_rng(0)
    truth = 2 * stats.norm.cdf(0.5 / math.sqrt(2)) - 1
    hits = 0
    for _ in range(400):
        found = compare_numbers("x", rng.normal(0.5, 1, 60), rng.normal(0, 1, 80))
        hits += found.low <= truth <= found.high
    assert hits / 400 == pytest.approx(0.95, abs=0.035)


def test_numbers_that_are_missing_or_all_the_same() -> None:
    nan = math.nan
    assert math.isnan(compare_numbers("x", [nan], [1, 2]).p)
    assert compare_numbers("x", [1, nan, 2], [3]).first_count == 2
    same = compare_numbers("x", [3, 3], [3, 3, 3])
    assert (same.effect, same.p) == (0, 1)
    assert compare_numbers("x", [9, 9, 8], [1, 2, 3]).effect == 1


def test_shares_by_fisher_and_newcombe() -> None:
    """Newcombe 1998, table II, example a (56/70 against 48/80), method 10: 0.0524 to 0.3339."""
    found = compare_shares("x", (56, 70), (48, 80))
    assert found.effect == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert found.p == pytest.approx(stats.fisher_exact([[56, 14], [48, 32]]).pvalue)
    assert math.isnan(compare_shares("x", (0, 0), (1, 2)).p)
    with pytest.raises(UsageError, match="cannot be"):
        compare_shares("x", (3, 2), (1, 2))


def test_benjamini_and_hochberg_by_their_definition() -> None:
    p = [0.001, 0.2, 0.012, 0.04, math.nan, 0.9]
    made = [Comparison(str(n), 0, 0, 1, 1, 0, 0, 0, "Cliff's delta", value) for n, value in enumerate(p)]
    found = [one.q for one in corrected(made)]
    # q(i) = min over j >= i of p(j) m / j, in order of size, m = 5 tests
    assert found[:4] == pytest.approx([0.005, 0.25, 0.03, 0.04 * 5 / 3])
    assert math.isnan(found[4])
    assert found[5] == pytest.approx(0.9)
    assert found[:4] == pytest.approx(stats.false_discovery_control([0.001, 0.2, 0.012, 0.04, 0.9])[:4])
    assert corrected(made[4:5]) == (made[4],)


RATES = Rates(Rate.measured(0.9, 300), Rate.measured(0.01, 2000))


def test_the_bootstrap_covers_and_keeps_copies_together() -> None:
    rng = np.random.default_rng(3)
    truth, hits = 0.05, 0
    for round_ in range(200):
        generated = rng.random(800) < truth
        measured = Rates(
            Rate.measured(rng.binomial(300, 0.9) / 300, 300), Rate.measured(rng.binomial(2000, 0.01) / 2000, 2000)
        )
        flagged = rng.random(800) < np.where(generated, 0.9, 0.01)
        low, high = bootstrap_prevalence(flagged, np.arange(800), measured, rounds=400, seed=round_)
        hits += low <= truth <= high
    assert hits / 200 == pytest.approx(0.95, abs=0.05)
    flagged = np.r_[np.ones(40), np.zeros(760)]
    alone = bootstrap_prevalence(flagged, np.arange(800), RATES)
    plain = estimate_prevalence(40, 800, RATES)
    assert alone == (pytest.approx(plain.low, abs=0.006), pytest.approx(plain.high, abs=0.006))
    together = bootstrap_prevalence(flagged, np.r_[np.zeros(40), np.arange(1, 761)], RATES)
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])


def test_labels_by_hand() -> None:
    strata = [Stratum("flagged", 100, 50, 40), Stratum("judged", 9900, 200, 0)]
    found = labelled_prevalence(strata)
    assert found.value == pytest.approx((100 * 0.8 + 9900 * 0) / 10_000)
    (l1, _), (_, u2) = wilson(40, 50), wilson(0, 200)
    assert found.low == pytest.approx(found.value - 0.01 * (0.8 - l1))
    assert found.high > 0.99 * u2  # none among 200 is not none
    for wrong, message in (
        ([Stratum("flagged", 10, 0, 0)], "has a label"),
        ([Stratum("flagged", 10, 11, 0)], "cannot be"),
        ([], "no account"),
    ):
        with pytest.raises(UsageError, match=message):
            labelled_prevalence(wrong)


def test_the_interval_of_labels_covers() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(500):
        flags, rest = rng.binomial(150, 0.8), rng.binomial(200, 0.02)
        found = labelled_prevalence([Stratum("flagged", 500, 150, flags), Stratum("judged", 9500, 200, rest)])
        hits += found.low <= 0.05 * 0.8 + 0.95 * 0.02 <= found.high
    assert hits / 500 >= 0.93
