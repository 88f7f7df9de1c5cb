"""A real Chromium for tests of pages: screenshots, printing, and where things lie. Skips where there is none."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof.images import RGB

WIDTH, HEIGHT = 1000, 6000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_PROBE = """
const at = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const all = s => [...document.querySelectorAll(s)].map(at);
const texts = [], outside = [];
const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const text = walk.currentNode.data.trim();
  if (!text) continue;
  texts.push(text);
  const range = document.createRange();
  range.selectNodeContents(walk.currentNode);
  for (const r of range.getClientRects()) {
    let free = r.left >= 0 && r.right <= innerWidth;
    for (let e = walk.currentNode.parentElement; e; e = e.parentElement) {
      const b = e.getBoundingClientRect();
      if (getComputedStyle(e).overflow !== 'visible' && e !== document.documentElement)
        free &&= r.left >= b.left - 1 && r.right <= b.right + 1 && r.top >= b.top - 1 && r.bottom <= b.bottom + 1;
    }
    if (!free) outside.push(text);
  }
}
const found = {texts, outside, width: document.documentElement.scrollWidth};
for (const [name, selector] of Object.entries(SELECTORS)) found[name] = all(selector);
const pre = document.createElement('pre');
pre.id = 'probe';
pre.textContent = JSON.stringify(found);
document.body.append(pre);
"""


def chromium(*arguments: str, page: Path) -> str:
    """Run Chromium on a page, its window WIDTH x HEIGHT; return its standard output."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: pages are looked at in a real browser")
    profile = page.parent / "profile"
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1",
        "--disable-dev-shm-usage", f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", *arguments,
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def screenshot(page: Path) -> RGB:
    """The page as shown in light colours, (HEIGHT, WIDTH, 3) uint8 RGB."""
    out = page.with_suffix(".png")
    chromium(f"--screenshot={out}", page=page)
    return np.asarray(Image.open(out).convert("RGB"))


def printed(page: Path) -> Path:
    """The page as PDF."""
    out = page.with_suffix(".pdf")
    chromium("--no-pdf-header-footer", f"--print-to-pdf={out}", page=page)
    return out


def probe(page: Path, **selectors: str) -> dict[str, Any]:
    """Where things lie on the page: name -> [left, top, right, bottom] of each element, in pixels of `screenshot`.

    Also `texts`, every piece of text; `outside`, those that are not wholly to be seen; `width` of the whole page.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy = page.with_name("probe-" + page.name)
    script = _PROBE.replace("SELECTORS", json.dumps(selectors))
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    found = re.search(r'<pre id="probe">(.*?)</pre>', chromium("--dump-dom", page=copy), re.S)
    assert found, "the page's script did not run"
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    return result


def centre(picture: RGB, colour: tuple[int, int, int], within: list[float], *, tolerance: int = 12) -> list[float]:
    """Where a colour lies inside a rectangle of a screenshot: x, y of its middle; fails where it is not."""
    left, top, right, bottom = (round(v) for v in within)
    part = picture[top:bottom, left:right].astype(int)
    ys, xs = np.nonzero((np.abs(part - np.array(colour)) <= tolerance).all(2))
    assert len(xs) > 10, f"colour {colour} is not to be seen in {within}"
    return [left + (xs.min() + xs.max() + 1) / 2, top + (ys.min() + ys.max() + 1) / 2]
