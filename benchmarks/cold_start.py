"""How long a person waits: `faceproof --help` and the first verdict, each in a fresh process.

    python benchmarks/cold_start.py

Every command runs once to warm up and then 15 times, all commands in turns; goals are held against the
median. `python -c pass` shows what the interpreter alone takes. As root on Linux the page cache is
dropped (whole machine, clean pages only) before each of --cold runs of the first verdict: what the
first call after a reboot takes. --cold 0 leaves that out. Writes cold_start.csv.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import NO_GOAL, arguments, judged, model_words, say, write_results
from pictures import picture_files

GOAL_HELP, GOAL_VERDICT = 0.3, 1.5
DROP = Path("/proc/sys/vm/drop_caches")


def seconds(command: Sequence[str], folder: Path) -> float:
    """Run a command away from the sources and return its wall time in seconds."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    taken = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    if "--json" in command and not json.loads(done.stdout)["verdict"]:
        raise SystemExit(f"{' '.join(command)} gave no verdict: {done.stdout.decode(errors='replace')}")
    return taken


def commands(picture: Path, model: str | None) -> dict[str, list[str]]:
    """Return the commands to time by what they are called in the table."""
    ways = {"python -m faceproof": [sys.executable, "-m", "faceproof"]}
    script = Path(sys.executable).with_name("faceproof.exe" if os.name == "nt" else "faceproof")
    if script.is_file():
        ways["faceproof"] = [str(script)]
    found = {"python -c pass": [sys.executable, "-c", "pass"]}
    for name, way in ways.items():
        found[f"{name} --help"] = [*way, "--help"]
        found[f"{name} check PICTURE --json"] = [*way, "check", str(picture), "--json", *model_words(model)]
    return found


def drop_caches() -> str | None:
    """Empty the page cache; return why it could not be done, or None."""
    try:
        os.sync()
        DROP.write_text("1\n", encoding="ascii")
    except (OSError, AttributeError) as err:
        return f"cold runs were left out: the page cache cannot be dropped ({err}); needs root on Linux"
    return None


def row(name: str, cache: str, times: Sequence[float]) -> dict[str, object]:
    goal = NO_GOAL
    if cache == "warm" and "faceproof" in name:
        goal = judged(statistics.median(times), "<", GOAL_HELP if "--help" in name else GOAL_VERDICT)
    middle, worst = f"{statistics.median(times):.3f}", f"{max(times):.3f}"
    return {"command": name, "cache": cache, "runs": len(times), "median_s": middle, "worst_s": worst, **goal}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=15, help="of each command (15)")
    parser.add_argument("--cold", type=int, default=3, metavar="RUNS", help="with an empty page cache (3)")
    given = parser.parse_args()
    if given.runs < 1 or given.cold < 0:
        parser.error("--runs must be at least 1 and --cold at least 0")
    notes = ["wall time of a fresh process; goals are held against the median of the warm runs"]
    with picture_files(given.pictures, 1) as (picture,):
        todo = commands(picture, given.model)
        times: dict[str, list[float]] = {name: [] for name in todo}
        for number in range(given.runs + 1):
            for name, command in todo.items():
                taken = seconds(command, picture.parent)
                if number:
                    times[name].append(taken)
            say(f"run {number} of {given.runs}" if number else "warm-up done")
        rows = [row(name, "warm", taken) for name, taken in times.items()]
        cold: list[float] = []
        last = list(todo)[-1]
        for _ in range(given.cold):
            if why := drop_caches():
                notes.append(why)
                say(why)
                break
            cold.append(seconds(todo[last], picture.parent))
            say(f"cold: {cold[-1]:.2f} s")
        if cold:
            rows.append(row(last, "page cache dropped", cold))
    write_results(given.results / "cold_start.csv", rows, notes)


if __name__ == "__main__":
    main()
