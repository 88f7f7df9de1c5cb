"""What a person sees in the terminal: cards, progress, summaries. Everything is printed with rich."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from faceproof.detectors.alignment import Built
from faceproof.detectors.card import Card
from faceproof.doctor import Finding
from faceproof.engine_run import EngineRun
from faceproof.errors import FaceproofError, plain
from faceproof.inputs import Inputs
from faceproof.recalibration import Recalibration
from faceproof.records import Face, ImageResult, Stability
from faceproof.reports import ResultFile
from faceproof.side_by_side import SideBySide
from faceproof.video_records import AnyResult

__all__ = [
    "card", "comparison", "counted", "findings", "model", "models", "new_console", "note", "progress", "recalibration",
    "reference", "steps", "summary",
]  # fmt: skip

STYLES = {
    "photograph": "bold green",
    "generated": "bold red",
    "inconclusive": "bold yellow",
    "no_face": "bold bright_black",
    "error": "bold magenta",
}
WORDS = {"no_face": "NO FACE", "error": "NOT READABLE"}
WIDTH = 100
SHOWN = 10
"""Unreadable pictures that are named one by one."""


def new_console(*, stderr: bool = False) -> Console:
    """Return a console of at most `WIDTH` columns that takes no markup from names."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=False, markup=False)
    if console.width > WIDTH or not console.is_terminal:
        console.width = WIDTH
    return console


def note(text: str) -> None:
    """Print a line in a quiet tone."""
    new_console().print(Text(plain(text), style="bright_black"))


def card(result: ImageResult) -> None:
    """Print what was found in one picture: a panel per face."""
    outcome = result.verdict or result.status
    title = Text.assemble((WORDS.get(outcome, outcome.upper()), STYLES[outcome]), "  ", (plain(result.path), "bold"))
    parts: list[Any] = []
    if result.status == "error":
        parts.append(Text(plain(result.error or "")))
    elif result.status == "no_face":
        parts.append(Text(f"No face was found in {result.width} x {result.height} pixels, so there is no verdict."))
    for number, face in enumerate(result.faces, 1):
        parts.append(_face(face, number if len(result.faces) > 1 else 0, face is result.decisive))
    parts += [Text(f"note: {line}", style="bright_black") for line in result.notes]
    new_console().print(Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, padding=(0, 1)))


def comparison(found: SideBySide) -> None:
    """Print a card for each of two pictures, and how they are alike."""
    card(found.first)
    card(found.second)
    new_console().print(Text.assemble((found.likeness.upper(), "bold"), "  ", found.sentence))


def _face(face: Face, number: int, decisive: bool) -> Table:
    verdict = face.verdict
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bright_black", no_wrap=True)
    rows.add_column(ratio=1)
    if number:
        mark = "  speaks for the picture" if decisive else ""
        rows.add_row(f"face {number}", Text.assemble((verdict.label, STYLES[verdict.label]), (mark, "bright_black")))
    rows.add_row("probability", Text.assemble((f"{verdict.probability:.3f}", "bold"), " of generated  ", _bar(face)))
    rows.add_row(
        "threshold",
        f"{verdict.threshold:.3f}, reached by {100 * verdict.threshold_fpr:g} % of photographs; "
        f"no claim from {verdict.band[0]:.3f} to {verdict.band[1]:.3f}",
    )
    rows.add_row("reasons", Text("\n".join(verdict.reasons)))
    if len(verdict.evidence) > 1:
        rows.add_row("evidence", Text("; ".join(f"{piece.name} {piece.weight:+.2f}" for piece in verdict.evidence)))
    if verdict.stability is not None:
        rows.add_row("stability", _stability(verdict.stability))
    quality = "; ".join(reason.sentence for reason in face.quality) or "good enough to judge"
    rows.add_row("quality", Text(quality))
    x0, y0, x1, y1 = face.box
    rows.add_row("box", f"({x0:.0f}, {y0:.0f}) to ({x1:.0f}, {y1:.0f}), face detector {face.confidence:.0%} sure")
    return rows


def _stability(found: Stability) -> str:
    """The range of probabilities after perturbations, and which of them turn the answer."""
    flips = f"turned by {', '.join(found.flips)}" if found.flips else "none turns the answer"
    return (
        f"{found.lowest:.3f} to {found.highest:.3f} (median {found.median:.3f}) after "
        f"{len(found.probabilities)} perturbations; {flips}"
    )


def _bar(face: Face, width: int = 24) -> Text:
    """Probability on a line from photograph to generated, the band shaded."""
    verdict = face.verdict
    low, high = (min(width - 1, int(value * width)) for value in verdict.band)
    at = min(width - 1, int(verdict.probability * width))
    bar = Text()
    for place in range(width):
        if place == at:
            bar.append("●", STYLES[verdict.label])
        else:
            bar.append("▒" if low <= place <= high else "─", "bright_black")
    return bar


class _Rate(ProgressColumn):
    """Steps a second, over the recent past."""

    def __init__(self, unit: str = "") -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}{self._unit}/s", style="cyan")


class _Bar:
    """What a scan reports its steps to."""

    def __init__(self, live: Progress | None) -> None:
        self._live = live
        self._task = None if live is None else live.add_task("checking", total=None, flagged=0)
        self._flagged = self._skipped = 0

    def checked(self, result: AnyResult) -> None:
        """One more picture has its record."""
        self.done(1, int(result.verdict == "generated"))

    def done(self, pictures: int, flagged: int) -> None:
        """So many more pictures have their records, so many of them flagged."""
        self._flagged += flagged
        if self._live is not None and self._task is not None:
            self._live.update(self._task, advance=pictures, flagged=self._flagged)

    def skipped(self, pictures: int = 1) -> None:
        """So many inputs had their records from an earlier run; they count for neither rate nor total."""
        self._skipped += pictures

    def close(self) -> None:
        """Take the bar away, so that a last line stands alone."""
        if self._live is not None:
            self._live.stop()

    def expect(self, inputs: int) -> None:
        """So many inputs there are in all."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, total=max(0, inputs - self._skipped))


@contextlib.contextmanager
def progress(inputs: Inputs, *, hidden: bool = False) -> Iterator[_Bar]:
    """Show a progress bar with rate and time left on standard error.

    The number of inputs is counted by a second walk beside the work; until it is known, and for a
    list on standard input, the bar shows what is done and how fast.
    """
    console = new_console(stderr=True)
    if hidden or not console.is_terminal:
        yield _Bar(None)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(" pictures"), TimeRemainingColumn(),
        TextColumn("{task.fields[flagged]} flagged"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as live:
        bar = _Bar(live)
        if inputs.countable:
            threading.Thread(target=_count, args=(inputs, bar), daemon=True).start()
        yield bar


def _count(inputs: Inputs, bar: _Bar) -> None:
    with contextlib.suppress(FaceproofError, OSError):  # the scan itself meets it and says so
        bar.expect(inputs.count())


@contextlib.contextmanager
def counted(what: str, *, hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error; give what is to be called with steps done and in all."""
    console = new_console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task(what, total=None)
        yield lambda done, total: live.update(task, completed=done, total=total)


@contextlib.contextmanager
def steps(*, hidden: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show one bar a step on standard error; give what is to be called with the step, what is done and in all."""
    console = new_console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as live:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                for task in tasks.values():
                    live.update(task, visible=False)
                tasks[what] = live.add_task(plain(what), total=total)
            live.update(tasks[what], completed=done, total=total, visible=True)

        yield show


def summary(results: ResultFile | EngineRun, before: int, ignored: int) -> None:
    """Print how many records there are of each kind."""
    console = new_console(stderr=True)
    total = results.total
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("result")
    table.add_column("pictures", justify="right")
    table.add_column("share", justify="right")
    for outcome, style in STYLES.items():
        number = results.counts[outcome]
        share = f"{number / total:.1%}" if total else ""
        table.add_row(Text(WORDS.get(outcome, outcome).lower(), style), str(number), share)
    console.print(table)
    text = f"{total} records in {plain(results.place)}"
    if before:
        text += f", {before} of them from earlier runs"
    if ignored:
        text += f"; {ignored} files in folders have no picture's ending and were left out (--all-files takes them)"
    console.print(Text(text))


def models(cards: Iterable[Card], default: str) -> None:
    """Print the list of models."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("model", "version", "crop", "MB", "AUC val", "AUC unseen", "thresholds (FPR)"):
        table.add_column(name)
    for item in cards:
        raw: Any = item.raw
        table.add_row(
            item.name + (" (default)" if item.name == default else ""),
            item.version,
            f"{item.size} px",
            f"{raw['bytes'] / 1e6:.1f}",
            f"{raw['metrics']['val']['auc']:.3f}",
            f"{raw['metrics']['unseen']['auc']:.3f}",
            ", ".join(f"{point.fpr:g}" for point in item.points),
        )
    new_console().print(table)
    note("faceproof models NAME shows a card: data, licences, metrics, limits")


def model(item: Card) -> None:
    """Print one model's card."""
    raw: Any = item.raw
    console = new_console()
    console.print(Text(f"{item.name} {item.version}", style="bold"))
    console.print(Text(f"{raw['description']}\nlicence: {raw['licence']}\nsha256: {item.sha256}"))
    points = Table(
        "FPR", "threshold (score)", "95 % interval", "photographs", "method", box=box.SIMPLE, title="operating points"
    )
    for point in item.points:
        mark = " (default)" if point.fpr == item.default_fpr else ""
        points.add_row(
            f"{point.fpr:g}{mark}", f"{point.threshold:.2f}", f"{point.low:.2f} to {point.high:.2f}",
            str(point.photographs), point.method,
        )  # fmt: skip
    console.print(points)
    measured = Table(
        "split", "photographs", "generated", "AUC", "TPR at FPR 1 %", "ECE", box=box.SIMPLE, title="metrics"
    )
    for split, row in raw["metrics"].items():
        low, high = row["auc_interval"]
        measured.add_row(
            split, str(row["photographs"]), str(row["generated"]), f"{row['auc']:.3f} ({low:.3f} to {high:.3f})",
            f"{row['tpr_at_fpr_1']:.2f}", f"{row['ece']:.3f}" if "ece" in row else "not measured",
        )  # fmt: skip
    console.print(measured)
    sources = Table("trained on", "class", "pictures", "licence", box=box.SIMPLE)
    for row in raw["training"]["data"]:
        sources.add_row(row["source"], row["label"], str(row["pictures"]), row["licence"])
    console.print(sources)
    console.print(Text("limits", style="bold"))
    for line in raw["limits"]:
        console.print(Text(f"- {line}"))


def recalibration(result: Recalibration) -> None:
    """Print what a calibration found: the methods side by side, the thresholds, what was left out."""
    console = new_console()
    methods = Table("method", "ECE", "NLL", "", box=box.SIMPLE, title="on groups not fitted on (five folds)")
    for one in result.comparisons:
        figures = ("does not fit", "") if math.isnan(one.nll) else (f"{one.ece:.4f}", f"{one.nll:.4f}")
        methods.add_row(one.method, *figures, Text("taken", "bold green") if one.method == result.method else "")
    console.print(methods)
    points = Table("FPR", "threshold (score)", "95 % interval", "probability", "method", box=box.SIMPLE)
    points.title = f"operating points, from {result.photographs} photographs"
    for point in result.points:
        mark = " (default)" if point.fpr == result.default_fpr else ""
        points.add_row(
            f"{point.fpr:g}{mark}", f"{point.threshold:.2f}", f"{point.low:.2f} to {point.high:.2f}",
            f"{result.calibration.probability(point.threshold):.3f}", point.method,
        )  # fmt: skip
    console.print(points)
    console.print(Text(
        f"fitted on {result.photographs} photographs and {result.generated} generated faces of {result.groups} groups; "
        f"left out: {result.faceless} without a face, {result.not_judged} not fit to be judged, "
        f"{result.trained} of groups that trained the model, {len(result.unreadable)} not readable"
    ))  # fmt: skip
    _unreadable(console, result.unreadable)
    for line in result.notes:
        console.print(Text(plain(f"note: {line}"), "bright_black"))
    console.print(Text(plain(f"wrote {result.folder}: {result.model}, made from {result.parent}")))


def reference(built: Built, out: str) -> None:
    """Print what an alignment reference was made of, and of what not."""
    console, made = new_console(), built.reference
    console.print(Text(plain(f"wrote {out}: landmarks of {made.count} faces found with {made.face_detector}")))
    table = Table("landmark", "mean x", "mean y", "std x", "std y", box=box.SIMPLE, title="shares of the sides")
    for name, mean, std in zip(("eye", "eye", "nose", "mouth", "mouth"), made.mean, made.std, strict=True):
        table.add_row(name, *(f"{value:.4f}" for value in (*mean, *std)))
    console.print(table)
    console.print(Text(
        f"left out: {built.faceless} without a face, {built.several} with several, {built.not_square} not square, "
        f"{built.copies} copies of others, {len(built.unreadable)} not readable"
    ))  # fmt: skip
    _unreadable(console, built.unreadable)


def _unreadable(console: Console, pictures: Sequence[tuple[str, str]]) -> None:
    """Name the first pictures that could not be read, and count the others."""
    for path, why in pictures[:SHOWN]:
        console.print(Text(plain(f"not readable: {path}: {why}"), STYLES["error"]))
    if len(pictures) > SHOWN:
        console.print(Text(f"and {len(pictures) - SHOWN} more; --json names them all", STYLES["error"]))


def findings(found: Iterable[Finding]) -> None:
    """Print what the doctor found."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("", "what", "found"):
        table.add_column(name)
    for finding in found:
        mark = Text("ok", "green") if finding.good else Text("BAD", "bold red")
        table.add_row(mark, finding.what, Text(finding.found))
    new_console().print(table)
