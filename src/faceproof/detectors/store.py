"""Where models are: the ones shipped inside the package, and any folder the user names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from faceproof.detectors.anomaly import AnomalyDetector
from faceproof.detectors.base import Detector
from faceproof.detectors.card import Card, read_card
from faceproof.detectors.fastest import fastest
from faceproof.detectors.onnx import OnnxDetector
from faceproof.errors import ModelError, UsageError, unknown_name
from faceproof.runtimes import AUTO, named

__all__ = ["DEFAULT_MODEL", "WEIGHTS", "load_detector", "model_folder", "shipped_models"]

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_MODEL = "lite2-208"
KINDS: dict[str, Callable[..., Detector]] = {"classifier": OnnxDetector, "anomaly": AnomalyDetector}
"""What a card calls its kind -> what runs it."""


def shipped_models() -> dict[str, Path]:
    """Return the models inside the package: name -> folder."""
    return {card.parent.name: card.parent for card in sorted(WEIGHTS.glob("*/card.json"))}


def model_folder(choice: str | os.PathLike[str] | None) -> Path:
    """Return the folder for a shipped name, a path, or None (the default model).

    Raises:
        UsageError: neither a shipped name nor a folder.
    """
    shipped = shipped_models()
    name = DEFAULT_MODEL if choice is None else os.fspath(choice)
    if name in shipped:
        return shipped[name]
    if Path(name).is_dir():
        return Path(name)
    raise unknown_name("model", name, [*shipped, "or the path of a model folder"])


def load_detector(
    choice: Detector | str | os.PathLike[str] | None = None, *, threads: int = 1, runtime: str | None = None
) -> Detector:
    """Return a detector: the default for None, a shipped name, a model folder, or one made elsewhere.

    Args:
        choice: what to load.
        threads: of the network.
        runtime: what runs it, one of `faceproof.runtimes.RUNTIMES`; "auto": the fastest installed one that
            gives the same scores, measured here and now; None: the usual one for the folder's file.

    Raises:
        ModelError: the model must not be used (see `faceproof.detectors.card`).
        UsageError: `choice` is none of these, or the runtime does not run it.
        MissingExtraError: the runtime is not installed.
    """
    wanted = None if runtime is None else named(runtime)
    if choice is None or isinstance(choice, (str, os.PathLike)):
        folder = model_folder(choice)
        card = read_card(folder)
        if card.kind not in KINDS:
            raise ModelError(f"{folder} holds a model of kind {card.kind!r}; this version knows: {', '.join(KINDS)}")
        if wanted == AUTO:
            wanted = fastest(folder, card, threads=threads)
        return KINDS[card.kind](folder, threads=threads, card=card, runtime=wanted)
    if isinstance(choice, Detector):
        if wanted is not None:
            raise UsageError("a runtime is chosen for a model folder; this detector is made already")
        return choice
    raise UsageError(f"a detector has .card and .score(crops); {type(choice).__name__} has not")


def cards() -> list[Card]:
    """Return the cards of the shipped models, hashes checked."""
    return [read_card(folder) for folder in shipped_models().values()]
