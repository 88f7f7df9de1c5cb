"""Maps made in the test: points at random places, and thumbnails whose colour says which they are."""

from __future__ import annotations

import numpy as np

from faceproof.picture_map import Missing, PictureMap, Point
from faceproof.thumbnails import LARGEST, make_sheets, thumbnail

HOSTILE = (
    "a/</script><script>alert(1)</script>.jpg",
    "a/\"quoted\" & 'single' <b>bold</b>.jpg",
    "=cmd|' calc'!A0.jpg",
    "a/<!-- <img src=x onerror=alert(2)>.jpg",
    "a/new\nline, comma.jpg",
    "a/\u2028separator \u202eturned.jpg",
)
VERDICTS = ("photograph", "generated", "inconclusive")


def colour(number: int) -> tuple[int, int, int]:
    """A colour of its own for each of 512 numbers, far enough from the others to survive JPEG."""
    return 16 + 32 * (number % 8), 16 + 32 * (number // 8 % 8), 16 + 32 * (number // 64 % 8)


def invented_map(count: int, *, seed: int = 0, names: tuple[str, ...] = HOSTILE) -> PictureMap:
    """A map of `count` points; the first have `names`."""
    chance = np.random.default_rng(seed)
    places = np.round(chance.uniform(0.02, 0.98, (count, 2)), 4)
    verdicts = [VERDICTS[k] for k in chance.integers(0, 3, count)]
    paths = [names[k] if k < len(names) else f"folder/face-{k:05d}.jpg" for k in range(count)]
    points = tuple(
        Point(path, float(x), float(y), verdict, None if k % 50 == 7 else round(k / count, 6))
        for k, (path, (x, y), verdict) in enumerate(zip(paths, places, verdicts, strict=True))
    )
    colours = {k: thumbnail(np.full((LARGEST, LARGEST, 3), colour(k), np.uint8)) for k in range(min(count, 512))}
    return PictureMap(
        points,
        (
            Missing("gone</script>.jpg", "error", "the file is empty"),
            Missing("tree.jpg", "no_face", "no face was found"),
        ),
        {
            "generator": tuple(f"g{k % 4}" if k % 2 else "</script><i>none" for k in range(count)),
            "cluster": tuple(str(k % 300) for k in range(count)),
        },
        make_sheets([colours[k % 512] for k in range(count)]),
        "pca",
        ("invented",),
        "nothing",
    )
