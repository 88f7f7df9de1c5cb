"""Grad-CAM, Grad-CAM++ and the map of global average pooling, for torch networks; several layers fused.

Selvaraju et al. 2017 (equations 1 and 2), Chattopadhay et al. 2018 (equations 5 and 19), Zhou et al. 2016. Weights are
sums of gradients over a layer where the papers take means, so that all maps have the unit of `explain.maps`: at the
last layer of a network with average pooling and one linear layer, Grad-CAM before its ReLU is the class activation
map, cell by cell (a test says so). The class explained is the one that was decided: one sigmoid has two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof.errors import ModelError, UsageError
from faceproof.explain.maps import RGB, Floats, HeatMap, upscaled
from faceproof.features.backbone import Network

__all__ = ["LAYERS", "Layer", "grad_cam", "grad_cam_plus", "layers_of", "network_maps", "pooled_map"]

LAYERS = 3
"""Layers fused: the last stage at each of the three coarsest resolutions."""


@dataclass(frozen=True)
class Layer:
    """What a layer held for one crop.

    Attributes:
        name: of the module.
        activations: (C, h, w) float32.
        gradients: (C, h, w) float32 of the score by the activations.
    """

    name: str
    activations: Floats
    gradients: Floats


def grad_cam(layer: Layer, sign: int) -> Floats:
    """Return relu(sum over channels of activation x summed gradient), (h, w) float32; sign -1 explains photograph."""
    weights = sign * layer.gradients.sum((1, 2))
    return np.asarray(np.maximum(np.tensordot(weights, layer.activations, 1), 0), np.float32)


def grad_cam_plus(layer: Layer, sign: int) -> Floats:
    """Return Grad-CAM++ at a layer, (h, w) float32.

    Derivatives are those of exp(score), which make the second and third ones powers of the first (equation 19); the
    common factor exp(score) is left out, as everywhere.
    """
    gradients, activations = sign * layer.gradients.astype(np.float64), layer.activations.astype(np.float64)
    below = 2 * gradients**2 + activations.sum((1, 2), keepdims=True) * gradients**3
    alphas = np.where(np.abs(below) > 1e-30, gradients**2 / np.where(np.abs(below) > 1e-30, below, 1), 0)
    weights = (alphas * np.maximum(gradients, 0)).sum((1, 2))
    return np.asarray(np.maximum(np.tensordot(weights, activations, 1), 0), np.float32)


def layers_of(network: Network, images: torch.Tensor, *, count: int = LAYERS) -> list[Layer]:
    """Run one crop and return layers with their gradients, in the order they ran.

    Convolutional bodies: the last whole stage at each of the `count` coarsest resolutions. Transformers: the last
    `count` blocks whose patches reach the score, as maps.

    Args:
        network: in evaluation mode.
        images: (1, 3, S, S) normalised float32.
        count: layers.

    Raises:
        UsageError: not one crop.
        ModelError: no layer of the network is a map.
    """
    if images.ndim != 4 or len(images) != 1:
        raise UsageError(f"one crop at a time, (1, 3, S, S), not {tuple(images.shape)}")
    found: dict[object, tuple[str, torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]] = {}
    with torch.enable_grad(), _watched(network.body, found):
        # Frozen layers give no gradients unless their input asks for some.
        score = network(images.detach().clone().requires_grad_(True)).reshape(())
        kept = [entry for entry in found.values() if entry[1].requires_grad]
        gradients = torch.autograd.grad(score, [entry[1] for entry in kept], allow_unused=True) if kept else ()
    layers = []
    for (name, held, as_map), gradient in zip(kept, gradients, strict=True):
        if gradient is None or not as_map(gradient).any():
            continue  # a branch, or patches behind the last exchange with the token that is read
        layers.append(Layer(name, *(as_map(t.detach())[0].float().cpu().numpy() for t in (held, gradient))))
    if not layers:
        raise ModelError("no layer of this network is a map, so there is no Grad-CAM of it; use the occlusion map")
    return layers[-count:]


def pooled_map(network: Network, images: torch.Tensor) -> Floats | None:
    """Return the map of global average pooling (Zhou et al. 2016): (h, w) float32, above 0 for generated.

    Each channel of the last layer, weighted by the head's gradient at the pooled features: exact for a linear head
    (mean plus bias is the score), a linearisation for others. None where the body pools otherwise than by the mean.
    """
    last = layers_of(network, images, count=1)[0]
    with torch.enable_grad():
        pooled = network.embed(images).detach().requires_grad_(True)
        (weights,) = torch.autograd.grad(network.head(pooled).reshape(()), [pooled])
    if pooled.shape[1] != len(last.activations):
        return None
    vector = pooled[0].detach().cpu().numpy()
    if not np.allclose(vector, last.activations.mean((1, 2)), rtol=1e-3, atol=1e-4):
        return None
    return np.asarray(np.tensordot(weights[0].cpu().numpy(), last.activations, 1), np.float32)


def network_maps(network: Network, mean: npt.ArrayLike, std: npt.ArrayLike) -> Callable[[RGB, int], Sequence[HeatMap]]:
    """Return what makes the maps of a network: (crop (S, S, 3) uint8 RGB, sign) -> maps towards the answer.

    Args:
        network: put into evaluation mode.
        mean, std: of its normalisation, of RGB in 0-1.
    """
    network.eval()
    shift, spread = (torch.as_tensor(np.asarray(v, np.float32).reshape(-1, 1, 1)) for v in (mean, std))

    def make(crop: RGB, sign: int) -> list[HeatMap]:
        images = ((torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255 - shift) / spread)[None]
        layers, size = layers_of(network, images), crop.shape[0]
        names = ", ".join(layer.name for layer in layers)
        fused = f"the mean over {len(layers)} layers ({names}). What speaks against the answer is not shown."
        maps = [
            HeatMap(name, title, f"{paper}, {fused}", _fused([formula(layer, sign) for layer in layers], size))
            for name, title, paper, formula in (
                ("gradcam", "Grad-CAM", "Selvaraju et al. 2017", grad_cam),
                ("gradcam-plus", "Grad-CAM++", "Chattopadhay et al. 2018", grad_cam_plus),
            )
        ]
        pooled = pooled_map(network, images)
        if pooled is not None:
            sentence = "Where the features that are averaged before the head add to the score (Zhou et al. 2016)."
            maps.append(HeatMap("gap", "global average pooling", sentence, upscaled(sign * pooled, size)))
        return maps

    return make


def _fused(maps: Sequence[Floats], size: int) -> Floats:
    return np.asarray(np.mean([upscaled(one, size) for one in maps], axis=0), np.float32)


@contextmanager
def _watched(body: nn.Module, found: dict[object, Any]) -> Iterator[None]:
    """While open, keep what modules give that is a map: the last whole stage at each resolution, or each block.

    Only the two outermost levels of modules are stages, the outermost first: what lies deeper may be one branch of a
    block, or attention's tables, whose four axes are no pictures'.
    """
    prefix, last = int(getattr(body, "num_prefix_tokens", 0)), "NHWC" in str(getattr(body, "output_fmt", ""))

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, torch.Tensor):
                return
            if output.ndim == 4:
                as_map = _channels_first if last else _as_is
                height, width = as_map(output).shape[2:]
                whole = found.get((height, width), (name,))[0].count(".") >= name.count(".")
                if height > 1 and width > 1 and whole:
                    found.pop((height, width), None)  # the order is that of the last time
                    found[height, width] = (name, output, as_map)
            elif output.ndim == 3 and name.startswith("blocks."):
                side = round((output.shape[1] - prefix) ** 0.5)
                if side > 1 and side * side == output.shape[1] - prefix:
                    found[name] = (name, output, lambda t: _grid(t, prefix, side))

        return hook

    stages = [(name, module) for name, module in body.named_modules() if name and name.count(".") <= 1]
    handles = [module.register_forward_hook(keep(name)) for name, module in stages]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _channels_first(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 3, 1, 2)


def _as_is(maps: torch.Tensor) -> torch.Tensor:
    return maps


def _grid(tokens: torch.Tensor, prefix: int, side: int) -> torch.Tensor:
    """(1, T, C) -> (1, C, side, side), without the tokens that are no patches."""
    patches = tokens[:, prefix:]
    return patches.transpose(1, 2).reshape(len(tokens), -1, side, side)
