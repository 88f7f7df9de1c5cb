"""Sources -> one manifest: recognise, label, read, group, split, write."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from faceproof.errors import OutputError, UsageError
from faceproof.fetching import fetched
from faceproof.hashing import RADII
from faceproof.images import Limits, printable
from faceproof.importing import tabular
from faceproof.importing.examining import Examined, examine_all
from faceproof.importing.joining import Told, apply_told, assign, furthest, grouped, parse_ratios, unlabelled
from faceproof.importing.results import WORDS, Import, Picture, Straddling
from faceproof.importing.rows import Notes, Row
from faceproof.importing.table import LAYOUTS, Recognised, chosen, recognise
from faceproof.importing.tree import open_tree
from faceproof.importing.writing import journal_of, notes_of, numbers, write_manifest, write_notes
from faceproof.inputs import Item
from faceproof.remote import is_url
from faceproof.tables import write_atomically

__all__ = ["Options", "import_data"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How to import.

    Attributes:
        layout: a key of `LAYOUTS`; None recognises it, for each source.
        told: what the user says about labels, generators, sources and licences.
        new_splits: deal splits out anew instead of keeping those a layout has.
        ratios: of new splits, as `joining.parse_ratios` reads them.
        seed: of the dealing.
        radius: bits of pHash within which pictures are one group; -1: do not look.
        keep_straddling: write groups that lie in several splits as they are.
        overwrite: replace an older manifest, and read every picture again.
        workers: processes, None for one per core.
        limits: what one picture may cost.
    """

    layout: str | None = None
    told: Told = field(default_factory=Told)
    new_splits: bool = False
    ratios: str = "train=0.8,val=0.1,test=0.1"
    seed: int = 0
    radius: int = RADII["phash"]
    keep_straddling: bool = False
    overwrite: bool = False
    workers: int | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        parse_ratios(self.ratios)
        if not -1 <= self.radius < 64:
            raise UsageError(f"--radius must lie from -1 (off) to 63 bits, not {self.radius}")


def import_data(
    sources: Sequence[str], out: str | os.PathLike[str], options: Options, *, progress: Progress = lambda *_: None
) -> Import:
    """Bring data sets into one manifest.

    Args:
        sources: folders, lists, s3:// prefixes, hf://NAME; each may have a layout of its own.
        out: the .csv to write. What was wrong goes to STEM.left-out.csv beside it; pictures out of buckets and
            Parquet files to the folder `pictures` beside it.
        options: how.
        progress: called with a step's name, steps done and in all (0: not known).

    Raises:
        UsageError: nothing there, a picture without a label, a broken list, or `out` exists.
        OutputError: the disk does not take it.
        StorageError: a bucket fails; the same command goes on.
    """
    out = Path(out)
    _check(sources, out, options)
    notes = Notes()
    recognised, placed = _all_rows(sources, out, options, notes, progress)
    shown = ", ".join(map(printable, sources))
    if not placed:
        raise UsageError(f"no pictures in {shown}{_because(notes)}")
    taken = _apart(_read(placed, out, options, notes, progress), notes)
    if not taken:
        raise UsageError(f"not one picture of {shown} can be taken{_because(notes)}")
    result = _joined(recognised, taken, options, notes, progress)
    write_manifest(out, result)
    write_notes(out, notes)
    journal_of(out).unlink(missing_ok=True)
    return result


def _check(sources: Sequence[str], out: Path, options: Options) -> None:
    """What cannot be done is better known before hours of work."""
    if not sources:
        raise UsageError("nothing to import; give a folder, a list or s3://BUCKET/PREFIX/")
    if out.suffix.lower() != ".csv":
        raise UsageError(f"--out {printable(out)} must end in .csv")
    if out.exists() and not options.overwrite:
        raise UsageError(f"{printable(out)} exists; give another --out, or --overwrite to replace it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if options.overwrite:
            journal_of(out).unlink(missing_ok=True)
    except OSError as err:
        raise OutputError(f"cannot write beside {printable(out)} ({err.strerror or err}); give another --out") from err


def _because(notes: Notes) -> str:
    first = next(iter(notes), None)
    return "" if first is None else f" ({len(notes):,} were left out, e.g. {first.name}: {first.why})"


# ---- rows


@dataclass(frozen=True)
class _Placed:
    """A row, the path or URL of its picture, its source's name, and what its file says once it was read."""

    row: Row
    path: str
    title: str
    file: Examined = field(default_factory=lambda: Examined(""))


def _all_rows(
    sources: Sequence[str], out: Path, options: Options, notes: Notes, progress: Progress
) -> tuple[list[Recognised], list[_Placed]]:
    folder = out.parent / "pictures"
    # A run that is done once more must not take what the run before wrote for its data.
    own = {os.path.abspath(path) for path in (out, journal_of(out), notes_of(out))}  # noqa: PTH100
    recognised: list[Recognised] = []
    placed: list[_Placed] = []
    for number, source in enumerate(sources):
        progress("listing", number, len(sources))
        found, rows, locate = _rows_of(source, folder, own, options, notes)
        recognised.append(found)
        known = {each.path for each in placed}
        title = os.path.basename(source.rstrip("/"))
        for row in rows:
            path = locate(row.name)
            if path in known:
                notes.add("twice", row.name, "in two of the sources")
            else:
                known.add(path)
                placed.append(_Placed(row, path, title))
    titles = [each.title for each in placed]
    told = apply_told([each.row for each in placed], titles, options.told, notes)
    kept = [replace(each, row=row) for each, row in zip(placed, told, strict=True) if row is not None]
    if (error := unlabelled((each.row, each.title) for each in kept)) is not None:
        raise error
    return recognised, kept


def _rows_of(
    source: str, folder: Path, own: set[str], options: Options, notes: Notes
) -> tuple[Recognised, list[Row], Callable[[str], str]]:
    """What a source was taken for, its rows, and what makes a path of a row's name."""
    write = tabular.Written(folder, source)
    here = write.paths.__getitem__
    if source.startswith("hf://"):
        name = source.removeprefix("hf://").removeprefix("datasets/").strip("/")
        return Recognised(source, "huggingface", "hf:// names it"), list(tabular.hub_rows(name, notes, write)), here
    saved = [name for name in ("dataset_dict.json", "state.json") if os.path.isfile(os.path.join(source, name))]
    if saved and options.layout in (None, "huggingface"):
        why = f"{saved[0]}, as `datasets` saves it"
        return Recognised(source, "huggingface", why), list(tabular.hub_rows(source, notes, write)), here
    tree = open_tree(source, notes)
    tree.names = [name for name in tree.names if tree.locate(name) not in own]
    found = recognise(tree, source) if options.layout is None else chosen(tree, source, options.layout)
    layout = LAYOUTS[found.name]
    if layout.inside is not None:
        return found, list(layout.inside(tree, notes, write)), here
    assert layout.rows is not None  # each layout has one of the two
    return found, list(layout.rows(tree, notes)), tree.locate


# ---- files


def _read(
    placed: Sequence[_Placed], out: Path, options: Options, notes: Notes, progress: Progress
) -> list[_Placed]:  # fmt: skip
    """Read every picture; those that cannot be read, and boxes outside of pictures, are noted."""
    local = dict(_brought_here(placed, out.parent / "pictures", options, notes, progress))
    total, step = len(placed), iter(range(1, len(placed) + 1))
    files = examine_all(
        local.values(), journal_of(out), options.limits, workers=options.workers,
        done=lambda: progress("reading", next(step, total), total),
    )  # fmt: skip
    taken = []
    for each in placed:
        if each.path not in local:
            continue  # its bucket did not give it, which was noted
        file = files[local[each.path]]
        if file.error:
            missing = file.error.startswith(("no such file", "No such file"))
            notes.add("missing" if missing else "unreadable", each.row.name, file.error)
            continue
        taken.append(replace(each, row=_with_boxes(each.row, file, notes), file=file))
    return taken


def _brought_here(
    placed: Sequence[_Placed], folder: Path, options: Options, notes: Notes, progress: Progress
) -> Iterator[tuple[str, str]]:
    """Path or URL -> path on this machine; what lies in a bucket is fetched, once."""
    far: dict[str, str] = {}
    for each in placed:
        if not is_url(each.path):
            yield each.path, os.path.abspath(each.path)  # noqa: PTH100  (links stay links)
            continue
        ending = os.path.splitext(each.path)[1].lower()
        name = f"{hashlib.blake2b(each.path.encode(), digest_size=12).hexdigest()}{ending}"
        far[each.path] = str(folder / name)
    here = {url for url, path in far.items() if os.path.isfile(path) and not options.overwrite}
    yield from ((url, far[url]) for url in here)
    names = {each.path: each.row.name for each in placed}
    wanted = [Item(url) for url in far if url not in here]
    for done, item in enumerate(fetched(wanted, options.limits), 1):
        progress("fetching", done, len(wanted))
        if item.data is None:
            notes.add("unreadable", names[item.path], item.error or "it could not be fetched")
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"cannot make {folder} ({err.strerror or err}); give another --out") from err
        write_atomically(far[item.path], item.data)
        yield item.path, far[item.path]


def _with_boxes(row: Row, file: Examined, notes: Notes) -> Row:
    """The row without boxes that are none of this picture's: empty ones, and those whose middle lies outside.

    Faces at the border have boxes that reach past it; these stay as they are.
    """
    good = []
    for box in row.boxes:
        middle = 0 <= box.x + box.width / 2 <= file.width and 0 <= box.y + box.height / 2 <= file.height
        if middle and box.width > 0 and box.height > 0:
            good.append(box)
        else:
            notes.add("box", row.name, f"x y w h = {numbers(box)} in a picture of {file.width} x {file.height}")
    return replace(row, boxes=tuple(good))


def _apart(taken: Sequence[_Placed], notes: Notes) -> list[_Placed]:
    """Take pictures of the same bytes once, and not at all where their labels contradict each other."""
    same: dict[str, list[_Placed]] = {}
    for each in taken:
        same.setdefault(each.file.sha256, []).append(each)
    kept = []
    for copies in same.values():
        if len({each.row.label for each in copies}) > 1:
            for each in copies:
                other = next(one.row for one in copies if one.row.label != each.row.label)
                notes.add("mixed", each.row.name, f"{WORDS[other.label or 0]} as {other.name}: neither is taken")
            continue
        splits = {each.row.split for each in copies} - {""}
        first = next(each for each in copies if not splits or each.row.split == furthest(splits))
        for each in copies:
            if each is not first:
                where = f", of split {each.row.split}," if len(splits) > 1 else ""
                notes.add("repeated", each.row.name, f"the same bytes{where} as {first.row.name}")
        names = tuple(dict.fromkeys(name for each in copies for name in each.row.groups))
        kept.append(replace(first, row=replace(first.row, groups=names)))
    return kept


# ---- groups and splits


def _joined(
    recognised: Sequence[Recognised], taken: list[_Placed], options: Options, notes: Notes, progress: Progress
) -> Import:
    progress("grouping", 0, 0)
    found = grouped([each.row for each in taken], [each.file for each in taken], options.radius)
    names = _group_names(taken, found.of)
    own = ["" if options.new_splits else each.row.split for each in taken]
    straddling, kept = _straddling(taken, found.of, own, names, options, notes)
    taken, groups, own = [taken[k] for k in kept], [found.of[k] for k in kept], [own[k] for k in kept]
    splits, dealt = _splits(taken, groups, own, names, options)
    pictures = tuple(
        Picture(each.row, each.file, names[group], split)
        for each, group, split in zip(taken, groups, splits, strict=True)
    )
    hints = tuple(f"{each.name}: {LAYOUTS[each.name].note}" for each in recognised if LAYOUTS[each.name].note)
    return Import(
        tuple(recognised), pictures, notes, straddling, len(set(groups)), found.alike, found.both, found.largest,
        dealt, hints,
    )  # fmt: skip


def _group_names(taken: Sequence[_Placed], groups: Sequence[int]) -> dict[int, str]:
    """Names made of the pictures' bytes: the same group has the same name in every import."""
    smallest: dict[int, str] = {}
    for each, group in zip(taken, groups, strict=True):
        smallest[group] = min(smallest.get(group, each.file.sha256), each.file.sha256)
    return {group: f"g{digest[:14]}" for group, digest in smallest.items()}


def _straddling(
    taken: Sequence[_Placed], groups: Sequence[int], own: Sequence[str], names: Mapping[int, str], options: Options,
    notes: Notes,
) -> tuple[tuple[Straddling, ...], list[int]]:  # fmt: skip
    """Groups in several of the layouts' splits, and the places of the pictures that stay."""
    counts: dict[int, Counter[str]] = {}
    for group, split in zip(groups, own, strict=True):
        if split:
            counts.setdefault(group, Counter())[split] += 1
    torn = {group: splits for group, splits in counts.items() if len(splits) > 1}
    example = {group: each.row.name for each, group in zip(taken, groups, strict=True) if group in torn}
    found = tuple(Straddling(names[group], dict(splits), example[group]) for group, splits in torn.items())
    kept = []
    for place, (each, group, split) in enumerate(zip(taken, groups, own, strict=True)):
        if group in torn and split and split != (last := furthest(torn[group])) and not options.keep_straddling:
            notes.add("straddling", each.row.name, f"of {split}; its group {names[group]} is kept in {last} only")
        else:
            kept.append(place)
    return found, kept


def _splits(
    taken: Sequence[_Placed], groups: Sequence[int], own: Sequence[str], names: Mapping[int, str], options: Options
) -> tuple[list[str], int]:
    """The split of every picture: its own, its group's, or one dealt out; and how many were dealt."""
    of_group = {group: split for group, split in zip(groups, own, strict=True) if split}
    splits = [split or of_group.get(group, "") for group, split in zip(groups, own, strict=True)]
    free = [place for place, split in enumerate(splits) if not split]
    strata = [Picture(taken[place].row, taken[place].file, "", "").stratum for place in free]
    dealt = assign([groups[place] for place in free], strata, names, parse_ratios(options.ratios), options.seed)
    for place, split in zip(free, dealt, strict=True):
        splits[place] = split
    return splits, len(free)
