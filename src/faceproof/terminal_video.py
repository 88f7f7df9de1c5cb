"""What a terminal shows about videos: a panel per video, a row per person, a bar while it is read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from faceproof.errors import plain
from faceproof.terminal import STYLES, WORDS, new_console
from faceproof.video_records import Track, VideoResult

__all__ = ["card", "watched"]

BARS = "▁▂▃▄▅▆▇█"
SPARK = 32
SHOWN = 20
"""Tracks shown one by one, the most suspicious first."""


def card(result: VideoResult) -> None:
    """Print what was found in one video."""
    outcome = result.verdict or result.status
    title = Text.assemble((WORDS.get(outcome, outcome.upper()), STYLES[outcome]), "  ", (plain(result.path), "bold"))
    parts: list[Text | Table] = []
    if result.status == "error":
        parts.append(Text(plain(result.error or "")))
    else:
        parts.append(Text(_frames(result), "bright_black"))
    if result.status == "no_face":
        parts.append(Text("No face was found in any of them, so there is no verdict."))
    order = result.by_suspicion
    parts += [_track(track, track is result.decisive) for track in order[:SHOWN]]
    if len(order) > SHOWN:
        parts.append(Text(f"and {len(order) - SHOWN} more; --json names them all", "bright_black"))
    parts += [Text(plain(f"note: {line}"), "bright_black") for line in result.notes]
    new_console().print(Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, padding=(0, 1)))


@contextlib.contextmanager
def watched(what: str, *, hidden: bool = False) -> Iterator[Callable[[float, float | None], None]]:
    """Show a bar on standard error; give what is to be called with seconds done and in all (None: unknown)."""
    console = new_console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda done, whole: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.fields[whole]} s"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task(plain(what), total=None, whole="?")

        def tell(done: float, whole: float | None) -> None:
            live.update(task, completed=done, total=whole, whole="?" if whole is None else f"{whole:.0f}")

        yield tell


def _frames(result: VideoResult) -> str:
    counts = result.frames
    lost = f", {counts.dropped} dropped" if counts.dropped else ""
    return (
        f"{result.seconds:.1f} s of {result.codec} in {result.container}, {result.width} x {result.height}: "
        f"{counts.read} frames read, {counts.used} checked{lost}, {counts.faces} faces"
    )


def _track(track: Track, decisive: bool) -> Table:
    verdict = track.face.verdict
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bright_black", no_wrap=True)
    rows.add_column(ratio=1)
    mark = "  speaks for the video" if decisive else ""
    rows.add_row(
        f"person {track.number}", Text.assemble((verdict.label, STYLES[verdict.label]), (mark, "bright_black"))
    )
    rows.add_row("probability", Text.assemble((f"{verdict.probability:.3f}", "bold"), " of generated"))
    rows.add_row(
        "threshold",
        f"{verdict.threshold:.3f}, reached by {100 * verdict.threshold_fpr:g} % of photographs; "
        f"no claim from {verdict.band[0]:.3f} to {verdict.band[1]:.3f}",
    )
    rows.add_row("reasons", Text("\n".join(verdict.reasons)))
    rows.add_row(
        "seen",
        f"{track.first:.1f} to {track.last:.1f} s; fit to be judged in {track.judged} of {track.seen} sightings; "
        f"best at {track.best:.1f} s",
    )
    rows.add_row("timeline", _spark(track))
    return rows


def _spark(track: Track) -> Text:
    """Probability over time, from photograph (low) to generated (high); dim where no face was fit."""
    span = max(track.last - track.first, 1e-9)
    text = Text()
    slots: list[list[tuple[float, float]]] = [[] for _ in range(min(SPARK, len(track.sightings)))]
    for sighting in track.sightings:
        slot = min(len(slots) - 1, int((sighting.seconds - track.first) / span * len(slots)))
        slots[slot].append((sighting.probability, sighting.weight))
    for slot_values in slots:
        fit = [value for value, weight in slot_values if weight]
        shown = fit or [value for value, _ in slot_values]
        if not shown:
            text.append(" ")
            continue
        letter = BARS[min(7, int(8 * sum(shown) / len(shown)))]
        text.append(letter, STYLES[track.face.verdict.label] if fit else "bright_black")
    return text
