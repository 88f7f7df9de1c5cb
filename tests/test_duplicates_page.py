"""docs/duplicates.md says what the code does, and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof.hash_files import CSV_COLUMNS
from faceproof.hashing import KINDS, RADII
from faceproof.images import RGB
from tests.helpers import encode, run_cli

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "duplicates.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, astronaut: RGB) -> Path:
    (tmp_path / "pictures").mkdir()
    for number, turns in enumerate((0, 0, 1)):
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(astronaut, turns)))
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(encode(picture, "JPEG", quality=90 - 20 * number))
    return tmp_path


def test_the_commands_run_and_write_what_they_say(folder: Path) -> None:
    for line in _blocks("sh")[0].splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "faceproof"
        done = run_cli(*words[1:], cwd=folder)
        assert done.returncode == 0, done.stderr
        for place, word in enumerate(words):
            if word in ("--out", "--hashes", "--report", "--sheets"):
                assert (folder / words[place + 1]).exists()


def test_the_python_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    exec(compile(_blocks("python")[0], "docs/duplicates.md", "exec"), {})
    assert capsys.readouterr().out == "1 2 3\n"


def test_the_tables_are_the_codes() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \| [^|]+\|$", TEXT, re.M)) == CSV_COLUMNS
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", TEXT, re.M)
    assert {name: int(bits) // 64 for name, bits, _ in rows} == KINDS
    assert {name: int(radius) for name, _, radius in rows} == RADII
