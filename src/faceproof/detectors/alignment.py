"""Is the picture cut as StyleGAN's training pictures were? Evidence about the crop, not about the pixels.

FFHQ (Karras et al. 2019) cuts every photograph to one similarity frame of its face's landmarks, and a StyleGAN
trained on it puts every face it makes at the same place. Ricker et al. (2024, arXiv 2404.14244) test this against a
reference: mean and standard deviation of key-point coordinates over a folder of such faces; a face is *aligned*
when every coordinate lies within mean +- 7 standard deviations. They have BlazeFace's six key points, this has
our five landmarks (eyes, nose, mouth corners): ten coordinates, as shares of the picture's width and height.

Photographs of FFHQ and CelebA-HQ share the frame, so a hit is never proof. And only the whole picture says
anything: of a square cut out around a face later, every face is in its middle. So only pictures that are about
square and hold one face are tested.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.detectors.store import WEIGHTS
from faceproof.errors import FaceproofError, ModelError, PictureError, UsageError
from faceproof.faces.detection import FaceDetector
from faceproof.images import Limits, load, printable
from faceproof.inputs import Item
from faceproof.records import Evidence
from faceproof.tables import well_formed, write_atomically

__all__ = [
    "ALIGNED_SENTENCE", "ALIGNED_WEIGHT", "SIGMAS", "SQUARE", "Alignment", "Built", "LogOdds", "Reference",
    "alignment_evidence", "alignment_evidence_inputs", "build_reference", "eye_distance", "log_odds", "not_whole",
    "read_reference", "shares", "write_reference",
]  # fmt: skip

SCHEMA = "faceproof.alignment/1"
SHIPPED = WEIGHTS / "stylegan-alignment" / "reference.json"
MAX_REFERENCE_BYTES = 64 * 1024
SIGMAS = 7.0
"""Standard deviations within which a coordinate counts as aligned (Ricker et al. 2024)."""
SQUARE = 0.05
"""Largest difference of a picture's sides, as a share of the longer one."""
MIN_STD = 1e-4
"""A tenth of a pixel in 1,024: reference pictures that differ less are copies of one."""
FFHQ_EYES = np.array([[0.38081, 0.47705], [0.61522, 0.47713]])
"""Where FFHQ's frame puts the eyes, as shares of the sides (constants of Ricker et al.'s code)."""
ALIGNED_WEIGHT = 0.65
"""Log-odds of an aligned face: those on val with all its photographs, FFHQ's and CelebA-HQ's too
(results/alignment-weight.csv). Without these two it is higher; where few generated faces are StyleGAN's, lower."""
ALIGNED_SENTENCE = (
    "the picture is cut like StyleGAN's training pictures (FFHQ alignment; farthest landmark {sigmas} standard "
    "deviations from the mean), and so are photographs of FFHQ and CelebA-HQ: evidence about the crop, not proof"
)

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Where the landmarks of aligned faces lie.

    Attributes:
        mean, std: (5, 2) as nested tuples: x, y of the eye on the picture's left, the other eye, nose, mouth
            corner on the left, the other one; shares of the picture's width and height. `std` has divisor N - 1.
        count: faces it was made of, at least 2.
        source: where they come from, in words.
        face_detector: name of what found the landmarks; another one puts them elsewhere.
        command: how it was made.
    """

    mean: tuple[tuple[float, float], ...]
    std: tuple[tuple[float, float], ...]
    count: int
    source: str
    face_detector: str
    command: str

    def __post_init__(self) -> None:
        mean, std = np.asarray(self.mean, dtype=np.float64), np.asarray(self.std, dtype=np.float64)
        if mean.shape != (5, 2) or std.shape != (5, 2):
            raise ModelError(f"mean and std of a reference are five (x, y) each, not {mean.shape} and {std.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(std).all()) or np.abs(mean).max() > 2 or std.max() > 1:
            raise ModelError("mean and std of a reference are shares of the picture's sides; these are not")
        if std.min() < MIN_STD:
            raise ModelError(f"the smallest std of the reference is {std.min():.2g}; at least {MIN_STD:g} is wanted")
        if self.count < 2:
            raise ModelError(f"a reference needs at least 2 faces, not {self.count}")

    def to_json(self) -> str:
        """Return what `read_reference` reads."""
        raw = {
            "schema": SCHEMA,
            "source": self.source,
            "count": self.count,
            "face_detector": self.face_detector,
            "points": ["eye left in the picture", "other eye", "nose", "mouth corner left", "other mouth corner"],
            "mean": [[round(v, 6) for v in point] for point in self.mean],
            "std": [[round(v, 6) for v in point] for point in self.std],
            "command": self.command,
        }
        return json.dumps(raw, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Alignment:
    """How a face lies in its picture.

    Attributes:
        eye_distance: GANEyeDistance, see `eye_distance`; 0 is FFHQ's frame, 0.05 is far from it.
        worst_sigma: the largest distance of a coordinate from the reference's mean, in standard deviations.
        aligned: whether all lie within `SIGMAS`; never where the test says nothing.
        unfit: why the test says nothing about this picture; "" where it does.
    """

    eye_distance: float
    worst_sigma: float
    aligned: bool
    unfit: str = ""

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        if self.unfit:
            return f"not tested for StyleGAN's frame: {self.unfit}"
        if self.aligned:
            return ALIGNED_SENTENCE.format(sigmas=f"{self.worst_sigma:.1f}")
        return (
            f"the picture is not cut like StyleGAN's training pictures (a landmark lies {self.worst_sigma:.0f} "
            "standard deviations from the mean): no evidence, as other generators and later crops are not"
        )


def read_reference(path: str | Path | None = None) -> Reference:
    """Read a reference file; the shipped one (StyleGAN2) for None.

    Raises:
        ModelError: missing, too large, not JSON, another schema, or figures that cannot be.
    """
    path = SHIPPED if path is None else Path(path)
    try:
        with path.open("rb") as stream:
            return _parsed(stream.read(MAX_REFERENCE_BYTES + 1))
    except OSError as err:
        raise ModelError(
            f"no alignment reference at {printable(path)} ({err.strerror or err}); make one with: faceproof reference"
        ) from err
    except (ModelError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as err:
        what = f"field {err} is missing" if isinstance(err, KeyError) else str(err)
        raise ModelError(
            f"{printable(path)} is not a usable alignment reference: {what}; make it again with: faceproof reference"
        ) from err


def _parsed(data: bytes) -> Reference:
    if len(data) > MAX_REFERENCE_BYTES:
        raise ValueError(f"it has more than the {MAX_REFERENCE_BYTES} bytes that are read")
    raw = json.loads(data.decode("utf-8"))
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"schema is {raw.get('schema')!r}, this version reads {SCHEMA!r}")
    mean, std = (tuple((float(x), float(y)) for x, y in raw[key]) for key in ("mean", "std"))
    texts = (str(raw[key]) for key in ("source", "face_detector", "command"))
    return Reference(mean, std, int(raw["count"]), *texts)


def write_reference(path: str | Path, reference: Reference | None, *, overwrite: bool = False) -> None:
    """Write a reference file, replacing it as a whole; with None only look whether it may be written.

    Raises:
        UsageError: there is a file already and `overwrite` is not given, a folder, or no folder to write in.
        OutputError: the disk does not take it.
    """
    path = Path(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{printable(path)} is a folder or lies in none; give a file in a folder that exists")
    if path.exists() and not overwrite:
        raise UsageError(f"{printable(path)} exists; give another --out, or --overwrite to replace it")
    if reference is not None:
        write_atomically(path, well_formed(reference.to_json()))


def shares(landmarks: npt.ArrayLike, width: int, height: int) -> Float:
    """Return landmarks (5, 2) x, y pixels as shares of the picture's width and height, (5, 2) float64.

    Raises:
        UsageError: another shape, not finite, or a picture without pixels.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UsageError(f"landmarks are (5, 2) finite x, y pixels, not {points.shape}")
    if width < 1 or height < 1:
        raise UsageError(f"a picture has at least one pixel, not {width} x {height}")
    return np.asarray(points / [width, height], dtype=np.float64)


def eye_distance(points: npt.ArrayLike) -> float:
    """GANEyeDistance of Ricker et al. (2024): small means StyleGAN-aligned.

    (|left eye - (.38081, .47705)| + |right eye - (.61522, .47713)|) / (2 sqrt 2), Euclidean norms.

    Args:
        points: (5, 2) or (2, 2) landmarks as shares of the sides, the eyes first.
    """
    eyes = np.asarray(points, dtype=np.float64)[:2]
    return float(np.hypot(*(eyes - FFHQ_EYES).T).sum() / (2 * math.sqrt(2)))


def not_whole(width: int, height: int, faces: int) -> str:
    """Return why a picture of these sides in pixels, with so many faces, cannot be tested; "" if it can."""
    if abs(width - height) > SQUARE * max(width, height):
        return f"the picture is not square ({width} x {height} pixels)"
    return "" if faces == 1 else f"the picture holds {faces} faces, the test is about pictures of one"


def alignment_evidence_inputs(
    landmarks: npt.ArrayLike,
    width: int,
    height: int,
    reference: Reference,
    *,
    faces: int = 1,
    sigmas: float = SIGMAS,
) -> Alignment:
    """Return how a face lies in its whole picture.

    Args:
        landmarks: (5, 2) x, y pixels of the whole picture: eyes (left in the picture first), nose, mouth corners.
        width, height: of the whole picture, pixels. Coordinates within a crop say nothing.
        reference: from `read_reference` or `build_reference`, made with the same face detector.
        faces: how many faces the picture holds.
        sigmas: standard deviations within which every coordinate must lie.

    Raises:
        UsageError: landmarks of another shape or not finite, or a picture without pixels.
    """
    points = shares(landmarks, width, height)
    worst = float((np.abs(points - np.asarray(reference.mean)) / np.asarray(reference.std)).max())
    unfit = not_whole(width, height, faces)
    return Alignment(eye_distance(points), worst, not unfit and worst <= sigmas, unfit)


def alignment_evidence(alignment: Alignment, *, weight: float = ALIGNED_WEIGHT) -> Evidence:
    """Return the evidence of a face's alignment.

    Args:
        alignment: of the face.
        weight: log-odds of an aligned face. A face that is not aligned, or not tested, always has 0: most generators
            do not align, and cutting a picture again undoes it.
    """
    return Evidence("alignment", weight if alignment.aligned else 0.0, alignment.sentence)


@dataclass(frozen=True)
class Built:
    """A reference, and what it was not made of.

    Attributes:
        reference: to be written with `to_json`.
        faceless, several, not_square, copies: pictures left out: no face, more than one, not about square,
            bytes of a picture already taken.
        unreadable: (path, why) of pictures that could not be read.
    """

    reference: Reference
    faceless: int
    several: int
    not_square: int
    copies: int
    unreadable: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, the reference as its file holds it."""
        left_out = {name: getattr(self, name) for name in ("faceless", "several", "not_square", "copies")}
        unreadable = [{"path": path, "error": why} for path, why in self.unreadable]
        return {"reference": json.loads(self.reference.to_json()), **left_out, "unreadable": unreadable}


def build_reference(
    pictures: Sequence[Item],
    detector: FaceDetector,
    *,
    source: str,
    command: str,
    min_pictures: int = 20,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """Make a reference of whole pictures of aligned faces.

    Args:
        pictures: from `faceproof.inputs.Inputs`.
        detector: finds faces and landmarks; the same one must be used in checking.
        source: where the pictures come from, for the file.
        command: how this was called, for the file.
        min_pictures: square pictures with one face that must be left.
        limits: what a picture may cost.
        progress: called with pictures done and pictures in all.

    Raises:
        UsageError: too few pictures are left, or they are practically the same.
    """
    if min_pictures < 2:
        raise UsageError(f"a standard deviation needs at least 2 pictures, not {min_pictures} (--min-pictures)")
    counts = {"faceless": 0, "several": 0, "not_square": 0, "copies": 0}
    points: list[Float] = []
    unreadable: list[tuple[str, str]] = []
    seen: set[str | None] = set()
    for done, item in enumerate(pictures, 1):
        try:
            found = _located(item, detector, limits, seen)
        except PictureError as err:
            unreadable.append((printable(item.path), str(err)))
        else:
            if isinstance(found, str):
                counts[found] += 1
            else:
                points.append(found)
        progress(done, len(pictures))
    if len(points) < min_pictures:
        raise _too_few(len(points), len(pictures), min_pictures, counts, unreadable)
    return Built(_reference(points, source, detector.name, command), unreadable=tuple(unreadable), **counts)


def _located(item: Item, detector: FaceDetector, limits: Limits | None, seen: set[str | None]) -> Float | str:
    """Landmarks (5, 2) of a picture's only face as shares, or the name of the count it belongs to."""
    if item.error is not None:
        raise PictureError(item.error)
    picture = load(item.source, limits=limits)
    if picture.sha256 in seen:
        return "copies"
    seen.add(picture.sha256)
    if not_whole(picture.width, picture.height, 1):
        return "not_square"
    faces = detector.detect(picture.pixels)
    if len(faces) != 1:
        return "several" if faces else "faceless"
    return shares(faces[0].landmarks, picture.width, picture.height)


def _reference(points: Sequence[Float], source: str, face_detector: str, command: str) -> Reference:
    stacked = np.stack(points)
    mean, std = stacked.mean(0), stacked.std(0, ddof=1)
    if std.min() < MIN_STD:
        raise UsageError(
            f"the landmarks of all {len(points)} pictures lie at the same place (standard deviation {std.min():.2g} of "
            "the side): they are copies of one picture; give different faces"
        )
    pairs = [tuple((float(x), float(y)) for x, y in values) for values in (mean, std)]
    return Reference(pairs[0], pairs[1], len(points), source, face_detector, command)


def _too_few(
    left: int, total: int, wanted: int, counts: dict[str, int], unreadable: Sequence[tuple[str, str]]
) -> FaceproofError:
    what = f"only {left} of {total} pictures are left" if left else f"none of {total} pictures is left"
    reasons = [
        f"{counts['faceless']} without a face", f"{counts['several']} with several faces",
        f"{counts['not_square']} not square", f"{counts['copies']} copies of others", f"{len(unreadable)} not readable",
    ]  # fmt: skip
    first = f", e.g. {unreadable[0][0]}: {unreadable[0][1]}" if unreadable else ""
    return UsageError(
        f"{what} to make a reference of, at least {wanted} are needed ({', '.join(reasons)}{first}); give a folder of "
        "more whole, square pictures of one face each, or lower --min-pictures"
    )


@dataclass(frozen=True)
class LogOdds:
    """What being aligned says.

    Attributes:
        generated, of_generated: aligned among the generated pictures, and how many those are.
        photographs, of_photographs: the same of photographs.
        value: natural log of the ratio of the two shares (the log-odds a hit adds).
        low, high: its 95 % interval.
    """

    generated: int
    of_generated: int
    photographs: int
    of_photographs: int
    value: float
    low: float
    high: float


def log_odds(generated: Iterable[bool], photographs: Iterable[bool], *, z: float = 1.959964) -> LogOdds:
    """Return what one outcome of a test says about a picture, from its outcomes on labelled pictures.

    ln((k1 + .5) / (n1 + 1)) - ln((k0 + .5) / (n0 + 1)); the interval is the delta method's on the log of a ratio
    of two shares (Katz et al. 1978), the halves Walter's (1975), so that no count of zero gives infinity.

    Args:
        generated: the outcome for each generated picture.
        photographs: the same for photographs.
        z: half-width in standard errors.

    Raises:
        UsageError: a class without pictures.
    """
    ones, zeros = list(generated), list(photographs)
    if not ones or not zeros:
        raise UsageError(f"both classes are needed, got {len(ones)} generated pictures and {len(zeros)} photographs")
    (k1, n1), (k0, n0) = (sum(ones), len(ones)), (sum(zeros), len(zeros))
    value = math.log((k1 + 0.5) / (n1 + 1)) - math.log((k0 + 0.5) / (n0 + 1))
    half = z * math.sqrt(1 / (k1 + 0.5) - 1 / (n1 + 1) + 1 / (k0 + 0.5) - 1 / (n0 + 1))
    return LogOdds(k1, n1, k0, n0, value, value - half, value + half)
