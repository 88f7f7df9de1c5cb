"""Faces to train on, made from one photograph: what the tests of training share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from PIL import Image

from faceproof import RetinaFace
from faceproof.datasets import Sample
from faceproof.images import RGB
from faceproof.landmarks import Landmarked

MARKS = (
    pytest.mark.train,
    pytest.mark.slow,
    # torch's own exporter, loader and Fabric use what they deprecate.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
)
"""Of tests that train."""
COUNTS = {"train": {0: ("web", "book"), 1: ("gan", "diffusion")}, "val": {0: ("web", "book"), 1: ("gan", "diffusion")}}
SIDE = 192


def variant(number: int, label: int) -> tuple[RGB, tuple[int, int]]:
    """One of many pictures of the astronaut, and how far it was moved; the generated ones carry a grid, as upsampling
    leaves.
    """
    rng = np.random.default_rng([number, label])
    right, down = (int(v) for v in rng.integers(-6, 7, 2))
    picture = Image.fromarray(np.asarray(skimage.data.astronaut())[20 - down : 276 - down, 96 - right : 352 - right])
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).astype(int)
    pixels = pixels + rng.integers(-20, 21) + rng.integers(-2, 3, pixels.shape)
    if label:
        pixels[::2, ::2] += 24
    return np.clip(pixels, 0, 255).astype(np.uint8), (right, down)


def face_set(folder: Path, *, train: int = 6, val: int = 12) -> Path:
    """Write SPLIT/CLASS/SOURCE/n.png with so many pictures a source."""
    number = 0
    for split, each in (("train", train), ("val", val)):
        for label, names in COUNTS[split].items():
            for name in names:
                place = folder / split / ("fake" if label else "real") / name
                place.mkdir(parents=True)
                for _ in range(each):
                    Image.fromarray(variant(number, label)[0]).save(place / f"{number}.png")
                    number += 1
    return folder


@cache
def base_landmarks() -> npt.NDArray[np.float32]:
    """(5, 2) float32 landmarks of a variant that was not moved."""
    base = np.asarray(skimage.data.astronaut())[20:276, 96:352]
    pixels = np.asarray(Image.fromarray(base).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return np.asarray(RetinaFace().detect(pixels)[0].landmarks, np.float32)


def landmarked(folder: Path, count: int, *, first: int = 0, split: str = "train") -> Landmarked:
    """Write pictures, every second one generated, and say where their faces are without looking for them."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, points = [], []
    for number in range(first, first + count):
        label = number % 2
        pixels, moved = variant(number, label)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        source = ("web", "book", "gan", "diffusion")[2 * label + number // 2 % 2]
        samples.append(Sample(path, label, source if label else "", source, split, str(number), "none"))
        points.append(base_landmarks() + np.float32(moved) * np.float32(SIDE / 256))
    return Landmarked(tuple(samples), np.array(points, np.float32))
