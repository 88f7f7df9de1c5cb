"""What the conformal limits promise and what came of it: from a table of scores and the model's card.

    python scripts/measure_coverage.py --scores results/lite2-208/scores.csv --out results/lite2-208/coverage.csv

Photographs by source and generated faces by generator, on every split of the table, unperturbed, faces fit to be judged.
The calibration faces are in the card; figures on `val` are of faces among them, those on `unseen` are not.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from faceproof.conformal import coverage
from faceproof.detectors.card import read_card
from faceproof.detectors.store import model_folder
from faceproof.tables import provenance, write_table

RATES = ((0.01, 0.2), (0.01, 0.1), (0.01, 0.05), (0.05, 0.2), (0.05, 0.1))
COLUMNS = ("split", "label", "subset", "error_rate", "promised", "measured", "low", "high", "decided", "faces")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model")
    options = parser.parse_args()
    card = read_card(model_folder(options.model))
    if card.conformal is None:
        raise SystemExit(f"{card.name} has no conformal scores; calibrate it with `faceproof calibrate`")
    faces: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    with options.scores.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(line for line in stream if not line.startswith("#")):
            if row["contender"] == card.name and row["chain"] == "none" and row["judged"] in ("1", "True"):
                label = int(row["label"] in ("1", "generated"))
                for subset in ("all", row["generator"] if label else row["source"]):
                    faces[row["split"], label, subset].append(float(row["score"]))
    rows = []
    for (split, label, subset), scores in sorted(faces.items()):
        for fpr, alpha in RATES:
            found = coverage(card.conformal, label, scores, fpr=fpr, alpha=alpha)
            rows.append([split, "generated" if label else "photograph", subset, f"fpr {fpr:g}, alpha {alpha:g}",
                         f"{found.promised:.3f}", f"{found.measured:.4f}", f"{found.low:.4f}", f"{found.high:.4f}",
                         f"{found.decided:.4f}", found.count])  # fmt: skip
            if subset == "all":
                print(f"{split:7} {rows[-1][1]:10} {rows[-1][3]:22} promised {found.promised:.2f}, measured {found.measured:.3f} "
                      f"({found.low:.3f} to {found.high:.3f}), decided {found.decided:.3f}")  # fmt: skip
    write_table(options.out, provenance(card.identity), COLUMNS, rows)


if __name__ == "__main__":
    main()
