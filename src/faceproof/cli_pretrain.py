"""`faceproof pretrain`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import (
    AcceleratorOption,
    DropStraddlingOption,
    PrecisionOption,
    PresetOption,
    PresetsOption,
    SeedOption,
)

__all__ = ["pretrain"]


def pretrain(
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="DIR", help="The run's folder.", show_default=False)
    ] = None,
    exif: Annotated[
        str | None,
        typer.Option(
            "--exif", metavar="MANIFEST", help="Photographs with EXIF: `faceproof import exif`.", show_default=False
        ),
    ] = None,
    faces: Annotated[
        str | None,
        typer.Option(
            "--faces", metavar="PATH", help="Labelled faces; only the photographs are used.", show_default=False
        ),
    ] = None,
    preset: PresetOption = "exif-lite0",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="FIELD=VALUE",
            help="Change a field of the recipe: backbone=resnet18, samples=20000, ...; repeatable.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = None,
    accelerator: AcceleratorOption = "auto",
    precision: PrecisionOption = "auto",
    workers: Annotated[int, typer.Option("--workers", "-j", min=0, help="Processes reading pictures.")] = 1,
    drop_straddling: DropStraddlingOption = False,
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help="Leave unreadable faces out.")] = False,
    presets: PresetsOption = False,
) -> None:
    """Learn from photographs alone: rank what cameras wrote down, and tell faces that were touched.

    Stop it whenever you like: the same command goes on from the last checkpoint, with the same result.
    """
    import signal
    from pathlib import Path

    from faceproof import terminal_training
    from faceproof.cli_train import _changes
    from faceproof.errors import UsageError
    from faceproof.extras import require
    from faceproof.pretrain_recipes import PRETRAIN_PRESETS, pretrain_preset

    if presets:
        for name, known in PRETRAIN_PRESETS.items():
            facts = f"{known.recipe.backbone}, {known.recipe.size} px, batch {known.recipe.batch}"
            terminal_training.said(f"{name}: {facts}; {known.source}; {known.notes}")
        return
    if out is None or exif is None or faces is None:
        raise UsageError("give --exif MANIFEST, --faces PATH and --out DIR")
    recipe = pretrain_preset(preset, **_changes(changes or []) | ({} if seed is None else {"seed": seed}))
    for module in ("torch", "timm", "safetensors", "lightning_fabric"):
        require("train", module)
    from faceproof.datasets import read_data
    from faceproof.exif_data import TAGS, read_tagged
    from faceproof.faces.detection import face_detector
    from faceproof.pretraining import TABLE
    from faceproof.pretraining import pretrain as run
    from faceproof.pretraining_data import gather
    from faceproof.training import Device
    from faceproof.training_log import Files, Together, make_folder

    folder = Path(out)
    tagged, samples = read_tagged(exif), read_data(faces, drop_straddling=drop_straddling)
    with terminal_training.training() as shown:
        make_folder(folder)
        for tag, (word, _) in TAGS.items():
            if tagged.missing[tag]:
                shown.note(f"{word} is missing from {tagged.missing[tag]} crops, impossible in {tagged.wrong[tag]}")
        signal.signal(signal.SIGINT, shown.press)
        try:
            data = gather(
                tagged, samples, face_detector(None), cache=folder, skip_unreadable=skip_unreadable,
                progress=shown.counted,
            )  # fmt: skip
            run(
                data, recipe, folder, device=Device(accelerator, 1, precision, workers),
                watcher=Together(shown, Files(folder)),
            )  # fmt: skip
        except KeyboardInterrupt:
            shown.note(f"faceproof: stopped; the same command goes on from the last checkpoint in {folder}")
            raise typer.Exit(130) from None
    for line in (folder / TABLE).read_text(encoding="utf-8").splitlines()[1:]:
        terminal_training.said(line)
    terminal_training.said(f"wrote {folder}; scripts/build_anomaly.py --run {folder} makes a one-class detector of it")
