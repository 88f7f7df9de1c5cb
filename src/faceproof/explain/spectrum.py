"""The radial power spectrum of a face beside the band of photographs.

Upsampling inside generators leaves too much or too little power at high frequencies (Durall et al. 2020; Frank et
al. 2020). So do resizing, sharpening and JPEG, on photographs too: the band's file says how far, and the sentence here
never claims more than "unlike the photographs it was measured on".
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.detectors.crops import CropSpec
from faceproof.errors import ModelError, UsageError
from faceproof.extras import opencv

__all__ = ["BAND_SCHEMA", "SPEC", "Band", "Spectrum", "compare", "radial_spectrum", "read_band"]

BAND_SCHEMA = "faceproof.spectrum/1"
SPEC = CropSpec(160)
"""The crop it is measured on, whatever a model takes: small enough that most faces are shrunk to it, not enlarged."""
BAND_FILE = Path(__file__).with_name("spectrum_band.json")
FLOOR = -120.0
"""Decibels where there is no power at all."""
MAX_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Band:
    """Photographs' spectra.

    Attributes:
        low, middle, high: 5 %, 50 % and 95 % quantile of photographs at each frequency, decibels.
        usual: share of frequencies outside the band that 95 % of photographs stay below.
        photographs: how many.
        recompressed: perturbation -> share of the same photographs above `usual` after it.
    """

    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]
    usual: float
    photographs: int
    recompressed: Mapping[str, float]

    def __post_init__(self) -> None:
        count = SPEC.size // 2
        if any(len(line) != count for line in (self.low, self.middle, self.high)):
            raise ModelError(f"a band of photographs has {count} frequencies")
        for low, middle, high in zip(self.low, self.middle, self.high, strict=True):
            if not FLOOR <= low <= middle <= high < math.inf:
                raise ModelError("a band's quantiles must be finite and ascend")
        if not 0 <= self.usual <= 1 or self.photographs < 1:
            raise ModelError("a band says what share is usual, 0 to 1, and of how many photographs")


@dataclass(frozen=True)
class Spectrum:
    """One face's spectrum beside the band.

    Attributes:
        power: decibels at 1, 2, ... cycles a crop, see `radial_spectrum`.
        band: photographs'.
        above, below: shares of the frequencies above and below the band.
    """

    power: tuple[float, ...]
    band: Band
    above: float
    below: float

    @property
    def unusual(self) -> bool:
        """Whether more lies outside than for 95 % of photographs."""
        return self.above + self.below > self.band.usual

    @property
    def sentence(self) -> str:
        """What was found, in words, with what recompression does to it."""
        found = (
            f"{self.above:.0%} of the frequencies lie above photographs' band and {self.below:.0%} below; "
            f"95 % of {self.band.photographs} photographs have at most {self.band.usual:.0%} outside"
        )
        said = "unlike these photographs" if self.unusual else "like these photographs"
        after = ", ".join(f"{share:.0%} after {chain}" for chain, share in self.band.recompressed.items())
        return f"{said}: {found}. Of the same photographs so many leave it too when saved again: {after}"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {
            "power_db": [round(value, 3) for value in self.power],
            "band_low_db": list(self.band.low),
            "band_high_db": list(self.band.high),
            "above": round(self.above, 4),
            "below": round(self.below, 4),
            "usual_outside": self.band.usual,
            "unusual": self.unusual,
            "sentence": self.sentence,
        }


def radial_spectrum(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return power by frequency.

    Args:
        crop: (S, S, 3) uint8 RGB.

    Returns:
        (S // 2,) float64: mean power of the luma (Hann window, mean taken off) at frequencies that round to 1, 2, ...
        S // 2 cycles a crop in any direction, in decibels of the mean power of all of these frequencies; -120 at least.

    Raises:
        UsageError: the crop is not square.
    """
    if crop.ndim != 3 or crop.shape[0] != crop.shape[1] or crop.shape[0] < 4:
        raise UsageError(f"a spectrum needs a square crop, not {crop.shape}")
    cv2 = opencv()
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float64)
    size = luma.shape[0]
    if luma.min() == luma.max():
        return np.full(size // 2, FLOOR)
    window = np.outer(np.hanning(size), np.hanning(size))
    weighted = (luma - (luma * window).sum() / window.sum()) * window
    power = np.abs(np.fft.fft2(weighted)) ** 2
    steps = np.fft.fftfreq(size, 1 / size)
    radius = np.round(np.hypot(*np.meshgrid(steps, steps))).astype(int).ravel()
    within = (radius >= 1) & (radius <= size // 2)
    total = np.bincount(radius[within], power.ravel()[within])[1:]
    mean = total / np.bincount(radius[within])[1:]
    whole = power.ravel()[within].mean()
    return np.asarray(np.maximum(10 * np.log10(np.maximum(mean / whole, 1e-30)), FLOOR))


def compare(crop: npt.NDArray[np.uint8], band: Band | None = None) -> Spectrum:
    """Hold a crop (160, 160, 3) uint8 RGB, cut by `SPEC`, against a band; the shipped one for None.

    Raises:
        UsageError: the crop has another size.
        ModelError: the shipped band cannot be read.
    """
    if crop.shape[0] != SPEC.size:
        raise UsageError(f"the band is of crops of {SPEC.size} px, not {crop.shape[0]}")
    band = band or read_band()
    power = radial_spectrum(crop)
    above, below = (power > np.array(band.high)).mean(), (power < np.array(band.low)).mean()
    return Spectrum(tuple(power.tolist()), band, float(above), float(below))


@functools.cache
def read_band(path: Path = BAND_FILE) -> Band:
    """Read a band that scripts/build_spectrum.py wrote.

    Raises:
        ModelError: it is missing or not usable.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            raw = json.loads(stream.read(MAX_CHARACTERS))
        if (raw["schema"], raw["size"]) != (BAND_SCHEMA, SPEC.size):
            raise _no_band(path, f"it is of schema {raw['schema']!r} and size {raw['size']!r}")
        low, middle, high = (tuple(float(v) for v in raw[key]) for key in ("low", "middle", "high"))
        after = {str(chain): float(facts["unusual"]) for chain, facts in raw["recompressed"].items()}
        return Band(low, middle, high, float(raw["usual"]), int(raw["photographs"]), after)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise _no_band(path, repr(err)) from err


def _no_band(path: Path, why: str) -> ModelError:
    return ModelError(f"the photographs' band {path} cannot be used ({why}); reinstall faceproof")
