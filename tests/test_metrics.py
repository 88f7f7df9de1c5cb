"""Metrics against scikit-learn, definitions and hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from faceproof import UsageError
from faceproof.metrics import (
    auc,
    average_precision,
    balanced_accuracy,
    bootstrap,
    ece,
    eer,
    nll,
    ppv,
    tpr_at_fpr,
    wilson,
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels with both classes, and scores with many ties."""
    labels = draw(st.lists(st.integers(0, 1), min_size=2, max_size=60).filter(lambda v: 0 < sum(v) < len(v)))
    scores = draw(st.lists(st.integers(-8, 8), min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(scores) / 4


@given(scored())
def test_auc_and_ap_equal_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    assert auc(labels, scores) == pytest.approx(sk.roc_auc_score(labels, scores))
    assert average_precision(labels, scores) == pytest.approx(sk.average_precision_score(labels, scores))


@given(scored(), st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0]))
def test_tpr_at_fpr_equals_the_roc(case: tuple[np.ndarray, np.ndarray], fpr: float) -> None:
    labels, scores = case
    false, true, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    assert tpr_at_fpr(labels, scores, fpr) == pytest.approx(true[false <= fpr + 1e-12].max())


@given(scored())
def test_eer_lies_on_the_roc(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    false, true, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    value = eer(labels, scores)
    assert np.interp(value, false, true) >= 1 - value - 1e-9 or value in false
    gap = false - (1 - true)
    assert false[gap <= 0].max() - 1e-12 <= value <= false[gap >= 0].min() + 1e-12


@given(scored(), st.floats(-2, 2))
def test_balanced_accuracy_equals_scikit_learn(case: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    labels, scores = case
    expected = sk.balanced_accuracy_score(labels, scores >= threshold)
    assert balanced_accuracy(labels, scores, threshold) == pytest.approx(expected)


def test_by_hand() -> None:
    labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
    assert auc(labels, scores) == 0.75  # of four pairs three are right
    assert tpr_at_fpr(labels, scores, 0.0) == 0.5
    assert eer(labels, scores) == 0.5
    assert average_precision(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert nll([1, 0], [0.8, 0.5]) == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)


def test_ece_by_hand() -> None:
    # Two bins: 0.05 twice with no positive (gap .05), 0.95 twice with one positive (gap .45).
    assert ece([0, 0, 1, 0], [0.05, 0.05, 0.95, 0.95], bins=10) == pytest.approx((0.05 + 0.45) / 2)


def test_nll_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels, p = rng.integers(0, 2, 200), rng.uniform(0.01, 0.99, 200)
    assert nll(labels, p) == pytest.approx(sk.log_loss(labels, p))


def test_ppv_equals_the_table_in_field_md() -> None:
    expected = {0.05: 0.010, 0.01: 0.048, 0.001: 0.335, 0.0001: 0.835, 0.00001: 0.981}
    for fpr, value in expected.items():
        assert ppv(0.97, fpr, 0.00052) == pytest.approx(value, abs=0.001)
    assert math.isnan(ppv(0, 0, 0.5))


def test_wilson_against_its_equation() -> None:
    """The ends are where |share - p| = z sqrt(p (1 - p) / n), Wilson's definition."""
    for hits, count in ((0, 50), (3, 451), (25, 50), (50, 50)):
        for end in wilson(hits, count):
            if 1e-9 < end < 1 - 1e-9:
                deviation = 1.959964 * math.sqrt(end * (1 - end) / count)
                assert abs(hits / count - end) == pytest.approx(deviation, rel=1e-6)
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_bootstrap_resamples_groups() -> None:
    """With one value per group of ten copies, the spread is that of the groups, not of the pictures."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 1, 100), 10)
    groups = np.repeat(np.arange(100), 10)
    low, high = bootstrap(lambda i: float(values[i].mean()), groups, rounds=2000)
    expected = 2 * 1.96 * np.std(values[::10]) / 10
    assert high - low == pytest.approx(expected, rel=0.15)
    low, high = bootstrap(lambda i: float(values[i].mean()), np.arange(1000), rounds=500)
    assert high - low < expected / 2


def test_bootstrap_keeps_strata_apart() -> None:
    labels = np.array([0] * 30 + [1] * 3)
    low, high = bootstrap(lambda i: float(labels[i].mean()), np.arange(33), strata=labels, rounds=50)
    assert low == high == pytest.approx(3 / 33)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "both classes"),
        ([0, 2], [0.1, 0.2], "0 .photograph. and 1"),
        ([0, 1], [0.1, float("nan")], "not finite"),
        ([0, 1], [0.1], "one length"),
    ],
)
def test_degenerate_data(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        auc(labels, scores)
