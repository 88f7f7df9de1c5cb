"""Result tables that say where they come from, replaced as a whole."""

from __future__ import annotations

import csv
import io
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from faceproof._version import VERSION
from faceproof.errors import OutputError
from faceproof.servers import redacted

__all__ = ["provenance", "spreadsheet_safe", "well_formed", "write_atomically", "write_table"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        os.replace(temporary, path)
    except OSError as err:
        raise OutputError(f"cannot write {path} ({err.strerror or err}); check the folder and the disk") from err
    finally:
        temporary.unlink(missing_ok=True)


def write_table(path: Path, said: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV below one comment line.

    Args:
        path: the file.
        said: the comment: where the numbers come from.
        columns, rows: the table.

    Raises:
        OutputError: it cannot be written.
    """
    stream = io.StringIO()
    stream.write(f"# {said}\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(path, stream.getvalue())


def well_formed(text: str) -> str:
    """Return text that UTF-8 can hold: bytes of names that are none become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def spreadsheet_safe(value: object) -> object:
    """Keep spreadsheets from running text such as a file name as a formula (OWASP: CSV injection)."""
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value


def provenance(data: str) -> str:
    """Return one line: the command, version and commit, the hardware, and a digest of the data."""
    program = Path(sys.argv[0]).name
    words = (redacted(word) for word in sys.argv[1:])
    command = shlex.join(["faceproof" if program == "__main__.py" else program or "python", *words])
    parts = (command, f"faceproof {VERSION}, commit {_commit()}", _hardware(), f"data {data}")
    return well_formed(" ".join("; ".join(parts).split()))


def _commit() -> str:
    """Commit of the source this runs from, read from git's own files; "unknown" for an installed package."""
    try:
        git = next(folder / ".git" for folder in Path(__file__).resolve().parents if (folder / ".git").exists())
        if git.is_file():  # a work tree of another repository
            git = (git.parent / git.read_text(encoding="utf-8").split(":", 1)[1].strip()).resolve()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head[:12]
        ref, common = head.split(":", 1)[1].strip(), git / "commondir"
        shared = (git / common.read_text(encoding="utf-8").strip()).resolve() if common.is_file() else git
        if (shared / ref).is_file():
            return (shared / ref).read_text(encoding="utf-8").strip()[:12]
        packed = (shared / "packed-refs").read_text(encoding="utf-8")
    except (OSError, StopIteration, IndexError):
        return "unknown"
    found = re.search(rf"^([0-9a-f]{{12}})[0-9a-f]* {re.escape(ref)}$", packed, re.MULTILINE)
    return found[1] if found else "unknown"


def _hardware() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores {cpu}"
