"""Measure a shipped model's one-class detector beside its supervised one, per generator.

    python scripts/measure_anomaly.py --model src/faceproof/weights/NAME --data DATA --split val shift --table FILE.csv

The one-class score is the distance from photographs' embeddings under the model's mixture (`mixture.safetensors`).
Every generator is measured against all photographs of its split. `unseen` is looked at once per decision: name it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from build_fusion import scored
from faceproof.datasets import pool_digest, read_data
from faceproof.detectors.anomaly import read_scorer
from faceproof.detectors.card import read_card
from faceproof.detectors.onnx import OnnxDetector
from faceproof.metrics import auc, bootstrap
from faceproof.tables import provenance, write_table

COLUMNS = ("split", "generator", "score", "auc", "low", "high", "faces")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", nargs="+", default=["val", "shift"])
    parser.add_argument("--table", type=Path, required=True)
    options = parser.parse_args()
    scorer = read_scorer(options.model, read_card(options.model))
    if scorer is None:
        parser.error(f"{options.model} has no mixture; scripts/build_fusion.py puts one there")
    detector = OnnxDetector(options.model, threads=2)
    everything = read_data(options.data, drop_straddling=True)
    rows, used = [], []
    for split in options.split:
        part = scored([s for s in everything if s.split == split], detector, split)
        used += part.samples
        label = np.array([s.label for s in part.samples])
        made = np.array([s.generator if s.label else "" for s in part.samples])
        groups = np.array([s.group for s in part.samples])
        for generator in ("all", *sorted(set(made[label == 1]))):
            take = (label == 0) | ((label == 1) & ((made == generator) | (generator == "all")))
            for name, value in (("supervised", part.score), ("one-class", scorer.score(part.embedding).astype(float))):
                y, s = label[take], value[take]
                low, high = bootstrap(lambda i, y=y, s=s: auc(y[i], s[i]), groups[take], strata=y, rounds=300)
                rows.append([split, generator, name, f"{auc(y, s):.4f}", f"{low:.4f}", f"{high:.4f}", len(y)])
                print(*rows[-1], flush=True)
    write_table(options.table, provenance(pool_digest(used)), COLUMNS, rows)


if __name__ == "__main__":
    main()
