"""Hashes on disk as JSON lines, and the CSV of clusters made from them.

The hash file is appended to as hashes come, so a run goes on where it stopped, and later runs add to it. Clusters
are always made anew from all of it. In memory there are 8 bytes a path, the hashes themselves and what clustering
needs; of paths only those of pictures in clusters.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.clusters import Clusters, cluster
from faceproof.duplicates import HASH_SCHEMA, HashOptions, HashRecord, hash_items
from faceproof.errors import OutputError, UsageError
from faceproof.hashing import KINDS, VIEWS, Hashes, from_hex
from faceproof.images import printable
from faceproof.inputs import Inputs, remaining
from faceproof.journals import Journal
from faceproof.tables import spreadsheet_safe

__all__ = ["Duplicates", "Group", "HashFile", "Member", "find_duplicates", "hash_to_file", "open_hashes", "read_hashes"]

CSV_COLUMNS = ("cluster", "path", "hash", "distance", "view", "flat", "status", "error")
Progress = Callable[[str, int, int], None]
_USABLE, _LEFT_OUT, _REPEATED = 0, 1, 2
"""What a line of the file is to the clusters; a path counts once, where it comes first."""


@dataclass(frozen=True)
class Member:
    """One picture of a cluster: its path, bits to the medoid, and which of `hashing.VIEWS` is that near."""

    path: str
    distance: int
    view: str


@dataclass(frozen=True)
class Group:
    """One cluster: its number, how many pictures it has, and the first of them, nearest first."""

    number: int
    size: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        pictures: in all. flat, errors: of them, left out. clusters: how many. clustered: pictures in them.
        kind, radius, method, rotations: how it was looked for.
        groups: the largest clusters.
    """

    pictures: int
    flat: int
    errors: int
    clusters: int
    clustered: int
    kind: str
    radius: int
    method: str
    rotations: bool
    groups: tuple[Group, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without the groups."""
        return {key: value for key, value in vars(self).items() if key != "groups"}


class HashFile(Journal[HashRecord]):
    """Hashes on disk. Made by `open_hashes`; use it in a `with` block.

    Attributes:
        options: how pictures are hashed; every record in the file agrees with it.
    """

    holds = "hashes"

    def __init__(self, path: Path, options: HashOptions) -> None:
        super().__init__(path)
        self.options = options
        self._views = len(VIEWS) if options.rotations else 1
        self._numbers, self._states = array("Q"), bytearray()

    def records(
        self,
        wanted: Callable[[int], bool] = lambda place: True,
        step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[tuple[int, HashRecord]]:
        """Read records again, in the order of the file, each with its place: 0, 1, ...

        Args:
            wanted: called with each place; the others are passed over without being looked at.
            step: called now and then with bytes read and in all.

        Raises:
            OutputError: the file does not hold hashes of this kind.
        """
        return self._records(wanted, step)

    def hashes(self) -> Hashes:
        """Return all hashes, (N, V, W) uint64, in the order of the file; zeros where there is none."""
        found = np.frombuffer(self._numbers, np.uint64) if self._numbers else np.zeros(0, np.uint64)
        return found.reshape(-1, self._views, KINDS[self.options.kind])

    def states(self) -> npt.NDArray[np.uint8]:
        """Return what each record is to the clusters, (N,): 0 usable, 1 flat or an error, 2 a path met before."""
        return np.frombuffer(bytes(self._states), np.uint8)

    def _take(self, record: HashRecord) -> bool:
        """Remember what clustering needs of a record that is in the file now."""
        words = KINDS[self.options.kind]
        if record.error is not None:
            self._numbers.extend([0] * words * self._views)
        else:
            # The file holds hexadecimal digits only: from_hex or to_hex saw to that.
            self._numbers.extend(
                int(text[start : start + 16], 16)
                for text in record.hashes[: self._views]
                for start in range(0, 16 * words, 16)
            )
        new = super()._take(record)
        self._states.append((_USABLE if record.status == "ok" else _LEFT_OUT) if new else _REPEATED)
        return new

    def _parse(self, line: bytes, where: str) -> HashRecord:
        try:
            raw = json.loads(line.decode())
            if raw["schema"] != HASH_SCHEMA:
                raise self.not_ours(f"{where} is not of schema {HASH_SCHEMA}")
            kind, hashes = raw["kind"], tuple(raw["hashes"])
            record = HashRecord(str(raw["path"]), kind, hashes, raw["quality"], bool(raw["flat"]), raw["error"])
            if kind != self.options.kind:
                raise self.not_ours(f"{where} is a {kind}, not a {self.options.kind}")
            from_hex(hashes, kind)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError) as err:
            raise self.not_ours(f"{where} is not a hash record: {err}") from err
        if self.options.rotations and len(hashes) == 1:
            raise self.not_ours(f"{where} has no rotations")
        return record


def open_hashes(
    path: str | Path, options: HashOptions, *, overwrite: bool = False, progress: Progress = lambda *_: None
) -> HashFile:
    """Open a hash file to go on with it, or begin one.

    Args:
        path: of the file (JSON lines).
        options: how pictures are hashed.
        overwrite: begin anew instead of going on from what is there.
        progress: called with "reading", and how much of it is done and in all.

    Raises:
        UsageError: a folder.
        OutputError: it cannot be written, another run is writing it, or it holds something else.
    """
    found = HashFile(Path(path), options)
    found.open(overwrite=overwrite, step=partial(progress, "reading"))
    return found


def read_hashes(path: str | Path, step: Callable[[int, int], None] = lambda done, total: None) -> HashFile:
    """Read a hash file of any kind, to look pictures up in; it is not changed, and may be written by others meanwhile.

    Raises:
        OutputError: it cannot be read, or holds no hashes.
        MissingExtraError: PDQ without pdqhash.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise OutputError(f"{printable(path)} is no file; make one with faceproof duplicates --hashes {path.name}")
        with path.open("rb") as stream:
            found = re.match(rb'\{"path":.*?"kind":"(\w{1,9})"', stream.readline(1 << 20))
            kind = found[1].decode() if found else ""
            if kind not in KINDS:
                raise OutputError(f"{printable(path)} holds no hashes; faceproof duplicates --hashes makes them")
        file = HashFile(path, HashOptions(kind))
        file.read(step)
    except OSError as err:
        raise OutputError(f"cannot read {printable(path)} ({err.strerror or err}); check the file") from err
    return file


def hash_to_file(
    inputs: Inputs,
    file: HashFile,
    *,
    workers: int | None = None,
    on_record: Callable[[HashRecord], None] = lambda record: None,
    on_skip: Callable[[], None] = lambda: None,
) -> None:
    """Hash all inputs that have no record yet.

    Args:
        inputs: what to hash.
        file: opened by `open_hashes`; not closed here.
        workers: processes, None for one per core.
        on_record: called with each new record, after it was written.
        on_skip: called for each input that has its record already.

    Raises:
        StorageError: a bucket fails as a whole; what came before is written.
    """
    with (
        remaining(inputs, file.done, on_skip) as wanted,
        contextlib.closing(hash_items(wanted, file.options, workers=workers)) as stream,
    ):
        for record in stream:
            file.write(record)
            on_record(record)


def find_duplicates(
    file: HashFile,
    out: str | Path,
    radius: int,
    *,
    method: str = "medoid",
    groups: int = 0,
    members: int = 48,
    progress: Progress = lambda *_: None,
) -> Duplicates:
    """Cluster everything in a hash file and write the CSV: first the clusters, then the pictures in none.

    Args:
        file: opened by `open_hashes`.
        out: the CSV; replaced as a whole.
        radius, method: of `clusters.cluster`.
        groups, members: of how many clusters, and of how many pictures in each, the paths are returned.
        progress: called with "searching" or "writing", and how much of it is done and in all.

    Raises:
        UsageError: as `clusters.cluster`.
        OutputError: the CSV cannot be written.
    """
    left_out = file.states() != _USABLE
    found = cluster(file.hashes(), radius, method=method, skip=left_out, progress=partial(progress, "searching"))
    path = Path(out)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer, step = csv.writer(stream, lineterminator="\n"), partial(progress, "writing")
            kept = _write_clusters(writer, file, found, step, (groups, members))
        os.replace(temporary, path)
    except OSError as err:
        raise OutputError(f"cannot write {path} ({err.strerror or err}); check the folder and the disk") from err
    finally:
        temporary.unlink(missing_ok=True)
    return Duplicates(
        file.total, file.counts["flat"], file.counts["error"], len(found.sizes), int(found.sizes.sum()),
        file.options.kind, radius, method, file.options.rotations, kept,
    )  # fmt: skip


def _write_clusters(
    writer: Any, file: HashFile, found: Clusters, step: Callable[[int, int], None], kept_of_each: tuple[int, int]
) -> tuple[Group, ...]:
    """Two passes over the hash file: only the pictures in clusters are held to be sorted."""
    groups, members = kept_of_each
    writer.writerow(CSV_COLUMNS)
    labels, states = found.labels, file.states()
    inside = [
        (int(labels[place]), int(found.distances[place]), record.path, place, record.hashes[0])
        for place, record in file.records(lambda place: labels[place] > 0)
    ]
    inside.sort()
    kept: dict[int, list[Member]] = {}
    for label, bits, name, place, text in inside:
        view = VIEWS[found.views[place]]
        writer.writerow((label, spreadsheet_safe(name), text, bits, view, 0, "ok", ""))
        if label <= groups and len(kept.setdefault(label, [])) < members:
            kept[label].append(Member(name, bits, view))
    for _, record in file.records(lambda place: labels[place] == 0 and states[place] != _REPEATED, step):
        text = record.hashes[0] if record.hashes else ""
        error = spreadsheet_safe(record.error or "")
        writer.writerow(("", spreadsheet_safe(record.path), text, "", "", int(record.flat), record.status, error))
    return tuple(Group(label, int(found.sizes[label - 1]), tuple(few)) for label, few in kept.items())
