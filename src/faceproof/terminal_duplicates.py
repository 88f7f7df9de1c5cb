"""Near-duplicates in the terminal: progress of the hashing, and one line of what was found."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.text import Text

from faceproof.duplicates import HashRecord
from faceproof.errors import FaceproofError, plain
from faceproof.hash_files import Duplicates
from faceproof.inputs import Inputs
from faceproof.terminal import counted, new_console

__all__ = ["duplicates", "hashing"]


@contextlib.contextmanager
def hashing(inputs: Inputs, *, hidden: bool = False) -> Iterator[_Bar]:
    """Show a progress bar on standard error while pictures are hashed.

    The number of inputs is counted by a second walk beside the work; until it is known, and for inputs that can be
    read only once, the bar shows what is done.
    """
    with counted("hashing", hidden=hidden) as show:
        bar = _Bar(show)
        if inputs.countable and not hidden and new_console(stderr=True).is_terminal:
            threading.Thread(target=_count, args=(inputs, bar), daemon=True).start()
        yield bar


class _Bar:
    """What the hashing reports its steps to."""

    def __init__(self, show: Callable[[int, int], None]) -> None:
        self._show, self._done, self._skipped, self._total = show, 0, 0, 0

    def hashed(self, record: HashRecord) -> None:
        """One more picture has its record."""
        self._done += 1
        self._show(self._done, max(self._done, self._total - self._skipped))

    def skipped(self) -> None:
        """One input had its record from an earlier run; it counts for neither rate nor total."""
        self._skipped += 1

    def expect(self, inputs: int) -> None:
        """So many inputs there are in all."""
        self._total = inputs


def _count(inputs: Inputs, bar: _Bar) -> None:
    with contextlib.suppress(FaceproofError, OSError):  # the hashing itself meets it and says so
        bar.expect(inputs.count())


def duplicates(found: Duplicates, out: str, hashes: Path | None) -> None:
    """Print what was found, on standard error as a scan's figures."""
    console = new_console(stderr=True)
    turned = ", turned and mirrored copies included" if found.rotations else ""
    console.print(Text(
        f"{found.clusters} clusters hold {found.clustered} of {found.pictures} pictures "
        f"({found.kind} within {found.radius} bits{turned}, {found.method}); "
        f"left out: {found.flat} flat, {found.errors} not readable"
    ))  # fmt: skip
    console.print(Text(plain(f"wrote {out}" + (f"; the hashes are in {hashes}" if hashes else ""))))
