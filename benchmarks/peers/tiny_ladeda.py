"""Peer: Tiny-LaDeDa (Cavia et al., 2024, arXiv 2406.09398), four convolutions, the whole picture.

Read in barcavia/RealTime-DeepfakeDetection-in-the-RealWorld, commit e734562: networks/Tiny_LaDeDa.py
(network), options/base_options.py (tiny_preprocess = right_diag, loadSize = 256), data/datasets.py and
test.py (resize to 256 x 256, no crop, ImageNet mean and deviation), validate.py (sigmoid > 0.5 is fake).
The network is written anew below, in numpy; torch only reads the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from faceproof.errors import MissingExtraError, ModelError

THRESHOLD = 0.0
"""Published: probability 0.5, as a logit."""
FILE, SHA256 = "WildRF_Tiny_LaDeDa.pth", "5e063100564d2ddfe9bf48074e351c8f2b38855552574a18a0738e7f2a764d80"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DIAGONAL = ((-2, -1, 0), (-1, 0, 1), (0, 1, 2))
"""The gradient along the other diagonal, applied to each channel."""

Float = npt.NDArray[np.float32]


class TinyLaDeDa:
    """Score whole pictures.

    Attributes:
        name: for tables.
        identity: what the scores depend on besides this file.
        weights: the state dict: name -> float32 array, torch's layout.
    """

    name, identity = "tiny-ladeda-wildrf", SHA256

    def __init__(self, weights: Mapping[str, Float]) -> None:
        self.weights = weights

    def score(self, pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> float:
        """Return the logit, higher = more likely generated, of a (H, W, 3) uint8 RGB picture. `landmarks`: unused."""
        resized = Image.fromarray(pixels).resize((256, 256), Image.Resampling.BILINEAR)
        x = (np.asarray(resized, np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
        kernel = np.einsum("yx,cd->dcyx", np.float32(DIAGONAL), np.eye(3, dtype=np.float32))
        x = _convolve(np.pad(x, ((1, 1), (1, 1), (0, 0))), kernel)
        x = _convolve(x, self.weights["conv1.weight"])
        x = self._relu_norm(_convolve(x, self.weights["conv2.weight"]), "bn1")
        x = self._relu_norm(_convolve(x, self.weights["layer1.0.conv1.weight"]), "layer1.0.bn1")
        x = self._relu_norm(_convolve(x, self.weights["layer1.0.conv2.weight"], stride=2), "layer1.0.bn2")
        return float(x.mean((0, 1), np.float64) @ self.weights["fc.weight"][0] + self.weights["fc.bias"][0])

    def _relu_norm(self, x: Float, layer: str) -> Float:
        gain, shift, mean, variance = (
            self.weights[f"{layer}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((x - mean) / np.sqrt(variance + np.float32(1e-5)) * gain + shift, 0)


def _convolve(x: Float, kernel: Float, stride: int = 1) -> Float:
    """Correlate x (H, W, C) with a kernel (D, C, k, k), valid positions only."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(0, 1))[::stride, ::stride]
    return np.tensordot(windows, kernel, axes=([2, 3, 4], [1, 2, 3]))


def make() -> TinyLaDeDa:
    """Return the peer with the weights trained on WildRF (social media), the authors' choice for the real world."""
    try:
        import torch
    except ImportError as err:
        raise MissingExtraError(
            f"Tiny-LaDeDa's weights need torch ({err}); install it with: pip install torch"
        ) from err
    path = Path(os.environ.get("FACEPROOF_PEERS", "$FACEPROOF_PEERS")) / "tiny-ladeda" / FILE
    if not path.is_file():
        raise ModelError(
            f"no weights at {path}; take weights/Tiny_LaDeDa/{FILE} (12 KB, research use only) from the repository "
            "barcavia/RealTime-DeepfakeDetection-in-the-RealWorld and set FACEPROOF_PEERS to the folder of tiny-ladeda/"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ModelError(f"{path} has sha256 {found}, {SHA256} is wanted; take the file again")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return TinyLaDeDa({key: np.asarray(value.numpy()) for key, value in state.items()})
