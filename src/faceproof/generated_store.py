"""Where generated pictures go: a folder or a bucket with pictures, provenance and a manifest to train on.

    OUT/generated/ID.png      the pictures, as they came
    OUT/photographs/KEY.png   with photographs: each as the generator got it, same size and codec
    OUT/provenance.jsonl      a line a picture; in buckets records/ID.json
    OUT/manifest.csv          what `faceproof train` and `evaluate` read

A picture is written whole before its record. One whose record a kill has swallowed is recorded when it is met
again, so that nothing that came is paid for twice. Nothing is ever deleted.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from faceproof import journals, remote
from faceproof.errors import OutputError, UnreadableError, UsageError
from faceproof.generated_records import Generated
from faceproof.images import Limits, printable, read_bytes
from faceproof.tables import spreadsheet_safe, write_atomically

__all__ = [
    "MANIFEST", "MANIFEST_COLUMNS", "PROVENANCE", "SUFFIX", "BucketStore", "FolderStore", "Store", "open_store",
    "totals",
]  # fmt: skip

MANIFEST, PROVENANCE = "manifest.csv", "provenance.jsonl"
MANIFEST_COLUMNS = (
    "path", "label", "generator", "source", "split", "group", "licence", "age", "sex", "ethnicity", "skin_tone",
    "traits", "prompt", "model", "server", "task", "seed", "created", "source_path", "sha256", "width", "height",
)  # fmt: skip
TRAITS = ("age", "sex", "ethnicity", "skin_tone")
SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
"""Formats kept as they come."""
LARGEST_LINE = 2**20


class Store(Protocol):
    """Takes pictures and records, and knows those of earlier runs.

    Attributes:
        known: id -> record; of several the last.
        place: what to call it.
    """

    known: dict[str, Generated]
    place: str

    def holds(self, name: str) -> bool:
        """Whether a picture is there."""
        ...

    def read(self, name: str) -> bytes:
        """Return a picture's bytes."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a picture, whole or not at all."""
        ...

    def add(self, record: Generated) -> None:
        """Write a record. Threads may call this at the same time."""
        ...

    def finish(self) -> int:
        """Write the manifest; return how many rows it has."""
        ...

    def is_done(self, name: str) -> bool:
        """Whether a job needs no more work: its picture is there, or was refused."""
        ...

    def lost(self, name: str) -> str | None:
        """Return the path of a job's picture that came and was not recorded."""
        ...


class _Base:
    """What both kinds share."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.known: dict[str, Generated] = {}
        self._lock = threading.Lock()
        self._names: set[str] = set()

    def holds(self, name: str) -> bool:
        """Whether a picture is there."""
        return name in self._names

    def is_done(self, name: str) -> bool:
        """Whether a job needs no more work: its picture is there, or was refused."""
        record = self.known.get(name)
        return record is not None and (
            record.status == "refused" or (record.status == "ok" and self.holds(record.path))
        )

    def lost(self, name: str) -> str | None:
        """Return the path of a job's picture that came and was not recorded."""
        paths = (f"generated/{name}{suffix}" for suffix in SUFFIX.values())
        return next((path for path in paths if self.holds(path)), None)

    def _remember(self, record: Generated) -> None:
        self.known.pop(record.id, None)  # a later record of a job takes the place of the earlier one
        self.known[record.id] = record

    def manifest(self) -> str:
        """Return the manifest: photographs first met, then what was made of them."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, MANIFEST_COLUMNS, lineterminator="\n")
        writer.writeheader()
        photographs: set[str] = set()
        for record in self.known.values():
            if record.status != "ok" or not self.holds(record.path):
                continue
            if record.photograph and record.photograph not in photographs and self.holds(record.photograph):
                photographs.add(record.photograph)
                writer.writerow(_safe(_photograph_row(record)))
            writer.writerow(_safe(_row(record)))
        return stream.getvalue()


def _safe(row: Mapping[str, object]) -> dict[str, object]:
    """Text of others must not run as a formula; paths, groups and splits are ours or are matched by others."""
    return {
        name: spreadsheet_safe(value) if name in ("prompt", "source_path") else value for name, value in row.items()
    }


def _row(record: Generated) -> dict[str, object]:
    facts = {name: getattr(record, name) for name in MANIFEST_COLUMNS if hasattr(record, name)}
    more = {name: value for name, value in record.traits.items() if name not in TRAITS}
    return {
        **facts, **{trait: record.traits.get(trait, "") for trait in TRAITS}, "label": "generated",
        "traits": json.dumps(more, ensure_ascii=False) if more else "",
    }  # fmt: skip


def _photograph_row(record: Generated) -> dict[str, object]:
    kept = ("source", "split", "group", "source_path", "width", "height")
    return {
        **{name: getattr(record, name) for name in kept}, **{t: record.traits.get(t, "") for t in TRAITS[:3]},
        "path": record.photograph, "label": "photograph", "licence": record.photograph_licence,
        "sha256": record.photograph_sha256,
    }  # fmt: skip


class FolderStore(_Base):
    """A folder on this machine; use it in a `with` block. One run at a time.

    Raises:
        UsageError: there is something else at that place, or a journal that is none.
        OutputError: the disk does not take it, or another run is writing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(printable(folder))
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise UsageError(f"{self.place} is not a folder; give another --out")
        foreign = _foreign(self._folder)
        if foreign:
            raise UsageError(f"{self.place} holds {foreign!r} and no {PROVENANCE}; give an empty folder as --out")
        with _disk(self.place):
            for name in ("generated", "photographs"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            self._journal: IO[bytes] = open(self._folder / PROVENANCE, "a+b", buffering=0)  # noqa: SIM115  (__exit__)
        try:
            self._take()
        except BaseException:
            self._journal.close()
            raise

    def _take(self) -> None:
        """Keep other runs out; read what earlier ones have left."""
        journals.lock(self._journal, self._folder / PROVENANCE)
        with _disk(self.place):
            journals.cut_torn_line(self._journal)
            with open(self._folder / PROVENANCE, "rb") as lines:
                for line in lines:
                    self._remember(_record(line, f"{self.place}/{PROVENANCE}"))
            for name in ("generated", "photographs"):
                self._names |= {
                    f"{name}/{each.name}" for each in (self._folder / name).iterdir() if _finished(each.name)
                }

    def __enter__(self) -> FolderStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def read(self, name: str) -> bytes:
        """Return a picture's bytes."""
        return read_bytes(self._folder / name, Limits())

    def write(self, name: str, data: bytes) -> None:
        """Write a picture, whole or not at all."""
        write_atomically(self._folder / name, data)
        with self._lock:
            self._names.add(name)

    def add(self, record: Generated) -> None:
        """Write a record and see it onto the disk."""
        line = json.dumps(record.to_dict(), ensure_ascii=True, default=str).encode() + b"\n"
        with self._lock, _disk(self.place):
            journals.write_all(self._journal, line)
            with contextlib.suppress(OSError):  # file systems without
                os.fsync(self._journal.fileno())
            self._remember(record)

    def finish(self) -> int:
        """Write the manifest; return how many rows it has."""
        text = self.manifest()
        write_atomically(self._folder / MANIFEST, text)
        return sum(1 for _ in csv.reader(io.StringIO(text))) - 1


class BucketStore(_Base):
    """A prefix in a bucket. Records are objects of their own, since nothing can be appended to there.

    Raises:
        StorageError: the bucket is not there, may not be written to, or fails.
    """

    def __init__(self, url: str) -> None:
        super().__init__(printable(url.rstrip("/")))
        self._url = url.rstrip("/")
        if "/" not in self._url.partition("://")[2]:
            raise UsageError(f"{self.place} is a whole bucket; give s3://BUCKET/FOLDER as --out")
        names = [each[len(self._url) + 1 :] for each in remote.listing(f"{self._url}/")]
        self._names = {name for name in names if name.startswith(("generated/", "photographs/"))}
        for name in names:
            if name.startswith("records/") and name.endswith(".json"):
                self._remember(_record(remote.read(f"{self._url}/{name}", LARGEST_LINE), f"{self.place}/{name}"))
        # What cannot be written to is better known before anything is paid for.
        remote.replace(f"{self._url}/{MANIFEST}", self.manifest().encode())

    def __enter__(self) -> BucketStore:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, name: str) -> bytes:
        """Return a picture's bytes."""
        return remote.read(f"{self._url}/{name}", Limits().max_bytes)

    def write(self, name: str, data: bytes) -> None:
        """Write a picture; objects appear whole or not at all."""
        remote.replace(f"{self._url}/{name}", data)
        with self._lock:
            self._names.add(name)

    def add(self, record: Generated) -> None:
        """Write a record."""
        text = json.dumps(record.to_dict(), ensure_ascii=True, default=str)
        remote.replace(f"{self._url}/records/{record.id}.json", text.encode())
        with self._lock:
            self._remember(record)

    def finish(self) -> int:
        """Write the manifest and all records in one file; return how many rows the manifest has."""
        text = self.manifest()
        lines = (json.dumps(each.to_dict(), ensure_ascii=True, default=str) + "\n" for each in self.known.values())
        remote.replace(f"{self._url}/{PROVENANCE}", "".join(lines).encode())
        remote.replace(f"{self._url}/{MANIFEST}", text.encode())
        return sum(1 for _ in csv.reader(io.StringIO(text))) - 1


def open_store(out: str) -> FolderStore | BucketStore:
    """Return the store for a folder or an s3:// or gs:// URL; use it in a `with` block.

    Raises:
        UsageError, OutputError, StorageError: as the stores.
    """
    if remote.is_bucket(out):
        return BucketStore(out)
    if remote.is_url(out):
        raise UsageError(f"{printable(out)}: pictures cannot be written to a web server; give a folder or s3://...")
    return FolderStore(out)


def _record(line: bytes, where: str) -> Generated:
    try:
        return Generated.from_dict(json.loads(line[: LARGEST_LINE + 1]))  # cut off, a longer one is no JSON
    except (ValueError, RecursionError, AttributeError, UsageError, UnreadableError) as err:
        raise UsageError(f"{where} is not a journal of generated pictures ({err}); give another --out") from err


def _finished(name: str) -> bool:
    """Not what `write_atomically` left behind when it was killed."""
    return os.path.splitext(name)[1] in SUFFIX.values()


def _foreign(folder: Path) -> str:
    if not folder.is_dir() or (folder / PROVENANCE).exists():
        return ""
    return printable(next((each.name for each in sorted(folder.iterdir()) if not each.name.startswith(".")), ""))


@contextlib.contextmanager
def _disk(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise OutputError(f"cannot write to {place} ({err.strerror or err}); check the folder and the disk") from err


def totals(store: Store) -> dict[str, Any]:
    """Return how many records of each status there are, pictures billed, and US dollars known to be spent."""
    records = list(store.known.values())
    counts = {status: sum(each.status == status for each in records) for status in ("ok", "refused", "failed")}
    return {
        **counts, "answers": sum(each.answers for each in records), "cost": sum(each.cost or 0.0 for each in records),
    }  # fmt: skip
