"""`faceproof calibrate`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import ModelArgument, ModelFolderOption, RecordOption, ReplaceModelOption

__all__ = ["calibrate"]


def calibrate(
    model: ModelArgument,
    out: ModelFolderOption,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Labelled pictures: a manifest, or a folder with one.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Split of the data to fit on; never one that was trained on.")
    ] = "val",
    scores: Annotated[
        str | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Instead of --data: this model's scores, one row a picture.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="platt, temperature, isotonic, or auto: lowest NLL on groups not fitted on.",
        ),
    ] = "auto",
    fpr: Annotated[
        list[float] | None,
        typer.Option(
            "--fpr",
            metavar="RATE",
            help="False-alarm rate to set a threshold for; give it as often as you like.",
            show_default="0.05, 0.01, 0.001",
        ),
    ] = None,
    overwrite: ReplaceModelOption = False,
    drop_straddling: Annotated[
        bool,
        typer.Option(
            "--drop-straddling", help="Leave out pictures of groups that lie in several splits or trained the model."
        ),
    ] = False,
    json: RecordOption = False,
) -> None:
    """Fit a model's probabilities and thresholds to your pictures, and write it as a new model folder.

    All three methods are compared on groups they were not fitted on. The weights stay as they are.
    """
    import shlex
    import sys

    from faceproof import terminal
    from faceproof.errors import UsageError
    from faceproof.heldout import held_out, read_scores
    from faceproof.recalibration import FPRS
    from faceproof.recalibration import calibrate as run

    if (data is None) == (scores is None):
        raise UsageError("give either --data (pictures to score) or --scores (a file of scores), one of the two")
    found = read_scores(str(scores)) if data is None else held_out(data, split, drop_straddling=drop_straddling)
    with terminal.counted("scoring", hidden=json) as progress:
        result = run(
            model, found, out, method=method, fprs=fpr or FPRS, overwrite=overwrite, drop_straddling=drop_straddling,
            command=shlex.join(["faceproof", *sys.argv[1:]]), progress=progress,
        )  # fmt: skip
    if json:
        import json as json_module

        print(json_module.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    else:
        terminal.recalibration(result)
    if result.unreadable:
        raise typer.Exit(1)
