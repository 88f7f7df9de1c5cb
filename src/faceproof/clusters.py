"""Clusters of near-duplicates that do not chain, and DBSCAN's, which do.

`medoid` clusters: medoids are hashes no two of which lie within the radius, taken in order of how many pictures do
lie within it (the lexicographically first maximal independent set; equal numbers: the smaller hash). Every other
hash within the radius of a medoid belongs to the nearest one. So no member is further than the radius from its
medoid, two members are at most twice the radius apart, and neither the order of the pictures nor chance matters.

`dbscan` clusters (FIELD.md 1.1): everything that a chain of steps within the radius joins. That is DBSCAN with
min_samples = 2, where every point with a neighbour is a core point, so that clusters are connected components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError, unknown_name
from faceproof.hashing import INVERSES, Hashes, distance
from faceproof.neighbours import Pairs, check_radius, close_pairs

__all__ = ["METHODS", "Clusters", "check_choice", "cluster"]

METHODS = ("medoid", "dbscan")
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clusters:
    """Which pictures look alike.

    Attributes:
        labels: (N,) int64; clusters are 1, 2, ... from the largest to the smallest (equal sizes: smaller hash of
            the medoid first); 0 is in none, being alone, flat or left out.
        distances: (N,) int64, bits to the medoid of the own cluster, the nearest view counting; -1 in none.
        views: (N,) int64, which of `hashing.VIEWS` of the picture is nearest to the medoid; 0 in none.
        sizes: (C,) int64, pictures in each cluster, [0] for cluster 1.
        medoids: (C, W) uint64, the hash in the middle of each cluster.
    """

    labels: Index
    distances: Index
    views: Index
    sizes: Index
    medoids: Hashes


@dataclass(frozen=True)
class _Nodes:
    """Pictures with the same hashes are one node: copies without end cost nothing.

    Attributes:
        hashes: (M, V, W) uint64, ascending. of: (N,) node of each picture. counts: (M,) pictures of each.
        first, second, bits: (P,) nodes within the radius of each other.
        rank: (M,) 0 for the node with the most pictures within the radius, its own included.
    """

    hashes: Hashes
    of: Index
    counts: Index
    first: Index
    second: Index
    bits: Index
    rank: Index


def cluster(
    hashes: Hashes,
    radius: int,
    *,
    method: str = "medoid",
    skip: npt.NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Clusters:
    """Cluster pictures by their hashes.

    Args:
        hashes: (N, V, W) uint64; V = 1, or 8 in the order of `hashing.VIEWS`: then two pictures are as far apart
            as the one is from the nearest view of the other.
        radius: bits, 0 or more, within which pictures count as the same.
        method: "medoid" or "dbscan".
        skip: (N,) bool, pictures to leave out of every cluster (flat, not readable).
        progress: called with steps done and in all.

    Raises:
        UsageError: no such method, a radius that cannot be searched, or too many pairs.
    """
    if hashes.ndim != 3 or hashes.dtype != np.uint64:
        raise UsageError(f"hashes must be uint64 (pictures, views, words), not {hashes.dtype} {hashes.shape}")
    check_choice(radius, method, hashes.shape[2])
    kept = np.arange(len(hashes)) if skip is None else np.flatnonzero(~skip)
    nodes = _nodes(hashes[kept], radius, progress)
    medoid_of = _nearest_medoids(nodes) if method == "medoid" else _components(nodes)
    return _numbered(nodes, medoid_of, kept, len(hashes))


def check_choice(radius: int, method: str, words: int) -> None:
    """Say what is wrong with a choice before the work begins.

    Args:
        radius, method: of `cluster`.
        words: of 64 bits in a hash.

    Raises:
        UsageError: no such method, or a radius of no use.
    """
    if method not in METHODS:
        raise unknown_name("method", method, list(METHODS))
    check_radius(radius, words)


def _nodes(hashes: Hashes, radius: int, progress: Callable[[int, int], None]) -> _Nodes:
    count, views, words = hashes.shape
    rows, of, counts = _unique_rows(hashes.reshape(count, views * words))
    unique = rows.reshape(len(rows), views, words)
    # With views: each upright hash against all views of all others.
    wanted = None if views == 1 else np.tile(np.arange(views) == 0, len(unique))
    pairs = close_pairs(unique.reshape(-1, words), radius, wanted=wanted, progress=progress)
    first, second, bits = _between(pairs, views, len(unique))
    near = counts.copy()
    np.add.at(near, first, counts[second])
    np.add.at(near, second, counts[first])
    rank = np.empty(len(unique), np.int64)
    rank[np.argsort(-near, kind="stable")] = np.arange(len(unique))  # nodes ascend by hash: so do equal numbers
    return _Nodes(unique, of, counts, first, second, bits, rank)


def _unique_rows(rows: Hashes) -> tuple[Hashes, Index, Index]:
    """Distinct rows in ascending order, which of them each row is, and how often each is there."""
    if not len(rows):
        return rows, np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.lexsort(rows.T[::-1]) if rows.shape[1] > 1 else np.argsort(rows[:, 0])
    ordered = rows[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    number = np.cumsum(new) - 1
    of = np.empty(len(rows), np.int64)
    of[order] = number
    return ordered[new], of, np.bincount(number).astype(np.int64)


def _between(pairs: Pairs, views: int, count: int) -> tuple[Index, Index, Index]:
    """Pairs of nodes from pairs of their views: each once, at the smallest distance."""
    if views == 1:
        return pairs.first, pairs.second, pairs.distance.astype(np.int64)
    low = np.minimum(pairs.first, pairs.second) // views
    high = np.maximum(pairs.first, pairs.second) // views
    others = low != high  # a symmetric picture is near its own mirror image
    low, high, bits = low[others], high[others], pairs.distance[others].astype(np.int64)
    order = np.lexsort((bits, high, low))
    low, high, bits = low[order], high[order], bits[order]
    key = low * count + high
    new = np.concatenate([np.ones(min(1, len(key)), bool), key[1:] != key[:-1]])
    return low[new], high[new], bits[new]


def _nearest_medoids(nodes: _Nodes) -> Index:
    """The medoid of each node: itself, or the nearest one (equally near: the one of lower rank)."""
    medoid = _first_independent_set(nodes)
    count = len(nodes.rank)
    best = np.full(count, np.iinfo(np.int64).max)
    best[medoid] = nodes.rank[medoid]  # distance 0, and no other medoid is as near
    for one, other in ((nodes.first, nodes.second), (nodes.second, nodes.first)):
        link = medoid[one] & ~medoid[other]
        np.minimum.at(best, other[link], nodes.bits[link] * count + nodes.rank[one[link]])
    by_rank = np.argsort(nodes.rank)
    return np.asarray(by_rank[best % max(count, 1)])


def _first_independent_set(nodes: _Nodes) -> npt.NDArray[np.bool_]:
    """Go through the nodes by rank and take each that has no neighbour taken before; here in parallel rounds.

    In a round every undecided node that precedes its undecided neighbours is taken, and these are out. That
    gives the same set as going through one by one (Blelloch, Fineman and Shun 2012).
    """
    taken = np.zeros(len(nodes.rank), bool)
    undecided = np.ones(len(nodes.rank), bool)
    first, second = nodes.first, nodes.second
    while True:
        before = nodes.rank.copy()
        np.minimum.at(before, first, nodes.rank[second])
        np.minimum.at(before, second, nodes.rank[first])
        taken |= undecided & (before == nodes.rank)
        undecided &= ~taken
        undecided[second[taken[first]]] = False
        undecided[first[taken[second]]] = False
        open_ = undecided[first] & undecided[second]
        first, second = first[open_], second[open_]
        if not undecided.any():
            return taken


def _components(nodes: _Nodes) -> Index:
    """The node of lowest rank in each node's connected component."""
    by_rank = np.argsort(nodes.rank)
    # Nodes go by their rank here, so that a component's label shrinks to its lowest rank.
    first, second = nodes.rank[nodes.first], nodes.rank[nodes.second]
    label = np.arange(len(nodes.rank))
    while True:
        low = np.minimum(label[first], label[second])
        hooked = label.copy()
        np.minimum.at(hooked, label[first], low)
        np.minimum.at(hooked, label[second], low)
        while not np.array_equal(shorter := hooked[hooked], hooked):
            hooked = shorter
        if np.array_equal(hooked, label):
            return np.asarray(by_rank[label[nodes.rank]])
        label = hooked


def _numbered(nodes: _Nodes, medoid_of: Index, kept: Index, total: int) -> Clusters:
    """From the medoid of each node to the cluster of each picture."""
    pictures = np.bincount(medoid_of, nodes.counts, len(nodes.rank)).astype(np.int64)
    medoids = np.flatnonzero(pictures > 1)
    medoids = medoids[np.argsort(-pictures[medoids], kind="stable")]
    number = np.zeros(len(nodes.rank), np.int64)
    number[medoids] = np.arange(1, len(medoids) + 1)
    upright = nodes.hashes[:, 0]
    apart = distance(nodes.hashes, upright[medoid_of][:, None]).astype(np.int64)
    if apart.shape[1] > 1:  # the medoid may be turned as well as the member
        apart = np.minimum(apart, distance(nodes.hashes[medoid_of], upright[:, None])[:, list(INVERSES)])
    view = apart.argmin(axis=1) if len(apart) else np.zeros(0, np.int64)
    nearest = np.take_along_axis(apart, view[:, None], 1)[:, 0]
    labels, distances, views = np.zeros(total, np.int64), np.full(total, -1, np.int64), np.zeros(total, np.int64)
    labels[kept] = number[medoid_of][nodes.of]
    clustered = labels[kept] > 0
    distances[kept[clustered]] = nearest[nodes.of][clustered]
    views[kept[clustered]] = view[nodes.of][clustered]
    return Clusters(labels, distances, views, pictures[medoids], upright[medoids])
