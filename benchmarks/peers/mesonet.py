"""Peer: MesoNet's Meso-4 (Afchar et al., WIFS 2018, arXiv 1809.00888), trained on deepfake videos, a face crop.

Read in DariusAf/MesoNet, commit 2144d56: classifiers.py (network), example.py (256 x 256 in [0, 1], weights
Meso4_DF.h5; its folders df, real make 1 = real), pipeline.py (the crop; p > 0.5). The network is written anew
below, in numpy; h5py only reads the file. Keras's defaults: batch normalisation's epsilon 1e-3, "same" padding.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.errors import MissingExtraError, ModelError
from faceproof.extras import opencv

THRESHOLD = 0.0
"""Published: probability 0.5, as a logit."""
FILE, SHA256 = "Meso4_DF.h5", "036ed30d04ffd9c7506f825b97c86aa64915f5818931da96817b169aad790af5"
SIZE, SHRINK = 256, (2, 2, 2, 4)
SIDE = 2.2 * 1.3
"""pipeline.py: K and l_factor. The crop's side in eye distances (or eyes to mouth, the longer)."""

Float = npt.NDArray[np.float32]


class Meso4:
    """Score face crops.

    Attributes:
        name: for tables.
        identity: what the scores depend on besides this file.
        blocks: for each of four: kernel (k, k, C, D), bias, gain, shift, mean, variance (D,).
        dense: kernel and bias of both dense layers.
    """

    name, identity = "mesonet-meso4-df", SHA256

    def __init__(self, blocks: Sequence[Sequence[Float]], dense: Sequence[Float]) -> None:
        self.blocks, self.dense = blocks, dense

    def score(self, pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> float:
        """Return the negative of their logit (theirs is for "real"): higher = more likely generated.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            landmarks: (5, 2) x, y pixels: eyes, nose, mouth corners.
        """
        return -self.logit_real(crop(pixels, landmarks).astype(np.float32) / 255)

    def logit_real(self, x: Float) -> float:
        """Return the network's last value before the sigmoid for a (256, 256, 3) RGB crop in [0, 1]."""
        for (kernel, bias, gain, shift, mean, variance), step in zip(self.blocks, SHRINK, strict=True):
            x = np.maximum(_convolve(x, kernel) + bias, 0)
            x = (x - mean) / np.sqrt(variance + np.float32(1e-3)) * gain + shift
            height, width, depth = x.shape
            x = x.reshape(height // step, step, width // step, step, depth).max((1, 3))
        first, first_bias, last, last_bias = self.dense
        hidden = x.reshape(-1) @ first + first_bias
        return float((np.where(hidden > 0, hidden, np.float32(0.1) * hidden) @ last + last_bias)[0])


def crop(pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the upright square about the nose, (256, 256, 3); the picture is mirrored at its border.

    Theirs is cut with dlib's 68 points. With five, the middle (halfway between the nose's tip and its
    bridge there) is a quarter of the way from the tip to the eyes, and the lips are the mouth's corners.
    """
    cv2 = opencv()
    left, right, tip, corner, other = np.asarray(landmarks, np.float64)
    eyes, mouth = (left + right) / 2, (corner + other) / 2
    middle, down = 0.75 * tip + 0.25 * eyes, mouth - eyes
    side = SIDE * max(np.hypot(*(right - left)), np.hypot(*down))
    y = down / max(np.hypot(*down), 1e-6)
    x = np.array([y[1], -y[0]])
    inverse = np.column_stack([x * side / SIZE, y * side / SIZE, middle - (x + y) * side / SIZE * (SIZE - 1) / 2])
    return cv2.warpAffine(
        pixels, inverse, (SIZE, SIZE), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    )


def _convolve(x: Float, kernel: Float) -> Float:
    """Correlate x (H, W, C) with a kernel (k, k, C, D), zeros around x, the same height and width."""
    size = kernel.shape[0]
    padded = np.pad(x, ((size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))
    return np.tensordot(windows, kernel, axes=([3, 4, 2], [0, 1, 2]))


def make() -> Meso4:
    """Return the peer with the weights of example.py."""
    try:
        import h5py
    except ImportError as err:
        raise MissingExtraError(f"MesoNet's weights need h5py ({err}); install it with: pip install h5py") from err
    path = Path(os.environ.get("FACEPROOF_PEERS", "$FACEPROOF_PEERS")) / "mesonet" / FILE
    if not path.is_file():
        raise ModelError(
            f"no weights at {path}; take weights/{FILE} (153 KB, Apache-2.0) from the repository DariusAf/MesoNet "
            "and set FACEPROOF_PEERS to the folder of mesonet/"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ModelError(f"{path} has sha256 {found}, {SHA256} is wanted; take the file again")
    with h5py.File(path, "r") as file:

        def read(layer: str, *parts: str) -> list[Float]:
            return [np.asarray(file[layer][layer][f"{part}:0"]) for part in parts]

        norm = ("gamma", "beta", "moving_mean", "moving_variance")
        blocks = [read(f"conv2d_{i}", "kernel", "bias") + read(f"batch_normalization_{i}", *norm) for i in (5, 6, 7, 8)]
        dense = read("dense_3", "kernel", "bias") + read("dense_4", "kernel", "bias")
    return Meso4(blocks, dense)
