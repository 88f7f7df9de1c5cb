"""`faceproof export`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import (
    DropStraddlingOption,
    ModelArgument,
    ModelFolderOption,
    RecordOption,
    ReplaceModelOption,
)

__all__ = ["export"]


def export(
    model: ModelArgument,
    to: Annotated[
        str,
        typer.Option("--to", metavar="TARGET", help="onnx, onnx-int8, openvino, litert, executorch or coreml."),
    ],
    out: ModelFolderOption,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Labelled pictures to measure the export with: a manifest, or a folder with one.",
        ),
    ],
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Split of the data to measure with.")] = "val",
    pictures: Annotated[
        int, typer.Option("--pictures", min=20, metavar="N", help="So many pictures of it at most, sources in turn.")
    ] = 400,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Put scaling, normalisation and calibration inside: crop as uint8 RGB in, probability out.",
        ),
    ] = False,
    max_auc_loss: Annotated[
        float, typer.Option("--max-auc-loss", metavar="LOSS", help="Refuse an export whose AUC is lower by more.")
    ] = 0.005,
    calibrate_on: Annotated[
        str, typer.Option("--calibrate-on", metavar="NAME", help="int8: split that gives the ranges of values.")
    ] = "train",
    calibration: Annotated[
        int, typer.Option("--calibration", min=20, metavar="N", help="int8: so many pictures of it, sources in turn.")
    ] = 128,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=0, metavar="S", help="int8: how long to look for layers to leave in float."),
    ] = 120.0,
    overwrite: ReplaceModelOption = False,
    drop_straddling: DropStraddlingOption = False,
    json: RecordOption = False,
) -> None:
    """Convert a model for another engine or a phone, and keep it only if it scores as the original does.

    Both networks score the same labelled pictures; differences, AUC and detection rate before and after are shown and
    written into the export's card. Nothing is left behind where the export is refused.
    """
    import shlex
    import sys

    from faceproof import terminal, terminal_export
    from faceproof.exporting import Material, export_model

    material = Material(data, split, pictures, calibrate_on, calibration, drop_straddling)
    with terminal.steps(hidden=json) as stage:
        result = export_model(
            model, to, out, material, preprocessing=with_preprocessing, max_auc_loss=max_auc_loss, seconds=seconds,
            overwrite=overwrite, command=shlex.join(["faceproof", *sys.argv[1:]]), stage=stage,
        )  # fmt: skip
    if json:
        import json as json_module

        print(json_module.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    else:
        terminal_export.exported(result.to_dict())
