"""Calibration against scikit-learn, counts and order statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from faceproof import OperatingPoint, UsageError
from faceproof.calibration import Platt, fit_platt, operating_point, sigmoid, threshold_at


def _draw(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose true log-odds at equal priors are 4 s - 1: two Gaussians of one width."""
    rng = np.random.default_rng(seed)
    # log N(s; m1, v) - log N(s; m0, v) = (m1 - m0) / v * s - (m1^2 - m0^2) / (2 v)
    v, m0 = 0.5, -0.75
    m1 = m0 + 4 * v
    labels = np.r_[np.zeros(n, int), np.ones(n, int)]
    scores = rng.normal(np.where(labels == 1, m1, m0), np.sqrt(v))
    return labels, scores


def test_platt_finds_the_true_log_odds() -> None:
    labels, scores = _draw(40_000)
    platt = fit_platt(labels, scores)
    assert platt.slope == pytest.approx(4, rel=0.03)
    assert platt.intercept == pytest.approx(-(1.25**2 - 0.75**2) / (2 * 0.5), abs=0.06)


def test_platt_equals_scikit_learn() -> None:
    labels, scores = _draw(3000, 1)
    own = fit_platt(labels, scores)
    other = LogisticRegression(C=1e8, class_weight="balanced", tol=1e-10, max_iter=1000).fit(scores[:, None], labels)
    # Ours smooths the targets (Lin, Lin and Weng 2007), which at 3,000 a class moves the third digit.
    assert own.slope == pytest.approx(other.coef_[0, 0], rel=0.02)
    assert own.intercept == pytest.approx(other.intercept_[0], rel=0.02, abs=0.02)


def test_calibrated_probabilities_against_counts() -> None:
    """In every tenth of the probability, the share of generated faces is what the probability says."""
    platt = fit_platt(*_draw(20_000, 2))
    labels, scores = _draw(20_000, 3)
    p = np.array(sigmoid(platt.slope * scores + platt.intercept))
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        count = int(inside.sum())
        assert count > 100
        expected = p[inside].mean()
        assert labels[inside].mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / count))


def test_unequal_classes_do_not_move_the_prior() -> None:
    labels, scores = _draw(20_000, 4)
    few = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:2000]]
    assert fit_platt(labels[few], scores[few]).intercept == pytest.approx(fit_platt(labels, scores).intercept, abs=0.15)


def test_separated_scores_stay_finite() -> None:
    platt = fit_platt([0, 0, 1, 1], [-5.0, -4.0, 4.0, 5.0])
    assert np.isfinite([platt.slope, platt.intercept]).all()
    assert 0 < platt.probability(-100) < 1e-3 < platt.probability(100) <= 1


def test_wrong_way_round_is_refused() -> None:
    with pytest.raises(UsageError, match="wrong way round"):
        fit_platt([0, 0, 1, 1], [2.0, 1.5, 0.2, 0.1])
    with pytest.raises(UsageError, match="both classes"):
        fit_platt([1, 1], [0.0, 1.0])


@pytest.mark.parametrize("fpr", [0.05, 0.01])
def test_threshold_flags_the_wanted_share(fpr: float) -> None:
    scores = np.random.default_rng(5).normal(size=1000)
    threshold, method = threshold_at(scores, fpr)
    assert method == "order statistic"
    assert (scores >= threshold).sum() == fpr * 1000
    with_ties = np.round(scores, 1)
    assert (with_ties >= threshold_at(with_ties, fpr)[0]).mean() <= fpr + 0.02


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng: rng.exponential(size=450), -np.log(0.001)),  # shape 0
        (lambda rng: 1 - rng.uniform(size=450) ** 0.4, 1 - 0.001**0.4),  # shape -0.4: a bounded tail
        (lambda rng: rng.pareto(5, size=450), 0.001**-0.2 - 1),  # shape 0.2: a heavy one
    ],
)
def test_tail_threshold_against_the_true_quantile(draw: Any, truth: float) -> None:
    """For tails of known shape the extrapolation finds the true 99.9th percentile, on average."""
    found = []
    for seed in range(200):
        threshold, method = threshold_at(draw(np.random.default_rng(seed)), 0.001)
        assert method == "generalised Pareto tail"
        found.append(threshold)
    assert np.median(found) == pytest.approx(truth, rel=0.08)


def test_operating_point_interval_covers() -> None:
    """The 95 % interval holds the true 95th percentile in most repetitions."""
    hits = 0
    for seed in range(60):
        scores = np.random.default_rng(seed).normal(size=400)
        point = operating_point(scores, np.arange(400), 0.05, rounds=300, seed=seed)
        assert point.low <= point.threshold <= point.high
        hits += point.low <= 1.6449 <= point.high
    assert hits >= 50


def test_too_few_photographs() -> None:
    with pytest.raises(UsageError, match="too few"):
        operating_point([0.1] * 5, range(5), 0.01)


def test_operating_point_is_validated() -> None:
    from faceproof import ModelError

    with pytest.raises(ModelError, match="fpr"):
        OperatingPoint(1.5, 0, 0, 0, 10, "x")
    with pytest.raises(ModelError, match="low <= threshold <= high"):
        OperatingPoint(0.01, 0, 1, 2, 10, "x")


def test_platt_probability_at_the_extremes() -> None:
    assert Platt(1.0, 0.0).probability(1e6) == 1.0
    assert Platt(1.0, 0.0).probability(-1e6) == 0.0
    assert Platt(2.0, 1.0).log_odds(3.0) == 7.0
