"""The command line, as real processes: help, cards, JSON, report, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker
from faceproof.detectors.store import DEFAULT_MODEL
from faceproof.images import RGB
from tests.helpers import run_cli

COMMANDS = (
    "check", "scan", "duplicates", "live", "explain", "compare", "map", "posts", "study", "models", "doctor", "serve",
    "train", "pretrain", "calibrate", "evaluate", "generate", "import", "page", "export",
)  # fmt: skip
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str) -> None:
    done = run_cli(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    if not command:
        for name in COMMANDS:
            assert name in done.stdout


def test_every_option_is_explained() -> None:
    for command in COMMANDS:
        text = run_cli(command, "--help", env={"COLUMNS": "200", "TERM": "dumb"}).stdout
        for line in text.splitlines():
            found = re.search(r"--[a-z-]+", line)
            if found and "│" in line and "Usage" not in line:
                assert len(re.sub(r"[│*]|--?[A-Za-z-]+|<\w+>|\[.*?\]|[A-Z]{3,}", "", line).split()) >= 2, line


def test_version() -> None:
    from faceproof import __version__

    assert run_cli("--version").stdout.strip() == f"faceproof {__version__}"


def test_check_shows_a_card(astronaut: RGB, checker: FaceChecker) -> None:
    done = run_cli("check", str(EXAMPLES / "astronaut.jpg"))
    assert done.returncode == 0
    face = checker.check(EXAMPLES / "astronaut.jpg").faces[0]
    for text in (
        "PHOTOGRAPH",
        f"{face.verdict.probability:.3f}",
        f"{face.verdict.threshold:.3f}",
        "reached by 1 % of photographs",
        "good enough",
    ):
        assert text in done.stdout


def test_check_json_is_the_librarys_record() -> None:
    checker = FaceChecker(stability="full")
    paths = [str(EXAMPLES / "astronaut.jpg"), str(EXAMPLES / "drawing.png"), "absent.jpg"]
    done = run_cli("check", "--json", *paths)
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records == [checker.check(path).to_dict() for path in paths]
    assert [record["status"] for record in records] == ["ok", "no_face", "error"]
    assert "no such file" in records[2]["error"]


def test_strict_threshold_and_min_face() -> None:
    path = str(EXAMPLES / "astronaut.jpg")
    strict = json.loads(run_cli("check", "--json", "--fpr", "0.001", path).stdout)
    assert strict["threshold_fpr"] == 0.001
    picky = json.loads(run_cli("check", "--json", "--min-face", "400", path).stdout)
    assert picky["faces"][0]["quality"][0]["code"] == "too_small"
    assert picky["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "Missing argument"),
        (["check", "x.jpg", "--fpr", "0.0003"], "cannot promise a false-alarm rate of 0.0003"),
        (["check", "x.jpg", "--model", "lite0"], "unknown model"),
        (["check", "x.jpg", "--max-pixels", "many"], "is not a number"),
        (["check", "x.jpg", "--max-pixels", "0"], "limits must be positive"),
        (["check", "x.jpg", "--face-detector", "nope.onnx"], "no YuNet model at"),
        (["scan", "x.jpg"], "Missing option"),
        (["scan", "x.jpg", "--out", "x.xml"], "unknown ending '.xml'"),
        (["scan", "x.jpg", "--out", "x.jsonl", "--workers", "0"], "greater than or equal"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_use_is_two(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run_cli(*arguments, cwd=tmp_path, env={"COLUMNS": "200"})
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.jsonl"))


def test_max_pixels_is_settable(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("L", (1200, 1000)).save(large)
    assert run_cli("check", str(large), "--max-pixels", "1M").returncode == 1
    assert run_cli("check", str(large), "--max-pixels", "1.2M").returncode == 0


def test_models_and_card() -> None:
    assert DEFAULT_MODEL in run_cli("models").stdout
    card = run_cli("models", DEFAULT_MODEL).stdout
    for text in ("operating points", "trained on", "licence", "limits"):
        assert text in card
    raw = json.loads(run_cli("models", DEFAULT_MODEL, "--json").stdout)
    assert raw["name"] == DEFAULT_MODEL
    assert json.loads(run_cli("models", "--json").stdout)[0]["sha256"]


def test_doctor() -> None:
    done = run_cli("doctor")
    assert done.returncode == 0
    assert "self-test" in done.stdout
    assert all(finding["good"] for finding in json.loads(run_cli("doctor", "--json").stdout))


def test_hostile_names_do_not_reach_the_markup(tmp_path: Path, astronaut: RGB) -> None:
    """rich would read [red] as a colour; a file name must be shown as it is."""
    path = tmp_path / "[red]x[bold].jpg"
    Image.fromarray(np.asarray(astronaut)).save(path)
    done = run_cli("check", path.name, cwd=tmp_path)
    assert done.returncode == 0
    assert "[red]x[bold].jpg" in done.stdout
