"""Aligned crops: five landmarks -> similarity transform -> square RGB crop.

The template is ArcFace's five points (Deng et al. 2019, the insightface constant for 112 x 112),
scaled about the middle of the eyes so that the crop holds the whole head with hair and some
background, where generators fail most: the eyes lie at 44 % of the height and 25 % of the side apart.
An FFHQ-aligned picture (eyes 23 % apart) holds such a crop entirely. Pictures cut more tightly are
completed by mirroring at their border; training cuts both classes tightly at random, because made-up
borders would otherwise be a shortcut (UTKFace and CIPLAB are tight, and all photographs).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from faceproof.extras import opencv

__all__ = ["EYE_DISTANCE", "MARGIN", "MAX_REACH", "TEMPLATE", "align", "crop_quad", "similarity", "visible_share"]

Float = npt.NDArray[np.float64]

_ARCFACE = (
    np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
    / 112.0
)
EYE_DISTANCE = 0.25
"""Distance of the eyes in the crop, as a share of its side."""
_EYE_HEIGHT = 0.44
MAX_REACH = 4
"""A crop may reach this many picture sides from the middle; a face that fills a picture reaches 2."""
MARGIN = 4.0
"""Pixels around the crop that sampling may reach, at the coarser of the two scales."""


def _template() -> Float:
    shrink = EYE_DISTANCE / (_ARCFACE[1, 0] - _ARCFACE[0, 0])
    centre = np.array([_ARCFACE[:2, 0].mean(), _ARCFACE[:2, 1].mean()])
    return np.asarray((_ARCFACE - centre) * shrink + np.array([0.5, _EYE_HEIGHT]), dtype=np.float64)


TEMPLATE: Float = _template()
"""(5, 2) float64: where the landmarks go, x and y as shares of the crop's side."""


def similarity(source: npt.ArrayLike, target: npt.ArrayLike) -> Float:
    """Fit the least-squares similarity (rotation, one scale, shift; no mirror).

    In complex numbers z -> a z + b the optimum is a = sum(conj(z - mz) (w - mw)) / sum |z - mz|^2,
    b = mw - a mz: the closed form of Umeyama (1991), eqs. 40-43, in the plane without reflection.

    Args:
        source: (N, 2) points x, y, N >= 2, not all the same.
        target: (N, 2) points they should reach.

    Returns:
        (2, 3) float64 matrix M with target ~ M @ (x, y, 1).

    Raises:
        ValueError: fewer than two points, different numbers of points, or all points coincide.
    """
    src = np.asarray(source, dtype=np.float64)
    dst = np.asarray(target, dtype=np.float64)
    if src.shape != dst.shape or src.ndim != 2 or src.shape[1] != 2 or len(src) < 2:
        raise ValueError(f"need two (N, 2) arrays with N >= 2, got {src.shape} and {dst.shape}")
    z, w = src[:, 0] + 1j * src[:, 1], dst[:, 0] + 1j * dst[:, 1]
    zc, wc = z - z.mean(), w - w.mean()
    spread = float((np.abs(zc) ** 2).sum())
    if not spread > 1e-12:
        raise ValueError("all landmarks coincide; there is no face to align")
    a = (np.conj(zc) * wc).sum() / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def crop_quad(landmarks: npt.ArrayLike) -> Float:
    """Return the crop's corners in the picture: (4, 2) float64 x, y; clockwise from top left."""
    inverse = _invert(similarity(landmarks, TEMPLATE))
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return np.asarray(corners @ inverse[:, :2].T + inverse[:, 2])


def visible_share(landmarks: npt.ArrayLike, width: int, height: int) -> float:
    """Return the share of the crop's area that lies inside a picture of that size, 0 to 1."""
    cv2 = opencv()
    quad = crop_quad(landmarks).astype(np.float32)
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    whole = abs(float(cv2.contourArea(quad)))
    inside, _ = cv2.intersectConvexConvex(quad, frame)
    return min(1.0, float(inside) / whole) if whole > 0 else 0.0


def align(pixels: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, size: int) -> npt.NDArray[np.uint8]:
    """Cut out one face, upright and at a fixed size.

    Args:
        pixels: (H, W, 3) uint8 RGB picture.
        landmarks: (5, 2) x, y pixels: eyes (left in the picture first), nose, mouth corners.
        size: side of the crop in pixels.

    Returns:
        (size, size, 3) uint8 RGB. What lies outside the picture is mirrored in from its edge.
        When the face is larger than the crop, the picture is first shrunk by area averaging to the
        crop's scale: sampling it directly would fold high frequencies into false traces.

    Raises:
        ValueError: the landmarks coincide, or are no face's: their crop is many times the picture.
    """
    cv2 = opencv()
    # Part of the contract with the models: the template's 0.5 is pixel centre size / 2, so a mirrored
    # face gives a mirrored crop moved by one pixel. Weights are trained on it; half a pixel costs AUC.
    matrix = similarity(landmarks, TEMPLATE * size)
    height, width = pixels.shape[:2]
    quad = crop_quad(landmarks)
    middle = quad.mean(0)
    reach = max(float(np.abs(quad - middle).max()), float(np.abs(middle - [width / 2, height / 2]).max()))
    # OpenCV mirrors at the border step by step, so a far-away crop would also take for ever.
    if reach > MAX_REACH * max(width, height, 16):
        raise ValueError("the landmarks span many times the picture; they are no face's")
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    margin = MARGIN / min(scale, 1.0)
    x0, y0 = np.floor(np.clip(quad.min(0) - margin, 0, [width - 1, height - 1])).astype(int)
    x1, y1 = np.ceil(np.clip(quad.max(0) + margin, [x0 + 1, y0 + 1], [width, height])).astype(int)
    region = pixels[y0:y1, x0:x1]
    matrix[:, 2] += matrix[:, :2] @ np.array([x0, y0])
    if scale < 1:
        shrunk = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
        fx, fy = shrunk[0] / (x1 - x0), shrunk[1] / (y1 - y0)
        region = cv2.resize(region, shrunk, interpolation=cv2.INTER_AREA)
        # Pixel centres: u = fx (x + .5) - .5, so x = (u + .5) / fx - .5.
        matrix[:, 2] += matrix[:, :2] @ np.array([0.5 / fx - 0.5, 0.5 / fy - 0.5])
        matrix[:, 0] /= fx
        matrix[:, 1] /= fy
    # OpenCV 5 never returns from mirroring a region one pixel wide (seen with cubic sampling).
    region = np.pad(region, ((0, int(len(region) == 1)), (0, int(region.shape[1] == 1)), (0, 0)), mode="edge")
    crop = cv2.warpAffine(region, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(crop, dtype=np.uint8)


def _invert(matrix: Float) -> Float:
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -(linear @ matrix[:, 2:])])
