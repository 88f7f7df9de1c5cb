"""Folders of parts, here or in a bucket: files that appear whole or not at all, once, and are never changed.

`_manifest.json` beside them names them. Readers of datasets (pyarrow, DuckDB, Spark) pass over names that begin with
an underscore.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from faceproof import remote
from faceproof.errors import OutputError, PictureError, StorageError
from faceproof.images import printable

__all__ = ["LARGEST", "MANIFEST", "BucketFolder", "LocalFolder", "PartFolder"]

MANIFEST = "_manifest.json"
LARGEST = 2**31
"""Bytes of the largest part that is read back."""
_TEMPORARY = "_tmp."


class LocalFolder:
    """A folder on a disk, or on a file system that several machines share.

    Attributes:
        name: its path.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self._path = Path(path)

    def make(self) -> None:
        """Make it, unless it is there.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(
                f"cannot make the folder {printable(self.name)} ({err.strerror or err}); "
                "check its place and its permissions, or choose another"
            ) from err

    def names(self) -> Iterator[str]:
        """Yield the names in it, sorted.

        Raises:
            OutputError: it cannot be listed.
        """
        with self._errors("list"):
            found = sorted(each.name for each in self._path.iterdir()) if self._path.is_dir() else []
        yield from found

    def has(self, name: str) -> bool:
        """Return whether a file of this name is in it."""
        return (self._path / name).exists()

    def read(self, name: str) -> bytes:
        """Return the bytes of a file in it.

        Raises:
            OutputError: it cannot be read.
        """
        with self._errors("read"):
            return (self._path / name).read_bytes()

    def opened(self, name: str) -> IO[bytes]:
        """Open a file in it to append to.

        Raises:
            OutputError: it cannot be opened.
        """
        with self._errors("write"):
            return open(self._path / name, "ab")

    def create(self, name: str, local: Path) -> bool:
        """Put a file into it in one step; return False, and change nothing, where one of this name is.

        Raises:
            OutputError: it cannot be written (disk full, permissions).
        """
        temporary = self._path / f"{_TEMPORARY}{uuid.uuid4().hex}"
        with self._errors("write"):
            try:
                with local.open("rb") as source, temporary.open("wb") as target:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())
                os.link(temporary, self._path / name)  # rename would replace what another worker has put there
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Put bytes into it, in place of what is there.

        Raises:
            OutputError: it cannot be written.
        """
        temporary = self._path / f"{_TEMPORARY}{uuid.uuid4().hex}"
        with self._errors("write"):
            try:
                temporary.write_bytes(data)
                os.replace(temporary, self._path / name)
            finally:
                temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            OutputError: it may not be removed.
        """
        with self._errors("write"):
            (self._path / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what killed processes left half written."""
        for name in self.names():
            if name.startswith(_TEMPORARY):
                self.remove(name)

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise OutputError(
                f"cannot {verb} in {printable(self.name)} ({err.strerror or err}); mend it and run the same command "
                "again to go on"
            ) from err


class BucketFolder:
    """A prefix in a bucket; the same as `LocalFolder`, and what fails is a `StorageError`.

    Attributes:
        name: its URL, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.name = url

    def make(self) -> None:
        """Nothing has to be made."""

    def names(self) -> Iterator[str]:
        """Yield the names in it, sorted."""
        for url in remote.listing(f"{self.name}/"):
            yield url[len(self.name) + 1 :]

    def has(self, name: str) -> bool:
        """Return whether an object of this name is in it."""
        return next(remote.listing(f"{self.name}/{name}"), "") == f"{self.name}/{name}"

    def read(self, name: str) -> bytes:
        """Return the bytes of an object in it.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return remote.read(f"{self.name}/{name}", LARGEST)
        except PictureError as err:  # of this object; here it is one of the run
            raise StorageError(f"{self.name}/{name}: {err}") from err

    def create(self, name: str, local: Path) -> bool:
        """Put a file into it in one step; return False, and change nothing, where one of this name is."""
        return remote.create(local, f"{self.name}/{name}")

    def replace(self, name: str, data: bytes) -> None:
        """Put bytes into it, in place of what is there."""
        remote.replace(f"{self.name}/{name}", data)

    def remove(self, name: str) -> None:
        """Remove an object."""
        remote.remove(f"{self.name}/{name}")

    def tidy(self) -> None:
        """Nothing is ever half written here."""


PartFolder = LocalFolder | BucketFolder
