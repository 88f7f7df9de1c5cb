"""Manifests of photographs with EXIF: what is read, what counts as missing, what is refused."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import UsageError
from faceproof.datasets import Sample
from faceproof.exif_data import COLUMNS, TAGS, camera_name, read_tagged, tag_values
from faceproof.pretraining_data import Faces, face_crop, gather, window

from .conftest import DATA
from .training_sets import base_landmarks, variant

Row = dict[str, str]


def row(number: int, **changes: str) -> Row:
    split = "val" if number % 3 == 0 else "train"
    return {
        "path": f"{number}.jpg", "photo": str(number), "kind": "patch", "split": split, "make": "Maker",
        "model": f"{split} {number % 6}", "iso": str(100 + number), "f_number": "f/2.8", "exposure_seconds": "1/200",
        "focal_length_mm": "50 mm",
    } | changes  # fmt: skip


def write(path: Path, rows: list[Row], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_tags_are_read_with_their_units(tmp_path: Path) -> None:
    rows = [row(n) for n in range(90)]
    rows[1] |= {"iso": "0", "f_number": "-1", "exposure_seconds": "1/0", "focal_length_mm": "nan"}
    rows[2] |= {"iso": "", "f_number": "0/0", "exposure_seconds": "2 s", "focal_length_mm": "inf"}
    found = read_tagged(write(tmp_path / "m.csv", rows))
    assert list(TAGS) == ["iso", "f_number", "exposure_seconds", "focal_length_mm"]
    assert found.crops[0].values == (100, 2.8, 0.005, 50)
    assert all(math.isnan(value) for value in found.crops[1].values)
    assert found.crops[2].values[2] == 2
    assert found.missing == {"iso": 2, "f_number": 2, "exposure_seconds": 1, "focal_length_mm": 2}
    assert found.wrong == {"iso": 1, "f_number": 2, "exposure_seconds": 1, "focal_length_mm": 2}
    assert found.crops[0].path == tmp_path / "0.jpg"
    assert found.crops[0].camera == "maker val 0"
    values = tag_values(found.split("train"))
    assert values.shape == (60, 4)
    assert np.isnan(values).sum() == 4 + 3
    (tmp_path / "manifest.csv").write_bytes((tmp_path / "m.csv").read_bytes())
    assert len(read_tagged(tmp_path).crops) == 90


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("Canon", "Canon EOS R6", "canon eos r6"),
        ("NIKON CORPORATION", "NIKON D90\0", "nikon d90"),
        ("SONY", "DSC-RX100", "sony dsc-rx100"),
        ("", "  X   1 ", "x 1"),
        ("Apple", "", "apple"),
        (None, None, ""),
    ],
)
def test_camera_names(make: str | None, model: str | None, name: str) -> None:
    assert camera_name(make, model) == name


def test_a_camera_model_or_photograph_in_two_splits_is_named(tmp_path: Path) -> None:
    rows = [row(n) for n in range(90)]
    rows[1]["model"] = "VAL 0"  # the same camera in other letters
    with pytest.raises(
        UsageError, match=r"1 camera model\(s\) lie in several splits, e\.g\. 'maker val 0' in train and"
    ):
        read_tagged(write(tmp_path / "m.csv", rows))
    rows[1] = row(1, photo="0")
    with pytest.raises(UsageError, match=r"1 photograph\(s\) lie in several splits, e\.g\. '0'"):
        read_tagged(write(tmp_path / "m.csv", rows))


def test_manifests_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with pytest.raises(UsageError, match="no manifest at .*faceproof import exif"):
        read_tagged(path)
    with pytest.raises(UsageError, match=r"lacks the column\(s\) iso, split"):
        read_tagged(write(path, [row(0)], tuple(c for c in COLUMNS if c not in ("iso", "split"))))
    with pytest.raises(UsageError, match="holds no photographs"):
        read_tagged(write(path, []))
    with pytest.raises(UsageError, match="line 2: .*not 'portrait'"):
        read_tagged(write(path, [row(0, kind="portrait")]))
    with pytest.raises(UsageError, match="line 3: .*must not be empty"):
        read_tagged(write(path, [row(0), row(1, split="")]))
    path.write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(UsageError, match="cannot be read as a manifest"):
        read_tagged(path)


def test_splits_that_teach_nothing(tmp_path: Path) -> None:
    found = read_tagged(write(tmp_path / "m.csv", [row(n) for n in range(30)]))
    with pytest.raises(UsageError, match="'train' has 20 photographs with EXIF; at least 32"):
        found.split("train")
    with pytest.raises(UsageError, match="splits there are: train, val"):
        found.split("test")
    one = [row(n, split="train", model="only") for n in range(40)]
    with pytest.raises(UsageError, match="photographs of 1 camera model"):
        read_tagged(write(tmp_path / "m.csv", one)).split("train")
    flat = [row(n, iso="100") for n in range(90)]
    with pytest.raises(UsageError, match="no tag of split 'train' has two different values"):
        read_tagged(write(tmp_path / "m.csv", flat)).split("train")


def test_windows_are_not_resampled(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path)
    middle = window(path, 64, None)
    np.testing.assert_array_equal(middle, pixels[13:77, 28:92])
    seen = set()
    for seed in range(30):
        part = window(path, 64, np.random.default_rng(seed))
        for flipped in (part, part[:, ::-1]):
            places = [(y, x) for y in range(27) for x in range(57) if (pixels[y, x : x + 64] == flipped[0]).all()]
            if places:
                y, x = places[0]
                np.testing.assert_array_equal(flipped, pixels[y : y + 64, x : x + 64])
                seen.add((y, x, flipped is part))
    assert len(seen) >= 25
    assert {way for _, _, way in seen} == {True, False}
    assert window(path, 128, None).shape == (128, 128, 3)  # enlarged where it must be
    with pytest.raises(UsageError, match=r"none\.png cannot be read"):
        window(tmp_path / "none.png", 64, None)


@pytest.fixture
def faces(tmp_path: Path) -> Faces:
    samples = []
    for number in range(3):
        Image.fromarray(variant(number, 0)[0]).save(tmp_path / f"{number}.png")
        samples.append(Sample(tmp_path / f"{number}.png", 0, "", "web", "train", str(number), ""))
    return Faces(tuple(samples), np.stack([base_landmarks()] * 3))


def test_face_crops_differ_by_the_manipulation_alone(faces: Faces) -> None:
    from faceproof.faces.alignment import align
    from faceproof.images import load

    plain = align(load(faces.samples[0].path).pixels, faces.landmarks[0], 96)
    untouched = [face_crop(faces, 0, 96, np.random.default_rng(s), manipulated=False) for s in range(6)]
    for crop in untouched:
        assert (crop == plain).all() or (crop == plain[:, ::-1]).all()
    for seed in range(6):
        touched = face_crop(faces, 0, 96, np.random.default_rng(seed), manipulated=True)
        near = min((touched != side).any(2).mean() for side in (plain, plain[:, ::-1]))
        assert 0 < near < 0.75
    twice = [face_crop(faces, 0, 96, np.random.default_rng(3), manipulated=True, recompressed=1) for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    saved = face_crop(faces, 0, 96, np.random.default_rng(3), manipulated=False, recompressed=1)
    assert 0 < min(np.abs(saved.astype(int) - side).mean() for side in (plain, plain[:, ::-1])) < 6


def test_faces_that_cannot_be_used(faces: Faces) -> None:
    samples = faces.samples
    with pytest.raises(UsageError, match=r"3 pictures need \(3, 5, 2\)"):
        Faces(samples, faces.landmarks[:2])
    with pytest.raises(UsageError, match="photographs only"):
        Faces((Sample(Path("x"), 1, "gan", "gan", "train", "g", ""),), faces.landmarks[:1])
    with pytest.raises(UsageError, match="no usable face"):
        face_crop(Faces(samples, faces.landmarks * 0 + 4), 0, 64, np.random.default_rng(0), manipulated=True)


def test_one_class_and_too_few(tmp_path: Path, checker: object) -> None:
    found = read_tagged(write(tmp_path / "m.csv", [row(n) for n in range(90)]))
    generated = [Sample(tmp_path / f"{n}.png", 1, "gan", "gan", "train", str(n), "") for n in range(50)]

    class Nobody:
        name = "nobody"

        def detect(self, pixels: object) -> list[object]:
            return []

    with pytest.raises(UsageError, match="'train' of the faces has 0 photographs; at least 32"):
        gather(found, generated, Nobody())  # type: ignore[arg-type]
    pictures = []
    for number in range(40):
        path = tmp_path / f"real-{number}.png"
        Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(path)
        pictures.append(Sample(path, 0, "", "web", "train", str(number), ""))
    with pytest.raises(UsageError, match="'train' of the faces has 0 photographs with a usable face"):
        gather(found, pictures, Nobody())  # type: ignore[arg-type]
    (tmp_path / "real-7.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"1 of 40 pictures cannot be read, e\.g\. .*real-7\.png"):
        gather(found, pictures, Nobody())  # type: ignore[arg-type]


@pytest.mark.data
def test_the_projects_manifest() -> None:
    folder = DATA / "exif"
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"{folder} is not there: the project's data set is not part of the repository")
    found = read_tagged(folder)
    assert len(found.crops) == 1509
    assert not any(found.missing.values())
    train, val = (found.split(split) for split in ("train", "val"))
    assert len(train) + len(val) == 1509
    assert not {crop.camera for crop in train} & {crop.camera for crop in val}
    exposures = tag_values(train)[:, 2]
    assert 1e-5 < exposures.min() < exposures.max() <= 60
