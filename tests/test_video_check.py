"""A verdict per person: the mean, the weights, who is who, what is kept of broken files, and memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from faceproof import FaceChecker, Gates
from faceproof.images import RGB, Limits
from faceproof.video import Frame, Sampling
from faceproof.video_check import Follower, VideoOptions, check_video, robust_mean, weight
from faceproof.video_records import VideoResult
from tests.clips import canvas, crossing, moving, sound_only, square, square_checker, write_clip


@pytest.fixture(scope="module")
def squares(checker: FaceChecker) -> FaceChecker:
    return square_checker(checker.card)


def walking(frames: int, levels: dict[str, list[int]], *, width: int = 640, height: int = 240) -> Iterator[RGB]:
    """Red from left to right, blue against it; each frame with the level of its turn."""
    for k in range(frames):
        picture = np.full((height, width, 3), 128, np.uint8)
        share = k / max(1, frames - 1)
        for who, level in levels.items():
            x = 40 + share * (width - 80) if who == "red" else width - 40 - share * (width - 80)
            square(picture, who, x, 100 if who == "red" else 125, level=level[k % len(level)])
        yield picture


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=40))
def test_with_equal_weights_it_is_the_trimmed_mean(values: list[float]) -> None:
    whole = list(itertools.chain.from_iterable([value] * 5 for value in values))  # so that a fifth is whole
    expected = trim_mean(whole, 0.2)
    assert robust_mean(whole, [0.3] * len(whole)) == pytest.approx(expected, abs=1e-9)
    assert robust_mean(values, [5.0] * len(values)) == pytest.approx(expected, abs=1e-9)


def test_weights_are_repetitions_and_outliers_do_not_count() -> None:
    values, weights = [1.0, 2.0, 3.0, 9.0], [3, 1, 4, 2]
    repeated = list(itertools.chain.from_iterable([v] * w for v, w in zip(values, weights, strict=True)))
    assert robust_mean(values, weights) == pytest.approx(trim_mean(repeated, 0.2))
    assert robust_mean([-1.0] * 8 + [1000.0], [1.0] * 9) == pytest.approx(-1)
    assert robust_mean([-1.0] * 4 + [50.0], [1.0] * 4 + [0.05]) == pytest.approx(-1)
    assert robust_mean([5.0], [0.01]) == 5


def test_small_blurred_cut_off_and_turned_faces_count_less() -> None:
    gates = Gates()
    good = {"side": 400.0, "sharpness": 40.0, "inside": 1.0, "turn": 0.1}
    assert weight(good, gates) == 1
    for name, worse, worst in (("side", 120, 80), ("sharpness", 9, 6.5), ("inside", 0.9, 0.7), ("turn", 1.0, 1.3)):
        assert 0.25 < weight({**good, name: worse}, gates) < 1, name
        assert weight({**good, name: worst}, gates) == pytest.approx(0.25), name
    assert weight({"side": 0, "sharpness": 0, "inside": 0, "turn": 9}, Gates(0, 0, 0, 0)) == pytest.approx(0.25**4)


def test_one_person(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mp4", moving(astronaut, 48), rate=12)
    seen: list[tuple[float, float | None]] = []
    result = check_video(checker, path, progress=lambda *told: seen.append(told))
    (track,) = result.tracks
    assert (result.status, result.verdict, result.decisive) == ("ok", "photograph", track)
    assert (result.frames.read, result.frames.used, result.frames.faces, track.seen) == (48, 8, 8, 8)
    assert [s.seconds for s in track.sightings] == pytest.approx([k / 2 for k in range(8)], abs=1e-3)
    odds = [s.log_odds for s in track.sightings]
    assert min(odds) <= track.face.verdict.log_odds <= max(odds)
    assert track.face.verdict.log_odds == pytest.approx(robust_mean(odds, [s.weight for s in track.sightings]))
    assert track.face.verdict.label == checker.rule.label(track.face.verdict.log_odds)
    assert seen[-1] == pytest.approx((3.5, 4.0), abs=0.02)
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    # A frame by itself says what its sighting says.
    best = max(track.sightings, key=lambda s: s.weight)
    assert track.best == best.seconds
    assert track.face.box == best.box


def test_the_record_has_every_field_of_a_pictures(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.webm", moving(astronaut, 12), rate=6, codec="libvpx-vp9")
    record, picture = check_video(checker, path).to_dict(), checker.check(astronaut).to_dict()
    assert [key for key in record if key != "video"] == list(picture)
    assert list(record["faces"][0]) == list(picture["faces"][0])
    assert record["schema"] == "faceproof.video/1"
    assert record["video"]["tracks"][0]["timeline"][0]["seconds"] == 0
    assert {key: record[key] for key in ("model", "threshold", "threshold_fpr", "band", "alpha")} == {
        key: picture[key] for key in ("model", "threshold", "threshold_fpr", "band", "alpha")
    }


def test_stability_is_left_to_the_many_frames(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mp4", moving(astronaut, 6), rate=6)
    full = FaceChecker(stability="full")
    assert check_video(full, path).to_dict() == check_video(checker, path).to_dict()
    assert full.stability == "full"


def test_two_people_who_cross_are_never_mixed(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    """Where each of them is, is known: every sighting of a track must lie on one of the two ways."""
    frames, rate, width = 72, 12, 960
    path = write_clip(tmp_path / "a.mp4", crossing(astronaut, frames, width=width), rate=rate)
    result = check_video(checker, path, VideoOptions(Sampling(fps=6)))
    owners: dict[int, set[str]] = {}
    for track in result.tracks:
        for sighting in track.sightings:
            share = sighting.index / (frames - 1)
            at = {"rear": 175 + share * (width - 240) - 45, "front": 60 + (1 - share) * (width - 240) + 50}
            x = (sighting.box[0] + sighting.box[2]) / 2
            nearest = min(at, key=lambda name: abs(at[name] - x))
            if abs(at["rear"] - at["front"]) > 60:  # nearer, the two cannot be told by place
                assert abs(at[nearest] - x) < 40
                owners.setdefault(track.number, set()).add(nearest)
    assert all(len(who) == 1 for who in owners.values()), owners
    assert set().union(*owners.values()) == {"rear", "front"}
    assert len(result.tracks) <= 4
    assert sum(track.seen for track in result.tracks) >= 0.8 * result.frames.faces


def test_a_generated_person_beside_a_photographed_one(tmp_path: Path, squares: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mp4", walking(60, {"red": [124], "blue": [4]}), rate=10)
    result = check_video(squares, path, VideoOptions(Sampling(fps=5)))
    labels = {track.face.verdict.label for track in result.tracks if track.seen >= 5}
    assert labels == {"generated", "photograph"}
    for track in result.tracks:
        assert len({sighting.label for sighting in track.sightings}) == 1  # no frame of the other one
    assert result.verdict == "generated"
    assert result.decisive is not None
    assert result.decisive.face.verdict.label == "generated"


def test_a_few_odd_frames_do_not_decide(tmp_path: Path, squares: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mp4", walking(40, {"red": [4] * 7 + [124]}), rate=8)
    result = check_video(squares, path, VideoOptions(Sampling(fps=0)))
    (track,) = result.tracks
    assert track.face.verdict.label == "photograph"
    assert {sighting.label for sighting in track.sightings} == {"photograph", "generated"}


def test_a_face_changed_for_a_while_is_no_photograph(tmp_path: Path, squares: FaceChecker) -> None:
    """A third of the frames are generated: the mean says photograph, the frames do not."""
    path = write_clip(tmp_path / "a.mp4", walking(48, {"red": [4] * 32 + [124] * 16}), rate=8)
    (track,) = check_video(squares, path, VideoOptions(Sampling(fps=0))).tracks
    assert track.face.verdict.label == "inconclusive"
    assert track.face.verdict.reasons[0].startswith("the frames contradict each other")
    assert squares.rule.label(track.face.verdict.log_odds) == "photograph"


def test_a_single_sighting_does_not_speak_for_a_video(tmp_path: Path, squares: FaceChecker) -> None:
    """With hundreds of tracks, tracks of one frame would bring a false alarm each hundred."""

    def pictures() -> Iterator[RGB]:
        for k, picture in enumerate(walking(40, {"red": [4]})):
            if k == 20:
                square(picture, "blue", 80, 200, level=124)
            yield picture

    result = check_video(squares, write_clip(tmp_path / "a.mp4", pictures(), rate=8), VideoOptions(Sampling(fps=0)))
    assert [track.face.verdict.label for track in result.tracks] == ["photograph", "generated"]
    assert result.verdict == "photograph"
    assert result.by_suspicion[0] is result.decisive


def test_a_cut_between_two_people_on_the_same_spot(tmp_path: Path, squares: FaceChecker) -> None:
    def pictures() -> Iterator[RGB]:
        for k in range(32):
            picture = np.full((240, 320, 3), 60 if k < 16 else 190, np.uint8)
            square(picture, "red", 160, 120, level=4 if k < 16 else 124)
            yield picture

    result = check_video(squares, write_clip(tmp_path / "a.mp4", pictures(), rate=8), VideoOptions(Sampling(fps=4)))
    assert [track.face.verdict.label for track in result.tracks] == ["photograph", "generated"]
    assert [(track.first, track.last) for track in result.tracks] == [(0.0, 1.75), (2.0, 3.75)]


def test_a_face_too_small_is_tracked_and_not_judged(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mp4", moving(astronaut, 12, width=320, height=240, side=90), rate=6)
    result = check_video(checker, path)
    assert result.verdict == "inconclusive"
    assert result.decisive is None
    assert result.tracks[0].judged == 0
    assert "too_small" in result.tracks[0].sightings[0].quality
    assert result.tracks[0].face.quality
    assert result.to_dict()["probability"] is None


def test_resize_is_what_is_checked(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mp4", moving(astronaut, 6, width=960, height=720, side=480), rate=6)
    result = check_video(checker, path, VideoOptions(resize=480))
    assert (result.width, result.height) == (480, 360)
    assert result.tracks[0].face.box[2] <= 480


def test_nothing_to_judge(tmp_path: Path, checker: FaceChecker) -> None:
    empty = check_video(checker, write_clip(tmp_path / "a.mp4", [canvas(320, 240)] * 8, rate=4))
    assert (empty.status, empty.verdict, empty.frames.used) == ("no_face", None, 4)
    (tmp_path / "b.mp4").write_bytes(b"nothing" * 50)
    broken = check_video(checker, tmp_path / "b.mp4")
    assert (broken.status, broken.verdict) == ("error", None)
    assert broken.sha256 is not None
    assert "not a video" in str(broken.error)
    assert "sound only" in str(check_video(checker, sound_only(tmp_path / "c.m4a")).error)
    assert check_video(checker, tmp_path / "absent.mp4").error == checker.check(tmp_path / "absent.mp4").error
    small = replace_limits(checker, 1000)
    assert "--max-pixels" in str(check_video(small, tmp_path / "a.mp4").error)


def replace_limits(checker: FaceChecker, pixels: int) -> FaceChecker:
    return FaceChecker(checker.detector, checker.face_detector, limits=Limits(max_pixels=pixels))


def test_a_video_that_breaks_off_keeps_what_was_found(tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mkv", moving(astronaut, 60), rate=12)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    result = check_video(checker, path)
    assert (result.status, result.verdict) == ("ok", "photograph")
    assert 2 <= result.frames.used < 10
    assert any("break off" in note or "damaged" in note for note in result.notes)


def test_a_long_track_is_thinned_evenly(squares: FaceChecker) -> None:
    follower = Follower(squares, keep=8)
    picture = next(walking(1, {"red": [4]}, width=160))
    for k in range(100):
        follower.see(Frame(k, k / 10, picture))
    (person,) = follower._people.values()
    track = person.track(squares)
    assert (track.seen, track.judged) == (100, 100)
    assert len(track.sightings) <= 8
    assert {b.index - a.index for a, b in itertools.pairwise(track.sightings)} == {16}


def test_people_beyond_the_limit_are_forgotten_and_said(
    squares: FaceChecker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("faceproof.video_check.MOST_PEOPLE", 3)
    path = write_clip(tmp_path / "a.mp4", walking(40, {"red": [4]}, width=320), rate=1, times=lambda k: 9.0 * k)
    result = check_video(squares, path)
    assert len(result.tracks) <= 4
    assert any("judged least are not listed" in note for note in result.notes)


@pytest.mark.slow
def test_an_hour_in_flat_memory(tmp_path: Path, squares: FaceChecker) -> None:
    """3,600 s at one frame a second; after the first tenth, memory stays where it is."""
    pictures = itertools.islice(itertools.cycle(walking(60, {"red": [4], "blue": [60]}, width=240, height=160)), 3600)
    path = write_clip(tmp_path / "a.mp4", pictures, rate=1, options={"preset": "ultrafast"})
    memory: dict[int, int] = {}
    process = psutil.Process()

    def look(seconds: float, _: float | None) -> None:
        memory.setdefault(int(seconds) // 360, process.memory_info().rss)

    result = check_video(squares, path, progress=look)
    assert result.seconds == pytest.approx(3599, abs=0.1)
    assert result.frames.used == 3600
    assert max(memory.values()) - memory[1] < 40 * 2**20


def test_a_result_of_several_videos_is_independent(tmp_path: Path, squares: FaceChecker) -> None:
    path = write_clip(tmp_path / "a.mp4", walking(16, {"red": [4]}), rate=8)
    one, two = check_video(squares, path), check_video(squares, path)
    assert one == two
    assert isinstance(replace(one, notes=("x",)), VideoResult)
