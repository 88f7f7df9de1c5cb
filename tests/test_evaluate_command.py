"""`faceproof evaluate` as a real process: tables, page, resuming after a kill, bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import uuid
import xml.etree.ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from faceproof.detectors.store import DEFAULT_MODEL
from faceproof.images import RGB
from tests.helpers import TOKEN, processes, run_cli, start_cli, wait_until

PEER = """
class Contrast:
    name = "contrast <b>"
    def score(self, pixels, landmarks):
        return float(pixels.std())
def make():
    return Contrast()
"""
COLUMNS = ["path", "label", "generator", "source", "split", "group", "age", "sex", "ethnicity"]


def write_data(folder: Path, face: RGB, splits: dict[str, int]) -> Path:
    """A manifest of photographs and smoothed copies of one face, sizes and qualities of both classes alike."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    rows = []
    for split, count in splits.items():
        for number in range(count):
            x, y = rng.integers(0, 40, 2)
            base = Image.fromarray(face).crop((90 + x, y, 330 + x, 240 + y)).resize((int(rng.integers(150, 230)),) * 2)
            for label in ("photograph", "generated"):
                picture = base if label == "photograph" else base.filter(ImageFilter.MedianFilter(5))
                name = f"{split}-{number:03d}-{label}.jpg"
                picture.save(folder / name, quality=91)
                real = label == "photograph"
                rows.append([
                    name, label, "" if real else f"gan{number % 2}", f"camera{number % 2}" if real else "lab", split,
                    f"{split}{number}", "30" if real else "", ("female", "male")[number % 2] if real else "", "",
                ])  # fmt: skip
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), astronaut, {"train": 24, "val": 44, "test": 20})


def table(path: Path) -> tuple[str, list[dict[str, str]]]:
    """The comment line, and the rows."""
    with path.open(newline="", encoding="utf-8") as stream:
        return stream.readline(), list(csv.DictReader(stream))


def numbers(path: Path) -> list[dict[str, str]]:
    return table(path)[1]


class _Outside(HTMLParser):
    """Tags, and anything a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in ("href", "src", "xlink:href") and not (value or "").startswith("#")):
                self.wrong.append(f"{tag} {name}={value}")
        if tag == "script" and ("type", "application/json") not in attrs:
            self.wrong.append("script")


@pytest.mark.slow
def test_the_whole_command(data: Path, tmp_path: Path) -> None:
    """Two contenders, two splits, chains, probes, gaps and leave-out scores: every table, drawing and the page."""
    (tmp_path / "peer.py").write_text(PEER)
    folds = [f"{i},{i % 2},g{i // 50},s{i // 50},{i},1,{(i % 2) + (i % 7) / 10},fold{i // 50},1.2" for i in range(100)]
    text = "path,label,generator,source,group,judged,score,fold,threshold\n" + "\n".join(folds)
    (tmp_path / "left.csv").write_text(text)
    out = tmp_path / "out"
    done = run_cli(
        "evaluate", DEFAULT_MODEL, "--peer", f"{tmp_path / 'peer.py'}:make", "--data", data, "--split", "val",
        "--split", "test", "--chain", "jpeg75", "--chain", "jpeg30", "--probes", "--gaps", "--gap-split", "train",
        "--scores", tmp_path / "left.csv", "--out", out, "--workers", "2", "--quick", timeout=400,
        env={"COLUMNS": "100"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for words in (DEFAULT_MODEL, "contrast <b>", "val: 44 photographs, 44 generated", "paired differences", "jpeg30"):
        assert words in done.stdout
    said, figures = table(out / "figures.csv")
    assert re.match(
        r"# \S+ evaluate lite2-208 .*; faceproof [\d.]+, commit \w+; \d+ cores .*; data [0-9a-f]{16}\n", said
    )
    assert {row["contender"] for row in figures} == {DEFAULT_MODEL, "contrast <b>", "file facts", "left"}
    assert {row["kind"] for row in figures} >= {
        "all", "generator", "source", "difference", "chain", "probe", "floor", "gap by sex", "left-out generator",
        "left-out source",
    }  # fmt: skip
    for row in figures:
        if (
            row["low"]
            and row["high"]
            and row["metric"] not in ("tpr_at_fpr_1",)
            and not row["subset"].startswith("gap")
        ):
            assert float(row["low"]) - 1e-6 <= float(row["value"]) <= float(row["high"]) + 1e-6, row
    assert {r["split"] for r in figures if r["kind"] == "gap by sex"} == {
        "val",
        "test",
        "train (stated age, sex, ethnicity)",
    }
    assert len(numbers(out / "scores.csv")) >= 2 * 4 * (88 + 40) * 0.9
    assert {r["kind"] for r in numbers(out / "probes.csv")} == {"probe", "floor"}
    assert numbers(out / "gaps.csv")
    for name in ("roc", "reliability", "scores", "robustness"):
        xml.etree.ElementTree.parse(out / f"{name}-val.svg")
        assert Image.open(out / f"{name}-test.png").size[0] > 300
    _check_page((out / "evaluation.html").read_text(encoding="utf-8"), len(figures))


def _check_page(text: str, figures: int) -> None:
    page = _Outside()
    page.feed(text)
    assert page.wrong == []
    assert page.tags.count("svg") == 8
    assert "default-src 'none'" in text
    assert "contrast <b>" not in text.split('<script type="application/json"', maxsplit=1)[0]  # escaped, not markup
    found = json.loads(re.search(r'id="faceproof-evaluation">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert len(found["figures"]) == figures


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on(how: signal.Signals, data: Path, tmp_path: Path) -> None:
    """Killed after the first finished pass: no process stays, the pass is not done again, the figures are the same."""
    chains = [word for chain in ("avatar", "jpeg50", "webp75", "thumb64") for word in ("--chain", chain)]
    arguments = ("evaluate", DEFAULT_MODEL, "--data", data, "--no-plots", "--workers", "2", *chains)
    token, out = uuid.uuid4().hex, tmp_path / "stopped"
    process = start_cli(*arguments, "--out", out, env={TOKEN: token})
    finished = wait_until(lambda: list((out / "scores").glob("*.csv")), seconds=90, what="the first finished pass")
    os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert re.fullmatch(r"faceproof: stopped; finished scores are in .*scores: the same command goes on\n", said)
    wait_until(lambda: not processes(token), seconds=20, what="workers to end")
    assert not (out / "figures.csv").exists()
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert run_cli(*arguments, "--out", out, timeout=300).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert len(list((out / "scores").iterdir())) == 5
    assert run_cli(*arguments, "--out", tmp_path / "whole", timeout=300).returncode == 0
    for name in ("figures.csv", "scores.csv", "missing.csv"):
        assert numbers(out / name) == numbers(tmp_path / "whole" / name)


@pytest.mark.slow
def test_unreadable_and_faceless_pictures_are_named(data: Path, tmp_path: Path, astronaut: RGB) -> None:
    """They cost neither the run nor their place in the tables; the exit code tells."""
    folder = write_data(tmp_path / "data", astronaut, {"val": 24})
    (folder / "val-003-photograph.jpg").write_bytes(b"not a picture")
    Image.new("RGB", (90, 90), "teal").save(folder / "val-004-generated.jpg")
    out = tmp_path / "out"
    done = run_cli("evaluate", DEFAULT_MODEL, "--data", folder, "--out", out, "--no-plots", "--workers", "1")
    assert done.returncode == 1
    assert re.search(r"1 picture\(s\) could not be read, e\.g\.\s+\S+val-003-photograph\.jpg", done.stdout)
    missing = {Path(row["path"]).name: row for row in numbers(out / "missing.csv")}
    assert missing["val-003-photograph.jpg"]["status"] == "unreadable"
    assert "not a picture" in missing["val-003-photograph.jpg"]["reason"]
    assert (missing["val-004-generated.jpg"]["status"], missing["val-004-generated.jpg"]["label"]) == (
        "no_face",
        "generated",
    )
    figures = {row["metric"]: row["value"] for row in numbers(out / "figures.csv") if row["kind"] == "all"}
    assert (figures["unreadable"], figures["no_face_generated"], figures["no_face_photographs"]) == ("1", "1", "0")
    assert float(figures["photographs"]) + float(figures["generated"]) == 48 - len(missing)


def refused(tmp_path: Path, *arguments: str | Path) -> str:
    done = run_cli("evaluate", *arguments, "--out", tmp_path / "out", env={"COLUMNS": "200"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 or "Usage" in done.stderr
    return done.stderr


def test_bad_input(data: Path, tmp_path: Path) -> None:
    """Each says what was wrong, what was given and what to do."""
    model = (DEFAULT_MODEL, "--data", data)
    for arguments, message in (
        ((), "nothing to measure; name a model"),
        ((DEFAULT_MODEL,), "--data is missing"),
        ((*model, "--split", "exam"), "split 'exam' is empty; the data has: test, train, val"),
        ((*model, "--chain", "jpg75"), "unknown chain 'jpg75'; did you mean 'jpeg75'|jpg75"),
        (("lite2-20", "--data", data), "did you mean 'lite2-208'"),
        ((DEFAULT_MODEL, "--data", tmp_path / "nothing.csv"), "no manifest at .*nothing.csv"),
        (("--peer", "x.py:make", "--data", data), "no adapter at x.py"),
        (("--scores", tmp_path / "none.csv"), "score file .*none.csv cannot be read"),
    ):
        assert re.search(message, refused(tmp_path, *arguments)), arguments
    rows = (data / "manifest.csv").read_text().splitlines()
    for change, message in (
        ([row for row in rows if "generated" not in row or "val" not in row], "split 'val' holds photographs only"),
        (
            [*rows, rows[1].replace("train,", "val,")],
            r"1 group\(s\) lie in several splits, e\.g\. train0 .*--drop-straddling",
        ),
        ([*rows, rows[1].replace("photograph", "unknown")], "label 'unknown'; known: photograph, generated"),
    ):
        (tmp_path / "manifest.csv").write_text("\n".join(change))
        assert re.search(message, refused(tmp_path, DEFAULT_MODEL, "--data", tmp_path / "manifest.csv"))
    for split, label in (("val", "real"),):
        (tmp_path / "folder" / split / label).mkdir(parents=True)
        (tmp_path / "folder" / split / label / "a.jpg").write_bytes((data / "val-000-photograph.jpg").read_bytes())
    said = refused(tmp_path, DEFAULT_MODEL, "--data", tmp_path / "folder")
    assert "split 'val' holds photographs only; both classes are needed" in said


def test_without_matplotlib_it_says_so_first(data: Path, tmp_path: Path) -> None:
    """Before anything is measured; --no-plots needs none."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none here')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run_cli("evaluate", DEFAULT_MODEL, "--data", data, "--out", tmp_path / "out", env={"PYTHONPATH": path})
    assert done.returncode == 2
    assert 'pip install "faceproof[evaluate]"' in done.stderr
    assert not (tmp_path / "out" / "scores").exists()


def test_scores_alone_need_no_model(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2},g,s,{i},1,{(i % 2) + (i % 7) / 10},A,1.2" for i in range(60)]
    text = "path,label,generator,source,group,judged,score,fold,threshold\n" + "\n".join(rows)
    (tmp_path / "run.csv").write_text(text)
    done = run_cli("evaluate", "--scores", tmp_path / "run.csv", "--out", tmp_path / "out", "--no-plots")
    assert (done.returncode, done.stderr) == (0, "")
    assert "left out of training" in done.stdout
    assert {row["kind"] for row in numbers(tmp_path / "out" / "figures.csv")} == {
        "left-out generator",
        "left-out source",
    }


@pytest.mark.data
@pytest.mark.slow
def test_on_the_faces_data(faces_data: Path, tmp_path: Path) -> None:
    """A rehearsal on val, probes included: file facts tell the classes apart (DATA.md: 0.89 for all of val)."""
    out = tmp_path / "out"
    done = run_cli(
        "evaluate", DEFAULT_MODEL, "--data", faces_data, "--drop-straddling", "--quick", "--probes", "--out", out,
        "--no-plots", timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = {(r["subset"], r["metric"]): float(r["value"]) for r in numbers(out / "probes.csv") if r["value"]}
    assert found["all facts together, fitted on train", "auc"] > 0.65
    assert found["pictures as they are", "auc"] > 0.95
