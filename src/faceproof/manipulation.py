"""Faces with one part turned, mirrored or warped: what self-supervised training must tell from untouched ones.

The four manipulations of Zou et al. 2025 (arXiv 2501.02207, FIELD.md 1.4). They use 68 landmarks at 224 px; five
landmarks stand for them here. With d the distance of the eyes, boxes upright, and a margin of 5 px at 224:

- eye (theirs: 42-45, the eye on the picture's right): middle at that eye, 0.24 d to either side (a lid's
  opening is about 30 mm wide, eyes are 63 mm apart) and 0.12 d up and down;
- mouth (48-67): middle between the corners, half their distance and 0.05 d to the sides, 0.18 d up and down;
- face (0-67): middle between the eyes, 1.1 d to the sides, 0.45 d up to the brows, 1.85 d down to the chin.

Their mask: the box, blurred with sigma 7 and the larger of box and blur kept; eroded by 15 x 15; blurred by 51 x 51
with sigma 10; times one of 0.75, 1, 1, 1. All pixels are those of 224 px and grow with the crop. "The larger kept"
is our reading: taken as the maximum over the picture, a box as small as an eye's would vanish.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError, unknown_name
from faceproof.extras import opencv

__all__ = ["MANIPULATIONS", "blend_mask", "manipulate", "region"]

RGB = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]

MANIPULATIONS = {
    "mouth-turned": "the mouth flipped on both axes",
    "mouth-mirrored": "the mouth mirrored left to right",
    "eye-mirrored": "the eye on the picture's right mirrored left to right",
    "face-warped": "the whole face moved piece by piece, 4 to 5 % of its size (piecewise affine)",
}
STRENGTHS = (0.75, 1.0, 1.0, 1.0)
REFERENCE = 224
NODES = 4
"""Points a side of the grid that the warp moves (imgaug's PiecewiseAffine)."""
LEAST_SIDE = 2
"""Pixels a region must have on each side to hold something that can be turned."""


def manipulate(pixels: RGB, landmarks: npt.ArrayLike, rng: np.random.Generator, kind: str | None = None) -> RGB:
    """Return a copy of a face crop with one part manipulated and blended in.

    Args:
        pixels: (S, S, 3) uint8 RGB crop with the face upright.
        landmarks: (5, 2) x, y pixels in it: eyes (left in the picture first), nose, mouth corners.
        rng: everything random comes from it.
        kind: one of `MANIPULATIONS`; None draws one.

    Raises:
        UsageError: no such kind, or another shape.
        ValueError: the landmarks lie so that the region is outside the crop or has no size.
    """
    drawn = list(MANIPULATIONS)[int(rng.integers(len(MANIPULATIONS)))]
    name = drawn if kind is None else kind
    if name not in MANIPULATIONS:
        raise unknown_name("manipulation", name, list(MANIPULATIONS))
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] != 3:
        raise UsageError(f"a crop must be uint8 (S, S, 3), not {pixels.dtype} {pixels.shape}")
    size = len(pixels)
    box = region(name, landmarks, size)
    x0, y0, x1, y1 = box
    changed = pixels.copy()
    if name == "face-warped":
        changed[y0:y1, x0:x1] = _warped(pixels, box, rng)
    else:
        part = pixels[y0:y1, x0:x1, :][:, ::-1]
        changed[y0:y1, x0:x1] = part[::-1] if name == "mouth-turned" else part
    mask = blend_mask(box, size) * np.float32(STRENGTHS[int(rng.integers(len(STRENGTHS)))])
    blended = pixels + mask[:, :, None] * (changed.astype(np.float32) - pixels)
    return np.asarray(np.clip(np.rint(blended), 0, 255), dtype=np.uint8)


def region(kind: str, landmarks: npt.ArrayLike, size: int) -> Box:
    """Return the box (x0, y0, x1, y1, ends exclusive) a manipulation takes place in, within the crop.

    Arguments and errors as for `manipulate`.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UsageError(f"landmarks must be (5, 2) finite numbers, not {points.shape}")
    d = float(np.hypot(*(points[1] - points[0])))
    if kind == "eye-mirrored":
        middle, left, up, down = points[1], 0.24 * d, 0.12 * d, 0.12 * d
    elif kind == "face-warped":
        middle, left, up, down = points[:2].mean(0), 1.1 * d, 0.45 * d, 1.85 * d
    else:
        half = float(np.hypot(*(points[4] - points[3]))) / 2
        middle, left, up, down = points[3:].mean(0), half + 0.05 * d, 0.18 * d, 0.18 * d
    margin = 5 * size / REFERENCE
    x0, x1 = (round(float(np.clip(middle[0] + way * (left + margin), 0, size))) for way in (-1, 1))
    y0, y1 = (round(float(np.clip(v, 0, size))) for v in (middle[1] - up - margin, middle[1] + down + margin))
    if x1 - x0 < LEAST_SIDE or y1 - y0 < LEAST_SIDE:
        raise ValueError(f"the region of {kind} lies outside the crop or has no size; the landmarks are no face's")
    return x0, y0, x1, y1


def blend_mask(box: Box, size: int) -> Floats:
    """Return the mask of a box before its strength: (size, size) float32, 0-1."""
    cv2 = opencv()
    scale = size / REFERENCE
    x0, y0, x1, y1 = box
    hard = np.zeros((size, size), np.float32)
    hard[y0:y1, x0:x1] = 1
    border = cv2.BORDER_REFLECT_101
    soft = np.maximum(hard, cv2.GaussianBlur(hard, (0, 0), 7 * scale, borderType=border))
    worn = cv2.erode(soft, np.ones((_odd(15 * scale),) * 2, np.uint8))
    return np.asarray(cv2.GaussianBlur(worn, (_odd(51 * scale),) * 2, 10 * scale, borderType=border), np.float32)


def _odd(length: float) -> int:
    """The odd whole number nearest to a length, at least 1."""
    return max(1, 2 * round((length - 1) / 2) + 1)


def _warped(pixels: RGB, box: Box, rng: np.random.Generator) -> RGB:
    """Move a grid of points over the box by a few per cent of its size, and what lies between them with them."""
    x0, y0, x1, y1 = box
    spread = float(rng.uniform(0.04, 0.05))
    moves = rng.normal(0, spread, (NODES, NODES, 2)) * [x1 - x0, y1 - y0]
    field = _piecewise_linear(moves, x1 - x0, y1 - y0)
    xs, ys = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    maps = ((grid + field[:, :, axis]).astype(np.float32) for axis, grid in enumerate((xs, ys)))
    cv2 = opencv()
    moved = cv2.remap(pixels, *maps, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, dtype=np.uint8)


def _piecewise_linear(nodes: npt.NDArray[np.float64], width: int, height: int) -> npt.NDArray[np.float64]:
    """Values between the nodes of a grid over a box: each cell is two triangles, linear in each.

    Args:
        nodes: (rows, columns, C) at even distances, corners on the box's corner pixels.
        width, height: of the box, pixels.

    Returns:
        (height, width, C).
    """
    rows, columns = nodes.shape[:2]
    down = np.linspace(0, rows - 1, height)[:, None] + np.zeros((1, width))
    right = np.linspace(0, columns - 1, width)[None, :] + np.zeros((height, 1))
    i, j = (np.minimum(v.astype(int), limit - 2) for v, limit in ((down, rows), (right, columns)))
    v, u = (down - i)[:, :, None], (right - j)[:, :, None]
    a, b, c, e = nodes[i, j], nodes[i, j + 1], nodes[i + 1, j], nodes[i + 1, j + 1]
    upper = a + (b - a) * u + (c - a) * v
    lower = e + (c - e) * (1 - u) + (b - e) * (1 - v)
    return np.asarray(np.where(u + v <= 1, upper, lower))
