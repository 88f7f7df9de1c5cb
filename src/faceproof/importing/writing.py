"""The files that an import writes: the manifest, and the list of what was left out."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

from faceproof.exif_data import TAGS
from faceproof.images import printable
from faceproof.importing.lists import OWN
from faceproof.importing.results import Import, Picture
from faceproof.importing.rows import Box, Notes
from faceproof.tables import spreadsheet_safe, write_atomically

__all__ = ["journal_of", "manifest_text", "notes_of", "numbers", "write_manifest", "write_notes"]


def journal_of(out: Path) -> Path:
    """Return where a run keeps what it has read until it is done."""
    return out.with_name(f"{out.name}.partial.jsonl")


def notes_of(out: Path) -> Path:
    """Return where a run says what was wrong, picture by picture."""
    return out.with_name(f"{out.stem}.left-out.csv")


def write_manifest(out: Path, found: Import) -> None:
    """Write the manifest; paths are relative to it where pictures lie below its folder, else absolute.

    Raises:
        OutputError: the disk does not take it.
    """
    write_atomically(out, manifest_text(found, _relative_to(out)))


def manifest_text(found: Import, place: Callable[[Picture], str]) -> str:
    """Return the manifest as CSV; `place` gives what stands in the column path."""
    more = list(dict.fromkeys(key for each in found.pictures for key in each.row.facts if key not in OWN))
    if "photo" in more:  # the columns that `faceproof pretrain` wants as well
        more += [key for key in ("kind", "make", "model", *TAGS) if key not in more]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, [*OWN, *more], lineterminator="\n", restval="")
    writer.writeheader()
    for each in found.pictures:
        writer.writerow({"path": place(each), **_columns(each)})
    return stream.getvalue()


def _relative_to(out: Path) -> Callable[[Picture], str]:
    base = os.path.abspath(out.parent)  # noqa: PTH100  (as the pictures' paths)

    def place(picture: Picture) -> str:
        path = picture.file.path
        return os.path.relpath(path, base) if path.startswith(f"{base}{os.sep}") else path

    return place


def _columns(each: Picture) -> dict[str, object]:
    row, file = each.row, each.file
    box = max(row.boxes, key=lambda one: one.width * one.height, default=None)
    boxes = [{"name": one.name, "box": [one.x, one.y, one.width, one.height]} for one in row.boxes]
    return {
        **row.facts,
        "label": each.label, "generator": row.generator, "source": row.source, "split": each.split,
        "group": each.group, "licence": row.licence or "not stated", "sha256": file.sha256,
        "width": file.width, "height": file.height, "format": file.format,
        "jpeg_quality": file.jpeg_quality or "", "bytes": file.size,
        "box": numbers(box) if box else "",
        "annotations": json.dumps(boxes, ensure_ascii=False, separators=(",", ":")) if boxes else "",
    }  # fmt: skip


def numbers(box: Box) -> str:
    """Return a box as the manifest holds it: x y w h."""
    return f"{box.x:g} {box.y:g} {box.width:g} {box.height:g}"


def write_notes(out: Path, notes: Notes) -> None:
    """Write what was wrong, picture by picture; where nothing was, an older list is removed."""
    path = notes_of(out)
    if not len(notes):
        path.unlink(missing_ok=True)
        return
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("what", "picture", "why"))
    writer.writerows((one.kind, spreadsheet_safe(printable(one.name)), spreadsheet_safe(one.why)) for one in notes)
    write_atomically(path, stream.getvalue())
