"""A stand-in for the Hugging Face hub on the loopback: its API as far as pushing and pulling a model goes, no hub.

Repositories, commits, LFS uploads (basic transfers; no Xet), listings and downloads, private ones behind a token.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.helpers import answering

TOKEN = "hf_FaceproofTestTokenThatMustNotBeSeen"
LFS = (".onnx", ".safetensors")


@dataclass
class Repository:
    """Its commits, newest last: (commit, name -> bytes)."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1] if self.commits else None
        return next((each for each in self.commits if each[0] == revision), None)

    def add(self, files: dict[str, bytes]) -> str:
        whole = {**(self.commits[-1][1] if self.commits else {}), **files}
        commit = hashlib.sha1(repr((len(self.commits), sorted(whole.items()))).encode()).hexdigest()
        self.commits.append((commit, whole))
        return commit


@dataclass
class Hub:
    """What runs.

    Attributes:
        repositories: by OWNER/NAME. blobs: LFS objects by sha256.
        rule: gives None, or a status to fail a request (method, path) with, or "endless".
        seen: method and path of all requests.
    """

    port: int = 0
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    rule: Callable[[str, str], str | None] = lambda method, path: None
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _handler(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            hub.seen.append(f"{self.command} {path}")
            action = hub.rule(self.command, path)
            if action == "endless":
                self._endless()
            elif action is not None:
                self._json(int(action), {"error": "no"})
            else:
                self._route(path, body)

        do_GET = do_POST = do_PUT = do_HEAD = _any  # noqa: N815

        def _route(self, path: str, body: bytes) -> None:
            knows = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if found := re.fullmatch(r"/lfs/(\w+)", path):  # signed URLs on the real one: no token
                if self.command == "PUT":
                    assert hashlib.sha256(body).hexdigest() == found[1]
                    hub.blobs[found[1]] = body
                    self._json(200, {})
                else:
                    self._bytes(hub.blobs[found[1]])
                return
            if self.command in ("POST", "PUT") and not knows and path != "/api/validate-yaml":
                self._json(401, {"error": "Invalid credentials"})
            elif path == "/api/repos/create":
                said = json.loads(body)
                name = f"{said.get('organization') or 'me'}/{said['name']}"
                there = name in hub.repositories
                hub.repositories.setdefault(
                    name, Repository(bool(said.get("private")) or said.get("visibility") == "private")
                )
                self._json(409 if there else 200, {"url": f"{hub.url}/{name}", "name": name})
            elif path == "/api/validate-yaml":
                self._json(200, {"errors": [], "warnings": []})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
                files = json.loads(body)["files"]
                self._json(200, {"files": [{"path": each["path"], "shouldIgnore": False,
                    "uploadMode": "lfs" if each["path"].endswith(LFS) else "regular"} for each in files]})  # fmt: skip
            elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
                objects = [
                    {**each, "actions": {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}}}
                    for each in json.loads(body)["objects"]
                ]
                self._json(200, {"transfer": "basic", "objects": objects})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                self._commit(found[1], body)
            else:
                self._read(path, knows)

        def _commit(self, name: str, body: bytes) -> None:
            files = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.blobs[value["oid"]]
            commit = hub.repositories[name].add(files)
            url = f"{hub.url}/{name}/commit/{commit}"
            self._json(200, {"success": True, "commitUrl": url, "commitOid": commit, "pullRequestUrl": None})

        def _read(self, path: str, knows: bool) -> None:
            listed = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
            asked = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            found = listed or asked
            repository = hub.repositories.get(found[1]) if found else None
            commit = repository.at(found[2] or "main") if repository and found else None
            if found is None or repository is None or commit is None or (repository.private and not knows):
                self._json(404 if knows else 401, {"error": "Repository not found"})
            elif listed:
                siblings = [{"rfilename": name} for name in commit[1]]
                self._json(200, {"id": found[1], "modelId": found[1], "sha": commit[0], "private": repository.private,
                                 "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})  # fmt: skip
            elif (data := commit[1].get(found[3])) is None:
                self._json(404, {"error": "Entry not found"})
            elif found[3].endswith(LFS):
                digest = hashlib.sha256(data).hexdigest()
                hub.blobs[digest] = data
                self.send_response(302)
                self.send_header("Location", f"/lfs/{digest}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._bytes(data)

        def _json(self, status: int, said: Any) -> None:
            self._bytes(json.dumps(said).encode(), status, "application/json")

        def _bytes(self, data: bytes, status: int = 200, kind: str = "application/octet-stream") -> None:
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

        def _endless(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream")
                self.end_headers()
                while True:
                    self.wfile.write(b" " * (1 << 20))
                    time.sleep(0.001)

    return Handler


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """Start it as a thread; it ends with the block."""
    hub = Hub()
    with answering(_handler(hub)) as hub.port:
        yield hub
