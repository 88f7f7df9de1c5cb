"""`faceproof train` as a whole: the real command, killed and resumed, on two processes, and what it refuses.

Needs the extra [train].
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from faceproof import UsageError, cli
from faceproof.datasets import Sample, read_data
from faceproof.detectors.card import read_card
from faceproof.errors import FaceproofError
from faceproof.faces.detection import DetectedFace
from faceproof.heldout import read_scores
from faceproof.images import RGB
from faceproof.recipes import Recipe
from faceproof.training_log import Epoch, Progress, Silent

from .helpers import TOKEN, processes, run_cli, start_cli, wait_until
from .training_sets import MARKS, base_landmarks, face_set

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = list(MARKS)

PLAIN = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
RECIPE = {
    "size": "32", "head": "[]", "dropout": "0", "samples": "1200", "batch": "4", "epochs": "2", "average": "0.9",
    "rate": "0.003",
}  # fmt: skip
"""300 steps, 150 an epoch; checkpoints at 100, 150, 200 and 300."""
LONG = 900
"""Seconds a run may take where two other trainings share the machine."""


def arguments(data: Path, out: Path, *more: str, **changes: str) -> list[str]:
    sets = [part for field, value in (RECIPE | changes).items() for part in ("--set", f"{field}={value}")]
    return [
        "train", "--data", str(data), "--out", str(out), "--preset", "pairs-small-cnn", "--accelerator", "cpu", *sets,
        *more,
    ]  # fmt: skip


def weights(out: Path) -> dict[str, Any]:
    import safetensors.torch

    return safetensors.torch.load_file(out / "network.safetensors")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_set(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="module")
def finished(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An unbroken run of the real command."""
    out = tmp_path_factory.mktemp("run") / "out"
    done = run_cli(*arguments(faces, out, "--tensorboard"), env=PLAIN | {"COLUMNS": "200"}, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return out, done


def test_a_run_leaves_a_model_and_its_logs(
    finished: tuple[Path, subprocess.CompletedProcess[str]], faces: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, done = finished
    assert {
        "model",
        "epochs.csv",
        "curve.png",
        "tb",
        "network.safetensors",
        "checkpoint.safetensors",
        "recipe.json",
    } <= {entry.name for entry in out.iterdir()}
    assert not [entry for entry in out.rglob("*") if "tmp" in entry.name]
    assert "train: 24 faces; 0 pictures without a usable one, 0 not readable" in done.stderr
    assert re.search(r"step 300/300 +loss [\d.]+ +[\d.]+ crops/s +waiting \d+%", done.stderr)
    assert "epoch 2: loss" in done.stderr
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr
    assert f"wrote {out / 'model'}" in done.stdout.replace("\n", "")
    with (out / "epochs.csv").open(newline="") as stream:
        assert [(row["number"], row["step"]) for row in csv.DictReader(stream)] == [("1", "150"), ("2", "300")]
    events = EventAccumulator(str(out / "tb"))
    events.Reload()
    assert [event.step for event in events.Scalars("val/loss")] == [150, 300]
    with Image.open(out / "curve.png") as picture:
        picture.load()
    card = read_card(out / "model")
    training = card.raw["training"]
    assert Recipe.from_dict(training["recipe"]).to_dict() == json.loads((out / "recipe.json").read_text())
    assert training["pictures"] == 24
    assert training["groups"]["count"] == 24
    assert {row["source"] for row in training["data"]} == {"web", "book", "gan (gan)", "diffusion (diffusion)"}
    assert training["minutes"] >= 0
    assert "--preset pairs-small-cnn" in training["command"]
    assert card.raw["parity_with_torch"]["largest"] < 0.01
    assert card.raw["metrics"]["val"]["photographs"] == 24


def test_the_model_checks_and_calibrates(
    finished: tuple[Path, subprocess.CompletedProcess[str]], faces: Path, tmp_path: Path
) -> None:
    out, _ = finished
    picture = next((faces / "val" / "fake" / "gan").iterdir())
    checked = run_cli("check", "--model", out / "model", "--json", picture, timeout=LONG)
    assert checked.returncode == 0, checked.stderr
    record = json.loads(checked.stdout)
    assert record["status"] == "ok"
    assert record["faces"][0]["verdict"] in ("photograph", "generated", "inconclusive")
    anew = run_cli("calibrate", out / "model", "--data", faces, "--out", tmp_path / "anew", "--json", timeout=LONG)
    assert anew.returncode == 0, anew.stderr
    assert json.loads(anew.stdout)["photographs"] == 24
    leak = run_cli(
        "calibrate", out / "model", "--data", faces, "--split", "train", "--out", tmp_path / "leak",
        timeout=LONG,
    )  # fmt: skip
    assert leak.returncode == 2
    assert "24 of 24 pictures are of groups that trained" in leak.stderr


def test_killed_at_several_moments_it_ends_the_same(
    finished: tuple[Path, subprocess.CompletedProcess[str]], faces: Path, tmp_path: Path
) -> None:
    """SIGKILL in an epoch, at an epoch's end (between its two files, or right after) and while the model is packaged.
    The same command goes on each time, and the network is that of the unbroken run to the last bit.
    """
    out, token = tmp_path / "out", f"train-{os.getpid()}-{time.time_ns()}"

    def until(name: str, run: subprocess.Popen[bytes]) -> Callable[[], bool]:
        return lambda: (out / name).exists() or run.poll() is not None

    moments = [
        ("checkpoint.safetensors", signal.SIGKILL), ("best.safetensors", signal.SIGKILL), ("curve.png", signal.SIGKILL),
        ("network.safetensors", signal.SIGKILL),
    ]  # fmt: skip
    for name, kill in moments:
        run = start_cli(*arguments(faces, out), env=PLAIN | {TOKEN: token})
        try:
            wait_until(until(name, run), seconds=LONG, what=name)
            assert run.poll() is None, (name, run.stderr.read() if run.stderr else "")
            run.send_signal(kill)
            _, errors = run.communicate(timeout=LONG)
        finally:
            run.kill()
        assert run.returncode == -kill, errors.decode()
        wait_until(lambda: not processes(token), seconds=60, what="the reading processes to follow")
        assert not (out / "model").exists()
    done = run_cli(*arguments(faces, out), env=PLAIN, timeout=LONG)
    assert done.returncode == 0, done.stderr
    assert "going on from step 300 of 300" in done.stderr
    whole, _ = finished
    assert (out / "network.safetensors").read_bytes() == (whole / "network.safetensors").read_bytes()
    assert (out / "epochs.csv").read_bytes() == (whole / "epochs.csv").read_bytes()
    mine, theirs = (dict(read_card(folder / "model").raw) for folder in (out, whole))
    assert mine["sha256"] == theirs["sha256"]
    assert mine["operating_points"] == theirs["operating_points"]
    again = run_cli(*arguments(faces, out), env=PLAIN, timeout=LONG)
    assert again.returncode == 2
    assert again.stderr.endswith("this run is finished; --overwrite packages it again\n")


def test_ctrl_c(finished: tuple[Path, subprocess.CompletedProcess[str]], faces: Path, tmp_path: Path) -> None:
    """It goes to the reading processes, too, as from a terminal. One sentence, exit code 130, and the run goes on."""
    out, token = tmp_path / "out", f"train-{os.getpid()}-{time.time_ns()}"
    run = start_cli(*arguments(faces, out), env=PLAIN | {TOKEN: token, "COLUMNS": "400"})
    try:
        wait_until(
            lambda: (out / "checkpoint.safetensors").exists() or run.poll() is not None, seconds=LONG, what="steps"
        )
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=LONG)[1].decode()
    finally:
        run.kill()
    assert run.returncode == 130, said
    assert said.endswith(f"faceproof: stopped; the same command goes on from the last checkpoint in {out}\n")
    assert "Traceback" not in said
    wait_until(lambda: not processes(token), seconds=60, what="the reading processes to end")
    done = run_cli(*arguments(faces, out), env=PLAIN, timeout=LONG)
    assert done.returncode == 0, done.stderr
    assert re.search(r"going on from step (100|150|200) of 300", done.stderr)
    whole, _ = finished
    assert (out / "network.safetensors").read_bytes() == (whole / "network.safetensors").read_bytes()


def test_two_processes_train_one_model(faces: Path, tmp_path: Path) -> None:
    """The same batches, shared by two real processes: the same network but for rounding (this one has no batch
    normalisation), one set of files, and one voice. Twenty steps: rounding grows with every step.
    """
    outs = [tmp_path / "one", tmp_path / "two"]
    for out, devices in zip(outs, "12", strict=True):
        done = run_cli(*arguments(faces, out, "--devices", devices, samples="80"), env=PLAIN, timeout=LONG)
        assert done.returncode == 0, done.stderr
    assert "Starting with 2 processes" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("epoch 2: loss") == 1
    assert done.stderr.count("train: 24 faces") == 1
    assert done.stdout.replace("\n", "").count(f"wrote {out / 'model'}") == 1
    assert sorted(entry.name for entry in outs[0].iterdir()) == sorted(entry.name for entry in outs[1].iterdir())
    one, two = (weights(out) for out in outs)
    for name, value in one.items():
        assert (two[name] - value).norm() <= 1e-4 * value.norm() + 1e-6, name
    tables = [list(csv.DictReader((out / "epochs.csv").read_text().splitlines())) for out in outs]
    for mine, theirs in zip(*tables, strict=True):
        assert {key: float(value) for key, value in mine.items()} == pytest.approx(
            {key: float(value) for key, value in theirs.items()}, rel=1e-3
        )


# ---- what is refused, and when


def invoke(*args: str) -> Any:
    return CliRunner().invoke(cli.app, list(args), env=PLAIN)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused is refused before anything is trained."""
    from faceproof import runs

    def train(*args: object, **options: object) -> None:
        raise AssertionError("it began to train")

    monkeypatch.setattr(runs, "train", train)


def spoil(data: Path, kind: str) -> tuple[str, ...]:
    """Make a good data set bad; return more arguments."""
    photographs = sorted((data / "val" / "real").rglob("*.png"))
    if kind == "one class":
        shutil.rmtree(data / "train" / "fake")
    elif kind == "empty split":
        return ("--val-split", "dev")
    elif kind == "the same split twice":
        return ("--val-split", "train")
    elif kind == "straddling":
        shutil.copy(photographs[0], data / "train" / "real" / "web" / "again.png")
    elif kind == "unknown label":
        (data / "val" / "real").rename(data / "val" / "maybe")
    elif kind == "few val":
        for path in photographs[19:]:
            path.unlink()
    elif kind == "few val faces":
        for path in photographs[19:]:
            Image.effect_noise((192, 192), 9 + photographs.index(path)).convert("RGB").save(path)
    elif kind == "small val":
        for path in photographs[19:]:
            with Image.open(path) as picture:
                picture.resize((96, 96)).save(path)
    elif kind == "unreadable":
        (data / "train" / "real" / "web" / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    elif kind == "broken link":
        (data / "train" / "real" / "web" / "gone.jpg").symlink_to("nowhere.jpg")
    elif kind == "pipe":
        os.mkfifo(data / "train" / "real" / "web" / "pipe.jpg")
    elif kind == "no folder":
        shutil.rmtree(data)
    elif kind == "few groups":
        rows = [
            (path, "generated" if "fake" in path.parts else "photograph", path.parent.name, path.parts[-4],
             path.name if path.parts[-4] == "train" else f"v{number % 2}{path.parts[-3]}")
            for number, path in enumerate(sorted(data.rglob("*.png")))
        ]  # fmt: skip
        with (data / "manifest.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "label", "source", "split", "group"])
            writer.writerows(rows)
    return ()


BAD = {
    "one class": "split 'train' holds photographs only; both classes are needed",
    "empty split": "split 'dev' is empty; the data has: train, val",
    "the same split twice": "split 'train' cannot be fitted on and looked at too; give another --val-split",
    "straddling": r"1 group\(s\) lie in several splits, e\.g\. [0-9a-f]{32} \(.*\.png\) in train and val; .*--drop-st",
    "unknown label": "'maybe' is not a class; known names: photograph, .*fake",
    "few val": "split 'val' has 19 photographs; at least 20 are needed for a threshold",
    "few val faces": "split 'val', where a face is found, has 19 photographs; at least 20 are needed",
    "small val": r"only 19 photographs of split 'val' can be judged \(5 too_small\); .*add larger or sharper pictures",
    "unreadable": r"1 of 25 pictures cannot be read, e\.g\. .*bad\.jpg: .*damaged.*--skip-unreadable",
    "broken link": r"1 of 25 pictures cannot be read, e\.g\. .*gone\.jpg: .*broken link.*--skip-unreadable",
    "pipe": r"1 of 25 pictures cannot be read, e\.g\. .*pipe\.jpg: a pipe.*--skip-unreadable",
    "no folder": "no manifest at .*; give the manifest.csv of a data set",
    "few groups": r"2 group\(s\) of photographs are too few: .*at least 5; add photographs",
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_is_refused_before_training(kind: str, faces: Path, tmp_path: Path, no_training: None) -> None:
    data = tmp_path / "data"
    shutil.copytree(faces, data)
    done = invoke(*arguments(data, tmp_path / "out", *spoil(data, kind)))
    assert isinstance(done.exception, UsageError), (done.exception, done.output)
    assert re.search(BAD[kind], str(done.exception)), str(done.exception)
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()


def test_unreadable_pictures_are_left_out_and_told(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof import runs

    data, given = tmp_path / "data", []
    shutil.copytree(faces, data)
    for kind in ("unreadable", "broken link", "pipe"):
        spoil(data, kind)

    def train(pool: Any, val: Any, *args: object, **options: object) -> None:
        given.extend([pool, val])
        raise UsageError("far enough")

    monkeypatch.setattr(runs, "train", train)
    done = invoke(*arguments(data, tmp_path / "out", "--skip-unreadable"))
    assert "far enough" in str(done.exception)
    assert "train: 24 faces; 0 pictures without a usable one, 3 not readable" in done.stderr
    assert [len(part.samples) for part in given] == [24, 48]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--set", "backbone=resnet5"), "unknown backbone 'resnet5'; did you mean .*resnet50"),
        (
            ("--set", "backbone=test_resnet", "--set", "start=imagenet"),
            "cannot be fetched from the hub .*start from a file or from",
        ),
        (("--set", "start=nowhere.safetensors"), "no weights at nowhere.safetensors"),
        (("--accelerator", "abacus"), "cannot compute on accelerator 'abacus'"),
        (("--precision", "17"), "cannot compute on .*precision '17'"),
        (("--devices", "²"), "cannot compute on .*devices '²'"),
        (("--leave-out", "9"), "9 leave-out folds cannot be made of 2 generators and 2 sources"),
        (("--leave-out", "0"), "0 leave-out folds"),
        (("--leave-out", "gan,ban"), "no generator 'ban' in the data; it has: diffusion, gan"),
    ],
)
def test_wrong_requests(
    args: tuple[str, ...], message: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    from faceproof import training

    monkeypatch.setattr(training, "_keep_memory", lambda: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    done = invoke(*arguments(faces, tmp_path / "out", *args))
    assert isinstance(done.exception, FaceproofError), (done.exception, done.output)
    assert re.search(message, str(done.exception)), str(done.exception)


def test_an_output_that_is_a_file(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = run_cli(*arguments(faces, tmp_path / "out"), env=PLAIN, timeout=LONG)
    assert done.returncode == 1
    assert re.fullmatch(
        r"faceproof: cannot make the folder [^\n]*out \(File exists\); give another --out\n", done.stderr
    )


# ---- leaving generators and sources out


class Finder:
    """Knows where the face is, without looking."""

    name = "finder/1"

    def detect(self, pixels: RGB) -> list[DetectedFace]:
        return [DetectedFace(np.array([0, 0, 192, 192], np.float32), base_landmarks(), 0.9)]


class Log(Silent):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.reports: list[Progress] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, progress: Progress) -> None:
        self.reports.append(progress)

    def epoch(self, history: Sequence[Epoch]) -> None:
        self.notes.append(f"epoch {len(history)}")


def test_leaving_out_scores_everything_by_a_stranger(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folds: every training picture is scored once, by a network that saw neither its generator nor its source."""
    from faceproof import runs, training
    from faceproof.runs import Job, leave_out_runs

    monkeypatch.setattr(training, "_keep_memory", lambda: None)
    # Of val's sources one in a fold is known; 24 photographs of one source leave 20 of another.
    extra = [dataclasses.replace(s, source="third", group=s.group + "x") for s in read_data(faces) if s.split == "val"]
    samples = [*read_data(faces), *(dataclasses.replace(s, path=_copy(s, tmp_path)) for s in extra if not s.label)]
    seen: list[tuple[set[str], set[str]]] = []
    whole = runs.train

    def train(pool: Any, val: Any, *args: Any, **options: Any) -> Any:
        parts = (pool.samples, val.samples)
        seen.append(
            tuple({s.generator or s.source for part in parts for s in part if s.label == label} for label in (0, 1))
        )  # type: ignore[arg-type]
        return whole(pool, val, *args, **options)

    monkeypatch.setattr(runs, "train", train)
    device = training.Device("cpu", 1, "32-true", workers=0)
    job = Job("made", samples, tmp_path / "out", device=device, finder=Finder(), command="a command\nof two lines")
    recipe = Recipe(backbone="small-cnn", start="random", size=32, augment="none", samples=64, epochs=2, batch=8)
    first = Log()
    table = leave_out_runs(job, recipe, watcher=first)
    scored = read_scores(table)
    trained_on = [s for s in samples if s.split == "train"]
    assert Counter(s.group for s in scored.samples) == Counter(s.group for s in trained_on)
    with table.open(newline="", encoding="utf-8") as stream:
        assert stream.readline() == "# a command\\x0aof two lines\n"
        rows = list(csv.DictReader(stream))
    assert {row["fold"] for row in rows} == {"0", "1"}
    for row in rows:
        photographs, generators = seen[int(row["fold"])]
        assert row["generator"] not in generators
        assert row["label"] == "1" or row["source"] not in photographs
        assert np.isfinite(float(row["threshold"]))
    assert [note for note in first.notes if note.startswith("fold")] == [
        "fold 1 of 2: without diffusion; photographs of book", "fold 2 of 2: without gan; photographs of web",
    ]  # fmt: skip
    assert len({row["threshold"] for row in rows}) == 2
    second, before = Log(), table.read_bytes()
    assert leave_out_runs(job, recipe, watcher=second).read_bytes() == before
    assert second.reports == []  # finished folds are not trained again
    # The other way round: fold 0's folder holds a network that has seen what is to be left out now.
    with pytest.raises(UsageError, match="fold-0.*was trained on other pictures than these"):
        leave_out_runs(job, recipe, only=["gan", "diffusion"])
    with pytest.raises(UsageError, match="fold-0.*is another recipe's: rate"):
        leave_out_runs(job, dataclasses.replace(recipe, rate=1e-5))


def _copy(sample: Sample, folder: Path) -> Path:
    path = folder / f"third-{sample.path.name}"
    shutil.copy(sample.path, path)
    return path


def test_a_fold_without_enough_val_is_refused_before_training(faces: Path, tmp_path: Path, no_training: None) -> None:
    from faceproof.runs import Job, leave_out_runs

    job = Job("made", read_data(faces), tmp_path / "out", finder=Finder())
    recipe = Recipe(backbone="small-cnn", start="random", size=32, samples=64, epochs=2, batch=8)
    with pytest.raises(
        UsageError, match="val, in the fold without diffusion; photographs of .*has 12 photographs; at least 20"
    ):
        leave_out_runs(job, recipe)
