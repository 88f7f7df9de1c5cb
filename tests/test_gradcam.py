"""Grad-CAM and its kin against closed forms, differences and each other. Needs the extra [train]."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from faceproof import FaceChecker, ModelError, UsageError
from faceproof.detectors.folders import write_card
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from faceproof.images import RGB
from faceproof.recipes import PRESETS, Recipe

from .helpers import run_cli
from .training_sets import MARKS

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = list(MARKS)

from torch import nn  # noqa: E402

from faceproof.explain.gradcam import (  # noqa: E402
    Layer,
    grad_cam,
    grad_cam_plus,
    layers_of,
    network_maps,
    pooled_map,
)
from faceproof.explain_run import run_maps, run_network  # noqa: E402
from faceproof.explanation import explain  # noqa: E402
from faceproof.features.backbone import Network, build_network  # noqa: E402


def small(hidden: tuple[int, ...] = (), seed: int = 0, backbone: str = "small-cnn", size: int = 64) -> Network:
    torch.manual_seed(seed)
    network = build_network(backbone, size, start="random", hidden=hidden)
    for parameter in network.head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.eval()


def images(size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_with_average_pooling_and_a_linear_head_all_three_are_one() -> None:
    """Cell by cell the class activation map of Zhou et al.; its mean plus the bias is the score."""
    network, x = small(), images()
    cam = pooled_map(network, x)
    assert cam is not None
    score = float(network(x))
    assert cam.mean() + float(network.head[-1].bias) == pytest.approx(score, abs=1e-5)
    last = layers_of(network, x, count=1)[0]
    np.testing.assert_allclose(grad_cam(last, 1), np.maximum(cam, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grad_cam(last, -1), np.maximum(-cam, 0), rtol=1e-4, atol=1e-5)
    weights = network.head[-1].weight.detach().numpy()[0]
    np.testing.assert_allclose(cam, np.tensordot(weights, last.activations, 1), rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_differences() -> None:
    """Nudge one cell of the middle layer; the score moves by the gradient."""
    network, x = small(hidden=(8,)), images()
    layer = layers_of(network, x)[1]
    module = dict(network.body.named_modules())[layer.name]
    channel, row, column = np.unravel_index(np.abs(layer.gradients).argmax(), layer.gradients.shape)
    step = 1e-2

    def nudged(by: float) -> float:
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
            changed = output.clone()
            changed[0, channel, row, column] += by
            return changed

        handle = module.register_forward_hook(hook)
        with torch.inference_mode():
            found = float(network(x))
        handle.remove()
        return found

    slope = (nudged(step) - nudged(-step)) / (2 * step)
    assert slope == pytest.approx(float(layer.gradients[channel, row, column]), rel=0.05)


def test_grad_cam_plus_by_hand() -> None:
    """One channel, two cells: a = (1, 3), g = (1, 0.5); alpha = g^2 / (2 g^2 + sum(a) g^3)."""
    layer = Layer("x", np.array([[[1.0, 3.0]]], np.float32), np.array([[[1.0, 0.5]]], np.float32))
    weight = 1 / (2 + 4) * 1 + 0.25 / (0.5 + 4 * 0.125) * 0.5
    np.testing.assert_allclose(grad_cam_plus(layer, 1), [[weight, 3 * weight]], rtol=1e-6)
    assert (grad_cam_plus(layer, -1) == 0).all()
    np.testing.assert_allclose(grad_cam(layer, 1), [[1.5, 4.5]], rtol=1e-6)


class Brightness(nn.Module):
    """A body of one channel: brightness, averaged over 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 1, 1)
        self.pool = nn.AvgPool2d(8)
        nn.init.constant_(self.first.weight, 1 / 3)
        nn.init.constant_(self.first.bias, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.pool(self.first(images)).mean((2, 3))


@pytest.mark.parametrize(("weight", "answer"), [(5.0, 1), (-5.0, -1)])
def test_a_known_patch_is_found_for_the_class_decided(weight: float, answer: int) -> None:
    network = Network(Brightness(), 1, (), 0.0)
    nn.init.constant_(network.head[-1].weight, weight)
    crop = np.zeros((64, 64, 3), np.uint8)
    crop[16:32, 40:56] = 255
    for heat in network_maps(network, [0.5] * 3, [0.5] * 3)(crop, answer):
        rows, columns = np.nonzero(heat.values > 0.9 * heat.values.max())
        assert heat.values.max() > 0, heat.name
        assert 16 <= rows.min() <= rows.max() < 32, heat.name
        assert 40 <= columns.min() <= columns.max() < 56, heat.name
    against = {heat.name: heat.values for heat in network_maps(network, [0.5] * 3, [0.5] * 3)(crop, -answer)}
    assert against["gradcam"].max() < 1e-5
    assert against["gap"].min() < 0


BACKBONES = sorted(
    {one.recipe.backbone for one in PRESETS.values()} | {"tf_efficientnet_lite0", "test_vit", "test_resnet"}
)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_the_project_trains(backbone: str) -> None:
    size = 160 if backbone == "test_vit" else 96
    network = small(backbone=backbone, size=size)
    x = images(size)
    layers = layers_of(network, x)
    assert len(layers) == 3
    assert all(layer.name.count(".") <= 1 for layer in layers)  # stages and blocks, no branches within
    for layer in layers:
        assert layer.activations.shape == layer.gradients.shape
        assert np.isfinite(grad_cam(layer, 1)).all()
        assert np.isfinite(grad_cam_plus(layer, -1)).all()
        assert layer.gradients.any()
    crop = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    maps = {heat.name: heat for heat in network_maps(network, [0.5] * 3, [0.5] * 3)(crop, 1)}
    assert {"gradcam", "gradcam-plus"} <= set(maps)
    assert all(heat.values.shape == (size, size) for heat in maps.values())
    if backbone != "test_vit":
        assert "gap" in maps, backbone
        cam = pooled_map(network, x)
        assert cam is not None
        assert cam.mean() + float(network.head[-1].bias) == pytest.approx(float(network(x)), rel=1e-3, abs=1e-3)


def test_frozen_layers_have_maps_and_hooks_are_gone() -> None:
    network = small()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    assert len(layers_of(network, images())) == 3
    assert all(not module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_no_map_at_all() -> None:
    class Flat(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :4]

    with pytest.raises(ModelError, match="no layer of this network is a map"):
        layers_of(Network(Flat(), 4, (), 0.0), images())
    with pytest.raises(UsageError, match="one crop at a time"):
        layers_of(small(), torch.zeros(2, 3, 64, 64))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What `faceproof train` leaves, as far as it is read: the shipped model under a small network's recipe."""
    from safetensors.torch import save_file

    folder = tmp_path / "run"
    shutil.copytree(shipped_models()[DEFAULT_MODEL], folder / "model")
    raw = json.loads((folder / "model" / "card.json").read_text())
    size = int(raw["input"]["size"])
    raw["training"]["recipe"] = Recipe(backbone="small-cnn", start="random", size=size, head=(8,)).to_dict()
    write_card(folder / "model", raw)
    save_file(small((8,), size=size).state_dict(), folder / "network.safetensors")
    return folder


def test_a_run_explains_itself(run: Path, astronaut: RGB) -> None:
    network, recipe = run_network(run)
    assert recipe.backbone == "small-cnn"
    assert sum(p.numel() for p in network.parameters()) > 90_000
    found = explain(astronaut, FaceChecker(run / "model"), more=run_maps(run), draws=1)
    names = ["cam", "occlusion", "gradcam", "gradcam-plus", "gap", "ela", "noise"]
    assert [one.heat.name for one in found.maps] == names
    assert all(len(one.deletion.random) == 1 for one in found.maps)


def test_the_command_explains_a_run(run: Path, tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"
    done = run_cli("explain", example, "--run", run, "--out", tmp_path / "why", timeout=300)
    assert done.returncode == 0, done.stderr
    assert {"gradcam.png", "gradcam-plus.png", "gap.png"} <= {path.name for path in (tmp_path / "why").iterdir()}
    assert "Grad-CAM++: " in done.stdout


def test_what_is_no_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of a finished run"):
        run_network(tmp_path)
    raw = json.loads((run / "model" / "card.json").read_text())
    raw["training"]["recipe"]["size"] = 64
    write_card(run / "model", raw)
    with pytest.raises(ModelError, match="do not belong together"):
        run_network(run)
    raw["training"]["recipe"] = {"backbone": 7}
    write_card(run / "model", raw)
    with pytest.raises(ModelError, match="does not hold the recipe"):
        run_network(run)
