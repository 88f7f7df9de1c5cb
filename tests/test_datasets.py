"""Manifests, leaks, sampling and crops."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import RetinaFace, UsageError
from faceproof.datasets import Sample, Sampler, read_data, read_folders, read_manifest
from faceproof.detectors.crops import CropSpec
from faceproof.images import RGB
from faceproof.splits import check_split, leave_out, left_out_folds
from faceproof.training_crops import training_crop

ROWS = [
    ("a.jpg", "photograph", "", "s1", "train", "g1"),
    ("b.jpg", "photograph", "", "s1", "unseen", "g1"),
    ("c.jpg", "generated", "gan", "s2", "train", "g2"),
    ("d.jpg", "generated", "gan", "s2", "val", "g2"),
    ("e.jpg", "generated", "gan", "s2", "train", "g3"),
]


def _write(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "generator", "source", "split", "group"])
        writer.writerows(rows)
    return path


def test_straddling_groups_are_an_error_or_leave_training(tmp_path: Path) -> None:
    manifest = _write(tmp_path / "m.csv", ROWS)
    with pytest.raises(UsageError, match=r"2 group\(s\) lie.*, e\.g\. g1 \(.*a\.jpg\) in train and unseen"):
        read_manifest(manifest)
    kept = read_manifest(manifest, drop_straddling=True)
    assert [(s.path.name, s.split) for s in kept] == [("b.jpg", "unseen"), ("d.jpg", "val"), ("e.jpg", "train")]


def test_bad_manifests(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no manifest at"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="line 2: label 'fake'"):
        read_manifest(_write(tmp_path / "m.csv", [("a.jpg", "fake", "", "s", "train", "g")]))
    (tmp_path / "n.csv").write_text("path,label\na,photograph\n")
    with pytest.raises(UsageError, match=r"lacks the column\(s\) group, source, split"):
        read_manifest(tmp_path / "n.csv")


def _samples() -> list[Sample]:
    rows = [("p1", 0, 50), ("p2", 0, 5), ("g1", 1, 30), ("g2", 1, 3), ("g3", 1, 9)]
    return [
        Sample(Path(f"{source}-{i}"), label, "x" if label else "", source, "train", f"{source}{i}", "none")
        for source, label, count in rows
        for i in range(count)
    ]


def test_sampling_is_even_over_classes_sources_and_pictures() -> None:
    samples = _samples()
    drawn = list(Sampler(samples, 1).indices(1200))
    assert Counter(samples[i].label for i in drawn) == {0: 600, 1: 600}
    by_source = Counter(samples[i].source for i in drawn)
    assert by_source == {"p1": 300, "p2": 300, "g1": 200, "g2": 200, "g3": 200}
    pictures = Counter(drawn)
    for source in by_source:
        counts = [pictures[i] for i, s in enumerate(samples) if s.source == source]
        assert max(counts) - min(counts) <= 1


def test_sampling_by_the_root_of_the_size() -> None:
    samples = _samples()  # 50 and 5 photographs, 30, 3 and 9 generated
    drawn = list(Sampler(samples, 1, "root").indices(40000))
    assert Counter(samples[i].label for i in drawn) == {0: 20000, 1: 20000}
    by_source = Counter(samples[i].source for i in drawn)
    for one, other, ratio in (("p1", "p2", 10), ("g1", "g2", 10), ("g1", "g3", 30 / 9)):
        assert by_source[one] / by_source[other] == pytest.approx(ratio**0.5, rel=0.06)


def test_sampling_is_a_function_of_the_seed() -> None:
    one, two = (list(Sampler(_samples(), 3).indices(200)) for _ in range(2))
    assert one == two != list(Sampler(_samples(), 4).indices(200))
    assert list(Sampler(_samples(), 3).indices(100)) == one[:100]


def test_one_class_is_refused() -> None:
    with pytest.raises(UsageError, match="one class is empty"):
        list(Sampler([s for s in _samples() if s.label], 0).indices(2))


def test_training_crops_are_repeatable_and_hold_the_face(astronaut: RGB) -> None:
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    first = training_crop(astronaut, landmarks, CropSpec(96), np.random.default_rng(5))
    np.testing.assert_array_equal(first, training_crop(astronaut, landmarks, CropSpec(96), np.random.default_rng(5)))
    assert first.shape == (96, 96, 3)
    crops = [training_crop(astronaut, landmarks, CropSpec(160), np.random.default_rng(i)) for i in range(20)]
    found = sum(bool(RetinaFace(min_confidence=0.5).detect(crop)) for crop in crops)
    assert found >= 18


@pytest.mark.data
def test_the_real_manifest_has_no_leak_left(faces_data: Path) -> None:
    samples = read_manifest(faces_data / "manifest.csv", drop_straddling=True)
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert all(len(where) == 1 for where in splits.values())
    assert len(samples) > 6900


def _picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)


def test_folders_of_one_class_each(tmp_path: Path) -> None:
    shade = 0
    for folder, splits in (("ffhq", ("train", "val")), ("web", ("train",)), ("sg2", ("train", "val"))):
        for split in splits:
            for number in range(2):
                _picture(tmp_path / folder / split / "deep" / f"{number}.png", shade)
                shade += 1
    samples = read_folders([tmp_path / "ffhq", tmp_path / "web"], [tmp_path / "sg2"])
    counted = Counter((s.label, s.source, s.generator, s.split) for s in samples)
    assert counted == {
        (0, "ffhq", "", "train"): 2, (0, "ffhq", "", "val"): 2, (0, "web", "", "train"): 2,
        (1, "sg2", "sg2", "train"): 2, (1, "sg2", "sg2", "val"): 2,
    }  # fmt: skip
    assert len({s.group for s in samples}) == 10
    with pytest.raises(UsageError, match="at least one folder of photographs"):
        read_folders([], [tmp_path / "sg2"])
    (tmp_path / "none" / "train").mkdir(parents=True)
    with pytest.raises(UsageError, match="none holds no pictures"):
        read_folders([tmp_path / "none"], [tmp_path / "sg2"])
    _picture(tmp_path / "sg2" / "val" / "again.png", 6)  # the same bytes as a training picture
    with pytest.raises(UsageError, match=r"1 group\(s\) lie in several splits.*--drop-straddling"):
        read_folders([tmp_path / "ffhq"], [tmp_path / "sg2"])
    kept = read_folders([tmp_path / "ffhq"], [tmp_path / "sg2"], drop_straddling=True)
    assert Counter(s.split for s in kept if s.label) == {"train": 1, "val": 3}


def test_folder_of_splits_and_classes(tmp_path: Path) -> None:
    for number, where in enumerate(("train/real", "train/fake/sdxl", "val/0_real/lfw", "val/1_fake")):
        _picture(tmp_path / where / "x.jpg", 40 * number)
    samples = read_data(tmp_path)
    assert [(s.split, s.label, s.source, s.generator) for s in samples] == [
        ("train", 1, "sdxl", "sdxl"), ("train", 0, "real", ""), ("val", 0, "lfw", ""), ("val", 1, "1_fake", "1_fake"),
    ]  # fmt: skip
    (tmp_path / "val" / "maybe").mkdir()
    with pytest.raises(UsageError, match=r"'maybe' is not a class; known names: photograph, .*real.*fake"):
        read_data(tmp_path)
    with pytest.raises(UsageError, match="no pictures as SPLIT/CLASS"):
        read_data(tmp_path / "train" / "fake")
    with pytest.raises(UsageError, match="no manifest at"):
        read_data(tmp_path / "absent")


def test_a_folder_with_a_manifest_is_its_manifest(tmp_path: Path) -> None:
    _write(tmp_path / "manifest.csv", ROWS)
    assert read_data(tmp_path, drop_straddling=True) == read_manifest(tmp_path / "manifest.csv", drop_straddling=True)


def test_a_split_has_both_classes() -> None:
    samples = _samples()
    assert check_split(samples, "train") == samples
    with pytest.raises(UsageError, match="split 'val' is empty; the data has: train"):
        check_split(samples, "val")
    with pytest.raises(UsageError, match="holds generated pictures only"):
        check_split([s for s in samples if s.label], "train")


def test_leaving_out_takes_whole_groups_and_everything_named() -> None:
    samples = [
        Sample(Path(f"{i}"), i % 2, f"gen{i % 6}" if i % 2 else "", f"src{i % 8}", "train", f"g{i // 3}", "none")
        for i in range(48)
    ]
    fold = leave_out(samples, ["gen1"], ["src2"])
    assert {s.generator for s in fold.held if s.label} == {"gen1"}
    assert {s.source for s in fold.held if not s.label} == {"src2"}
    assert not {s.group for s in fold.fit} & {s.group for s in fold.held}
    assert all(s.generator != "gen1" and (s.label or s.source != "src2") for s in fold.fit)
    with pytest.raises(UsageError, match="no generator 'gen9'"):
        leave_out(samples, ["gen9"], ["src2"])
    with pytest.raises(UsageError, match="only one class"):
        leave_out(samples, ["gen1"], [])


@pytest.mark.parametrize("count", [None, 2])
def test_folds_leave_everything_out_once(count: int | None) -> None:
    samples = [
        Sample(Path(f"{i}"), i % 2, f"gen{i % 6}" if i % 2 else "", f"src{i % 8}", "train", f"g{i}", "none")
        for i in range(48)
    ]
    folds = list(left_out_folds(samples, count))
    assert len(folds) == (count or 3)
    held = [s for fold in folds for s in fold.held]
    assert Counter(s.path for s in held) == Counter(s.path for s in samples)
    for fold in folds:
        assert not {s.generator for s in fold.fit if s.label} & set(fold.generators)
        assert not {s.source for s in fold.fit if not s.label} & set(fold.sources)
    with pytest.raises(UsageError, match="cannot be made of 3 generators"):
        list(left_out_folds(samples, 4))
    assert [fold.generators for fold in left_out_folds(samples, only=["gen5", "gen1"])] == [("gen5",), ("gen1",)]
    with pytest.raises(UsageError, match="no generator 'gen2'"):
        list(left_out_folds(samples, only=["gen2", "gen1"]))


def test_sampling_by_class_and_not_at_all() -> None:
    samples = _samples()  # 55 photographs, 42 generated
    drawn = list(Sampler(samples, 1, "class").indices(55 * 42 * 2))
    assert Counter(samples[i].label for i in drawn) == {0: 2310, 1: 2310}
    assert set(Counter(i for i in drawn if not samples[i].label).values()) == {42}
    assert set(Counter(i for i in drawn if samples[i].label).values()) == {55}
    plainly = list(Sampler(samples, 1, "none").indices(97 * 3))
    assert set(Counter(plainly).values()) == {3}
    assert sorted(plainly[:97]) == list(range(97))
    for balance in ("source", "root", "class", "none"):
        one, longer = (list(Sampler(samples, 5, balance).indices(count)) for count in (150, 700))
        assert longer[:150] == one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"lacks the column\(s\) group, label, path, source, split"),
        (b"\xff\xfe\x00p", "cannot be read as a manifest"),
        (b"path,label,source,split,group\na.jpg\n", "line 2: label None"),
        (b"path,label,source,split,group\n,generated,s,train,g\n", "line 2: path, split and group must not be empty"),
        (b"path,label,source,split,group\na,generated,s,train,\n", "line 2: path, split and group must not be empty"),
    ],
)
def test_manifests_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_an_empty_manifest_has_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,source,split,group\n")
    assert read_manifest(tmp_path / "m.csv") == []
    with pytest.raises(UsageError, match="split 'train' is empty; the data has: no pictures at all"):
        check_split([], "train")


def test_a_manifest_of_a_spreadsheet(tmp_path: Path) -> None:
    """With the byte order mark that spreadsheets write."""
    (tmp_path / "m.csv").write_text("path,label,source,split,group\na.jpg,generated,s,train,g\n", encoding="utf-8-sig")
    assert read_manifest(tmp_path / "m.csv")[0].path == tmp_path / "a.jpg"


def test_what_cannot_be_read_is_not_passed_over_in_a_folder(tmp_path: Path) -> None:
    """It stays in the list, where finding faces names it; reading the folder neither stops nor waits at a pipe."""
    import os

    _picture(tmp_path / "train" / "real" / "good.jpg", 10)
    folder = tmp_path / "train" / "fake"
    _picture(folder / "good.jpg", 20)
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "folder.jpg").mkdir()
    samples = read_data(tmp_path)
    assert [s.path.name for s in samples if s.label] == ["gone.jpg", "good.jpg", "loop.jpg", "pipe.jpg"]
    assert len({s.group for s in samples}) == 5
