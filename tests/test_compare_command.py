"""`faceproof compare`: the library's record, a card, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import faceproof
from faceproof import FaceChecker
from faceproof.images import RGB
from tests.helpers import run_cli

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ASTRONAUT, DRAWING = EXAMPLES / "astronaut.jpg", EXAMPLES / "drawing.png"


def test_json_is_the_librarys_record(checker: FaceChecker) -> None:
    done = run_cli("compare", "--json", str(ASTRONAUT), str(DRAWING))
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    expected = faceproof.compare(str(ASTRONAUT), str(DRAWING), checker).to_dict()
    assert list(record) == list(expected)
    for name in ("schema", "likeness", "sentence", "bits", "view", "flat", "shift"):
        assert record[name] == expected[name], name
    assert record["first"]["verdict"] == "photograph"
    assert record["second"]["status"] == "no_face"


def test_the_card_says_what_is_a_copy(astronaut: RGB, tmp_path: Path) -> None:
    Image.fromarray(np.ascontiguousarray(astronaut[:, ::-1])).save(tmp_path / "mirrored.png")
    done = run_cli("compare", str(ASTRONAUT), str(tmp_path / "mirrored.png"))
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert text.count("probability") == 2
    assert "COPIES They look like copies of one picture" in text
    assert "mirrored" in text
    same = run_cli("compare", str(ASTRONAUT), str(ASTRONAUT)).stdout
    assert "SAME FILE  Both are the same file, byte for byte." in same


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([str(ASTRONAUT), "gone.jpg"], 1, "gone.jpg"),
        ([str(ASTRONAUT), str(ASTRONAUT), "--stability", "much"], 2, "much"),
        ([str(ASTRONAUT)], 2, "Missing argument"),
    ],
)
def test_what_goes_wrong(arguments: list[str], code: int, message: str) -> None:
    done = run_cli("compare", *arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
