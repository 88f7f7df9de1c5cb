"""Write docs/mobile-vector.json and docs/mobile-crop.png: one picture's way through a model, in numbers.

An app that cuts faces and runs exported files itself is held against them (docs/mobile.md).

    python scripts/make_test_vector.py [--model lite2-208]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from faceproof import FaceChecker
from faceproof.detectors.crops import cut
from faceproof.doctor import SELF_TEST
from faceproof.faces.alignment import TEMPLATE, similarity
from faceproof.faces.detection import RetinaFace
from faceproof.fusion import SUPERVISED, Single
from faceproof.images import load
from faceproof.parity import decision

DOCS = Path(__file__).resolve().parent.parent / "docs"
TOLERANCE = 0.02


def vector(model: str | None) -> tuple[dict[str, Any], Any]:
    """Return the numbers of one model, and the crop (S, S, 3) uint8 RGB."""
    checker = FaceChecker(model)
    card, pixels = checker.card, load(SELF_TEST).pixels
    # Rounded, so that the numbers in the file are the numbers that went in.
    landmarks = np.round(RetinaFace().detect(pixels)[0].landmarks.astype(np.float64), 3)
    crop = cut(card.crop, pixels, landmarks)
    tensor = ((crop / 255 - np.array(card.mean)) / np.array(card.std)).transpose(2, 0, 1)
    score = float(checker.detector.score(crop[None])[0])
    alone = Single(card)
    odds = sum(piece.weight for piece in alone.evidence({SUPERVISED: score}))
    return {
        "model": card.identity,
        "picture": {"file": SELF_TEST.name, "width": pixels.shape[1], "height": pixels.shape[0],
                    "channel_sums": pixels.sum((0, 1), dtype=np.int64).tolist()},
        "landmarks": landmarks.tolist(),
        "matrix": np.round(similarity(landmarks, TEMPLATE * card.size), 9).tolist(),
        "crop": {"file": "mobile-crop.png", "size": card.size, "channel_sums": crop.sum((0, 1), dtype=np.int64).tolist(),
                 "first_row_first_pixels": crop[0, :4].tolist(), "middle_pixel": crop[card.size // 2, card.size // 2].tolist()},
        "tensor": {"shape": [1, 3, card.size, card.size], "channel_sums": [round(float(v), 3) for v in tensor.sum((1, 2))],
                   "absolute_sum": round(float(np.abs(tensor).sum()), 3)},
        "score": round(score, 4), "score_tolerance": TOLERANCE,
        "probability": round(card.calibration.probability(score), 4),
        "verdict": alone.rule(None, None).label(odds),
        "decision": decision(card),
    }, crop  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="shipped name or model folder (the default model)")
    found, crop = vector(parser.parse_args().model)
    Image.fromarray(crop).save(DOCS / found["crop"]["file"], optimize=True)
    (DOCS / "mobile-vector.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{found['model']}: score {found['score']}, {found['verdict']}")


if __name__ == "__main__":
    main()
