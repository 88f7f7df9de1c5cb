"""The page: self-contained, true to the records, safe against what names and messages hold."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker, OutputError
from faceproof.images import RGB
from faceproof.report_pages import check_to_page
from tests.helpers import run_cli

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
VOID = {"meta", "br", "img", "rect", "circle", "line", "image", "path"}


class _Well(HTMLParser):
    """Collect elements and see that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parse(text: str) -> _Well:
    parser = _Well()
    parser.feed(text)
    assert parser.open == []
    return parser


@pytest.fixture
def strange(tmp_path: Path, astronaut: RGB) -> Path:
    path = tmp_path / '"><script>alert(1)<'
    path.mkdir()
    path = path / "script>.jpg"
    Image.fromarray(np.concatenate([astronaut, astronaut[:, ::-1]], axis=1)).save(path, "JPEG", quality=95)
    return path


def test_page_holds_what_the_records_say(checker: FaceChecker, tmp_path: Path, strange: Path) -> None:
    out = tmp_path / "page.html"
    pictures = [strange, EXAMPLES / "drawing.png", tmp_path / "absent<b>.jpg"]
    results = check_to_page(pictures, checker, out)
    text = out.read_text(encoding="utf-8")
    page = _parse(text)
    embedded = re.search(r'<script type="application/json" id="faceproof-results">(.*?)</script>', text, re.S)
    assert embedded
    assert json.loads(embedded[1]) == [r.to_dict() for r in results]
    boxes = [a for t, a in page.seen if t == "rect" and "data-box" in a]
    assert len(boxes) == len(results[0].faces) == 2
    for attributes, face in zip(boxes, results[0].faces, strict=True):
        x0, y0, x1, y1 = face.box
        found = [float(attributes[key] or "nan") for key in ("x", "y", "width", "height")]
        np.testing.assert_allclose(found, [x0, y0, x1 - x0, y1 - y0], atol=0.02)
    for face in results[0].faces:
        assert f"{face.verdict.probability:.3f}" in text
    for limit in checker.card.raw["limits"]:
        assert limit.split("'")[0][:40] in text
    assert results[0].sha256 in text


def test_page_is_self_contained_and_inert(checker: FaceChecker, tmp_path: Path, strange: Path) -> None:
    out = tmp_path / "page.html"
    check_to_page([strange], checker, out)
    text = out.read_text(encoding="utf-8")
    page = _parse(text)
    assert [a.get("type") for t, a in page.seen if t == "script"] == ["application/json"] * 2
    assert "<script>alert" not in text
    for _, attributes in page.seen:
        for key in ("href", "src", "data", "action"):
            assert (attributes.get(key) or "data:").startswith("data:")
    image = next(a["href"] for t, a in page.seen if t == "image")
    assert image
    picture = Image.open(io.BytesIO(base64.b64decode(image.split(",")[1])))
    assert picture.size == (1024, 512)


def test_report_option(tmp_path: Path) -> None:
    done = run_cli("check", str(EXAMPLES / "astronaut.jpg"), "--report", "out.html", cwd=tmp_path)
    assert done.returncode == 0
    assert "report: out.html" in done.stdout
    assert _parse((tmp_path / "out.html").read_text(encoding="utf-8")).seen
    assert not list(tmp_path.glob("*.tmp"))


def test_page_that_cannot_be_written(checker: FaceChecker, tmp_path: Path) -> None:
    seen = []
    with pytest.raises(OutputError, match="check the folder"):
        check_to_page([EXAMPLES / "drawing.png"], checker, tmp_path / "no" / "page.html", on_result=seen.append)
    assert len(seen) == 1
