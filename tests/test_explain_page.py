"""docs/explain.md says what the code does, and its examples run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from faceproof.explain.deletion import DRAWS, SHARE
from faceproof.explain.maps import OCCLUSION_SCALE, SCORE_SCALE
from faceproof.explain.residuals import ELA_SCALE, NOISE_SCALE
from faceproof.explain.spectrum import read_band
from faceproof.explanation_files import JSON_FILE, OWN, PAGE_FILE

from .helpers import run_cli

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
FLAT = " ".join(TEXT.split())


def test_every_file_is_named() -> None:
    assert set(re.findall(r"`([\w-]+\.(?:png|json|html))`", TEXT)) == OWN


def test_the_figures_are_those_of_the_code() -> None:
    assert f"full at {SCORE_SCALE:g} units of score per whole crop (occlusion: {OCCLUSION_SCALE:g})" in FLAT
    assert f"error levels at {ELA_SCALE:g} and noise at {NOISE_SCALE:g} grey levels" in FLAT
    assert f"Then {DRAWS} times a random tenth" in FLAT
    assert SHARE == 0.1
    band = read_band()
    assert f"band of {band.photographs} photographs" in FLAT
    assert band.recompressed["scale:0.5"] == pytest.approx(1 / 6, abs=0.02)
    assert band.recompressed["blur:0.8"] == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "examples" / "astronaut.jpg", tmp_path / "portrait.jpg")
    (command,) = re.findall(r"^    faceproof (.+)$", TEXT, re.M)
    done = run_cli(*shlex.split(command), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {PAGE_FILE, JSON_FILE, "cam.png"} <= {path.name for path in (tmp_path / "why").iterdir()}
    (example,) = re.findall(r"```python\n(.+?)```", TEXT, re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/explain.md", "exec"), {})
    assert "class activation map" in capsys.readouterr().out
