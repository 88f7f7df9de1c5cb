"""A map of pictures: embeddings, a plane, colours; what the page and the CSV are made from.

Every input is in the map exactly once: as a point, or in the list of those without a place (no face, not readable).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.embeddings import EmbeddingFile, EmbeddingRecord
from faceproof.errors import MissingExtraError, PictureError, UsageError, unknown_name
from faceproof.extras import require
from faceproof.images import printable
from faceproof.layouts import LAYOUTS, cluster, layout
from faceproof.map_columns import NO_CLUSTER, read_clusters, read_columns
from faceproof.tables import spreadsheet_safe, write_atomically
from faceproof.thumbnails import Sheets, make_sheets, side_for

__all__ = ["Choice", "Missing", "PictureMap", "Point", "build_map", "check_choice", "write_csv"]

CLUSTER = "cluster"
MOST_GROUPED = 20_000
"""Pictures up to which groups are looked for unasked: HDBSCAN's time grows with the square."""
DIGITS = 4
"""Of coordinates: the plane's longer side is 1, and no screen has 10,000 pixels."""


@dataclass(frozen=True)
class Point:
    """One picture on the map: path, x to the right and y upwards (0 to 1), verdict, probability of generated."""

    path: str
    x: float
    y: float
    verdict: str
    probability: float | None

    def __post_init__(self) -> None:
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1):
            raise UsageError(f"a point lies in the unit square, not at {self.x}, {self.y}")


@dataclass(frozen=True)
class Missing:
    """One picture without a place: its path, "no_face" or "error", and the reason."""

    path: str
    status: str
    why: str


@dataclass(frozen=True)
class PictureMap:
    """What page and CSV hold.

    Attributes:
        points: in the order of the inputs.
        missing: the other inputs, in their order.
        columns: name -> one value a point, to colour by, beside the verdict.
        sheets: thumbnails of the points, in their order.
        layout: "pca" or "umap".
        notes: how the map was made, sentences.
        made_with: model, face detector, limits.
    """

    points: tuple[Point, ...]
    missing: tuple[Missing, ...]
    columns: Mapping[str, tuple[str, ...]]
    sheets: Sheets
    layout: str
    notes: tuple[str, ...]
    made_with: str

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            if len(values) != len(self.points):
                raise UsageError(f"column {name!r} has {len(values)} values for {len(self.points)} points")

    @property
    def unreadable(self) -> tuple[Missing, ...]:
        """The inputs that could not be read."""
        return tuple(one for one in self.missing if one.status == "error")


@dataclass(frozen=True)
class Choice:
    """How to make a map.

    Attributes:
        layout: of `layouts.LAYOUTS`.
        seed: of UMAP.
        manifest: a CSV with facts about the pictures, and `columns` of it (see `map_columns.read_columns`).
        clusters: the CSV of `faceproof duplicates`; None groups the embeddings where scikit-learn is installed.
        smallest: pictures a group of embeddings must have; None: see `layouts.cluster`.
    """

    layout: str = "auto"
    seed: int = 0
    manifest: str | None = None
    columns: tuple[str, ...] = ()
    clusters: str | None = None
    smallest: int | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise unknown_name("layout", self.layout, list(LAYOUTS))
        if self.columns and self.manifest is None:
            raise UsageError("columns are read from a manifest; give one with --manifest")
        if self.smallest is not None and self.clusters is not None:
            raise UsageError("give either --clusters (a file) or --min-cluster (for own groups), one of the two")


def check_choice(choice: Choice) -> None:
    """See that what was chosen is there, so that it is said before the long work.

    Raises:
        UsageError: a file is missing.
        MissingExtraError: UMAP or groups were asked for and the extra `map` is absent.
    """
    for name, said in (("--manifest", choice.manifest), ("--clusters", choice.clusters)):
        if said is not None and not Path(said).is_file():
            raise UsageError(f"{name}: no file at {printable(said)}; check the path")
    if choice.layout == "umap":
        require("map", "umap")
    if choice.smallest is not None:
        require("map", "sklearn.cluster")


def build_map(
    file: EmbeddingFile,
    paths: Sequence[str],
    choice: Choice | None = None,
    *,
    step: Callable[[str], None] = lambda what: None,
) -> PictureMap:
    """Lay out what a file of embeddings holds for `paths`.

    Args:
        file: of `embeddings.open_embeddings`.
        paths: of the pictures, as printed, in the order the map shall have.
        choice: how; `Choice()` if None.
        step: called with the name of each step as it begins.

    Raises:
        PictureError: none of the pictures has a face.
        UsageError: too many pictures, or as `layouts` and `map_columns`.
        MissingExtraError: UMAP or groups were asked for and the extra `map` is absent.
    """
    choice = choice or Choice()
    records = _records(file, paths)
    shown = [record for record in records if record.embedding is not None]
    side_for(len(shown))
    if not shown:
        raise PictureError(f"no face in any of {len(paths)} pictures, so there is nothing to map; check the folder")
    names = [record.path for record in shown]
    # What a person named comes first: a wrong file is said before the long work.
    columns = {} if choice.manifest is None else read_columns(choice.manifest, names, choice.columns)
    if choice.clusters is not None:
        columns[CLUSTER] = read_clusters(choice.clusters, names)
    embeddings = np.stack([record.embedding for record in shown if record.embedding is not None])
    notes = []
    if choice.clusters is None:
        step("grouping")
        groups, note = _groups(embeddings, choice)
        columns |= groups
        notes.append(note)
    step("laying out")
    placed = layout(embeddings, choice.layout, seed=choice.seed)
    step("making thumbnails")
    sheets = make_sheets([record.thumbnail for record in shown])
    return PictureMap(
        tuple(_points(shown, _fitted(placed.points))),
        tuple(_missing(record) for record in records if record.embedding is None),
        {name: tuple(values) for name, values in columns.items()},
        sheets, placed.method, (placed.note, *notes), file.made_with,
    )  # fmt: skip


def write_csv(path: str | Path, made: PictureMap) -> None:
    """Write path, x, y, verdict, probability, status, error and the columns; every input has a row, points first.

    Raises:
        OutputError: it cannot be written.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("path", "x", "y", "verdict", "probability", "status", "error", *made.columns))
    for place, point in enumerate(made.points):
        probability = "" if point.probability is None else point.probability
        row = (point.path, point.x, point.y, point.verdict, probability, "ok", "")
        writer.writerow(map(spreadsheet_safe, (*row, *(values[place] for values in made.columns.values()))))
    for one in made.missing:
        why = one.why if one.status == "error" else ""
        writer.writerow(map(spreadsheet_safe, (one.path, "", "", "", "", one.status, why, *("" for _ in made.columns))))
    write_atomically(path, stream.getvalue())


def _records(file: EmbeddingFile, paths: Sequence[str]) -> list[EmbeddingRecord]:
    wanted = set(paths)
    found = {record.path: record for record in file.records() if record.path in wanted}
    if lacking := wanted - found.keys():
        raise UsageError(f"{file.path} holds no record of {min(lacking)!r} and {len(lacking) - 1} others; embed them")
    return [found[path] for path in paths]


def _groups(embeddings: npt.NDArray[np.float32], choice: Choice) -> tuple[dict[str, list[str]], str]:
    """Return the cluster column, or none with the reason where scikit-learn is absent and nobody asked for it."""
    if choice.smallest is None and len(embeddings) > MOST_GROUPED:
        return {}, f"no groups: there are over {MOST_GROUPED} pictures; --min-cluster asks for them, and takes its time"
    try:
        found = cluster(embeddings, choice.smallest)
    except MissingExtraError:
        if choice.smallest is not None:
            raise
        return {}, 'no groups: they need scikit-learn (pip install "faceproof[map]") or --clusters'
    count = int(found.max())
    note = f"clusters: {count} dense groups of embeddings (HDBSCAN), {int((found == 0).sum())} pictures in none"
    return {CLUSTER: [str(number) if number else NO_CLUSTER for number in found]}, note


def _fitted(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Move and scale points evenly into the unit square, in its middle."""
    low, high = points.min(0), points.max(0)
    longest = float((high - low).max()) or 1.0
    return np.asarray(np.clip((points - (low + high) / 2) / longest + 0.5, 0, 1))


def _points(records: Sequence[EmbeddingRecord], places: npt.NDArray[np.float64]) -> list[Point]:
    return [
        Point(record.path, round(float(x), DIGITS), round(float(y), DIGITS), record.verdict or "", record.probability)
        for record, (x, y) in zip(records, places, strict=True)
    ]


def _missing(record: EmbeddingRecord) -> Missing:
    return Missing(record.path, record.status, record.error or "no face was found")
