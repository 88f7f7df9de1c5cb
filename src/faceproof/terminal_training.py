"""What a person sees of training in the terminal: progress, epochs, the finished model, the recipes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from faceproof.detectors.card import Card
from faceproof.errors import plain
from faceproof.exif_data import TAGS
from faceproof.exif_import import Imported
from faceproof.recipes import Preset
from faceproof.training_log import Ended
from faceproof.training_log import Progress as Report

__all__ = ["Shown", "imported", "presets", "said", "trained", "training"]

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class Shown:
    """A watcher (training_log) that draws on standard error."""

    def __init__(self, console: Console, live: Progress | None) -> None:
        self._console, self._live = console, live
        self._tasks: dict[str, TaskID] = {}
        self._last = 0.0
        self._pressed = False

    def press(self, *_: object) -> None:
        """Take Ctrl-C, and remember it: Python loses a KeyboardInterrupt that falls into the clean-up of a fork."""
        self._pressed = True
        raise KeyboardInterrupt

    def note(self, text: str) -> None:
        """Print a sentence."""
        self._console.print(Text(plain(text)))

    def counted(self, what: str, done: int, total: int) -> None:
        """Show how far something is that is counted in pictures."""
        if self._live is not None:
            self._live.update(self._task(what), completed=done, total=total)
        elif done == total or self._due():
            self.note(f"{what}: {done}/{total}")

    def progress(self, progress: Report) -> None:
        """Show the training's step, loss, pace and how much of the time it waits for pictures."""
        if self._pressed:
            raise KeyboardInterrupt
        text = f"loss {progress.loss:.4f}  {progress.pace:.1f} crops/s  waiting {progress.waiting:.0%}"
        if self._live is not None:
            task = self._task("training")
            self._live.update(task, completed=progress.step, total=progress.steps, note=text)
        elif progress.step == progress.steps or self._due():
            self.note(f"step {progress.step}/{progress.steps}  {text}  {progress.left / 60:.1f} min left")

    def epoch(self, history: Sequence[Ended]) -> None:
        """Print the newest epoch's line."""
        self.note(history[-1].line)

    def _task(self, what: str) -> TaskID:
        assert self._live is not None
        if what not in self._tasks:
            self._tasks[what] = self._live.add_task(what, total=None, note="")
        return self._tasks[what]

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._last < EVERY:
            return False
        self._last = now
        return True


@contextlib.contextmanager
def training(*, hidden: bool = False) -> Iterator[Shown]:
    """Show bars on standard error where it is a terminal, and a line every half minute where it is not.

    Args:
        hidden: show nothing: the second and further processes of a run.
    """
    console = Console(stderr=True, highlight=False, markup=False, quiet=hidden)
    if not console.is_terminal or hidden:
        console.width = 160
        yield Shown(console, None)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as live:
        yield Shown(console, live)


def trained(card: Card, folder: Path) -> None:
    """Print what came out of a training."""
    console = Console(highlight=False, markup=False)
    split, figures = next(iter(card.raw["metrics"].items()))
    table = Table(box=box.SIMPLE, title=plain(f"{card.identity} on {split}"))
    for name in ("photographs", "generated", "AUC", "TPR at FPR 1 %", "ECE", "calibration"):
        table.add_column(name)
    low, high = figures["auc_interval"]
    table.add_row(
        str(figures["photographs"]), str(figures["generated"]), f"{figures['auc']:.4f} ({low:.4f} to {high:.4f})",
        f"{figures['tpr_at_fpr_1']:.3f}", f"{figures['ece']:.3f}", str(card.raw["calibration"]["method"]),
    )  # fmt: skip
    console.print(table)
    console.print(Text(plain(f"wrote {folder}; try: faceproof check --model {folder} PICTURE"), "bright_black"))


def imported(found: Imported, out: str) -> list[str]:
    """Return what an import of photographs took and left, a line each."""
    where = ", ".join(f"{count} {split}" for split, count in sorted(found.splits.items()))
    missing = ", ".join(f"{word} {found.missing[tag]}" for tag, (word, _) in TAGS.items() if found.missing[tag])
    lines = [
        f"{found.photographs} photographs of {found.cameras} camera models ({where}): {found.faces} faces, "
        f"{found.patches} patches in {out}",
        f"left out: {found.without_exif} without camera model or exposure tags, {found.small} too small, "
        f"{found.repeated} repeated, {len(found.unreadable)} not readable",
    ]
    if missing:
        lines.append(f"tags missing: {missing}")
    if len(found.splits) < 2:
        lines.append("all camera models fell into one split; add cameras, or choose another --val-share")
    return [*lines, *(f"not readable: {path}: {why}" for path, why in found.unreadable[:5])]


def said(text: str) -> None:
    """Print a line in a quiet tone."""
    Console(highlight=False, markup=False).print(Text(plain(text), "bright_black"))


def presets(known: Mapping[str, Preset]) -> None:
    """Print the recipes that are there by name."""
    console = Console(highlight=False, markup=False)
    table = Table("preset", "backbone", "crop", "from", "notes", box=box.SIMPLE)
    for name, preset in known.items():
        recipe = preset.recipe
        crop = f"{recipe.frame} {recipe.size} px" + (" ELA" if recipe.features == "ela" else "")
        table.add_row(name, recipe.backbone, crop, preset.source, preset.notes)
    console.print(table)
