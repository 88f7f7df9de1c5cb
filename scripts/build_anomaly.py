"""One-class detection: fit mixtures to photographs' embeddings, choose one by held-out likelihood, measure, package.

    python scripts/build_anomaly.py --run PRETRAINED --data DATA --table results/anomaly.csv --out MODEL
    python scripts/build_anomaly.py --supervised RUN --data DATA --table ...      (the classifier's own embedding)
    python scripts/build_anomaly.py --features clip-features.npz --data DATA --table ...

The mixture sees photographs of `train` only, and its form is chosen on groups of them that were held out;
generated pictures choose nothing. AUC is given per generator on --measure (default val and shift); `unseen` is
looked at once per decision: name it. --curve fits on 1/8, 1/4, 1/2 and all. With --out the model folder is
written (not for --features: CLIP is not ours to ship). Embeddings are kept beside the table. Needs `train`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceproof.anomaly_fitting import Fitted, choose_mixture
from faceproof.calibration import threshold_at
from faceproof.datasets import Sample, pool_digest, read_data
from faceproof.errors import UsageError
from faceproof.metrics import auc, bootstrap
from faceproof.tables import provenance, write_table

COLUMNS = ("share", "photographs", "kind", "components", "dims", "held_out", "split", "generator", "auc", "low", "high",
           "tpr_at_5", "fpr_at_5", "pictures")  # fmt: skip


@dataclass
class Embedded:
    """Samples with a face, and their embeddings (N, E)."""

    samples: list[Sample]
    x: np.ndarray
    network: object = None
    recipe: object = None

    def part(self, split: str) -> tuple[list[Sample], np.ndarray]:
        """Samples and embeddings of one split."""
        index = [i for i, s in enumerate(self.samples) if s.split == split]
        return [self.samples[i] for i in index], self.x[index]


def say(text: str) -> None:
    print(text, flush=True)


def embed(options: argparse.Namespace, samples: list[Sample]) -> Embedded:
    """Embed every face as it is, 64 at a time; kept in a .npz beside the table."""
    import torch

    from faceproof import RetinaFace
    from faceproof.detectors.crops import cut
    from faceproof.images import load
    from faceproof.landmarks import find_faces

    network, recipe = of_run(options.run) if options.run else of_supervised(options.supervised)
    folder = options.table.parent
    kept, points, _ = find_faces(
        samples, RetinaFace(), cache=folder / "landmarks.npz", skip_unreadable=True, progress=counted("faces")
    )
    names = np.array([f"{s.path}" for s in kept])
    weights = options.run or options.supervised
    stamp = f"{weights.resolve()} {(weights / 'network.safetensors').stat().st_mtime_ns}"
    cache = options.table.with_suffix(".npz")
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as held:
            if str(held["stamp"]) == stamp and np.array_equal(held["names"], names):
                return Embedded(list(kept), held["x"], network, recipe)
    shift, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (recipe.mean, recipe.std))
    parts, show = [], counted("embedded")
    with torch.inference_mode():
        for start in range(0, len(kept), 64):
            some = zip(kept[start : start + 64], points[start : start + 64], strict=True)
            crops = np.stack([cut(recipe.crop, load(s.path).pixels, p) for s, p in some])
            images = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255 - shift) / spread
            parts.append(network.embed(images).numpy())
            show(min(start + 64, len(kept)), len(kept))
    x = np.concatenate(parts)
    np.savez(cache, stamp=stamp, names=names, x=x)
    return Embedded(list(kept), x, network, recipe)


def of_run(run: Path) -> tuple[object, object]:
    from faceproof.pretraining import embedding_network

    return embedding_network(run)


def of_supervised(run: Path) -> tuple[object, object]:
    from safetensors import safe_open

    from faceproof.features.backbone import build_network, load_weights
    from faceproof.recipes import Recipe

    with safe_open(run / "checkpoint.safetensors", "pt") as file:
        recipe = Recipe.from_dict(json.loads(file.metadata()["recipe"]))
    network = build_network(recipe.backbone, recipe.size, start="random", hidden=recipe.head)
    load_weights(network, run / "network.safetensors")
    return network.eval(), recipe


def of_features(path: Path, samples: list[Sample]) -> Embedded:
    """Rows of an .npz with `paths` (relative to the faces folder) and `features`."""
    held = np.load(path, allow_pickle=False)
    rows = {str(name): row for row, name in enumerate(held["paths"])}
    found = [
        (s, row)
        for s in samples
        if (row := rows.get("/".join(s.path.parts[-3:]), rows.get("/".join(s.path.parts[-4:])))) is not None
    ]
    if not found:
        raise UsageError(f"none of the pictures is in {path}; give the data its features were made from")
    return Embedded([s for s, _ in found], held["features"][[row for _, row in found]].astype(np.float64))


def counted(what: str):
    def show(done: int, total: int) -> None:
        if done == total or done % 640 == 0:
            say(f"{what}: {done}/{total}")

    return show


def measured(fitted: Fitted, data: Embedded, split: str, threshold: float) -> list[list[object]]:
    """A row for all generators together, and for each one, against all photographs of the split."""
    samples, x = data.part(split)
    labels = np.array([s.label for s in samples])
    if len(set(labels.tolist())) < 2:
        return []
    scores = -fitted.mixture.log_likelihood(x)
    rows = []
    for generator in ("all", *sorted({s.generator for s in samples if s.label})):
        take = [i for i, s in enumerate(samples) if not s.label or generator in ("all", s.generator)]
        y, s, groups = labels[take], scores[take], [samples[i].group for i in take]
        low, high = bootstrap(lambda i, y=y, s=s: auc(y[i], s[i]), groups, strata=y, rounds=300)
        flagged = s >= threshold
        rows.append(
            [
                split,
                generator,
                *(f"{v:.4f}" for v in (auc(y, s), low, high, flagged[y == 1].mean(), flagged[y == 0].mean())),
                len(y),
            ]
        )
        say(
            f"   {split:7} {generator:24} AUC {rows[-1][2]} ({low:.3f} to {high:.3f})  TPR {rows[-1][5]} FPR {rows[-1][6]}"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--run", type=Path, help="folder of a finished `faceproof pretrain`")
    where.add_argument("--supervised", type=Path, help="folder of a finished `faceproof train`")
    where.add_argument("--features", type=Path, help=".npz with `paths` and `features`")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True, help="CSV to write")
    parser.add_argument("--out", type=Path, help="model folder to write")
    parser.add_argument("--measure", nargs="+", default=["val", "shift"])
    parser.add_argument("--components", nargs="+", type=int, default=[1, 2, 4, 8, 12, 16])
    parser.add_argument("--kinds", nargs="+", default=["full", "tied", "diag"])
    parser.add_argument("--dims", nargs="+", type=int, default=[16, 32, 64, 128])
    parser.add_argument("--curve", action="store_true", help="also fit on 1/8, 1/4 and 1/2 of the groups")
    parser.add_argument("--each", action="store_true", help="measure every form, not only the chosen one")
    parser.add_argument("--most", type=int, help="pictures of each split, evenly taken: for a trial")
    options = parser.parse_args()
    if options.out and options.features:
        parser.error("--features cannot be packaged: there is no network with them")

    options.table.parent.mkdir(parents=True, exist_ok=True)
    splits = {"train", "val", *options.measure}
    samples = [s for s in read_data(options.data, drop_straddling=True) if s.split in splits]
    samples = [s for s in samples if s.split != "train" or not s.label]
    if options.most:
        samples = [
            s for split in sorted(splits) for s in evenly([s for s in samples if s.split == split], options.most)
        ]
    data = of_features(options.features, samples) if options.features else embed(options, samples)
    pool, x = data.part("train")
    say(f"{len(pool)} photographs to fit on, embeddings of {x.shape[1]} numbers")
    rows: list[list[object]] = []
    shares = (0.125, 0.25, 0.5, 1.0) if options.curve else (1.0,)
    for share in shares:
        index = part_of(pool, share)
        grid = {"components": options.components, "kinds": options.kinds, "dims": options.dims}
        fitted = choose_mixture(x[index], [pool[i].group for i in index], **grid)
        forms = [fitted]
        if options.each:
            forms += [
                choose_mixture(x[index], [pool[i].group for i in index], components=[c.components], kinds=[c.kind], dims=[c.dims])
                for c in fitted.tried if not c.problem and c != fitted.choice
            ]  # fmt: skip
        for form in forms:
            choice = form.choice
            said = [share, len(index), choice.kind, choice.components, choice.dims, f"{choice.held_out:.3f}"]
            say(
                f"share {share:g}: {choice.kind}, {choice.components} components, {choice.dims} dims, held-out {choice.held_out:.2f}"
            )
            val, xv = data.part("val")
            photographs = np.array([not s.label for s in val])
            threshold = threshold_at(-form.mixture.log_likelihood(xv[photographs]), 0.05)[0]
            for split in options.measure:
                rows += [[*said, *row] for row in measured(form, data, split, threshold)]
    write_table(options.table, provenance(pool_digest(pool)), COLUMNS, rows)
    say(f"wrote {options.table}")
    if options.out:
        write_model(options, data, fitted, pool)


def evenly(samples: list[Sample], most: int) -> list[Sample]:
    if len(samples) <= most:
        return samples
    return [samples[int(i)] for i in np.linspace(0, len(samples) - 1, most)]


def part_of(pool: list[Sample], share: float) -> list[int]:
    """Positions of a share of the groups, the smaller shares within the larger ones."""
    names = sorted({s.group for s in pool})
    order = np.random.default_rng(0).permutation(len(names))
    kept = {names[i] for i in order[: max(5, round(share * len(names)))]}
    return [i for i, s in enumerate(pool) if s.group in kept]


def write_model(options: argparse.Namespace, data: Embedded, fitted: Fitted, pool: list[Sample]) -> None:
    from faceproof.anomaly_packaging import EmbeddingSource, package_anomaly
    from faceproof.export import Embedding, to_onnx
    from faceproof.heldout import HeldOut

    recipe, val = data.recipe, data.part("val")[0]
    everything = read_data(options.data, drop_straddling=True)
    trained = [s for s in everything if s.split == "train"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embedding.onnx"
        if options.run:
            to_onnx(Embedding(data.network), recipe.size, path)
            what = f"{recipe.backbone} at {recipe.size} px, pretrained on photographs' EXIF and manipulated faces."
        else:
            to_onnx(data.network, recipe.size, path)
            what = f"The supervised {recipe.backbone} at {recipe.size} px, its pooled features."
        source = EmbeddingSource(
            path, recipe.crop, recipe.mean, recipe.std, what, pool, trained,
            command="python scripts/build_anomaly.py " + " ".join(sys.argv[1:]),
        )  # fmt: skip
        held = HeldOut(options.data.name, "val", pool_digest(val), tuple(val))
        card = package_anomaly(source, fitted, held, options.out, overwrite=True, progress=counted("calibrating"))
    figures = card.raw["metrics"]["val"]
    say(f"wrote {options.out}: {card.raw['bytes'] / 1e6:.1f} MB, val AUC {figures['auc']:.4f}")


if __name__ == "__main__":
    main()
