"""Files of JSON lines that are appended to: one writer at a time, never half a record."""

from __future__ import annotations

import contextlib
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar

from faceproof.errors import OutputError, UsageError
from faceproof.inputs import IdSet

__all__ = ["Journal", "Journaled", "cut_torn_line", "lock", "write_all"]

_BEGINNING = b'{"path":"'
_OFTEN = 1 << 14
Step = Callable[[int, int], None]


class Journaled(Protocol):
    """What a `Journal` holds: one record a path."""

    @property
    def path(self) -> str:
        """Of the picture."""

    @property
    def status(self) -> str:
        """What became of it."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it, the path first."""


R = TypeVar("R", bound=Journaled)
J = TypeVar("J", bound="Journal[Any]")


class Journal(ABC, Generic[R]):
    """Records on disk as JSON lines. A run that was stopped goes on after them; use it in a `with` block.

    Attributes:
        holds: what it holds, for messages.
        path: of the file.
        done: paths that have their record already.
        counts: records by status; a path counts once, where it comes first.
    """

    holds = "records"

    def __init__(self, path: Path) -> None:
        self.path, self.done, self.counts = path, IdSet(), Counter[str]()
        self._stream: IO[bytes] | None = None
        self._made, self._good = False, 0

    def __enter__(self: J) -> J:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is None:
            return
        with contextlib.suppress(OSError):  # an error while writing was raised by write()
            if self._made and not self._good:
                self.path.unlink()  # made by us and never written to: nothing is left behind
            self._stream.close()

    @property
    def total(self) -> int:
        """Records of this and earlier runs."""
        return sum(self.counts.values())

    def open(self, *, overwrite: bool = False, step: Step = lambda done, total: None) -> None:
        """Open the file to go on with it, or begin one.

        Args:
            overwrite: begin anew instead of going on from what is there.
            step: called now and then with bytes read and in all.

        Raises:
            UsageError: a folder.
            OutputError: it cannot be written, another run is writing it, or it holds something else.
        """
        path = self.path
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give a file")
        self._made = not path.exists()
        if not self._made and not path.is_file():  # /dev/zero has no last line
            raise UsageError(f"{path} is a device or pipe; {self.holds} need a file that can be read again")
        try:
            self._stream = stream = open(path, "ab+", buffering=0)  # noqa: SIM115  (closed by the with block)
        except OSError as err:
            said = err.strerror or err
            raise OutputError(f"cannot write {path} ({said}); check the folder and its permissions") from err
        try:
            lock(stream, path)
            if overwrite:
                os.ftruncate(stream.fileno(), 0)
            else:
                self.read(step)
                self._good = cut_torn_line(stream)
        except BaseException as err:
            stream.close()
            if isinstance(err, OSError):
                said = err.strerror or err
                raise OutputError(f"cannot use {path} ({said}); check the file, or choose another") from err
            raise

    def read(self, step: Step = lambda done, total: None) -> None:
        """Take in all records, as `open` does, without opening the file for writing.

        Raises:
            OutputError: it holds something else.
            OSError: it cannot be read.
        """
        for _, record in self._records(step=step):
            self._take(record)

    def write(self, record: R) -> None:
        """Append one record, whole or not at all.

        Raises:
            OutputError: the disk is full or the file cannot be written; what was there is safe.
        """
        assert self._stream is not None  # open() was called
        data = json.dumps(record.to_dict(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            write_all(self._stream, data)
        except OSError as err:
            with contextlib.suppress(OSError):
                os.ftruncate(self._stream.fileno(), self._good)
            raise OutputError(
                f"cannot write to {self.path} ({err.strerror or err}); {self.total} records are safe in it; "
                "mend it and run the same command again to go on"
            ) from err
        self._good += len(data)
        self._take(record)

    def not_ours(self, why: str) -> OutputError:
        """Return the error of a file that holds something else."""
        return OutputError(
            f"{self.path} exists and does not hold the {self.holds} that are asked for ({why}); choose another file, "
            "the options it was made with, or --overwrite"
        )

    @abstractmethod
    def _parse(self, line: bytes, where: str) -> R:
        """Return the record of a line, or raise `not_ours`."""

    def _take(self, record: R) -> bool:
        """Remember a record that is in the file now; return whether its path is new."""
        new = self.done.add(record.path)
        if new:
            self.counts[record.status] += 1
        return new

    def _records(
        self, wanted: Callable[[int], bool] = lambda place: True, step: Step = lambda done, total: None
    ) -> Iterator[tuple[int, R]]:
        """Read records in the order of the file, each with its place: 0, 1, ...

        Args:
            wanted: called with each place; the others are passed over without being looked at.
            step: called now and then with bytes read and in all.

        Raises:
            OutputError: the file holds something else.
        """
        with self.path.open("rb") as stream:
            size, done = os.fstat(stream.fileno()).st_size, 0
            for place, line in enumerate(stream):
                done += len(line)
                if place % _OFTEN == 0:
                    step(done, size)
                if not line.endswith(b"\n"):  # torn by a power cut or kill -9; cut off on opening for writing
                    if not (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                        raise self.not_ours(f"line {place + 1} has no end and does not begin like a record")
                    return
                if wanted(place):
                    yield place, self._parse(line, f"line {place + 1}")


def write_all(stream: IO[bytes], data: bytes) -> None:
    """An unbuffered write may take a part; the rest follows or an OSError says why not."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]
    stream.flush()


def lock(stream: IO[bytes], path: Path) -> None:
    """Keep other processes that lock it out of the file, until it is closed or this process ends.

    Raises:
        OutputError: another one is writing it.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"another scan is writing {path}; wait for it, or choose another file") from None
    except OSError:  # devices and some network file systems cannot be locked
        return
    if not os.fstat(stream.fileno()).st_nlink:
        # Made, left empty and removed by another scan between our opening and locking it.
        raise OutputError(f"another scan has just given up {path}; run the command again")


def cut_torn_line(stream: IO[bytes]) -> int:
    """Cut the file after its last complete line; return its length."""
    end = stream.seek(0, os.SEEK_END)
    position = end
    while position > 0:
        start = max(0, position - (1 << 16))
        stream.seek(start)
        newline = stream.read(position - start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        os.ftruncate(stream.fileno(), position)
    return position
