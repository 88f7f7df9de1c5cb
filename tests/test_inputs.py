"""What the user names -> paths: each once, in a stable order, nothing passed over in silence."""

from __future__ import annotations

import csv
import io
import json
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faceproof import Inputs, Item, UsageError
from faceproof.images import SUFFIXES, printable
from faceproof.inputs import COLUMNS, IdSet
from tests.helpers import read_records, run_cli, wait_until, without_root


def touch(*paths: Path | str | bytes) -> None:
    """Make files of a byte each, and the folders they lie in."""
    for given_path in paths:
        path = Path(os.fsdecode(given_path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listed(*arguments: Path | str, base: Path | None = None, **options: Any) -> list[str]:
    """Paths of all items, relative to `base`; none may carry an error."""
    items = list(Inputs([os.fspath(argument) for argument in arguments], **options))
    assert [item for item in items if item.error] == []
    return [os.path.relpath(item.path, base) if base else item.path for item in items]


# ---- folders


def test_a_folder_is_walked_in_order(tmp_path: Path) -> None:
    """Sorted by name, a folder's own files before those of its folders, whatever the file system's order."""
    names = [
        "b.jpg",
        "a/z.png",
        "a/a/y.webp",
        "a.JPG",
        "c/x.tiff",
        "B.jpeg",
        ".hidden.gif",
        "a/.dot/w.heic",
        "10.bmp",
        "9.avif",
    ]
    touch(*(tmp_path / name for name in reversed(names)))
    expected = [
        ".hidden.gif",
        "10.bmp",
        "9.avif",
        "B.jpeg",
        "a.JPG",
        "b.jpg",
        "a/z.png",
        "a/.dot/w.heic",
        "a/a/y.webp",
        "c/x.tiff",
    ]
    assert listed(tmp_path, base=tmp_path) == expected
    assert listed(tmp_path, base=tmp_path) == expected
    assert Inputs([str(tmp_path)]).count() == len(names)


def test_other_endings_are_counted_or_taken(tmp_path: Path) -> None:
    touch(
        tmp_path / "a.jpg",
        tmp_path / "notes.txt",
        tmp_path / "sub" / "Thumbs.db",
        tmp_path / "no_ending",
        tmp_path / "list.csv",
    )
    inputs = Inputs([str(tmp_path)])
    assert [os.path.basename(item.path) for item in inputs] == ["a.jpg"]
    assert inputs.ignored == 4
    assert list(inputs) == [Item(str(tmp_path / "a.jpg"))]
    assert inputs.ignored == 4  # not counted twice
    everything = Inputs([str(tmp_path)], all_files=True)
    assert len(list(everything)) == 5
    assert everything.ignored == 0


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_ending_counts_in_any_case(suffix: str, tmp_path: Path) -> None:
    touch(tmp_path / f"a{suffix}", tmp_path / f"b{suffix.upper()}")
    assert len(listed(tmp_path)) == 2


def test_links_are_followed_and_loops_are_named(tmp_path: Path) -> None:
    """Each loop is one item with its error; what else there is, is listed all the same."""
    top, outside = tmp_path / "top", tmp_path / "outside"
    touch(top / "a.jpg", top / "sub" / "b.jpg", outside / "c.jpg")
    (top / "linked").symlink_to(outside)
    (top / "sub" / "up").symlink_to("..")
    (top / "self").symlink_to(".")
    (top / "to-file.jpg").symlink_to(outside / "c.jpg")
    (top / "broken.jpg").symlink_to("nowhere")
    (top / "endless.jpg").symlink_to("endless.jpg")
    items = {os.path.relpath(item.path, top): item.error for item in Inputs([str(top)])}
    loops = {path for path, error in items.items() if error}
    assert loops == {"self", "sub/up"}
    assert all("loop of folder links" in str(items[path]) and "remove the link" in str(items[path]) for path in loops)
    # Broken and endless links stay in the list: reading them says what is wrong.
    assert set(items) - loops == {"a.jpg", "broken.jpg", "endless.jpg", "linked/c.jpg", "sub/b.jpg", "to-file.jpg"}


def test_two_folders_that_link_each_other(tmp_path: Path) -> None:
    """Both pictures are there, under one name or two; the circle between them is not walked round and round."""
    touch(tmp_path / "one" / "a.jpg", tmp_path / "two" / "b.jpg")
    (tmp_path / "one" / "other").symlink_to("../two")
    (tmp_path / "two" / "other").symlink_to("../one")
    items = list(Inputs([str(tmp_path)]))
    pictures = {os.path.relpath(os.path.realpath(item.path), tmp_path) for item in items if item.error is None}
    assert pictures == {"one/a.jpg", "two/b.jpg"}
    assert len(items) <= 6
    assert all("loop of folder links" in item.error for item in items if item.error)


def test_a_maze_of_links_ends(tmp_path: Path) -> None:
    """Nine folders that all link to all: paths without a loop number a million, folders ten."""
    folders = [tmp_path / f"f{number}" for number in range(9)]
    for folder in folders:
        touch(folder / "a.jpg")
        for other in folders:
            if other != folder:
                (folder / other.name).symlink_to(other)
    met = 0
    for met, _ in enumerate(Inputs([str(tmp_path)]), 1):
        if met > 5000:
            break
    assert 9 <= met <= 5000


def test_folders_that_cannot_be_listed(tmp_path: Path, face_jpeg: bytes) -> None:
    """Permission bits do not stop root, so this runs without that right; the rest of the scan goes on."""
    folder = tmp_path / "pictures"
    for name in ("a.jpg", "closed/b.jpg", "open/c.jpg"):
        touch(folder / name)
        (folder / name).write_bytes(face_jpeg)
    (folder / "closed").chmod(0)
    try:
        done = run_cli("scan", folder, "--out", tmp_path / "out.jsonl", "-q", before=without_root())
    finally:
        (folder / "closed").chmod(0o755)
    records = {os.path.relpath(record["path"], folder): record for record in read_records(tmp_path / "out.jsonl")}
    assert {path: record["status"] for path, record in records.items()} == {
        "a.jpg": "ok",
        "closed": "error",
        "open/c.jpg": "ok",
    }
    assert records["closed"]["error"] == "the folder cannot be listed (Permission denied); check its owner and mode"
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    for folder in (tmp_path, tmp_path / "empty"):
        folder.mkdir(exist_ok=True)
        with pytest.raises(
            UsageError, match=r"no pictures in .*\.jpg.*check the folder, or take every file with --all-files"
        ):
            list(Inputs([str(folder)]))
    assert len(list(Inputs([str(tmp_path)], all_files=True))) == 1


def test_nothing_named() -> None:
    with pytest.raises(UsageError, match="nothing to check; give pictures"):
        Inputs([])


STRANGE = [
    b"\xff\xfe.jpg", b"new\nline.jpg", b"cr\r.jpg", b"tab\t.jpg", b" .jpg", b"~.jpg", b"=1+1.jpg", b"-rf.jpg",
    b"*[a]?.jpg", b"'q'.jpg", b'"q".jpg', b"a,b;c.jpg", b"back\\slash.jpg", b"%00.jpg",
    "\u00fc\u202e\U0001f600.jpg".encode(), "e\u0301.jpg".encode(), "\u00e9.jpg".encode(), b"esc\x1b[2J.jpg",
]  # fmt: skip


def test_strange_names_in_a_folder(tmp_path: Path) -> None:
    """Every name is found, can be opened again, and is told apart from every other when printed."""
    touch(*(os.path.join(os.fsencode(tmp_path), name) for name in STRANGE))
    paths = listed(tmp_path)
    assert sorted(os.path.basename(os.fsencode(path)) for path in paths) == sorted(STRANGE)
    assert all(os.path.isfile(path) for path in paths)
    for path in paths:
        assert printable(path).encode().decode() == printable(path)


def test_a_name_cannot_hide_another(tmp_path: Path) -> None:
    r"""A file called \xff (four characters) and one whose name is the byte 0xFF print differently."""
    one, other = (os.fsdecode(os.path.join(os.fsencode(tmp_path), name)) for name in (b"\xff.jpg", b"\\xff.jpg"))
    touch(one, other)
    assert printable(one) != printable(other)
    assert len(listed(tmp_path)) == 2


raw_names = st.binary(min_size=1).filter(lambda name: b"\0" not in name)


@given(raw_names, raw_names)
@example(b"\xff.jpg", b"\\xff.jpg")
def test_printable_keeps_names_apart(one: bytes, other: bytes) -> None:
    text = printable(os.fsdecode(one))
    assert text.encode("utf-8").decode("utf-8") == text
    assert (text == printable(os.fsdecode(other))) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\\0")))
def test_printable_leaves_ordinary_names_alone(name: str) -> None:
    assert printable(name) == name


def test_printable_takes_what_json_can_hold() -> None:
    """A manifest may name a lone surrogate, which no file system has; it must become a record all the same."""
    printable("\ud800.jpg").encode("utf-8")


# ---- single arguments, duplicates, globs


def test_arguments_keep_their_order_and_duplicates_go(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "odd.xyz")
    a, b, odd = (str(tmp_path / name) for name in ("a.jpg", "b.jpg", "odd.xyz"))
    missing, url = str(tmp_path / "missing.jpg"), "https://example.org/x.jpg"
    assert listed(b, a, b, url, str(tmp_path), odd, missing, url, missing) == [b, a, url, odd, missing]


def test_a_file_named_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path / "[a].jpg", tmp_path / "a.jpg", tmp_path / "*.jpg")
    assert listed(tmp_path / "[a].jpg", base=tmp_path) == ["[a].jpg"]
    assert listed(tmp_path / "*.jpg", base=tmp_path) == ["*.jpg"]


def test_globs(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("b.jpg", "a.jpg", "c.png", "sub/d.jpg", "sub/deep/e.jpg", "notes.txt")))
    assert listed(f"{tmp_path}/*.jpg", base=tmp_path) == ["a.jpg", "b.jpg"]
    assert listed(f"{tmp_path}/[bc].*", base=tmp_path) == ["b.jpg", "c.png"]
    assert listed(f"{tmp_path}/**/*.jpg", base=tmp_path) == ["a.jpg", "b.jpg", "sub/d.jpg", "sub/deep/e.jpg"]
    inputs = Inputs([f"{tmp_path}/**"])
    assert len(list(inputs)) == 5
    assert inputs.ignored == 1
    assert listed(f"{tmp_path}/*.jpg", tmp_path / "a.jpg", f"{tmp_path}/?.jpg", base=tmp_path) == ["a.jpg", "b.jpg"]


def test_a_glob_without_a_match(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing matches '.*\*\.jpg'; check the pattern"):
        list(Inputs([f"{tmp_path}/*.jpg"]))


@pytest.mark.parametrize("pattern", ["*", "*.txt", "sub*"])
def test_a_glob_that_yields_nothing_says_so(pattern: str, tmp_path: Path) -> None:
    """Folders and other files match, no picture does: a run with nothing to do must not look like success."""
    touch(tmp_path / "sub" / "d.jpg", tmp_path / "notes.txt")
    try:
        found = list(Inputs([f"{tmp_path}/{pattern}"]))
    except UsageError as err:
        found = []
        said = str(err)
    else:
        said = ""
    assert found or said


# ---- manifests

PATHS = ["a.jpg", "sub/b c.png", "https://example.org/x.jpg", 'ü,"quoted".jpg']


def _csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".csv": _csv,
    ".tsv": lambda rows: _csv(rows, "\t"),
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
}


def _expected(folder: Path) -> list[str]:
    return [path if path.startswith("https:") else str(folder / path) for path in PATHS]


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("column", COLUMNS)
def test_manifests(ending: str, column: str, tmp_path: Path) -> None:
    """Paths are relative to the manifest's folder; other columns do not matter; duplicates go."""
    manifest = tmp_path / f"list{ending}"
    manifest.write_bytes(
        WRITERS[ending]([{"id": 7, column: path, "label": "photograph"} for path in [*PATHS, PATHS[0]]])
    )
    assert listed(manifest) == _expected(tmp_path)


@pytest.mark.parametrize("ending", [".txt", ".lst"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_lists(ending: str, end: str, tmp_path: Path) -> None:
    manifest = tmp_path / f"list{ending}"
    for content in (end.join(PATHS), end.join([*PATHS, "", ""]), end.join([PATHS[0], "", *PATHS])):
        manifest.write_bytes(content.encode())
        assert listed(manifest) == _expected(tmp_path)


def test_absolute_paths_and_upper_case_endings(tmp_path: Path) -> None:
    manifest = tmp_path / "LIST.CSV"
    manifest.write_bytes(_csv([{"path": "/somewhere/else.jpg"}, {"path": "here.jpg"}]))
    assert listed(manifest) == ["/somewhere/else.jpg", str(tmp_path / "here.jpg")]


def test_a_relative_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_bytes(_csv([{"path": "a.jpg"}]))
    assert listed("list.csv") == ["a.jpg"]
    assert listed("./list.csv") == ["a.jpg"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".txt"])
def test_a_byte_order_mark_is_no_part_of_a_path(ending: str, tmp_path: Path) -> None:
    """Windows editors put one in front."""
    manifest = tmp_path / f"list{ending}"
    content = b"a.jpg\n" if ending == ".txt" else WRITERS[ending]([{"path": "a.jpg"}])
    manifest.write_bytes(b"\xef\xbb\xbf" + content)
    assert listed(manifest, base=tmp_path) == ["a.jpg"]


def test_json_lines_may_be_bare_strings(tmp_path: Path) -> None:
    manifest = tmp_path / "list.jsonl"
    manifest.write_text('"a.jpg"\n\n{"file_name": "b.jpg"}\n')
    assert listed(manifest, base=tmp_path) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("ending", WRITERS)
def test_a_manifest_without_a_path_column(ending: str, tmp_path: Path) -> None:
    manifest = tmp_path / f"list{ending}"
    manifest.write_bytes(WRITERS[ending]([{"url": "a.jpg", "label": "x"}]))
    with pytest.raises(UsageError, match=r"list\.\w+, entry 1: no path; a manifest has a column named path or file or"):
        list(Inputs([str(manifest)]))


@pytest.mark.parametrize("ending", WRITERS)
def test_an_entry_without_a_path(ending: str, tmp_path: Path) -> None:
    manifest = tmp_path / f"list{ending}"
    manifest.write_bytes(WRITERS[ending]([{"path": "a.jpg"}, {"path": ""}]))
    with pytest.raises(UsageError, match="entry 2: no path"):
        list(Inputs([str(manifest)]))


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "not UTF-8": ("list.csv", b"path\n\xff\xfe.jpg\n", "cannot be read"),
    "UTF-16": ("list.csv", "path\na.jpg\n".encode("utf-16"), "cannot be read"),
    "endless field": ("list.csv", b'path\n"' + b"x" * 200_000, "cannot be read"),
    "not JSON": ("list.jsonl", b'{"path": "a.jpg"}\n{"path": \n', "line 2: not JSON"),
    "deep JSON": ("list.jsonl", b"[" * 100_000 + b"\n", "line 1: not JSON"),
    "null": ("list.jsonl", b"null\n", "entry 1: no path"),
    "not Parquet": ("list.parquet", b"PAR1 no PAR1", "cannot be read"),
    "empty Parquet": ("list.parquet", b"", "cannot be read"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_manifests(kind: str, tmp_path: Path) -> None:
    name, content, pattern = BROKEN[kind]
    (tmp_path / name).write_bytes(content)
    csv.field_size_limit(131_072)  # Python's own; readers of results raise it for the whole process
    with pytest.raises(UsageError, match=pattern):
        list(Inputs([str(tmp_path / name)]))


def test_manifests_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("nowhere.csv")
    with pytest.raises(UsageError, match="link.csv cannot be read"):
        list(Inputs([str(tmp_path / "link.csv")]))
    assert listed(tmp_path / "missing.csv", base=tmp_path) == ["missing.csv"]  # reading it says that it is missing


def test_hostile_paths_in_a_manifest(tmp_path: Path, face_jpeg: bytes) -> None:
    """Lone surrogates, NUL, numbers, folders, endless names: one record each, and the good one is checked."""
    (tmp_path / "good.jpg").write_bytes(face_jpeg)
    rows = ["a\ud800.jpg", "nul\0.jpg", 17, "", "x" * 5000, "good.jpg", "../" * 50 + "etc/hostname", "."]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("".join(json.dumps({"path": row, "file": "fallback.jpg"}) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    done = run_cli("scan", manifest, "--out", out, "-q")
    assert (done.returncode, done.stderr) == (1, "")
    records = read_records(out)
    assert len(records) == len(rows)
    assert [record["status"] for record in records].count("ok") == 1
    assert records[5]["path"].endswith("good.jpg")


# ---- "-": a list on standard input


def _from_stdin(data: bytes) -> list[bytes]:
    return [os.fsencode(item.path) for item in Inputs(["-"], stdin=io.BytesIO(data))]


names = st.binary(min_size=1, max_size=30).filter(
    lambda name: not set(name) & {0, 10, 13} and not name.lower().startswith(b"http")
)


@given(st.lists(names, unique=True), st.booleans())
def test_stdin_lines(given_names: list[bytes], ended: bool) -> None:
    assert _from_stdin(b"\n".join(given_names) + (b"\n" if ended and given_names else b"")) == given_names


@given(st.lists(st.one_of(names, names.map(lambda name: b"a" + name + b"\n\r" + name)), unique=True, min_size=1))
def test_stdin_nul(given_names: list[bytes]) -> None:
    """find -print0: names may hold line ends."""
    assert _from_stdin(b"".join(name + b"\0" for name in given_names)) == given_names


def test_stdin_longer_than_a_block() -> None:
    many = [b"folder/%07d-%s.jpg" % (number, b"x" * (number % 50)) for number in range(20_000)]
    assert _from_stdin(b"\n".join(many)) == many
    assert _from_stdin(b"\0".join(many) + b"\0") == many


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_stdin_is_read_as_it_comes(end: bytes) -> None:
    """The first path is there before the last one is written: a list may be endless."""
    reading, writing = os.pipe()
    with open(reading, "rb") as stdin, open(writing, "wb", buffering=0) as producer:
        items: Iterator[Item] = iter(Inputs(["-"], stdin=stdin))
        first: list[Item] = []
        producer.write(b"a.jpg" + end)
        thread = threading.Thread(target=lambda: first.append(next(items)), daemon=True)
        thread.start()
        thread.join(20)
        assert first == [Item("a.jpg")]
        producer.write(b"b.jpg" + end)
        producer.close()
        assert list(items) == [Item("b.jpg")]


def test_stdin_in_pieces() -> None:
    """The producer's first write may end inside the first name."""
    reading, writing = os.pipe()
    with open(reading, "rb") as stdin, open(writing, "wb", buffering=0) as producer:
        producer.write(b"new")
        found: list[Item] = []
        thread = threading.Thread(target=lambda: found.extend(Inputs(["-"], stdin=stdin)), daemon=True)
        thread.start()
        wait_until(lambda: not select.select([stdin], [], [], 0)[0], seconds=20, what="the first piece to be taken")
        producer.write(b"\nline.jpg\0other.jpg\0")
        producer.close()
        thread.join(20)
    assert found == [Item("new\nline.jpg"), Item("other.jpg")]


def test_standard_input_cannot_be_counted() -> None:
    assert not Inputs(["a", "-"]).countable
    assert Inputs(["a"]).countable


# ---- IdSet


@settings(max_examples=200)
@given(st.lists(st.text(max_size=3)), st.integers(1, 20), st.lists(st.text(max_size=3)))
def test_id_set_is_a_set(texts: list[str], buffer: int, others: list[str]) -> None:
    """With a small buffer, so that merging into the sorted part happens all the time."""
    ours, theirs = IdSet(buffer), set[str]()
    for text in texts:
        assert ours.add(text) == (text not in theirs)
        theirs.add(text)
        assert len(ours) == len(theirs)
    for text in [*texts, *others]:
        assert (text in ours) == (text in theirs)


def test_id_set_holds_many_in_little() -> None:
    ids = IdSet()
    assert all(ids.add(f"folder/{number}.jpg") for number in range(100_000))
    assert len(ids) == 100_000
    assert not any(ids.add(f"folder/{number}.jpg") for number in range(0, 100_000, 37))
    assert "folder/100000.jpg" not in ids
    assert ids._sorted.nbytes <= 8 * 100_000
    assert len(ids._recent) <= 1 << 15
