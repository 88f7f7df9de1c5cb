"""Make the pictures in examples/: the astronaut, her latent reconstruction, and a drawing.

    python scripts/make_examples.py --taef2 ../shared/data/taef2 --out examples

The photograph is `skimage.data.astronaut()`: Eileen Collins, NASA, public domain. The reconstruction
sends it through TAEF2 (Ollin Boer Bohan, MIT), the small autoencoder for FLUX.2 latents: every pixel
of it comes out of a generator's decoder. The drawing is drawn here. Needs torch, for the reconstruction only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage.data import astronaut
from torch import nn


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


def _stage(blocks: int, *, pooled: bool = False) -> list[nn.Module]:
    return [Block(64, pooled=pooled) for _ in range(blocks)]


def encoder() -> nn.Sequential:
    """Pictures (N, 3, H, W) in 0-1 -> latents (N, 32, H/8, W/8)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), *_stage(1)]
    for number in range(3):
        layers += [nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False), *_stage(3, pooled=number == 2)]
    return nn.Sequential(*layers, nn.Conv2d(64, 32, 3, padding=1))


class Clamp(nn.Module):
    """Softly keep latents within +-3."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape in and out."""
        return torch.tanh(x / 3) * 3


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


def reconstruct(pixels: np.ndarray, weights: Path) -> np.ndarray:
    """Send a picture (H, W, 3) uint8 RGB, sides divisible by 8, through the autoencoder."""
    parts = []
    for name, network in (("encoder", encoder()), ("decoder", decoder())):
        state = torch.load(weights / f"taef2_{name}.pth", map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        parts.append(network.eval())
    with torch.inference_mode():
        picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        result = parts[1](parts[0](picture)).clamp(0, 1)[0]
    return (result.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def drawing() -> Image.Image:
    """A face only a person would call one."""
    picture = Image.new("RGB", (400, 400), "#f3ead7")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((80, 60, 320, 350), outline="#333", width=6)
    for x in (150, 250):
        pen.ellipse((x - 22, 165, x + 22, 195), outline="#333", width=5)
        pen.ellipse((x - 7, 172, x + 7, 188), fill="#333")
    pen.line((200, 195, 188, 250, 210, 250), fill="#333", width=5)
    pen.arc((145, 240, 255, 310), 20, 160, fill="#333", width=6)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taef2", type=Path, required=True, help="folder with taef2_encoder.pth and taef2_decoder.pth")
    parser.add_argument("--out", type=Path, default=Path("examples"))
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    photograph = np.asarray(astronaut())
    again = reconstruct(photograph, options.taef2)
    error = np.mean((photograph.astype(float) - again) ** 2)
    Image.fromarray(photograph).save(options.out / "astronaut.jpg", quality=92)
    Image.fromarray(again).save(options.out / "astronaut_reconstructed.jpg", quality=92)
    drawing().save(options.out / "drawing.png")
    print(f"wrote three pictures to {options.out}; the reconstruction's PSNR is {10 * np.log10(255**2 / error):.1f} dB")


if __name__ == "__main__":
    main()
