"""Near-duplicates: exact neighbours, clusters that do not chain, DBSCAN as others compute it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from faceproof import UsageError
from faceproof import neighbours as neighbours_module
from faceproof.clusters import cluster
from faceproof.hashing import Hashes, distance
from faceproof.neighbours import close_pairs


def _planted(rng: np.random.Generator, originals: int, copies: int, bits: int, words: int = 1) -> Hashes:
    """(originals + copies, W) hashes; each copy differs from a random original in exactly `bits` bits."""
    hashes = rng.integers(0, 2**64, (originals + copies, words), dtype=np.uint64)
    for place in range(originals, originals + copies):
        hashes[place] = hashes[rng.integers(originals)]
        for bit in rng.choice(64 * words, bits, replace=False):
            hashes[place, bit // 64] ^= np.uint64(1 << int(bit % 64))
    return hashes


def _all_distances(hashes: Hashes) -> np.ndarray:
    """(N, N) by counting the letters 1: nothing of what is tested."""
    numbers = [sum(int(word) << (64 * place) for place, word in enumerate(row)) for row in hashes]
    return np.array([[bin(a ^ b).count("1") for b in numbers] for a in numbers])


def _brute_force(hashes: Hashes, radius: int) -> set[tuple[int, int, int]]:
    apart = _all_distances(hashes)
    return {(a, b, int(apart[a, b])) for a, b in itertools.combinations(range(len(hashes)), 2) if apart[a, b] <= radius}


@pytest.mark.parametrize(("words", "radius"), [(1, 0), (1, 3), (1, 9), (4, 0), (4, 5), (4, 31)])
@pytest.mark.parametrize("agreeing", [None, 1, 2, 3])
def test_every_pair_is_found_once(
    words: int, radius: int, agreeing: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if radius == 31 and agreeing == 3:
        pytest.skip("more tables than are ever taken")
    if agreeing is not None:
        monkeypatch.setattr(neighbours_module, "_agreeing_blocks", lambda *_: agreeing)
    rng = np.random.default_rng(radius)
    hashes = np.concatenate([_planted(rng, 40, 60, bits, words) for bits in (radius, radius + 1)])
    hashes[7] = hashes[3]  # equal ones are a pair too
    pairs = close_pairs(hashes, radius)
    low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    found = list(zip(low.tolist(), high.tolist(), pairs.distance.tolist(), strict=True))
    assert len(set(found)) == len(found)
    assert set(found) == _brute_force(hashes, radius)


def test_the_number_of_blocks_follows_the_number_of_hashes() -> None:
    chosen = [neighbours_module._agreeing_blocks(count, 3, 64) for count in (10**3, 10**6, 10**8)]
    assert chosen[0] == 1
    assert chosen == sorted(chosen)
    assert chosen[-1] > 1


def test_pairs_of_two_that_are_not_wanted_are_left_out() -> None:
    hashes = _planted(np.random.default_rng(0), 20, 60, 2)
    wanted = np.arange(80) % 3 == 0
    pairs = close_pairs(hashes, 4, wanted=wanted)
    found = {frozenset(pair) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    assert found == {frozenset((a, b)) for a, b, _ in _brute_force(hashes, 4) if wanted[a] or wanted[b]}


def test_searches_that_cannot_end_well_are_refused() -> None:
    hashes = _planted(np.random.default_rng(0), 1, 200, 1)
    with pytest.raises(UsageError, match="more than 10 pairs lie within 2 bits"):
        close_pairs(hashes, 2, max_pairs=10)
    with pytest.raises(UsageError, match="from 0 to 63 bits, not 64"):
        close_pairs(hashes, 64)
    with pytest.raises(UsageError, match="from 0 to 63 bits, not -1"):
        close_pairs(hashes, -1)
    assert len(close_pairs(np.zeros((0, 1), np.uint64), 3)) == 0


hash_lists = st.lists(
    # Few bits in use: neighbours, chains and repeats are common.
    st.integers(0, 255).map(lambda low: low | (low << 40)),
    min_size=0,
    max_size=40,
).map(lambda numbers: np.array(numbers, np.uint64).reshape(-1, 1, 1))


@given(hash_lists, st.integers(0, 6), st.randoms())
@settings(max_examples=60)
def test_medoid_clusters_do_not_chain_and_do_not_depend_on_order(hashes: Hashes, radius: int, random: object) -> None:
    found = cluster(hashes, radius)
    numbers = hashes[:, 0]
    apart = _all_distances(numbers) if len(numbers) else np.zeros((0, 0))
    for label in range(1, len(found.sizes) + 1):
        members = np.flatnonzero(found.labels == label)
        medoid = found.medoids[label - 1]
        assert len(members) == found.sizes[label - 1] >= 2
        assert list(distance(numbers[members], medoid)) == list(found.distances[members])
        assert found.distances[members].max() <= radius
        assert 0 in found.distances[members]  # the medoid is one of the pictures
        assert apart[np.ix_(members, members)].max() <= 2 * radius
    assert list(found.sizes) == sorted(found.sizes, reverse=True)
    between = _all_distances(found.medoids) if len(found.medoids) else np.zeros((0, 0))
    assert (between + (radius + 1) * np.eye(len(between)) > radius).all()
    # Every picture belongs to its nearest medoid, and one that is near a medoid is in a cluster.
    for place, label in enumerate(found.labels):
        near = distance(found.medoids, numbers[place]) if len(found.medoids) else np.zeros(0)
        if label:
            assert found.distances[place] == near.min()
        else:
            assert found.distances[place] == -1
            assert (near > radius).all()
    order = list(range(len(hashes)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = cluster(hashes[order], radius)
    assert list(again.labels) == list(found.labels[order])
    assert list(again.distances) == list(found.distances[order])


def _one_by_one(hashes: Hashes, radius: int) -> list[tuple[int, ...]]:
    """The definition of medoid clusters, in loops: partition as sorted tuples of places."""
    numbers = [int(h) for h in hashes[:, 0, 0]]
    near = {a: sum(bin(a ^ b).count("1") <= radius for b in numbers) for a in set(numbers)}
    medoids: list[int] = []
    for one in sorted(near, key=lambda a: (-near[a], a)):
        if all(bin(one ^ m).count("1") > radius for m in medoids):
            medoids.append(one)
    groups: dict[int, list[int]] = {}
    for place, one in enumerate(numbers):
        # medoids stand in order of rank, and min takes the first of equals
        groups.setdefault(min(medoids, key=lambda m: bin(one ^ m).count("1")), []).append(place)
    return sorted(tuple(group) for group in groups.values() if len(group) > 1)


def _partition(labels: np.ndarray, none: int) -> list[tuple[int, ...]]:
    return sorted(tuple(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist()) - {none})


@given(hash_lists, st.integers(0, 6))
@settings(max_examples=60)
def test_medoid_clusters_are_those_of_the_definition(hashes: Hashes, radius: int) -> None:
    assert _partition(cluster(hashes, radius).labels, 0) == _one_by_one(hashes, radius)


@given(hash_lists.filter(len), st.integers(0, 6))
@settings(max_examples=40)
def test_dbscan_is_scikit_learns(hashes: Hashes, radius: int) -> None:
    found = cluster(hashes, radius, method="dbscan")
    theirs = DBSCAN(eps=radius + 0.5, min_samples=2, metric="precomputed").fit(_all_distances(hashes[:, 0]))
    assert _partition(found.labels, 0) == _partition(theirs.labels_, -1)
    inside = found.labels > 0
    assert list(distance(hashes[inside, 0], found.medoids[found.labels[inside] - 1])) == list(found.distances[inside])


def test_dbscan_of_sixty_four_random_bits_is_scikit_learns() -> None:
    hashes = _planted(np.random.default_rng(1), 200, 500, 3)
    theirs = DBSCAN(eps=3, min_samples=2, metric="precomputed").fit(_all_distances(hashes))
    assert _partition(cluster(hashes[:, None], 3, method="dbscan").labels, 0) == _partition(theirs.labels_, -1)


def test_a_chain_is_one_cluster_of_dbscan_and_several_of_medoids() -> None:
    """Twenty-one hashes, each three bits from the one before: the ends differ in 60 of 64 bits."""
    chain = np.array([(1 << 3 * step) - 1 for step in range(21)], np.uint64).reshape(-1, 1, 1)
    chained = cluster(chain, 3, method="dbscan")
    assert list(chained.sizes) == [21]
    assert chained.distances.max() > 20
    apart = cluster(chain, 3)
    assert apart.sizes.max() == 3
    assert apart.distances.max() == 3


def test_pictures_to_skip_are_in_no_cluster() -> None:
    hashes = np.zeros((6, 1, 1), np.uint64)
    found = cluster(hashes, 3, skip=np.array([True, False, True, False, False, True]))
    assert list(found.labels) == [0, 1, 0, 1, 1, 0]
    assert list(found.distances) == [-1, 0, -1, 0, 0, -1]
    nothing = cluster(hashes, 3, skip=np.ones(6, bool))
    assert not nothing.labels.any()
    assert len(nothing.sizes) == 0


def test_views_join_turned_pictures_and_say_how() -> None:
    rng = np.random.default_rng(4)
    hashes = rng.integers(0, 2**64, (5, 8, 1), dtype=np.uint64)
    hashes[3, 1] = hashes[1, 0]  # turned by 90 degrees, 3 looks like 1
    hashes[1, 3] = hashes[3, 0] ^ np.uint64(7)  # a hash of a view may be off by some bits
    hashes[2, 5] = hashes[2, 0]  # symmetric in itself: no reason for a cluster
    found = cluster(hashes, 3)
    assert list(found.labels) == [0, 1, 0, 1, 0]
    assert list(found.distances[[1, 3]]) == [0, 0]
    turned = {1: [0, 1], 3: [3, 0]}[int(np.flatnonzero((hashes[:, 0] == found.medoids[0]).all(axis=1))[0])]
    assert list(found.views[[1, 3]]) == turned
    assert not cluster(hashes[:, :1], 3).labels.any()


@given(st.integers(0, 2**32), st.integers(0, 4))
@settings(max_examples=25)
def test_no_view_is_further_than_the_radius_from_its_medoid(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 1 << 10, (40, 8, 1), dtype=np.uint64)
    found = cluster(hashes, radius)
    assert found.labels.any() or radius < 2
    assert found.distances.max() <= radius


def test_a_million_copies_of_one_picture_are_no_pairs() -> None:
    hashes = np.zeros((200_000, 1, 1), np.uint64)
    hashes[::2] = np.uint64(7)
    found = cluster(hashes, 3)
    assert list(found.sizes) == [200_000]


@pytest.mark.parametrize(("method", "message"), [("medoids", "did you mean 'medoid'"), ("kmeans", "unknown method")])
def test_unknown_methods_are_named(method: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cluster(np.zeros((1, 1, 1), np.uint64), 3, method=method)
