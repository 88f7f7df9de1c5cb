"""What many posts are about, which of them are copied, and when they come in bursts (FIELD.md 1.1, post analysis).

Texts, vectors and everything counted lie on disk; memory holds a few numbers for each text (about 600 bytes).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.bursts import find_bursts
from faceproof.communities import communities
from faceproof.copies import band_keys, group_copies
from faceproof.encoders import Encoder, load_encoder
from faceproof.errors import UsageError
from faceproof.extras import require
from faceproof.keywords import class_tf_idf
from faceproof.post_records import (
    Cluster,
    CopyGroup,
    Language,
    Popular,
    PostOptions,
    PostReport,
    TimedBurst,
    Timeline,
)
from faceproof.post_store import ROLES, PostStore, read_posts
from faceproof.rows import Table
from faceproof.texts import words

__all__ = ["open_analysis"]

HOUR, DAY, WEEK = 3600, 86400, 604800
SHOWN_WORDS, SHOWN_TEXTS, POPULAR = 10, 3, 30
MAP_POINTS = 3000
COMMON = 0.1
"""A word in more than this share of the texts outside clusters is no word of a cluster: "the", "and"."""
VOCABULARY = 200_000
"""Different words counted of a language; above it those seen once so far are forgotten."""
BATCH = 1000

Progress = Callable[[str, int, "int | None"], None]


@contextlib.contextmanager
def open_analysis(
    posts: str | Path, options: PostOptions, *, progress: Progress = lambda what, done, total: None
) -> Iterator[tuple[PostReport, PostStore]]:
    """Analyse a table of posts; what lies on disk is there inside the `with` block only.

    Args:
        posts: .csv, .tsv, .jsonl, .ndjson or .parquet with a column of texts; ids, accounts and times where there are.
        options: how.
        progress: called with what is being done, how much of it, and of how much (None: not known).

    Yields:
        The report, and the store, in which every text has its cluster and its group of copies.

    Raises:
        UsageError: the table cannot be read, lacks a column of texts, or has no post.
        MissingExtraError: a package is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="faceproof-posts-") as folder, PostStore(folder) as store:
        encoder = load_encoder(options.encoder, threads=options.threads)
        table = Table(posts, ROLES, needed=["text"], chosen=options.columns, on_problem=store.problem)
        rows = read_posts(table, store, now=options.now, progress=lambda n: progress("reading", n, None))
        if not store.one("SELECT COUNT(*) FROM post"):
            raise UsageError(f"{posts} holds no post that can be read; look at its format")
        _find_copies(store, options, progress)
        parts = _parts(store, options)
        vectors = _encoded(store, encoder, parts, Path(folder), progress)
        _find_clusters(store, vectors, parts, options, progress)
        timeline = _timeline(store)
        points = _map(store, vectors, parts, options) if options.points != "none" else ()
        yield _report(store, str(posts), rows, options, encoder.name, timeline, points), store


def _find_copies(store: PostStore, options: PostOptions, progress: Progress) -> None:
    def counted() -> Iterator[str]:
        for done, text in enumerate(store.each_text(), 1):
            if done % 500 == 0:
                progress("near-copies", done, store.texts)
            yield text

    if not store.texts:
        return
    weights = store.posts_of_texts()
    of = group_copies(band_keys(counted()), weights, store.read, alike=options.alike)
    posts = np.bincount(of, weights, len(of)).astype(np.int64)
    groups = np.flatnonzero(posts > 1)
    groups = groups[np.argsort(-posts[groups], kind="stable")]
    number = np.zeros(len(of), np.int64)
    number[groups] = np.arange(1, len(groups) + 1)
    store.label("copies", ((int(number[leader]), n) for n, leader in enumerate(of) if number[leader]))


def _parts(store: PostStore, options: PostOptions) -> dict[str, npt.NDArray[np.int64]]:
    """Language -> numbers of its texts."""
    if not options.by_language:
        return {"all": np.arange(store.texts)}
    found: dict[str, list[int]] = {}
    for number, language in store.sql.execute("SELECT n, language FROM text ORDER BY n"):
        found.setdefault(language, []).append(number)
    return {language: np.array(found[language]) for language in sorted(found)}


def _encoded(
    store: PostStore, encoder: Encoder, parts: dict[str, npt.NDArray[np.int64]], folder: Path, progress: Progress
) -> Any:
    """Vectors (texts, size) on disk, language after language."""
    encoder.learn(store.each_text())
    vectors = np.memmap(folder / "vectors", np.float32, "w+", shape=(max(1, store.texts), encoder.size))
    done = 0
    for numbers in parts.values():
        for start in range(0, len(numbers), BATCH):
            part = numbers[start : start + BATCH]
            texts = store.read(part.tolist())
            for low in range(0, len(part), 100):
                some = part[low : low + 100]
                vectors[done : done + len(some)] = encoder.encode([texts[int(n)] for n in some])
                done += len(some)
                progress("encoding", done, store.texts)
    return vectors


def _find_clusters(
    store: PostStore, vectors: Any, parts: dict[str, npt.NDArray[np.int64]], options: PostOptions, progress: Progress
) -> None:
    weights = store.posts_of_texts()
    found: list[npt.NDArray[np.int64]] = []
    start = 0
    for numbers in parts.values():
        own = weights[numbers]
        if int(own.sum()) >= options.minimum:
            labels = communities(
                vectors[start : start + len(numbers)], threshold=options.threshold, minimum=options.minimum,
                weights=own, progress=lambda done, total: progress("clustering", done, total),
            )  # fmt: skip
            found += [numbers[labels == label] for label in range(int(labels.max(initial=-1)) + 1)]
        start += len(numbers)
    found.sort(key=lambda members: -int(weights[members].sum()))
    for number, members in enumerate(found, 1):
        store.label("cluster", ((number, int(n)) for n in members))


def _timeline(store: PostStore) -> Timeline:
    first, last = store.sql.execute("SELECT MIN(time), MAX(time) FROM post").fetchone()
    if first is None:
        return Timeline(0, HOUR, ())
    span = last - first
    width = HOUR if span <= 60 * DAY else DAY if span <= 3650 * DAY else WEEK
    start = int(first // width * width)
    return Timeline(start, width, _binned(store, start, width, int((last - start) // width) + 1))


def _binned(store: PostStore, start: int, width: int, bins: int, cluster: int | None = None) -> tuple[int, ...]:
    where = "" if cluster is None else f"AND text.cluster = {cluster:d}"
    join = "" if cluster is None else "JOIN text ON post.text = text.n"
    rows = store.sql.execute(
        f"SELECT CAST((time - ?) / ? AS INTEGER), COUNT(*) FROM post {join} "  # noqa: S608 -- numbers of ours
        f"WHERE time IS NOT NULL {where} GROUP BY 1",
        (start, width),
    )
    counts = [0] * bins
    for place, posts in rows:
        counts[place] = posts
    return tuple(counts)


def _timed(timeline: Timeline, counts: tuple[int, ...], totals: tuple[int, ...] | None) -> tuple[TimedBurst, ...]:
    """Bursts that chance does not explain: p below 0.01 over all stretches of time."""
    return tuple(
        TimedBurst(
            timeline.start + burst.first * timeline.width, timeline.start + (burst.last + 1) * timeline.width,
            burst.count, burst.expected, burst.p,
        )
        for burst in find_bursts(counts, totals) if burst.p < 0.01
    )  # fmt: skip


def _keywords(store: PostStore, language: str, numbers: list[int]) -> dict[int, tuple[tuple[str, float], ...]]:
    """Words of each cluster of a language, against each other and against all its other posts."""
    counts: dict[int, Counter[str]] = {number: Counter() for number in [0, *numbers]}
    inside: Counter[str] = Counter()
    outside = 0
    where, arguments = ("", ()) if language == "all" else ("WHERE language = ?", (language,))
    rows = store.sql.execute(f"SELECT text, posts, cluster FROM text {where}", arguments)  # noqa: S608 -- ours
    for text, posts, cluster in rows:
        terms = list(words(text))
        one = counts[cluster if cluster in counts else 0]
        for term in terms:
            one[term] += posts
        if not cluster:
            outside += 1
            inside.update(set(terms))
        for counter in (counts[0], inside):
            if len(counter) > VOCABULARY:
                for term in [term for term, times in counter.items() if times == 1]:
                    del counter[term]
    common = {term for term, times in inside.items() if outside >= 50 and times > COMMON * outside}
    classes = [{t: n for t, n in counts[number].items() if t not in common} for number in [0, *numbers]]
    found = class_tf_idf(classes, top=SHOWN_WORDS)
    return dict(zip(numbers, map(tuple, found[1:]), strict=True))


def _clusters(store: PostStore, timeline: Timeline, by_language: bool) -> tuple[Cluster, ...]:
    rows = store.sql.execute(
        "SELECT cluster, MIN(text.language), COUNT(*), COUNT(DISTINCT text.n), COUNT(DISTINCT NULLIF(account, '')),"
        " MIN(time), MAX(time) FROM post JOIN text ON post.text = text.n WHERE text.cluster > 0 GROUP BY 1 ORDER BY 1"
    ).fetchall()
    names: dict[str, list[int]] = {}
    for number, language, *_ in rows:
        names.setdefault(language if by_language else "all", []).append(number)
    keywords: dict[int, tuple[tuple[str, float], ...]] = {}
    for language, numbers in names.items():
        keywords |= _keywords(store, language, numbers)
    found = []
    for number, language, posts, texts, accounts, first, last in rows:
        bursts: tuple[TimedBurst, ...] = ()
        if timeline.counts and first is not None:
            counts = _binned(store, timeline.start, timeline.width, len(timeline.counts), number)
            bursts = _timed(timeline, counts, timeline.counts)
        samples = store.sql.execute(
            "SELECT text FROM text WHERE cluster = ? ORDER BY posts DESC, n LIMIT ?", (number, SHOWN_TEXTS)
        )
        found.append(Cluster(
            number, language if by_language else "all", posts, texts, accounts, keywords[number],
            tuple(row[0] for row in samples), first, last, bursts,
        ))  # fmt: skip
    return tuple(found)


def _copies(store: PostStore) -> tuple[CopyGroup, ...]:
    rows = store.sql.execute(
        "SELECT text.copies, COUNT(*), COUNT(DISTINCT text.n), COUNT(DISTINCT NULLIF(account, '')), MIN(time),"
        " MAX(time) FROM post JOIN text ON post.text = text.n WHERE text.copies > 0 GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    found = []
    for number, posts, texts, accounts, first, last in rows:
        text, language = store.sql.execute(
            "SELECT text, language FROM text WHERE copies = ? ORDER BY posts DESC, n LIMIT 1", (number,)
        ).fetchone()
        found.append(CopyGroup(number, text, language, posts, texts, accounts, first, last))
    return tuple(found)


def _popular(store: PostStore, table: str, column: str, language: str | None = None) -> tuple[Popular, ...]:
    where, arguments = ("", ()) if language is None else ("AND text.language = ?", (language,))
    join = "" if language is None else "JOIN text ON text.n = post.text"
    rows = store.sql.execute(
        f"SELECT {column}, COUNT(DISTINCT post.n), COUNT(DISTINCT NULLIF(account, '')) FROM {table} "  # noqa: S608
        f"JOIN post ON post.n = {table}.post {join} WHERE {column} <> '' {where} "
        f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {POPULAR}",
        arguments,
    )
    return tuple(Popular(*row) for row in rows)


def _languages(store: PostStore, clusters: tuple[Cluster, ...]) -> tuple[Language, ...]:
    rows = store.sql.execute(
        "SELECT language, COUNT(*), COUNT(DISTINCT text.n), COUNT(DISTINCT NULLIF(account, '')) FROM post "
        "JOIN text ON post.text = text.n GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    return tuple(
        Language(
            code, posts, texts, accounts, sum(cluster.language == code for cluster in clusters),
            _popular(store, "tag", "tag", code)[:10], _popular(store, "link", "domain", code)[:10],
        )
        for code, posts, texts, accounts in rows
    )  # fmt: skip


def _map(
    store: PostStore, vectors: Any, parts: dict[str, npt.NDArray[np.int64]], options: PostOptions
) -> tuple[tuple[float, float, int], ...]:
    """Two coordinates of a sample of texts, drawn by chance with a fixed seed."""
    if store.texts < 3:
        return ()
    numbers = np.concatenate(list(parts.values()))
    chosen = np.sort(np.random.default_rng(0).permutation(len(numbers))[:MAP_POINTS])
    sample = np.asarray(vectors[chosen])
    if options.points == "umap" and len(sample) > 15:
        reducer = require("map", "umap").UMAP(n_components=2, metric="cosine", random_state=0, n_jobs=1)
        flat = np.asarray(reducer.fit_transform(sample))
    else:
        centred = sample - sample.mean(axis=0)
        flat = centred @ np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
    cluster = dict(store.sql.execute("SELECT n, cluster FROM text WHERE cluster > 0"))
    return tuple((float(x), float(y), cluster.get(int(n), 0)) for (x, y), n in zip(flat, numbers[chosen], strict=True))


def _report(
    store: PostStore, source: str, rows: int, options: PostOptions, encoder: str, timeline: Timeline,
    points: tuple[tuple[float, float, int], ...],
) -> PostReport:  # fmt: skip
    clusters = _clusters(store, timeline, options.by_language)
    problems = dict(store.sql.execute("SELECT kind, COUNT(*) FROM problem GROUP BY 1 ORDER BY 2 DESC, 1"))
    examples = {
        kind: tuple(store.sql.execute("SELECT row, detail FROM problem WHERE kind = ? ORDER BY row LIMIT 5", (kind,)))
        for kind in problems
    }
    return PostReport(
        source=source,
        encoder=encoder,
        rows=rows + problems.get("broken row", 0),
        posts=store.one("SELECT COUNT(*) FROM post"),
        accounts=store.one("SELECT COUNT(DISTINCT NULLIF(account, '')) FROM post"),
        texts=store.texts,
        without_text=store.one("SELECT COUNT(*) FROM post WHERE text IS NULL"),
        problems=problems,
        examples=examples,
        languages=_languages(store, clusters),
        clusters=clusters,
        copies=_copies(store),
        links=_popular(store, "link", "link"),
        domains=_popular(store, "link", "domain"),
        tags=_popular(store, "tag", "tag"),
        timeline=timeline,
        bursts=_timed(timeline, timeline.counts, None) if timeline.counts else (),
        map=points,
    )
