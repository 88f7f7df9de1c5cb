"""What an engine is: something that gives units of work to workers, wherever they run, until each was done.

A worker checks the pictures of a unit and puts their records into the run's folder as one part, named after the unit,
in one step and only if it is not there. So it does not matter how often an engine gives out a unit: to a worker that is
killed, to two at once, again in the next run. Its pictures have their records once, or not yet.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from faceproof._version import VERSION
from faceproof.errors import ModelError, OutputError, UsageError
from faceproof.extras import require
from faceproof.images import printable
from faceproof.part_folders import BucketFolder, LocalFolder, PartFolder
from faceproof.records import STATUSES
from faceproof.remote import is_bucket
from faceproof.reports import Record, write_records
from faceproof.result_parts import records_of
from faceproof.scan import Options, check_apart, check_items
from faceproof.units import Unit

__all__ = ["TRIES", "Done", "Engine", "GaveUp", "Part", "Task", "Worker", "part_name", "read_part"]

TRIES = 4
"""How often a unit is given out whose workers die."""
RUN_MARK = "_run"
"""File that says which run's folder this is."""


@dataclass(frozen=True)
class Task:
    """What all workers of a run are told.

    Attributes:
        options: how to check.
        out: folder of the parts: an absolute path, or a URL.
        ending: of the parts, with its dot.
        run: what the run is called; the file `_run` in the folder says the same, if it is the same folder.
        model: name, version and hash, by its card.
        folder: relative paths begin there.
        needed: local paths that a worker must see: the inputs.
        version: of faceproof.
    """

    options: Options
    out: str
    ending: str
    run: str
    model: str
    folder: str
    needed: tuple[str, ...] = ()
    version: str = VERSION

    @property
    def place(self) -> PartFolder:
        """The folder of the parts."""
        return BucketFolder(self.out) if is_bucket(self.out) else LocalFolder(self.out)


@dataclass(frozen=True)
class Done:
    """A unit whose part is in its place.

    Attributes:
        part: the file's name.
        records, bytes, sha256: of the part.
        counts: statuses and verdicts of its records.
        ignored: members of a shard passed over because of their ending.
    """

    part: str
    records: int
    bytes: int
    sha256: str
    counts: Mapping[str, int]
    ignored: int = 0


@dataclass(frozen=True)
class GaveUp:
    """A unit that killed its worker `TRIES` times. Nothing of it is in the results."""

    unit: Unit


class Engine(Protocol):
    """Gives units to workers."""

    def run(self, units: Iterator[Unit], task: Task) -> Generator[Done | GaveUp, None, None]:
        """Give out every unit until it is done; yield each once, in any order.

        Units are read lazily: only a bounded number, a few for each worker, is under way. A worker makes one
        `Worker` and keeps it.

        Raises:
            FaceproofError: what a worker's `Worker` raises; units that were done before are safe.
        """
        ...


class Worker:
    """Does units, in this process. Makes the model once.

    Args:
        task: of the run.

    Raises:
        UsageError: this machine has another version of faceproof, does not see the inputs, or has no such model.
        ModelError: it has another model under this name.
        OutputError: it does not see the folder of the parts.
        MissingExtraError: it lacks an optional dependency.
    """

    def __init__(self, task: Task) -> None:
        if task.version != VERSION:
            raise UsageError(
                f"faceproof {VERSION} is installed here, the command was given with {task.version}; install the same"
            )
        _same_folders(task)
        if task.ending == ".parquet":
            require("parquet", "pyarrow.parquet")
        self._task, self._place = task, task.place
        self._checker = task.options.checker()
        found = self._checker.card.identity
        if found != task.model:
            raise ModelError(f"the model here is {found}, the command was given with {task.model}; copy that one here")

    def do(self, unit: Unit, tries: int = 0) -> Done:
        """Check a unit and put its part in place; one that was done already is only read.

        Args:
            unit: to do.
            tries: how many workers have died over it. If any has, its pictures are checked in a process of their own,
                and one that kills it gets a record with status "error", as in a scan on one machine.

        Raises:
            StorageError, OutputError: pictures or parts cannot be read or written as a whole; no part was written.
        """
        name = part_name(unit, self._task.ending)
        if tries and self._place.has(name):
            return read_part(self._place, name).done
        items, inputs = unit.read()
        if tries:
            results = check_apart(self._checker, items, self._task.options)
        else:
            results = check_items(self._checker, items, self._task.options.video)
        counts = Counter[str]()

        def records() -> Iterator[Record]:
            for result in results:
                record = result.to_dict()
                _count(record, counts)
                yield record

        with tempfile.TemporaryDirectory(prefix="faceproof-") as folder:
            local = Path(folder) / name
            write_records(local, records())
            if not self._place.create(name, local):
                return read_part(self._place, name).done  # another attempt was alive after all, and faster
            return _done(name, local.read_bytes(), counts, inputs.ignored)


@dataclass(frozen=True)
class Part:
    """A part that is in its place: what it holds, and the paths of its records."""

    done: Done
    paths: tuple[str, ...]


def part_name(unit: Unit, ending: str) -> str:
    """Return the name of a unit's part."""
    return f"part-{unit.name}{ending}"


def read_part(place: PartFolder, name: str) -> Part:
    """Read a part back: what it holds, and which pictures.

    Raises:
        OutputError: it is not a part that `Worker.do` wrote.
        StorageError: the bucket fails.
    """
    data = place.read(name)
    counts = Counter[str]()
    paths = []
    for record in _rows(data, name, place):
        _count(record, counts)
        paths.append(record["path"])
    return Part(_done(name, data, counts), tuple(paths))


def _done(name: str, data: bytes, counts: Counter[str], ignored: int = 0) -> Done:
    total = sum(counts[status] for status in STATUSES)
    return Done(name, total, len(data), hashlib.sha256(data).hexdigest(), dict(counts), ignored)


def _count(record: Record, counts: Counter[str]) -> None:
    counts[record["status"]] += 1
    if record["verdict"]:
        counts[record["verdict"]] += 1


def _rows(data: bytes, name: str, place: PartFolder) -> list[Record]:
    """What has to be known of each record of a part; of Parquet no more is read."""
    if name.endswith(".parquet"):
        parquet = require("parquet", "pyarrow.parquet")
        try:
            rows: list[Record] = parquet.read_table(io.BytesIO(data), columns=["path", "status", "verdict"]).to_pylist()
        except (ValueError, OSError) as err:  # pyarrow's errors derive from them
            raise OutputError(f"{place.name}/{name} is no part of results ({err}); remove it") from err
        return rows
    return list(records_of(data, name, f"{place.name}/{name}"))


def _same_folders(task: Task) -> None:
    """Look whether this machine sees what the one that gave the command sees: it must not call its pictures missing."""
    if task.place.read(RUN_MARK) != task.run.encode():
        raise OutputError(f"another folder lies at {printable(task.out)} here; give one that all share, or a bucket")
    try:
        os.chdir(task.folder)
    except OSError:
        if not all(Path(path).is_absolute() for path in task.needed):
            raise UsageError(
                f"there is no folder {printable(task.folder)} here, in which the inputs lie; give absolute paths"
            ) from None
    for path in task.needed:
        if not os.path.lexists(path):
            raise UsageError(
                f"{printable(path)} is not there; put it where all machines find it under this name, or into a bucket"
            )
