"""Calibration against scikit-learn, counts and order statistics."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from faceproof import ModelError, OperatingPoint, UsageError
from faceproof.calibration import (
    METHODS,
    Platt,
    _thinned,
    class_weights,
    cross_fit,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    folds_by_group,
    operating_point,
    pool_adjacent,
    threshold_at,
)
from faceproof.curves import MAX_KNOTS, Isotonic, Temperature, calibration_from_card
from faceproof.metrics import auc, ece, nll


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


@pytest.mark.parametrize("counts", [(300, 300), (400, 40)])
def test_unsmoothed_platt_is_scikit_learns_to_the_sixth_digit(counts: tuple[int, int]) -> None:
    labels, scores = _draw(400, 7)
    kept = np.r_[: counts[0], 400 : 400 + counts[1]]
    own = fit_platt(labels[kept], scores[kept], smooth=False)
    other = LogisticRegression(C=1e12, class_weight="balanced", tol=1e-12, max_iter=5000)
    other.fit(scores[kept, None], labels[kept])
    assert own.slope == pytest.approx(other.coef_[0, 0], rel=1e-5)
    assert own.intercept == pytest.approx(other.intercept_[0], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_temperature_is_scipys_minimum(seed: int) -> None:
    """The balanced log-loss of scikit-learn, minimised over T by scipy."""
    labels, scores = _draw(300, seed)
    kept = np.r_[:300, 300:400]
    y, s = labels[kept], 7 * (scores[kept] + 0.1)
    weights = np.where(y == 1, 3.0, 1.0)

    def loss(t: float) -> float:
        return float(log_loss(y, 1 / (1 + np.exp(-s / t)), sample_weight=weights))

    best = minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-8})
    assert fit_temperature(y, s, smooth=False).temperature == pytest.approx(best.x, rel=1e-4)


def test_temperature_finds_the_true_one() -> None:
    labels, scores = _draw(40_000)
    assert fit_temperature(labels, 2.5 * (4 * scores - 1)).temperature == pytest.approx(2.5, rel=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_pooled_blocks_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, 60) + 0.02 * np.arange(60) * rng.integers(0, 2)
    weights = rng.uniform(0.1, 2, 60)
    borders = pool_adjacent(values, weights)
    sizes = np.diff(borders)
    means = np.add.reduceat(values * weights, borders[:-1]) / np.add.reduceat(weights, borders[:-1])
    expected = IsotonicRegression().fit_transform(np.arange(60), values, sample_weight=weights)
    np.testing.assert_allclose(np.repeat(means, sizes), expected, atol=1e-12)


def test_isotonic_passes_through_scikit_learns_steps() -> None:
    """At the centre of every block, the share that scikit-learn gives with the two imagined pictures added."""
    labels, scores = _draw(500, 3)
    scores = np.round(scores, 1)  # ties
    y, s = np.r_[labels, 0, 1], np.r_[scores, scores.max(), scores.min()]
    expected = IsotonicRegression().fit(s, y, sample_weight=class_weights(y))
    steps = expected.predict(np.unique(s))
    own = fit_isotonic(labels, scores)
    np.testing.assert_allclose(own.probability(np.array(own.scores)), np.unique(np.round(steps, 12)), atol=1e-9)
    assert own.scores[0] >= s.min()
    assert own.scores[-1] <= s.max()


def test_isotonic_claims_no_more_than_counts_bear() -> None:
    """Separated classes: nine of ten would be the claim after nine generated faces and one imagined photograph."""
    fit = fit_isotonic([0] * 9 + [1] * 9, np.r_[np.arange(9), 100 + np.arange(9)])
    assert fit.probability(1e9) == pytest.approx(0.9)
    assert fit.probability(-1e9) == pytest.approx(0.1)
    more = fit_isotonic([0] * 999 + [1] * 999, np.r_[np.arange(999), 5000 + np.arange(999)])
    assert more.log_odds(1e9) == pytest.approx(np.log(999))


def test_isotonic_fits_in_a_card() -> None:
    """More blocks than a card holds are joined."""
    n = 20_000
    p = np.linspace(0.02, 0.98, n)
    labels = (np.random.default_rng(0).random(n) < p).astype(int)
    scores = np.arange(n) / 1000
    fit = fit_isotonic(labels, scores)
    assert 20 < len(fit.scores) <= MAX_KNOTS
    borders = _thinned(np.arange(5001), np.random.default_rng(2).uniform(0.1, 1, 5000))
    assert MAX_KNOTS - 5 < len(borders) - 1 <= MAX_KNOTS
    assert (borders[0], borders[-1]) == (0, 5000)


def test_rounding_never_makes_a_curve_fall() -> None:
    """Between knots of many sizes the interpolation stays within its two neighbours, to the last bit."""
    rng = np.random.default_rng(1)
    curve = Isotonic(
        tuple(np.sort(rng.normal(size=200)).tolist()), tuple(np.sort(rng.normal(size=200) // 0.1).tolist())
    )
    found = curve.curve(np.sort(np.r_[rng.normal(size=50_000), curve.scores, np.nextafter(curve.scores, -9)]))
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 60), digits=st.integers(0, 3))
def test_every_curve_rises_and_stays_finite(method: str, seed: int, size: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, size)]
    scores = np.round(rng.normal(labels * rng.uniform(0.1, 9), rng.uniform(0.1, 3)), digits)
    assume(auc(labels, scores) > 0.5 and scores[labels == 1].mean() > scores[labels == 0].mean())
    if method == "temperature":
        # Its likelihood rises from zero only if the means are in order after Platt's smoothing of the labels.
        smoothed = [scores[labels == k].mean() * (labels == k).sum() / ((labels == k).sum() + 2) for k in (0, 1)]
        assume(smoothed[1] > smoothed[0])
    fit = METHODS[method](labels, scores)
    curve = fit.curve(np.r_[-1e6, np.linspace(scores.min() - 1, scores.max() + 1, 501), 1e6])
    assert np.isfinite(curve).all()
    assert (np.diff(curve) >= 0).all()
    assert fit.log_odds(scores[0]) == fit.curve(scores)[0]
    assert calibration_from_card(json.loads(json.dumps(fit.to_card()))) == fit


@pytest.mark.parametrize("method", METHODS)
def test_unit_of_the_score_does_not_matter(method: str) -> None:
    labels, scores = _draw(300, 9)
    shift = 0.0 if method == "temperature" else 11.0
    one, other = METHODS[method](labels, scores), METHODS[method](labels, 37 * scores + shift)
    np.testing.assert_allclose(other.probability(37 * scores + shift), one.probability(scores), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_classes_can_change_places(method: str) -> None:
    """Labels and scores turned round give 1 - p: neither class is favoured."""
    labels, scores = _draw(300, 10)
    kept = np.r_[:300, 300:350]
    y, s = labels[kept], scores[kept]
    one, other = METHODS[method](y, s), METHODS[method](1 - y, -s)
    np.testing.assert_allclose(other.probability(-s), 1 - one.probability(s), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_data(method: str) -> None:
    fit = METHODS[method]
    with pytest.raises(UsageError, match="wrong way round"):
        fit([0, 0, 1, 1], [2.0, 1.5, 0.2, 0.1])
    with pytest.raises(UsageError, match="wrong way round"):
        fit([0, 0, 1, 1], [1.0, 1.0, 1.0, 1.0])
    with pytest.raises(UsageError, match="finite scores of both classes"):
        fit([0, 0], [1.0, 2.0])
    with pytest.raises(UsageError, match="finite scores of both classes"):
        fit([0, 1], [1.0, float("nan")])
    two = fit([0, 1], [-1.0, 1.0])
    assert 0 < two.probability(-1.0) <= 0.5 <= two.probability(1.0) < 1


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"method": "Platt", "slope": float("nan"), "intercept": 0}, "slope must be positive"),
        ({"slope": 0, "intercept": 0}, "slope must be positive"),
        ({"slope": 1, "intercept": float("inf")}, "both numbers finite"),
        ({"method": "temperature", "temperature": 0}, "temperature must lie"),
        ({"method": "temperature", "temperature": float("nan")}, "temperature must lie"),
        ({"method": "isotonic", "scores": [], "log_odds": []}, "1 to 200 knots"),
        ({"method": "isotonic", "scores": [0], "log_odds": [0, 1]}, "1 to 200 knots"),
        ({"method": "isotonic", "scores": [0] * 201, "log_odds": [0] * 201}, "1 to 200 knots"),
        ({"method": "isotonic", "scores": [0, 0], "log_odds": [0, 1]}, "scores must ascend"),
        ({"method": "isotonic", "scores": [0, 1], "log_odds": [1, 0]}, "never descend"),
        ({"method": "isotonic", "scores": [0, float("nan")], "log_odds": [0, 1]}, "finite numbers"),
        ({"method": "isotonic", "scores": [0, 1], "log_odds": [0, float("inf")]}, "finite numbers"),
        ({"method": "isotonic", "scores": [-1e300, 1e300], "log_odds": [0, 1]}, "finite numbers"),
        ({"method": "isotonic", "scores": "01", "log_odds": "01"}, "two lists"),
        ({"method": "isotonik", "scores": [0], "log_odds": [1]}, "did you mean 'isotonic'"),
    ],
)
def test_hostile_cards(raw: dict[str, Any], message: str) -> None:
    with pytest.raises((ModelError, UsageError), match=message):
        calibration_from_card(raw)


def test_cards_without_a_method_are_platts() -> None:
    assert calibration_from_card({"slope": 2, "intercept": 1}) == Platt(2.0, 1.0)
    assert calibration_from_card({"method": "temperature", "temperature": 2}) == Temperature(2.0)


def test_folds_keep_groups_whole_and_classes_in_each() -> None:
    """As StratifiedGroupKFold promises; a rare class may not be missing from any fold."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 120, 400)
    labels = (groups < 12).astype(int)
    fold = folds_by_group(labels, groups)
    for number in range(5):
        inside = fold == number
        assert not set(groups[inside]) & set(groups[~inside])
        assert {0, 1} == set(labels[inside])
        # 108 groups of photographs in five folds: 21 or 22 each.
        assert len(set(groups[inside & (labels == 0)])) in (21, 22)
    assert (fold == folds_by_group(labels, groups)).all()
    assert (fold != folds_by_group(labels, groups, seed=1)).any()
    assert next(StratifiedGroupKFold(5).split(groups, labels, groups))  # the same data can be split by it, too
    with pytest.raises(UsageError, match=r"4 group\(s\) of generated pictures are too few"):
        folds_by_group([0] * 5 + [1] * 9, [*range(5), 5, 5, 5, 5, 5, 5, 6, 7, 8])


@pytest.mark.parametrize("method", METHODS)
def test_held_out_pictures_do_not_touch_their_own_curve(method: str) -> None:
    """A fold's probabilities are those of a curve fitted by hand on all the others."""
    labels, scores = _draw(200, 11)
    fold = folds_by_group(labels, np.arange(400))
    held = cross_fit(labels, scores, fold, METHODS[method])
    inside = fold == 3
    by_hand = METHODS[method](labels[~inside], scores[~inside])
    np.testing.assert_array_equal(held[inside], by_hand.probability(scores[inside]))


def test_cross_fitted_error_is_honest() -> None:
    """Isotonic fits its own data better than chance allows; held out, it is worse than the true form (Platt)."""
    labels, scores = _draw(60, 12)
    fold = folds_by_group(labels, np.arange(120))
    weights = class_weights(labels)
    own = nll(labels, fit_isotonic(labels, scores).probability(scores), weights=weights)
    held = {name: nll(labels, cross_fit(labels, scores, fold, fit), weights=weights) for name, fit in METHODS.items()}
    assert held["isotonic"] > own
    assert held["isotonic"] > held["platt"]


def test_weighted_metrics_are_those_of_repeated_pictures() -> None:
    labels, scores = _draw(100, 13)
    p = fit_platt(labels, scores).probability(scores)
    times = np.random.default_rng(0).integers(1, 4, 200)
    assert ece(labels, p, weights=times) == pytest.approx(ece(np.repeat(labels, times), np.repeat(p, times)))
    assert nll(labels, p, weights=times) == pytest.approx(nll(np.repeat(labels, times), np.repeat(p, times)))
    assert nll(labels, p, weights=times) == pytest.approx(log_loss(labels, p, sample_weight=times))


@pytest.mark.parametrize("method", METHODS)
def test_calibrated_probabilities_against_counts(method: str) -> None:
    """In every tenth of the probability, the share of generated faces is what the probability says."""
    labels, scores = _draw(20_000, 2)
    curve = METHODS[method](labels, 4 * scores - 1)
    labels, scores = _draw(20_000, 3)
    p = curve.probability(4 * scores - 1)
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        count = int(inside.sum())
        assert count > 100
        expected = p[inside].mean()
        # Four standard errors, and for isotonic the width of its own steps.
        allowed = 4 * np.sqrt(expected * (1 - expected) / count) + 0.01
        assert labels[inside].mean() == pytest.approx(expected, abs=allowed)


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
    with pytest.raises(ModelError, match="fpr"):
        OperatingPoint(1.5, 0, 0, 0, 10, "x")
    with pytest.raises(ModelError, match="low <= threshold <= high"):
        OperatingPoint(0.01, 0, 1, 2, 10, "x")


def test_platt_probability_at_the_extremes() -> None:
    assert Platt(1.0, 0.0).probability(1e6) == 1.0
    assert Platt(1.0, 0.0).probability(-1e6) == 0.0
    assert Platt(2.0, 1.0).log_odds(3.0) == 7.0
