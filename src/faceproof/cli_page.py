"""`faceproof page`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import AlphaOption, FprOption, MinFaceOption, ModelOption

__all__ = ["page"]


def page(
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Folder for the page, new or empty.")],
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            metavar="FILE",
            help="onnxruntime-web 1.30.0: the archive that `npm pack onnxruntime-web@1.30.0` makes, or its folder.",
            show_default="either of them, in the working folder",
        ),
    ] = None,
    model: ModelOption = None,
    fpr: FprOption = None,
    alpha: AlphaOption = None,
    min_face: MinFaceOption = None,
    max_pixels: Annotated[
        str, typer.Option("--max-pixels", help="The page refuses larger pictures; 64M = 64 million.")
    ] = "64M",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a page that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="What was written as JSON instead of a line.")] = False,
) -> None:
    """Write a web page that checks pictures in the browser: nothing is uploaded, and it works without a connection.

    The folder goes onto any file server (https, so that it can be kept for offline use), or try it with:
    python3 -m http.server --directory DIR
    """
    from faceproof.faces.quality import Gates
    from faceproof.images import Limits
    from faceproof.offline_page import write_page

    gates = None if min_face is None else Gates(min_side=min_face)
    made = write_page(
        out, model=model, runtime=runtime, fpr=fpr, alpha=alpha, gates=gates, max_limits=Limits.of_pixels(max_pixels),
        overwrite=overwrite,
    )  # fmt: skip
    if json:
        import json as json_module

        print(json_module.dumps(made.to_dict(), indent=1))
        return
    from faceproof.errors import plain

    print(f"{plain(made.out)}: {len(made.files)} files, {made.weight / 1e6:.1f} MB, model {made.model}")
