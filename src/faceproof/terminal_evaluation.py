"""What `faceproof evaluate` shows in the terminal: a bar while it works, and the tables at its end."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from faceproof.errors import plain
from faceproof.evaluation import COARSE
from faceproof.evaluation_run import Outcome
from faceproof.figures import Figure, pick
from faceproof.terminal import new_console

__all__ = ["progress", "tables"]


OVERALL = (
    "auc", "average_precision", "eer", "tpr_at_fpr_1", "tpr_at_fpr_01", "balanced_accuracy", "fpr_at_threshold", "ece",
)  # fmt: skip


class _Bar:
    """What an evaluation reports its steps to."""

    def __init__(self, live: Progress | None) -> None:
        self._live = live
        self._task = None if live is None else live.add_task("reading", total=None)

    def step(self, done: int, total: int, text: str) -> None:
        """So many of so many are done; `text` says what."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, total=total, description=plain(text))

    def close(self) -> None:
        """Take the bar away, so that a last line stands alone."""
        if self._live is not None:
            self._live.stop()


@contextlib.contextmanager
def progress() -> Iterator[_Bar]:
    """Show a progress bar with the time left on standard error, if that is a terminal."""
    console = new_console(stderr=True)
    if not console.is_terminal:
        yield _Bar(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as live:
        yield _Bar(live)


def tables(outcome: Outcome) -> None:
    """Print the figures that decide; the rest is in the folder."""
    console = new_console()
    for split in outcome.plan.splits if outcome.plan.specs else ():
        figures = pick(outcome.figures, split=split)
        console.print(_overall(figures, split))
        console.print(_worst(figures))
        for table in (_chains(figures), _differences(figures)):
            if table is not None:
                console.print(table)
    left = sorted(pick(outcome.figures, kind="left-out generator", metric="auc"), key=lambda f: f.value)
    if left:
        console.print(_plain_table("left out of training", "AUC", left))
    _audits(console, outcome)
    console.print(Text(f"tables, plots and evaluation.html: {plain(outcome.plan.out)}"))
    if outcome.unreadable:
        first = next(row for row in outcome.missing if row[5] == "unreadable")
        console.print(
            Text(
                f"{outcome.unreadable} picture(s) could not be read, e.g. {plain(first[3])}: {plain(first[6])} "
                "(all in missing.csv; mend them or take them out of the data)",
                style="bold red",
            )
        )


def _said(figure: Figure | None, *, sign: bool = False, coarse: bool = False) -> str:
    if figure is None or not math.isfinite(figure.value):
        return ""
    form = "{:+.3f}" if sign else "{:.3f}"
    text = ("~" if coarse else "") + form.format(figure.value)
    if math.isfinite(figure.low):
        text += f"\n{form.format(figure.low)} to {form.format(figure.high)}"
    return text


def _first(figures: Sequence[Figure], **wanted: str) -> Figure | None:
    return next(iter(pick(figures, **wanted)), None)


def _table(title: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _overall(figures: Sequence[Figure], split: str) -> Table:
    found = pick(figures, kind="all", chain="none")
    aucs = sorted(pick(found, metric="auc"), key=lambda f: -f.value)
    photographs = max((f.value for f in pick(found, metric="photographs")), default=0)
    generated = max((f.value for f in pick(found, metric="generated")), default=0)
    table = _table(
        f"{split}: {photographs:.0f} photographs, {generated:.0f} generated",
        "contender", "AUC", "AP", "EER", "TPR @ 1 %", "@ 0.1 %", "bal. acc.", "FPR", "ECE",
    )  # fmt: skip
    for top in aucs:
        mine = pick(found, contender=top.contender)
        cells = []
        for metric in OVERALL:
            few = metric == "tpr_at_fpr_01" and photographs < COARSE
            cells.append(_said(_first(mine, metric=metric), coarse=few))
        table.add_row(plain(top.contender), *cells)
    return table


def _worst(figures: Sequence[Figure]) -> Table:
    generators = sorted(pick(figures, kind="generator", chain="none", metric="auc"), key=lambda f: f.value)[:4]
    sources = sorted(pick(figures, kind="source", chain="none"), key=lambda f: -f.value)[:4]
    table = _table("hardest generators (AUC) and sources (FPR)", "contender", "what", "value", "interval", "pictures")
    for figure in (*generators, *sources):
        interval = f"{figure.low:.3f} to {figure.high:.3f}"
        name = f"{figure.subset} ({figure.kind})"
        table.add_row(plain(figure.contender), plain(name), f"{figure.value:.3f}", interval, str(figure.n))
    return table


def _chains(figures: Sequence[Figure]) -> Table | None:
    drops = pick(figures, kind="chain", metric="auc")
    if not drops:
        return None
    table = _table("after chains", "chain", "contender", "AUC", "minus plain", "interval", "TPR @ 1 %", "bal. acc.")
    for drop in drops:
        mine = pick(figures, kind="all", chain=drop.chain, contender=drop.contender)
        value = {f.metric: f"{f.value:.3f}" for f in mine}
        table.add_row(
            plain(drop.chain), plain(drop.contender), value["auc"], f"{drop.value:+.3f}",
            f"{drop.low:+.3f} to {drop.high:+.3f}", value["tpr_at_fpr_1"], value["balanced_accuracy"],
        )  # fmt: skip
    return table


def _differences(figures: Sequence[Figure]) -> Table | None:
    found = pick(figures, kind="difference", chain="none", metric="auc")
    if not found:
        return None
    table = _table("paired differences in AUC", "difference", "AUC", "interval")
    for figure in found:
        interval = f"{figure.low:+.3f} to {figure.high:+.3f}"
        table.add_row(plain(f"{figure.contender} {figure.subset}"), f"{figure.value:+.3f}", interval)
    return table


def _audits(console: Console, outcome: Outcome) -> None:
    probes = [f for f in outcome.figures if f.kind == "probe" and f.metric == "auc"]
    if probes:
        console.print(_plain_table("shortcut probes", "AUC", probes))
    gaps = [
        f for f in outcome.figures if f.kind.startswith("gap by") and f.subset.startswith("gap") and "fpr" in f.metric
    ]
    if gaps:
        table = _table(
            "gaps in false alarms between groups of people", "contender", "trait", "what", "gap", "up to", "n"
        )
        for figure in gaps:
            rate = figure.metric.replace("fpr_at_", "").replace("_", " ").replace(" percent", " %")
            up = f"{figure.high:.3f}" if math.isfinite(figure.high) else ""
            trait = f"{figure.kind.removeprefix('gap by ')}, {figure.split}"
            table.add_row(
                plain(figure.contender),
                plain(trait),
                f"{figure.subset}, {rate}",
                f"{figure.value:.3f}",
                up,
                str(figure.n),
            )
        console.print(table)


def _plain_table(title: str, metric: str, figures: Sequence[Figure]) -> Table:
    table = _table(title, "contender", "what", metric, "interval", "pictures")
    for figure in figures:
        interval = f"{figure.low:.3f} to {figure.high:.3f}" if math.isfinite(figure.low) else ""
        what = f"{figure.subset} ({figure.split})"
        table.add_row(plain(figure.contender), plain(what), f"{figure.value:.3f}", interval, str(figure.n))
    return table
