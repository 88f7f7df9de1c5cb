"""docs/import.md: its commands are run on small sets, its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from faceproof.importing.rows import FAULTS, KINDS
from tests.helpers import run_cli
from tests.import_trees import TREES, pictures
from tests.test_import_command import jpeg

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "import.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.S)


def _lines(block: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("faceproof ")]


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path, astronaut: object) -> None:
    TREES["140k"](tmp_path / "real_vs_fake")
    TREES["ffhq"](tmp_path / "ffhq")
    TREES["ciplab"](tmp_path / "ciplab-download")
    pictures(tmp_path, "dalle/a.png", "dalle/b.png", "my-pictures/phone/a.jpg", "my-pictures/sdxl/b.png", start=70)
    (tmp_path / "my-photographs").mkdir()
    (tmp_path / "my-photographs" / "a.jpg").write_bytes(jpeg(astronaut))  # type: ignore[arg-type]
    lines = _lines(BLOCKS[0])
    assert len(lines) == 8
    for line in lines:
        done = run_cli(*line, cwd=tmp_path)
        assert done.returncode == 0, (line, done.stderr)
    written = {
        "kaggle.csv",
        "kaggle.html",
        "all.csv",
        "photographs.csv",
        "mine.csv",
        "phone.csv",
        "both.csv",
        "exif.csv",
    }
    assert written <= {path.name for path in tmp_path.iterdir()}


def test_the_other_commands_are_known() -> None:
    shown = run_cli("import", "--help", env={"COLUMNS": "200"}).stdout
    for block in BLOCKS:
        for line in _lines(block):
            assert line[0] == "import"
            for option in (word for word in line if word.startswith("--")):
                assert option in shown
    for option in re.findall(r"`(--[a-z-]+)", TEXT):
        assert option in shown or option == "--drop-straddling"


def test_what_is_left_out_is_what_the_code_says() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| ([01]) \|$", TEXT, re.M))
    assert rows == {kind: str(int(kind in FAULTS)) for kind in KINDS}
