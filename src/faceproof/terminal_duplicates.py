"""Near-duplicates in the terminal: progress of the hashing, and one line of what was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from faceproof.duplicates import HashRecord
from faceproof.errors import plain
from faceproof.hash_files import Duplicates
from faceproof.inputs import Inputs
from faceproof.terminal import counted, new_console

__all__ = ["duplicates", "hashing"]


class _Bar:
    """What the hashing reports its steps to."""

    def __init__(self, inputs: Inputs, *, hidden: bool) -> None:
        self._stack = contextlib.ExitStack()
        hidden = hidden or not new_console(stderr=True).is_terminal
        # For a list on standard input the total is not known: it stands at what is done.
        self._total = inputs.count() if inputs.countable and not hidden else 0
        self._done = 0
        self._show = self._stack.enter_context(counted("hashing", hidden=hidden))

    def hashed(self, record: HashRecord) -> None:
        """One more picture has its record."""
        self._done += 1
        self._show(self._done, max(self._done, self._total))

    def skipped(self) -> None:
        """One input had its record from an earlier run."""
        self._total -= 1

    def close(self) -> None:
        """Take the bar away."""
        self._stack.close()


@contextlib.contextmanager
def hashing(inputs: Inputs, *, hidden: bool = False) -> Iterator[_Bar]:
    """Show a progress bar on standard error while pictures are hashed."""
    bar = _Bar(inputs, hidden=hidden)
    try:
        yield bar
    finally:
        bar.close()


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
