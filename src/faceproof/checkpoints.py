"""Checkpoints: one safetensors file, written whole or not at all, with the recipe and the history inside."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from faceproof.errors import ModelError, OutputError, UsageError
from faceproof.extras import require
from faceproof.training_log import Ended, Epoch

__all__ = ["Described", "State", "minutes", "restore", "save", "write_tensors"]

NAME = "checkpoint.safetensors"


class Described(Protocol):
    """A recipe, as far as checkpoints care."""

    @property
    def backbone(self) -> str:
        """Name of the network."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that decide the run."""


@dataclass
class State:
    """Where a run is.

    Attributes:
        data: hash of the list of pictures it is fitted on (datasets.pool_digest).
        step: steps done.
        history: the epochs so far, of the run's own kind (training_log.Ended).
        losses: of every step of the epoch under way.
        minutes: spent on the steps done.
    """

    data: str
    step: int = 0
    history: list[Any] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    minutes: float = 0.0


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
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())  # a power cut must not leave the new name on an empty file
        os.replace(temporary, path)
    except Exception as err:  # safetensors wraps the system's error in one of its own
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path} ({err}); free space or mend permissions and give the same command again: it goes "
            "on from the last checkpoint"
        ) from err


def save(
    out: Path,
    recipe: Described,
    state: State,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write everything a run needs to go on as if it had not stopped."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{key}": torch.as_tensor(value) for key, value in moments.items()}
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    metadata = {
        "recipe": json.dumps(recipe.to_dict()),
        "data": state.data,
        "step": str(state.step),
        "history": json.dumps([asdict(ended) for ended in state.history]),
        "minutes": f"{state.minutes:.2f}",
    }
    write_tensors(out / NAME, tensors, metadata)


def restore(
    out: Path,
    recipe: Described,
    data: str,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    *,
    epoch: Callable[..., Ended] = Epoch,
) -> State:
    """Load a checkpoint, if there is one; `epoch` makes its history's entries.

    Raises:
        UsageError: it is another recipe's (the fields that differ are named), or of other pictures.
        ModelError: the file is damaged, or another architecture's.
    """
    path = out / NAME
    if not path.is_file():
        return State(data)
    try:
        with require("train", "safetensors").safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        theirs = dict(json.loads(metadata["recipe"]))
        state = State(
            str(metadata.get("data", data)), int(metadata["step"]),
            [epoch(**facts) for facts in json.loads(metadata["history"])],
            [float(value) for value in tensors.pop("losses")], float(metadata.get("minutes", 0)),
        )  # fmt: skip
    except Exception as err:
        raise ModelError(f"{path} is not a checkpoint of this version ({err}); delete it to begin anew") from err
    _same(path, theirs, recipe, state.data == data)
    try:
        for name, module in modules.items():
            module.load_state_dict(_part(tensors, name))
        states: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _part(tensors, "optimiser").items():
            number, name = key.split(".")
            states.setdefault(int(number), {})[name] = value
        optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    except (RuntimeError, ValueError, KeyError) as err:
        detail = " ".join(str(err).split())[:200]
        raise ModelError(
            f"{path} holds another architecture than {recipe.backbone} is here ({detail}); go on with the versions it "
            "was made with, or delete it to begin anew"
        ) from err
    return state


def _same(path: Path, theirs: Mapping[str, object], recipe: Described, same_data: bool) -> None:
    """Raise UsageError where a checkpoint is another run's."""
    ours = recipe.to_dict()
    theirs = type(recipe)().to_dict() | dict(theirs)  # a field younger than the checkpoint had its default
    differ = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
    other = [f"{key} {theirs.get(key)!r} (asked: {ours.get(key)!r})" for key in differ]
    if other:
        raise UsageError(
            f"{path} is another recipe's: {', '.join(other)}; give that recipe to go on, another folder, or delete it"
        )
    if not same_data:
        raise UsageError(
            f"{path} was trained on other pictures than these; give those to go on, another folder, or delete it"
        )


def minutes(out: Path) -> float | None:
    """Minutes of training that a checkpoint stands for; None where there is none that can be read."""
    try:
        with require("train", "safetensors").safe_open(out / NAME, "pt") as file:
            return round(float(file.metadata()["minutes"]), 1)
    except Exception:  # as in `restore`; it is only a figure on a card
        return None


def _part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ".")}
