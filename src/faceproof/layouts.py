"""Embeddings -> places on a plane, and groups of them.

PCA is our own few lines of linear algebra, so that a map needs the base install only. UMAP (McInnes, Healy and
Melville, arXiv 1802.03426) and HDBSCAN (Campello, Moulavi and Sander, 2013) come from umap-learn and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof.errors import MissingExtraError, UsageError, unknown_name
from faceproof.extras import require

__all__ = ["LAYOUTS", "Layout", "Projection", "cluster", "layout", "pca"]

Floats = npt.NDArray[np.float64]

LAYOUTS = ("auto", "pca", "umap")
KEPT = 50
"""Principal components that UMAP and the clustering see: the rest is mostly noise, and costs time."""
NEIGHBOURS = 15
MIN_UMAP = 5
"""With fewer pictures UMAP has no neighbourhoods to keep; PCA is taken."""


@dataclass(frozen=True)
class Projection:
    """What `pca` found.

    Attributes:
        points: (N, K) float64, coordinates along the components; their mean is 0.
        components: (K, E) float64, orthonormal rows; the largest entry by amount of each is positive.
        shares: (K,) float64, each component's share of the variance, 0 to 1, falling.
    """

    points: Floats
    components: Floats
    shares: Floats


@dataclass(frozen=True)
class Layout:
    """Where pictures lie.

    Attributes:
        points: (N, 2) float64, without unit.
        method: "pca" or "umap".
        note: how it was made, one sentence.
    """

    points: Floats
    method: str
    note: str


def pca(embeddings: npt.ArrayLike, components: int = 2) -> Projection:
    """Project on the directions of largest variance (Pearson, 1901).

    The smaller of covariance and Gram matrix is diagonalised, so 10,000 embeddings of 1,280 numbers take a second.

    Args:
        embeddings: (N, E), finite, N and E at least 1.
        components: K, at least 1. Where there are fewer directions the rest of `points` is 0, as are the shares.

    Raises:
        UsageError: another shape, numbers that are not finite, or `components` under 1.
    """
    data = np.array(embeddings, dtype=np.float64)
    if data.ndim != 2 or not data.size or not np.isfinite(data).all():
        raise UsageError(f"embeddings must be (N, E), not empty and finite, not of shape {data.shape}")
    if components < 1:
        raise UsageError(f"components must be at least 1, not {components}")
    size = float(np.abs(data).max())
    data -= data.mean(0)
    if float(np.abs(data).max()) <= 8 * np.finfo(np.float64).eps * size:
        data[:] = 0  # all the same, and what is left is the mean's rounding
    count, width = data.shape
    total = float((data**2).sum())
    small = data @ data.T if count < width else data.T @ data
    values, vectors = np.linalg.eigh(small)
    order = np.argsort(values)[::-1][:components]
    # Below this an eigenvalue is rounding: the data do not reach into that direction.
    order = order[values[order] > max(total, 1e-300) * np.finfo(np.float64).eps * max(count, width)]
    rows = vectors[:, order].T @ data / np.sqrt(values[order])[:, None] if count < width else vectors[:, order].T
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)]) if len(rows) else np.ones(0)
    rows = rows * signs[:, None]
    full = np.zeros((components, width))
    full[: len(rows)] = rows
    shares = np.zeros(components)
    shares[: len(rows)] = values[order] / total if total else 0
    return Projection(data @ full.T, full, shares)


def layout(embeddings: npt.ArrayLike, method: str = "auto", *, seed: int = 0) -> Layout:
    """Lay pictures out on a plane.

    Args:
        embeddings: (N, E), finite, N at least 1.
        method: "pca", "umap" (needs the extra `map`), or "auto": UMAP where it is installed.
        seed: of UMAP. The same embeddings, seed and versions give the same map.

    Raises:
        UsageError: an unknown method, or as `pca`.
        MissingExtraError: "umap" without umap-learn.
    """
    if method not in LAYOUTS:
        raise unknown_name("layout", method, list(LAYOUTS))
    reduced = pca(embeddings, KEPT)
    share = f"PCA: the two axes hold {100 * reduced.shares[:2].sum():.0f} % of the embeddings' variance"
    flat = Layout(reduced.points[:, :2], "pca", share)
    if method == "pca":
        return flat
    make = _umap(required=method == "umap")
    if make is None:
        return Layout(flat.points, "pca", f'{share}; for UMAP: pip install "faceproof[map]"')
    if len(reduced.points) < MIN_UMAP:
        return Layout(flat.points, "pca", f"{share}; UMAP needs {MIN_UMAP} pictures")
    return Layout(
        make(reduced.points, seed),
        "umap",
        "UMAP: near pictures look alike to the network; distances between groups and the axes mean nothing",
    )


def cluster(embeddings: npt.ArrayLike, smallest: int | None = None) -> npt.NDArray[np.int64]:
    """Find dense groups with HDBSCAN in the first principal components.

    Args:
        embeddings: (N, E), finite, N at least 1.
        smallest: pictures a group must have, at least 2; None takes N / 200, within 5 to 50.

    Returns:
        (N,) int64: 1 for the largest group, 2 for the next, ...; 0 for pictures in none.

    Raises:
        UsageError: as `pca`, or `smallest` under 2.
        MissingExtraError: scikit-learn is absent (extra `map`).
    """
    if smallest is not None and smallest < 2:
        raise UsageError(f"a cluster has at least 2 pictures, not {smallest}")
    hdbscan = require("map", "sklearn.cluster").HDBSCAN
    points = pca(embeddings, KEPT).points
    size = smallest or min(50, max(5, len(points) // 200))
    if len(points) < size:
        return np.zeros(len(points), np.int64)
    # Its neighbour search fills a column of distances to min_samples neighbours: never more than there are.
    found = np.asarray(hdbscan(min_cluster_size=size, min_samples=min(5, len(points)), copy=True).fit_predict(points))
    names, counts = np.unique(found[found >= 0], return_counts=True)
    numbers = {int(name): place for place, name in enumerate(names[np.argsort(-counts, kind="stable")], 1)}
    return np.array([numbers.get(int(name), 0) for name in found], np.int64)


def _umap(*, required: bool) -> Callable[[Floats, int], Floats] | None:
    """Return the function that lays out, or None where umap-learn is absent and not required."""
    try:
        umap = require("map", "umap")
    except MissingExtraError:
        if required:
            raise
        return None

    def make(points: Floats, seed: int) -> Floats:
        neighbours = min(NEIGHBOURS, len(points) - 1)
        # The spectral start needs more points than dimensions by some margin; PCA's plane always exists.
        start = points[:, :2] / max(float(np.abs(points[:, :2]).max()), 1e-12) * 10
        reducer = umap.UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
        return np.asarray(reducer.fit_transform(points), dtype=np.float64)

    return make
