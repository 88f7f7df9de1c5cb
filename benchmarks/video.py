"""Videos and live: how much faster than real time, and how many frames a second with what delay.

    python benchmarks/video.py

Makes two clips of one moving face, H.264 at 30 frames/s, 1920x1080 and 640x480, and runs the library on them as
`faceproof check` and `faceproof live` do, loading left out. "video" is seconds of film by seconds of work, with two
frames checked each second; "annotate" is the copy with boxes. "live" plays the small clip as a camera would: frames
checked per second, and milliseconds from a frame's arrival to its verdict. Writes video.csv; close other programs
first.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data

from common import NO_GOAL, arguments, judged, say, write_results
from faceproof import FaceChecker
from faceproof.live import Live
from faceproof.video import Video
from faceproof.video_annotate import annotate_video
from faceproof.video_check import VideoOptions, check_video

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.clips import moving, write_clip

FASTER, RATE, DELAY = 4.0, 15.0, 150.0
"""Goals of the issue: seconds of film per second of work, frames/s, ms."""


def live_round(checker: FaceChecker, path: Path) -> tuple[float, list[float], int]:
    """Frames checked per second, the delay of each in ms, and how many frames were dropped."""
    with Video(path, live=True) as source:
        running = Live(checker, source, paced=True)
        begun = time.perf_counter()
        delays = [1000 * frame.latency for frame in running]
        rate = len(delays) / (time.perf_counter() - begun)
        return rate, delays, running.result().frames.dropped


def video_rows(checker: FaceChecker, path: Path, seconds: float, rounds: int) -> list[dict[str, object]]:
    """Film per work, whole and shrunk to 960 px, and for the annotated copy."""
    rows: list[dict[str, object]] = []
    for words, options in (("1080p", VideoOptions()), ("1080p --resize 960", VideoOptions(resize=960))):
        taken, copied = [], []
        for _ in range(rounds):
            begun = time.perf_counter()
            result = check_video(checker, path, options)
            taken.append(seconds / (time.perf_counter() - begun))
            begun = time.perf_counter()
            annotate_video(path, result, path.with_name("out.mp4"), options)
            copied.append(seconds / (time.perf_counter() - begun))
        for what, found, goal in (("video", taken, FASTER), ("annotate", copied, None)):
            middle = statistics.median(found)
            say(f"{what} {words}: {middle:.1f} s of film a second")
            rows.append({"what": f"{what} {words}", "measure": "s of film per s", "value": f"{middle:.2f}",
                         "rounds": " ".join(f"{v:.2f}" for v in found),
                         **(judged(middle, ">=", goal) if goal else NO_GOAL)})  # fmt: skip
    return rows


def live_rows(checker: FaceChecker, path: Path, rounds: int) -> list[dict[str, object]]:
    """Frames a second and delay: the median and the 95th percentile of all rounds together."""
    rates, delays, dropped = [], [], 0
    for _ in range(rounds):
        rate, some, lost = live_round(checker, path)
        rates.append(rate)
        delays += some
        dropped += lost
    rate, late = statistics.median(rates), float(np.percentile(delays, 95))
    say(f"live 640x480: {rate:.1f} frames/s, {statistics.median(delays):.0f} ms, 95 % within {late:.0f} ms")
    each = " ".join(f"{v:.1f}" for v in rates)
    spread = f"median {statistics.median(delays):.0f}, {dropped} frames dropped"
    return [
        {"what": "live 640x480", "measure": "frames/s", "value": f"{rate:.1f}", "rounds": each,
         **judged(rate, ">=", RATE)},
        {"what": "live 640x480", "measure": "ms to the verdict, 95th percentile", "value": f"{late:.0f}",
         "rounds": spread, **judged(late, "<=", DELAY)},
    ]  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20, help="length of the clips")
    given = parser.parse_args()
    astronaut, frames = np.asarray(skimage.data.astronaut()), 30 * given.seconds
    checker = FaceChecker(given.model)
    checker.check(astronaut)  # networks warm up on their first run
    with tempfile.TemporaryDirectory() as folder:
        large = write_clip(
            Path(folder) / "large.mp4", moving(astronaut, frames, width=1920, height=1080, side=700), rate=30,
            sound="aac",
        )  # fmt: skip
        small = write_clip(
            Path(folder) / "small.mp4", moving(astronaut, frames, width=640, height=480, side=320), rate=30
        )
        rows = video_rows(checker, large, given.seconds, given.rounds) + live_rows(checker, small, given.rounds)
    write_results(given.results / "video.csv", rows)


if __name__ == "__main__":
    main()
