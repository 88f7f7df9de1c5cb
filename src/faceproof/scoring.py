"""Score labelled pictures with several contenders at once: faces are found once a picture and chain.

Every picture gives one reading: scored, without a face, or not readable, with the reason. None is lost
in silence. The work is done by worker processes with one thread each, results come in order.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.chains import apply_chain
from faceproof.contenders import Contender, Spec
from faceproof.detectors.crops import CropSpec, cut
from faceproof.errors import PictureError
from faceproof.faces.detection import FaceDetector, RetinaFace
from faceproof.faces.quality import Gates
from faceproof.images import load
from faceproof.workers import Job, chosen_workers, in_order

__all__ = ["Facts", "Reading", "Task", "check_chains", "jpeg_quality", "read_one", "readings"]

STANDARD_CROP = CropSpec(224)
"""The crop whose quality is judged, so that all contenders are measured on the same faces."""

# ITU-T T.81, table K.1: JPEG's luminance table at quality 50.
LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What a file says without being looked at; a detector must not live on this (DATA.md's shortcuts).

    Attributes:
        width, height: pixels, of the file.
        size: bytes of the file.
        jpeg_quality: 1-100 from the luminance quantisation table, 0 where it is no JPEG.
        face_share: area of the largest face's box / area of the picture; NaN without a face.
    """

    width: int = 0
    height: int = 0
    size: int = 0
    jpeg_quality: int = 0
    face_share: float = math.nan


@dataclass(frozen=True)
class Task:
    """One picture to score.

    Attributes:
        path: the picture.
        chain: what happens to it first (`faceproof.chains`).
        seed: of the chain.
        wanted: names of the contenders; none: the facts only.
    """

    path: Path
    chain: str = "none"
    seed: int = 0
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What came of a task.

    Attributes:
        status: "ok", "no_face" or "unreadable".
        error: why it is unreadable, and what to do; else "".
        judged: the face passes quality.
        scores: contender -> score of the largest face.
        failures: contender -> why it has no score for this face.
        facts: of the file.
    """

    status: str
    error: str = ""
    judged: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)


def read_one(
    task: Task,
    face_detector: FaceDetector,
    contenders: Mapping[str, Contender],
    *,
    gates: Gates | None = None,
    crop: CropSpec = STANDARD_CROP,
) -> Reading:
    """Read, perturb, find, judge and score one picture.

    Args:
        task: what to do.
        face_detector: finds the faces; the largest one counts.
        contenders: by name, those that `task.wanted` names at least.
        gates: quality limits.
        crop: the crop whose quality is judged.
    """
    try:
        picture = load(task.path)
        size = os.stat(task.path).st_size
    except (PictureError, OSError) as err:
        return Reading("unreadable", str(err))
    pixels = apply_chain(picture.pixels, task.chain, seed=task.seed)
    quality = jpeg_quality(task.path) if picture.format == "JPEG" else 0
    height, width = pixels.shape[:2]
    for face in face_detector.detect(pixels):
        try:
            judged_on = cut(crop, pixels, face.landmarks)
        except ValueError:  # coinciding landmarks: a false find, not a face
            continue
        x0, y0, x1, y1 = np.clip(face.box, 0, [width, height, width, height])
        share = float((x1 - x0) * (y1 - y0)) / (width * height)
        facts = Facts(picture.width, picture.height, size, quality, share)
        judged = not (gates or Gates()).judge(face, judged_on, width, height)
        scores, failures = _scores(task, pixels, face.landmarks, contenders)
        return Reading("ok", "", judged, scores, failures, facts)
    return Reading("no_face", facts=Facts(picture.width, picture.height, size, quality))


def _scores(
    task: Task,
    pixels: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.float32],
    contenders: Mapping[str, Contender],
) -> tuple[dict[str, float], dict[str, str]]:
    scores, failures = {}, {}
    for name in task.wanted:
        try:
            score = float(contenders[name].score(pixels, landmarks))
        except Exception as err:  # foreign code: one face it cannot take must not end the run
            failures[name] = f"{name} failed: {type(err).__name__}: {err}"
            continue
        if math.isfinite(score):
            scores[name] = score
        else:
            failures[name] = f"{name} gave the score {score}"
    return scores, failures


def jpeg_quality(path: str | os.PathLike[str]) -> int:
    """Return the quality, 1-100, whose luminance table has the sum nearest to the file's; 0 if it has none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None) or {}
    except (OSError, ValueError):
        return 0
    if 0 not in tables:
        return 0
    found = sum(tables[0])
    return min(range(100, 0, -1), key=lambda quality: abs(_TABLE_SUMS[quality - 1] - found))


def _table_sum(quality: int) -> int:
    """Sum of libjpeg's luminance table at a quality (jcparam.c); the sum does not depend on the order."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(min(255, max(1, (entry * scale + 50) // 100)) for entry in LUMINANCE)


_TABLE_SUMS = tuple(_table_sum(quality) for quality in range(1, 101))


def check_chains(chains: Sequence[str]) -> None:
    """Try every chain on a small picture.

    Raises:
        UsageError: a chain is not known.
    """
    for chain in chains:
        apply_chain(np.zeros((64, 64, 3), np.uint8), chain)


def readings(tasks: Iterable[Task], specs: Sequence[Spec], *, workers: int | None = None) -> Iterator[Reading]:
    """Do every task; yield one reading each, in order.

    Args:
        tasks: read lazily, at most a few dozen ahead.
        specs: the contenders that tasks may want.
        workers: processes; None takes one per core. With 1 this process does the work.

    Raises:
        UsageError, ModelError: a contender cannot be made.
    """
    count = chosen_workers(workers)
    if count == 1:
        face_detector, contenders = RetinaFace(threads=1), {spec.name: spec.make() for spec in specs}
        yield from (read_one(task, face_detector, contenders) for task in tasks)
    else:
        yield from in_order(iter(tasks), Job(_begin, (tuple(specs),), _work, _lost), count)


def _lost(task: Task) -> Reading:
    return Reading("unreadable", "the process that read it was killed (a crash, or no memory left); look at it alone")


_state: tuple[FaceDetector, dict[str, Contender]] | None = None


def _begin(specs: tuple[Spec, ...]) -> None:
    """Start of a worker: its own contenders, one thread each."""
    global _state  # noqa: PLW0603  (a worker process has this one state)
    # Read by the libraries that peers import; this process is ours alone.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(name, "1")
    _state = RetinaFace(threads=1), {spec.name: spec.make() for spec in specs}


def _work(part: list[Task]) -> list[Reading]:
    assert _state is not None  # _begin ran first
    return [read_one(task, *_state) for task in part]
