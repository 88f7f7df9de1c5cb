"""Make a folder of JPEG files with one face each, from scikit-image's astronaut alone.

    python benchmarks/pictures.py FOLDER --count 512

Square crops about the face at a random place and scale, half of them mirrored, in random brightness
and contrast, at 288 to 400 px and JPEG quality 75 to 90, like profile pictures. Picture i depends on
the seed and i only, so a larger folder begins with the smaller one's files. Eye distances are 12 to
27 % of the side: every picture passes the face filter of FIELD.md 1.1 (10 %), so both pipelines of
throughput.py do all their work on all of them. One person's photograph is enough for speed and
memory; nothing here says anything about accuracy.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from common import say

FACE = (224.0, 122.0)
"""Middle of the face in the astronaut picture, x and y in pixels; its eyes are 41.4 px apart."""
EYES = 41.4
SIDES = (288, 400)


@functools.cache
def _astronaut() -> Image.Image:
    try:
        from skimage.data import astronaut
    except ImportError as err:
        raise SystemExit(
            f"scikit-image is needed ({err}): pip install scikit-image, or give --pictures a folder "
            "that benchmarks/pictures.py made in another environment"
        ) from None
    return Image.fromarray(astronaut())


def picture(seed: int, number: int, sides: tuple[int, int] = SIDES) -> tuple[Image.Image, int]:
    """Return picture `number` of the series `seed`, RGB, and the JPEG quality it is to be saved with."""
    whole = _astronaut()
    chance = np.random.default_rng((seed, number))
    side = EYES / chance.uniform(0.115, 0.24)  # of the crop, in pixels of the astronaut
    left, top = (
        float(np.clip(middle - side / 2 + chance.uniform(-0.1, 0.1) * side, 0, edge - side))
        for middle, edge in zip(FACE, whole.size, strict=True)
    )
    pixels = int(chance.integers(sides[0], sides[1] + 1))
    crop = whole.resize((pixels, pixels), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    if chance.random() < 0.5:
        crop = ImageOps.mirror(crop)
    crop = ImageEnhance.Brightness(crop).enhance(float(chance.uniform(0.75, 1.2)))
    crop = ImageEnhance.Contrast(crop).enhance(float(chance.uniform(0.85, 1.15)))
    return crop, int(chance.integers(75, 91))


def make(folder: Path, count: int, *, seed: int = 0, sides: tuple[int, int] = SIDES) -> list[Path]:
    """Write `count` pictures to `folder` and return their paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        made, quality = picture(seed, number, sides)
        paths.append(folder / f"face-{number:06d}.jpg")
        made.save(paths[-1], quality=quality)
    return paths


@contextlib.contextmanager
def picture_files(folder: Path | None, count: int) -> Iterator[list[Path]]:
    """Yield `count` picture files: from `folder`, or made in a temporary one that is removed afterwards."""
    if folder is not None:
        paths = sorted(folder.resolve().glob("*.jpg"))
        if len(paths) < count:
            raise SystemExit(f"{folder} has {len(paths)} .jpg files, {count} are needed; make them with pictures.py")
        yield paths[:count]
        return
    with tempfile.TemporaryDirectory(prefix="faceproof-bench-") as temporary:
        say(f"making {count} pictures")
        yield make(Path(temporary), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to; files of the same names are replaced")
    parser.add_argument("--count", type=int, default=512, help="pictures (512)")
    parser.add_argument("--seed", type=int, default=0, help="of the series (0)")
    parser.add_argument("--sides", type=int, nargs=2, default=SIDES, metavar=("MIN", "MAX"), help="pixels (288 400)")
    options = parser.parse_args()
    paths = make(options.folder, options.count, seed=options.seed, sides=tuple(options.sides))
    say(f"{len(paths)} pictures, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB in {options.folder}")


if __name__ == "__main__":
    main()
