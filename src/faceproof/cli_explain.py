"""`faceproof explain`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import FaceDetectorOption, FprOption, MinFaceOption, ModelOption

__all__ = ["explain"]


def explain(
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="Path or http(s) URL.", show_default=False)],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="Folder for the pictures, explain.json and explain.html.")
    ],
    face: Annotated[
        int | None,
        typer.Option(
            "--face", min=1, metavar="N", help="Which face, largest first.", show_default="the one that decides"
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Folder of a `faceproof train` run: explain its model, with Grad-CAM of its network (needs torch).",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    face_detector: FaceDetectorOption = None,
    fpr: FprOption = None,
    min_face: MinFaceOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older explanation in DIR.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The explanation as JSON instead of text.")] = False,
) -> None:
    """Show why: maps of where the score comes from, error levels and noise, each with its deletion test; the spectrum.

    A map that does no better than chance is labelled so.
    """
    from pathlib import Path

    from faceproof import terminal
    from faceproof.errors import UsageError, plain
    from faceproof.explanation import explain as make
    from faceproof.explanation_files import check_folder, write_explanation
    from faceproof.faces.quality import Gates
    from faceproof.pipeline import FaceChecker
    from faceproof.workers import default_workers

    check_folder(out, overwrite=overwrite)  # what could not be written is said before the work
    more, chosen = None, model
    if run is not None:
        if model is not None:
            raise UsageError("give either --model or --run, which brings its own model")
        from faceproof.explain_run import run_maps

        more, chosen = run_maps(run), str(Path(run) / "model")
    gates = Gates() if min_face is None else Gates(min_side=min_face)
    threads = min(4, default_workers())
    checker = FaceChecker(chosen, face_detector, fpr=fpr, gates=gates, threads=threads)
    with terminal.counted("maps") as step:
        found = make(picture, checker, face=face, more=more, on_step=step)
    files = write_explanation(found, checker.card, out, overwrite=overwrite)
    if json:
        import json as json_module

        print(json_module.dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    print(plain(f"{found.result.path}: {found.about}"))
    for one in found.maps:
        print(f"{one.heat.title}: {one.deletion.sentence(found.answer)}")
    print(f"spectrum: {found.spectrum.sentence}")
    terminal.note(f"wrote {len(files)} files; begin with {files[0]}")
