"""Whether a scan's memory stays flat: peak memory of `faceproof scan` on 1,000 and on 20,000 pictures.

    python benchmarks/scan_memory.py

The real command line runs as a child; its memory and that of all its workers is read every 0.2 s. The
larger folder holds hard links to the smaller one's files under other names, all in one folder. What
counts is PSS: a page shared by n processes counts 1/n in each, so the sum is what the scan holds; USS
leaves shared pages out and RSS counts them once per process. Where the system has no PSS, USS counts.
Writes scan_memory.csv. Needs psutil; Parquet is measured where pyarrow is installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from common import NO_GOAL, arguments, judged, model_words, say, write_results
from pictures import picture_files

GOAL_RATIO = 1.1
"""Flat, as far as it can be told from noise: at most a tenth more for 20 times the pictures."""


@dataclass
class Peak:
    """Highest sums over a process and its children, MiB; pss is 0 where the system does not tell it."""

    pss: float = 0.0
    uss: float = 0.0
    rss: float = 0.0
    seconds: float = 0.0

    def look(self, process: psutil.Process) -> None:
        """Take one sample."""
        pss = uss = rss = 0
        for each in [process, *process.children(recursive=True)]:
            try:
                memory = each.memory_full_info()
            except psutil.Error:  # it has just ended
                continue
            pss, uss, rss = pss + getattr(memory, "pss", 0), uss + memory.uss, rss + memory.rss
        self.pss, self.uss, self.rss = (
            max(old, new / 2**20) for old, new in ((self.pss, pss), (self.uss, uss), (self.rss, rss))
        )

    @property
    def held(self) -> float:
        """What counts: PSS, or USS."""
        return self.pss or self.uss


def link(files: Sequence[Path], folder: Path, count: int) -> None:
    """Fill `folder` with `count` names for `files`: hard links, or symbolic ones on another file system."""
    folder.mkdir()
    for number in range(count):
        source, name = files[number % len(files)], folder / f"picture-{number:07d}.jpg"
        try:
            os.link(source, name)
        except OSError:
            name.symlink_to(source)


def measure(folder: Path, out: Path, model: str | None, every: float, count: int) -> Peak:
    """Scan `folder` and watch."""
    command = [
        sys.executable,
        "-m",
        "faceproof",
        "scan",
        str(folder),
        "--out",
        str(out),
        "--quiet",
        *model_words(model),
    ]
    peak, begun, said = Peak(), time.perf_counter(), time.perf_counter()
    with subprocess.Popen(command, cwd=out.parent, stdin=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak.look(process)
            except psutil.Error:  # it has just ended
                break
            if time.perf_counter() - said > 15:
                said = time.perf_counter()
                say(f"  {said - begun:.0f} s, {_records(out)} of {count} records, peak {peak.held:.0f} MiB")
            time.sleep(every)
    peak.seconds = time.perf_counter() - begun
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return peak


def _records(out: Path) -> int:
    live = out if out.suffix == ".jsonl" else out.with_name(out.name + ".partial.jsonl")
    if not live.exists():
        return 0
    with live.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))


def row(ending: str, pictures: object, peak: Peak, form: str, goal: dict[str, str]) -> dict[str, object]:
    values = {"pss": peak.pss, "uss": peak.uss, "rss_sum": peak.rss}
    shown = {f"peak_{name}_mib": f"{value:{form}}" for name, value in values.items()}
    return {"output": ending, "pictures": pictures, **shown, "seconds": f"{peak.seconds:{form}}", **goal}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--small", type=int, default=1000, help="pictures of the small scan (1000)")
    parser.add_argument("--large", type=int, default=20000, help="pictures of the large scan (20000)")
    parser.add_argument("--every", type=float, default=0.2, metavar="SECONDS", help="between samples (0.2)")
    given = parser.parse_args()
    if not 64 <= given.small < given.large or given.every <= 0:
        # Fewer are checked without workers, and two ways of working would be compared.
        parser.error("--small must be at least 64 and less than --large, --every positive")
    endings = [".jsonl", ".parquet"] if importlib.util.find_spec("pyarrow") else [".jsonl"]
    notes = ["peaks of sums over the scan and its workers, MiB; in rows 'large / small' the ratios of the columns"]
    if len(endings) == 1:
        notes.append("parquet was left out: pyarrow is not installed")
    rows = []
    with picture_files(given.pictures, given.small) as files, tempfile.TemporaryDirectory(dir=files[0].parent) as top:
        sizes = {given.small: Path(top) / "small", given.large: Path(top) / "large"}
        for count, folder in sizes.items():
            link(files, folder, count)
        for ending in endings:
            peaks = []
            for count, folder in sizes.items():
                say(f"{ending}: scanning {count} pictures")
                peaks.append(measure(folder, Path(top) / f"{count}{ending}", given.model, given.every, count))
                rows.append(row(ending, count, peaks[-1], ".1f", NO_GOAL))
            small, large = peaks
            ratio = Peak(*(_ratio(b, a) for a, b in zip(vars(small).values(), vars(large).values(), strict=True)))
            rows.append(row(ending, "large / small", ratio, ".3f", judged(ratio.held, "<=", GOAL_RATIO)))
            each = 1024 * (large.held - small.held) / (given.large - given.small)
            notes.append(f"{ending}: {each:.2f} KiB more at the peak per further picture")
    write_results(given.results / "scan_memory.csv", rows, notes)


def _ratio(large: float, small: float) -> float:
    return large / small if small else 0.0


if __name__ == "__main__":
    main()
