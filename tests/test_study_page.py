"""docs/study.md says what the code does."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

from faceproof import cli_posts, cli_study
from faceproof.copies import ALIKE
from faceproof.post_records import PostOptions
from faceproof.post_store import ROLES
from faceproof.posts import COMMON
from faceproof.study_report import CELLS
from faceproof.texts import SHINGLE
from tests.helpers import run_cli

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "study.md").read_text(encoding="utf-8")


def test_figures_are_those_of_the_code() -> None:
    options = PostOptions()
    assert f"within a cosine of {options.threshold:g} of one of them, at least {options.minimum}" in TEXT
    assert (COMMON, SHINGLE, CELLS) == (0.1, 5, 5)
    assert f"{100 * ALIKE:g} % of runs of five letters" in TEXT
    assert inspect.signature(cli_study.study).parameters["sample"].default == 200
    assert inspect.signature(cli_posts.posts).parameters["threshold"].default == options.threshold
    for names in re.findall(r"`(\w+)`(?=[,;.])", TEXT.split("looked for: ")[1].split("Others")[0]):
        assert any(names in known for known in ROLES.values()), names


def test_every_option_named_is_there() -> None:
    """The commands of the page are parsed by the command line: an option it does not know would be wrong use."""
    lines = [shlex.split(line) for line in re.findall(r"^    faceproof (.+)$", TEXT, re.M)]
    for name in ("posts", "study"):
        known = set(re.findall(r"--[a-z-]+", run_cli(name, "--help", env={"COLUMNS": "200", "TERM": "dumb"}).stdout))
        used = {word for line in lines if line[0] == name for word in line if word.startswith("--")}
        assert used
        assert used <= known
    options = set(re.findall(r"`(--[a-z-]+)", TEXT))
    both = "".join(
        run_cli(name, "--help", env={"COLUMNS": "200", "TERM": "dumb"}).stdout for name in ("posts", "study")
    )
    assert options <= set(re.findall(r"--[a-z-]+", both))
