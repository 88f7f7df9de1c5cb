"""Near matches of the pictures on a page: among each other, and among pictures whose hashes are on file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceproof.hash_files import HashFile, read_hashes
from faceproof.hashing import RADII, VIEWS, HashedPicture, Hashes, distance

__all__ = ["Known", "Near", "NearMatch", "near_matches"]

SHOWN = 20
"""Nearest pictures that are named."""


@dataclass(frozen=True)
class NearMatch:
    """One picture that looks alike: its path, the bits in which hashes differ, how the asked one must be laid down."""

    path: str
    distance: int
    view: str


@dataclass(frozen=True)
class Near:
    """What looks like one picture.

    Attributes:
        nearest: at most `SHOWN`, the nearest first.
        total: pictures within the radius.
        among: pictures it was compared with.
        kind, radius: of the hash, in bits.
        flat: the picture's hash says nothing, so it was compared with none.
    """

    nearest: tuple[NearMatch, ...]
    total: int
    among: int
    kind: str
    radius: int
    flat: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**vars(self), "nearest": [vars(match) for match in self.nearest]}


class Known:
    """Hashes on file to look pictures up in.

    Args:
        path: a file that `faceproof duplicates --hashes` wrote; it is only read.
        step: called now and then with bytes read and in all.

    Attributes:
        kind: of the hashes.

    Raises:
        OutputError: it cannot be read, or holds no hashes.
    """

    def __init__(self, path: str | Path, step: Callable[[int, int], None] = lambda done, total: None) -> None:
        self._file: HashFile = read_hashes(path, step)
        self.kind = self._file.options.kind
        self._places = np.flatnonzero(self._file.states() == 0)
        self._hashes: Hashes = self._file.hashes()[self._places, 0]

    def within(self, pictures: Mapping[str, Hashes], radius: int) -> dict[str, tuple[list[NearMatch], int]]:
        """Find what is within `radius` bits of any view of each picture; the file is read once for all of them.

        Args:
            pictures: path -> hashes in all views, (8, W) uint64. A picture itself, known by its path, is left out.
            radius: in bits.

        Returns:
            path -> what was found, in the order of the file, and how many pictures it was compared with.
        """
        near: defaultdict[int, list[tuple[str, int, str]]] = defaultdict(list)
        for path, views in pictures.items():
            bits, view = _nearest_views(views, self._hashes)
            for row in np.flatnonzero(bits <= radius).tolist():
                near[int(self._places[row])].append((path, int(bits[row]), VIEWS[view[row]]))
        found: dict[str, list[NearMatch]] = {path: [] for path in pictures}
        themselves = set()
        for place, record in self._file.records(near.__contains__) if near else ():
            for path, apart, way in near[place]:
                if record.path == path:
                    themselves.add(path)
                else:
                    found[path].append(NearMatch(record.path, apart, way))
        return {path: (matches, len(self._places) - (path in themselves)) for path, matches in found.items()}


def near_matches(
    pictures: Sequence[tuple[str, HashedPicture | None]], kind: str, known: Known | None = None
) -> list[Near | None]:
    """Look each picture up among the others and in `known`, in all eight `VIEWS`.

    Args:
        pictures: paths and hashes in all views; None for what has no hash (a video, an unreadable file).
        kind: of the hashes, as `known.kind`.
        known: hashes on file.

    Returns:
        one each, in order; None where there is no hash or nothing to compare with.
    """
    radius, results = RADII[kind], list[Near | None]()
    usable = {path: hashed.hashes for path, hashed in pictures if hashed is not None and not hashed.flat}
    on_file = known.within(usable, radius) if known is not None else {}
    for path, hashed in pictures:
        others = {name: views[0] for name, views in usable.items() if name != path}
        if hashed is None or (known is None and not others):
            results.append(None)
        elif hashed.flat:
            results.append(Near((), 0, 0, kind, radius, flat=True))
        else:
            results.append(_near(hashed, others, on_file.get(path, ([], 0)), kind))
    return results


def _near(hashed: HashedPicture, others: dict[str, Hashes], on_file: tuple[list[NearMatch], int], kind: str) -> Near:
    radius, (matches, among) = RADII[kind], on_file
    found = {match.path: match for match in matches}
    if others:
        bits, view = _nearest_views(hashed.hashes, np.stack(list(others.values())))
        for name, apart, way in zip(others, bits.tolist(), view.tolist(), strict=True):
            if apart <= radius:
                found[name] = NearMatch(name, apart, VIEWS[way])
    nearest = sorted(found.values(), key=lambda match: (match.distance, match.path))
    return Near(tuple(nearest[:SHOWN]), len(nearest), among + len(others), kind, radius)


def _nearest_views(views: Hashes, hashes: Hashes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the fewest bits between any of `views` (V, W) and each of `hashes` (N, W), and which view: both (N,)."""
    best, which = distance(hashes, views[0]), np.zeros(len(hashes), np.intp)
    for number, words in enumerate(views[1:], 1):
        bits = distance(hashes, words)
        nearer = bits < best
        best[nearer], which[nearer] = bits[nearer], number
    return best, which
