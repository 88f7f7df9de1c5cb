"""docs/serve.md and the Dockerfile say what the code does; what they show is run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .helpers import run_cli
from .serving import API, serving

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("starlette", reason="of the extra [serve]")


@pytest.fixture(scope="module")
def text() -> str:
    if not (ROOT / "docs" / "serve.md").is_file():
        pytest.skip("docs/ is not part of the source distribution")
    return (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def test_the_options_are_real(text: str) -> None:
    known = run_cli("serve", "--help", env={"COLUMNS": "200"}).stdout
    own = re.sub(r"```sh\ndocker.*?```", "", text, flags=re.S)
    shown = {
        option for line in own.splitlines() if "curl" not in line for option in re.findall(r"(?<=[`\s])--[a-z-]+", line)
    }
    assert {
        "--host",
        "--token-file",
        "--max-picture",
        "--queue",
        "--urls",
        "--allow-host",
        "--proxy",
        "--generate",
    } <= shown
    for option in shown:
        assert option in known, option


def test_the_limits_are_the_codes(text: str) -> None:
    from faceproof.web.settings import SECONDS, Settings
    from faceproof.web.verbs import VERBS

    usual = Settings()
    assert (usual.most_picture >> 20, usual.options.limits.max_pixels) == (20, 50_000_000)
    assert (usual.most_video >> 20, usual.most_files, usual.waiting, usual.most_held >> 20) == (100, 60, 32, 256)
    assert usual.body_seconds == 30
    assert dict(SECONDS) == {
        "check": 30, "compare": 60, "duplicates": 120, "explain": 180, "report": 180, "video": 300,
    }  # fmt: skip
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", text, re.M))
    assert set(rows) == set(VERBS)
    for name, verb in VERBS.items():
        for option in verb.options:
            assert f"`{option.name}" in rows[name], (name, option.name)


def test_the_codes_of_errors_are_those_of_the_code(text: str) -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/faceproof/web").glob("*.py"))
    used = set(re.findall(r'Problem\(\s*[45]\d\d,\s*"(\w+)"', source))
    used |= set(re.findall(r'\w+Error, 4\d\d, "(\w+)"', source))
    table = text.split("### Errors")[1].split("## Limits", maxsplit=1)[0]
    shown = set(re.findall(r"`([a-z_]+)`", table)) - {"no_face"}
    assert used - shown <= {"not_installed", "internal"}
    assert shown - used <= {"method", "not_found", "unreadable"}


@pytest.mark.slow
def test_the_commands_run(text: str, tmp_path: Path) -> None:
    curl = re.search(r"<!-- command: curl -->\n```sh\n(.*?)```", text, re.S)
    python = re.search(r"<!-- command: python -->\n```python\n(.*?)```", text, re.S)
    assert curl
    assert python
    with serving(tmp_path, "--workers", "1") as one:
        here = f"http://127.0.0.1:{one.port}"
        if shutil.which("curl"):
            for line in curl[1].replace("http://127.0.0.1:8000", here).splitlines():
                done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
                assert "error" not in json.loads(done.stdout) or json.loads(done.stdout)["error"] is None
        code = python[1].replace("http://127.0.0.1:8000", here)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("photograph 0.0")
        metrics = one.get("/metrics").body.decode()
        for name in re.findall(r"`(faceproof_\w+)`", text):
            assert name in metrics, name
        for path in ("health", "about", "models", "openapi.json"):
            assert one.get(f"{API}/{path}").status == 200


def test_the_dockerfile_names_what_there_is() -> None:
    """docker itself is not run here: its commands and what they copy are looked at."""
    if not (ROOT / "Dockerfile").is_file():
        pytest.skip("the Dockerfile is not part of the source distribution")
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+)$", text, re.M):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name
    extras = re.search(r"/build\[([\w,]+)\]", text)
    assert extras
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    for name in (project["readme"], *project["license-files"]):  # the build needs them
        assert re.search(rf"^COPY .*{re.escape(name)}", text, re.M)
    entry = json.loads(re.findall(r"^ENTRYPOINT (.+)$", text, re.M)[0])
    assert entry[0] in project["scripts"]
    known = run_cli("serve", "--help", env={"COLUMNS": "200"}).stdout
    assert entry[1] == "serve"
    assert all(word in known for word in entry if word.startswith("--"))
    check = json.loads(re.findall(r"^HEALTHCHECK .*CMD (.+)$", text, re.M)[0])
    compile(check[2], "healthcheck", "exec")
    assert f"{API}/health" in check[2]


def test_the_picture_is_small(text: str) -> None:
    found = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert found == ["serve.png"]
    assert (ROOT / "docs" / found[0]).stat().st_size < 300_000
