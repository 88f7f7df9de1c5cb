"""The web app in a real Chromium. FACEPROOF_DOCS=1 makes docs/serve.png anew."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from faceproof.images import RGB

from .image_server import KEY, running_image_server
from .live_page import chromium
from .serving import Server, serving

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PORTRAIT = (EXAMPLES / "astronaut.jpg").read_bytes()
"""A picture whose face is large enough to be explained."""
SIZES = ((360, 740), (768, 1024), (1280, 800), (1920, 1080))
TABS = ("check", "video", "explain", "compare", "duplicates", "models")
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
READY = "html[data-ready=true]"
MOST = 300_000
"""Bytes of the picture in the docs."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), "--workers", "2", "--max-picture", "4", "--urls") as one:
        yield one
        assert one.left() == []
        assert one.log.read_text(encoding="utf-8") == ""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    """A browser whose camera is Chromium's own fake one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = chromium()
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu", *CAMERA])
        yield started
        started.close()


@pytest.fixture(scope="module")
def context(chrome: Any) -> Iterator[Any]:
    with looking(chrome, accept_downloads=True, viewport={"width": 1200, "height": 760}) as opened:
        yield opened


@contextlib.contextmanager
def looking(chrome: Any, **options: Any) -> Iterator[Any]:
    """Another person's browser."""
    own = chrome.new_context(**{"color_scheme": "light", **options})
    try:
        yield own
    finally:
        own.close()


@contextlib.contextmanager
def opened(context: Any, server: Server, tab: str = "check", *, complaints: bool = False) -> Iterator[Any]:
    """The page; a request to elsewhere or a complaint of the browser fails the test."""
    page = context.new_page()
    trouble: list[str] = []
    own = urlsplit(server.url).netloc

    def look(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != own:
            trouble.append(f"asks {request.url}")

    page.on("request", look)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    if not complaints:
        page.on("console", lambda message: trouble.append(message.text))
    page.goto(f"{server.url}/#{tab}")
    page.wait_for_selector(READY)
    try:
        yield page
        assert trouble == []
    finally:
        page.close()


def give(page: Any, verb: str, *files: tuple[str, bytes]) -> None:
    """Choose files in a tab, as a person does in the dialog."""
    kinds = {".png": "image/png", ".mp4": "video/mp4"}
    page.set_input_files(
        f"#panel-{verb} input[type=file]",
        [{"name": n, "mimeType": kinds.get(Path(n).suffix, "image/jpeg"), "buffer": data} for n, data in files],
    )


def said(page: Any, verb: str) -> str:
    """What the tab says when it has done its work."""
    page.wait_for_selector(f"#panel-{verb} .status:not(.busy):not(:empty)", timeout=120_000)
    return str(page.locator(f"#panel-{verb} .status").text_content())


def test_a_picture_gets_its_verdict(context: Any, server: Server, tmp_path: Path) -> None:
    data = (EXAMPLES / "astronaut.jpg").read_bytes()
    with opened(context, server) as page:
        give(page, "check", ("astronaut.jpg", data))
        assert said(page, "check") == "Done: photograph."
        shown = page.locator("#panel-check .verdict")
        assert "photograph" in shown.text_content()
        assert page.locator("#panel-check [data-box]").count() == 1
        assert page.locator("#panel-check circle[data-after]").count() == 10  # the full certificate
        with page.expect_download() as loading:
            page.get_by_role("button", name="Save the record").click()
        loading.value.save_as(tmp_path / "record.json")
        record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
        assert (record["path"], record["verdict"]) == ("astronaut.jpg", "photograph")
        with page.expect_download(timeout=120_000) as loading:
            page.get_by_role("button", name="Save a report").click()
        loading.value.save_as(tmp_path / "report.html")
        assert "faceproof report" in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert said(page, "check") == "The report is saved."
        page.get_by_role("button", name="Explain it").click()
        assert said(page, "explain").startswith("Explained: face 1 of 1")
        assert page.locator("#panel-explain .map").count() >= 4
        picture = page.screenshot(full_page=True)
    assert Image.open(io.BytesIO(picture)).width == 1200


def test_dropping_and_pasting(context: Any, server: Server, face_jpeg: bytes) -> None:
    make = """([kind, data]) => {
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      const given = new DataTransfer();
      given.items.add(new File([bytes], `${kind}.jpg`, { type: "image/jpeg" }));
      if (kind === "paste") document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: given }));
      else document.querySelector("#panel-check .drop").dispatchEvent(
        new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
    }"""
    for kind in ("drop", "paste"):
        with opened(context, server) as page:
            page.evaluate(make, [kind, base64.b64encode(face_jpeg).decode()])
            assert said(page, "check").startswith("Done:")
            assert f"{kind}.jpg" in page.locator("#panel-check article h2").text_content()


def test_wrong_files(context: Any, server: Server) -> None:
    with opened(context, server, complaints=True) as page:
        give(page, "check", ("notes.jpg", b"hello"))
        assert "Not a picture" in said(page, "check")
        assert page.locator("#panel-check .status.bad").count() == 1
        assert page.locator("#panel-check .result").inner_html() == ""
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        give(page, "check", ("large.jpg", bytes(5 << 20)))
        assert "the largest taken is 4 MiB" in said(page, "check")
        assert asked == []  # said before anything was sent
        give(page, "check", ("drawing.png", (EXAMPLES / "drawing.png").read_bytes()))
        assert "No face was found" in said(page, "check")
        page.fill("#panel-check input[type=url]", "http://127.0.0.1/x.jpg")
        page.get_by_role("button", name="Fetch it").click()
        page.locator("#panel-check .status", has_text="public internet").wait_for()


def test_hostile_names_are_shown_as_text(context: Any, server: Server, face_jpeg: bytes) -> None:
    name = "<img src=x onerror=document.title='bad'>.jpg"
    with opened(context, server) as page:
        give(page, "check", (name, face_jpeg))
        said(page, "check")
        assert name in page.locator("#panel-check article h2").text_content()
        assert page.title() == "faceproof"
        page.click("#tab-duplicates")
        give(page, "duplicates", (name, face_jpeg), ("b.jpg", face_jpeg))
        page.click("#panel-duplicates .go")
        assert said(page, "duplicates") == "2 of 2 pictures have copies among them."
        assert name in page.locator("#panel-duplicates .group").text_content()
        assert page.title() == "faceproof"


def test_camera(chrome: Any, server: Server) -> None:
    """Chromium's own fake camera: a green picture with a pacman, and no face."""
    with looking(chrome, permissions=["camera"]) as own, opened(own, server) as page:
        page.click(".camera-open")
        page.locator("#panel-check .status", has_text="camera is on").wait_for()
        page.wait_for_timeout(500)
        page.click(".camera-take")
        assert "No face" in said(page, "check")
        assert "camera.png" in page.locator("#panel-check article h2").text_content()
        assert page.evaluate("document.querySelector('.camera').hidden")
        assert not page.evaluate("document.querySelector('.camera video').srcObject.active")


def test_video(context: Any, server: Server, tmp_path: Path, astronaut: RGB) -> None:
    pytest.importorskip("av", reason="of the extra [video]")
    from .test_serve_api import make_clip

    with opened(context, server, "video") as page:
        give(page, "video", ("clip.mp4", make_clip(tmp_path / "clip.mp4", astronaut)))
        assert said(page, "video").startswith("Done:")
        assert page.locator("#panel-video svg.timeline").count() == 1
        assert page.locator("#panel-video [data-track]").count() >= 1


def test_compare(context: Any, server: Server, face_jpeg: bytes) -> None:
    drawing = (EXAMPLES / "drawing.png").read_bytes()
    with opened(context, server, "compare") as page:
        assert page.locator("#panel-compare .go").is_disabled()
        give(page, "compare", ("a.jpg", face_jpeg))
        assert page.locator("#panel-compare .go").is_disabled()
        give(page, "compare", ("b.png", drawing))
        assert "They are no copies" in said(page, "compare")
        assert page.locator("#panel-compare article").count() == 2
        give(page, "compare", ("a.jpg", face_jpeg), ("c.jpg", face_jpeg))
        page.locator("#panel-compare .status", has_text="same file").wait_for(timeout=60_000)


def test_generate(chrome: Any, tmp_path: Path) -> None:
    """Picture, origin and verdict, in a narrow window; what is refused; axe, for which the page's policy is let go."""
    pytest.importorskip("openai", reason="the extra [openai] is not installed")
    axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python")
    with running_image_server() as images:
        images.made = PORTRAIT
        images.rule = lambda asked: "refuse" if asked.fields["prompt"] == "no" else None
        given = ("--workers", "1", "--generate", "--base-url", images.url, "--price", "0.1", "--budget", "0.1")
        for number, (scheme, free) in enumerate((("light", True), ("dark", True), ("light", False))):
            env = {"OPENAI_API_KEY": KEY, "no_proxy": "127.0.0.1"}
            with (
                serving(tmp_path / str(number), *given, env=env) as one,
                looking(chrome, color_scheme=scheme, bypass_csp=free, viewport={"width": 360, "height": 740}) as own,
                opened(own, one, "generate", complaints=True) as page,
            ):
                assert images.url in page.locator("#panel-generate .goes").text_content()
                for prompt, answer in (("no", "safety system"), ("a portrait", "the detector says: photograph."),
                                       ("a portrait", "money for pictures is spent")):  # fmt: skip
                    page.fill("#panel-generate textarea", prompt)
                    page.click("#panel-generate .make")
                    page.locator("#panel-generate .status", has_text=answer).wait_for(timeout=60_000)
                    if prompt == "no" or answer.startswith("money"):
                        assert page.locator("#panel-generate img").count() == 0
                        continue
                    picture = page.locator("#panel-generate figure img")
                    assert picture.get_attribute("alt") == "Made from: a portrait"
                    assert picture.evaluate("picture => picture.naturalWidth") == 512
                    assert page.locator("#panel-generate article").count() == 1
                    assert page.evaluate("document.documentElement.scrollWidth") <= 360
                    with page.expect_download() as saving:
                        page.click("#panel-generate a[download]")
                    assert Path(saving.value.path()).read_bytes() == PORTRAIT
                    found = axe_module.Axe().run(page).response["violations"] if free else []
                    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
                assert KEY not in page.content()


def test_nothing_is_made_without_the_switch(context: Any, server: Server) -> None:
    with opened(context, server, "generate") as page:
        assert page.locator("#tab-generate").is_hidden()
        assert page.locator("#panel-check").is_visible()


def test_models_say_their_limits(context: Any, server: Server) -> None:
    with opened(context, server, "models") as page:
        page.wait_for_selector("#panel-models .model li")
        text = page.locator("#panel-models .model").first.text_content()
        assert "What it cannot say" in text
        assert "It judges whole generated faces" in text


def test_two_people_at_once(context: Any, server: Server, face_jpeg: bytes) -> None:
    mirrored = io.BytesIO()
    Image.open(io.BytesIO(face_jpeg)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored, "PNG")
    with opened(context, server) as one, opened(context, server) as other:
        for _ in range(3):
            give(one, "check", ("one.jpg", face_jpeg))
            give(other, "check", ("other.png", mirrored.getvalue()))
            for page, name in ((one, "one.jpg"), (other, "other.png")):
                assert said(page, "check").startswith("Done:")
                assert name in page.locator("#panel-check article h2").text_content()


def test_keyboard(context: Any, server: Server) -> None:
    with opened(context, server) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "tab-check"
        for key, tab in (("ArrowRight", "video"), ("End", "models"), ("ArrowRight", "check"), ("ArrowLeft", "models"),
                         ("Home", "check")):  # fmt: skip
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
            assert page.locator(f"#panel-{tab}").is_visible()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.type") == "file"
        # The system's dialog, which Space opens, is the browser's own and no page's; under load playwright misses it.
        page.locator("input:focus").set_input_files(str(EXAMPLES / "drawing.png"))
        assert "No face" in said(page, "check")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}px")
def test_no_size_of_screen_scrolls_sideways(
    context: Any, server: Server, face_jpeg: bytes, size: tuple[int, int]
) -> None:
    with opened(context, server) as page:
        page.set_viewport_size({"width": size[0], "height": size[1]})
        for tab in TABS:
            page.click(f"#tab-{tab}")
            if tab == "check" or (tab == "explain" and size[0] == SIZES[0][0]):
                give(page, tab, ("a-very-long-name-without-a-place-to-break" * 4 + ".jpg", PORTRAIT))
                said(page, tab)
            if tab == "models":
                page.wait_for_selector(".model")
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0], tab
            assert page.evaluate("document.body.scrollWidth") <= size[0], tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chrome: Any, server: Server, face_jpeg: bytes, scheme: str) -> None:
    axe_module = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python brings axe-core"
    )
    axe = axe_module.Axe()
    # The page's own policy lets no test's script in.
    with looking(chrome, color_scheme=scheme, bypass_csp=True) as own, opened(own, server) as page:
        for tab in TABS:
            page.click(f"#tab-{tab}")
            if tab == "check" or (tab == "explain" and scheme == "dark"):
                give(page, tab, ("a.jpg", PORTRAIT))
                said(page, tab)
            if tab == "compare":
                give(page, tab, ("a.jpg", face_jpeg))
            if tab == "models":
                page.wait_for_selector(".model")
            found = axe.run(page).response["violations"]
            serious = [(one["id"], [node["html"][:150] for node in one["nodes"]][:3]) for one in found
                       if one["impact"] in ("serious", "critical")]  # fmt: skip
            assert serious == [], (tab, serious)


def test_a_token_is_asked_for_once(chrome: Any, tmp_path: Path, face_jpeg: bytes) -> None:
    token = "a-token-that-is-long-enough"
    with (
        serving(tmp_path, "--workers", "1", env={"FACEPROOF_TOKEN": token}) as one,
        looking(chrome) as own,
        opened(own, one, complaints=True) as page,
    ):
        give(page, "check", ("a.jpg", face_jpeg))
        for given in ("wrong-token-given", token):
            page.wait_for_selector("form.token:not([hidden])")
            page.fill("form.token input", given)
            page.keyboard.press("Enter")
        assert said(page, "check").startswith("Done:")
        give(page, "check", ("b.jpg", face_jpeg))
        page.locator("#panel-check article h2", has_text="b.jpg").wait_for(timeout=60_000)


def test_the_picture_in_the_docs(chrome: Any, server: Server, tmp_path: Path) -> None:
    """A desktop in light colours and a telephone in dark ones, side by side."""
    shots = [_shot(chrome, server, scheme, width) for scheme, width in (("light", 1100), ("dark", 390))]
    gap = np.full((len(shots[0]), 20, 3), 255, np.uint8)
    whole = Image.fromarray(np.concatenate([shots[0], gap, shots[1]], 1))
    whole.quantize(128, dither=Image.Dither.NONE).save(tmp_path / "serve.png", optimize=True)
    assert (tmp_path / "serve.png").stat().st_size < MOST
    if os.environ.get("FACEPROOF_DOCS"):
        (DOCS / "serve.png").write_bytes((tmp_path / "serve.png").read_bytes())


def _shot(chrome: Any, server: Server, scheme: str, width: int) -> RGB:
    viewport = {"width": width, "height": 900}
    with looking(chrome, color_scheme=scheme, viewport=viewport) as own, opened(own, server) as page:
        give(page, "check", ("astronaut.jpg", (EXAMPLES / "astronaut.jpg").read_bytes()))
        assert said(page, "check") == "Done: photograph."
        if width < 800:  # where the answer is below what fits
            page.evaluate("scrollTo(0, document.querySelector('#panel-check .status').offsetTop - 20)")
        return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
