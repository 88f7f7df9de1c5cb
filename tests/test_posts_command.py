"""`faceproof posts`: planted clusters, copies and bursts are found; bad rows are counted; the page stands alone."""

from __future__ import annotations

import csv
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from faceproof.errors import UsageError
from tests.helpers import run_cli

pytest.importorskip("py3langid", reason="extra posts")

from faceproof.post_records import PostOptions, PostReport
from faceproof.posts import open_analysis

DAY0 = 1_700_000_000
SUBJECTS = (
    "The cat",
    "My neighbour",
    "A tourist",
    "The old teacher",
    "Our team",
    "The mayor",
    "Her brother",
    "A farmer",
)
VERBS = ("visited", "painted", "forgot", "repaired", "praised", "sold", "measured", "lost", "described", "followed")
THINGS = ("a bridge", "the garden", "three books", "an engine", "the museum", "a violin", "some bread", "the harbour")
PLACES = ("near the river", "in spring", "after lunch", "with great care", "during the storm", "on Monday", "at night")
TOKENS = ("MoonCoin", "StarToken", "GoldChain", "FastPay")


def _posts(count: int = 400, planted: int = 40) -> list[dict[str, Any]]:
    """Everyday sentences spread over 30 days; planted: the same advertisement, slightly varied, within three hours."""
    rng = random.Random(4)
    rows = []
    for n in range(count):
        text = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(THINGS)} {rng.choice(PLACES)}."
        rows.append({"id": f"p{n}", "account": f"a{n % 120}", "time": DAY0 + rng.random() * 30 * 86400, "text": text})
    for n in range(planted):
        text = (
            f"Huge chance today: buy {rng.choice(TOKENS)} and double your money in one week, join our channel now "
            f"https://t.co/{n % 3} #crypto"
        )
        when = DAY0 + 12 * 86400 + rng.random() * 3 * 3600
        rows.append({"id": f"s{n}", "account": f"bot{n % 20}", "time": when, "text": text})
    rng.shuffle(rows)
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _report(path: Path, **options: Any) -> PostReport:
    with open_analysis(path, PostOptions(**options)) as (report, _):
        return report


def test_what_was_planted_is_found(tmp_path: Path) -> None:
    report = _report(_write(tmp_path / "p.csv", _posts()), minimum=15)
    assert (report.posts, report.rows, report.accounts, report.problems) == (440, 440, 140, {})
    planted = next(cluster for cluster in report.clusters if cluster.accounts == 20)
    assert planted.posts == 40
    assert {"channel", "money", "double"} & {word for word, _ in planted.words}
    assert not {"the", "in"} & {word for word, _ in planted.words}
    (burst,) = planted.bursts
    assert burst.start <= DAY0 + 12 * 86400 + 3600
    assert burst.end >= DAY0 + 12 * 86400 + 2 * 3600
    assert burst.posts >= 38
    assert burst.p < 1e-6
    assert report.copies[0].posts == 40
    assert report.copies[0].accounts == 20
    assert [(d.name, d.posts, d.accounts) for d in report.domains] == [("t.co", 40, 20)]
    assert [(t.name, t.posts) for t in report.tags] == [("crypto", 40)]
    assert sum(report.timeline.counts) == 440
    assert len(report.bursts) == 1
    english = next(one for one in report.languages if one.code == "en")
    assert english.posts > 400
    assert english.tags[0].name == "crypto"


def test_formats_and_encoders_agree_on_copies(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _posts(60, 20)
    _write(tmp_path / "p.csv", rows)
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    found = [_report(tmp_path / f"p.{e}", encoder="words", points="none") for e in ("csv", "jsonl", "parquet")]
    assert {(r.posts, r.texts, r.copies[0].posts, r.clusters[0].posts) for r in found} == {(80, found[0].texts, 20, 20)}


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    lines = [
        b"id,account,time,text",
        b"1,a,2024-01-01,The weather is fine today and tomorrow",
        b"1,b,2024-01-01,repeated",
        b"2,a,1960-05-01,before there were clocks like this one",
        b"3,,2024-01-02,nobody wrote this sentence about the sea",
        b"4,a,yesterday,a time that is no time at all, said twice",
        b"5,a,yesterday,a time that is no time at all",
        b"6,a,2999-01-01,from a future that is far away",
        b"7,a,,without any time but with some words",
        b"8,a,2024-01-03,",
        b"9,a,2024-01-03,https://only.link/x @you",
        b"10,a,2024-01-03,caf\xe9 au lait et croissant le matin",
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    with open_analysis(path, PostOptions(encoder="words")) as (report, store):
        assert report.problems == {
            "broken row": 1, "clock before 1970": 1, "clock in the future": 1, "empty text": 1, "no account": 1,
            "no time": 1, "not UTF-8, read as Windows-1252": 1, "repeated id": 1, "time cannot be read": 1,
        }  # fmt: skip
        assert report.rows == 11
        assert report.posts == 9  # all but the broken and the repeated row
        assert report.without_text == 2
        assert sum(report.timeline.counts) == 5
        assert store.one("SELECT COUNT(*) FROM problem") == 9
    assert report.examples["broken row"][0][0] == 6
    assert report.links[0].name == "https://only.link/x"
    done = run_cli("posts", path, "--out", tmp_path / "p.html", "--tables", tmp_path / "t", "--encoder", "words")
    assert done.returncode == 1
    assert "1 rows: clock before 1970" in done.stderr
    named = (tmp_path / "t" / "problems.csv").read_text()
    assert named.count("\n") == 2 + 9
    assert "1960-05-01" in named
    assert "1960-05-01" in (tmp_path / "p.html").read_text()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_stands_alone_and_runs_nothing(tmp_path: Path) -> None:
    rows = _posts(30, 20)
    for row in rows[:6]:
        row["text"] = "<script>alert(1)</script><img src=x onerror=alert(2)> \"quoted\" & 'more' words of one kind #<b>"
    path = _write(tmp_path / "p.csv", rows)
    done = run_cli("posts", path, "--out", tmp_path / "p.html", "--encoder", "words", "--min-cluster", "5", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "p.html").read_text()
    parsed = _Page()
    parsed.feed(text)
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "form", "a"}
    assert not any(name.startswith("on") or name in ("src", "href") for _, attrs in parsed.tags for name in attrs)
    assert any("default-src 'none'" in str(attrs.get("content")) for tag, attrs in parsed.tags if tag == "meta")
    assert "&lt;script&gt;" in text
    for heading in ("When", "Clusters", "Copied texts", "Links", "Hashtags", "Languages", "What could not be read"):
        assert f"<h2>{heading}</h2>" in text


def test_tables_and_salt(tmp_path: Path) -> None:
    rows = _posts(60, 20)
    rows[0]["text"] = "=cmd()|calc and other words about cooking"
    path = _write(tmp_path / "p.csv", rows)
    (tmp_path / "secret").write_text("correct horse\n")
    run = ("posts", path, "--out", tmp_path / "p.html", "--encoder", "words", "-q")
    assert run_cli(*run, "--tables", tmp_path / "a").returncode == 0
    assert run_cli(*run, "--tables", tmp_path / "b", "--salt", f"@{tmp_path / 'secret'}").returncode == 0
    assert run_cli(*run, "--tables", tmp_path / "c", "--salt", "correct horse").returncode == 0
    plain, hidden = ((tmp_path / name / "posts.csv").read_text() for name in "ab")
    assert hidden == (tmp_path / "c" / "posts.csv").read_text()
    assert "bot3" in plain
    for name in ("posts.csv", "problems.csv", "copies.csv"):
        assert not re.search(r"\bbot\d|\bs\d+\b|correct horse", (tmp_path / "c" / name).read_text())
    read = [list(csv.DictReader(t.splitlines()[1:])) for t in (plain, hidden)]
    assert [row["cluster"] for row in read[0]] == [row["cluster"] for row in read[1]]
    assert len({row["account"] for row in read[0]}) == len({row["account"] for row in read[1]})
    assert all(len(row["account"]) == 16 for row in read[1])
    assert {row["copies"] for row in read[0] if row["account"].startswith("bot")} == {"1"}
    done = run_cli(*run, "--salt", "short")
    assert done.returncode == 2
    assert "at least 8 characters" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.csv", "-o", "p.html"], "no table at no.csv"),
        (["p.csv", "-o", "p.pdf"], "the page is an .html file"),
        (["p.csv", "-o", "no/p.html"], "lies in no folder"),
        (["p.csv", "-o", "p.html", "--column", "text"], "is not ROLE=NAME"),
        (["p.csv", "-o", "p.html", "--column", "text=nothing"], r"has no column for text (looked for nothing"),
        (["p.csv", "-o", "p.html", "--threshold", "7"], "a threshold is a cosine"),
        (["p.csv", "-o", "p.html", "--min-cluster", "1"], "at least 2 posts"),
        (["p.csv", "-o", "p.html", "--map", "tsne"], "pca, umap or none"),
        (["p.csv", "-o", "p.html", "--salt", "@nowhere"], "the file cannot be read"),
        (["empty.csv", "-o", "p.html"], "holds no post"),
    ],
)
def test_wrong_use_is_two(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "p.csv").write_text("id,text\n1,some words in a row\n")
    (tmp_path / "empty.csv").write_text("id,text\n")
    done = run_cli("posts", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "p.html").exists()


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="at least 2 posts"):
        PostOptions(minimum=1)


def test_a_sentence_transformers_model_that_is_not_there(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.csv", _posts(5, 2))
    done = run_cli("posts", path, "-o", tmp_path / "p.html", "--encoder", "no-such-model", env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2
    assert "faceproof[sentences]" in done.stderr or "cannot load" in done.stderr
