"""What the README says is run: its commands, its output, its Python, its figures, its links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import run_cli

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def _command(name: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "readme_command.py", name], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_two_commands() -> None:
    """CI runs both whole, in fresh environments; here it is seen that they are what they should be."""
    assert _command("run") == "pip install . && faceproof check examples/*.jpg examples/*.png"
    assert _command("test") == "pip install -e '.[test]' && python -m pytest"


def test_first_commands_output_is_real() -> None:
    """The block below the command, to the last character."""
    pictures = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.jpg"))
    pictures += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.png"))
    done = run_cli("check", *pictures, cwd=ROOT)
    assert done.returncode == 0
    shown = re.search(r"```text\n(.*?)```", TEXT, re.S)
    assert shown
    # Floats may differ in the last digit between processors; letters and places may not.
    blur = re.compile(r"\d+\.\d+|\b\d{2,}\b")
    own, theirs = (blur.sub("#", re.sub(r" +", " ", text.strip())) for text in (shown[1], done.stdout))
    assert own == theirs


def test_figures_are_the_files() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "fill_readme.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("page", "heading", "count"),
    [
        ("README.md", "## Use", 13),
        ("README.md", "## Train, calibrate, evaluate", 7),
        ("docs/training.md", "again goes on.", 3),
        ("docs/training.md", "is made of both:", 1),
    ],
)
def test_shell_lines_parse(page: str, heading: str, count: int) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(re.escape(heading) + r"\n\n```sh\n(.*?)```", text, re.S)
    assert block
    lines = [line.split("#")[0].strip() for line in block[1].splitlines() if not line.startswith("pip install")]
    assert len(lines) == count
    for line in lines:
        found = re.search(r"faceproof (\w+(?: openai| push)?)([^|]*)", line)
        assert found, line
        text = run_cli(*found[1].split(), "--help", env={"COLUMNS": "200"}).stdout
        for option in re.findall(r"--[a-z-]+", found[2]):
            assert option in text, (line, option)


def test_python_block_runs() -> None:
    block = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert block
    done = subprocess.run([sys.executable, "-c", block[1]], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[0].startswith("photograph [0.0")
    assert done.stdout.splitlines()[1:] == ["ok", "no_face"]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/architecture.md",
        "docs/training.md",
        "docs/perturbations.md",
        "docs/import.md",
        "docs/generate.md",
        "docs/models.md",
        "docs/mobile.md",
        "docs/serve.md",
        "docs/page.md",
        "docs/many-machines.md",
        "CONTRIBUTING.md",
        "examples/README.md",
        "results/README.md",
        "benchmarks/peers/README.md",
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists(), target
