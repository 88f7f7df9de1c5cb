"""docs/mobile.md and its test vector say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker
from faceproof.detectors.card import read_card
from faceproof.detectors.crops import cut
from faceproof.detectors.fastest import TOLERANCE
from faceproof.detectors.store import model_folder
from faceproof.doctor import SELF_TEST
from faceproof.exporting import MAX_AUC_LOSS, TARGETS
from faceproof.faces.alignment import TEMPLATE, align, similarity
from faceproof.faces.detection import RetinaFace
from faceproof.faces.quality import Gates
from faceproof.images import RGB, load
from faceproof.parity import decision
from faceproof.runtimes import RUNTIMES
from tests.helpers import run_cli

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "mobile.md").read_text(encoding="utf-8")
VECTOR: dict[str, Any] = json.loads((DOCS / "mobile-vector.json").read_text(encoding="utf-8"))


def test_the_template_is_the_codes() -> None:
    rows = re.findall(r"^\| (?:left|right|nose)[a-z ]* \| (0\.\d+) \| (0\.\d+) \|$", TEXT, re.M)
    assert np.array(rows, float) == pytest.approx(TEMPLATE, abs=1e-6)


def test_the_crop_in_the_page_is_the_codes(astronaut: RGB) -> None:
    code = re.search(r"```python\n(import cv2.*?)```", TEXT, re.S)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    rng = np.random.default_rng(0)
    base = np.asarray(RetinaFace().detect(astronaut)[0].landmarks, np.float64)
    for number in range(40):
        # Turned, enlarged, shrunk, and moved over the border.
        angle, scale = rng.uniform(-0.6, 0.6), 2 ** rng.uniform(-1.5, 2.5)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (base - base.mean(0)) @ turn.T + rng.uniform(80, 430, 2)
        size = int(rng.integers(64, 257))
        assert (names["crop"](astronaut, points, TEMPLATE, size) == align(astronaut, points, size)).all(), number


def test_the_vector() -> None:
    card = read_card(_model())
    pixels, points = load(SELF_TEST).pixels, np.array(VECTOR["landmarks"])
    assert VECTOR["picture"] | {"file": SELF_TEST.name, "width": pixels.shape[1]} == VECTOR["picture"]
    assert RetinaFace().detect(pixels)[0].landmarks == pytest.approx(points, abs=0.5)
    assert similarity(points, TEMPLATE * card.size) == pytest.approx(np.array(VECTOR["matrix"]), abs=1e-6)
    crop = cut(card.crop, pixels, points)
    stored = np.asarray(Image.open(DOCS / VECTOR["crop"]["file"]))
    assert np.abs(stored.astype(int) - crop).max() <= 2  # another OpenCV may round another way
    assert stored.sum((0, 1), dtype=np.int64).tolist() == VECTOR["crop"]["channel_sums"]
    assert stored[0, :4].tolist() == VECTOR["crop"]["first_row_first_pixels"]
    assert stored[card.size // 2, card.size // 2].tolist() == VECTOR["crop"]["middle_pixel"]
    tensor = (stored / 255 - np.array(card.mean)) / np.array(card.std)
    assert tensor.sum((0, 1)) == pytest.approx(VECTOR["tensor"]["channel_sums"], abs=0.01)
    assert np.abs(tensor).sum() == pytest.approx(VECTOR["tensor"]["absolute_sum"], abs=0.01)
    score = float(FaceChecker(_model()).detector.score(stored[None])[0])
    assert score == pytest.approx(VECTOR["score"], abs=VECTOR["score_tolerance"])
    assert card.calibration.probability(VECTOR["score"]) == pytest.approx(VECTOR["probability"], abs=1e-3)
    limits = decision(card)
    assert VECTOR["decision"] == pytest.approx(limits) if None not in limits.values() else VECTOR["decision"] == limits
    answer = (
        "generated" if score >= limits["generated_from"]
        else "photograph" if score < limits["photograph_below"] else "inconclusive"
    )  # fmt: skip
    assert answer == VECTOR["verdict"]


def _model() -> str:
    return str(model_folder(str(VECTOR["model"]).split()[0]))


def test_a_wrong_way_is_seen() -> None:
    """Swapped colours and a crop half a pixel off move what the page says to look at by more than it allows."""
    crop = np.asarray(Image.open(DOCS / VECTOR["crop"]["file"]))
    sums = np.array(VECTOR["crop"]["channel_sums"], float)
    assert np.abs(crop[..., ::-1].sum((0, 1)) / sums - 1).max() > 0.02


def test_limits_and_names_are_the_codes() -> None:
    gates = Gates()
    assert f"under {gates.min_side:g} px" in TEXT
    assert f"under {gates.min_inside:.0%}".replace("%", " %") in TEXT
    assert f"over {gates.max_turn:g} half eye distances" in TEXT
    assert f"under {gates.min_sharpness:g} |" in TEXT
    assert f"`--max-auc-loss` ({MAX_AUC_LOSS:g})" in TEXT
    assert f"Same means within {TOLERANCE:g} in score" in TEXT
    for name in (*TARGETS, *RUNTIMES):
        assert f"`{name}`" in TEXT, name


def test_the_options_are_real() -> None:
    shown = (
        run_cli("export", "--help", env={"COLUMNS": "200"}).stdout
        + run_cli("check", "--help", env={"COLUMNS": "200"}).stdout
    )
    shown += run_cli("scan", "--help", env={"COLUMNS": "200"}).stdout
    for option in set(re.findall(r"(?<![-|])(--[a-z][a-z-]+)", TEXT)) - {"--engine"}:
        assert option in shown, option
