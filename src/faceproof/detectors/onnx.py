"""Run a model folder with onnxruntime: no torch, one thread unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card, read_card
from faceproof.errors import MissingExtraError, ModelError, UsageError
from faceproof.extras import no_telemetry

__all__ = ["CropNetwork", "OnnxDetector"]

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

EMBEDDING = "embedding"
"""Name of the output that holds the embedding, where a network has one."""
EVIDENCE = "evidence"
"""Name of the output that holds the map whose mean, plus a constant, is the score, where a network has one."""


class CropNetwork:
    """The network of a model folder: crops in, arrays out.

    Args:
        folder: the model folder.
        card: of it, already checked.
        threads: onnxruntime threads.

    Raises:
        ModelError: onnxruntime does not take the file.
        MissingExtraError: there is no onnxruntime.
    """

    def __init__(self, folder: str | os.PathLike[str], card: Card, *, threads: int = 1) -> None:
        no_telemetry()
        try:
            import onnxruntime
        except ImportError as err:
            raise MissingExtraError(f"onnxruntime cannot be loaded ({err}); pip install onnxruntime") from err
        self.card = card
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # External data would let a model file read other files of the machine: bytes alone cannot.
        weights = (Path(folder) / card.file).read_bytes()
        try:
            self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except Exception as err:  # onnxruntime's exceptions have no common base of their own
            detail = " ".join(str(err).split())[:200]
            raise ModelError(f"{folder}: onnxruntime cannot load the weights ({detail})") from err
        self._input = self._session.get_inputs()[0].name
        self.outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        mean, std = np.array(card.mean), np.array(card.std)
        self._gain = (1 / (255 * std)).astype(np.float32)
        self._shift = (-mean / std).astype(np.float32)

    def run(self, crops: Crops, *outputs: str) -> list[Floats]:
        """Return the named outputs for crops (N, S, S, 3) uint8 RGB, N at least 1, each (N, ...) float32.

        Raises:
            UsageError: `crops` has another shape or type.
        """
        size = self.card.size
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
            raise UsageError(f"crops must be uint8 (N, {size}, {size}, 3), not {crops.dtype} {crops.shape}")
        batch = np.ascontiguousarray((crops * self._gain + self._shift).transpose(0, 3, 1, 2), dtype=np.float32)
        found: list[Floats] = self._session.run(list(outputs), {self._input: batch})
        return found

    def probe(self, folder: str | os.PathLike[str], *outputs: str) -> list[Floats]:
        """Return the outputs for one black crop.

        Raises:
            ModelError: the network does not take it.
        """
        try:
            return self.run(np.zeros((1, self.card.size, self.card.size, 3), np.uint8), *outputs)
        except Exception as err:
            detail = " ".join(str(err).split())[:200]
            raise ModelError(f"{folder}: the network does not take the card's crops ({detail})") from err


class OnnxDetector:
    """A detector from a model folder of `model.onnx` and `card.json`.

    Args:
        folder: the model folder.
        threads: onnxruntime threads.
        card: of the folder, where it has been read already.

    Raises:
        ModelError: the card is unusable, the hash differs, or the network's first output is not (N, 1).
    """

    def __init__(self, folder: str | os.PathLike[str], *, threads: int = 1, card: Card | None = None) -> None:
        self._card = card or read_card(Path(folder))
        self._network = CropNetwork(folder, self._card, threads=threads)
        self._score = self._network.outputs[0]
        probe = self._network.probe(folder, self._score)[0].reshape(-1)
        if probe.shape != (1,) or not np.isfinite(probe).all():
            raise ModelError(f"{folder}: the network gives {probe!r} for one crop, one finite score is wanted")

    @property
    def card(self) -> Card:
        """The model's card."""
        return self._card

    @property
    def embeds(self) -> bool:
        """Whether the network gives embeddings too."""
        return EMBEDDING in self._network.outputs

    @property
    def maps(self) -> bool:
        """Whether the network gives a map of its score too."""
        return EVIDENCE in self._network.outputs

    def score(self, crops: Crops) -> Floats:
        """Score crops (N, S, S, 3) uint8 RGB; (N,) float32, higher = more likely generated.

        Raises:
            UsageError: `crops` has another shape or type.
        """
        if not len(crops):
            return np.zeros(0, np.float32)
        return self._network.run(crops, self._score)[0].reshape(-1).astype(np.float32)

    def score_and_embed(self, crops: Crops) -> tuple[Floats, Floats]:
        """Score crops and embed them in one run of the network: (N,) and (N, E) float32; N at least 1.

        Raises:
            UsageError: `crops` has another shape or type.
            ModelError: the network gives no embeddings (`embeds`).
        """
        if not self.embeds:
            raise ModelError(f"model {self._card.name} gives no embeddings; export it with outputs score and embedding")
        scores, embeddings = self._network.run(crops, self._score, EMBEDDING)
        return scores.reshape(-1).astype(np.float32), embeddings.astype(np.float32)

    def evidence_map(self, crops: Crops) -> Floats:
        """Return where the scores of crops (N, S, S, 3) uint8 RGB come from; N at least 1.

        The class activation map of Zhou et al. 2016 (equation 2), without gradients: the mean over a map, plus
        the bias of the network's last layer, is the score.

        Returns:
            (N, h, w) float32, rows from the top; score for the whole crop: a cell that covers a share of the
            crop adds its value times that share. Above 0 speaks for generated.

        Raises:
            UsageError: `crops` has another shape or type.
            ModelError: the network gives no map (`maps`).
        """
        if not self.maps:
            raise ModelError(f"model {self._card.name} gives no map of its score; export it with an output {EVIDENCE}")
        return self._network.run(crops, EVIDENCE)[0].astype(np.float32)
