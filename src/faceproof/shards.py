"""Many pictures in one file: tar shards (WebDataset's) and Parquet files with pictures' bytes.

A picture in a shard is named `SHARD::MEMBER`; of Parquet the member is the number of the row, from 0. Shards are read
from the beginning to the end, once, whether they lie on disk, in a bucket or on a server.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import re
import stat
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, cast

from faceproof.errors import DamagedError, PictureError, TooLargeError, UnreadableError
from faceproof.extras import require
from faceproof.remote import is_url, location, opened, read_range

__all__ = ["Member", "is_tar", "member", "members", "picture_column", "rows", "split"]

COLUMNS = ("image", "picture", "bytes", "jpg", "jpeg", "png", "webp", "image_bytes", "content", "data")
"""Parquet columns of bytes that hold pictures; a struct with `bytes` in it may have any name (Hugging Face's way)."""
_TARS = (".tar", ".tar.gz", ".tgz")
_MEMBER = re.compile(r"(?is)^(.+?(?:\.tar|\.tar\.gz|\.tgz|\.parquet)(?:\?[^:]*)?)::(.+)$")
_BLOCK = 512
_HEADER_BYTES = 2**20
"""More than any honest header of a member needs (long names, attributes)."""


@dataclass(frozen=True)
class Member:
    """One picture of a shard: its name and its bytes, or why there are none."""

    name: str
    data: bytes | None = field(default=None, repr=False)
    error: str | None = None


def is_tar(path: str) -> bool:
    """Return whether a path or URL is that of a tar shard, by its ending."""
    return location(path).lower().endswith(_TARS)


def split(path: str) -> tuple[str, str] | None:
    """Return shard and member of the name of a picture in a shard; None for any other name."""
    found = _MEMBER.match(path)
    return None if found is None or os.path.lexists(path) else (found[1], found[2])


def members(
    path: str, wanted: Callable[[str], bool], max_bytes: int, *, ignored: Callable[[], None] = lambda: None
) -> Iterator[Member]:
    """Yield the pictures of a tar shard in their order.

    Args:
        path: of a .tar, .tar.gz or .tgz: file or URL.
        wanted: by the name of a member, whether it is a picture.
        max_bytes: larger members are named, not read.
        ignored: called for every member that is not wanted.

    Raises:
        UnreadableError, DamagedError: the shard cannot be read, or not from here on.
        StorageError: the store that it lies in fails.
    """
    seen = Counter[str]()
    for info, forward in _headers(path, max_bytes):
        if info.isdir():
            continue
        if not wanted(info.name):
            ignored()
            continue
        seen[info.name] += 1
        name = info.name if seen[info.name] == 1 else f"{info.name}#{seen[info.name]}"
        if not info.isreg() or info.issparse():
            yield Member(name, error="a link or another special member, not a file; unpack the shard")
        elif info.size > max_bytes:
            yield Member(name, error=_too_large(info.size, max_bytes))
        else:
            with _damage():
                forward.seek(info.offset_data)
                data = forward.read(info.size)
            yield Member(name, data)


def rows(path: str, max_bytes: int, *, first: int = 0) -> Iterator[Member]:
    """Yield the pictures of a Parquet file, row by row; `first`: of the row to begin with.

    Raises:
        UnreadableError, DamagedError: the file cannot be read, or has no column of pictures.
        StorageError: the store that it lies in fails.
    """
    with _parquet(path) as file:
        column = picture_column(file.schema_arrow)
        if column is None:
            raise UnreadableError(f"no column of pictures; name one {' or '.join(COLUMNS)}")
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        number = skipped = 0
        while skipped < len(counts) and number + counts[skipped] <= first:
            number += counts[skipped]
            skipped += 1
        groups = list(range(skipped, len(counts)))
        for batch in file.iter_batches(batch_size=16, columns=[column], row_groups=groups) if groups else ():
            for value in batch.column(0).to_pylist():
                if number >= first:
                    yield _row(str(number), value, max_bytes)
                number += 1


def picture_column(schema: Any) -> str | None:
    """Return the name of the column of a pyarrow schema that holds pictures' bytes, if one does."""
    types = require("parquet", "pyarrow").types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    for column in schema:
        if types.is_struct(column.type) and any(part.name == "bytes" and is_bytes(part.type) for part in column.type):
            return str(column.name)
    return next((name for name in COLUMNS if name in schema.names and is_bytes(schema.field(name).type)), None)


def member(path: str, name: str, max_bytes: int) -> bytes:
    """Read one picture of a shard; its place is looked up once and kept.

    Args:
        path, name: of `split`.
        max_bytes: what it may have.

    Raises:
        PictureError: it is not there, or cannot be read.
        StorageError: the store that the shard lies in fails.
    """
    if not is_tar(path):
        return _member_of_parquet(path, name, max_bytes)
    plain, _, number = name.rpartition("#")
    places = _places(path, _version(path))
    place = places.get((name, 1)) or (places.get((plain, int(number))) if number.isdigit() else None)
    if place is None:
        raise UnreadableError("the shard has no such member; check the name after ::")
    start, size = place
    if size > max_bytes:
        raise TooLargeError(_too_large(size, max_bytes))
    if location(path).lower().endswith(".tar"):
        return read_range(path, start, size) if is_url(path) else _read_local(path, start, size)
    with _opened(path) as stream:  # compressed: from the beginning
        forward = _Forward(stream, max_bytes)
        forward.seek(start)
        return forward.read(size)


def _member_of_parquet(path: str, name: str, max_bytes: int) -> bytes:
    if not name.isdigit():
        raise UnreadableError("a picture in a Parquet file is named by the number of its row; check what is after ::")
    found = next(rows(path, max_bytes, first=int(name)), None)
    if found is None:
        raise UnreadableError("the file has no such row; check the number after ::")
    if found.data is None:
        raise UnreadableError(found.error or "")
    return found.data


def _row(name: str, value: Any, max_bytes: int) -> Member:
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None:
        return Member(name, error="the row holds no bytes of a picture; put them into the file")
    return Member(name, data) if len(data) <= max_bytes else Member(name, error=_too_large(len(data), max_bytes))


def _too_large(size: int, limit: int) -> str:
    return f"{size / 2**20:.0f} MiB, over the limit of {limit / 2**20:.0f} MiB for a picture in a shard; unpack it"


class _Forward:
    """What tarfile reads from: forward only, in pieces of bounded size; `last` is the last piece."""

    def __init__(self, stream: IO[bytes], max_bytes: int, *, leaps: bool = False) -> None:
        self._stream, self._max, self._place, self._leaps = stream, max(max_bytes, _HEADER_BYTES), 0, leaps
        self.last = b""

    def tell(self) -> int:
        return self._place

    def seek(self, place: int) -> None:
        if place < self._place:
            raise DamagedError("the shard leads backwards; make it again")
        if self._leaps:
            self._place = self._stream.seek(place)
        while self._place < place:
            if not self.read(min(1 << 20, place - self._place)):
                return

    def read(self, size: int) -> bytes:
        if size > self._max:
            raise DamagedError(f"the shard has a header of {size / 2**20:.0f} MiB; make it again")
        parts = []
        while size and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
            self._place += len(part)
        self.last = b"".join(parts)
        return self.last


def _headers(path: str, max_bytes: int) -> Iterator[tuple[tarfile.TarInfo, _Forward]]:
    """Every member of a tar; the end has to be marked, or something is missing."""
    with _opened(path) as stream, _damage():
        forward = _Forward(stream, max_bytes, leaps=location(path).lower().endswith(".tar") and stream.seekable())
        archive = tarfile.TarFile(fileobj=forward, mode="r")  # type: ignore[arg-type]  # tell, seek and read are enough
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or it keeps every header
            yield info, forward
        if forward.last != bytes(_BLOCK):
            raise DamagedError("the shard breaks off or is damaged from here on; get it again")


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError) as err:
        said = " ".join(str(err).split())[:100]
        raise DamagedError(f"the shard is damaged or truncated ({said}); get it again") from err


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """A shard's bytes, unpacked."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(opened(path) if is_url(path) else _local(path))
        if location(path).lower().endswith(".tar"):
            yield stream
        else:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield cast("IO[bytes]", unpacked)


def _local(path: str) -> IO[bytes]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UnreadableError("not a file; give the shard itself")
        return open(path, "rb")
    except OSError as err:
        raise UnreadableError(f"the shard cannot be read ({err.strerror or err}); check the path") from err


def _read_local(path: str, start: int, size: int) -> bytes:
    with _local(path) as stream:
        stream.seek(start)
        return stream.read(size)


def _version(path: str) -> tuple[float, int]:
    """What changes when a local shard does."""
    if is_url(path):
        return 0.0, 0
    try:
        state = os.stat(path)
    except OSError as err:
        raise UnreadableError(f"the shard cannot be read ({err.strerror or err}); check the path") from err
    return state.st_mtime, state.st_size


@functools.lru_cache(maxsize=8)
def _places(path: str, version: tuple[float, int]) -> dict[tuple[str, int], tuple[int, int]]:
    """Where the members of a tar lie: (name, how many of that name) -> (start, bytes)."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    seen = Counter[str]()
    with contextlib.suppress(DamagedError):  # what comes before the damage can be read
        for info, _ in _headers(path, _HEADER_BYTES):
            if info.isreg() and not info.issparse():
                seen[info.name] += 1
                found[info.name, seen[info.name]] = info.offset_data, info.size
    return found


@contextlib.contextmanager
def _parquet(path: str) -> Iterator[Any]:
    parquet = require("parquet", "pyarrow.parquet")
    with contextlib.closing(opened(path) if is_url(path) else _local(path)) as stream:
        try:
            yield parquet.ParquetFile(stream)
        except PictureError:
            raise
        except (OSError, ValueError) as err:  # pyarrow's errors derive from these
            said = " ".join(str(err).split())[:100]
            raise DamagedError(f"the Parquet file is damaged or truncated ({said}); get it again") from err
