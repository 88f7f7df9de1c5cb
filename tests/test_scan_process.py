"""Whole scans as real processes: killed, interrupted, cut off from their reader; every picture exactly once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

import faceproof
from faceproof.images import RGB
from tests.helpers import (
    TOKEN,
    bad_folder,
    command,
    encode,
    environment,
    new_token,
    processes,
    read_records,
    run_cli,
    start_cli,
    wait_until,
    whole_lines,
    without_root,
)

pytestmark = pytest.mark.slow
NUMBER = 300
SLOW_START = 90.0
"""Seconds a scan on a busy machine may take until something happens."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> dict[str, str]:
    """Three hundred pictures: faces, noise, damaged ones. Path -> status its record must have."""
    folder = tmp_path_factory.mktemp("many")
    face = encode(Image.fromarray(astronaut).resize((224, 224), Image.Resampling.LANCZOS), "JPEG", quality=85)
    plain = encode(np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8), "PNG")
    kinds = [(face, "ok"), (plain, "no_face"), (face, "ok"), (face[:1500], "error"), (plain, "no_face")]
    expected = {}
    for number in range(NUMBER):
        data, status = kinds[number % len(kinds)]
        path = folder / f"sub{number % 3}" / f"{number:03d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        expected[str(path)] = status
    return expected


def folder_of(many: dict[str, str]) -> str:
    return str(Path(next(iter(many))).parents[1])


def live_file(out: Path) -> Path:
    """The file that grows while a scan runs."""
    return out if out.suffix == ".jsonl" else out.with_name(out.name + ".partial.jsonl")


def read_any(out: Path) -> list[dict[str, Any]]:
    if out.suffix == ".parquet":
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(out).to_pylist()
        return rows
    if out.suffix == ".csv":
        import csv

        with out.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    return read_records(out)


def assert_exactly_once(out: Path, expected: dict[str, str]) -> None:
    """Every picture has one record, with its status; nothing else is in the file or beside it."""
    records = read_any(out)
    repeated = {path: count for path, count in Counter(record["path"] for record in records).items() if count > 1}
    assert repeated == {}
    assert {record["path"]: record["status"] for record in records} == expected
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(out.name)] == [out.name]


def error_output(process: subprocess.Popen[bytes], seconds: float = SLOW_START) -> str:
    return process.communicate(timeout=seconds)[1].decode()


def one_line(text: str) -> bool:
    return re.fullmatch(r"faceproof: [^\n]+\n", text) is not None


# ---- every bad kind in one folder


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_of_everything_bad(workers: str, tmp_path: Path, face_jpeg: bytes, astronaut: RGB) -> None:
    """One record per file, good or bad, in the order of the walk; exit code 1; nothing on standard error."""
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    expected = bad_folder(folder, face_jpeg, astronaut)
    if workers == "2":  # processes are used from 32 pictures on
        for number in range(20):
            (folder / f"z{number:02d}.jpg").write_bytes(face_jpeg)
            expected[f"z{number:02d}.jpg"] = ("ok", "^$")
    try:
        done = run_cli("scan", folder, "--out", out, "-q", "--workers", workers, before=without_root())
    finally:
        (folder / "closed").chmod(0o755)
    records = read_records(out)
    by_name = {record["path"].removeprefix(f"{folder}/"): record for record in records}
    assert len(records) == len(by_name) == len(expected)
    assert {name: record["status"] for name, record in by_name.items()} == {
        name: status for name, (status, _) in expected.items()
    }
    for name, (status, pattern) in expected.items():
        notes = [note for note in by_name[name]["notes"] if not note.startswith("no metadata about the origin")]
        said = by_name[name]["error"] if status == "error" else "; ".join(notes)
        assert re.search(pattern, said), (name, said)
        assert "\n" not in said
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    # The face is where it is in the good picture, whatever the file's kind.
    boxes = {name: by_name[name]["faces"][0]["box"] for name, (status, _) in expected.items() if status == "ok"}
    for name, box in boxes.items():
        np.testing.assert_allclose(box, boxes["good.jpg"], atol=6, err_msg=name)


def test_check_shows_every_bad_kind(tmp_path: Path, face_jpeg: bytes, astronaut: RGB) -> None:
    """`check` on the same files: a card each, nothing raised, and no control characters for the terminal."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    bad_folder(folder, face_jpeg, astronaut)
    (folder / "clear\x1b[2J\x1b[31m.jpg").write_bytes(face_jpeg)
    (folder / "closed").rmdir()
    files = [path for path in folder.iterdir() if not path.is_dir()]
    done = run_cli("check", *files)
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.count("\u256d") == len(files)
    assert "\x1b[2J" not in done.stdout


# ---- exit codes


def test_exit_codes(tmp_path: Path, face_jpeg: bytes) -> None:
    """0: all read. 1: some were not, or the run could not finish. 2: wrong use. Errors are one line."""
    good, bad, out = tmp_path / "good.jpg", tmp_path / "bad.jpg", tmp_path / "out.jsonl"
    good.write_bytes(face_jpeg)
    bad.write_bytes(b"")
    assert run_cli("scan", good, "--out", out, "-q").returncode == 0
    assert run_cli("scan", good, bad, "--out", out, "-q").returncode == 1
    assert run_cli("check", good).returncode == 0
    assert run_cli("check", bad).returncode == 1
    (tmp_path / "nothing").mkdir()
    (tmp_path / "new\nline").mkdir()
    wrong: list[tuple[str, ...]] = [
        ("scan", str(tmp_path / "nothing"), "--out", "x.jsonl"),
        ("scan", str(tmp_path / "new\nline"), "--out", "x.jsonl"),
        ("scan", str(tmp_path / "*.gif"), "--out", "x.jsonl"),
        ("scan", str(good), "--out", "x.xls"),
        ("scan", str(good), "--out", "x.jsonl", "--fpr", "0.5"),
        ("scan", str(good), "--out", "x.jsonl", "--model", "no-such-model"),
        ("scan", str(good), "--out", "x.jsonl", "--min-face", "-1"),
        ("check", "--max-pixels", "lots", str(good)),
    ]
    for arguments in wrong:
        done = run_cli(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert one_line(done.stderr), done.stderr
    for arguments in (("scan", str(good)), ("scan", "--out", "x.jsonl"), ("check",), ("check", "--no-such", str(good))):
        assert run_cli(*arguments, cwd=tmp_path).returncode == 2
    done = run_cli("scan", good, "--out", tmp_path / "missing" / "x.jsonl")
    assert done.returncode == 1
    assert one_line(done.stderr)


def test_strange_names_on_a_narrow_terminal(tmp_path: Path, face_jpeg: bytes) -> None:
    """A terminal that cannot show a name (LANG=C, old Windows) gets it escaped, not a crash."""
    path = tmp_path / "\u00fc\U0001f600.jpg"
    path.write_bytes(face_jpeg)
    for arguments in (("check", "--json"), ("check",)):
        done = run_cli(*arguments, path, env={"PYTHONIOENCODING": "ascii"})
        assert done.returncode == 0, done.stderr[-300:]
        assert "Traceback" not in done.stderr


# ---- kill -9


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_kill_9_in_the_middle(ending: str, tmp_path: Path, many: dict[str, str]) -> None:
    """The scan is killed three times at different moments, then left alone: every picture exactly once.

    The next run starts at once, while the orphaned workers of the killed one may still be about;
    those end by themselves.
    """
    out = tmp_path / f"out{ending}"
    live = live_file(out)
    arguments = ("scan", folder_of(many), "--out", str(out), "-q", "--workers", "2")
    tokens = [new_token() for _ in range(3)]
    held = 0
    for token, moment in zip(tokens, (1, 70, 160), strict=True):
        # Not a pipe for what it says: reading one to its end would wait for the orphans.
        with (tmp_path / "said.txt").open("wb") as said:
            process = start_cli(*arguments, env={TOKEN: token}, stderr=said.fileno())
        wait_until(
            lambda moment=moment, process=process: whole_lines(live) >= moment or process.poll() is not None,
            seconds=SLOW_START,
            what=f"{moment} records",
        )
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        assert process.returncode == -signal.SIGKILL, "the scan was over before it could be killed"
        assert "Traceback" not in (tmp_path / "said.txt").read_text()
        before, held = held, whole_lines(live)
        assert max(before, moment) <= held < NUMBER
        assert ending == ".jsonl" or not out.exists()
    done = run_cli(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")  # one in five pictures is damaged
    assert_exactly_once(out, many)
    for token in tokens:
        wait_until(lambda token=token: not processes(token), seconds=20, what="orphaned workers to end")


def test_kill_9_when_nothing_is_written_yet(tmp_path: Path, many: dict[str, str]) -> None:
    """Killed while the workers start: they end, too, and leave a file that the next run can use."""
    out, token = tmp_path / "out.jsonl", new_token()
    process = start_cli("scan", folder_of(many), "--out", str(out), "-q", "--workers", "2", env={TOKEN: token})
    wait_until(lambda: len(processes(token)) >= 3, seconds=SLOW_START, what="workers to start")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not processes(token), seconds=30, what="orphaned workers to end")
    assert whole_lines(out) == len(read_records(out))


def test_kill_9_of_a_worker(tmp_path: Path, many: dict[str, str]) -> None:
    """The system's out-of-memory killer takes workers: the run goes on, and no picture pays for it."""
    out, token = tmp_path / "out.jsonl", new_token()
    process = start_cli("scan", folder_of(many), "--out", str(out), "-q", "--workers", "2", env={TOKEN: token})
    killed: set[int] = set()
    for moment in (20, 150):
        wait_until(
            lambda moment=moment: whole_lines(out) >= moment or process.poll() is not None,
            seconds=SLOW_START,
            what=f"{moment} records",
        )
        assert process.poll() is None, "the scan was over before its worker could be killed"
        victim = wait_until(lambda: _workers(process.pid), seconds=20, what="a worker")[0]
        victim.kill()
        killed.add(victim.pid)
    assert error_output(process, 120) == ""
    assert len(killed) == 2
    assert process.returncode == 1  # for the damaged pictures
    assert_exactly_once(out, many)
    wait_until(lambda: not processes(token), seconds=20, what="workers to end")


def _workers(parent: int) -> list[psutil.Process]:
    """The processes of the pool: spawned, and not the resource tracker."""
    try:
        return [child for child in psutil.Process(parent).children() if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


KILLER = """
import os, signal
import faceproof.images as images
load = images.load
def killing(source, **options):
    if "killer" in os.path.basename(str(source)):
        os.kill(os.getpid(), signal.SIGKILL)
    return load(source, **options)
images.load = killing
"""
"""Stands for a crash in a decoder: put where Python looks for a module to import at its start."""


def test_a_picture_that_kills_its_worker(tmp_path: Path, many: dict[str, str]) -> None:
    """It becomes a record with an error; its neighbours in the same and other chunks are not touched."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(KILLER)
    path = os.pathsep.join([str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])])
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    expected = {}
    for number, (source, status) in enumerate(list(many.items())[:70]):
        killer = number in (5, 6, 50)
        copy = folder / f"{number:02d}{'-killer' if killer else ''}.jpg"
        shutil.copyfile(source, copy)
        expected[str(copy)] = "error" if killer else status
    token = new_token()
    done = run_cli(
        "scan", folder, "--out", out, "-q", "--workers", "2", env={"PYTHONPATH": path, TOKEN: token}, timeout=200
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert_exactly_once(out, expected)
    records = read_records(out)
    assert [record["path"] for record in records] == sorted(expected)  # still in order
    for record in records:
        if "killer" in record["path"]:
            assert re.search("process that read it was killed.*look at the file.*--max-pixels", record["error"])
    wait_until(lambda: not processes(token), seconds=20, what="workers to end")


# ---- Ctrl-C and closed pipes


def assert_stopped(said: str, out: Path) -> None:
    """One line with the number of records; the interrupt may fall between writing the last one and counting it."""
    found = re.fullmatch(r"faceproof: stopped; (\d+) records are in (.+): the same command goes on\n", said)
    assert found, said
    assert found[2] == str(out)
    assert whole_lines(out) - 1 <= int(found[1]) <= whole_lines(out)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c(workers: str, tmp_path: Path, many: dict[str, str]) -> None:
    """As a terminal does it: SIGINT for the whole process group. One line, 130, and the same command goes on."""
    out, token = tmp_path / "out.jsonl", new_token()
    arguments = ("scan", folder_of(many), "--out", str(out), "-q", "--workers", workers)
    process = start_cli(*arguments, env={TOKEN: token})
    wait_until(lambda: whole_lines(out) >= 1 or process.poll() is not None, seconds=SLOW_START, what="the first record")
    os.killpg(process.pid, signal.SIGINT)
    said = error_output(process)
    assert process.returncode == 130
    held = whole_lines(out)
    assert 1 <= held < NUMBER
    assert_stopped(said, out)
    wait_until(lambda: not processes(token), seconds=20, what="workers to end")
    assert run_cli(*arguments).returncode == 1
    assert_exactly_once(out, many)


def test_ctrl_c_while_workers_start(tmp_path: Path, many: dict[str, str]) -> None:
    """Impatience in the first second gives the same one line, not the tracebacks of half-started processes."""
    out, token = tmp_path / "out.jsonl", new_token()
    process = start_cli("scan", folder_of(many), "--out", str(out), "-q", "--workers", "2", env={TOKEN: token})
    wait_until(lambda: _workers(process.pid), seconds=SLOW_START, what="workers to start")
    os.killpg(process.pid, signal.SIGINT)
    said = error_output(process)
    assert process.returncode == 130
    assert_stopped(said, out)
    wait_until(lambda: not processes(token), seconds=20, what="workers to end")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_scan_whose_reader_goes_away(workers: str, many: dict[str, str]) -> None:
    """faceproof scan ... --out - | head -n 1"""
    token = new_token()
    scan = start_cli(
        "scan", folder_of(many), "--out", "-", "--workers", workers, stdout=subprocess.PIPE, env={TOKEN: token}
    )
    head = subprocess.Popen(["head", "-n", "1"], stdin=scan.stdout, stdout=subprocess.PIPE)
    assert scan.stdout is not None
    scan.stdout.close()
    line, _ = head.communicate(timeout=SLOW_START)
    assert json.loads(line)["path"] in many
    assert scan.stderr is not None
    said = scan.stderr.read()
    assert scan.wait(SLOW_START) == 1
    scan.stderr.close()
    assert said == b""
    wait_until(lambda: not processes(token), seconds=20, what="workers to end")


@pytest.mark.parametrize("verb", [("check", "--json"), ("check",), ("models",), ("models", "--json"), ("--help",)])
def test_a_command_whose_reader_goes_away(verb: tuple[str, ...], many: dict[str, str]) -> None:
    """faceproof check *.jpg | true: no traceback, no complaint at exit."""
    reading, writing = os.pipe()
    os.close(reading)
    pictures = list(many)[:3] if verb[0] == "check" else []
    try:
        done = subprocess.run(
            command(*verb, *pictures),
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1


def test_check_into_head(many: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -n 1', "sh", *command("check", "--json", *list(many)[:4])],
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["path"] == next(iter(many))
    assert done.stderr == b""


# ---- lists on standard input, several workers, order


@pytest.mark.parametrize("end", ["\n", "\0"])
def test_a_list_on_standard_input(end: str, tmp_path: Path, many: dict[str, str]) -> None:
    """find ... -print0 | faceproof scan - --out -: in the order of the list, each once."""
    chosen = list(many)[:40][::-1]
    listing = end.join([*chosen, chosen[0], "missing \udcff.jpg", ""])
    done = run_cli("scan", "-", "--out", "-", "-q", "--workers", "2", stdin=listing, cwd=tmp_path)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["path"] for record in records] == [*chosen, "missing \\xff.jpg"]
    assert [record["status"] for record in records] == [*(many[path] for path in chosen), "error"]
    assert (done.returncode, done.stderr) == (1, "")


def test_an_empty_list_on_standard_input(tmp_path: Path) -> None:
    done = run_cli("scan", "-", "--out", tmp_path / "out.jsonl", "-q", stdin=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read_records(tmp_path / "out.jsonl") == []


def test_workers_do_not_change_the_results(tmp_path: Path, many: dict[str, str]) -> None:
    """The same records in the same order with one process and with three."""
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(list(many)[:80]))
    outs = []
    for workers in ("1", "3"):
        out = tmp_path / f"out{workers}.jsonl"
        assert run_cli("scan", listing, "--out", out, "-q", "--workers", workers).returncode == 1
        outs.append(read_records(out))
    assert [record["path"] for record in outs[1]] == list(many)[:80]
    for one, three in zip(*outs, strict=True):
        scores = (one.pop("score"), three.pop("score"))
        assert {key: one[key] for key in one if key not in ("faces", "probability")} == {
            key: three[key] for key in three if key not in ("faces", "probability")
        }
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)  # scored in batches of other sizes
    assert faceproof.__version__ == outs[0][0]["version"]


def test_a_summary_of_a_resumed_scan(tmp_path: Path, many: dict[str, str]) -> None:
    """What the person sees counts earlier runs and files that were left out."""
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    (folder / "notes.txt").write_text("x")
    sources = list(many)
    for name, source in (("a.jpg", sources[0]), ("b.jpg", sources[1])):
        shutil.copyfile(source, folder / name)
    first = run_cli("scan", folder, "--out", out)
    assert (first.returncode, first.stdout) == (0, "")
    assert f"2 records in {out}" in first.stderr.replace("\n", " ").replace("  ", " ")
    shutil.copyfile(sources[3], folder / "c.jpg")
    second = run_cli("scan", folder, "--out", out)
    assert second.returncode == 1
    said = re.sub(r"\s+", " ", second.stderr)
    assert "2 of them from earlier runs" in said
    assert "1 files in folders have no picture's ending" in said
