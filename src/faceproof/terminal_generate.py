"""What a person sees of generating in the terminal: the estimate, the question, progress, what came of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from faceproof.errors import UsageError, plain
from faceproof.generated_records import Generated
from faceproof.generated_store import totals
from faceproof.generating import Run
from faceproof.prices import Estimate
from faceproof.terminal import new_console

__all__ = ["confirmed", "ended", "making", "plan", "pressed"]

SHOWN = 5
"""Pictures that could not be made, named one by one."""


def plan(run: Run, estimate: Estimate | None) -> str:
    """Return in words what a run will make, and what that may cost."""
    there = len(run.jobs) - len(run.todo)
    text = f"{len(run.jobs)} pictures with {run.generator.model}: {there} done, {run.unpaid} to make"
    if run.generator.parallel and run.pace.rate:
        text += f", {run.pace.rate:g} a minute at most ({run.unpaid / run.pace.rate:.0f} min)"
    if estimate is None:
        return text
    if estimate.total is None:
        return f"{text}; cost unknown: {estimate.basis}"
    return f"{text}; about {estimate.total:.2f} USD ({estimate.each:.4f} each; {estimate.basis})"


def confirmed(text: str, estimate: Estimate | None, *, yes: bool, budget: float | None) -> bool:
    """Show the plan; return whether to go on, by asking where it costs something and there is a terminal.

    Raises:
        UsageError: it costs something and nobody can be asked, or more than the budget.
    """
    new_console(stderr=True).print(Text(plain(text)), soft_wrap=True)
    total = 0.0 if estimate is None else estimate.total
    if budget is not None and (total is None or total > budget):
        raise UsageError(
            f"that is {'of unknown cost' if total is None else f'{total:.2f} USD'}, over --budget {budget:g}; take "
            "fewer pictures, another quality or size, or raise the budget"
        )
    if yes or total == 0 or (estimate is not None and not estimate.pictures):
        return True
    if not sys.stdin.isatty():
        raise UsageError("this may cost money and there is no terminal to ask on; give --yes to go ahead")
    return input("Go ahead? [y/N] ").strip().lower() in ("y", "yes")


@contextlib.contextmanager
def making(run: Run, *, hidden: bool = False) -> Iterator[Callable[[Generated], None]]:
    """Show a bar on standard error where it is a terminal; give what is to be called with each record."""
    console = new_console(stderr=True)
    if hidden or not console.is_terminal:
        run.waiting = lambda seconds, why: None
        yield lambda record: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task("generating", total=len(run.todo), note="")
        # The bar's texts are markup: a server's words go through Text, not through it.
        run.waiting = lambda seconds, why: live.console.print(Text(plain(f"waiting {seconds:.0f} s: {why}")))

        def show(record: Generated) -> None:
            said = totals(run.store)
            cost = f", {said['cost']:.2f} USD" if said["cost"] else ""
            live.update(task, advance=1, note=f"{said['refused']} refused, {said['failed']} failed{cost}")

        yield show


def pressed(*_: int | FrameType | None) -> None:
    """Take Ctrl-C: say that pictures under way are waited for."""
    with contextlib.suppress(OSError):
        sys.stderr.write("\nfaceproof: stopping; pictures under way are paid for and waited for\n")
    raise KeyboardInterrupt


def ended(run: Run, out: str) -> int:
    """Print what there is now; return how many of the run's pictures there are not."""
    console = new_console(stderr=True)
    records = [run.store.known[job.id] for job in run.jobs if job.id in run.store.known]
    missing = [record for record in records if record.status != "ok"]
    counts = {status: sum(each.status == status for each in records) for status in ("ok", "refused", "failed")}
    text = ", ".join(f"{number} {status}" for status, number in counts.items() if number or status == "ok")
    spent = sum(each.cost or 0.0 for each in records)
    if spent:
        text += f"; {spent:.2f} USD by the server's count of tokens"
    console.print(Text(plain(f"{text}; {out}/manifest.csv"), "bright_black"), soft_wrap=True)
    for record in missing[:SHOWN]:
        where = record.source_path or record.id
        console.print(Text(plain(f"{record.status}: {where}: {record.error}")), soft_wrap=True)
    if len(missing) > SHOWN:
        console.print(Text(f"... and {len(missing) - SHOWN} more; see provenance.jsonl"))
    return len(missing)
