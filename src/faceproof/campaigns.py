"""Accounts that belong together: groups of different kinds that share more accounts than chance lets them.

A group is a set of accounts that have one thing in common: copies of one picture, copies of one text, posts about one
thing, a creation time in the same burst, a flagged picture. One such thing means little: jokes, sayings and favourite
pictures are copied by everyone. Two groups of different kinds that share many accounts mean more: the chance that
random groups of their sizes share as many is hypergeometric, and is corrected for the number of pairs looked at.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from faceproof.errors import UsageError
from faceproof.extras import require

__all__ = ["Campaign", "Group", "Link", "find_campaigns"]

SAME = 0.5
"""Two findings that share more than this of the smaller one are one campaign."""


@dataclass(frozen=True)
class Group:
    """Accounts with one thing in common.

    Attributes:
        kind: groups of the same kind are never held against each other.
        name: for a person.
        members: numbers of accounts.
    """

    kind: str
    name: str
    members: frozenset[int]


@dataclass(frozen=True)
class Link:
    """Two groups that share too many accounts: how many, how many to expect, and log10 of the corrected chance."""

    first: Group
    other: Group
    shared: int
    expected: float
    log10_p: float


@dataclass(frozen=True)
class Campaign:
    """One campaign.

    Attributes:
        number: 1 for the one with most kinds of evidence, and among these the least likely by chance.
        members: numbers of accounts, those that two linked groups share.
        links: the evidence, least likely first.
    """

    number: int
    members: frozenset[int]
    links: tuple[Link, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of evidence."""
        return tuple(sorted({group.kind for link in self.links for group in (link.first, link.other)}))


def find_campaigns(
    groups: Iterable[Group],
    accounts: int,
    *,
    minimum: int = 3,
    chance: float = 1e-3,
    tried: Mapping[str, int] | None = None,
) -> tuple[Campaign, ...]:
    """Return the campaigns, ranked.

    Args:
        groups: of all kinds.
        accounts: in all; groups are subsets of them.
        minimum: accounts that two groups share at least.
        chance: up to which a corrected p counts.
        tried: kind -> how many groups were possible, where those given were picked among more (windows of time).

    Raises:
        UsageError: a minimum below 2, a chance outside 0..1, or a group larger than all accounts.
    """
    if minimum < 2 or not 0 < chance < 1:
        raise UsageError(f"a campaign has at least 2 accounts and a chance between 0 and 1, not {minimum}, {chance}")
    usable = [group for group in groups if len(group.members) >= minimum]
    if any(len(group.members) > accounts for group in usable):
        raise UsageError(f"a group has more members than there are accounts ({accounts})")
    links = _links(usable, accounts, minimum, chance, tried or {})
    return _ranked(_joined(links))


def _links(groups: Sequence[Group], accounts: int, minimum: int, chance: float, tried: Mapping[str, int]) -> list[Link]:
    # Only groups that meet in an account can share any: they are found by account, not pair by pair.
    of: defaultdict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        for member in group.members:
            of[member].append(number)
    shared: defaultdict[tuple[int, int], int] = defaultdict(int)
    for numbers in of.values():
        for place, a in enumerate(numbers):
            for b in numbers[place + 1 :]:
                if groups[a].kind != groups[b].kind:
                    shared[a, b] += 1
    kinds: defaultdict[str, int] = defaultdict(int)
    for group in groups:
        kinds[group.kind] += 1
    kinds.update({kind: max(number, kinds[kind]) for kind, number in tried.items() if kind in kinds})
    pairs = (sum(kinds.values()) ** 2 - sum(n * n for n in kinds.values())) // 2
    hypergeometric = require("study", "scipy.stats").hypergeom
    found = []
    for (a, b), count in shared.items():
        if count < minimum:
            continue
        sizes = len(groups[a].members), len(groups[b].members)
        log_p = float(hypergeometric.logsf(count - 1, accounts, *sizes)) / math.log(10) + math.log10(pairs)
        if log_p <= math.log10(chance):
            expected = sizes[0] * sizes[1] / accounts
            found.append(Link(groups[a], groups[b], count, expected, max(log_p, -999.0)))
    return sorted(found, key=lambda link: (link.log10_p, -link.shared, link.first.name, link.other.name))


def _joined(links: Iterable[Link]) -> list[tuple[set[int], list[Link]]]:
    campaigns: list[tuple[set[int], list[Link]]] = []
    for link in links:
        members = link.first.members & link.other.members
        for own, evidence in campaigns:
            if len(own & members) > SAME * min(len(own), len(members)):
                # A weaker link between the same kinds (a wider window) is evidence, but brings no more members.
                if (link.first.kind, link.other.kind) not in {(e.first.kind, e.other.kind) for e in evidence}:
                    own.update(members)
                evidence.append(link)
                break
        else:
            campaigns.append((set(members), [link]))
    return campaigns


def _ranked(found: Iterable[tuple[set[int], list[Link]]]) -> tuple[Campaign, ...]:
    made = [Campaign(0, frozenset(members), tuple(links)) for members, links in found]
    made.sort(key=lambda one: (-len(one.kinds), one.links[0].log10_p, -len(one.members), min(one.members)))
    return tuple(Campaign(number, one.members, one.links) for number, one in enumerate(made, 1))
