"""A real `faceproof serve` process for tests, and a plain client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from .helpers import command, environment

API = "/api/v1"


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error, whose shape is checked too."""
        said = self.json
        assert set(said) == {"error"}, said
        assert set(said["error"]) == {"code", "message", "status"}
        assert said["error"]["status"] == self.status
        assert self.headers["Content-Type"] == "application/json"
        assert said["error"]["message"]
        return str(said["error"]["code"])


@dataclass
class Server:
    """A server process."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path
    log: Path

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, verb: str, body: bytes, kind: str = "application/octet-stream", **headers: str) -> Reply:
        return self.ask("POST", f"{API}/{verb}", body, {"Content-Type": kind, **headers})

    def form(self, verb: str, files: Sequence[tuple[str, bytes]]) -> Reply:
        body, kind = form(files)
        return self.post(verb, body, kind)

    def family(self) -> list[psutil.Process]:
        """The server's process and its workers."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def left(self) -> list[str]:
        """Files in the server's temporary folder and the one it was started in, and files it holds open to write."""
        held = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                held += [f.path for f in process.open_files() if f.path != str(self.log) and f.mode != "r"]
        return [str(path) for path in self.folder.rglob("*") if path.is_file()] + held


def form(files: Sequence[tuple[str, bytes]], field: str = "file") -> tuple[bytes, str]:
    """A form with files, and its media type."""
    edge = "faceproof-edge-7Qx"
    parts = []
    for name, data in files:
        quoted = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{quoted}"\r\n\r\n'
        parts += [head.encode("utf-8"), data, b"\r\n"]
    return b"".join([*parts, f"--{edge}--\r\n".encode()]), f"multipart/form-data; boundary={edge}"


@contextlib.contextmanager
def serving(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a server on a free port; stop it as a user would. Its temporary folder is `folder`/tmp."""
    for module in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(module, reason="of the extra [serve]")
    inside = folder / "tmp"
    inside.mkdir(parents=True)
    log = folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command("serve", "--port", "0", *options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream,
            cwd=inside, env=environment({"TMPDIR": str(inside), **(env or {})}), start_new_session=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://"), log.read_text(encoding="utf-8")
        yield Server(process, url, inside, log)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "workers outlived the server"
        if process.stdout is not None:
            process.stdout.close()
