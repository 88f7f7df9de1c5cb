"""Embed many pictures with several processes, and keep what was found as JSON lines to go on from.

One record a picture, failures included. The embedding and the thumbnail are those of the face that speaks for the
picture. Records say what they were made with, so that a map never mixes two models or thresholds.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.fetching import fetched
from faceproof.images import printable
from faceproof.inputs import Inputs, Item, remaining
from faceproof.journals import Journal
from faceproof.pipeline import EmbeddedPicture, FaceChecker
from faceproof.records import LABELS, STATUSES, ImageResult
from faceproof.scan import KILLED, Options
from faceproof.thumbnails import thumbnail
from faceproof.workers import Job, spread

__all__ = ["MAP_SCHEMA", "EmbeddingFile", "EmbeddingRecord", "embed", "embed_to_file", "made_with", "open_embeddings"]

MAP_SCHEMA = "faceproof.embedding/1"
WIDEST = 65_536
"""Numbers an embedding may have."""


@dataclass(frozen=True)
class EmbeddingRecord:
    """One picture.

    Attributes:
        path: as printed.
        status: "ok", "no_face" or "error".
        made_with: of `made_with`.
        verdict: of the picture; None without a face.
        probability: of generated, 0 to 1; None where no face is fit to be judged.
        embedding: (E,) float32, finite; None without a face.
        thumbnail: JPEG of `thumbnails.LARGEST` pixels; empty without a face.
        error: what was wrong, for status "error".
    """

    path: str
    status: str
    made_with: str
    verdict: str | None = None
    probability: float | None = None
    embedding: npt.NDArray[np.float32] | None = None
    thumbnail: bytes = b""
    error: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise UsageError(f"unknown status {self.status!r}; known: {', '.join(STATUSES)}")
        if (self.status == "error") != (self.error is not None):
            raise UsageError("an error has a message and nothing else has one")
        if (self.status == "ok") != (self.embedding is not None and bool(self.thumbnail) and self.verdict in LABELS):
            raise UsageError("status ok means an embedding, a thumbnail and a verdict")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise UsageError(f"probability must lie in 0..1, not {self.probability}")
        if self.embedding is not None and (
            self.embedding.ndim != 1
            or not 0 < len(self.embedding) <= WIDEST
            or self.embedding.dtype != np.float32
            or not np.isfinite(self.embedding).all()
        ):
            raise UsageError(f"an embedding is 1 to {WIDEST} finite float32 numbers, not {self.embedding!r:.80}")

    def to_dict(self) -> dict[str, Any]:
        """Return what a line of the file holds: bytes and numbers as base64, float32 with the low byte first."""
        numbers = b"" if self.embedding is None else self.embedding.astype("<f4").tobytes()
        return {
            "path": self.path, "status": self.status, "verdict": self.verdict, "probability": self.probability,
            "error": self.error, "embedding": base64.b64encode(numbers).decode(),
            "thumbnail": base64.b64encode(self.thumbnail).decode(), "made_with": self.made_with, "schema": MAP_SCHEMA,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, raw: Any) -> EmbeddingRecord:
        """Return the record of `to_dict`'s dictionary.

        Raises:
            UsageError: it is none.
        """
        try:
            if raw["schema"] != MAP_SCHEMA:
                raise UsageError(f"not of schema {MAP_SCHEMA}")
            texts = [raw[key] for key in ("path", "status", "made_with", "verdict", "error")]
            if not all(isinstance(text, str) for text in texts[:3]) or not all(
                isinstance(text, (str, type(None))) for text in texts[3:]
            ):
                raise UsageError("not text where text should be")
            numbers = np.frombuffer(base64.b64decode(raw["embedding"], validate=True), "<f4").astype(np.float32)
            path, status, made, verdict, error = texts
            return cls(
                path, status, made, verdict,
                None if raw["probability"] is None else float(raw["probability"]),
                numbers if len(numbers) else None, base64.b64decode(raw["thumbnail"], validate=True), error,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, binascii.Error) as err:
            raise UsageError(f"no embedding record ({err!r})") from err


def made_with(checker: FaceChecker) -> str:
    """Return what verdicts and embeddings depend on, as one line: model, face detector, limits, threshold."""
    result = checker.failed("", "")
    gates = ", ".join(f"{name} {value:g}" for name, value in vars(checker.gates).items())
    metadata = "read" if checker.metadata else "not read"
    return (
        f"{result.model}, {result.face_detector}, FPR {result.threshold_fpr:g}, "
        f"band {result.band[0]:.6f} to {result.band[1]:.6f}, {gates}, metadata {metadata}"
    )


def embed(
    items: Iterable[Item], options: Options, *, workers: int | None = None
) -> Generator[EmbeddingRecord, None, None]:
    """Embed every item; yield one record each, in order.

    Args:
        items: from `faceproof.inputs.Inputs`; read lazily.
        options: how to check.
        workers: processes; None takes one per core. With 1, or when there are fewer than
            `2 * CHUNK` items, this process does the work.

    Raises:
        UsageError, ModelError: the options are wrong, or the model gives no embeddings.
    """
    checker = options.checker()
    next(checker.embed_many(()), None)  # a model without embeddings is said before anything is read
    made = made_with(checker)
    job = Job(_begin, (options,), _work, lambda item: _record(checker.failed(item.path, KILLED), made))
    yield from spread(items, job, lambda few: _embed(checker, made, few), workers)


def _embed(checker: FaceChecker, made: str, items: Iterable[Item]) -> Iterator[EmbeddingRecord]:
    """Embed items; those that already carry an error pass through in their place."""
    there = fetched(items, checker.limits)
    for failed, run in itertools.groupby(there, key=lambda item: item.error is not None):
        if failed:
            yield from (_record(checker.failed(item.path, item.error or ""), made) for item in run)
        else:
            yield from (_embedded(one, made) for one in checker.embed_many(item.source for item in run))


def _embedded(one: EmbeddedPicture, made: str) -> EmbeddingRecord:
    if one.embedding is None or one.crop is None:
        return _record(one.result, made)
    decisive = one.result.decisive
    return EmbeddingRecord(
        one.result.path, one.result.status, made, one.result.verdict,
        None if decisive is None else round(decisive.verdict.probability, 6), one.embedding, thumbnail(one.crop),
    )  # fmt: skip


def _record(result: ImageResult, made: str) -> EmbeddingRecord:
    """Return the record of a picture without a face."""
    return EmbeddingRecord(result.path, result.status, made, error=result.error)


_worker: tuple[FaceChecker, str] | None = None


def _begin(options: Options) -> None:
    """Start of a worker: its own checker."""
    global _worker  # noqa: PLW0603  (a worker process has this one state)
    options.limits.widen_pillow()
    checker = options.checker()
    _worker = checker, made_with(checker)


def _work(part: list[Item]) -> list[EmbeddingRecord]:
    assert _worker is not None  # _begin ran first
    return list(_embed(*_worker, part))


class EmbeddingFile(Journal[EmbeddingRecord]):
    """Embeddings on disk. Made by `open_embeddings`; use it in a `with` block.

    Attributes:
        made_with: every record in the file agrees with it.
    """

    holds = "embeddings"

    def __init__(self, path: Path, made: str) -> None:
        super().__init__(path)
        self.made_with = made

    def records(self) -> Iterator[EmbeddingRecord]:
        """Read all records, in the order of the file.

        Raises:
            OutputError: the file does not hold embeddings made this way.
        """
        return (record for _, record in self._records())

    def _parse(self, line: bytes, where: str) -> EmbeddingRecord:
        try:
            record = EmbeddingRecord.from_dict(json.loads(line))
        except (ValueError, RecursionError, UsageError) as err:
            raise self.not_ours(f"{where}: {err}") from err
        if record.made_with != self.made_with:
            raise self.not_ours(f"{where} was made with {record.made_with}, not {self.made_with}")
        return record


def open_embeddings(path: str | Path, made: str, *, overwrite: bool = False) -> EmbeddingFile:
    """Open a file of embeddings to go on with it, or begin one.

    Args:
        path: of the file (JSON lines).
        made: of `made_with`.
        overwrite: begin anew instead of going on from what is there.

    Raises:
        UsageError: a folder or device.
        OutputError: it cannot be written, another run is writing it, or it holds something else.
    """
    found = EmbeddingFile(Path(path), made)
    found.open(overwrite=overwrite)
    return found


def embed_to_file(
    inputs: Inputs,
    file: EmbeddingFile,
    options: Options,
    *,
    workers: int | None = None,
    on_record: Callable[[EmbeddingRecord], None] = lambda record: None,
    on_skip: Callable[[], None] = lambda: None,
) -> list[str]:
    """Embed all inputs that have no record yet; return the paths of all inputs, in order, as printed.

    Args:
        inputs: what to embed.
        file: opened by `open_embeddings` for the same options; not closed here.
        options: how to check.
        workers: processes, None for one per core.
        on_record: called with each new record, after it was written.
        on_skip: called for each input that has its record already.

    Raises:
        StorageError: a bucket fails as a whole; what came before is written.
    """
    paths: list[str] = []

    def named() -> Iterator[Item]:
        for item in inputs:
            paths.append(printable(item.path))
            yield item

    with (
        remaining(named(), file.done, on_skip) as wanted,
        contextlib.closing(embed(wanted, options, workers=workers)) as stream,
    ):
        for record in stream:
            file.write(record)
            on_record(record)
    return paths
