"""Photographs with what their cameras wrote down: the manifests self-supervised training ranks by.

A manifest is a CSV with `path, photo, kind (face | patch), split, make, model` and the four tags
`exposure_seconds, f_number, iso, focal_length_mm`; paths are relative to it. Splits are by camera model: what a
model has learned of one camera must show on another.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof import exif
from faceproof.errors import UsageError
from faceproof.images import printable

__all__ = ["TAGS", "Tagged", "TaggedCrop", "read_tagged"]

TAGS = {
    "iso": ("ISO", exif.iso),
    "f_number": ("aperture", exif.f_number),
    "exposure_seconds": ("exposure", exif.exposure_seconds),
    "focal_length_mm": ("focal length", exif.focal_length_mm),
}
"""Column -> word, and what reads a value; in the order of the network's heads."""
KINDS = ("face", "patch")
COLUMNS = ("path", "photo", "kind", "split", "make", "model", *TAGS)
LEAST = {"train": 32, "val": 20}
"""Photographs a split must hold: fewer give batches, or accuracies, that say nothing."""
LEAST_CAMERAS = 2


@dataclass(frozen=True)
class TaggedCrop:
    """One crop of a photograph.

    Attributes:
        path: of the crop.
        photo: which photograph it is of; crops of one share their tags.
        kind: "face" or "patch".
        split: "train", "val" or another.
        camera: make and model in lower case, spaces joined; "" where unknown.
        values: the tags in the order of `TAGS` (ISO, f-number, seconds, mm); NaN where unknown.
    """

    path: Path
    photo: str
    kind: str
    split: str
    camera: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"a crop is a face or a patch, not {self.kind!r}")
        if len(self.values) != len(TAGS) or any(v <= 0 or math.isinf(v) for v in self.values):
            raise UsageError(f"tags are {len(TAGS)} positive numbers or NaN, not {self.values}")


@dataclass(frozen=True)
class Tagged:
    """The crops of a manifest.

    Attributes:
        crops: N crops.
        missing: tag -> crops without it.
        wrong: tag -> crops whose value was no possible one (zero, negative, words, 1/0) and counts as missing.
    """

    crops: tuple[TaggedCrop, ...]
    missing: Mapping[str, int]
    wrong: Mapping[str, int]

    def split(self, name: str) -> tuple[TaggedCrop, ...]:
        """Return the crops of one split, which must hold enough photographs, cameras and differing tags.

        Raises:
            UsageError: it does not.
        """
        chosen = tuple(crop for crop in self.crops if crop.split == name)
        photographs, cameras = len({crop.photo for crop in chosen}), len({crop.camera for crop in chosen})
        least = LEAST.get(name, LEAST["val"])
        if photographs < least:
            known = ", ".join(sorted({crop.split for crop in self.crops})) or "none"
            raise UsageError(
                f"split {name!r} has {photographs} photographs with EXIF; at least {least} are needed (splits there "
                f"are: {known}): add photographs with `faceproof import exif`"
            )
        if cameras < LEAST_CAMERAS:
            raise UsageError(
                f"split {name!r} has photographs of {cameras} camera model; at least {LEAST_CAMERAS} are needed, so "
                "that tags and not one camera are learned"
            )
        held = tag_values(chosen)
        if not any(len(np.unique(column[~np.isnan(column)])) > 1 for column in held.T):
            raise UsageError(f"no tag of split {name!r} has two different values; there is nothing to rank")
        return chosen


def tag_values(crops: Sequence[TaggedCrop]) -> npt.NDArray[np.float64]:
    """Return the tags as (N, 4) float64, NaN where unknown, columns in the order of `TAGS`."""
    return np.array([crop.values for crop in crops], dtype=np.float64).reshape(-1, len(TAGS))


def digest(crops: Sequence[TaggedCrop]) -> str:
    """Return a short hash of which crops, splits and tags a list holds (not of their bytes)."""
    text = "\n".join(f"{c.path.name}|{c.photo}|{c.split}|{c.camera}|{c.values}" for c in crops)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_tagged(path: str | Path) -> Tagged:
    """Read a manifest of photographs with EXIF.

    Args:
        path: the CSV, or the folder with its manifest.csv.

    Raises:
        UsageError: it is missing, not a CSV, lacks a column or holds no row, or a camera model or a photograph
            lies in two splits.
    """
    path = Path(path)
    path = path / "manifest.csv" if path.is_dir() else path
    crops: list[TaggedCrop] = []
    missing, wrong = Counter[str](), Counter[str]()
    for number, row in enumerate(_rows(path), 2):
        values = []
        for tag, (_, read) in TAGS.items():
            text = (row[tag] or "").strip()
            value = read(text) if text else None
            missing[tag] += value is None
            wrong[tag] += bool(text) and value is None
            values.append(math.nan if value is None else value)
        if not row["path"] or not row["photo"] or not row["split"] or row["kind"] not in KINDS:
            raise UsageError(
                f"{printable(path)}, line {number}: path, photo and split must not be empty, and kind is one of "
                f"{', '.join(KINDS)}, not {row['kind']!r}"
            )
        crops.append(
            TaggedCrop(
                path.parent / row["path"], row["photo"], row["kind"], row["split"],
                camera_name(row["make"], row["model"]), tuple(values),
            )
        )  # fmt: skip
    if not crops:
        raise UsageError(f"{printable(path)} holds no photographs; make one with `faceproof import exif FOLDER`")
    _no_straddling(path, crops)
    return Tagged(tuple(crops), dict(missing), dict(wrong))


def camera_name(make: str | None, model: str | None) -> str:
    """Return one name for a camera model: lower case, spaces joined, the maker once; "" where neither is known."""
    maker, name = (" ".join((text or "").replace("\0", " ").split()).lower() for text in (make, model))
    first = maker.partition(" ")[0]
    return name if not first or name.startswith(first) else f"{maker} {name}".strip()


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UsageError(f"no manifest at {printable(path)}; make one with `faceproof import exif FOLDER --out {path}`")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            lacking = set(COLUMNS) - set(reader.fieldnames or ())
            if lacking:
                raise UsageError(f"{printable(path)} lacks the column(s) {', '.join(sorted(lacking))}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise UsageError(f"{printable(path)} cannot be read as a manifest ({err}); give a CSV in UTF-8") from err


def _no_straddling(path: Path, crops: Sequence[TaggedCrop]) -> None:
    """Raise UsageError where a camera model, or a photograph, lies in two splits."""
    for what, names in (
        ("camera model", [crop.camera for crop in crops]),
        ("photograph", [crop.photo for crop in crops]),
    ):
        splits: dict[str, set[str]] = {}
        for name, crop in zip(names, crops, strict=True):
            splits.setdefault(name, set()).add(crop.split)
        torn = {name: sorted(where) for name, where in splits.items() if len(where) > 1}
        if torn:
            name, where = next(iter(torn.items()))
            raise UsageError(
                f"{printable(path)}: {len(torn)} {what}(s) lie in several splits, e.g. {name or 'unknown'!r} in "
                f"{' and '.join(where)}; accuracy on cameras never seen could not be measured. Give every one of them "
                "one split"
            )
