"""What pictures of an image API are expected to cost, and what they did by the tokens the server counted.

Prices change, and accounts have their own: the figures are an estimate, said to be one wherever it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from faceproof.errors import UsageError

__all__ = ["DATE", "RATES", "Estimate", "Rates", "cost_of", "estimate"]

DATE = "2026-11-05"
"""When the table was last held against what OpenAI asks, as resellers and its release notes state it."""


@dataclass(frozen=True)
class Rates:
    """US dollars per million tokens, and tokens a picture of 1024 x 1024 takes.

    Attributes:
        text, image, output: of the prompt, of pictures sent, of the picture made.
        tokens: quality -> tokens of the picture made; "auto" is taken for the dearest that is not asked for by name.
    """

    text: float
    image: float
    output: float
    tokens: Mapping[str, int]


_FAMILY = Rates(5, 8, 30, {"low": 200, "medium": 1767, "high": 7034, "xhigh": 14_000, "max": 28_000, "auto": 7034})
"""From 0.006, 0.053 and 0.211 dollars a picture; xhigh and max are guesses on the high side."""
RATES: Mapping[str, Rates] = {
    "gpt-image-2.6": _FAMILY,
    "gpt-image-2.5": _FAMILY,
    "gpt-image-2": _FAMILY,
    "gpt-image-1.5": Rates(5, 8, 32, {"low": 282, "medium": 1063, "high": 4157, "auto": 4157}),
    "gpt-image-1-mini": Rates(2, 2.5, 8, {"low": 625, "medium": 1375, "high": 4500, "auto": 4500}),
}
"""A model's name, or its beginning up to a hyphen -> rates."""
TEXT_TOKENS, IMAGE_TOKENS = 120, 1600
"""Of a prompt, and of a photograph sent for an edit (an upper end)."""


@dataclass(frozen=True)
class Estimate:
    """What a run may cost.

    Attributes:
        pictures: to be made.
        each: US dollars a picture; None where nobody knows.
        basis: where the figure comes from, in words.
    """

    pictures: int
    each: float | None
    basis: str

    @property
    def total(self) -> float | None:
        """US dollars."""
        return None if self.each is None else self.each * self.pictures


def estimate(
    pictures: int, *, model: str, size: str, quality: str, sends_picture: bool, price: float | None = None,
    known: bool = True,
) -> Estimate:  # fmt: skip
    """Estimate what pictures will cost.

    Args:
        pictures: how many.
        model, size, quality: as asked of the server; size "1024x1024" or "auto".
        sends_picture: a photograph goes with each request.
        price: US dollars a picture, known better by the caller.
        known: the server is OpenAI's, for which the table is.

    Raises:
        UsageError: a negative price.
    """
    if price is not None:
        if not 0 <= price < 1e6:
            raise UsageError(f"--price {price} is not a price; give US dollars a picture, such as 0.05")
        return Estimate(pictures, price, "the price you gave")
    rates = _rates(model) if known else None
    if rates is None or quality not in rates.tokens:
        where = f"no price of {model} at quality {quality} is known" if known else "this server's prices are not known"
        return Estimate(pictures, None, f"{where}; give --price")
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    pixels = int(found[1]) * int(found[2]) if found else 1536 * 1024
    output = rates.tokens[quality] * pixels / 1024**2
    micro = rates.text * TEXT_TOKENS + rates.output * output + (rates.image * IMAGE_TOKENS if sends_picture else 0)
    return Estimate(pictures, micro / 1e6, f"table of {DATE}, an estimate")


def cost_of(model: str, usage: Mapping[str, Any]) -> float | None:
    """Return US dollars for the tokens a server counted, None where model or counts are not known."""
    rates = _rates(model)
    details = usage.get("input_tokens_details")
    try:
        output = float(usage["output_tokens"])
        image = float(details["image_tokens"]) if isinstance(details, Mapping) else 0.0
        text = float(usage["input_tokens"]) - image
    except (KeyError, TypeError, ValueError):
        return None
    if rates is None or min(output, image, text) < 0:
        return None
    return (rates.text * text + rates.image * image + rates.output * output) / 1e6


def _rates(model: str) -> Rates | None:
    return next((rates for name, rates in RATES.items() if model == name or model.startswith(f"{name}-")), None)
