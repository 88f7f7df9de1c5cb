"""`faceproof duplicates`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from faceproof.cli_options import AllFilesOption, MaxPixelsOption, QuietOption, WorkersOption

if TYPE_CHECKING:
    from faceproof.hash_files import HashFile
    from faceproof.inputs import Inputs

__all__ = ["duplicates"]


def duplicates(
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The clusters, .csv.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="Pictures, folders, globs, manifests, shards, URLs, - for a list on stdin; none with --hashes.",
            show_default=False,
        ),
    ] = None,
    hashes: Annotated[
        str | None,
        typer.Option(
            "--hashes",
            metavar="FILE",
            help="Keep the hashes here (.jsonl) and go on from what it holds; all of it is clustered.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option("--hash", metavar="NAME", help="phash, dhash, or pdq (256 bits, for large sets).")
    ] = "phash",
    radius: Annotated[
        int | None,
        typer.Option("--radius", metavar="BITS", help="Pictures that count as the same.", show_default="3; pdq 31"),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="medoid (does not chain), or dbscan (min 2, chains).")
    ] = "medoid",
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Also find copies that were turned by 90 degrees or mirrored.")
    ] = False,
    report: Annotated[str | None, typer.Option("--report", metavar="FILE", help="Also write an HTML page.")] = None,
    sheets: Annotated[
        str | None, typer.Option("--sheets", metavar="DIR", help="Also write a contact sheet for each cluster.")
    ] = None,
    shown: Annotated[
        int, typer.Option("--shown", min=1, metavar="N", help="Clusters on the page and as sheets, largest first.")
    ] = 100,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--resume", help="Hash anew, or go on from what the hash file holds.")
    ] = False,
    workers: WorkersOption = None,
    all_files: AllFilesOption = False,
    max_pixels: MaxPixelsOption = "64M",
    quiet: QuietOption = False,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON instead of a line.")] = False,
) -> None:
    """Find copies of the same picture, also shrunk, recompressed or slightly changed, and join them in clusters.

    Flat pictures (one colour, a gradient) all hash alike: they are marked, and in no cluster. Stop it whenever you
    like: the same command goes on where it stopped.
    """
    from pathlib import Path

    from faceproof import terminal, terminal_duplicates
    from faceproof.clusters import check_choice
    from faceproof.duplicates import HashOptions
    from faceproof.duplicates_html import page, write_sheets
    from faceproof.errors import UsageError
    from faceproof.hash_files import find_duplicates, open_hashes
    from faceproof.hashing import KINDS, RADII
    from faceproof.images import Limits
    from faceproof.inputs import Inputs
    from faceproof.tables import write_atomically

    _check_targets(out, report)
    if not inputs and hashes is None:
        raise UsageError("nothing to look at; give pictures or folders, or --hashes FILE of an earlier run")
    options = HashOptions(kind, rotations, Limits.of_pixels(max_pixels))
    # This process is ours alone, so Pillow's own limit may follow the user's.
    options.limits.widen_pillow()
    journal = Path(hashes or f"{out}.hashes.partial.jsonl")
    if not inputs and not journal.is_file():
        raise UsageError(f"no hashes at {journal}; check the path, or give pictures")
    bits = RADII[kind] if radius is None else radius
    check_choice(bits, method, KINDS[kind])
    with terminal.steps(hidden=quiet) as step:
        file = open_hashes(journal, options, overwrite=overwrite and bool(inputs), progress=step)
    with file:
        if inputs:
            _hash(Inputs(inputs, all_files=all_files), file, workers, quiet)
        with terminal.steps(hidden=quiet) as step:
            shown = shown if report or sheets else 0
            found = find_duplicates(file, out, bits, method=method, groups=shown, progress=step)
        if report is not None:
            write_atomically(report, page(found, limits=options.limits))
        if sheets is not None:
            write_sheets(found.groups, sheets, limits=options.limits)
        if hashes is None:
            journal.unlink()
    if json:
        import json as json_module

        print(json_module.dumps(found.to_dict(), indent=1))
    elif not quiet:
        terminal_duplicates.duplicates(found, out, journal if hashes else None)
    if found.errors:
        raise typer.Exit(1)


def _hash(inputs: Inputs, file: HashFile, workers: int | None, quiet: bool) -> None:
    import sys

    from faceproof.hash_files import hash_to_file
    from faceproof.terminal_duplicates import hashing

    try:
        with hashing(inputs, hidden=quiet) as bar:
            hash_to_file(inputs, file, workers=workers, on_record=bar.hashed, on_skip=bar.skipped)
    except KeyboardInterrupt:
        print(f"faceproof: stopped; {file.total} hashes are safe: the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None


def _check_targets(out: str, report: str | None) -> None:
    """What cannot be written is better known before hours of work."""
    from pathlib import Path

    from faceproof.errors import UsageError
    from faceproof.remote import is_url

    if is_url(out) or (report is not None and is_url(report)):
        raise UsageError("clusters and their page are files of this machine; give a path, and copy them where you like")
    if Path(out).suffix.lower() != ".csv":
        raise UsageError(f"--out {out!r}: the clusters are a .csv file; give such a name")
    for target in (Path(each) for each in (out, report) if each is not None):
        if target.is_dir() or not target.parent.is_dir():
            raise UsageError(f"cannot write {target}: it is a folder, or its folder is not there; make the folder")
