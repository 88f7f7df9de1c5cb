"""All pairs of hashes within a Hamming radius, exactly: multi-index hashing in sorted tables.

Cut the bits into radius + k blocks: two hashes within the radius agree in at least k of them (pigeonhole). So for
every choice of k blocks, hashes are sorted by these blocks' bits, and those that agree in them lie side by side
(Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling", WWW 2007, section 4). Larger k means more
tables and fewer pairs to look at in each. Memory grows with the number of hashes and of pairs found, no more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.hashing import Hashes, distance

__all__ = ["MAX_PAIRS", "Pairs", "check_radius", "close_pairs"]

Index = npt.NDArray[np.int64]
MAX_PAIRS = 200_000_000
"""Pairs that are kept before the search gives up: about 5 GB with what clustering needs."""
_MAX_TABLES = 600
_SORTED, _COMPARED = 10.0, 2.0
"""Cost of one hash in a sort and of one pair in a comparison, in the same unit; measured, on ratios only."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of hashes.

    Attributes:
        first, second: (P,) int64, places in the array searched; no pair appears twice, none with itself.
        distance: (P,) uint16, bits.
    """

    first: Index
    second: Index
    distance: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.first)


def close_pairs(
    hashes: Hashes,
    radius: int,
    *,
    wanted: npt.NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    max_pairs: int = MAX_PAIRS,
) -> Pairs:
    """Find every pair of hashes within `radius` bits of each other.

    Args:
        hashes: (N, W) uint64. Equal rows count as pairs at distance 0: leave repeats out where there are many.
        radius: bits, 0 or more.
        wanted: (N,) bool; pairs of two hashes that are both not wanted are left out.
        progress: called with tables done and in all.
        max_pairs: give up beyond so many.

    Raises:
        UsageError: the radius is negative or too large, or there are more pairs than `max_pairs`.
    """
    count, words = hashes.shape
    check_radius(radius, words)
    agreeing = _agreeing_blocks(count, radius, 64 * words)
    masks = _block_masks(radius + agreeing, words)
    choices = list(itertools.combinations(range(radius + agreeing), agreeing))
    found: list[Pairs] = []
    total = 0
    for done, chosen in enumerate(choices):
        progress(done, len(choices))
        part = _table(hashes, radius, masks, chosen, wanted, max_pairs - total)
        total += len(part)
        found.append(part)
    progress(len(choices), len(choices))
    return Pairs(
        np.concatenate([part.first for part in found]),
        np.concatenate([part.second for part in found]),
        np.concatenate([part.distance for part in found]),
    )


def check_radius(radius: int, words: int) -> None:
    """Refuse a radius that says nothing about hashes of so many words.

    Raises:
        UsageError: it is negative or too large.
    """
    if not 0 <= radius < 64 * words:
        raise UsageError(f"the radius must lie from 0 to {64 * words - 1} bits, not {radius}")


def _agreeing_blocks(count: int, radius: int, bits: int) -> int:
    """The number k of blocks that must agree: sorting in all tables against comparing in all of them."""
    costs = {}
    for agreeing in range(1, 5):
        tables = math.comb(radius + agreeing, agreeing)
        if tables > _MAX_TABLES or radius + agreeing > bits:
            break
        pairs = count * count / 2 ** (1 + bits * agreeing / (radius + agreeing))
        costs[agreeing] = tables * (_SORTED * count + _COMPARED * pairs)
    return min(costs, key=lambda agreeing: costs[agreeing])


def _block_masks(blocks: int, words: int) -> Hashes:
    """(blocks, W) uint64: every bit in one block. Neighbouring bits, which go together, into different ones."""
    masks = np.zeros((blocks, words), np.uint64)
    for bit in range(64 * words):
        masks[bit % blocks, bit // 64] |= np.uint64(1) << np.uint64(bit % 64)
    return masks


def _table(
    hashes: Hashes,
    radius: int,
    masks: Hashes,
    chosen: tuple[int, ...],
    wanted: npt.NDArray[np.bool_] | None,
    room: int,
) -> Pairs:
    """Pairs that agree in the chosen blocks and in no earlier choice of blocks."""
    key = _key(hashes & np.bitwise_or.reduce(masks[list(chosen)]))
    order = np.argsort(key)
    key = key[order]
    # A pair is found in every table whose blocks agree. It counts in the first, where no earlier block agrees too.
    earlier = masks[[block for block in range(chosen[-1]) if block not in chosen]]
    parts: list[tuple[Index, Index, npt.NDArray[np.uint16]]] = []
    step, total = 1, 0
    # Places whose key is the same `step` places on; each step's lie among the step's before.
    places = np.flatnonzero(key[1:] == key[:-1])
    while len(places):
        first, second = order[places], order[places + step]
        if wanted is not None:
            some = wanted[first] | wanted[second]
            first, second = first[some], second[some]
        bits = distance(hashes[first], hashes[second])
        near = bits <= radius
        first, second, bits = first[near], second[near], bits[near]
        differing = hashes[first] ^ hashes[second]
        fresh = np.ones(len(first), bool)
        for mask in earlier:
            fresh &= (differing & mask).any(axis=1)
        parts.append((first[fresh], second[fresh], bits[fresh]))
        total += len(parts[-1][0])
        if total > room:
            raise UsageError(
                f"more than {room:,} pairs lie within {radius} bits; give a smaller radius, or look at what the "
                "pictures have in common (--radius 0 joins equal hashes only)"
            )
        step += 1
        places = places[places + step < len(key)]
        places = places[key[places + step] == key[places]]
    firsts, seconds, distances = zip(*parts, strict=True) if parts else ((), (), ())
    return Pairs(
        np.concatenate([np.zeros(0, np.int64), *firsts]),
        np.concatenate([np.zeros(0, np.int64), *seconds]),
        np.concatenate([np.zeros(0, np.uint16), *distances]),
    )


def _key(masked: Hashes) -> Hashes:
    """One word for each row. Several words may coincide in it: that costs a comparison and loses nothing."""
    if masked.shape[1] == 1:
        return masked[:, 0]
    odd = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)
    return np.asarray((masked * odd[: masked.shape[1]]).sum(axis=1, dtype=np.uint64))
