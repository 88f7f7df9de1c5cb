"""`faceproof explain` and `explanation.explain`: which face, which class, what is written, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from faceproof import FaceChecker, Gates, UsageError
from faceproof.detectors.card import Card
from faceproof.errors import OutputError, PictureError, UnreadableError
from faceproof.explain.maps import upscaled
from faceproof.explanation import Explanation, explain
from faceproof.explanation_files import OWN, check_folder, pictures_of, write_explanation
from faceproof.explanation_html import explanation_page
from faceproof.images import RGB

from .helpers import run_cli, without_root


class Stub:
    """A detector with a card of ours: `gain` times how much brighter the crop's left half is, and an offset."""

    def __init__(self, card: Card, gain: float, offset: float) -> None:
        self._card, self.gain, self.offset = card, gain, offset

    @property
    def card(self) -> Card:
        return self._card

    def score(self, crops: RGB) -> np.ndarray:
        half = crops.shape[2] // 2
        contrast = (crops[:, :, :half].mean((1, 2, 3)) - crops[:, :, half:].mean((1, 2, 3))) / 255
        return np.asarray(self.offset + self.gain * contrast, np.float32)


@pytest.fixture(scope="module")
def found(astronaut: RGB) -> Explanation:
    return explain(astronaut, FaceChecker(), draws=4)


@pytest.fixture(scope="module")
def two_faces(astronaut: RGB) -> RGB:
    """The same face twice; the smaller one, second, is mirrored."""
    small = Image.fromarray(astronaut[:320, 60:380, :][:, ::-1]).resize((240, 240), Image.Resampling.LANCZOS)
    canvas = np.full((512, 760, 3), 200, np.uint8)
    canvas[:, :512] = astronaut
    canvas[:240, 516:756] = np.asarray(small)
    return canvas


def test_the_class_that_was_decided_is_explained(astronaut: RGB, checker: FaceChecker, found: Explanation) -> None:
    """The astronaut is a photograph: her map is the evidence with its sign turned."""
    assert (found.answer, found.decided) == ("photograph", True)
    heat = found.maps[0].heat
    assert heat.name == "cam"
    crop = found.crop
    np.testing.assert_allclose(heat.values, upscaled(-checker.detector.evidence_map(crop[None])[0], len(crop)))  # type: ignore[attr-defined]
    score = found.face.verdict.score
    assert score == pytest.approx(float(checker.detector.score(crop[None])[0]), abs=1e-4)


@pytest.mark.parametrize(("offset", "answer"), [(9.0, "generated"), (-9.0, "photograph")])
def test_signs_of_both_classes(astronaut: RGB, checker: FaceChecker, offset: float, answer: str) -> None:
    """A score that falls with the left half: it speaks for photograph there, and for generated on the right."""
    own = explain(astronaut, FaceChecker(Stub(checker.card, -4.0, offset)), draws=4)
    assert own.answer == answer
    assert [one.heat.name for one in own.maps] == ["occlusion", "ela", "noise"]
    covered = own.maps[0].heat.values
    other = explain(astronaut, FaceChecker(Stub(checker.card, 4.0, -offset)), draws=4)
    assert other.answer != answer
    np.testing.assert_allclose(other.maps[0].heat.values, covered, atol=1e-3)  # towards the answer, whichever it is


def test_an_inconclusive_face_says_which_side_is_explained(astronaut: RGB, checker: FaceChecker) -> None:
    own = explain(astronaut, FaceChecker(Stub(checker.card, 0.0, 2.0)), draws=1)
    assert not own.decided
    assert "inconclusive; it leans to generated" in own.about
    assert not own.maps[0].deletion.better  # a constant score rests on nothing
    assert own.maps[0].heat.values.max() == 0


def test_other_evidence_than_the_network_is_named(tmp_path: Path, astronaut: RGB, found: Explanation) -> None:
    """A generator's tag in the file decides against the network: no map can show that, and each says so."""
    assert not found.contradicted
    text = PngInfo()
    text.add_text("parameters", "a woman\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: x")
    Image.fromarray(astronaut).save(tmp_path / "tagged.png", pnginfo=text)
    own = explain(tmp_path / "tagged.png", FaceChecker(), draws=1)
    assert own.answer == "generated"
    assert own.contradicted
    assert own.to_dict()["network_leans_the_other_way"]
    assert "THE NETWORK LEANS THE OTHER WAY" in own.about
    assert "THE NETWORK LEANS THE OTHER WAY" in explanation_page(own, FaceChecker().card)
    np.testing.assert_allclose(own.maps[0].heat.values, -found.maps[0].heat.values, atol=1e-4)


def test_the_same_twice(astronaut: RGB, found: Explanation) -> None:
    again = explain(astronaut, FaceChecker(), draws=4)
    assert again.to_dict() == found.to_dict()
    for name, pixels in pictures_of(again).items():
        np.testing.assert_array_equal(pixels, pictures_of(found)[name])


def test_which_face(two_faces: RGB, checker: FaceChecker) -> None:
    result = checker.check(two_faces)
    assert len(result.faces) == 2
    default = explain(two_faces, checker, draws=1)
    assert default.face == result.decisive
    first, second = (explain(two_faces, checker, face=number, draws=1) for number in (1, 2))
    assert (first.number, second.number) == (1, 2)
    assert first.face.box[0] < second.face.box[0]
    assert "face 2 of 2" in second.about
    with pytest.raises(UsageError, match=r"has 2 face\(s\); --face 3 is none"):
        explain(two_faces, checker, face=3)


def test_faces_that_cannot_be_explained(astronaut: RGB) -> None:
    strict = FaceChecker(gates=Gates(min_side=5000))
    with pytest.raises(PictureError, match=r"none of 1 face\(s\) can be judged; face 1 is not judged.*too small"):
        explain(astronaut, strict)
    with pytest.raises(PictureError, match="face 1 is not judged, so there is nothing to explain"):
        explain(astronaut, strict, face=1)
    with pytest.raises(PictureError, match="no face was found in 64 x 48 pixels"):
        explain(np.zeros((48, 64, 3), np.uint8), strict)
    with pytest.raises(UnreadableError):
        explain("nowhere.jpg", strict)


def test_what_is_written(tmp_path: Path, found: Explanation, checker: FaceChecker) -> None:
    files = write_explanation(found, checker.card, tmp_path / "a" / "b")
    assert {path.name for path in files} == {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert {path.name for path in files} <= OWN
    record = json.loads((tmp_path / "a" / "b" / "explain.json").read_text())
    assert record == found.to_dict()
    page = files[0].read_text()
    embedded = re.search(r'<script type="application/json" id="faceproof-explanation">(.*?)</script>', page, re.S)
    assert embedded
    assert json.loads(embedded[1]) == record
    assert not re.search(r"https?://", re.sub(r"<script.*?</script>", "", page, flags=re.S))
    assert "default-src 'none'" in page
    for entry in record["maps"]:
        assert entry["deletion"]["draws"] == 4
        assert ("NO BETTER THAN CHANCE" in entry["words"]) == (not entry["deletion"]["better_than_chance"])
        better = str(entry["deletion"]["better_than_chance"]).lower()
        assert f'data-map="{entry["name"]}" data-better="{better}"' in page
        with Image.open(tmp_path / "a" / "b" / f"{entry['name']}.png") as image:
            assert image.size[0] == 504
        grid = np.array(entry["values"])
        assert grid.shape == (13, 13)
    cam = next(one for one in found.maps if one.heat.name == "cam")
    assert np.mean(record["maps"][0]["values"]) == pytest.approx(cam.heat.values.mean(), abs=0.05)


def test_only_an_explanation_is_replaced(tmp_path: Path, found: Explanation, checker: FaceChecker) -> None:
    out = tmp_path / "out"
    write_explanation(found, checker.card, out)
    (out / "gradcam.png").write_bytes(b"of an older run")
    with pytest.raises(UsageError, match="--overwrite"):
        write_explanation(found, checker.card, out)
    write_explanation(found, checker.card, out, overwrite=True)
    assert not (out / "gradcam.png").exists()
    (out / "thesis.txt").write_text("three years")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        check_folder(out, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        check_folder(tmp_path / "file")


def test_a_disk_that_refuses(
    tmp_path: Path, found: Explanation, checker: FaceChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        write_explanation(found, checker.card, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "face.jpg")
    done = run_cli("explain", tmp_path / "face.jpg", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record == json.loads((tmp_path / "out" / "explain.json").read_text())
    assert [entry["name"] for entry in record["maps"]] == ["cam", "occlusion", "ela", "noise"]
    assert all(entry["deletion"]["draws"] == 39 for entry in record["maps"])
    done = run_cli("explain", tmp_path / "face.jpg", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--overwrite" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.jpg", "--out", "o"], 1, "no such file"),
        (["grey.png", "--out", "o"], 1, "no face was found"),
        (["face.jpg", "--out", "o", "--face", "2"], 2, "--face 2 is none of them"),
        (["face.jpg", "--out", "o", "--min-face", "4000"], 1, "too small"),
        (["face.jpg", "--out", "o", "--model", "m", "--run", "r"], 2, "give either --model or --run"),
        (["face.jpg"], 2, "Missing option"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    shutil.copy(EXAMPLE, tmp_path / "face.jpg")
    Image.new("RGB", (90, 90), (99, 99, 99)).save(tmp_path / "grey.png")
    done = run_cli("explain", *arguments, cwd=tmp_path, env={"COLUMNS": "200"})
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_closed_folder(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "face.jpg")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    done = run_cli("explain", tmp_path / "face.jpg", "--out", closed / "o", before=without_root())
    assert done.returncode == 1
    assert "cannot write the explanation" in done.stderr
