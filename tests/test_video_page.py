"""docs/video.md says what the code does, and its command lines parse."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from faceproof.cli import app
from faceproof.tracking import Tracker
from faceproof.video_check import CONTRADICTION, TRIM, WORST
from faceproof.video_frames import LONGEST_SCENE
from faceproof.video_records import ENOUGH, VIDEO_SCHEMA, FrameCounts, Sighting
from faceproof.video_write import VIDEO_OUTPUTS

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "video.md").read_text(encoding="utf-8")
WORDS = " ".join(TEXT.split())
LINES = [line.strip().rpartition("| ")[2] for line in re.findall(r"^    (.*faceproof .*)$", TEXT, re.M)]


@pytest.mark.parametrize("line", LINES)
def test_its_command_lines_parse(line: str) -> None:
    """Parsed, not run: cameras and addresses are not there."""
    words = shlex.split(line)
    root = typer.main.get_command(app)
    command = root.commands[words[1]]  # type: ignore[attr-defined]
    command.make_context(words[1], words[2:])


def test_its_figures_are_the_codes() -> None:
    assert len(LINES) == 8
    assert f"one more every {LONGEST_SCENE:g} seconds" in WORDS
    assert f"less down to {WORST} for each of the four" in WORDS
    assert f"at least {ENOUGH} frames" in WORDS
    assert TRIM == CONTRADICTION == 0.2  # "a fifth"
    assert f"more than {Tracker().max_gap} seconds" in WORDS
    assert f"`{VIDEO_SCHEMA}`" in TEXT
    assert all(f"`{ending}`" in TEXT for ending in VIDEO_OUTPUTS)


def test_its_fields_are_the_records() -> None:
    counts = {field.name for field in dataclasses.fields(FrameCounts)}
    assert counts <= set(re.findall(r"`(\w+)`", TEXT))
    sighting = Sighting(0, 0.0, (0, 0, 1, 1), 0.0, 0.5, 1.0, "inconclusive").to_dict()
    row = next(line for line in TEXT.splitlines() if line.startswith("| `timeline`"))
    assert re.findall(r"`(\w+)`", row)[1:] == list(sighting)
