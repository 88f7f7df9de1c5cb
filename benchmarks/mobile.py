"""What the mobile model costs on one thread, beside the default model: time a picture, peak memory, size on disk.

    python benchmarks/mobile.py

Every model runs in a fresh process of its own. "find" is RetinaFace on a decoded picture, "network" the score of one
aligned crop, one at a time, as a camera or a phone does it; their sum is held against the goal. Medians over all
pictures and rounds; the models take turns. Memory is the process's peak (RSS) after Python, OpenCV, onnxruntime, the
face detector and the network are loaded and all pictures are done; the same without a network is taken off to show
what a model adds. Writes mobile.csv.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import NO_GOAL, arguments, judged, say, write_results
from pictures import picture_files

GOAL_MS, GOAL_MB = 60.0, 5.0
MODELS = ("mobile-208", "lite2-208")
NOTHING = "none"
"""Stands for no model at all: what the rest takes."""


def measure(model: str, files: list[Path]) -> dict[str, float]:
    """In this process: seconds a picture of each stage, and the peak of memory in MiB."""
    from faceproof import RetinaFace
    from faceproof.detectors.crops import cut
    from faceproof.detectors.store import load_detector
    from faceproof.extras import opencv
    from faceproof.images import load

    opencv().setNumThreads(1)
    finder, detector = RetinaFace(threads=1), None if model == NOTHING else load_detector(model, threads=1)
    find: list[float] = []
    score: list[float] = []
    for path in [files[0], *files]:  # the first one warms up
        pixels = load(path).pixels
        begun = time.perf_counter()
        landmarks = finder.detect(pixels)[0].landmarks
        found = time.perf_counter()
        find.append(found - begun)
        if detector is not None:
            crop = cut(detector.card.crop, pixels, landmarks)[None]
            begun = time.perf_counter()
            detector.score(crop)
            score.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "find": statistics.median(find[1:]),
        "network": statistics.median(score[1:]) if score else 0.0,
        "peak": peak / (2**20 if sys.platform == "darwin" else 2**10),
    }


def child(model: str, folder: Path, count: int) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--child", model, "--pictures", str(folder), "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring {model} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def row(model: str, rounds: list[dict[str, float]], base: float) -> dict[str, Any]:
    """Medians of the rounds, held against the goals."""
    from faceproof.detectors.card import read_card
    from faceproof.detectors.store import model_folder

    find, network, peak = (statistics.median(r[key] for r in rounds) for key in ("find", "network", "peak"))
    folder = model_folder(model)
    weights, whole = read_card(folder).raw["bytes"] / 1e6, sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    goal = judged(1e3 * (find + network), "<=", GOAL_MS) if model != MODELS[1] else NO_GOAL
    size = judged(weights, "<=", GOAL_MB) if model != MODELS[1] else NO_GOAL
    return {
        "model": model, "find_ms": f"{1e3 * find:.1f}", "network_ms": f"{1e3 * network:.1f}",
        "together_ms": f"{1e3 * (find + network):.1f}", **goal, "weights_mb": f"{weights:.2f}",
        "goal_mb": size["goal"], "met_mb": size["met"], "folder_mb": f"{whole:.2f}", "peak_mib": f"{peak:.0f}",
        "model_adds_mib": f"{peak - base:.0f}",
    }  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=100, help="pictures a round (100)")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes for each model (5)")
    parser.add_argument("--child", metavar="MODEL", help="measure in this process and print JSON")
    given = parser.parse_args()
    if given.count < 1 or given.rounds < 1:
        parser.error("--count and --rounds must be at least 1")
    with picture_files(given.pictures, given.count) as files:
        if given.child:
            sys.stdout.write(json.dumps(measure(given.child, list(files))))
            return
        models = [given.model or MODELS[0], MODELS[1], NOTHING]
        found: dict[str, list[dict[str, float]]] = {model: [] for model in models}
        for number in range(given.rounds):
            for model in models:
                found[model].append(child(model, Path(files[0]).parent, given.count))
            say(f"round {number + 1} of {given.rounds} done")
    base = statistics.median(r["peak"] for r in found[NOTHING])
    rows = [row(model, found[model], base) for model in models[:2]]
    notes = [f"one thread, one picture at a time, {given.count} pictures, medians of {given.rounds} fresh processes"]
    write_results(
        given.results / "mobile.csv", rows, [*notes, f"without a network the process peaks at {base:.0f} MiB"]
    )


if __name__ == "__main__":
    main()
