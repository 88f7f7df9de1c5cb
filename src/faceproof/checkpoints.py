"""Checkpoints: one safetensors file, written whole or not at all, with the recipe and the history inside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from faceproof.errors import ModelError, OutputError, UsageError
from faceproof.extras import require
from faceproof.recipes import Recipe
from faceproof.training_log import Epoch

__all__ = ["restore", "save", "write_tensors"]

NAME = "checkpoint.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write safetensors beside `path` and move them there in one step.

    Raises:
        OutputError: the disk is full or the folder cannot be written; an older file stays as it was.
    """
    save_file = require("train", "safetensors.torch").save_file
    temporary = path.with_suffix(".tmp")
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        save_file(whole, temporary, metadata=dict(metadata or {}))
        os.replace(temporary, path)
    except Exception as err:  # safetensors wraps the system's error in one of its own
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path} ({err}); free space or mend permissions and give the same command again: it goes "
            "on from the last checkpoint"
        ) from err


def save(
    out: Path,
    recipe: Recipe,
    step: int,
    history: Sequence[Epoch],
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    losses: Sequence[float],
) -> None:
    """Write everything a run needs to go on as if it had not stopped."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    metadata = {
        "recipe": json.dumps(recipe.to_dict()),
        "step": str(step),
        "history": json.dumps([asdict(epoch) for epoch in history]),
    }
    write_tensors(out / NAME, tensors, metadata)


def restore(
    out: Path, recipe: Recipe, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> tuple[int, list[Epoch], list[float]]:
    """Load a checkpoint, if there is one.

    Returns:
        Steps done, the epochs so far, and the losses of the epoch under way.

    Raises:
        UsageError: it is another recipe's; the fields that differ are named.
        ModelError: the file is damaged.
    """
    path = out / NAME
    if not path.is_file():
        return 0, [], []
    try:
        with require("train", "safetensors").safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        theirs, step = json.loads(metadata["recipe"]), int(metadata["step"])
        history = [Epoch(**epoch) for epoch in json.loads(metadata["history"])]
    except Exception as err:
        raise ModelError(f"{path} is not a checkpoint of this version ({err}); delete it to begin anew") from err
    ours = recipe.to_dict()
    differ = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
    other = [f"{key} {theirs.get(key)!r} (asked: {ours.get(key)!r})" for key in differ]
    if other:
        raise UsageError(
            f"{path} is another recipe's: {', '.join(other)}; give that recipe to go on, another folder, or delete it"
        )
    for name, module in modules.items():
        module.load_state_dict(_part(tensors, name))
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in _part(tensors, "optimiser").items():
        number, field = key.split(".")
        states.setdefault(int(number), {})[field] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return step, history, [float(value) for value in tensors["losses"]]


def _part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ".")}
