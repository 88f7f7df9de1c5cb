"""`faceproof duplicates`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["duplicates"]


def duplicates(
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The clusters, .csv.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="Pictures, folders, globs, manifests, or - for a list on stdin; may be left out with --hashes.",
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
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", min=1, help="Processes.", show_default="one per core")
    ] = None,
    all_files: Annotated[bool, typer.Option("--all-files", help="In folders, try files of every ending.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON instead of a line.")] = False,
) -> None:
    """Find copies of the same picture, also shrunk, recompressed or slightly changed, and join them in clusters.

    Flat pictures (one colour, a gradient) all hash alike: they are marked, and in no cluster. Stop it whenever you
    like: the same command goes on where it stopped.
    """
    import sys
    from pathlib import Path

    from faceproof import terminal_duplicates
    from faceproof.duplicates import HashOptions
    from faceproof.duplicates_html import page, write_sheets
    from faceproof.errors import UsageError
    from faceproof.hash_files import find_duplicates, hash_to_file, open_hashes
    from faceproof.hashing import RADII
    from faceproof.inputs import Inputs
    from faceproof.tables import write_atomically

    if Path(out).suffix.lower() != ".csv":
        raise UsageError(f"--out {out!r}: the clusters are a .csv file; give such a name")
    if not inputs and hashes is None:
        raise UsageError("nothing to look at; give pictures or folders, or --hashes FILE of an earlier run")
    options = HashOptions(kind, rotations)
    journal = Path(hashes or f"{out}.hashes.partial.jsonl")
    if not inputs and not journal.is_file():
        raise UsageError(f"no hashes at {journal}; check the path, or give pictures")
    with open_hashes(journal, options, overwrite=overwrite and bool(inputs)) as file:
        if inputs:
            chosen = Inputs(inputs, all_files=all_files)
            try:
                with terminal_duplicates.hashing(chosen, hidden=quiet) as bar:
                    hash_to_file(chosen, file, workers=workers, on_record=bar.hashed, on_skip=bar.skipped)
            except KeyboardInterrupt:
                print(f"faceproof: stopped; {file.total} hashes are safe: the same command goes on", file=sys.stderr)
                raise typer.Exit(130) from None
        found = find_duplicates(
            file, out, RADII[kind] if radius is None else radius, method=method,
            groups=shown if report or sheets else 0,
        )  # fmt: skip
        if hashes is None:
            journal.unlink()
    if report is not None:
        write_atomically(report, page(found))
    if sheets is not None:
        write_sheets(found.groups, sheets)
    if json:
        import json as json_module

        print(json_module.dumps(found.to_dict(), indent=1))
    elif not quiet:
        terminal_duplicates.duplicates(found, out, journal if hashes else None)
    if found.errors:
        raise typer.Exit(1)
