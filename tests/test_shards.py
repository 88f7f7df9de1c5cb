"""Shards: tar files and Parquet with pictures in them, whole, damaged and hostile."""

from __future__ import annotations

import gzip
import io
import itertools
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof import DamagedError, Inputs, PictureError, UnreadableError, load
from faceproof.errors import TooLargeError
from faceproof.shards import Member, is_tar, member, members, rows, split
from tests.helpers import read_records, run_cli

LIMIT = 2**20


def tar_of(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar with these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def is_jpg(name: str) -> bool:
    return name.endswith(".jpg")


def everything(path: Path, max_bytes: int = LIMIT) -> list[Member]:
    return list(members(str(path), is_jpg, max_bytes))


FILES = {
    "000001.jpg": b"one" * 100, "000001.json": b"{}", "000002.jpg": b"two", "000002.cls": b"1",
    "deep/er/" + "x" * 200 + ".jpg": b"long name", "ü \U0001f600.jpg": b"", "000003.jpg": bytes(range(256)) * 9,
}  # fmt: skip
PICTURES = {name: data for name, data in FILES.items() if is_jpg(name)}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".TAR"])
def test_pictures_of_a_tar_come_in_order(ending: str, form: int, tmp_path: Path) -> None:
    path = tmp_path / f"shard{ending}"
    data = tar_of(FILES, form)
    path.write_bytes(data if ending.lower() == ".tar" else gzip.compress(data))
    assert is_tar(str(path))
    passed = itertools.count()
    found = list(members(str(path), is_jpg, LIMIT, ignored=lambda: next(passed)))
    assert {each.name: each.data for each in found} == PICTURES
    assert [each.name for each in found] == list(PICTURES)
    assert next(passed) == 2  # .json and .cls, counted
    for name, content in PICTURES.items():
        assert member(str(path), name, LIMIT) == content


def test_members_that_are_no_files_or_too_large_are_named(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind, name in (
            (tarfile.SYMTYPE, "link.jpg"),
            (tarfile.LNKTYPE, "hard.jpg"),
            (tarfile.FIFOTYPE, "pipe.jpg"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, size in (("large.jpg", 5000), ("same.jpg", 3), ("same.jpg", 4), ("../../out.jpg", 5)):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes([65]) * size))
    path = tmp_path / "a.tar"
    path.write_bytes(stream.getvalue())
    found = everything(path, 4000)
    errors = {each.name: each.error for each in found if each.error is not None}
    assert set(errors) == {"link.jpg", "hard.jpg", "pipe.jpg", "large.jpg"}
    assert all("unpack" in error for error in errors.values())
    # Nothing is dropped because of its name, and none of them is a path here.
    assert [each.name for each in found if each.data] == ["same.jpg", "same.jpg#2", "../../out.jpg"]
    assert member(str(path), "same.jpg", LIMIT) == b"AAA"
    assert member(str(path), "same.jpg#2", LIMIT) == b"AAAA"
    with pytest.raises(UnreadableError, match="no such member"):
        member(str(path), "link.jpg", LIMIT)
    with pytest.raises(TooLargeError):
        member(str(path), "large.jpg", 100)


@given(data=st.data())
@settings(max_examples=60)
def test_a_shard_that_was_cut_off_says_so(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is there before the cut comes out, then the error: nothing is missing in silence."""
    whole = tar_of(FILES)
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # of the last member; two blocks of zeros mark the end
    keep = data.draw(st.integers(0, end + 511))
    path = tmp_path_factory.mktemp("cut") / "a.tar"
    path.write_bytes(whole[:keep])
    found: list[Member] = []
    with pytest.raises(DamagedError, match="damaged|breaks off"):
        found.extend(members(str(path), is_jpg, LIMIT))
    assert [each.name for each in found] == list(PICTURES)[: len(found)]


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
@settings(max_examples=120)
def test_damaged_shards_raise_nothing_else(flips: list[tuple[int, int]], packed: bool) -> None:
    whole = bytearray(tar_of(FILES))
    if packed:
        whole = bytearray(gzip.compress(bytes(whole)))
    for place, value in flips:
        whole[place % len(whole)] = value
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("a.tgz" if packed else "a.tar")
        path.write_bytes(whole)
        try:
            for each in members(str(path), lambda name: True, LIMIT):
                assert each.error or each.data is not None
        except PictureError:
            pass


def test_headers_that_ask_for_much_memory_are_refused(tmp_path: Path) -> None:
    """A name of 8 GB, which a compressed shard can hold in a few megabytes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    path = tmp_path / "bomb.tgz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**25)))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError, match="header of 8192 MiB"):
            everything(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_large_shard_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.tar"
    content = bytes(2**20)
    with tarfile.open(path, "w") as archive:
        for number in range(64):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    tracemalloc.start()
    try:
        assert sum(1 for _ in members(str(path), is_jpg, LIMIT)) == 64
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_names_of_pictures_in_shards(tmp_path: Path) -> None:
    assert split("a/b.tar::c/d.jpg") == ("a/b.tar", "c/d.jpg")
    assert split("s3://b/x.tar.gz::y::z") == ("s3://b/x.tar.gz", "y::z")
    assert split("https://h/x.tar?sig=1::y.jpg") == ("https://h/x.tar?sig=1", "y.jpg")
    assert split("x.parquet::7") == ("x.parquet", "7")
    for plain in ("a.jpg", "a::b.jpg", "a.tar", "a.tar::", "::a.jpg", "http://h:80/a.jpg"):
        assert split(plain) is None
    odd = tmp_path / "a.tar::b.jpg"
    odd.write_bytes(b"")
    assert split(str(odd)) is None  # a file of that name goes first


# ---- Parquet


def parquet(path: Path, columns: dict[str, Any], rows_of_group: int = 3) -> Path:
    pa = pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=rows_of_group)
    return path


DATA = [f"picture {number}".encode() for number in range(8)]


@pytest.mark.parametrize("column", ["image", "jpg", "bytes", "anything"])
def test_pictures_of_parquet_come_row_by_row(column: str, tmp_path: Path) -> None:
    values: Any = DATA
    if column in ("image", "anything"):  # as Hugging Face writes them
        values = [{"bytes": data, "path": f"/etc/{number}.jpg"} for number, data in enumerate(DATA)]
    path = parquet(tmp_path / "a.parquet", {"label": list(range(8)), column: values})
    found = list(rows(str(path), LIMIT))
    assert [(each.name, each.data) for each in found] == [(str(n), data) for n, data in enumerate(DATA)]
    for number in range(8):
        assert member(str(path), str(number), LIMIT) == DATA[number]
        assert [each.name for each in rows(str(path), LIMIT, first=number)] == [str(n) for n in range(number, 8)]
    with pytest.raises(UnreadableError, match="no such row"):
        member(str(path), "8", LIMIT)
    with pytest.raises(UnreadableError, match="the number of its row"):
        member(str(path), "a.jpg", LIMIT)


def test_rows_without_a_picture_are_named(tmp_path: Path) -> None:
    values = [{"bytes": None, "path": "/etc/passwd"}, {"bytes": b"x" * 50, "path": None}, None]
    path = parquet(tmp_path / "a.parquet", {"image": values})
    found = list(rows(str(path), 40))
    assert [each.data for each in found] == [None] * 3
    assert ["no bytes" in str(found[0].error), "over the limit" in str(found[1].error)] == [True, True]
    with pytest.raises(UnreadableError, match="no bytes"):
        member(str(path), "2", LIMIT)


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [bytes([n]) * 9000 for n in range(200)]}, 20)
    data = bytearray(path.read_bytes())
    data[5000:6000] = bytes(1000)
    path.write_bytes(data)
    items = list(Inputs([str(path)]))
    assert 0 < len(items) <= 200
    assert items[-1].error is None or "damaged" in items[-1].error
    path.write_bytes(data[:-100])
    with pytest.raises(Exception, match="cannot be read"):
        list(Inputs([str(path)]))


# ---- as inputs


def test_shards_are_inputs(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"s-{number:02d}.tar").write_bytes(tar_of({f"{number}.jpg": b"x", "a.txt": b""}))
    names = [f"{tmp_path}/s-{number:02d}.tar::{number}.jpg" for number in range(3)]
    for given_ in (
        [f"{tmp_path}/s-{{00..02}}.tar"],
        [f"{tmp_path}/*.tar"],
        [f"{tmp_path}/s-0{n}.tar" for n in range(3)],
    ):
        inputs = Inputs(given_)
        found = list(inputs)
        assert [item.path for item in found] == names
        assert [item.data for item in found] == [b"x"] * 3
        assert inputs.ignored == 3
        assert not inputs.countable  # that would read them twice
    assert [item.path for item in Inputs([str(tmp_path / "s-00.tar")], all_files=True)] == [
        f"{tmp_path}/s-00.tar::0.jpg", f"{tmp_path}/s-00.tar::a.txt"
    ]  # fmt: skip
    (tmp_path / "none.tar").write_bytes(tar_of({"a.txt": b""}))
    (tmp_path / "cut.tar").write_bytes(tar_of({"a.jpg": b"x", "b.jpg": b"y"})[:1100])
    found = list(Inputs([str(tmp_path / "none.tar"), str(tmp_path / "cut.tar"), str(tmp_path / "gone.tar")]))
    assert [(Path(item.path).name, (item.error or "")[:18]) for item in found] == [
        ("none.tar", "no pictures in thi"), ("cut.tar::a.jpg", ""), ("cut.tar", "the shard breaks o"), ("gone.tar", ""),
    ]  # fmt: skip


def test_a_shard_gives_what_its_pictures_give(tmp_path: Path, face_jpeg: bytes) -> None:
    """The same records from a folder, a tar and a Parquet file; SHARD::MEMBER can be checked by itself."""
    pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    files = {"a.jpg": face_jpeg, "b.jpg": b"no picture", "c.jpg": face_jpeg + b"\0"}
    (tmp_path / "folder").mkdir()
    for name, data in files.items():
        (tmp_path / "folder" / name).write_bytes(data)
    (tmp_path / "x.tar").write_bytes(tar_of(files))
    parquet(tmp_path / "x.parquet", {"image": list(files.values())})
    found = {}
    for source in ("folder", "x.tar", "x.parquet"):
        done = run_cli("scan", tmp_path / source, "--out", tmp_path / f"{source}.jsonl", "-q")
        assert (done.returncode, done.stderr) == (1, "")
        found[source] = read_records(tmp_path / f"{source}.jsonl")
    assert [record["path"] for record in found["x.tar"]] == [f"{tmp_path}/x.tar::{name}" for name in files]
    assert [record["path"] for record in found["x.parquet"]] == [f"{tmp_path}/x.parquet::{row}" for row in range(3)]
    for records in found.values():
        for record in records:
            record.pop("path")
            record.pop("notes")  # that a name and its content differ: a row has no ending
    assert found["folder"] == found["x.tar"] == found["x.parquet"]
    done = run_cli("check", "x.tar::a.jpg", "x.parquet::2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load(f"{tmp_path}/x.tar::c.jpg").sha256 == found["folder"][2]["sha256"]
