"""Manifests, leaks, sampling and crops."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from faceproof import RetinaFace, UsageError
from faceproof.datasets import Sample, Sampler, read_manifest, training_crop
from faceproof.images import RGB

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
    with pytest.raises(UsageError, match=r"2 group\(s\) lie in several splits, e\.g\. g1 in train and unseen"):
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


def test_sampling_is_a_function_of_the_seed() -> None:
    one, two = (list(Sampler(_samples(), 3).indices(200)) for _ in range(2))
    assert one == two != list(Sampler(_samples(), 4).indices(200))
    assert list(Sampler(_samples(), 3).indices(100)) == one[:100]


def test_one_class_is_refused() -> None:
    with pytest.raises(UsageError, match="one class is empty"):
        list(Sampler([s for s in _samples() if s.label], 0).indices(2))


def test_training_crops_are_repeatable_and_hold_the_face(astronaut: RGB) -> None:
    landmarks = RetinaFace().detect(astronaut)[0].landmarks
    first = training_crop(astronaut, landmarks, 96, np.random.default_rng(5))
    np.testing.assert_array_equal(first, training_crop(astronaut, landmarks, 96, np.random.default_rng(5)))
    assert first.shape == (96, 96, 3)
    found = sum(
        bool(RetinaFace(min_confidence=0.5).detect(training_crop(astronaut, landmarks, 160, np.random.default_rng(i))))
        for i in range(20)
    )
    assert found >= 18


@pytest.mark.data
def test_the_real_manifest_has_no_leak_left(faces_data: Path) -> None:
    samples = read_manifest(faces_data / "manifest.csv", drop_straddling=True)
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert all(len(where) == 1 for where in splits.values())
    assert len(samples) > 6900
