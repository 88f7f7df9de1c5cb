"""What a flag is worth at a prevalence, and what prevalence a number of flags speaks for.

Rates and prevalences are shares of 1, intervals are 95 %. *Flagged* means a score at or above a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.metrics import ppv, wilson

__all__ = [
    "Estimate", "Prevalence", "Rate", "Rates", "Stratum", "Worth", "bootstrap_prevalence", "estimate_prevalence",
    "labelled_prevalence", "worth",
]  # fmt: skip

Z = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `value` lies within it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """A share measured on `count` pictures.

    Attributes:
        value: the share.
        count: pictures it rests on.
        low, high: Wilson's score interval. With 0 hits it reaches from 0 to 3.84 / (count + 3.84).
    """

    value: float
    count: int
    low: float
    high: float

    @classmethod
    def measured(cls, value: float, count: int) -> Rate:
        """Return a rate with its interval.

        Args:
            value: the share; where it is no whole number of pictures (the target of an order statistic, an
                extrapolated tail) the interval is that of the next lower whole number.
            count: pictures.

        Raises:
            UsageError: the share is outside 0..1, or there are no pictures.
        """
        if not 0 <= value <= 1 or count < 1:
            raise UsageError(f"a rate lies in 0..1 and rests on at least one picture, got {value} of {count}")
        low, high = wilson(math.floor(value * count + 1e-6), count, z=Z)
        return cls(value, count, low, high)


@dataclass(frozen=True)
class Rates:
    """What a detector does at one threshold.

    Attributes:
        tpr: share of generated faces flagged (sensitivity).
        fpr: share of photographs flagged (1 - specificity).
    """

    tpr: Rate
    fpr: Rate


@dataclass(frozen=True)
class Worth:
    """What to expect of a number of pictures at a prevalence. Intervals: see `worth`.

    Attributes:
        prevalence: share of generated faces that was assumed.
        pictures: how many are judged.
        ppv: share of flags that are right.
        npv: share of the others that are photographs.
        false_alarms, hits, missed: expected numbers of pictures.
        flags_per_1000: expected flags per 1,000 pictures: the reviewers' load.
        flags_per_hit: flags to review for each that is right; infinite where none is.
    """

    prevalence: float
    pictures: int
    ppv: Estimate
    npv: Estimate
    false_alarms: Estimate
    hits: Estimate
    missed: Estimate
    flags_per_1000: Estimate
    flags_per_hit: Estimate


@dataclass(frozen=True)
class Prevalence:
    """Prevalence estimated from a scan (Rogan and Gladen 1978).

    Attributes:
        flagged, judged: pictures.
        value: the estimate, within 0..1.
        raw: before clipping; below 0 where fewer were flagged than false alarms alone would give.
        clipped: whether `value` is not `raw`.
        low, high: interval of Lang and Reiczigel (2014), within 0..1; it counts the uncertainty of both rates.
        delta_low, delta_high: interval by the delta method (Rogan and Gladen 1978, with the variances of both
            rates), within 0..1; too short at low prevalence.
    """

    flagged: int
    judged: int
    value: float
    raw: float
    clipped: bool
    low: float
    high: float
    delta_low: float
    delta_high: float


def worth(rates: Rates, prevalence: float, pictures: int) -> Worth:
    """Return what flags are worth.

    Every interval takes both rates at their worse and at their better ends together: each figure is monotone in
    both, so coverage is at least that of the two intervals together, and in practice above 95 %. They are about the
    rates, not about the luck of a single scan.

    Args:
        rates: of the detector.
        prevalence: assumed share of generated faces, 0 to 1.
        pictures: how many are judged.

    Raises:
        UsageError: a prevalence outside 0..1, or a negative number of pictures.
    """
    if not 0 <= prevalence <= 1:
        raise UsageError(f"a prevalence is a share between 0 and 1, such as 0.0005, not {prevalence}")
    if pictures < 0:
        raise UsageError(f"the number of pictures cannot be negative: {pictures}")
    t, f, p = rates.tpr, rates.fpr, prevalence
    right = Estimate(ppv(t.value, f.value, p), _or(ppv(t.low, f.high, p), 0.0), _or(ppv(t.high, f.low, p), 1.0))
    cleared = [ppv(1 - false, 1 - true, 1 - p) for true, false in _corners(rates)]
    generated, photographs = p * pictures, (1 - p) * pictures
    return Worth(
        prevalence=p,
        pictures=pictures,
        ppv=right,
        npv=Estimate(_or(cleared[0], 0.0), _or(cleared[1], 0.0), _or(cleared[2], 1.0)),
        false_alarms=_scaled(f, photographs),
        hits=_scaled(t, generated),
        missed=Estimate(generated * (1 - t.value), generated * (1 - t.high), generated * (1 - t.low)),
        flags_per_1000=Estimate(*(1000 * (p * a + (1 - p) * b) for a, b in _ends(rates))),
        flags_per_hit=Estimate(_inverse(right.value), _inverse(right.high), _inverse(right.low)),
    )


def _corners(rates: Rates) -> tuple[tuple[float, float], ...]:
    """(TPR, FPR): as measured, worst, best."""
    t, f = rates.tpr, rates.fpr
    return (t.value, f.value), (t.low, f.high), (t.high, f.low)


def _ends(rates: Rates) -> tuple[tuple[float, float], ...]:
    """(TPR, FPR): as measured, both low, both high."""
    t, f = rates.tpr, rates.fpr
    return (t.value, f.value), (t.low, f.low), (t.high, f.high)


def _scaled(rate: Rate, factor: float) -> Estimate:
    return Estimate(rate.value * factor, rate.low * factor, rate.high * factor)


def _or(value: float, instead: float) -> float:
    """Return a share, or `instead` where nothing is flagged (or cleared) and there is none."""
    return instead if math.isnan(value) else value


def _inverse(share: float) -> float:
    return math.inf if math.isnan(share) or share <= 0 else 1 / share


def estimate_prevalence(flagged: int, judged: int, rates: Rates) -> Prevalence:
    """Estimate the prevalence among judged pictures from how many were flagged.

    (apparent + specificity - 1) / (sensitivity + specificity - 1): Rogan and Gladen, Am. J. Epidemiol. 107 (1978).
    The interval is Lang and Reiczigel's, Prev. Vet. Med. 113 (2014), eqs. 6, 7, 16 and 17: the estimate from counts
    drawn in (z^2/2 flagged of z^2 more pictures, one hit of two more for each rate), moved, and its standard error.
    It was developed for rates of at least one half.

    Args:
        flagged: pictures at or above the threshold.
        judged: pictures in all.
        rates: of the detector at that threshold; measured on other pictures than these.

    Raises:
        UsageError: nothing was judged, impossible counts, or rates that are no better than chance.
    """
    if judged < 1:
        raise UsageError("no picture was judged, so there is no prevalence to estimate; scan pictures with faces")
    if not 0 <= flagged <= judged:
        raise UsageError(f"flagged pictures must be 0..{judged}, not {flagged}")
    se, sp = rates.tpr.value, 1 - rates.fpr.value
    apparent = flagged / judged
    if se + sp <= 1:
        raise UsageError(
            f"sensitivity {se:g} and specificity {sp:g} add up to no more than 1: flags say nothing about these "
            "pictures, so no prevalence can be estimated; use another model or threshold"
        )
    raw = (apparent + sp - 1) / (se + sp - 1)
    delta = Z * _deviation(raw, (apparent, judged), (se, rates.tpr.count), (sp, rates.fpr.count))
    low, high = _lang_reiczigel(flagged, judged, rates)
    return Prevalence(
        flagged, judged, _clip(raw), raw, not 0 <= raw <= 1, low, high, _clip(raw - delta), _clip(raw + delta)
    )


Share = tuple[float, float]
"""A share, and how many pictures it rests on."""


def _deviation(prevalence: float, apparent: Share, se: Share, sp: Share) -> float:
    """Standard deviation of the estimate by the delta method, all three shares being measured."""
    variance = [share * (1 - share) / count for share, count in (apparent, se, sp)]
    total = variance[0] + prevalence**2 * variance[1] + (1 - prevalence) ** 2 * variance[2]
    return math.sqrt(total) / (se[0] + sp[0] - 1)


def _lang_reiczigel(flagged: int, judged: int, rates: Rates) -> tuple[float, float]:
    n, n_se, n_sp = judged + Z * Z, rates.tpr.count + 2, rates.fpr.count + 2
    apparent = (flagged + Z * Z / 2) / n
    se = (rates.tpr.count * rates.tpr.value + 1) / n_se
    sp = (rates.fpr.count * (1 - rates.fpr.value) + 1) / n_sp
    if se + sp <= 1:
        raise UsageError(
            f"the rates rest on too few pictures ({rates.tpr.count} generated, {rates.fpr.count} photographs) to tell "
            "them from chance, so no prevalence can be estimated; evaluate the model on more"
        )
    middle = (apparent + sp - 1) / (se + sp - 1)
    shift = 2 * Z * Z * (middle * se * (1 - se) / n_se - (1 - middle) * sp * (1 - sp) / n_sp)
    half = Z * _deviation(middle, (apparent, n), (se, n_se), (sp, n_sp))
    return _clip(middle + shift - half), _clip(middle + shift + half)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


def bootstrap_prevalence(
    flagged: npt.ArrayLike, groups: npt.ArrayLike, rates: Rates, *, rounds: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the prevalence when groups of pictures, and both rates, are drawn anew.

    Copies of one picture are flagged together, so they are one group: the intervals of `estimate_prevalence`, which
    take pictures as independent, are too short where there are many. The rates are drawn as Binomial(count, value).

    Args:
        flagged: (N,) 0 or 1 of each judged picture.
        groups: (N,) integers, the same for pictures that are copies of each other.
        rates: of the detector.
        rounds, seed: of the draws.

    Raises:
        UsageError: no pictures, or rates that are no better than chance.
    """
    hits = np.asarray(flagged, np.int64)
    if not len(hits):
        raise UsageError("no picture was judged, so there is no prevalence to estimate; scan pictures with faces")
    if rates.tpr.value <= rates.fpr.value:
        raise UsageError("flags of these rates say nothing, so no prevalence can be estimated; use another model")
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    each = np.column_stack([np.bincount(group), np.bincount(group, hits).astype(np.int64)])
    # Groups with as many pictures and flags are alike: drawing how often each sort comes is the same, and fast.
    sorts, often = np.unique(each, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    totals = rng.multinomial(len(each), often / often.sum(), rounds) @ sorts
    tpr, fpr = (rng.binomial(rate.count, rate.value, rounds) / rate.count for rate in (rates.tpr, rates.fpr))
    useful = tpr > fpr
    values = (totals[:, 1] / totals[:, 0] - fpr)[useful] / (tpr - fpr)[useful]
    low, high = np.quantile(np.clip(values, 0, 1), [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Stratum:
    """Accounts of one kind, and what a person said about a random sample of them.

    Attributes:
        name: of the kind. size: accounts of it. labelled: looked at. generated: of them.
    """

    name: str
    size: int
    labelled: int
    generated: int


def labelled_prevalence(strata: Sequence[Stratum]) -> Estimate:
    """Estimate the prevalence from labelled random samples of all strata, with a 95 % interval.

    The shares of the strata are weighted by their sizes; the interval joins their Wilson intervals (MOVER: Zou and
    Donner, Statistics in Medicine 27, 2008), so that none found among 200 does not count as none there.

    Raises:
        UsageError: a stratum with accounts has no label, or impossible counts.
    """
    total = sum(one.size for one in strata)
    if not total:
        raise UsageError("there is no account to estimate a prevalence for")
    value = below = above = 0.0
    for one in strata:
        if not 0 <= one.generated <= one.labelled <= one.size:
            raise UsageError(f"{one.name}: {one.generated} of {one.labelled} labels of {one.size} accounts cannot be")
        if one.size and not one.labelled:
            raise UsageError(f"no account of the stratum {one.name!r} has a label; label a random sample of each")
        if one.size:
            share, weight = one.generated / one.labelled, one.size / total
            low, high = wilson(one.generated, one.labelled)
            value += weight * share
            below += (weight * (share - low)) ** 2
            above += (weight * (high - share)) ** 2
    return Estimate(value, _clip(value - math.sqrt(below)), _clip(value + math.sqrt(above)))
