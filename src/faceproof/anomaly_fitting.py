"""Fit the mixture of `faceproof.mixture` to embeddings of photographs, with scikit-learn (extra `train`).

The number of components, the form of their covariance and the number of principal components are those with
the highest likelihood on groups that were held out. Generated pictures play no part in it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from faceproof.errors import ModelError, UsageError
from faceproof.extras import require
from faceproof.mixture import KINDS, Floats, Mixture, Projection

__all__ = ["Choice", "Fitted", "choose_mixture", "fit_mixture", "principal_components"]

LEAST_PHOTOGRAPHS = 50
LEAST_GROUPS = 5
LEAST_IN_COMPONENT = 10
REGULARISATION = 1e-3
"""Added to every variance; embeddings are whitened, so a thousandth of their own."""
ROUNDS = 300


@dataclass(frozen=True)
class Choice:
    """One form of a mixture, and how it did.

    Attributes:
        kind: covariance, one of `mixture.KINDS`.
        components: K.
        dims: D, principal components kept.
        held_out: mean log-likelihood in nats of photographs of groups it was not fitted on; -inf where it collapsed.
        problem: why it cannot be used; "" where it can.
    """

    kind: str
    components: int
    dims: int
    held_out: float = -math.inf
    problem: str = ""


@dataclass(frozen=True)
class Fitted:
    """What was chosen.

    Attributes:
        mixture: fitted to all photographs given.
        choice: its form, with the likelihood that chose it.
        tried: every form looked at, in order.
        centre, spread: median and half the 16-84 % range of -log-likelihood of the held-out photographs:
            what turns it into a score around 0.
    """

    mixture: Mixture
    choice: Choice
    tried: tuple[Choice, ...]
    centre: float
    spread: float


def principal_components(embeddings: npt.ArrayLike, dims: int) -> Projection:
    """Return the projection on the `dims` directions of greatest variance, by singular values.

    Args:
        embeddings: (N, E).
        dims: 1 to min(N - 1, E).

    Raises:
        UsageError: `dims` is out of range.
        ModelError: the embeddings do not spread over so many directions.
    """
    x = np.asarray(embeddings, dtype=np.float64)
    most = min(len(x) - 1, x.shape[1])
    if not 1 <= dims <= most:
        raise UsageError(f"{len(x)} embeddings of {x.shape[1]} numbers have 1 to {most} components, not {dims}")
    mean = x.mean(0)
    values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if values[0] <= 1e-12 * max(1.0, float((mean**2).mean())):
        raise ModelError("all embeddings are the same; the network that gave them has collapsed, train it again")
    if values[dims - 1] <= 1e-9 * values[0]:
        rank = int((values > 1e-9 * values[0]).sum())
        raise ModelError(f"the embeddings spread over {rank} directions only; {dims} cannot be kept, give fewer")
    # Directions that never vary (dead units) would make a hair's breadth there outweigh everything.
    rest = max(float(values[dims:].mean()), 1e-6 * float(values.mean())) if dims < x.shape[1] else 0.0
    return Projection(mean, np.ascontiguousarray(vectors[:, :dims]), np.sqrt(values[:dims]), rest)


def fit_mixture(embeddings: npt.ArrayLike, choice: Choice, *, seed: int = 0) -> Mixture:
    """Fit one mixture.

    Args:
        embeddings: (N, E) of photographs.
        choice: its form.
        seed: of the first guess (k-means).

    Raises:
        ModelError: it collapsed: a component holds too few photographs, or a covariance is singular.
    """
    x = np.asarray(embeddings, dtype=np.float64)
    return _fitted(x, principal_components(x, choice.dims), choice, seed)


def _fitted(x: Floats, projection: Projection, choice: Choice, seed: int) -> Mixture:
    sklearn = require("train", "sklearn.mixture")
    model = sklearn.GaussianMixture(
        choice.components,
        covariance_type=choice.kind,
        reg_covar=REGULARISATION,
        max_iter=ROUNDS,
        random_state=seed,
    )
    z = projection.apply(x)[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged after so many rounds: held-out likelihood judges that
            model.fit(z)
    except ValueError as err:  # scikit-learn's for covariances that are not positive definite, and for N < K
        raise _collapsed(choice, f"scikit-learn says: {' '.join(str(err).split())[:120]}") from err
    smallest = float(model.weights_.min()) * len(x)
    least = LEAST_IN_COMPONENT + (choice.dims if choice.kind == "full" else 0)
    if smallest < least:
        raise _collapsed(choice, f"a component of {choice.components} holds {smallest:.1f} photographs of {len(x)}, "
                                 f"at least {least} are needed")  # fmt: skip
    try:
        return Mixture(choice.kind, model.weights_, model.means_, model.precisions_cholesky_, projection)
    except ModelError as err:
        raise _collapsed(choice, str(err)) from err


def _collapsed(choice: Choice, why: str) -> ModelError:
    return ModelError(
        f"a {choice.kind} mixture of {choice.components} in {choice.dims} dimensions collapsed ({why}); give more "
        "photographs, fewer components or dimensions, or the covariance tied or diag"
    )


def choose_mixture(
    embeddings: npt.ArrayLike,
    groups: Sequence[str],
    *,
    components: Sequence[int] = (1, 2, 4, 8, 12, 16),
    kinds: Sequence[str] = KINDS,
    dims: Sequence[int] = (16, 32, 64, 128),
    held: float = 0.2,
    seed: int = 0,
) -> Fitted:
    """Choose a mixture by the likelihood of held-out groups, and fit it to everything.

    Args:
        embeddings: (N, E) of photographs; not of those that will give the threshold.
        groups: (N,) near-duplicates and pictures of one person share one; groups are held out whole.
        components, kinds, dims: what is tried, in every combination; dims beyond what the data have are left out.
        held: share of the groups held out, 0 to 1.
        seed: of the split and the first guesses.

    Raises:
        UsageError: too few photographs or groups, or numbers that are not finite.
        ModelError: every combination collapsed.
    """
    x = np.asarray(embeddings, dtype=np.float64)
    out = _held_out(x, groups, held, seed)
    inner, outer = x[~out], x[out]
    tried: list[Choice] = []
    fits: list[tuple[Choice, Mixture]] = []
    for choice, projection in _combinations(inner, components, kinds, dims):
        try:
            mixture = _fitted(inner, projection, choice, seed)
        except ModelError as err:
            tried.append(replace(choice, problem=str(err)))
            continue
        tried.append(replace(choice, held_out=float(mixture.log_likelihood(outer).mean())))
        fits.append((tried[-1], mixture))
    if not fits:
        why = tried[0].problem if tried else f"none of the dimensions {tuple(dims)} fits {inner.shape} embeddings"
        raise ModelError(f"no mixture could be fitted; the first of {len(tried)}: {why}")
    problems = []
    for choice, inner_mixture in sorted(fits, key=lambda fit: -fit[0].held_out):
        try:
            mixture = fit_mixture(x, choice, seed=seed)
        except ModelError as err:  # one that stood on a part may still collapse on everything: the next best then
            problems.append(str(err))
            continue
        low, centre, high = np.quantile(-inner_mixture.log_likelihood(outer), [0.16, 0.5, 0.84])
        return Fitted(mixture, choice, tuple(tried), float(centre), float(max((high - low) / 2, 1e-6)))
    raise ModelError(f"every mixture that stood on a part collapsed on all photographs; the best one: {problems[0]}")


def _held_out(x: Floats, groups: Sequence[str], held: float, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) which photographs are held out; whole groups."""
    if len(groups) != len(x):
        raise UsageError(f"{len(groups)} groups for {len(x)} embeddings; each photograph has one")
    if x.ndim != 2 or not np.isfinite(x).all():
        raise UsageError(f"embeddings {x.shape} hold numbers that are not finite; the network or its input is broken")
    if len(x) < LEAST_PHOTOGRAPHS:
        raise UsageError(f"{len(x)} photographs are too few for a mixture; at least {LEAST_PHOTOGRAPHS} are needed")
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < LEAST_GROUPS:
        raise UsageError(f"{len(names)} groups are too few to hold some out; at least {LEAST_GROUPS} are needed")
    count = min(len(names) - 1, max(1, round(held * len(names))))
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return np.asarray(np.isin(member, chosen))


def _combinations(
    x: Floats, components: Sequence[int], kinds: Sequence[str], dims: Sequence[int]
) -> Iterator[tuple[Choice, Projection]]:
    """Yield every combination with its projection, made once for each number of dimensions."""
    for kept in sorted({min(d, x.shape[1]) for d in dims if d < len(x)}):
        try:
            projection = principal_components(x, kept)
        except ModelError:
            if kept == min(dims):
                raise
            return
        for kind in kinds:
            for count in components:
                yield Choice(kind, count, kept), projection
