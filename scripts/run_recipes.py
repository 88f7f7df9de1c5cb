r"""Train all published recipes, and ours, on the same pictures with the same budget, one after the other.

    python scripts/run_recipes.py --data ../shared/data/faces --runs /tmp/recipes --samples 4800

Every run is `faceproof train`; called again, finished ones are skipped and a broken one goes on. Then:

    faceproof evaluate /tmp/recipes/*/model --data ../shared/data/faces --drop-straddling --split val --split unseen \
        --chain none --chain avatar --probes --out results/recipes

ImageNet weights that no package here has (ResNet-50, DenseNet121, MobileNet V1) cannot be fetched offline;
those recipes start from random weights and then train all layers, and their rows say so. With a network,
--hub starts them as published.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PACKAGED, RANDOM = {}, {"start": "random", "trained_layers": "null"}
RUNS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    # name -> preset, changes where the hub cannot be reached, changes in every case
    "ours-lite2": ("faceproof", PACKAGED, {}),
    "study-resnet50": ("study-resnet50", RANDOM, {}),
    "video-densenet121": ("video-densenet121", RANDOM, {}),
    "pairs-mobilenetv2": ("pairs-mobilenetv2", PACKAGED, {}),
    "pairs-resnet50": ("pairs-resnet50", RANDOM, {}),
    "pairs-small-cnn": ("pairs-small-cnn", RANDOM, {}),
    "mobile-mobilenetv1": ("mobile-mobilenetv1", RANDOM, {}),
    "mobile-mobilenetv1-ela": ("mobile-mobilenetv1-ela", RANDOM, {}),
    # The question that random weights cannot answer: does ELA help a network that starts from ImageNet?
    "mobilenetv2-10-layers": ("pairs-mobilenetv2", PACKAGED, {"trained_layers": "10", "dropout": "0.5"}),
    "mobilenetv2-ela": ("pairs-mobilenetv2", PACKAGED, {"features": "ela"}),
    "mobilenetv2-life": ("pairs-mobilenetv2", PACKAGED, {"augment": "life", "balance": "source"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="a folder a run is made in here")
    parser.add_argument("--samples", type=int, default=4800, help="crops seen by each")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--hub", action="store_true", help="start as published, with weights from the hub")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    for name in options.only:
        out = options.runs / name
        if (out / "model" / "card.json").is_file():
            print(f"{name}: there already", flush=True)
            continue
        preset, offline, always = RUNS[name]
        changes = ({} if options.hub else offline) | always
        changes |= {"samples": str(options.samples), "epochs": str(options.epochs)}
        command = [sys.executable, "-m", "faceproof", "train", "--data", str(options.data), "--out", str(out)]
        command += ["--drop-straddling", "--preset", preset, "--precision", options.precision]
        command += [part for field, value in changes.items() for part in ("--set", f"{field}={value}")]
        print(f"== {name}: {' '.join(command[1:])}", flush=True)
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
