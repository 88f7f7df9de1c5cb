"""A real S3 protocol server on the loopback (moto), and a proxy in front of it that is slow, fails, denies or dies."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from faceproof import remote
from tests.helpers import answering, wait_until

KEY_ID, SECRET = "AKIAFACEPROOFTESTKEY", "ThisSecretMustNeverBeSeen0123456789abcde"
TOKEN = "ThisSessionTokenMustNeverBeSeen"

Rule = Callable[["Request"], "str | None"]


@dataclass
class Request:
    """One request that came to the proxy: number is how many came before of this kind and path."""

    method: str
    path: str
    query: str
    number: int


@dataclass
class Proxy:
    """Passes requests on to the store, as `rule` says.

    Attributes:
        rule: gives None (pass it on), "slow" (after 0.3 s), "slower" (2 s), an error as "500 InternalError", "cut"
            (half of the body, then the end), "reset" (the end at once).
        seen: all requests.
    """

    port: int
    store: int
    rule: Rule = lambda request: None
    seen: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.rule = lambda request: None
        self.seen.clear()

    def count(self, method: str, pattern: str) -> int:
        return sum(
            each.method == method and re.search(pattern, f"{each.path}?{each.query}") is not None for each in self.seen
        )


def _handler(proxy: Proxy) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            number = sum(each.method == self.command and each.path == path for each in proxy.seen)
            request = Request(self.command, path, parts.query, number)
            proxy.seen.append(request)
            if "100-continue" in self.headers.get("Expect", ""):
                self.send_response_only(100)
                self.end_headers()
            body = self._body()
            action = proxy.rule(request)
            if action in ("slow", "slower"):
                time.sleep(0.3 if action == "slow" else 2)
            if action == "reset":
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            if action is not None and action[0].isdigit():
                self._refuse(*action.split())
                return
            self._pass_on(body, cut=action == "cut")

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def _refuse(self, status: str, code: str) -> None:
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            self.send_response(int(status))
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def _pass_on(self, body: bytes, *, cut: bool) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.store, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            try:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
            except OSError:
                self.close_connection = True
                return
            finally:
                connection.close()
            self.send_response(answer.status)
            length = answer.getheader("Content-Length") or str(len(data))
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):
                if cut:
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif self.command != "HEAD":
                    self.wfile.write(data)

    return Handler


_HOP = {"connection", "transfer-encoding", "content-length", "expect", "date", "server"}


_CREDENTIAL = f"{KEY_ID}/20260101/us-east-1/s3/aws4_request"
_SIGNED = {"Authorization": f"AWS4-HMAC-SHA256 Credential={_CREDENTIAL}, SignedHeaders=host, Signature=0"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def forget_stores() -> None:
    """Drop connections kept by this process: they lead to the store of another test module."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    remote._file_system.cache_clear()


@contextlib.contextmanager
def running_store() -> Iterator[Proxy]:
    """Start the store as a process and the proxy as a thread; both end with the block."""
    forget_stores()
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    store = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), seconds=120, what="moto's server")
        proxy = Proxy(0, port)
        with answering(_handler(proxy)) as proxy.port:
            yield proxy
    finally:
        store.kill()
        store.wait()


def answers(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def environment_of(proxy: Proxy) -> dict[str, str]:
    """What a user of the store has in the environment."""
    return {
        "AWS_ENDPOINT_URL": proxy.url, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "no_proxy": "127.0.0.1",
    }  # fmt: skip


def put(proxy: Proxy, bucket: str, objects: dict[str, bytes]) -> None:
    """Make a bucket and fill it, past the proxy and our own code."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.store, timeout=60)
    for path, data in {bucket: b"", **{f"{bucket}/{key}": data for key, data in objects.items()}}.items():
        connection.request("PUT", quote(f"/{path}"), data, _SIGNED)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)
    connection.close()


def get(proxy: Proxy, bucket: str, key: str) -> bytes | None:
    """The bytes of an object, or None; past the proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.store, timeout=60)
    connection.request("GET", quote(f"/{bucket}/{key}"), headers=_SIGNED)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return data if answer.status == 200 else None
