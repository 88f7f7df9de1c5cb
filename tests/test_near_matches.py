"""Near matches on reports: found, turned copies too, the picture itself left out, nothing made of flat pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker
from faceproof.duplicates import HashOptions
from faceproof.errors import OutputError
from faceproof.hash_files import hash_to_file, open_hashes, read_hashes
from faceproof.hashing import hash_picture
from faceproof.images import RGB
from faceproof.inputs import Inputs
from faceproof.near_matches import SHOWN, Known, near_matches
from faceproof.report_pages import check_to_page

from .helpers import run_cli
from .test_explain_command import EXAMPLE
from .test_report_pages import embedded


@pytest.fixture
def archive(tmp_path: Path, astronaut: RGB) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    Image.fromarray(astronaut).resize((200, 200)).save(folder / "small.jpg", quality=60)
    Image.fromarray(np.rot90(astronaut).copy()).save(folder / "turned.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(folder / "other.png")
    Image.new("RGB", (90, 90), (9, 9, 9)).save(folder / "flat.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def hashes_of(folder: Path, kind: str = "phash") -> Path:
    path = folder.parent / f"{kind}.jsonl"
    with open_hashes(path, HashOptions(kind)) as file:
        hash_to_file(Inputs([str(folder)]), file)
    return path


@pytest.mark.parametrize("kind", ["phash", "dhash"])
def test_copies_are_found_in_a_file_of_hashes(kind: str, archive: Path, astronaut: RGB) -> None:
    known = Known(hashes_of(archive, kind))
    assert known.kind == kind
    [near] = near_matches([("asked.png", hash_picture(astronaut, kind, views=True))], kind, known)
    assert near is not None
    assert not near.flat
    assert {Path(match.path).name: match.view for match in near.nearest} == {
        "small.jpg": "as it is", "turned.png": "turned 90",
    }  # fmt: skip
    assert (near.total, near.among) == (2, 3)  # flat and broken ones have no hash to compare with
    assert all(match.distance <= near.radius for match in near.nearest)


def test_the_picture_itself_is_no_match(archive: Path, astronaut: RGB) -> None:
    path = str(archive / "turned.png")
    hashed = hash_picture(np.rot90(astronaut).copy(), views=True)
    [near] = near_matches([(path, hashed)], "phash", Known(hashes_of(archive)))
    assert near is not None
    assert [Path(match.path).name for match in near.nearest] == ["small.jpg"]
    assert near.among == 2


def test_pictures_of_a_page_are_compared_with_each_other(astronaut: RGB) -> None:
    hashed = hash_picture(astronaut, views=True)
    flat = hash_picture(np.zeros((64, 64, 3), np.uint8), views=True)
    first, second, third, video = near_matches([("a", hashed), ("b", hashed), ("c", flat), ("v.mp4", None)], "phash")
    assert first is not None
    assert [match.path for match in first.nearest] == ["b"]
    assert second is not None
    assert [match.path for match in second.nearest] == ["a"]
    assert third is not None
    assert third.flat
    assert third.among == 0
    assert video is None
    assert near_matches([("a", hashed)], "phash") == [None]  # nothing to compare with is not "none found"


def test_at_most_so_many_are_named(astronaut: RGB) -> None:
    hashed = hash_picture(astronaut, views=True)
    [near, *_] = near_matches([(f"{n:03}", hashed) for n in range(SHOWN + 6)], "phash")
    assert near is not None
    assert (len(near.nearest), near.total, near.among) == (SHOWN, SHOWN + 5, SHOWN + 5)


@pytest.mark.parametrize("content", [b"", b"no hashes\n", b'{"path":"a","kind":"md5"}\n', b"\xff\xfe\n"])
def test_what_is_no_file_of_hashes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="holds no hashes"):
        read_hashes(path)
    assert path.read_bytes() == content
    with pytest.raises(OutputError, match="is no file"):
        read_hashes(tmp_path)


@pytest.mark.slow
def test_reports_name_near_matches(archive: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, archive / "copy.jpg")
    hashes, out = hashes_of(archive), tmp_path / "report.html"
    before = hashes.read_bytes()
    done = run_cli("check", str(EXAMPLE), "--report", str(out), "--report-maps", "0", "--near", str(hashes))
    assert done.returncode == 0, done.stderr
    text = out.read_text(encoding="utf-8")
    [near] = embedded(text, "faceproof-report")["near_matches"]
    assert near["nearest"][0]["path"].endswith("copy.jpg")
    assert near["nearest"][0]["distance"] == 0
    assert "copy.jpg" in text.split("<h3>Near matches</h3>")[1].split("</table>")[0]
    assert hashes.read_bytes() == before
    refused = run_cli("check", str(EXAMPLE), "--near", str(hashes))
    assert refused.returncode == 2
    assert "--report" in refused.stderr


def test_a_page_about_one_picture_says_nothing_of_near_matches(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    check_to_page([EXAMPLE], FaceChecker(stability="off"), out, maps=0)
    text = out.read_text(encoding="utf-8")
    assert embedded(text, "faceproof-report")["near_matches"] == [None]
    assert "Near matches" not in text
