"""Tables of others: formats, encodings, broken rows, times."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from faceproof.errors import UsageError
from faceproof.rows import LONGEST, Problem, Table, seconds

ROLES = {"id": ("id", "post_id"), "text": ("text", "body")}


def _read(path: Path, **options: Any) -> tuple[list[tuple[int, Any, Any]], list[Problem]]:
    problems: list[Problem] = []
    table = Table(path, ROLES, on_problem=problems.append, **options)
    return [(row.number, row.values["id"], row.values["text"]) for row in table], problems


def test_the_same_rows_from_every_format(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": "1", "text": "one"}, {"id": "2", "text": 'two, "quoted"\nand a second line'}]
    (tmp_path / "a.csv").write_text('id,text\n1,one\n2,"two, ""quoted""\nand a second line"\n')
    (tmp_path / "a.tsv").write_text('ID\tText\n1\tone\n2\t"two, ""quoted""\nand a second line"\n')
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.parquet"):
        found, problems = _read(tmp_path / name, needed=["text"])
        assert [row[1:] for row in found] == [("1", rows[0]["text"]), ("2", rows[1]["text"])], name
        assert not problems


def test_broken_rows_are_named_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1,one\n2\n3,a,b,c\n\n4,caf\xe9\n5,nul\0l\n6,six\n")
    found, problems = _read(path)
    assert found == [(2, "1", "one"), (6, "4", "caf\u00e9"), (7, "5", "nul\ufffdl"), (8, "6", "six")]
    assert [(p.row, p.kind) for p in problems] == [
        (3, "broken row"), (4, "broken row"), (6, "not UTF-8, read as Windows-1252"),
    ]  # fmt: skip
    assert "1 fields instead of 2" in problems[0].detail
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "text": "a"}\n{"id": 2, "te\n[1]\n' + "[" * 100_000 + '\n{"body": "b"}\n')
    found, problems = _read(path)
    assert found == [(1, 1, "a"), (5, None, "b")]
    assert [p.row for p in problems] == [2, 3, 4]
    assert all(len(p.detail) <= 200 for p in problems)


def test_an_open_quotation_mark_and_endless_lines_cost_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,one\n2,"open\n' + "3,three\n" * 200_000)
    found, problems = _read(path)
    assert found[0] == (2, "1", "one")
    assert problems[0].kind == "broken row"
    assert "quotation mark" in problems[0].detail
    path.write_text("id,text\n1," + "x" * (3 * LONGEST) + "\n2,two\n")
    found, problems = _read(path)
    assert [row[1] for row in found] == ["2"]
    assert f"more than {LONGEST} bytes" in problems[0].detail


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_marks_of_windows_are_understood(tmp_path: Path, encoding: str) -> None:
    text = "id,text\r\n1,Gr\u00fc\u00dfe \U0001f600\r\n"
    data = text.encode(encoding)
    (tmp_path / "a.csv").write_bytes(b"\xfe\xff" + data if encoding == "utf-16-be" else data)
    assert _read(tmp_path / "a.csv") == ([(2, "1", "Gr\u00fc\u00dfe \U0001f600")], [])


def test_columns_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("nr,Body,text\n1,b,t\n2,,t\n")
    assert _read(tmp_path / "a.csv", chosen={"id": "NR"})[0] == [(2, "1", "t"), (3, "2", "t")]
    assert _read(tmp_path / "a.csv", chosen={"text": "body"})[0][1] == (3, None, None)
    with pytest.raises(
        UsageError, match=r"no column for id \(looked for id, post_id; it has nr, Body, text\); name it"
    ):
        _read(tmp_path / "a.csv", needed=["id"])
    with pytest.raises(UsageError, match="no role 'age' for a column; known: id, text"):
        _read(tmp_path / "a.csv", chosen={"age": "x"})


@pytest.mark.parametrize(("name", "message"), [("no.csv", "no table at"), ("a.xlsx", r"unknown ending.*\.parquet")])
def test_no_table(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _read(tmp_path / name)


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UsageError, match="cannot be read"):
        _read(tmp_path / "a.parquet")


NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-01T12:00:00Z", "2024-05-01 12:00", "2024-05-01T14:00:00+02:00", "2024-05-01 12:00:00 UTC",
        "Wed May 01 12:00:00 +0000 2024", "Wed, 01 May 2024 12:00:00 GMT", "1714564800", "1714564800000",
        1714564800, 1714564800.0, NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=9))),
    ],
)  # fmt: skip
def test_times(value: Any) -> None:
    assert seconds(value) == NOON.timestamp()


def test_clocks_before_1970_are_times() -> None:
    assert seconds("1969-12-31T23:59:59Z") == -1
    assert seconds(-86400) == -86400


@pytest.mark.parametrize("value", ["", "yesterday", "2024-13-01", "nan", float("inf"), 1e300, True, "1e400", None, [1]])
def test_no_times(value: Any) -> None:
    with pytest.raises(ValueError, match="no time"):
        seconds(value)
