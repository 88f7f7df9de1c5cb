"""Units, folders of parts, and the engine that needs nothing; real processes are killed in test_engine_runs.py."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faceproof.engine_local import LocalEngine
from faceproof.engine_run import open_run
from faceproof.engines import TRIES, Done, GaveUp, Task, Worker, part_name, read_part
from faceproof.errors import MissingExtraError, ModelError, OutputError, StorageError, UsageError
from faceproof.inputs import Inputs, Item
from faceproof.part_folders import MANIFEST, LocalFolder
from faceproof.reports import read_results
from faceproof.scan import Options, scan
from faceproof.units import UNIT, Unit, units
from tests.engine_runs import assert_exactly_once, fill, parts
from tests.test_shards import tar_of


class Here:
    """An engine in this process, with what a test wants to happen to its units."""

    def __init__(self, times: int = 1, before: int | None = None) -> None:
        self.times, self.before = times, before
        self.asked: list[str] = []

    def run(self, units: Iterator[Unit], task: Task) -> Generator[Done | GaveUp, None, None]:
        worker = Worker(task)
        for number, unit in enumerate(units):
            self.asked.append(unit.name)
            if number == self.before:
                raise StorageError("the store is gone")
            done = [worker.do(unit, tries) for tries in range(self.times)]
            assert all(replace(each, counts={}) == replace(done[0], counts={}) for each in done)
            yield from done


@pytest.fixture
def pictures(tmp_path: Path, face_jpeg: bytes) -> dict[str, str]:
    return fill(tmp_path / "in", 30, face_jpeg)


def inputs(*given: str | Path, whole: bool = True) -> Inputs:
    return Inputs([str(each) for each in given], whole_shards=whole)


# ---- units


def test_units_have_names_that_stay() -> None:
    items = [Item(f"{n}.jpg") for n in range(7)]
    chosen = Inputs([item.path for item in items])
    first, second = list(units(chosen, 3)), list(units(chosen, 3))
    assert [[item.path for item in unit.items] for unit in first] == [
        ["0.jpg", "1.jpg", "2.jpg"],
        ["3.jpg", "4.jpg", "5.jpg"],
        ["6.jpg"],
    ]
    assert [unit.name for unit in first] == [unit.name for unit in second]
    assert len({unit.name for unit in first}) == 3
    # The name is that of the paths: neither their number nor where one ends can be confused.
    assert Unit((Item("a"), Item("b"))).name != Unit((Item("ab"),)).name
    assert Unit((Item("a", "not readable"),)).name == Unit((Item("a"),)).name
    assert first[0].name == "".join(f"{byte:02x}" for byte in _by_definition(["0.jpg", "1.jpg", "2.jpg"]))


def _by_definition(paths: list[str]) -> bytes:
    import hashlib

    return hashlib.blake2b("".join(f"{path}\0" for path in paths).encode(), digest_size=8).digest()


def test_videos_and_shards_are_units_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(tar_of({"x.jpg": b"1", "y.jpg": b"2", "notes.txt": b"3"}))
    chosen = inputs("a.jpg", "b.MP4", tmp_path / "s.tar", "c.jpg", f"{tmp_path}/s.tar::x.jpg")
    found = list(units(chosen, 2))
    assert [[os.path.basename(item.path) for item in unit.items] for unit in found] == [
        ["b.MP4"], ["s.tar"], ["a.jpg", "c.jpg"], ["s.tar::x.jpg"],
    ]  # fmt: skip
    shard = found[1]
    assert (shard.pictures, found[2].pictures) == (None, 2)
    items, counting = shard.read()
    assert [(item.path.rpartition("::")[2], item.data) for item in items] == [("x.jpg", b"1"), ("y.jpg", b"2")]
    assert counting.ignored == 1
    assert list(found[2].read()[0]) == list(found[2].items)
    with pytest.raises(UsageError, match="at least 1 picture, not 0"):
        units(chosen, 0)
    for wrong in ((), (Item("a.tar", shard=True), Item("b.jpg"))):
        with pytest.raises(UsageError, match="some pictures, or a single shard"):
            Unit(wrong)


def test_a_unit_without_what_is_done() -> None:
    unit = Unit((Item("a"), Item("b"), Item("c")))
    assert unit.without(set()) is unit
    assert unit.without({"a", "c"}) == Unit((Item("b"),))
    assert unit.without({"a", "b", "c"}) is None


def test_the_option_says_what_units_there_are() -> None:
    import inspect

    from faceproof.cli import scan as command

    assert inspect.signature(command).parameters["unit"].default == UNIT
    assert TRIES > 1


# ---- folders of parts


def test_a_part_is_put_in_place_once(tmp_path: Path) -> None:
    folder = LocalFolder(str(tmp_path / "out"))
    assert list(folder.names()) == []
    folder.make()
    one, other = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"one")
    other.write_bytes(b"other")
    assert folder.create("part", one)
    assert not folder.create("part", other)
    assert (folder.read("part"), list(folder.names()), folder.has("part")) == (b"one", ["part"], True)
    folder.replace("part", b"new")
    assert (tmp_path / "out" / "part").read_bytes() == b"new"
    (tmp_path / "out" / "_tmp.left").write_bytes(b"half")
    folder.tidy()
    assert list(folder.names()) == ["part"]
    folder.remove("part")
    folder.remove("part")
    assert not folder.has("part")
    with pytest.raises(OutputError, match="cannot read in"):
        folder.read("part")
    with pytest.raises(OutputError, match="cannot make the folder"):
        LocalFolder(str(one / "below")).make()


# ---- runs


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_parts_hold_what_a_scan_finds(ending: str, tmp_path: Path, pictures: dict[str, str]) -> None:
    """Every unit given out twice, by an engine that does not know better: every picture once, as a scan records it."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    out, given = tmp_path / f"out{ending}", tmp_path / "in"
    with open_run(str(out), Options()) as run:
        run.scan(inputs(given), Here(times=2), size=7)
        assert run.total == len(pictures)
        assert sorted(record["path"] for record in run.records()) == sorted(pictures)
    plain = sorted((result.to_dict() for result in scan(inputs(given), Options(), workers=1)), key=_path)
    assert [run.counts[name] for name in ("ok", "no_face", "error")] == [
        sum(record["status"] == name for record in plain) for name in ("ok", "no_face", "error")
    ]
    if ending != ".csv":
        found = assert_exactly_once(out, pictures)
        assert json.loads(json.dumps(sorted(found, key=_path))) == json.loads(json.dumps(plain))
    read = sorted(read_results(out), key=_path)
    assert [record["path"] for record in read] == [record["path"] for record in plain]
    assert [record["verdict"] for record in read] == [record["verdict"] for record in plain]


def _path(record: Mapping[str, Any]) -> str:
    return str(record["path"])


def test_other_readers_take_the_folder(tmp_path: Path, pictures: dict[str, str]) -> None:
    dataset = pytest.importorskip("pyarrow.dataset", reason="the extra [parquet] is not installed")
    out = tmp_path / "out.parquet"
    with open_run(str(out), Options()) as run:
        run.scan(inputs(tmp_path / "in"), Here(), size=7)
    table = dataset.dataset(str(out)).to_table(columns=["path", "status"])
    assert dict(zip(table["path"].to_pylist(), table["status"].to_pylist(), strict=True)) == pictures


def test_a_run_goes_on_with_what_is_missing(tmp_path: Path, pictures: dict[str, str], face_jpeg: bytes) -> None:
    out, given = tmp_path / "out.jsonl", tmp_path / "in"
    with open_run(str(out), Options()) as run:
        with pytest.raises(StorageError, match="the store is gone"):
            run.scan(inputs(given), Here(before=2), size=8)
        assert run.total == 16
    with pytest.raises(UsageError, match=r"has not come to its end; run its command again"):
        list(read_results(out))
    first, skipped = parts(out), []
    engine = Here()
    with open_run(str(out), Options()) as run:
        assert run.total == 16
        run.scan(inputs(given), engine, size=8, on_skip=skipped.append)
    assert len(engine.asked) == 2
    assert skipped == [8, 8]
    assert_exactly_once(out, pictures)
    assert set(first) < set(parts(out))
    # A picture that came later shifts all boundaries, and other sizes of units do, too: nothing is done twice.
    (given / "sub0" / "0000a.png").write_bytes(face_jpeg)
    expected = {**pictures, str(given / "sub0" / "0000a.png"): "ok"}
    for size in (8, 5):
        engine = Here()
        with open_run(str(out), Options()) as run:
            run.scan(inputs(given), engine, size=size)
        assert len(engine.asked) == (size == 8)
        assert_exactly_once(out, expected)
    with open_run(str(out), Options(), overwrite=True) as run:
        assert run.total == 0
        run.scan(inputs(given / "sub1"), Here(), size=8)
    assert_exactly_once(out, {path: status for path, status in pictures.items() if "/sub1/" in path})


def test_shards_are_read_by_the_worker(tmp_path: Path, face_jpeg: bytes) -> None:
    members = {"a.jpg": face_jpeg, "b.jpg": face_jpeg[:500], "c.txt": b"no picture"}
    for number in range(2):
        (tmp_path / f"{number}.tar").write_bytes(tar_of(members))
    (tmp_path / "cut.tar").write_bytes(tar_of(members)[:700])
    (tmp_path / "list.csv").write_text("path\na.png\n")
    out = tmp_path / "out.jsonl"
    given = (tmp_path / "0.tar", tmp_path / "*.tar", tmp_path / "list.csv")
    for _ in range(2):
        with open_run(str(out), Options()) as run:
            run.scan(inputs(*given), Here(), size=2)
        plain = {each.path: each.status for each in scan(inputs(*given, whole=False), Options(), workers=1)}
        assert_exactly_once(out, plain)
    assert sum("::" in path for path in plain) >= 4


def test_a_unit_that_kills_every_worker_is_named(tmp_path: Path, pictures: dict[str, str]) -> None:
    """The others are done, the run does not call itself finished, and the next one tries it again."""

    class GivesUp(Here):
        def run(self, units: Iterator[Unit], task: Task) -> Generator[Done | GaveUp, None, None]:
            for done in super().run(units, task):
                yield GaveUp(lost) if done.part == part_name(lost, task.ending) else done

    out, given = tmp_path / "out.jsonl", tmp_path / "in"
    lost = next(units(inputs(given), 8))
    with (
        open_run(str(out), Options()) as run,
        pytest.raises(OutputError, match=r"1 units .*0000.png; look at") as caught,
    ):
        run.scan(inputs(given), GivesUp(), size=8)
    assert "22 records are safe" in str(caught.value)
    assert json.loads((out / MANIFEST).read_text())["finished"] is False


def test_local_engine_in_this_process_says_what_is_wrong(tmp_path: Path, pictures: dict[str, str]) -> None:
    out = tmp_path / "out.jsonl"
    with open_run(str(out), Options()) as run:
        wrong = replace(run.task, options=Options(model="none"))
        with pytest.raises(UsageError, match="unknown model"):
            list(LocalEngine(1).run(units(inputs(tmp_path / "in")), wrong))


# ---- what a worker must have


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    with open_run(str(tmp_path / "out.jsonl"), Options(), (str(tmp_path),)) as run:
        yield run.task


def test_a_worker_with_another_version_says_so(task: Task) -> None:
    with pytest.raises(UsageError, match=r"faceproof [\d.]+ is installed here, the command was given with 99;"):
        Worker(replace(task, version="99"))


def test_a_worker_without_the_model_or_with_another(task: Task, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown model '/nowhere/mine'"):
        Worker(replace(task, options=Options(model="/nowhere/mine")))
    with pytest.raises(ModelError, match=r"the model here is lite2-208 .*, the command was given with other 1"):
        Worker(replace(task, model="other 1 (123456789abc)"))


def test_a_worker_that_does_not_see_the_folders(task: Task, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"/nowhere/pictures is not there; put it where all machines"):
        Worker(replace(task, needed=("/nowhere/pictures",)))
    with pytest.raises(
        UsageError, match=r"there is no folder /nowhere here, in which the inputs lie; give absolute paths"
    ):
        Worker(replace(task, folder="/nowhere", needed=("pictures",)))
    Worker(replace(task, folder="/nowhere"))  # nothing there is needed
    with pytest.raises(OutputError, match=r"another folder lies at .*out.jsonl here; give one that all share"):
        Worker(replace(task, run="another"))
    with pytest.raises(OutputError, match=r"cannot read in /nowhere/out"):
        Worker(replace(task, out="/nowhere/out"))


def test_a_worker_without_pyarrow(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"faceproof\[parquet\]"):
        Worker(replace(task, ending=".parquet"))


def test_what_must_be_seen(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    given = (f"{tmp_path}/a", f"{tmp_path}/a/*.jpg", "s3://b/x/", "-", "nothing.jpg", f"{tmp_path}/{{0..2}}.tar")
    with open_run(str(tmp_path / "o.jsonl"), Options(), given) as run:
        assert run.task.needed == (f"{tmp_path}/a", f"{tmp_path}/a", str(tmp_path))


# ---- folders that are not this run's


def test_what_is_no_folder_of_parts(tmp_path: Path) -> None:
    (tmp_path / "file.jsonl").write_text("")
    for out, message in {
        "out": "a folder of parts; name it by their format",
        "out.xls": "a folder of parts",
        "-": "a folder of parts",
        "https://example.org/x.jsonl": "a folder of parts",
        "s3://bucket.jsonl": "a folder of parts",
        str(tmp_path / "file.jsonl"): "is a file, and an engine's results are a folder",
    }.items():
        with pytest.raises(UsageError, match=message):
            open_run(out, Options())
    with pytest.raises(UsageError, match="unknown model"):
        open_run(str(tmp_path / "o.jsonl"), Options(model="none"))
    with pytest.raises(OutputError, match="cannot make the folder"):
        open_run(str(tmp_path / "file.jsonl" / "o.jsonl"), Options())


def test_parts_of_another_run(tmp_path: Path, pictures: dict[str, str]) -> None:
    out = tmp_path / "out.jsonl"
    with open_run(str(out), Options()) as run:
        run.scan(inputs(tmp_path / "in"), Here(), size=20)
    for options, message in {
        Options(fpr=0.05): r"made with fpr None, and now it is 0.05; give the same options to go on, or choose another",
        Options(stability="quick"): "made with stability off, and now it is quick",
        Options(metadata=False): "made with metadata True",
    }.items():
        with pytest.raises(OutputError, match=message):
            open_run(str(out), options)
    manifest = (out / MANIFEST).read_text()
    (out / MANIFEST).write_text(manifest.replace('"lite2-208 ', '"mine '))
    with pytest.raises(OutputError, match=r"made with model mine 1 \(.*, and now it is lite2-208"):
        open_run(str(out), Options())
    for text in ("{", "[]", '{"parts": []}', '{"options": {}}'):
        (out / MANIFEST).write_text(text)
        with pytest.raises(OutputError, match=r"_manifest.json in .*out.jsonl is not of a run with --engine"):
            open_run(str(out), Options())
    (out / MANIFEST).unlink()
    with pytest.raises(OutputError, match=r"out.jsonl holds part-\w+.jsonl, which is not of a run with --engine"):
        open_run(str(out), Options())
    with pytest.raises(UsageError, match="without the manifest of results"):
        list(read_results(out))
    with open_run(str(out), Options(), overwrite=True) as run:
        assert (run.total, parts(out)) == (0, [])
    (out / "part-00000.jsonl").write_text("")
    with pytest.raises(OutputError, match=r"holds part-00000.jsonl, which is not of a run with --engine"):
        open_run(str(out), Options())


def test_parts_that_changed_or_came_beside(tmp_path: Path, pictures: dict[str, str]) -> None:
    out, given = tmp_path / "out.jsonl", tmp_path / "in"
    with open_run(str(out), Options()) as run:
        run.scan(inputs(given), Here(), size=20)
        other = out / "part-0123456789abcdef.jsonl"
        other.write_bytes(parts(out)[0].read_bytes())
        with pytest.raises(OutputError, match=r"another run has written part-0123456789abcdef.jsonl .* the same time"):
            run.scan(inputs(given), Here(), size=20)
    with pytest.raises(OutputError, match=r"holds two records of .*; remove part-\w+.jsonl"):
        open_run(str(out), Options())
    other.write_text("no JSON\n")
    with pytest.raises(OutputError, match=r"part-0123456789abcdef.jsonl exists and does not hold faceproof results"):
        open_run(str(out), Options())


def test_two_runs_cannot_write_into_one_folder(tmp_path: Path) -> None:
    out = str(tmp_path / "out.jsonl")
    with open_run(out, Options()), pytest.raises(OutputError, match="another scan is writing"):
        open_run(out, Options())
    open_run(out, Options()).__exit__()


def test_a_manifest_names_parts_of_its_folder_only(tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").mkdir()
    said = {"finished": True, "parts": [{"name": "../secret.jsonl"}]}
    (tmp_path / "o.jsonl" / MANIFEST).write_text(json.dumps(said))
    with pytest.raises(OutputError, match="names files elsewhere"):
        list(read_results(tmp_path / "o.jsonl"))


def test_a_part_that_is_read_back_says_what_was_written(tmp_path: Path, pictures: dict[str, str]) -> None:
    pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    with open_run(str(tmp_path / "out.parquet"), Options()) as run:
        unit = next(units(inputs(tmp_path / "in"), 9))
        done = Worker(run.task).do(unit)
        part = read_part(run.task.place, done.part)
        assert part.done == done
        assert part.paths == tuple(item.path for item in unit.items)
        (tmp_path / "out.parquet" / done.part).write_bytes(b"PAR1")
        with pytest.raises(OutputError, match="is no part of results"):
            read_part(run.task.place, done.part)
