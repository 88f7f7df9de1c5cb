"""`faceproof map`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import AllFilesOption, ModelOption, PageOption, QuietOption, WorkersOption

__all__ = ["picture_map"]


def picture_map(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER...",
            help="Folders, pictures, globs, manifests, or - for a list on stdin.",
            show_default=False,
        ),
    ],
    out: PageOption,
    csv: Annotated[
        str | None,
        typer.Option("--csv", metavar="FILE", help="Also write path, x, y, verdict, probability.", show_default=False),
    ] = None,
    layout: Annotated[
        str,
        typer.Option("--layout", metavar="NAME", help="umap, pca, or auto: umap where the extra [map] is installed."),
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of umap: the same seed gives the same map.")] = 0,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="A .csv or .tsv with facts about the pictures to colour by.",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="Column of the manifest; give it as often as you like.",
            show_default="label, generator, source, those it has",
        ),
    ] = None,
    clusters: Annotated[
        str | None,
        typer.Option(
            "--clusters",
            metavar="FILE",
            help="Colour by the clusters that faceproof duplicates wrote.",
            show_default="groups of alike embeddings, with the extra [map]",
        ),
    ] = None,
    min_cluster: Annotated[
        int | None,
        typer.Option(
            "--min-cluster",
            min=2,
            metavar="N",
            help="Pictures a group of embeddings must have.",
            show_default="1 in 200, within 5 to 50",
        ),
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings",
            metavar="FILE",
            help="Keep the embeddings here (.jsonl), for other maps of the same pictures.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--resume", help="Embed anew, or go on from what an earlier run has left.")
    ] = False,
    workers: WorkersOption = None,
    all_files: AllFilesOption = False,
    quiet: QuietOption = False,
    model: ModelOption = None,
) -> None:
    """Draw a map of pictures: what looks alike to the network lies together. One page to look at in a browser.

    Colours by verdict, by a manifest's columns or by cluster; thumbnails, search, and a lasso that lists files. Stop it
    whenever you like: the same command goes on where it stopped.
    """
    import sys
    from pathlib import Path

    from faceproof import terminal_map
    from faceproof.embeddings import embed_to_file, made_with, open_embeddings
    from faceproof.errors import UsageError
    from faceproof.inputs import Inputs
    from faceproof.map_html import page
    from faceproof.picture_map import Choice, build_map, check_choice, write_csv
    from faceproof.scan import Options
    from faceproof.tables import write_atomically

    if Path(out).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out!r}: the map is an .html page; give such a name")
    choice = Choice(layout, seed, manifest, tuple(column or ()), clusters, min_cluster)
    check_choice(choice)
    chosen, options = Inputs(inputs, all_files=all_files), Options(model)
    journal = Path(embeddings or f"{out}.partial.jsonl")
    with open_embeddings(journal, made_with(options.checker()), overwrite=overwrite) as file:
        try:
            with terminal_map.embedding(chosen, hidden=quiet) as bar:
                paths = embed_to_file(
                    chosen, file, options, workers=workers, on_record=bar.embedded, on_skip=bar.skipped
                )
            with terminal_map.steps(hidden=quiet) as step:
                made = build_map(file, paths, choice, step=step)
                write_atomically(out, page(made))
        except KeyboardInterrupt:
            print(f"faceproof: stopped; {file.total} embeddings are safe: the same command goes on", file=sys.stderr)
            raise typer.Exit(130) from None
    if csv is not None:
        write_csv(csv, made)
    if embeddings is None:
        journal.unlink()
    if not quiet:
        terminal_map.picture_map(made, out, ignored=chosen.ignored)
    if made.unreadable:
        raise typer.Exit(1)
