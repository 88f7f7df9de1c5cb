"""What the flags of a scan are worth: counts from its records, rates from the model's card.

A picture is *flagged* when its most suspicious face scores at or above the operating point's threshold: that is what
the card's rates are about. The verdict `generated` asks for more (the band's upper end), so it has fewer false alarms.
The rates are those of single faces on the card's pictures; other sources, other generators, and pictures
with several faces have others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceproof._version import VERSION
from faceproof.detectors.card import Card, OperatingPoint, read_card
from faceproof.detectors.store import model_folder
from faceproof.errors import UsageError
from faceproof.images import printable
from faceproof.prevalence import Prevalence, Rate, Rates, Worth, estimate_prevalence, worth
from faceproof.tables import write_atomically
from faceproof.video_records import VIDEO_SCHEMA

__all__ = ["Case", "Summary", "Tally", "rates_of"]

SCHEMA = "faceproof.summary/1"
SPLITS = ("val", "unseen")
"""Splits of a card whose detection rate is looked at: generators as in training, and generators never met."""


def rates_of(card: Card, point: OperatingPoint, split: str = "val") -> Rates:
    """Return a model's rates at an operating point, from its card.

    The false-alarm rate is the point's own, with the photographs it rests on. The detection rate is a split's
    `tpr_at_threshold`, which cards state at their default point only.

    Raises:
        UsageError: the card states no detection rate there.
    """
    stated: Any = card.raw["metrics"]
    default = math.isclose(point.fpr, card.default_fpr, rel_tol=1e-6)
    part = stated.get(split, {}) if default and isinstance(stated, Mapping) else {}
    try:
        tpr = Rate.measured(float(part["tpr_at_threshold"]), int(part["generated"]))
        return Rates(tpr, Rate.measured(point.fpr, point.photographs))
    except (KeyError, TypeError, ValueError, UsageError):
        raise UsageError(
            f"the card of {card.identity} states no detection rate (TPR) on {split!r} at its threshold for a "
            f"false-alarm rate of {point.fpr:g}; what a flag is worth and the prevalence need it: take the default "
            "threshold of a card that has one"
        ) from None


@dataclass(frozen=True)
class Case:
    """What a scan says if generated faces are found as often as in one split of the card.

    Attributes:
        split: of the card.
        rates: at the operating point.
        worth: at the assumed prevalence; None without one.
        estimate: of the prevalence; None where it cannot be made, `why` then says why.
        why: "" where everything could be made.
    """

    split: str
    rates: Rates
    worth: Worth | None
    estimate: Prevalence | None
    why: str = ""


@dataclass(frozen=True)
class Summary:
    """What the flags of a scan are worth.

    Attributes:
        model: name and version.
        threshold, threshold_fpr: the operating point: a score, and the false-alarm rate it stands for.
        judged, flagged: pictures with a face fit to be judged, and those of them at or above the threshold.
        called: those of them with the verdict "generated".
        other_models: records in the file that another model made; they count for nothing.
        cases: one for each split of the card with a detection rate.
        notes: sentences on what could not be said.
    """

    model: str
    threshold: float
    threshold_fpr: float
    judged: int
    flagged: int
    called: int
    other_models: int
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what the summary file holds; numbers that are not finite are null."""
        found: dict[str, Any] = _plain(asdict(self))
        return {"schema": SCHEMA, "version": VERSION, **found}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Tally:
    """Counts flags while records are written or read.

    Args:
        model, fpr: as for `FaceChecker`.
        prevalence: to be assumed; None for none.
        summary: file to write what was found into; None for none. Looked at now: a long scan comes in between.
        results: file of the records.

    Raises:
        ModelError, UsageError: no such model or operating point, a prevalence that is no share, a file that cannot be.
    """

    def __init__(
        self,
        model: str | None,
        fpr: float | None,
        prevalence: float | None = None,
        *,
        summary: str | None = None,
        results: str = "",
    ) -> None:
        if summary is not None:
            _check_path(summary, results)
        self._file = summary
        if prevalence is not None and not 0 < prevalence < 1:
            raise UsageError(f"--prevalence is a share between 0 and 1, such as 0.0005, not {prevalence:g}")
        self.card, self.prevalence = read_card(model_folder(model)), prevalence
        self.point = self.card.point(fpr)
        self.judged = self.flagged = self.called = self.other = self.videos = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record of a results file; pictures without a face fit to be judged have no score."""
        if record.get("schema") == VIDEO_SCHEMA:
            self.videos += bool(record["verdict"])
            return
        score = record.get("score")
        if not isinstance(score, (int, float)):
            return
        if record.get("model") != self.card.identity:
            self.other += 1
            return
        self.judged += 1
        self.flagged += score >= round(self.point.threshold, 6)  # records hold six digits
        self.called += record["verdict"] == "generated"

    def finish(self) -> Summary:
        """Return what the flags counted so far are worth, and write it where it was to be written.

        Raises:
            OutputError: it cannot be written.
        """
        found = self.summary()
        if self._file is not None:
            text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
            write_atomically(self._file, text + "\n")
        return found

    def summary(self) -> Summary:
        """Return what the flags counted so far are worth."""
        cases, notes = [], []
        for split in SPLITS:
            try:
                cases.append(self._case(split, rates_of(self.card, self.point, split)))
            except UsageError as err:
                notes.append(str(err))
        if self.other:
            notes.append(f"{self.other} records of earlier runs were made by another model and are not counted")
        if self.videos:
            notes.append(f"{self.videos} videos are not counted: the card's rates are those of single pictures")
        return Summary(
            self.card.identity, self.point.threshold, self.point.fpr, self.judged, self.flagged, self.called,
            self.other, tuple(cases), tuple(notes),
        )  # fmt: skip

    def _case(self, split: str, rates: Rates) -> Case:
        value = None if self.prevalence is None else worth(rates, self.prevalence, self.judged)
        try:
            return Case(split, rates, value, estimate_prevalence(self.flagged, self.judged, rates))
        except UsageError as err:
            return Case(split, rates, value, None, str(err))


def _check_path(path: str, out: str) -> None:
    if Path(path).is_dir() or not Path(path).absolute().parent.is_dir():
        raise UsageError(
            f"--summary {printable(path)} is a folder or lies in none; give a file in a folder that exists"
        )
    if Path(path).absolute() == Path(out).absolute():
        raise UsageError(f"--summary and --out are the same file {printable(path)}; give two")
