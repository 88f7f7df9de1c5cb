"""Make the band of photographs' spectra that `faceproof explain` shows, and count what saving again does to it.

    python scripts/build_spectrum.py --data ../shared/data/faces

Photographs of the training split, evenly over the sources, one a group; crops of faceproof.explain.spectrum.SPEC.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from faceproof.chains import parse_chain
from faceproof.detectors.crops import cut
from faceproof.explain.spectrum import BAND_FILE, BAND_SCHEMA, SPEC, radial_spectrum
from faceproof.images import load
from faceproof.perturb import View

CHAINS = ("jpeg:90", "jpeg:70", "jpeg:50", "scale:0.5", "blur:0.8", "noise:2")
QUANTILES = (0.05, 0.5, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, type=Path, help="folder of manifest.csv")
    parser.add_argument("--count", default=300, type=int, help="photographs")
    parser.add_argument("--out", default=BAND_FILE, type=Path)
    options = parser.parse_args()
    rows = chosen(options.data / "manifest.csv", options.count)
    views = [View(load(options.data / row["path"]).pixels, landmarks(row)) for row in rows]
    power = spectra(views)
    low, middle, high = np.round(np.quantile(power, QUANTILES, axis=0), 2)
    usual = float(np.round(np.quantile(outside(power, low, high), 0.95), 4))
    top = power.shape[1] * 3 // 4
    recompressed = {}
    for chain in CHAINS:
        step = parse_chain(chain)
        after = spectra([step(view, np.random.default_rng(n)) for n, view in enumerate(views)])
        recompressed[chain] = {
            "unusual": round(float((outside(after, low, high) > usual).mean()), 3),
            "top_quarter_db": round(float((after - power)[:, top:].mean()), 2),
        }
        print(chain, recompressed[chain])
    found = {
        "schema": BAND_SCHEMA, "size": SPEC.size, "photographs": len(rows), "quantiles": QUANTILES, "usual": usual,
        "sources": dict(sorted(Counter(row["source"] for row in rows).items())),
        "recompressed": recompressed, "command": shlex.join(["python", *sys.argv]),
        "low": low.tolist(), "middle": middle.tolist(), "high": high.tolist(),
    }  # fmt: skip
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    options.out.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    print(f"{options.out}: {len(rows)} photographs, usual outside {usual:.3f}")


def chosen(manifest: Path, count: int) -> list[dict[str, str]]:
    """Photographs of train, sources in turn, one a group."""
    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if (r["label"], r["split"]) == ("photograph", "train")]
    straddling = defaultdict(set)
    with manifest.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            straddling[row["group"]].add(row["split"])
    by_source: dict[str, list[dict[str, str]]] = defaultdict(list)
    groups = set()
    for row in rows:
        if row["group"] not in groups and len(straddling[row["group"]]) == 1 and row["landmarks"]:
            groups.add(row["group"])
            by_source[row["source"]].append(row)
    rng = np.random.default_rng(0)
    queues = [[queue[n] for n in rng.permutation(len(queue))] for _, queue in sorted(by_source.items())]
    found: list[dict[str, str]] = []
    while len(found) < count and any(queues):
        found += [queue.pop() for queue in queues if queue]
    return found[:count]


def landmarks(row: dict[str, str]) -> np.ndarray:
    return np.array([float(v) for v in row["landmarks"].replace(",", " ").split()], np.float32).reshape(5, 2)


def spectra(views: list[View]) -> np.ndarray:
    return np.stack([radial_spectrum(cut(SPEC, view.pixels, view.landmarks)) for view in views])


def outside(power: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return ((power < low) | (power > high)).mean(1)


if __name__ == "__main__":
    main()
