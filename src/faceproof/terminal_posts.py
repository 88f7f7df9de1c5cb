"""What `faceproof posts` shows in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from faceproof.errors import plain
from faceproof.post_records import PostReport
from faceproof.terminal import new_console

__all__ = ["posts", "problems"]

SHOWN = 10


def posts(report: PostReport, out: str) -> None:
    """Print the largest clusters, and where the page is."""
    console = new_console(stderr=True)
    console.print(Text(
        f"{report.posts:,} posts of {report.accounts:,} accounts, {report.texts:,} different texts, "
        f"{len(report.languages)} languages; {len(report.clusters)} clusters, {len(report.copies)} copied texts, "
        f"{len(report.bursts)} bursts"
    ))  # fmt: skip
    if report.clusters:
        table = Table("cluster", "posts", "accounts", "language", "words", box=box.SIMPLE, show_edge=False)
        for one in report.clusters[:SHOWN]:
            words = plain(", ".join(word for word, _ in one.words[:6]))
            table.add_row(str(one.number), f"{one.posts:,}", f"{one.accounts:,}", one.language, Text(words))
        console.print(table)
    problems(report.problems)
    console.print(Text(plain(f"wrote {out}")))


def problems(found: dict[str, int]) -> None:
    """Print what was wrong with rows, and how often."""
    for kind, count in found.items():
        new_console(stderr=True).print(Text(plain(f"{count:,} rows: {kind}"), "magenta"))
