"""What evidence and stability cost: scans with every piece, and one picture from a fresh and from a warm process.

    python benchmarks/evidence.py

A scan always adds alignment and metadata to the detector; --stability quick and full perturb every face 3 and 10 times.
"warm" is one checker that has seen a picture before, one thread; "cold" is `faceproof check PICTURE`, a fresh process,
with the full certificate, as it is by default. Writes evidence.csv; close other programs first.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import NO_GOAL, arguments, judged, model_words, say, write_results
from faceproof import FaceChecker
from faceproof.scan import Options, default_workers
from pictures import picture_files
from throughput import faceproof_results, rates

GOALS = {"off": ("scan: detector, alignment, metadata", 35.0), "full": ("scan --stability full", 4.0)}


def warm(paths: list[Path], model: str | None) -> list[float]:
    """Milliseconds of each check with the full certificate, the first left out."""
    checker, taken = FaceChecker(model, stability="full"), []
    for path in paths:
        begun = time.perf_counter()
        checker.check(path)
        taken.append(1000 * (time.perf_counter() - begun))
    return taken[1:]


def cold(path: Path, model: str | None, rounds: int) -> list[float]:
    """Seconds of fresh processes, the first left out."""
    taken = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        command = [sys.executable, "-m", "faceproof", "check", str(path), *model_words(model)]
        subprocess.run(command, check=True, capture_output=True, cwd=path.parent)
        taken.append(time.perf_counter() - begun)
    return taken[1:]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=192, help="pictures of a round, after 64 to warm up")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    with picture_files(given.pictures, given.count + 64) as paths:
        files = list(paths)[: given.count + 64]
        found: dict[str, list[float]] = {"off": [], "quick": [], "full": []}
        for turn in range(given.rounds):
            for level, taken in found.items():
                options = Options(model=given.model, stability=level)
                taken.append(rates(faceproof_results(files, options, default_workers()), 64).steady)
                say(f"round {turn + 1} of {given.rounds}: --stability {level}: {taken[-1]:.1f} pictures/s")
        for level, taken in found.items():
            what, goal = GOALS.get(level, (f"scan --stability {level}", None))
            middle = statistics.median(taken)
            rows.append({"what": what, "measure": "pictures/s, steady", "median": f"{middle:.1f}",
                         "rounds": " ".join(f"{v:.1f}" for v in taken),
                         **(judged(middle, ">=", goal) if goal else NO_GOAL)})  # fmt: skip
        milliseconds = warm(files[:60], given.model)
        rows.append({"what": "check, everything, warm", "measure": "ms a picture", "median":
                     f"{statistics.median(milliseconds):.0f}", "rounds": f"up to {max(milliseconds):.0f}",
                     **judged(statistics.median(milliseconds), "<=", 400)})  # fmt: skip
        seconds = cold(files[0], given.model, 7)
        rows.append({"what": "check, everything, cold", "measure": "s", "median": f"{statistics.median(seconds):.2f}",
                     "rounds": " ".join(f"{v:.2f}" for v in seconds),
                     **judged(statistics.median(seconds), "<=", 3)})  # fmt: skip
    write_results(given.results / "evidence.csv", rows)


if __name__ == "__main__":
    main()
