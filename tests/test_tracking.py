"""Tracks on synthetic paths: who crosses, leaves, comes back, is cut away; and the assignment against scipy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from faceproof import DetectedFace, UsageError
from faceproof.tracking import Tracker, assign, iou

SHAPE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


def face(x: float, y: float, side: float = 100.0) -> DetectedFace:
    """A face whose box has its middle at x, y."""
    corner = np.array([x, y]) - side / 2
    box = np.concatenate([corner, corner + side]).astype(np.float32)
    return DetectedFace(box, (corner + SHAPE * side).astype(np.float32), 0.99)


def look(seed: int, noise: float = 0.0, step: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vector = rng.normal(size=64)
    vector = vector / np.linalg.norm(vector) + noise * np.random.default_rng((seed, step)).normal(size=64) / 8
    vector -= vector.mean()
    return vector / np.linalg.norm(vector)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_assignment_is_scipys(rows: int, columns: int, seed: int) -> None:
    costs = np.random.default_rng(seed).normal(size=(rows, columns)).round(1)
    pairs = assign(costs)
    theirs = linear_sum_assignment(costs)
    assert len(pairs) == min(rows, columns)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
    assert sum(costs[pair] for pair in pairs) == pytest.approx(costs[theirs].sum())


def test_assignment_is_the_best_of_all() -> None:
    costs = np.random.default_rng(5).random((5, 5))
    best = min(sum(costs[k, p[k]] for k in range(5)) for p in itertools.permutations(range(5)))
    assert sum(costs[pair] for pair in assign(costs)) == pytest.approx(best)
    assert assign(np.zeros((0, 3))) == []
    with pytest.raises(UsageError, match="finite matrix"):
        assign(np.array([[np.nan]]))


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([0, 0, 4, 4], [1, 1, 3, 3], 0.25),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
    ],
)
def test_iou(a: list[float], b: list[float], value: float) -> None:
    assert iou(a, b) == pytest.approx(value)
    assert iou(b, a) == pytest.approx(value)


@pytest.mark.parametrize("fps", [2, 5, 15, 30])
def test_one_face_keeps_its_number(fps: int) -> None:
    """A walk at one face side a second, with jitter, growth and missing frames."""
    tracker, rng = Tracker(), np.random.default_rng(0)
    numbers = set()
    for k in range(8 * fps):
        seconds = k / fps
        if fps > 2 and k % 7 == 3:
            assert tracker.update(seconds, []) == []
            continue
        x, y = 100 + 100 * seconds + rng.normal(0, 3), 200 + rng.normal(0, 3)
        numbers |= set(tracker.update(seconds, [face(x, y, 100 + 5 * seconds)]))
    assert numbers == {1}


@pytest.mark.parametrize("fps", [2, 5, 15])
@pytest.mark.parametrize("with_looks", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("height", [0, 40, 150])
def test_crossing_never_mixes_two_people(fps: int, with_looks: bool, hidden: bool, height: int) -> None:
    """Two faces pass each other at various heights; where they overlap, the rear one may not be found."""
    tracker = Tracker()
    owners: dict[int, set[str]] = {}
    numbers: dict[str, list[int]] = {"a": [], "b": []}
    steps = 8 * fps
    for k in range(steps):
        seconds = k / fps
        a, b = (100 + 110 * seconds, 200.0), (900 - 110 * seconds, 200.0 + height)
        people = [("a", face(*a)), ("b", face(*b))]
        if hidden and abs(a[0] - b[0]) < 60 and height < 100:
            people = people[1:]
        if k % 2:
            people.reverse()
        looks = [look(ord(name), 0.4, k) for name, _ in people] if with_looks else None
        for (name, _), number in zip(people, tracker.update(seconds, [f for _, f in people], looks), strict=True):
            if number is not None:
                owners.setdefault(number, set()).add(name)
                numbers[name].append(number)
    assert all(len(who) == 1 for who in owners.values()), owners
    for name in "ab":
        # Few fragments, and most frames used.
        assert len(set(numbers[name])) <= 2, numbers[name]
        assert len(numbers[name]) >= 0.7 * steps
    if with_looks and not hidden:
        assert len(set(numbers["a"])) == len(set(numbers["b"])) == 1


def test_turning_back_before_meeting() -> None:
    """Motion alone would swap them: they meet, stop and go back where they came from. Looks tell."""
    tracker = Tracker()
    owners: dict[int, set[str]] = {}
    for k in range(60):
        seconds = k / 10
        x = 250 - abs(seconds - 3) * 60
        people = [("a", face(x, 200)), ("b", face(600 - x, 205))]
        looks = [look(ord(name), 0.3, k) for name, _ in people]
        for (name, _), number in zip(people, tracker.update(seconds, [f for _, f in people], looks), strict=True):
            if number is not None:
                owners.setdefault(number, set()).add(name)
    assert sorted(owners.values()) == [{"a"}, {"b"}]


def test_without_looks_an_unclear_meeting_is_left_to_nobody() -> None:
    """Two faces on the same spot for a while: either could be either, so nobody is joined across it."""
    tracker = Tracker()
    owners: dict[int, set[str]] = {}
    unclear = 0
    for k in range(80):
        seconds = k / 10
        x = 300 - max(0.0, abs(seconds - 4) - 2) * 80
        people = [("a", face(x, 200)), ("b", face(600 - x, 200))]
        for (name, _), number in zip(people, tracker.update(seconds, [f for _, f in people]), strict=True):
            unclear += number is None
            if number is not None:
                owners.setdefault(number, set()).add(name)
    assert unclear > 20
    assert all(len(who) == 1 for who in owners.values()), owners


def test_leaving_and_coming_back() -> None:
    tracker = Tracker(max_gap=1.0)

    def at(seconds: float, x: float) -> list[int | None]:
        return tracker.update(seconds, [face(x, 200)])

    assert at(0.0, 100) == at(0.5, 110) == [1]
    assert at(1.4, 120) == [1]  # missed for less than the gap
    assert at(3.0, 125) == [2]  # for longer: nobody knows who that is
    assert at(3.5, 700) == [3]  # too far for the same face
    assert tracker.alive == (2, 3)


def test_a_cut_ends_every_track() -> None:
    tracker = Tracker()
    assert tracker.update(0.0, [face(100, 100), face(400, 100)]) == [1, 2]
    assert tracker.update(0.5, [face(100, 100), face(400, 100)], cut=True) == [3, 4]
    assert tracker.alive == (3, 4)


def test_another_face_on_the_same_spot_is_another_person() -> None:
    """A cut that was not noticed: the looks have nothing in common."""
    tracker = Tracker()
    assert tracker.update(0.0, [face(100, 100)], [look(1)]) == [1]
    assert tracker.update(0.1, [face(100, 100)], [look(2)]) == [2]
    assert tracker.update(0.2, [face(100, 100)], [look(1, 0.2)]) in ([1], [None])


def test_a_face_of_another_size_is_another_person() -> None:
    tracker = Tracker()
    assert tracker.update(0.0, [face(100, 100, 100)]) == [1]
    assert tracker.update(0.1, [face(100, 100, 200)]) == [2]


def test_a_crowd_is_followed() -> None:
    tracker = Tracker()
    rng = np.random.default_rng(3)
    places = [(x, y) for x in range(0, 1500, 150) for y in range(0, 600, 150)]
    first = tracker.update(0.0, [face(x, y) for x, y in places])
    order = rng.permutation(len(places))
    moved = [face(places[k][0] + rng.normal(0, 8), places[k][1] + rng.normal(0, 8)) for k in order]
    assert tracker.update(0.5, moved) == [first[k] for k in order]


def test_memory_holds_only_who_is_there() -> None:
    tracker = Tracker()
    for k in range(500):
        tracker.update(10.0 * k, [face(100, 100)])
        assert len(tracker.alive) == 1


def test_wrong_limits() -> None:
    with pytest.raises(UsageError, match="positive"):
        Tracker(max_gap=0)
