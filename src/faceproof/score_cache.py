"""Scores on disk, one CSV a contender, split and chain, so that an interrupted evaluation goes on.

The first line says what the scores depend on: the contender's hash, the pictures and this version. A
file whose line differs is of another run and is measured again.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faceproof._version import VERSION
from faceproof.contenders import Spec
from faceproof.datasets import Sample
from faceproof.scoring import Facts, Reading
from faceproof.tables import well_formed, write_table

__all__ = ["Round", "data_digest", "load_round", "save_round"]

COLUMNS = (
    "path", "label", "generator", "source", "group", "status", "judged", "score",
    "width", "height", "bytes", "jpeg_quality", "face_share", "error",
)  # fmt: skip
FACTS_ONLY = "file-facts"
"""Stands for the contender where pictures are read for their facts alone."""


@dataclass(frozen=True)
class Round:
    """One pass over pictures.

    Attributes:
        split: of the samples.
        chain: what happens to them first.
        samples: the pictures, in order.
        digest: of them; made from `samples`.
    """

    split: str
    chain: str
    samples: tuple[Sample, ...]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", data_digest(self.samples))


def data_digest(samples: Sequence[Sample]) -> str:
    """Return a short hash of which pictures these are, with their labels, groups and file sizes."""
    digest = hashlib.sha256()
    for s in samples:
        try:
            size = os.stat(s.path).st_size
        except OSError:
            size = -1
        line = f"{s.path.name}|{s.source}|{s.generator}|{s.label}|{s.split}|{s.group}|{size}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _place(folder: Path, turn: Round, spec: Spec | None) -> Path:
    # The hash keeps a rehearsal, or another model of the same name, from replacing finished work.
    mark = hashlib.sha256(_first_line(turn, spec).encode()).hexdigest()[:8]
    name = f"{spec.name if spec else FACTS_ONLY}-{turn.split}-{turn.chain}"
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{mark}.csv"


def _first_line(turn: Round, spec: Spec | None) -> str:
    who = f"{spec.name} {spec.identity}" if spec else FACTS_ONLY
    text = f"faceproof {VERSION} scores; {who}; split {turn.split}; chain {turn.chain}; data {turn.digest}"
    return well_formed(" ".join(text.split()))


def save_round(folder: Path, turn: Round, spec: Spec | None, readings: Sequence[Reading]) -> Path:
    """Write one contender's part of a finished pass; return the file."""
    rows = []
    for sample, reading in zip(turn.samples, readings, strict=True):
        score = reading.scores.get(spec.name) if spec else None
        status, error = reading.status, reading.error
        if spec and status == "ok" and score is None:
            status, error = "failed", reading.failures.get(spec.name, "it has no score")
        facts = reading.facts
        rows.append([
            well_formed("/".join(sample.path.parts[-3:])), sample.label, sample.generator, sample.source, sample.group,
            status, int(reading.judged), "" if score is None else repr(score),
            facts.width, facts.height, facts.size, facts.jpeg_quality,
            "" if math.isnan(facts.face_share) else repr(facts.face_share), " ".join(well_formed(error).split()),
        ])  # fmt: skip
    path = _place(folder, turn, spec)
    write_table(path, _first_line(turn, spec), COLUMNS, rows)
    return path


def load_round(folder: Path, turn: Round, spec: Spec | None) -> list[Reading] | None:
    """Return what an earlier run has written of this pass, or None where it has to be done (again)."""
    path = _place(folder, turn, spec)
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        if stream.readline().rstrip("\n") != f"# {_first_line(turn, spec)}":
            return None
        rows = list(csv.DictReader(stream))
    if len(rows) != len(turn.samples):
        return None
    return [_reading(row, spec.name if spec else "") for row in rows]


def _reading(row: dict[str, str], name: str) -> Reading:
    failed = row["status"] == "failed"
    return Reading(
        status="ok" if failed else row["status"],
        error="" if failed else row["error"],
        judged=row["judged"] == "1",
        scores={name: float(row["score"])} if row["score"] else {},
        failures={name: row["error"]} if failed else {},
        facts=Facts(
            int(row["width"]), int(row["height"]), int(row["bytes"]), int(row["jpeg_quality"]),
            float(row["face_share"] or "nan"),
        ),
    )  # fmt: skip
