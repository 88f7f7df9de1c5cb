"""`faceproof train`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceproof.cli_options import (
    AcceleratorOption,
    DropStraddlingOption,
    PrecisionOption,
    PresetOption,
    PresetsOption,
    SeedOption,
)

if TYPE_CHECKING:
    from faceproof.datasets import Sample

__all__ = ["train"]


def train(
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="The run's folder; its model goes to DIR/model.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="PATH", help="A manifest, or a folder SPLIT/CLASS/.", show_default=False),
    ] = None,
    real: Annotated[
        list[str] | None,
        typer.Option("--real", metavar="DIR", help="Photographs: DIR/train, DIR/val; repeatable.", show_default=False),
    ] = None,
    generated: Annotated[
        list[str] | None,
        typer.Option(
            "--generated", metavar="DIR", help="Generated faces in DIR/train, DIR/val; repeatable.", show_default=False
        ),
    ] = None,
    preset: PresetOption = "faceproof",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="FIELD=VALUE",
            help="Change a field of the recipe: backbone=resnet18, samples=20000, start=random, ...; repeatable.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            "--leave-out",
            metavar="WHAT",
            help="Instead of one model: train once per generator without it and a share of the photograph sources, "
            "and score those. WHAT is all, a number of folds, or generators with commas between.",
            show_default=False,
        ),
    ] = None,
    train_split: Annotated[str, typer.Option("--train-split", help="Split to fit on.")] = "train",
    val_split: Annotated[str, typer.Option("--val-split", help="Split to look at, stop by and calibrate on.")] = "val",
    accelerator: AcceleratorOption = "auto",
    devices: Annotated[str, typer.Option("--devices", help="How many, or auto for all.")] = "auto",
    precision: PrecisionOption = "auto",
    workers: Annotated[int, typer.Option("--workers", "-j", min=0, help="Processes reading pictures, per device.")] = 1,
    storage: Annotated[
        str, typer.Option("--storage", help="How the model's weights are stored: float16, or int8 (smaller).")
    ] = "float16",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard logs to DIR/tb.")] = False,
    drop_straddling: DropStraddlingOption = False,
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help="Leave unreadable pictures out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Package a finished run again.")] = False,
    presets: PresetsOption = False,
) -> None:
    """Train a detector, calibrate it on val and write it as a model folder that check and scan can use.

    Stop it whenever you like: the same command goes on from the last checkpoint, with the same result.
    """
    import shlex
    import signal
    import sys
    from pathlib import Path

    from faceproof import terminal_training
    from faceproof.errors import UsageError
    from faceproof.extras import EXTRAS, require
    from faceproof.recipes import PRESETS
    from faceproof.recipes import preset as named

    if presets:
        terminal_training.presets(PRESETS)
        return
    if out is None:
        raise UsageError("give --out DIR, the folder for checkpoints, logs and the model")
    recipe = named(preset, **_changes(changes or []) | ({} if seed is None else {"seed": seed}))
    for module in EXTRAS["train"]:  # all of them now, and not the last one when everything is trained
        require("train", module)
    from faceproof.runs import Job, leave_out_runs, train_model
    from faceproof.training import Device, first_process
    from faceproof.training_log import Files, TensorBoard, Together, Watcher, make_folder

    samples = _samples(data, real or [], generated or [], drop_straddling=drop_straddling)
    folder, first = Path(out), first_process()
    with terminal_training.training(hidden=not first) as shown:
        make_folder(folder)
        logs: list[Watcher] = [shown, Files(folder)]
        if tensorboard and first:
            logs.append(TensorBoard(folder / "tb"))
        job = Job(
            name=data or ", ".join([*(real or []), *(generated or [])]),
            samples=samples, out=folder, train_split=train_split, val_split=val_split,
            command=shlex.join(["faceproof", *sys.argv[1:]]),
            device=Device(accelerator, int(devices) if devices.isdecimal() else devices, precision, workers),
            storage=storage, skip_unreadable=skip_unreadable, counted=shown.counted,
        )  # fmt: skip
        signal.signal(signal.SIGINT, shown.press)
        try:
            if leave_out is None:
                card = train_model(job, recipe, watcher=Together(*logs), overwrite=overwrite)
            else:
                table = leave_out_runs(job, recipe, **_left_out(leave_out), watcher=shown)
        except KeyboardInterrupt:
            shown.note(f"faceproof: stopped; the same command goes on from the last checkpoint in {folder}")
            raise typer.Exit(130) from None
    if not first:
        return
    if leave_out is None:
        assert card is not None  # the first process has one
        terminal_training.trained(card, folder / "model")
    else:
        terminal_training.said(f"wrote {table}; faceproof evaluate --scores {table} --out DIR tells what it says")


def _samples(data: str | None, real: list[str], generated: list[str], *, drop_straddling: bool) -> list[Sample]:
    from faceproof.datasets import read_data, read_folders
    from faceproof.errors import UsageError

    if data is not None and not real and not generated:
        return read_data(data, drop_straddling=drop_straddling)
    if data is None and (real or generated):
        return read_folders(real, generated, drop_straddling=drop_straddling)
    raise UsageError("give either --data PATH, or --real DIR and --generated DIR (each as often as needed)")


def _left_out(what: str) -> dict[str, Any]:
    """Read --leave-out."""
    if what == "all":
        return {}
    if what.isdecimal():
        return {"folds": int(what)}
    return {"only": [name.strip() for name in what.split(",") if name.strip()]}


def _changes(texts: list[str]) -> dict[str, Any]:
    """Read FIELD=VALUE; values as in JSON, plain words as text."""
    import json

    from faceproof.errors import UsageError

    found: dict[str, Any] = {}
    for text in texts:
        field, sign, value = text.partition("=")
        if not sign or not field:
            raise UsageError(f"--set {text!r} is not FIELD=VALUE, such as samples=20000")
        try:
            found[field.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            found[field.strip()] = None if value == "None" else value
    return found
