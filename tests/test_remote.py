"""Buckets and servers: read, list and write through requests that are slow, fail, are denied, or end half-way."""

from __future__ import annotations

import http.server
import io
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof import UnreadableError, UsageError, remote
from faceproof.errors import OutputError, StorageError, TooLargeError
from faceproof.images import printable
from tests.object_store import KEY_ID, SECRET, TOKEN, Proxy, Request, environment_of, get, put, running_store

pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
pytest.importorskip("moto", reason="the S3 server for tests is not installed")

LIMIT = 2**20
NAMES = itertools.count()


@pytest.fixture(scope="module")
def store() -> Iterator[Proxy]:
    with running_store() as proxy:
        yield proxy


@pytest.fixture
def bucket(store: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new, empty bucket, and an environment that leads there through the proxy."""
    for name, value in environment_of(store).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    store.reset()
    name = f"bucket-{next(NAMES)}"
    put(store, name, {})
    yield name
    store.reset()


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
    "https://s/a?api_key=1&apikey=2&x-api-key=3&password=4": "https://s/a?api_key=***&apikey=***&x-api-key=***&password=***",
    "s3://bucket/me@example.org?token=1/a.jpg": "s3://bucket/me@example.org?token=***",
}


@pytest.mark.parametrize("url", REDACTED)
def test_what_opens_doors_is_left_out(url: str) -> None:
    assert remote.redacted(url) == REDACTED[url]
    assert printable(url) == REDACTED[url]
    assert remote.redacted(remote.redacted(url)) == remote.redacted(url)


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
    with remote.Stream(f"s3://{bucket}/b.jpg") as stream:
        assert io.BufferedReader(stream).read() == data


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
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    remote._file_system.cache_clear()
    try:
        with pytest.raises(StorageError, match="no credentials, or they are not accepted .NoCredentialsError"):
            remote.read(f"s3://{bucket}/a.jpg", LIMIT)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
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


class _Files(http.server.SimpleHTTPRequestHandler):
    failures = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/denied"):
            self.send_error(403)
        elif _Files.failures > 0:
            _Files.failures -= 1
            self.send_error(503)
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    _Files.failures = 0

    def handler(*args: object) -> _Files:
        return _Files(*args, directory=str(tmp_path))  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_files_on_a_server(server: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "a.bin").write_bytes(data)
    _Files.failures = 2
    with remote.Stream(f"{server}/a.bin?token=hidden") as stream:
        assert io.BufferedReader(stream).read() == data
    with pytest.raises(UnreadableError, match="no such object"):
        remote.Stream(f"{server}/missing.bin")
    with pytest.raises(UnreadableError, match="permission denied"):
        remote.Stream(f"{server}/denied.bin")
    with pytest.raises(StorageError, match="does not answer") as raised:
        remote.Stream("http://127.0.0.1:1/a.bin?token=hidden")
    assert "hidden" not in str(raised.value)
