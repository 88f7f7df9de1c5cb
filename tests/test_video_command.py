"""`faceproof check` and `scan` on videos; the annotated copy, the timeline and the page."""

from __future__ import annotations

import csv
import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet
import pytest

from faceproof import FaceChecker, OutputError, UsageError
from faceproof.images import RGB
from faceproof.records import Face, Verdict
from faceproof.timeline import BOTTOM, LEFT, RIGHT, ROW, TOP, WIDTH, timeline_svg
from faceproof.video import Sampling, Video
from faceproof.video_annotate import annotate_video, box_at
from faceproof.video_check import VideoOptions, check_video
from faceproof.video_draw import COLOURS
from faceproof.video_records import Sighting, Track, VideoResult
from faceproof.video_write import VideoWriter, check_output
from tests.clips import canvas, moving, set_rotation, square, square_checker, write_clip
from tests.helpers import read_records, run_cli


@pytest.fixture(scope="module")
def squares(checker: FaceChecker) -> FaceChecker:
    return square_checker(checker.card)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> Path:
    """Four seconds, one face, AAC."""
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", moving(astronaut, 32), rate=8, sound="aac")


def standing(frames: int, x: int = 100, y: int = 90, *, level: int = 124) -> list[RGB]:
    picture = np.full((180, 320, 3), 128, np.uint8)
    square(picture, "red", x, y, level=level)
    return [picture] * frames


def sound_packets(path: Path) -> list[tuple[float, int]]:
    """Time by the first picture's clock, and size, of every packet of sound."""
    with av.open(str(path)) as container:
        begin = float(container.streams.video[0].start_time * container.streams.video[0].time_base)
        packets = [p for p in container.demux(audio=0) if p.dts is not None]
        return [(float(p.pts * p.time_base) - begin, p.size) for p in packets]


def times(path: Path) -> list[float]:
    with Video(path) as video:
        return [frame.seconds for frame in video.frames(Sampling(fps=0))]


def test_annotating_keeps_every_frame_its_time_and_the_sound(tmp_path: Path, squares: FaceChecker) -> None:
    """Uneven times, sound copied bit by bit, the box where the face is, in the verdict's colour."""
    path = write_clip(
        tmp_path / "a.mp4", standing(24), rate=12, times=lambda k: k / 12 if k < 12 else 1 + (k - 12) / 4, sound="aac"
    )
    out = tmp_path / "out.mp4"
    options = VideoOptions(Sampling(fps=4))
    result = check_video(squares, path, options)
    annotate_video(path, result, out, options)
    assert times(out) == pytest.approx(times(path), abs=2e-3)
    theirs, ours = sound_packets(path), sound_packets(out)
    assert [size for _, size in ours] == [size for _, size in theirs]
    assert [at for at, _ in ours] == pytest.approx([at for at, _ in theirs], abs=2e-3)
    with Video(out) as video:
        for frame in video.frames(Sampling(fps=0)):
            left, bottom = frame.pixels[90, 79:82].mean(0), frame.pixels[109:112, 100].mean(0)
            for edge in (left, bottom):
                assert np.abs(edge - COLOURS["generated"]).max() < 75
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("source", "video", "sound", "out", "kept"),
    [
        ("a.webm", "libvpx-vp9", "libopus", "o.mp4", "opus"),
        ("a.mkv", "libx264", "aac", "o.webm", "opus"),
        ("a.mov", "libx265", "pcm_s16le", "o.mp4", "aac"),
        ("a.mp4", "libx264", None, "o.mkv", None),
    ],
)
def test_annotating_other_containers(
    tmp_path: Path, squares: FaceChecker, source: str, video: str, sound: str | None, out: str, kept: str | None
) -> None:
    path = write_clip(tmp_path / source, standing(12), rate=6, codec=video, sound=sound)
    annotate_video(path, check_video(squares, path), tmp_path / out)
    assert times(tmp_path / out) == pytest.approx(times(path), abs=3e-3)
    with av.open(str(tmp_path / out)) as container:
        assert [s.codec_context.name.removeprefix("lib") for s in container.streams.audio] == ([kept] if kept else [])
        heard = sum(f.samples / f.sample_rate for f in container.decode(audio=0)) if kept else 2
    assert heard == pytest.approx(2.0, abs=0.15)


def test_annotating_turned_pictures_and_sound_that_begins_earlier(tmp_path: Path, squares: FaceChecker) -> None:
    """A telephone's clip: upright in the copy, without the flag; the first picture half a second after the sound."""
    path = write_clip(tmp_path / "a.mp4", standing(12), rate=6, times=lambda k: 0.5 + k / 6, sound="aac")
    set_rotation(path, 90)
    annotate_video(path, check_video(squares, path), tmp_path / "o.mkv")
    with Video(tmp_path / "o.mkv") as video:
        frame = next(video.frames(Sampling(fps=0)))
        assert video.info.rotation == 0
    assert frame.pixels.shape == (320, 180, 3)
    theirs, ours = sound_packets(path), sound_packets(tmp_path / "o.mkv")
    assert len(ours) == len(theirs)
    assert [at for at, _ in ours] == pytest.approx([at for at, _ in theirs], abs=0.03)


def test_annotating_what_breaks_off(tmp_path: Path, squares: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mkv", [canvas(320, 180, k) for k in range(24)], rate=6, sound="aac")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    result = check_video(squares, path)
    assert result.notes
    annotate_video(path, result, tmp_path / "o.mp4")
    assert times(tmp_path / "o.mp4") == pytest.approx(times(path), abs=3e-3)
    assert sound_packets(tmp_path / "o.mp4")


def _track(seconds: list[float], *, seen: int | None = None) -> Track:
    verdict = Verdict("photograph", 0.0, -1.0, 0.27, 0.8, 0.01, (0.5, 0.8))
    face = Face((0, 0, 10, 10), ((1, 1),) * 5, 0.9, (), verdict)
    sightings = tuple(Sighting(k, s, (10 * s, 0, 10 * s + 10, 10), -1.0, 0.27, 1.0, "photograph") for k, s in
                      enumerate(seconds))  # fmt: skip
    return Track(1, face, sightings, seen or len(seconds), len(seconds), seconds[0])


def test_where_a_box_is_between_sightings() -> None:
    track = _track([1.0, 1.5, 5.0])
    assert box_at(track, 1.25) == pytest.approx((12.5, 0, 22.5, 10))
    assert box_at(track, 0.5) is None
    assert box_at(track, 1.9) == (15, 0, 25, 10)  # held
    assert box_at(track, 3.0) is None  # too long unseen to say where
    assert box_at(track, 5.6) == (50, 0, 60, 10)
    assert box_at(track, 5.9) is None
    assert box_at(track, 5.3, cut=5.2) is None  # not across a cut
    assert box_at(track, 0.7, cut=0.6) == (10, 0, 20, 10)  # behind the cut, before the first frame checked
    assert box_at(_track([0.0, 4.0, 8.0], seen=12), 2.0) == (20, 0, 30, 10)  # three of twelve sightings kept


def test_an_interrupted_copy_is_whole_as_far_as_it_goes(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", 321, 181, rate=10) as writer:
            for k in range(9):
                writer.write(canvas(321, 181, k), k / 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(times(tmp_path / "a.mp4")) == 9
    with VideoWriter(tmp_path / "b.mp4", 64, 64):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]  # nothing written, nothing left


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown ending '\.gif'"):
        check_output(tmp_path / "a.gif")
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path / "b.mp4")
    with pytest.raises(OutputError, match="make it, or choose another"):
        check_output(tmp_path / "absent" / "c.mp4")


def test_the_timeline_is_the_records(tmp_path: Path, squares: FaceChecker) -> None:
    path = write_clip(tmp_path / "a & <b>.mp4", standing(12), rate=6)
    result = check_video(squares, path)
    root = ET.fromstring(timeline_svg(result))
    name = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f".//{name}circle")
    (track,) = result.tracks
    assert len(dots) == len(track.sightings) == 4
    for dot, sighting in zip(dots, track.sightings, strict=True):
        assert int(dot.attrib["data-frame"]) == sighting.index
        x = LEFT + (WIDTH - LEFT - RIGHT) * sighting.seconds / result.seconds
        assert (float(dot.attrib["cx"]), float(dot.attrib["cy"])) == pytest.approx(
            (x, TOP + ROW * (1 - sighting.probability)), abs=0.06
        )
    assert root.attrib["viewBox"].split()[3] == str(TOP + ROW + BOTTOM + 26)
    nothing = VideoResult("n.mp4", "no_face", "m", "d", "0", 0.8, 0.01, (0.5, 0.8))
    assert "no face was found" in timeline_svg(nothing)


def test_check_writes_what_was_asked_for(clip: Path, tmp_path: Path, checker: FaceChecker) -> None:
    done = run_cli(
        "check", clip, "--fps", "4", "--resize", "320", "--annotate", tmp_path / "o.mp4", "--timeline",
        tmp_path / "t.svg", "--report", tmp_path / "r.html",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "PHOTOGRAPH" in done.stdout
    assert "person 1" in done.stdout
    assert "32 frames read, 16 checked" in done.stdout
    assert len(times(tmp_path / "o.mp4")) == 32
    assert ET.parse(tmp_path / "t.svg").getroot().attrib["class"] == "timeline"
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert 'data-kind="video"' in page
    embedded = re.search(r'<script type="application/json" id="faceproof-results">(.*?)</script>', page, re.S)
    expected = check_video(checker, clip, VideoOptions(Sampling(fps=4), 320)).to_dict()
    assert embedded is not None
    assert expected["sha256"] in embedded[1]


def test_check_json_of_pictures_and_videos(clip: Path, tmp_path: Path, face_jpeg: bytes, checker: FaceChecker) -> None:
    (tmp_path / "face.jpg").write_bytes(face_jpeg)
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    done = run_cli("check", tmp_path / "face.jpg", clip, tmp_path / "bad.mp4", "--json", "--stability", "off")
    assert done.returncode == 1
    assert done.stderr == ""
    picture, video, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert picture == checker.check(tmp_path / "face.jpg").to_dict()  # as ever
    assert video == check_video(checker, clip).to_dict()
    assert (bad["schema"], bad["status"]) == ("faceproof.video/1", "error")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.mp4", "--fps", "-1"), "0..1000"),
        (("a.mp4", "--resize", "3"), "64 to 16384"),
        (("a.mp4", "--annotate", "o.txt"), "unknown ending"),
        (("a.mp4", "--annotate", "a.mp4"), "is the video itself"),
        (("a.mp4", "a.mp4", "--annotate", "o.mp4"), "exactly one"),
        (("face.jpg", "--timeline", "t.svg"), "exactly one"),
    ],
)
def test_wrong_use_is_two(
    arguments: tuple[str, ...], message: str, clip: Path, face_jpeg: bytes, tmp_path: Path
) -> None:
    shutil.copy(clip, tmp_path / "a.mp4")
    (tmp_path / "face.jpg").write_bytes(face_jpeg)
    done = run_cli("check", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_scan_takes_videos_among_pictures(clip: Path, tmp_path: Path, face_jpeg: bytes, checker: FaceChecker) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(face_jpeg)
    shutil.copy(clip, folder / "b.mp4")
    shutil.copy(clip, folder / "c.jpg")  # a video by its content
    (folder / "d.mov").write_bytes(b"")
    (folder / "e.txt").write_bytes(b"ignored")
    found = {}
    for name in ("r.jsonl", "r.csv", "r.parquet"):
        done = run_cli("scan", folder, "--out", tmp_path / name, "--fps", "1", "-j", "2" if name == "r.jsonl" else "1")
        assert done.returncode == 1  # d.mov
        if name == "r.jsonl":
            found = {Path(record["path"]).name: record for record in read_records(tmp_path / name)}
    assert list(found) == ["a.jpg", "b.mp4", "c.jpg", "d.mov"]
    assert found["a.jpg"] == checker.check(folder / "a.jpg").to_dict()
    assert found["b.mp4"] == check_video(checker, folder / "b.mp4", VideoOptions(Sampling(fps=1))).to_dict()
    assert found["c.jpg"]["video"]["tracks"] == found["b.mp4"]["video"]["tracks"]
    assert "empty" in found["d.mov"]["error"]
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as stream:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(stream)}
    table = {Path(r["path"]).name: r for r in pyarrow.parquet.read_table(tmp_path / "r.parquet").to_pylist()}
    for name, record in found.items():
        assert rows[name]["verdict"] == (record["verdict"] or "")
        assert table[name]["verdict"] == record["verdict"]
        assert table[name]["schema"] == rows[name]["schema"] == record["schema"]
    again = run_cli("scan", folder, "--out", tmp_path / "r.jsonl", "--fps", "1")
    assert again.returncode == 1
    assert len(read_records(tmp_path / "r.jsonl")) == 4  # nothing twice


def test_flags_count_pictures_and_say_so(clip: Path, tmp_path: Path) -> None:
    done = run_cli("scan", clip, "--out", tmp_path / "r.jsonl", "--summary", tmp_path / "s.json", "--fps", "1")
    assert done.returncode == 0
    assert "1 videos are not counted" in (tmp_path / "s.json").read_text(encoding="utf-8")
