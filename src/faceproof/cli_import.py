"""`faceproof import`. As in `cli`, only typer is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["importing"]

importing = typer.Typer(help="Turn what lies in folders into data to train on.", no_args_is_help=True)


@importing.callback()
def _root() -> None:
    """Keep `exif` a name of its own although it is the only one."""


@importing.command()
def exif(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Photographs, walked with all folders in it.")],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="MANIFEST", help="The .csv to write; crops go to crops/ beside it.")
    ],
    val_share: Annotated[float, typer.Option("--val-share", help="Share of camera models held out.")] = 0.15,
    most: Annotated[
        int | None, typer.Option("--most", min=1, help="Stop after so many photographs.", show_default="all")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older manifest.")] = False,
) -> None:
    """Take faces and patches of photographs with EXIF, for `faceproof pretrain`, split by camera model."""
    from faceproof import terminal_training
    from faceproof.exif_import import import_exif

    with terminal_training.training() as shown:
        found = import_exif(
            folder, out, val_share=val_share, most=most, overwrite=overwrite,
            progress=lambda done, total: shown.counted("photographs", done, total),
        )  # fmt: skip
    for line in terminal_training.imported(found, out):
        terminal_training.said(line)
    if found.unreadable:
        raise typer.Exit(1)
