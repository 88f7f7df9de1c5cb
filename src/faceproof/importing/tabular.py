"""Hugging Face datasets: their Parquet files, read with pyarrow alone, and others through the library `datasets`.

Pictures lie inside these files, so they are written out, byte for byte, one file each.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from faceproof.errors import OutputError, UsageError
from faceproof.extras import require
from faceproof.images import printable
from faceproof.importing.rows import Notes, Row, label_of, split_of
from faceproof.importing.tree import Tree
from faceproof.shards import picture_column
from faceproof.tables import write_atomically

__all__ = ["LABEL_COLUMNS", "Write", "Written", "hub_rows", "parquet", "parquet_rows"]

LABEL_COLUMNS = ("label", "labels", "class", "target", "is_fake", "is_generated")
GENERATOR_COLUMNS = ("generator", "model", "model_name")
LARGEST_PICTURE = 64 * 2**20
_ENDINGS = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif",
    b"MM\0*": ".tif",
}  # fmt: skip
Write = Callable[[str, bytes], None]
"""Called with the name of a picture's row and its bytes: writes a file."""


def parquet(tree: Tree) -> str:
    """Parquet files with a column of pictures."""
    for name in tree.ending(".parquet")[:3]:
        with _file(tree, name) as file:
            column = picture_column(file.schema_arrow)
        if column is not None:
            return f"{name} holds pictures in the column {column!r}"
    return ""


def parquet_rows(tree: Tree, notes: Notes, write: Write) -> Iterator[Row]:
    """One row a picture; the split is in the file's name, as in data/train-00000-of-00002.parquet."""
    for name in tree.ending(".parquet"):
        pieces = re.split(r"[^a-zA-Z]+", name.removesuffix(".parquet"))
        split = next((split_of(piece) for piece in reversed(pieces) if split_of(piece)), "")
        with _file(tree, name) as file:
            column = picture_column(file.schema_arrow)
            if column is None:
                notes.add("broken", name, "no column of pictures in it")
                continue
            names = _class_names(file.schema_arrow.metadata or {})
            wanted = [c for c in file.schema_arrow.names if c == column or c in (*LABEL_COLUMNS, *GENERATOR_COLUMNS)]
            number = 0
            for batch in file.iter_batches(batch_size=16, columns=wanted):
                for entry in batch.to_pylist():
                    place = f"{name}::{number}"
                    number += 1
                    row = _row(entry, column, names, split, place, tree.title, notes, write)
                    if row is not None:
                        yield row


def hub_rows(source: str, notes: Notes, write: Write) -> Iterator[Row]:
    """Rows of a data set of the hub, or of a folder that `datasets` has saved. Code in a data set is never run.

    Raises:
        UsageError: `datasets` cannot load it, or it has no pictures.
        MissingExtraError: `datasets` is absent.
    """
    datasets = require("huggingface", "datasets")
    try:
        found = datasets.load_from_disk(source) if os.path.isdir(source) else datasets.load_dataset(source)
    # The library raises its own errors, its file systems', and the network's, without a base in common.
    except Exception as err:
        said = " ".join(str(err).split())[:300]
        raise UsageError(f"`datasets` cannot load {printable(source)} ({type(err).__name__}: {said})") from None
    parts = found.items() if isinstance(found, Mapping) else [("", found)]
    for split, part in parts:
        column = next((n for n, f in part.features.items() if type(f).__name__ == "Image"), None)
        if column is None:
            raise UsageError(f"{printable(source)} has no column of pictures; it has {', '.join(part.features)}")
        names = {n: list(f.names) for n, f in part.features.items() if type(f).__name__ == "ClassLabel"}
        kept = [n for n in part.features if n == column or n in (*LABEL_COLUMNS, *GENERATOR_COLUMNS)]
        raw = part.select_columns(kept).cast_column(column, datasets.Image(decode=False))
        for number, entry in enumerate(raw):
            place = f"{split or 'all'}::{number}"
            row = _row(entry, column, names, split_of(split), place, os.path.basename(source), notes, write)
            if row is not None:
                yield row


def _row(
    entry: Mapping[str, Any], column: str, names: Mapping[str, list[str]], split: str, place: str, title: str,
    notes: Notes, write: Write,
) -> Row | None:  # fmt: skip
    held = entry[column]
    data = held.get("bytes") if isinstance(held, Mapping) else held
    if data is None and isinstance(held, Mapping) and held.get("path"):
        notes.add("missing", place, f"the row names {str(held['path'])[:200]!r} and holds no bytes of it")
        return None
    if not data or len(data) > LARGEST_PICTURE:
        notes.add("unreadable", place, "no bytes of a picture" if not data else "more than 64 MiB")
        return None
    label, keys = None, []
    for name in LABEL_COLUMNS:
        if name in entry and entry[name] is not None:
            value = entry[name]
            known = names.get(name, [])
            word = known[value] if isinstance(value, int) and 0 <= value < len(known) else str(value)
            keys += [word, str(value), f"{name}={value}"]
            label = label_of(word) if label is None else label
    generator = next((str(entry[n]) for n in GENERATOR_COLUMNS if entry.get(n)), "")
    write(place, bytes(data))
    return Row(place, label, generator or ("unknown" if label == 1 else ""), title, split, keys=tuple(keys))


def ending_of(data: bytes) -> str:
    """Return the ending that a picture's first bytes ask for."""
    return next((ending for start, ending in _ENDINGS.items() if data.startswith(start)), ".img")


class Written:
    """Writes pictures into a folder, and knows where each of them lies; one that is there already stays as it is.

    Attributes:
        paths: name of a row -> path of its file.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.paths: dict[str, str] = {}
        self._folder = folder
        # Other sources may hold files of the same names.
        self._prefix = hashlib.blake2b(source.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()

    def __call__(self, name: str, data: bytes) -> None:
        """Write one picture.

        Raises:
            OutputError: the disk does not take it.
        """
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-120:]
        path = self._folder / f"{self._prefix}-{plain}{ending_of(data)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
                write_atomically(path, data)
        except OSError as err:
            raise OutputError(f"cannot write {path} ({err.strerror or err}); free space, and run it again") from err
        self.paths[name] = str(path)


@contextlib.contextmanager
def _file(tree: Tree, name: str) -> Iterator[Any]:
    reader = require("parquet", "pyarrow.parquet")
    try:
        with tree.opened(name) as stream:
            yield reader.ParquetFile(stream)
    except (OSError, ValueError) as err:  # pyarrow's errors derive from these
        said = " ".join(str(err).split())[:100]
        raise UsageError(f"{tree.shown(name)} is no Parquet file, or damaged ({said}); get it again") from err


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> names of its classes, as `datasets` writes them into a Parquet file's schema."""
    try:
        features = json.loads(metadata.get(b"huggingface") or b"{}")["info"]["features"]
        return {
            str(name): [str(word) for word in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, Mapping) and isinstance(feature.get("names"), list)
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
