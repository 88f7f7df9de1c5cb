"""What an engine costs against the plain scan, what it survives, and Ray beside Daft.

    python benchmarks/engines.py --rounds 3

Whole commands as real processes, start included, in turns over the same files: `scan` into one Parquet file, `scan
--engine local`, `scan --engine ray` on a cluster of this machine that lives as long as the run, and the same checker in
a Daft UDF with as many processes. A small set of pictures is repeated under other names (hard links) to reach --count.
Ratios are those of the medians of this one run.

Then, at --kill-count pictures: a worker gets kill -9 in the middle (does the run end with every picture once?), and the
whole run gets kill -9 in the middle and is run again (how many pictures does it have to check again?).

Writes engines.csv. Ray and Daft are measured where they are installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from common import NO_GOAL, arguments, judged, model_words, say, write_results
from pictures import picture_files
from scan_memory import Peak, link

GOAL = 1.15
"""Ray at --count pictures against the plain scan."""
ENGINES = ("plain", "local", "ray", "daft")


def words(engine: str, folder: Path, out: Path, model: str | None, workers: int, unit: int) -> list[str]:
    """The command line of one run."""
    if engine == "daft":
        return [sys.executable, __file__, "--daft", str(folder), str(out), str(workers), str(unit), model or ""]
    how = {
        "plain": [],
        "local": ["--engine", "local", "--unit", str(unit)],
        "ray": ["--engine", "ray", "--cluster", "local", "--unit", str(unit)],
    }[engine]
    scan = [sys.executable, "-m", "faceproof", "scan", str(folder), "--out", str(out), "-q", "--workers", str(workers)]
    return [*scan, *how, *model_words(model)]


def run(command: Sequence[str], out: Path) -> Peak:
    """Run to the end and watch the memory."""
    peak, begun = Peak(), time.perf_counter()
    with (out.parent / "said.txt").open("wb") as said:
        child = subprocess.Popen(command, cwd=out.parent, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak.look(process)
                child.wait(2.0)
            except (psutil.Error, subprocess.TimeoutExpired):
                continue
    peak.seconds = time.perf_counter() - begun
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}: {(out.parent / 'said.txt').read_text()}")
    return peak


def paths_in(out: Path) -> Counter[str]:
    """Paths in all results that are there, and how often each."""
    import pyarrow.parquet

    if out.is_file():
        files, journal = [out], []
    else:
        files = sorted(out.glob("*.parquet"))
        journal = [out.with_name(out.name + ".partial.jsonl")]
    found = Counter[str]()
    for file in files:
        found.update(pyarrow.parquet.read_table(file, columns=["path"])["path"].to_pylist())
    for file in journal:
        if file.exists():
            found.update(
                json.loads(line)["path"] for line in file.read_bytes().splitlines(True) if line.endswith(b"\n")
            )
    return found


def workers_of(process: psutil.Process, engine: str) -> list[psutil.Process]:
    """The processes that check pictures: those with a model in their memory, besides the one that was started."""
    found = []
    for each in process.children(recursive=True):
        try:
            name = " ".join(each.cmdline())
            if (engine == "ray") == ("ray::_Actor" in name) and each.memory_info().rss > 150 * 2**20:
                found.append(each)
        except psutil.Error:
            continue
    return found


def killed(engine: str, what: str, command: Sequence[str], out: Path, seconds: float) -> dict[str, object]:
    """Start, wait until about the middle, kill a worker or everything; say what became of it."""
    with (out.parent / "said.txt").open("wb") as said:
        child = subprocess.Popen(
            command, cwd=out.parent, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        process = psutil.Process(child.pid)
        time.sleep(seconds)
        everything = process.children(recursive=True)
        if what == "worker":
            while not (workers := workers_of(process, engine) if child.poll() is None else []):
                if child.poll() is not None:
                    raise SystemExit(f"{engine} was over before a worker could be killed; take more --kill-count")
                time.sleep(1)
            workers[0].kill()
            code = child.wait(600)
            found = paths_in(out)
            return {
                "engine": engine, "measure": "a worker killed: exit code; pictures with a record; with two",
                "value": f"{code}; {len(found)}; {sum(n > 1 for n in found.values())}",
            }  # fmt: skip
        for each in [process, *everything]:
            try:
                each.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue
        child.wait(60)
    held = len(paths_in(out))
    if engine != "daft":
        run(command, out)
    found = paths_in(out)
    kept = f"{held}; {len(found)}; {sum(n > 1 for n in found.values())}"
    return {"engine": engine, "measure": "all killed: records held; after another run; with two", "value": kept}


def daft_child(folder: str, out: str, workers: str, unit: str, model: str) -> None:
    """The same checker in a Daft UDF: paths to records of the same columns."""
    import daft

    from faceproof.reports import to_json
    from faceproof.scan import Options

    class Check:
        def __init__(self) -> None:
            self.checker = Options(model or None).checker()

        def __call__(self, path: Any) -> list[str]:
            return [to_json(result.to_dict()) for result in self.checker.check_many(path.to_pylist())]

    udf = daft.udf(
        return_dtype=daft.DataType.string(), batch_size=16, concurrency=int(workers), use_process=True
    )(Check)  # fmt: skip
    paths = sorted(str(each) for each in Path(folder).iterdir())
    frame = daft.from_pydict({"path": paths}).into_partitions(max(1, len(paths) // int(unit)))
    frame.with_column("record", udf(daft.col("path"))).write_parquet(out)


def installed(engines: Sequence[str]) -> list[str]:
    """Engines that can be measured here."""
    return [each for each in engines if each in ("plain", "local") or importlib.util.find_spec(each) is not None]


def main() -> None:
    if sys.argv[1:2] == ["--daft"]:
        daft_child(*sys.argv[2:])
        return
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=20000, help="pictures (20000)")
    parser.add_argument("--different", type=int, default=512, help="of them different (512)")
    parser.add_argument("--kill-count", type=int, default=2000, help="pictures of the runs with kills (2000; 0: none)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of each engine (all cores)")
    parser.add_argument("--unit", type=int, default=500, help="pictures of a unit (500)")
    parser.add_argument("--rounds", type=int, default=1, help="of all engines in turns (1)")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    given = parser.parse_args()
    engines = installed(given.engines)
    with (
        picture_files(given.pictures, given.different) as files,
        tempfile.TemporaryDirectory(dir=files[0].parent) as top,
    ):
        rows = costs(given, engines, files, Path(top))
        if given.kill_count:
            rows += kills(given, engines, files, Path(top), rows)
    notes = [
        f"{given.count} pictures ({given.different} different), {given.workers} workers, units of {given.unit}; "
        f"kills at {given.kill_count} pictures; whole commands, start included; peak: PSS of all processes, MiB",
        *(f"{name} was left out: not installed" for name in given.engines if name not in engines),
    ]
    write_results(given.results / "engines.csv", [{**NO_GOAL, **row} for row in rows], notes)


def costs(given: Any, engines: Sequence[str], files: Sequence[Path], top: Path) -> list[dict[str, object]]:
    """Seconds, ratios to the plain scan, memory, bytes of the results."""
    folder = top / "pictures"
    link(files, folder, given.count)
    peaks: dict[str, list[Peak]] = {engine: [] for engine in engines}
    size = sum(file.stat().st_size for file in files) / len(files)
    rows: list[dict[str, object]] = [{"engine": "pictures", "measure": "bytes/picture", "value": f"{size:.0f}"}]
    for number in range(given.rounds):
        for engine in engines:
            out = top / f"{engine}-{number}.parquet"
            peaks[engine].append(run(words(engine, folder, out, given.model, given.workers, given.unit), out))
            say(f"{engine}: {peaks[engine][-1].seconds:.1f} s")
            if set(paths_in(out).values()) != {1} or len(paths_in(out)) != given.count:
                raise SystemExit(f"{engine} has not every picture once")
    medians = {engine: statistics.median(peak.seconds for peak in found) for engine, found in peaks.items()}
    for engine in engines:
        seconds = medians[engine]
        parts = list((top / f"{engine}-0.parquet").glob("*")) or [top / f"{engine}-0.parquet"]
        written = sum(part.stat().st_size for part in parts)
        ratio = seconds / medians["plain"] if "plain" in medians else None
        goal = judged(ratio, "<=", GOAL) if engine == "ray" else NO_GOAL
        every = " ".join(f"{peak.seconds:.1f}" for peak in peaks[engine])
        rows += [
            {"engine": engine, "measure": f"seconds (each: {every})", "value": f"{seconds:.1f}"},
            {"engine": engine, "measure": "pictures/s", "value": f"{given.count / seconds:.1f}"},
            {"engine": engine, "measure": "peak MiB", "value": f"{max(peak.held for peak in peaks[engine]):.0f}"},
            {"engine": engine, "measure": "bytes/record", "value": f"{written / given.count:.0f}"},
        ]
        if ratio is not None and engine != "plain":
            rows.append({"engine": engine, "measure": "seconds / plain's", "value": f"{ratio:.3f}", **goal})
    return rows


def kills(
    given: Any, engines: Sequence[str], files: Sequence[Path], top: Path, before: Sequence[dict[str, object]]
) -> list[dict[str, object]]:
    """What each engine survives."""
    folder = top / "fewer"
    link(files, folder, given.kill_count)
    rows = []
    for engine in engines:
        rate = next(float(str(r["value"])) for r in before if (r["engine"], r["measure"]) == (engine, "pictures/s"))
        for what in ("worker", "everything"):
            say(f"{engine}: killing {what}")
            out = top / f"{engine}-{what}.parquet"
            command = words(engine, folder, out, given.model, given.workers, max(1, given.unit // 10))
            rows.append(killed(engine, what, command, out, 6 + 0.4 * given.kill_count / rate))
    return rows


if __name__ == "__main__":
    main()
