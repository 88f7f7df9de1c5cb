"""Print the README's figures from the card and the benchmark files, so that they are copied, not retyped.

python scripts/fill_readme.py            # the sections as Markdown
python scripts/fill_readme.py --check    # exit 1 when the README holds others
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MODEL = "lite2-208"


def rows(path: str) -> list[dict[str, str]]:
    """Return a benchmark's rows; comment lines begin with #."""
    lines = [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def metrics(card: dict[str, Any]) -> str:
    """Return the table of the card's metrics."""
    lines = [
        "| measured on | photographs + generated | AUC | TPR at FPR 1 % | at the frozen 1 % threshold: FPR / TPR | ECE |",
        "|---|---|---|---|---|---|",
    ]
    for split, row in card["metrics"].items():
        low, high = row["auc_interval"]
        lines.append(
            f"| {split} | {row['photographs']} + {row['generated']} | {row['auc']:.3f} ({low:.3f} to {high:.3f}) "
            f"| {row['tpr_at_fpr_1']:.2f} | {row['fpr_at_threshold']:.1%} / {row['tpr_at_threshold']:.2f} | {row['ece']:.3f} |"
        )
    return "\n".join(lines)


def speed() -> str:
    """Return the table of benchmarks with a goal."""
    through = {(r["pipeline"], r["measure"]): r for r in rows("benchmarks/throughput.csv")}
    ours, theirs = (through[name, "pictures/s, steady"]["median"] for name in ("faceproof", "resnet50"))
    ratio = through["faceproof / resnet50", "ratio of steady medians"]["median"]
    stages = {r["stage"].split(" (")[0]: f"{float(r['share']):.0%}" for r in rows("benchmarks/where_time_goes.csv")}
    cold = {(r["command"], r["cache"]): r["median_s"] for r in rows("benchmarks/cold_start.csv")}
    memory = {r["pictures"]: r["peak_pss_mib"] for r in rows("benchmarks/scan_memory.csv") if r["output"] == ".jsonl"}
    where = ", ".join(f"{stage} {share}" for stage, share in stages.items() if stage != "all")
    lines = [
        "| what | measured | goal | command |",
        "|---|---|---|---|",
        f"| 288-400 px JPEG in, verdict out | {float(ours):.0f} pictures/s | 60 | `python benchmarks/throughput.py` |",
        f"| against a ResNet-50 pipeline in torch, same run ({float(theirs):.0f} pictures/s) | {float(ratio):.1f} x | 6 x | same |",
        f"| where the time goes | {where} | | same |",
        f"| `faceproof --help` | {float(cold['faceproof --help', 'warm']):.2f} s | 0.3 s | `python benchmarks/cold_start.py` |",
        f"| first verdict, fresh process | {float(cold['faceproof check PICTURE --json', 'warm']):.2f} s | 1.5 s | same |",
        f"| peak memory of a scan, 1,000 / 20,000 pictures | {float(memory['1000']):.0f} / {float(memory['20000']):.0f} MiB "
        "| flat | `python benchmarks/scan_memory.py` |",
        *more_speed(),
    ]
    return "\n".join(lines)


def more_speed() -> list[str]:
    """Return the rows of speed beyond a plain scan."""
    evidence = {(r["what"], r["measure"]): r["median"] for r in rows("benchmarks/evidence.csv")}
    video = {(r["what"], r["measure"]): r["value"] for r in rows("benchmarks/video.csv")}
    copies = {(r["way"], r["hashes"], r["what"]): r["value"] for r in rows("benchmarks/duplicates.csv")}
    explain = {r["what"]: r["median_or_share"] for r in rows("benchmarks/explain.csv")}
    pictures = {r["what"]: r["value"] for r in rows("benchmarks/map.csv")}
    full = evidence["scan --stability full", "pictures/s, steady"]
    delay = video["live 640x480", "ms to the verdict, 95th percentile"]
    return [
        f"| `scan --stability full` | {full} pictures/s | 4 | `python benchmarks/evidence.py` |",
        f"| `check` with everything, warm / fresh process | {evidence['check, everything, warm', 'ms a picture']} ms "
        f"/ {evidence['check, everything, cold', 's']} s | 400 ms / 3 s | same |",
        f"| `explain`, warm / fresh process | {float(explain['warm, seconds a picture']):.1f} "
        f"/ {float(explain['cold, seconds a picture']):.1f} s | 5 s | `python benchmarks/explain.py` |",
        f"| 1080p video, two frames a second checked | {video['video 1080p', 's of film per s']} x real time | 4 x "
        "| `python benchmarks/video.py` |",
        f"| live, 640 x 480, one face | {float(video['live 640x480', 'frames/s']):.0f} frames/s, 95 % within {delay} ms "
        "| 15, 150 ms | same |",
        f"| `map` of 5,000 pictures, PCA / UMAP | {float(pictures['map of 5000 pictures, PCA']):.0f} "
        f"/ {float(pictures['map with UMAP, added up']):.0f} s | 180 s | `python benchmarks/map.py` |",
        f"| `duplicates` among 1 / 10 million hashes | {float(copies['command', '1000000', 'seconds']):.0f} "
        f"/ {float(copies['command', '10000000', 'seconds']):.0f} s, recall "
        f"{float(copies['command', '1000000', 'recall at 3 bits']):.2f} | 60 s / -, .99 | `python benchmarks/duplicates.py` |",
        *doors(),
    ]


def doors() -> list[str]:
    """Return the rows of the server, the page and the small model."""
    served = {(r["what"], r["clients"]): r["value"] for r in rows("benchmarks/serve.csv")}
    page = {(r["what"], r["measure"]): r["value"] for r in rows("benchmarks/page.csv")}
    small = {r["model"]: r for r in rows("benchmarks/mobile.csv")}["mobile-208"]
    engines = {(r["engine"], r["measure"]): r["value"] for r in rows("benchmarks/engines.csv")}
    slower = float(engines["ray", "seconds / plain's"])
    late, alone = 1000 * float(served["answer, 95th percentile", "16"]), 1000 * float(served["answer, median", "1"])
    (memory,) = (what for what, clients in served if what.startswith("memory, last third") and clients == "16")
    seconds, flat = memory.rsplit(" ", 2)[1], float(served[memory, "16"])
    assert float(served["errors", "16"]) == 0
    return [
        f"| `scan --engine ray` against `scan`, 20,000 pictures | {slower:.2f} x "
        "the time | 1.15 x | `python benchmarks/engines.py --kill-count 0` |",
        f"| `serve`, 16 clients for {seconds} s | {float(served['pictures', '16']):.0f} pictures/s, 95 % within "
        f"{late:.0f} ms, no errors, memory at the end {flat:.2f} of that in the middle | 40, 600 ms, -, 1.05 | "
        f"`python benchmarks/serve.py --seconds {seconds}` |",
        f"| one client alone | {alone:.0f} ms an answer | - | same |",
        f"| `mobile-208`, one thread, finding faces included | {float(small['together_ms']):.0f} ms, "
        f"{float(small['weights_mb']):.1f} MB | 60 ms, 5 MB | `python benchmarks/mobile.py` |",
        f"| the offline page in Chromium | {page['picture of the set', 'ms, median']} ms a picture, "
        f"{page['page', 'MB in all']} MB, probabilities within "
        f"{float(page['drift', 'largest difference in probability']):.4f} of Python's | 25 MB, 0.02 | "
        "`python benchmarks/page.py` |",
    ]


def sections() -> dict[str, str]:
    """Return every generated piece of the README by its name."""
    card = json.loads((ROOT / f"src/faceproof/weights/{MODEL}/card.json").read_text(encoding="utf-8"))
    unseen = card["metrics"]["unseen"]
    generators = ", ".join(
        f"{name} {row['auc']:.2f} / {row['tpr_at_threshold']:.0%}" for name, row in unseen["auc_by_generator"].items()
    )
    sources = ", ".join(
        f"{name} {row['fpr']:.1%} of {row['pictures']}" for name, row in unseen["fpr_by_source"].items()
    )
    probes = rows(f"results/{MODEL}/probes.csv")
    level = {r["split"]: float(r["value"]) for r in probes if r["subset"].startswith("all at 128")}
    size = {r["split"]: float(r["value"]) for r in probes if r["subset"].startswith("picture size, fitted")}
    follows = max(abs(float(r["value"])) for r in probes if r["subset"].startswith("score against picture size"))
    return {
        "metrics": metrics(card),
        "generators": generators,
        "sources": sources,
        "level": f"{level['val']:.3f} on val and {level['unseen']:.3f} on unseen",
        "size": f"{size['val']:.2f} on val and {size['unseen']:.2f} on unseen",
        "follows": f"at most {follows:.2f} within a class",
        "ece": f"{unseen['ece']:.2f}",
        "speed": speed(),
    }


def main() -> None:
    found = sections()
    if "--check" in sys.argv[1:]:
        text = README.read_text(encoding="utf-8")
        missing = [name for name, piece in found.items() if piece not in text]
        if missing:
            sys.exit(
                f"README.md does not hold the current figures of: {', '.join(missing)}; run scripts/fill_readme.py"
            )
        return
    for name, piece in found.items():
        print(f"## {name}\n{piece}\n")


if __name__ == "__main__":
    main()
