"""Run a model folder, with onnxruntime unless told otherwise: no torch, one thread."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card, read_card
from faceproof.detectors.folders import read_named
from faceproof.errors import ModelError, UsageError
from faceproof.runtimes import Program, Session, open_session
from faceproof.tensor_files import MAX_BYTES

__all__ = ["CropNetwork", "OnnxDetector"]

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

EMBEDDING = "embedding"
"""Name of the output that holds the embedding, where a network has one."""
EVIDENCE = "evidence"
"""Name of the output that holds the map whose mean, plus a constant, is the score, where a network has one."""


def _program(folder: Path, card: Card) -> Program:
    """Read a network's files; those beside the weights are held against the card too."""
    graph, said = b"", card.raw.get("graph")
    if said is not None:
        try:
            name, digest = str(said["file"]), str(said["sha256"])
            (folder / name).stat()
        except (KeyError, TypeError, OSError) as err:
            raise ModelError(f"{folder}: the card's graph file is not there ({err}); get the model again") from err
        graph = read_named(folder, name, digest, "graph", MAX_BYTES)
    outputs = card.raw.get("outputs", [])
    if not isinstance(outputs, list):
        raise ModelError(f"the card in {folder} does not list its outputs; get the model again")
    return Program(str(folder), card.file, (folder / card.file).read_bytes(), graph, tuple(map(str, outputs)))


class CropNetwork:
    """The network of a model folder: crops in, arrays out.

    Args:
        folder: the model folder.
        card: of it, already checked.
        threads: of the run.
        runtime: one of `faceproof.runtimes.RUNTIMES`; None: the usual one for the folder's file.
        session: made already, instead of one of these.

    Raises:
        ModelError: the runtime does not take the file.
        MissingExtraError: it is not installed.
        UsageError: it does not run such files.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        card: Card,
        *,
        threads: int = 1,
        runtime: str | None = None,
        session: Session | None = None,
    ) -> None:
        self.card = card
        self._session = session or open_session(_program(Path(folder), card), runtime=runtime, threads=threads)
        self.outputs: tuple[str, ...] = self._session.outputs
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
        if self._session.takes_pixels:
            return self._session.run(np.ascontiguousarray(crops), outputs)
        batch = np.ascontiguousarray((crops * self._gain + self._shift).transpose(0, 3, 1, 2), dtype=np.float32)
        return self._session.run(batch, outputs)

    @property
    def runtime(self) -> str:
        """Name of what runs it."""
        return self._session.name

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
    """A detector from a model folder of a network's file and `card.json`.

    Args:
        folder: the model folder.
        threads: of the run.
        card: of the folder, where it has been read already.
        runtime: as for `CropNetwork`.
        network: made already.

    Raises:
        ModelError: the card is unusable, the hash differs, or the network's first output is not (N, 1).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        threads: int = 1,
        card: Card | None = None,
        runtime: str | None = None,
        network: CropNetwork | None = None,
    ) -> None:
        self._card = card or read_card(Path(folder))
        self._network = network or CropNetwork(folder, self._card, threads=threads, runtime=runtime)
        self._score = self._network.outputs[0]
        probe = self._network.probe(folder, self._score)[0].reshape(-1)
        if probe.shape != (1,) or not np.isfinite(probe).all():
            raise ModelError(f"{folder}: the network gives {probe!r} for one crop, one finite score is wanted")

    @property
    def card(self) -> Card:
        """The model's card."""
        return self._card

    @property
    def runtime(self) -> str:
        """Name of what runs the network."""
        return self._network.runtime

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
