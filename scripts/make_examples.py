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
from PIL import Image, ImageDraw
from skimage.data import astronaut

from faceproof.reconstruction import Autoencoder


def reconstruct(pixels: np.ndarray, weights: Path) -> np.ndarray:
    """Send a picture (H, W, 3) uint8 RGB, sides divisible by 8, through the autoencoder."""
    return Autoencoder("taef2", weights=weights).reconstructed(pixels)


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
