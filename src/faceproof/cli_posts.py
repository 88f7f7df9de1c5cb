"""`faceproof posts`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import PageOption, QuietOption

__all__ = ["columns_of", "posts", "salt_of"]

ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="ROLE=NAME",
        help="Column of a table with names of its own, such as text=body; may be repeated.",
        show_default=False,
    ),
]
SaltOption = Annotated[
    str | None,
    typer.Option(
        "--salt",
        metavar="SECRET",
        help="Replace ids in tables by keyed hashes; the secret, or @FILE that holds it.",
        show_default=False,
    ),
]
EncoderOption = Annotated[
    str,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="minilm (English, offline), words (any language, no model), or a sentence-transformers model or folder.",
    ),
]
ThresholdOption = Annotated[
    float, typer.Option("--threshold", metavar="COSINE", help="How alike posts of a cluster are to its middle.")
]
MinimumOption = Annotated[int, typer.Option("--min-cluster", metavar="N", help="Posts a cluster has at least.")]


def posts(
    source: Annotated[
        str,
        typer.Argument(
            metavar="POSTS", help="Table of posts: .csv .tsv .jsonl .ndjson .parquet, with a column of texts."
        ),
    ],
    out: PageOption,
    tables: Annotated[
        str | None,
        typer.Option("--tables", metavar="DIR", help="Also write everything as CSV files here.", show_default=False),
    ] = None,
    encoder: EncoderOption = "minilm",
    threshold: ThresholdOption = 0.6,
    minimum: MinimumOption = 10,
    alike: Annotated[
        float, typer.Option("--alike", metavar="SHARE", help="Share of text that copies have in common (Jaccard).")
    ] = 0.7,
    by_language: Annotated[
        bool, typer.Option("--by-language/--together", help="Cluster each language by itself, or all in one.")
    ] = True,
    points: Annotated[str, typer.Option("--map", metavar="HOW", help="Map of the texts: pca, umap or none.")] = "pca",
    column: ColumnOption = None,
    salt: SaltOption = None,
    threads: Annotated[int, typer.Option("--threads", min=1, metavar="N", help="Threads of the encoder.")] = 1,
    quiet: QuietOption = False,
) -> None:
    """Say what many posts are about: languages, clusters and their words, copied texts, bursts, links, hashtags.

    Rows that cannot be read are counted and named; the exit code is 1 if there were any broken ones.
    """
    from pathlib import Path

    from faceproof import terminal, terminal_posts
    from faceproof.errors import UsageError
    from faceproof.post_records import PostOptions
    from faceproof.posts import open_analysis
    from faceproof.posts_report import page, write_posts_tables
    from faceproof.pseudonyms import Pseudonyms
    from faceproof.tables import write_atomically

    if Path(out).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out!r}: the page is an .html file; give such a name")
    if not Path(out).absolute().parent.is_dir():
        raise UsageError(f"--out {out!r} lies in no folder that exists")
    names = Pseudonyms(salt_of(salt))
    options = PostOptions(
        encoder=encoder, threads=threads, threshold=threshold, minimum=minimum, alike=alike, by_language=by_language,
        points=points, columns=columns_of(column),
    )  # fmt: skip
    with (
        terminal.steps(hidden=quiet) as bar,
        open_analysis(source, options, progress=bar) as (report, store),
    ):
        if tables is not None:
            write_posts_tables(report, store, tables, names)
        write_atomically(out, page(report, private=names.active))
    if not quiet:
        terminal_posts.posts(report, out)
    if report.problems.get("broken row"):
        raise typer.Exit(1)


def columns_of(given: list[str] | None) -> dict[str, str]:
    """Return role -> column from ROLE=NAME.

    Raises:
        UsageError: something without "=".
    """
    from faceproof.errors import UsageError

    found = {}
    for one in given or ():
        role, mark, name = one.partition("=")
        if not (role and mark and name):
            raise UsageError(f"--column {one!r} is not ROLE=NAME, such as text=body")
        found[role] = name
    return found


def salt_of(given: str | None) -> str | None:
    """Return the secret, from a file where it begins with "@".

    Raises:
        UsageError: the file cannot be read.
    """
    from pathlib import Path

    from faceproof.errors import UsageError

    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"--salt {given!r}: the file cannot be read ({err})") from err
