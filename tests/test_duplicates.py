"""`faceproof duplicates`: from pictures to clusters, stopped and gone on with, and what is written about them."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from faceproof import UsageError
from faceproof import duplicates as duplicates_module
from faceproof.duplicates import HASH_SCHEMA, HashOptions, HashRecord, hash_items
from faceproof.duplicates_html import page, write_sheets
from faceproof.errors import OutputError
from faceproof.hash_files import Duplicates, Group, Member, find_duplicates, hash_to_file, open_hashes
from faceproof.hashing import VIEWS, from_hex, hash_picture, to_hex
from faceproof.images import RGB
from faceproof.inputs import Inputs, Item
from tests.helpers import encode, run_cli, start_cli, wait_until, whole_lines

COLUMNS = ["cluster", "path", "hash", "distance", "view", "flat", "status", "error"]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def _clusters(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["cluster"]:
            found.setdefault(row["cluster"], []).append(Path(row["path"]).name)
    return {label: sorted(names) for label, names in found.items()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> Path:
    """Six looks of one photograph, two of another, four of none, two flat ones, two that cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    import skimage.data

    one, other = Image.fromarray(astronaut), Image.fromarray(np.asarray(skimage.data.chelsea()))
    files = {
        "a-original.png": encode(one, "PNG"),
        "a-jpeg.jpg": encode(one, "JPEG", quality=40),
        "a-small.jpg": encode(one.resize((180, 180)), "JPEG", quality=80),
        "a-bright.png": encode(Image.fromarray((astronaut * 0.8 + 40).astype(np.uint8)), "PNG"),
        "a-turned.jpg": encode(one.rotate(90, expand=True), "JPEG", quality=90),
        "a-mirrored.jpg": encode(ImageOps.mirror(one), "JPEG", quality=90),
        "b-original.png": encode(other, "PNG"),
        "b-jpeg.jpg": encode(other.resize((300, 200)), "JPEG", quality=60),
        "flat-red.png": encode(Image.new("RGB", (90, 90), "red"), "PNG"),
        "flat-blue.png": encode(Image.new("RGB", (50, 70), "blue"), "PNG"),
        "bad-empty.jpg": b"",
        "bad-cut.jpg": encode(one, "JPEG")[:2000],
    }
    rng = np.random.default_rng(3)
    for number in range(4):
        noise = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        files[f"c-{number}.png"] = encode(noise.resize((120, 120)), "PNG")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


UPRIGHT = ["a-bright.png", "a-jpeg.jpg", "a-original.png", "a-small.jpg"]


def test_from_pictures_to_clusters(pictures: Path, tmp_path: Path) -> None:
    out, report, sheets = tmp_path / "clusters.csv", tmp_path / "page.html", tmp_path / "sheets"
    done = run_cli("duplicates", pictures, "--out", out, "--report", report, "--sheets", sheets)
    assert done.returncode == 1  # two pictures could not be read
    assert "2 clusters hold 6 of 16 pictures" in done.stderr
    assert "2 flat, 2 not" in done.stderr
    rows = _rows(out)
    assert len(rows) == 16
    assert _clusters(rows) == {"1": UPRIGHT, "2": ["b-jpeg.jpg", "b-original.png"]}
    status = {Path(row["path"]).name: row["status"] for row in rows}
    assert {name for name, value in status.items() if value == "flat"} == {"flat-red.png", "flat-blue.png"}
    assert {name for name, value in status.items() if value == "error"} == {"bad-empty.jpg", "bad-cut.jpg"}
    for row in rows:
        if row["status"] == "error":
            assert row["hash"] == ""
            assert "empty" in row["error"] or "damaged" in row["error"]
            continue
        pixels = np.asarray(Image.open(row["path"]).convert("RGB"))
        assert row["hash"] == to_hex(hash_picture(pixels).hashes[0])
        assert row["flat"] == str(int(row["status"] == "flat"))
        assert (row["distance"] == "") == (row["cluster"] == "")
    first = [row for row in rows if row["cluster"] == "1"]
    assert first[0]["distance"] == "0"
    assert [int(row["distance"]) for row in first] == sorted(int(row["distance"]) for row in first)
    assert max(int(row["distance"]) for row in first) <= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clusters.csv",
        "page.html",
        "sheets",
    ]  # no journal left
    _check_page(report.read_text(encoding="utf-8"))
    assert [path.name for path in sorted(sheets.iterdir())] == ["cluster-00001.jpg", "cluster-00002.jpg"]
    assert Image.open(sheets / "cluster-00001.jpg").size == (4 * 112, 16 + 128)


def _check_page(text: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:")
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    assert text.count("<article") == 2
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == 6
    for each in pictures:
        assert max(Image.open(io.BytesIO(base64.b64decode(each))).size) <= 112
    figures = json.loads(re.search(r'id="faceproof-duplicates">(.*?)</script>', text)[1])  # type: ignore[index]
    assert (figures["clusters"], figures["clustered"], figures["pictures"]) == (2, 6, 16)


@pytest.mark.parametrize("kind", ["phash", "dhash", "pdq"])
def test_rotations_find_turned_and_mirrored_copies(kind: str, pictures: Path, tmp_path: Path) -> None:
    if kind == "pdq":
        pytest.importorskip("pdqhash", reason="the extra [duplicates] is not installed")
    out = tmp_path / "clusters.csv"
    done = run_cli("duplicates", pictures, "--out", out, "--rotations", "--hash", kind, "--json")
    assert done.returncode == 1
    figures = json.loads(done.stdout)
    assert (figures["rotations"], figures["kind"], figures["errors"]) == (True, kind, 2)
    rows = _rows(out)
    found = _clusters(rows)["1"]
    assert {"a-turned.jpg", "a-mirrored.jpg", "a-original.png", "a-small.jpg"} <= set(found)
    views = {Path(row["path"]).name: row["view"] for row in rows if row["cluster"] == "1"}
    # Whichever is the medoid: the two differ from the upright ones and from each other.
    assert len({views["a-turned.jpg"], views["a-mirrored.jpg"], views["a-original.png"]}) == 3
    assert set(views.values()) <= set(VIEWS)


def test_a_hash_file_is_gone_on_with_and_added_to(pictures: Path, tmp_path: Path) -> None:
    hashes, out = tmp_path / "hashes.jsonl", tmp_path / "clusters.csv"
    first = run_cli("duplicates", pictures / "a-*", "--out", out, "--hashes", hashes)
    assert first.returncode == 0
    before = hashes.read_bytes()
    assert whole_lines(hashes) == 6
    assert json.loads(before.splitlines()[0])["schema"] == HASH_SCHEMA
    second = run_cli("duplicates", pictures, "--out", out, "--hashes", hashes)
    assert second.returncode == 1
    assert hashes.read_bytes().startswith(before)
    assert whole_lines(hashes) == 16
    assert _clusters(_rows(out)) == {"1": UPRIGHT, "2": ["b-jpeg.jpg", "b-original.png"]}
    # Clusters alone, without the pictures, in another way.
    again = tmp_path / "again.csv"
    third = run_cli("duplicates", "--hashes", hashes, "--out", again, "--method", "dbscan", "--radius", "3", "-q")
    assert (third.returncode, third.stderr) == (1, "")
    assert _clusters(_rows(again)) == _clusters(_rows(out))
    alone = run_cli("duplicates", "--hashes", hashes, "--out", again, "--radius", "0", "-q")
    assert alone.returncode == 1
    assert all(row["distance"] in ("", "0") for row in _rows(again))
    # Anew: nothing of the old file stays.
    fourth = run_cli("duplicates", pictures / "b-*", "--out", out, "--hashes", hashes, "--overwrite")
    assert fourth.returncode == 0
    assert whole_lines(hashes) == 2


def test_the_order_of_pictures_does_not_matter(pictures: Path, tmp_path: Path) -> None:
    files = sorted(path for path in pictures.iterdir() if not path.name.startswith("bad"))
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    assert run_cli("duplicates", *files, "--out", one).returncode == 0
    assert run_cli("duplicates", *files[::-1], "--out", other).returncode == 0
    key = lambda row: row["path"]  # noqa: E731
    assert sorted(_rows(one), key=key) == sorted(_rows(other), key=key)


def test_hashing_with_processes_gives_the_same(pictures: Path) -> None:
    items = [Item(str(path)) for path in sorted(pictures.iterdir())] * 3 + [Item("gone", "cannot be listed")]
    one = list(hash_items(items, HashOptions(), workers=1))
    assert one == list(hash_items(items, HashOptions(), workers=2))
    assert [record.path for record in one] == [item.path for item in items]
    assert one[-1].error == "cannot be listed"
    with pytest.raises(UsageError, match="workers must be at least 1"):
        next(hash_items(items, HashOptions(), workers=0))


def test_a_worker_that_dies_costs_one_picture(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lost` stands in for the picture that killed it; the machinery itself is tested with scans."""
    record = duplicates_module._failed("x.jpg", "phash", duplicates_module.KILLED)
    assert record.status == "error"
    assert "killed" in (record.error or "")


@pytest.mark.slow
def test_a_stopped_run_goes_on(tmp_path: Path, astronaut: RGB) -> None:
    """Ctrl-C, then kill -9, then the end: every picture once, one line about it."""
    folder, out = tmp_path / "many", tmp_path / "clusters.csv"
    folder.mkdir()
    # Large ones take long enough to be stopped in the middle, also where this process waits for its turn.
    large = encode(np.asarray(Image.fromarray(astronaut).resize((1400, 1400))), "JPEG")
    for number in range(400):
        (folder / f"{number:03d}.jpg").write_bytes(large)
    journal = tmp_path / "clusters.csv.hashes.partial.jsonl"
    for how, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        seen = whole_lines(journal)
        process = start_cli("duplicates", folder, "--out", out, "-j", "2")
        wait_until(lambda seen=seen: whole_lines(journal) > seen + 20, seconds=90, what="the first hashes")
        process.send_signal(how)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == code, said
        if how == signal.SIGINT:
            assert re.fullmatch(r"faceproof: stopped; \d+ hashes are safe: the same command goes on\n", said)
        assert 0 < whole_lines(journal) <= 400
        assert not out.exists()
    with journal.open("ab") as stream:
        stream.write(b'{"path":"torn')
    done = run_cli("duplicates", folder, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = _rows(out)
    assert len({row["path"] for row in rows}) == len(rows) == 400
    assert {row["cluster"] for row in rows} == {"1"}
    assert not journal.exists()


def _record(path: str, number: int, **changes: Any) -> str:
    raw = HashRecord(path, "phash", (f"{number:016x}",), 0.9).to_dict() | changes
    return json.dumps(raw, separators=(",", ":")) + "\n"


def test_a_path_that_comes_twice_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "hashes.jsonl"
    file.write_text(_record("a", 5) + _record("b", 5) + _record("a", 1 << 40) + _record("c", 1 << 40))
    with open_hashes(file, HashOptions()) as hashes:
        assert (hashes.total, len(hashes.hashes())) == (3, 4)
        found = find_duplicates(hashes, tmp_path / "out.csv", 0)
    assert (found.pictures, found.clusters, found.clustered) == (3, 1, 2)
    assert [(row["cluster"], row["path"], row["hash"]) for row in _rows(tmp_path / "out.csv")] == [
        ("1", "a", "0000000000000005"), ("1", "b", "0000000000000005"), ("", "c", "0000010000000000"),
    ]  # fmt: skip


def test_names_that_drive_spreadsheets_and_pages_are_harmless(tmp_path: Path) -> None:
    hostile = "=cmd|' /c calc'!A0.jpg"
    markup = '"><script>alert(1)</script>.jpg'
    file = tmp_path / "hashes.jsonl"
    file.write_text(_record(hostile, 1) + _record(markup, 1))
    with open_hashes(file, HashOptions()) as hashes:
        found = find_duplicates(hashes, tmp_path / "out.csv", 3, groups=5)
    assert {row["path"] for row in _rows(tmp_path / "out.csv")} == {f"'{hostile}", markup}
    text = page(found)
    assert "<script>alert" not in text
    assert text.count("cannot be shown") == 2


BAD_FILES = {
    "a scan's results": ('{"path":"a","schema":"faceproof.result/1"}\n', "line 1 is not of schema"),
    "text": ("hello\n", "line 1 is not a hash record"),
    "no end": ("hello", "line 1 has no end"),
    "another hash": (_record("a", 5, kind="dhash"), "line 1 is a dhash, not a phash"),
    "short hash": (_record("a", 5, hashes=["5"]), "line 1 is not a hash record"),
    "a number": (_record("a", 5, hashes=[5]), "line 1 is not a hash record"),
    "two hashes": (_record("a", 5, hashes=["0" * 16] * 2), "line 1 is not a hash record"),
    "list": ("[]\n", "line 1 is not a hash record"),
    "deep": ("[" * 100_000 + "\n", "line 1 is not a hash record"),
    "later": (_record("a", 5) + "{}\n", "line 2 is not a hash record"),
    "not UTF-8": (b'{"path":"\xff"}\n', "line 1 is not a hash record"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_hold_something_else_are_left_alone(kind: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[kind]
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "hashes.jsonl").write_bytes(data)
    with pytest.raises(OutputError, match=re.escape(message)):
        open_hashes(tmp_path / "hashes.jsonl", HashOptions())
    assert (tmp_path / "hashes.jsonl").read_bytes() == data


def test_hashes_without_rotations_cannot_be_turned(tmp_path: Path) -> None:
    (tmp_path / "hashes.jsonl").write_text(_record("a", 5))
    with pytest.raises(OutputError, match="line 1 has no rotations"):
        open_hashes(tmp_path / "hashes.jsonl", HashOptions(rotations=True))


def test_hashes_with_rotations_serve_without(tmp_path: Path, pictures: Path) -> None:
    with open_hashes(tmp_path / "hashes.jsonl", HashOptions(rotations=True)) as file:
        hash_to_file(Inputs([str(pictures / "a-*")]), file, workers=1)
        assert file.hashes().shape == (6, 8, 1)
    with open_hashes(tmp_path / "hashes.jsonl", HashOptions()) as file:
        assert file.hashes().shape == (6, 1, 1)
        assert file.hashes()[0, 0, 0] == from_hex([next(file.records())[1].hashes[0]], "phash")[0, 0]


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    with open_hashes(tmp_path / "h.jsonl", HashOptions()), pytest.raises(OutputError, match="is writing"):
        open_hashes(tmp_path / "h.jsonl", HashOptions())
    assert not (tmp_path / "h.jsonl").exists()  # nothing was written


def test_a_full_disk_loses_nothing(tmp_path: Path, pictures: Path) -> None:
    """A limit on the size of files stands for the disk: what fits is whole, and the next run goes on from it."""
    hashes, out = tmp_path / "hashes.jsonl", tmp_path / "c.csv"
    small = ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh"]  # blocks of 512 or 1,024 bytes, as the shell has it
    done = run_cli("duplicates", pictures, "--out", out, "--hashes", hashes, before=small)
    assert done.returncode == 1
    said = rf"faceproof: cannot write to {hashes} \(File too large\); (\d+) records are safe in it; [^\n]+\n"
    found = re.fullmatch(said, done.stderr)
    assert found, done.stderr
    assert 0 < whole_lines(hashes) == int(found[1]) < 16
    assert run_cli("duplicates", pictures, "--out", out, "--hashes", hashes, "-q").returncode == 1
    assert whole_lines(hashes) == len(_rows(out)) == 16


WRONG: dict[str, tuple[list[str], str]] = {
    "no input": ([], "nothing to look at"),
    "no hashes": (["--hashes", "missing.jsonl"], "no hashes at missing.jsonl"),
    "ending": (["x", "--out", "clusters.txt"], "the clusters are a .csv file"),
    "hash": (["x", "--hash", "fhash"], "did you mean 'phash'"),
    "method": (["b-original.png", "--method", "medoids"], "did you mean 'medoid'"),
    "radius": (["b-original.png", "--radius", "64"], "from 0 to 63 bits, not 64"),
    "device": (["b-original.png", "--hashes", "/dev/zero"], "/dev/zero is a device or pipe"),
    "missing folder": (["b-original.png", "--out", "missing/c.csv"], "its folder is not there"),
    "report": (["b-original.png", "--report", "."], "cannot write .: it is a folder"),
    "folder": (["b-original.png", "--hashes", "."], ". is a folder"),
    "pixels": (["b-original.png", "--max-pixels", "many"], "is not a number"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_use_is_two(kind: str, pictures: Path) -> None:
    arguments, message = WRONG[kind]
    given = arguments if "--out" in arguments else [*arguments, "--out", "never.csv"]
    done = run_cli("duplicates", *given, cwd=pictures)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(list(pictures.iterdir())) == 16


def test_large_pictures_are_refused_on_request(pictures: Path, tmp_path: Path) -> None:
    run_cli("duplicates", pictures / "b-*", "--out", tmp_path / "c.csv", "--max-pixels", "100k")
    status = {Path(row["path"]).name: row["status"] for row in _rows(tmp_path / "c.csv")}
    assert status == {"b-original.png": "error", "b-jpeg.jpg": "ok"}


def test_records_are_whole() -> None:
    with pytest.raises(UsageError, match="1 or 8 hashes or an error"):
        HashRecord("a", "phash")
    with pytest.raises(UsageError, match="1 or 8 hashes or an error"):
        HashRecord("a", "phash", ("0" * 16,), error="damaged")


def test_sheets_are_wrapped_and_bear_missing_pictures(tmp_path: Path, pictures: Path) -> None:
    members = tuple(Member(str(pictures / "b-original.png"), bits, VIEWS[0]) for bits in range(10))
    group = Group(7, 20, (*members, Member("gone.jpg", 3, VIEWS[1])))
    (path,) = write_sheets([group], tmp_path / "a" / "sheets")
    assert path.name == "cluster-00007.jpg"
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (16 + 2 * 128, 8 * 112, 3)
    gone = sheet[16 + 128 + 50, 2 * 112 + 50]
    assert (np.abs(gone.astype(int) - 202) < 8).all()  # grey, the third of the second row
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_sheets([group], tmp_path / "file")
    text = page(Duplicates(11, 0, 0, 1, 11, "phash", 3, "medoid", True, (group,)), shown=3)
    assert "and 17 more" in text
    assert text.count("<img") == 3
