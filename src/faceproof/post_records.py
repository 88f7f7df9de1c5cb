"""How posts are looked at, and what is found in them: records handed from the analysis to pages and tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from faceproof.copies import ALIKE
from faceproof.encoders import DEFAULT_ENCODER
from faceproof.errors import UsageError
from faceproof.extras import require

__all__ = ["Cluster", "CopyGroup", "Language", "Popular", "PostOptions", "PostReport", "TimedBurst", "Timeline"]


@dataclass(frozen=True)
class PostOptions:
    """How posts are looked at.

    Attributes:
        encoder: of `encoders.load_encoder`.
        threads: for it.
        threshold: cosine with the middle of a cluster, 0.6 in FIELD.md 1.1.
        minimum: posts of a cluster.
        alike: Jaccard index from which on texts are copies.
        by_language: cluster each language by itself.
        points: "pca", "umap" or "none": how the map is made.
        columns: role -> column, for tables with names of their own.
        now: seconds since 1970 after which (plus a day) a time lies in the future; the clock's if None.
    """

    encoder: str = DEFAULT_ENCODER
    threads: int = 1
    threshold: float = 0.6
    minimum: int = 10
    alike: float = ALIKE
    by_language: bool = True
    points: str = "pca"
    columns: dict[str, str] = field(default_factory=dict)
    now: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UsageError(f"a threshold is a cosine above 0 and up to 1, not {self.threshold}")
        if self.minimum < 2:
            raise UsageError(f"a cluster has at least 2 posts, not {self.minimum}")
        if self.points not in ("pca", "umap", "none"):
            raise UsageError(f"a map is made with pca, umap or none, not {self.points!r}")
        if self.points == "umap":
            require("map", "umap")


@dataclass(frozen=True)
class TimedBurst:
    """A burst: first and last second (the last one excluded), posts, posts to expect, and its p (see `bursts`)."""

    start: int
    end: int
    posts: int
    expected: float
    p: float


@dataclass(frozen=True)
class Cluster:
    """Posts about one thing.

    Attributes:
        number: from 1, the largest first.
        language: of its texts; "all" where languages were not told apart.
        posts, texts, accounts: in it; texts are different ones.
        words: those that set it apart, with their weights, from its language's other clusters.
        samples: its most frequent texts.
        first, last: seconds since 1970; None without times.
        bursts: against all posts.
    """

    number: int
    language: str
    posts: int
    texts: int
    accounts: int
    words: tuple[tuple[str, float], ...]
    samples: tuple[str, ...]
    first: float | None
    last: float | None
    bursts: tuple[TimedBurst, ...]


@dataclass(frozen=True)
class CopyGroup:
    """Posts with nearly the same text: the most frequent text of them, and how many there are."""

    number: int
    text: str
    language: str
    posts: int
    texts: int
    accounts: int
    first: float | None
    last: float | None


@dataclass(frozen=True)
class Popular:
    """A link, domain or hashtag, with the posts and accounts that have it."""

    name: str
    posts: int
    accounts: int


@dataclass(frozen=True)
class Language:
    """The posts in one language; `tags` and `domains` are its most frequent ones."""

    code: str
    posts: int
    texts: int
    accounts: int
    clusters: int
    tags: tuple[Popular, ...]
    domains: tuple[Popular, ...]


@dataclass(frozen=True)
class Timeline:
    """Posts in bins of `width` seconds, the first one beginning at `start`; empty without times."""

    start: int
    width: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class PostReport:
    """What was found in a table of posts.

    Attributes:
        rows: read from the table; posts: of them, those that count; texts: different ones.
        without_text: posts with nothing but links and mentions, or empty.
        problems: kind -> rows; examples: kind -> the first rows with what was found there.
        map: (x, y, cluster), a sample; copies: groups of two posts or more.
    """

    source: str
    encoder: str
    rows: int
    posts: int
    accounts: int
    texts: int
    without_text: int
    problems: dict[str, int]
    examples: dict[str, tuple[tuple[int, str], ...]]
    languages: tuple[Language, ...]
    clusters: tuple[Cluster, ...]
    copies: tuple[CopyGroup, ...]
    links: tuple[Popular, ...]
    domains: tuple[Popular, ...]
    tags: tuple[Popular, ...]
    timeline: Timeline
    bursts: tuple[TimedBurst, ...]
    map: tuple[tuple[float, float, int], ...]
