"""Check many pictures with several processes: in order, in bounded memory, surviving dead workers.

A worker that dies (a decoder's crash, the system's out-of-memory killer) costs only the picture that
killed it: its neighbours are checked again, it becomes a record with status "error".
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

from faceproof.errors import StorageError, UsageError
from faceproof.faces.quality import Gates
from faceproof.fetching import fetched
from faceproof.images import Limits
from faceproof.inputs import Item, until_failure
from faceproof.pipeline import FaceChecker
from faceproof.records import ImageResult
from faceproof.workers import CHUNK, Job, default_workers, in_order

__all__ = ["Options", "default_workers", "scan"]

KILLED = (
    "the process that read it was killed (a crash in a decoder, or no memory left); "
    "look at the file by itself, or lower --max-pixels"
)


@dataclass(frozen=True)
class Options:
    """What a worker needs to make its own checker; see `FaceChecker`."""

    model: str | None = None
    face_detector: str | None = None
    fpr: float | None = None
    gates: Gates = field(default_factory=Gates)
    limits: Limits = field(default_factory=Limits)
    alpha: float | None = None
    stability: str = "off"
    metadata: bool = True

    def checker(self) -> FaceChecker:
        """Make a checker with one thread."""
        return FaceChecker(
            self.model, self.face_detector, fpr=self.fpr, alpha=self.alpha, stability=self.stability,
            metadata=self.metadata,
            gates=self.gates, limits=self.limits, threads=1,
        )  # fmt: skip


def scan(items: Iterable[Item], options: Options, *, workers: int | None = None) -> Generator[ImageResult, None, None]:
    """Check every item; yield one result each, in order.

    Args:
        items: from `faceproof.inputs.Inputs`; read lazily.
        options: how to check.
        workers: processes; None takes one per core. With 1, or when there are fewer than
            `2 * CHUNK` items, this process does the work.

    Raises:
        UsageError, ModelError: the options are wrong; raised before anything is checked.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    count = workers or default_workers()
    checker = options.checker()
    iterator = iter(items)
    first = list(itertools.islice(iterator, 2 * CHUNK))
    if count == 1 or len(first) < 2 * CHUNK:
        yield from _check(checker, itertools.chain(first, iterator))
    else:
        job = Job(_begin, (options,), _work, lambda item: checker.failed(item.path, KILLED))
        yield from in_order(itertools.chain(first, iterator), job, count)


def _check(checker: FaceChecker, items: Iterable[Item]) -> Iterator[ImageResult]:
    """Check items; those that already carry an error pass through in their place."""
    failures: list[StorageError] = []
    there = until_failure(fetched(items, checker.limits), failures)
    for failed, run in itertools.groupby(there, key=lambda item: item.error is not None):
        if failed:
            yield from (checker.failed(item.path, item.error or "") for item in run)
        else:
            yield from checker.check_many(item.source for item in run)
    if failures:
        raise failures[0]


_worker_checker: FaceChecker | None = None


def _begin(options: Options) -> None:
    """Start of a worker: its own checker."""
    global _worker_checker  # noqa: PLW0603  (a worker process has this one state)
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max(options.limits.max_pixels, Image.MAX_IMAGE_PIXELS or 0)
    _worker_checker = options.checker()


def _work(part: list[Item]) -> list[ImageResult]:
    assert _worker_checker is not None  # _begin ran first
    return list(_check(_worker_checker, part))
