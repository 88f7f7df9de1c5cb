"""Prompt sets: balanced at every length, repeatable, enlargeable; prices against hand-made sums."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof import UsageError
from faceproof.prices import RATES, cost_of, estimate
from faceproof.prompts import PORTRAITS, PromptSet, read_prompts, seed_of

SMALL = PromptSet("small", "{a} and {b}", {"a": {"1": "one", "2": "two"}, "b": {"x": "ex", "y": "why", "z": "zed"}})


@given(st.integers(1, 40), st.integers(0, 2**40))
def test_every_length_is_balanced(count: int, seed: int) -> None:
    drawn = SMALL.draw(count, seed)
    for trait, values in SMALL.traits.items():
        counts = Counter(dict.fromkeys(values, 0) | Counter(each.traits[trait] for each in drawn))
        assert max(counts.values()) - min(counts.values()) <= 1


def test_whole_rounds_hold_each_combination_once() -> None:
    for seed in range(5):
        assert Counter(each.text for each in SMALL.draw(18, seed)) == {
            f"{a} and {b}": 3 for a, b in itertools.product(("one", "two"), ("ex", "why", "zed"))
        }


def test_portraits_cross_age_sex_and_skin() -> None:
    drawn = PORTRAITS.draw(144, 3)
    for one, two in itertools.combinations(("age", "sex", "skin_tone"), 2):
        cells = Counter((each.traits[one], each.traits[two]) for each in drawn)
        sizes = len(PORTRAITS.traits[one]) * len(PORTRAITS.traits[two])
        assert len(cells) == sizes
        assert max(cells.values()) - min(cells.values()) <= 2
    assert len({each.text for each in drawn}) == 144
    assert all(words in drawn[0].text for trait, words in
               ((t, PORTRAITS.traits[t][drawn[0].traits[t]]) for t in PORTRAITS.traits))  # fmt: skip


def test_a_shorter_draw_begins_a_longer_one() -> None:
    assert PORTRAITS.draw(30, 7) == PORTRAITS.draw(60, 7)[:30]
    assert [each.text for each in PORTRAITS.draw(30, 7)] != [each.text for each in PORTRAITS.draw(30, 8)]
    assert len({seed_of(0, place) for place in range(10_000)}) > 9_990
    assert all(0 <= seed_of(seed, 0) < 2**31 for seed in range(100))


def test_files(tmp_path: Path) -> None:
    lines = tmp_path / "mine.txt"
    lines.write_text("\ufeffa face with {braces}\n\n  another face \n", encoding="utf-8")
    assert {each.text for each in read_prompts(lines).draw(2)} == {"a face with {braces}", "another face"}
    table = tmp_path / "mine.json"
    table.write_text(
        json.dumps({"template": "{sex}, {hair}", "traits": {"sex": {"female": "she"}, "hair": ["fair", "red"]}})
    )
    assert {each.text for each in read_prompts(table).draw(2)} == {"she, fair", "she, red"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "", "holds no prompt"),
        ("x.json", "{", "not a prompt set"),
        ("x.json", '{"template": "{a}", "traits": {}}', "a stand"),
        ("x.json", '{"template": "", "traits": {}}', "empty template"),
        ("x.json", '{"template": "{a}", "traits": {"a": []}}', "without values"),
        ("x.json", "[1]", "not a prompt set"),
        ("x.txt", "x" * 9000, "over 8000"),
        ("x.json", json.dumps({"template": "{a}{b}", "traits": {n: list(range(400)) for n in "ab"}}), "combinations"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_prompts(tmp_path / name)
    with pytest.raises(UsageError, match="cannot be read"):
        read_prompts(tmp_path / "absent.txt")


def test_prices_are_the_published_ones() -> None:
    """Dollars a picture of 1024 x 1024 as published for these models, without prompt tokens."""
    published = {
        ("gpt-image-2", "low"): 0.006, ("gpt-image-2", "medium"): 0.053, ("gpt-image-2", "high"): 0.211,
        ("gpt-image-1.5", "low"): 0.009, ("gpt-image-1.5", "medium"): 0.034, ("gpt-image-1.5", "high"): 0.133,
        ("gpt-image-1-mini", "low"): 0.005, ("gpt-image-1-mini", "high"): 0.036,
    }  # fmt: skip
    for (model, quality), price in published.items():
        assert RATES[model].output * RATES[model].tokens[quality] / 1e6 == pytest.approx(price, rel=0.01)


def test_estimates() -> None:
    kept = {"model": "gpt-image-2.6-flare", "size": "1024x1024", "quality": "medium", "sends_picture": False}
    known = estimate(10, **kept)
    # 120 prompt tokens at 5 and 1,767 of the picture at 30 dollars a million.
    assert known.total == pytest.approx(10 * (120 * 5 + 1767 * 30) / 1e6)
    assert estimate(10, **kept | {"size": "2048x1024"}).total == pytest.approx(10 * (120 * 5 + 2 * 1767 * 30) / 1e6)
    assert estimate(10, **kept | {"sends_picture": True}).total > known.total
    assert estimate(10, **kept, price=0.5).total == 5
    assert estimate(10, **kept | {"model": "gpt-image-25"}).total is None
    assert estimate(10, **kept, known=False).total is None
    assert estimate(0, **kept).total == 0
    with pytest.raises(UsageError, match="not a price"):
        estimate(1, **kept, price=-1)


def test_cost_by_the_servers_count() -> None:
    usage = {
        "input_tokens": 300,
        "output_tokens": 1000,
        "input_tokens_details": {"text_tokens": 100, "image_tokens": 200},
    }
    assert cost_of("gpt-image-2", usage) == pytest.approx((100 * 5 + 200 * 8 + 1000 * 30) / 1e6)
    assert cost_of("gpt-image-1.5", {"input_tokens": 0, "output_tokens": 10}) == pytest.approx(320 / 1e6)
    for broken in ({}, {"input_tokens": "x", "output_tokens": 1}, {"input_tokens": 1, "output_tokens": -1}):
        assert cost_of("gpt-image-2", broken) is None
    assert cost_of("other", usage) is None
