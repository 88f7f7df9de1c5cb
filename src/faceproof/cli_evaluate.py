"""`faceproof evaluate`: parse, one library call, show. Only typer is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceproof.cli_options import WorkersOption

if TYPE_CHECKING:
    from faceproof.datasets import Sample

QUICK_PICTURES = 120
"""Pictures of each class and split that --quick keeps."""


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Shipped models' names or model folders.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for tables, plots and page.")] = ...,  # type: ignore[assignment]
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="Manifest, or a folder of SPLIT/CLASS/pictures.", show_default=False),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Split to measure on; may be repeated.", show_default="val")
    ] = None,
    chain: Annotated[
        list[str] | None,
        typer.Option("--chain", help="What to do to pictures first, beside none; may be repeated.", show_default=False),
    ] = None,
    robustness: Annotated[bool, typer.Option("--robustness", help="The whole grid of chains.")] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="FILE.py:FUNCTION", help="Another detector's adapter.", show_default=False),
    ] = None,
    freeze_on: Annotated[
        str, typer.Option("--freeze-on", help="Split that fixes threshold and calibration of peers.")
    ] = "val",
    probes: Annotated[bool, typer.Option("--probes", help="Also look for shortcuts (file facts, sources).")] = False,
    gaps: Annotated[bool, typer.Option("--gaps", help="Also compare false alarms by age, sex, ethnicity.")] = False,
    gap_split: Annotated[
        list[str] | None,
        typer.Option(
            "--gap-split", help="More splits for --gaps; rows a model was trained on flatter it.", show_default=False
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option("--scores", metavar="CSV", help="Leave-out scores (column fold) to report.", show_default=False),
    ] = None,
    workers: WorkersOption = None,
    drop_straddling: Annotated[
        bool, typer.Option("--drop-straddling", help="Keep groups found in several splits only in the last one.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A rehearsal: few pictures, wide intervals.")] = False,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw figures (needs matplotlib).")] = True,
) -> None:
    """Measure detectors side by side on labelled pictures: tables, plots and one page, with intervals.

    Stop it whenever you like: the same command goes on with what is not finished.
    """
    from faceproof import terminal_evaluation as terminal
    from faceproof.contenders import distinct_names, model_spec, peer_spec
    from faceproof.errors import UsageError, plain
    from faceproof.evaluation_report import evaluate_to_folder
    from faceproof.evaluation_run import ROBUSTNESS, Plan

    if not (models or peer or scores):
        raise UsageError("nothing to measure; name a model (such as lite2-208), a --peer, or a table of --scores")
    if (models or peer or gaps) and data is None:
        raise UsageError("--data is missing; give a manifest.csv, or a folder of SPLIT/CLASS/pictures")
    specs = distinct_names([*map(model_spec, models or ()), *map(peer_spec, peer or ())])
    plan = Plan(
        tuple(specs),
        tuple(_samples(data, drop_straddling, quick)),
        out,
        tuple(dict.fromkeys(split or ["val"])),
        tuple(dict.fromkeys([*(chain or ()), *(ROBUSTNESS if robustness else ())])) or ("none",),
        freeze_on,
        probes,
        gaps,
        tuple(gap_split or ()),
        tuple(scores or ()),
        workers,
        200 if quick else 1000,
    )
    with terminal.progress() as bar:
        try:
            outcome = evaluate_to_folder(plan, plots_wanted=plots, progress=bar.step)
        except KeyboardInterrupt:
            bar.close()
            where = plain(out / "scores")
            typer.echo(f"faceproof: stopped; finished scores are in {where}: the same command goes on", err=True)
            raise typer.Exit(130) from None
    terminal.tables(outcome)
    if outcome.unreadable:
        raise typer.Exit(1)


def _samples(data: Path | None, drop_straddling: bool, quick: bool) -> list[Sample]:
    from faceproof.datasets import read_data
    from faceproof.evaluation_run import thin

    if data is None:
        return []
    samples = read_data(data, drop_straddling=drop_straddling)
    return thin(samples, QUICK_PICTURES) if quick else samples
