"""What every detector offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card

__all__ = ["Detector", "EmbeddingDetector"]


@runtime_checkable
class Detector(Protocol):
    """Scores aligned crops."""

    @property
    def card(self) -> Card:
        """What the detector is, was trained on and can do; its crop size and calibration."""
        ...

    def score(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score crops.

        Args:
            crops: (N, S, S, 3) uint8 RGB, S = `card.size`; N may be 0.

        Returns:
            (N,) float32, unbounded, higher = more likely generated.
        """
        ...


@runtime_checkable
class EmbeddingDetector(Detector, Protocol):
    """A detector whose network gives embeddings in the same run."""

    @property
    def embeds(self) -> bool:
        """Whether this model's network does."""
        ...

    def score_and_embed(self, crops: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return scores (N,) as `score` does and embeddings (N, E), both float32, for N crops, N at least 1."""
        ...
