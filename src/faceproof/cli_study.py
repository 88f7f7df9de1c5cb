"""`faceproof study`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceproof.cli_options import ModelOption, QuietOption, WorkersOption
from faceproof.cli_posts import ColumnOption, EncoderOption, MinimumOption, SaltOption, ThresholdOption

__all__ = ["study"]


def study(
    accounts: Annotated[
        str,
        typer.Option(
            "--accounts", "-a", metavar="FILE", help="Table of accounts: an id each, and what is known of it."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the page and the tables.")],
    pictures: Annotated[
        str | None, typer.Option("--pictures", metavar="DIR", help="Their pictures, to be scanned.", show_default=False)
    ] = None,
    results: Annotated[
        str | None,
        typer.Option("--results", metavar="FILE", help="What `scan` has found in them.", show_default=False),
    ] = None,
    clusters: Annotated[
        str | None,
        typer.Option(
            "--clusters", metavar="FILE", help="What `duplicates` has found in them.", show_default="looked for"
        ),
    ] = None,
    posts: Annotated[
        str | None, typer.Option("--posts", metavar="FILE", help="Table of their posts.", show_default=False)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="FILE", help="label_me.csv of this study, filled in.", show_default=False),
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option("--prevalence", metavar="SHARE", help="Share of generated faces to expect.", show_default=False),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="DATE", help="Day at which ages are counted.", show_default="the youngest account's"
        ),
    ] = None,
    min_campaign: Annotated[
        int, typer.Option("--min-campaign", metavar="N", help="Accounts a campaign has at least.")
    ] = 3,
    sample: Annotated[
        int, typer.Option("--sample", min=1, metavar="N", help="Flagged, and other, accounts to label by hand.")
    ] = 200,
    show_faces: Annotated[bool, typer.Option("--show-faces", help="Do not blur the faces on the page.")] = False,
    salt: SaltOption = None,
    column: ColumnOption = None,
    encoder: EncoderOption = "minilm",
    threshold: ThresholdOption = 0.6,
    minimum: MinimumOption = 10,
    model: ModelOption = None,
    fpr: Annotated[
        float | None,
        typer.Option("--fpr", help="Share of photographs that may be flagged.", show_default="the model's, 0.01"),
    ] = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
) -> None:
    """Study a platform: join accounts, pictures, copies and posts; prevalence, comparisons, campaigns.

    Stop it whenever you like: the same command goes on with scan and hashes. --column names columns of the table of
    accounts.
    """
    from faceproof import terminal, terminal_study
    from faceproof.cli_posts import columns_of, salt_of
    from faceproof.errors import UsageError
    from faceproof.post_records import PostOptions
    from faceproof.pseudonyms import Pseudonyms
    from faceproof.rows import seconds
    from faceproof.scan import Options
    from faceproof.study_run import Plan, run_study

    try:
        end = None if as_of is None else seconds(as_of)
    except ValueError as err:
        raise UsageError(f"--as-of {as_of!r} is no date; write 2024-05-01") from err
    plan = Plan(
        accounts, out, pictures=pictures, results=results, clusters=clusters, posts=posts, labels=labels,
        scan=Options(model, fpr=fpr), post_options=PostOptions(encoder=encoder, threshold=threshold, minimum=minimum),
        prevalence=prevalence, columns=columns_of(column), as_of=end, minimum=min_campaign, sample=sample,
        names=Pseudonyms(salt_of(salt)), show_faces=show_faces, workers=workers,
    )  # fmt: skip
    try:
        with terminal.steps(hidden=quiet) as bar:
            outcome = run_study(plan, progress=bar)
    except KeyboardInterrupt:
        typer.echo("faceproof: stopped; what was scanned and hashed is safe: the same command goes on", err=True)
        raise typer.Exit(130) from None
    if not quiet:
        terminal_study.study(outcome, str(out))
    if outcome.study.states["not readable"] or any(kind.endswith("broken row") for kind in outcome.problems):
        raise typer.Exit(1)
