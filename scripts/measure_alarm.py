"""Measure the alarm for unknown generators where one is truly unknown: leave-one-generator-out.

    python scripts/measure_alarm.py --runs LOGO --data DATA --table results/alarm.csv

LOGO is the folder of `faceproof train --leave-out`. In every fold a mixture is fitted to the fold's network's embeddings
of photographs it was trained on, its form chosen by held-out likelihood; limits come from photographs of val. Then
the fold's generator and photographs, which neither has met: among the faces the network calls photographs at its own
threshold, how many of the generated ones raise an alarm (recall), and what share of alarms are generated ones when
both classes are equally frequent (precision). Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from build_anomaly import evenly, of_supervised
from faceproof import RetinaFace
from faceproof.anomaly_fitting import choose_mixture
from faceproof.datasets import Sample, pool_digest, read_data
from faceproof.detectors.crops import cut
from faceproof.images import load
from faceproof.landmarks import find_faces
from faceproof.metrics import auc
from faceproof.tables import provenance, write_table

COLUMNS = ("generator", "fpr", "missed", "alarms_missed", "recall", "photographs", "alarms_photographs", "false_alarms",
           "precision_equal_classes", "auc_among_missed", "form")  # fmt: skip
RATES = (0.01, 0.05, 0.1)


def embedded(network: torch.nn.Module, recipe, samples: list[Sample], points, what: str) -> np.ndarray:
    """Return (N, E) embeddings."""
    shift, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (recipe.mean, recipe.std))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(samples), 64):
            some = samples[start : start + 64]
            crops = np.stack([cut(recipe.crop, load(s.path).pixels, points[s.path]) for s in some])
            images = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255 - shift) / spread
            parts.append(network.embed(images).numpy())
    print(f"{what}: {len(samples)} embedded", flush=True)
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--fit", type=int, default=1500, help="photographs a mixture is fitted to")
    parser.add_argument("--test", type=int, default=500, help="pictures of each class a fold is tested on")
    options = parser.parse_args()

    everything = [s for s in read_data(options.data, drop_straddling=True) if s.split in ("train", "val")]
    cache = options.table.with_suffix(".landmarks.npz")
    kept, found, _ = find_faces(everything, RetinaFace(), cache=cache, skip_unreadable=True)
    points = {sample.path: point for sample, point in zip(kept, found, strict=True)}
    named = {"/".join(s.path.parts[-3:]): s for s in kept}
    with (options.runs / "left-out.csv").open(encoding="utf-8") as file:
        scored = list(csv.DictReader(line for line in file if not line.startswith("#")))
    scored = [row for row in scored if row["judged"] == "1" and row["path"] in named]
    val = [s for s in kept if s.split == "val" and not s.label]

    rows, pooled = [], {rate: [0, 0, 0, 0] for rate in RATES}
    for fold in sorted({row["fold"] for row in scored}, key=int):
        network, recipe = of_supervised(options.runs / f"fold-{fold}")
        known = [named[row["path"]] for row in scored if row["fold"] != fold and row["label"] == "0"]
        fit = evenly(known, options.fit)
        chosen = choose_mixture(
            embedded(network, recipe, fit, points, f"fold {fold}, photographs"), [s.group for s in fit],
            components=[1, 2, 4], kinds=["full", "diag"], dims=[16, 32, 64],
        )  # fmt: skip
        form = f"{chosen.choice.kind}, {chosen.choice.components} components, {chosen.choice.dims} dims"
        limits = -chosen.mixture.log_likelihood(embedded(network, recipe, val, points, f"fold {fold}, val"))
        its = [row for row in scored if row["fold"] == fold]
        quiet = [row for row in its if float(row["score"]) < float(row["threshold"])]
        parts = [evenly([row for row in quiet if row["label"] == label], options.test) for label in "01"]
        unlike = [
            -chosen.mixture.log_likelihood(
                embedded(network, recipe, [named[row["path"]] for row in part], points, f"fold {fold}, left out")
            )
            for part in parts
        ]
        generator = next(row["generator"] for row in its if row["label"] == "1")
        value = auc(np.repeat([0, 1], [len(unlike[0]), len(unlike[1])]), np.concatenate(unlike))
        for rate in RATES:
            limit = np.quantile(limits, 1 - rate, method="higher")
            alarms = [int((part >= limit).sum()) for part in unlike]
            pooled[rate] = [a + b for a, b in zip(pooled[rate], (len(unlike[1]), alarms[1], len(unlike[0]), alarms[0]),
                                                  strict=True)]  # fmt: skip
            rows.append(
                [generator, rate, *figures(len(unlike[1]), alarms[1], len(unlike[0]), alarms[0]), f"{value:.4f}", form]
            )
            print(rows[-1], flush=True)
    rows += [["all", rate, *figures(*counts), "", ""] for rate, counts in pooled.items()]
    write_table(options.table, provenance(pool_digest(val)), COLUMNS, rows)
    for row in rows[-len(RATES) :]:
        print(row)


def figures(missed: int, caught: int, photographs: int, false: int) -> list[object]:
    recall, rate = caught / max(1, missed), false / max(1, photographs)
    precision = recall / (recall + rate) if recall + rate else float("nan")
    return [missed, caught, f"{recall:.4f}", photographs, false, f"{rate:.4f}", f"{precision:.4f}"]


if __name__ == "__main__":
    main()
