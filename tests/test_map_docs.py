"""docs/map.md says what the command does; its picture is a real page. FACEPROOF_DOCS=1 makes the picture anew."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faceproof.detectors.folders import group_key, training_groups
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from faceproof.layouts import KEPT, NEIGHBOURS
from faceproof.picture_map import MOST_GROUPED
from faceproof.thumbnails import LARGEST, MOST, side_for
from tests.helpers import run_cli
from tests.live_page import browser, until

DOCS = Path(__file__).resolve().parents[1] / "docs"
FREE = {("18f", ""): 29, ("sfhq-t2i", "sdxl"): 40, ("sfhq-t2i", "flux.1-schnell"): 40, ("sfhq-t2i", "flux.1-dev"): 111}
"""Source and generator whose licences (CC0, MIT) allow to show them -> pictures the model was not trained on."""
FEW = 8
"""Of each, where the picture is not made anew."""


@pytest.fixture(scope="module")
def text() -> str:
    if not (DOCS / "map.md").is_file():
        pytest.skip("docs/ is not part of the source distribution")
    return (DOCS / "map.md").read_text(encoding="utf-8")


def test_the_commands_are_real(text: str) -> None:
    block = re.search(r"```sh\n(.*?)```", text, re.S)
    assert block
    known = run_cli("map", "--help", env={"COLUMNS": "200"}).stdout
    options = re.findall(r"--[a-z-]+", re.sub(r"#.*", "", block[1]) + text.split("## How it is made")[1])
    assert {"--manifest", "--column", "--clusters", "--csv", "--embeddings", "--layout", "--seed"} <= set(options)
    for option in options:
        assert option in known, option
    assert all(line.startswith("faceproof map pictures/ --out map.html") for line in block[1].splitlines())


def test_the_python_block_runs(text: str, tmp_path: Path) -> None:
    """On a folder with one face and one file that is no picture."""
    block = re.search(r"```python\n(.*?)```", text, re.S)
    assert block
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "astronaut.jpg").write_bytes((DOCS.parent / "examples" / "astronaut.jpg").read_bytes())
    (tmp_path / "examples" / "empty.jpg").touch()
    done = subprocess.run([sys.executable, "-c", block[1]], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("1 points; examples/empty.jpg: the file is empty")
    assert '"x":[0.5],"y":[0.5]' in (tmp_path / "map.html").read_text(encoding="utf-8")


def test_the_limits_are_the_codes(text: str) -> None:
    assert f"first {KEPT} principal components, {NEIGHBOURS} neighbours" in text
    assert f"At most {MOST:,} pictures" in text
    assert f"Over {MOST_GROUPED:,} pictures" in text
    assert (side_for(4400), side_for(10_000), side_for(MOST)) == (LARGEST, 64, 16)
    assert "from 96 px (up to 4,400 pictures) to 64 (10,000) and 16" in text


def test_the_pages_keys_are_those_the_page_knows(text: str) -> None:
    script = (DOCS.parent / "src" / "faceproof" / "pages" / "map.js").read_text(encoding="utf-8")
    table = text.split("## The page")[1].split("The legend", maxsplit=1)[0]
    for key in re.findall(r"`(.)`", table):
        assert f'event.key === "{key}"' in script, key


@pytest.mark.data
@pytest.mark.slow
def test_the_picture_is_a_real_page(faces_data: Path, tmp_path: Path) -> None:
    making = bool(os.environ.get("FACEPROOF_DOCS"))
    with (faces_data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    trained = training_groups(shipped_models()[DEFAULT_MODEL])
    assert trained
    picked = []
    for kind, count in FREE.items():
        own = [row for row in rows if (row["source"], row["generator"]) == kind and row["split"] != "train"]
        assert len(own) == count
        assert not trained & {group_key(row["group"]) for row in own}
        picked += own if making else own[:FEW]
    (tmp_path / "faces").mkdir()
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "generator", "source"))
        for number, row in enumerate(picked):
            assert row["licence"] in ("MIT", "CC0 / US government")
            name = f"faces/{row['generator'] or row['source']}-{number:03}.jpg"
            (tmp_path / name).write_bytes((faces_data / row["path"]).read_bytes())
            writer.writerow((name, row["label"], row["generator"] or "none: photograph", row["source"]))
    layout = "auto" if making else "pca"
    done = run_cli("map", "faces", "--out", "map.html", "--manifest", "manifest.csv", "--layout", layout, cwd=tmp_path,
                   timeout=500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    with browser() as context:
        tab = context.new_page()
        tab.goto((tmp_path / "map.html").as_uri())
        until(tab, "window.faceproofMap !== undefined")
        tab.select_option("#facet", label="generator")
        # The face shown is one that nobody has; the one furthest up among them, so that the card covers little.
        tab.fill("#search", "sdxl")
        tab.focus("#over")
        tab.keyboard.press("Shift+ArrowUp")
        for _ in range(40):
            tab.keyboard.press("Shift+ArrowUp")
        number = tab.evaluate("faceproofMap.current()")
        tab.fill("#search", "")
        tab.evaluate("document.activeElement.blur()")
        tab.mouse.move(*tab.evaluate(f"faceproofMap.place({number})"))
        tab.wait_for_timeout(500)
        assert "sdxl" in tab.locator("#facts b").text_content()
        legend = tab.locator("#legend").text_content()
        assert f"none: photograph {29 if making else FEW}" in legend
        picture = tab.screenshot(path=tmp_path / "map.png")
    assert picture.startswith(b"\x89PNG")
    if making:
        (DOCS / "map.png").write_bytes(picture)


def test_the_picture_is_small(text: str) -> None:
    found = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert found == ["map.png"]
    assert (DOCS / found[0]).stat().st_size < 150_000
