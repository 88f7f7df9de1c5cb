"""`faceproof import exif` on photographs written here: what is taken, what is left out and said so, what is refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import UsageError
from faceproof.datasets import read_manifest
from faceproof.exif_data import read_tagged
from faceproof.exif_import import import_exif, read_tags, split_of
from faceproof.images import RGB

from .helpers import run_cli

ISO, APERTURE, EXPOSURE, FOCAL = 0x8827, 0x829D, 0x829A, 0x920A


def jpeg(pixels: RGB, make: str | None = "Maker", model: str | None = "One", **tags: Any) -> bytes:
    """A JPEG with EXIF; tags by name, None leaves one out."""
    image, exif = Image.fromarray(pixels), Image.Exif()
    for code, text in ((0x010F, make), (0x0110, model)):
        if text is not None:
            exif[code] = text
    inner = exif.get_ifd(0x8769)
    given = {"iso": 200, "f_number": 2.8, "exposure": 0.01, "focal": 50.0} | tags
    for name, code in (("iso", ISO), ("f_number", APERTURE), ("exposure", EXPOSURE), ("focal", FOCAL)):
        if given[name] is not None:
            inner[code] = given[name]
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, exif=exif)
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of four cameras, and everything that cannot be taken."""
    import skimage.data

    place = tmp_path_factory.mktemp("photos")
    face, wall = np.asarray(skimage.data.astronaut()), np.asarray(skimage.data.coffee())
    (place / "in").mkdir()
    for number, model in enumerate(("One", "Two", "Three", "Maker Four")):
        (place / "in" / f"{number}.jpg").write_bytes(jpeg(face[number:], model=model, iso=100 * (number + 1)))
    (place / "wall.jpg").write_bytes(jpeg(wall, exposure=None))
    (place / "copy.jpg").write_bytes((place / "in" / "0.jpg").read_bytes())
    (place / "bare.jpg").write_bytes(jpeg(face, make=None, model=None))
    (place / "drawn.png").write_bytes(b"")
    Image.fromarray(face).save(place / "drawn.png")
    (place / "lies.jpg").write_bytes(jpeg(face[:300], iso=0, f_number=0.0, exposure=0.0, focal=0.0))
    (place / "tiny.jpg").write_bytes(jpeg(wall[:100, :100]))
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff" + b"\0" * 50)
    return place


def test_what_is_taken_and_what_is_said(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "data" / "mine.csv"
    done = run_cli("import", "exif", folder, "--out", out, "--val-share", "0.4")
    assert done.returncode == 1, done.stderr  # one file could not be read
    said = " ".join(done.stdout.split())  # wrapped at 80 columns
    for text in ("5 photographs of 4 camera models", "4 faces", "5 patches", "3 without camera model or exposure tags",
                 "1 too small", "1 repeated", "1 not readable", "tags missing: exposure 1", "broken.jpg"):  # fmt: skip
        assert text in said, text
    with out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9
    for row in rows:
        pixels = np.asarray(Image.open(out.parent / row["path"]))
        assert max(pixels.shape[:2]) <= 256
        assert row["split"] == split_of(
            {"Maker Four": "maker four"}.get(row["model"], f"maker {row['model'].lower()}"), 0.4
        )
        if row["kind"] == "patch":
            assert pixels.shape == (256, 256, 3)
            assert row["scale"] == "1.0000"
    found = read_tagged(out)
    by_photo = {crop.photo: crop.values for crop in found.crops}
    assert sorted(values[0] for values in by_photo.values()) == [100, 200, 200, 300, 400]
    assert found.missing["exposure_seconds"] == 1
    assert {crop.camera for crop in found.crops} == {"maker one", "maker two", "maker three", "maker four"}
    samples = read_manifest(out)  # the readers of train and evaluate take it too
    assert {(sample.label, sample.licence) for sample in samples} == {(0, "not stated")}
    assert len({sample.group for sample in samples}) == 5
    again = run_cli("import", "exif", folder, "--out", out)
    assert again.returncode == 2
    assert "exists; give another --out, or --overwrite" in again.stderr


def test_a_patch_is_a_piece_of_the_photograph(tmp_path: Path) -> None:
    """At native scale: the decoded crop is found in the picture again, but for its own compression."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(60, 190, (20, 25, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(jpeg(blocks))
    found = import_exif(tmp_path / "in", tmp_path / "m.csv")
    assert (found.photographs, found.faces, found.patches) == (1, 0, 1)
    patch = np.asarray(Image.open(next((tmp_path / "crops").iterdir()))).astype(int)
    whole = np.asarray(Image.open(tmp_path / "in" / "a.jpg")).astype(int)
    best = min(
        np.abs(whole[y : y + 256 : 8, x : x + 256 : 8] - patch[::8, ::8]).mean()
        for y in range(whole.shape[0] - 255) for x in range(whole.shape[1] - 255)
    )  # fmt: skip
    assert best < 3
    twice = import_exif(tmp_path / "in", tmp_path / "again" / "m.csv")
    assert twice == found
    assert (tmp_path / "again" / "m.csv").read_bytes() == (tmp_path / "m.csv").read_bytes()


def test_splits_follow_the_camera_alone() -> None:
    names = [f"maker {n}" for n in range(4000)]
    share = np.mean([split_of(name, 0.15) == "val" for name in names])
    assert abs(share - 0.15) < 0.025
    assert [split_of(n) for n in names[:50]] == [split_of(n) for n in names[:50]]


def test_exif_that_lies(astronaut: RGB) -> None:
    make, model, values = read_tags(jpeg(astronaut, model="A\x07B" + "x" * 500, iso=65535, exposure=1e9))
    assert make == "Maker"
    assert model.startswith("A B")
    assert len(model) <= 64
    assert values.keys() == {"f_number", "focal_length_mm"}
    data = bytearray(jpeg(astronaut))
    at = data.index(b"Exif\0\0")
    rng = np.random.default_rng(0)
    for _ in range(200):  # damage anywhere in the block: nothing is raised, nothing impossible comes out
        hurt = bytearray(data)
        for place in rng.integers(at, at + 220, 5):
            hurt[place] = int(rng.integers(256))
        _, _, values = read_tags(bytes(hurt))
        assert all(0 < value < 1e7 for value in values.values())


def test_wrong_use(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.csv"):
        import_exif(folder, tmp_path / "m.parquet")
    with pytest.raises(UsageError, match="between 0 and 1"):
        import_exif(folder, tmp_path / "m.csv", val_share=1)
    (tmp_path / "plain").mkdir()
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(tmp_path / "plain" / "a.png")
    with pytest.raises(UsageError, match="no photograph in .* could be taken: 1 without a camera model"):
        import_exif(tmp_path / "plain", tmp_path / "m.csv")
    done = run_cli("import", "exif", tmp_path / "nothing", "--out", tmp_path / "m.csv")
    assert done.returncode == 2
    assert "nothing" in done.stderr


def test_stopping_early(folder: Path, tmp_path: Path) -> None:
    found = import_exif(folder, tmp_path / "m.csv", most=2)
    assert found.photographs == 2
