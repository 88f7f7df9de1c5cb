"""Fusion and verdict: weights that add up, limits that keep both promises, files that are damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceproof import ModelError, QualityReason, UsageError
from faceproof.detectors.card import read_card
from faceproof.detectors.store import model_folder
from faceproof.fusion import FUSION_SCHEMA, Fusion, Single, read_fusion
from faceproof.records import Evidence
from faceproof.verdict import decide, steadied

RNG = np.random.default_rng(5)
RAW: dict[str, Any] = {
    "schema": FUSION_SCHEMA,
    "bias": -0.5,
    "terms": [
        {
            "name": "supervised", "sha256": "ab", "slope": 1.25, "range": [-30, 30],
            "sentence": "speaks for {leaning} with odds of {odds} to 1 (score {score})",
        },
        {"name": "anomaly", "sha256": "cd", "slope": 0.5, "range": [-4, 4], "sentence": "unlike by {score}"},
    ],
    "conformal": {
        "photographs": np.sort(RNG.normal(-4, 2, 200)).tolist(),
        "generated": np.sort(RNG.normal(5, 2, 200)).tolist(),
    },
    "operating_points": [
        {"fpr": 0.001, "threshold": 4.0, "interval": [3.0, 5.0], "photographs": 200, "method": "tail"}
    ],
    "fpr": 0.01,
    "alpha": 0.05,
    "alarm": {"term": "anomaly", "limits": [[1.0, 0.1], [2.0, 0.01], [3.0, 0.005]], "fpr": 0.01},
}  # fmt: skip


def written(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda raw: None) -> Path:
    raw = json.loads(json.dumps(RAW))
    change(raw)
    (folder / "fusion.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture
def fusion(tmp_path: Path) -> Fusion:
    read = read_fusion(written(tmp_path))
    assert read is not None
    return read


def test_the_log_odds_are_the_weighted_sum(fusion: Fusion) -> None:
    scores = {"supervised": 2.0, "anomaly": -1.0}
    pieces = fusion.evidence(scores)
    assert [piece.weight for piece in pieces] == [-0.5, 2.5, -0.5]
    assert pieces[1].sentence == "speaks for generated with odds of 12.2 to 1 (score +2.00)"
    verdict = decide(2.0, pieces, (), fusion.rule(None, None))
    assert verdict.log_odds == pytest.approx(1.5)
    assert verdict.probability == pytest.approx(1 / (1 + math.exp(-1.5)))


@pytest.mark.parametrize("removed", ["supervised", "anomaly"])
def test_taking_a_piece_away_changes_the_log_odds_by_its_weight(fusion: Fusion, removed: str) -> None:
    rule = fusion.rule(None, None)
    scores = {"supervised": 3.1, "anomaly": 2.2}
    whole = decide(3.1, fusion.evidence(scores), (), rule)
    weight = next(piece.weight for piece in whole.evidence if piece.name == removed)
    rest = decide(3.1, fusion.evidence({k: v for k, v in scores.items() if k != removed}), (), rule)
    assert whole.log_odds - rest.log_odds == pytest.approx(weight)
    odds = [v.probability / (1 - v.probability) for v in (whole, rest)]
    assert odds[0] / odds[1] == pytest.approx(math.exp(weight))


def test_no_single_piece_grows_without_bound(fusion: Fusion) -> None:
    assert fusion.evidence({"supervised": 0.0, "anomaly": 1e9})[2].weight == 2.0


def test_what_a_file_says_about_itself_is_added(fusion: Fusion) -> None:
    rule = fusion.rule(None, None)
    pieces = fusion.evidence({"supervised": -6.0, "anomaly": 0.0})
    assert decide(-6.0, pieces, (), rule).label == "photograph"
    signed = Evidence("content credentials", 12.0, "the file says that it was made by a generator")
    verdict = decide(-6.0, (*pieces, signed), (), rule)
    assert verdict.label == "generated"
    assert verdict.log_odds == pytest.approx(-8.0 + 12.0)
    assert verdict.reasons[1] == signed.sentence  # the heaviest piece first


def test_the_limits_are_the_conformal_ones(fusion: Fusion) -> None:
    rule = fusion.rule(0.05, 0.1)
    sets = fusion.conformal
    assert (rule.fpr, rule.alpha) == (0.05, 0.1)
    for odds in np.linspace(-10, 12, 400):
        photograph, generated = sets.p_photograph(odds) > 0.05, sets.p_generated(odds) > 0.1
        expected = "inconclusive" if photograph == generated else "photograph" if photograph else "generated"
        assert rule.label(float(odds)) == expected


def test_a_rate_out_of_reach_is_refused_or_extrapolated(fusion: Fusion) -> None:
    with pytest.raises(UsageError, match=r"200 such faces, which cannot promise a false-alarm rate of 0\.002"):
        fusion.rule(0.002, None)
    with pytest.raises(UsageError, match=r"cannot promise a miss rate \(alpha\) of 0\.001; give at least 0\.005"):
        fusion.rule(None, 0.001)
    rule = fusion.rule(0.001, None)
    assert (rule.high, rule.threshold, rule.alpha) == (5.0, 4.0, None)


def test_an_alarm_takes_the_photograph_away(fusion: Fusion) -> None:
    rule = fusion.rule(None, None)
    for anomaly, label in ((1.5, "photograph"), (2.0, "inconclusive"), (3.5, "inconclusive")):
        scores = {"supervised": -8.0, "anomaly": anomaly}
        alarm = fusion.alarm(scores)
        verdict = decide(-8.0, fusion.evidence(scores), (), rule, alarm=alarm)
        assert (verdict.label, verdict.alarm) == (label, label == "inconclusive")
    assert alarm == 0.005
    assert "only 0.5 % of photographs are as unlike" in verdict.reasons[0]
    loud = {"supervised": 9.0, "anomaly": 3.5}
    assert decide(9.0, fusion.evidence(loud), (), rule, alarm=fusion.alarm(loud)).label == "generated"


def test_quality_comes_first(fusion: Fusion) -> None:
    blurred = QualityReason("blurred", "blurred: why", 1.0, 6.5)
    verdict = decide(20.0, fusion.evidence({"supervised": 20.0}), (blurred,), fusion.rule(None, None))
    assert (verdict.label, verdict.reasons[0]) == ("inconclusive", "not judged: blurred: why")


def test_a_flip_makes_it_inconclusive(fusion: Fusion) -> None:
    rule = fusion.rule(None, None)
    verdict = decide(8.0, fusion.evidence({"supervised": 8.0}), (), rule)
    assert verdict.label == "generated"
    calm = steadied(verdict, [("jpeg:90", 8.0), ("jpeg:50", 0.9), ("blur:0.8", 3.0)], rule)
    assert calm.label == "generated"
    assert calm.stability is not None
    assert calm.stability.flips == ()
    assert calm.stability.to_dict()["median"] == pytest.approx(1 / (1 + math.exp(-3.0)), abs=1e-6)
    assert calm.stability.lowest == pytest.approx(1 / (1 + math.exp(-0.9)))
    flipped = steadied(verdict, [("jpeg:90", 8.0), ("jpeg:50", -9.0)], rule)
    assert flipped.label == "inconclusive"
    assert flipped.reasons[0] == "the answer turns into photograph after jpeg:50"
    assert flipped.log_odds == verdict.log_odds


def test_an_unsure_face_cannot_flip(fusion: Fusion) -> None:
    rule = fusion.rule(0.01, 0.01)
    middle = (rule.low + rule.high) / 2
    verdict = decide(0.0, (Evidence("e", middle, ""),), (), rule)
    assert steadied(verdict, [("jpeg:50", 30.0)], rule).stability.flips == ()  # type: ignore[union-attr]


def test_a_folder_without_fusion(tmp_path: Path) -> None:
    assert read_fusion(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema="other"), "schema is 'other'"),
        (lambda raw: raw.pop("bias"), "field 'bias' is missing"),
        (lambda raw: raw.update(bias=math.inf), "finite bias"),
        (lambda raw: raw["terms"].pop(0), "'supervised' among them"),
        (lambda raw: raw["terms"].append(raw["terms"][0]), "each term once"),
        (lambda raw: raw["terms"][1].update(slope=-1), "positive slope"),
        (lambda raw: raw["terms"][1].update(range=[4, -4]), "low < high"),
        (lambda raw: raw["alarm"].update(term="elsewhere"), "no term of the fusion"),
        (lambda raw: raw["conformal"].update(photographs=[1, 2]), "20 to 5,000 calibration scores"),
        (lambda raw: raw.update(terms=5), "not iterable"),
    ],
)
def test_a_damaged_fusion(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_fusion(written(tmp_path, change))
    assert "get the model again" in str(caught.value)


def test_a_fusion_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "fusion.json").write_text("[1, 2")
    with pytest.raises(ModelError, match="not a usable fusion"):
        read_fusion(tmp_path)
    (tmp_path / "fusion.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="not a usable fusion"):
        read_fusion(tmp_path)


def test_a_sentence_cannot_reach_into_objects(tmp_path: Path) -> None:
    read = read_fusion(written(tmp_path, lambda raw: raw["terms"][0].update(sentence="{score.__class__} {0}")))
    assert read is not None
    assert read.evidence({"supervised": 1.0})[1].sentence == "{score.__class__} {0}"


def test_a_model_by_itself_keeps_the_order_of_scores_where_its_curve_is_level() -> None:
    card = read_card(model_folder(None))
    alone = Single(card)
    weights = [alone.evidence({"supervised": score})[0].weight for score in np.linspace(60, 90, 7)]
    assert (np.diff(weights) > 0).all()
