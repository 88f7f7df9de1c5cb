"""Perceptual hashes: pictures that look alike get hashes that differ in few bits.

pHash (64 bits), dHash (64 bits) and PDQ (256 bits). pHash and dHash are defined as in the package imagehash, bit by
bit, so that hashes can be compared with those others have published:

    phash   grey (ITU-R 601), 32 x 32 by Lanczos, DCT-II, the lowest 8 x 8 coefficients against their median
            (Zauner 2010; Krawetz, "Looks Like It", 2011)
    dhash   grey, 9 x 8 by Lanczos, each pixel against its left neighbour (Krawetz, "Kind of Like That", 2013)
    pdq     Facebook's, from the package pdqhash (https://github.com/facebook/ThreatExchange, hashing/hashing.pdf)

A hash is W = 1 or 4 words of uint64, the first bit highest; as text it has 16 or 64 hexadecimal digits, always.
Distances are Hamming distances in bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError, unknown_name
from faceproof.extras import opencv, require

__all__ = ["INVERSES", "KINDS", "RADII", "VIEWS", "HashedPicture", "distance", "from_hex", "hash_picture", "to_hex"]

RGB = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Grid = npt.NDArray[np.uint8]

KINDS = {"phash": 1, "dhash": 1, "pdq": 4}
"""Words of 64 bits by kind of hash."""
RADII = {"phash": 3, "dhash": 3, "pdq": 31}
"""Bits up to which two pictures count as the same: FIELD.md 1.1 for the short ones, PDQ's authors for the long one."""
VIEWS = (
    "as it is", "turned 90", "turned 180", "turned 270",
    "mirrored", "mirrored, turned 90", "mirrored, turned 180", "mirrored, turned 270",
)  # fmt: skip
"""The eight ways to lay a picture down; degrees against the clock, after mirroring left and right."""
INVERSES = (0, 3, 2, 1, 4, 5, 6, 7)
"""The view of a view that is the picture as it is."""
NOISE = 2.0
"""What recompression moves a coefficient by: grey levels, in the orthonormal DCT of the 32 x 32 picture."""
FLAT = 0.5
"""A picture of lower quality than this is flat: noise decides most of its hash, or all such pictures share one."""


@dataclass(frozen=True)
class HashedPicture:
    """The hashes of one picture.

    Attributes:
        hashes: (V, W) uint64; V = 1, or 8 in the order of `VIEWS`.
        quality: share of pHash's coefficients that stand clear of noise, 0 to 1.
    """

    hashes: Hashes
    quality: float

    @property
    def flat(self) -> bool:
        """Whether the hash says nothing: one colour, a smooth gradient, very low contrast."""
        return self.quality < FLAT


def hash_picture(pixels: RGB, kind: str = "phash", *, views: bool = False) -> HashedPicture:
    """Hash a picture.

    Args:
        pixels: (H, W, 3) uint8 RGB, 0-255.
        kind: a key of `KINDS`.
        views: hash all eight of `VIEWS` instead of the picture as it is. The picture is turned after it was made
            small, so that hashes of views may differ by a bit or two from those of turned pictures.

    Raises:
        UsageError: no such kind, or `pixels` are no picture.
        MissingExtraError: PDQ without pdqhash.
    """
    if kind not in KINDS:
        raise unknown_name("hash", kind, list(KINDS))
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UsageError(f"pixels must be uint8 (H, W, 3) RGB, not {pixels.dtype} {pixels.shape}")
    small = _grids(pixels, 32, 32, views=views)
    coefficients = [_coefficients(grid) for grid in small]
    if kind == "phash":
        bits = np.stack([_phash(each) for each in coefficients])
    elif kind == "dhash":
        bits = np.stack([grid[:, 1:] > grid[:, :-1] for grid in _grids(pixels, 9, 8, views=views)])
    else:
        bits = _pdq(pixels, views=views)
    return HashedPicture(_words(bits.reshape(len(bits), -1)), _quality(coefficients[0]))


def distance(first: Hashes, second: Hashes) -> npt.NDArray[np.uint16]:
    """Return Hamming distances of hashes (..., W) uint64, in bits; the leading axes broadcast."""
    return np.asarray(_ones(first ^ second).sum(axis=-1, dtype=np.uint16))


def to_hex(words: Hashes) -> str:
    """Return one hash (W,) as text, 16 digits a word, leading zeros kept."""
    return "".join(f"{int(word):016x}" for word in words)


def from_hex(texts: Iterable[str], kind: str) -> Hashes:
    """Return hashes (N, W) uint64 from text.

    Raises:
        UsageError: one of them is not a hash of this kind.
    """
    digits = 16 * KINDS[kind]
    found = []
    for text in texts:
        # int() alone would take signs, spaces and underscores.
        if len(text) != digits or text.strip(_DIGITS):
            raise UsageError(f"{text[:80]!r} is not a {kind}: it needs {digits} hexadecimal digits")
        found.append([int(text[start : start + 16], 16) for start in range(0, digits, 16)])
    return np.array(found, np.uint64).reshape(-1, KINDS[kind])


_DIGITS = "0123456789abcdefABCDEF"


def _grids(pixels: RGB, width: int, height: int, *, views: bool) -> list[Grid]:
    """The picture in grey, (height, width) uint8; with `views` once for each of them."""
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L")
    upright = np.asarray(grey.resize((width, height), Image.Resampling.LANCZOS))
    if not views:
        return [upright]
    # Turned by 90 or 270 degrees, width and height change places.
    lying = np.asarray(grey.resize((height, width), Image.Resampling.LANCZOS))
    return [
        np.rot90(np.fliplr(grid) if mirrored else grid, turns)
        for mirrored in (False, True)
        for turns, grid in enumerate((upright, lying, upright, lying))
    ]


def _coefficients(grid: Grid) -> npt.NDArray[np.float64]:
    """The lowest 8 x 8 coefficients of the orthonormal DCT-II of a (32, 32) picture."""
    found = opencv().dct(np.ascontiguousarray(grid, dtype=np.float64))
    return np.asarray(found[:8, :8])


def _phash(coefficients: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    # imagehash takes scipy's DCT without norm, in which the constant row and column count sqrt(2) times as much.
    plain = coefficients.copy()
    plain[0] *= np.sqrt(2)
    plain[:, 0] *= np.sqrt(2)
    return np.asarray(plain > np.median(plain))


def _quality(coefficients: npt.NDArray[np.float64]) -> float:
    return float((np.abs(coefficients - np.median(coefficients)) > NOISE).mean())


def _pdq(pixels: RGB, *, views: bool) -> npt.NDArray[np.bool_]:
    pdqhash = require("duplicates", "pdqhash")
    picture = np.ascontiguousarray(pixels)
    if not views:
        return np.asarray(pdqhash.compute(picture)[0], dtype=bool)[None]
    found = np.asarray(pdqhash.compute_dihedral(picture)[0], dtype=bool)
    return found[list(_PDQ_ORDER)]


_PDQ_ORDER = (0, 1, 2, 3, 5, 6, 4, 7)
"""Where pdqhash puts each of `VIEWS`."""


def _words(bits: npt.NDArray[np.bool_]) -> Hashes:
    """(V, 64 W) bits, the first one highest -> (V, W) uint64."""
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


def _ones(words: Hashes) -> npt.NDArray[np.uint8]:
    """Bits that are set in each word."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words))
    return np.asarray(_ONES[np.ascontiguousarray(words).view(np.uint16)].reshape(*words.shape, 4).sum(-1, np.uint8))


_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(1, dtype=np.uint8)
