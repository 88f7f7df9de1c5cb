"""Writing model folders in one step, and the list of groups a model was trained on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from faceproof.errors import FaceproofError, ModelError, OutputError, UsageError
from faceproof.images import printable

__all__ = ["group_key", "new_folder", "read_named", "training_groups", "whole_folder", "write_card", "write_groups"]

GROUPS_FILE = "groups.txt"
MAX_GROUPS_BYTES = 256 * 1024 * 1024
KEY_DIGITS = 12
"""Hex digits kept of a group's hash: of 10,000 groups against a million, one false match in 28,000 tries."""


def group_key(group: str) -> str:
    """Return what a model folder keeps of a group's name: 12 hex digits of its BLAKE2b hash."""
    return hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=KEY_DIGITS // 2).hexdigest()


def write_groups(folder: str | Path, groups: Iterable[str], also: Iterable[str] = ()) -> dict[str, Any]:
    """Write groups.txt, one key a line, sorted; return what the card says of it under `training.groups`.

    Args:
        folder: the model folder.
        groups: names of the groups in the training pool, with or without repeats.
        also: further keys (`group_key`), of groups that trained a model this one learned from.
    """
    keys = sorted({group_key(group) for group in groups} | set(also))
    data = "".join(f"{key}\n" for key in keys).encode()
    (Path(folder) / GROUPS_FILE).write_bytes(data)
    return {"file": GROUPS_FILE, "sha256": hashlib.sha256(data).hexdigest(), "count": len(keys)}


def training_groups(folder: str | Path) -> frozenset[str] | None:
    """Return the keys (`group_key`) of the groups a model was trained on; None where it does not tell.

    Raises:
        ModelError: the card names a list that is missing, damaged or not one.
    """
    folder = Path(folder)
    try:
        raw = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        said = raw["training"].get("groups")
        if said is None:
            return None
        name, digest = str(said["file"]), str(said["sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ModelError(f"{folder / 'card.json'} does not say which groups trained the model ({err!r})") from err
    data = read_named(folder, name, digest, "list", MAX_GROUPS_BYTES)
    return frozenset(data.decode("ascii", "replace").split())


def read_named(folder: str | os.PathLike[str], name: str, digest: str, what: str, most: int) -> bytes:
    """Return a file that a card names beside the weights.

    Args:
        folder: the model folder.
        name, digest: of the file and its SHA-256, as the card has them.
        what: is in it, in one word.
        most: bytes it may have.

    Raises:
        ModelError: the name leads elsewhere, the file is missing or too large, or its hash differs.
    """
    path = Path(folder) / name
    if Path(name).name != name or not path.is_file() or path.stat().st_size > most:
        raise ModelError(
            f"the card in {folder} names the {what} {name!r}, which is not in its folder; get the model again"
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelError(f"{path} does not match its card: damaged or tampered with; get the model again")
    return data


_NUMBERS = re.compile(r"\[\s+[-+.\de]+(?:,\s+[-+.\de]+)*\s+\]")


def write_card(folder: str | Path, raw: dict[str, Any]) -> None:
    """Write card.json, UTF-8, one space of indent; a list of numbers stands on one line."""
    text = json.dumps(raw, indent=1, ensure_ascii=False) + "\n"
    text = _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)
    (Path(folder) / "card.json").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_folder(out: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write a model into; it becomes `out` when the block ends well, and vanishes otherwise.

    Args:
        out: the model folder to be; its parent is made if it is missing.
        overwrite: an older model folder there may be replaced. Anything else never is.

    Raises:
        UsageError: `out` exists, and is no model folder or must not be replaced.
        OutputError: the disk does not take it.
    """
    out = Path.cwd() / out
    with whole_folder(out, lambda: _check_free(out, overwrite=overwrite), "model") as work:
        yield work


@contextlib.contextmanager
def whole_folder(out: Path, check: Callable[[], None], what: str) -> Iterator[Path]:
    """Give a folder to write into; it becomes `out` when the block ends well, and vanishes otherwise.

    Args:
        out: absolute path; its parent is made if it is missing.
        check: raises where `out` must not be written; called before and after the block.
        what: is written, in one word.

    Raises:
        OutputError: the disk does not take it.
    """
    check()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as err:
        raise _cannot_write(out, what, err) from err
    try:
        inner = work / what  # mkdtemp's own folder is closed to others; what is written need not be
        inner.mkdir()
        yield inner
        check()
        if out.exists():
            out.rename(work / "replaced")
        inner.rename(out)
    except OSError as err:
        raise _cannot_write(out, what, err) from err
    finally:
        if (work / "replaced").exists() and not out.exists():
            (work / "replaced").rename(out)  # stopped between the two renames: what was there comes back
        shutil.rmtree(work, ignore_errors=True)


def _check_free(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a model must not be written: something is there that is not a model to replace."""
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise UsageError(f"{printable(out)} exists and is not a folder; give another --out")
    held = {entry.name for entry in out.iterdir()}
    if held and not overwrite:
        raise UsageError(f"{printable(out)} exists; give another --out, or --overwrite to replace a model there")
    foreign = sorted(held - _model_files(out))
    if foreign:
        raise UsageError(
            f"{printable(out)} holds {printable(foreign[0])!r}, which is no part of a model, and is not replaced; "
            "move it away or give another --out"
        )


def _model_files(folder: Path) -> set[str]:
    """Names that may be deleted with a model: the card, what it names, and a fusion beside it."""
    try:
        raw = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        mixture = {str(raw["mixture"]["file"])} if raw.get("mixture") else set()
        graph = {str(raw["graph"]["file"])} if raw.get("graph") else set()
        own = {"card.json", "fusion.json", "README.md", "SHA256SUMS", str(raw["file"]), GROUPS_FILE}
        return own | mixture | graph
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _cannot_write(out: Path, what: str, err: OSError) -> FaceproofError:
    reason = err.strerror or err
    return OutputError(
        f"cannot write the {what} {printable(out)} ({reason}); check the disk's space and the folder's mode"
    )
