"""Options that several commands have. As in `cli`, only typer is imported."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AcceleratorOption",
    "AllFilesOption",
    "AlphaOption",
    "DropStraddlingOption",
    "FaceDetectorOption",
    "FprOption",
    "MaxPixelsOption",
    "MetadataOption",
    "MinFaceOption",
    "ModelArgument",
    "ModelFolderOption",
    "ModelOption",
    "PageOption",
    "PrecisionOption",
    "PresetOption",
    "PresetsOption",
    "QuietOption",
    "RecordOption",
    "ReplaceModelOption",
    "SeedOption",
    "StabilityOption",
    "WorkersOption",
]

ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Shipped model's name, or a model folder.", show_default="the default model"),
]
FaceDetectorOption = Annotated[
    str | None, typer.Option("--face-detector", help="YuNet .onnx file to find faces with.", show_default="RetinaFace")
]
FprOption = Annotated[
    float | None,
    typer.Option("--fpr", help="Share of photographs that may be called generated.", show_default="the model's, 0.01"),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="Share of generated faces that may be called photographs, of the kinds the model was calibrated on.",
        show_default="the model's",
    ),
]
MaxPixelsOption = Annotated[
    str, typer.Option("--max-pixels", help="Refuse larger pictures before decoding them; 64M = 64 million.")
]
MinFaceOption = Annotated[
    float | None,
    typer.Option("--min-face", help="Side in pixels an aligned face must have to be judged.", show_default="80"),
]
StabilityOption = Annotated[
    str,
    typer.Option(
        "--stability",
        help="Perturb every face and see whether the answer holds: off, quick (3 ways) or full (10 ways).",
    ),
]
MetadataOption = Annotated[
    bool,
    typer.Option(
        "--metadata/--no-metadata", help="Read what files say about their origin: EXIF, content credentials, tags."
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", "-j", min=1, help="Processes.", show_default="one per core")
]
AllFilesOption = Annotated[bool, typer.Option("--all-files", help="In folders, try files of every ending.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Shipped model's name, or a model folder.", show_default=False)
]
ModelFolderOption = Annotated[
    str, typer.Option("--out", "-o", metavar="DIR", help="Model folder to write; its name becomes the model's name.")
]
ReplaceModelOption = Annotated[bool, typer.Option("--overwrite", help="Replace an older model folder at DIR.")]
RecordOption = Annotated[bool, typer.Option("--json", help="The record as JSON instead of tables.")]
DropStraddlingOption = Annotated[
    bool, typer.Option("--drop-straddling", help="Keep groups of several splits in the one furthest from fitting.")
]
PageOption = Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The page, .html.")]
PresetOption = Annotated[str, typer.Option("--preset", "-p", help="Recipe; --presets lists them.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of everything random.", show_default="0")]
AcceleratorOption = Annotated[str, typer.Option("--accelerator", help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="auto (bf16 on CUDA), 32-true, bf16-mixed or 16-mixed.")
]
PresetsOption = Annotated[bool, typer.Option("--presets", help="List the recipes and end.")]
