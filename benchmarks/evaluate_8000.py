"""How long `faceproof evaluate` takes for 8,000 pictures and one chain, the shipped model, all cores.

    python benchmarks/evaluate_8000.py --data ../shared/data/faces

The pictures are the data set's own, from its first row on and again from the start until there are 8,000.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from common import provenance

ROOT = Path(__file__).resolve().parents[1]
PICTURES = 8000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    with (options.data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(islice(cycle(list(csv.DictReader(stream))), PICTURES))
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.csv"
        fields = ["path", "label", "generator", "source", "split", "group"]
        with manifest.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fields, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                writer.writerow(row | {"path": str((options.data / row["path"]).resolve()), "split": "val"})
        command = [sys.executable, "-m", "faceproof", "evaluate", "lite2-208", "--data", str(manifest), "--out", folder]
        started = time.perf_counter()
        subprocess.run([*command, "--no-plots"], check=True, capture_output=True)
        spent = time.perf_counter() - started
    with (ROOT / "benchmarks" / "evaluate_8000.csv").open("w", newline="", encoding="utf-8") as stream:
        stream.writelines(f"# {line}\n" for line in provenance())
        table = csv.writer(stream)
        table.writerow(["pictures", "chains", "seconds", "pictures_per_s"])
        table.writerow([PICTURES, 1, f"{spent:.1f}", f"{PICTURES / spent:.1f}"])
    print(f"{PICTURES} pictures in {spent:.0f} s")


if __name__ == "__main__":
    main()
