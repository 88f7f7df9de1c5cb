"""`faceproof reference` as a process: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from faceproof.detectors.alignment import alignment_evidence_inputs, read_reference
from faceproof.faces.detection import RetinaFace
from faceproof.images import RGB, load
from tests.helpers import run_cli

FACES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> Path:
    """Squares around one face, each a little elsewhere."""
    folder = tmp_path_factory.mktemp("faces")
    for number in range(FACES):
        left, top, side = 110 + 6 * number, 2 * number, 230 + 5 * (number % 3)
        Image.fromarray(astronaut).crop((left, top, left + side, top + side)).save(folder / f"{number}.png")
    return folder


def test_from_a_folder_to_a_reference_that_tests(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "r.json"
    done = run_cli("reference", folder, "--out", out, "--min-pictures", "5")
    assert done.returncode == 0, done.stderr
    assert f"landmarks of {FACES} faces" in done.stdout
    assert "0 not readable" in done.stdout
    made = read_reference(out)
    assert (made.count, made.source) == (FACES, folder.name)
    assert made.command.startswith("faceproof reference ")
    picture = load(folder / "2.png")
    face = RetinaFace().detect(picture.pixels)[0]
    found = alignment_evidence_inputs(face.landmarks, picture.width, picture.height, made)
    assert found.aligned
    assert found.worst_sigma < 3  # of six values none lies further than 2.04 deviations from their mean

    again = run_cli("reference", folder, "--out", out, "--min-pictures", "5")
    assert again.returncode == 2
    assert "exists; give another --out, or --overwrite" in again.stderr
    more = run_cli(
        "reference", folder, "--out", out, "--min-pictures", "5", "--overwrite", "--json", "--source", "one woman"
    )
    assert json.loads(more.stdout)["reference"]["source"] == "one woman" == read_reference(out).source


def test_what_is_left_out_is_named_and_tells_in_the_exit_code(tmp_path: Path, folder: Path) -> None:
    names = [str(path) for path in sorted(folder.iterdir())]
    (tmp_path / "broken.png").write_bytes((folder / "0.png").read_bytes()[:900])
    Image.new("RGB", (90, 90)).save(tmp_path / "empty.png")
    (tmp_path / "list.txt").write_text("\n".join([*names, "broken.png", "empty.png", "gone.png"]))
    done = run_cli("reference", tmp_path / "list.txt", "--out", tmp_path / "r.json", "--min-pictures", "5")
    assert done.returncode == 1, done.stderr
    shown = " ".join(done.stdout.split())
    assert "1 without a face" in shown
    assert "2 not readable" in shown
    assert "broken.png: the picture's data are damaged" in shown
    assert read_reference(tmp_path / "r.json").count == FACES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["full", "--out", "r.json"], "only 1 of 1 pictures are left to make a reference of, at least 20 are needed"),
        (["black", "--out", "r.json"], "none of 1 pictures is left"),
        (["black", "--out", "r.json"], "1 without a face"),
        (["empty", "--out", "r.json"], "no pictures in empty"),
        (["nowhere", "--out", "r.json"], "nowhere: no such file"),
        (["full", "--out", "no/r.json"], "lies in none; give a file in a folder that exists"),
        (["full", "--out", "black"], "is a folder"),
        (["full", "--out", "r.json", "--min-pictures", "1"], "Invalid value for '--min-pictures'"),
        (["full", "--out", "r.json", "--face-detector", "none.onnx"], "no YuNet model at none.onnx"),
        (["full"], "Missing option"),
    ],
)
def test_wrong_use(tmp_path: Path, folder: Path, arguments: list[str], message: str) -> None:
    for name in ("full", "black", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "0.png").write_bytes((folder / "0.png").read_bytes())
    Image.new("RGB", (64, 64)).save(tmp_path / "black" / "b.png")
    done = run_cli("reference", *arguments, cwd=tmp_path, env={"COLUMNS": "200"})
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["black", "empty", "full"]


def test_help_says_what_it_wants() -> None:
    done = run_cli("reference", "--help")
    assert done.returncode == 0
    assert "--min-pictures" in done.stdout
    assert "one face" in done.stdout
