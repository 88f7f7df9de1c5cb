"""The one-class detector: how unlike photographs is this embedding? (FIELD.md 1.4).

A model folder of this kind holds a network with an output named `embedding`, a mixture, and a card with
`"kind": "anomaly"` and `"mixture": {"file", "sha256", "centre", "spread"}`. A classifier's folder may hold a
mixture too, for embeddings of its own network: then one run of the network serves both
(`OnnxDetector.score_and_embed`, `read_scorer`).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card, read_card
from faceproof.detectors.folders import read_named
from faceproof.detectors.onnx import EMBEDDING, CropNetwork
from faceproof.errors import ModelError
from faceproof.mixture import Mixture
from faceproof.tensor_files import MAX_BYTES

__all__ = ["AnomalyDetector", "AnomalyScorer", "read_scorer"]

LIMIT = 1e9
"""Scores end here: a picture of nothing can be farther from photographs than float32 can say."""


@dataclass(frozen=True)
class AnomalyScorer:
    """From embeddings to scores.

    Attributes:
        mixture: of photographs' embeddings.
        centre, spread: of -log-likelihood among photographs it was not fitted on: a score of 0 is a usual
            photograph, 1 is one spread less likely.
    """

    mixture: Mixture
    centre: float
    spread: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.centre) or not 0 < self.spread < math.inf:
            raise ModelError(f"centre must be finite and spread positive, not {self.centre} and {self.spread}")

    def score(self, embeddings: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Score embeddings (N, E); (N,) float32, higher = less like photographs, within +-1e9.

        Raises:
            UsageError: another shape, or numbers that are not finite.
        """
        unlikely = (-self.mixture.log_likelihood(embeddings) - self.centre) / self.spread
        return np.clip(unlikely, -LIMIT, LIMIT).astype(np.float32)


def read_scorer(folder: str | os.PathLike[str], card: Card) -> AnomalyScorer | None:
    """Read the mixture beside a card; None where the card names none.

    Raises:
        ModelError: the file is missing, its hash differs, or it is no mixture.
    """
    said = card.raw.get("mixture")
    if said is None:
        return None
    try:
        name, digest = str(said["file"]), str(said["sha256"])
        centre, spread = float(said["centre"]), float(said["spread"])
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(f"the card in {folder} does not describe its mixture ({err!r}); get the model again") from err
    data = read_named(folder, name, digest, "mixture", MAX_BYTES)
    return AnomalyScorer(Mixture.from_bytes(data), centre, spread)


class AnomalyDetector:
    """A detector that has seen photographs only.

    Args:
        folder: the model folder.
        threads: of the run.
        card: of the folder, where it has been read already.
        runtime: as for `faceproof.detectors.onnx.CropNetwork`.

    Raises:
        ModelError: card, network or mixture must not be used, or do not belong together.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        threads: int = 1,
        card: Card | None = None,
        runtime: str | None = None,
    ) -> None:
        self._card = card or read_card(Path(folder))
        scorer = read_scorer(folder, self._card)
        if scorer is None:
            raise ModelError(f"the card in {folder} names no mixture; a one-class detector has one")
        self._network = CropNetwork(folder, self._card, threads=threads, runtime=runtime)
        if EMBEDDING not in self._network.outputs:
            raise ModelError(
                f"{folder}: the network has no output named {EMBEDDING!r}, but {', '.join(self._network.outputs)}"
            )
        probe = self._network.probe(folder, EMBEDDING)[0]
        if probe.shape != (1, scorer.mixture.width) or not np.isfinite(probe).all():
            raise ModelError(
                f"{folder}: the network embeds a crop as {probe.shape}, its mixture takes {scorer.mixture.width} "
                "finite numbers"
            )
        self.scorer = scorer

    @property
    def card(self) -> Card:
        """The model's card."""
        return self._card

    @property
    def runtime(self) -> str:
        """Name of what runs the network."""
        return self._network.runtime

    def embed(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed crops (N, S, S, 3) uint8 RGB; (N, E) float32.

        Raises:
            UsageError: `crops` has another shape or type.
        """
        if not len(crops):
            return np.zeros((0, self.scorer.mixture.width), np.float32)
        return self._network.run(crops, EMBEDDING)[0].astype(np.float32)

    def score(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score crops (N, S, S, 3) uint8 RGB; (N,) float32, higher = less like photographs."""
        return self.scorer.score(self.embed(crops))

    @property
    def embeds(self) -> bool:
        """Always: its scores are made from embeddings."""
        return True

    def score_and_embed(self, crops: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Score and embed crops (N, S, S, 3) uint8 RGB in one run: (N,) and (N, E) float32."""
        embeddings = self.embed(crops)
        return self.scorer.score(embeddings), embeddings
