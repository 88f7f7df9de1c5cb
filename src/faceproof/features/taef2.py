"""TAEF2 (Ollin Boer Bohan, MIT): the small autoencoder for FLUX.2's latents, as torch networks.

Every pixel of a decoded picture comes out of a generator's decoder, while content, size and place stay those of the
photograph (PSNR 31 to 36 dB): pairs that differ in nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from faceproof.errors import ModelError, UsageError

__all__ = ["STEP", "decoder", "encoder", "read_taef2"]

STEP = 8
"""Sides of pictures must be multiples of it, in pixels."""
MAX_BYTES = 64 * 2**20


class Block(nn.Module):
    """Three convolutions around a skip; some with a pooled branch (1x1, group norm, ReLU, 1x1) before them."""

    def __init__(self, width: int, *, pooled: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(3):
            layers += [nn.Conv2d(width, width, 3, padding=1)] + ([nn.ReLU()] if number < 2 else [])
        self.conv = nn.Sequential(*layers)
        self.fuse = nn.ReLU()
        self.pool = (
            nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(4, 4 * width),
                nn.ReLU(inplace=True),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) in and out."""
        if self.pool is not None:
            x = x + self.pool(x)
        return self.fuse(self.conv(x) + x)


class Clamp(nn.Module):
    """Softly keep latents within +-3."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape in and out."""
        return torch.tanh(x / 3) * 3


def _stage(blocks: int, *, pooled: bool = False) -> list[nn.Module]:
    return [Block(64, pooled=pooled) for _ in range(blocks)]


def encoder() -> nn.Sequential:
    """Pictures (N, 3, H, W) in 0-1 -> latents (N, 32, H/8, W/8)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), *_stage(1)]
    for number in range(3):
        layers += [nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False), *_stage(3, pooled=number == 2)]
    return nn.Sequential(*layers, nn.Conv2d(64, 32, 3, padding=1))


def decoder() -> nn.Sequential:
    """Latents (N, 32, h, w) -> pictures (N, 3, 8h, 8w) in 0-1."""
    layers: list[nn.Module] = [Clamp(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
    for number in range(3):
        layers += [
            *_stage(3, pooled=number == 0),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
        ]
    return nn.Sequential(*layers, *_stage(1), nn.Conv2d(64, 3, 3, padding=1))


def read_taef2(folder: str | Path) -> tuple[nn.Sequential, nn.Sequential, str]:
    """Return encoder, decoder, and the first digits of their files' hash.

    Args:
        folder: with taef2_encoder and taef2_decoder, .safetensors or (as its author gives them) .pth; of the latter
            only tensors are read (`weights_only`).

    Raises:
        UsageError: they are not there.
        ModelError: they are not TAEF2's.
    """
    folder, digest, parts = Path(folder), hashlib.sha256(), []
    for name, network in (("encoder", encoder()), ("decoder", decoder())):
        paths = [folder / f"taef2_{name}{ending}" for ending in (".safetensors", ".pth")]
        path = next((each for each in paths if each.is_file()), None)
        if path is None:
            raise UsageError(f"{folder} has no taef2_{name}.safetensors or .pth; give the folder of TAEF2's weights")
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is far too large for TAEF2; get it again")
        digest.update(path.read_bytes())
        try:
            if path.suffix == ".pth":
                state = torch.load(path, map_location="cpu", weights_only=True)
            else:
                from safetensors.torch import load_file

                state = load_file(path)
            network.load_state_dict(state)
        except Exception as err:  # torch's and safetensors' own, RuntimeError, KeyError, zip errors: no common base
            raise ModelError(f"{path} holds no weights of TAEF2 ({type(err).__name__}); get it again") from err
        parts.append(network.eval())
    return parts[0], parts[1], digest.hexdigest()[:16]
