"""Files of JSON lines that are appended to: one writer at a time, never half a record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from faceproof.errors import OutputError

__all__ = ["cut_torn_line", "lock", "write_all"]


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
