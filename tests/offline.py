"""The offline page in a real browser: onnxruntime-web from npm, a plain file server, and what the page says."""

from __future__ import annotations

import base64
import contextlib
import csv
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from faceproof.images import RGB
from faceproof.web_runtime import RUNTIME_VERSION

WAIT = 120_000
"""Milliseconds for anything on a page: the machine may be busy."""


@functools.cache
def runtime() -> Path:
    """Where onnxruntime-web is: FACEPROOF_ORT_WEB, or fetched once by npm; skips where neither is."""
    if (given := os.environ.get("FACEPROOF_ORT_WEB")) is not None:
        return Path(given)
    name = f"onnxruntime-web-{RUNTIME_VERSION}.tgz"
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "faceproof-tests"
    if not (folder / name).is_file():
        if shutil.which("npm") is None:
            pytest.skip(f"no npm here to fetch onnxruntime-web {RUNTIME_VERSION} with (or set FACEPROOF_ORT_WEB)")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", f"onnxruntime-web@{RUNTIME_VERSION}", "--pack-destination", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("npm does not answer, so onnxruntime-web cannot be fetched (or set FACEPROOF_ORT_WEB)")
        if done.returncode:
            pytest.skip(f"npm cannot fetch onnxruntime-web {RUNTIME_VERSION}: {done.stderr.strip()[-200:]}")
    return folder / name


class Server:
    """A plain file server on this machine that remembers what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The page's address; localhost counts as secure, so that service workers run."""
        return f"http://localhost:{self._server.server_address[1]}/"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """Serve a folder."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.close()


def opened(context: Any, url: str, *, state: str = "ready", script: str | None = None) -> Any:
    """Open the page and wait until it has loaded its models (or another state)."""
    page = context.new_page()
    if script is not None:
        page.add_init_script(script)
    page.goto(url)
    page.wait_for_selector(f"body[data-state={state}]", timeout=WAIT)
    return page


def until(page: Any, condition: str, milliseconds: float = WAIT) -> None:
    """Wait until JavaScript on the page is true; playwright's own wait is refused by the page's security policy."""
    end = time.monotonic() + milliseconds / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never: {condition}; the page says {page.inner_text('#status')!r}"
        page.wait_for_timeout(50)


def checked(page: Any, files: Sequence[Path]) -> list[dict[str, Any]]:
    """Give pictures to the page as a user chooses them; return its records in order, as it saves them."""
    page.set_input_files("#file", [str(path) for path in files])
    return answered(page, len(files))


def answered(page: Any, count: int) -> list[dict[str, Any]]:
    """Wait for so many answers, save them, clear the page; return the records in order."""
    until(page, f"document.querySelectorAll('article:not(.waiting)').length === {count}", WAIT + 5000 * count)
    with page.expect_download(timeout=WAIT) as download:
        page.click("#save")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    page.click("#clear")
    return [json.loads(line) for line in lines]


def packed(array: npt.NDArray[Any]) -> str:
    """An array's bytes as text for a page."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


UNPACK = """
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const pixels = (text, width, height) => ({ data: new Uint8ClampedArray(bytes(text).buffer), width, height });
const floats = (text) => new Float32Array(bytes(text).buffer);
const text = (data) => {
  const all = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let made = "";
  for (let i = 0; i < all.length; i += 4096) made += String.fromCharCode(...all.subarray(i, i + 4096));
  return btoa(made);
};
"""


def run(page: Any, body: str, given: Mapping[str, Any]) -> Any:
    """Run JavaScript on the page that may use its modules as P (pixels), F (faces), V (verdict), and `given`."""
    code = f"""async (given) => {{ {UNPACK}
      const [P, F, V] = await Promise.all(["pixels", "faces", "verdict"].map((name) => import(`./${{name}}.js`)));
      {body} }}"""
    return page.evaluate(code, dict(given))


def picture(answer: str, height: int, width: int) -> RGB:
    """What `text(picture.data)` gave, as an array."""
    return np.frombuffer(base64.b64decode(answer), np.uint8).reshape(height, width, 3)


def fifty(folder: Path, count: int = 50) -> list[Path]:
    """Pictures spread over the manifest's held-out sources."""
    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] in ("val", "unseen")]
    by_source: dict[str, list[str]] = {}
    for row in rows:
        by_source.setdefault(row["label"] + row["source"], []).append(row["path"])
    lists = sorted(by_source.values())
    turns = [names[k] for k in range(max(map(len, lists))) for names in lists if k < len(names)]
    return [folder / name for name in turns[:count]]
