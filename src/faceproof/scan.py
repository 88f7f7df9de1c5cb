"""Check many pictures with several processes: in order, in bounded memory, surviving dead workers.

A worker that dies (a decoder's crash, the system's out-of-memory killer) costs only the picture that
killed it: its neighbours are checked again, it becomes a record with status "error".
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace

from faceproof.errors import StorageError
from faceproof.faces.quality import Gates
from faceproof.fetching import fetched
from faceproof.images import Limits
from faceproof.inputs import Item, until_failure
from faceproof.pipeline import FaceChecker
from faceproof.runtimes import AUTO
from faceproof.video import VIDEO_SUFFIXES, is_video
from faceproof.video_check import VideoOptions, check_video, failed_video
from faceproof.video_records import AnyResult
from faceproof.workers import Job, chosen_workers, default_workers, in_order, spread

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
    count = chosen_workers(workers)
    checker = options.checker()
    if options.runtime == AUTO:  # measured once: every worker runs what this process has found
        options = replace(options, runtime=getattr(checker.detector, "runtime", None))
    yield from spread(items, _job(checker, options), lambda few: check_items(checker, few, options.video), count)


def check_apart(checker: FaceChecker, items: Iterable[Item], options: Options) -> Iterator[AnyResult]:
    """Check items in a process of their own: one that kills it gets a record, and this process lives on.

    Args:
        checker: what makes records of those that are lost.
        items: as for `scan`.
        options: how to check.
    """
    return in_order(iter(items), _job(checker, options), 1)


def _job(checker: FaceChecker, options: Options) -> Job[Item, AnyResult]:
    return Job(_begin, (options,), _work, lambda item: _lost(checker, item), long_work)


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
    options.limits.widen_pillow()
    _worker = options.checker(), options.video


def _work(part: list[Item]) -> list[AnyResult]:
    assert _worker is not None  # _begin ran first
    checker, video = _worker
    return list(check_items(checker, part, video))
