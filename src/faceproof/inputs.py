"""Folders, globs, manifests, lists, buckets and shards -> paths, each once, in a stable order.

Nothing is skipped in silence: what a folder holds besides pictures is counted, what cannot be listed
becomes an item with its error. Nothing is fetched that was not named by a URL, or by a URL in a manifest.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import io
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from faceproof import remote, shards
from faceproof.errors import PictureError, StorageError, UsageError
from faceproof.extras import require
from faceproof.images import SUFFIXES, Encoded, printable
from faceproof.video import VIDEO_SUFFIXES

__all__ = ["IdSet", "Inputs", "Item", "remaining", "until_failure"]

MANIFESTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".lst", ".parquet")
COLUMNS = ("path", "file", "filename", "file_name", "image", "picture")
SHARD_BYTES = 32 * 2**20
"""Largest picture in a shard: those under way are held in memory, about a hundred at most."""


T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One path to check, or the reason why something below it cannot be listed.

    Attributes:
        path: of the picture, its URL, or SHARD::MEMBER.
        error: why it cannot be checked, or None.
        data: the bytes of its file where they were read already (shards).
        shard: it is a whole shard, still to be read (`Inputs.whole_shards`).
    """

    path: str
    error: str | None = None
    data: bytes | None = field(default=None, repr=False)
    shard: bool = False

    @property
    def source(self) -> str | Encoded:
        """What `images.load` takes."""
        return self.path if self.data is None else Encoded(self.path, self.data)


class IdSet:
    """A set of strings in 8 bytes each: 64-bit hashes in a sorted array and a small buffer.

    Among 15 million strings the chance of any false match is 6e-6 (birthday bound).
    """

    def __init__(self, buffer: int = 1 << 15) -> None:
        self._sorted = np.zeros(0, np.uint64)
        self._recent: set[int] = set()
        self._buffer = buffer

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def __contains__(self, text: str) -> bool:
        return self._holds(self._key(text))

    def _holds(self, key: int) -> bool:
        if key in self._recent:
            return True
        place = int(np.searchsorted(self._sorted, np.uint64(key)))
        return place < len(self._sorted) and int(self._sorted[place]) == key

    def add(self, text: str) -> bool:
        """Add a string; return whether it was new."""
        key = self._key(text)
        if self._holds(key):
            return False
        self._recent.add(key)
        if len(self._recent) >= max(self._buffer, len(self._sorted) // 16):
            fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, fresh]))
            self._recent.clear()
        return True

    @staticmethod
    def _key(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def until_failure(items: Iterable[T], failures: list[StorageError]) -> Iterator[T]:
    """Yield items; a store that fails ends them. Its error is for the caller to raise when what came is worked on."""
    try:
        yield from items
    except StorageError as err:
        failures.append(err)


@contextlib.contextmanager
def remaining(
    items: Iterable[Item], done: IdSet, on_skip: Callable[[], None] = lambda: None
) -> Iterator[Iterator[Item]]:
    """Give the items that have no record yet; a run over them goes on where an earlier one stopped.

    Args:
        items: what was asked for, such as `Inputs`.
        done: paths, as `printable` gives them, that have their record.
        on_skip: called for each item that has it.

    Raises:
        StorageError: a bucket fails as a whole; raised at the end of the block, when what came before is worked on.
    """
    failures: list[StorageError] = []

    def wanted() -> Iterator[Item]:
        for item in until_failure(items, failures):
            if printable(item.path) in done:
                on_skip()
            else:
                yield item

    yield wanted()
    if failures:
        raise failures[0]


@dataclass
class Inputs:
    """What the user named on the command line.

    Attributes:
        arguments: paths of pictures, folders, manifests, tar or Parquet shards, glob patterns, URLs of any of
            these (s3, gs; http and https: no folders and patterns), or "-" for a list on standard input (one
            path a line, or separated by NUL bytes). {000..123} stands for these numbers.
        all_files: take every file of a folder, not only those with a picture's ending.
        stdin: where "-" is read from.
        videos: in folders and globs take videos too.
        whole_shards: do not read shards but name them, one item each: `inside` reads them, wherever that is.
        ignored: files passed over in folders because of their ending, counted while iterating.
    """

    arguments: Sequence[str]
    all_files: bool = False
    stdin: IO[bytes] | None = None
    videos: bool = False
    whole_shards: bool = False
    ignored: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not self.arguments:
            raise UsageError("nothing to check; give pictures, folders, globs, manifests, or - for a list on stdin")

    @property
    def countable(self) -> bool:
        """Whether iterating twice is possible, and cheap: not for a list on standard input, shards, and URLs."""
        return not any(each == "-" or remote.is_url(each) or _is_shard(each) for each in self.arguments)

    def __iter__(self) -> Iterator[Item]:
        """Yield every input once (by its path as printed), in a stable order.

        Raises:
            UsageError: a manifest without a path column, or a folder without a single picture.
            StorageError: a bucket or server fails as a whole.
        """
        self.ignored = 0
        seen = IdSet()
        for argument in self.arguments:
            names = [argument] if os.path.lexists(argument) else remote.expanded(argument)
            for item in (item for name in names for item in self._expand(name)):
                if seen.add(printable(item.path)):
                    yield item

    def count(self) -> int:
        """Return how many items there are, by walking once more; not for standard input."""
        return sum(1 for _ in Inputs(self.arguments, self.all_files, videos=self.videos))

    def _expand(self, argument: str) -> Iterator[Item]:
        if argument == "-":
            yield from _read_list(self.stdin or sys.stdin.buffer, ".")
        elif remote.is_url(argument):
            yield from self._url(argument)
        elif os.path.isdir(argument):
            yield from self._folder(argument)
        elif os.path.lexists(argument):
            yield from self._file(argument)
        elif glob.has_magic(argument) and shards.split(argument) is None:
            yield from self._glob(argument)
        else:
            yield Item(argument)  # reading it will say that it does not exist

    def _wanted(self, path: str) -> bool:
        ending = os.path.splitext(path)[1].lower()
        return ending in SUFFIXES or (self.videos and ending in VIDEO_SUFFIXES)

    def _file(self, path: str) -> Iterator[Item]:
        """One file or object: a shard, a manifest or a picture, by its ending."""
        ending = os.path.splitext(remote.location(path))[1].lower()
        if shards.split(path) is not None:
            yield Item(path)
        elif shards.is_tar(path) or (ending == ".parquet" and _holds_pictures(path)):
            yield from (Item(path, shard=True),) if self.whole_shards else self.inside(path)
        elif ending in MANIFESTS:
            yield from _manifest(path)
        else:
            yield Item(path)

    def inside(self, path: str) -> Iterator[Item]:
        """Yield the pictures of one shard, read from its beginning to its end; what fails is an item with its error.

        Raises:
            StorageError: the bucket or server that it lies in fails as a whole.
        """
        taken = False
        try:
            for member in self._members(path):
                taken = True
                yield Item(f"{path}::{member.name}", member.error, member.data)
        except PictureError as err:
            yield Item(path, str(err))
        else:
            if not taken:
                yield Item(path, "no pictures in this shard; check it, or take every file with --all-files")

    def _members(self, path: str) -> Iterator[shards.Member]:
        def wanted(name: str) -> bool:
            return self.all_files or os.path.splitext(name)[1].lower() in SUFFIXES

        def ignored() -> None:
            self.ignored += 1

        if shards.is_tar(path):
            return shards.members(path, wanted, SHARD_BYTES, ignored=ignored)
        return shards.rows(path, SHARD_BYTES)

    def _url(self, url: str) -> Iterator[Item]:
        if not remote.is_bucket(url):
            yield from self._file(url)
        elif glob.has_magic(url) and shards.split(url) is None:
            yield from self._objects(url, remote.matching(url), shards_too=True)
        elif url.endswith("/") or "/" not in url.partition("://")[2]:
            yield from self._objects(url, remote.listing(url if url.endswith("/") else f"{url}/"))
        elif os.path.splitext(url)[1]:
            yield from self._file(url)
        elif next(remote.listing(f"{url}/"), None) is not None:
            yield from self._objects(url, remote.listing(f"{url}/"))
        else:
            yield Item(url)

    def _objects(self, url: str, found: Iterator[str], *, shards_too: bool = False) -> Iterator[Item]:
        """Objects of a bucket, as a folder's files; a pattern also stands for shards."""
        taken = False
        for each in found:
            if shards_too and _is_shard(each):
                taken = True
                yield from self._file(each)
            elif not self.all_files and os.path.splitext(each)[1].lower() not in SUFFIXES:
                self.ignored += 1
            else:
                taken = True
                yield Item(each)
        if not taken:
            raise UsageError(
                f"no pictures in {printable(url)} (endings read: {', '.join(sorted(SUFFIXES))}); "
                "check the URL, or take every object with --all-files"
            )

    def _folder(self, folder: str) -> Iterator[Item]:
        taken = False
        for item in _walk(folder):
            if item.error is None and not self.all_files and not self._wanted(item.path):
                self.ignored += 1
                continue
            taken = True
            yield item
        if not taken:
            raise UsageError(
                f"no pictures in {printable(folder)} (endings read: {', '.join(sorted(SUFFIXES))}); "
                "check the folder, or take every file with --all-files"
            )

    def _glob(self, pattern: str) -> Iterator[Item]:
        matches = sorted(glob.iglob(pattern, recursive=True))
        if not matches:
            raise UsageError(f"nothing matches {pattern!r}; check the pattern")
        taken = False
        for match in matches:
            if os.path.isdir(match):
                continue  # `**` lists folders too; what they hold matches by itself
            if _is_shard(match):
                taken = True
                yield from self._file(match)
                continue
            if not self.all_files and not self._wanted(match):
                self.ignored += 1
                continue
            taken = True
            yield Item(match)
        if not taken:
            raise UsageError(
                f"{pattern!r} matches no pictures, only folders or files of other endings; "
                "check the pattern, give the folder itself, or take every file with --all-files"
            )


def _walk(top: str) -> Iterator[Item]:
    """Files below `top`, sorted by name, files before folders, folders reached by links last.

    Links are followed, but each folder is walked once, under its own name where it has one below `top`:
    links to links would multiply without end. A link back to a folder above it is named as a loop.
    """
    walked: set[tuple[int, int]] = set()
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    links: deque[tuple[str, frozenset[tuple[int, int]]]] = deque()
    while stack or links:
        folder, above = stack.pop() if stack else links.popleft()
        try:
            state = os.stat(folder)
            here = (state.st_dev, state.st_ino)
            if here in above:
                yield Item(folder, "a loop of folder links: it leads back to a folder above; remove the link")
                continue
            if here in walked:
                continue
            walked.add(here)
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as err:
            yield Item(folder, f"the folder cannot be listed ({err.strerror or err}); check its owner and mode")
            continue
        folders = []
        for entry in entries:
            try:
                inside = entry.is_dir()
            except OSError:  # a link loop; reading it will say so
                inside = False
            if not inside:
                yield Item(entry.path)
            elif entry.is_symlink():
                links.append((entry.path, above | {here}))
            else:
                folders.append((entry.path, above | {here}))
        stack.extend(reversed(folders))


def _is_shard(path: str) -> bool:
    """Whether a file holds many pictures, by its ending (a Parquet file may also be a list of them)."""
    return shards.is_tar(path) or remote.location(path).lower().endswith(".parquet")


def _holds_pictures(path: str) -> bool:
    """Whether a Parquet file holds pictures' bytes instead of their paths."""
    with _manifest_errors(path), _opened(path) as stream:
        return shards.picture_column(require("parquet", "pyarrow.parquet").read_schema(stream)) is not None


def _manifest(path: str) -> Iterator[Item]:
    """Paths named in a manifest, relative to its folder."""
    suffix = os.path.splitext(remote.location(path))[1].lower()
    base = f"{remote.location(path).rpartition('/')[0]}/" if remote.is_url(path) else str(Path(path).parent)
    with _manifest_errors(path), _opened(path) as stream:
        if suffix in (".txt", ".lst"):
            yield from _read_list(stream, base, mark=True)
            return
        rows = _parquet_rows(stream) if suffix == ".parquet" else _text_rows(stream, path, suffix)
        for number, row in enumerate(rows, 1):
            column = next((name for name in COLUMNS if row.get(name)), None)
            if column is None:
                raise UsageError(
                    f"{printable(path)}, entry {number}: no path; a manifest has a column named {' or '.join(COLUMNS)}"
                )
            yield _joined(base, str(row[column]))


@contextlib.contextmanager
def _manifest_errors(path: str) -> Iterator[None]:
    try:
        yield
    # pyarrow's errors derive from ValueError or OSError
    except (OSError, ValueError, csv.Error, PictureError) as err:
        raise UsageError(f"the manifest {printable(path)} cannot be read ({err})") from err


def _opened(path: str) -> IO[bytes]:
    return remote.opened(path) if remote.is_url(path) else open(path, "rb")


def _text_rows(raw: IO[bytes], path: str, suffix: str) -> Iterator[dict[str, Any]]:
    with io.TextIOWrapper(raw, newline="", encoding="utf-8-sig") as stream:
        if suffix in (".csv", ".tsv"):
            yield from csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ",")
            return
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as err:
                raise UsageError(f"{printable(path)}, line {number}: not JSON ({err})") from err
            yield row if isinstance(row, dict) else {"path": row}


def _parquet_rows(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    file = require("parquet", "pyarrow.parquet").ParquetFile(stream)
    names = [name for name in COLUMNS if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=names):
        yield from batch.to_pylist()


def _read_list(stream: IO[bytes], base: str, *, mark: bool = False) -> Iterator[Item]:
    """Paths one a line, or separated by NUL bytes (find -print0): which, the first block with either tells."""
    read = getattr(stream, "read1", stream.read)
    head = b""
    while b"\0" not in head and b"\n" not in head and (block := read(1 << 16)):
        head += block
    separator = b"\0" if b"\0" in head else b"\n"
    rest = head.removeprefix(b"\xef\xbb\xbf") if mark else head  # Windows editors' byte order mark
    while True:
        *whole, rest = rest.split(separator)
        for raw in whole:
            yield from _listed(raw, separator, base)
        if not (block := read(1 << 16)):
            break
        rest += block
    yield from _listed(rest, separator, base)


def _listed(raw: bytes, separator: bytes, base: str) -> Iterator[Item]:
    if path := raw.rstrip(b"\r") if separator == b"\n" else raw:
        yield _joined(base, os.fsdecode(path))


def _joined(base: str, name: str) -> Item:
    """An entry of a list: a URL, or a path relative to the list's folder."""
    if remote.is_url(name):
        return Item(name)
    if remote.is_url(base):
        if name.startswith(("/", "\\")) or ".." in name.split("/"):  # nobody else's list opens files of this machine
            return Item(name, "a list on a server names URLs, or paths below itself; mend the list")
        return Item(base + name)
    return Item(os.path.join(base, name) if base != "." else name)
