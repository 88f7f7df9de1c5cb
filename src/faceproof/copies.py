"""Nearly the same texts: MinHash finds candidates (datasketch), their shingles decide.

A text goes to the most frequent text it shares enough shingles with (Jaccard), so that groups do not chain: every
member is near the group's own text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from faceproof.errors import UsageError
from faceproof.extras import require
from faceproof.texts import shingles

__all__ = ["ALIKE", "band_keys", "group_copies", "jaccard"]

ALIKE = 0.7
"""Share of shingles two texts have in common, of all they have, from which on they count as copies."""
BANDS, ROWS = 25, 5
"""A pair at `ALIKE` shares one of 25 bands of 5 hashes with probability 1 - (1 - .7^5)^25 = .99."""


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the shingles two texts share, as a share of all they have; 1 for two without any."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def band_keys(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return what stands for each band of each text's MinHash: (N, `BANDS`) uint64; texts are read lazily.

    Raises:
        MissingExtraError: datasketch is not installed.
    """
    minhash = require("posts", "datasketch").MinHash
    sets = ([shingle.encode("utf-8", "surrogatepass") for shingle in shingles(text)] for text in texts)
    mix = np.random.default_rng(1).integers(1, 2**63, ROWS, dtype=np.uint64) | np.uint64(1)
    found = [
        (signature.hashvalues.astype(np.uint64).reshape(BANDS, ROWS) * mix).sum(axis=1, dtype=np.uint64)
        for signature in minhash.generator(sets, num_perm=BANDS * ROWS, seed=1)
    ]
    return np.array(found, np.uint64).reshape(-1, BANDS)


def group_copies(
    keys: npt.NDArray[np.uint64],
    weights: npt.NDArray[np.int64],
    read: Callable[[Sequence[int]], dict[int, str]],
    *,
    alike: float = ALIKE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.int64]:
    """Return for each text the text it is a copy of, itself where it is one of its own: (N,) int64.

    Args:
        keys: (N, `BANDS`) uint64 from `band_keys`.
        weights: (N,) int64, posts each text stands for; the more, the sooner it is what others are copies of.
        read: gives the texts of some numbers.
        alike: Jaccard index of copies, above 0 to 1.
        progress: called with texts done and in all.

    Raises:
        UsageError: an index outside 0..1.
    """
    if not 0 < alike <= 1:
        raise UsageError(f"copies share a part of their shingles between 0 and 1, not {alike}")
    of = np.arange(len(keys))
    order = np.argsort(keys, axis=0, kind="stable").astype(np.int32)
    ordered = np.take_along_axis(keys, order, axis=0)
    shared = np.zeros(len(keys), bool)
    for band in range(keys.shape[1]):
        same = np.flatnonzero(ordered[1:, band] == ordered[:-1, band])
        shared[order[same, band]] = shared[order[same + 1, band]] = True
    free = shared.copy()
    leaders = np.flatnonzero(shared)
    leaders = leaders[np.argsort(-weights[leaders], kind="stable")]
    for done, leader in enumerate(leaders):
        if not free[leader]:
            continue
        free[leader] = False
        near = _sharing(keys[leader], ordered, order)
        near = near[free[near]]
        texts = read([int(leader), *map(int, near)]) if len(near) else {}
        if texts:
            own = shingles(texts[int(leader)])
            taken = [int(other) for other in near if jaccard(own, shingles(texts[int(other)])) >= alike]
            of[taken], free[taken] = leader, False
        progress(done + 1, len(leaders))
    return of


def _sharing(
    keys: npt.NDArray[np.uint64], ordered: npt.NDArray[np.uint64], order: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Numbers of the texts that share a band."""
    found = []
    for band, key in enumerate(keys):
        first, end = np.searchsorted(ordered[:, band], [key, key + np.uint64(1)])
        if key == np.iinfo(np.uint64).max:
            end = len(ordered)
        if end - first > 1:
            found.append(order[first:end, band])
    return np.unique(np.concatenate(found)).astype(np.int64) if found else np.zeros(0, np.int64)
