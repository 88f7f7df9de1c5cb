"""Faces over time: which face of one frame is which of the frames before.

Each frame's faces are assigned to the tracks alive by the least total cost (Kuhn 1955, in the shortest augmenting
path form of Jonker and Volgenant 1987). A cost is the distance of the landmarks from where the track's motion
predicts them, in face sides, plus one minus the IoU of the boxes, plus how far the looks differ. A pair outside its
gate is never joined. Joining two people would average their evidence, which is worse than losing a frame: a face
that two tracks (or a track that two faces) could claim almost as well is left to nobody until they part.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.faces.detection import DetectedFace

__all__ = ["Tracker", "assign", "iou"]

Float = npt.NDArray[np.float64]

UNMATCHED = 4.0
"""Cost of leaving a face or a track alone; above every cost inside the gates."""
MARGIN = 0.35
"""Two ways to assign whose total costs differ by less are taken to be equally good."""


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return intersection over union of two boxes x0, y0, x1, y1; 0 to 1, 0 for empty ones."""
    one, two = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    whole = float(np.prod(np.maximum(one[2:] - one[:2], 0)) + np.prod(np.maximum(two[2:] - two[:2], 0))) - common
    return common / whole if whole > 0 else 0.0


def assign(costs: Float) -> list[tuple[int, int]]:
    """Return the pairs (row, column) with the least total cost, as many as the shorter side has.

    Args:
        costs: (R, C) float64, finite.

    Raises:
        UsageError: not a finite matrix.
    """
    matrix = np.asarray(costs, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise UsageError(f"costs are a finite matrix, not {matrix.shape}")
    if not matrix.size:
        return []
    if matrix.shape[0] > matrix.shape[1]:
        return sorted((row, column) for column, row in assign(matrix.T))
    rows, columns = matrix.shape
    # Row 0 and column 0 stand for "none"; u and v are the dual variables.
    u, v = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.zeros(columns + 1, int)
    for row in range(1, rows + 1):
        owner[0] = row
        column = 0
        least, came = np.full(columns + 1, np.inf), np.zeros(columns + 1, int)
        used = np.zeros(columns + 1, bool)
        while owner[column]:
            used[column] = True
            current = owner[column]
            slack = matrix[current - 1] - u[current] - v[1:]
            better = ~used[1:] & (slack < least[1:])
            least[1:][better], came[1:][better] = slack[better], column
            free = np.where(used, np.inf, least)
            following = int(free.argmin())
            step = free[following]
            u[owner[used]] += step
            v[used] -= step
            least[~used] -= step
            column = following
        while column:
            owner[column] = owner[came[column]]
            column = int(came[column])
    return sorted((int(owner[c]) - 1, c - 1) for c in range(1, columns + 1) if owner[c])


@dataclass
class _Live:
    """A track that is alive: where the face was last, how it moves, how it looks."""

    number: int
    seconds: float
    box: Float
    landmarks: Float
    look: Float | None
    velocity: Float = field(default_factory=lambda: np.zeros(2))
    sightings: int = 1

    @property
    def side(self) -> float:
        return _side(self.box)

    def shift(self, seconds: float) -> Float:
        """Pixels it should have moved by; a face not seen for long is not sent out of sight."""
        return self.velocity * min(seconds - self.seconds, 2.0)

    def see(self, seconds: float, face: DetectedFace, look: Float | None) -> None:
        passed = max(seconds - self.seconds, 1e-3)
        moved = (face.landmarks.mean(0) - self.landmarks.mean(0)) / passed
        # The first step says all there is to know; later ones are averaged against jitter.
        share = 1.0 if self.sightings == 1 else 0.6
        self.velocity = (1 - share) * self.velocity + share * moved
        self.seconds, self.sightings = seconds, self.sightings + 1
        self.box, self.landmarks = face.box.astype(np.float64), face.landmarks.astype(np.float64)
        if look is not None:
            self.look = look if self.look is None else 0.7 * self.look + 0.3 * look


class Tracker:
    """Gives every face of every frame the number of its track.

    Args:
        max_gap: seconds after which a face not seen ends its track.
        reach: how far landmarks may lie from the prediction at once, in face sides; `speed` is added for each
            second since the track was seen, up to `farthest`.
        speed, farthest: see `reach`.
        growth: largest ratio of sides between two sightings.
        unlike: largest distance of looks (see `update`) within a track. Of the looks `video_check` makes, 94 % of
            the pairs of two people of LFW lie further apart; one face cut twice, 2 % of its box off, within 0.12.

    Only tracks alive are kept: memory does not grow with the length of a video.
    """

    def __init__(
        self,
        *,
        max_gap: float = 1.6,
        reach: float = 0.6,
        speed: float = 1.2,
        farthest: float = 1.6,
        growth: float = 1.7,
        unlike: float = 0.45,
    ) -> None:
        if min(max_gap, reach, speed, farthest, unlike) <= 0 or growth <= 1:
            raise UsageError("a tracker's limits are positive, its growth above 1")
        self.max_gap, self.reach, self.speed, self.farthest = max_gap, reach, speed, farthest
        self.growth, self.unlike = growth, unlike
        self._live: list[_Live] = []
        self._numbers = itertools.count(1)

    @property
    def alive(self) -> tuple[int, ...]:
        """Numbers of the tracks that may still be seen again."""
        return tuple(track.number for track in self._live)

    def update(
        self,
        seconds: float,
        faces: Sequence[DetectedFace],
        looks: Sequence[npt.NDArray[np.floating]] | None = None,
        *,
        cut: bool = False,
    ) -> list[int | None]:
        """Take the next frame's faces.

        Args:
            seconds: of the frame, not before the last one's.
            faces: as found, in pixels.
            looks: for each face a vector of what it looks like, zero mean, unit length: the distance of two is one
                minus their product, 0 to 2. None leaves looks out.
            cut: the scene has changed since the last frame; every track ends.

        Returns:
            For each face its track's number, counted from 1; None where two tracks could claim it.
        """
        if cut:
            self._live = []
        self._live = [track for track in self._live if seconds - track.seconds <= self.max_gap]
        vectors = [None] * len(faces) if looks is None else [np.asarray(look, np.float64) for look in looks]
        costs = np.array(
            [[self._cost(t, seconds, f, look) for f, look in zip(faces, vectors, strict=True)] for t in self._live]
        ).reshape(len(self._live), len(faces))
        pairs = {row: column for row, column in assign(costs) if costs[row, column] < UNMATCHED}
        unclear = _unclear(costs, pairs)
        numbers: list[int | None] = [None] * len(faces)
        taken = {column: row for row, column in pairs.items()}
        for column, (face, look) in enumerate(zip(faces, vectors, strict=True)):
            if column in unclear:
                continue
            if column in taken:
                track = self._live[taken[column]]
                track.see(seconds, face, look)
            else:
                track = _Live(
                    next(self._numbers), seconds, face.box.astype(np.float64), face.landmarks.astype(np.float64), look
                )
                self._live.append(track)
            numbers[column] = track.number
        return numbers

    def _cost(self, track: _Live, seconds: float, face: DetectedFace, look: Float | None) -> float:
        """Cost of joining a face to a track; `UNMATCHED` outside the gates."""
        side = _side(face.box)
        scale = max(side, 1e-6) / max(track.side, 1e-6)
        if not 1 / self.growth <= scale <= self.growth:
            return UNMATCHED
        shift = track.shift(seconds)
        unit = (side + track.side) / 2
        # Both predictions are tried: heads stop and turn as often as they go on.
        ways = [(self._distance(track, face, move, unit), move) for move in (shift, 0 * shift)]
        distance, move = min(ways, key=lambda way: way[0])
        passed = seconds - track.seconds
        if distance > min(self.farthest, self.reach + self.speed * passed):
            return UNMATCHED
        unlike = 0.0
        if look is not None and track.look is not None:
            unlike = 1 - float(np.dot(look, track.look) / max(float(np.linalg.norm(track.look)), 1e-9))
            if unlike > self.unlike:
                return UNMATCHED
        # The motion's own prediction decides between two that both lie near.
        expected = self._distance(track, face, shift, unit)
        box = track.box + np.concatenate([move, move])
        return min(0.5 * (distance + min(expected, 2.0)) + (1 - iou(box, face.box)) + unlike, UNMATCHED - 1e-6)

    @staticmethod
    def _distance(track: _Live, face: DetectedFace, move: Float, unit: float) -> float:
        away = np.linalg.norm(face.landmarks - (track.landmarks + move), axis=1)
        return float(away.mean()) / max(unit, 1e-6)


def _unclear(costs: Float, pairs: dict[int, int]) -> set[int]:
    """Faces (columns) that another track could have almost as well, or whose track could have another face."""
    taken = {column: row for row, column in pairs.items()}
    found: set[int] = set()
    for row, column in pairs.items():
        own = costs[row, column]
        for other in np.flatnonzero(costs[:, column] < UNMATCHED):
            if other == row:
                continue
            theirs = pairs.get(int(other))
            # Swap the two tracks' faces; a track or face left alone costs half of UNMATCHED each.
            now = own + (UNMATCHED if theirs is None else costs[other, theirs])
            then = costs[other, column] + (UNMATCHED if theirs is None else costs[row, theirs])
            if then - now < MARGIN:
                found |= {column} if theirs is None else {column, theirs}
        for rival in np.flatnonzero(costs[row] < UNMATCHED):
            if rival not in taken and costs[row, rival] - own < MARGIN:
                found |= {column, int(rival)}
    return found


def _side(box: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(max(0.0, float(box[2] - box[0])) * max(0.0, float(box[3] - box[1]))))
