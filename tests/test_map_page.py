"""The map's page: what it holds, and what it does in a real browser."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof.errors import UsageError
from faceproof.map_html import page, page_data
from faceproof.picture_map import PictureMap, write_csv
from faceproof.thumbnails import LARGEST, MOST, PIXELS, STEP, make_sheets, side_for, thumbnail
from tests.live_page import browser, frames_per_second, until
from tests.maps import HOSTILE, colour, invented_map

COUNT = 600
THUMB = "[...document.getElementById('thumb').getContext('2d').getImageData(48, 48, 1, 1).data]"
ELSEWHERE = ("http", "ws:/", "wss:", "ftp:")


@pytest.fixture(scope="module")
def made() -> PictureMap:
    return invented_map(COUNT)


@pytest.fixture(scope="module")
def text(made: PictureMap) -> str:
    return page(made)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    path = tmp_path_factory.mktemp("map") / "map.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    with browser(accept_downloads=True, permissions=["clipboard-read", "clipboard-write"]) as opened:
        yield opened


@pytest.fixture
def opened(context: Any, file: Path) -> Iterator[Any]:
    """The page in a browser; anything it complains about or asks for elsewhere fails the test."""
    tab = context.new_page()
    trouble: list[str] = []
    # What the tests read from canvases makes Chromium give advice on reading often.
    tab.on("console", lambda message: None if message.text.startswith("Canvas2D") else trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("dialog", lambda dialog: trouble.append(f"dialog {dialog.message}"))
    tab.on("request", lambda request: trouble.append(request.url) if request.url[:4] in ELSEWHERE else None)
    tab.goto(file.as_uri())
    until(tab, "window.faceproofMap !== undefined")
    yield tab
    assert trouble == []
    tab.close()


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_page_holds_the_data(made: PictureMap, text: str) -> None:
    embedded = re.search(r'<script type="application/json" id="faceproof-map">(.*?)</script>', text, re.S)
    assert embedded
    data = json.loads(embedded[1])
    assert {key: data[key] for key in page_data(made)} == page_data(made)
    assert data["path"] == [point.path for point in made.points]
    assert data["x"] == [point.x for point in made.points]
    assert data["probability"] == [point.probability for point in made.points]
    assert data["columns"]["generator"] == list(made.columns["generator"])
    assert [one["path"] for one in data["missing"]] == ["gone</script>.jpg", "tree.jpg"]
    sheets = data["thumbnails"]["sheets"]
    assert [base64.b64decode(sheet.split(",")[1]) for sheet in sheets] == list(made.sheets.jpegs)


def test_the_page_is_self_contained_and_inert(text: str) -> None:
    parser = _Elements()
    parser.feed(text)
    assert [a.get("type") for t, a in parser.seen if t == "script"] == ["application/json", None]
    assert not [t for t, _ in parser.seen if t in ("i", "b", "img", "link", "iframe", "object")]
    for _, attributes in parser.seen:
        assert not attributes.keys() & {"src", "href", "action", "data", "style", "srcset"}
        assert not [key for key in attributes if key.startswith("on")]
    policy = next(a["content"] for t, a in parser.seen if t == "meta" and "http-equiv" in a)
    assert policy
    for tag in ("style", "script"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in html.unescape(policy)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_csv_has_every_input(made: PictureMap, tmp_path: Path) -> None:
    write_csv(tmp_path / "map.csv", made)
    with (tmp_path / "map.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:5] == ["path", "x", "y", "verdict", "probability"]
    assert len(rows) == COUNT + 2
    for row, point in zip(rows, made.points, strict=False):
        assert row["path"].removeprefix("'") == point.path
        assert (float(row["x"]), float(row["y"]), row["verdict"]) == (point.x, point.y, point.verdict)
        assert row["probability"] == ("" if point.probability is None else str(point.probability))
    assert rows[2]["path"] == "'" + HOSTILE[2]
    assert [(row["path"], row["x"], row["status"], row["error"]) for row in rows[-2:]] == [
        ("gone</script>.jpg", "", "error", "the file is empty"),
        ("tree.jpg", "", "no_face", ""),
    ]


def test_thumbnails_lie_where_their_numbers_say() -> None:
    jpegs = [thumbnail(np.full((200, 200, 3), colour(k), np.uint8)) for k in range(450)]
    sheets = make_sheets(jpegs)
    assert len(sheets.jpegs) == 2
    for number in (0, 1, sheets.per_row, 440, 441, 449):
        sheet = np.asarray(Image.open(io.BytesIO(sheets.jpegs[number // sheets.per_row**2])))
        row, column = divmod(number % sheets.per_row**2, sheets.per_row)
        tile = sheet[row * sheets.side : (row + 1) * sheets.side, column * sheets.side : (column + 1) * sheets.side]
        assert tile.shape == (sheets.side, sheets.side, 3)
        assert np.abs(tile.astype(int) - colour(number)).max() <= 8, number


@pytest.mark.parametrize("count", [0, 1, 4000, 10_000, 10_001, 40_000, MOST])
def test_the_page_stays_bounded(count: int) -> None:
    side = side_for(count)
    assert side % STEP == 0
    assert STEP <= side <= LARGEST
    assert count * side**2 <= PIXELS


def test_too_many_or_broken_thumbnails_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 100000 pictures"):
        side_for(MOST + 1)
    for junk in (b"", b"junk"):
        with pytest.raises(UsageError, match="thumbnail 0 is not a JPEG"):
            make_sheets([junk])


@pytest.mark.slow
def test_hovering_shows_the_right_thumbnail(opened: Any, made: PictureMap) -> None:
    for number in (0, 3, 77, 441, 500):  # 441 is the first of the second sheet
        opened.mouse.move(*opened.evaluate(f"faceproofMap.place({number})"))
        until(opened, f"faceproofMap.current() === {number}")
        until(opened, f"({THUMB})[3] === 255")
        pixel = opened.evaluate(THUMB)
        assert np.abs(np.array(pixel[:3]) - colour(number)).max() <= 10, number
        shown = opened.locator("#facts b").text_content()
        assert shown == made.points[number].path
        assert made.points[number].verdict in opened.locator("#facts").text_content()
    opened.mouse.move(5, 5)
    until(opened, "faceproofMap.current() === -1")


@pytest.mark.slow
def test_in_pictures_mode_the_picture_pointed_at_is_the_one_shown(opened: Any) -> None:
    """After panning and zooming too: the canvas below the pointer has the colour of the point that is named."""
    opened.click("#thumbs")
    box = opened.locator("#over").bounding_box()
    read = "(p) => [...document.getElementById('points').getContext('2d').getImageData(p[0], p[1], 1, 1).data]"
    opened.focus("#over")
    met = set()
    for key, (x, y) in (("", (400, 300)), ("ArrowLeft", (400, 300)), ("+", (300, 200)), ("ArrowUp", (500, 350))):
        if key:
            opened.keyboard.press(key)
        opened.wait_for_timeout(300)
        opened.mouse.move(box["x"] + x - 1, box["y"] + y)
        opened.mouse.move(box["x"] + x, box["y"] + y)
        number = opened.evaluate("faceproofMap.current()")
        if number < 0:
            continue
        met.add(number)
        # Up to 9 px around the pointer there may be the frame; most of what lies there is the picture.
        pixels = [opened.evaluate(read, [x + dx, y + dy])[:3] for dx in (-4, 0, 4) for dy in (-4, 0, 4)]
        close = [np.abs(np.array(pixel) - colour(number)).max() <= 10 for pixel in pixels]
        assert max(close), (key, number)
    assert len(met) >= 2


def _inside(x: float, y: float, polygon: list[tuple[float, float]]) -> bool:
    """Winding number by angles: another way than the page's crossings."""
    turn = 0.0
    for (ax, ay), (bx, by) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        angle = np.arctan2(by - y, bx - x) - np.arctan2(ay - y, ax - x)
        turn += (angle + np.pi) % (2 * np.pi) - np.pi
    return bool(abs(turn) > np.pi)


def _draw(tab: Any, polygon: list[tuple[float, float]]) -> None:
    tab.mouse.move(*polygon[0])
    tab.mouse.down()
    for place in polygon[1:]:
        tab.mouse.move(*place)
    tab.mouse.up()


@pytest.mark.slow
def test_the_lasso_lists_exactly_the_points_inside(opened: Any, made: PictureMap) -> None:
    box = opened.locator("#over").bounding_box()
    polygon = [  # concave: a C open to the right
        (box["x"] + box["width"] * u, box["y"] + box["height"] * v)
        for u, v in ((0.2, 0.2), (0.7, 0.2), (0.7, 0.35), (0.4, 0.4), (0.4, 0.6), (0.7, 0.65), (0.7, 0.8), (0.2, 0.8))
    ]
    places = opened.evaluate(f"[...Array({COUNT}).keys()].map((i) => faceproofMap.place(i))")
    expected = [k for k, (x, y) in enumerate(places) if _inside(x, y, polygon)]
    assert 50 < len(expected) < 400
    opened.click("#lasso")
    _draw(opened, polygon)
    assert opened.evaluate("faceproofMap.listed()") == expected
    assert opened.locator("#count").text_content() == str(len(expected))
    # A line end in a name starts no second entry in the CSV; in the box it may.
    with opened.expect_download() as waiting:
        opened.click("#save")
    saved = Path(waiting.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(saved, newline="")))
    assert [row["path"].removeprefix("'") for row in rows] == [made.points[k].path for k in expected]
    assert [float(row["x"]) for row in rows] == [made.points[k].x for k in expected]
    assert [row["cluster"] for row in rows] == [made.columns["cluster"][k] for k in expected]
    opened.click("#copy")
    until(opened, "document.getElementById('said').textContent === 'copied'")
    assert opened.evaluate("navigator.clipboard.readText()") == saved
    # With a category switched off the same lasso leaves it out; Ctrl adds to what is there.
    opened.get_by_label("only photograph").click()
    _draw(opened, polygon)
    photographs = [k for k in expected if made.points[k].verdict == "photograph"]
    assert opened.evaluate("faceproofMap.listed()") == photographs
    opened.get_by_label("only generated").click()
    opened.keyboard.down("Control")
    _draw(opened, polygon)
    opened.keyboard.up("Control")
    assert opened.evaluate("faceproofMap.listed()") == [k for k in expected if made.points[k].verdict != "inconclusive"]


@pytest.mark.slow
def test_hostile_names_are_text(opened: Any) -> None:
    opened.fill("#search", "ALERT")
    until(opened, "document.getElementById('shown').textContent === '2 of 600 shown'")
    opened.click("#view")
    assert opened.evaluate("faceproofMap.listed()") == [0, 3]
    assert opened.input_value("#list") == f"{HOSTILE[0]}\n{HOSTILE[3]}"
    opened.select_option("#facet", label="generator")
    assert "</script><i>none 300" in opened.locator("#legend").text_content()
    opened.fill("#search", "")
    opened.evaluate("document.querySelector('#missing details').open = true")
    assert "gone</script>.jpg: the file is empty" in opened.locator("#missing").text_content()
    assert "1 not readable, 1 without a face" in opened.locator("#missing summary").text_content()


@pytest.mark.slow
def test_keyboard_alone(opened: Any) -> None:
    opened.focus("#over")
    before = opened.evaluate("faceproofMap.place(9)")
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate("faceproofMap.place(9)")[0] == before[0] - 60
    opened.keyboard.press("+")
    opened.keyboard.press("0")
    assert opened.evaluate("faceproofMap.place(9)") == pytest.approx(before)
    opened.keyboard.press("Shift+ArrowRight")
    first = opened.evaluate("faceproofMap.current()")
    start = opened.evaluate(f"faceproofMap.place({first})")
    opened.keyboard.press("Shift+ArrowRight")
    second = opened.evaluate("faceproofMap.current()")
    assert opened.evaluate(f"faceproofMap.place({second})")[0] > start[0]
    opened.keyboard.press(" ")
    assert opened.evaluate("faceproofMap.listed()") == [second]
    assert opened.locator("#said").text_content() == "1 pictures listed"
    opened.keyboard.press("l")
    assert opened.get_attribute("#lasso", "aria-pressed") == "true"
    opened.keyboard.press("Escape")
    assert opened.get_attribute("#lasso", "aria-pressed") == "false"
    assert opened.evaluate("faceproofMap.current()") == -1


@pytest.mark.slow
def test_colours_on_the_canvas_are_the_legends(opened: Any, made: PictureMap) -> None:
    """A point alone on the canvas has its category's colour, in the light and in the dark."""
    for scheme, paper in (("light", [255, 255, 255]), ("dark", [32, 35, 41])):
        opened.emulate_media(color_scheme=scheme)
        opened.fill("#search", "face-00077")
        opened.get_by_label(f"only {made.points[77].verdict}").click()
        opened.wait_for_timeout(200)
        x, y = opened.evaluate("faceproofMap.place(77)")
        box = opened.locator("#over").bounding_box()
        read = "(p) => [...document.getElementById('points').getContext('2d').getImageData(p[0], p[1], 1, 1).data]"
        pixel = opened.evaluate(read, [round(x - box["x"]), round(y - box["y"])])
        swatch = opened.evaluate(
            "(k) => getComputedStyle(document.querySelectorAll('#legend .swatch')[k]).backgroundColor",
            ["photograph", "inconclusive", "generated"].index(made.points[77].verdict),
        )
        assert pixel[:3] == [int(value) for value in re.findall(r"\d+", swatch)]
        assert opened.evaluate(read, [2, 2])[:3] == paper


@pytest.mark.slow
def test_ten_thousand_points_stay_fluid(context: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bound is one that a busy machine keeps; benchmarks/map.py holds the goal."""
    path = tmp_path / "large.html"
    path.write_text(page(invented_map(10_000, names=())), encoding="utf-8")
    assert path.stat().st_size < 30e6
    tab = context.new_page()
    tab.goto(path.as_uri())
    until(tab, "window.faceproofMap !== undefined")
    rate = frames_per_second(tab)
    with capsys.disabled():
        print(f" {rate:.0f} frames/s", end="")
    tab.close()
    assert rate > 8
