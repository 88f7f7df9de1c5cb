"""Photographs to make pictures from: whatever `scan` takes, or a manifest with labels and groups."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from faceproof import remote, shards
from faceproof.datasets import read_manifest
from faceproof.errors import UsageError
from faceproof.generated_records import Photograph
from faceproof.images import printable
from faceproof.inputs import Inputs

__all__ = ["photographs"]


def photographs(arguments: Sequence[str], *, most: int | None = None, source: str | None = None) -> list[Photograph]:
    """Return the photographs named, each once, in a stable order.

    Args:
        arguments: as `faceproof scan` takes them. A manifest with `label, source, split, group` gives its photographs
            with these; pictures it calls generated are passed over.
        most: take the first so many.
        source: what to call the source; None: the folder they lie in, or what the manifest says.

    Raises:
        UsageError: there is none, or a manifest cannot be read.
        StorageError: a bucket fails.
    """
    found: list[Photograph] = []
    seen: set[str] = set()
    for argument in arguments:
        for each in _labelled(argument, source) if _has_labels(argument) else _plain(argument, source):
            if each.path not in seen:
                seen.add(each.path)
                found.append(each)
            if most is not None and len(found) >= most:
                return found
    if not found:
        raise UsageError("no photographs; give pictures, folders, manifests or URLs of these")
    return found


def _has_labels(argument: str) -> bool:
    if not argument.lower().endswith(".csv") or not os.path.isfile(argument):
        return False
    try:
        with open(argument, newline="", encoding="utf-8-sig") as stream:
            return {"path", "label", "group", "split", "source"} <= set(next(csv.reader(stream), ()))
    except (OSError, ValueError, csv.Error):
        return False  # Inputs says what is wrong


def _labelled(argument: str, source: str | None) -> list[Photograph]:
    samples = read_manifest(argument, drop_straddling=True)
    return [
        Photograph(
            os.fspath(each.path), source or each.source, each.group, each.split, each.licence,
            {name: getattr(each, name) for name in ("age", "sex", "ethnicity") if getattr(each, name)},
        )
        for each in samples if each.label == 0
    ]  # fmt: skip


def _plain(argument: str, source: str | None) -> list[Photograph]:
    # What cannot be read stays in: making the picture says why, and the record keeps it.
    return [Photograph(item.path, source or _folder(item.path)) for item in Inputs([argument])]


def _folder(path: str) -> str:
    """The name of the folder or shard a picture lies in."""
    if (inside := shards.split(path)) is not None:
        return printable(Path(inside[0]).stem)
    if remote.is_url(path):
        return printable(remote.location(path).rpartition("/")[0].rpartition("/")[2]) or "web"
    return printable((Path.cwd() / path).parent.name) or "photographs"
