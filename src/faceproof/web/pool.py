"""Worker processes with a bounded queue, time limits, and replacements for those that die.

A thread of this process stands beside each worker process: it takes a job, hands it over, and waits for the answer
as long as the job may take. A worker that takes longer, or dies over a file, is replaced; its job gets an answer that
says so. Long jobs leave a worker free for short ones, where there are two or more.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from faceproof.errors import FaceproofError
from faceproof.extras import opencv
from faceproof.scan import Options
from faceproof.web.jobs import Answer, Job, Worker
from faceproof.web.problems import Problem
from faceproof.workers import follow_parent

__all__ = ["Full", "Pool"]

LONG = frozenset({"duplicates", "explain", "report", "video"})
"""Verbs that take seconds."""
START_SECONDS = 120.0


class Full(Exception):  # noqa: N818  (no error: the queue says that it has no room)
    """No more jobs can wait; `seconds` is when to ask again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; ask again in {seconds} s")
        self.seconds = seconds


@dataclass(eq=False)
class _Waiting:
    job: Job
    future: Future[Answer]


class Pool:
    """Processes that do jobs.

    Args:
        options: of their checkers.
        workers: how many.
        waiting: jobs that may wait besides those under way.
        seconds: a verb -> seconds a job may take.

    Attributes:
        replaced: workers that were stopped or died.
    """

    def __init__(self, options: Options, *, workers: int, waiting: int, seconds: Mapping[str, float]) -> None:
        self._options, self._workers, self._most, self._seconds = options, workers, waiting, dict(seconds)
        self._condition = threading.Condition()
        self._short: deque[_Waiting] = deque()
        self._long: deque[_Waiting] = deque()
        self._long_running = self._running = self.replaced = 0
        self._closed = False
        self._pace = 0.1  # seconds a job takes, a running mean
        self._threads: list[threading.Thread] = []

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return len(self._short) + len(self._long)

    @property
    def running(self) -> int:
        """Jobs under way."""
        return self._running

    def start(self) -> None:
        """Start the workers, and wait until their models are loaded.

        Raises:
            ModelError, UsageError: the options are wrong.
        """
        sides: list[_Process] = []
        try:
            sides += [_Process(self._options) for _ in range(self._workers)]
            for side in sides:
                side.wait_until_ready()
        except BaseException:
            for side in sides:
                side.stop()
            raise
        for side in sides:
            thread = threading.Thread(target=self._serve, args=(side,), daemon=True, name="faceproof-worker")
            thread.start()
            self._threads.append(thread)

    def submit(self, job: Job) -> Future[Answer]:
        """Queue a job.

        Raises:
            Full: there is no room.
        """
        with self._condition:
            if self._closed or self.queued >= self._most:
                raise Full(self.wait_seconds())
            waiting = _Waiting(job, Future())
            self._line(waiting).append(waiting)
            self._condition.notify_all()
        waiting.future.add_done_callback(lambda _: self._forget(waiting))
        return waiting.future

    def _line(self, waiting: _Waiting) -> deque[_Waiting]:
        return self._long if waiting.job.verb in LONG else self._short

    def _forget(self, waiting: _Waiting) -> None:
        """Let go of a job that was cancelled while it waited: its place is free at once."""
        with self._condition, contextlib.suppress(ValueError):
            self._line(waiting).remove(waiting)

    def wait_seconds(self) -> int:
        """Whole seconds after which there should be room, 1 to 60."""
        return max(1, min(60, round(self._pace * (self.queued + 1) / self._workers)))

    def close(self) -> None:
        """Stop the workers; jobs that wait are cancelled."""
        with self._condition:
            self._closed = True
            for waiting in (*self._short, *self._long):
                waiting.future.cancel()
            self._short.clear()
            self._long.clear()
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _next(self) -> _Waiting | None:
        """Wait for a job; None when the pool is closed. Long jobs never take all workers of several."""
        with self._condition:
            while not self._closed:
                if self._short:
                    found = self._short.popleft()
                elif self._long and self._long_running < max(1, self._workers - 1):
                    found = self._long.popleft()
                else:
                    self._condition.wait()
                    continue
                if not found.future.set_running_or_notify_cancel():
                    continue  # whoever asked has gone
                self._running += 1
                self._long_running += found.job.verb in LONG
                return found
            return None

    def _serve(self, side: _Process) -> None:
        """Of a thread: jobs one after the other through one worker."""
        try:
            while (waiting := self._next()) is not None:
                begun = time.monotonic()
                answer = self._through(side, waiting.job)
                with self._condition:
                    self._running -= 1
                    self._long_running -= waiting.job.verb in LONG
                    self._pace = 0.9 * self._pace + 0.1 * (time.monotonic() - begun)
                    self._condition.notify_all()
                waiting.future.set_result(answer)
                if side.stopped and not self._closed:
                    side = self._replacement()
        finally:
            side.stop()

    def _through(self, side: _Process, job: Job) -> Answer:
        """Have a worker do a job; one that does not is stopped."""
        seconds = self._seconds.get(job.verb, 60.0)
        try:
            answer = side.do(job, seconds, closed=lambda: self._closed)
            if answer is not None:
                return answer
            problem = Problem(
                422, "took_too_long", f"checking took more than {seconds:g} s and was stopped; give a smaller file"
            )
        except (EOFError, OSError):
            problem = Problem(
                422, "gave_up", "the process that read the file was killed (a crash in a decoder, or no memory left)"
            )
        side.stop()
        return Answer(problem.status, problem.body(), outcome=problem.code)

    def _replacement(self) -> _Process:
        self.replaced += 1
        side = _Process(self._options)
        with contextlib.suppress(FaceproofError, EOFError, OSError):
            side.wait_until_ready()  # if not, the next job says that it died
        return side


class _Process:
    """A worker process and this side of the pipe to it."""

    def __init__(self, options: Options) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_main, args=(other, options), daemon=True)
        self._process.start()
        self.stopped = False
        other.close()  # so that the worker's end tells here

    def wait_until_ready(self) -> None:
        """Wait for the models; raise what kept the worker from loading them."""
        if not self._pipe.poll(START_SECONDS):
            raise EOFError
        said = self._pipe.recv()
        if isinstance(said, FaceproofError):
            raise said

    def do(self, job: Job, seconds: float, *, closed: Callable[[], bool]) -> Answer | None:
        """Return the answer; None when it takes too long. EOFError, OSError: the worker died."""
        self._pipe.send(job)
        end = time.monotonic() + seconds
        while not self._pipe.poll(min(0.5, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end or closed():
                return None
        answer: Answer = self._pipe.recv()
        return answer

    def stop(self) -> None:
        """End the worker, whatever it does."""
        self.stopped = True
        self._process.kill()
        self._process.join(timeout=10)
        self._pipe.close()


def _main(pipe: Connection[Any, Any], options: Options) -> None:
    """Of a worker process: jobs until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    threading.Thread(target=follow_parent, daemon=True).start()
    opencv().setNumThreads(1)
    try:
        worker = Worker(options)
    except FaceproofError as err:
        pipe.send(err)
        return
    pipe.send(None)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(worker.do(pipe.recv()))
