"""A real browser for pages: the system's Chromium, driven by playwright. Skips where either is absent."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers import wait_until

PAN = """async (seconds) => {
  const over = document.getElementById("over"), box = over.getBoundingClientRect();
  const centre = [box.left + box.width / 2, box.top + box.height / 2];
  return await new Promise((done) => {
    let frames = 0, begun = 0;
    const turn = (now) => {
      begun ||= now;
      const angle = frames / 15, place = [centre[0] + 120 * Math.cos(angle) - 120, centre[1] + 120 * Math.sin(angle)];
      over.dispatchEvent(new PointerEvent("pointermove", { clientX: place[0], clientY: place[1], bubbles: true }));
      if (now - begun > 1000 * seconds) done(1000 * frames / (now - begun));
      else { frames += 1; requestAnimationFrame(turn); }
    };
    requestAnimationFrame(turn);
  });
}"""
"""Moves a pointer that is already down in a circle, one step a frame; gives frames a second."""


def chromium() -> str:
    """Where the browser is; skips without one."""
    found = os.environ.get("FACEPROOF_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium), so pages cannot be opened")
    return found


@contextlib.contextmanager
def browser(*arguments: str, **options: Any) -> Iterator[Any]:
    """Start a browser with more command-line arguments; give a context, with these options, to open pages in."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", *arguments])
        try:
            yield started.new_context(**{"viewport": {"width": 1200, "height": 760}, **options})
        finally:
            started.close()


def frames_per_second(page: Any, seconds: float = 2.0) -> float:
    """Drag the map in a circle; return frames a second."""
    box = page.locator("#over").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    found = page.evaluate(PAN, seconds)
    page.mouse.up()
    return float(found)


def until(tab: Any, condition: str) -> None:
    """Wait until a JavaScript expression holds on a page.

    Playwright's own `wait_for_function` evaluates strings in the page, which our pages' Content-Security-Policy
    forbids as soon as the first look finds the condition not met.
    """
    wait_until(lambda: tab.evaluate(condition), seconds=30, what=condition)
