"""What strangers send to `faceproof serve`: 4xx in one shape, nothing left on disk, the server goes on."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import random
import signal
import socket
import struct
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from .helpers import gif_with_frame, png, wait_until
from .serving import API, Reply, Server, form, serving

pytestmark = pytest.mark.slow

MEBIBYTE = 1 << 20
PORTRAIT = (Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg").read_bytes()
"""A picture whose face is large enough to be explained."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), "--workers", "2", "--max-picture", "4", "--max-video", "8") as one:
        yield one


@pytest.fixture(autouse=True)
def alive(server: Server, face_jpeg: bytes) -> Iterator[None]:
    """After each test: the server answers, holds nothing, has nothing on disk, and wrote no traceback."""
    yield
    reply = wait_until(lambda: (r := server.post("check", face_jpeg)).status == 200 and r, seconds=30, what="an answer")
    assert reply.json["status"] == "ok"
    wait_until(lambda: "faceproof_held_bytes 0.0" in server.get("/metrics").body.decode(), seconds=10, what="no bytes")
    assert server.left() == []
    assert "Traceback" not in server.log.read_text(encoding="utf-8")


def _zip(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../evil.sh", data)
    return stream.getvalue()


KINDS = {
    "nothing": (b"", 415, "not_a_picture"),
    "text": (b"hello " * 100, 415, "not_a_picture"),
    "a web page": (b"<!doctype html><script>alert(1)</script>", 415, "not_a_picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 415, "not_a_picture"),
    "pdf": (b"%PDF-1.7\n" + bytes(500), 415, "not_a_picture"),
    "an archive": (_zip(b"#!/bin/sh\n"), 415, "not_a_picture"),
    "a program": (b"\x7fELF" + bytes(500), 415, "not_a_picture"),
    "noise": (random.Random(1).randbytes(5000), 415, "not_a_picture"),
    "a bomb": (png(60_000, 60_000), 413, "too_large"),
    "a bomb's pixels": (png(7_500, 7_500, bytes(1 << 20)), 413, "too_large"),
    "a gif larger than its screen": (gif_with_frame((10, 10), (65_000, 65_000)), 422, "damaged"),
    "a header only": (b"\x89PNG\r\n\x1a\n", 422, "damaged"),
    "a broken jpeg": (b"\xff\xd8\xff\xe0" + bytes(300), 422, "damaged"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_picture(server: Server, kind: str) -> None:
    data, status, code = KINDS[kind]
    for reply in (server.post("check", data), server.form("check", [("x.jpg", data)]), server.post("explain", data)):
        assert reply.status in (status, 413 if status == 422 else status), reply.body
        assert reply.code in (code, "too_large")


def test_a_picture_cut_off_at_any_place(server: Server, face_jpeg: bytes) -> None:
    for share in (0.05, 0.3, 0.6, 0.95):
        reply = server.post("check", face_jpeg[: int(share * len(face_jpeg))])
        assert (reply.status, reply.code) == (422, "damaged")


def test_polyglots_are_read_as_what_they_begin_with(server: Server, face_jpeg: bytes) -> None:
    """A picture with a web page or archive behind it is a picture; one behind a page or archive is none."""
    page = b"<html><script>alert(document.domain)</script></html>"
    for tail in (page, _zip(b"x"), b"%PDF-1.7", b"<?php system($_GET[0]); ?>"):
        reply = server.form("check", [("a.html", face_jpeg + tail)])
        assert reply.status == 200
        assert reply.json["status"] == "ok"
        assert b"alert" not in reply.body
        assert reply.headers["Content-Type"] == "application/json"
        behind = server.post("check", tail + face_jpeg)
        assert (behind.status, behind.code) == (415, "not_a_picture")


NAMES = {
    "../../../../etc/passwd": "passwd",
    "..\\..\\windows\\system32\\cmd.exe": "cmd.exe",
    "/etc/shadow": "shadow",
    "C:\\Users\\x.jpg": "x.jpg",
    "a\x00b.jpg": None,
    "..": "upload",
    "": "upload",
    "\u202egpj.exe": "gpj.exe",
    "<img src=x onerror=alert(1)>.jpg": "<img src=x onerror=alert(1)>.jpg",
    "$(reboot);`id`.jpg": "$(reboot);`id`.jpg",
    "http://user:secret@host/x.jpg": "x.jpg",
    "x" * 5000: None,
    "file:///etc/passwd": "passwd",
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_labels_only(server: Server, face_jpeg: bytes, name: str) -> None:
    reply = server.form("check", [(name, face_jpeg)])
    if reply.status != 200:
        assert (reply.status, reply.code) == (400, "bad_form")
        assert NAMES[name] is None
        return
    shown = reply.json["path"]
    assert len(shown) <= 200
    assert shown.isprintable()
    assert NAMES[name] in (None, shown)
    assert "root:" not in reply.body.decode()


def test_names_on_the_page_are_text(server: Server, face_jpeg: bytes) -> None:
    body, kind = form([("<img src=x onerror=alert(1)>.jpg", face_jpeg)])
    shown = server.ask("POST", "/page/check", body, {"Content-Type": kind}).json["html"]
    assert "&lt;img src=x onerror" in shown
    assert "<img src=x" not in shown


def test_a_large_upload_is_refused_before_it_is_sent(server: Server) -> None:
    """By its announced length; the client has sent nothing of it."""
    with _raw(server) as link:
        link.sendall(_head("check", f"Content-Length: {200 * MEBIBYTE}"))
        assert _reply(link).code == "too_large"


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=edge"])
def test_200_mib_without_a_length_are_refused_while_they_are_sent(server: Server, kind: str) -> None:
    before = max(p.memory_info().rss for p in server.family())
    start = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' if "edge" in kind else b""
    block = bytes(MEBIBYTE)
    sent = 0
    with _raw(server) as link:
        link.sendall(_head("check", "Transfer-Encoding: chunked", f"Content-Type: {kind}"))
        with contextlib.suppress(ConnectionError):
            for number in range(200):
                data = (start if number == 0 else b"") + block
                link.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                sent += 1
        reply = _reply(link)
        assert (reply.status, reply.code) == (413, "too_large")
    assert sent < 40
    assert max(p.memory_info().rss for p in server.family()) - before < 60 * MEBIBYTE


def test_many_files_and_large_ones_in_a_form(server: Server, face_jpeg: bytes) -> None:
    assert server.form("check", [("a.jpg", face_jpeg)] * 2).code == "bad_form"
    assert server.form("check", []).code == "bad_request"
    assert server.form("compare", [("a.jpg", face_jpeg)]).code == "bad_request"
    assert server.form("duplicates", [("a.jpg", b"x")] * 61).code == "bad_form"
    both = server.form("compare", [("a.jpg", face_jpeg), ("b.jpg", bytes(5 * MEBIBYTE))])
    assert (both.status, both.code) == (413, "too_large")
    second = server.form("compare", [("a.jpg", face_jpeg), ("b.jpg", b"nothing")])
    assert (second.status, second.code) == (415, "not_a_picture")
    assert "picture 2: " in second.json["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=edge", b""),
        ("multipart/form-data; boundary=edge", b"--edge\r\n"),
        ("multipart/form-data; boundary=edge", b"--edge\r\nX: y\r\n\r\nz\r\n--edge--\r\n"),
        ("multipart/form-data; boundary=edge", b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\nz'),
        ("multipart/form-data; boundary=edge", b"--edge\r\n" + b"A" * 100_000),
        ("multipart/form-data; boundary=edge; charset=idna", b'--edge\r\nContent-Disposition: form-data; name="f";'
         b' filename="\xff"\r\n\r\nz\r\n--edge--\r\n'),
        ("multipart/form-data; boundary=" + "e" * 5000, b"x"),
        ("multipart/form-data; boundary=\xff", b"x"),
    ],
)  # fmt: skip
def test_broken_forms(server: Server, kind: str, body: bytes) -> None:
    reply = server.post("check", body, kind)
    assert 400 <= reply.status < 500
    assert reply.code in ("bad_form", "bad_request", "not_a_picture")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"url": 5}', b"\xff\xfe", b"[" * 50_000])
def test_json_without_urls(server: Server, body: bytes) -> None:
    """This server fetches nothing, whatever is asked."""
    reply = server.post("check", body, "application/json")
    assert (reply.status, reply.code) == (403, "urls_off")


def test_requests_that_are_no_http(server: Server) -> None:
    for data in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" + bytes(200),
                 b"POST /api/v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                 b"POST /api/v1/check HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"):  # fmt: skip
        with _raw(server) as link, contextlib.suppress(ConnectionError):
            link.sendall(data)
            answer = link.recv(4096)
            assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
    server.log.write_text("", encoding="utf-8")  # uvicorn says what it could not read


def test_requests_cut_off_half_way(server: Server, face_jpeg: bytes) -> None:
    body, kind = form([("a.jpg", face_jpeg)])
    for share in (0.0, 0.3, 0.99):
        for _ in range(5):
            with _raw(server) as link:
                link.sendall(_head("check", f"Content-Length: {len(body)}", f"Content-Type: {kind}"))
                link.sendall(body[: int(share * len(body))])
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a goodbye


def test_who_leaves_before_the_answer_costs_nothing(server: Server, face_jpeg: bytes) -> None:
    before = _metric(server, "faceproof_disconnects_total")
    links = []
    for _ in range(12):
        link = socket.create_connection(("127.0.0.1", server.port))
        link.sendall(_head("explain", f"Content-Length: {len(PORTRAIT)}") + PORTRAIT)
        links.append(link)
    wait_until(lambda: _metric(server, "faceproof_queued") >= 5, seconds=20, what="a queue")
    for link in links:
        link.close()
    wait_until(lambda: _metric(server, "faceproof_queued") == 0, seconds=5, what="an empty queue")
    wait_until(lambda: _metric(server, "faceproof_running") == 0, seconds=60, what="the one under way")
    assert _metric(server, "faceproof_disconnects_total") >= before + 8


def test_500_at_once(server: Server, face_jpeg: bytes) -> None:
    """Each gets a verdict or is told when to come again; none an error, none a closed connection."""

    def one(_: int) -> tuple[int, str]:
        reply = server.post("check", face_jpeg)
        if reply.status == 429:
            assert reply.code == "busy"
            assert 1 <= int(reply.headers["Retry-After"]) <= 60
        return reply.status, "" if reply.status == 429 else reply.json["status"]

    with ThreadPoolExecutor(500) as pool:
        found = Counter(pool.map(one, range(500)))
    assert set(found) <= {(200, "ok"), (429, "")}
    assert found[200, "ok"] >= 34  # two workers and a queue of 32


def test_long_jobs_leave_room_for_short_ones(server: Server, face_jpeg: bytes) -> None:
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(server.post, "explain", PORTRAIT) for _ in range(2)]
        wait_until(lambda: _metric(server, "faceproof_running") >= 1, seconds=20, what="work")
        assert server.post("check", face_jpeg).status == 200
        assert not all(one.done() for one in slow)
        assert [one.result().status for one in slow] == [200] * 2


def test_a_worker_that_dies_is_replaced(server: Server, face_jpeg: bytes) -> None:
    before = _metric(server, "faceproof_workers_replaced")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.post, "explain", PORTRAIT)
        wait_until(lambda: _metric(server, "faceproof_running") == 1, seconds=20, what="work")
        at_work = _busiest(server)
        os.kill(at_work.pid, signal.SIGKILL)
        reply = asked.result()
    assert (reply.status, reply.code) == (422, "gave_up")
    wait_until(lambda: _metric(server, "faceproof_workers_replaced") > before, seconds=60, what="a new worker")
    wait_until(lambda: len(_workers(server)) == 2, seconds=30, what="two workers")


def _workers(server: Server) -> list[psutil.Process]:
    return [p for p in server.family()[1:] if "spawn_main" in " ".join(p.cmdline())]


def _busiest(server: Server) -> psutil.Process:
    workers = _workers(server)
    for worker in workers:
        worker.cpu_percent()
    time.sleep(0.5)
    return max(workers, key=lambda worker: worker.cpu_percent())


def _metric(server: Server, name: str) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).split()[1])


@contextlib.contextmanager
def _raw(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
        yield link


def _head(verb: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {API}/{verb} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def _reply(link: socket.socket) -> Reply:
    answer = http.client.HTTPResponse(link)
    answer.begin()
    return Reply(answer.status, answer.headers, answer.read())
