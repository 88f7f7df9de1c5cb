"""What else is known about pictures: columns of a manifest, clusters of `faceproof duplicates`."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from faceproof.errors import UsageError
from faceproof.images import printable
from faceproof.inputs import COLUMNS as PATH_COLUMNS

__all__ = ["ABSENT", "MANIFEST_COLUMNS", "NO_CLUSTER", "read_clusters", "read_columns"]

MANIFEST_COLUMNS = ("label", "generator", "source")
"""Columns taken from a manifest where none are asked for, those it has."""
ABSENT = "(not stated)"
NO_CLUSTER = "(none)"
LONGEST = 120
"""Letters of a value that are kept."""


def read_columns(path: str | Path, pictures: Sequence[str], columns: Sequence[str] = ()) -> dict[str, list[str]]:
    """Read columns of a manifest (.csv, .tsv) for pictures.

    Args:
        path: of the manifest; paths in it are relative to its folder.
        pictures: paths as results print them, relative to the current folder or absolute.
        columns: names; empty takes those of `MANIFEST_COLUMNS` that the manifest has.

    Returns:
        Column -> one value a picture; `ABSENT` where the manifest says nothing.

    Raises:
        UsageError: it cannot be read, lacks a column, or names none of the pictures.
    """
    path = Path(path)
    places = _places(pictures)
    found: dict[str, list[str]] = {}
    hits = 0
    for row in _rows(path):
        name = next((row[column] for column in PATH_COLUMNS if row.get(column)), None)
        if name is None:
            raise UsageError(f"{printable(path)} has no column named {' or '.join(PATH_COLUMNS)}, or a row without one")
        if not found:
            wanted = columns or [column for column in MANIFEST_COLUMNS if column in row]
            if lacking := [column for column in wanted if column not in row]:
                raise UsageError(f"{printable(path)} has no column {', '.join(lacking)}; it has {', '.join(row)}")
            if not wanted:
                raise UsageError(f"{printable(path)} has none of the columns {', '.join(MANIFEST_COLUMNS)}; name yours")
            found = {column: [ABSENT] * len(pictures) for column in wanted}
        for place in places.get(_key(printable(_joined(path.parent, name))), ()):
            hits += 1
            for column, values in found.items():
                values[place] = _short(row[column]) or ABSENT
    _met(hits, path, "relative to the manifest's folder")
    return found


def read_clusters(path: str | Path, pictures: Sequence[str]) -> list[str]:
    """Read the CSV of `faceproof duplicates`: one cluster's name a picture, `NO_CLUSTER` where it is in none.

    Raises:
        UsageError: it cannot be read, lacks the columns path and cluster, or names none of the pictures.
    """
    path = Path(path)
    places = _places(pictures)
    found = [NO_CLUSTER] * len(pictures)
    hits = 0
    for row in _rows(path):
        if row.get("path") is None or row.get("cluster") is None:
            raise UsageError(f"{printable(path)} lacks the columns path and cluster that faceproof duplicates writes")
        name = row["path"]
        # Formulas are escaped in that file (`tables.spreadsheet_safe`).
        for place in places.get(_key(name[1:] if name.startswith("'") else name), ()):
            hits += 1
            found[place] = _short(row["cluster"]) or NO_CLUSTER
    _met(hits, path, "as faceproof duplicates was given them: run both commands in the same folder")
    return found


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    """Rows of a CSV or TSV file; one with too few or too many cells is an error."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(f"{printable(path)}, line {reader.line_num}: not as many cells as columns")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise UsageError(f"{printable(path)} cannot be read ({err}); give a CSV in UTF-8") from err


def _places(pictures: Sequence[str]) -> dict[str, list[int]]:
    """Where each path stands: two names of one file (./a.jpg, a.jpg) share a row."""
    places: dict[str, list[int]] = {}
    for place, picture in enumerate(pictures):
        places.setdefault(_key(picture), []).append(place)
    return places


def _key(path: str) -> str:
    """One name for all the ways to write a path, which is printable already."""
    return path if _is_url(path) else os.path.abspath(path)  # noqa: PTH100  (links are names of their own)


def _joined(base: Path, name: str) -> str:
    return name if _is_url(name) else os.path.join(base, name)


def _is_url(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"


def _met(hits: int, path: Path, how: str) -> None:
    if not hits:
        raise UsageError(f"{printable(path)} names none of the pictures; its paths are {how}")
