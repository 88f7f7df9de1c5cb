"""How fast near-duplicates are found, how many of the planted ones, and in how much memory.

    python benchmarks/duplicates.py
    python benchmarks/duplicates.py --sizes 1e5 --small 2000      # a few seconds

Hashes are random 64-bit numbers; a tenth of them are copies of others with 0 to 3 bits changed. Recall is the share of
copies that end up in the cluster of their original. Every way runs in a process of its own, so that its peak memory is
its own (the hashes themselves, 8 bytes each, and imports included). "command" is `faceproof duplicates --hashes FILE`,
from a file of hashes on disk to the CSV of clusters. scikit-learn's DBSCAN (brute force, as FIELD.md 1.1 has it),
imagededup and faiss are measured where they are installed; the first two on few hashes only, being quadratic.
Writes duplicates.csv; close other programs first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common import HERE, NO_GOAL, judged, say, write_results

RADIUS = 3
GOAL_SECONDS, GOAL_MEMORY, GOAL_RECALL = 60.0, 23 * 1024, 0.99
Hashes = npt.NDArray[np.uint64]


def planted(count: int, seed: int = 0) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Return (N,) hashes in random order, and (N,) the place of each copy's original, -1 for originals."""
    rng = np.random.default_rng(seed)
    copies = count // 10
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    original = np.full(count, -1)
    original[count - copies :] = rng.integers(0, count - copies, copies)
    hashes[count - copies :] = hashes[original[count - copies :]]
    changed = rng.integers(0, RADIUS + 1, copies)
    for bit in range(RADIUS):
        flip = np.uint64(1) << rng.integers(0, 64, copies).astype(np.uint64)
        hashes[count - copies :] ^= np.where(changed > bit, flip, np.uint64(0))
    order = rng.permutation(count)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    moved = original[order]
    return hashes[order], np.where(moved < 0, -1, place[moved])


def recall_of(labels: npt.NDArray[np.int64], original: npt.NDArray[np.int64]) -> float:
    """Share of copies in the cluster of their original; label 0 is none."""
    copies = np.flatnonzero(original >= 0)
    same = labels[copies] == labels[original[copies]]
    return float((same & (labels[copies] > 0)).mean())


def faceproof_clusters(method: str) -> Callable[[Hashes], npt.NDArray[np.int64]]:
    def run(hashes: Hashes) -> npt.NDArray[np.int64]:
        from faceproof.clusters import cluster

        return cluster(hashes.reshape(-1, 1, 1), RADIUS, method=method).labels

    return run


def sklearn_dbscan(hashes: Hashes) -> npt.NDArray[np.int64]:
    from sklearn.cluster import DBSCAN

    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1).astype(bool)
    found = DBSCAN(eps=(RADIUS + 0.5) / 64, min_samples=2, metric="hamming", algorithm="brute").fit(bits)
    return np.asarray(found.labels_ + 1)


def imagededup(hashes: Hashes) -> npt.NDArray[np.int64]:
    from imagededup.methods import PHash

    names = {str(place): f"{int(number):016x}" for place, number in enumerate(hashes)}
    found = PHash(verbose=False).find_duplicates(encoding_map=names, max_distance_threshold=RADIUS)
    return _joined(len(hashes), ((int(one), int(other)) for one, others in found.items() for other in others))


def faiss_multihash(hashes: Hashes) -> npt.NDArray[np.int64]:
    import faiss

    # 4 maps of 16 bits: hashes within 3 bits agree in one of them (pigeonhole), so no key has to be flipped.
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = 0
    data = hashes.astype(">u8").view(np.uint8).reshape(-1, 8)
    index.add(data)
    limits, _, others = index.range_search(data, RADIUS + 1)  # faiss takes distances below the radius
    first = np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64)))
    return _joined(len(hashes), zip(first.tolist(), others.tolist(), strict=True))


def _joined(count: int, pairs: object) -> npt.NDArray[np.int64]:
    """Connected components as labels, 0 where alone."""
    parent = list(range(count))

    def root(of: int) -> int:
        while parent[of] != of:
            parent[of] = parent[parent[of]]
            of = parent[of]
        return of

    for one, other in pairs:  # type: ignore[attr-defined]
        if one != other:
            parent[root(other)] = root(one)
    roots = np.array([root(place) for place in range(count)])
    labels = roots + 1
    labels[np.bincount(roots, minlength=count)[roots] == 1] = 0
    return labels


WAYS: dict[str, Callable[[Hashes], npt.NDArray[np.int64]]] = {
    "faceproof medoid": faceproof_clusters("medoid"),
    "faceproof dbscan": faceproof_clusters("dbscan"),
    "faiss IndexBinaryMultiHash": faiss_multihash,
    "scikit-learn DBSCAN": sklearn_dbscan,
    "imagededup": imagededup,
}
NEEDS = {"faiss IndexBinaryMultiHash": "faiss", "scikit-learn DBSCAN": "sklearn", "imagededup": "imagededup.methods"}
QUADRATIC = ("scikit-learn DBSCAN", "imagededup")
LARGEST_FAISS = 1_000_000


def measure(way: str, count: int) -> dict[str, float]:
    """Run one way here; for a process of its own."""
    hashes, original = planted(count)
    begun = time.perf_counter()
    labels = WAYS[way](hashes)
    seconds = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    same = float("nan")
    if way != "faceproof dbscan" and way != "faceproof medoid":
        theirs, ours = labels, WAYS["faceproof dbscan"](hashes)
        same = float(np.array_equal(_first_places(theirs), _first_places(ours)))
    return {"seconds": seconds, "MiB": memory, "recall": recall_of(labels, original), "same": same}


def _first_places(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each cluster by the place of its first member, so that numbering does not matter; -1 for none."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.where(labels > 0, first[inverse], -1)


def apart(way: str, count: int) -> dict[str, float]:
    """Run `measure` in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, "--sizes", str(count)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def command(count: int) -> dict[str, float]:
    """`faceproof duplicates` from a file of hashes to the CSV."""
    hashes, original = planted(count)
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "hashes.jsonl", Path(folder) / "clusters.csv"
        with file.open("w") as stream:
            for place, number in enumerate(hashes.tolist()):
                stream.write(
                    f'{{"path":"avatars/{place:09d}.jpg","kind":"phash","hashes":["{number:016x}"],"quality":0.9844,'
                    '"flat":false,"error":null,"schema":"faceproof.hash/1"}\n'
                )
        begun = time.perf_counter()
        words = [sys.executable, "-m", "faceproof", "duplicates", "--hashes", str(file), "--out", str(out), "-q"]
        subprocess.run(words, check=True)
        seconds = time.perf_counter() - begun
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        labels = np.zeros(count, np.int64)
        with out.open(encoding="utf-8") as stream:
            next(stream)
            for line in stream:
                label, path, _ = line.split(",", 2)
                labels[int(path[8:17])] = int(label or 0)
    return {"seconds": seconds, "MiB": memory, "recall": recall_of(labels, original), "same": float("nan")}


def rows_of(way: str, count: int, found: dict[str, float]) -> list[dict[str, object]]:
    """Return a row for each figure, with its goal where it has one."""
    base = {"way": way, "hashes": count}
    ours = way in ("faceproof medoid", "command")
    timed = judged(found["seconds"], "<=", GOAL_SECONDS) if ours and count == 1_000_000 else NO_GOAL
    memory = judged(found["MiB"], "<=", GOAL_MEMORY) if ours and count == 10_000_000 else NO_GOAL
    rows: list[dict[str, object]] = [
        {**base, "what": "seconds", "value": f"{found['seconds']:.2f}", **timed},
        {**base, "what": "peak MiB", "value": f"{found['MiB']:.0f}", **memory},
        {**base, "what": "recall at 3 bits", "value": f"{found['recall']:.4f}",
         **(judged(found["recall"], ">=", GOAL_RECALL) if ours else NO_GOAL)},
    ]  # fmt: skip
    if not np.isnan(found["same"]):
        said = "yes" if found["same"] else "no"
        rows.append({**base, "what": "same clusters as --method dbscan", "value": said, **NO_GOAL})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 1e7], help="hashes (1e6 1e7)")
    parser.add_argument("--small", type=float, default=20_000, help="hashes for the quadratic ways (20000)")
    parser.add_argument("--results", type=Path, default=HERE, help="folder the CSV goes to (benchmarks/)")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes]
    if given.one:
        say(json.dumps(measure(given.one, sizes[0])))
        return
    rows: list[dict[str, object]] = []
    for way in WAYS:
        if way in NEEDS and not _there(NEEDS[way]):
            rows.append({"way": way, "hashes": 0, "what": "not installed", "value": "", **NO_GOAL})
            continue
        for count in sorted({int(given.small), *(() if way in QUADRATIC else sizes)}):
            if way.startswith("faiss") and count > LARGEST_FAISS:
                continue  # pairs are joined in Python here: that, not faiss, would be measured
            say(f"{way}, {count:,} hashes")
            rows += rows_of(way, count, apart(way, count))
    for count in sizes:
        say(f"command, {count:,} hashes")
        rows += rows_of("command", count, command(count))
    write_results(given.results / "duplicates.csv", rows)


def _there(module: str) -> bool:
    """Whether a package can be imported, its own needs included (imagededup asks for torch)."""
    if importlib.util.find_spec(module.split(".", maxsplit=1)[0]) is None:
        return False
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    main()
