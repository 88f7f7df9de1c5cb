"""Read every picture once: hashes, and what its file says. Kept in a journal, so that a run can be gone on with."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from faceproof.errors import OutputError, PictureError
from faceproof.extras import opencv
from faceproof.hashing import hash_picture, to_hex
from faceproof.images import Limits, load
from faceproof.journals import cut_torn_line, lock, write_all
from faceproof.scoring import jpeg_quality
from faceproof.workers import Job, spread

__all__ = ["Examined", "examine", "examine_all"]

KILLED = "the process that read it was killed (a crash in a decoder, or no memory left); lower --max-pixels"


@dataclass(frozen=True)
class Examined:
    """What is known about one file.

    Attributes:
        path: of the file on this machine.
        size: bytes; `modified`: nanoseconds since 1970; both tell whether it has changed since.
        sha256: of its bytes, hexadecimal. phash: `hashing.to_hex` of its pHash.
        flat: whether that says nothing.
        width, height: pixels, upright. format: by Pillow's name. jpeg_quality: 1-100, 0 where it is no JPEG.
        error: why it cannot be used, or "".
    """

    path: str
    size: int = 0
    modified: int = 0
    sha256: str = ""
    phash: str = ""
    flat: bool = False
    width: int = 0
    height: int = 0
    format: str = ""
    jpeg_quality: int = 0
    error: str = ""


def examine(path: str, limits: Limits) -> Examined:
    """Read one file."""
    try:
        state = os.stat(path)
        picture = load(path, limits=limits)
    except (PictureError, OSError, ValueError) as err:
        said = getattr(err, "strerror", None) or str(err)
        return Examined(path, error=said)
    found = hash_picture(picture.pixels)
    quality = jpeg_quality(path) if picture.format in ("JPEG", "MPO") else 0
    return Examined(
        path, state.st_size, state.st_mtime_ns, picture.sha256 or "", to_hex(found.hashes[0]), found.flat,
        picture.width, picture.height, picture.format, quality,
    )  # fmt: skip


def examine_all(
    paths: Iterable[str],
    journal: Path,
    limits: Limits,
    *,
    workers: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Examined]:
    """Read all files; those that the journal has, and that have not changed, are not read again.

    Args:
        paths: of files; read lazily.
        journal: JSON lines, appended to and left there.
        limits: what one picture may cost.
        workers: processes; None for one per core.
        done: called for each file.

    Raises:
        OutputError: the journal cannot be written, or another run is writing it.
    """
    found: dict[str, Examined] = {}
    with _opened(journal) as stream:
        known = _known(journal)
        cut_torn_line(stream)

        def wanted() -> Iterator[str]:
            for path in paths:
                one = known.get(path)
                if one is not None and _unchanged(one):
                    found[path] = one
                    done()
                else:
                    yield path

        for record in _examined(wanted(), limits, workers):
            try:
                write_all(stream, json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n")
            except OSError as err:
                raise OutputError(f"cannot write {journal} ({err.strerror or err}); free space and go on") from err
            found[record.path] = record
            done()
    return found


def _examined(paths: Iterator[str], limits: Limits, workers: int | None) -> Iterator[Examined]:
    job: Job[str, Examined] = Job(_begin, (limits,), _work, lambda path: Examined(path, error=KILLED))
    return spread(paths, job, lambda few: (examine(path, limits) for path in few), workers)


_limits = Limits()


def _begin(limits: Limits) -> None:
    """Start of a worker."""
    global _limits  # noqa: PLW0603  (a worker process has this one state)
    limits.widen_pillow()
    opencv().setNumThreads(1)
    _limits = limits


def _work(paths: list[str]) -> list[Examined]:
    return [examine(path, _limits) for path in paths]


def _unchanged(one: Examined) -> bool:
    try:
        state = os.stat(one.path)
    except OSError:
        return False
    return not one.error and (state.st_size, state.st_mtime_ns) == (one.size, one.modified)


@contextlib.contextmanager
def _opened(journal: Path) -> Iterator[IO[bytes]]:
    try:
        stream = open(journal, "ab+", buffering=0)  # noqa: SIM115  (closed below)
    except OSError as err:
        raise OutputError(f"cannot write {journal} ({err.strerror or err}); check the folder") from err
    with stream:
        lock(stream, journal)
        yield stream


def _known(journal: Path) -> dict[str, Examined]:
    """What an earlier run has read; lines that are none of ours count as nothing."""
    found: dict[str, Examined] = {}
    with journal.open("rb") as stream:
        for line in stream:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                raw: Any = json.loads(line)
                one = Examined(**raw)
                found[one.path] = one
    return found
