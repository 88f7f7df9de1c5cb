"""StyleGAN's frame: the formulas by hand, the reference file, what is not tested, and the weight."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from faceproof import ModelError, UsageError
from faceproof.alignment_weight import ALIGNED_SOURCES, Placed, learned, placed, whole_originals
from faceproof.datasets import Sample
from faceproof.detectors.alignment import (
    FFHQ_EYES,
    MAX_REFERENCE_BYTES,
    SHIPPED,
    SIGMAS,
    Alignment,
    Reference,
    alignment_evidence,
    alignment_evidence_inputs,
    build_reference,
    eye_distance,
    log_odds,
    read_reference,
    write_reference,
)
from faceproof.detectors.store import shipped_models
from faceproof.faces.detection import DetectedFace, RetinaFace
from faceproof.images import RGB
from faceproof.inputs import Item

MEAN = ((0.38, 0.47), (0.62, 0.47), (0.5, 0.62), (0.4, 0.72), (0.6, 0.72))
STD = ((0.01, 0.01),) * 5
POINTS = np.array(MEAN)


@pytest.fixture
def reference() -> Reference:
    return Reference(MEAN, STD, 30, "made up", "none", "test")


class Marks:
    """A face detector that finds a face at what the picture's first pixels say: red, green in units of 0.001."""

    name = "marks 1"

    def detect(self, pixels: RGB) -> list[DetectedFace]:
        """One face per non-zero pixel of the first row, moved by its red and green."""
        height, width = pixels.shape[:2]
        moves = [pixels[0, x, :2] / 1000 for x in range(4) if pixels[0, x, 2]]
        box = np.array([0, 0, 1, 1], np.float32)
        return [DetectedFace(box, ((POINTS + move) * [width, height]).astype(np.float32), 1.0) for move in moves]


def picture(path: Path, *moves: tuple[int, int], size: tuple[int, int] = (80, 80)) -> Item:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for x, move in enumerate(moves):
        pixels[0, x] = (*move, 255)
    Image.fromarray(pixels).save(path)
    return Item(str(path))


def test_eye_distance_by_hand() -> None:
    assert eye_distance(FFHQ_EYES) == 0
    moved = FFHQ_EYES + [[0.03, 0.04], [0, 0]]  # 5 hundredths away
    assert eye_distance(moved) == pytest.approx(0.05 / (2 * math.sqrt(2)))
    assert eye_distance(FFHQ_EYES + [[0.03, 0.04], [-0.06, 0.08]]) == pytest.approx(0.15 / (2 * math.sqrt(2)))
    corners = np.array([[0.38081 + 1, 0.47705], [0.61522 - 1, 0.47713]])
    assert eye_distance(corners) == pytest.approx(1 / math.sqrt(2))


def test_every_coordinate_decides(reference: Reference) -> None:
    """At 6.9 standard deviations a coordinate is aligned, at 7.1 it is not, whichever it is and to either side."""
    for point in range(5):
        for axis in range(2):
            for sign in (1, -1):
                for sigmas in (6.9, 7.1):
                    moved = POINTS.copy()
                    moved[point, axis] += sign * sigmas * 0.01
                    found = alignment_evidence_inputs(moved * 500, 500, 500, reference)
                    assert found.worst_sigma == pytest.approx(sigmas, rel=1e-6)
                    assert found.aligned == (sigmas < SIGMAS)
    assert not alignment_evidence_inputs((POINTS + 0.05) * 500, 500, 500, reference, sigmas=4).aligned


def test_the_size_of_the_picture_does_not_matter(reference: Reference) -> None:
    one, other = (alignment_evidence_inputs((POINTS + 0.02) * side, side, side, reference) for side in (64, 1024))
    assert one.worst_sigma == pytest.approx(other.worst_sigma)
    assert one.eye_distance == pytest.approx(other.eye_distance)


@pytest.mark.parametrize(
    ("size", "faces", "why"),
    [((500, 400), 1, "not square (500 x 400"), ((400, 500), 1, "not square"), ((500, 500), 2, "holds 2 faces")],
)
def test_only_square_pictures_of_one_face_are_tested(
    reference: Reference, size: tuple[int, int], faces: int, why: str
) -> None:
    found = alignment_evidence_inputs(POINTS * size, *size, reference, faces=faces)
    assert found.worst_sigma == pytest.approx(0, abs=1e-9)
    assert not found.aligned
    assert why in found.unfit
    evidence = alignment_evidence(found)
    assert evidence.weight == 0
    assert why in evidence.sentence
    assert alignment_evidence_inputs(POINTS * [500, 480], 500, 480, reference).aligned  # about square


def test_evidence_speaks_only_for(reference: Reference) -> None:
    hit = alignment_evidence(alignment_evidence_inputs(POINTS * 300, 300, 300, reference))
    miss = alignment_evidence(alignment_evidence_inputs((POINTS + 0.2) * 300, 300, 300, reference))
    assert hit.weight > 0
    assert "not proof" in hit.sentence
    assert "FFHQ and CelebA-HQ" in hit.sentence
    assert miss.weight == 0
    assert "no evidence" in miss.sentence
    assert alignment_evidence(Alignment(0, 0, True), weight=0.3).weight == 0.3


@pytest.mark.parametrize(
    ("landmarks", "size"),
    [(POINTS[:4], (9, 9)), (POINTS.ravel(), (9, 9)), (np.full((5, 2), np.nan), (9, 9)), (POINTS, (0, 9))],
)
def test_impossible_landmarks(reference: Reference, landmarks: npt.ArrayLike, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        alignment_evidence_inputs(landmarks, *size, reference)


def test_a_reference_is_mean_and_deviation(tmp_path: Path) -> None:
    moves = [(0, 0), (10, 20), (20, 40), (30, 60), (40, 80)]
    items = [picture(tmp_path / f"{n}.png", move) for n, move in enumerate(moves)]
    (tmp_path / "copy.png").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "bad.png").write_bytes(b"nothing")
    items += [
        Item(str(tmp_path / "copy.png")), Item(str(tmp_path / "bad.png")), picture(tmp_path / "none.png"),
        picture(tmp_path / "two.png", (0, 0), (5, 5)), picture(tmp_path / "wide.png", (0, 0), size=(80, 60)),
        Item("folder", "the folder cannot be listed"),
    ]  # fmt: skip
    steps: list[tuple[int, int]] = []
    built = build_reference(
        items, Marks(), source="s", command="c", min_pictures=5, progress=lambda *step: steps.append(step)
    )
    made = built.reference
    assert np.allclose(made.mean, POINTS + [0.02, 0.04], atol=1e-6)
    assert np.allclose(made.std, np.std(np.array(moves) / 1000, axis=0, ddof=1), atol=1e-6)
    assert (made.count, made.face_detector, made.source, made.command) == (5, "marks 1", "s", "c")
    assert (built.faceless, built.several, built.not_square, built.copies) == (1, 1, 1, 1)
    assert [path for path, _ in built.unreadable] == [str(tmp_path / "bad.png"), "folder"]
    assert steps == [(n, 11) for n in range(1, 12)]
    write_reference(tmp_path / "r.json", made)
    assert np.allclose(read_reference(tmp_path / "r.json").std, made.std, atol=1e-6)
    with pytest.raises(UsageError, match="only 5 of 11 pictures are left.*2 not readable, e.g. .*bad.png"):
        build_reference(items, Marks(), source="s", command="c", min_pictures=6)
    with pytest.raises(UsageError, match="at least 2 pictures, not 1"):
        build_reference(items, Marks(), source="s", command="c", min_pictures=1)


def test_the_same_face_again_and_again_is_no_reference(tmp_path: Path) -> None:
    items = []
    for number in range(6):
        items.append(picture(tmp_path / f"{number}.png", (7, 7), size=(80 + number, 80 + number)))
    with pytest.raises(UsageError, match="copies of one picture"):
        build_reference(items, Marks(), source="s", command="c", min_pictures=5)
    with pytest.raises(UsageError, match="none of 0 pictures is left"):
        build_reference([], Marks(), source="s", command="c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(schema="faceproof.card/1"), "schema is 'faceproof.card/1'"),
        (lambda r: r.pop("std"), "field 'std' is missing"),
        (lambda r: r["mean"].pop(), "five \\(x, y\\) each"),
        (lambda r: r["mean"].__setitem__(0, [1]), "not enough values"),
        (lambda r: r["mean"].__setitem__(0, ["a", 1]), "could not convert"),
        (lambda r: r["mean"].__setitem__(0, [150, 200]), "shares of the picture's sides"),
        (lambda r: r["std"].__setitem__(2, [0, 0.1]), "smallest std"),
        (lambda r: r["std"].__setitem__(2, [-0.1, 0.1]), "smallest std"),
        (lambda r: r["std"].__setitem__(2, [float("nan"), 0.1]), "these are not"),
        (lambda r: r.update(count=1), "at least 2 faces"),
        (lambda r: r.update(count=float("inf")), "infinity"),
        (lambda r: r.update(source="x" * MAX_REFERENCE_BYTES), "more than"),
    ],
)
def test_a_bad_reference_is_refused(tmp_path: Path, reference: Reference, change: Any, message: str) -> None:
    raw = json.loads(reference.to_json())
    change(raw)
    (tmp_path / "r.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=message):
        read_reference(tmp_path / "r.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 60_000, b"null", None])
def test_what_is_no_reference_at_all(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(ModelError, match="faceproof reference"):
        read_reference(tmp_path / "r.json")


def test_the_shipped_reference() -> None:
    """It is found, it is no model, and its eyes lie where FFHQ's frame puts them."""
    made = read_reference()
    assert made.count >= 300
    assert np.abs(np.array(made.mean[:2]) - FFHQ_EYES).max() < 0.0125
    assert RetinaFace().name == made.face_detector
    assert SHIPPED.parent.name not in shipped_models()
    assert eye_distance(made.mean) < 0.012


def test_a_portrait_of_its_own_frame_is_not_aligned(astronaut: RGB) -> None:
    """The astronaut as a whole is not; cut to put her eyes at the reference's place she is, a photograph or not."""
    made, detector = read_reference(), RetinaFace()
    face = detector.detect(astronaut)[0]
    assert not alignment_evidence_inputs(face.landmarks, 512, 512, made).aligned
    left, right = face.landmarks[:2].astype(float)
    side = float(np.hypot(*(right - left))) / (made.mean[1][0] - made.mean[0][0])
    corner = (left + right) / 2 - side * np.mean(made.mean[:2], axis=0)
    x, y, side = round(corner[0]), round(corner[1]), round(side)
    cut = np.asarray(Image.fromarray(astronaut).crop((x, y, x + side, y + side)))
    found = detector.detect(cut)
    assert len(found) == 1
    assert alignment_evidence_inputs(found[0].landmarks, side, side, made).aligned


def test_log_odds_by_hand() -> None:
    found = log_odds([True] * 8 + [False] * 2, [True] + [False] * 19)
    assert (found.generated, found.of_generated, found.photographs, found.of_photographs) == (8, 10, 1, 20)
    assert found.value == pytest.approx(math.log((8.5 / 11) / (1.5 / 21)))
    half = 1.959964 * math.sqrt(1 / 8.5 - 1 / 11 + 1 / 1.5 - 1 / 21)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))
    assert log_odds([True] * 5, [True] * 5).value == 0
    assert math.isfinite(log_odds([True] * 5, [False] * 5).high)
    with pytest.raises(UsageError, match="got 0 generated"):
        log_odds([], [True])


def test_the_interval_of_the_log_odds_covers() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        found = log_odds((rng.random(200) < 0.6).tolist(), (rng.random(150) < 0.1).tolist())
        hits += found.low <= math.log(6) <= found.high
    assert hits / 1000 >= 0.935


def _placed(label: int, source: str, sigma: float, split: str = "val", unfit: str = "") -> Placed:
    sample = Sample(Path("x"), label, "gan" if label else "", source, split, "g", "")
    return Placed(sample, Alignment(0.0, sigma, not unfit and sigma <= SIGMAS, unfit))


def test_the_weight_counts_what_was_asked_for() -> None:
    found = [_placed(1, "sg", 1), _placed(1, "sg", 5), _placed(1, "sd", 30), _placed(0, "ffhq-256", 1),
             _placed(0, "web", 6), _placed(0, "web", 40), _placed(0, "web", 2, "train"),
             _placed(0, "web", 2, unfit="not square")]  # fmt: skip

    def counts(**options: Any) -> tuple[int, int, int, int]:
        odds = learned(found, **options)
        return odds.generated, odds.of_generated, odds.photographs, odds.of_photographs

    assert counts() == (2, 3, 2, 3)
    assert counts(without=ALIGNED_SOURCES) == (2, 3, 1, 2)
    assert counts(aligned=False) == (1, 3, 1, 3)
    assert counts(sigmas=4) == (1, 3, 1, 3)


def test_only_whole_originals_are_taken(tmp_path: Path) -> None:
    columns = "path,label,generator,source,split,group,original_width,original_height,crop_scale"
    rows = ["whole.png,photograph,,s,val,a,160,160,0.5", "cut.png,photograph,,s,val,b,200,200,0.5",
            "tall.png,photograph,,s,val,c,160,240,0.5", "gone.png,photograph,,s,val,d,160,160,0.5"]  # fmt: skip
    (tmp_path / "manifest.csv").write_text("\n".join([columns, *rows]) + "\n")
    for name in ("whole", "cut", "tall"):
        picture(tmp_path / f"{name}.png", (0, 0))
    found = whole_originals(tmp_path / "manifest.csv")
    assert [sample.path.name for sample in found] == ["whole.png"]
    reference = Reference(MEAN, STD, 30, "made up", "none", "test")
    (one,) = placed([*found, replace(found[0], path=tmp_path / "gone.png")], reference, Marks())
    assert one.within()
    (tmp_path / "manifest.csv").write_text("\n".join([columns, rows[0].replace("0.5", "")]) + "\n")
    with pytest.raises(UsageError, match="line 2: original_width"):
        whole_originals(tmp_path / "manifest.csv")


@pytest.mark.data
@pytest.mark.slow
def test_the_shipped_weight_is_found_again(faces_data: Path) -> None:
    """On val: every StyleGAN2 face is aligned, so are FFHQ's photographs, and hardly any other photograph."""
    samples = [sample for sample in whole_originals(faces_data / "manifest.csv") if sample.split == "val"]
    found = placed(samples, read_reference(), RetinaFace())
    shares = {}
    for source in ("tpdne", "celeba-hq", "utkface"):
        mine = [one.within() for one in found if one.sample.source == source]
        shares[source] = sum(mine) / len(mine)
    assert shares["tpdne"] >= 0.97
    assert shares["celeba-hq"] >= 0.9
    assert shares["utkface"] <= 0.02
    stated = _results()
    odds = learned(found, without=ALIGNED_SOURCES)
    assert odds.value == pytest.approx(stated, abs=0.15)


def _results() -> float:
    file = Path(__file__).parents[1] / "results" / "alignment-weight.csv"
    with file.open(newline="") as stream:
        stream.readline()
        for row in csv.DictReader(stream):
            what = (row["what"], row["split"], row["name"])
            if what == ("log-odds within 7 sigma", "val", "without FFHQ and CelebA-HQ"):
                return float(row["value"])
    pytest.fail("the results file has no such row")
