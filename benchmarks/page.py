"""How far the offline page's answers lie from Python's, how long a picture takes in it, and what it weighs.

    python benchmarks/page.py --runtime onnxruntime-web-1.30.0.tgz --data ../shared/data/faces   # --count 10: a try

The real page is written, served by a plain file server on this machine and opened in the system's Chromium (no
graphics card), as a user opens it. The pictures are held-out ones of the data set, spread over its sources, or
(without --data) those of pictures.py. Python answers as `faceproof check --no-metadata --stability off`.
Milliseconds are the page's own, from the file to the answer, one picture after the other. Writes page.csv; close
other programs first.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from PIL import Image

from common import HERE, NO_GOAL, arguments, judged, say, write_results
from faceproof import FaceChecker
from faceproof.offline_page import write_page
from pictures import picture_files

sys.path.insert(0, str(HERE.parent))
from tests.live_page import browser
from tests.offline import checked, fifty, opened, served, until

DRIFT, WEIGHT = 0.02, 25.0
LARGE = (1024, 4000)
"""Longer sides in pixels at which one picture's time is measured besides."""


def times(page: object, paths: list[Path]) -> list[float]:
    """Milliseconds the page itself says each picture took."""
    page.set_input_files("#file", [str(path) for path in paths])  # type: ignore[attr-defined]
    until(page, f"document.querySelectorAll('article:not(.waiting)').length === {len(paths)}", 600_000)
    text = page.inner_text("#results")  # type: ignore[attr-defined]
    page.click("#clear")  # type: ignore[attr-defined]
    return [float(number) for number in re.findall(r" pixels, (\d+) ms\.", text)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runtime", type=Path, required=True, help="onnxruntime-web, as `faceproof page` takes it")
    parser.add_argument("--data", type=Path, help="folder of the faces data set")
    parser.add_argument("--count", type=int, default=50, help="pictures (50)")
    given = parser.parse_args()
    checker = FaceChecker(given.model, metadata=False)
    rows: list[dict[str, object]] = []

    def row(what: str, measure: str, value: float, goal: dict[str, str], digits: int = 1) -> None:
        rows.append({"what": what, "measure": measure, "value": f"{value:.{digits}f}", **goal})
        say(f"{what}: {rows[-1]['value']} {measure}")

    with tempfile.TemporaryDirectory() as folder, browser() as context:
        work = Path(folder)
        made = write_page(work / "page", model=given.model, runtime=given.runtime)
        row("page", "MB in all", made.weight / 1e6, judged(made.weight / 1e6, "<=", WEIGHT))
        pictures = (
            picture_files(given.pictures, given.count)
            if given.data is None
            else nullcontext(fifty(given.data, given.count))
        )
        with pictures as paths, served(work / "page") as server:
            begun = time.perf_counter()
            page = opened(context, server.url)
            row("page", "s from opening to ready", time.perf_counter() - begun, NO_GOAL, 2)
            records = checked(page, paths)
            results = [checker.check(path) for path in paths]
            pairs = [
                (one["probability"], other.verdict.probability)
                for record, result in zip(records, results, strict=True)
                for one, other in zip(record["faces"], result.faces, strict=False)
            ]
            drift = [abs(one - other) for one, other in pairs]
            other = sum(one["verdict"] != result.verdict for one, result in zip(records, results, strict=True))
            row("drift", "largest difference in probability", max(drift), judged(max(drift), "<=", DRIFT), 5)
            row("drift", "mean difference in probability", statistics.fmean(drift), NO_GOAL, 5)
            row("drift", f"other verdicts of {len(paths)} pictures", other, judged(other, "<=", 0), 0)
            taken = times(page, paths)
            row("picture of the set", "ms, median", statistics.median(taken), NO_GOAL, 0)
            row("picture of the set", "ms, slowest", max(taken), NO_GOAL, 0)
            with Image.open(paths[0]) as image:
                for side in LARGE:
                    path = work / f"large-{side}.jpg"
                    image.convert("RGB").resize((side, side)).save(path, quality=90)
                    row(
                        f"{side} x {side} px", "ms, median of 3", statistics.median(times(page, [path] * 3)), NO_GOAL, 0
                    )
    write_results(given.results / "page.csv", rows, [f"{len(paths)} pictures, {len(drift)} faces"])


if __name__ == "__main__":
    main()
