"""Bad and odd pictures: each is read right or refused with an error that says what to do; nothing else is raised."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from faceproof import (
    DamagedError,
    FaceChecker,
    Limits,
    NotAPictureError,
    PictureError,
    TooLargeError,
    UnreadableError,
    UsageError,
    load,
)
from faceproof.images import RGB
from tests.helpers import answering, encode, gif_with_frame, limited, png, png_chunk, run_cli, without_root

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True, "exact": True},
}
LOSSY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 97, "subsampling": 0},
    "AVIF": {"quality": 97, "subsampling": "4:4:4"},
}
ADVICE = re.compile(r"\b(check|get|give|raise|lower|remove|convert|install|choose|formats read)\b")
"""House rule 6: an error says what to do."""


@pytest.fixture(scope="module")
def small(astronaut: RGB) -> RGB:
    """A face at another width than height, so that a swapped axis shows: (240, 200, 3)."""
    return np.ascontiguousarray(astronaut[10:250, 125:325])


def noise(*shape: int, high: int = 256) -> npt.NDArray[Any]:
    """The same random samples each time."""
    return np.random.default_rng(7).integers(0, high, shape).astype(np.uint8 if high <= 256 else np.uint16)


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Run `work` beside the test, so that a call that waits for ever fails instead of hanging the suite."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as err:
            outcome.append((None, err))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        pytest.fail(f"not done after {seconds:g} s")
    value, err = outcome[0]
    if err is not None:
        raise err
    return value


def assert_advice(message: str) -> None:
    assert "\n" not in message
    assert ADVICE.search(message), f"no word of what to do: {message!r}"


# ---- files that are no pictures


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


BAD_BYTES: dict[str, tuple[Callable[[bytes], bytes], type[PictureError], str]] = {
    "empty": (lambda _: b"", NotAPictureError, r"empty \(0 bytes\)"),
    "text": (lambda _: b"Dear reader, this is prose.\n" * 9, NotAPictureError, "looks like text"),
    "web page": (lambda _: b" <!DOCTYPE html><html>404</html>", NotAPictureError, "web page"),
    "svg": (lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'/>", NotAPictureError, "SVG"),
    "pdf": (lambda _: b"%PDF-1.7\n\xe2\xe3\xcf\xd3", NotAPictureError, "PDF"),
    "video": (lambda _: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 99, NotAPictureError, "video"),
    "zeros": (lambda _: b"\0" * 4096, NotAPictureError, "formats read: JPEG"),
    "zip": (lambda _: b"PK\x03\x04" + b"\xff" * 99, NotAPictureError, "formats read: JPEG"),
    "truncated": (_half, DamagedError, "damaged or truncated.*original"),
    "bomb": (
        lambda _: png(10_000, 10_000),
        TooLargeError,
        r"10000 x 10000 = 100 megapixels.*limit of 64.*--max-pixels",
    ),
    "giant": (lambda _: png(2**31 - 1, 2**31 - 1), TooLargeError, "--max-pixels"),
    "0 px png": (lambda _: png(0, 10), DamagedError, "no pixels|damaged or truncated"),
    "0 px gif": (lambda _: gif_with_frame((0, 0), (0, 0)), DamagedError, "no pixels|damaged or truncated"),
}


@pytest.mark.parametrize("kind", BAD_BYTES)
def test_bad_bytes(kind: str, face_jpeg: bytes, checker: FaceChecker, tmp_path: Path) -> None:
    """As bytes, as a file named .jpg, and as a record: one class of error, one message, with advice."""
    make, error, pattern = BAD_BYTES[kind]
    path = tmp_path / "picture.jpg"
    path.write_bytes(make(face_jpeg))
    with pytest.raises(error, match=pattern) as raised:
        load(path)
    assert_advice(str(raised.value))
    with pytest.raises(error, match=pattern):
        load(path.read_bytes())
    result = checker.check(path)
    assert (result.status, result.error, result.faces) == ("error", str(raised.value), ())
    assert result.path == str(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("kept", [20, 0.1, 0.5, 0.9])
def test_a_cut_off_picture_is_damaged(kind: str, kept: float, small: RGB) -> None:
    """A file that begins like a picture is not called a video or a file of an unknown kind (see DamagedError)."""
    data = encode(small, kind)
    with pytest.raises(DamagedError, match="damaged or truncated") as raised:
        load(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    assert_advice(str(raised.value))


def test_other_formats_are_not_even_parsed(small: RGB) -> None:
    """Pillow knows some forty formats, some of which run programs (EPS); seven and HEIF are let through."""
    for kind in ("PPM", "TGA", "ICO", "PCX", "EPS", "PDF", "DDS", "JPEG2000"):
        with pytest.raises(NotAPictureError, match="formats read"):
            load(encode(small, kind))


def test_wrong_extension(small: RGB, face_jpeg: bytes, checker: FaceChecker, tmp_path: Path) -> None:
    """Content decides; the difference is noted, and only where there is one."""
    wrong = tmp_path / "really-a-jpeg.png"
    wrong.write_bytes(face_jpeg)
    picture = load(wrong)
    assert picture.format == "JPEG"
    assert picture.notes == ("the file is named like PNG but holds JPEG",)
    np.testing.assert_array_equal(picture.pixels, load(face_jpeg).pixels)
    assert checker.check(wrong).notes[:1] == picture.notes
    for kind, ending in [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("AVIF", "avif")]:
        right = tmp_path / f"right.{ending}"
        right.write_bytes(encode(small, kind))
        assert load(right).notes == ()


# ---- paths that are bad


def test_bad_paths(tmp_path: Path, face_jpeg: bytes, checker: FaceChecker) -> None:
    """What a path can be besides a regular file: each is refused at once, none is waited for."""
    (tmp_path / "broken.jpg").symlink_to("nowhere/at-all.jpg")
    (tmp_path / "loop.jpg").symlink_to("pool.jpg")
    (tmp_path / "pool.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "file.jpg").write_bytes(face_jpeg)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.jpg"))
    cases = {
        "broken.jpg": "a broken link: it points to nowhere/at-all.jpg",
        "loop.jpg": "a loop of links",
        "folder.jpg": "a folder, not a file",
        "fifo.jpg": "a pipe, socket or device",
        "socket.jpg": "a pipe, socket or device",
        "missing.jpg": "no such file",
        "file.jpg/below.jpg": "cannot be read",
        "x" * 300 + ".jpg": "name is too long",
        "nul\0inside.jpg": "not a possible file name",
        "lone\ud800surrogate.jpg": "not a possible file name",
        "/dev/null": "a pipe, socket or device",
        "/dev/zero": "a pipe, socket or device",
    }
    for name, pattern in cases.items():
        path = os.path.join(tmp_path, name)
        with pytest.raises(UnreadableError, match=pattern) as raised:
            within(20, lambda path=path: load(path))
        result = within(20, lambda path=path: checker.check(path))
        assert (result.status, result.error) == ("error", str(raised.value))
        result.path.encode()  # well-formed Unicode, whatever was given
        assert_advice(str(raised.value))


def test_a_fifo_that_has_a_writer(tmp_path: Path, face_jpeg: bytes) -> None:
    path = tmp_path / "fifo.jpg"
    os.mkfifo(path)
    both = os.open(path, os.O_RDWR)
    try:
        os.write(both, face_jpeg[:4096])
        with pytest.raises(UnreadableError, match="a pipe"):
            within(20, lambda: load(path))
    finally:
        os.close(both)


def test_unreadable_file(tmp_path: Path, face_jpeg: bytes) -> None:
    """Permission bits do not stop root, so the check runs without that right."""
    path = tmp_path / "secret.jpg"
    path.write_bytes(face_jpeg)
    path.chmod(0)
    done = run_cli("check", "--json", path, before=without_root())
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"]) == (1, "error")
    assert record["error"] == "no permission to read it; check its owner and mode"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.jpg", "ü\u202e\u0000".encode()[:-1] + b".jpg", b"a\nb.jpg", b" .jpg", b"-o.jpg"]
)
def test_strange_names(name: bytes, tmp_path: Path, face_jpeg: bytes, checker: FaceChecker) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    with open(path, "wb") as stream:
        stream.write(face_jpeg)
    result = checker.check(path)
    assert result.status == "ok"
    assert result.path.encode().endswith(name.decode("utf-8", "backslashreplace").encode())


def test_more_bytes_than_allowed(tmp_path: Path, face_jpeg: bytes) -> None:
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as stream:
        stream.truncate(257 * 2**20)  # sparse: takes no room
    with pytest.raises(TooLargeError, match="257 MiB, over the limit of 256 MiB") as raised:
        load(huge)
    assert_advice(str(raised.value))
    path = tmp_path / "file.jpg"
    path.write_bytes(face_jpeg)
    assert load(path, limits=Limits(max_bytes=len(face_jpeg))).width == 256
    with pytest.raises(TooLargeError, match="over the limit"):
        load(path, limits=Limits(max_bytes=len(face_jpeg) - 1))


# ---- bombs and the limits


def _peak(work: Callable[[], object]) -> float:
    """Most memory that Python allocated during `work`, MiB. numpy and Pillow's buffers count."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    """A valid PNG of 100 megapixels in 100 KB, in a process that says how much memory it ever took."""
    body = zlib.compressobj(9)
    line = b"\0" * 12_501  # a filter byte and 100,000 px of 1 bit
    data = b"".join([*(body.compress(line) for _ in range(1000)), body.flush()])
    path = tmp_path / "bomb.png"
    path.write_bytes(
        png(100_000, 1000, depth=1, colour=0).replace(
            png_chunk(b"IDAT", zlib.compress(b"", 9)), png_chunk(b"IDAT", data)
        )
    )
    assert path.stat().st_size < 200_000
    code = (
        "import resource, sys, time, faceproof.images as i; from PIL import Image; i.load(sys.argv[2])\n"
        "start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: i.load(sys.argv[1])\n"
        "except i.TooLargeError as err: print(err)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.perf_counter() - start)\n"
        "print(i.load(sys.argv[1], limits=i.Limits(max_pixels=100_000_000)).pixels.shape)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    tiny = tmp_path / "tiny.png"
    tiny.write_bytes(encode(noise(8, 8, 3), "PNG"))
    done = subprocess.run(
        [sys.executable, "-c", code, path, tiny], capture_output=True, text=True, check=True, timeout=60
    )
    message, cost, shape, decoded = done.stdout.splitlines()
    assert "100 megapixels" in message
    kibibytes, seconds = cost.split()
    assert int(kibibytes) < 8 * 1024
    assert float(seconds) < 1
    assert shape == "(1000, 100000, 3)"  # the limit can be raised ...
    assert int(decoded) > 250 * 1024  # ... and then it costs what was avoided above


@pytest.mark.parametrize(
    "data",
    [
        png(8_001, 8_000),
        png(10_000, 10_000),
        png(60_000, 60_000),
        gif_with_frame((1, 1), (60_000, 60_000)),
        gif_with_frame((1, 1), (9_000, 9_000)),
        gif_with_frame((9_000, 9_000), (1, 1)),
        png(50, 50, b"\0" * 7550, png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 300_000_000, 1))),
        png(50, 50, b"\0" * 7550, png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x" * 300_000_000, 1))),
    ],
    ids=["64.008 MP", "100 MP", "3600 MP", "GIF frame", "GIF frame 81 MP", "GIF screen", "text", "profile"],
)
def test_nothing_large_is_ever_allocated(data: bytes) -> None:
    def read() -> None:
        with contextlib.suppress(PictureError):
            load(data)

    read()  # imports
    assert _peak(read) < 24


def test_reading_a_small_file_takes_little_memory(tmp_path: Path, small: RGB) -> None:
    """The limit on bytes is not a buffer: a worker under a memory limit must read a 100 KB file."""
    path = tmp_path / "small.png"
    path.write_bytes(encode(small, "PNG"))
    load(path)
    assert _peak(lambda: load(path)) < 16


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_the_limit_is_exact_and_settable(kind: str, small: RGB) -> None:
    data = encode(small, kind)
    assert load(data, limits=Limits(max_pixels=240 * 200)).pixels.shape == (240, 200, 3)
    with pytest.raises(TooLargeError, match="200 x 240"):
        load(data, limits=Limits(max_pixels=240 * 200 - 1))


def test_the_limit_holds_for_arrays_and_pillow_pictures(small: RGB) -> None:
    limits = Limits(max_pixels=240 * 200 - 1)
    for source in (small, small[:, :, 0], Image.fromarray(small)):
        with pytest.raises(TooLargeError, match="200 x 240"):
            load(source, limits=limits)


@pytest.mark.parametrize("wrong", [{"max_pixels": 0}, {"max_bytes": -1}, {"url_timeout": 0}])
def test_limits_must_be_positive(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="positive"):
        Limits(**wrong)


def test_max_pixels_on_the_command_line(tmp_path: Path, face_jpeg: bytes) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(face_jpeg)
    refused = run_cli("check", "--json", "--max-pixels", "65535", path)
    assert refused.returncode == 1
    assert "--max-pixels" in json.loads(refused.stdout)["error"]
    assert run_cli("check", "--json", "--max-pixels", "0.065536M", path).returncode == 0
    for wrong in ("many", "nan", "-3", "0", "inf", "M"):
        done = run_cli("check", f"--max-pixels={wrong}", path)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"faceproof: [^\n]+\n", done.stderr)


# ---- odd pictures, held against independent expectation


def _over_white(colour: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    share = alpha.astype(np.float64)[..., None] / 255
    return colour * share + 255.0 * (1 - share)


def test_cmyk(astronaut: RGB, checker: FaceChecker) -> None:
    """r = (255 - c)(255 - k) / 255, for a TIFF exactly; a CMYK JPEG (stored inverted by Adobe's habit) nearly."""
    ink = noise(50, 60, 4)
    paper = 255 - ink.astype(np.float64)
    expected = paper[:, :, :3] * paper[:, :, 3:] / 255
    tiff = load(encode(Image.fromarray(ink, "CMYK"), "TIFF"))
    assert np.abs(tiff.pixels - expected).max() <= 1
    rgb = astronaut.astype(np.int32)
    black = 255 - rgb.max(axis=2, keepdims=True)
    colours = np.clip(255 - np.round(255.0 * rgb / np.maximum(255 - black, 1)), 0, 255)
    inks = np.concatenate([colours, black], axis=2).astype(np.uint8)
    data = encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=95, subsampling=0)
    assert np.abs(load(data).pixels.astype(float) - astronaut).mean() < 2
    box = checker.check(data).faces[0].box
    np.testing.assert_allclose(box, checker.check(astronaut).faces[0].box, atol=2)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits(kind: str, astronaut: RGB, checker: FaceChecker) -> None:
    """65535 is 255 and 257 is 1: v / 257 rounded for grey, within one for colours (Pillow keeps the high byte)."""
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if kind == "tiff" else []
    grey = noise(60, 50, high=65536)
    grey[0, :6] = [0, 128, 129, 257, 65406, 65535]
    read = load(cv2.imencode(f".{kind}", grey, options)[1].tobytes())
    assert read.notes == ("16-bit samples scaled to 8",)
    np.testing.assert_array_equal(
        read.pixels, np.repeat(np.round(grey / 257.0).astype(np.uint8)[:, :, None], 3, axis=2)
    )
    assert read.pixels[0, :6, 0].tolist() == [0, 0, 1, 1, 254, 255]
    wide = astronaut.astype(np.uint16) * 257
    colour = load(cv2.imencode(f".{kind}", wide[:, :, ::-1], options)[1].tobytes())
    assert np.abs(colour.pixels.astype(int) - astronaut).max() <= 1
    np.testing.assert_allclose(checker.check(colour.pixels).faces[0].box, checker.check(astronaut).faces[0].box, atol=1)


def test_sixteen_bits_big_endian_and_turned() -> None:
    grey = noise(40, 30, high=65536)
    data = encode(Image.fromarray(_stored(grey, 6)), "PNG", exif=_orientation(6))
    np.testing.assert_array_equal(load(data).pixels[:, :, 1], np.round(grey / 257.0))
    big = Image.frombytes("I;16B", (30, 40), grey.astype(">u2").tobytes())
    np.testing.assert_array_equal(load(big).pixels[:, :, 2], np.round(grey / 257.0))


def test_sixteen_bits_with_alpha() -> None:
    samples = noise(30, 20, 4, high=65536)
    data = cv2.imencode(".png", samples)[1].tobytes()
    expected = _over_white((samples[:, :, 2::-1] / 257.0), (samples[:, :, 3] / 257.0))
    assert np.abs(load(data).pixels - expected).max() <= 3  # Pillow keeps the high bytes of colour and alpha alike


def test_thirty_two_bits() -> None:
    """Floats of 0 to 1, and integers within 16 bits, keep their scale; what is not a number is refused."""
    ramp = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    unit = load(encode(Image.fromarray(ramp), "TIFF"))
    assert np.abs(unit.pixels[:, :, 0] - ramp * 255.0).max() <= 0.51
    whole = load(encode(Image.fromarray((ramp * 65535).astype(np.int32)), "TIFF"))
    assert np.abs(whole.pixels[:, :, 0] - ramp * 255.0).max() <= 1
    for value in (np.nan, np.inf):
        broken = ramp.copy()
        broken[3, 3] = value
        with pytest.raises(DamagedError, match="infinite or undefined.*convert"):
            load(encode(Image.fromarray(broken), "TIFF"))


@pytest.mark.parametrize("colours", [2, 4, 16, 256])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(colours: int, kind: str) -> None:
    table = noise(colours, 3)
    index = noise(31, 17, high=colours)
    index[0, 0], index[0, 1] = 0, colours - 1
    image = Image.fromarray(index, "P")
    image.putpalette(table.tobytes())
    if kind in ("GIF", "PNG") or colours > 2:  # Pillow's BMP and TIFF writers have no short palettes
        np.testing.assert_array_equal(load(encode(image, kind)).pixels, table[index])


def test_palette_with_transparent_colour() -> None:
    table, index = noise(16, 3), noise(31, 17, high=16)
    image = Image.fromarray(index, "P")
    image.putpalette(table.tobytes())
    alpha = np.full(16, 255, np.uint8)
    alpha[3], alpha[5] = 0, 100
    read = load(encode(image, "PNG", transparency=alpha.tobytes()))
    assert np.abs(read.pixels - _over_white(table[index], alpha[index])).max() <= 1
    assert read.notes == ("transparent parts laid over white",)
    gif = load(encode(image, "GIF", transparency=3))
    expected = table[index]
    expected[index == 3] = 255
    np.testing.assert_array_equal(gif.pixels, expected)


def test_colour_key() -> None:
    """RGB and grey PNG may name one colour that is transparent."""
    pixels = noise(20, 30, 3)
    expected = pixels.copy()
    expected[4, 5] = 255
    key = tuple(int(v) for v in pixels[4, 5])
    np.testing.assert_array_equal(load(encode(pixels, "PNG", transparency=key)).pixels, expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha(kind: str, astronaut: RGB, checker: FaceChecker) -> None:
    pixels = noise(40, 30, 4)
    data = encode(Image.fromarray(pixels, "RGBA"), kind, **LOSSLESS[kind])
    read = load(data)
    assert np.abs(read.pixels - _over_white(pixels[:, :, :3], pixels[:, :, 3])).max() <= 1
    assert read.notes == ("transparent parts laid over white",)
    # Colours hidden under transparent pixels must not come back: a mask around the head stays white.
    cut = np.dstack([astronaut, np.zeros((512, 512), np.uint8)])
    cut[20:240, 120:330, 3] = 255
    face = load(encode(Image.fromarray(cut, "RGBA"), kind, **LOSSLESS[kind]))
    assert (face.pixels[300:] == 255).all()
    np.testing.assert_array_equal(face.pixels[20:240, 120:330], astronaut[20:240, 120:330])
    np.testing.assert_allclose(checker.check(face.pixels).faces[0].box, checker.check(astronaut).faces[0].box, atol=6)


def test_opaque_alpha_and_grey_alpha() -> None:
    pixels = noise(40, 30, 4)
    pixels[:, :, 3] = 255
    opaque = load(encode(Image.fromarray(pixels, "RGBA"), "PNG"))
    np.testing.assert_array_equal(opaque.pixels, pixels[:, :, :3])
    assert opaque.notes == ()
    both = noise(40, 30, 2)
    read = load(encode(Image.fromarray(both, "LA"), "PNG"))
    expected = _over_white(np.repeat(both[:, :, :1], 3, axis=2), both[:, :, 1])
    assert np.abs(read.pixels - expected).max() <= 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "YCbCr", "HSV", "LA", "La", "PA", "RGBa", "RGBX", "I", "F", "I;16", "CMYK", "P"]
)
def test_every_mode_of_pillow(mode: str) -> None:
    """None of Pillow's modes is an accident: a white picture is white, or the refusal is ours."""
    white: Any = {"1": 1, "YCbCr": (255, 128, 128), "HSV": (0, 0, 255), "CMYK": (0, 0, 0, 0), "I;16": 65535, "F": 255.0}
    image = Image.new(mode, (3, 2), white.get(mode, 255 if len(Image.new(mode, (1, 1)).getbands()) == 1 else None) or 0)
    if mode in ("LA", "La", "PA", "RGBa", "RGBX"):
        image.frombytes(b"\xff" * len(image.tobytes()))
    if mode in ("P", "PA"):
        image.putpalette(b"\xff" * 768)
    try:
        pixels = load(image).pixels
    except PictureError as err:
        assert_advice(str(err))
    else:
        assert (pixels.shape, pixels.min()) == ((2, 3, 3), 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animation(kind: str, astronaut: RGB, checker: FaceChecker) -> None:
    """The first frame is taken, and the record says that there were others."""
    first = Image.fromarray(astronaut).resize((256, 256))
    still = first.quantize(256) if kind == "GIF" else first
    black = Image.new(still.mode, still.size)
    options = dict(LOSSLESS.get(kind, {}), save_all=True, append_images=[black, still.rotate(90)])
    data = encode(still, kind, **options)
    read = load(data)
    np.testing.assert_array_equal(read.pixels, np.asarray(still.convert("RGB")))
    assert len(read.notes) == 1
    assert "only the first of 3" in read.notes[0]
    (face,) = checker.check(data).faces
    np.testing.assert_allclose(face.box, checker.check(np.asarray(first)).faces[0].box, atol=4)


def _stored(upright: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """How a camera stores a picture that this EXIF orientation turns upright (EXIF 2.3, tag 0x0112)."""
    across = upright.swapaxes(0, 1)
    return np.ascontiguousarray(
        {
            1: upright,
            2: upright[:, ::-1],  # mirrored
            3: upright[::-1, ::-1],  # upside down
            4: upright[::-1],
            5: across,
            6: np.rot90(upright, 1),  # must be turned clockwise, so it lies counter-clockwise
            7: across[::-1, ::-1],
            8: np.rot90(upright, -1),
        }[orientation]
    )


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()  # a new one each time: Pillow's AVIF writer takes the tag out of the one it is given
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, small: RGB, checker: FaceChecker) -> None:
    stored = Image.fromarray(_stored(small, orientation))
    for kind in ("PNG", "WEBP", "TIFF"):
        data = encode(stored, kind, exif=_orientation(orientation), **LOSSLESS[kind])
        np.testing.assert_array_equal(load(data).pixels, small)
    for kind, options in LOSSY.items():
        read = load(encode(stored, kind, exif=_orientation(orientation), **options))
        assert read.pixels.shape == small.shape
        assert np.abs(read.pixels.astype(float) - small).mean() < 2.5, kind
    expected = checker.check(small).faces[0]
    found = checker.check(encode(stored, "PNG", exif=_orientation(orientation))).faces[0]
    assert found.box == expected.box
    assert found.verdict.score == pytest.approx(expected.verdict.score)
    turned = checker.check(encode(stored, "JPEG", exif=_orientation(orientation), **LOSSY["JPEG"])).faces[0]
    np.testing.assert_allclose(turned.box, expected.box, atol=2)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_meaningless_orientation_is_none(orientation: int, small: RGB) -> None:
    np.testing.assert_array_equal(load(encode(small, "PNG", exif=_orientation(orientation))).pixels, small)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heif_is_turned_once(orientation: int, small: RGB) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra [heif] is not installed")
    stored = _stored(small, orientation)
    picture = heif.from_bytes("RGB", (stored.shape[1], stored.shape[0]), stored.tobytes())
    stream = io.BytesIO()
    picture.save(stream, quality=95, exif=_orientation(orientation).tobytes())
    read = load(stream.getvalue())
    assert read.format == "HEIF"
    assert read.pixels.shape == small.shape
    assert np.abs(read.pixels.astype(float) - small).mean() < 4


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_plain_pictures(kind: str, small: RGB) -> None:
    read = load(encode(small, kind, **{**LOSSLESS, **LOSSY}[kind]))
    assert (read.format, read.notes, read.name) == (kind, (), "<bytes>")
    tolerance = 0 if kind in LOSSLESS else 2.5
    assert np.abs(read.pixels.astype(float) - small).mean() <= tolerance


# ---- arrays, Pillow pictures


def test_arrays(small: RGB) -> None:
    np.testing.assert_array_equal(load(small).pixels, small)
    np.testing.assert_array_equal(load(small[:, ::-2]).pixels, small[:, ::-2])
    assert load(small[:, ::-2]).pixels.flags.c_contiguous
    np.testing.assert_array_equal(load(small[:, :, 1]).pixels, small[:, :, [1, 1, 1]])


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0), (0, 0, 3)])
def test_arrays_without_pixels(shape: tuple[int, ...], checker: FaceChecker) -> None:
    with pytest.raises(PictureError, match="no pixels") as raised:
        load(np.zeros(shape, np.uint8))
    assert_advice(str(raised.value))
    assert checker.check(np.zeros(shape, np.uint8)).status == "error"


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((2, 2, 2, 3), np.uint8),
        7,
        None,
        ["a.jpg"],
    ],
    ids=["float", "RGBA", "line", "batch", "int", "None", "list"],
)
def test_what_is_no_picture_at_all(wrong: Any, checker: FaceChecker) -> None:
    with pytest.raises(UsageError, match="uint8"):
        load(wrong)
    with pytest.raises(UsageError, match="uint8"):
        checker.check(wrong)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 40_000), (40_000, 3)])
def test_extreme_shapes(shape: tuple[int, int], checker: FaceChecker) -> None:
    assert checker.check(np.full((*shape, 3), 90, np.uint8)).status == "no_face"


def test_a_broken_pillow_picture(face_jpeg: bytes, checker: FaceChecker) -> None:
    """Pillow decodes late: what breaks then is the picture's fault, too."""
    result = checker.check(Image.open(io.BytesIO(_half(face_jpeg))))
    assert result.status == "error"
    with pytest.raises(DamagedError, match="damaged or truncated"):
        load(Image.open(io.BytesIO(_half(face_jpeg))))


def test_one_bad_picture_among_good_ones(face_jpeg: bytes, checker: FaceChecker) -> None:
    sources = [face_jpeg, b"", face_jpeg, face_jpeg[:900], "missing.jpg", face_jpeg]
    statuses = [result.status for result in checker.check_many(sources)]
    assert statuses == ["ok", "error", "ok", "error", "error", "ok"]


# ---- whatever bytes there are

SIGNATURES = (
    b"", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1\0\x40Exif\0\0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM",
    b"II*\0", b"MM\0*", b"II+\0", b"RIFF\x40\0\0\0WEBPVP8 ", b"RIFF\x40\0\0\0WEBPVP8L", b"RIFF\x40\0\0\0WEBPVP8X",
    b"\0\0\0\x1cftypavif", b"\0\0\0\x1cftypheic",
)  # fmt: skip
NARROW = Limits(max_pixels=300_000)
quick = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def _samples() -> list[bytes]:
    """Real files of every format and of the odd kinds."""
    pixels = np.repeat(np.repeat(noise(8, 6, 3), 6, axis=0), 7, axis=1)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"
    kinds = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
    files = [encode(image, kind, exif=exif) for kind in kinds]
    files += [encode(image, "WEBP", lossless=True), encode(image, "JPEG", progressive=True), encode(image, "BMP")]
    files += [encode(image, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "tiff_deflate", "packbits")]
    files += [
        encode(image.convert("CMYK"), "JPEG"),
        encode(image.convert("RGBA"), "PNG"),
        encode(image.convert("1"), "PNG"),
    ]
    files += [encode(image.quantize(9), kind) for kind in ("PNG", "GIF", "BMP", "TIFF")]
    files += [
        encode(image.convert("1"), "TIFF", compression="group4"),
        encode(image, "MPO", save_all=True, append_images=[image]),
    ]
    files += [
        encode(image, kind, save_all=True, append_images=[image.rotate(180)])
        for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF")
    ]
    return files


FILES = _samples()


def _is_well(data: bytes) -> None:
    """Either a picture within the limits, or a PictureError with one line: never anything else."""
    try:
        picture = load(data, limits=NARROW)
    except PictureError as err:
        message = str(err)
    else:
        message = "none"
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.ndim == 3
        assert picture.pixels.shape[2] == 3
        assert 0 < picture.width * picture.height <= NARROW.max_pixels
        assert picture.pixels.flags.owndata
        assert picture.pixels.flags.writeable
    assert message
    assert "\n" not in message


@quick
@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_arbitrary_bytes(head: bytes, tail: bytes) -> None:
    _is_well(head + tail)


def test_the_samples_are_whole() -> None:
    for data in FILES:
        assert load(data, limits=NARROW).width in (42, 48)


@quick
@given(st.sampled_from(FILES), st.data())
def test_truncated_files(original: bytes, data: st.DataObject) -> None:
    _is_well(original[: data.draw(st.integers(0, len(original) - 1))])


@quick
@given(st.sampled_from(FILES), st.data())
def test_flipped_bytes(original: bytes, data: st.DataObject) -> None:
    """Half of the changes go to the first 200 bytes, where the headers are."""
    changed = bytearray(original)
    places = st.integers(0, min(200, len(changed)) - 1) | st.integers(0, len(changed) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=12)):
        changed[place] = value
    _is_well(bytes(changed))


@quick
@given(st.sampled_from(FILES), st.sampled_from(FILES), st.data())
def test_spliced_files(one: bytes, other: bytes, data: st.DataObject) -> None:
    """Parts cut out, doubled, or taken from a file of another format."""
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(one)), st.integers(0, len(one)))))
    middle = data.draw(st.sampled_from([b"", one[start:end] * 2, other[start:end], other]))
    _is_well(one[:start] + middle + one[end:])


@pytest.mark.slow
@settings(quick, max_examples=60)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=6))
def test_the_checker_survives_them(checker: FaceChecker, original: bytes, flips: list[tuple[int, int]]) -> None:
    """Behind the decoder: whatever is decoded goes through detector, crops and model."""
    changed = bytearray(original)
    for place, value in flips:
        changed[place % len(changed)] = value
    assert checker.check(bytes(changed)).status in ("ok", "no_face", "error")


# ---- URLs


class _Handler(http.server.BaseHTTPRequestHandler):
    """A web server with every bad habit."""

    jpeg: ClassVar[bytes]
    released: ClassVar[threading.Event]
    seen: ClassVar[list[str]]

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.seen.append(self.path)
        route = self.path.partition("?")[0]
        if route == "/face.jpg":
            self._answer(200, self.jpeg, Content_Length=str(len(self.jpeg)))
        elif route == "/page.jpg":
            self._answer(200, b"<html>a page</html>", Content_Type="image/jpeg")
        elif route == "/endless.jpg":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.released.is_set():
                    self.wfile.write(self.jpeg)
        elif route == "/short.jpg":
            self._answer(200, _half(self.jpeg), Content_Length=str(len(self.jpeg)))
        elif route == "/away":
            self._answer(302, Location="/face.jpg")
        elif route == "/round":
            self._answer(302, Location="/round")
        elif route.startswith("/to/"):
            self._answer(
                302,
                Location={
                    "file": "file:///etc/hostname",
                    "ftp": "ftp://127.0.0.1/x.jpg",
                    "data": "data:image/png;base64,AA==",
                }[route[4:]],
            )
        elif route == "/hang.jpg":
            self.released.wait(60)
        elif route == "/garbage":
            self.wfile.write(b"\x00\x01\x02 not http at all\r\n\r\n")
        else:
            self._answer(int(route[1:]) if route[1:].isdigit() else 404)


@pytest.fixture
def server(face_jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real server on the loopback."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _Handler.jpeg, _Handler.released, _Handler.seen = face_jpeg, threading.Event(), []
    with answering(_Handler) as port:
        yield f"http://127.0.0.1:{port}"
        _Handler.released.set()


def test_url(server: str, face_jpeg: bytes, checker: FaceChecker) -> None:
    read = load(f"{server}/face.jpg?size=large")
    assert (read.name, read.sha256) == (f"{server}/face.jpg?size=large", load(face_jpeg).sha256)
    np.testing.assert_array_equal(read.pixels, load(face_jpeg).pixels)
    result = checker.check(f"{server}/face.jpg")
    assert (result.status, result.path) == ("ok", f"{server}/face.jpg")
    np.testing.assert_array_equal(load(f"{server}/away").pixels, read.pixels)
    assert load(server.replace("http", "HTTP") + "/face.jpg").width == 256


URLS: dict[str, tuple[type[PictureError], str]] = {
    "missing.jpg": (UnreadableError, "answered 404"),
    "403": (UnreadableError, "answered 403"),
    "500": (UnreadableError, "answered 500"),
    "page.jpg": (NotAPictureError, "web page"),
    "short.jpg": (PictureError, "truncated|cannot be fetched"),
    "endless.jpg": (TooLargeError, "over the limit of 1 MiB"),
    "round": (UnreadableError, "answered 302"),
    "to/file": (UnreadableError, "answered 302"),
    "to/ftp": (UnreadableError, "answered 302"),
    "to/data": (UnreadableError, "answered 302"),
    "garbage": (UnreadableError, "cannot be fetched"),
    "hang.jpg": (UnreadableError, "cannot be fetched.*timed out"),
}


@pytest.mark.parametrize("path", URLS)
def test_bad_urls(path: str, server: str) -> None:
    error, pattern = URLS[path]
    limits = Limits(max_bytes=2**20, url_timeout=0.5)
    start = time.monotonic()
    with pytest.raises(error, match=pattern) as raised:
        within(30, lambda: load(f"{server}/{path}", limits=limits))
    assert time.monotonic() - start < 10
    assert_advice(str(raised.value))
    checker_error = str(raised.value)
    assert "hostname" not in checker_error or path == "to/file"
    assert _Handler.seen[0] == f"/{path}"


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1",
        "http://127.0.0.1:notaport/",
        "http://127.0.0.1:1/x.jpg",
        "http://a b/",
        "http://x\ny/",
        "http://é\ud800/",
    ],
)
def test_impossible_urls(url: str, monkeypatch: pytest.MonkeyPatch, checker: FaceChecker) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UnreadableError, match="cannot be fetched") as raised:
        within(30, lambda: load(url, limits=Limits(url_timeout=2)))
    assert_advice(str(raised.value))
    assert within(30, lambda: checker.check(url)).status == "error"


def test_only_http_is_fetched(tmp_path: Path) -> None:
    """file:, ftp: and data: are paths like any others, and there are none of that name."""
    for url in (f"file://{tmp_path}/x.jpg", "ftp://127.0.0.1/x.jpg", "data:image/png;base64,AAAA"):
        with pytest.raises(UnreadableError, match="no such file"):
            load(url)


def test_a_memory_limit_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """Under a limit on memory, a picture too large for it is one error among records."""
    big = tmp_path / "big.png"
    big.write_bytes(png(7_000, 9_000, b"\0" * (7_000 * 3 + 1) * 9_000))
    code = (
        "import sys, faceproof.images as i; from PIL import Image; import resource\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20,) * 2)\n"
        "try: i.load(open(sys.argv[1], 'rb').read())\n"
        "except i.TooLargeError as err: print(err)\n"
    )
    done = subprocess.run(
        [*limited(8000), sys.executable, "-c", code, big], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert "not enough memory" in done.stdout
