"""An export in the terminal: its stages while it is made, and what it is worth beside the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from faceproof.errors import plain
from faceproof.terminal import new_console

__all__ = ["exported"]


def exported(record: Mapping[str, Any]) -> None:
    """Print an `Exported.to_dict()`."""
    console, parity = new_console(), record["parity"]
    faces = parity["photographs"] + parity["generated"]
    table = Table("", "original", "export", box=box.SIMPLE)
    for name, key, form in (("AUC", "auc", ".4f"), ("TPR at FPR 1 %", "tpr", ".3f")):
        table.add_row(name, f"{parity[f'{key}_before']:{form}}", f"{parity[f'{key}_after']:{form}}")
    kinds = f"{parity['photographs']} photographs, {parity['generated']} generated"
    console.print(Text(f"the same {faces} faces ({kinds})"))
    console.print(table)
    console.print(Text(
        f"scores differ by {parity['mean']:.2g} on average and {parity['largest']:.2g} at most, probabilities by "
        f"{parity['probability']:.2g} at most; {parity['changed']:.1%} of the answers change, {parity['opposite']:.1%} "
        "into the opposite"
    ))  # fmt: skip
    made = record["quantisation"]
    if made is not None:
        kept = made["left_in_float"]
        names = f": {', '.join(kept[:4])}{', ...' if len(kept) > 4 else ''}" if kept else ""
        console.print(Text(f"{len(kept)} of {made['layers']} layers stay in float{names}"))
    for line in record["notes"]:
        console.print(Text(plain(f"note: {line}"), "bright_black"))
    size = record["bytes"] / 1e6
    console.print(Text(plain(
        f"wrote {record['folder']}: {record['file']}, {size:.1f} MB, {record['model']}, made from {record['parent']}"
    )))  # fmt: skip
