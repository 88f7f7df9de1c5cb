"""Self-supervised pretraining in a few steps on pictures made here. Needs the extra [train]."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import ModelError, UsageError
from faceproof.datasets import Sample
from faceproof.exif_data import TaggedCrop
from faceproof.pretrain_recipes import PRETRAIN_PRESETS, PretrainRecipe, pretrain_preset
from faceproof.pretraining_data import Faces, PretrainData
from faceproof.training_log import Ended, Files, Progress, Silent, Together

from .helpers import run_cli
from .training_sets import MARKS, base_landmarks, variant

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = list(MARKS)

from faceproof import pretraining, training  # noqa: E402
from faceproof.checkpoints import NAME  # noqa: E402
from faceproof.pretraining import _Crops, _decks, embedding_network, pretrain  # noqa: E402
from faceproof.training import Device  # noqa: E402

CPU = Device("cpu", 1, "32-true", workers=0)
TINY = PretrainRecipe(
    backbone="small-cnn", start="random", size=32, embedding=16, batch=16, samples=144, epochs=3, rate=3e-3
)
"""9 steps, 3 an epoch."""


def make(folder: Path, *, seed: int = 0) -> PretrainData:
    """Photographs whose noise grows with ISO, whose brightness grows with exposure; apertures partly unknown."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    crops: dict[str, list[TaggedCrop]] = {"train": [], "val": []}
    for number in range(80):
        split = "val" if number % 4 == 0 else "train"
        iso, seconds = float(rng.choice([100, 400, 1600, 6400])), float(2 ** rng.uniform(-8, 0))
        pixels = 128 + 20 * np.log2(seconds * 16) + rng.normal(0, iso / 200, (48, 48, 3))
        path = folder / f"t{number}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        values = (iso, math.nan if number % 2 else 2.8 + number, seconds, 50.0)
        crops[split].append(TaggedCrop(path, str(number), "patch", split, f"{split} {number % 5}", values))
    faces = {}
    for split, count in (("train", 12), ("val", 6)):
        samples = []
        for number in range(count):
            path = folder / f"{split}{number}.png"
            Image.fromarray(variant(number + 50 * (split == "val"), 0)[0]).save(path)
            samples.append(Sample(path, 0, "", "web", split, f"{split}{number}", ""))
        faces[split] = Faces(tuple(samples), np.stack([base_landmarks()] * count))
    return PretrainData(tuple(crops["train"]), faces["train"], tuple(crops["val"]), faces["val"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PretrainData:
    return make(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pretraining, "REPORT_EVERY", 1)
    monkeypatch.setattr(pretraining, "_keep_memory", lambda: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Stop(Exception):  # noqa: N818
    """What stands for a kill."""


class Log(Silent):
    def __init__(self, *, at_step: int = 0, at_epoch: int = 0) -> None:
        self.at_step, self.at_epoch = at_step, at_epoch
        self.notes: list[str] = []
        self.reports: list[Progress] = []
        self.history: list[Ended] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, progress: Progress) -> None:
        self.reports.append(progress)
        if progress.step == self.at_step:
            raise Stop

    def epoch(self, history: Sequence[Ended]) -> None:
        self.history = list(history)
        if len(history) == self.at_epoch:
            raise Stop


def test_a_broken_run_ends_as_an_unbroken_one(data: PretrainData, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    log = Log()
    pretrain(data, TINY, a, device=CPU, watcher=Together(log, Files(a)), save_every=2)
    assert [report.step for report in log.reports] == list(range(1, 10))
    notes = []
    for stop in (Log(at_step=1), Log(at_step=5), Log(at_epoch=2), Log(at_step=8)):
        with pytest.raises(Stop):
            pretrain(data, TINY, b, device=CPU, watcher=Together(stop, Files(b)), save_every=2)
        notes += stop.notes
    again = dataclasses.replace(CPU, workers=2)
    pretrain(data, TINY, b, device=again, watcher=Files(b), save_every=2)
    assert notes == ["going on from step 4 of 9", "going on from step 6 of 9"]
    for name in ("network.safetensors", "epochs.csv", "recipe.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert (a / "curve.png").is_file()
    assert not list(b.glob("*.tmp"))


def test_what_a_run_leaves(data: PretrainData, tmp_path: Path) -> None:
    log = Log()
    whole = pretrain(data, TINY, tmp_path, device=CPU, watcher=Together(log, Files(tmp_path)))
    assert "pairs right on cameras not seen" in log.history[-1].line
    with (tmp_path / "pair-accuracy.csv").open(newline="") as stream:
        assert stream.readline().startswith("# ")
        rows = {row["task"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["iso", "f_number", "exposure_seconds", "focal_length_mm", "mean", "manipulated"]
    assert rows["focal_length_mm"]["value"] == "nan"  # all the same: nothing to rank, and said so
    assert rows["f_number"]["pictures"] == "20"  # val holds even numbers, whose aperture is known
    for name in ("iso", "f_number", "exposure_seconds"):
        low, value, high = (float(rows[name][key]) for key in ("low", "value", "high"))
        assert low <= value <= high
        assert rows[name]["groups"] == "5"
    again = embedding_network(tmp_path)[0]
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(again.embed(images), whole.embed(images), atol=1e-4)  # another memory layout
        assert again.embed(images).shape == (3, 16)
        assert again(images).shape == (3, 5)
    (tmp_path / "network.safetensors").unlink()
    quiet = Log()
    pretrain(data, TINY, tmp_path, device=CPU, watcher=quiet)  # a finished run writes its result anew
    assert quiet.reports == []
    assert (tmp_path / "network.safetensors").is_file()


def test_it_learns_what_there_is_to_learn(data: PretrainData, tmp_path: Path) -> None:
    """Noise tells ISO and brightness tells exposure, on cameras not seen."""
    recipe = dataclasses.replace(TINY, samples=1920, batch=32, epochs=2, rate=1e-2)
    log = Log()
    pretrain(data, recipe, tmp_path, device=CPU, watcher=log)
    last = log.history[-1]
    assert isinstance(last, pretraining.PretrainEpoch)
    assert last.val_iso > 0.75
    assert last.val_exposure > 0.85
    assert last.loss < log.history[0].loss  # type: ignore[attr-defined]
    assert last.val_mean == pytest.approx(np.mean([last.val_iso, last.val_aperture, last.val_exposure]))


def test_batches_are_half_tags_and_half_faces(data: PretrainData) -> None:
    crops = _Crops(data, TINY, 0)
    assert len(crops) == 144
    for step in range(2):
        batch = [crops[step * 16 + slot] for slot in range(16)]
        tags, labels = np.stack([b[1].numpy() for b in batch]), np.array([b[2] for b in batch])
        assert (~np.isnan(tags[:8, 0])).all()
        assert np.isnan(tags[8:]).all()
        assert np.isnan(labels[:8]).all()
        assert sorted(labels[8:]) == [0] * 4 + [1] * 4
        assert all(b[0].shape == (32, 32, 3) and b[0].dtype == torch.uint8 for b in batch)
    later = _Crops(data, TINY, 3)
    for position in (0, 9, 15):
        assert torch.equal(later[position][0], crops[48 + position][0])


def test_every_photograph_comes_once_before_any_comes_twice() -> None:
    deck = _decks(7, 24, 5, 1)
    for start in (0, 7, 14):
        assert sorted(deck[start : start + 7]) == list(range(7))
    assert len(deck) == 24
    assert (deck == _decks(7, 24, 5, 1)).all()
    assert (deck != _decks(7, 24, 5, 2)).any()


def test_a_checkpoint_of_something_else(data: PretrainData, tmp_path: Path) -> None:
    pretrain(data, TINY, tmp_path, device=CPU)
    with pytest.raises(UsageError, match=r"another recipe's: rate 0\.003 \(asked: 0\.1\)"):
        pretrain(data, dataclasses.replace(TINY, rate=0.1), tmp_path, device=CPU)
    fewer = dataclasses.replace(data, tagged=data.tagged[1:])
    with pytest.raises(UsageError, match="trained on other pictures"):
        pretrain(fewer, TINY, tmp_path, device=CPU)
    (tmp_path / NAME).write_bytes(b"text")
    with pytest.raises(ModelError, match="not a checkpoint"):
        pretrain(data, TINY, tmp_path, device=CPU)


def test_a_loss_that_is_not_finite(data: PretrainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pretraining.joint_loss
    monkeypatch.setattr(pretraining, "joint_loss", lambda o, v, m: real(o, v, m) * float("nan"))
    with pytest.raises(ModelError, match=r"the loss is nan at step 0; lower the learning rate .*Nothing was saved yet"):
        pretrain(data, TINY, tmp_path, device=CPU)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_goes_away(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    data.tagged[3].path.write_bytes(b"gone")
    for workers in (0, 1):
        with pytest.raises(UsageError, match=r"t5\.png cannot be read .*take it out of the manifest") as raised:
            pretrain(data, TINY, tmp_path / "out", device=dataclasses.replace(CPU, workers=workers))
        assert "Traceback" not in str(raised.value)


def test_recipes() -> None:
    for name, known in PRETRAIN_PRESETS.items():
        recipe = pretrain_preset(name)
        assert recipe == known.recipe
        assert PretrainRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    paper = pretrain_preset("exif-resnet50")
    assert (paper.backbone, paper.rate, paper.batch, paper.size, paper.decay) == ("resnet50", 1e-5, 256, 224, 1e-4)
    assert paper.embedding == 768
    with pytest.raises(UsageError, match="multiple of 4"):
        pretrain_preset("exif-lite0", batch=30)
    with pytest.raises(UsageError, match="did you mean 'samples'"):
        pretrain_preset("exif-lite0", sample=3)
    with pytest.raises(UsageError, match="fewer than 10 epochs"):
        pretrain_preset("exif-lite0", samples=96)
    with pytest.raises(UsageError, match="unknown preset 'exif'"):
        pretrain_preset("exif")
    with pytest.raises(UsageError, match="no finished pretraining"):
        embedding_network(Path("nowhere"))


def test_the_network_begins_without_a_loud_opinion() -> None:
    network = pretraining.ranking_network(TINY)
    assert network(torch.rand(4, 3, 32, 32)).abs().max() < 0.1
    assert training.Device is Device


def test_the_command(tmp_path: Path) -> None:
    """Wrong use is one line; the presets are listed. (A run from the shell reads the same library.)"""
    done = run_cli("pretrain", "--presets")
    assert done.returncode == 0
    assert "exif-resnet50: resnet50, 224 px, batch 256" in " ".join(done.stdout.split())
    done = run_cli("pretrain", "--out", tmp_path)
    assert (done.returncode, done.stderr) == (2, "faceproof: give --exif MANIFEST, --faces PATH and --out DIR\n")
    done = run_cli("pretrain", "--out", tmp_path, "--exif", tmp_path / "no.csv", "--faces", tmp_path)
    assert done.returncode == 2
    assert "no manifest at" in done.stderr
