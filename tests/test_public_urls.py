"""Addresses that strangers give: public ones only, whatever names, redirects and later look-ups say."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faceproof.errors import TooLargeError, UnreadableError, UsageError
from faceproof.web import public_urls
from faceproof.web.public_urls import address_is_public, fetch_public

from .serving import Server, serving

PRIVATE = [
    "127.0.0.1", "127.255.255.254",
    "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1",
    "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not address_is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert address_is_public(address)
    if ":" not in address:
        assert address_is_public(f"::ffff:{address}")
        assert address_is_public(str(ipaddress.IPv6Address((0x64FF9B << 96) + int(ipaddress.IPv4Address(address)))))


@dataclass
class Web:
    """A web server of this machine on port 80's stand-in, and names that point to it."""

    port: int
    names: dict[str, Sequence[str]]
    asked: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    def lookup(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        return self.names[host]

    def fetch(self, url: str, *, most: int = 10_000, seconds: float = 5.0) -> bytes:
        # 127.0.0.1 stands for a public address here; all else of this machine stays private.
        found = fetch_public(
            url, most=most, seconds=seconds, lookup=self.lookup,
            public=lambda text: text == "127.0.0.1" or address_is_public(text),
        )  # fmt: skip
        return found.data


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(f"{self.headers['Host']}{self.path}")
            kind, _, rest = self.path.lstrip("/").partition("/")
            if kind == "to":
                self.send_response(302)
                self.send_header("Location", rest.replace("!", ":"))
                self.end_headers()
            elif kind == "drip":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            elif kind == "endless":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(bytes(1000))
            elif kind == "short":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"x" * 10)
            elif kind == "gone":
                self.send_error(404)
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"data")

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    running = Quiet(("127.0.0.1", 0), Handler)
    port = running.server_address[1]
    found = Web(port, {"public.example": ["127.0.0.1"]})
    monkeypatch.setitem(public_urls.PORTS, "http", port)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield found
    running.shutdown()
    running.server_close()


def test_a_picture_comes(web: Web) -> None:
    assert web.fetch("http://public.example/a.jpg?size=2") == b"data"
    assert web.asked == ["public.example/a.jpg?size=2"]


def test_redirects_are_followed_under_the_same_rules(web: Web) -> None:
    assert web.fetch("http://public.example/to//b.jpg") == b"data"
    web.names |= {"inside.example": ["10.0.0.1"], "mixed.example": ["127.0.0.1", "192.168.0.1"], "none.example": []}
    for target in ("http!//inside.example/", "http!//mixed.example/", "http!//none.example/"):
        with pytest.raises(UsageError, match="not on the public internet"):
            web.fetch(f"http://public.example/to/{target}")
    for target in ("file!///etc/passwd", "ftp!//public.example/", "gopher!//public.example/", "data!text/plain,x"):
        with pytest.raises(UsageError, match="http:// or https://"):
            web.fetch(f"http://public.example/to/{target}")
    with pytest.raises(UnreadableError, match="more than 4 redirects"):
        web.fetch("http://public.example/" + "to//" * 6)
    with pytest.raises(UsageError, match="usual ports"):
        web.fetch("http://public.example/to/http!//public.example!22/")
    with pytest.raises(UsageError, match="user or password"):
        web.fetch("http://public.example/to/http!//a!b@public.example/")


def test_a_name_is_looked_up_once_and_that_address_is_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name's second answer would be another address."""
    connected = []
    plain = socket.create_connection

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        connected.append(address[0])
        web.names["public.example"] = ["10.0.0.1"]
        return plain(address, timeout=timeout)

    def never(*_: object, **__: object) -> list[object]:
        raise AssertionError("looked up once more")

    monkeypatch.setattr(public_urls.socket, "create_connection", connect)
    assert web.fetch("http://public.example/a.jpg") == b"data"
    assert (web.looked_up, connected) == (["public.example"], ["127.0.0.1"])
    monkeypatch.setattr(public_urls, "look_up", never)
    with pytest.raises(UsageError, match="not on the public internet"):
        web.fetch("http://public.example/a.jpg")


@pytest.mark.parametrize(
    "url",
    ["", "x", "public.example/a.jpg", "file:///etc/passwd", "http://", "http://[::1", "http:///a", "//public.example/a",
     "http://public.example:99999/", "http://public.example/a b", "http://public.example/\r\nX: y", "HTTP",
     "http://user@public.example/", "http://public.example:22/", "http://\u0441.example/"],
)  # fmt: skip
def test_what_is_no_url(web: Web, url: str) -> None:
    with pytest.raises(UsageError):
        web.fetch(url)
    assert web.asked == []


def test_what_does_not_come(web: Web) -> None:
    with pytest.raises(UnreadableError, match="answered 404"):
        web.fetch("http://public.example/gone")
    with pytest.raises(UnreadableError, match="breaks off|cannot be fetched"):
        web.fetch("http://public.example/short")
    with pytest.raises(TooLargeError):
        web.fetch("http://public.example/endless")
    begun = time.monotonic()
    with pytest.raises((UnreadableError, TooLargeError)):
        web.fetch("http://public.example/drip", seconds=1.0, most=10_000)
    assert time.monotonic() - begun < 4


ATTEMPTS = [
    "http://127.0.0.1/",
    "http://localhost/", "http://[::1]/", "http://0.0.0.0/", "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]/", "file:///etc/passwd",
    "http://10.0.0.1/", "http://127.1/",
]  # fmt: skip


@pytest.mark.slow
def test_a_real_server_asks_no_private_address(tmp_path: Path) -> None:
    """Forms of addresses that C libraries understand, too: what they look up to is judged."""
    with serving(tmp_path, "--workers", "1", "--urls") as one:
        for url in ATTEMPTS:
            reply = _url(one, url)
            assert reply[0] == 400 or reply == (422, "unreadable"), (url, reply)
        for text in (b"", b"{", b"[]", b"null", b'{"url": 5}', b'{"url": "http://x/", "more": 1}', b"\xff",
                     b"[" * 50_000, b'{"urls": []}', b"1e999", b'{"url": null}'):  # fmt: skip
            reply = one.post("check", text, "application/json")
            assert (reply.status, reply.code) == (400, "bad_json")
        assert one.post("check", b" " * 100_000, "application/json").code == "too_large"
        assert one.left() == []
        assert "Traceback" not in one.log.read_text(encoding="utf-8")


def _url(one: Server, url: str) -> tuple[int, str]:
    import json

    reply = one.post("check", json.dumps({"url": url}).encode(), "application/json")
    return reply.status, reply.code
