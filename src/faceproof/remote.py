"""Buckets and servers, reached by URL: s3://, gs://, http://, https://.

Nothing here runs unless a URL was given as an input or output, or stands in a manifest that was. A failure of one
object is a `PictureError`; one of the whole store (no such bucket, credentials not accepted, no answer after several
tries) is a `StorageError`, which ends a run so that it can be gone on with. Messages are our own: those of the
libraries below may hold URLs with signatures in them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from faceproof.errors import FaceproofError, OutputError, StorageError, TooLargeError, UnreadableError, UsageError
from faceproof.extras import require
from faceproof.servers import SERVERS, HttpFile, redacted, waits

__all__ = [
    "BucketFile", "create", "expanded", "is_bucket", "is_url", "listing", "location", "matching", "opened", "read",
    "read_range", "remove", "replace", "upload",
]  # fmt: skip

BUCKETS = ("s3://", "gs://")
PART = 8 * 2**20
"""Bytes of one part of a multipart upload; S3 asks for 5 MiB or more."""
PAGE = 1000
"""Names in one answer of a listing; S3 gives no more."""
LARGEST_LIST = 100_000
"""Names that one {000..999} may stand for."""
_CREDENTIALS = frozenset({
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "RequestTimeTooSkewed", "InvalidSecurity", "NotSignedUp", "AccountProblem", "AuthorizationHeaderMalformed",
})  # fmt: skip
T = TypeVar("T")


def is_url(text: str) -> bool:
    """Return whether text is a URL of a kind we read; file: and others are names of files like any other."""
    return text.lower().startswith(BUCKETS + SERVERS)


def is_bucket(text: str) -> bool:
    """Return whether text is a URL of something in a bucket."""
    return text.lower().startswith(BUCKETS)


def location(url: str) -> str:
    """Return the path of a URL, without query: what its ending is to be read from."""
    return url if is_bucket(url) else url.split("?", 1)[0].split("#", 1)[0]


def expanded(text: str) -> list[str]:
    """Return the names that {000..123} in a text stands for, WebDataset's way to write many shards; else the text.

    Raises:
        UsageError: they go backwards, or are too many.
    """
    found = re.search(r"\{(\d+)\.\.(\d+)\}", text)
    if found is None:
        return [text]
    low, high = int(found[1]), int(found[2])
    if not 0 <= high - low < LARGEST_LIST:
        raise UsageError(f"{found[0]} stands for no names or too many; write {{000..123}}, at most {LARGEST_LIST:,}")
    names = (f"{text[: found.start()]}{n:0{len(found[1])}d}{text[found.end() :]}" for n in range(low, high + 1))
    return [each for name in names for each in expanded(name)]


def read(url: str, max_bytes: int) -> bytes:
    """Read one object of a bucket.

    Raises:
        UnreadableError: it is not there, or may not be read.
        TooLargeError: it has more than `max_bytes` bytes.
        StorageError: the store fails as a whole.
    """
    store, path = _store(url)
    try:
        with _failures(url):
            data: bytes = store.cat_file(path, start=0, end=max_bytes + 1)
    except _EmptyError:
        return b""
    if len(data) > max_bytes:
        raise TooLargeError(
            f"over the limit of {max_bytes / 2**20:.0f} MiB; raise Limits.max_bytes if you trust the file"
        )
    return data


def read_range(url: str, start: int, size: int) -> bytes:
    """Read `size` bytes of an object from `start` on.

    Raises:
        UnreadableError, StorageError: as `read`.
    """
    with opened(url) as stream:
        stream.seek(start)
        return stream.read(size)


def opened(url: str) -> io.BufferedReader:
    """Open an object or a file on a server to read it bit by bit.

    Raises:
        UnreadableError, StorageError: as `BucketFile` and `servers.HttpFile`.
    """
    return io.BufferedReader(BucketFile(url) if is_bucket(url) else HttpFile(url), 1 << 20)


def listing(url: str) -> Iterator[str]:
    """Yield the URLs of all objects below a prefix, in the order of their names; of S3 page by page.

    Raises:
        StorageError: the bucket is not there, may not be listed, or fails.
    """
    store, path = _store(url)
    bucket, _, prefix = path.partition("/")
    scheme = url[: url.index("://")].lower()
    if not bucket:
        raise UsageError(f"no bucket in {redacted(url)}; write {scheme}://BUCKET/PREFIX/")
    if scheme != "s3":
        with _failures(url, whole=True):
            names = sorted(store.find(path))
        yield from (f"{scheme}://{name}" for name in names)
        return
    more: dict[str, Any] = {}
    while True:
        with _failures(url, whole=True):
            answer = store.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **more)
        for entry in answer.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # what consoles make for an empty folder
                yield f"s3://{bucket}/{entry['Key']}"
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def matching(url: str) -> Iterator[str]:
    """Yield the URLs in a bucket that match a pattern: *, ?, [...] within one level, ** across levels.

    Raises:
        StorageError: as `listing`.
    """
    glob_translate = require("remote", "fsspec.utils").glob_translate
    scheme, _, path = url.partition("://")
    pattern = re.compile(glob_translate(path))
    fixed = re.split(r"[*?[]", path, maxsplit=1)[0]
    for found in listing(f"{scheme}://{fixed}"):
        if pattern.match(found.partition("://")[2]):
            yield found


def create(local: Path, url: str) -> bool:
    """Put a file into a bucket, in parts where it is large, whole or not at all; return False where something is.

    Raises:
        StorageError: the bucket is not there, may not be written to, or fails.
    """
    store, path = _store(url)
    try:
        with _failures(url, whole=True):
            store.put_file(str(local), path, chunksize=PART, mode="create")
    except _ThereError:
        return False
    return True


def upload(local: Path, url: str) -> None:
    """Put a file into a bucket, in parts where it is large; it appears whole or not at all, and replaces nothing.

    Raises:
        OutputError: something else is there already.
        StorageError: the bucket is not there, may not be written to, or fails.
    """
    # An answer that got lost makes a second try of the libraries find what the first has put there.
    if not create(local, url) and read(url, 2 * local.stat().st_size + 1) != local.read_bytes():
        raise OutputError(f"{url} was written by another run at the same time; run the command again")


def replace(url: str, data: bytes) -> None:
    """Put bytes into a bucket, in place of what is there.

    Raises:
        StorageError: the bucket is not there, may not be written to, or fails.
    """
    store, path = _store(url)
    with _failures(url, whole=True):
        store.pipe_file(path, data)


def remove(url: str) -> None:
    """Remove an object.

    Raises:
        StorageError: it may not be removed, or the bucket fails.
    """
    store, path = _store(url)
    with _failures(url, whole=True):
        store.rm_file(path)


class BucketFile(io.RawIOBase):
    """An object to read bit by bit; a piece that fails is asked for again.

    Raises:
        UnreadableError: it is not there or may not be read; when opened.
        StorageError: it does not come, not even after several tries; when opened or read.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        store, path = _store(url)
        self._file: Any = _again(url, lambda: store.open(path, "rb", block_size=4 * 2**20, cache_type="readahead"))

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether the server can begin in the middle."""
        return bool(self._file.seekable())

    def tell(self) -> int:
        """Bytes from the beginning."""
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is fetched."""
        return int(_again(self.url, lambda: self._file.seek(offset, whence)))

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        place = self.tell()

        def piece() -> bytes:
            if self.tell() != place:
                self._file.seek(place)
            data: bytes = self._file.read(len(buffer))
            return data

        data = _again(self.url, piece)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let go of it."""
        with contextlib.suppress(Exception):  # nothing was written: nothing can be lost
            self._file.close()
        super().close()


def _again(url: str, act: Callable[[], T]) -> T:
    """Try a few times while the store fails."""
    for wait in waits():
        try:
            with _failures(url):
                return act()
        except StorageError:
            time.sleep(wait)
    with _failures(url):
        return act()


class _EmptyError(UnreadableError):
    """A range was asked for of an object of fewer bytes."""


class _ThereError(OutputError):
    """What was to be created is there."""


@contextlib.contextmanager
def _failures(url: str, *, whole: bool = False) -> Iterator[None]:
    """Turn what fsspec and the libraries below it raise into our errors; `whole`: about more than one object."""
    try:
        yield
    except (FaceproofError, MemoryError):
        raise
    # These libraries' exceptions (OSError, botocore's, aiohttp's, google's, asyncio's) have no base in common.
    except Exception as err:
        raise _ours(url, err, whole) from None  # their messages may hold signatures: not even as a cause


def _ours(url: str, err: Exception, whole: bool) -> Exception:
    code, shown = _code(err), redacted(url)
    store = "/".join(shown.split("/")[:3])
    kind = type(err).__name__
    if code in ("InvalidRange", "416"):
        return _EmptyError("the object is empty, or changed while it was read; run it again")
    if isinstance(err, FileExistsError) or code == "PreconditionFailed":
        return _ThereError(f"{shown} is there already; choose another name")
    if "Credential" in kind or "SSO" in kind or code in _CREDENTIALS:
        return StorageError(
            f"{store}: no credentials, or they are not accepted ({code or kind}); set AWS_PROFILE or AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY (Google: GOOGLE_APPLICATION_CREDENTIALS), or FSSPEC_S3_ANON=true if it is public"
        )
    if code == "NoSuchBucket" or (whole and isinstance(err, FileNotFoundError)):
        return StorageError(f"there is no {store}; check the name, and AWS_ENDPOINT_URL for a store of your own")
    if isinstance(err, FileNotFoundError) or code == "404":
        return UnreadableError("no such object; check the URL")
    if isinstance(err, PermissionError) or code in ("401", "403"):
        if whole:
            return StorageError(f"{shown}: permission denied; check what you may list, read and write there")
        return UnreadableError("permission denied; check who may read it")
    if isinstance(err, OSError) and err.errno and not code:
        kind = os.strerror(err.errno)
    return StorageError(f"{shown}: the store fails or does not answer ({code or kind}); run the command again to go on")


def _code(err: BaseException) -> str:
    """The store's own code of an error: S3's words, or an HTTP status."""
    for each in (err, err.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        status = getattr(each, "status", None) or getattr(each, "code", None)
        if isinstance(status, int):
            return str(status)
    return ""


def _store(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    scheme, _, path = url.partition("://")
    scheme = scheme.lower()
    if "@" in path.split("/", 1)[0]:
        raise UsageError(f"{redacted(url)}: credentials have no place in URLs; set AWS_PROFILE or the like")
    return _file_system(scheme), path


@functools.cache
def _file_system(scheme: str) -> Any:
    # Listings are not kept: they would grow, and hide what came since.
    if scheme == "s3":
        retries = {"mode": "standard", "max_attempts": 3}
        config = {"connect_timeout": 10, "read_timeout": 20, "retries": retries}
        store = require("remote", "s3fs").S3FileSystem(use_listings_cache=False, config_kwargs=config)
        store.retries = 3
        return store
    gcsfs = require("gcs", "gcsfs")
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it says on standard error what we say ourselves
    return gcsfs.GCSFileSystem(use_listings_cache=False)
