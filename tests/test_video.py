"""Reading videos: real containers and codecs, time stamps, rotation, cuts, damage, limits."""

from __future__ import annotations

import os
import sys
import threading
from fractions import Fraction
from pathlib import Path
from unittest.mock import MagicMock

import av
import cv2
import numpy as np
import pytest

from faceproof import (
    Limits,
    MissingExtraError,
    NotAPictureError,
    PictureError,
    TooLargeError,
    UnreadableError,
    UsageError,
    VideoError,
)
from faceproof.camera import Camera
from faceproof.images import RGB
from faceproof.video import VIDEO_SUFFIXES, Sampling, Video, is_video, open_frames
from tests.clips import canvas, moving, set_rotation, sound_only, write_clip

EVERY = Sampling(fps=0)


def counting(frames: int, width: int = 320, height: int = 240) -> list[RGB]:
    """Grey pictures whose level tells their number: 16, 20, 24, ..."""
    return [np.full((height, width, 3), 16 + 4 * k, np.uint8) for k in range(frames)]


def number(pixels: RGB) -> int:
    """Which of `counting` it is."""
    return round((float(pixels.mean()) - 16) / 4)


@pytest.mark.parametrize(
    ("name", "codec", "container", "codec_name"),
    [
        ("a.mp4", "libx264", "mov", "h264"),
        ("a.mov", "libx265", "mov", "hevc"),
        ("a.webm", "libvpx-vp9", "matroska", "vp9"),
        ("a.mkv", "libx264", "matroska", "h264"),
        ("a.avi", "mpeg4", "avi", "mpeg4"),
        ("a.ts", "libx264", "mpegts", "h264"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str, container: str, codec_name: str) -> None:
    path = write_clip(tmp_path / name, counting(30), codec=codec, rate=15)
    assert is_video(path)
    with Video(path) as video:
        assert (video.info.width, video.info.height, video.info.rotation) == (320, 240, 0)
        assert (video.info.container, video.info.codec) == (container, codec_name)
        frames = list(video.frames(EVERY))
    assert [number(frame.pixels) for frame in frames] == list(range(30))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 15 for k in range(30)], abs=2e-3)
    assert (video.read, video.damaged, video.problem) == (30, 0, None)
    if container != "mpegts":
        assert video.info.seconds == pytest.approx(2.0, abs=0.1)
        assert video.info.rate == pytest.approx(15, rel=0.04)


def test_pixels_are_rgb_and_match_pyavs_own(tmp_path: Path, astronaut: RGB) -> None:
    path = write_clip(tmp_path / "a.mp4", moving(astronaut, 5))
    with Video(path) as video:
        ours = [frame.pixels for frame in video.frames(EVERY)]
    with av.open(str(path)) as container:
        theirs = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert np.abs(ours[0].astype(int) - next(moving(astronaut, 5))).mean() < 4  # red is not blue


def test_sampled_by_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", counting(50), rate=25)
    with Video(path) as video:
        taken = [number(frame.pixels) for frame in video.frames(Sampling(fps=5))]
    assert taken == list(range(0, 50, 5))
    with Video(path) as video:
        seconds = [frame.seconds for frame in video.frames(Sampling(fps=2))]
    assert seconds == pytest.approx([0, 0.52, 1.0, 1.52], abs=0.021)
    assert video.read == 50
    with Video(path) as video:
        assert len(list(video.frames(Sampling(fps=100)))) == 50


def test_variable_frame_rate_goes_by_presentation_times(tmp_path: Path) -> None:
    """Ten frames in the first second, then one every 0.8 s: samples follow the clock, not the count."""

    def times(k: int) -> float:
        return k / 10 if k < 10 else 1.0 + 0.8 * (k - 10)

    for name in ("a.mp4", "a.mkv"):
        path = write_clip(tmp_path / name, counting(15), rate=10, times=times)
        with Video(path) as video:
            frames = list(video.frames(EVERY))
        assert [frame.seconds for frame in frames] == pytest.approx([times(k) for k in range(15)], abs=2e-3)
        with Video(path) as video:
            taken = [number(frame.pixels) for frame in video.frames(Sampling(fps=2))]
        assert taken == [0, 5, 10, 11, 12, 13, 14]


def test_a_spliced_stream_begins_its_clock_anew(tmp_path: Path) -> None:
    """Two recordings in one transport stream: time stamps go back by a minute in the middle."""
    late = write_clip(tmp_path / "a.ts", counting(20), rate=10, times=lambda k: 60 + k / 10)
    early = write_clip(tmp_path / "b.ts", counting(20), rate=10)
    both = tmp_path / "both.ts"
    both.write_bytes(late.read_bytes() + early.read_bytes())
    with Video(both) as video:
        seconds = [frame.seconds for frame in video.frames(Sampling(fps=2))]
    assert seconds == pytest.approx([0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], abs=0.11)


def test_anamorphic_pixels_are_made_square(tmp_path: Path, astronaut: RGB) -> None:
    """As DV and AVCHD: 360 x 360 stored, shown 4:3, so that faces keep their proportions."""
    wide = list(moving(astronaut, 3))
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 360, 360, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for picture in wide:
            squeezed = cv2.resize(picture, (360, 360), interpolation=cv2.INTER_AREA)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(squeezed, format="rgb24")))
        out.mux(stream.encode(None))
    with Video(tmp_path / "a.mp4") as video:
        assert (video.info.width, video.info.height) == (480, 360)
        shown = next(video.frames(EVERY)).pixels
    assert shown.shape == (360, 480, 3)
    assert np.abs(shown.astype(int) - wide[0]).mean() < 6
    with Video(tmp_path / "a.mp4", resize=240) as video:
        assert next(video.frames(EVERY)).pixels.shape == (180, 240, 3)


def test_a_stream_that_changes_its_size_keeps_the_first(tmp_path: Path) -> None:
    for k, (width, height) in enumerate(((320, 240), (160, 120))):
        write_clip(tmp_path / f"{k}.ts", counting(20, width, height), rate=10)
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    with Video(both) as video:
        shapes = [frame.pixels.shape for frame in video.frames(EVERY)]
    assert len(shapes) >= 38
    assert set(shapes) == {(240, 320, 3)}


def test_a_last_picture_that_stays_is_no_missing_end(tmp_path: Path) -> None:
    """A slide that is shown for half a minute, and sound that goes on: whole files, nothing to complain about."""
    path = write_clip(tmp_path / "a.mp4", counting(3), rate=1, times=lambda k: [0.0, 1.0, 30.0][k], sound="aac")
    for name in ("a.mp4", "b.mkv"):
        if name != path.name:
            write_clip(tmp_path / name, counting(20), rate=10, sound="aac", extra_sound=20.0)
        with Video(tmp_path / name) as video:
            list(video.frames(EVERY))
            assert video.problem is None


def test_colours_follow_the_files_own_matrix(tmp_path: Path) -> None:
    """HD is BT.709, and so tagged; read as BT.601 a face would turn greener."""
    picture = np.full((720, 1280, 3), (200, 60, 40), np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.codec_context.colorspace = 1  # AVCOL_SPC_BT709
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        out.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        out.mux(stream.encode(None))
    with Video(tmp_path / "a.mp4") as video:
        assert next(video.frames(EVERY)).pixels[300, 300] == pytest.approx((200, 60, 40), abs=3)


def test_b_frames_come_in_the_order_they_are_shown(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", counting(40), options={"bf": "3", "b_strategy": "0"})
    with Video(path) as video:
        assert [number(frame.pixels) for frame in video.frames(EVERY)] == list(range(40))


@pytest.mark.parametrize(("clockwise", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_rotation_flag(tmp_path: Path, astronaut: RGB, clockwise: int, turns: int) -> None:
    """`turns` quarter turns counter-clockwise (np.rot90) make the stored pictures upright."""
    path = write_clip(tmp_path / "a.mp4", moving(astronaut, 3))
    with Video(path) as video:
        plain = next(video.frames(EVERY)).pixels
    set_rotation(path, clockwise)
    with Video(path) as video:
        turned = next(video.frames(EVERY)).pixels
        info = video.info
    assert np.array_equal(turned, np.rot90(plain, turns))
    assert info.rotation == 90 * turns
    assert (info.height, info.width) == turned.shape[:2]


def test_cuts_are_found_and_motion_is_not_one(tmp_path: Path, astronaut: RGB) -> None:
    scenes = [*moving(astronaut, 24), *(canvas(480, 360, 7) for _ in range(24)), *moving(255 - astronaut, 24)]
    path = write_clip(tmp_path / "a.mp4", scenes, rate=24)
    with Video(path) as video:
        assert [frame.index for frame in video.frames(EVERY) if frame.cut] == [24, 48]
    with Video(path) as video:
        assert [round(frame.seconds, 2) for frame in video.frames(Sampling(fps=2)) if frame.cut] == [1.0, 2.0]
    with Video(path) as video:
        assert [frame.index for frame in video.frames(Sampling(scenes=True))] == [0, 24, 48]


def test_a_long_scene_gives_frames_too(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [canvas(160, 120)] * 24, rate=2)
    with Video(path) as video:
        assert [frame.seconds for frame in video.frames(Sampling(scenes=True))] == pytest.approx([0, 5, 10])


def test_resize(tmp_path: Path, astronaut: RGB) -> None:
    path = write_clip(tmp_path / "a.mp4", moving(astronaut, 2))
    with Video(path, resize=240) as video:
        small = next(video.frames(EVERY)).pixels
    with Video(path) as video:
        large = next(video.frames(EVERY)).pixels
    assert small.shape == (180, 240, 3)
    assert np.abs(small - large.reshape(180, 2, 240, 2, 3).mean((1, 3))).mean() < 2
    with Video(path, resize=4000) as video:
        assert next(video.frames(EVERY)).pixels.shape == (360, 480, 3)  # never enlarged
    with pytest.raises(UsageError, match="64 to 16384"):
        Video(path, resize=3)


def test_4k(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", counting(3, 3840, 2160), options={"preset": "ultrafast"})
    with Video(path) as video:
        frames = list(video.frames(EVERY))
    assert [frame.pixels.shape for frame in frames] == [(2160, 3840, 3)] * 3
    with pytest.raises(TooLargeError, match=r"3840 x 2160 = 8 megapixels, over the limit of 4.*--max-pixels"):
        Video(path, limits=Limits(max_pixels=4_000_000))


def test_ten_bits_and_grey(tmp_path: Path) -> None:
    for name, codec, shape in (("a.mkv", "libx264", "yuv420p10le"), ("b.avi", "mjpeg", "yuvj444p")):
        with av.open(str(tmp_path / name), "w") as out:
            stream = out.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 320, 240, shape
            for picture in counting(16)[::4]:  # JPEG is coarse
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode(None))
        with Video(tmp_path / name) as video:
            assert [number(frame.pixels) for frame in video.frames(EVERY)] == [0, 4, 8, 12]


def _bad(folder: Path) -> dict[str, tuple[type[PictureError], str]]:
    """Files that give no frame, with the error each must raise."""
    whole = write_clip(folder / "whole.mp4", counting(10)).read_bytes()
    sound_only(folder / "sound.m4a")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_bytes(b"this is no video\n" * 99)
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "head.mp4").write_bytes(whole[:100])
    (folder / "codec.mp4").write_bytes(whole.replace(b"avc1", b"zzzz"))
    (folder / "list.mp4").write_bytes(b"ffconcat version 1.0\nfile whole.mp4\n")
    (folder / "hls.mp4").write_bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nwhole.mp4\n#EXT-X-ENDLIST\n")
    with av.open(str(folder / "none.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.start_encoding()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    return {
        "sound.m4a": (VideoError, "no video stream .*sound only"),
        "empty.mp4": (NotAPictureError, "empty"),
        "text.mp4": (VideoError, "not a video in a container we read"),
        "half.mp4": (VideoError, "damaged or truncated"),
        "head.mp4": (VideoError, "damaged or truncated"),
        "codec.mp4": (VideoError, "no decoder|codec"),
        "list.mp4": (VideoError, "not a video in a container we read"),
        "hls.mp4": (VideoError, "not a video in a container we read"),
        "none.mkv": (VideoError, "not a single frame|no video stream|damaged"),
        "pipe.mp4": (UnreadableError, "pipe"),
        "folder.mp4": (UnreadableError, "folder"),
        "absent.mp4": (UnreadableError, "no such file"),
    }


def test_bad_files_give_one_clear_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, (kind, pattern) in _bad(tmp_path).items():
        with pytest.raises(kind, match=pattern) as caught, Video(tmp_path / name) as video:
            list(video.frames(EVERY))
        assert "\n" not in str(caught.value), name
    assert capfd.readouterr() == ("", "")  # FFmpeg says nothing by itself


def _index_in_front(path: Path, out: Path) -> Path:
    """The same packets in an MP4 that begins with its index."""
    with av.open(str(path)) as source, av.open(str(out), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.ts"])
def test_a_truncated_file_keeps_what_can_be_read(tmp_path: Path, astronaut: RGB, name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = write_clip(tmp_path / name, moving(astronaut, 96), codec=codec, rate=12)
    if name.endswith("mp4"):  # the index in front, as on the web; an index at the end is lost with it
        path = _index_in_front(path, tmp_path / "front.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    with Video(path) as video:
        frames = list(video.frames(Sampling(fps=4)))
    assert 8 <= len(frames) < 32
    assert all(frame.pixels.shape == (360, 480, 3) for frame in frames)
    if not name.endswith("ts"):  # which announces no length
        assert video.problem is not None
        assert "breaks off" in video.problem or "damaged" in video.problem


def test_damage_in_the_middle_is_passed_over(tmp_path: Path, astronaut: RGB) -> None:
    path = write_clip(tmp_path / "a.ts", moving(astronaut, 96), rate=12, options={"g": "12"})
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(len(data) // 3, len(data) // 2, 400):
        data[at] ^= 0x5A
    path.write_bytes(bytes(data))
    with Video(path) as video:
        frames = list(video.frames(EVERY))
    assert len(frames) > 60
    seconds = [frame.seconds for frame in frames]
    assert seconds == sorted(seconds)
    assert seconds[-1] == pytest.approx(95 / 12, abs=0.5)


def test_random_bytes_never_crash(tmp_path: Path, astronaut: RGB) -> None:
    """Flip bytes anywhere: frames or a PictureError, nothing else."""
    whole = write_clip(tmp_path / "a.mp4", moving(astronaut, 6, width=160, height=120, side=80)).read_bytes()
    rng = np.random.default_rng(1)
    for seed in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 1 + seed % 7):
            data[at] = rng.integers(256)
        (tmp_path / "b.mp4").write_bytes(bytes(data))
        try:
            with Video(tmp_path / "b.mp4") as video:
                for frame in video.frames(EVERY):
                    assert frame.pixels.dtype == np.uint8
        except PictureError:
            pass


def test_what_is_a_video(tmp_path: Path, face_jpeg: bytes) -> None:
    clip = write_clip(tmp_path / "a.mp4", counting(3))
    (tmp_path / "clip.jpg").write_bytes(clip.read_bytes())
    (tmp_path / "picture.mp4").write_bytes(face_jpeg)
    (tmp_path / "text.mov").write_bytes(b"text")
    (tmp_path / "text.jpg").write_bytes(b"text")
    expected = {"a.mp4": True, "clip.jpg": True, "picture.mp4": False, "text.mov": True, "text.jpg": False}
    assert {name: is_video(tmp_path / name) for name in expected} == expected
    assert not is_video(tmp_path / "absent.jpg")
    assert is_video(tmp_path / "absent.webm")
    assert is_video("https://example.org/a/clip.MP4?x=1.jpg")
    assert not is_video("https://example.org/a/clip.jpg")
    assert is_video("rtsp://camera/1")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (tmp_path / "a.heic").write_bytes(heic)
    assert not is_video(tmp_path / "a.heic")
    assert ".mp4" in VIDEO_SUFFIXES


def test_names_that_ffmpeg_would_read_as_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "a.mp4", counting(3))
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "subfile,,start,0,end,0,,:a.mp4", "data:x.mp4"):
        with pytest.raises(UnreadableError, match="no such file"):
            Video(name)
        Path(name).write_bytes(clip.read_bytes())
        with Video(name) as video:
            assert len(list(video.frames(EVERY))) == 3


def test_a_pipe_is_a_live_source_only(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", counting(12))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(clip.read_bytes()))
    writer.start()
    source = open_frames(str(tmp_path / "pipe"))
    assert [number(frame.pixels) for frame in source.frames(EVERY)] == list(range(12))
    source.close()
    writer.join()


def test_nobody_at_the_address() -> None:
    with pytest.raises(VideoError, match="cannot be reached|no answer|cannot be"):
        Video("http://127.0.0.1:9/clip.mp4", limits=Limits(url_timeout=2))


def test_an_absent_camera() -> None:
    if sys.platform.startswith("linux") and not Path("/dev/video77").exists():
        with pytest.raises(VideoError, match=r"no camera 77 \(/dev/video77 is absent\)"):
            open_frames("77")


def test_a_busy_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceproof.camera.os.access", lambda path, mode: True)
    with pytest.raises(VideoError, match="in use by another program"):
        Camera(77)


def test_a_camera_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for OpenCV's capture: two blue-green-red pictures, the first to try it out, then nothing."""
    picture = np.full((480, 640, 3), (10, 20, 30), np.uint8)
    capture = MagicMock()
    capture.read.side_effect = [(True, picture)] * 3 + [(False, None)]
    fake = MagicMock(resize=cv2.resize, INTER_AREA=cv2.INTER_AREA)
    fake.VideoCapture.return_value = capture
    monkeypatch.setattr("faceproof.camera.opencv", lambda: fake)
    monkeypatch.setattr("faceproof.camera.os.access", lambda path, mode: True)
    camera = open_frames("7", resize=320)
    assert (camera.info.width, camera.info.height) == (320, 240)
    frames = list(camera.frames(EVERY))
    assert [frame.pixels.shape for frame in frames] == [(240, 320, 3)] * 2
    assert frames[0].pixels[0, 0].tolist() == [30, 20, 10]
    assert camera.problem == "camera 7 was lost: it gives no more pictures"
    camera.close()
    assert capture.release.called
    with pytest.raises(UsageError, match="64 to 16384"):
        open_frames("7", resize=3)


def test_the_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r'pip install "faceproof\[video\]"'):
        Video(tmp_path / "a.mp4")


def test_wrong_sampling() -> None:
    with pytest.raises(UsageError, match=r"0\.\.1000"):
        Sampling(fps=-1)
    assert Sampling(fps=4).interval == float(Fraction(1, 4))
