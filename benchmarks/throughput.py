"""Pictures per second from JPEG file to verdict, beside the ResNet-50 pipeline of FIELD.md 1.1.

    python benchmarks/throughput.py

Both pipelines see the same files with the same number of processes, one thread each, in turns (A B A B
...); medians over the rounds are reported. "steady" leaves the start out: the clock starts when the
first WARM pictures of a run have their results, while all processes are at work. "with start" counts
from the call to the end, making processes and loading networks included.

The ResNet-50 pipeline needs torch and torchvision; without them its rows say so. scikit-image makes
the pictures; where it is absent, make them elsewhere (pictures.py) and give --pictures.

Writes throughput.csv and where_time_goes.csv. Close other programs first; about 6 minutes on two cores.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from common import NO_GOAL, arguments, judged, say, write_results
from faceproof import pipeline
from faceproof.faces.detection import RetinaFace
from faceproof.faces.quality import Gates
from faceproof.inputs import Item
from faceproof.reports import to_json
from faceproof.scan import Options, default_workers, scan
from pictures import picture_files

BATCH = 32
"""Pictures the ResNet-50 scores at once, and the unit of the warm-up."""
MIN_EYES = 0.10
"""Eye distance over the picture's side from which FIELD.md 1.1 takes a face."""
GOAL_RATE, GOAL_RATIO, GOAL_CORES = 60.0, 6.0, 2
NOTES = (
    "faceproof: faceproof.scan.scan, whole pipeline, records made and sent back to the parent, not written",
    "resnet50: FIELD.md 1.1 - PIL decode, largest face, eye distance >= 0.10 of the side, shorter side of the whole "
    "avatar to 256 px, 224 px centre crop, ImageNet mean and deviation, torchvision resnet50 with one logit, batch 32, "
    "inference mode, float32, sigmoid; random weights, on which speed does not depend",
    "resnet50's BlazeFace is not to be had in a maintained wheel: RetinaFace takes its place, the same session and "
    "working size as in faceproof; 1.1 decodes and crops only, so the 256 px step is the usual torchvision transform",
)


@dataclass(frozen=True)
class Rates:
    """Pictures per second of one run: without and with its start."""

    steady: float
    whole: float


def rates(results: Iterator[bool], warm: int) -> Rates:
    """Time a stream of results, True where a face was judged; the first `warm` do not count as steady."""
    begun = started = last = time.perf_counter()
    count = faces = 0
    for judged_one in results:
        last = time.perf_counter()
        count, faces = count + 1, faces + judged_one
        if count == warm:
            started = last
    ended = time.perf_counter()
    if faces < 0.95 * count:
        raise SystemExit(f"a face was judged in {faces} of {count} pictures only; these pictures do not fit")
    return Rates((count - warm) / (last - started), count / (ended - begun))


def faceproof_results(paths: Sequence[Path], options: Options, workers: int) -> Iterator[bool]:
    items = (Item(str(path)) for path in paths)
    for result in scan(items, options, workers=workers):
        yield bool(result.faces)


class ResNet50:
    """The pipeline of FIELD.md 1.1 in one process and one thread."""

    def __init__(self) -> None:
        import cv2
        import torch
        import torchvision

        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.torch, ops = torch, torchvision.transforms
        self.faces = RetinaFace(threads=1)
        self.network = torchvision.models.resnet50(weights=None, num_classes=1).eval()
        normal = ops.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.prepare = ops.Compose([ops.Resize(256), ops.CenterCrop(224), ops.ToTensor(), normal])

    def check(self, paths: Sequence[Path]) -> list[float | None]:
        """Return P(generated) of each picture, None where the face filter drops it."""
        prepared = [self._prepared(path) for path in paths]
        kept = [tensor for tensor in prepared if tensor is not None]
        if not kept:
            return [None] * len(paths)
        with self.torch.inference_mode():
            scores = iter(self.torch.sigmoid(self.network(self.torch.stack(kept))).reshape(-1).tolist())
        return [None if tensor is None else next(scores) for tensor in prepared]

    def _prepared(self, path: Path) -> Any:
        import numpy as np
        from PIL import Image

        with Image.open(path) as file:
            image = file.convert("RGB")
        faces = self.faces.detect(np.asarray(image))
        if not faces or np.hypot(*(faces[0].landmarks[1] - faces[0].landmarks[0])) < MIN_EYES * max(image.size):
            return None
        return self.prepare(image)


_resnet50 = functools.cache(ResNet50)
"""One for each process, made when the process begins."""


def _begin() -> None:
    _resnet50()


def _work(paths: Sequence[Path]) -> list[bool]:
    return [score is not None for score in _resnet50().check(paths)]


def resnet50_results(paths: Sequence[Path], workers: int) -> Iterator[bool]:
    parts = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        for part in pool.map(_work, parts):
            yield from part


class Clock:
    """Adds up the seconds spent in functions, by stage."""

    STAGES = (
        ("decode (read, sha256, JPEG)", ((pipeline, "load"),)),
        ("find (RetinaFace)", ((RetinaFace, "detect"),)),
        ("align and quality", ((pipeline, "cut"), (Gates, "judge"))),
    )

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    def wrapped(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and adds its time to `stage`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[stage] += time.perf_counter() - begun  # type: ignore[assignment]

        return timed

    @contextlib.contextmanager
    def watching(self, detector: type) -> Iterator[None]:
        """Put the clock around the pipeline's stages, so that the real pipeline is what is measured."""
        with contextlib.ExitStack() as stack:
            for stage, places in (
                *self.STAGES,
                ("score (batches of 4)", ((detector, "score"), (detector, "score_and_embed"))),
            ):
                for owner, name in places:
                    stack.enter_context(mock.patch.object(owner, name, self.wrapped(stage, getattr(owner, name))))
            yield


def where_time_goes(paths: Sequence[Path], options: Options, passes: int) -> list[dict[str, object]]:
    """Check `paths` in this process with one thread; ms per picture of each stage, medians over `passes`."""
    checker = options.checker()
    list(checker.check_many(paths[:BATCH]))
    taken: list[Counter[str]] = []
    for number in range(1, passes + 1):
        clock = Clock()
        with clock.watching(type(checker.detector)):
            begun = time.perf_counter()
            for result in checker.check_many(paths):
                to_json(result.to_dict())
            whole = time.perf_counter() - begun
        clock.spent["the rest (verdict, record, JSON)"] = whole - sum(clock.spent.values())  # type: ignore[assignment]
        taken.append(clock.spent)
        say(f"  pass {number} of {passes}: {1000 * whole / len(paths):.2f} ms per picture")
    ms = {stage: 1000 * statistics.median(spent[stage] for spent in taken) / len(paths) for stage in taken[0]}
    total = sum(ms.values())
    rows: list[dict[str, object]] = [
        {"stage": stage, "ms_per_picture": f"{value:.2f}", "share": f"{value / total:.3f}", **NO_GOAL}
        for stage, value in ms.items()
    ]
    goal = judged(total, "<=", round(1000 * GOAL_CORES / GOAL_RATE, 1))
    return [*rows, {"stage": "all", "ms_per_picture": f"{total:.2f}", "share": "1.000", **goal}]


def table(ours: Sequence[Rates], theirs: Sequence[Rates], workers: int) -> list[dict[str, object]]:
    """Return the rows of throughput.csv: medians over the rounds; cells of what was left out are empty."""
    rows: list[dict[str, object]] = []
    steady: list[float | None] = []
    for name, runs in (("faceproof", ours), ("resnet50", theirs)):
        kinds = (("steady", [run.steady for run in runs]), ("with start", [run.whole for run in runs]))
        for kind, values in kinds:
            shown = f"{statistics.median(values):.2f}" if values else ""
            each = " ".join(f"{value:.2f}" for value in values)
            measure = f"pictures/s, {kind}"
            rows.append({"pipeline": name, "measure": measure, "median": shown, "rounds": each, **NO_GOAL})
        steady.append(statistics.median(kinds[0][1]) if runs else None)
    fast, slow = steady
    # The goal is for two cores: a run on more of them says nothing about it.
    rows[0] |= judged(fast if workers <= GOAL_CORES else None, ">=", GOAL_RATE)
    ratio = fast / slow if fast and slow else None
    last: dict[str, object] = {"pipeline": "faceproof / resnet50", "measure": "ratio of steady medians", "rounds": ""}
    rows.append(last | {"median": f"{ratio:.2f}" if ratio else "", **judged(ratio, ">=", GOAL_RATIO)})
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=512, help="pictures per run after the warm-up (512)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each pipeline (5)")
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes (one per core)")
    parser.add_argument("--passes", type=int, default=3, help="passes of the one-process breakdown (3)")
    given = parser.parse_args()
    if min(given.count, given.rounds, given.workers, given.passes) < 1:
        parser.error("numbers must be at least 1")
    options = Options(model=given.model)
    warm = 2 * BATCH * given.workers
    missing = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
    notes = [f"workers: {given.workers}; pictures: {warm} to warm up + {given.count}; rounds: {given.rounds}", *NOTES]
    if missing:
        notes.append(f"resnet50 was left out: {' and '.join(missing)} not installed (pip install torch torchvision)")
        say(notes[-1])
    with picture_files(given.pictures, given.count) as files:
        paths = [files[i % len(files)] for i in range(warm)] + files
        notes.append(f"model: {options.checker().card.identity}")
        ours, theirs = [], []
        for number in range(1, given.rounds + 1):
            ours.append(rates(faceproof_results(paths, options, given.workers), warm))
            say(f"round {number} of {given.rounds}: faceproof {ours[-1].steady:.1f} pictures/s")
            if not missing:
                theirs.append(rates(resnet50_results(paths, given.workers), warm))
                say(f"round {number} of {given.rounds}: resnet50 {theirs[-1].steady:.1f} pictures/s")
        say("where the time goes: one process, one thread")
        stages = where_time_goes(files, options, given.passes)
    write_results(given.results / "throughput.csv", table(ours, theirs, given.workers), notes)
    about = (
        f"one process, one thread, {given.count} pictures, medians of {given.passes} passes; goal: 60/s on two cores"
    )
    write_results(given.results / "where_time_goes.csv", stages, [about, notes[-1]])


if __name__ == "__main__":
    main()
