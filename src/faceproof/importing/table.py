"""The layouts we know, and which of them a folder looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faceproof.errors import UsageError, unknown_name
from faceproof.importing import folders, lists, tabular
from faceproof.importing.rows import Notes, Row
from faceproof.importing.tree import Tree

__all__ = ["LAYOUTS", "Layout", "Recognised", "chosen", "recognise"]


@dataclass(frozen=True)
class Layout:
    """One way to lay pictures out.

    Attributes:
        title: what it is, for a person.
        detect: what in a tree it is recognised by; "" where it is not this layout.
        rows: the pictures of a tree; what is wrong goes to the notes.
        inside: instead of `rows` where the pictures lie inside other files and have to be written out.
        seen: what its reading was held against: "files" of the publisher, or its "documentation" only.
        costly: whether recognising it means parsing lists; only tried where nothing before it fits.
        note: what a user has to know about the set.
    """

    title: str
    detect: Callable[[Tree], str]
    rows: Callable[[Tree, Notes], Iterator[Row]] | None = None
    inside: Callable[[Tree, Notes, tabular.Write], Iterator[Row]] | None = None
    seen: str = "documentation"
    costly: bool = False
    note: str = ""


@dataclass(frozen=True)
class Recognised:
    """What a source was taken for.

    Attributes:
        source: as given.
        name: of the layout.
        why: what it was recognised by.
        also: other layouts that it looks like, less specific ones.
    """

    source: str
    name: str
    why: str
    also: tuple[str, ...] = ()


_COMPOSITES = (
    "the fakes are composites of photographs made by hand, not generated; leave them out with "
    "--label training_fake=skip where only generated faces count"
)

LAYOUTS: dict[str, Layout] = {
    "manifest": Layout("a CSV with path and label, ours or another", lists.manifest, lists.manifest_rows, seen="files"),
    "fdf": Layout("Flickr Diverse Faces, with or without EXIF", lists.fdf, lists.fdf_rows),
    "140k": Layout("140k real and fake faces (Kaggle)", folders.kaggle, folders.kaggle_rows),
    "ciplab": Layout("CIPLAB's real and fake faces", folders.ciplab, folders.ciplab_rows, note=_COMPOSITES),
    "nine": Layout("the test set of nine generators", folders.nine, folders.nine_rows),
    "df40": Layout("DF40", folders.df40, folders.df40_rows),
    "diff": Layout("DiFF", folders.diff, folders.diff_rows),
    "ffhq": Layout("Flickr-Faces-HQ", lists.ffhq, lists.ffhq_rows),
    "darwin": Layout("V7's Darwin JSON", lists.darwin, lists.darwin_rows, costly=True),
    "coco": Layout("COCO", lists.coco, lists.coco_rows, seen="files", costly=True),
    "huggingface": Layout(
        "a Hugging Face data set: its Parquet files", tabular.parquet, inside=tabular.parquet_rows, seen="files"
    ),
    "imagefolder": Layout("class folders: real, fake, ...", folders.class_folders, folders.class_rows, seen="files"),
    "folder": Layout("any folder of pictures; --label says what they are", lambda tree: "", folders.plain_rows),
}
"""By name, the most telling first."""


def recognise(tree: Tree, source: str) -> Recognised:
    """Say which layout a tree has; where none fits, "folder"."""
    found: list[tuple[str, str]] = []
    for name, layout in LAYOUTS.items():
        if not (layout.costly and found) and (why := layout.detect(tree)):
            found.append((name, why))
    if not found:
        return Recognised(source, "folder", "no layout we know: nothing but pictures in folders")
    also = tuple(name for name, _ in found[1:] if name != "imagefolder")
    return Recognised(source, found[0][0], found[0][1], also)


def chosen(tree: Tree, source: str, name: str) -> Recognised:
    """Take a layout by its name.

    Raises:
        UsageError: no such layout, or the tree has nothing of what it is recognised by.
    """
    if name not in LAYOUTS:
        raise unknown_name("layout", name, list(LAYOUTS))
    why = LAYOUTS[name].detect(tree)
    if not why and name not in ("folder", "huggingface"):
        what = (LAYOUTS[name].detect.__doc__ or "").strip().rstrip(".")
        raise UsageError(f"{source} does not look like the layout {name!r}: wanted: {what[:1].lower() + what[1:]}")
    return Recognised(source, name, why or "named by you")
