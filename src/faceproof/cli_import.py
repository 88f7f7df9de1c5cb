"""`faceproof import`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import MaxPixelsOption, WorkersOption

__all__ = ["importing"]


def importing(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[LAYOUT] SOURCE...",
            help="A layout's name (recognised without it), and folders, lists (.csv, .json, .parquet), "
            "s3://BUCKET/PREFIX/ or hf://NAME. `layouts` alone lists the layouts.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="MANIFEST", help="The .csv to write.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="[FOLDER=]CLASS",
            help="What the pictures of a folder, or with a tag, are: photograph, generated, or skip. May be repeated.",
            show_default=False,
        ),
    ] = None,
    generator: Annotated[
        list[str] | None,
        typer.Option("--generator", metavar="[FOLDER=]NAME", help="What made them.", show_default=False),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="[FOLDER=]NAME", help="Where they come from.", show_default=False),
    ] = None,
    licence: Annotated[
        list[str] | None,
        typer.Option("--licence", metavar="[FOLDER=]TEXT", help="Under which licence.", show_default=False),
    ] = None,
    splits: Annotated[
        str, typer.Option("--splits", metavar="keep|new", help="Keep a layout's own splits, or deal out new ones.")
    ] = "keep",
    ratios: Annotated[
        str, typer.Option("--ratios", metavar="SPLIT=SHARE,...", help="Of the splits that are dealt out.")
    ] = "train=0.8,val=0.1,test=0.1",
    seed: Annotated[int, typer.Option("--seed", help="Of the dealing.")] = 0,
    straddling: Annotated[
        str,
        typer.Option(
            "--straddling",
            metavar="drop|keep",
            help="Groups in several of a layout's splits: keep them only in the one furthest from fitting, or as "
            "they are.",
        ),
    ] = "drop",
    radius: Annotated[
        int,
        typer.Option("--radius", metavar="BITS", help="Of pHash, within which pictures are one group; -1: off."),
    ] = 3,
    report: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE", help="Also write an HTML page.", show_default=False),
    ] = None,
    upload: Annotated[
        str | None,
        typer.Option(
            "--upload",
            metavar="URL",
            help="Also put pictures and manifest below s3://BUCKET/PREFIX.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older manifest, and read every picture again.")
    ] = False,
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = "64M",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no figures.")] = False,
    val_share: Annotated[
        float, typer.Option("--val-share", help="Layout exif only: share of camera models held out.")
    ] = 0.15,
    most: Annotated[
        int | None,
        typer.Option("--most", min=1, help="Layout exif only: stop after so many photographs.", show_default="all"),
    ] = None,
) -> None:
    """Bring published data sets into one manifest, with groups of what looks alike and splits that do not leak.

    The layout is recognised, and said. A label that neither the layout nor --label tells is asked for, never guessed.
    Stop it whenever you like: the same command goes on. The layout exif cuts faces and patches of photographs with
    EXIF, for `faceproof pretrain`.
    """
    import sys

    from faceproof.errors import UsageError

    if arguments == ["layouts"]:
        from faceproof.terminal_import import layouts

        layouts()
        return
    if out is None:
        raise UsageError("where to? give --out MANIFEST.csv")
    layout, sources = _parted(arguments)
    if layout == "exif":
        _exif(sources, out, val_share, most, overwrite)
        return

    from faceproof import terminal_import
    from faceproof.images import Limits
    from faceproof.importing.joining import Told
    from faceproof.importing.run import Options, import_data
    from faceproof.importing.writing import notes_of
    from faceproof.terminal import steps

    for name, value, known in (("splits", splits, ("keep", "new")), ("straddling", straddling, ("drop", "keep"))):
        if value not in known:
            raise UsageError(f"--{name} {value!r}: give {' or '.join(known)}")
    _check_targets(report, upload)
    limits = Limits.of_pixels(max_pixels)
    # This process is ours alone, so Pillow's own limit may follow the user's.
    limits.widen_pillow()
    options = Options(
        layout, Told.parse(label=label or (), generator=generator or (), source=source or (), licence=licence or ()),
        splits == "new", ratios, seed, radius, straddling == "keep", overwrite, workers, limits,
    )  # fmt: skip
    try:
        with steps(hidden=quiet) as step:
            found = import_data(sources, out, options, progress=step)
            if report is not None:
                from faceproof.import_report import page
                from faceproof.tables import write_atomically

                step("report", 0, 0)
                write_atomically(report, page(found, f"{len(found.pictures):,} pictures in {out}", limits=limits))
            if upload is not None:
                from faceproof.importing.sharing import upload as send

                send(found, upload, overwrite=overwrite, progress=step)
    except KeyboardInterrupt:
        print("faceproof: stopped; what was read is kept: the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    if not quiet:
        from pathlib import Path

        terminal_import.imported(found, out, str(notes_of(Path(out))))
    if found.notes.faults:
        raise typer.Exit(1)


def _parted(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The layout's name, if the first argument is one and more follow; and the sources."""
    from pathlib import Path

    from faceproof.errors import UsageError
    from faceproof.importing.table import LAYOUTS

    names = (*LAYOUTS, "exif")
    if len(arguments) > 1 and arguments[0] in names:
        return arguments[0], arguments[1:]
    if arguments[0] in names and not Path(arguments[0]).exists():
        raise UsageError(
            f"{arguments[0]} is a layout; say where its pictures are: faceproof import {arguments[0]} FOLDER"
        )
    return None, arguments


def _check_targets(report: str | None, upload: str | None) -> None:
    """What cannot be written is better known before hours of work."""
    from pathlib import Path

    from faceproof.errors import UsageError
    from faceproof.remote import is_bucket

    if report is not None and (Path(report).is_dir() or not Path(report).parent.is_dir()):
        raise UsageError(f"cannot write {report}: it is a folder, or its folder is not there; make the folder")
    if upload is not None and not is_bucket(upload):
        raise UsageError(f"--upload {upload}: give s3://BUCKET/PREFIX")


def _exif(sources: list[str], out: str, val_share: float, most: int | None, overwrite: bool) -> None:
    """Take faces and patches of photographs with EXIF, split by camera model."""
    from faceproof import terminal_training
    from faceproof.errors import UsageError
    from faceproof.exif_import import import_exif

    if len(sources) != 1:
        raise UsageError("the layout exif takes one folder of photographs")
    with terminal_training.training() as shown:
        found = import_exif(
            sources[0], out, val_share=val_share, most=most, overwrite=overwrite,
            progress=lambda done, total: shown.counted("photographs", done, total),
        )  # fmt: skip
    for line in terminal_training.imported(found, out):
        terminal_training.said(line)
    if found.unreadable:
        raise typer.Exit(1)
