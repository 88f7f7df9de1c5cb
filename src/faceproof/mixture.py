"""A Gaussian mixture on embeddings: how likely is this one among photographs? numpy only.

Fitted with scikit-learn (`anomaly_fitting`), scored here, so that checking pictures needs no scikit-learn.
Embeddings of E numbers are first turned into D whitened principal components. What those leave out, E - D
directions, is taken as one Gaussian with the same variance in each (Tipping and Bishop 1999, probabilistic
PCA), so that the result is a density over the whole embedding and mixtures with different D can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import ModelError, UsageError, unknown_name
from faceproof.tensor_files import read_tensors, tensor_bytes

__all__ = ["KINDS", "Mixture", "Projection"]

Floats = npt.NDArray[np.float64]

KINDS = ("full", "tied", "diag")
"""Covariances: one matrix a component, one matrix for all, one variance a component and dimension."""
BLOCK = 4096
"""Embeddings scored at once: a bound on memory."""
FORMAT = "faceproof.mixture/1"


@dataclass(frozen=True, eq=False)
class Projection:
    """Principal components of embeddings, whitened: z = (x - mean) @ basis / spread.

    Attributes:
        mean: (E,) float64.
        basis: (E, D) float64, orthonormal columns.
        spread: (D,) float64, standard deviation along each column, positive.
        residual: variance of each of the E - D directions left out, positive; 0 where D = E.
    """

    mean: Floats
    basis: Floats
    spread: Floats
    residual: float = 0.0

    def __post_init__(self) -> None:
        whole, kept = self.basis.shape if self.basis.ndim == 2 else (0, 0)
        if self.mean.shape != (whole,) or self.spread.shape != (kept,) or not 1 <= kept <= whole:
            raise ModelError(
                f"a projection needs mean (E,), basis (E, D) and spread (D,), not {self.mean.shape}, "
                f"{self.basis.shape}, {self.spread.shape}"
            )
        numbers = np.concatenate([self.mean, self.basis.ravel(), self.spread, [self.residual]])
        if not np.isfinite(numbers).all() or self.spread.min() <= 0 or (self.residual > 0) != (kept < whole):
            raise ModelError(
                "a projection needs finite numbers, positive spreads, and a positive residual variance where it "
                "leaves directions out"
            )
        if np.abs(self.basis.T @ self.basis - np.eye(kept)).max() > 1e-3:
            raise ModelError("a projection's basis must be orthonormal")

    def apply(self, x: Floats) -> tuple[Floats, Floats]:
        """Return z (N, D), and (N,) the log-density of what z leaves out with the logarithm of its scale."""
        centred = x - self.mean
        along = centred @ self.basis
        beyond = -float(np.log(self.spread).sum())
        left = self.basis.shape[0] - self.basis.shape[1]
        if not left:
            return along / self.spread, np.full(len(x), beyond)
        rest = np.maximum((centred**2).sum(1) - (along**2).sum(1), 0)
        flat = -0.5 * (rest / self.residual + left * math.log(2 * math.pi * self.residual))
        return along / self.spread, flat + beyond


@dataclass(frozen=True, eq=False)
class Mixture:
    """K Gaussians over D dimensions.

    Attributes:
        kind: one of `KINDS`.
        weights: (K,) float64, positive, sum 1.
        means: (K, D) float64.
        precisions: Cholesky factors of the precisions as scikit-learn's `precisions_cholesky_`: (K, D, D) for
            "full", (D, D) for "tied" (upper triangular, positive diagonal), (K, D) positive for "diag".
        projection: what comes first; None: embeddings are taken as they are, E = D.
    """

    kind: str
    weights: Floats
    means: Floats
    precisions: Floats
    projection: Projection | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("covariance", self.kind, list(KINDS))
        if self.means.ndim != 2 or not self.means.size:
            raise ModelError(f"a mixture's means are (K, D), not {self.means.shape}")
        k, d = self.means.shape
        wanted = {"full": (k, d, d), "tied": (d, d), "diag": (k, d)}[self.kind]
        if self.weights.shape != (k,) or self.precisions.shape != wanted:
            raise ModelError(
                f"a {self.kind} mixture of {k} components in {d} dimensions needs precisions {wanted}, not "
                f"{self.precisions.shape}, and {k} weights, not {self.weights.shape}"
            )
        if not all(np.isfinite(a).all() for a in (self.weights, self.means, self.precisions)):
            raise ModelError("a mixture's numbers must be finite")
        if self.weights.min() <= 0 or abs(self.weights.sum() - 1) > 1e-6:
            raise ModelError("a mixture's weights must be positive and sum to 1")
        scales = self.precisions if self.kind == "diag" else np.diagonal(self.precisions, axis1=-2, axis2=-1)
        if scales.min() <= 0:
            raise ModelError("a mixture's precisions must be positive")
        if self.projection is not None and self.projection.basis.shape[1] != d:
            raise ModelError(f"the projection gives {self.projection.basis.shape[1]} dimensions, the mixture has {d}")

    @property
    def width(self) -> int:
        """E: numbers an embedding has."""
        return int(self.means.shape[1] if self.projection is None else self.projection.basis.shape[0])

    def log_likelihood(self, x: npt.ArrayLike) -> Floats:
        """Return the log-density of embeddings in nats: (N, E) -> (N,) float64, higher = more like photographs.

        Raises:
            UsageError: `x` has another shape, or numbers that are not finite.
        """
        embeddings = np.asarray(x, dtype=np.float64)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.width:
            raise UsageError(f"embeddings must be (N, {self.width}), not {embeddings.shape}")
        if not np.isfinite(embeddings).all():
            raise UsageError("embeddings hold numbers that are not finite; the network or its input is broken")
        parts = [self._block(embeddings[i : i + BLOCK]) for i in range(0, len(embeddings), BLOCK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _block(self, x: Floats) -> Floats:
        beyond: Floats | float = 0.0
        if self.projection is not None:
            x, beyond = self.projection.apply(x)
        d = x.shape[1]
        logs = np.empty((len(x), len(self.weights)))
        for k, mean in enumerate(self.means):
            factor = self.precisions if self.kind == "tied" else self.precisions[k]
            if self.kind == "diag":
                turned, scales = (x - mean) * factor, factor
            else:
                turned, scales = (x - mean) @ factor, np.diagonal(factor)
            logs[:, k] = np.log(scales).sum() - 0.5 * (turned**2).sum(1)
        logs += np.log(self.weights) - 0.5 * d * math.log(2 * math.pi)
        top = logs.max(1)
        found: Floats = top + np.log(np.exp(logs - top[:, None]).sum(1)) + beyond
        return found

    def to_bytes(self) -> bytes:
        """Return the mixture as a safetensors file, float32: what the hundredths of a nat need."""
        tensors: dict[str, npt.NDArray[Any]] = {
            "weights": self.weights, "means": self.means, "precisions": self.precisions,
        }  # fmt: skip
        if (first := self.projection) is not None:
            tensors |= {"mean": first.mean, "basis": first.basis, "spread": first.spread}
            tensors["residual"] = np.array([first.residual])
        wide = {"weights", "residual"}  # a handful of numbers, kept whole
        stored = {name: a if name in wide else a.astype(np.float32) for name, a in tensors.items()}
        return tensor_bytes(stored, {"format": FORMAT, "kind": self.kind})

    @classmethod
    def from_bytes(cls, data: bytes) -> Mixture:
        """Read what `to_bytes` wrote.

        Raises:
            ModelError: it is no safetensors file, or not of a mixture.
        """
        tensors, metadata = read_tensors(data)
        if metadata.get("format") != FORMAT:
            raise ModelError(f"not a mixture: its format is {metadata.get('format')!r}, this version reads {FORMAT!r}")
        own, first = {"weights", "means", "precisions"}, {"mean", "basis", "spread", "residual"}
        if tensors.keys() not in (own, own | first):
            raise ModelError(f"not a mixture: it holds {', '.join(sorted(tensors)) or 'nothing'}; get the model again")
        arrays = {name: array.astype(np.float64) for name, array in tensors.items()}
        projection = None
        if "basis" in arrays:
            if arrays["residual"].shape != (1,):
                raise ModelError("not a mixture: residual is one number; get the model again")
            projection = Projection(arrays["mean"], arrays["basis"], arrays["spread"], float(arrays["residual"][0]))
        try:
            return cls(
                metadata.get("kind", ""), arrays["weights"], arrays["means"], arrays["precisions"], projection
            )  # fmt: skip
        except UsageError as err:  # an unknown kind: here the file's fault, not the caller's
            raise ModelError(f"not a mixture: {err}") from err
