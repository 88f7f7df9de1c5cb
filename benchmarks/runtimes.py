"""Crops per second of every installed runtime on one model, beside torch, by batch size and threads.

    python benchmarks/runtimes.py [--model lite2-208] [--batches 1 8] [--threads 1 2] [--seconds 3]

Runtimes take turns (A B A B ...), and the median over rounds counts. `drift` is the largest difference of scores from
onnxruntime's in float32 on the same crops (windows of the packaged photograph). torch runs the same graph
(faceproof.torch_graph), where it is installed; --also adds folders such as exports to int8 or LiteRT, which are held
against --model. Writes runtimes.csv. Close other programs first.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import arguments, say, write_results
from faceproof.detectors.card import Card, read_card
from faceproof.detectors.fastest import real_crops
from faceproof.detectors.onnx import CropNetwork
from faceproof.detectors.store import model_folder
from faceproof.errors import FaceproofError
from faceproof.runtimes import installed, processor_flags, taking

Run = Callable[[Any], Any]


def torch_run(folder: Path, card: Card, threads: int) -> Run:
    import torch

    from faceproof.onnx_graphs import in_float32, read_graph
    from faceproof.torch_graph import GraphModule

    module = GraphModule(in_float32(read_graph(folder / card.file))).eval()
    mean, std = (torch.tensor(v).float().reshape(-1, 1, 1) for v in (card.mean, card.std))

    def run(crops: Any) -> Any:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            batch = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255 - mean) / std
            return module(batch)[0].numpy()

    return run


def contestants(folder: Path, threads: int, *, first: bool) -> list[tuple[str, Run]]:
    """Return what runs a folder: name and function from crops to scores."""
    card, found = read_card(folder), []
    for name in taking(card.file):
        if not installed(name):
            continue
        try:
            network = CropNetwork(folder, card, threads=threads, runtime=name)
        except FaceproofError as err:
            say(f"{name} is left out: {err}")
            continue
        found.append((name, lambda crops, network=network: network.run(crops, network.outputs[0])[0]))
    if first and card.file.endswith(".onnx") and all(map(importlib.util.find_spec, ("torch", "onnx"))):
        found.append(("torch", torch_run(folder, card, threads)))
    return found


def measure(runs: Sequence[tuple[str, str, Run]], crops: Any, seconds: float) -> list[tuple[str, str, float, float]]:
    """Take turns for `seconds` each; model, runtime, crops/s, drift from the first."""
    outputs = [run(crops) for _, _, run in runs]
    spent: list[list[float]] = [[] for _ in runs]
    while sum(map(sum, spent)) < seconds * len(runs) or len(spent[0]) < 3:
        for one, (_, _, run) in zip(spent, runs, strict=True):
            begun = time.perf_counter()
            run(crops)
            one.append(time.perf_counter() - begun)
    return [
        (model, name, len(crops) / statistics.median(one), float(np.abs(out - outputs[0]).max()))
        for (model, name, _), one, out in zip(runs, spent, outputs, strict=True)
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each runtime and setting (3)")
    parser.add_argument("--also", nargs="*", default=[], help="exports of the same model")
    given = parser.parse_args()
    folders = [model_folder(given.model), *map(Path, given.also)]
    card, rows = read_card(folders[0]), []
    for threads in given.threads:
        runs = [
            (read_card(folder).name, name, run)
            for folder in folders
            for name, run in contestants(folder, threads, first=folder == folders[0])
        ]
        for batch in given.batches:
            for model, name, rate, drift in measure(runs, real_crops(card.size, batch), given.seconds):
                rows.append(
                    {"model": model, "runtime": name, "threads": threads, "batch": batch,
                     "crops_per_second": f"{rate:.1f}", "drift": f"{drift:.2g}"}
                )  # fmt: skip
    amx = "has" if "amx_tile" in processor_flags() else "has no"
    notes = [f"model: {card.identity}; the processor {amx} AMX; {given.seconds:g} s a setting"]
    write_results(given.results / "runtimes.csv", rows, notes)


if __name__ == "__main__":
    main()
