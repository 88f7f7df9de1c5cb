"""An import in the terminal: what was recognised, what was taken, what was left out."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.table import Table
from rich.text import Text

from faceproof.errors import plain
from faceproof.importing.results import Import, splits_of
from faceproof.importing.rows import KINDS
from faceproof.importing.table import LAYOUTS
from faceproof.terminal import new_console

__all__ = ["imported", "layouts"]

NAMED = 3


def imported(found: Import, out: str, notes: str) -> None:
    """Print what an import found, on standard error as other figures.

    Args:
        found: of `importing.run.import_data`.
        out: the manifest. notes: where everything that was left out is named.
    """
    console = new_console(stderr=True)

    def say(text: str, style: str = "") -> None:
        console.print(Text(plain(text), style), soft_wrap=True)

    for each in found.recognised:
        also = f"; it looks also like {', '.join(each.also)}" if each.also else ""
        say(f"{each.source}: {each.name} ({LAYOUTS[each.name].title}), by {each.why}{also}")
    console.print(_table(found))
    say(
        f"{len(found.pictures)} pictures in {found.groups} groups; {found.alike} look like another one, "
        f"{found.both} groups hold both classes, the largest group has {found.largest}"
    )
    if found.straddling:
        first = found.straddling[0]
        where = " and ".join(sorted(first.splits))
        say(
            f"{len(found.straddling)} groups lie in several of the data's own splits, e.g. {first.group} "
            f"({first.example}) in {where}; see --straddling",
            "yellow",
        )
    for kind, meaning in KINDS.items():
        if count := found.notes.counts[kind]:
            say(f"{kind}: {count}: {meaning}", "yellow")
            for problem in [one for one in found.notes if one.kind == kind][:NAMED]:
                say(f"  {problem.name}: {problem.why}", "bright_black")
    for hint in found.hints:
        say(hint, "yellow")
    say(f"wrote {out}" + (f"; all that was left out is in {notes}" if len(found.notes) else ""))


def layouts() -> None:
    """Print the layouts that are known."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for name in ("layout", "what", "recognised by", "held against"):
        table.add_column(name)
    for name, layout in LAYOUTS.items():
        by = " ".join((layout.detect.__doc__ or "nothing; it is what is left").split()).rstrip(".")
        table.add_row(name, layout.title, by, layout.seen)
    table.add_row("exif", "photographs with EXIF, cut to faces and patches", "being named only", "files")
    new_console().print(table)


def _table(found: Import) -> Table:
    splits = splits_of(found.pictures)
    counts = Counter((each.label, each.stratum, each.split) for each in found.pictures)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("class")
    table.add_column("generator/source")
    for split in splits:
        table.add_column(Text(plain(split)), justify="right")
    for label, stratum in sorted({(label, stratum) for label, stratum, _ in counts}):
        table.add_row(label, Text(plain(stratum)), *(str(counts[label, stratum, split] or "") for split in splits))
    return table
