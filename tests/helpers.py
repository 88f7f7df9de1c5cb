"""What several test files share: the command line as a real process, and files that are hard to come by."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from PIL import Image

from faceproof.images import RGB
from faceproof.perturb import View

TOKEN = "FACEPROOF_TEST_TOKEN"
"""Environment variable by which every process that a test started can be found again."""


def command(*args: str | os.PathLike[str], before: Sequence[str] = ()) -> list[str]:
    """The command line that runs faceproof; `before` goes in front (setpriv, sh -c ulimit, ...)."""
    return [*before, sys.executable, "-m", "faceproof", *(os.fspath(arg) for arg in args)]


@contextlib.contextmanager
def answering(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """Answer HTTP requests on this machine in threads; give the port. It ends with the block."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield int(running.server_address[1])
        finally:
            running.shutdown()
            thread.join()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would colour or widen the output, with `extra`."""
    plain = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "COLUMNS", "PYTHONWARNINGS")}
    return {**plain, **(extra or {})}


def run_cli(
    *args: str | os.PathLike[str],
    stdin: bytes | str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float = 120,
    before: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `python -m faceproof ARGS` to its end; text is UTF-8, other bytes as lone surrogates."""
    given = stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else stdin
    done = subprocess.run(
        command(*args, before=before),
        input=b"" if given is None else given,
        capture_output=True,
        env=environment(env),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def start_cli(
    *args: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    stdout: int | None = subprocess.DEVNULL,
    stderr: int | None = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start `python -m faceproof ARGS` in a session of its own, so that signals reach nobody else."""
    return subprocess.Popen(
        command(*args),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment(env),
        start_new_session=True,
    )


def wait_until(condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Poll for something that raises no event (the growth of a file, another program's children)."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
    return value


_TOKENS: list[str] = []


def new_token() -> str:
    """A value for `TOKEN`; what carries it is killed when the test has ended, passed or not."""
    _TOKENS.append(uuid.uuid4().hex)
    return _TOKENS[-1]


def kill_leftovers() -> None:
    """Kill every process that carries a `new_token`; those of a test that passed have ended by themselves."""
    while _TOKENS:
        for process in processes(_TOKENS.pop()):
            with contextlib.suppress(psutil.Error):
                process.kill()


def processes(token: str) -> list[psutil.Process]:
    """Every living process whose environment carries `token`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Records of a JSON-lines file; fails on a line that is not whole."""
    with open(path, "rb") as stream:
        return [json.loads(line) for line in stream]


def whole_lines(path: str | os.PathLike[str]) -> int:
    """How many lines have been written to their end; 0 where there is no file yet."""
    try:
        with open(path, "rb") as stream:
            return stream.read().count(b"\n")
    except FileNotFoundError:
        return 0


def without_root() -> list[str]:
    """What to put before a command so that permission bits hold it back, as they do ordinary users."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]
    if (
        shutil.which("setpriv") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("root reads every file here, and setpriv cannot take that right away")
    return prefix


def limited(mebibytes: int) -> list[str]:
    """What to put before a command so that it fails, instead of the machine, when it takes too much memory."""
    return ["sh", "-c", f'ulimit -v {mebibytes * 1024}; exec "$@"', "sh"]


def encode(picture: RGB | Image.Image, kind: str, **options: Any) -> bytes:
    """Encode pixels with Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes = b"", *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header says what it likes: `body` is what its lines inflate to."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(body, 9)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif_with_frame(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """A GIF whose only frame is larger than the screen its header announces."""
    return (
        b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
        + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;"
    )  # fmt: skip


def bad_folder(folder: Path, jpeg: bytes, picture: RGB) -> dict[str, tuple[str, str]]:
    """Fill a folder with one picture of every bad kind.

    Returns:
        Name as records show it -> (status, pattern that the error, or the notes, must match).
    """
    small = Image.fromarray(picture).resize((256, 256), Image.Resampling.LANCZOS)
    alpha = small.copy()
    alpha.putalpha(Image.linear_gradient("L"))
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = small.convert("L")
    contents: dict[str, tuple[bytes, str, str]] = {
        "good.jpg": (jpeg, "ok", "^$"),
        "empty.jpg": (b"", "error", r"empty \(0 bytes\)"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "error", "damaged or truncated"),
        "cut-header.png": (encode(small, "PNG")[:60], "error", "damaged or truncated"),
        "text.jpg": (b"this is not a picture\n" * 50, "error", "not a picture.*text"),
        "page.jpg": (b"<!DOCTYPE html><html>not found</html>", "error", "not a picture.*web page"),
        "extension.png": (jpeg, "ok", "named like PNG but holds JPEG"),
        "zero.png": (png(0, 10), "error", "no pixels|damaged or truncated|not a picture"),
        "cmyk.jpg": (encode(small.convert("CMYK"), "JPEG", quality=95), "ok", "^$"),
        "sixteen.png": (encode(Image.fromarray(_samples(grey) * 257), "PNG"), "ok", "16-bit"),
        "sixteen.tif": (encode(Image.fromarray(_samples(grey) * 257), "TIFF"), "ok", "16-bit"),
        "palette.png": (encode(small.quantize(256), "PNG"), "ok", "^$"),
        "alpha.png": (encode(alpha, "PNG"), "ok", "over white"),
        "animated.gif": (
            encode(small.quantize(256), "GIF", save_all=True, append_images=[Image.new("P", (256, 256))]),
            "ok",
            "first of 2",
        ),
        "animated.webp": (
            encode(small, "WEBP", save_all=True, append_images=[Image.new("RGB", (256, 256))]),
            "ok",
            "first of 2",
        ),
        "turned.jpg": (encode(small.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=turned), "ok", "^$"),
        "bomb.png": (png(10_000, 10_000), "error", "100 megapixels.*--max-pixels"),
        "bad \u202eeman\u0301 \U0001f600 ñ.jpg": (jpeg, "ok", "^$"),
        "new\nline.jpg": (jpeg, "ok", "^$"),
        "=cmd|' calc'!A0.jpg": (jpeg, "ok", "^$"),
    }
    expected = {}
    for name, (data, status, pattern) in contents.items():
        (folder / name).write_bytes(data)
        expected[name] = (status, pattern)
    Path(os.fsdecode(os.fsencode(folder) + b"/byte-\xff.jpg")).write_bytes(jpeg)
    expected["byte-\\xff.jpg"] = ("ok", "^$")
    (folder / "broken-link.jpg").symlink_to("nowhere.jpg")
    expected["broken-link.jpg"] = ("error", "broken link.*nowhere.jpg")
    (folder / "link-loop.jpg").symlink_to("link-loop.jpg")
    expected["link-loop.jpg"] = ("error", "loop of links")
    os.mkfifo(folder / "fifo.jpg")
    expected["fifo.jpg"] = ("error", "a pipe, socket or device")
    (folder / "loop").mkdir()
    (folder / "loop" / "up").symlink_to("..")
    expected["loop/up"] = ("error", "loop of folder links")
    (folder / "linked.jpg").symlink_to("good.jpg")
    expected["linked.jpg"] = ("ok", "^$")
    (folder / "unreadable.jpg").write_bytes(jpeg)
    (folder / "unreadable.jpg").chmod(0)
    expected["unreadable.jpg"] = ("error", "no permission")
    (folder / "closed").mkdir(mode=0)
    expected["closed"] = ("error", "cannot be listed.*owner and mode")
    return expected


def _samples(grey: Image.Image) -> Any:
    import numpy as np

    return np.asarray(grey, np.uint16)


def spot(size: int, index: int) -> View:
    """A dark picture (size, size * 15 // 16) with five landmarks and a bright spot on the one of that index."""
    height, width = size, size * 15 // 16
    points = np.array([[0.36, 0.41], [0.61, 0.4], [0.49, 0.55], [0.39, 0.66], [0.6, 0.65]]) * [width, height]
    ys, xs = np.mgrid[0:height, 0:width]
    bump = np.exp(-((xs - points[index, 0]) ** 2 + (ys - points[index, 1]) ** 2) / (2 * (size / 50) ** 2))
    pixels = np.repeat(np.round(40 + 200 * bump)[:, :, None], 3, 2).astype(np.uint8)
    return View(pixels, points.astype(np.float32))


def brightest_near(view: View, index: int) -> npt.NDArray[np.float64]:
    """Where the spot lies: x, y of the centre of mass of what is brighter than half, in half an eye distance."""
    assert view.landmarks is not None
    reach = 0.45 * float(np.hypot(*(view.landmarks[1] - view.landmarks[0])))
    x, y = view.landmarks[index]
    ys, xs = np.mgrid[0 : view.pixels.shape[0], 0 : view.pixels.shape[1]]
    near = (np.abs(xs - x) <= reach) & (np.abs(ys - y) <= reach)
    luma = view.pixels.mean(2) * near
    assert luma.max() > 90, "no spot near its landmark"
    mass = np.maximum(luma - 0.5 * (luma.max() + 40), 0)
    return np.array([(mass * xs).sum(), (mass * ys).sum()]) / mass.sum()
