"""Find the faces of a training set once, remember them beside the run, and say what cannot be used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.datasets import Sample
from faceproof.errors import OutputError, PictureError, UsageError
from faceproof.faces.detection import FaceDetector
from faceproof.images import load, printable

__all__ = ["Landmarked", "Located", "find_faces", "locate"]

CACHE_EVERY = 2000
"""Pictures after which the cache is written, so that a run that is killed need not look at them again."""
SMALLEST_EYES = 12.0
"""Pixels between the eyes under which a face teaches nothing: a crop of it is a blur, or a false find."""


@dataclass(frozen=True)
class Landmarked:
    """Pictures with the landmarks of their largest face.

    Attributes:
        samples: N pictures.
        landmarks: (N, 5, 2) float32 x, y pixels, finite.
    """

    samples: tuple[Sample, ...]
    landmarks: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.landmarks.shape != (len(self.samples), 5, 2) or not np.isfinite(self.landmarks).all():
            raise UsageError(f"{len(self.samples)} pictures need ({len(self.samples)}, 5, 2) finite landmarks")
        if absent := {0, 1} - {sample.label for sample in self.samples}:
            lacking = " and no ".join(("photograph", "generated picture")[label] for label in sorted(absent))
            raise UsageError(
                f"no {lacking} with a usable face among {len(self.samples)} pictures; training and val each need both "
                "classes"
            )

    def only(self, samples: Sequence[Sample]) -> Landmarked:
        """Return the part of it that is in `samples`, in their order."""
        where = {sample.path: index for index, sample in enumerate(self.samples)}
        kept = [where[sample.path] for sample in samples if sample.path in where]
        return Landmarked(tuple(self.samples[i] for i in kept), self.landmarks[kept])


@dataclass(frozen=True)
class Located:
    """What was found.

    Attributes:
        data: the pictures with a usable face.
        faceless: pictures without a face, or with one under `SMALLEST_EYES` pixels between the eyes.
        unreadable: (path, why) of pictures that cannot be read.
    """

    data: Landmarked
    faceless: int
    unreadable: tuple[tuple[str, str], ...]


def locate(
    samples: Sequence[Sample],
    detector: FaceDetector,
    *,
    cache: str | Path | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Located:
    """Find the largest face of every picture.

    Args:
        samples: the pictures.
        detector: finds faces.
        cache: a .npz file to remember landmarks in; a picture is looked at again when its size in
            bytes or its time of change differs, and all are when the detector does.
        skip_unreadable: leave unreadable pictures out instead of raising.
        progress: called with pictures done and pictures in all.

    Raises:
        UsageError: a picture cannot be read (all are tried first, the first is named), or one class
            has no face.
    """
    kept, points, unreadable = find_faces(
        samples, detector, cache=cache, skip_unreadable=skip_unreadable, progress=progress
    )  # fmt: skip
    return Located(Landmarked(kept, points), len(samples) - len(kept) - len(unreadable), unreadable)


def find_faces(
    samples: Sequence[Sample],
    detector: FaceDetector,
    *,
    cache: str | Path | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[Sample, ...], npt.NDArray[np.float32], tuple[tuple[str, str], ...]]:
    """Do what `locate` does for pictures of any class.

    Returns:
        The samples with a usable face, their (N, 5, 2) float32 landmarks, and (path, why) of what is unreadable.
    """
    known = _read(cache, detector.name)
    fresh: dict[str, npt.NDArray[np.float32]] = {}
    kept: list[Sample] = []
    points: list[npt.NDArray[np.float32]] = []
    unreadable: list[tuple[str, str]] = []
    for done, sample in enumerate(samples, 1):
        try:
            key = _key(sample.path)
            found = known[key] if key in known else _find(sample.path, detector)
        except (PictureError, OSError) as err:
            unreadable.append((printable(sample.path), str(err)))
            continue
        finally:
            progress(done, len(samples))
        fresh[key] = found
        if cache is not None and len(fresh) % CACHE_EVERY == 0 and fresh.keys() - known.keys():
            _write(Path(cache), detector.name, known | fresh)
        if np.isfinite(found).all() and float(np.hypot(*(found[1] - found[0]))) >= SMALLEST_EYES:
            kept.append(sample)
            points.append(found)
    if cache is not None and fresh.keys() - known.keys():
        _write(Path(cache), detector.name, known | fresh)
    if unreadable and not skip_unreadable:
        path, why = unreadable[0]
        raise UsageError(
            f"{len(unreadable)} of {len(samples)} pictures cannot be read, e.g. {path}: {why}; mend or remove them, "
            "or leave them out with skip_unreadable=True (--skip-unreadable)"
        )
    return tuple(kept), np.array(points, np.float32).reshape(-1, 5, 2), tuple(unreadable)


def _find(path: Path, detector: FaceDetector) -> npt.NDArray[np.float32]:
    """(5, 2) landmarks of the largest face; NaN where there is none."""
    faces = detector.detect(load(path).pixels)
    return np.asarray(faces[0].landmarks, np.float32) if faces else np.full((5, 2), np.nan, np.float32)


def _key(path: Path) -> str:
    try:
        facts = path.stat()
    except (OSError, ValueError):  # a NUL in the name
        load(path)  # says it in better words
        raise
    return f"{path}|{facts.st_size}|{facts.st_mtime_ns}"


def _read(cache: str | Path | None, detector: str) -> dict[str, npt.NDArray[np.float32]]:
    if cache is None or not Path(cache).is_file():
        return {}
    try:
        with np.load(cache, allow_pickle=False) as held:
            if str(held["detector"]) != detector:
                return {}
            points = np.asarray(held["landmarks"], np.float32).reshape(-1, 5, 2)
            return dict(zip((str(key) for key in held["keys"].tolist()), points, strict=True))
    except Exception:  # damaged, and numpy raises many kinds for that: it is only a cache
        return {}


def _write(cache: Path, detector: str, known: dict[str, npt.NDArray[np.float32]]) -> None:
    temporary = cache.with_suffix(f".{os.getpid()}.tmp.npz")  # another process of the run may write it too
    try:
        np.savez(temporary, detector=detector, keys=list(known), landmarks=np.stack(list(known.values())))
        os.replace(temporary, cache)
    except OSError as err:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {cache} ({err.strerror or err}); free space or mend permissions") from err
