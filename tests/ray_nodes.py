"""Ray clusters of real processes on this machine: nodes that can be killed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil

from tests.helpers import TOKEN, environment, processes, wait_until
from tests.object_store import answers, free_port

START = 300.0
"""Seconds a node may take to start on a busy machine."""


class Cluster:
    """Nodes with so many CPUs each; the first is the head, on which no test's death is survived.

    Attributes:
        address: to join it. nodes: a token for each node, which all its processes have in their environment.
    """

    def __init__(self, env: Mapping[str, str], *cpus: int, before: str = "") -> None:
        self._env, self._before = dict(env), before
        self._folder = Path(tempfile.mkdtemp(prefix="fp-", dir="/tmp"))  # Unix sockets have short names
        # Below the ports the system hands out: Ray's own servers share ports, and one of them may get the same.
        self.address = f"127.0.0.1:{20000 + free_port() % 10000}"
        self.nodes: list[str] = []
        self._cpus = cpus

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
        for token in self.nodes:
            self.kill(token)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, cpus: int) -> str:
        """Start a node and wait until it has joined; return its token."""
        token = uuid.uuid4().hex
        which = ["--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false"]
        if self.nodes:
            which = [f"--address={self.address}"]
        self.nodes.append(token)
        said = self._folder / f"{token}.txt"
        code = f"{self._before or 'pass'}; from ray.scripts.scripts import main; main()"
        with said.open("wb") as stream:
            subprocess.Popen(
                [
                    sys.executable, "-c", code, "start", *which, f"--num-cpus={cpus}", "--disable-usage-stats",
                    "--block", "--object-store-memory=80000000", f"--temp-dir={self._folder / 'ray'}",
                    "--min-worker-port=0", "--max-worker-port=0",
                ],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
                env=environment({**self._env, TOKEN: token}),
            )  # fmt: skip
        wait_until(
            lambda: b"Ray runtime started" in said.read_bytes() or not processes(token),
            seconds=START,
            what="a Ray node",
        )
        assert processes(token), said.read_text()
        if len(self.nodes) == 1:
            wait_until(lambda: answers(int(self.address.rpartition(":")[2])), seconds=START, what="the cluster")
        return token

    def kill(self, token: str) -> None:
        """Take a machine away: kill -9 for everything that runs on it."""
        wait_until(lambda: not self._killed(token), seconds=60, what="a node's processes to end")

    def workers(self, token: str | None = None) -> list[psutil.Process]:
        """The workers that check pictures, on one node or on all."""
        found = []
        for each in self.nodes if token is None else [token]:
            for process in processes(each):
                with contextlib.suppress(psutil.Error):
                    if "ray::_Actor" in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def _killed(self, token: str) -> list[psutil.Process]:
        found = processes(token)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return found
