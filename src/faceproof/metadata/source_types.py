"""IPTC's digital source types: what a picture is declared to be, in C2PA actions and in XMP.

Source: IPTC NewsCodes scheme http://cv.iptc.org/newscodes/digitalsourcetype/ as of 2024-10-23, retired codes
included, and C2PA specification 2.2, section 18.14.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["SOURCE_TYPES", "Kind", "source_type"]

Kind = Literal["generated", "part", "captured", "other"]

SOURCE_TYPES: dict[str, tuple[Kind, str]] = {
    "trainedAlgorithmicMedia": ("generated", "made by a generative model"),
    "compositeWithTrainedAlgorithmicMedia": ("part", "edited or put together with a generative model"),
    "compositeSynthetic": ("part", "put together, with generated or drawn elements"),
    "digitalCapture": ("captured", "captured by a digital camera"),
    "computationalCapture": ("captured", "captured by a camera that merged several frames"),
    "compositeCapture": ("captured", "put together from camera captures"),
    "negativeFilm": ("captured", "scanned from a negative"),
    "positiveFilm": ("captured", "scanned from a slide"),
    "print": ("captured", "scanned from a print"),
    "humanEdits": ("other", "edited by a person without generative tools"),
    "minorHumanEdits": ("other", "edited slightly by a person"),
    "algorithmicallyEnhanced": ("other", "altered by an algorithm"),
    "composite": ("other", "put together from several pictures"),
    "screenCapture": ("other", "captured from a screen"),
    "virtualRecording": ("other", "recorded from a virtual scene"),
    "algorithmicMedia": ("other", "made by an algorithm without training data"),
    "dataDrivenMedia": ("other", "made from data"),
    "digitalCreation": ("other", "drawn by a person with digital tools"),
    "digitalArt": ("other", "drawn with digital tools"),
    "softwareImage": ("other", "made by software"),
}
"""Name -> (kind, words). Kind "part": something in it was generated, which need not be the face."""

_URI = re.compile(r"https?://(?:cv\.iptc\.org/newscodes|c2pa\.org)/digitalsourcetype/")


def source_type(value: str) -> str | None:
    """Return the name in a URI, a QCode ("digsrctype:print") or bare; None where it is none of `SOURCE_TYPES`."""
    name = _URI.sub("", value.strip()[:200], count=1).removeprefix("digsrctype:").rstrip("/")
    return name if name in SOURCE_TYPES else None
