"""Learning from another model's scores: knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531).

A small network learns more from what a large one says of a crop than from the label alone: the score tells how far
this crop, after all that was done to it, still looks generated. Teacher and pupil see the very same crop.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof.detectors.card import read_card
from faceproof.detectors.crops import CropSpec
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import model_folder
from faceproof.errors import UsageError
from faceproof.recipes import Recipe

__all__ = ["Teacher", "distillation", "teacher_of"]


class Teacher:
    """A model whose scores are learned from, run by onnxruntime on one thread where crops are made.

    Args:
        choice: a shipped model's name or a model folder.
        crop: what the pupil takes.

    Raises:
        UsageError: no such model, one without log-odds for scores, or one that takes other crops.
        ModelError: the model must not be used (detectors/card.py).
    """

    def __init__(self, choice: str | os.PathLike[str], crop: CropSpec) -> None:
        self.folder = model_folder(choice)
        self.card = read_card(self.folder)
        if self.card.kind != "classifier":
            raise UsageError(f"the teacher {choice} is of kind {self.card.kind!r}; its scores are no log-odds to learn")
        theirs = self.card.crop
        if theirs != crop:
            raise UsageError(
                f"the teacher {choice} sees {theirs.features} crops of {theirs.size} px, frame {theirs.frame}, the "
                f"recipe makes {crop.features} crops of {crop.size} px, frame {crop.frame}; both see the same: --set "
                f"size={theirs.size} --set frame={theirs.frame} --set features={theirs.features}, or another teacher"
            )
        self._detector: OnnxDetector | None = None

    def score(self, crop: npt.NDArray[np.uint8]) -> float:
        """Return the raw score of one crop (S, S, 3) uint8 RGB, taken as log-odds; higher = more likely generated."""
        if self._detector is None:  # made in the process that asks: sessions survive neither a fork nor pickling
            self._detector = OnnxDetector(self.folder, card=self.card)
        return float(self._detector.score(crop[None])[0])


def teacher_of(recipe: Recipe) -> Teacher | None:
    """Return a recipe's teacher, None where it has none.

    Raises:
        UsageError, ModelError: as `Teacher`.
    """
    return None if recipe.teacher is None else Teacher(recipe.teacher, recipe.crop)


def distillation(
    logits: torch.Tensor, targets: torch.Tensor, told: torch.Tensor, *, weight: float, temperature: float
) -> torch.Tensor:
    """Return the loss of a pupil, a scalar: (1 - weight) CE(logits, targets) + weight T^2 CE(logits / T, told / T).

    CE is binary cross-entropy. The factor T^2 keeps the teacher's part of the gradient from shrinking with T, which is
    weight T (sigmoid(logit / T) - sigmoid(told / T)): for a large T a quarter of the difference of the two scores
    (section 2.1 of the paper).

    Args:
        logits: (N,) float32 of the pupil.
        targets: (N,) float32 in 0-1, labels after smoothing.
        told: (N,) float32, the teacher's scores of the same crops, log-odds.
        weight: of the teacher's part, 0 to 1.
        temperature: T, above 0; 1 leaves the teacher's probabilities as they are, more softens them.
    """
    cross_entropy = nn.functional.binary_cross_entropy_with_logits
    said = cross_entropy(logits, targets)
    softened = cross_entropy(logits / temperature, torch.sigmoid(told / temperature))
    return (1 - weight) * said + weight * temperature**2 * softened
