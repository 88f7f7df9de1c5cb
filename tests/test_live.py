"""Live: the newest frame only, smoothing, sources that end, hang or were never there, and the command."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import av
import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker, UsageError, VideoError
from faceproof.images import RGB
from faceproof.live import Live, NewestFrame, _Smooth
from faceproof.live_window import Window
from faceproof.video import Frame, Sampling, VideoInfo, open_frames
from tests.clips import moving, square, square_checker, write_clip
from tests.helpers import answering, run_cli


@pytest.fixture(scope="module")
def squares(checker: FaceChecker) -> FaceChecker:
    return square_checker(checker.card)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> Path:
    return write_clip(tmp_path_factory.mktemp("live") / "a.mkv", moving(astronaut, 24), rate=12)


class Fake:
    """A camera that gives a frame each `every` seconds; after `count` it hangs, ends or is lost."""

    def __init__(self, count: int, every: float = 0.0, *, end: str = "end", level: int = 4) -> None:
        self.name, self.read, self.damaged, self.problem = "fake", 0, 0, None
        self.info = VideoInfo(160, 120, "camera", "camera")
        self._count, self._every, self._end, self._level = count, every, end, level
        self.released = threading.Event()

    def frames(self, sampling: Sampling) -> Iterator[Frame]:
        assert sampling.fps == 0
        begun = time.perf_counter()
        for k in range(self._count):
            time.sleep(self._every)
            picture = np.full((120, 160, 3), 128, np.uint8)
            square(picture, "red", 80, 60, level=self._level)
            self.read += 1
            yield Frame(k, time.perf_counter() - begun, picture)
        if self._end == "hang":
            self.released.wait()
        if self._end == "lost":
            self.problem = "fake was lost: it gives no more pictures"
        if self._end == "error":
            raise VideoError("fake is broken")

    def close(self) -> None:
        self.released.set()


def test_a_slow_reader_gets_the_newest_frame_and_counts_the_rest() -> None:
    source = Fake(60, 0.01)
    newest = NewestFrame(source)
    got = []
    for frame, came in newest:
        assert time.perf_counter() - came < 0.5
        got.append(frame.index)
        time.sleep(0.05)
    assert newest.stop()
    assert got == sorted(set(got))
    assert len(got) < 40
    assert len(got) + newest.dropped == 60
    assert got[-1] == 59  # the last one is not lost


def test_a_cut_before_a_dropped_frame_is_not_forgotten() -> None:
    class Cuts(Fake):
        def frames(self, sampling: Sampling) -> Iterator[Frame]:
            for k in range(4):
                yield Frame(k, float(k), np.zeros((8, 8, 3), np.uint8), cut=k == 1)

    newest = NewestFrame(Cuts(0))
    newest._thread.join()
    assert [(frame.index, frame.cut) for frame, _ in newest] == [(3, True)]


def test_a_file_is_played_at_its_own_speed(squares: FaceChecker, tmp_path: Path) -> None:
    pictures = [picture.copy() for picture in [np.full((120, 160, 3), 128, np.uint8)] * 20]
    for picture in pictures:
        square(picture, "red", 80, 60)
    path = write_clip(tmp_path / "a.mp4", pictures, rate=20)
    source = open_frames(str(path))
    begun = time.perf_counter()
    late = [time.perf_counter() - begun - shown.frame.seconds for shown in Live(squares, source, paced=True)]
    assert time.perf_counter() - begun >= 0.95  # the last of 20 frames is shown after 19/20 s
    assert min(late) >= 0
    source.close()


def test_smoothing_forgets_as_said() -> None:
    """By hand: sum of w exp(-age / memory) odds over the same without odds."""
    seen = [(0.0, 2.0, 1.0), (0.5, -1.0, 0.3), (2.0, 4.0, 0.7)]
    smooth = _Smooth(1.5)
    assert smooth.odds is None
    for seconds, odds, weight in seen:
        smooth.see(seconds, odds, weight)
    shares = [weight * math.exp(-(2.0 - seconds) / 1.5) for seconds, _, weight in seen]
    expected = sum(share * odds for share, (_, odds, _) in zip(shares, seen, strict=True)) / sum(shares)
    assert smooth.odds == pytest.approx(expected)
    smooth.see(1e6, -3.0, 1.0)
    assert smooth.odds == pytest.approx(-3.0)


def test_a_lost_camera_leaves_what_was_found(squares: FaceChecker) -> None:
    running = Live(squares, Fake(5, 0.05, end="lost", level=124))
    shown = list(running)
    assert running.problem == "fake was lost: it gives no more pictures"
    result = running.result()
    assert result.verdict == "generated"
    assert result.notes[0] == running.problem
    assert result.frames.used == len(shown)
    assert result.frames.used + result.frames.dropped == 5
    assert {face.label for frame in shown for face in frame.faces} == {"generated"}
    assert {face.track for frame in shown for face in frame.faces} == {1}


def test_an_error_in_the_reader_comes_out(squares: FaceChecker) -> None:
    running = Live(squares, Fake(2, 0.05, end="error"))
    assert list(running)
    assert running.problem == "fake is broken"


def test_a_camera_that_hangs_is_given_up(squares: FaceChecker) -> None:
    source = Fake(2, 0.02, end="hang")
    running = Live(squares, source, silence=0.5)
    assert list(running)
    assert str(running.problem) == "fake gave no frame for 0.5 s; look after the camera"
    assert not running.stop()  # its thread still hangs in the driver: the source must not be closed
    source.close()


def test_wrong_use(squares: FaceChecker) -> None:
    with pytest.raises(UsageError, match="positive seconds"):
        Live(squares, Fake(0), memory=0)


class _Motion(http.server.BaseHTTPRequestHandler):
    """An IP camera: Motion JPEG over HTTP, that leaves, or falls silent, after `frames` frames."""

    frames, silent = 12, False
    pictures: list[bytes]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            for k in range(self.frames):
                data = self.pictures[k % len(self.pictures)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.05)
            if self.silent:
                time.sleep(30)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def camera(astronaut: RGB, *, frames: int, silent: bool = False) -> Iterator[str]:
    pictures = []
    for picture in moving(astronaut, 4):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=92)
        pictures.append(stream.getvalue())
    handler = type("Handler", (_Motion,), {"frames": frames, "silent": silent, "pictures": pictures})
    with answering(handler) as port:
        yield f"http://127.0.0.1:{port}/camera.mjpg"


def test_the_command_on_a_stream_that_goes_away(astronaut: RGB, tmp_path: Path) -> None:
    """One JSON line a frame, then the record of all, then one line about the end; the recording can be played."""
    with camera(astronaut, frames=30) as address:
        done = run_cli("live", address, "--headless", "--json", "--record", tmp_path / "r.mp4")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the stream ended" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["schema"] for line in lines[:-1]} == {"faceproof.live/1"}
    assert lines[-1]["schema"] == "faceproof.video/1"
    assert lines[-1]["verdict"] == "photograph"
    assert any("the stream ended" in note for note in lines[-1]["notes"])
    assert lines[-1]["video"]["frames"]["used"] == len(lines) - 1
    assert {face["verdict"] for line in lines[:-1] for face in line["faces"]} <= {"photograph", "inconclusive"}
    assert all(line["latency_ms"] > 0 for line in lines[:-1])
    with av.open(str(tmp_path / "r.mp4")) as recorded:
        assert sum(1 for _ in recorded.decode(video=0)) == len(lines) - 1


def test_the_command_on_a_stream_that_falls_silent(astronaut: RGB) -> None:
    with camera(astronaut, frames=20, silent=True) as address:
        done = run_cli("live", address, "--headless", "--json", "--timeout", "3")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "3 s" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["schema"] == "faceproof.video/1"


def test_the_command_on_a_pipe_and_on_standard_input(clip: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(clip.read_bytes()))
    writer.start()
    by_pipe = run_cli("live", tmp_path / "pipe", "--json")
    writer.join()
    by_stdin = run_cli("live", "-", "--json", "--resize", "240", stdin=clip.read_bytes())
    for done, width in ((by_pipe, 480), (by_stdin, 240)):
        assert (done.returncode, done.stderr) == (0, "")
        record = json.loads(done.stdout.splitlines()[-1])
        assert record["status"] == "ok"
        assert record["width"] == width
        counts = record["video"]["frames"]
        assert counts["used"] + counts["dropped"] == counts["read"] == 24


def test_stopping_by_time_and_the_card(clip: Path) -> None:
    done = run_cli("live", clip, "--headless", "--seconds", "0.3")
    assert done.returncode == 0
    assert "PHOTOGRAPH" in done.stdout
    assert "checked" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--camera", "77", "--headless"), 1, "no camera 77"),
        (("--camera", "1", "clip.mp4", "--headless"), 2, "either --camera or a source"),
        (("absent.mp4", "--headless"), 1, "no such file"),
        (("http://127.0.0.1:9/a.mjpg", "--headless", "--timeout", "2"), 1, "cannot be|no answer"),
        (("clip.mp4",), 2, "no display.*--headless"),
        (("clip.mp4", "--headless", "--record", "out.gif"), 2, "unknown ending"),
        (("clip.mp4", "--headless", "--timeout", "0"), 2, "positive"),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cameras and displays are named so on Linux")
def test_what_cannot_work_is_one_line(
    arguments: tuple[str, ...], code: int, message: str, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    done = run_cli("live", *arguments, cwd=tmp_path, env={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert re.search(message, done.stderr), done.stderr


def test_the_window_shows_bgr_and_ends_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = MagicMock(error=RuntimeError)  # OpenCV; there is no display here
    screen.waitKey.side_effect = [-1, ord("q")]
    screen.getWindowProperty.return_value = 1.0
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("faceproof.live_window.opencv", lambda: screen)
    with Window() as window:
        assert window.show(np.full((4, 4, 3), (10, 20, 30), np.uint8))
        assert not window.show(np.zeros((4, 4, 3), np.uint8))
        assert not screen.destroyAllWindows.called
    assert screen.imshow.call_args_list[0].args[1][0, 0].tolist() == [30, 20, 10]
    assert screen.destroyAllWindows.called
