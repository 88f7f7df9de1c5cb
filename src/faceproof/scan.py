"""Check many pictures with several processes: in order, in bounded memory, surviving dead workers.

A worker that dies (a decoder's crash, the system's out-of-memory killer) costs only the picture that
killed it: its neighbours are checked again, it becomes a record with status "error".
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace

from faceproof.errors import StorageError, UsageError
from faceproof.faces.quality import Gates
from faceproof.fetching import fetched
from faceproof.images import Limits
from faceproof.inputs import Item, until_failure
from faceproof.pipeline import FaceChecker
from faceproof.runtimes import AUTO
from faceproof.video import VIDEO_SUFFIXES, is_video
from faceproof.video_check import VideoOptions, check_video, failed_video
from faceproof.video_records import AnyResult
from faceproof.workers import CHUNK, Job, default_workers, in_order

__all__ = ["Options", "check_apart", "check_items", "default_workers", "long_work", "scan"]

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
    video: VideoOptions = field(default_factory=VideoOptions)
    runtime: str | None = None

    def checker(self) -> FaceChecker:
        """Make a checker with one thread."""
        return FaceChecker(
            self.model, self.face_detector, fpr=self.fpr, alpha=self.alpha, stability=self.stability,
            metadata=self.metadata,
            gates=self.gates, limits=self.limits, threads=1, runtime=self.runtime,
        )  # fmt: skip


def scan(items: Iterable[Item], options: Options, *, workers: int | None = None) -> Generator[AnyResult, None, None]:
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
    if options.runtime == AUTO:  # measured once: every worker runs what this process has found
        options = replace(options, runtime=getattr(checker.detector, "runtime", None))
    iterator = iter(items)
    first = list(itertools.islice(iterator, 2 * CHUNK))
    few = len(first) < 2 * CHUNK and not (len(first) > 1 and any(map(long_work, first)))
    if count == 1 or few:
        yield from check_items(checker, itertools.chain(first, iterator), options.video)
    else:
        yield from _by_processes(itertools.chain(first, iterator), checker, options, count)


def check_apart(checker: FaceChecker, items: Iterable[Item], options: Options) -> Iterator[AnyResult]:
    """Check items in a process of their own: one that kills it gets a record, and this process lives on.

    Args:
        checker: what makes records of those that are lost.
        items: as for `scan`.
        options: how to check.
    """
    return _by_processes(iter(items), checker, options, 1)


def _by_processes(items: Iterator[Item], checker: FaceChecker, options: Options, workers: int) -> Iterator[AnyResult]:
    job: Job[Item, AnyResult] = Job(_begin, (options,), _work, lambda item: _lost(checker, item), long_work)
    return in_order(items, job, workers)


def check_items(checker: FaceChecker, items: Iterable[Item], video: VideoOptions) -> Iterator[AnyResult]:
    """Check items in this process, pictures and videos; those that already carry an error pass through in their place.

    Raises:
        StorageError: a bucket fails as a whole; results of items before come first.
    """
    failures: list[StorageError] = []
    there = until_failure(fetched(items, checker.limits), failures)
    for kind, run in itertools.groupby(there, key=_kind):
        if kind == "error":
            yield from (checker.failed(item.path, item.error or "") for item in run)
        elif kind == "video":
            yield from (check_video(checker, item.path, video) for item in run)
        else:
            yield from checker.check_many(item.source for item in run)
    if failures:
        raise failures[0]


def long_work(item: Item) -> bool:
    """Whether an item takes as long as many pictures, by its name alone: this process does not read files."""
    return os.path.splitext(item.path)[1].lower() in VIDEO_SUFFIXES


def _lost(checker: FaceChecker, item: Item) -> AnyResult:
    """The record of a file that killed its worker."""
    if _kind(item) == "video":
        return failed_video(checker, item.path, KILLED)
    return checker.failed(item.path, KILLED)


def _kind(item: Item) -> str:
    if item.error is not None:
        return "error"
    return "video" if item.data is None and is_video(item.path) else "picture"


_worker: tuple[FaceChecker, VideoOptions] | None = None


def _begin(options: Options) -> None:
    """Start of a worker: its own checker."""
    global _worker  # noqa: PLW0603  (a worker process has this one state)
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max(options.limits.max_pixels, Image.MAX_IMAGE_PIXELS or 0)
    _worker = options.checker(), options.video


def _work(part: list[Item]) -> list[AnyResult]:
    assert _worker is not None  # _begin ran first
    checker, video = _worker
    return list(check_items(checker, part, video))
