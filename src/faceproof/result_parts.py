"""Results in a bucket: `s3://bucket/run/results.parquet` is a folder of parts, each a whole file, and a manifest.

Objects in a bucket cannot be appended to, so records are collected and put there in parts of some thousands, in order.
A part appears whole or not at all and is never changed; a run that was stopped, however, goes on after its last part.
`_manifest.json` names the parts, and says whether the run came to its end. Readers of datasets (pyarrow, DuckDB,
Spark) pass over names that begin with an underscore.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faceproof import remote, servers
from faceproof.errors import OutputError, StorageError, UsageError
from faceproof.extras import require
from faceproof.part_folders import LARGEST, MANIFEST
from faceproof.records import SCHEMA
from faceproof.reports import FORMATS, Record, ResultFile, read_records, to_json, write_records
from faceproof.video_records import AnyResult

__all__ = ["PartedResults", "open_parts", "records_of"]

RECORDS, BYTES, SECONDS = 10_000, 32 * 2**20, 300.0
"""A part is written when it has so many records, so many bytes as JSON, or when so much time has passed."""


class PartedResults(ResultFile):
    """Where results go. Made by `open_parts`; use it in a `with` block.

    Attributes:
        url: of the folder of parts.
        done, counts: as of `ResultFile`.
    """

    def __init__(self, url: str, *, on_record: Callable[[Record], None] = lambda record: None) -> None:
        super().__init__(None, None, io.BytesIO(), on_record=on_record)
        self.url = url
        self._ending = os.path.splitext(url)[1].lower()
        self._parts: list[dict[str, Any]] = []
        self._next, self._safe = 0, 0
        self._lines: list[bytes] = []
        self._size, self._since, self._broken = 0, time.monotonic(), False

    def __exit__(self, *_: object) -> None:
        if not self._broken:
            self._flush()

    @property
    def place(self) -> str:
        """What to call it."""
        return self.url

    def write(self, result: AnyResult) -> None:
        """Take one record; now and then a part is written.

        Raises:
            OutputError: the bucket does not take it; earlier parts are safe.
        """
        record = result.to_dict()
        self._lines.append((to_json(record) + "\n").encode())
        self._size += len(self._lines[-1])
        self._count(record)
        full = len(self._lines) >= RECORDS or self._size >= BYTES
        if full or time.monotonic() - self._since >= SECONDS:
            self._flush()

    def finish(self) -> None:
        """Write the last part, and that the run is finished.

        Raises:
            OutputError: the bucket does not take it; earlier parts are safe.
        """
        self._flush()
        self._say(finished=True)

    def _flush(self) -> None:
        if self._lines:
            name = f"part-{self._next:05d}{self._ending}"
            with tempfile.TemporaryDirectory(prefix="faceproof-") as folder:
                local = Path(folder) / name
                write_records(local, map(json.loads, self._lines))
                self._put(local, len(self._lines))
            self._next += 1
            self._safe += len(self._lines)
        self._lines, self._size, self._since = [], 0, time.monotonic()

    def _put(self, local: Path, records: int) -> None:
        data = local.read_bytes()
        try:
            remote.upload(local, f"{self.url}/{local.name}")
        except (StorageError, OutputError) as err:
            raise self._lost(err) from err
        digest = hashlib.sha256(data).hexdigest()
        self._parts.append({"name": local.name, "records": records, "bytes": len(data), "sha256": digest})

    def _say(self, *, finished: bool) -> None:
        said = {"schema": SCHEMA, "finished": finished, "records": self._safe, "parts": self._parts}
        try:
            remote.replace(f"{self.url}/{MANIFEST}", json.dumps(said, indent=1).encode())
        except StorageError as err:
            raise self._lost(err) from err

    def _lost(self, err: Exception) -> OutputError:
        self._broken = True
        return OutputError(f"cannot write results: {err}; {self._safe} records are safe in {self.url}")

    def _resume(self, overwrite: bool) -> None:
        """Take what earlier runs have written, or take it away; then try whether the bucket can be written to."""
        ours = re.compile(rf"part-(\d{{5,15}}){re.escape(self._ending)}")
        for url in remote.listing(f"{self.url}/"):
            name = url[len(self.url) + 1 :]
            part = ours.fullmatch(name)
            others = re.fullmatch(r"part-[0-9a-f]{16}\.\w+", name) is not None
            if overwrite and (part or others):
                remote.remove(url)
                continue
            if others:
                raise OutputError(f"{self.url} holds parts of a run with --engine; go on with --engine, or --overwrite")
            if part is None:
                continue
            before = self.total
            data = remote.read(url, LARGEST)
            self._take(records_of(data, name, url))
            self._next = int(part[1]) + 1
            digest = hashlib.sha256(data).hexdigest()
            found = self.total - before
            self._parts.append({"name": name, "records": found, "bytes": len(data), "sha256": digest})
        self._safe = self.total
        self._say(finished=False)


def open_parts(
    url: str, *, overwrite: bool = False, on_record: Callable[[Record], None] = lambda record: None
) -> PartedResults:
    """Open results in a bucket, by ending (.jsonl, .ndjson, .csv, .parquet); go on from the parts that are there.

    Args:
        url: s3://BUCKET/... or gs://BUCKET/...; a folder of parts is made there.
        overwrite: remove the parts that are there and begin anew.
        on_record: called with every record that is there, or written later.

    Raises:
        UsageError: another ending, or no URL of a bucket.
        StorageError: the bucket is not there, may not be read or written, or fails.
        OutputError: what is there are not results.
        MissingExtraError: Parquet without pyarrow, or no library for this kind of bucket.
    """
    shown = servers.redacted(url)
    if not remote.is_bucket(url):
        raise UsageError(f"results cannot be written to {shown}; give a file, or a URL that begins with s3:// or gs://")
    clean = url.rstrip("/")
    ending = os.path.splitext(clean)[1].lower()
    if ending not in FORMATS or clean.count("/") < 3:
        others = ", ".join(FORMATS[1:])
        raise UsageError(f"{shown} is no name for results; write s3://BUCKET/NAME.jsonl (or {others})")
    if ending == ".parquet":
        require("parquet", "pyarrow.parquet")
    results = PartedResults(clean, on_record=on_record)
    results._resume(overwrite)
    return results


def records_of(data: bytes, name: str, url: str) -> Iterator[Record]:
    """Yield the records of a part.

    Args:
        data: its bytes. name: its name, whose ending tells the format. url: what it is called in messages.

    Raises:
        OutputError: it holds something else.
    """
    with tempfile.TemporaryDirectory(prefix="faceproof-") as folder:
        local = Path(folder) / name
        local.write_bytes(data)
        try:
            yield from read_records(local)
        except OutputError as err:
            raise OutputError(str(err).replace(str(local), url)) from err
