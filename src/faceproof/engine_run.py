"""A scan by an engine: from inputs to a folder of parts with one manifest; a stopped one goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from faceproof._version import VERSION
from faceproof.detectors.card import read_card
from faceproof.detectors.store import model_folder
from faceproof.engines import RUN_MARK, Done, Engine, GaveUp, Part, Task, part_name, read_part
from faceproof.errors import OutputError, StorageError, UsageError
from faceproof.extras import require
from faceproof.images import printable
from faceproof.inputs import IdSet, Inputs, until_failure
from faceproof.journals import lock
from faceproof.part_folders import MANIFEST, LocalFolder
from faceproof.records import SCHEMA, STATUSES
from faceproof.remote import is_bucket, is_url
from faceproof.reports import FORMATS, Record
from faceproof.result_parts import records_of
from faceproof.scan import Options
from faceproof.units import UNIT, Unit, units

__all__ = ["EngineRun", "open_run"]

_PART = re.compile(r"part-([0-9a-f]{16})(\.\w+)")
_ANY_PART = re.compile(r"part-.*")
LOCK = "_lock"
READERS = 8
"""Parts read back at once: in a bucket waiting takes the time."""


class EngineRun:
    """Where the results of an engine go. Made by `open_run`; use it in a `with` block.

    Attributes:
        counts: statuses and verdicts of all records, earlier runs included.
        ignored: files left out because of their ending.
    """

    def __init__(self, task: Task, options: dict[str, Any]) -> None:
        self.task, self.counts, self.ignored = task, Counter[str](), 0
        self._place, self._options = task.place, options
        self._parts: dict[str, Done] = {}
        self._paths = IdSet()
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> EngineRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def total(self) -> int:
        """Records of this and earlier runs."""
        return sum(self.counts[status] for status in STATUSES)

    @property
    def place(self) -> str:
        """What to call it."""
        return printable(self.task.out)

    def scan(
        self,
        inputs: Inputs,
        engine: Engine,
        *,
        size: int = UNIT,
        on_done: Callable[[Done], None] = lambda done: None,
        on_skip: Callable[[int], None] = lambda pictures: None,
    ) -> None:
        """Check all inputs that have no record yet; write the manifest.

        Args:
            inputs: what to check, with `whole_shards`.
            engine: what works.
            size: pictures of a unit.
            on_done: called with each unit that was done, its part being in place.
            on_skip: called with the number of pictures that have their records already.

        Raises:
            StorageError: a bucket fails as a whole; what came before is written.
            OutputError: parts cannot be written, units killed their workers again and again, or another run has
                written into the same folder; what came before is safe.
            FaceproofError: as the engine.
        """
        failures: list[StorageError] = []
        lost: list[Unit] = []
        try:
            todo = self._left(units(inputs, size), failures, on_skip)
            with contextlib.closing(engine.run(todo, self.task)) as stream:
                for done in stream:
                    if isinstance(done, GaveUp):
                        lost.append(done.unit)
                        continue
                    self._take(done)
                    on_done(done)
        finally:
            self.ignored += inputs.ignored
            with contextlib.suppress(OutputError, StorageError):  # the error that is under way says more
                self._say(finished=False)
        if failures:
            raise failures[0]
        if lost:
            raise OutputError(
                f"{len(lost)} units of work killed every worker that took them, beginning with "
                f"{printable(lost[0].items[0].path)}; look at these files, then run the command again; "
                f"{self.total} records are safe in {self.place}"
            )
        self._finish()

    def records(self) -> Iterator[Record]:
        """Yield all records, part by part."""
        for name in sorted(self._parts):
            yield from records_of(self._place.read(name), name, f"{self._place.name}/{name}")

    def _left(
        self, every: Iterator[Unit], failures: list[StorageError], on_skip: Callable[[int], None]
    ) -> Iterator[Unit]:
        """Units without what is done. Boundaries are those of all inputs, so that names stay the same."""
        for unit in until_failure(every, failures):
            known = self._parts.get(part_name(unit, self.task.ending))
            left = None if known is not None else unit.without(self._paths)
            had = known.records if known is not None else len(unit.items) - (0 if left is None else len(left.items))
            if had:
                on_skip(had)
            if left is not None:
                yield left

    def _take(self, done: Done) -> None:
        if done.part not in self._parts:
            self._parts[done.part] = done
            self.counts.update(done.counts)
            self.ignored += done.ignored

    def _finish(self) -> None:
        unknown = {name for name in self._place.names() if _ANY_PART.fullmatch(name)} - self._parts.keys()
        if unknown:
            raise OutputError(
                f"another run has written {sorted(unknown)[0]} into {self.place} at the same time; "
                "wait for its end and run the command again"
            )
        self._say(finished=True)

    def _say(self, *, finished: bool) -> None:
        parts = [
            {"name": each.part, "records": each.records, "bytes": each.bytes, "sha256": each.sha256}
            for _, each in sorted(self._parts.items())
        ]
        said = {
            "schema": SCHEMA, "finished": finished, "records": self.total, "parts": parts, "options": self._options,
        }  # fmt: skip
        self._place.replace(MANIFEST, json.dumps(said, indent=1).encode())

    def _begin(self, overwrite: bool) -> None:
        """Take what earlier runs have written, or take it away; mark the folder as this run's."""
        self._place.make()
        if isinstance(self._place, LocalFolder):
            self._lock = self._place.opened(LOCK)
            lock(self._lock, Path(self.task.out))
        there = list(self._place.names())
        if overwrite:
            for name in there:
                if _ANY_PART.fullmatch(name):
                    self._place.remove(name)
            there = []
        else:
            self._same_run(there)
        self._place.tidy()
        names = [name for name in there if _PART.fullmatch(name)]
        with ThreadPoolExecutor(READERS if is_bucket(self.task.out) else 1) as readers:
            for part in readers.map(lambda name: read_part(self._place, name), names):
                self._check_once(part)
                self._take(part.done)
        self._place.replace(RUN_MARK, self.task.run.encode())
        self._say(finished=False)

    def _check_once(self, part: Part) -> None:
        for path in part.paths:
            if not self._paths.add(path):
                raise OutputError(
                    f"{self.place} holds two records of {path}: two runs with different inputs wrote into it at the "
                    f"same time; remove {part.done.part}, and run the command again"
                )

    def _same_run(self, there: list[str]) -> None:
        """Parts of a run with other options must not be mixed with these."""
        parts = [name for name in there if _ANY_PART.fullmatch(name)]
        if not parts:
            return
        cure = "choose another folder, or --overwrite it"
        for name in parts:
            found = _PART.fullmatch(name)
            if found is None or MANIFEST not in there:
                raise OutputError(f"{self.place} holds {name}, which is not of a run with --engine; {cure}")
            if found[2] != self.task.ending:
                raise OutputError(f"{self.place} holds {name}, and parts of another format; {cure}")
        try:
            before = json.loads(self._place.read(MANIFEST))["options"]
            differing = [key for key in self._options if before[key] != self._options[key]]
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{MANIFEST} in {self.place} is not of a run with --engine; {cure}") from None
        if differing:
            key = differing[0]
            raise OutputError(
                f"{self.place} holds results made with {key} {before[key]}, and now it is {self._options[key]}; "
                f"give the same options to go on, or {cure}"
            )


def open_run(out: str, options: Options, arguments: tuple[str, ...] = (), *, overwrite: bool = False) -> EngineRun:
    """Open a folder of parts: `NAME.parquet` (or another ending) here, or a URL in a bucket.

    Args:
        out: where to; its ending is that of the parts.
        options: how pictures are to be checked; those of an earlier run into the same folder must be the same.
        arguments: the inputs as given: workers must see those that are local.
        overwrite: remove the parts that are there and begin anew.

    Raises:
        UsageError: no name for a folder of parts, or no such model.
        ModelError: a model that must not be used.
        OutputError: the folder cannot be made, another run is writing into it, or it holds something else.
        StorageError: the bucket fails.
        MissingExtraError: Parquet without pyarrow.
    """
    clean = out.rstrip("/") or out
    ending = os.path.splitext(clean)[1].lower()
    if ending not in FORMATS or (is_url(clean) and (not is_bucket(clean) or clean.count("/") < 3)):
        raise UsageError(
            f"an engine's results are a folder of parts; name it by their format, as in NAME{FORMATS[-1]} or "
            f"s3://BUCKET/NAME{FORMATS[-1]} ({', '.join(FORMATS)}), not {printable(out)}"
        )
    if not is_url(clean) and os.path.lexists(clean) and not os.path.isdir(clean):
        raise UsageError(f"{printable(clean)} is a file, and an engine's results are a folder; give another name")
    if ending == ".parquet":
        require("parquet", "pyarrow.parquet")
    model = read_card(model_folder(options.model)).identity
    said = _described(options, model)
    where = clean if is_url(clean) else str(Path(clean).absolute())
    task = Task(options, where, ending, uuid.uuid4().hex, model, os.getcwd(), _local(arguments))
    run = EngineRun(task, said)
    try:
        run._begin(overwrite)
    except BaseException:
        run.__exit__()
        raise
    return run


def _described(options: Options, model: str) -> dict[str, Any]:
    """What makes two runs' records comparable, as the manifest holds it."""
    said: dict[str, Any] = json.loads(json.dumps(asdict(options), default=str))
    detector = options.face_detector
    if detector is not None and os.path.isfile(detector):
        said["face_detector"] = hashlib.sha256(Path(detector).read_bytes()).hexdigest()
    return {**said, "model": model, "version": VERSION}


def _local(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the inputs that are there, here, of patterns their folder: another machine has to have them, too."""
    found = []
    for each in arguments:
        if each == "-" or is_url(each):
            continue
        fixed = each if os.path.lexists(each) else re.split(r"[*?\[{]", each, maxsplit=1)[0].rpartition("/")[0]
        if fixed and os.path.lexists(fixed):
            found.append(fixed)
    return tuple(found)
