"""How fast training eats pictures here, with and without glibc keeping freed memory; one run, several processes.

    python benchmarks/training.py --data ../shared/data/faces

Real steps of the shipped recipe's network on random crops (no reading), then real training steps with reading, from
`faceproof train`'s own loop; user and system time tell where the difference comes from.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import provenance

ROOT = Path(__file__).resolve().parents[1]
STEPS, BATCH = 12, 32


def network_only(keep: bool) -> None:
    """Train on random crops and print crops/s, user and system milliseconds a crop."""
    import torch

    from faceproof.features.backbone import build_network
    from faceproof.training import _keep_memory

    if keep:
        _keep_memory()
    network = (
        build_network("tf_efficientnet_lite2", size=208, start="random").train().to(memory_format=torch.channels_last)
    )
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    crops = torch.randn(BATCH, 3, 208, 208).contiguous(memory_format=torch.channels_last)
    for step in range(3 + STEPS):
        if step == 3:
            started, before = time.perf_counter(), os.times()
        loss = network(crops).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    spent, after, count = time.perf_counter() - started, os.times(), STEPS * BATCH
    user, system = (1000 * (getattr(after, k) - getattr(before, k)) / count for k in ("user", "system"))
    print(f"{count / spent:.2f},{user:.1f},{system:.1f}")


def with_reading(data: Path) -> str:
    """Run the real command for a few steps and return its last progress line."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "faceproof", "train", "--data", str(data), "--out", out, "--drop-straddling"]
        changes = {"samples": 1280, "epochs": 1, "start": "random"}
        command += [part for k, v in changes.items() for part in ("--set", f"{k}={v}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return next(line for line in reversed(done.stderr.splitlines()) if line.startswith("step "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--child", choices=("keep", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        network_only(options.child == "keep")
        return
    rows = []
    for turn in range(2):
        for kind in ("plain", "keep") if turn == 0 else ("keep", "plain"):
            done = subprocess.run(
                [sys.executable, __file__, "--child", kind], capture_output=True, text=True, check=True
            )
            pace, user, system = done.stdout.strip().split(",")
            rows.append(
                {"what": "network only", "memory": kind, "crops_per_s": pace, "user_ms": user, "system_ms": system}
            )
    if options.data:
        line = with_reading(options.data)
        pace, waiting = line.split(" crops/s")[0].split()[-1], line.split("waiting ")[1].split()[0]
        rows.append({"what": f"faceproof train, waiting for pictures {waiting}", "memory": "keep", "crops_per_s": pace})
    with (ROOT / "benchmarks" / "training.csv").open("w", newline="", encoding="utf-8") as stream:
        stream.writelines(f"# {line}\n" for line in provenance())
        writer = csv.DictWriter(stream, ["what", "memory", "crops_per_s", "user_ms", "system_ms"])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
