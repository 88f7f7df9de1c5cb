"""Self-supervised pretraining: rank what cameras wrote down, and tell faces that were touched (FIELD.md 1.4).

The loop keeps the promises of `training`: every random draw is a function of the seed and the position in the
run, so that a run that was stopped goes on with the same batches and ends with the same weights.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof import checkpoints
from faceproof.errors import ModelError, UsageError
from faceproof.exif_data import TAGS, tag_values
from faceproof.extras import opencv
from faceproof.features.backbone import build_network, load_weights
from faceproof.metrics import auc, bootstrap
from faceproof.pairs import PairAccuracy, pair_accuracy
from faceproof.pretrain_recipes import PretrainRecipe
from faceproof.pretraining_data import PretrainData, face_crop, window
from faceproof.ranking import joint_loss
from faceproof.tables import provenance, write_table
from faceproof.training import Device, _explained, _keep_memory, _start_worker
from faceproof.training_log import Progress, Silent, Watcher, make_folder, write_text

__all__ = ["PretrainEpoch", "RankingNetwork", "embedding_network", "pretrain", "ranking_network"]

REPORT_EVERY = 5
"""Steps between two reports."""
VAL_LIMIT = 600
"""At most this many photographs of faces are looked at after an epoch, each untouched and manipulated."""
TABLE = "pair-accuracy.csv"


class RankingNetwork(nn.Module):
    """Backbone -> pooled features -> embedding -> one number a tag, and one for manipulations.

    Attributes:
        body: the backbone, giving (N, width) pooled features.
        embedding: linear, (N, width) -> (N, E).
        heads: linear, (N, E) -> (N, 5): ISO, aperture, exposure, focal length (higher = larger), manipulated.
    """

    def __init__(self, body: nn.Module, width: int, embedding: int) -> None:
        super().__init__()
        self.body = body
        self.embedding = nn.Linear(width, embedding)
        self.heads = nn.Linear(embedding, len(TAGS) + 1)
        # As in a detector: no loud opinion before the first step.
        nn.init.zeros_(self.heads.bias)
        nn.init.normal_(self.heads.weight, std=1e-3)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalised float32 -> (N, E)."""
        embedding: torch.Tensor = self.embedding(self.body(images))
        return embedding

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalised float32 -> (N, 5)."""
        outputs: torch.Tensor = self.heads(self.embed(images))
        return outputs


@dataclass(frozen=True)
class PretrainEpoch:
    """What an epoch ended with; everything on val is on camera models and people it was not fitted on.

    Attributes:
        number, step, rate, loss: as in `training_log.Epoch`.
        val_iso, val_aperture, val_exposure, val_focal: share of pairs put in the right order; chance is 0.5.
        val_mean: their mean.
        val_face: AUC of telling manipulated faces.
    """

    number: int
    step: int
    rate: float
    loss: float
    val_iso: float
    val_aperture: float
    val_exposure: float
    val_focal: float
    val_mean: float
    val_face: float

    @property
    def line(self) -> str:
        """What a terminal shows."""
        return (
            f"epoch {self.number}: loss {self.loss:.4f}  pairs right on cameras not seen {self.val_mean:.3f} (ISO "
            f"{self.val_iso:.3f}, aperture {self.val_aperture:.3f}, exposure {self.val_exposure:.3f}, focal length "
            f"{self.val_focal:.3f})  manipulated faces AUC {self.val_face:.3f}"
        )

    @property
    def panels(self) -> Mapping[str, Mapping[str, str]]:
        """Panels of the learning curve."""
        pairs = {"val_iso": "ISO", "val_aperture": "aperture", "val_exposure": "exposure", "val_focal": "focal length"}
        return {
            "loss (fidelity, sum of five)": {"loss": "training"},
            "val: pairs in order, AUC": {**pairs, "val_mean": "mean", "val_face": "manipulated"},
        }


class _Crops(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor, float]]):
    """Crop k of the run is a function of (seed, k) alone: half of each batch with tags, half faces."""

    def __init__(self, data: PretrainData, recipe: PretrainRecipe, first: int) -> None:
        self.data, self.recipe, self.first = data, recipe, first
        self.values = tag_values(data.tagged)
        count = recipe.steps * recipe.tagged
        self.tagged = _decks(len(data.tagged), count, recipe.seed, 1)
        self.faces = _decks(len(data.faces.samples), count, recipe.seed, 2)

    def __len__(self) -> int:
        return (self.recipe.steps - self.first) * self.recipe.batch

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor, float]:
        recipe, place = self.recipe, position + self.first * self.recipe.batch
        step, slot = divmod(place, recipe.batch)
        rng = np.random.default_rng([recipe.seed, place])
        number = step * recipe.tagged + slot % recipe.tagged
        if slot < recipe.tagged:
            index = int(self.tagged[number])
            crop = window(self.data.tagged[index].path, recipe.size, rng)
            return torch.from_numpy(crop), torch.from_numpy(self.values[index]), math.nan
        manipulated = bool(slot % 2)
        crop = face_crop(
            self.data.faces, int(self.faces[number]), recipe.size, rng, manipulated=manipulated,
            recompressed=recipe.recompressed,
        )  # fmt: skip
        return torch.from_numpy(crop), torch.full((len(TAGS),), math.nan, dtype=torch.float64), float(manipulated)


def _decks(cards: int, count: int, seed: int, salt: int) -> npt.NDArray[np.int32]:
    """(count,) int32: all of them shuffled, and again, so that none comes twice before each came once."""
    rng = np.random.default_rng([seed, salt])
    return np.concatenate([rng.permutation(cards) for _ in range(-(-count // cards))])[:count].astype(np.int32)


def ranking_network(recipe: PretrainRecipe) -> RankingNetwork:
    """Return the network of a recipe with its first weights; drawn after `torch.manual_seed(recipe.seed)`.

    Raises:
        UsageError, ModelError: as in `features.backbone.build_network`.
    """
    torch.manual_seed(recipe.seed)
    detector = build_network(recipe.backbone, recipe.size, start=recipe.start)
    width = detector.head[-1].in_features
    assert isinstance(width, int)
    return RankingNetwork(detector.body, width, recipe.embedding)


def embedding_network(run: str | Path) -> tuple[RankingNetwork, PretrainRecipe]:
    """Load what `pretrain` wrote to a folder, ready to embed.

    Raises:
        UsageError: no finished run is there.
        ModelError: its files are damaged.
    """
    run = Path(run)
    try:
        recipe = PretrainRecipe.from_dict(json.loads((run / "recipe.json").read_text(encoding="utf-8")))
    except OSError as err:
        raise UsageError(f"no finished pretraining at {run} ({err.strerror or err}); give the folder of one") from err
    except (ValueError, TypeError, AttributeError, UsageError) as err:
        raise ModelError(f"{run / 'recipe.json'} is not a pretraining's recipe ({err}); run it again") from err
    network = ranking_network(replace(recipe, start="random"))
    load_weights(network, run / "network.safetensors")
    return network.eval(), recipe


def pretrain(
    data: PretrainData,
    recipe: PretrainRecipe,
    out: str | Path,
    *,
    device: Device | None = None,
    watcher: Watcher | None = None,
    save_every: int = 50,
) -> RankingNetwork:
    """Train, look at val after every epoch, and return the network of the last step, on the CPU.

    `out` receives `checkpoint.safetensors`, and at the end `network.safetensors`, `recipe.json` and
    `pair-accuracy.csv`. Called again with the same recipe it goes on from the checkpoint and gives the same
    weights as an unbroken run.

    Raises:
        UsageError: `out` holds another run's checkpoint, or a picture cannot be read.
        ModelError: the loss is not finite, memory ran out, or weights cannot be had.
        OutputError: a checkpoint cannot be written; the one before it is kept.
    """
    out, device = Path(out), device or Device()
    make_folder(out)
    _keep_memory()
    opencv().setNumThreads(1)
    fabric = device.fabric()
    if fabric.world_size > 1:
        raise UsageError(
            f"pretraining ranks the pairs of one batch on one device, not {fabric.world_size}; --devices 1"
        )
    with _explained(recipe, out):
        return _Run(data, recipe, out, fabric, device, watcher or Silent(), save_every).whole()


class _Run:
    """One pretraining, its state in attributes."""

    def __init__(
        self, data: PretrainData, recipe: PretrainRecipe, out: Path, fabric: Any, device: Device, watcher: Watcher,
        save_every: int,
    ) -> None:  # fmt: skip
        self.data, self.recipe, self.out = data, recipe, out
        self.fabric, self.device, self.watcher, self.save_every = fabric, device, watcher, save_every
        self.network = ranking_network(recipe)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(
            self.network.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.decay
        )
        self.optimiser = optimiser
        self.model, self.stepper = fabric.setup(self.network, optimiser)
        self.modules = {"network": self.network}
        self.state = checkpoints.restore(out, recipe, data.digest, self.modules, optimiser, epoch=PretrainEpoch)
        self.saved, self.begun = self.state.step, time.monotonic() - 60 * self.state.minutes
        self.mean, self.std = (
            torch.tensor(v, device=fabric.device).view(1, 3, 1, 1) for v in (recipe.mean, recipe.std)
        )

    def whole(self) -> RankingNetwork:
        """Run to the end and write the result."""
        history, recipe = self.state.history, self.recipe
        if self.state.step:
            self.watcher.note(f"going on from step {self.state.step} of {recipe.steps}")
        if history:
            self.watcher.epoch(history)
        for images, values, manipulated in self._batches():
            self._learn(images, values, manipulated)
            if self.state.step == recipe.epoch_end(len(history)):
                self._end_epoch()
            elif self.state.step % self.save_every == 0:
                self._save()
        return self._finish()

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield what is left of the run, and report after each step."""
        recipe, first, device = self.recipe, self.state.step, self.fabric.device
        started = mark = time.monotonic()
        waited = 0.0
        for images, values, manipulated in self._loader(_Crops(self.data, recipe, first), recipe.batch):
            waited += time.monotonic() - mark
            yield images.to(device), values.to(device), manipulated.to(device)
            done, spent = self.state.step, max(1e-9, time.monotonic() - started)
            if done % REPORT_EVERY == 0 or done == recipe.steps:
                pace = (done - first) * recipe.batch / spent
                loss = float(np.mean(self.state.losses[-50:] or [self.state.history[-1].loss]))
                left = (recipe.steps - done) * recipe.batch / pace
                self.watcher.progress(Progress(done, recipe.steps, loss, pace, waited / spent, left))
            mark = time.monotonic()

    def _loader(self, crops: Any, batch: int) -> Any:
        return torch.utils.data.DataLoader(
            crops,
            batch_size=batch,
            num_workers=self.device.workers,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if self.device.workers and sys.platform == "linux" else None,
        )

    def _learn(self, images: torch.Tensor, values: torch.Tensor, manipulated: torch.Tensor) -> None:
        state, recipe = self.state, self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = _rate(recipe, state.step)
        torch.manual_seed(recipe.seed * 1_000_003 + state.step)  # backbones with dropout inside
        self.network.train()
        loss = joint_loss(self.model(self._normalised(images)), values, manipulated)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value} at step {state.step}")
        self.stepper.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.stepper, max_norm=1.0, error_if_nonfinite=False)
        self.stepper.step()
        state.losses.append(value)
        state.step += 1

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
        state = self.state
        pairs, labels, scores = self._look()
        iso, aperture, exposure, focal = shares = [found.value for found in pairs.values()]
        rate, loss = _rate(self.recipe, state.step - 1), float(np.mean(state.losses))
        ended = PretrainEpoch(
            len(state.history) + 1, state.step, rate, loss, iso, aperture, exposure, focal, _mean(shares),
            auc(labels, scores),
        )  # fmt: skip
        state.history.append(ended)
        state.losses.clear()
        self._save()
        self.watcher.epoch(state.history)

    def _save(self) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in self.network.state_dict().values()):
            raise self._diverged(f"the weights are not finite after step {self.state.step}")
        self.state.minutes = (time.monotonic() - self.begun) / 60
        checkpoints.save(self.out, self.recipe, self.state, self.modules, self.optimiser)
        self.saved = self.state.step

    def _look(self, rounds: int = 0) -> tuple[dict[str, PairAccuracy], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Pair accuracy by tag on val, and labels and scores of val faces, each untouched and manipulated."""
        data, size = self.data, self.recipe.size
        tagged = self._outputs(window(crop.path, size, None) for crop in data.val_tagged)
        values, cameras = tag_values(data.val_tagged), [crop.camera for crop in data.val_tagged]
        pairs = {tag: pair_accuracy(values[:, k], tagged[:, k], cameras, rounds=rounds) for k, tag in enumerate(TAGS)}
        labels = np.tile([0, 1], len(self._val_faces()))
        crops = (
            face_crop(
                data.val_faces, index, size, np.random.default_rng([7, index]), manipulated=touched,
                recompressed=self.recipe.recompressed,
            )
            for index in self._val_faces() for touched in (False, True)
        )  # fmt: skip
        return pairs, labels.astype(np.int64), self._outputs(crops)[:, -1]

    def _val_faces(self) -> list[int]:
        count = len(self.data.val_faces.samples)
        return [int(i) for i in np.linspace(0, count - 1, min(count, VAL_LIMIT))]

    @torch.inference_mode()
    def _outputs(self, crops: Iterator[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
        """(N, 5) float64 outputs, 64 crops in memory at a time."""
        self.network.eval()
        parts, held = [], []
        for crop in crops:
            held.append(torch.from_numpy(crop))
            if len(held) == 64:
                parts.append(self.network(self._normalised(torch.stack(held).to(self.fabric.device))).cpu())
                held = []
        if held:
            parts.append(self.network(self._normalised(torch.stack(held).to(self.fabric.device))).cpu())
        outputs: npt.NDArray[np.float64] = torch.cat(parts).double().numpy()
        if not np.isfinite(outputs).all():
            raise self._diverged(f"outputs on val are not finite after step {self.state.step}")
        return outputs

    def _finish(self) -> RankingNetwork:
        pairs, labels, scores = self._look(rounds=1000)
        write_table(
            self.out / TABLE, provenance(self.data.digest), ["task", "measure", "value", "low", "high", "pairs",
            "pictures", "groups"], _rows(pairs, labels, scores, [s.group for s in self._val_samples()]),
        )  # fmt: skip
        network = self.network.cpu().eval()
        checkpoints.write_tensors(self.out / "network.safetensors", network.state_dict())
        write_text(self.out / "recipe.json", json.dumps(self.recipe.to_dict(), indent=1) + "\n")
        return network

    def _val_samples(self) -> list[Any]:
        return [self.data.val_faces.samples[index] for index in self._val_faces()]


def _mean(shares: Sequence[float]) -> float:
    """Mean of the known ones: a tag that no val photograph has is NaN."""
    known = [share for share in shares if not math.isnan(share)]
    return float(np.mean(known)) if known else math.nan


def _rows(
    pairs: Mapping[str, PairAccuracy], labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64],
    groups: Sequence[str],
) -> list[list[object]]:  # fmt: skip
    rows: list[list[object]] = [
        [tag, "pair accuracy", f"{p.value:.4f}", f"{p.low:.4f}", f"{p.high:.4f}", p.pairs, p.pictures, p.groups]
        for tag, p in pairs.items()
    ]
    rows.append(["mean", "pair accuracy", f"{_mean([p.value for p in pairs.values()]):.4f}", "", "", "", "", ""])
    doubled = [group for group in groups for _ in (0, 1)]
    low, high = bootstrap(lambda i: auc(labels[i], scores[i]), doubled, rounds=200)
    face = [f"{v:.4f}" for v in (auc(labels, scores), low, high)]
    return [*rows, ["manipulated", "AUC", *face, "", len(labels), len(set(groups))]]


def _rate(recipe: PretrainRecipe, step: int) -> float:
    """Learning rate of a step: 5 % warm-up, then a cosine to zero."""
    warm = max(1, recipe.steps // 20)
    if step < warm:
        return recipe.rate * (step + 1) / warm
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, recipe.steps - warm)))
