"""Results on disk: what goes in comes out, once; what was there is never lost; a full disk is an error, not a loss."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from faceproof import Face, ImageResult, Inputs, Options, OutputError, QualityReason, Stability, UsageError, Verdict
from faceproof.records import SCHEMA, Evidence
from faceproof.reports import CSV_COLUMNS, ResultFile, open_results, scan_to_file, to_json
from tests.helpers import command, encode, environment, limited, read_records, run_cli

ENDINGS = (".jsonl", ".ndjson", ".csv", ".parquet")
COLLECTED = (".csv", ".parquet")
"""Made from a journal when the run ends."""


# ---- results to write

QUALITY = QualityReason("too_small", "too small: the face covers 20 px, at least 80 are needed", 20.25, 80.0)


def make_face(score: float = 1.5, quality: tuple[QualityReason, ...] = (), **other: Any) -> Face:
    label = "inconclusive" if quality else "generated" if score > 0 else "photograph"
    evidence = (Evidence("detector test 1", score, f"score {score:+.2f}; said so"),)
    said = ("first; reason", "second")
    verdict = Verdict(
        label, score, score, 0.5 + score / 100, 0.95, 0.01, (0.9, 0.96), evidence=evidence, reasons=said
    )  # type: ignore[arg-type]  # fmt: skip
    values: dict[str, Any] = {
        "box": (1.25, 2.5, 90.0, 100.75),
        "landmarks": ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.25, -10.5)),
        "confidence": 0.98765,
    }
    return Face(**{**values, "quality": quality, "verdict": verdict, **other})


def make_result(
    path: str = "a.jpg", faces: tuple[Face, ...] = (), error: str | None = None, **other: Any
) -> ImageResult:
    values: dict[str, Any] = {
        "model": "test 1 (0123456789ab)",
        "face_detector": "retinaface",
        "version": "0.1.0",
        "threshold": 0.95,
        "threshold_fpr": 0.01,
        "band": (0.9, 0.96),
        "sha256": None if error else "0" * 64,
        "width": 0 if error else 640,
        "height": 0 if error else 480,
    }
    status: Any = "error" if error is not None else "ok" if faces else "no_face"
    return ImageResult(path, status, faces=faces, error=error, **{**values, **other})


def some(number: int, start: int = 0) -> list[ImageResult]:
    """Results of every kind, with paths that are told apart by their number."""
    kinds: list[dict[str, Any]] = [
        {"faces": (make_face(2.5),)},
        {},
        {"error": "the picture's data are damaged or truncated; get the original file again"},
        {
            "faces": (make_face(-3.25), make_face(4.0, (QUALITY,)), make_face(0.75)),
            "notes": ("the file is named like PNG but holds JPEG",),
        },
        {
            "faces": (make_face(1.0, (QUALITY, QUALITY)),),
            "notes": ("transparent parts laid over white", "first frame only"),
        },
    ]
    return [
        make_result(f"folder/{index:04d}.jpg", **kinds[index % len(kinds)]) for index in range(start, start + number)
    ]


def write(out: Path, results: list[ImageResult], *, finish: bool = True, **options: Any) -> None:
    with open_results(str(out), **options) as file:
        for result in results:
            file.write(result)
        if finish:
            file.finish()


def journal_of(out: Path) -> Path:
    return out.with_name(out.name + ".partial.jsonl")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- readers that do not come from faceproof


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows as any CSV reader gives them, its limit on fields as it is by default."""
    csv.field_size_limit(131_072)
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_back(path: Path) -> list[dict[str, Any]]:
    """Records of a results file of any ending as `to_dict()` has them; CSV lacks what is not in its columns."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows
    if path.suffix == ".csv":
        return [from_csv(row) for row in read_csv(path)]
    return read_records(path)


def from_csv(row: dict[str, str]) -> dict[str, Any]:
    """A row's cells, put back into the record: the inverse of what the documentation says of the CSV."""
    cells = {key: value[1:] if value.startswith("'") else value for key, value in row.items()}
    record: dict[str, Any] = {key: cells[key] or None for key in ("sha256", "error", "verdict")}
    record |= {key: cells[key] for key in ("path", "status", "model", "face_detector", "version", "schema")}
    record |= {key: int(cells[key]) for key in ("width", "height")}
    for key in ("score", "log_odds", "probability", "threshold", "threshold_fpr", "alpha"):
        record[key] = float(row[key]) if row[key] else None
    record["alarm"] = {"True": True, "False": False}.get(row["alarm"])
    record["faces"] = json.loads(row["faces_json"])
    record["notes"] = cells["notes"].split("; ") if cells["notes"] else []
    return record


def same_as(results: list[ImageResult], ending: str) -> list[dict[str, Any]]:
    """What `read_back` must give."""
    records = [result.to_dict() for result in results]
    if ending == ".csv":
        for record in records:
            del record["band"]  # see test_csv_has_every_field
    return records


def paths_in(path: Path) -> list[str]:
    return [record["path"] for record in read_back(path)]


# ---- round trips

numbers = st.floats(-1e6, 1e6)
shares = st.floats(0, 1)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NOTES = ("16-bit samples scaled to 8", "transparent parts laid over white", "the file is named like PNG but holds JPEG")


@st.composite
def faces(draw: st.DrawFn) -> Face:
    (x0, x1), (y0, y1) = (sorted(draw(st.tuples(numbers, numbers))) for _ in range(2))
    points = draw(st.tuples(*[st.tuples(numbers, numbers)] * 5))
    quality = draw(
        st.lists(st.builds(QualityReason, st.sampled_from(["blurred", "profile"]), words, numbers, numbers), max_size=2)
    )
    band = sorted(draw(st.tuples(shares, shares)))
    label = "inconclusive" if quality else draw(st.sampled_from(["photograph", "generated", "inconclusive"]))
    evidence = draw(st.lists(st.builds(Evidence, words, numbers, words), max_size=2))
    reasons = draw(st.lists(words, max_size=3))
    steps = draw(st.lists(st.tuples(words, shares), min_size=1, max_size=3))
    verdict = Verdict(
        label,
        draw(numbers),
        sum(piece.weight for piece in evidence) if evidence else draw(numbers),
        draw(shares),
        draw(shares),
        draw(shares),
        (band[0], band[1]),
        draw(st.none() | shares),
        tuple(evidence),
        draw(st.booleans()),
        draw(st.none() | st.just(Stability(tuple(steps), (steps[0][0],)))),
        tuple(reasons),
    )
    return Face((x0, y0, x1, y1), points, draw(shares), tuple(quality), verdict)


@st.composite
def results_lists(draw: st.DrawFn) -> list[ImageResult]:
    # Commas, quotes, line ends, formulas and NUL are what tells a good CSV from a bad one.
    nasty = st.text(st.sampled_from(list("=+-@'\"\t\r\n,;\\\0 a\u202e\u00fc\U0001f600")), min_size=1, max_size=8)
    paths = draw(st.lists(nasty | words.filter(bool), unique=True, min_size=1, max_size=4))
    made = []
    for path in paths:
        kind = draw(st.sampled_from(["ok", "no_face", "error"]))
        found = tuple(draw(st.lists(faces(), min_size=1, max_size=3))) if kind == "ok" else ()
        error = draw(nasty | words.filter(bool)) if kind == "error" else None
        notes = tuple(draw(st.lists(st.sampled_from(NOTES), unique=True, max_size=2)))
        made.append(
            make_result(path, found, error, notes=notes, model=draw(words.filter(bool)), threshold=draw(shares))
        )
    return made


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(made=results_lists())
def test_round_trip(ending: str, tmp_path: Path, made: list[ImageResult]) -> None:
    """Every field comes back from an independent reader, and a resumed run knows every path and changes nothing."""
    out = tmp_path / f"out{ending}"
    write(out, made, overwrite=True)
    assert read_back(out) == same_as(made, ending)
    with open_results(str(out)) as again:
        assert all(result.path in again.done for result in made)
        assert again.total == len(made)
        extra = make_result("one more/file.jpg")
        again.write(extra)
        again.finish()
    assert read_back(out) == same_as([*made, extra], ending)
    assert names_in(tmp_path) == [out.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_counts_are_of_all_runs(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{ending}"
    write(out, some(5))
    with open_results(str(out)) as again:
        assert again.counts == {"ok": 3, "no_face": 1, "error": 1, "generated": 2, "inconclusive": 1}
        again.write(make_result("x", (make_face(-1.0),)))
        assert again.counts["photograph"] == 1
        assert again.total == 6


def test_an_empty_run_is_legal(tmp_path: Path) -> None:
    for ending in ENDINGS:
        write(tmp_path / f"out{ending}", [])
        assert read_back(tmp_path / f"out{ending}") == []
        write(tmp_path / f"out{ending}", some(2))
        assert len(read_back(tmp_path / f"out{ending}")) == 2


def test_json_lines_are_strict_json(tmp_path: Path) -> None:
    """One object a line, UTF-8, no NaN; line separators of Unicode do not break a line."""
    out = tmp_path / "out.jsonl"
    write(out, [make_result("a\u2028b\u0085c\n\ud7ff.jpg")])
    raw = out.read_bytes()
    assert raw.count(b"\n") == 1
    assert json.loads(raw.decode("utf-8"))["schema"] == SCHEMA
    with pytest.raises(ValueError, match="JSON"):
        to_json({"score": float("nan")})


def test_csv_opens_with_the_csv_module(tmp_path: Path) -> None:
    """The row's box is that of the face that speaks for the picture; its quality that of the face shown."""
    out = tmp_path / "out.csv"
    decisive = make_face(3.0, box=(10.0, 20.0, 30.0, 40.0))
    write(
        out,
        [
            make_result("two.jpg", (make_face(1.0), decisive)),
            make_result("unfit.jpg", (make_face(9.0, (QUALITY,)),)),
            make_result("none.jpg"),
        ],
    )
    two, unfit, none = read_csv(out)
    assert tuple(two) == CSV_COLUMNS
    assert [float(two[key]) for key in ("x0", "y0", "x1", "y1", "score")] == [10, 20, 30, 40, 3]
    assert (two["faces"], two["verdict"], two["quality"]) == ("2", "generated", "")
    assert (unfit["verdict"], unfit["quality"], unfit["score"], unfit["x0"]) == (
        "inconclusive",
        "too_small",
        "",
        "1.25",
    )
    assert (none["status"], none["faces"], none["faces_json"], none["x0"], none["verdict"]) == (
        "no_face",
        "0",
        "[]",
        "",
        "",
    )


def test_csv_has_every_field(tmp_path: Path) -> None:
    """Nothing that JSON lines and Parquet hold is missing: a verdict cannot be understood without its band."""
    out = tmp_path / "out.csv"
    write(out, [make_result()])
    missing = {key for key in make_result().to_dict() if not any(column.startswith(key) for column in read_csv(out)[0])}
    assert missing == set()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'"])
def test_csv_runs_no_formula(start: str, tmp_path: Path) -> None:
    """A cell that begins like a formula gets an apostrophe; numbers do not, or they would be text."""
    out = tmp_path / "out.csv"
    path = start + "cmd|' /C calc'!A0.jpg"
    write(out, [make_result(path, error=start + "1+1"), make_result("b.jpg", (make_face(-4.5),))])
    row, other = read_csv(out)
    assert (row["path"], row["error"]) == ("'" + path, "'" + start + "1+1")
    assert other["score"] == "-4.5"
    with open_results(str(out)) as again:
        assert path in again.done


def test_parquet_opens_with_pyarrow(tmp_path: Path) -> None:
    """Types are the schema's own, also where a run holds no face at all; many records make several row groups."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra [parquet] is not installed")
    few, many = tmp_path / "few.parquet", tmp_path / "many.parquet"
    write(few, [make_result("a.jpg", error="x")])
    write(many, some(5003))
    assert parquet.read_schema(few) == parquet.read_schema(many)
    table = parquet.read_table(many, columns=["path", "score"])
    assert table.num_rows == 5003
    assert str(table.schema.field("score").type) == "double"
    assert table.column("path").to_pylist() == [result.path for result in some(5003)]


def test_tables_open_with_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    made = some(10)
    for ending in COLLECTED:
        write(tmp_path / f"out{ending}", made)
    by_csv, by_parquet = pandas.read_csv(tmp_path / "out.csv"), pandas.read_parquet(tmp_path / "out.parquet")
    for frame in (by_csv, by_parquet):
        assert frame["path"].tolist() == [result.path for result in made]
        scores = [result.to_dict()["score"] for result in made]
        assert [None if pandas.isna(value) else value for value in frame["score"]] == scores
        assert frame["width"].dtype.kind == "i"
    assert len(by_parquet["faces"][3]) == 3


# ---- going on, beginning anew


@pytest.mark.parametrize("ending", COLLECTED)
def test_a_journal_left_by_a_stopped_run_is_used(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{ending}"
    write(out, some(7), finish=False)
    assert not out.exists()
    assert len(read_records(journal_of(out))) == 7
    with open_results(str(out)) as again:
        assert again.total == 7
        assert all(result.path in again.done for result in some(7))
        for result in some(3, start=7):
            again.write(result)
        again.finish()
    assert read_back(out) == same_as(some(10), ending)
    assert names_in(tmp_path) == [out.name]


@pytest.mark.parametrize("ending", COLLECTED)
def test_stopped_between_placing_and_cleaning_up(ending: str, tmp_path: Path) -> None:
    """Finished file and journal hold the same records, a half-written temporary file lies about: none comes twice."""
    out = tmp_path / f"out{ending}"
    write(out, some(6), finish=False)
    saved = journal_of(out).read_bytes()
    write(out, [])
    journal_of(out).write_bytes(saved)
    out.with_name(out.name + ".tmp").write_bytes(b"half a ta")
    write(out, some(2, start=6))
    assert read_back(out) == same_as(some(8), ending)
    assert names_in(tmp_path) == [out.name]


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    """Wherever the power went: the whole records stay, the half one is written again."""
    first, second, third = (to_json(result.to_dict()).encode() + b"\n" for result in some(3))
    out = tmp_path / "out.jsonl"
    for kept in range(len(third)):
        out.write_bytes(first + second + third[:kept])
        with open_results(str(out)) as file:
            assert file.total == 2
            assert "folder/0002.jpg" not in file.done
        assert out.read_bytes() == first + second
    write(out, [some(3)[2]])
    assert out.read_bytes() == first + second + third


@pytest.mark.parametrize("kept", [1, 8, 30, 200])
def test_a_torn_only_line_is_cut_off(kept: int, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(to_json(some(1)[0].to_dict()).encode()[:kept])
    write(out, some(2))
    assert read_back(out) == same_as(some(2), ".jsonl")


def test_a_torn_line_longer_than_a_block(tmp_path: Path) -> None:
    long = make_result("x" * 200_000 + ".jpg", error="y")
    data = to_json(long.to_dict()).encode()
    out = tmp_path / "out.jsonl"
    write(out, some(2))
    with out.open("ab") as stream:
        stream.write(data[:150_000])
    write(out, [long])
    assert read_back(out) == same_as([*some(2), long], ".jsonl")


@pytest.mark.parametrize("ending", COLLECTED)
def test_a_torn_journal_is_cut_off(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{ending}"
    write(out, some(3), finish=False)
    with journal_of(out).open("ab") as stream:
        stream.write(b'{"path":"folder/0003.jp')
    write(out, some(2, start=3))
    assert read_back(out) == same_as(some(5), ending)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("finished", [True, False])
def test_overwrite_begins_anew(ending: str, finished: bool, tmp_path: Path) -> None:
    out = tmp_path / f"out{ending}"
    write(out, some(5), finish=finished)
    with open_results(str(out), overwrite=True) as file:
        assert file.total == 0
        assert "folder/0000.jpg" not in file.done
        file.write(some(1)[0])
        file.finish()
    assert read_back(out) == same_as(some(1), ending)
    assert names_in(tmp_path) == [out.name]


def test_overwrite_takes_a_foreign_file(tmp_path: Path) -> None:
    for ending in ENDINGS:
        out = tmp_path / f"out{ending}"
        out.write_text("mine")
        write(out, some(2), overwrite=True)
        assert read_back(out) == same_as(some(2), ending)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_finished_picture_is_not_checked_again(ending: str, tmp_path: Path, face_jpeg: bytes) -> None:
    """With the real checker: what has its record is skipped, even when the file is gone by now."""
    folder, out = tmp_path / "pictures", tmp_path / f"out{ending}"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(face_jpeg)
    listing = tmp_path / "list.txt"
    listing.write_text("pictures/a.jpg\npictures/b.jpg\n")
    skipped: list[int] = []
    for _ in range(2):
        with open_results(str(out)) as file:
            scan_to_file(Inputs([str(listing)]), file, Options(), workers=1, on_skip=lambda: skipped.append(1))
        (folder / "a.jpg").unlink(missing_ok=True)
    assert len(skipped) == 2
    (folder / "c.jpg").write_bytes(face_jpeg)
    listing.write_text("pictures/a.jpg\npictures/c.jpg\n")
    with open_results(str(out)) as file:
        scan_to_file(Inputs([str(listing)]), file, Options(), workers=1)
    assert [(os.path.basename(record["path"]), record["status"]) for record in read_back(out)] == [
        ("a.jpg", "ok"),
        ("b.jpg", "ok"),
        ("c.jpg", "ok"),
    ]


# ---- what is not ours stays as it is

OURS = to_json(some(1)[0].to_dict())
FOREIGN: dict[str, tuple[str, bytes]] = {
    "a line of text": ("out.jsonl", b"my precious notes\n"),
    "text without a line end": ("out.jsonl", b"my precious notes"),
    "several lines, the last without an end": ("out.jsonl", b'{"id": 1}\n{"id": 2}'),
    "other JSON": ("out.jsonl", b'{"path": "a.jpg", "schema": "other/1"}\n'),
    "an array": ("out.jsonl", b"[1, 2]\n"),
    "ours, then another's": ("out.jsonl", OURS.encode() + b"\nnot ours\n"),
    "only our schema": ("out.jsonl", json.dumps({"schema": SCHEMA}).encode() + b"\n"),
    "path is a number": ("out.jsonl", OURS.replace('"path":"folder/0000.jpg"', '"path":7').encode() + b"\n"),
    "verdict is a list": ("out.jsonl", OURS.replace('"generated","alarm', '[1],"alarm').encode() + b"\n"),
    "deep": ("out.jsonl", b"[" * 100_000 + b"\n"),
    "binary": ("out.jsonl", bytes(range(256)) * 9),
    "other columns": ("out.csv", b"path,label\na.jpg,1\n"),
    "no CSV": ("out.csv", b"\x89PNG\r\n\x1a\n\xff\xff"),
    "our columns, broken rows": ("out.csv", ",".join(CSV_COLUMNS).encode() + b"\na.jpg,ok\n"),
    "a dictionary": ("out.parquet", b"{}"),
    "zeros": ("out.parquet", b"\0" * 5000),
    "a foreign journal": ("out.csv.partial.jsonl", b"my precious notes\n"),
    "a foreign journal without a line end": ("out.csv.partial.jsonl", b"my precious notes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_and_kept(kind: str, tmp_path: Path) -> None:
    name, content = FOREIGN[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(OutputError, match="does not hold faceproof results.*choose another file, or --overwrite it"):
        open_results(str(tmp_path / name.removesuffix(".partial.jsonl")))
    assert path.read_bytes() == content


@pytest.mark.parametrize("ending", COLLECTED)
def test_a_refusal_leaves_nothing_behind(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{ending}"
    out.write_bytes(b"not a table")
    with pytest.raises(OutputError):
        open_results(str(out))
    assert names_in(tmp_path) == [out.name]


def test_a_foreign_parquet_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    import pyarrow.parquet

    out = tmp_path / "out.parquet"
    pyarrow.parquet.write_table(pa.table({"path": ["a.jpg"], "label": [1]}), out)
    before = out.read_bytes()
    with pytest.raises(OutputError, match="its columns differ"):
        open_results(str(out))
    assert out.read_bytes() == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_second_scan_of_the_same_file_is_refused(ending: str, tmp_path: Path, face_jpeg: bytes) -> None:
    """Another process, started while this one has the results open; afterwards it may."""
    out, picture = tmp_path / f"out{ending}", tmp_path / "a.jpg"
    picture.write_bytes(face_jpeg)
    with open_results(str(out)) as file:
        file.write(some(1)[0])
        for extra in ((), ("--overwrite",)):
            done = run_cli("scan", picture, "--out", out, "-q", *extra)
            assert (done.returncode, done.stdout) == (1, "")
            assert re.fullmatch(
                r"faceproof: another scan is writing [^\n]+; wait for it, or choose another file\n", done.stderr
            )
        file.write(some(2)[1])
        file.finish()
    assert paths_in(out) == ["folder/0000.jpg", "folder/0001.jpg"]
    assert run_cli("scan", picture, "--out", out, "-q").returncode == 0
    assert len(paths_in(out)) == 3


def test_wrong_outputs(tmp_path: Path) -> None:
    for name, pattern in {"out.txt": "unknown ending '.txt'", "out": r"unknown ending '\(none\)'"}.items():
        with pytest.raises(UsageError, match=pattern + ".*known: .jsonl, .ndjson, .csv, .parquet, or - for stdout"):
            open_results(str(tmp_path / name))
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UsageError, match="is a folder; give a file"):
        open_results(str(tmp_path / "folder.jsonl"))
    for ending in ENDINGS:
        with pytest.raises(OutputError, match="cannot write .*check the folder"):
            open_results(str(tmp_path / "missing" / f"out{ending}"))


def test_standard_output_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the program that calls us."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    with open_results("-") as file:
        file.write(some(1)[0])
        file.finish()
    assert not sys.stdout.closed
    print("still here")
    sys.stdout.flush()
    assert json.loads(raw.getvalue().splitlines()[0])["path"] == "folder/0000.jpg"


# ---- putting in place, at once and durably


@pytest.mark.parametrize("ending", COLLECTED)
def test_finishing_is_one_step(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the very replacement the old results are there, whole; if it fails they stay, and so does the journal."""
    out = tmp_path / f"out{ending}"
    write(out, some(4))
    before = out.read_bytes()
    real, seen = os.replace, []

    def replace(source: Any, target: Any) -> None:
        seen.append(out.read_bytes() == before)
        if len(seen) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with open_results(str(out)) as file:
        for result in some(4, start=4):
            file.write(result)
        with pytest.raises(
            OutputError, match=r"disk is full; 8 records are safe in .*\.partial\.jsonl; .*same command again"
        ):
            file.finish()
    assert out.read_bytes() == before
    assert names_in(tmp_path) == sorted([out.name, journal_of(out).name])
    write(out, [])
    assert seen == [True, True]
    assert read_back(out) == same_as(some(8), ending)


@pytest.mark.parametrize("ending", ENDINGS)
def test_results_are_synced_before_they_count(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the end of a run costs nothing: data reach the disk before the journal goes."""
    out = tmp_path / f"out{ending}"
    synced: set[int] = set()
    placed: list[bool] = []
    sync, replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        sync(handle)

    def place(source: Any, target: Any) -> None:
        placed.append(Path(source).stat().st_ino in synced)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", place)
    write(out, some(3))
    if ending in COLLECTED:
        assert placed == [True]
    else:
        assert out.stat().st_ino in synced


# ---- full disks


class HalfWriter(io.RawIOBase):
    """A stream that takes 10 bytes at a time, as pipes and full disks do."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data[:10])
        self.data += part
        return len(part)


def test_partial_writes_are_completed() -> None:
    stream = HalfWriter()
    file = ResultFile(None, None, stream)  # type: ignore[arg-type]
    for result in some(3):
        file.write(result)
    assert [json.loads(line) for line in stream.data.splitlines()] == [result.to_dict() for result in some(3)]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "faceproof-test", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, free: int) -> Path:
    """Take all but `free` bytes of a disk."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    filler.write_bytes(b"x" * (room.f_bavail * room.f_frsize - free))
    return filler


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_while_records_come(ending: str, tiny_disk: Path) -> None:
    out = tiny_disk / f"out{ending}"
    filler = fill(tiny_disk, 16_384)
    live = journal_of(out) if ending in COLLECTED else out
    written = 0
    made = some(100)
    with open_results(str(out)) as file:
        with contextlib.suppress(OutputError):
            for result in made:
                file.write(result)
                written += 1
        with pytest.raises(OutputError, match="disk is full") as raised:
            file.write(made[written])
    assert 5 < written < 100
    assert f"{written} records are safe in {live}; " in str(raised.value)
    assert str(raised.value).endswith("run the same command again to go on")
    assert [record["path"] for record in read_records(live)] == [result.path for result in some(written)]
    filler.unlink()
    with open_results(str(out)) as file:
        assert file.total == written
        for result in some(100):
            if result.path not in file.done:
                file.write(result)
        file.finish()
    assert read_back(out) == same_as(some(100), ending)


@pytest.mark.parametrize("ending", COLLECTED)
def test_a_full_disk_at_the_end(ending: str, tiny_disk: Path) -> None:
    """The journal fits and the table does not: old table and journal stay, no litter, and the next run ends it."""
    out = tiny_disk / f"out{ending}"
    write(out, some(3))
    before = out.read_bytes()
    with open_results(str(out)) as file:
        for result in some(60, start=3):
            file.write(result)
        filler = fill(tiny_disk, 4096)
        with pytest.raises(OutputError, match=r"disk is full; 63 records are safe in .*partial.jsonl"):
            file.finish()
    assert out.read_bytes() == before
    assert names_in(tiny_disk) == sorted([out.name, journal_of(out).name, "filler"])
    filler.unlink()
    write(out, [])
    assert read_back(out) == same_as(some(63), ending)
    assert names_in(tiny_disk) == [out.name]


@pytest.fixture(scope="module")
def plain_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty tiny pictures without a face, one of them damaged."""
    folder = tmp_path_factory.mktemp("plain")
    data = encode(Image.new("RGB", (24, 24), "teal"), "PNG")
    for number in range(40):
        (folder / f"{number:02d}.png").write_bytes(data if number != 7 else data[:50])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_scan_onto_a_full_disk_goes_on_when_there_is_room(ending: str, tiny_disk: Path, plain_pictures: Path) -> None:
    out = tiny_disk / f"out{ending}"
    filler = fill(tiny_disk, 8192)
    full = run_cli("scan", plain_pictures, "--out", out, "-q", "--workers", "1")
    assert (full.returncode, full.stdout) == (1, "")
    assert re.fullmatch(
        r"faceproof: cannot write to [^\n]*: the disk is full; \d+ records are safe in [^\n]*\n", full.stderr
    )
    filler.unlink()
    done = run_cli("scan", plain_pictures, "--out", out, "-q", "--workers", "1")
    assert (done.returncode, done.stderr) == (1, "")  # one picture is damaged
    assert sorted(paths_in(out)) == sorted(str(path) for path in plain_pictures.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_device_that_is_always_full(ending: str, tmp_path: Path, face_jpeg: bytes) -> None:
    """The results' place is a link to /dev/full, which reads as endless zeros: an error, not an endless reading."""
    out, picture = tmp_path / f"out{ending}", tmp_path / "a.jpg"
    picture.write_bytes(face_jpeg)
    out.symlink_to("/dev/full")
    done = run_cli("scan", picture, "--out", out, "-q", before=limited(2500), timeout=60)
    assert (done.returncode, done.stdout) in {(1, ""), (2, "")}
    assert re.fullmatch(r"faceproof: [^\n]*\n", done.stderr)
    assert out.is_symlink()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("verb", [("scan", "--out", "-", "-q"), ("check", "--json"), ("check",)])
def test_standard_output_on_a_full_disk(verb: tuple[str, ...], tmp_path: Path, face_jpeg: bytes) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(face_jpeg)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(*verb, picture), stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=60, check=False
        )
    assert done.returncode == 1
    assert re.fullmatch(rb"faceproof: [^\n]*(disk is full|No space left)[^\n]*\n", done.stderr), done.stderr.decode()


def test_a_report_onto_a_full_disk(tiny_disk: Path, tmp_path: Path, face_jpeg: bytes) -> None:
    """The page is written as a whole or not at all; the verdict was said before."""
    picture, page = tmp_path / "a.jpg", tiny_disk / "page.html"
    picture.write_bytes(face_jpeg)
    page.write_text("the old page")
    fill(tiny_disk, 4096)
    done = run_cli("check", "--json", picture, "--report", page)
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "ok"
    assert re.fullmatch(r"faceproof: cannot write [^\n]*page\.html[^\n]*No space left[^\n]*\n", done.stderr)
    assert page.read_text() == "the old page"
    assert names_in(tiny_disk) == ["filler", "page.html"]


# ---- a file that is damaged while we hold it


def test_a_reader_sees_whole_records_only(tmp_path: Path) -> None:
    """Each record is one write: who follows the file (tail -f) never sees half of one."""
    out = tmp_path / "out.jsonl"
    with open_results(str(out)) as file:
        for number, result in enumerate(some(20), 1):
            file.write(result)
            raw = out.read_bytes()
            assert raw.endswith(b"\n")
            assert raw.count(b"\n") == number


def test_a_refused_scan_does_not_remove_the_others_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """We looked before the other scan made the file (its absence is what we still believe): it stays."""
    out = tmp_path / "out.jsonl"
    with open_results(str(out)) as first:
        for written in (False, True):
            if written:
                first.write(make_result("a.jpg"))
            with monkeypatch.context() as patched:
                patched.setattr(Path, "exists", lambda path, **_: False)
                with pytest.raises(OutputError, match="another scan is writing"):
                    open_results(str(out))
            assert len(read_back(out)) == written
