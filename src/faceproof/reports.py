"""Results on disk: JSON lines, CSV, Parquet. Never half a record, and a run goes on where it stopped.

JSON lines are appended to as they come; a torn last line (power cut, kill -9) is cut off on opening.
CSV and Parquet are made from a journal of JSON lines beside them when the run ends, and put in place
in one step; a run that was stopped leaves the journal, and the next one goes on from it.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from faceproof.errors import OutputError, UsageError
from faceproof.extras import require
from faceproof.inputs import IdSet, Inputs, remaining
from faceproof.journals import cut_torn_line, lock, write_all
from faceproof.part_folders import MANIFEST
from faceproof.records import SCHEMA, STATUSES
from faceproof.scan import Options, scan
from faceproof.tables import spreadsheet_safe
from faceproof.video_records import VIDEO_SCHEMA, AnyResult

__all__ = [
    "FORMATS", "Record", "ResultFile", "open_results", "read_records", "read_results", "scan_to_file", "to_json",
    "write_records",
]  # fmt: skip

FORMATS = (".jsonl", ".ndjson", ".csv", ".parquet")
CSV_COLUMNS = (
    "path", "status", "verdict", "alarm", "probability", "log_odds", "score", "threshold", "threshold_fpr", "band",
    "alpha", "faces",
    "x0", "y0", "x1", "y1", "quality", "error", "width", "height", "notes", "sha256", "model",
    "face_detector", "version", "schema", "faces_json",
)  # fmt: skip
Record = Mapping[str, Any]


def to_json(record: Any) -> str:
    """Return a record (or a part of one) as one line of JSON."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class ResultFile:
    """Where results go. Made by `open_results`; use it in a `with` block.

    Attributes:
        path: of the results.
        done: paths that have their record already.
        counts: statuses and verdicts of all records, earlier runs included.
    """

    def __init__(
        self,
        path: Path | None,
        journal: Path | None,
        stream: IO[bytes],
        *,
        made: bool = False,
        on_record: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self.path, self.done, self.counts = path, IdSet(), Counter[str]()
        self._on_record = on_record
        self._journal, self._stream, self._good, self._made = journal, stream, 0, made

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is None:
            return  # standard output is not ours to close
        live = self._journal or self.path
        with contextlib.suppress(OSError):  # an error while writing was raised by write()
            if self._made and live.is_file() and not live.stat().st_size:
                live.unlink()  # made by us and never written to: nothing is left behind
            self._stream.close()

    @property
    def total(self) -> int:
        """Records of this and earlier runs."""
        return sum(self.counts[status] for status in STATUSES)

    @property
    def place(self) -> str:
        """What to call it."""
        return "standard output" if self.path is None else str(self.path)

    def write(self, result: AnyResult) -> None:
        """Write one record, whole or not at all.

        Raises:
            OutputError: the disk is full or the file cannot be written; what was there is safe.
            BrokenPipeError: standard output was closed by its reader.
        """
        record = result.to_dict()
        data = (to_json(record) + "\n").encode()
        try:
            write_all(self._stream, data)
        except BrokenPipeError:
            raise
        except OSError as err:
            if self.path is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._stream.fileno(), self._good)
            raise self._failed(err) from err
        self._good += len(data)
        self._count(record)

    def finish(self) -> None:
        """Put the results in place (CSV, Parquet) and make them durable.

        Raises:
            OutputError: they cannot be written; the journal keeps every record.
        """
        if self.path is None:
            return
        self._made = False  # a finished run without a single record is a result too
        try:
            os.fsync(self._stream.fileno())
            if self._journal is not None:
                self._place(self._journal)
        except OSError as err:
            if err.errno == errno.EINVAL and self._journal is None:
                return  # a pipe or device cannot be synced, and need not be
            raise self._failed(err) from err

    def _place(self, journal: Path) -> None:
        assert self.path is not None
        temporary = self.path.with_name(self.path.name + ".tmp")
        write = _write_parquet if self.path.suffix.lower() == ".parquet" else _write_csv
        try:
            write(temporary, self._all_records(journal))
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        journal.unlink()

    def _all_records(self, journal: Path) -> Iterator[Record]:
        """Records of the finished file, then those of the journal it does not hold yet."""
        assert self.path is not None
        seen = IdSet()
        if self.path.is_file():
            for record in read_records(self.path):
                seen.add(record["path"])
                yield record
        for record in _read_lines(journal):
            if seen.add(record["path"]):
                yield record

    def _take(self, records: Iterable[Record]) -> None:
        for record in records:
            if self.done.add(record["path"]):
                self._count(record)

    def _count(self, record: Record) -> None:
        self.counts[record["status"]] += 1
        if record["verdict"]:
            self.counts[record["verdict"]] += 1
        self._on_record(record)

    def _failed(self, err: OSError) -> OutputError:
        where = self.path if self.path is not None else "standard output"
        what = "the disk is full" if err.errno in (errno.ENOSPC, errno.EDQUOT) else err.strerror or str(err)
        kept = self._journal or where
        return OutputError(
            f"cannot write to {where}: {what}; {self.total} records are safe in {kept}; "
            "mend it and run the same command again to go on"
        )


def open_results(
    out: str, *, overwrite: bool = False, on_record: Callable[[Record], None] = lambda record: None
) -> ResultFile:
    """Open results by ending (.jsonl, .ndjson, .csv, .parquet), "-" for JSON lines on standard output.

    Args:
        out: where to.
        overwrite: begin anew instead of going on from what is there.
        on_record: called with every record that is there, or written later.

    Raises:
        UsageError: another ending, or a folder.
        OutputError: it cannot be written, another scan is writing it, or it holds something else.
        MissingExtraError: Parquet without pyarrow.
    """
    if out == "-":
        return ResultFile(None, None, sys.stdout.buffer, on_record=on_record)
    path = Path(out)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UsageError(
            f"unknown ending {ending or '(none)'!r} of {out}; known: {', '.join(FORMATS)}, or - for stdout"
        )
    if path.is_dir():
        raise UsageError(f"{out} is a folder; give a file")
    if path.exists() and not path.is_file() and ending not in (".jsonl", ".ndjson"):
        raise OutputError(f"{out} is a device or pipe; {ending} needs a file, JSON lines do not")
    if ending == ".parquet":
        require("parquet", "pyarrow.parquet")
    journal = None if ending in (".jsonl", ".ndjson") else path.with_name(path.name + ".partial.jsonl")
    live = journal or path
    made = not live.exists()
    try:
        # a: appends never overwrite what another process wrote; b, unbuffered: a record is out when written.
        stream = open(live, "ab+", buffering=0)  # noqa: SIM115
    except OSError as err:
        raise OutputError(f"cannot write {live} ({err.strerror or err}); check the folder and its permissions") from err
    try:
        lock(stream, live)
    except OutputError:
        stream.close()
        raise
    try:
        results = ResultFile(path, journal, stream, made=made, on_record=on_record)
        if overwrite:
            os.ftruncate(stream.fileno(), 0) if live.is_file() else None
            if journal is not None:
                path.unlink(missing_ok=True)
        elif live.is_file():
            if journal is not None and path.exists():
                results._take(read_records(path))
            results._take(_read_lines(live))
            results._good = cut_torn_line(stream)
    except BaseException as err:
        if made and not os.fstat(stream.fileno()).st_size:
            live.unlink(missing_ok=True)
        stream.close()
        if isinstance(err, OSError):
            raise OutputError(f"cannot use {live} ({err.strerror or err}); check the file, or choose another") from err
        raise
    return results


def scan_to_file(
    inputs: Inputs,
    results: ResultFile,
    options: Options,
    *,
    workers: int | None = None,
    on_result: Callable[[AnyResult], None] = lambda result: None,
    on_skip: Callable[[], None] = lambda: None,
) -> None:
    """Check all inputs that have no record yet and write their records.

    Args:
        inputs: what to check.
        results: opened by `open_results`; not closed here.
        options: how to check.
        workers: processes, None for one per core.
        on_result: called with each new result, after it was written.
        on_skip: called for each input that has its record already.

    Raises:
        StorageError: a bucket fails as a whole; what came before is written.
    """
    with (
        remaining(inputs, results.done, on_skip) as wanted,
        contextlib.closing(scan(wanted, options, workers=workers)) as stream,
    ):
        for result in stream:
            results.write(result)
            on_result(result)
    results.finish()


def read_results(path: str | Path) -> Iterator[Record]:
    """Yield the records of a file that `open_results` wrote, or of a folder of parts that an engine wrote.

    Raises:
        UsageError: another ending, no such file, or a folder whose run has not come to its end.
        OutputError: it holds something else.
    """
    path = Path(path)
    if path.is_dir():
        for name in _finished_parts(path):
            yield from read_records(path / name)
        return
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"unknown ending of {path}; results are {', '.join(FORMATS)}")
    if not path.is_file():
        raise UsageError(f"no results at {path}; check the path")
    yield from read_records(path)


def _finished_parts(folder: Path) -> list[str]:
    try:
        said = json.loads((folder / MANIFEST).read_bytes())
        finished, names = bool(said["finished"]), [str(part["name"]) for part in said["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} is a folder without the manifest of results; give what a scan wrote") from None
    if not finished:
        raise UsageError(f"the scan into {folder} has not come to its end; run its command again to go on")
    if any(Path(name).name != name for name in names):
        raise OutputError(f"the manifest of {folder} names files elsewhere; make the results again")
    return names


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a file of results, by its ending.

    Raises:
        OutputError: it holds something else.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        return _read_csv(path)
    return _read_parquet(path) if ending == ".parquet" else _read_lines(path)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a file of results, by its ending; nothing that is there is kept."""
    ending = path.suffix.lower()
    if ending == ".csv":
        _write_csv(path, records)
    elif ending == ".parquet":
        _write_parquet(path, records)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(to_json(record) + "\n" for record in records)


def _not_ours(path: Path, why: str) -> OutputError:
    return OutputError(
        f"{path} exists and does not hold faceproof results ({why}); choose another file, or --overwrite it"
    )


def _read_lines(path: Path) -> Iterator[Record]:
    """Records of a file of JSON lines; a torn last line is passed over if it begins like one of ours."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                if not (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                    raise _not_ours(path, f"line {number} has no end and does not begin like a record")
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise _not_ours(path, f"line {number} is not JSON") from None
            yield _ours(record, path, f"line {number}")


_BEGINNING = b'{"path":"'


def _ours(record: Any, path: Path, where: str) -> Record:
    """Return a record that is one of ours as far as going on needs it; raise otherwise."""
    if (
        not isinstance(record, dict)
        or record.get("schema") not in (SCHEMA, VIDEO_SCHEMA)
        or not isinstance(record.get("path"), str)
        or record.get("status") not in STATUSES
        or not isinstance(record.get("verdict"), (str, type(None)))
        or not isinstance(record.get("faces"), list)
    ):
        raise _not_ours(path, f"{where} is not a record of schema {SCHEMA}")
    return record


def _write_csv(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, CSV_COLUMNS)
        writer.writeheader()
        for record in records:
            writer.writerow({key: spreadsheet_safe(value) for key, value in _flat(record).items()})


def _flat(record: Record) -> dict[str, Any]:
    """One row: the decisive face's box and the largest face's quality, all faces as JSON at the end."""
    faces = record["faces"]
    fit = [face for face in faces if not face["quality"]]
    shown = max(fit, key=lambda face: face["log_odds"], default=faces[0] if faces else None)
    row = {key: record[key] for key in CSV_COLUMNS if key in record}
    row |= {"faces": len(faces), "faces_json": to_json(faces), "notes": "; ".join(record["notes"])}
    row["band"] = to_json(record["band"])
    row["quality"] = ";".join(reason["code"] for reason in shown["quality"]) if shown else ""
    row |= dict(zip(("x0", "y0", "x1", "y1"), shown["box"] if shown else ("",) * 4, strict=True))
    return row


def _read_csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), 64 * 1024 * 1024))
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != CSV_COLUMNS:
                raise _not_ours(path, "its columns differ")
            for number, row in enumerate(reader, 2):
                yield _ours(_unflat(row), path, f"row {number}")
    except (csv.Error, ValueError, TypeError, AttributeError, KeyError) as err:  # too short, too long, no numbers
        raise _not_ours(path, str(err)) from err


def _unflat(row: Mapping[str, str]) -> Record:
    def text(key: str) -> str | None:
        value = row[key]
        return (value[1:] if value.startswith("'") else value) or None

    def number(key: str) -> float | None:
        value = text(key)
        return None if value is None else float(value)

    record: dict[str, Any] = {key: text(key) for key in CSV_COLUMNS}
    record |= {key: number(key) for key in ("probability", "log_odds", "score", "threshold", "threshold_fpr", "alpha")}
    record |= {"width": int(row["width"]), "height": int(row["height"]), "faces": json.loads(row["faces_json"])}
    record["band"] = json.loads(row["band"])
    record["alarm"] = {"True": True, "False": False}.get(row["alarm"])
    record["notes"] = row["notes"].split("; ") if row["notes"] else []
    return record


def _parquet_schema() -> Any:
    pa = require("parquet", "pyarrow")
    f64, text, strings = pa.float64(), pa.string(), pa.list_(pa.string())
    reason = pa.struct([("code", text), ("sentence", text), ("value", f64), ("limit", f64)])
    evidence = pa.struct([("name", text), ("weight", f64), ("sentence", text)])
    after = pa.struct([("perturbation", text), ("probability", f64)])
    stability = pa.struct(
        [("lowest", f64), ("median", f64), ("highest", f64), ("flips", strings), ("after", pa.list_(after))]
    )
    face = pa.struct(
        [
            ("box", pa.list_(f64)), ("landmarks", pa.list_(pa.list_(f64))), ("confidence", f64),
            ("quality", pa.list_(reason)), ("score", f64), ("log_odds", f64), ("probability", f64),
            ("verdict", text), ("alarm", pa.bool_()), ("stability", stability), ("evidence", pa.list_(evidence)),
            ("reasons", strings),
        ]
    )  # fmt: skip
    return pa.schema(
        [
            ("path", text), ("sha256", text), ("status", text), ("error", text), ("width", pa.int32()),
            ("height", pa.int32()), ("faces", pa.list_(face)), ("score", f64), ("log_odds", f64),
            ("probability", f64), ("verdict", text), ("alarm", pa.bool_()), ("threshold", f64),
            ("threshold_fpr", f64), ("band", pa.list_(f64)), ("alpha", f64), ("notes", strings), ("model", text),
            ("face_detector", text), ("version", text), ("schema", text),
        ]
    )  # fmt: skip


def _write_parquet(path: Path, records: Iterable[Record], *, rows: int = 5000) -> None:
    pa, parquet = require("parquet", "pyarrow"), require("parquet", "pyarrow.parquet")
    schema = _parquet_schema()
    block: list[Record] = []
    with parquet.ParquetWriter(path, schema) as writer:
        for record in records:
            block.append(record)
            if len(block) == rows:
                writer.write_table(pa.Table.from_pylist(block, schema))
                block = []
        if block:
            writer.write_table(pa.Table.from_pylist(block, schema))


def _read_parquet(path: Path) -> Iterator[Record]:
    parquet = require("parquet", "pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
        if file.schema_arrow.names != _parquet_schema().names:
            raise _not_ours(path, "its columns differ")
        for batch in file.iter_batches(batch_size=5000):
            for record in batch.to_pylist():
                yield _ours(record, path, "a row")
    except ValueError as err:  # pyarrow.ArrowInvalid
        raise _not_ours(path, str(err)) from err
