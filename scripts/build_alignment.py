"""Make the shipped StyleGAN alignment reference, and count what it is worth.

    python scripts/build_alignment.py --data ../shared/data/faces

The reference is made of StyleGAN2 faces of the training split that were kept whole. What being aligned says is then
counted on whole pictures (all of val, at most --most of each source elsewhere): results/alignment-weight.csv.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from faceproof.alignment_weight import ALIGNED_SOURCES, Placed, learned, placed, whole_originals
from faceproof.datasets import Sample
from faceproof.detectors.alignment import FFHQ_EYES, SHIPPED, build_reference, write_reference
from faceproof.faces.detection import RetinaFace
from faceproof.inputs import Item
from faceproof.metrics import wilson
from faceproof.tables import provenance, write_table

CLOSE = 4.0
"""A narrower limit than the paper's seven, counted beside it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, type=Path, help="folder of manifest.csv")
    parser.add_argument("--source", default="tpdne", help="source of the StyleGAN2 faces")
    parser.add_argument("--out", default=SHIPPED, type=Path)
    parser.add_argument("--results", default=Path("results/alignment-weight.csv"), type=Path)
    parser.add_argument("--most", type=int, default=120, help="pictures of a source outside val")
    options = parser.parse_args()
    samples, detector = whole_originals(options.data / "manifest.csv"), RetinaFace()
    chosen = [s for s in samples if s.source == options.source and s.split == "train"]
    built = build_reference(
        [Item(str(s.path)) for s in chosen], detector,
        source=f"StyleGAN2 ({options.source}: 1,024 px originals kept whole, read at 256 px), training split",
        command=shlex.join(["python", *sys.argv]),
    )  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_reference(options.out, built.reference, overwrite=True)
    print(f"{built.reference.count} of {len(chosen)} faces; eyes minus FFHQ's constants:")
    print(np.round(np.array(built.reference.mean[:2]) - FFHQ_EYES, 4))
    found = placed(fewer(samples, options.most), built.reference, detector)
    said = provenance(str(options.data / "manifest.csv"))
    rows = [*by_source(found), *weights(found)]
    write_table(options.results, said, ("what", "split", "label", "name", "aligned", "n", "value", "low", "high"), rows)
    for row in rows:
        print(*row)


def fewer(samples: Sequence[Sample], most: int) -> list[Sample]:
    """All of val, and the first pictures of each source and generator elsewhere."""
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for sample in samples:
        taken[sample.split, sample.stratum] += 1
        if sample.split == "val" or taken[sample.split, sample.stratum] <= most:
            kept.append(sample)
    return kept


def by_source(found: Sequence[Placed]) -> list[tuple[object, ...]]:
    """Share of aligned pictures, by source and generator, at both limits."""
    rows: list[tuple[object, ...]] = []
    for sigmas in (7.0, CLOSE):
        pictures, hits = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
        for one in found:
            sample = one.sample
            name = f"{sample.generator} ({sample.source})" if sample.label else sample.source
            key = (sample.split, "generated" if sample.label else "photograph", name)
            pictures[key] += not one.alignment.unfit
            hits[key] += one.within(sigmas)
        for key in sorted(key for key in pictures if pictures[key]):
            k, n = hits[key], pictures[key]
            rows.append((f"share within {sigmas:g} sigma", *key, k, n, f"{k / n:.4f}", *_four(wilson(k, n))))
    return rows


def weights(found: Sequence[Placed]) -> list[tuple[object, ...]]:
    """Log-odds of both outcomes, on all photographs and without those published in StyleGAN's frame."""
    rows: list[tuple[object, ...]] = []
    chips = ALIGNED_SOURCES | {"utkface"}
    for split in ("val", "train"):
        for sigmas in (7.0, CLOSE):
            for name, without in (
                ("all", frozenset()), ("without FFHQ and CelebA-HQ", ALIGNED_SOURCES),
                ("nor UTKFace's tight chips", chips),
            ):  # fmt: skip
                for aligned in (True, False):
                    odds = learned(found, split=split, without=without, aligned=aligned, sigmas=sigmas)
                    what = f"log-odds {'' if aligned else 'not '}within {sigmas:g} sigma"
                    counts = f"{odds.generated}/{odds.of_generated} and {odds.photographs}/{odds.of_photographs}"
                    total = odds.of_generated + odds.of_photographs
                    rows.append((what, split, "both", name, counts, total, f"{odds.value:.3f}", f"{odds.low:.3f}",
                                 f"{odds.high:.3f}"))  # fmt: skip
    return rows


def _four(interval: tuple[float, float]) -> tuple[str, str]:
    return f"{interval[0]:.4f}", f"{interval[1]:.4f}"


if __name__ == "__main__":
    main()
