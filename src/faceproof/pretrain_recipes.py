"""Recipes of self-supervised pretraining (FIELD.md 1.4): ours for two cores, and the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from faceproof.detectors.crops import CropSpec
from faceproof.errors import UsageError, unknown_name
from faceproof.recipes import HALVES, in_range, short

__all__ = ["PRETRAIN_PRESETS", "PretrainPreset", "PretrainRecipe", "pretrain_preset"]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_RANGES: dict[str, tuple[float, float, type]] = {
    "size": (32, 1024, int), "embedding": (8, 8192, int), "batch": (8, 65536, int), "samples": (8, 10**8, int),
    "epochs": (1, 100000, int), "rate": (1e-9, 10, float), "decay": (0, 10, float), "seed": (0, 2**32 - 1, int),
    "recompressed": (0, 1, float),
}  # fmt: skip


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides a pretraining, apart from the photographs.

    Attributes:
        backbone: a timm name, or "small-cnn". start: "imagenet", "random" or a .safetensors file of a detector.
        size: side of the crops in pixels; mean, std: of RGB in 0-1.
        embedding: numbers of the embedding, between pooled features and heads.
        batch: crops a step, a multiple of 4: half of them with EXIF tags, a quarter faces untouched, a quarter
            faces manipulated.
        samples: crops seen in all; epochs: into how many parts they are divided.
        rate: peak learning rate of Adam (0.9, 0.98), cosine to zero after 5 % warm-up; decay: L2, as in Adam.
        recompressed: share of the face task's crops, both kinds alike, that are saved as JPEG once more after
            the manipulation, so that the broken 8 x 8 grid of one region is not all there is to learn.
        seed: of everything random.

    Crops with EXIF are never recompressed and, where they are large enough, never resized: a window of `size`
    pixels is cut from a random place and flipped at random. What a camera leaves would not survive more. All come
    from JPEGs of one quality, so that the format says nothing.
    """

    backbone: str = "tf_efficientnet_lite0"
    start: str = "imagenet"
    size: int = 192
    mean: tuple[float, float, float] = HALVES
    std: tuple[float, float, float] = HALVES
    embedding: int = 768
    batch: int = 96
    samples: int = 48000
    epochs: int = 10
    rate: float = 3e-4
    decay: float = 1e-4
    recompressed: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high, kind) in _RANGES.items():
            in_range(name, getattr(self, name), low, high, kind)
        for name in ("backbone", "start"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip() or "\0" in text:
                raise UsageError(f"{name} must be a name, not {short(text)}")
        for name, low in (("mean", -10.0), ("std", 1e-3)):
            channels = getattr(self, name)
            if not isinstance(channels, tuple) or len(channels) != 3:
                raise UsageError(f"{name} must be three numbers, such as [0.5, 0.5, 0.5], not {short(channels)}")
            for number in channels:
                in_range(f"a channel of {name}", number, low, 10, float)
        if self.batch % 4:
            raise UsageError(
                f"batch must be a multiple of 4 (tagged, tagged, untouched, manipulated), not {self.batch}"
            )
        if self.samples < self.batch * self.epochs:
            raise UsageError(
                f"{self.samples} samples are fewer than {self.epochs} epochs of one batch of {self.batch}; "
                "give more samples, fewer epochs or a smaller batch"
            )

    @property
    def crop(self) -> CropSpec:
        """The crop of faces."""
        return CropSpec(self.size)

    @property
    def tagged(self) -> int:
        """Crops with EXIF in a batch; as many faces stand beside them."""
        return self.batch // 2

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.samples // self.batch

    def epoch_end(self, epoch: int) -> int:
        """Steps done when epoch `epoch` (from 0) ends."""
        return self.steps * (epoch + 1) // self.epochs

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PretrainRecipe:
        """Read what `to_dict` wrote.

        Raises:
            UsageError: a field is unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                raise unknown_name("recipe field", str(key), sorted(known))
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@dataclass(frozen=True)
class PretrainPreset:
    """A named recipe, where it is published, and what differs from that or is not stated there."""

    recipe: PretrainRecipe
    source: str
    notes: str


PRETRAIN_PRESETS: dict[str, PretrainPreset] = {
    "exif-lite0": PretrainPreset(
        PretrainRecipe(), "this project, after Zou et al. 2025", "a budget for two CPU cores: 500 steps of 96 crops"
    ),
    "exif-resnet50": PretrainPreset(
        PretrainRecipe(
            backbone="resnet50", size=224, mean=CLIP_MEAN, std=CLIP_STD, batch=256, samples=256_000, rate=1e-5,
            recompressed=0,
        ),
        "Zou et al. 2025, arXiv 2501.02207 (FIELD.md 1.4)",
        "theirs: cosine over 10 epochs without warm-up, faces of 128 px enlarged to 224, tags ranked on manipulated "
        "faces too, exposure as the number after the stroke; here: 5 % warm-up, seconds, crops not resized",
    ),
}  # fmt: skip
"""Name -> preset."""


def pretrain_preset(name: str, /, **changes: Any) -> PretrainRecipe:
    """Return a preset's recipe with some fields changed.

    Raises:
        UsageError: no preset of that name, or a field unknown or out of range.
    """
    if name not in PRETRAIN_PRESETS:
        raise unknown_name("preset", name, list(PRETRAIN_PRESETS))
    return PretrainRecipe.from_dict(PRETRAIN_PRESETS[name].recipe.to_dict() | changes)
