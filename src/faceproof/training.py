"""Train a detector: one loop for one CPU, one GPU or several, by Lightning Fabric.

Every random draw is a function of the seed and the position in the run, so a run that was stopped
goes on with the same batches and ends with the same weights. Needs the extra `train`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof import checkpoints
from faceproof.datasets import Sampler, pool_digest
from faceproof.detectors.crops import cut
from faceproof.errors import FaceproofError, ModelError, PictureError, UsageError
from faceproof.extras import opencv, require
from faceproof.features.backbone import Network, build_network, load_weights
from faceproof.images import load, printable
from faceproof.landmarks import Landmarked
from faceproof.metrics import auc, tpr_at_fpr
from faceproof.pretrain_recipes import PretrainRecipe
from faceproof.recipes import Recipe
from faceproof.teachers import Teacher, distillation, teacher_of
from faceproof.training_crops import training_crop
from faceproof.training_log import Epoch, Progress, Silent, Watcher, make_folder, write_text

__all__ = ["Device", "cores", "first_process", "train"]

VAL_LIMIT = 2000
"""At most this many val pictures are looked at after an epoch, evenly taken."""
REPORT_EVERY = 10
"""Steps between two reports."""
BEST = "best.safetensors"
"""Weights of the best epoch, with keep="best"."""


@dataclass(frozen=True)
class Device:
    """What a run computes on.

    Attributes:
        accelerator: "auto", "cpu", "cuda" or "mps". devices: how many, or "auto" for all.
        precision: "auto" (bf16 on CUDA, else 32 bits), "32-true", "bf16-mixed" or "16-mixed".
        workers: processes that read pictures, per device.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    precision: str = "auto"
    workers: int = 1

    def fabric(self) -> Any:
        """Return a launched Fabric; with several devices the script is started once for each.

        Raises:
            UsageError: there is no such device.
        """
        module = require("train", "lightning_fabric")
        precision = self.precision
        if precision == "auto":
            cuda = self.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
            precision = "bf16-mixed" if cuda and torch.cuda.is_bf16_supported() else "32-true"
        devices = 1 if self.devices == "auto" and self.accelerator == "cpu" else self.devices
        try:
            fabric = module.Fabric(accelerator=self.accelerator, devices=devices, precision=precision)
            fabric.launch()
        except FaceproofError:
            raise
        except Exception as err:  # Fabric raises RuntimeError, ValueError and its own MisconfigurationException
            detail = " ".join(str(err).split())[:200]
            raise UsageError(
                f"cannot compute on accelerator {self.accelerator!r}, devices {self.devices!r}, precision "
                f"{self.precision!r} ({detail})"
            ) from err
        return fabric


def first_process() -> bool:
    """Whether this process speaks and writes for the run: with several devices Fabric starts the command once each."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank()) == 0
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "NODE_RANK", "LOCAL_RANK"))


class _Crops(torch.utils.data.Dataset[tuple[torch.Tensor, float, float]]):
    """A crop, its label and what the teacher says of it (0 without one).

    Crop k is a function of (seed, k) alone, whatever process makes it.
    """

    def __init__(
        self, data: Landmarked, order: Sequence[int] | npt.NDArray[np.int32], recipe: Recipe, *, augment: str,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        self.data, self.order, self.recipe, self.augment, self.teacher = data, order, recipe, augment, teacher

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, float, float]:
        index = int(self.order[position])
        sample, landmarks = self.data.samples[index], self.data.landmarks[index]
        try:
            pixels = load(sample.path).pixels
            if self.augment == "none":
                crop = cut(self.recipe.crop, pixels, landmarks)
            else:
                rng = np.random.default_rng([self.recipe.seed, position])
                crop = training_crop(pixels, landmarks, self.recipe.crop, rng, self.augment)
        except (PictureError, ValueError) as err:
            raise UsageError(
                f"{printable(sample.path)} could be read when faces were found, and cannot be used now ({err}); mend "
                "it and give the same command again: it goes on from the last checkpoint"
            ) from err
        told = 0.0 if self.teacher is None else self.teacher.score(crop)
        return torch.from_numpy(crop), float(sample.label), told


def train(
    data: Landmarked,
    val: Landmarked,
    recipe: Recipe,
    out: str | Path,
    *,
    device: Device | None = None,
    watcher: Watcher | None = None,
    save_every: int = 100,
) -> Network:
    """Train on `data`, look at `val` after every epoch, and return the network to keep, on the CPU.

    `out` receives `checkpoint.safetensors` every `save_every` steps and after every epoch, and at the end
    `network.safetensors` and `recipe.json`. Called again with the same recipe it goes on from the
    checkpoint and gives the same weights as an unbroken run.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe or other pictures, the device is not there, or
            a picture cannot be read any more.
        ModelError: the loss is not finite, memory ran out, or weights cannot be had.
        OutputError: a checkpoint cannot be written; the one before it is kept.
    """
    out, device, watcher = Path(out), device or Device(), watcher or Silent()
    make_folder(out)
    _keep_memory()
    opencv().setNumThreads(1)
    fabric = device.fabric()
    with _explained(recipe, out):
        return _Run(data, val, recipe, out, fabric, device, watcher, save_every).whole()


class _Run:
    """One training run, its state in attributes."""

    def __init__(
        self, data: Landmarked, val: Landmarked, recipe: Recipe, out: Path, fabric: Any, device: Device,
        watcher: Watcher, save_every: int,
    ) -> None:  # fmt: skip
        self.data, self.val, self.recipe, self.out = data, _evenly(val, VAL_LIMIT), recipe, out
        self.fabric, self.device, self.save_every = fabric, device, save_every
        self.watcher: Watcher = watcher if fabric.is_global_zero else Silent()
        if recipe.batch % fabric.world_size or recipe.batch < 2 * fabric.world_size:
            raise UsageError(
                f"a batch of {recipe.batch} cannot be shared by {fabric.world_size} devices; give a multiple of "
                f"{fabric.world_size} with at least two crops each (--set batch=...)"
            )
        torch.manual_seed(recipe.seed)
        self.network = build_network(
            recipe.backbone,
            recipe.size,
            start=recipe.start,
            hidden=recipe.head,
            dropout=recipe.dropout,
            trained_layers=recipe.trained_layers,
        )
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = build_network(recipe.backbone, recipe.size, start="random", hidden=recipe.head)
        self.averaged.load_state_dict(self.network.state_dict())
        self.averaged.to(fabric.device).eval()
        self.modules = {"network": self.network, "averaged": self.averaged}
        self.optimiser = _optimiser(self.network, recipe)
        self.model, self.stepper = fabric.setup(self.network, self.optimiser)
        self.state = checkpoints.restore(out, recipe, pool_digest(data.samples), self.modules, self.optimiser)
        self.teacher = teacher_of(recipe)
        self.saved, self.begun = self.state.step, time.monotonic() - 60 * self.state.minutes
        self.mean, self.std = (
            torch.tensor(v, device=fabric.device).view(1, 3, 1, 1) for v in (recipe.mean, recipe.std)
        )

    def whole(self) -> Network:
        """Run to the end and write the result."""
        history = self.state.history
        if self.state.step:
            self.watcher.note(f"going on from step {self.state.step} of {self.recipe.steps}")
        if history:
            self.watcher.epoch(history)  # the run may have been stopped between its checkpoint and its logs
        if not _stops(self.recipe, history):
            for step, batch, progress in self._batches(self.state.step):
                self._learn(step, *batch)
                progress()
                if step + 1 == self.recipe.epoch_end(len(history)):
                    self._end_epoch()
                    if _stops(self.recipe, history):
                        if len(history) < self.recipe.epochs:
                            self.watcher.note(f"stopped after epoch {len(history)}: val loss falls no more")
                        break
                elif (step + 1) % self.save_every == 0:
                    self._save()
        return self._finish()

    def _batches(self, first: int) -> Iterator[tuple[int, list[torch.Tensor], Any]]:
        """Yield batches from step `first`: images, labels, teacher's scores; with a function that reports progress."""
        recipe, world, rank = self.recipe, self.fabric.world_size, self.fabric.global_rank
        sampler = Sampler(self.data.samples, recipe.seed, recipe.balance)
        order = np.fromiter(sampler.indices(recipe.steps * recipe.batch), np.int32, recipe.steps * recipe.batch)
        # A run of neighbours for each process: the classes come in turn, and every second one would be one class.
        share = recipe.batch // world
        mine = np.arange(len(order)).reshape(recipe.steps, world, share)[first:, rank].reshape(-1)
        crops = torch.utils.data.Subset(
            _Crops(self.data, order, recipe, augment=recipe.augment, teacher=self.teacher), mine
        )
        started = mark = time.monotonic()
        waited = 0.0

        def progress() -> None:
            done, spent = step + 1, max(1e-9, time.monotonic() - started)
            if done % REPORT_EVERY == 0 or done == recipe.steps:
                pace = (done - first) * recipe.batch / spent
                left = (recipe.steps - done) * recipe.batch / pace
                recent = float(np.mean(self.state.losses[-50:]))
                self.watcher.progress(Progress(done, recipe.steps, recent, pace, waited / spent, left))

        for step, batch in enumerate(self._loader(crops, share), first):
            waited += time.monotonic() - mark
            yield step, [part.to(self.fabric.device) for part in batch], progress
            mark = time.monotonic()  # here, so that checkpoints and looks at val do not count as waiting

    def _loader(self, crops: Any, batch: int) -> Any:
        return torch.utils.data.DataLoader(
            crops,
            batch_size=batch,
            num_workers=self.device.workers,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if self.device.workers and sys.platform == "linux" else None,
            pin_memory=self.fabric.device.type == "cuda",
        )

    def _learn(self, step: int, images: torch.Tensor, labels: torch.Tensor, told: torch.Tensor) -> None:
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = _rate(recipe, step, self.state.history)
        # Dropout too is a function of the position.
        torch.manual_seed(recipe.seed * 1_000_003 + step * 1009 + self.fabric.global_rank)
        self.network.train()
        logits = self.model(self._normalised(images)).squeeze(1).float()
        targets = labels.float() * (1 - recipe.smoothing) + recipe.smoothing / 2
        if self.teacher is None:
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        else:
            weight, temperature = recipe.teacher_weight, recipe.temperature
            loss = distillation(logits, targets, told.float(), weight=weight, temperature=temperature)
        value = float(self.fabric.all_reduce(loss.detach()))  # of all processes: they go on or end together
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value} at step {step}")
        self.stepper.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        # By Fabric, since 16-mixed scales gradients; there some overflow now and then, and the step is left out.
        self.fabric.clip_gradients(self.model, self.stepper, max_norm=1.0, error_if_nonfinite=False)
        self.stepper.step()
        keep = min(recipe.average, (1 + step) / (10 + step)) if recipe.average else 0.0
        _average(self.averaged, self.network, keep)
        self.state.losses.append(value)
        self.state.step = step + 1

    def _diverged(self, what: str) -> ModelError:
        kept = f"The checkpoint of step {self.saved} is kept in {self.out}" if self.saved else "Nothing was saved yet"
        return ModelError(
            f"{what}; lower the learning rate (now {self.recipe.rate:g}; another rate is another recipe: begin it in "
            f"another folder). {kept}"
        )

    def _normalised(self, crops: torch.Tensor) -> torch.Tensor:
        """(N, S, S, 3) uint8 -> (N, 3, S, S) float32."""
        images = (crops.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)

    def _end_epoch(self) -> None:
        history, state = self.state.history, self.state
        epoch = torch.zeros(5, dtype=torch.float64)
        if self.fabric.is_global_zero:
            scores = self._scores()
            labels = np.array([sample.label for sample in self.val.samples])
            epoch = torch.tensor(
                [
                    _rate(self.recipe, state.step - 1, history), float(np.mean(state.losses)), _loss(labels, scores),
                    auc(labels, scores), tpr_at_fpr(labels, scores, 0.01),
                ],
                dtype=torch.float64,
            )  # fmt: skip
        # Every process must decide alike whether to stop and which rate comes next.
        rate, loss, val_loss, val_auc, val_tpr = (float(v) for v in self.fabric.broadcast(epoch))
        history.append(Epoch(len(history) + 1, state.step, rate, loss, val_loss, val_auc, val_tpr))
        state.losses.clear()
        if self.fabric.is_global_zero and self.recipe.keep == "best" and _best(history) == len(history):
            checkpoints.write_tensors(self.out / BEST, self.averaged.state_dict())
        self._save()
        self.watcher.epoch(history)

    def _save(self) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in self.averaged.state_dict().values()):
            raise self._diverged(f"the weights are not finite after step {self.state.step}")
        self.state.minutes = (time.monotonic() - self.begun) / 60
        if self.fabric.is_global_zero:
            checkpoints.save(self.out, self.recipe, self.state, self.modules, self.optimiser)
        self.saved = self.state.step

    @torch.inference_mode()
    def _scores(self) -> npt.NDArray[np.float64]:
        """Scores of the val pictures, as they are."""
        crops = _Crops(self.val, range(len(self.val.samples)), self.recipe, augment="none")
        self.averaged.eval()
        batches = (self._normalised(images.to(self.fabric.device)) for images, *_ in self._loader(crops, 64))
        parts = [self.averaged(batch).squeeze(1).cpu() for batch in batches]
        scores = torch.cat(parts).double().numpy()
        if not np.isfinite(scores).all():
            raise self._diverged(f"scores on val are not finite after step {self.state.step}")
        return scores

    def _finish(self) -> Network:
        self.fabric.barrier()
        kept = self.averaged.cpu()
        if self.recipe.keep == "best":
            load_weights(kept, self.out / BEST)
        if self.fabric.is_global_zero:
            checkpoints.write_tensors(self.out / "network.safetensors", kept.state_dict())
            write_text(self.out / "recipe.json", json.dumps(self.recipe.to_dict(), indent=1) + "\n")
        return kept.eval()


def _evenly(data: Landmarked, limit: int) -> Landmarked:
    """At most `limit` pictures, evenly taken in the order given."""
    if len(data.samples) <= limit:
        return data
    kept = np.linspace(0, len(data.samples) - 1, limit).astype(int)
    return Landmarked(tuple(data.samples[i] for i in kept), data.landmarks[kept])


def _optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels, none on biases and normalisation."""
    trained = [p for p in network.parameters() if p.requires_grad]
    heavy, light = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": heavy, "weight_decay": recipe.decay}, {"params": light, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=recipe.rate)


def _rate(recipe: Recipe, step: int, history: Sequence[Epoch]) -> float:
    """Learning rate of a step: a function of its number and of the epochs before it."""
    if recipe.schedule == "constant":
        return recipe.rate
    if recipe.schedule == "plateau":
        return recipe.rate * 0.1 ** _plateaus(recipe, history)
    warm = max(1, recipe.steps // 20)
    if step < warm:
        return recipe.rate * (step + 1) / warm
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, recipe.steps - warm)))


def _plateaus(recipe: Recipe, history: Sequence[Epoch]) -> int:
    """How often val loss has not fallen for `plateau` epochs."""
    lowest, waiting, falls = math.inf, 0, 0
    for epoch in history:
        if epoch.val_loss < lowest - 1e-6:
            lowest, waiting = epoch.val_loss, 0
        else:
            waiting += 1
        if waiting > recipe.plateau:
            falls, waiting = falls + 1, 0
    return falls


def _best(history: Sequence[Epoch]) -> int:
    """Number of the epoch with the lowest val loss."""
    return min(history, key=lambda epoch: epoch.val_loss).number


def _stops(recipe: Recipe, history: Sequence[Epoch]) -> bool:
    if len(history) >= recipe.epochs:
        return True
    if recipe.schedule == "plateau" and recipe.rate * 0.1 ** _plateaus(recipe, history) < 1e-6:
        return True
    return bool(recipe.patience and history and len(history) - _best(history) >= recipe.patience)


def _loss(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> float:
    """Binary cross-entropy, each class with half the weight."""
    losses = np.logaddexp(0, np.where(labels == 1, -scores, scores))
    return float((losses[labels == 1].mean() + losses[labels == 0].mean()) / 2)


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, keep: float) -> None:
    for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)


def _start_worker(_: int) -> None:
    """Readers use one thread each.

    A forked one must have got that from its parent: OpenCV has its threads end before their number changes,
    those of the parent do not exist here, and it would wait for them for ever.
    """
    if opencv().getNumThreads() != 1:
        opencv().setNumThreads(1)


def _keep_memory() -> None:
    """Let glibc keep freed memory instead of giving every activation back to the system and asking for it again.

    On two cores EfficientNet-Lite2 at 208 px went from 25 to 32 crops/s (benchmarks/training.csv). Linux
    with glibc only; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 256 * 2**20)


@contextlib.contextmanager
def _explained(recipe: Recipe | PretrainRecipe, out: Path) -> Iterator[None]:
    """Turn torch's errors into ours, saying what is kept and what to do."""
    try:
        yield
    except UsageError as err:
        if "in DataLoader worker" in str(err):  # torch puts the other process's traceback into the message
            raise UsageError(str(err).strip().rpartition("UsageError: ")[2]) from err
        raise
    except (RuntimeError, MemoryError) as err:
        text = str(err).lower()
        signs = ("out of memory", "can't allocate", "not enough memory")
        if isinstance(err, (MemoryError, torch.OutOfMemoryError)) or any(sign in text for sign in signs):
            raise ModelError(
                f"out of memory with batches of {recipe.batch} crops of {recipe.size} px; give a smaller --batch. "
                f"What was finished is in {out} (another batch size is another recipe: begin it in another folder)"
            ) from err
        if ("dataloader worker" in text and "killed" in text) or "exited unexpectedly" in text:
            raise ModelError(
                f"a process that reads pictures was ended by the system ({err}), mostly for want of memory; give fewer "
                f"--workers and the same command again: it goes on from the checkpoint in {out}"
            ) from err
        if "connection closed by peer" in text or "connection reset by peer" in text:
            raise ModelError(
                "another process of this run has ended (its message is above); give the same command again: it goes on "
                f"from the checkpoint in {out}"
            ) from err
        raise


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
