"""The engine for many machines: a Ray cluster. One worker for each CPU, a few units under way for each worker.

Of Ray only actors are used. Units whose actor dies are given out again, new actors are made where CPUs are free (a
machine that has come, or a worker that was killed), and everything that must survive is in the parts.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import platform
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from faceproof._version import VERSION
from faceproof.engines import TRIES, Done, GaveUp, Task, Worker
from faceproof.errors import FaceproofError, StorageError, UsageError, plain
from faceproof.extras import require
from faceproof.units import Unit

__all__ = ["RayEngine"]

AHEAD = 2
"""Units under way for each worker: one that it does and one that it finds when it is done."""
LOOK = 2.0
"""Seconds between two looks at which machines there are."""
PATIENCE = 600.0
"""Seconds without a single worker after which a run is given up."""

KNOCK = 10.0
"""Seconds within which a cluster's first machine must answer."""
SETTINGS = b"\x04"
"""Type of the frame with which a server of HTTP/2, hence of gRPC, begins (RFC 9113, 3.4 and 6.5)."""
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + SETTINGS + bytes(5)
"""How a client begins: its preface and a frame of no settings."""


class _Actor:
    """What runs on the machines. Nothing is unpickled there that needs another version's classes, before `version`."""

    def version(self) -> tuple[str, str]:
        return VERSION, _machine()

    def begin(self, task: Task) -> FaceproofError | None:
        """Make the worker; errors are returned, as Ray would wrap what is raised."""
        task.options.limits.widen_pillow()
        try:
            self._worker = Worker(task)
        except FaceproofError as err:
            return _from_here(err)
        return None

    def do(self, unit: Unit, tries: int) -> Done | FaceproofError:
        try:
            return self._worker.do(unit, tries)
        except FaceproofError as err:
            return _from_here(err)


def _machine() -> str:
    return f"machine {platform.node() or 'without a name'}"


def _from_here(err: FaceproofError) -> FaceproofError:
    """The error with the name of the machine that it is about."""
    return type(err)(f"{_machine()}: {err}")


@dataclass
class _Hand:
    """A worker as the driver sees it. Until it is ready, `step` says what it was asked last."""

    actor: Any
    step: str = "version"
    units: int = 0


@dataclass(frozen=True)
class _Order:
    """A call under way: to whom, for which unit (None while a worker begins), after how many deaths."""

    hand: _Hand
    unit: Unit | None = None
    tries: int = 0


class RayEngine:
    """Gives units to the machines of a Ray cluster; see `engines.Engine`.

    Args:
        address: HOST:PORT of the cluster, "auto" for the one this machine is in, "local" for one of this machine alone
            that lives as long as the run; None for `RAY_ADDRESS`, or "auto", or "local" where there is none.
        workers: at most so many at once; None for one on each CPU of the cluster.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address, self._workers = address, workers

    def run(self, units: Iterator[Unit], task: Task) -> Generator[Done | GaveUp, None, None]:
        """Give out every unit until it is done; yield each once.

        Raises:
            MissingExtraError: Ray is not installed.
            UsageError: the cluster cannot be reached, or has another version of Ray, Python or faceproof.
            StorageError: the cluster fails, or no machine of it has taken work for ten minutes.
        """
        first = next(units, None)
        if first is None:  # all was done before, and no cluster is needed
            return
        with _cluster(self._address, self._workers) as ray:
            crew = _Crew(ray, task, self._workers)
            try:
                yield from crew.work(itertools.chain([first], units))
            except ray.exceptions.RayError as err:
                raise StorageError(
                    f"the Ray cluster has failed ({_said(err)}); run the same command again to go on"
                ) from None
            finally:
                crew.dismiss()


@dataclass
class _Crew:
    ray: Any
    task: Task
    limit: int | None
    hands: list[_Hand] = field(default_factory=list)
    orders: dict[Any, _Order] = field(default_factory=dict)
    again: deque[tuple[Unit, int]] = field(default_factory=deque)
    looked: float = 0.0
    alive: float = field(default_factory=time.monotonic)

    def work(self, units: Iterator[Unit]) -> Iterator[Done | GaveUp]:
        """Until every unit was done, or given up."""
        shared = self.ray.put(self.task)
        following = next(units, None)
        while following is not None or self.again or any(order.unit for order in self.orders.values()):
            self._hire()
            for hand in self.hands:
                while hand.step == "ready" and hand.units < AHEAD:
                    if self.again:
                        self._order(hand, *self.again.popleft())
                    elif following is not None:
                        self._order(hand, following, 0)
                        following = next(units, None)
                    else:
                        break
            if not self.orders:
                time.sleep(LOOK)
                continue
            for call in self.ray.wait(list(self.orders), timeout=LOOK)[0]:
                found = self._ended(call, self.orders.pop(call), shared)
                if found is not None:
                    yield found

    def _hire(self) -> None:
        """Make workers for CPUs that have none; a worker waits until a machine has room for it."""
        now = time.monotonic()
        if any(hand.step == "ready" for hand in self.hands):
            self.alive = now
        elif now - self.alive > PATIENCE:
            raise StorageError(
                f"no machine of the Ray cluster has taken work for {PATIENCE:g} s; look at `ray status`, "
                "and run the same command again to go on"
            )
        if now - self.looked < LOOK:
            return
        self.looked = now
        room = int(self.ray.cluster_resources().get("CPU", 0))
        for _ in range(min(room, self.limit or room) - len(self.hands)):
            hand = _Hand(self._made())
            self.hands.append(hand)
            self.orders[hand.actor.version.remote()] = _Order(hand)

    def _made(self) -> Any:
        return self.ray.remote(_Actor).options(num_cpus=1, max_restarts=0, max_task_retries=0).remote()

    def _order(self, hand: _Hand, unit: Unit, tries: int) -> None:
        hand.units += 1
        self.orders[hand.actor.do.remote(unit, tries)] = _Order(hand, unit, tries)

    def _ended(self, call: Any, order: _Order, shared: Any) -> Done | GaveUp | None:
        hand, errors = order.hand, self.ray.exceptions
        try:
            answer = self.ray.get(call)
        except (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as err:
            return self._died(order, err)
        except errors.RayTaskError as err:
            raise UsageError(
                f"a machine of the Ray cluster cannot run faceproof ({_said(err)}); install the same version on all"
            ) from None
        if isinstance(answer, FaceproofError):
            raise answer
        if order.unit is not None:
            hand.units -= 1
            done: Done = answer
            return done
        if hand.step == "version":
            version, machine = answer
            if version != VERSION:
                raise UsageError(f"{machine} has faceproof {version}, this one {VERSION}; install the same on all")
            hand.step = "begin"
            self.orders[hand.actor.begin.remote(shared)] = _Order(hand)
        else:
            hand.step = "ready"
        return None

    def _died(self, order: _Order, err: Exception) -> GaveUp | None:
        if order.hand in self.hands:
            self.hands.remove(order.hand)
            self._let_go(order.hand)  # one that could not be reached may live
        if order.unit is None:
            if "import" in str(err):  # Ray could not load the class on that machine
                raise UsageError(
                    f"a machine of the Ray cluster cannot load faceproof {VERSION} ({_said(err)}); "
                    "install the same version on all"
                )
            return None
        if order.tries + 1 >= TRIES:
            return GaveUp(order.unit)
        self.again.append((order.unit, order.tries + 1))
        return None

    def dismiss(self) -> None:
        """End all workers, at once."""
        for hand in self.hands:
            self._let_go(hand)

    def _let_go(self, hand: _Hand) -> None:
        with contextlib.suppress(Exception):  # it, or the cluster, may be gone
            self.ray.kill(hand.actor)


class _WithoutRay:
    """Standard output without what a thread of Ray's says there about dead workers, which no option turns off."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name == "ray_listen_error_messages":
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[Any]:
    """Join a cluster, or start one on this machine; leave it at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted not in (None, "auto", "local"):
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")  # Ray's 20 are for clusters that begin
    ray = require("ray")
    if wanted not in (None, "auto", "local"):
        _reachable(wanted)
    out = sys.stdout
    sys.stdout = _WithoutRay(out)
    try:
        _join(ray, wanted, workers)
        yield ray
    finally:
        with contextlib.redirect_stdout(io.StringIO()):  # the thread's last words, said by this one
            ray.shutdown()
        sys.stdout = out


def _join(ray: Any, wanted: str | None, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if wanted is None:
            try:
                ray.init(address="auto", **quiet)
            except ConnectionError:
                wanted = "local"
        if wanted == "local":
            _own_token()
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        elif wanted is not None:
            ray.init(address=wanted, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as err:
        raise UsageError(_why_not(err, plain(wanted or ""))) from None


def _own_token() -> None:
    """Make a secret for a cluster of this run alone.

    Ray would write one to ~/.ray, and from then on ask for it in all clusters that are started here.
    """
    if not any(os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _why_not(err: Exception, address: str) -> str:
    if "ersion" in str(err) and "mismatch" in str(err):
        return (
            f"the Ray cluster and this machine differ in their versions ({_said(err)}); "
            "install the same Ray and Python on all"
        )
    return (
        f"the Ray cluster {address} cannot be joined ({_said(err)}); look at `ray status`, and if it asks for a token, "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what `ray get-auth-token` says on its first machine"
    )


def _reachable(address: str) -> None:
    """Knock at the door: Ray itself waits for minutes and says much."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UsageError(
            f"{plain(address)!r} is no address of a Ray cluster; run the command on one of its machines, with "
            "HOST:PORT as `ray start --head` says it, or auto"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK) as door:
            door.settimeout(KNOCK)
            door.sendall(HTTP2)
            answer = door.recv(9)
    except OSError as err:
        raise UsageError(
            f"no Ray cluster answers at {plain(address)} ({err.strerror or err}); start one with `ray start --head`, "
            "or look at its address with `ray status`"
        ) from err
    if answer[3:4] != SETTINGS and os.environ.get("RAY_USE_TLS", "0") == "0":
        raise UsageError(f"what answers at {plain(address)} is no Ray cluster; look at its address with `ray status`")


def _said(err: object) -> str:
    return plain(" ".join(str(err).split())[:300])
