"""Buckets and servers: read, list and write through requests that are slow, fail, are denied, or end half-way."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import io
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof import UnreadableError, UsageError, remote, servers
from faceproof.errors import MissingExtraError, OutputError, StorageError, TooLargeError
from faceproof.images import printable
from faceproof.inputs import Inputs
from tests.helpers import answering, environment
from tests.object_store import (
    KEY_ID,
    SECRET,
    TOKEN,
    Proxy,
    Request,
    forget_stores,
    free_port,
    get,
    put,
)  # fmt: skip
from tests.test_shards import tar_of

pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
pytest.importorskip("moto", reason="the S3 server for tests is not installed")

LIMIT = 2**20
NAMES = itertools.count()


def nothing_secret(text: object) -> None:
    for secret in (SECRET, TOKEN, KEY_ID, "Signature="):
        assert secret not in str(text)


# ---- names

REDACTED = {
    "https://example.org/a.jpg?size=2": "https://example.org/a.jpg?size=2",
    "https://me:word@example.org/a.jpg": "https://***@example.org/a.jpg",
    "https://token@example.org/a.jpg": "https://***@example.org/a.jpg",
    "s3://key:secret@bucket/a.jpg": "s3://***@bucket/a.jpg",
    "https://b.s3.amazonaws.com/a.jpg?X-Amz-Credential=AKIA%2Fx&X-Amz-Date=1&X-Amz-Signature=abc": (
        "https://b.s3.amazonaws.com/a.jpg?X-Amz-Credential=***&X-Amz-Date=***&X-Amz-Signature=***"
    ),
    "https://s/a?AWSAccessKeyId=K&Signature=S&Expires=9&id=1": (
        "https://s/a?AWSAccessKeyId=***&Signature=***&Expires=***&id=1"
    ),
    "https://s/a?sv=2024&sig=xyz%3D": "https://s/a?sv=2024&sig=***",
    "https://s/a?access_token=xyz&author=me": "https://s/a?access_token=***&author=me",
    "https://s/a?key=AIzaSyD&x=1": "https://s/a?key=***&x=1",
    "https://s/a?key=photo1": "https://s/a?key=photo1",
    "https://s/a.tar?sig=1::b.jpg": "https://s/a.tar?sig=***::b.jpg",
    "https://s/a?api_key=1&apikey=2&x-api-key=3&password=4": "https://s/a?api_key=***&apikey=***&x-api-key=***&password=***",
    "s3://bucket/me@example.org?token=1/a.jpg": "s3://bucket/me@example.org?token=***",
}


@pytest.mark.parametrize("url", REDACTED)
def test_what_opens_doors_is_left_out(url: str) -> None:
    assert servers.redacted(url) == REDACTED[url]
    assert printable(url) == REDACTED[url]
    assert servers.redacted(servers.redacted(url)) == servers.redacted(url)


def test_paths_keep_their_names() -> None:
    for path in ("a?token=b.jpg", "me@b.jpg", "/tmp/x?sig=1"):
        assert printable(path) == path


@given(st.text(alphabet="abc{}.0129/", max_size=20))
def test_braces_stand_for_numbers_or_for_themselves(text: str) -> None:
    try:
        names = remote.expanded(text)
    except UsageError:
        assert "{" in text
        return
    assert len(set(names)) == len(names) or "{" in text
    assert (names == [text]) or ".." in text


def test_braces() -> None:
    assert remote.expanded("s-{008..011}.tar") == ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]
    assert remote.expanded("{0..1}/{0..1}") == ["0/0", "0/1", "1/0", "1/1"]
    for wrong in ("{3..1}", "{0..999999}"):
        with pytest.raises(UsageError, match="no names or too many"):
            remote.expanded(wrong)


# ---- objects


def test_objects_are_read_as_they_are(store: Proxy, bucket: str) -> None:
    objects = {"a.jpg": b"one", "deep/er/b c.jpg": b"two", "ü ñ.jpg": b"three", "50%+#x.jpg": b"four", "empty": b""}
    put(store, bucket, objects)
    for key, data in objects.items():
        assert remote.read(f"s3://{bucket}/{key}", LIMIT) == data
    assert remote.read(f"S3://{bucket}/a.jpg", 3) == b"one"
    with pytest.raises(TooLargeError, match="over the limit"):
        remote.read(f"s3://{bucket}/a.jpg", 2)
    assert remote.read_range(f"s3://{bucket}/deep/er/b c.jpg", 1, 2) == b"wo"


def test_one_missing_or_denied_object_is_a_pictures_error(store: Proxy, bucket: str) -> None:
    put(store, bucket, {"a.jpg": b"one"})
    with pytest.raises(UnreadableError, match="no such object"):
        remote.read(f"s3://{bucket}/b.jpg", LIMIT)
    store.rule = lambda request: "403 AccessDenied"
    with pytest.raises(UnreadableError, match="permission denied"):
        remote.read(f"s3://{bucket}/a.jpg", LIMIT)


@pytest.mark.parametrize(
    "action", ["500 InternalError", "503 SlowDown", "503 ServiceUnavailable", "reset", "cut", "slow"]
)
def test_what_fails_twice_is_asked_for_again(action: str, store: Proxy, bucket: str) -> None:
    data = bytes(range(256)) * 400
    put(store, bucket, {"a.jpg": data, "b.jpg": data})
    store.rule = lambda request: action if request.number < 2 and request.method == "GET" else None
    assert remote.read(f"s3://{bucket}/a.jpg", LIMIT) == data
    assert store.count("GET", "a.jpg") == (1 if action == "slow" else 3)
    assert list(remote.listing(f"s3://{bucket}/")) == [f"s3://{bucket}/a.jpg", f"s3://{bucket}/b.jpg"]
    with remote.opened(f"s3://{bucket}/b.jpg") as stream:
        assert stream.read() == data


@pytest.mark.parametrize(
    ("action", "pattern"),
    [
        ("500 InternalError", "fails or does not answer .InternalError"),
        ("403 ExpiredToken", "no credentials, or they are not accepted .ExpiredToken"),
        ("403 InvalidAccessKeyId", "not accepted"),
        ("403 SignatureDoesNotMatch", "not accepted"),
        ("reset", "fails or does not answer"),
    ],
)
def test_a_store_that_fails_for_good_is_a_storage_error(action: str, pattern: str, store: Proxy, bucket: str) -> None:
    put(store, bucket, {"a.jpg": b"one"})
    store.rule = lambda request: action
    for act in (
        lambda: remote.read(f"s3://{bucket}/a.jpg", LIMIT),
        lambda: list(remote.listing(f"s3://{bucket}/")),
    ):
        with pytest.raises(StorageError, match=pattern) as raised:
            act()
        assert f"s3://{bucket}" in str(raised.value)
        assert "\n" not in str(raised.value)
        nothing_secret(raised.value)
        assert raised.value.__cause__ is None


def test_buckets_that_are_not_there_or_not_ours(store: Proxy, bucket: str) -> None:
    for act in (
        lambda: remote.read("s3://no-such-bucket/a.jpg", LIMIT),
        lambda: list(remote.listing("s3://no-such-bucket/")),
        lambda: remote.replace("s3://no-such-bucket/x", b""),
    ):
        with pytest.raises(StorageError, match="there is no s3://no-such-bucket; check the name"):
            act()
    store.rule = lambda request: "403 AccessDenied"
    for act in (lambda: list(remote.listing(f"s3://{bucket}/")), lambda: remote.replace(f"s3://{bucket}/x", b"")):
        with pytest.raises(StorageError, match="permission denied; check what you may list"):
            act()
    with pytest.raises(UsageError, match=r"s3://\*\*\*@b/x: credentials have no place in URLs"):
        remote.read("s3://KEY:SECRET@b/x", LIMIT)
    with pytest.raises(UsageError, match="no bucket in s3:///"):
        list(remote.listing("s3:///"))


def test_no_credentials_at_all(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    forget_stores()
    try:
        with pytest.raises(StorageError, match="no credentials, or they are not accepted .NoCredentialsError"):
            remote.read(f"s3://{bucket}/a.jpg", LIMIT)
    finally:
        forget_stores()


def test_without_the_extra_the_install_line_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    remote._file_system.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r'pip install "faceproof\[remote\]"'):
            list(Inputs([f"s3://{bucket}/in/"]))
    finally:
        remote._file_system.cache_clear()


# ---- lists


def test_listings_come_page_by_page_in_order(store: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAGE", 3)
    keys = sorted(f"{folder}{n}.jpg" for folder in ("a/", "a/b/", "") for n in range(4)) + ["z/"]
    put(store, bucket, dict.fromkeys(keys, b"x"))
    found = remote.listing(f"s3://{bucket}/")
    assert next(found) == f"s3://{bucket}/{keys[0]}"
    assert store.count("GET", "list-type=2") == 1  # the rest is not asked for yet
    assert [keys[0], *(url.removeprefix(f"s3://{bucket}/") for url in found)] == keys[:-1]
    assert store.count("GET", "list-type=2") == 5
    assert len(list(remote.listing(f"s3://{bucket}/a/"))) == 8
    assert list(remote.listing(f"s3://{bucket}/nothing/")) == []
    assert len(list(remote.matching(f"s3://{bucket}/a/*.jpg"))) == 4
    assert len(list(remote.matching(f"s3://{bucket}/a/**/*.jpg"))) == 8
    assert list(remote.matching(f"s3://{bucket}/[0-1].jpg")) == [f"s3://{bucket}/0.jpg", f"s3://{bucket}/1.jpg"]


# ---- writing


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "large.bin"
    path.write_bytes(b"".join(bytes([n % 251]) * 2**20 for n in range(2 * 8 + 3)))
    return path


def test_large_files_go_up_in_parts_that_may_fail(store: Proxy, bucket: str, large: Path) -> None:
    def rule(request: Request) -> str | None:
        if request.method == "PUT" and "partNumber=2" in request.query:
            tries = sum("partNumber=2" in each.query for each in store.seen)
            return ["500 InternalError", "reset", None][min(tries - 1, 2)]
        return "slow" if "partNumber=1" in request.query else None

    store.rule = rule
    remote.upload(large, f"s3://{bucket}/up/large.bin")
    assert get(store, bucket, "up/large.bin") == large.read_bytes()
    assert store.count("PUT", "partNumber") == 5


def test_an_upload_that_breaks_off_leaves_nothing(store: Proxy, bucket: str, large: Path) -> None:
    store.rule = lambda request: "403 ExpiredToken" if "partNumber=3" in request.query else None
    with pytest.raises(StorageError, match="not accepted"):
        remote.upload(large, f"s3://{bucket}/large.bin")
    assert get(store, bucket, "large.bin") is None
    assert store.count("DELETE", "uploadId") == 1  # its parts cost nobody anything


def test_nothing_is_replaced_and_a_lost_answer_does_no_harm(store: Proxy, bucket: str, tmp_path: Path) -> None:
    small, other = tmp_path / "small", tmp_path / "other"
    small.write_bytes(b"one")
    other.write_bytes(b"two")
    remote.upload(small, f"s3://{bucket}/x")
    remote.upload(small, f"s3://{bucket}/x")  # the same: an answer may have been lost
    with pytest.raises(OutputError, match="written by another run at the same time"):
        remote.upload(other, f"s3://{bucket}/x")
    assert get(store, bucket, "x") == b"one"
    store.rule = lambda request: "cut" if request.method == "PUT" and request.number == 0 else None
    remote.upload(small, f"s3://{bucket}/y")
    assert get(store, bucket, "y") == b"one"
    remote.replace(f"s3://{bucket}/y", b"new")
    assert get(store, bucket, "y") == b"new"
    remote.remove(f"s3://{bucket}/y")
    assert get(store, bucket, "y") is None


# ---- plain servers


class _Files(http.server.BaseHTTPRequestHandler):
    """Gives `content` under any name: /ranges from the middle too, /plain as a whole only, /sizeless in chunks."""

    content = b""
    faults: Iterator[str | None] = iter(())
    version = "1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found and self.path.startswith("/ranges") else 0
        fault = next(_Files.faults, None)
        if self.path[1:].isdigit() or (fault or "").isdigit():
            self.send_error(int(fault or self.path[1:]))
            return
        if start and start >= len(self.content):
            self.send_error(416)
            return
        data = self.content[start:]
        self.send_response(206 if found and self.path.startswith("/ranges") else 200)
        self.send_header("ETag", self.version)
        if not self.path.startswith("/sizeless"):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(servers, "FIRST_WAIT", 0.01)
    _Files.content, _Files.faults, _Files.version = bytes(range(256)) * 20_000, iter(()), "1"  # 5 MB
    with answering(_Files) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("way", ["ranges", "plain", "sizeless"])
def test_files_on_a_server(way: str, server: str) -> None:
    with remote.opened(f"{server}/{way}?token=hidden") as stream:
        assert stream.seekable() is (way == "ranges")
        assert stream.read() == _Files.content
    with remote.opened(f"{server}/{way}") as stream:  # forwards, by little and by much
        raw = stream.raw
        assert raw.seek(1000) == 1000
        assert raw.read(4) == _Files.content[1000:1004]
        if way == "ranges":
            assert stream.seek(-10, io.SEEK_END) == len(_Files.content) - 10
            assert stream.read() == _Files.content[-10:]
            assert stream.seek(0) == 0
            assert stream.read(3) == _Files.content[:3]
        else:
            with pytest.raises(UnreadableError, match="from their beginning only; download it first"):
                raw.seek(4_000_000)
    _Files.content = b""
    with remote.opened(f"{server}/{way}") as stream:
        assert stream.read() == b""


@pytest.mark.parametrize("way", ["ranges", "plain"])
def test_files_that_break_off_are_gone_on_with(way: str, server: str) -> None:
    _Files.faults = iter(["503", "cut", "500", "cut", None])
    with remote.opened(f"{server}/{way}") as stream:
        assert stream.read() == _Files.content
    _Files.faults = iter(["cut"] + ["502"] * 20)
    with remote.opened(f"{server}/{way}?sig=hidden") as stream, pytest.raises(StorageError) as raised:
        stream.read()
    assert "fails or does not answer (502)" in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_a_file_that_changes_while_it_is_read_is_an_error(server: str) -> None:
    _Files.faults = iter(["cut"])
    with remote.opened(f"{server}/ranges") as stream:
        stream.read(100)
        _Files.version = "2"
        with pytest.raises(StorageError, match="was changed while it was read"):
            stream.read()


def test_what_a_server_refuses(server: str) -> None:
    for code, message in {404: "no such object", 410: "no such object", 403: "permission denied", 418: "418"}.items():
        with pytest.raises(UnreadableError, match=message):
            remote.opened(f"{server}/{code}")
    with pytest.raises(UnreadableError, match="a user or password in the URL"):
        remote.opened(server.replace("http://", "http://me:hunter2@"))
    with pytest.raises(StorageError, match="does not answer") as raised:
        remote.opened("http://127.0.0.1:1/a.bin?token=hidden")
    assert "hidden" not in str(raised.value)


def test_shards_and_lists_on_a_server(server: str, face_jpeg: bytes) -> None:
    files = {f"{number}.jpg": face_jpeg * 20 for number in range(20)}
    _Files.content = tar_of(files)
    for way in ("ranges", "plain"):
        _Files.faults = iter(["cut", None])
        url = f"{server}/{way}/x.tar?signature=s"
        found = list(Inputs([url]))
        assert [item.path for item in found] == [f"{url}::{name}" for name in files]
        assert [item.data for item in found] == list(files.values())
    _Files.content = b"path\na.jpg\n/etc/passwd\n"
    assert [(item.path, item.error is None) for item in Inputs([f"{server}/plain/sub/list.csv?id=1"])] == [
        (f"{server}/plain/sub/a.jpg", True), ("/etc/passwd", False)
    ]  # fmt: skip
    assert remote.read_range(f"{server}/ranges/list.csv", 5, 5) == b"a.jpg"


# ---- Google's protocol


def test_google_buckets(tmp_path: Path) -> None:
    """Against an emulator, in a process of its own: gcsfs reads the environment on import, and warns a lot."""
    for module in ("gcsfs", "gcp_storage_emulator"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: it is too large for every run of the tests")
    port = free_port()
    script = f"""
from pathlib import Path
from gcp_storage_emulator.server import create_server
from faceproof import UnreadableError, remote
from faceproof.errors import OutputError, StorageError
server = create_server("127.0.0.1", {port}, in_memory=True, default_bucket="bucket")
server.start()
local = Path({str(tmp_path / "local")!r})
local.write_bytes(b"hello" * 1000)
remote.upload(local, "gs://bucket/in/a.jpg")
remote.replace("gs://bucket/in/b.jpg", b"")
print(len(remote.read("gs://bucket/in/a.jpg", 10**6)), remote.read("gs://bucket/in/b.jpg", 5))
print(list(remote.listing("gs://bucket/in/")), list(remote.matching("gs://bucket/*/a.*")))
print(remote.read_range("gs://bucket/in/a.jpg", 4994, 6))
for act in (lambda: remote.read("gs://bucket/c.jpg", 5), lambda: list(remote.listing("gs://nobody/"))):
    try:
        act()
    except (UnreadableError, StorageError) as err:
        print(type(err).__name__)
remote.remove("gs://bucket/in/b.jpg")
print(list(remote.listing("gs://bucket/")))
server.stop()
"""
    env = environment({
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "GOOGLE_CLOUD_PROJECT": "x", "FSSPEC_GS_TOKEN": "anon", "FSSPEC_GCS_TOKEN": "anon", "no_proxy": "127.0.0.1",
    })  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "5000 b''", "['gs://bucket/in/a.jpg', 'gs://bucket/in/b.jpg'] ['gs://bucket/in/a.jpg']", "b'ohello'",
        "UnreadableError", "StorageError", "['gs://bucket/in/a.jpg']",
    ]  # fmt: skip
