"""Finding the faces of a training set once: the cache, and what cannot be used. Runs without torch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import RetinaFace, UsageError
from faceproof.datasets import Sample
from faceproof.errors import OutputError
from faceproof.faces.detection import DetectedFace
from faceproof.images import RGB
from faceproof.landmarks import CACHE_EVERY, SMALLEST_EYES, Landmarked, locate


class Looker:
    """A face detector that counts: grey level 1 is no face, and others give the distance between the eyes."""

    name = "looker/1"

    def __init__(self) -> None:
        self.looked = 0

    def detect(self, pixels: RGB) -> list[DetectedFace]:
        self.looked += 1
        level = int(pixels[0, 0, 0])
        if level == 1:
            return []
        points = np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]], np.float32) * level
        return [DetectedFace(np.array([0, 0, level, level], np.float32), points, 0.9)]


def _set(folder: Path, levels: list[int]) -> list[Sample]:
    made = []
    for number, level in enumerate(levels):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(path)
        made.append(Sample(path, number % 2, "g" if number % 2 else "", "s", "train", str(number), "none"))
    return made


def test_faces_are_looked_for_once(tmp_path: Path) -> None:
    samples, looker, cache = _set(tmp_path, [40, 50, 60, 70, 1, 11]), Looker(), tmp_path / "c.npz"
    seen: list[tuple[int, int]] = []
    first = locate(samples, looker, cache=cache, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]
    assert (looker.looked, len(first.data.samples), first.faceless, first.unreadable) == (6, 4, 2, ())
    assert first.data.landmarks[:, 1, 0].tolist() == [40, 50, 60, 70]
    assert SMALLEST_EYES > 11
    again = locate(samples, looker, cache=cache)
    assert looker.looked == 6
    np.testing.assert_array_equal(again.data.landmarks, first.data.landmarks)
    assert again.faceless == 2
    assert sorted(entry.name for entry in tmp_path.glob("*.npz")) == ["c.npz"]


@pytest.mark.parametrize("change", ["another size", "the same size, another time"])
def test_a_changed_picture_is_looked_at_again(change: str, tmp_path: Path) -> None:
    samples, looker, cache = _set(tmp_path, [40, 50, 60, 70]), Looker(), tmp_path / "c.npz"
    locate(samples, looker, cache=cache)
    path = samples[2].path
    if change == "another size":
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path, compress_level=0)
    else:
        size = path.stat().st_size
        path.write_bytes(Path(samples[3].path).read_bytes().ljust(size)[:size])
        os.utime(path, ns=(1, 1))
    found = locate(samples, looker, cache=cache)
    assert looker.looked == 5
    assert found.data.landmarks[2, 1, 0] == (90 if change == "another size" else 70)


def test_another_detector_looks_again(tmp_path: Path) -> None:
    samples, cache = _set(tmp_path, [40, 50]), tmp_path / "c.npz"
    locate(samples, Looker(), cache=cache)
    other = Looker()
    other.name = "looker/2"
    locate(samples, other, cache=cache)
    assert other.looked == 2


def _npz(cache: Path, **arrays: object) -> None:
    np.savez(cache, **arrays)  # type: ignore[arg-type]


DAMAGE = {
    "empty": lambda cache: cache.write_bytes(b""),
    "zeros": lambda cache: cache.write_bytes(bytes(5000)),
    "text": lambda cache: cache.write_text("my notes"),
    "cut": lambda cache: cache.write_bytes(cache.read_bytes()[:-30]),
    "half": lambda cache: cache.write_bytes(cache.read_bytes()[: cache.stat().st_size // 2]),
    "flipped": lambda cache: cache.write_bytes(
        bytes(byte ^ (255 * (60 < place < 400)) for place, byte in enumerate(cache.read_bytes()))
    ),
    "a pickle": lambda cache: _npz(cache, detector="looker/1", keys=np.array([{}], object), landmarks=np.zeros(1)),
    "an array": lambda cache: cache.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, "
                                                b"'shape': (0,), }" + b" " * 62 + b"\n"),
    "other names": lambda cache: _npz(cache, detector="looker/1", names=["a"]),
    "other shapes": lambda cache: _npz(cache, detector="looker/1", keys=["a", "b"], landmarks=np.zeros((2, 3))),
    "other lengths": lambda cache: _npz(cache, detector="looker/1", keys=["a"], landmarks=np.zeros((2, 5, 2))),
    "words": lambda cache: _npz(cache, detector="looker/1", keys=["a"], landmarks=np.array(["x"])),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_only_a_cache(kind: str, tmp_path: Path) -> None:
    samples, looker, cache = _set(tmp_path, [40, 50, 1]), Looker(), tmp_path / "c.npz"
    locate(samples, looker, cache=cache)
    DAMAGE[kind](cache)
    found = locate(samples, looker, cache=cache)
    assert found.data.landmarks[:, 1, 0].tolist() == [40, 50]
    assert looker.looked == 6
    locate(samples, looker, cache=cache)
    assert looker.looked == 6


def test_unreadable_pictures_are_named_or_left_out(tmp_path: Path) -> None:
    samples, looker, cache = _set(tmp_path, [40, 50, 60, 70]), Looker(), tmp_path / "c.npz"
    samples[1].path.write_bytes(b"not a picture")
    samples[2].path.unlink()
    with pytest.raises(UsageError, match=r"2 of 4 pictures cannot be read, e\.g\. .*1\.png: .*--skip-unreadable"):
        locate(samples, looker, cache=cache)
    found = locate(samples, looker, cache=cache, skip_unreadable=True)
    assert looker.looked == 2  # the others were remembered although the run ended in an error
    assert [sample.path.name for sample in found.data.samples] == ["0.png", "3.png"]
    assert [Path(path).name for path, _ in found.unreadable] == ["1.png", "2.png"]
    assert "not a picture" in found.unreadable[0][1]
    assert "no such file" in found.unreadable[1][1].lower()


@pytest.mark.parametrize("name", ["byte-\udcff.png", "new\nline.png", "nul\0.png", "ü\u202e.png"])
def test_odd_names(name: str, tmp_path: Path) -> None:
    samples, looker, cache = _set(tmp_path, [40, 50]), Looker(), tmp_path / "c.npz"
    odd = tmp_path / name
    if "\0" not in name:
        os.link(samples[0].path, odd)
    samples.append(Sample(odd, 0, "", "s", "train", "odd", "none"))
    for _ in range(2):
        found = locate(samples, looker, cache=cache, skip_unreadable=True)
        assert len(found.data.samples) == 3 - ("\0" in name)
    assert looker.looked == len(found.data.samples)


def test_a_class_without_faces_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no generated picture with a usable face among 1 pictures"):
        locate(_set(tmp_path, [40, 1]), Looker())
    with pytest.raises(UsageError, match="no photograph and no generated picture with a usable face"):
        locate(_set(tmp_path, [1, 1]), Looker())


def test_what_was_found_is_kept_when_the_run_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceproof.landmarks.CACHE_EVERY", 2)
    assert CACHE_EVERY > 500
    samples, looker, cache = _set(tmp_path, [40, 50, 60, 70, 80, 90]), Looker(), tmp_path / "c.npz"

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        locate(samples, looker, cache=cache, progress=stop)
    assert looker.looked == 5
    locate(samples, looker, cache=cache)
    assert looker.looked == 7


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    samples = _set(tmp_path, [40, 50])
    with pytest.raises(OutputError, match=r"cannot write .*c\.npz"):
        locate(samples, Looker(), cache=tmp_path / "missing" / "c.npz")


def test_only_keeps_pictures_and_landmarks_together(tmp_path: Path) -> None:
    data = locate(_set(tmp_path, [40, 50, 60, 70]), Looker()).data
    part = data.only([data.samples[3], data.samples[0]])
    assert [sample.path.name for sample in part.samples] == ["3.png", "0.png"]
    assert part.landmarks[:, 1, 0].tolist() == [70, 40]
    with pytest.raises(UsageError, match="no photograph with a usable face"):
        data.only([data.samples[1]])
    with pytest.raises(UsageError, match=r"need \(2, 5, 2\) finite landmarks"):
        Landmarked(data.samples[:2], np.full((2, 5, 2), np.nan, np.float32))


def test_the_largest_face_counts(tmp_path: Path, astronaut: RGB) -> None:
    """Two faces, one half the size: the landmarks are the larger one's."""
    small = np.asarray(Image.fromarray(astronaut).resize((256, 256), Image.Resampling.LANCZOS))
    both = np.zeros((512, 768, 3), np.uint8)
    both[:256, :256], both[:, 256:] = small, astronaut
    Image.fromarray(both).save(tmp_path / "a.png")
    Image.fromarray(astronaut).save(tmp_path / "b.png")
    samples = [Sample(tmp_path / f"{n}.png", n == "b", "g" * (n == "b"), "s", "val", n, "none") for n in "ab"]
    points = locate(samples, RetinaFace()).data.landmarks
    assert np.abs(points[0] - points[1] - [256, 0]).max() < 4
