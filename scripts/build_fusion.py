"""Put a mixture and a fusion beside a shipped model, and measure what they promise.

    python scripts/build_fusion.py --model src/faceproof/weights/NAME --data DATA --table results/verdict.csv

The mixture of the network's own embeddings is fitted to photographs of `train`, its form chosen by held-out likelihood.
Weights, conformal limits and the alarm come from --fit (default: val shift), cross-fitted by group. Then every split in
--measure gets its rows: coverage promised and measured, per class, source and generator, at several rates; and the
alarm. `unseen` is looked at once per decision: name it. Needs the extra `train` (scikit-learn), not torch's networks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceproof import Gates, PictureError, RetinaFace, load
from faceproof.anomaly_fitting import choose_mixture
from faceproof.conformal import coverage
from faceproof.datasets import Sample, pool_digest, read_data
from faceproof.detectors.anomaly import read_scorer
from faceproof.detectors.card import read_card
from faceproof.detectors.crops import cut
from faceproof.detectors.folders import write_card
from faceproof.detectors.onnx import OnnxDetector
from faceproof.fusion import ANOMALY, SUPERVISED, read_fusion
from faceproof.fusion_fitting import Faces, Part, fit_fusion
from faceproof.tables import provenance, write_table

COLUMNS = (
    "split",
    "subset",
    "label",
    "fpr",
    "alpha",
    "promised",
    "measured",
    "low",
    "high",
    "decided",
    "alarms",
    "faces",
)
SENTENCES = {
    SUPERVISED: "the detector speaks for {leaning} with odds of {odds} to 1 (score {score})",
    ANOMALY: "measured against photographs' embeddings the face is {score} spreads from the usual (higher: less usual)",
}  # fmt: skip
RATES = ((0.01, 0.2), (0.01, 0.1), (0.01, 0.05), (0.05, 0.1))


@dataclass
class Scored:
    """Faces fit to be judged: samples, raw scores (N,), embeddings (N, E)."""

    samples: list[Sample]
    score: np.ndarray
    embedding: np.ndarray


def say(text: str) -> None:
    print(text, flush=True)


def scored(samples: list[Sample], detector: OnnxDetector, what: str) -> Scored:
    """Find, gate and score the largest face of every picture."""
    faces, gates, kept, crops, parts = RetinaFace(), Gates(), [], [], []
    for number, sample in enumerate(samples, 1):
        try:
            picture = load(sample.path)
            found = faces.detect(picture.pixels)
            if found:
                crop = cut(detector.card.crop, picture.pixels, found[0].landmarks)
                if not gates.judge(found[0], crop, picture.width, picture.height):
                    kept.append(sample)
                    crops.append(crop)
        except (PictureError, ValueError) as err:
            say(f"left out: {sample.path}: {err}")
        if crops and (len(crops) == 32 or number == len(samples)):
            parts.append(detector.score_and_embed(np.stack(crops)))
            crops = []
        if number % 500 == 0 or number == len(samples):
            say(f"{what}: {number}/{len(samples)}")
    return Scored(kept, np.concatenate([p[0] for p in parts]).astype(float), np.concatenate([p[1] for p in parts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model folder, changed in place")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True, help="CSV to write")
    parser.add_argument("--fit", nargs="+", default=["val", "shift"])
    parser.add_argument("--measure", nargs="+", default=["val", "shift"])
    parser.add_argument("--most", type=int, default=4000, help="photographs of train for the mixture")
    parser.add_argument("--dims", nargs="+", type=int, default=[16, 32, 64])
    parser.add_argument("--components", nargs="+", type=int, default=[1, 2, 4, 8])
    options = parser.parse_args()
    command = "python scripts/build_fusion.py " + " ".join(sys.argv[1:])

    detector = OnnxDetector(options.model, threads=2)
    everything = read_data(options.data, drop_straddling=True)
    train = [s for s in everything if s.split == "train" and not s.label]
    train = [train[int(i)] for i in np.linspace(0, len(train) - 1, min(options.most, len(train)))]
    pool = scored(train, detector, "photographs of train")
    fitted = choose_mixture(
        pool.embedding, [s.group for s in pool.samples], components=options.components, dims=options.dims
    )
    say(f"mixture: {fitted.choice}")
    raw = json.loads((options.model / "card.json").read_text(encoding="utf-8"))
    data = fitted.mixture.to_bytes()
    (options.model / "mixture.safetensors").write_bytes(data)
    raw["mixture"] = {
        "file": "mixture.safetensors", "sha256": hashlib.sha256(data).hexdigest(), "centre": fitted.centre,
        "spread": fitted.spread, "components": fitted.choice.components, "covariance": fitted.choice.kind,
        "dims": fitted.choice.dims, "held_out_log_likelihood": fitted.choice.held_out, "photographs": len(pool.samples),
        "fitted_on": f"the network's embeddings of {len(pool.samples)} photographs of its training data", "command": command,
    }  # fmt: skip
    write_card(options.model, raw)
    card = read_card(options.model)
    scorer = read_scorer(options.model, card)
    assert scorer is not None

    held = {
        split: scored([s for s in everything if s.split == split], detector, split)
        for split in dict.fromkeys([*options.fit, *options.measure])
    }
    fit_on = [held[split] for split in options.fit]
    samples = [s for part in fit_on for s in part.samples]
    embeddings = np.concatenate([part.embedding for part in fit_on])
    faces = Faces(
        np.array([s.label for s in samples]),
        np.array([s.group for s in samples]),
        {SUPERVISED: np.concatenate([p.score for p in fit_on]), ANOMALY: scorer.score(embeddings).astype(float)},
    )
    parts = [
        Part(SUPERVISED, card.sha256, card.calibration, SENTENCES[SUPERVISED]),
        Part(ANOMALY, raw["mixture"]["sha256"], None, SENTENCES[ANOMALY]),
    ]
    result = fit_fusion(faces, parts, alarm=ANOMALY)
    kept = {term["name"] for term in result.raw["terms"]}
    said = {
        "fitted_on": f"{' + '.join(options.fit)} of {options.data.name}, {len(samples)} judged faces, classes alike",
        "data": pool_digest(samples), "command": command, "dropped": list(result.dropped),
        "cross_fitted_nll": {"supervised alone": result.alone, "fused": result.fused},
    }  # fmt: skip
    (options.model / "fusion.json").write_text(json.dumps(result.raw | said, indent=1) + "\n", encoding="utf-8")
    fusion = read_fusion(options.model)
    assert fusion is not None
    say(f"weights: {[(t['name'], round(t['slope'], 3)) for t in result.raw['terms']]}, dropped {result.dropped}")
    say(f"cross-fitted NLL: alone {result.alone:.4f}, fused {result.fused:.4f}")

    rows = []
    for split in options.measure:
        part = held[split]
        unlike = scorer.score(part.embedding).astype(float)
        named = [{SUPERVISED: float(a), ANOMALY: float(b)} for a, b in zip(part.score, unlike, strict=True)]
        odds = np.array([sum(piece.weight for piece in fusion.evidence(one)) for one in named])
        alarms = np.array([fusion.alarm(one) is not None for one in named])
        rule = fusion.rule(None, None)
        calm = np.array([rule.label(value) == "photograph" for value in odds])
        for subset, take in subsets(part.samples):
            label = part.samples[int(np.flatnonzero(take)[0])].label
            for fpr, alpha in RATES:
                one = coverage(fusion.conformal, label, odds[take], fpr=fpr, alpha=alpha)
                quiet = take & calm
                share = float(alarms[quiet].mean()) if quiet.any() else float("nan")
                rows.append([split, subset, "generated" if label else "photograph", fpr, alpha, f"{one.promised:.3f}",
                             f"{one.measured:.4f}", f"{one.low:.4f}", f"{one.high:.4f}", f"{one.decided:.4f}", f"{share:.4f}",
                             one.count])  # fmt: skip
            if subset.startswith("all"):
                say(f"{split} {subset}: " + "; ".join(f"{r[3]}/{r[4]}: {r[6]} of {r[5]}, decided {r[9]}" for r in rows[-4:])
                    + f"; alarms among those called photographs {rows[-1][10]}")  # fmt: skip
    write_table(options.table, provenance(pool_digest(samples)), COLUMNS, rows)
    say(f"wrote {options.table}; terms {sorted(kept)}")


def subsets(samples: list[Sample]) -> list[tuple[str, np.ndarray]]:
    """Both classes, every source of photographs and every generator."""
    labels = np.array([s.label for s in samples])
    names = np.array([s.generator if s.label else s.source for s in samples])
    found = [("all photographs", labels == 0), ("all generated", labels == 1)]
    return found + [(str(n), (names == n) & (labels == k)) for k in (0, 1) for n in sorted(set(names[labels == k]))]


if __name__ == "__main__":
    main()
