"""Whole runs against a real S3 protocol server: out of a bucket and into one, through failures, killed, resumed."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import Limits, result_parts
from faceproof.errors import OutputError, StorageError, UsageError
from faceproof.fetching import AHEAD, fetched
from faceproof.images import RGB
from faceproof.inputs import MANIFESTS, SHARD_BYTES, Inputs, Item
from faceproof.records import ImageResult
from faceproof.result_parts import MANIFEST, open_parts
from faceproof.shards import COLUMNS
from tests.helpers import encode, environment, read_records, run_cli, start_cli, wait_until, whole_lines
from tests.object_store import KEY_ID, SECRET, TOKEN, Proxy, environment_of, get, put
from tests.test_shards import tar_of

pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
pytest.importorskip("moto", reason="the S3 server for tests is not installed")
pytestmark = pytest.mark.slow
NAMES = itertools.count()


@pytest.fixture(scope="module")
def pictures(face_jpeg: bytes, astronaut: RGB) -> dict[str, bytes]:
    """Forty small files, most of them pictures without a face: they are quick."""
    rng = np.random.default_rng(0)
    found = {"face.jpg": face_jpeg, "broken.jpg": face_jpeg[:700], "empty.png": b"", "notes.txt": b"no picture"}
    for number in range(36):
        found[f"deep/{number:02d} ü.png"] = encode(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8), "PNG")
    return found


def run(*args: str | Path, code: int = 0) -> str:
    """Run a command to its end; nothing it says holds a secret, and an error is one line."""
    done = run_cli(*args, timeout=300)
    assert done.returncode == code, done.stderr
    nothing_secret(done.stdout + done.stderr)
    if done.stderr.startswith("faceproof: "):
        assert done.stderr.count("\n") == 1
    return done.stderr


def nothing_secret(text: str) -> None:
    for secret in (KEY_ID, SECRET, TOKEN):
        assert secret not in text


def statuses(records: list[dict[str, Any]]) -> dict[str, str]:
    repeated = [path for path, count in Counter(record["path"] for record in records).items() if count > 1]
    assert repeated == []
    return {record["path"]: record["status"] for record in records}


def expected(bucket: str, pictures: dict[str, bytes]) -> dict[str, str]:
    kinds = {"face.jpg": "ok", "broken.jpg": "error", "empty.png": "error"}
    return {f"s3://{bucket}/in/{name}": kinds.get(name, "no_face") for name in pictures if name != "notes.txt"}


def fill(store: Proxy, bucket: str, pictures: dict[str, bytes]) -> None:
    put(store, bucket, {f"in/{name}": data for name, data in pictures.items()})


# ---- from a bucket


def test_a_bucket_gives_what_a_folder_gives(
    store: Proxy, bucket: str, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    """Through slow and failing requests; every record but for its path is that of the file."""
    fill(store, bucket, pictures)
    for name, data in pictures.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    faults = itertools.cycle(["slow", "500 InternalError", "503 SlowDown", "reset", "cut", None, None])
    store.rule = lambda request: next(faults) if request.number == 0 else None
    run("scan", f"s3://{bucket}/in/", "--out", tmp_path / "far.jsonl", "-j", "2", "-q", code=1)
    store.reset()
    run("scan", tmp_path / "in", "--out", tmp_path / "near.jsonl", "-q", code=1)
    far, near = read_records(tmp_path / "far.jsonl"), read_records(tmp_path / "near.jsonl")
    assert statuses(far) == expected(bucket, pictures)
    by_path = {record["path"].replace(str(tmp_path), f"s3://{bucket}"): record for record in near}
    for record in far:
        assert {**by_path[record["path"]], "path": ""} == {**record, "path": ""}
    nothing_secret((tmp_path / "far.jsonl").read_text())


def test_every_kind_of_input_in_a_bucket(store: Proxy, bucket: str, pictures: dict[str, bytes]) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"image": list(pictures.values())}), stream)
    few = dict(list(pictures.items())[:4])
    put(store, bucket, {
        **{f"in/{name}": data for name, data in few.items()},
        "list.csv": b"path\nin/face.jpg\ns3://other/x.jpg\n/etc/hostname\n../up.jpg\nhttps://example.org/y.jpg\n",
        "list.txt": b"in/face.jpg\nin/broken.jpg\n", "s/0.tar": tar_of(few), "s/1.tar": tar_of(few),
        "p.parquet": stream.getvalue(),
    })  # fmt: skip
    s3 = f"s3://{bucket}"

    def listed(*given: str) -> list[str]:
        return [item.path.removeprefix(f"{s3}/") + (" !" if item.error else "") for item in Inputs(given)]

    images = ["in/broken.jpg", "in/empty.png", "in/face.jpg"]
    assert listed(f"{s3}/in/") == listed(f"{s3}/in") == listed(f"{s3}/in/*.*g") == listed(f"{s3}/*/*.*g") == images
    assert listed(s3) == listed(f"{s3}/") == images  # shards and lists beside them are no pictures
    assert listed(f"{s3}/in/face.jpg", f"{s3}/gone.jpg") == ["in/face.jpg", "gone.jpg"]
    # Nobody else's list opens files of this machine.
    assert listed(f"{s3}/list.csv") == [
        "in/face.jpg",
        "s3://other/x.jpg",
        "/etc/hostname !",
        "../up.jpg !",
        "https://example.org/y.jpg",
    ]
    assert listed(f"{s3}/list.txt") == ["in/face.jpg", "in/broken.jpg"]
    shards = [f"s/{n}.tar::{name}" for n in range(2) for name in few if name != "notes.txt"]
    assert listed(f"{s3}/s/*.tar") == listed(f"{s3}/s/{{0..1}}.tar") == shards
    assert listed(f"{s3}/p.parquet") == [f"p.parquet::{row}" for row in range(len(pictures))]
    assert listed(f"{s3}/s/0.tar::face.jpg") == ["s/0.tar::face.jpg"]
    assert [item.data for item in Inputs([f"{s3}/s/0.tar"])] == [few[name] for name in few if name != "notes.txt"]
    with pytest.raises(UsageError, match="no pictures in"):
        listed(f"{s3}/s/")
    assert not Inputs([f"{s3}/in/"]).countable
    run("check", f"{s3}/in/face.jpg", f"{s3}/s/1.tar::face.jpg", f"{s3}/p.parquet::0")


@pytest.mark.parametrize("kind", ["missing", "denied", "no key", "expired", "down"])
def test_a_bucket_that_cannot_be_used_is_one_line(kind: str, store: Proxy, bucket: str, tmp_path: Path) -> None:
    fault = {
        "denied": "403 AccessDenied",
        "no key": "403 InvalidAccessKeyId",
        "expired": "403 ExpiredToken",
        "down": "reset",
    }
    store.rule = lambda request: fault.get(kind)
    name = "no-such-bucket" if kind == "missing" else bucket
    said = run("scan", f"s3://{name}/in/", "--out", tmp_path / "out.jsonl", "-q", code=1)
    assert f"s3://{name}" in said
    assert {"missing": "there is no s3://", "denied": "permission denied", "down": "does not answer"}.get(
        kind, "not accepted"
    ) in said
    assert not (tmp_path / "out.jsonl").exists()
    said = run("scan", tmp_path, "--all-files", "--out", f"s3://{name}/out.jsonl", "-q", code=1)
    assert f"s3://{name}" in said


@pytest.mark.parametrize("form", ["objects", "shard"])
def test_a_bucket_that_dies_half_way(
    form: str, store: Proxy, bucket: str, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    """One line, what was done is kept, and the same command ends with every picture once."""
    out = tmp_path / "out.jsonl"
    fill(store, bucket, pictures)
    large = {f"{number:02d}.bmp": encode(Image.new("RGB", (600, 600)), "BMP") for number in range(20)}
    put(store, bucket, {"large.tar": tar_of(large)})
    given = f"s3://{bucket}/in/" if form == "objects" else f"s3://{bucket}/large.tar"
    answered = itertools.count()
    allowed = 12 if form == "objects" else 3
    store.rule = lambda request: None if next(answered) < allowed else "403 ExpiredToken"
    said = run("scan", given, "--out", out, "-q", "-j", "1", code=1)
    assert "ExpiredToken" in said
    before = read_records(out)
    assert len(before) > 0
    store.reset()
    run("scan", given, "--out", out, "-q", code=1 if form == "objects" else 0)
    after = read_records(out)
    assert after[: len(before)] == before
    assert len(after) > len(before)
    wanted = (
        expected(bucket, pictures)
        if form == "objects"
        else dict.fromkeys((f"{given}::{name}" for name in large), "no_face")
    )
    assert statuses(after) == wanted


def test_pictures_are_fetched_ahead_in_order(store: Proxy, bucket: str, tmp_path: Path) -> None:
    put(store, bucket, {f"{n}.jpg": bytes([n]) for n in range(12)})
    (tmp_path / "here.jpg").write_bytes(b"x")
    items = [Item(f"s3://{bucket}/{n}.jpg") for n in range(12)]
    items[3:3] = [Item(str(tmp_path / "here.jpg")), Item("gone", "why"), Item(f"s3://{bucket}/gone.jpg")]
    store.rule = lambda request: "slow" if request.path.endswith("/0.jpg") else None
    found = list(fetched(items, Limits()))
    assert [item.path for item in found] == [item.path for item in items]
    assert [item.data for item in found if item.data is not None] == [bytes([n]) for n in range(12)]
    assert [item.error for item in found][3:6] == [None, "why", "no such object; check the URL"]
    store.rule = lambda request: "403 ExpiredToken" if request.path.endswith("/2.jpg") else None
    out = []
    with pytest.raises(StorageError):
        out.extend(fetched(items, Limits()))
    assert [item.path for item in out] == [item.path for item in items[:2]]


def test_duplicates_in_a_bucket(store: Proxy, bucket: str, pictures: dict[str, bytes], tmp_path: Path) -> None:
    put(store, bucket, {"in/a.jpg": pictures["face.jpg"], "in/b.jpg": pictures["face.jpg"], "s.tar": tar_of(pictures)})
    given = (f"s3://{bucket}/in/", f"s3://{bucket}/s.tar")
    run("duplicates", *given, "--out", tmp_path / "c.csv", "--report", tmp_path / "p.html", code=1)
    with (tmp_path / "c.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    first = [row["path"] for row in rows if row["cluster"] == "1"]
    assert first == [f"s3://{bucket}/in/a.jpg", f"s3://{bucket}/in/b.jpg", f"s3://{bucket}/s.tar::face.jpg"]
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count("<img") == 3
    nothing_secret(text + (tmp_path / "c.csv").read_text(encoding="utf-8"))
    done = run_cli("duplicates", given[0], "--out", f"s3://{bucket}/c.csv")
    assert (done.returncode, "files of this machine" in done.stderr) == (2, True)


# ---- into a bucket


def parts_of(store: Proxy, bucket: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The manifest, and all records of the parts it names."""
    manifest = json.loads(get(store, bucket, f"{name}/{MANIFEST}") or b"{}")
    records = []
    for part in manifest["parts"]:
        data = get(store, bucket, f"{name}/{part['name']}")
        assert data is not None
        assert len(data) == part["bytes"]
        if name.endswith(".parquet"):
            import pyarrow.parquet

            found = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
        elif name.endswith(".csv"):
            found = list(csv.DictReader(io.StringIO(data.decode())))
        else:
            found = [json.loads(line) for line in data.splitlines()]
        assert len(found) == part["records"]
        records += found
        nothing_secret(str(found))
    assert manifest["records"] == len(records)
    return manifest, records


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_results_go_into_a_bucket(
    ending: str, store: Proxy, bucket: str, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    fill(store, bucket, pictures)
    faults = itertools.cycle(["500 InternalError", "slow", "reset", "cut"])
    store.rule = lambda request: next(faults) if request.method == "PUT" and request.number == 0 else None
    out = f"s3://{bucket}/runs/r{ending}"
    said = run("scan", f"s3://{bucket}/in/", "--out", out, code=1)
    assert f"39 records in {out}" in said
    manifest, records = parts_of(store, bucket, f"runs/r{ending}")
    assert manifest["finished"] is True
    assert statuses(records) == expected(bucket, pictures)
    # Again: nothing is left to do, nothing is written twice.
    run("scan", f"s3://{bucket}/in/", "--out", out, "-q", code=1)
    assert parts_of(store, bucket, f"runs/r{ending}") == (manifest, records)
    run("scan", f"s3://{bucket}/in/face.jpg", "--out", out, "-q", "--overwrite")
    assert [record["path"] for record in parts_of(store, bucket, f"runs/r{ending}")[1]] == [
        f"s3://{bucket}/in/face.jpg"
    ]


def _result(number: int) -> ImageResult:
    return ImageResult(
        path=f"{number}.jpg", status="error", model="m", face_detector="f", version="v", threshold=0.5,
        threshold_fpr=0.01, band=(0.4, 0.6), error="no such file",
    )  # fmt: skip


def test_parts_are_whole_and_a_broken_bucket_loses_the_last_only(
    store: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_parts, "RECORDS", 4)
    url = f"s3://{bucket}/out.jsonl"
    with open_parts(url) as results:
        for number in range(10):
            results.write(_result(number))
    manifest, _ = parts_of(store, bucket, "out.jsonl")
    assert manifest["finished"] is False  # as it was when the run began
    names = [f"part-{n:05d}.jsonl" for n in range(3)]
    assert [len((get(store, bucket, f"out.jsonl/{name}") or b"").splitlines()) for name in names] == [4, 4, 2]
    seen: list[str] = []
    with open_parts(url, on_record=lambda record: seen.append(record["path"])) as results:
        assert (results.total, len(results.done), len(seen)) == (10, 10, 10)
        store.rule = lambda request: "403 AccessDenied" if request.method == "PUT" else None
        for number in range(10, 13):
            results.write(_result(number))
        with pytest.raises(OutputError, match="cannot write results: .*denied.*; 10 records are safe in s3://"):
            results.write(_result(13))
    store.reset()
    with open_parts(url) as results:
        assert results.total == 10
        for number in range(10, 20):
            results.write(_result(number))
        results.finish()
    manifest, records = parts_of(store, bucket, "out.jsonl")
    assert manifest["finished"] is True
    assert [record["path"] for record in records] == [f"{number}.jpg" for number in range(20)]


def test_two_scans_cannot_write_into_one_place(store: Proxy, bucket: str) -> None:
    url = f"s3://{bucket}/out.jsonl"
    one, other = open_parts(url), open_parts(url)
    one.write(_result(1))
    one.finish()
    other.write(_result(2))
    with pytest.raises(OutputError, match="written by another run at the same time"):
        other.finish()
    assert [record["path"] for record in parts_of(store, bucket, "out.jsonl")[1]] == ["1.jpg"]


def test_what_is_no_place_for_results(store: Proxy, bucket: str) -> None:
    for url, message in {
        "https://example.org/x.jsonl": "cannot be written to",
        f"s3://{bucket}/x.xls": "is no name for results",
        f"s3://{bucket}": "is no name for results",
        f"s3://{bucket}.jsonl": "is no name for results",
        "s3://key:secret@b/x.jsonl": r"s3://\*\*\*@b",
    }.items():
        with pytest.raises(UsageError, match=message):
            open_parts(url)
    put(store, bucket, {"x.jsonl/part-00000.jsonl": b"{}\n", "x.jsonl/other.txt": b"left alone"})
    with pytest.raises(OutputError, match=f"s3://{bucket}/x.jsonl/part-00000.jsonl exists and does not hold"):
        open_parts(f"s3://{bucket}/x.jsonl")
    with open_parts(f"s3://{bucket}/x.jsonl", overwrite=True) as results:
        assert results.total == 0
    assert get(store, bucket, "x.jsonl/other.txt") == b"left alone"
    assert get(store, bucket, "x.jsonl/part-00000.jsonl") is None


def test_killed_scans_into_a_bucket_end_with_every_picture_once(
    store: Proxy, bucket: str, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    """Ctrl-C keeps all that was done; kill -9 costs what no part holds yet; nothing is doubled."""
    fill(store, bucket, pictures)
    out = f"s3://{bucket}/out.jsonl"
    # A worker that asks for 31 has done the first sixteen; from 15 on it goes slowly.
    store.rule = lambda request: "slower" if re.search(r"/in/deep/(1[5-9]|[23])", request.path) else None
    words = ("scan", f"s3://{bucket}/in/", "--out", out, "-j", "2")
    process = start_cli(*words, env=environment_of(store))
    wait_until(lambda: store.count("GET", "deep/31"), seconds=120, what="the second sixteen")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130
    assert said == f"faceproof: stopped; 16 records are in {out}: the same command goes on\n"
    assert len((get(store, bucket, "out.jsonl/part-00000.jsonl") or b"").splitlines()) == 16
    before = store.count("GET", "deep/1[5-9]")
    process = start_cli(*words, env=environment_of(store))
    wait_until(lambda: store.count("GET", "deep/1[5-9]") > before, seconds=120, what="more pictures")
    process.kill()
    process.communicate(timeout=60)
    store.reset()
    run("scan", f"s3://{bucket}/in/", "--out", out, "-q", code=1)
    manifest, records = parts_of(store, bucket, "out.jsonl")
    assert manifest["finished"] is True
    assert statuses(records) == expected(bucket, pictures)


def test_signed_urls_leave_no_signature_behind(
    store: Proxy, bucket: str, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    """An http URL signed for one object: fetched with its signature, recorded without; signed again, it is done."""
    put(store, bucket, {"face.jpg": pictures["face.jpg"]})
    out = tmp_path / "out.jsonl"

    def signed(signature: str) -> str:
        return f"{store.url}/{bucket}/face.jpg?X-Amz-Credential={KEY_ID}&X-Amz-Date=1&X-Amz-Signature={signature}&id=7"

    run("scan", signed("aaaa"), "--out", out, "-q")
    assert any("X-Amz-Signature=aaaa" in each.query for each in store.seen)
    assert "X-Amz-Signature=***&id=7" in read_records(out)[0]["path"]
    asked = len(store.seen)
    run("scan", signed("bbbb"), "--out", out, "-q")
    assert len(read_records(out)) == 1
    assert len(store.seen) == asked
    said = run("scan", "https://me:hunter2@127.0.0.1/x.jpg", "--out", out, "-q", code=1)
    assert "hunter2" not in said + out.read_text()
    assert environment()["AWS_SECRET_ACCESS_KEY"] == SECRET  # what must not be seen was there to be seen
    assert whole_lines(out) == 2


# ---- docs/buckets.md

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "buckets.md").read_text(encoding="utf-8")


def test_the_pages_commands_run(store: Proxy, bucket: str, face_jpeg: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    shard = tar_of({"0001.jpg": face_jpeg})
    objects = {"avatars/a.jpg": face_jpeg, "shards/000.tar": shard, "list.csv": b"path\navatars/a.jpg\n"}
    put(store, "my-bucket", objects)
    (tmp_path / "shards").mkdir()
    for number in range(2):
        (tmp_path / "shards" / f"{number:03d}.tar").write_bytes(shard)
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) == 6
    for line in lines:
        done = run_cli(*shlex.split(line, comments=True)[1:], cwd=tmp_path)
        assert done.returncode == 0, (line, done.stderr)
    assert parts_of(store, "my-bucket", "runs/results.parquet")[0]["records"] == 1
    assert len((tmp_path / "local.csv").read_text().splitlines()) == 3


def test_the_page_says_what_the_code_does() -> None:
    listed = re.search(r"or a column named ([^)]+)\)", TEXT)
    assert listed is not None
    assert tuple(re.findall(r"`(\w+)`", listed[1])) == COLUMNS
    assert f"{SHARD_BYTES // 2**20} MiB each" in TEXT
    assert f"up to {result_parts.RECORDS:,} records" in TEXT
    assert (AHEAD, result_parts.SECONDS) == (8, 300)  # "eight at a time", "every five minutes"
    assert set(re.search(r"\| `(\.csv [^`]+)`", TEXT)[1].split()) == set(MANIFESTS)  # type: ignore[index]
