"""Run a model folder with onnxruntime: no torch, one thread unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card, read_card
from faceproof.errors import MissingExtraError, ModelError, UsageError

__all__ = ["OnnxDetector"]


class OnnxDetector:
    """A detector from a model folder of `model.onnx` and `card.json`.

    Args:
        folder: the model folder.
        threads: onnxruntime threads.

    Raises:
        ModelError: the card is unusable, the hash differs, or the network is not (N, 3, S, S) -> (N, 1).
    """

    def __init__(self, folder: str | os.PathLike[str], *, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as err:
            raise MissingExtraError(f"onnxruntime cannot be loaded ({err}); pip install onnxruntime") from err
        self._card = read_card(Path(folder))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # External data would let a model file read other files of the machine: bytes alone cannot.
        weights = (Path(folder) / self._card.file).read_bytes()
        try:
            self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except Exception as err:  # onnxruntime's exceptions have no common base of their own
            detail = " ".join(str(err).split())[:200]
            raise ModelError(f"{folder}: onnxruntime cannot load the weights ({detail})") from err
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        mean, std = np.array(self._card.mean), np.array(self._card.std)
        self._gain = (1 / (255 * std)).astype(np.float32)
        self._shift = (-mean / std).astype(np.float32)
        try:
            probe = self.score(np.zeros((1, self._card.size, self._card.size, 3), np.uint8))
        except Exception as err:
            detail = " ".join(str(err).split())[:200]
            raise ModelError(f"{folder}: the network does not take the card's crops ({detail})") from err
        if probe.shape != (1,) or not np.isfinite(probe).all():
            raise ModelError(f"{folder}: the network gives {probe!r} for one crop, one finite score is wanted")

    @property
    def card(self) -> Card:
        """The model's card."""
        return self._card

    def score(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score crops (N, S, S, 3) uint8 RGB; (N,) float32, higher = more likely generated.

        Raises:
            UsageError: `crops` has another shape or type.
        """
        return self._run(crops, self._outputs[:1])[0].reshape(-1).astype(np.float32)

    def _run(self, crops: npt.NDArray[np.uint8], outputs: list[str]) -> list[npt.NDArray[np.float32]]:
        """Run the network on crops (N, S, S, 3) uint8 RGB."""
        size = self._card.size
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
            raise UsageError(f"crops must be uint8 (N, {size}, {size}, 3), not {crops.dtype} {crops.shape}")
        if not len(crops):
            return [np.zeros(0, np.float32) for _ in outputs]
        batch = np.ascontiguousarray((crops * self._gain + self._shift).transpose(0, 3, 1, 2), dtype=np.float32)
        given: list[npt.NDArray[np.float32]] = self._session.run(outputs, {self._input: batch})
        return given
