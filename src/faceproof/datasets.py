"""Labelled faces, from manifests or folders, and the order in which a training sees them.

A manifest is a CSV with at least `path, label, source, split, group` (and `generator` for generated
pictures; `age, sex, ethnicity, licence` where known); paths are relative to it. A folder has one folder
a split in it, with one folder a class.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceproof.errors import PictureError, UsageError
from faceproof.images import SUFFIXES, Limits, printable, read_bytes

__all__ = [
    "Sample", "Sampler", "read_data", "read_folder", "read_folders", "read_manifest",
]  # fmt: skip

LABELS = {"photograph": 0, "generated": 1}
CLASS_NAMES = {
    0: ("photograph", "photographs", "photo", "real", "reals", "0_real", "original", "nature"),
    1: ("generated", "fake", "fakes", "1_fake", "ai", "synthetic"),
}
"""Names of class folders, by label."""


@dataclass(frozen=True)
class Sample:
    """One labelled picture of a manifest."""

    path: Path
    label: int
    generator: str
    source: str
    split: str
    group: str
    licence: str
    age: str = ""
    sex: str = ""
    ethnicity: str = ""

    @property
    def stratum(self) -> str:
        """What sampling is even over: the source, and for generated pictures the generator in it."""
        return f"{self.generator}/{self.source}" if self.label else self.source


def read_manifest(path: str | Path, *, drop_straddling: bool = False) -> list[Sample]:
    """Read a manifest.

    Args:
        path: the CSV.
        drop_straddling: groups found in several splits stay only in the one furthest from fitting
            (any test split before `val` before `train`) instead of being an error.

    Raises:
        UsageError: it is missing, lacks a column, has an unknown label, or a group lies in two splits.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no manifest at {path}; give the manifest.csv of a data set")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns, rows = set(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise UsageError(f"{printable(path)} cannot be read as a manifest ({err}); give a CSV in UTF-8") from err
    lacking = {"path", "label", "source", "split", "group"} - columns
    if lacking:
        raise UsageError(f"{path} lacks the column(s) {', '.join(sorted(lacking))}")
    samples = []
    for number, row in enumerate(rows, 2):
        if row["label"] not in LABELS:
            raise UsageError(f"{path}, line {number}: label {row['label']!r}; known: {', '.join(LABELS)}")
        if not row["path"] or not row["split"] or not row["group"]:
            raise UsageError(
                f"{path}, line {number}: path, split and group must not be empty; a picture that is alone has a group "
                "of its own"
            )
        samples.append(
            Sample(
                path.parent / row["path"],
                LABELS[row["label"]],
                row.get("generator") or "",
                row["source"],
                row["split"],
                row["group"],
                row.get("licence") or "not stated",
                *(row.get(fact) or "" for fact in ("age", "sex", "ethnicity")),
            )
        )
    return _without_leaks(samples, str(path), drop_straddling)


def read_folders(
    photographs: Sequence[str | Path], generated: Sequence[str | Path], *, drop_straddling: bool = False
) -> list[Sample]:
    """Read folders of one class each, every one with a folder a split in it (`train`, `val`, `test`, ...).

    The folder's name is the source, and for generated pictures the generator too. Files of the same
    bytes are one group. (The layout of Ricker et al., 2024.)

    Args:
        photographs, generated: folders, at least one of each.
        drop_straddling: as in `read_manifest`.

    Raises:
        UsageError: a folder is missing, holds no split with pictures, or the same file lies in two splits.
    """
    if not photographs or not generated:
        raise UsageError("both classes are needed: at least one folder of photographs and one of generated pictures")
    samples: list[Sample] = []
    for label, folders in ((0, photographs), (1, generated)):
        for folder in map(Path, folders):
            found = [
                _sample(path, label, folder.name, split.name) for split in _folders(folder) for path in _pictures(split)
            ]
            if not found:
                raise UsageError(
                    f"{folder} holds no pictures in folders such as train, val or test; one of each is wanted"
                )
            samples += found
    return _without_leaks(samples, ", ".join(map(str, (*photographs, *generated))), drop_straddling)


def read_folder(path: str | Path, *, drop_straddling: bool = False) -> list[Sample]:
    """Read `path/SPLIT/CLASS/...`, the layout of most published sets; CLASS is one of `CLASS_NAMES`.

    A folder inside a class folder is a source (and generator); files beside it have the class's name.

    Raises:
        UsageError: a class folder has another name, there are no pictures, or a file lies in two splits.
    """
    path, samples = Path(path), []
    for split in _folders(path):
        for folder in _folders(split):
            label = next((label for label, names in CLASS_NAMES.items() if folder.name.lower() in names), None)
            if label is None:
                known = ", ".join(name for names in CLASS_NAMES.values() for name in names)
                raise UsageError(f"{folder}: {folder.name!r} is not a class; known names: {known}")
            for picture in _pictures(folder):
                inner = picture.relative_to(folder).parts
                samples.append(_sample(picture, label, inner[0] if len(inner) > 1 else folder.name, split.name))
    if not samples:
        raise UsageError(f"{path} holds no pictures as SPLIT/CLASS/picture (such as train/real/1.jpg)")
    return _without_leaks(samples, str(path), drop_straddling)


def read_data(path: str | Path, *, drop_straddling: bool = False) -> list[Sample]:
    """Read a manifest (a file), a folder with manifest.csv in it, or a folder of folders (`read_folder`).

    Raises:
        UsageError: there is nothing at `path`, or what is there is wrong.
    """
    path = Path(path)
    if path.is_dir() and (path / "manifest.csv").is_file():
        path = path / "manifest.csv"
    if path.is_dir():
        return read_folder(path, drop_straddling=drop_straddling)
    return read_manifest(path, drop_straddling=drop_straddling)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UsageError(f"no folder at {path}")
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as err:
        raise UsageError(
            f"{printable(path)} cannot be listed ({err.strerror or err}); check its owner and mode"
        ) from err


def _pictures(folder: Path) -> list[Path]:
    """What is named like a picture, also what cannot be read: that is told when faces are found."""
    return sorted(entry for entry in folder.rglob("*") if entry.suffix.lower() in SUFFIXES and not entry.is_dir())


def _sample(path: Path, label: int, name: str, split: str) -> Sample:
    try:
        data = read_bytes(path, Limits())
    except PictureError:  # it has no bytes to share with another
        data = os.fsencode(path)
    group = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Sample(path, label, name if label else "", name, split, group, "not stated")


def _without_leaks(samples: list[Sample], where: str, drop_straddling: bool) -> list[Sample]:
    if drop_straddling:
        return _drop_straddling(samples)
    leaks = _straddling(samples)
    if leaks:
        group, splits = next(iter(leaks.items()))
        example = next(str(sample.path) for sample in samples if sample.group == group)
        raise UsageError(
            f"{where}: {len(leaks)} group(s) lie in several splits, e.g. {group} ({example}) in "
            f"{' and '.join(splits)}; mend the data, or keep them only in the split furthest from fitting "
            "(drop_straddling=True, --drop-straddling)"
        )
    return samples


def _straddling(samples: Iterable[Sample]) -> dict[str, list[str]]:
    """Groups that lie in more than one split, with those splits."""
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    return {group: sorted(where) for group, where in splits.items() if len(where) > 1}


def _drop_straddling(samples: list[Sample]) -> list[Sample]:
    """Keep a straddling group only in the split furthest from fitting (unseen, then val)."""
    order = {"train": 0, "val": 1}
    best: dict[str, str] = {}
    for sample in samples:
        kept = best.setdefault(sample.group, sample.split)
        if order.get(sample.split, 2) > order.get(kept, 2):
            best[sample.group] = sample.split
    return [sample for sample in samples if best[sample.group] == sample.split]


@dataclass(frozen=True)
class Sampler:
    """An endless, repeatable order of samples; pictures are reshuffled when all of a kind were drawn.

    Attributes:
        samples: what is drawn from.
        seed: the order is a function of the seed and the position alone, so training can resume.
        balance: "source" (classes in turn, sources evenly), "root" (classes in turn, sources by the square
            root of their size), "class" (classes in turn) or "none".
    """

    samples: Sequence[Sample]
    seed: int = 0
    balance: str = "source"

    def indices(self, count: int) -> Iterator[int]:
        """Yield `count` positions in `samples`."""
        strata: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
        for index, sample in enumerate(self.samples):
            stratum = sample.stratum if self.balance in ("source", "root") else ""
            strata[sample.label].setdefault(stratum, []).append(index)
        if not strata[0] or not strata[1]:
            raise UsageError("training needs photographs and generated pictures; one class is empty")
        rng = np.random.default_rng(self.seed)
        if self.balance == "none":
            whole: list[int] = []
            for _ in range(count):
                whole = whole or [int(i) for i in rng.permutation(len(self.samples))]
                yield whole.pop()
            return
        decks: dict[tuple[int, str], list[int]] = {}
        rounds: list[list[str]] = [[], []]
        for position in range(count):
            label = position % 2
            if not rounds[label]:
                rounds[label] = self._round(strata[label], rng)
            stratum = rounds[label].pop()
            deck = decks.setdefault((label, stratum), [])
            if not deck:
                deck.extend(int(i) for i in rng.permutation(strata[label][stratum]))
            yield deck.pop()

    def _round(self, strata: dict[str, list[int]], rng: np.random.Generator) -> list[str]:
        """Return the strata of the next draws, shuffled: each once, or by the square root of its size."""
        names = sorted(strata)
        if self.balance == "root":
            weights = np.sqrt([len(strata[name]) for name in names])
            return [str(name) for name in rng.choice(names, size=256, p=weights / weights.sum())]
        return [str(name) for name in rng.permutation(names)]


def pool_digest(samples: Sequence[Sample]) -> str:
    """Return a short hash of which pictures, labels and splits a list holds (not of their bytes)."""
    text = "\n".join(f"{s.path.name}|{s.source}|{s.label}|{s.split}|{s.group}" for s in samples)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
