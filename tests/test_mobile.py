"""The shipped mobile model: its size, what its card owns up to, and that it can be used like the default one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from faceproof import FaceChecker
from faceproof.detectors.card import read_card
from faceproof.detectors.folders import training_groups
from faceproof.detectors.store import DEFAULT_MODEL, load_detector, shipped_models
from faceproof.doctor import SELF_TEST

from .helpers import run_cli

NAME = "mobile-208"
FOLDER = shipped_models()[NAME]
FIGURES = Path(__file__).resolve().parents[1] / "results" / NAME / "figures.csv"


def test_it_fits_on_a_phone() -> None:
    card = read_card(FOLDER)
    assert (FOLDER / card.file).stat().st_size == card.raw["bytes"] <= 5_000_000
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 5_500_000
    assert "int8" in card.raw["output"]
    assert card.crop == read_card(shipped_models()[DEFAULT_MODEL]).crop  # one crop serves both


def test_its_card_states_the_loss() -> None:
    """As numbers with intervals, and in words among the limits."""
    raw = read_card(FOLDER).raw
    lost = raw["lost_to_teacher"]
    assert lost["teacher"] == read_card(shipped_models()[DEFAULT_MODEL]).identity
    for split in ("val", "shift", "unseen", "unseen after avatar chain"):
        for metric in ("auc", "tpr_at_fpr_1"):
            value, low, high = lost[split][metric]
            assert low <= value <= high
            assert abs(value) < 0.2
    words = " ".join(raw["limits"])
    for split in ("val", "unseen"):
        auc, tpr = (lost[split][metric][0] for metric in ("auc", "tpr_at_fpr_1"))
        assert f"on {split} {auc:+.4f} of AUC" in words
        assert f"{tpr:+.3f} of TPR at FPR 1 %" in words
    assert "alarm" in words
    assert raw["training"]["recipe"]["teacher"] == DEFAULT_MODEL


@pytest.mark.skipif(not FIGURES.is_file(), reason="results/ is not part of an installed package")
def test_card_and_table_agree() -> None:
    """Two ways to the same figures: scripts/build_model.py and `faceproof evaluate`."""
    lines = [line for line in FIGURES.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = [row for row in csv.DictReader(lines) if row["contender"] == NAME and row["kind"] == "all"]
    lost = read_card(FOLDER).raw["metrics"]
    for chain, suffix in (("none", ""), ("avatar", " after avatar chain")):
        for split in ("val", "unseen"):
            told = {
                row["metric"]: float(row["value"]) for row in rows if (row["split"], row["chain"]) == (split, chain)
            }
            assert told["auc"] == pytest.approx(lost[split + suffix]["auc"], abs=2e-3)


def test_what_trained_the_teacher_is_in_its_list() -> None:
    ours, theirs = (training_groups(shipped_models()[name]) for name in (NAME, DEFAULT_MODEL))
    assert ours is not None
    assert theirs is not None
    assert theirs <= ours


def test_it_is_used_like_the_default() -> None:
    done = run_cli("check", "--model", NAME, "--json", SELF_TEST)
    assert done.returncode in (0, 1), done.stderr
    record = json.loads(done.stdout)
    card = read_card(FOLDER)
    face = record["faces"][0]
    assert face["verdict"] == card.raw["selftest"]["verdict"]
    assert NAME in run_cli("models").stdout
    assert "int8" in run_cli("models", NAME, "--json").stdout
    tested = FaceChecker(NAME).check(SELF_TEST).decisive
    assert tested is not None
    assert tested.verdict.score == pytest.approx(card.raw["selftest"]["score"], abs=0.35)


def test_its_weights_are_ready_before_the_first_run() -> None:
    """Turned back once, when the session is made: scores do not depend on how often it ran, nor on the batch."""
    detector = load_detector(NAME)
    crops = np.random.default_rng(0).integers(0, 256, (3, 208, 208, 3), dtype=np.uint8)
    first = detector.score(crops)
    np.testing.assert_allclose(detector.score(crops), first, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([detector.score(c[None]) for c in crops]), first, atol=2e-3)
