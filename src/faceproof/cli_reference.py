"""`faceproof reference`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import FaceDetectorOption

__all__ = ["reference"]


def reference(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="Whole, square pictures of aligned faces, one face each (or a manifest, list or glob of them).",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The reference to write, .json.")],
    min_pictures: Annotated[
        int, typer.Option("--min-pictures", min=2, metavar="N", help="Pictures with one face that must be left.")
    ] = 20,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="TEXT", help="What the pictures are, for the file.", show_default="FOLDER's name"
        ),
    ] = None,
    face_detector: FaceDetectorOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older reference at FILE.")] = False,
    json: Annotated[bool, typer.Option("--json", help="What was found as JSON instead of text.")] = False,
) -> None:
    """Learn where the landmarks of aligned faces lie (such as StyleGAN's), as a reference for the alignment test."""
    import shlex
    import sys
    from pathlib import Path

    from faceproof import terminal
    from faceproof.detectors.alignment import build_reference, write_reference
    from faceproof.faces.detection import face_detector as make_face_detector
    from faceproof.inputs import Inputs

    write_reference(out, None, overwrite=overwrite)  # what could not be written is said before the work
    pictures = list(Inputs([folder]))
    with terminal.counted("finding faces", hidden=json) as progress:
        built = build_reference(
            pictures, make_face_detector(face_detector), source=source or Path(folder).name or folder,
            command=shlex.join(["faceproof", *sys.argv[1:]]), min_pictures=min_pictures, progress=progress,
        )  # fmt: skip
    write_reference(out, built.reference, overwrite=overwrite)
    if json:
        import json as json_module

        print(json_module.dumps({"file": out, **built.to_dict()}, indent=1, ensure_ascii=False))
    else:
        terminal.reference(built, out)
    if built.unreadable:
        raise typer.Exit(1)
