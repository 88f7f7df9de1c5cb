"""What lies in a folder or below a prefix of a bucket: names, and bytes of lists. Nothing outside of it is opened."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any

from faceproof import remote
from faceproof.errors import PictureError, UsageError
from faceproof.images import SUFFIXES, printable
from faceproof.importing.rows import Notes

__all__ = ["LARGEST_LIST", "Tree", "json_entries", "open_tree"]

LARGEST_LIST = 512 * 2**20
"""Bytes of a list that is read whole; FFHQ's and FDF's, which may be larger, are read entry by entry."""
LARGEST_ENTRY = 4 * 2**20
"""Bytes of one entry of those."""


class Tree:
    """Files below a root.

    Attributes:
        root: absolute path of the folder, or URL of the prefix with a "/" at its end.
        names: of all files, relative to it, "/" between, sorted.
        only: the one file that was named instead of a folder, or "".
    """

    def __init__(self, root: str, names: list[str], *, only: str = "") -> None:
        self.root, self.names, self.only = root, sorted(names), only
        self._tails: dict[str, list[str]] | None = None

    @property
    def is_bucket(self) -> bool:
        """Whether it lies in a bucket."""
        return remote.is_url(self.root)

    @property
    def title(self) -> str:
        """The name of the folder or prefix: what a set without a better name is called."""
        return printable(os.path.basename(self.root.rstrip("/")) or "pictures")

    @cached_property
    def pictures(self) -> list[str]:
        """Names of files with a picture's ending."""
        return [name for name in self.names if os.path.splitext(name)[1].lower() in SUFFIXES]

    @cached_property
    def folders(self) -> set[str]:
        """Paths of all folders with files in them, however deep; "" is the root."""
        found = {""}
        for name in self.names:
            part = name.rpartition("/")[0]
            while part not in found:
                found.add(part)
                part = part.rpartition("/")[0]
        return found

    @cached_property
    def words(self) -> dict[str, str]:
        """Names of folders in lower case -> the path of the first with that name."""
        found: dict[str, str] = {}
        for path in sorted(self.folders - {""}):
            found.setdefault(path.rpartition("/")[2].lower(), path)
        return found

    def ending(self, suffix: str) -> list[str]:
        """Names of files with an ending; of a list that was given by its name, no others."""
        return [name for name in ([self.only] if self.only else self.names) if name.lower().endswith(suffix)]

    def __contains__(self, name: str) -> bool:
        return name in self._set

    @cached_property
    def _set(self) -> set[str]:
        return set(self.names)

    def find(self, path: str, *near: str) -> str | None:
        """Return the file that a list means by a path: below one of `near`, below the root, or by its end.

        Raises:
            UsageError: the path climbs ("..") or is empty; nothing is looked for.
        """
        wanted = path.replace("\\", "/").lstrip("/").removeprefix("./")
        parts = PurePosixPath(wanted).parts
        if not parts or ".." in parts or "\0" in wanted or ":" in parts[0]:
            raise UsageError("the path leads out of the data set; it must be relative, without ..")
        for base in (*near, ""):
            if (name := f"{base}/{wanted}" if base else wanted) in self:
                return name
        # Lists made elsewhere begin with folders of that machine: the longest end that names one file counts.
        candidates = self._by_tail(parts[-1])
        for start in range(1, len(parts)):
            end = "/".join(parts[start:])
            ending = [name for name in candidates if name == end or name.endswith(f"/{end}")]
            if len(ending) == 1:
                return ending[0]
            if ending:
                break
        return None

    def _by_tail(self, tail: str) -> list[str]:
        if self._tails is None:
            self._tails = {}
            for name in self.pictures:
                self._tails.setdefault(name.rpartition("/")[2], []).append(name)
        return self._tails.get(tail, [])

    def locate(self, name: str) -> str:
        """Return the path or URL of a file."""
        return self.root + name if self.is_bucket else os.path.join(self.root, *name.split("/"))

    def opened(self, name: str) -> IO[bytes]:
        """Open a list."""
        place = self.locate(name)
        return remote.opened(place) if self.is_bucket else open(place, "rb")

    def read(self, name: str, most: int = LARGEST_LIST) -> bytes:
        """Return the bytes of a list.

        Raises:
            UsageError: it cannot be read, or has more than `most` bytes.
        """
        try:
            with self.opened(name) as stream:
                data = stream.read(most + 1)
        except (OSError, PictureError) as err:
            raise UsageError(f"{self.shown(name)} cannot be read ({err}); check it") from err
        if len(data) > most:
            raise UsageError(f"{self.shown(name)} has more than {most / 2**20:.0f} MiB; that is no list")
        return data

    def text(self, name: str, most: int = LARGEST_LIST) -> str:
        """Return a list in UTF-8.

        Raises:
            UsageError: as `read`, or it is not UTF-8.
        """
        try:
            return self.read(name, most).decode("utf-8-sig")
        except UnicodeDecodeError as err:
            raise UsageError(f"{self.shown(name)} is not UTF-8 ({err.reason}); convert it") from err

    def json(self, name: str, most: int = LARGEST_LIST) -> Any:
        """Return what a JSON file holds.

        Raises:
            UsageError: as `text`, or it is not JSON.
        """
        try:
            return json.loads(self.text(name, most))
        except (ValueError, RecursionError) as err:
            raise UsageError(f"{self.shown(name)} is not JSON ({err}); get it again") from err

    def entries(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield the entries of a large JSON object one by one (`json_entries`)."""
        try:
            with self.opened(name) as stream:
                yield from json_entries(stream)
        except (OSError, ValueError, RecursionError, PictureError) as err:
            raise UsageError(f"{self.shown(name)} is not a JSON object of entries ({err}); get it again") from err

    def shown(self, name: str) -> str:
        """Return a file's place for messages."""
        return printable(self.locate(name))


def open_tree(source: str, notes: Notes) -> Tree:
    """List what lies in a folder, below a prefix, or beside a list that is given by its name.

    Links to files count where they lead into the folder; links to folders are not followed. What is left out is noted.

    Raises:
        UsageError: there is nothing at `source`.
        StorageError: the bucket fails.
    """
    if remote.is_url(source):
        return _bucket(source, notes)
    if os.path.isfile(source):
        root = str(Path(os.path.abspath(source)).parent)  # noqa: PTH100  (resolve() would follow links)
        name = os.path.basename(source)
        # A manifest names its pictures itself; other lists are looked for in their own folder.
        names = [name] if name.lower().endswith((".csv", ".parquet")) else _walk(root, notes)
        return Tree(root, names, only=name)
    if not os.path.isdir(source):
        raise UsageError(f"there is nothing at {printable(source)}; give a folder, a list, or s3://BUCKET/PREFIX/")
    root = os.path.abspath(source)  # noqa: PTH100
    return Tree(root, _walk(root, notes))


def _bucket(url: str, notes: Notes) -> Tree:
    if not remote.is_bucket(url):
        raise UsageError(f"{printable(url)}: a server's folders cannot be listed; give s3://BUCKET/PREFIX/ or a folder")
    only = ""
    if os.path.splitext(url)[1].lower() in (".csv", ".json", ".parquet"):
        url, _, only = url.rpartition("/")
    root = url if url.endswith("/") else f"{url}/"
    names = []
    for each in remote.listing(root):
        name = each[len(root) :]
        if ".." in name.split("/") or name.startswith("/"):
            notes.add("outside", printable(each), "an object whose name leads out of the prefix")
        else:
            names.append(name)
    if not names:
        raise UsageError(f"there is nothing below {printable(root)}; check the prefix")
    return Tree(root, names, only=only)


def _walk(root: str, notes: Notes) -> list[str]:
    real, names, stack = os.path.realpath(root), [], [root]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as err:
            notes.add("unreadable", printable(folder), f"the folder cannot be listed ({err.strerror or err})")
            continue
        for entry in entries:
            name = os.path.relpath(entry.path, root).replace(os.sep, "/")
            if why := _refused(entry, real):
                if entry.is_symlink() or os.path.splitext(name)[1].lower() in SUFFIXES:
                    notes.add("outside", printable(entry.path), why)
            elif entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            else:
                names.append(name)
    return names


def _refused(entry: os.DirEntry[str], root: str) -> str:
    """Why an entry of a folder is not part of the set; "" where it is."""
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not UTF-8, which a manifest cannot hold; rename it"
    if not entry.is_symlink():
        return ""
    try:
        inside = os.path.commonpath([root, os.path.realpath(entry.path, strict=True)]) == root
        folder = entry.is_dir()
    except (OSError, ValueError):
        return "a link that leads nowhere"
    if folder:
        return "a link to a folder is not followed; give that folder itself"
    return "" if inside else "a link that leads out of the data set; copy the file, or give its own folder"


def json_entries(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield key and value of each entry of one JSON object, holding no more than one entry and a block.

    Args:
        stream: bytes of UTF-8.

    Raises:
        ValueError: it is not a JSON object, breaks off, or has an entry of more than `LARGEST_ENTRY` letters.
    """
    text = _Forward(stream)
    text.expect("{")
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise ValueError(f"a key must be text, not {key!r}")  # noqa: TRY004  (as json)
        text.expect(":")
        yield key, text.value()
        if text.expect(",}") == "}":
            return


_AFTER = (",", ":", "}", " ", "\t", "\r", "\n")
"""What may follow a key or value."""


class _Forward:
    """JSON read from the beginning to the end, a block at a time."""

    BLOCK = 1 << 20

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._place, self._parse = "", 0, json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next letter that is no space; "" at the end."""
        while True:
            while (letter := self._text[self._place : self._place + 1]) in (" ", "\t", "\r", "\n"):
                self._place += 1
            if letter or not self._more():
                return letter

    def expect(self, letters: str) -> str:
        found = self.peek()
        if not found or found not in letters:
            raise ValueError(f"{' or '.join(letters)} wanted, not {found or 'the end'!r}")
        self._place += 1
        return found

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                found, end = self._parse(self._text, self._place)
            except json.JSONDecodeError:
                if len(self._text) - self._place > LARGEST_ENTRY or not self._more():
                    raise
            else:
                # A number that a block cuts may go on in the next one: 0 and 0.5, 1 and 1e9.
                if self._text[end : end + 1] in _AFTER or not self._more():
                    self._place = end
                    return found

    def _more(self) -> bool:
        """Read a block; let go of what was parsed."""
        data = self._stream.read(self.BLOCK)
        self._text = self._text[self._place :] + self._decoder.decode(data, final=not data)
        self._place = 0
        return bool(data)
