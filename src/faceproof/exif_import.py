"""Any folder of photographs with EXIF -> crops and a manifest to pretrain on.

Of every photograph the largest face (up to 256 px) and one patch at native scale are kept, all as JPEG of one
quality, so that the file says nothing of where a crop comes from. Whole camera models go to train or val, by a
hash of their name: the same camera goes the same way in every import.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import OutputError, PictureError, UsageError
from faceproof.exif_data import COLUMNS, TAGS, camera_name
from faceproof.faces.alignment import crop_quad
from faceproof.faces.detection import FaceDetector, face_detector
from faceproof.images import Limits, load, printable, read_bytes
from faceproof.inputs import Inputs
from faceproof.tables import write_atomically

__all__ = ["Imported", "import_exif", "split_of"]

SIDE = 256
QUALITY = 91
"""JPEG without chroma subsampling, as the project's own crops."""
PHOTO_COLUMNS = (
    *COLUMNS[:4], "scale", "source", *COLUMNS[4:], "photo_width", "photo_height", "label", "group", "licence",
)  # fmt: skip
"""The last three make it a manifest that `train` and `evaluate` read as well."""
WANTED = {"iso": 0x8827, "f_number": 0x829D, "exposure_seconds": 0x829A, "focal_length_mm": 0x920A}
"""Exif 2.32, section 4.6.5: PhotographicSensitivity, FNumber, ExposureTime, FocalLength."""
EXIF_IFD, MAKE, MODEL = 0x8769, 0x010F, 0x0110
LONGEST_NAME = 64


@dataclass
class Imported:
    """What an import found; counted in photographs unless said otherwise.

    Attributes:
        photographs: taken, with a camera model and at least one tag.
        faces, patches: crops written.
        cameras: camera models among them.
        splits: photographs of each split.
        without_exif: files without a camera model or any of the four tags.
        missing: tag -> photographs taken without it.
        small: too small for a patch and without a face.
        repeated: files with the bytes of one before.
        unreadable: (path, why).
    """

    photographs: int = 0
    faces: int = 0
    patches: int = 0
    cameras: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    without_exif: int = 0
    missing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TAGS, 0))
    small: int = 0
    repeated: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def split_of(camera: str, val_share: float = 0.15) -> str:
    """Return "val" for a share of all camera names and "train" for the others, by a hash of the name."""
    number = int.from_bytes(hashlib.blake2b(camera.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return "val" if number < val_share * 2**64 else "train"


def import_exif(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    val_share: float = 0.15,
    most: int | None = None,
    overwrite: bool = False,
    limits: Limits | None = None,
    finder: FaceDetector | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Walk a folder and write crops beside a manifest.

    Args:
        folder: of photographs, or a list as `faceproof scan` takes it.
        out: the manifest (.csv) to write; crops go to the folder `crops` beside it.
        val_share: share of camera models held out, 0 to 1.
        most: stop after so many photographs; None: take all.
        overwrite: replace an older manifest there, and crops of the same names.
        limits: what one picture may cost.
        finder: of faces; None makes RetinaFace.
        progress: called with files done and in all.

    Raises:
        UsageError: there is nothing to import, no photograph has EXIF, or `out` exists.
        OutputError: the disk does not take it.
    """
    out = Path(out)
    if out.suffix.lower() != ".csv":
        raise UsageError(f"--out {printable(out)} must end in .csv; crops are written to a folder beside it")
    if out.exists() and not overwrite:
        raise UsageError(f"{printable(out)} exists; give another --out, or --overwrite to replace it")
    if not 0 < val_share < 1:
        raise UsageError(f"--val-share must lie between 0 and 1, not {val_share}")
    inputs = Inputs([os.fspath(folder)])
    total = inputs.count()
    _make(out.parent / "crops")
    found, finder, limits = Imported(), finder or face_detector(None), limits or Limits()
    rows: list[dict[str, object]] = []
    seen: set[bytes] = set()
    for done, item in enumerate(inputs, 1):
        progress(done, total)
        if item.error is not None:
            found.unreadable.append((printable(item.path), item.error))
            continue
        try:
            data = read_bytes(item.path, limits)
            if (key := hashlib.blake2b(data, digest_size=16).digest()) in seen:
                found.repeated += 1
                continue
            seen.add(key)
            rows += _photograph(data, key.hex()[:12], item.path, out.parent, finder, limits, val_share, found)
        except (PictureError, UsageError) as err:
            found.unreadable.append((printable(item.path), str(err)))
        if most is not None and found.photographs >= most:
            break
    if not rows:
        raise UsageError(
            f"no photograph in {printable(folder)} could be taken: {found.without_exif} without a camera model or "
            f"exposure tags, {found.small} too small, {len(found.unreadable)} not readable; give originals, since "
            "websites mostly strip EXIF"
        )
    found.cameras = len({camera_name(str(row["make"]), str(row["model"])) for row in rows})
    _write(out, rows)
    return found


def _photograph(
    data: bytes, photo: str, path: str, folder: Path, finder: FaceDetector, limits: Limits, val_share: float,
    found: Imported,
) -> list[dict[str, object]]:  # fmt: skip
    """Crop one photograph and return its rows; none where it has no EXIF or is too small."""
    picture = load(data, limits=limits)  # first: what it refuses must not reach another parser
    make, model, values = read_tags(data)
    if not camera_name(make, model) or not values:
        found.without_exif += 1
        return []
    crops = _crops(picture.pixels, finder, seed=int(photo, 16))
    if not crops:
        found.small += 1
        return []
    split = split_of(camera_name(make, model), val_share)
    rows: list[dict[str, object]] = []
    for kind, scale, pixels in crops:
        name = f"crops/{photo}-{kind}.jpg"
        write_atomically(folder / name, _jpeg(pixels))
        rows.append(
            {
                "path": name, "photo": photo, "kind": kind, "split": split, "scale": f"{scale:.4f}",
                "source": printable(Path(path).parent.name), "make": make, "model": model,
                **{tag: f"{values[tag]:.9g}" if tag in values else "" for tag in TAGS},
                "photo_width": picture.width, "photo_height": picture.height,
                "label": "photograph", "group": photo, "licence": "not stated",
            }
        )  # fmt: skip
    found.photographs += 1
    found.faces += sum(kind == "face" for kind, _, _ in crops)
    found.patches += sum(kind == "patch" for kind, _, _ in crops)
    found.splits[split] = found.splits.get(split, 0) + 1
    for tag in TAGS:
        found.missing[tag] += tag not in values
    return rows


def read_tags(data: bytes) -> tuple[str, str, dict[str, float]]:
    """Return maker, model and the tags of `TAGS` with a possible value, from a file's EXIF; empty where there is none.

    EXIF that is damaged, too long or lies gives what of it can be read; nothing is raised.
    """
    from PIL import Image

    entries: dict[int, Any] = {}
    with contextlib.suppress(Exception):  # Pillow's parsers raise many kinds on broken EXIF; it is then as if absent
        with Image.open(io.BytesIO(data)) as image:
            base = image.getexif()
        entries = dict(base)
        entries |= base.get_ifd(EXIF_IFD)
    make, model = (_text(entries.get(tag)) for tag in (MAKE, MODEL))
    read = {tag: TAGS[tag][1](entries.get(code)) for tag, code in WANTED.items()}
    return make, model, {tag: value for tag, value in read.items() if value is not None}


def _text(value: object) -> str:
    """A name as a manifest can hold it: printable, short; "" for anything else."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in value[:LONGEST_NAME]).split())


def _crops(
    pixels: npt.NDArray[np.uint8], finder: FaceDetector, *, seed: int
) -> list[tuple[str, float, npt.NDArray[np.uint8]]]:
    """(kind, scale, pixels): the largest face in at most 256 px, and 256 px at native scale from a random place."""
    from PIL import Image

    height, width = pixels.shape[:2]
    found: list[tuple[str, float, npt.NDArray[np.uint8]]] = []
    for face in finder.detect(pixels)[:1]:
        try:
            quad = crop_quad(face.landmarks)
        except ValueError:  # coinciding landmarks: a false find
            continue
        x0, y0 = (max(0, int(v)) for v in np.floor(quad.min(0)))
        x1, y1 = (min(limit, int(v)) for v, limit in zip(np.ceil(quad.max(0)), (width, height), strict=True))
        scale = min(1.0, SIDE / max(1, x1 - x0, y1 - y0))
        if min(x1 - x0, y1 - y0) * scale < SIDE / 4:
            continue
        part = Image.fromarray(pixels[y0:y1, x0:x1])
        if scale < 1:
            part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS)
        found.append(("face", scale, np.asarray(part)))
    if min(height, width) >= SIDE:
        rng = np.random.default_rng(seed)
        y, x = (int(rng.integers(0, length - SIDE + 1)) for length in (height, width))
        found.append(("patch", 1.0, pixels[y : y + SIDE, x : x + SIDE]))
    return found


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"cannot make the folder {printable(folder)} ({err.strerror or err}); give another --out"
        ) from err


def _write(out: Path, rows: list[dict[str, object]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, PHOTO_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out, stream.getvalue())
