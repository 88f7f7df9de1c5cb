"""Check many pictures with several processes: in order, in bounded memory, surviving dead workers.

A worker that dies (a decoder's crash, the system's out-of-memory killer) costs only the picture that
killed it: its neighbours are checked again, it becomes a record with status "error".
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from types import FrameType

from faceproof.errors import UsageError
from faceproof.faces.quality import Gates
from faceproof.images import Limits
from faceproof.inputs import Item
from faceproof.pipeline import FaceChecker
from faceproof.records import ImageResult

__all__ = ["Options", "default_workers", "scan"]

CHUNK = 16
"""Pictures handed to a worker at once."""
AHEAD = 3
"""Chunks in flight per worker: what is read ahead of the slowest picture is bounded by this."""


@dataclass(frozen=True)
class Options:
    """What a worker needs to make its own checker; see `FaceChecker`."""

    model: str | None = None
    face_detector: str | None = None
    fpr: float | None = None
    gates: Gates = field(default_factory=Gates)
    limits: Limits = field(default_factory=Limits)

    def checker(self) -> FaceChecker:
        """Make a checker with one thread."""
        return FaceChecker(
            self.model, self.face_detector, fpr=self.fpr, gates=self.gates, limits=self.limits, threads=1
        )


def default_workers() -> int:
    """Return the number of cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


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
        yield from _parallel(itertools.chain(first, iterator), options, count, checker)


def _check(checker: FaceChecker, items: Iterable[Item]) -> Iterator[ImageResult]:
    """Check items; those that already carry an error pass through in their place."""
    for failed, run in itertools.groupby(items, key=lambda item: item.error is not None):
        if failed:
            yield from (checker.failed(item.path, item.error or "") for item in run)
        else:
            yield from checker.check_many(item.path for item in run)


class _Pool:
    """A pool of checking processes that can be replaced when one of them dies."""

    def __init__(self, options: Options, workers: int) -> None:
        self._options, self._workers = options, workers
        self._executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, context, _begin, (self._options,))

    def submit(self, part: list[Item]) -> Future[list[ImageResult]]:
        # Workers start on the first submits and inherit the mask: Ctrl-C goes to the parent alone, at
        # any moment, and one that comes in between is delivered afterwards.
        with _interrupts_held():
            try:
                return self._executor.submit(_work, part)
            except BrokenProcessPool:
                self.restart()
                return self._executor.submit(_work, part)

    def restart(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._start()

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _parallel(items: Iterator[Item], options: Options, workers: int, checker: FaceChecker) -> Iterator[ImageResult]:
    pool = _Pool(options, workers)
    pending: deque[tuple[list[Item], Future[list[ImageResult]]]] = deque()
    try:
        while True:
            while len(pending) < AHEAD * workers and (part := list(itertools.islice(items, CHUNK))):
                pending.append((part, pool.submit(part)))
            if not pending:
                return
            part, future = pending.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:
                # Which chunk killed the worker is not known: this one goes alone, the others again.
                pool.restart()
                results = [_alone(item, pool, checker) for item in part]
                pending = deque((other, pool.submit(other)) for other, _ in pending)
            yield from results
    finally:
        pool.close()


def _alone(item: Item, pool: _Pool, checker: FaceChecker) -> ImageResult:
    try:
        return pool.submit([item]).result()[0]
    except BrokenProcessPool:
        pool.restart()
        return checker.failed(
            item.path,
            "the process that read it was killed (a crash in a decoder, or no memory left); "
            "look at the file by itself, or lower --max-pixels",
        )


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back: blocked for processes started inside, remembered for this one until the end.

    Blocking alone is not enough here, as the system may hand the signal to another thread, and Python
    would raise in the main one, in the middle of starting a worker.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    came: list[FrameType | None] = []
    handler = signal.signal(signal.SIGINT, lambda _, frame: came.append(frame))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if came and callable(handler):
        handler(signal.SIGINT, came[0])


_worker_checker: FaceChecker | None = None


def _begin(options: Options) -> None:
    """Start of a worker: its own checker, Ctrl-C left to the parent, no life after the parent's."""
    global _worker_checker  # noqa: PLW0603  (a worker process has this one state)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max(options.limits.max_pixels, Image.MAX_IMAGE_PIXELS or 0)
    _worker_checker = options.checker()


def _follow_parent() -> None:
    """End this worker when its parent is gone, even by kill -9: pools leave orphans otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _work(part: list[Item]) -> list[ImageResult]:
    assert _worker_checker is not None  # _begin ran first
    return list(_check(_worker_checker, part))
