"""How long `faceproof explain` takes, how often its maps pass their deletion test, and what the fixed scales leave out.

    python benchmarks/explain.py --data ../shared/data/faces --count 40

Pictures of val, half of each class, sources and generators in turn. "warm" is one checker that has explained a picture
before, with as many threads as cores; "cold" is `faceproof explain PICTURE`, a fresh process. Writes explain.csv. The
shares are for reading the maps, not for choosing anything. Close other programs first.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path

import numpy as np

from common import NO_GOAL, arguments, judged, model_words, say, write_results
from faceproof import FaceChecker
from faceproof.errors import PictureError
from faceproof.explanation import Explanation, explain

GOAL_SECONDS = 5.0


def chosen(data: Path, count: int) -> list[Path]:
    """Pictures of val, classes in turn, and within them sources and generators in turn."""
    kinds: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["split"] == "val":
                kinds[row["label"]][row["generator"] or row["source"]].append(data / row["path"])
    lines = [
        [path for turn in zip_longest(*kind.values()) for path in turn if path is not None] for kind in kinds.values()
    ]
    return [path for turn in zip_longest(*lines) for path in turn if path is not None][:count]


def warm(paths: list[Path], model: str | None) -> tuple[list[float], list[Explanation]]:
    """Seconds of each explanation, the first left out, and what was found."""
    checker, taken, found = FaceChecker(model, threads=os.cpu_count() or 1), [], []
    for path in paths:
        begun = time.perf_counter()
        try:
            found.append(explain(path, checker))
        except PictureError as err:
            say(str(err))
            continue
        taken.append(time.perf_counter() - begun)
    return taken[1:], found


def cold(path: Path, model: str | None, times: int = 3) -> list[float]:
    taken = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            command = [sys.executable, "-m", "faceproof", "explain", str(path), "--out", f"{folder}/why"]
            subprocess.run([*command, *model_words(model)], check=True, capture_output=True)
            taken.append(time.perf_counter() - begun)
    return taken


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of manifest.csv")
    parser.add_argument("--count", type=int, default=40, help="pictures")
    options = parser.parse_args()
    paths = chosen(options.data, options.count)
    seconds, found = warm(paths, options.model)
    start = cold(Path(found[0].result.path), options.model)
    rows = [_row("warm, seconds a picture", seconds), _row("cold, seconds a picture", start)]
    for answer in ("generated", "photograph"):
        own = [one for one in found if one.decided and one.answer == answer]
        for name in dict.fromkeys(one.heat.name for explanation in own for one in explanation.maps):
            maps = [one for explanation in own for one in explanation.maps if one.heat.name == name]
            passed = sum(one.deletion.better for one in maps) / len(maps)
            beyond = np.mean([(np.abs(one.heat.values) > one.heat.scale).mean() for one in maps])
            for what, value in (("pass the deletion test", passed), ("of the map lies beyond the scale", beyond)):
                rows.append(_line(f"{answer}: {name}, share {what}", len(maps), value))
    write_results(options.results / "explain.csv", rows, [f"pictures: {len(found)} of val, {options.data}"])


def _row(what: str, seconds: list[float]) -> dict[str, object]:
    middle = statistics.median(seconds) if seconds else None
    return {**_line(what, len(seconds), middle), **judged(middle, "<", GOAL_SECONDS)}


def _line(what: str, count: int, value: float | None) -> dict[str, object]:
    return {"what": what, "count": count, "median_or_share": "" if value is None else f"{value:.3f}", **NO_GOAL}


if __name__ == "__main__":
    main()
