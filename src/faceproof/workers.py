"""Many items through several processes: in order, in bounded memory, surviving processes that die.

A worker that dies (a decoder's crash, the system's out-of-memory killer) costs only the item that
killed it: its neighbours are worked on again, and the caller says what stands in for it. Workers are
spawned, leave Ctrl-C to their parent and end with it.
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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import FrameType
from typing import Any, Generic, TypeVar

from faceproof.errors import UsageError

__all__ = ["AHEAD", "CHUNK", "Job", "chosen_workers", "default_workers", "follow_parent", "in_order", "spread"]

CHUNK = 16
"""Items handed to a worker at once."""
AHEAD = 3
"""Chunks in flight per worker: what is read ahead of the slowest item is bounded by this."""

T = TypeVar("T")
R = TypeVar("R")


def default_workers() -> int:
    """Return the number of cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def chosen_workers(workers: int | None) -> int:
    """Return a number of processes as it was asked for; None takes one per core.

    Raises:
        UsageError: it is less than 1.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    return workers or default_workers()


@dataclass(frozen=True)
class Job(Generic[T, R]):
    """What workers do.

    Attributes:
        begin: called once in every worker with `arguments`; makes the worker's state.
        arguments: for `begin`; they travel to the worker.
        work: called in a worker with up to `CHUNK` items; returns a result for each.
        lost: called here for an item that killed its worker; returns what stands in for it.
        alone: whether an item is handed out by itself, because it takes as long as many others.
    """

    begin: Callable[..., None]
    arguments: tuple[Any, ...]
    work: Callable[[list[T]], list[R]]
    lost: Callable[[T], R]
    alone: Callable[[T], bool] = lambda item: False


def spread(
    items: Iterable[T], job: Job[T, R], here: Callable[[Iterator[T]], Iterator[R]], workers: int | None = None
) -> Iterator[R]:
    """Work on every item and yield one result each, in order: with processes, or in this one where there are few.

    Args:
        items: read lazily.
        job: what the processes do.
        here: does the same in this process. With one worker, or fewer than `2 * CHUNK` items none of which takes
            long, starting processes costs more than it brings.
        workers: processes; None takes one per core.

    Raises:
        UsageError: `workers` is less than 1.
    """
    count = chosen_workers(workers)
    iterator = iter(items)
    first = list(itertools.islice(iterator, 2 * CHUNK))
    few = len(first) < 2 * CHUNK and not (len(first) > 1 and any(map(job.alone, first)))
    everything = itertools.chain(first, iterator)
    yield from here(everything) if count == 1 or few else in_order(everything, job, count)


def in_order(items: Iterator[T], job: Job[T, R], workers: int) -> Iterator[R]:
    """Work on every item with `workers` processes; yield one result each, in order. Items are read lazily."""
    pool = _Pool(job, workers)
    pending: deque[tuple[list[T], Future[list[R]]]] = deque()
    parts = _parts(items, job.alone)
    try:
        while True:
            while len(pending) < AHEAD * workers and (part := next(parts, None)):
                pending.append((part, pool.submit(part)))
            if not pending:
                return
            part, future = pending.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:
                # Which chunk killed the worker is not known: this one goes alone, the others again.
                pool.restart()
                results = [_alone(item, pool, job) for item in part]
                pending = deque((other, pool.submit(other)) for other, _ in pending)
            yield from results
    finally:
        pool.close()


def _parts(items: Iterator[T], alone: Callable[[T], bool]) -> Iterator[list[T]]:
    """Up to `CHUNK` items that follow each other; one that is handed out alone is a part of its own."""
    for long, run in itertools.groupby(items, key=alone):
        while part := list(itertools.islice(run, 1 if long else CHUNK)):
            yield part


class _Pool(Generic[T, R]):
    """A pool of processes that can be replaced when one of them dies."""

    def __init__(self, job: Job[T, R], workers: int) -> None:
        self._job, self._workers = job, workers
        self._executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, context, _begin, (self._job.begin, self._job.arguments))

    def submit(self, part: list[T]) -> Future[list[R]]:
        # Workers start on the first submits and inherit the mask: Ctrl-C goes to the parent alone, at
        # any moment, and one that comes in between is delivered afterwards.
        with _interrupts_held():
            try:
                return self._executor.submit(self._job.work, part)
            except BrokenProcessPool:
                self.restart()
                return self._executor.submit(self._job.work, part)

    def restart(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._start()

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _alone(item: T, pool: _Pool[T, R], job: Job[T, R]) -> R:
    try:
        return pool.submit([item]).result()[0]
    except BrokenProcessPool:
        pool.restart()
        return job.lost(item)


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


def _begin(begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Start of a worker: Ctrl-C left to the parent, no life after the parent's, then the caller's own start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow_parent, daemon=True).start()
    begin(*arguments)


def follow_parent() -> None:
    """End this worker when its parent is gone, even by kill -9: pools leave orphans otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
