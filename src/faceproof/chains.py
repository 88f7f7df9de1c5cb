"""Chains of perturbations by name or as text.

A chain is written as steps joined by `+`, each a name with its values after colons:

    thumb:400+jpeg:75+jpeg:70          a number
    resize:200:lanczos+jpeg:80:444     a choice after the number
    thumb:400+jpeg:60-85               a range: drawn evenly, ends included, by the seed
    avatar+screenshot+avatar           a named chain stands for its steps
    random:3                           three different steps drawn by the seed

`STEPS` lists the steps, `CHAINS` the named chains; docs/perturbations.md shows both. Named chains after
a kind of platform are *in the manner of* such platforms: sizes and qualities that are typical, not
any company's measured pipeline. Training draws from the same steps (`augment`). Pixels are (H, W, 3)
uint8 RGB throughout.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from faceproof.errors import UsageError, unknown_name
from faceproof.perturb import (
    CHROMA,
    KERNELS,
    RGB,
    Rng,
    View,
    blur,
    centre_crop,
    grey,
    jpeg,
    noise,
    rescale,
    resize,
    scale,
    screenshot,
    shift,
    thumbnail,
    tone,
    webp,
)

__all__ = [
    "CHAINS",
    "MOST_STEPS",
    "STEPS",
    "Chain",
    "Choice",
    "Number",
    "Step",
    "apply_chain",
    "parse_chain",
]

Chain = Callable[[View, Rng], View]

MOST_STEPS = 8
"""Steps in one chain, after named chains are written out; `random:3` counts three."""
_LONGEST_TEXT = 300


@dataclass(frozen=True)
class Number:
    """The number a step needs: what it means, with its unit, and its range, both ends allowed."""

    meaning: str
    low: float
    high: float
    whole: bool = True


@dataclass(frozen=True)
class Choice:
    """The word a step may end with: what it means, the words, the default, and what "any" draws from.

    `drawn` may name a word twice to draw it twice as often.
    """

    meaning: str
    words: tuple[str, ...]
    default: str
    drawn: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One kind of step.

    Attributes:
        run: takes the view, the drawn number (0 if it has none), the word ("" if none) and the generator.
        says: one line for the docs.
        example: how it is written.
        number: what stands after the first colon; always needed where there is one.
        choice: what may stand after the second.
    """

    run: Callable[[View, float, str, Rng], View]
    says: str
    example: str
    number: Number | None = None
    choice: Choice | None = None


_QUALITY = Number("quality", 1, 100)
_SIZE = Number("longer side in pixels", 16, 8192)
# "nearest" is left out: hardly any software shrinks photographs so.
_KERNEL = Choice("kernel", KERNELS, "area", KERNELS[1:])
_CHROMA = Choice("chroma subsampling", tuple(CHROMA), "420", ("420", "420", "444"))


def _toned(view: View, percent: float, rng: Rng) -> View:
    most = percent / 100
    gamma = np.exp(rng.uniform(-most, most))
    gains = (1 + rng.uniform(-most, most) / 2) * (1 + rng.uniform(-most, most, 3) / 2)
    return tone(view, float(gamma), (gains[0], gains[1], gains[2]))


def _random_steps(view: View, count: int, rng: Rng) -> View:
    for index in rng.permutation(len(_MEASURED))[:count]:
        view = _MEASURED[index](view, rng)
    return view


STEPS: dict[str, Step] = {
    "jpeg": Step(
        lambda v, n, word, rng: jpeg(v, int(n), chroma=word), "JPEG saved and read", "jpeg:75:444", _QUALITY, _CHROMA
    ),
    "webp": Step(lambda v, n, word, rng: webp(v, int(n)), "lossy WebP saved and read", "webp:50", _QUALITY),
    "resize": Step(
        lambda v, n, word, rng: resize(v, int(n), word), "to this size, up or down", "resize:200:cubic", _SIZE, _KERNEL
    ),
    "thumb": Step(
        lambda v, n, word, rng: thumbnail(v, int(n)), "area average; smaller ones stay as they are", "thumb:128", _SIZE
    ),
    "scale": Step(
        lambda v, n, word, rng: scale(v, n, word),
        "both sides times this",
        "scale:0.7:linear",
        Number("factor", 0.1, 4, whole=False),
        _KERNEL,
    ),
    "rescale": Step(
        lambda v, n, word, rng: rescale(v, n, word),
        "shrunk, and back to the same size",
        "rescale:0.5:lanczos",
        Number("factor", 0.1, 1, whole=False),
        _KERNEL,
    ),
    "blur": Step(
        lambda v, n, word, rng: blur(v, n), "Gaussian blur", "blur:1.5", Number("sigma in pixels", 0.1, 20, whole=False)
    ),
    "noise": Step(
        lambda v, n, word, rng: noise(v, n, rng),
        "Gaussian noise on every sample",
        "noise:4",
        Number("standard deviation of 255", 0, 64, whole=False),
    ),
    "screenshot": Step(
        lambda v, n, word, rng: screenshot(v, n, rng),
        "shown on a page, captured, cut out, saved as PNG or JPEG 80-95",
        "screenshot:1.25",
        Number("display pixels per picture pixel", 0.25, 4, whole=False),
    ),
    "crop": Step(
        lambda v, n, word, rng: centre_crop(v, n),
        "cut about the middle; keeps the landmarks if they fit",
        "crop:90",
        Number("percent of each side", 10, 100, whole=False),
    ),
    "shift": Step(
        lambda v, n, word, rng: shift(v, int(n)),
        "cut off the top and left, so that the next JPEG's grid lies elsewhere",
        "shift:3",
        Number("pixels", 1, 15),
    ),
    "tone": Step(
        lambda v, n, word, rng: _toned(v, n, rng),
        "brightness, colour and gamma drawn up to this much",
        "tone:10",
        Number("percent", 0, 50, whole=False),
    ),
    "grey": Step(lambda v, n, word, rng: grey(v), "black and white", "grey"),
    "random": Step(
        lambda v, n, word, rng: _random_steps(v, int(n), rng),
        "this many different steps, drawn",
        "random:3",
        Number("steps", 1, 5),
    ),
}
"""What a chain is made of."""

CHAINS: dict[str, str] = {
    "none": "",
    "jpeg95": "jpeg:95",
    "jpeg85": "jpeg:85",
    "jpeg75": "jpeg:75",
    "jpeg50": "jpeg:50",
    "jpeg30": "jpeg:30",
    "jpeg75x2": "jpeg:75+jpeg:75",
    "jpeg75x2-shifted": "jpeg:75+shift:3+jpeg:75",
    "jpeg90then60-shifted": "jpeg:90+shift:5+jpeg:60",
    "webp75": "webp:75",
    "webp50": "webp:50",
    "thumb400": "thumb:400",
    "thumb128": "thumb:128",
    "thumb64": "thumb:64",
    "level": "resize:128:area+jpeg:75",
    "half-nearest": "rescale:0.5:nearest",
    "half-linear": "rescale:0.5:linear",
    "half-cubic": "rescale:0.5:cubic",
    "half-area": "rescale:0.5:area",
    "half-lanczos": "rescale:0.5:lanczos",
    "blur1": "blur:1",
    "blur2": "blur:2",
    "noise4": "noise:4",
    "noise8": "noise:8",
    "grey": "grey",
    "crop90": "crop:90",
    "crop-tight": "crop:70",
    "screenshot": "screenshot:0.6-1.7",
    "avatar": "thumb:400+jpeg:75+jpeg:70",
    "platform": "thumb:400+jpeg:60-85+jpeg:60-85",
    "messenger": "thumb:1600+jpeg:70:420",
    "forum": "thumb:256+jpeg:85",
    "webstore": "webp:80+jpeg:75",
    "repost": "avatar+screenshot+avatar",
}
"""Named chains for measuring, each in the steps it stands for."""


def parse_chain(name: str) -> Chain:
    """Turn a chain's name or text into a function of a view and a random generator.

    Args:
        name: a key of `CHAINS`, or steps joined by `+` (the module's head has the form).

    Raises:
        UsageError: an unknown step, a missing or superfluous value, one out of its range, no step at
            all, or more than `MOST_STEPS`.
    """
    if not name or len(name) > _LONGEST_TEXT:
        raise UsageError(
            f"a chain needs 1 to {_LONGEST_TEXT} characters, got {len(name)}; "
            "write e.g. 'avatar' or 'thumb:400+jpeg:75'"
        )
    steps = [_parse_step(part) for part in _written_out(name)]
    count = sum(weight for _, weight in steps)
    if count > MOST_STEPS:
        raise UsageError(f"chain {name!r} has {count} steps; at most {MOST_STEPS} are allowed")
    runs = tuple(run for run, _ in steps)

    def chain(view: View, rng: Rng) -> View:
        for run in runs:
            view = run(view, rng)
        return view

    return chain


def _written_out(text: str) -> list[str]:
    """Split into steps, named chains replaced by theirs (one that is called like its only step is that step)."""
    parts: list[str] = []
    for part in text.split("+"):
        inner = CHAINS.get(part, part)
        parts += [part] if inner == part else _written_out(inner) if inner else []
    return parts


def _parse_step(text: str) -> tuple[Chain, int]:
    """Return the function of one step, and how many steps it counts for."""
    name, *values = text.split(":")
    if name not in STEPS:
        raise unknown_name("chain or step", name, [*CHAINS, *(step for step in STEPS if step not in CHAINS)])
    step = STEPS[name]
    allowed = (step.number is not None) + (step.choice is not None)
    if len(values) > allowed or (step.number is not None and not values):
        raise UsageError(f"step {text!r} has {len(values)} value(s); write e.g. {step.example!r}")
    low, high = _parse_number(step.number, values[0], text, step.example) if step.number else (0.0, 0.0)
    word = values[1] if len(values) > 1 else step.choice.default if step.choice else ""
    if step.choice and word not in (*step.choice.words, "any"):
        raise unknown_name(step.choice.meaning, word, [*step.choice.words, "any"])
    drawn = step.choice.drawn if step.choice and word == "any" else (word,)
    whole = step.number is not None and step.number.whole

    def run(view: View, rng: Rng) -> View:
        # Nothing is drawn where nothing is open, so that `noise:4` alone uses the generator as `noise` does.
        number = low
        if high > low:
            number = float(rng.integers(int(low), int(high) + 1)) if whole else rng.uniform(low, high)
        return step.run(view, number, drawn[0] if len(drawn) == 1 else drawn[int(rng.integers(len(drawn)))], rng)

    return run, int(high) if name == "random" else 1


def _parse_number(number: Number, given: str, text: str, example: str) -> tuple[float, float]:
    """Read "75" as (75, 75) and "60-85" as (60, 85)."""
    kind = "a whole number" if number.whole else "a number"
    digits = r"[0-9]+" if number.whole else r"[0-9]+(?:\.[0-9]+)?"
    match = re.fullmatch(f"({digits})(?:-({digits}))?", given)
    if not match:
        raise UsageError(f"step {text!r}: {number.meaning} {given!r} is not {kind} or a range; write e.g. {example!r}")
    low = float(match[1])
    high = float(match[2] or match[1])
    if low > high:
        raise UsageError(f"step {text!r}: the range {given} runs backwards; write {match[2]}-{match[1]}")
    if low < number.low or high > number.high:
        raise UsageError(f"step {text!r}: {number.meaning} {given} is outside {number.low:g} to {number.high:g}")
    return low, high


def apply_chain(pixels: RGB, name: str, *, seed: int = 0) -> RGB:
    """Send a picture through a chain.

    Args:
        pixels: (H, W, 3) uint8 RGB, one pixel or more.
        name: a key of `CHAINS`, or a text as `parse_chain` takes it.
        seed: everything random is a function of it.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        UsageError: no chain of that name, a text that cannot be read, or pixels of another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UsageError(f"a chain needs (H, W, 3) uint8 RGB pixels, got {pixels.shape} {pixels.dtype}")
    return parse_chain(name)(View(pixels), np.random.default_rng(seed)).pixels


_MEASURED: tuple[Chain, ...] = tuple(
    parse_chain(text)
    for text in (
        "jpeg:60-95:any",
        "jpeg:30-60",
        "webp:40-90",
        "thumb:96-400",
        "rescale:0.4-0.9:any",
        "blur:0.4-1.5",
        "noise:2-6",
        "screenshot:0.6-1.7",
        "crop:80-97",
    )
)
"""What `random:N` draws from: the steps of the robustness grid at moderate strengths, each at most once."""
