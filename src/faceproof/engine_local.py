"""The engine that needs nothing: processes of this machine."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from faceproof.engines import TRIES, Done, GaveUp, Task, Worker
from faceproof.units import Unit
from faceproof.workers import Job, default_workers, in_order

__all__ = ["LocalEngine"]


class LocalEngine:
    """Gives units to processes of this machine; see `engines.Engine`.

    Args:
        workers: processes, None for one per core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or default_workers()

    def run(self, units: Iterator[Unit], task: Task) -> Generator[Done | GaveUp, None, None]:
        """Give out every unit until it is done; yield each once."""
        here = Worker(task)  # says what is wrong before a process is started, and does what kills them

        def careful(unit: Unit) -> Done | GaveUp:
            return here.do(unit, TRIES)

        yield from in_order(units, Job(_begin, (task,), _work, careful, lambda unit: True), self._workers)


_worker: Worker | None = None


def _begin(task: Task) -> None:
    """Start of a worker process."""
    global _worker  # noqa: PLW0603  (a worker process has this one state)
    task.options.limits.widen_pillow()
    _worker = Worker(task)


def _work(part: list[Unit]) -> list[Done | GaveUp]:
    assert _worker is not None  # _begin ran first
    return [_worker.do(unit) for unit in part]
