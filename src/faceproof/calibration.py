"""Score -> probability, and thresholds for a chosen false-alarm rate. numpy only.

Three curves (`faceproof.curves`) are fitted here: Platt (1999) with the Newton iteration and target
smoothing of Lin, Lin and Weng (2007); temperature (Guo et al. 2017); isotonic (Zadrozny and Elkan 2002).
In all of them each class has half the weight, so the prior is one half whatever the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from faceproof.curves import MAX_KNOTS, Calibration, Isotonic, Platt, Temperature, sigmoid
from faceproof.detectors.card import OperatingPoint
from faceproof.errors import UsageError, unknown_name
from faceproof.metrics import auc, bootstrap

TAIL = "generalised Pareto tail"

__all__ = [
    "METHODS", "Platt", "class_weights", "cross_fit", "fit_isotonic", "fit_platt", "fit_temperature", "folds_by_group",
    "method_named", "operating_point", "sigmoid",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Fit = Callable[[npt.ArrayLike, npt.ArrayLike], Calibration]


def class_weights(labels: npt.ArrayLike) -> Floats:
    """Return (N,) float64 weights that sum to 1, half of it for each class."""
    y = np.asarray(labels)
    positives = float((y == 1).sum())
    return np.where(y == 1, 0.5 / positives, 0.5 / (len(y) - positives))


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    y = np.asarray(labels, dtype=np.float64)
    s = np.asarray(scores, dtype=np.float64)
    if not (y == 1).any() or not (y == 0).any() or not np.isfinite(s).all():
        raise UsageError("calibration needs finite scores of both classes, labels 0 (photograph) and 1 (generated)")
    found = auc(y, s)
    if found <= 0.5:
        raise UsageError(
            f"scores are not higher for generated faces (AUC {found:.3f}); labels or scores are the wrong way round, "
            "or the model cannot tell these apart"
        )
    return y, s


def _smoothed(y: Floats) -> Floats:
    """Targets drawn in by one imagined picture of each class (Lin, Lin and Weng 2007, section 1)."""
    positives, negatives = float(y.sum()), float(len(y) - y.sum())
    return np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _logistic(x: Floats, target: Floats, weight: Floats) -> Floats:
    """Return the (K,) coefficients of greatest weighted likelihood for (N, K) inputs, by damped Newton steps."""
    beta = np.zeros(x.shape[1])

    def loss(b: Floats) -> float:
        z = x @ b
        return float(np.sum(weight * (np.logaddexp(0, z) - target * z)))

    for _ in range(100):
        p = sigmoid(x @ beta)
        gradient = x.T @ (weight * (p - target))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-12 * np.eye(len(beta))
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-8 and loss(beta - size * step) > loss(beta) - 1e-4 * size * float(gradient @ step):
            size /= 2
        beta = beta - size * step
        if np.abs(gradient).max() < 1e-10:
            break
    return beta


def fit_platt(labels: npt.ArrayLike, scores: npt.ArrayLike, *, smooth: bool = True) -> Platt:
    """Fit by weighted maximum likelihood, each class with half the weight: the prior is one half.

    Args:
        labels: (N,) 1 = generated, 0 = photograph.
        scores: (N,) raw scores.
        smooth: draw the targets in, so that separated classes give finite numbers.

    Raises:
        UsageError: one class is missing, scores are not finite, or they run the wrong way.
    """
    y, s = _checked(labels, scores)
    centre, spread = s.mean(), max(s.std(), 1e-9)
    x = np.stack([(s - centre) / spread, np.ones_like(s)], 1)
    beta = _logistic(x, _smoothed(y) if smooth else y, class_weights(y))
    slope = float(beta[0] / spread)
    if slope <= 0:
        raise UsageError("scores are not higher for generated faces; labels or scores are the wrong way round")
    return Platt(slope, float(beta[1] - slope * centre))


def fit_temperature(labels: npt.ArrayLike, scores: npt.ArrayLike, *, smooth: bool = True) -> Temperature:
    """Fit the temperature of greatest likelihood; arguments and errors as for `fit_platt`.

    The score's zero stays where it is: right for a network trained on as many of each class, and one
    number less to learn from few pictures.
    """
    y, s = _checked(labels, scores)
    spread = max(float(np.abs(s).max()), 1e-9)
    beta = _logistic((s / spread)[:, None], _smoothed(y) if smooth else y, class_weights(y))
    coldness = float(beta[0]) / spread
    if coldness <= 0:
        raise UsageError(
            "no temperature fits: the mean score of generated faces is not above that of photographs; "
            "labels or scores are the wrong way round, or take --method platt or isotonic"
        )
    return Temperature(min(max(1 / coldness, 1e-6), 1e6))


def pool_adjacent(values: npt.ArrayLike, weights: npt.ArrayLike) -> Ints:
    """Return (B + 1,) int64 borders of the blocks of the rising step function nearest to `values`.

    Pool-adjacent-violators (Ayer et al. 1955; Barlow et al. 1972): each block takes its weighted mean.

    Args:
        values: (N,) in the order of the scores.
        weights: (N,) positive.
    """
    blocks: list[tuple[float, float, int]] = []  # weighted sum, weight, end
    for end, (value, weight) in enumerate(
        zip(np.asarray(values, dtype=np.float64).tolist(), np.asarray(weights, dtype=np.float64).tolist(), strict=True),
        1,
    ):
        total, mass = value * weight, weight
        while blocks and blocks[-1][0] * mass >= total * blocks[-1][1]:
            total, mass = total + blocks[-1][0], mass + blocks[-1][1]
            blocks.pop()
        blocks.append((total, mass, end))
    return np.array([0, *(end for _, _, end in blocks)], dtype=np.int64)


def fit_isotonic(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Isotonic:
    """Fit a rising curve without a form: straight lines between the centres of pooled blocks.

    One more photograph is imagined at the highest score, and one more generated face at the lowest
    (Laplace's rule in both tails), so the ends stay finite and claim no more than the counts bear.
    Arguments and errors as for `fit_platt`; N of tens of pictures gives a coarse curve.
    """
    y, s = _checked(labels, scores)
    s, y = np.append(s, [s.max(), s.min()]), np.append(y, [0.0, 1.0])
    weight = class_weights(y)
    order = np.argsort(s, kind="stable")
    knots, first = np.unique(s[order], return_index=True)
    mass = np.add.reduceat(weight[order], first)
    generated = np.add.reduceat((weight * y)[order], first)
    borders = _thinned(pool_adjacent(generated / mass, mass), mass)[:-1]
    centre = np.add.reduceat(mass * knots, borders) / np.add.reduceat(mass, borders)
    share = np.add.reduceat(generated, borders) / np.add.reduceat(mass, borders)
    values = np.maximum.accumulate(np.log(share) - np.log1p(-share))
    return Isotonic(tuple(centre.tolist()), tuple(values.tolist()))


def _thinned(borders: Ints, mass: Floats) -> Ints:
    """Join neighbouring blocks of little weight until a card can hold them; joined means still rise."""
    if len(borders) - 1 <= MAX_KNOTS:
        return borders
    reached = np.append(0, np.cumsum(mass))[borders]
    wanted = np.linspace(0, reached[-1], MAX_KNOTS + 1)[1:-1]
    return np.unique(np.concatenate([borders[[0, -1]], borders[np.searchsorted(reached, wanted)]]))


METHODS: dict[str, Fit] = {"platt": fit_platt, "temperature": fit_temperature, "isotonic": fit_isotonic}
"""Names as the command line takes them. Where two do equally well the first one is taken."""


def method_named(name: str) -> Fit:
    """Return the fit of a method.

    Raises:
        UsageError: unknown name; the known ones and the nearest are listed.
    """
    if name.lower() not in METHODS:
        raise unknown_name("calibration method", name, [*METHODS, "auto"])
    return METHODS[name.lower()]


def folds_by_group(labels: npt.ArrayLike, groups: npt.ArrayLike, *, folds: int = 5, seed: int = 0) -> Ints:
    """Return (N,) int64 fold of each element, 0 to folds - 1: a group lies in one, and each has both classes.

    Args:
        labels: (N,) 1 = generated, 0 = photograph.
        groups: (N,) group names.
        folds: how many.
        seed: of the shuffle.

    Raises:
        UsageError: a class has fewer groups than folds.
    """
    y = np.asarray(labels)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    generated = np.bincount(member, y) * 2 >= np.bincount(member)  # a group of both classes counts by its majority
    rng, fold = np.random.default_rng(seed), np.zeros(len(names), np.int64)
    for inside, word in ((~generated, "photographs"), (generated, "generated pictures")):
        places = rng.permutation(np.flatnonzero(inside))
        if len(places) < folds:
            raise UsageError(
                f"{len(places)} group(s) of {word} are too few: what a calibration is worth shows on groups it was not "
                f"fitted on, and that takes at least {folds}; add {word}, or check the group column"
            )
        fold[places] = np.arange(len(places)) % folds
    return fold[member]


def cross_fit(labels: npt.ArrayLike, scores: npt.ArrayLike, fold: Ints, fit: Fit) -> Floats:
    """Return (N,) float64 probabilities, each from a curve fitted on the other folds.

    Args:
        labels, scores: (N,) as for `fit_platt`.
        fold: (N,) from `folds_by_group`.
        fit: one of `METHODS`.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    held = np.zeros(len(s))
    for number in np.unique(fold):
        inside = fold == number
        held[inside] = fit(y[~inside], s[~inside]).probability(s[inside])
    return held


def threshold_at(scores: npt.ArrayLike, fpr: float) -> tuple[float, str]:
    """Return the threshold that flags a share `fpr` of photographs, and the method.

    With at least two photographs expected above it, the smallest threshold whose share of scores at
    or above it is not more than `fpr` (order statistic). With fewer, a generalised Pareto tail is
    fitted to the highest tenth (Pickands 1975; Coles 2001, section 4.3): an extrapolation.
    """
    s = np.sort(np.asarray(scores, dtype=np.float64))
    count = len(s)
    if count * fpr >= 2:
        allowed = math.floor(count * fpr + 1e-9)
        # Halfway between the lowest flagged score and the highest one that is not.
        return float((s[count - allowed] + s[count - allowed - 1]) / 2), "order statistic"
    start = s[max(0, math.ceil(count * 0.9) - 1)]
    excess = s[s > start] - start
    if len(excess) < 2:
        return float(np.nextafter(s[-1], np.inf)), TAIL
    shape, scale = _pareto(excess)
    depth = len(excess) / count / fpr
    reach = math.log(depth) if abs(shape) < 1e-6 else (depth**shape - 1) / shape
    return float(start + scale * reach), TAIL


def _pareto(excess: Floats) -> tuple[float, float]:
    """Fit shape and scale to ascending excesses by probability-weighted moments (Hosking and Wallis 1987, eq. 8).

    The shape is kept within +-0.5: beyond, the estimate from a few dozen excesses means nothing.
    """
    n = len(excess)
    weights = 1 - (np.arange(1, n + 1) - 0.35) / n
    mean, weighted = float(excess.mean()), float((weights * excess).mean())
    shape = 2 - mean / max(mean - 2 * weighted, 1e-12)
    shape = min(0.5, max(-0.5, shape))
    return shape, mean * (1 - shape)


def operating_point(
    scores: npt.ArrayLike, groups: npt.ArrayLike, fpr: float, *, rounds: int = 2000, seed: int = 0
) -> OperatingPoint:
    """Return the operating point for a false-alarm rate, with its bootstrap interval.

    Args:
        scores: (N,) raw scores of photographs that fitted nothing.
        groups: (N,) their groups, the unit of resampling.
        fpr: wanted share of photographs at or above the threshold, 0 to 1.
        rounds, seed: of the bootstrap.
    """
    s = np.asarray(scores, dtype=np.float64)
    if len(s) < 20:
        raise UsageError(f"{len(s)} photographs are too few for a threshold; at least 20 are needed")
    threshold, method = threshold_at(s, fpr)
    low, high = bootstrap(lambda i: threshold_at(s[i], fpr)[0], groups, rounds=rounds, seed=seed)
    return OperatingPoint(fpr, threshold, min(low, threshold), max(high, threshold), len(s), method)
