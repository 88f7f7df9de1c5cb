"""What was found in posts, on disk: one self-contained page, and tables."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from faceproof._version import VERSION
from faceproof.errors import OutputError
from faceproof.html_parts import bars, document, escaped, moment, scatter, table
from faceproof.post_records import Cluster, Popular, PostReport, TimedBurst
from faceproof.post_store import PostStore
from faceproof.pseudonyms import Pseudonyms
from faceproof.tables import provenance, spreadsheet_safe, well_formed

__all__ = ["origin", "page", "sections", "write_posts_tables", "write_rows"]

SHOWN = 100
"""Clusters and groups of copies on the page."""
LONGEST_SAMPLE = 280


def page(report: PostReport, *, private: bool = False) -> str:
    """Return the page as HTML text; `private` leaves out what broken rows hold, which may be ids."""
    said = (
        f"{report.posts:,} posts of {report.accounts:,} accounts in {report.source}, {report.texts:,} different texts, "
        f"vectors by {report.encoder}"
    )
    return document("faceproof posts", said, sections(report, private=private))


def sections(report: PostReport, *, private: bool = False) -> str:
    """Return what the page says below its title, as HTML."""
    line = report.timeline
    marked = [((b.start - line.start) // line.width, (b.end - line.start) // line.width) for b in report.bursts]
    unit = {3600: "hour", 86400: "day"}.get(line.width, "week")
    when = f"posts by {unit}, from {moment(line.start)} UTC; bursts are marked"
    parts = [
        "<h2>What could not be read</h2>",
        table(
            ["what", "rows", "for example"],
            [
                (kind, count, "; ".join(f"row {n}" + ("" if private else f": {d}") for n, d in report.examples[kind]))
                for kind, count in report.problems.items()
            ],
        ),
        f'<p class="soft">{report.rows:,} rows; {report.without_text:,} posts hold no words</p>',
        "<h2>When</h2>",
        bars(line.counts, when, marked=marked) if line.counts else '<p class="soft">no times</p>',
        _bursts(report.bursts),
        f"<h2>Clusters</h2>{_more(len(report.clusters))}{_clusters(report.clusters[:SHOWN])}",
        scatter(report.map, f"a sample of {len(report.map):,} texts; near means alike; colours are clusters"),
        f"<h2>Copied texts</h2>{_more(len(report.copies))}",
        table(
            ["group", "posts", "texts", "accounts", "from", "to", "language", "text"],
            [
                (g.number, g.posts, g.texts, g.accounts, moment(g.first), moment(g.last), g.language, _short(g.text))
                for g in report.copies[:SHOWN]
            ],
        ),
        "<h2>Links</h2>", _popular("link", report.links), _popular("domain", report.domains),
        "<h2>Hashtags</h2>", _popular("hashtag", report.tags),
        "<h2>Languages</h2>", *_languages(report),
    ]  # fmt: skip
    return "\n".join(parts)


def _languages(report: PostReport) -> list[str]:
    found = []
    for one in report.languages:
        name = "not known" if one.code == "und" else one.code
        own = [cluster for cluster in report.clusters if cluster.language == one.code]
        tags = ", ".join(f"#{tag.name} ({tag.posts})" for tag in one.tags)
        domains = ", ".join(f"{domain.name} ({domain.posts})" for domain in one.domains)
        found.append(
            f'<h3 id="language-{escaped(one.code)}">{escaped(name)}</h3><p>{one.posts:,} posts, {one.texts:,} texts, '
            f"{one.accounts:,} accounts, {one.clusters} clusters</p>"
            f"<p>hashtags: {escaped(tags or 'none')}</p><p>domains: {escaped(domains or 'none')}</p>"
            + (_clusters(own[:10]) if own else "")
        )
    return found


def _more(count: int) -> str:
    return f'<p class="soft">the first {SHOWN} of {count:,}</p>' if count > SHOWN else ""


def _clusters(clusters: Sequence[Cluster]) -> str:
    return table(
        ["cluster", "posts", "texts", "accounts", "language", "words", "from", "to", "bursts", "for example"],
        [
            (
                c.number, c.posts, c.texts, c.accounts, c.language, ", ".join(word for word, _ in c.words),
                moment(c.first), moment(c.last), "; ".join(map(_burst, c.bursts[:3])) or "none",
                " | ".join(map(_short, c.samples[:2])),
            )
            for c in clusters
        ],
    )  # fmt: skip


def _burst(burst: TimedBurst) -> str:
    return f"{moment(burst.start)} to {moment(burst.end)}: {burst.posts} posts, {burst.expected:.1f} expected"


def _bursts(bursts: Sequence[TimedBurst]) -> str:
    rows = [(moment(b.start), moment(b.end), b.posts, b.expected, b.p) for b in bursts]
    return table(["burst from", "to", "posts", "expected", "p"], rows)


def _popular(kind: str, found: Sequence[Popular]) -> str:
    return table([kind, "posts", "accounts"], [(one.name, one.posts, one.accounts) for one in found])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SAMPLE else text[:LONGEST_SAMPLE] + " ..."


def write_rows(path: Path, said: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV below one comment line, row by row, replaced as a whole; formulas are made harmless.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            stream.write(f"# {well_formed(said)}\n")
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([spreadsheet_safe(value) for value in row] for row in rows)
        os.replace(temporary, path)
    except OSError as err:
        raise OutputError(f"cannot write {path} ({err.strerror or err}); check the folder and the disk") from err
    finally:
        temporary.unlink(missing_ok=True)


def origin(source: str, names: Pseudonyms) -> str:
    """Return where numbers come from; without the command where ids are hidden, as it may hold the secret."""
    if not names.active:
        return provenance(source)
    return " ".join(f"faceproof {VERSION}; ids are keyed hashes; data {source}".split())


def write_posts_tables(report: PostReport, store: PostStore, folder: str | Path, names: Pseudonyms) -> None:
    """Write posts.csv, clusters.csv, copies.csv, bursts.csv, links.csv, hashtags.csv, languages.csv, problems.csv.

    Args:
        report, store: of `posts.open_analysis`.
        folder: made where it is not there.
        names: what stands for ids of posts and accounts.

    Raises:
        OutputError: they cannot be written.
    """
    out, said = Path(folder), origin(report.source, names)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make the folder {out} ({err.strerror or err}); check its place") from err
    posts = store.sql.execute(
        "SELECT post.id, account, time, language, COALESCE(cluster, 0), COALESCE(copies, 0) FROM post "
        "LEFT JOIN text ON post.text = text.n ORDER BY post.n"
    )
    write_rows(
        out / "posts.csv", said, ["id", "account", "time", "language", "cluster", "copies"],
        ((names.of(i), names.of(a), moment(t), language or "", c, k) for i, a, t, language, c, k in posts),
    )  # fmt: skip
    write_rows(
        out / "clusters.csv", said,
        ["cluster", "language", "posts", "texts", "accounts", "words", "first", "last", "bursts", "sample"],
        (
            (c.number, c.language, c.posts, c.texts, c.accounts, " ".join(word for word, _ in c.words),
             moment(c.first), moment(c.last), len(c.bursts), c.samples[0])
            for c in report.clusters
        ),
    )  # fmt: skip
    write_rows(
        out / "copies.csv", said, ["group", "posts", "texts", "accounts", "first", "last", "language", "text"],
        (
            (g.number, g.posts, g.texts, g.accounts, moment(g.first), moment(g.last), g.language, g.text)
            for g in report.copies
        ),
    )  # fmt: skip
    bursts = [("all posts", burst) for burst in report.bursts]
    bursts += [(f"cluster {c.number}", burst) for c in report.clusters for burst in c.bursts]
    write_rows(
        out / "bursts.csv", said, ["of", "start", "end", "posts", "expected", "p"],
        ((of, moment(b.start), moment(b.end), b.posts, f"{b.expected:.3f}", f"{b.p:.3g}") for of, b in bursts),
    )  # fmt: skip
    for name, found in (("links", report.links), ("domains", report.domains), ("hashtags", report.tags)):
        write_rows(
            out / f"{name}.csv", said, ["name", "posts", "accounts"], ((p.name, p.posts, p.accounts) for p in found)
        )
    write_rows(
        out / "languages.csv", said, ["language", "posts", "texts", "accounts", "clusters"],
        ((one.code, one.posts, one.texts, one.accounts, one.clusters) for one in report.languages),
    )  # fmt: skip
    problems = store.sql.execute("SELECT row, kind, detail FROM problem ORDER BY row")
    private = names.active  # what is wrong with a row may quote ids
    write_rows(
        out / "problems.csv", said, ["row", "problem", "detail"], ((r, k, "" if private else d) for r, k, d in problems)
    )
