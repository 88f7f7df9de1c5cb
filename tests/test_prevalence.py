"""What a flag is worth: against FIELD.md's table, Bayes by hand, published and simulated intervals, and the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import UsageError
from faceproof.detectors.card import Card, read_card
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from faceproof.flags import SCHEMA, Tally, rates_of
from faceproof.images import RGB
from faceproof.metrics import wilson
from faceproof.prevalence import Rate, Rates, estimate_prevalence, worth
from tests.helpers import read_records, run_cli

SHIPPED = shipped_models()[DEFAULT_MODEL]


def rates(tpr: float, fpr: float, generated: int = 1000, photographs: int = 1000) -> Rates:
    return Rates(Rate.measured(tpr, generated), Rate.measured(fpr, photographs))


@pytest.fixture(scope="module")
def card() -> Card:
    return read_card(SHIPPED)


@pytest.mark.parametrize(("fpr", "percent"), [(0.05, 1.0), (0.01, 4.8), (0.001, 33.5), (0.0001, 83.5), (0.00001, 98.1)])
def test_the_table_of_the_field(fpr: float, percent: float) -> None:
    """FIELD.md, section 3: prevalence 0.052 %, TPR .97."""
    assert 100 * worth(rates(0.97, fpr), 0.00052, 10_000).ppv.value == pytest.approx(percent, abs=0.05)


def test_counted_by_hand() -> None:
    """10,000 pictures, 100 generated: 90 found, 10 missed; 9,900 photographs: 198 flagged, 9,702 not."""
    found = worth(rates(0.9, 0.02), 0.01, 10_000)
    assert found.hits.value == pytest.approx(90)
    assert found.missed.value == pytest.approx(10)
    assert found.false_alarms.value == pytest.approx(198)
    assert found.ppv.value == pytest.approx(90 / 288)
    assert found.npv.value == pytest.approx(9702 / 9712)
    assert found.flags_per_1000.value == pytest.approx(28.8)
    assert found.flags_per_hit.value == pytest.approx(288 / 90)
    low, high = wilson(20, 1000)
    assert (found.false_alarms.low, found.false_alarms.high) == pytest.approx((9900 * low, 9900 * high))


def test_every_interval_holds_its_value_and_shrinks_with_data() -> None:
    few, many = (worth(rates(0.8, 0.01, n, n), 0.001, 50_000) for n in (100, 100_000))
    for name in ("ppv", "npv", "false_alarms", "hits", "missed", "flags_per_1000", "flags_per_hit"):
        wide, narrow = getattr(few, name), getattr(many, name)
        assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high
        assert narrow.value == pytest.approx(wide.value)


def test_the_interval_of_the_ppv_covers() -> None:
    rng = np.random.default_rng(0)
    true = Rates(Rate.measured(0.8, 1), Rate.measured(0.01, 1))
    wanted, hits = worth(true, 0.001, 1).ppv.value, 0
    for _ in range(2000):
        drawn = rates(rng.binomial(300, 0.8) / 300, rng.binomial(450, 0.01) / 450, 300, 450)
        found = worth(drawn, 0.001, 1).ppv
        hits += found.low <= wanted <= found.high
    assert hits / 2000 >= 0.94


def test_no_false_alarm_seen_is_not_none_to_come() -> None:
    """0 of 450: Wilson's upper end is z^2 / (n + z^2), near the rule of three."""
    rate = Rate.measured(0.0, 450)
    assert rate.low == 0
    assert rate.high == pytest.approx(1.959964**2 / (450 + 1.959964**2), rel=1e-6)
    found = worth(Rates(Rate.measured(0.9, 300), rate), 0.0005, 100_000)
    assert found.ppv.value == 1
    assert found.ppv.low < 0.1
    assert found.ppv.high == 1


def test_a_target_between_two_counts_has_the_interval_of_the_lower() -> None:
    rate = Rate.measured(0.001, 446)
    assert (rate.value, rate.low, rate.high) == (0.001, *wilson(0, 446))
    assert Rate.measured(0.01, 446).low == wilson(4, 446)[0]
    assert Rate.measured(4 / 450, 450).low == wilson(4, 450)[0]  # 4 / 450 * 450 may fall short of 4


@pytest.mark.parametrize(("prevalence", "ppv", "npv"), [(0.0, 0.0, 1.0), (1.0, 1.0, 0.0)])
def test_the_ends_of_prevalence(prevalence: float, ppv: float, npv: float) -> None:
    found = worth(rates(0.9, 0.02), prevalence, 10)
    assert (found.ppv.value, found.npv.value) == (ppv, npv)
    assert found.flags_per_hit.value == (math.inf if ppv == 0 else 1)


@pytest.mark.parametrize(("flagged", "judged"), [(0, 50), (7, 50), (50, 50), (1200, 90_000)])
def test_rogan_gladen_solves_the_mixture(flagged: int, judged: int) -> None:
    """The estimate is the p at which p TPR + (1 - p) FPR is what was seen."""
    found = estimate_prevalence(flagged, judged, rates(0.9, 0.05))
    assert found.raw * 0.9 + (1 - found.raw) * 0.05 == pytest.approx(flagged / judged)
    assert found.value == min(1, max(0, found.raw))
    assert found.clipped == (found.value != found.raw)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_brucellosis_example() -> None:
    """epiR's manual, epi.prev: 23 of 150, sensitivity .96, specificity .89 -> 5.1 %; 6 of 151, .964, .927 -> 0."""
    assert estimate_prevalence(23, 150, rates(0.96, 0.11)).value == pytest.approx(0.051, abs=5e-4)
    clipped = estimate_prevalence(6, 151, rates(0.964, 0.073))
    assert clipped.value == 0
    assert clipped.clipped
    assert clipped.raw < 0


def test_lang_reiczigel_against_the_formula_in_fractions() -> None:
    """Eqs. 6, 7, 16, 17 of the paper with z = 2 taken apart by hand: 30 of 96, Se 8/8, Sp 18/18.

    With z^2 = 4: n' = 100, AP' = 32/100, Se' = 9/10, Sp' = 19/20, P' = (.32 + .95 - 1) / .85 = 27/85.
    """
    z2 = Fraction(4)
    p = Fraction(27, 85)
    shift = 2 * z2 * (p * Fraction(9, 100) / 10 - (1 - p) * Fraction(19, 400) / 20)
    variance = (
        Fraction(32 * 68, 10_000) / 100 + p**2 * Fraction(9, 1000) + (1 - p) ** 2 * Fraction(19, 8000)
    ) / Fraction(85, 100) ** 2
    import faceproof.prevalence as module

    given = Rates(Rate(1.0, 8, 0, 1), Rate(0.0, 18, 0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Z", 2.0)
        found = estimate_prevalence(30, 96, given)
    half = 2 * math.sqrt(variance)
    assert found.low == pytest.approx(float(p + shift) - half, abs=1e-12)
    assert found.high == pytest.approx(float(p + shift) + half, abs=1e-12)


@pytest.mark.parametrize(
    ("prevalence", "tpr", "fpr", "judged", "generated", "photographs"),
    [(0.3, 0.85, 0.2, 300, 60, 60), (0.02, 0.8, 0.01, 3000, 310, 450), (0.001, 0.8, 0.01, 20_000, 310, 450)],
)
def test_lang_reiczigel_covers(
    prevalence: float, tpr: float, fpr: float, judged: int, generated: int, photographs: int
) -> None:
    """Simulated: at least 93.5 % of intervals hold the truth, and at least as many as the delta method's."""
    rng, rounds = np.random.default_rng(1), 2000
    ours = theirs = 0
    for _ in range(rounds):
        drawn = rates(
            rng.binomial(generated, tpr) / generated,
            rng.binomial(photographs, fpr) / photographs,
            generated,
            photographs,
        )
        found = estimate_prevalence(rng.binomial(judged, prevalence * tpr + (1 - prevalence) * fpr), judged, drawn)
        ours += found.low <= prevalence <= found.high
        theirs += found.delta_low <= prevalence <= found.delta_high
    assert ours / rounds >= 0.935
    assert ours >= theirs


def test_the_delta_method_with_known_rates_is_the_binomial_one() -> None:
    """Rates known for certain: the interval is the apparent share's Wald interval over the Youden index."""
    found = estimate_prevalence(60, 400, rates(0.9, 0.05, 10**9, 10**9))
    half = 1.959964 * math.sqrt(0.15 * 0.85 / 400) / 0.85
    assert found.delta_high - found.delta_low == pytest.approx(2 * half, rel=1e-3)


@pytest.mark.parametrize(
    ("flagged", "judged", "given", "message"),
    [
        (0, 0, rates(0.9, 0.1), "no picture was judged"),
        (5, 4, rates(0.9, 0.1), r"must be 0\.\.4, not 5"),
        (1, 4, rates(0.3, 0.7), "add up to no more than 1"),
        (1, 4, rates(0.3, 0.8), "add up to no more than 1"),
        (1, 4, rates(0.1, 0.05, 1000, 10), "rest on too few pictures"),
    ],
)
def test_what_cannot_be_estimated(flagged: int, judged: int, given: Rates, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        estimate_prevalence(flagged, judged, given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-0.1, 5), "between 0 and 1"), ((float("nan"), 5), "between 0"), ((0.5, -1), "negative")],
)
def test_impossible_worth(arguments: tuple[float, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        worth(rates(0.9, 0.1), *arguments)
    with pytest.raises(UsageError, match="a rate lies in"):
        Rate.measured(1.2, 5)


def test_the_card_gives_the_rates(card: Card) -> None:
    stated: Any = card.raw["metrics"]
    for split in ("val", "unseen"):
        found = rates_of(card, card.point(), split)
        assert found.tpr.value == stated[split]["tpr_at_threshold"]
        assert (found.tpr.low, found.tpr.high) == wilson(
            round(found.tpr.value * stated[split]["generated"]), stated[split]["generated"]
        )
        assert (found.fpr.value, found.fpr.count) == (card.point().fpr, card.point().photographs)
    with pytest.raises(UsageError, match="states no detection rate.*0.001"):
        rates_of(card, card.point(0.001))
    bare = replace(card, raw={**card.raw, "metrics": {"val": {"auc": 0.9}}})
    with pytest.raises(UsageError, match="states no detection rate"):
        rates_of(bare, bare.point())


def test_the_tally_counts_flags_not_verdicts(card: Card) -> None:
    tally, limit = Tally(None, None, 0.001), card.point().threshold
    record = {"model": card.identity, "score": limit, "verdict": "inconclusive"}
    for change in (
        {},
        {"score": round(limit, 6)},
        {"score": limit - 0.1, "verdict": "photograph"},
        {"score": 99.0, "verdict": "generated"},
        {"score": None, "verdict": "inconclusive"},
        {"model": "another 1 (0123)", "score": 99.0},
    ):
        tally.add({**record, **change})
    found = tally.summary()
    assert (found.judged, found.flagged, found.called, found.other_models) == (4, 3, 1, 1)
    assert any("another model" in note for note in found.notes)
    assert [case.split for case in found.cases] == ["val", "unseen"]
    raw = found.to_dict()
    assert json.loads(json.dumps(raw, allow_nan=False)) == raw
    assert raw["schema"] == SCHEMA
    assert raw["cases"][0]["worth"]["prevalence"] == 0.001


def test_an_empty_scan_says_so() -> None:
    found = Tally(None, None).summary()
    assert found.cases[0].estimate is None
    assert found.cases[0].worth is None
    assert "no picture was judged" in found.cases[0].why
    assert Tally(None, 0.001).summary().cases == ()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_the_command(tmp_path: Path, astronaut: RGB, card: Card, ending: str) -> None:
    for number in range(4):
        Image.fromarray(astronaut[:, number : number + 500]).save(tmp_path / f"{number}.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "9.png")
    out, file = tmp_path / f"out{ending}", tmp_path / "sum.json"
    arguments = ("scan", tmp_path / "0.png", tmp_path / "9.png", "--out", out)
    assert run_cli(*arguments).returncode == 0
    done = run_cli(
        "scan", *sorted(tmp_path.glob("*.png")), "--out", out, "--prevalence", "0.0005", "--summary", file, "-j", "1"
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "false alarms to expect",
        "flags that are right (PPV)",
        "if 0.05 % of the faces",
        "prevalence, by this scan",
    ):
        assert text in done.stderr
    raw = json.loads(file.read_text())
    assert raw["judged"] == 4  # those of the first run too, the black picture not
    assert raw["model"] == card.identity
    if ending == ".jsonl":
        scores = [record["score"] for record in read_records(out) if record["score"] is not None]
        assert raw["flagged"] == sum(score >= card.point().threshold for score in scores)
    case = raw["cases"][0]
    assert case["worth"]["false_alarms"]["value"] == pytest.approx(4 * 0.9995 * card.point().fpr)
    assert case["estimate"]["judged"] == 4
    silent = run_cli("scan", *sorted(tmp_path.glob("*.png")), "--out", out, "--summary", file, "-q")
    assert (silent.returncode, silent.stderr) == (0, "")
    assert json.loads(file.read_text())["cases"][0]["worth"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prevalence", "5"], "between 0 and 1, such as 0.0005, not 5"),
        (["--prevalence", "0"], "between 0 and 1"),
        (["--prevalence", "nan"], "between 0 and 1"),
        (["--summary", "nowhere/s.json"], "lies in none"),
        (["--summary", "."], "is a folder"),
        (["--summary", "out.jsonl"], "are the same file"),
    ],
)
def test_wrong_use_is_said_before_the_scan(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run_cli("scan", "none.jpg", "--out", "out.jsonl", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
