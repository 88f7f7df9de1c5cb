"""docs/generate.md and docs/models.md say what the code does; their commands and Python run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from faceproof.generated_store import MANIFEST_COLUMNS
from faceproof.generating import FAILURES_IN_A_ROW, LONGEST_WAIT, Pace
from faceproof.prices import DATE
from faceproof.prompts import read_prompts
from tests.helpers import run_cli
from tests.image_server import KEY, running_image_server

ROOT = Path(__file__).resolve().parents[1]
PAGE, MODELS = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("generate.md", "models.md"))


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_options_exist() -> None:
    helps: dict[str, str] = {}
    for line in _blocks(PAGE, "sh")[0].splitlines():
        words = shlex.split(line, comments=True)
        names = words[1:3] if words[1] == "generate" else words[1:2]
        text = helps.setdefault(" ".join(names), run_cli(*names, "--help", env={"COLUMNS": "200"}).stdout)
        for option in (word for word in words if word.startswith("--")):
            assert option in text, line
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        assert any(option in text for text in helps.values()), option


def test_the_first_command_runs(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the extra [openai] is not installed")
    words = shlex.split(_blocks(PAGE, "sh")[0].splitlines()[0])
    assert words[:3] == ["faceproof", "generate", "openai"]
    with running_image_server() as server:
        more = ("--base-url", server.url, "--size", "64x64", "--rate", "0", "--yes")
        done = run_cli(*words[1:], *more, env={"OPENAI_API_KEY": KEY, "no_proxy": "127.0.0.1"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "portraits"
    assert {path.name for path in folder.iterdir()} == {"generated", "photographs", "manifest.csv", "provenance.jsonl"}
    assert len(list((folder / "generated").iterdir())) == 48


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai", reason="the extra [openai] is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    code = (
        _blocks(PAGE, "python")[0].replace("rate=60", "rate=0").replace('quality="low"', 'quality="low", size="64x64"')
    )
    with running_image_server() as server:
        exec(compile(code, "docs/generate.md", "exec"), {"SERVER": server.url})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"ok PNG (train|val)", line) for line in lines)


def test_the_prompt_set_is_one(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(_blocks(PAGE, "json")[0])
    texts = {prompt.text for prompt in read_prompts(tmp_path / "x.json").draw(4)}
    assert texts == {
        f"A photograph of {who} with {hair} hair" for who in ("a woman", "a man") for hair in ("fair", "grey")
    }
    assert json.loads(_blocks(PAGE, "json")[0])["traits"]["sex"]


def test_the_figures_are_the_codes() -> None:
    assert DATE in PAGE
    assert {"path", "label", "generator", "source", "split", "group", "licence"} <= set(MANIFEST_COLUMNS)
    assert f"up to {('one', 'ten')[LONGEST_WAIT == 600]} minutes" in PAGE
    assert f"{('', 'Five')[FAILURES_IN_A_ROW == 5]} pictures in a row" in PAGE
    assert Pace().val_share == 0.15


def test_the_models_commands_run(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for line in _blocks(MODELS, "sh")[0].splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "faceproof"
        done = run_cli(*words[1:], cwd=tmp_path)
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "shelf" / "lite2-208" / "README.md").is_file()
    for line in _blocks(MODELS, "sh")[1].splitlines():
        words = shlex.split(line, comments=True)
        text = run_cli(*words[1:3], "--help", env={"COLUMNS": "200"}).stdout
        assert all(word in text for word in words if word.startswith("--"))


@pytest.mark.parametrize("text", [PAGE, MODELS])
def test_links_lead_somewhere(text: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / "docs" / target).exists(), target
