"""How long `faceproof map` takes for 5,000 pictures, and how fluid its page is with 10,000.

    python benchmarks/map.py                 # --count 200 for a try

The real command line runs on pictures of pictures.py in a fresh process, with PCA and, where umap-learn is installed,
with UMAP; the second layout takes the embeddings of the first. Its time holds the compiling that each fresh process
does. The page is opened in the system's Chromium without a graphics card, where playwright is installed, and dragged
in a circle for 5 s at 1200 x 760 pixels. Writes map.csv; close other programs first.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import HERE, NO_GOAL, arguments, judged, model_words, say, write_results
from pictures import picture_files

SECONDS, FRAMES = 180.0, 30.0
COUNT = 5000


def command(folder: Path, out: Path, layout: str, model: str | None) -> float:
    """Seconds of one run; the embeddings stay beside the page."""
    begun = time.perf_counter()
    words = [
        "map",
        str(folder),
        "--out",
        str(out),
        "--layout",
        layout,
        "--embeddings",
        f"{out.parent}/embeddings.jsonl",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "faceproof", *words, "-q", *model_words(model)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"faceproof map failed: {done.stderr}")
    return time.perf_counter() - begun


def frames(points: int) -> float | None:
    """Frames a second while the page with that many invented points is dragged; None without a browser."""
    if importlib.util.find_spec("playwright") is None:
        return None
    sys.path.insert(0, str(HERE.parent))
    from tests.live_page import browser, frames_per_second, until
    from tests.maps import invented_map

    from faceproof.map_html import page

    with tempfile.TemporaryDirectory() as folder, browser() as context:
        path = Path(folder) / "map.html"
        path.write_text(page(invented_map(points, names=())), encoding="utf-8")
        tab = context.new_page()
        tab.goto(path.as_uri())
        until(tab, "window.faceproofMap !== undefined")
        frames_per_second(tab, 1)
        return frames_per_second(tab, 5)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help=f"pictures ({COUNT}; the goal is for that many)")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []

    def row(what: str, measure: str, value: float | None, goal: dict[str, str]) -> None:
        rows.append({"what": what, "measure": measure, "value": "" if value is None else f"{value:.1f}", **goal})
        say(f"{what}: {rows[-1]['value']} {measure}")

    with picture_files(given.pictures, given.count) as paths, tempfile.TemporaryDirectory() as out:
        folder = Path(out) / "pictures"
        folder.mkdir()
        for path in paths:
            (folder / path.name).symlink_to(path)
        page = Path(out) / "map.html"
        first = command(folder, page, "pca", given.model)
        whole = given.count >= COUNT
        row(f"map of {given.count} pictures, PCA", "s", first, judged(first, "<=", SECONDS) if whole else NO_GOAL)
        row("its page", "MB", page.stat().st_size / 1e6, NO_GOAL)
        row("its embeddings", "MB", (page.parent / "embeddings.jsonl").stat().st_size / 1e6, NO_GOAL)
        again = command(folder, page, "pca", given.model)
        row("again, from the embeddings, PCA", "s", again, NO_GOAL)
        if importlib.util.find_spec("umap") is not None:
            umap = command(folder, page, "umap", given.model)
            row("again, from the embeddings, UMAP", "s", umap, NO_GOAL)
            both = first - again + umap
            row("map with UMAP, added up", "s", both, judged(both, "<=", SECONDS) if whole else NO_GOAL)
    rate = frames(10_000)
    row("panning 10,000 points", "frames/s", rate, judged(rate, ">=", FRAMES))
    write_results(given.results / "map.csv", rows)


if __name__ == "__main__":
    main()
