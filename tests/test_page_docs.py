"""docs/page.md says what the code does: its command lines parse, its Python and its figures are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer.main

from faceproof.cli import app
from faceproof.images import Limits
from faceproof.web_runtime import RUNTIME_VERSION

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "page.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()]


def test_its_command_lines_parse() -> None:
    """Parsed, not run: tests/test_offline_page.py runs `faceproof page` with these options."""
    root = typer.main.get_command(app)
    own = [shlex.split(line) for line in LINES if line.startswith("faceproof")]
    assert len(own) == 2
    for _, name, *words in own:
        root.commands[name].make_context(name, words)  # type: ignore[attr-defined]


def test_its_version_and_limits_are_the_codes() -> None:
    assert set(re.findall(r"onnxruntime-web[@ -](\d+\.\d+\.\d+)", TEXT)) == {RUNTIME_VERSION}
    assert Limits().max_pixels == 64_000_000
    assert "64 million" in TEXT


def test_its_python_names_exist() -> None:
    import faceproof.offline_page as module

    code = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert code
    compile(code[1], "page.md", "exec")
    names = re.search(r"from faceproof\.offline_page import (.*)", code[1])
    assert names
    assert all(hasattr(module, name.strip()) for name in names[1].split(","))


def test_its_picture_is_there_and_small() -> None:
    assert "(page.png)" in TEXT
    assert (DOCS / "page.png").stat().st_size < 300_000


def test_its_drift_is_the_benchmarks() -> None:
    text = (DOCS.parent / "benchmarks" / "page.csv").read_text(encoding="utf-8")
    found = re.search(r"^drift,largest difference in probability,([\d.]+),", text, re.M)
    assert found
    assert float(found[1]) < 0.001
    assert "by more than 0.001" in " ".join(TEXT.split())
    assert "drift,other verdicts of 50 pictures,0," in text
