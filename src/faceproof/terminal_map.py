"""Maps in the terminal: progress of the embedding, and what the map holds."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from faceproof.embeddings import EmbeddingRecord
from faceproof.errors import plain
from faceproof.inputs import Inputs
from faceproof.picture_map import PictureMap
from faceproof.terminal import SHOWN, STYLES, counted, new_console

__all__ = ["embedding", "picture_map", "steps"]


class _Bar:
    """What the embedding reports its pictures to."""

    def __init__(self, show: Callable[[int, int], None], total: int) -> None:
        self._show, self._total, self._done = show, total, 0

    def embedded(self, record: EmbeddingRecord) -> None:
        """One more picture has its record."""
        self._done += 1
        self._show(self._done, max(self._done, self._total))

    def skipped(self) -> None:
        """One input had its record from an earlier run."""
        self._total -= 1


@contextlib.contextmanager
def embedding(inputs: Inputs, *, hidden: bool = False) -> Iterator[_Bar]:
    """Show a progress bar on standard error while pictures are embedded."""
    hidden = hidden or not new_console(stderr=True).is_terminal
    # For a list on standard input the total is not known: it stands at what is done.
    total = inputs.count() if inputs.countable and not hidden else 0
    with counted("embedding", hidden=hidden) as show:
        yield _Bar(show, total)


@contextlib.contextmanager
def steps(*, hidden: bool = False) -> Iterator[Callable[[str], None]]:
    """Show the step at work with the time it takes, on standard error; give what is called with its name."""
    console = new_console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda what: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task("reading embeddings", total=None)
        yield lambda what: live.reset(task, description=what, total=None)


def picture_map(made: PictureMap, out: str, *, ignored: int) -> None:
    """Print what is on the map and what is not, on standard error as a scan's figures."""
    console = new_console(stderr=True)
    verdicts = Counter(point.verdict for point in made.points)
    said = ", ".join(f"{verdicts[name]} {name}" for name in STYLES if verdicts[name])
    faceless = len(made.missing) - len(made.unreadable)
    console.print(Text(
        f"{len(made.points)} pictures on the map: {said}; not on it: {faceless} without a face, "
        f"{len(made.unreadable)} not readable"
    ))  # fmt: skip
    for one in made.unreadable[:SHOWN]:
        console.print(Text(plain(f"not readable: {one.path}: {one.why}"), STYLES["error"]))
    if len(made.unreadable) > SHOWN:
        console.print(
            Text(f"and {len(made.unreadable) - SHOWN} more; the page and --csv name them all", STYLES["error"])
        )
    if ignored:
        console.print(Text(f"{ignored} files in folders have no picture's ending and were left out (--all-files)"))
    for note in made.notes:
        console.print(Text(plain(note), "bright_black"))
    console.print(Text(plain(f"wrote {out}")))
