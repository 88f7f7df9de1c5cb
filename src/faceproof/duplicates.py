"""Hash many pictures with several processes: in order, in bounded memory, surviving dead workers.

A picture that cannot be read becomes a record with status "error", as in a scan.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from faceproof.errors import PictureError, UsageError, unknown_name
from faceproof.extras import opencv, require
from faceproof.fetching import fetched
from faceproof.hashing import KINDS, VIEWS, hash_picture, to_hex
from faceproof.images import Limits, load, printable
from faceproof.inputs import Item
from faceproof.workers import Job, spread

__all__ = ["HASH_SCHEMA", "HashOptions", "HashRecord", "hash_items"]

HASH_SCHEMA = "faceproof.hash/1"
KILLED = (
    "the process that read it was killed (a crash in a decoder, or no memory left); "
    "look at the file by itself, or lower --max-pixels"
)


@dataclass(frozen=True)
class HashOptions:
    """How pictures are hashed.

    Attributes:
        kind: a key of `hashing.KINDS`.
        rotations: hash all eight views, so that turned and mirrored copies can be found.
        limits: what a picture may cost.

    Raises:
        UsageError: no such kind.
        MissingExtraError: PDQ without pdqhash.
    """

    kind: str = "phash"
    rotations: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("hash", self.kind, list(KINDS))
        if self.kind == "pdq":
            require("duplicates", "pdqhash")


@dataclass(frozen=True)
class HashRecord:
    """What is known about one picture.

    Attributes:
        path: as given, well-formed Unicode.
        kind: a key of `hashing.KINDS`.
        hashes: hexadecimal, one or eight in the order of `hashing.VIEWS`; none with an error.
        quality: of the hash, 0 to 1; None with an error.
        flat: whether the hash says nothing (one colour, a gradient, hardly any contrast).
        error: why it cannot be used, or None.
    """

    path: str
    kind: str
    hashes: tuple[str, ...] = ()
    quality: float | None = None
    flat: bool = False
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.error is None) != (len(self.hashes) in (1, len(VIEWS))):
            raise UsageError(f"a hash record has 1 or {len(VIEWS)} hashes or an error, not {len(self.hashes)} hashes")

    @property
    def status(self) -> str:
        """What became of it: "ok" | "flat" | "error"."""
        return "error" if self.error is not None else "flat" if self.flat else "ok"

    def to_dict(self) -> dict[str, Any]:
        """Return what the hash file holds."""
        return {
            "path": self.path, "kind": self.kind, "hashes": list(self.hashes), "quality": self.quality,
            "flat": self.flat, "error": self.error, "schema": HASH_SCHEMA,
        }  # fmt: skip


def hash_items(
    items: Iterable[Item], options: HashOptions, *, workers: int | None = None
) -> Generator[HashRecord, None, None]:
    """Hash every item; yield one record each, in order.

    Args:
        items: from `faceproof.inputs.Inputs`; read lazily.
        options: how to hash.
        workers: processes; None takes one per core. With 1, or when there are fewer than
            `2 * CHUNK` items, this process does the work.

    Raises:
        UsageError: `workers` is less than 1.
    """
    job = Job(_begin, (options,), _work, lambda item: _failed(item.path, options.kind, KILLED))
    yield from spread(items, job, lambda few: _hashed(few, options), workers)


def _hashed(items: Iterable[Item], options: HashOptions) -> Iterator[HashRecord]:
    return (_hash(item, options) for item in fetched(items, options.limits))


def _hash(item: Item, options: HashOptions) -> HashRecord:
    if item.error is not None:
        return _failed(item.path, options.kind, item.error)
    try:
        picture = load(item.source, limits=options.limits)
    except PictureError as err:
        return _failed(item.path, options.kind, str(err))
    found = hash_picture(picture.pixels, options.kind, views=options.rotations)
    texts = tuple(to_hex(words) for words in found.hashes)
    return HashRecord(picture.name, options.kind, texts, round(found.quality, 4), found.flat)


def _failed(path: str, kind: str, error: str) -> HashRecord:
    return HashRecord(printable(path), kind, error=error)


_worker_options: HashOptions | None = None


def _begin(options: HashOptions) -> None:
    """Start of a worker."""
    global _worker_options  # noqa: PLW0603  (a worker process has this one state)
    options.limits.widen_pillow()
    opencv().setNumThreads(1)
    _worker_options = options


def _work(part: list[Item]) -> list[HashRecord]:
    assert _worker_options is not None  # _begin ran first
    return list(_hashed(part, _worker_options))
