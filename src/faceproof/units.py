"""Units of work: some hundred pictures that follow each other, a video, or a whole shard, under a name that stays.

The same inputs give the same units under the same names, on every machine and in every run. So a unit that was done
can be told by its name alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from faceproof.errors import UsageError
from faceproof.images import printable
from faceproof.inputs import IdSet, Inputs, Item
from faceproof.video import VIDEO_SUFFIXES

__all__ = ["UNIT", "Unit", "units"]

UNIT = 500
"""Pictures of a unit: five seconds of a fast worker are lost where one dies, and a million pictures are 2,000 parts."""


@dataclass(frozen=True)
class Unit:
    """What a worker does in one go.

    Attributes:
        items: pictures, or a single video, or a single whole shard (`Item.shard`), which the worker reads itself.
        all_files: of a shard, take members of every ending.
    """

    items: tuple[Item, ...]
    all_files: bool = False

    def __post_init__(self) -> None:
        if not self.items or (len(self.items) > 1 and any(item.shard for item in self.items)):
            raise UsageError("a unit of work is some pictures, or a single shard")

    @property
    def name(self) -> str:
        """Return 64 bits of the hash of its paths, as 16 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=8)
        for item in self.items:
            digest.update(printable(item.path).encode() + b"\0")
        return digest.hexdigest()

    @property
    def pictures(self) -> int | None:
        """Return how many pictures it has; None of a shard, which nobody has read yet."""
        return None if self.items[0].shard else len(self.items)

    def read(self) -> tuple[Iterator[Item], Inputs]:
        """Return its items, those of a shard read as they are asked for, and what counts the files left out."""
        first = self.items[0]
        inputs = Inputs([first.path], all_files=self.all_files)
        return (inputs.inside(first.path) if first.shard else iter(self.items)), inputs

    def without(self, done: IdSet | set[str]) -> Unit | None:
        """Return the unit without the pictures whose printable paths are in `done`; None where nothing is left."""
        left = tuple(item for item in self.items if printable(item.path) not in done)
        if len(left) == len(self.items):
            return self
        return Unit(left, self.all_files) if left else None


def units(inputs: Inputs, size: int = UNIT) -> Iterator[Unit]:
    """Cut inputs into units, lazily and in order; videos and shards are units of their own.

    Args:
        inputs: with `whole_shards`; without it this process reads the shards, and holds a unit's pictures.
        size: pictures of a unit, 1 or more.

    Raises:
        UsageError: `size` is below 1.
        StorageError: a bucket that is listed fails as a whole; units before come first.
    """
    if size < 1:
        raise UsageError(f"a unit of work has at least 1 picture, not {size}")
    return _cut(inputs, size, inputs.all_files)


def _cut(items: Iterable[Item], size: int, all_files: bool) -> Iterator[Unit]:
    waiting: list[Item] = []
    for item in items:
        if item.shard or os.path.splitext(item.path)[1].lower() in VIDEO_SUFFIXES:
            yield Unit((item,), all_files)
            continue
        waiting.append(item)
        if len(waiting) == size:
            yield Unit(tuple(waiting), all_files)
            waiting = []
    if waiting:
        yield Unit(tuple(waiting), all_files)
