"""What a flag is worth, in the terminal: one column for each split of the card."""

from __future__ import annotations

import math

from rich import box
from rich.table import Table
from rich.text import Text

from faceproof.errors import plain
from faceproof.flags import Case, Summary
from faceproof.prevalence import Estimate, Rate
from faceproof.terminal import new_console

__all__ = ["flags"]

HEADS = {"val": "generators as in training", "unseen": "generators never met"}


def flags(summary: Summary, file: str | None = None, *, hidden: bool = False) -> None:
    """Print what the flags of a scan are worth, on standard error as its other figures, and where it was written."""
    if hidden:
        return
    console = new_console(stderr=True)
    prevalence = next((case.worth.prevalence for case in summary.cases if case.worth), None)
    console.print(Text(
        f"{summary.flagged} of {summary.judged} judged pictures are flagged (score at or above the threshold for a "
        f"false-alarm rate of {_share(summary.threshold_fpr)}); {summary.called} of them are called generated"
    ))  # fmt: skip
    if summary.cases:
        table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
        if prevalence is not None:
            table.title = f"what a flag is worth if {_share(prevalence)} of the faces are generated"
        table.add_column("")
        columns = [_rows(case) for case in summary.cases]
        for case in summary.cases:
            table.add_column(HEADS.get(case.split, case.split), justify="right")
        for name in columns[0]:
            table.add_row(name, *(column[name] for column in columns))
        console.print(table)
    for line in (*summary.notes, *(f"{case.split}: {case.why}" for case in summary.cases if case.why)):
        console.print(Text(plain(f"note: {line}"), "bright_black"))
    if file is not None:
        console.print(Text(plain(f"wrote {file}")))


def _rows(case: Case) -> dict[str, str]:
    """What is said -> the figures, for one column."""
    rows = {
        "detection rate, by the card": _rate(case.rates.tpr),
        "false-alarm rate, by the card": _rate(case.rates.fpr),
    }
    if case.worth is not None:
        found = case.worth
        rows |= {
            "false alarms to expect": _number(found.false_alarms),
            "generated faces flagged": _number(found.hits),
            "generated faces missed": _number(found.missed),
            "flags that are right (PPV)": _range(found.ppv),
            "flags to review for a right one": _number(found.flags_per_hit),
            "flags per 1,000 pictures": _number(found.flags_per_1000),
        }
    estimate = case.estimate
    rows["prevalence, by this scan"] = "none"
    if estimate is not None:
        text = _range(Estimate(estimate.value, estimate.low, estimate.high))
        rows["prevalence, by this scan"] = text + (", clipped" if estimate.clipped else "")
    return rows


def _rate(rate: Rate) -> str:
    return f"{_range(Estimate(rate.value, rate.low, rate.high))} of {rate.count}"


def _range(share: Estimate) -> str:
    return f"{_share(share.value)} ({_share(share.low).removesuffix(' %')} to {_share(share.high)})"


def _share(value: float) -> str:
    return "none" if math.isnan(value) else f"{100 * value:.3g} %"


def _number(value: Estimate) -> str:
    return "{} ({} to {})".format(*(_short(part) for part in (value.value, value.low, value.high)))


def _short(number: float) -> str:
    """Three digits, or all of a large number's."""
    if math.isinf(number):
        return "no end"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
