"""Audits: planted shortcuts and gaps are found, absent ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceproof.audits import (
    AGE_BANDS,
    FactClassifier,
    age_band,
    fact_probes,
    fact_table,
    fold_thresholds,
    gaps,
    score_probes,
    source_floor,
    thresholds,
)
from faceproof.contenders import Frozen
from faceproof.datasets import Sample
from faceproof.errors import UsageError
from faceproof.evaluation import Scores
from faceproof.figures import Figure, pick
from faceproof.metrics import auc
from faceproof.scoring import Facts

N = 400


def facts_of(sizes: np.ndarray, seed: int = 0) -> tuple[Facts, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        Facts(int(size), int(size), int(size * size * rng.uniform(0.2, 0.4)), 91, float(rng.uniform(0.2, 0.5)))
        for size in sizes
    )


def made(score: np.ndarray, facts: tuple[Facts, ...] = (), **traits: list[str]) -> Scores:
    samples = tuple(
        Sample(
            Path(f"a/b/{i}.jpg"), i % 2, "g" if i % 2 else "", f"s{i % 4 // 2}", "val", f"{i}", "",
            **{trait: values[i] for trait, values in traits.items()},
        )
        for i in range(len(score))
    )  # fmt: skip
    return Scores(samples, score.astype(float), np.ones(len(score), bool), 0, facts=facts)


def value(figures: list[Figure], **wanted: str) -> float:
    return pick(figures, **wanted)[0].value


# ---- file facts


@pytest.mark.parametrize("with_training", [True, False])
def test_a_planted_size_is_found(with_training: bool) -> None:
    """Generated pictures of exactly 256 px among photographs of 200 to 300: no straight line sees it, the bins do."""
    rng = np.random.default_rng(1)
    y = np.arange(N) % 2
    sizes = np.where(y == 1, 256, rng.integers(200, 300, N))
    scores = made(np.zeros(N), facts_of(sizes))
    training = (facts_of(sizes, 5), scores.samples) if with_training else None
    figures = fact_probes("val", scores.facts, scores.samples, training, rounds=50)
    how = "fitted on train" if with_training else "fitted within the split by group"
    assert auc(y, sizes) < 0.7
    assert value(figures, subset=f"picture size, {how}") > 0.9
    assert value(figures, subset=f"all facts together, {how}") > 0.9
    assert value(figures, subset=f"JPEG quality, {how}") == 0.5  # the same for all
    assert abs(value(figures, subset=f"face share, {how}") - 0.5) < 0.1


def test_no_shortcut_is_made_up() -> None:
    """Facts that say nothing: the probe's interval holds .5, also when fitted within the split."""
    scores = made(np.zeros(N), facts_of(np.random.default_rng(2).integers(100, 300, N)))
    for figure in fact_probes("val", scores.facts, scores.samples, None, rounds=200):
        assert figure.low - 0.02 <= 0.5 <= figure.high + 0.02, figure


def test_the_classifier_on_a_step() -> None:
    """One fact, generated above 0.3: ranked right, and new values outside the fitted range are taken."""
    x = np.linspace(0, 1, 200)[:, None]
    y = (x[:, 0] > 0.3).astype(int)
    found = FactClassifier.fit(x, y)
    assert auc(y, found.score(x)) > 0.97
    assert found.score([[-9.0]])[0] < 0 < found.score([[9.0]])[0]
    with pytest.raises(UsageError, match="both classes"):
        FactClassifier.fit(x, np.ones(200))


def test_the_fact_table() -> None:
    np.testing.assert_allclose(fact_table([Facts(200, 100, 5000, 75, 0.4)]), [[200, 0.25, 75, 0.4]])
    assert fact_table([]).shape == (0, 4)


def test_a_score_that_is_the_size_is_found() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(100, 300, N)
    guilty, innocent = made(sizes.astype(float), facts_of(sizes)), made(rng.normal(0, 1, N), facts_of(sizes))
    for word in ("photographs", "generated"):
        subset = f"score against picture size, {word}"
        assert value(score_probes("m", "val", guilty, None, rounds=20), subset=subset) == pytest.approx(1)
        assert abs(value(score_probes("m", "val", innocent, None, rounds=20), subset=subset)) < 0.15
    level = made(rng.normal(0, 1, N) + np.arange(N) % 2)
    figures = score_probes("m", "val", guilty, level, rounds=20)
    assert value(figures, subset="all at 128 px, JPEG 75", chain="level") == auc(level.label, level.score)


def test_a_source_that_is_sorted_out_is_found() -> None:
    rng = np.random.default_rng(4)
    plain = made(rng.normal(0, 1, N))
    sources = np.array([s.source for s in plain.samples])
    sorted_out = made(plain.score + 2.0 * (sources == "s1"))
    innocent, guilty = (source_floor("m", "val", scores, rounds=100) for scores in (plain, sorted_out))
    assert value(guilty, subset="s1") > 0.85
    assert pick(guilty, subset="s1")[0].low > 0.8
    assert value(guilty, subset="s0") == pytest.approx(1 - value(guilty, subset="s1"))
    assert value(guilty, subset="all sources") > 0.35
    assert value(innocent, subset="all sources") < 3 * value(innocent, subset="all sources, by chance")
    assert source_floor("m", "val", plain.take(np.arange(30)), rounds=5) == []  # too few of each


# ---- groups of people


def test_age_bands() -> None:
    assert [age_band(age) for age in ("0", "9", "10", "19", "20", "40", "59", "60", "116")] == [
        "0-9", "0-9", "10-19", "10-19", "20-39", "40-59", "40-59", "60 and over", "60 and over",
    ]  # fmt: skip
    assert [age_band(age) for age in ("", "young", "-3", "nan")] == ["", "", "", ""]
    assert [first for first, _ in AGE_BANDS] == sorted(first for first, _ in AGE_BANDS)


def test_a_planted_gap_is_found_and_an_absent_one_is_not() -> None:
    """One in five women flagged, no man; ages dealt out at random."""
    rng = np.random.default_rng(5)
    sex = ["female" if i % 4 == 0 else "male" for i in range(N)]
    age = [str(rng.integers(0, 90)) for _ in range(N)]
    flagged = np.array([i % 20 == 0 for i in range(N)])
    scores = made(np.where(flagged, 5.0, rng.normal(-4, 0.5, N)), sex=sex, age=age)
    frozen = Frozen({0.05: 2.0, 0.01: 4.0, 0.001: 6.0}, None, 0.01, "")
    figures = gaps("m", "val", scores, thresholds(scores, frozen), rounds=400)
    rate = "fpr_at_threshold_of_1_percent"
    assert value(figures, kind="gap by sex", subset="female", metric=rate) == pytest.approx(0.2)
    assert value(figures, kind="gap by sex", subset="male", metric=rate) == 0.0
    assert [f.n for f in pick(figures, kind="gap by sex", metric=rate)][:2] == [100, 100]  # photographs only
    gap = pick(figures, kind="gap by sex", subset="gap", metric=rate)[0]
    chance = pick(figures, kind="gap by sex", subset="gap by chance", metric=rate)[0]
    assert gap.value == pytest.approx(0.2)
    assert gap.low > chance.high
    ages = {f.subset: f for f in pick(figures, kind="gap by age", metric=rate)}
    assert ages["gap"].value <= ages["gap by chance"].high + 0.05
    assert {f.metric for f in figures} == {rate, "fpr_at_threshold_of_5_percent", "mean_score"}
    assert not pick(figures, kind="gap by ethnicity")  # nobody states one


def test_small_subgroups_are_shown_and_do_not_count() -> None:
    sex = ["female" if i < 10 else "male" for i in range(N)]
    scores = made(np.zeros(N), sex=sex)
    figures = gaps("m", "val", scores, {"fpr": np.full(N, -1.0)}, rounds=5)
    assert pick(figures, kind="gap by sex", subset="female", metric="fpr")[0].n == 5
    assert not pick(figures, subset="gap")


def test_thresholds_inside_folds() -> None:
    score = np.arange(N, dtype=float)
    plain = made(score)
    fold = tuple("AB"[i >= N // 2] for i in range(N))
    threshold = tuple(100.0 if name == "A" else 300.0 for name in fold)
    scores = Scores(plain.samples, score, plain.judged, 0, fold=fold, threshold=threshold)
    limits = fold_thresholds(scores)
    assert set(limits) == {"fpr_at_fold_threshold", "fpr_where_5_percent_of_the_fold_are_flagged"}
    five = limits["fpr_where_5_percent_of_the_fold_are_flagged"]
    for name in "AB":
        inside = np.array([f == name for f in fold]) & (scores.label == 0)
        assert (score[inside] >= five[inside]).mean() == pytest.approx(0.05, abs=0.01)
