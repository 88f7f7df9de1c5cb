"""Ray clusters of real processes on this machine: nodes that can be killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from tests.helpers import environment, wait_until
from tests.object_store import answers, free_port

START = 300.0
"""Seconds a node may take to start on a busy machine."""
KEEPER = Path(__file__).with_name("keeper.py")
FRUGAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # the machine's memory is other tests', too
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
}
"""Settings of nodes: no process that is not needed."""


class Node:
    """A machine: a command and all that comes of it."""

    def __init__(self, words: list[str], env: Mapping[str, str], said: Path) -> None:
        with said.open("wb") as stream:
            self._keeper = subprocess.Popen(
                [sys.executable, str(KEEPER), *words], stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT,
                start_new_session=True, env=environment(env),
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._keeper.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All that live there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._keeper.pid).children(recursive=True)
        return []

    def kill(self) -> None:
        """Take the machine away: kill -9 for everything that runs on it."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(60)


class Cluster:
    """Nodes with so many CPUs each; the first is the head, without which there is no cluster.

    Attributes:
        address: to join it. nodes: those that were started.
        folder: where all their processes have open files.
    """

    def __init__(self, env: Mapping[str, str], *cpus: int, before: str = "") -> None:
        self._env, self._before, self._cpus = {**FRUGAL, **env}, before, cpus
        self.folder = Path(tempfile.mkdtemp(prefix="fp-", dir="/tmp"))  # Unix sockets have short names
        # Below the ports the system hands out: Ray's own servers share ports, and one of them may get the same.
        self.address = f"127.0.0.1:{20000 + free_port() % 10000}"
        self.nodes: list[Node] = []

    def __enter__(self) -> Cluster:
        try:
            for cpus in self._cpus:
                self.add(cpus)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, cpus: int) -> Node:
        """Start a node and wait until it has joined."""
        port = int(self.address.rpartition(":")[2])
        which = (
            [f"--address={self.address}"] if self.nodes else ["--head", f"--port={port}", "--include-dashboard=false"]
        )
        said = self.folder / f"said-{len(self.nodes)}.txt"
        code = f"{self._before or 'pass'}; from ray.scripts.scripts import main; main()"
        words = [
            sys.executable, "-c", code, "start", *which, f"--num-cpus={cpus}", "--disable-usage-stats", "--block",
            "--object-store-memory=80000000", f"--temp-dir={self.folder / 'ray'}",
            "--min-worker-port=0", "--max-worker-port=0",
        ]  # fmt: skip
        node = Node(words, self._env, said)
        self.nodes.append(node)
        wait_until(
            lambda: b"Ray runtime started" in said.read_bytes() or not node.alive,
            seconds=START,
            what="a Ray node",
        )
        assert node.alive, said.read_text()
        wait_until(lambda: answers(port), seconds=START, what="the cluster")
        return node

    def workers(self, *nodes: Node) -> list[psutil.Process]:
        """The workers that check pictures, on these nodes or on all."""
        found = []
        for process in [each for node in nodes or self.nodes for each in node.processes()]:
            with contextlib.suppress(psutil.Error):
                if "ray::_Actor" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@dataclass(frozen=True)
class Trace:
    """A process that names a folder: in its command line, or by a file it has open."""

    pid: int
    command: str


def traces(folder: Path) -> Iterator[Trace]:
    """Look for processes of a cluster in another way than by their descent."""
    name = f"{folder}/"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            command = " ".join(process.cmdline())
            opened = [os.readlink(each.path) for each in os.scandir(f"/proc/{process.pid}/fd")]
            if name in command or any(each.startswith(name) for each in opened):
                yield Trace(process.pid, command)
