"""What `faceproof study` shows in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from faceproof.errors import plain
from faceproof.study_run import Outcome
from faceproof.terminal import new_console
from faceproof.terminal_posts import problems
from faceproof.terminal_prevalence import flags

__all__ = ["study"]

SHOWN = 10


def study(outcome: Outcome, out: str) -> None:
    """Print what is known about pictures, the prevalence, and the first campaigns."""
    console, found = new_console(stderr=True), outcome.study
    known = ", ".join(f"{count:,} {name}" for name, count in found.states.items() if count)
    console.print(Text(f"{len(found.accounts.names):,} accounts: {known}"))
    flags(found.seen.summary)
    if found.campaigns:
        table = Table("campaign", "accounts", "flagged", "evidence", "chance", box=box.SIMPLE, show_edge=False)
        for one in found.campaigns[:SHOWN]:
            flagged = sum(member in found.seen.faces for member in one.members)
            chance = f"10^{one.links[0].log10_p:.0f}"
            table.add_row(str(one.number), f"{len(one.members):,}", f"{flagged:,}", ", ".join(one.kinds), chance)
        console.print(table)
    console.print(Text(f"{len(found.campaigns)} campaigns"))
    problems(outcome.problems)
    console.print(Text(plain(f"wrote {out}: study.html and tables")))
