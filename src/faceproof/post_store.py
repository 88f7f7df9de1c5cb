"""Posts on disk while they are looked at: an SQLite file that is thrown away, so that memory stays flat.

Texts that differ in case, punctuation, links and mentions only are stored once.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import OutputError
from faceproof.inputs import IdSet
from faceproof.language import LanguageFinder
from faceproof.rows import Problem, Row, Table, seconds
from faceproof.tables import well_formed
from faceproof.texts import domain, hashtags, key, links, plain_text

__all__ = ["ROLES", "PostStore", "read_posts"]

ROLES = {
    "text": ("text", "full_text", "content", "body", "message", "post", "tweet"),
    "id": ("id", "post_id", "tweet_id", "status_id", "id_str"),
    "account": ("account", "account_id", "user_id", "author_id", "author", "user", "screen_name", "username"),
    "time": ("time", "created_at", "timestamp", "date", "datetime", "published_at"),
}
DAY = 86400.0
_SCHEMA = """
CREATE TABLE post (n INTEGER PRIMARY KEY, id TEXT, account TEXT, time REAL, text INTEGER);
CREATE TABLE text (n INTEGER PRIMARY KEY, key BLOB UNIQUE, text TEXT, language TEXT, posts INTEGER,
                   cluster INTEGER DEFAULT 0, copies INTEGER DEFAULT 0);
CREATE TABLE link (post INTEGER, link TEXT, domain TEXT);
CREATE TABLE tag (post INTEGER, tag TEXT);
CREATE TABLE problem (row INTEGER, kind TEXT, detail TEXT);
"""


class PostStore:
    """The tables `post`, `text`, `link`, `tag` and `problem` of one analysis.

    Args:
        folder: for the file; it may grow to a few times the size of the posts.

    Attributes:
        sql: the connection. Texts are numbered 0, 1, ...; `text.cluster` and `text.copies` are 0 for none.

    Raises:
        OutputError: the file cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            self.sql = sqlite3.connect(Path(folder) / "posts.sqlite", isolation_level=None)
            self.sql.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;")
            self.sql.executescript(_SCHEMA + "BEGIN;")
        except sqlite3.Error as err:
            raise OutputError(f"cannot keep posts in {folder} ({err}); check its permissions and the disk") from err
        self._texts = 0

    def __enter__(self) -> PostStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.sql.close()

    def problem(self, found: Problem) -> None:
        """Keep what was wrong with a row."""
        row = (found.row, found.kind, well_formed(found.detail))
        self.sql.execute("INSERT INTO problem VALUES (?, ?, ?)", row)

    def add(self, number: int, row: tuple[str, str, float | None], text: str, language: Callable[[str], str]) -> None:
        """Keep one post: its number, (id, account, time), and its text."""
        plain = plain_text(text)
        place = self._text(plain, language) if plain else None
        self.sql.execute("INSERT INTO post VALUES (?, ?, ?, ?, ?)", (number, *row, place))
        self.sql.executemany("INSERT INTO link VALUES (?, ?, ?)", [(number, one, domain(one)) for one in links(text)])
        self.sql.executemany("INSERT INTO tag VALUES (?, ?)", [(number, one) for one in hashtags(text)])

    def _text(self, plain: str, language: Callable[[str], str]) -> int:
        own = key(plain)
        found = self.sql.execute("SELECT n FROM text WHERE key = ?", (own,)).fetchone()
        if found:
            self.sql.execute("UPDATE text SET posts = posts + 1 WHERE n = ?", found)
            return int(found[0])
        place, self._texts = self._texts, self._texts + 1
        self.sql.execute(
            "INSERT INTO text (n, key, text, language, posts) VALUES (?, ?, ?, ?, 1)",
            (place, own, plain, language(plain)),
        )
        return place

    def finish(self) -> None:
        """Call when all posts are there: makes what queries need."""
        self.sql.executescript(
            "CREATE INDEX post_text ON post (text); CREATE INDEX link_post ON link (post);"
            "CREATE INDEX tag_post ON tag (post);"
        )

    @property
    def texts(self) -> int:
        """How many different texts there are."""
        return self._texts

    def one(self, query: str, *arguments: Any) -> Any:
        """Return the first column of a query's first row."""
        return self.sql.execute(query, arguments).fetchone()[0]

    def posts_of_texts(self) -> npt.NDArray[np.int64]:
        """How many posts each text stands for, (texts,) int64."""
        return np.fromiter((row[0] for row in self.sql.execute("SELECT posts FROM text ORDER BY n")), np.int64)

    def read(self, numbers: Sequence[int]) -> dict[int, str]:
        """Return texts by their numbers."""
        found: dict[int, str] = {}
        for start in range(0, len(numbers), 500):
            part = [int(n) for n in numbers[start : start + 500]]
            marks = ",".join("?" * len(part))
            found.update(self.sql.execute(f"SELECT n, text FROM text WHERE n IN ({marks})", part))  # noqa: S608
        return found

    def each_text(self) -> Iterator[str]:
        """Yield every text by its number."""
        for start in range(0, self._texts, 1000):
            rows = self.sql.execute("SELECT text FROM text WHERE n >= ? AND n < ? ORDER BY n", (start, start + 1000))
            yield from (row[0] for row in rows.fetchall())

    def label(self, column: str, values: Iterable[tuple[int, int]]) -> None:
        """Set `cluster` or `copies` of texts: (value, text)."""
        assert column in ("cluster", "copies")
        self.sql.executemany(f"UPDATE text SET {column} = ? WHERE n = ?", values)  # noqa: S608 -- one of two names


def read_posts(
    table: Table, store: PostStore, *, now: float | None = None, progress: Callable[[int], None] = lambda rows: None
) -> int:
    """Read posts into the store; return how many rows were read.

    What is wrong is kept as a problem: a repeated id (the first post counts), an empty text, no account, no time, a
    time that cannot be read, lies before 1970 or in the future (the post counts, without a time).

    Args:
        table: with the roles `ROLES`.
        store: to fill.
        now: seconds since 1970, for the future; the clock's if None.
        progress: called with the rows read so far.
    """
    finder = LanguageFinder()
    latest = (time.time() if now is None else now) + DAY
    seen, rows = IdSet(), 0
    for row in table:
        rows += 1
        name = _name(row.values["id"])
        if name and not seen.add(name):
            store.problem(Problem(row.number, "repeated id", name[:200]))
            continue
        text = well_formed(str(row.values["text"] or ""))
        if not text.strip():
            store.problem(Problem(row.number, "empty text", name[:200]))
        account = _name(row.values["account"])
        if not account:
            store.problem(Problem(row.number, "no account", name[:200]))
        when = _time(row, latest, store)
        store.add(row.number, (name or f"row {row.number}", account, when), text, finder.find)
        if rows % 500 == 0:
            progress(rows)
    store.finish()
    progress(rows)
    return rows


def _name(value: Any) -> str:
    """An id as text: 12 and 12.0 (a column of floats with gaps) are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else well_formed(str(value).strip())


def _time(row: Row, latest: float, store: PostStore) -> float | None:
    value = row.values["time"]
    if value is None:
        store.problem(Problem(row.number, "no time"))
        return None
    try:
        when = seconds(value)
    except ValueError as err:
        store.problem(Problem(row.number, "time cannot be read", str(err)[:200]))
        return None
    if 0 < when <= latest:
        return when
    kind = "clock in the future" if when > 0 else "clock before 1970"
    store.problem(Problem(row.number, kind, well_formed(str(value))[:200]))
    return None
