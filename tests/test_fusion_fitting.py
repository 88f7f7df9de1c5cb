"""Weights of a fusion: against scikit-learn, against what made the data, and degenerate data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from faceproof import UsageError, fusion_fitting
from faceproof.curves import Platt
from faceproof.fusion import read_fusion
from faceproof.fusion_fitting import Faces, Part, fit_fusion

SUPERVISED = Part("supervised", "ab", Platt(2.0, 0.5), "speaks for {leaning}")
ANOMALY = Part("anomaly", "cd", None, "unlike photographs by {score}")


def faces(count: int = 800, *, helps: float = 1.0, seed: int = 0) -> Faces:
    """Two detectors that err apart: the log-odds of the classes are linear in both."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.int64)
    supervised = rng.normal(np.where(labels == 1, 1.0, -1.0), 1.2)
    anomaly = rng.normal(np.where(labels == 1, helps, 0.0), 1.0)
    return Faces(labels, np.array([f"g{i // 2}" for i in range(count)]), {"supervised": supervised, "anomaly": anomaly})


def test_the_weights_are_those_of_scikit_learn_without_a_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_fitting, "PRIOR_SPREAD", 1e4)
    data = faces()
    found = fit_fusion(data, [SUPERVISED, ANOMALY]).raw
    low, high = np.quantile(data.scores["anomaly"], [0.01, 0.99])
    x = np.stack([2 * data.scores["supervised"] + 0.5, np.clip(data.scores["anomaly"], low, high)], 1)
    other = LogisticRegression(C=1e9, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(x, data.labels)
    assert [term["slope"] for term in found["terms"]] == pytest.approx(other.coef_[0].tolist(), rel=1e-3)
    assert found["bias"] == pytest.approx(float(other.intercept_[0]), abs=1e-3)


def test_a_second_opinion_that_helps_lowers_the_loss() -> None:
    found = fit_fusion(faces(), [SUPERVISED, ANOMALY])
    assert found.fused < found.alone - 0.02
    assert found.dropped == ()


def test_one_that_says_nothing_weighs_next_to_nothing() -> None:
    found = fit_fusion(faces(4000, helps=0.0, seed=3), [SUPERVISED, ANOMALY])
    weights = {term["name"]: term["slope"] for term in found.raw["terms"]}
    assert weights.get("anomaly", 0.0) < 0.08


def test_one_that_runs_the_wrong_way_is_dropped() -> None:
    found = fit_fusion(faces(helps=-1.0), [SUPERVISED, ANOMALY])
    assert found.dropped == ("anomaly",)
    assert [term["name"] for term in found.raw["terms"]] == ["supervised"]


def test_a_prior_holds_the_supervised_weight_near_one() -> None:
    """With 60 faces that it separates perfectly, the likelihood alone would send the weight to infinity."""
    labels = np.arange(60) % 2
    data = Faces(labels, np.array([f"g{i}" for i in range(60)]), {"supervised": np.where(labels == 1, 2.0, -2.0)})
    found = fit_fusion(data, [SUPERVISED])
    assert 1 < found.raw["terms"][0]["slope"] < 2.5


def test_the_written_fusion_gives_the_sums(tmp_path: Path) -> None:
    data = faces()
    found = fit_fusion(data, [SUPERVISED, ANOMALY], alarm="anomaly")
    (tmp_path / "fusion.json").write_text(json.dumps(found.raw))
    fusion = read_fusion(tmp_path)
    assert fusion is not None
    sums = [
        sum(piece.weight for piece in fusion.evidence({name: float(v[i]) for name, v in data.scores.items()}))
        for i in range(len(data.labels))
    ]
    # The cross-fitted sums are made with weights of four fifths of the faces: near, not equal.
    assert np.corrcoef(sums, found.sums)[0, 1] > 0.999
    rule = fusion.rule(None, None)
    photographs = np.array(sums)[data.labels == 0]
    assert (photographs >= rule.high).mean() <= 0.02
    # The alarm at 1 %: at most that share of the photographs it was set on.
    alarms = [fusion.alarm({"anomaly": float(v)}) is not None for v in data.scores["anomaly"][data.labels == 0]]
    assert 0 < np.mean(alarms) <= 0.01


def test_wrong_use() -> None:
    with pytest.raises(UsageError, match="the first part of a fusion is 'supervised'"):
        fit_fusion(faces(), [ANOMALY])
    data = faces()
    turned = Faces(1 - data.labels, data.groups, data.scores)
    with pytest.raises(UsageError, match="check the labels"):
        fit_fusion(turned, [SUPERVISED])
