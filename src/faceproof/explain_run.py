"""From the folder of a `faceproof train` run to the maps of its torch network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceproof.detectors.card import read_card
from faceproof.errors import ModelError, UsageError
from faceproof.explain.gradcam import network_maps
from faceproof.explanation import MapMaker
from faceproof.features.backbone import Network, build_network, load_weights
from faceproof.recipes import Recipe

__all__ = ["run_maps", "run_network"]


def run_network(run: str | Path) -> tuple[Network, Recipe]:
    """Return the network of a finished run and its recipe.

    Args:
        run: the folder given to `faceproof train --out`, with `network.safetensors` and `model/`.

    Raises:
        UsageError: the folder is none of a finished run.
        ModelError: card or weights cannot be used, or do not belong together.
    """
    folder = Path(run)
    weights = folder / "network.safetensors"
    if not weights.is_file() or not (folder / "model" / "card.json").is_file():
        raise UsageError(
            f"{folder} is not the folder of a finished run: it needs network.safetensors and model/; "
            "give what `faceproof train --out` was given"
        )
    card = read_card(folder / "model")
    raw: Any = card.raw
    try:
        recipe = Recipe.from_dict(raw["training"]["recipe"])
    except (KeyError, TypeError, UsageError) as err:
        raise ModelError(f"the card in {folder / 'model'} does not hold the recipe of its training ({err})") from err
    if recipe.crop != card.crop:
        raise ModelError(f"{folder / 'model'}: recipe ({recipe.crop}) and card ({card.crop}) do not belong together")
    network = build_network(recipe.backbone, recipe.size, start="random", hidden=recipe.head, dropout=recipe.dropout)
    load_weights(network, weights)
    return network, recipe


def run_maps(run: str | Path) -> MapMaker:
    """Return what makes Grad-CAM, Grad-CAM++ and pooling maps of a run's network; errors as for `run_network`."""
    network, recipe = run_network(run)
    return network_maps(network, recipe.mean, recipe.std)
