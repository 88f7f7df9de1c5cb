"""docs/evidence.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from faceproof.detectors.alignment import ALIGNED_WEIGHT
from faceproof.explain.stability import LARGEST, LEVELS
from faceproof.metadata.evidence import WEIGHTS

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "evidence.md").read_text(encoding="utf-8")


def test_the_weights_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| ([\w:_ ]+) \| ([-+]?[\d.]+) \|$", TEXT, re.M))
    assert {name: float(value) for name, value in rows.items()} == WEIGHTS
    assert f"+{ALIGNED_WEIGHT} for a square picture" in TEXT


def test_the_perturbations_are_those_of_the_code() -> None:
    section = TEXT.split("## Stability")[1].split("## The alarm")[0]
    for level in ("quick", "full"):
        assert all(f"`{chain}`" in section for chain in LEVELS[level])
    assert f"at most {LARGEST} px" in section
