"""The report in a real browser: what is seen lies where the page's data say; in print nothing is cut off."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker
from faceproof.images import RGB
from faceproof.report_pages import check_to_page

from .browser import WIDTH, centre, printed, probe, screenshot
from .test_explain_command import EXAMPLE, Stub

pytestmark = pytest.mark.slow

COLOURS = {
    "photograph": (0x14, 0x6C, 0x43),
    "generated": (0xB0, 0x2A, 0x37),
    "inconclusive": (0x8A, 0x5A, 0x00),
    "no_face": (0x4A, 0x55, 0x68),
    "error": (0x4A, 0x55, 0x68),
}
MARGIN = 14 * 72 / 25.4
"""Of the printed page, points."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB, checker: FaceChecker) -> Path:
    """Photograph, generated (a stub says so), inconclusive, no face and an error, with names as bad as they come."""
    folder = tmp_path_factory.mktemp("report")
    long = folder / ("a-name-without-any-place-to-break-it" * 6 + ".jpg")
    shutil.copy(EXAMPLE, long)
    plain = FaceChecker(stability="full")
    pages = []
    for number, (score, maps, pictures) in enumerate(
        [(None, 1, [long]), (6.0, 0, [astronaut]), (2.5, 0, [astronaut, np.zeros((64, 64, 3), np.uint8), "gone.jpg"])]
    ):
        own = plain if score is None else FaceChecker(Stub(checker.card, 0.5, score), stability="full")
        pages.append(folder / f"{number}.html")
        check_to_page(pictures, own, pages[-1], maps=maps)
    return folder


def _records(page: Path) -> list[dict[str, Any]]:
    found = re.search(r'id="faceproof-results">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found
    records: list[dict[str, Any]] = json.loads(found[1])
    return records


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_is_seen_is_what_the_data_say(report: Path, number: int) -> None:
    page = report / f"{number}.html"
    records = _records(page)
    seen = screenshot(page)
    places = probe(
        page, banner=".verdict", scale="section.face > svg:first-of-type", image="svg.picture image", box="[data-box]",
        after="circle[data-after]", chart="section.face > svg:last-of-type",
    )  # fmt: skip
    assert places["outside"] == []
    assert places["width"] <= WIDTH
    assert len(places["banner"]) == len(records)
    for record, place in zip(records, places["banner"], strict=True):
        own = COLOURS[record["verdict"] or record["status"]]
        left, top, right, bottom = (round(v) for v in place)
        assert tuple(seen[top + 4, left + 4]) == own
        part = seen[top:bottom, left:right].reshape(-1, 3)
        assert (part == own).all(1).mean() > 0.6
        for other in set(COLOURS.values()) - {own}:
            assert not (part == other).all(1).any()
    faces = [(record, face) for record in records for face in record["faces"]]
    assert len(faces) == len(places["scale"]) == len(places["box"])
    dots = iter(places["after"])
    for (record, face), scale, box, image, chart in zip(
        faces, places["scale"], places["box"], places["image"], places["chart"], strict=False
    ):
        left, _, right, _ = scale
        unit = (right - left) / 312  # the scale's own units: 6 before 0, 300 from 0 to 1
        x, _ = centre(seen, COLOURS[face["verdict"]], scale)
        assert ((x - left) / unit - 6) / 300 == pytest.approx(face["probability"], abs=0.01)
        for step in face["stability"]["after"]:
            dot = next(dots)
            unit = (chart[2] - chart[0]) / 340
            middle = (dot[0] + dot[2]) / 2
            assert ((middle - chart[0]) / unit - 100) / 200 == pytest.approx(step["probability"], abs=0.01)
            assert tuple(seen[round((dot[1] + dot[3]) / 2), round(middle)]) in COLOURS.values()
        scaled = (image[2] - image[0]) / record["width"]
        expected = np.array(face["box"]) * scaled + [image[0], image[1]] * 2
        np.testing.assert_allclose(box, expected, atol=2 + scaled)
        edge = seen[round((box[1] + box[3]) / 2), round(box[0]) - 2 : round(box[0]) + 3].astype(int)
        assert (np.abs(edge - COLOURS[face["verdict"]]).max(1) < 40).any()


def test_verdicts_are_all_three(report: Path) -> None:
    found = [record["verdict"] or record["status"] for n in range(3) for record in _records(report / f"{n}.html")]
    assert found == ["photograph", "generated", "inconclusive", "no_face", "error"]


@pytest.mark.parametrize("number", [0, 2])
def test_print_cuts_nothing_off(report: Path, number: int) -> None:
    """Every letter lies inside the paper's margins, every text of the page is there, and colours are printed."""
    page = report / f"{number}.html"
    document, text = _pdf(printed(page))
    assert _cut(document) == []
    for piece in probe(page)["texts"]:
        assert _bare(piece) in text, piece
    first = np.asarray(document[0].render(scale=2).to_pil().convert("RGB"))
    own = COLOURS[_records(page)[0]["verdict"]]
    assert (np.abs(first.astype(int) - own) <= 3).all(2).mean() > 0.01
    assert (first[:20] == 255).all()  # the paper stays white


def test_the_search_for_cut_text_finds_some(report: Path) -> None:
    """A control: text moved past the paper's border is found, in print and on the screen."""
    broken = report / "broken.html"
    style = "<style>h2.path{position:relative;left:-40px}.verdict{overflow:hidden;height:9px}</style>"
    broken.write_text((report / "2.html").read_text(encoding="utf-8").replace("</head>", style + "</head>"), "utf-8")
    assert _cut(_pdf(printed(broken))[0])
    assert any("Nothing is claimed" in text for text in probe(broken)["outside"])


def test_the_explanation_page_cuts_nothing_off(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    from faceproof.explanation import explain
    from faceproof.explanation_files import write_explanation

    Image.fromarray(astronaut).save(tmp_path / ("name" * 40 + ".png"))
    found = explain(tmp_path / ("name" * 40 + ".png"), checker, draws=1)
    page = write_explanation(found, checker.card, tmp_path / "why")[0]
    places = probe(page, images="img")
    assert places["outside"] == []
    assert len(places["images"]) == 5
    assert all(right - left > 200 and bottom - top > 150 for left, top, right, bottom in places["images"])
    document, _ = _pdf(printed(page))
    assert _cut(document, margin=1) == []


def _pdf(path: Path) -> tuple[Any, str]:
    pdfium = pytest.importorskip("pypdfium2", reason="reads printed pages; it is in the extra [test]")
    document = pdfium.PdfDocument(path)
    return document, _bare("".join(page.get_textpage().get_text_range() for page in document))


def _bare(text: str) -> str:
    """Letters and figures only: printing breaks lines, and marks hyphens at their ends in its own way."""
    return re.sub(r"[^\w.:%+<>]", "", text)


def _cut(document: Any, margin: float = MARGIN) -> list[tuple[int, str]]:
    """Letters, with their page, that lie not wholly inside the margins."""
    found = []
    for number, page in enumerate(document):
        width, height = page.get_size()
        letters = page.get_textpage()
        for index in range(letters.count_chars()):
            letter = letters.get_text_range(index, 1)
            left, bottom, right, top = letters.get_charbox(index)
            if letter.strip() and not (
                margin - 1 <= left <= right <= width - margin + 1 and margin - 1 <= bottom <= top <= height - margin + 1
            ):
                found.append((number, letter))
    return found
