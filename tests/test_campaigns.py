"""Planted campaigns are found, decoys are not, and chance stays within its bound."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest
from scipy import stats

from faceproof.campaigns import Group, find_campaigns
from faceproof.errors import UsageError
from tests.platforms import START, platform, study_of


def _group(kind: str, members: Iterable[int], name: str = "") -> Group:
    return Group(kind, name or kind, frozenset(members))


def test_one_pair_by_hand() -> None:
    groups = [_group("picture", range(10)), _group("text", range(4, 24)), _group("text", range(30, 60), "other")]
    (found,) = find_campaigns(groups, 1000)
    (link,) = found.links
    assert found.members == frozenset(range(4, 10))
    assert found.kinds == ("picture", "text")
    assert (link.shared, link.expected) == (6, pytest.approx(0.2))
    # Two pairs of different kinds were possible.
    assert link.log10_p == pytest.approx(math.log10(2 * stats.hypergeom.sf(5, 1000, 10, 20)))
    assert find_campaigns(groups, 1000, tried={"picture": 10**9}) == ()
    assert find_campaigns(groups, 1000, minimum=7) == ()


def test_groups_of_one_kind_never_make_a_campaign() -> None:
    assert find_campaigns([_group("text", range(10)), _group("text", range(10), "b")], 1000) == ()


def test_findings_about_the_same_accounts_are_one_campaign() -> None:
    groups = [_group("picture", range(20)), _group("text", range(20)), _group("flagged", range(18)),
              _group("picture", range(100, 104), "b"), _group("text", range(100, 104), "b")]  # fmt: skip
    found = find_campaigns(groups, 10_000)
    assert [(one.number, len(one.members), one.kinds) for one in found] == [
        (1, 20, ("flagged", "picture", "text")), (2, 4, ("picture", "text")),
    ]  # fmt: skip


def test_chance_alone_gives_nothing() -> None:
    """At 1e-3 for a whole platform, 60 platforms of random groups should have none."""
    rng = random.Random(0)
    for _ in range(60):
        groups = [
            _group(kind, rng.sample(range(2000), rng.randint(3, 80)), f"{kind} {n}")
            for kind in ("picture", "text", "created") for n in range(15)
        ]  # fmt: skip
        assert find_campaigns(groups, 2000) == ()


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least 2 accounts"):
        find_campaigns([], 10, minimum=1)
    with pytest.raises(UsageError, match="more members than there are accounts"):
        find_campaigns([_group("text", range(10))], 5)
    assert find_campaigns([], 10) == ()


@pytest.mark.parametrize("seed", range(3))
def test_planted_campaigns_are_found_and_decoys_are_not(seed: int) -> None:
    """Precision and recall by account; 60 favourite pictures and sayings and a busy day are there to mislead."""
    accounts = platform(seed)
    study = study_of(accounts)
    planted = {n for n, one in enumerate(accounts) if one.campaign}
    found = {member for one in study.campaigns for member in one.members}
    precision, recall = len(found & planted) / len(found), len(found & planted) / len(planted)
    print(f"seed {seed}: precision {precision:.3f}, recall {recall:.3f}, {len(study.campaigns)} campaigns")
    assert precision >= 0.97
    assert recall >= 0.95
    for name in "ABCD":
        own = {n for n, one in enumerate(accounts) if one.campaign == name}
        best = max(study.campaigns, key=lambda one: len(one.members & own))
        assert len(best.members & own) >= 0.75 * len(own), name  # of B the flagged ones, nine in ten by chance
    assert {accounts[n].campaign for n in study.campaigns[0].members} == {"A"}  # most kinds of evidence


def test_a_platform_without_campaigns_has_none() -> None:
    for seed in range(3):
        assert study_of([one for one in platform(seed, 2000) if not one.campaign]).campaigns == ()


def test_flagged_accounts_are_compared() -> None:
    study = study_of(platform(0))
    found = {one.name: one for one in study.comparisons}
    assert found["followers"].effect < -0.3
    assert found["followers"].q < 1e-6
    assert found["picture copied by another account"].effect > 0.2
    assert study.seen.summary.flagged == study.states["flagged"]
    assert any(burst.first <= (2100 * 86400 + START - study.first_day) // 86400 <= burst.last for burst in study.bursts)
