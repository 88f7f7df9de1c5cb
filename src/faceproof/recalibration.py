"""Fit a model's calibration and thresholds to other pictures, and write it as a new model folder.

The weights stay; the curve from score to log-odds, the operating points and the card change. What is
fitted on must never have been trained on: groups are held against the model's own list.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faceproof.calibration import METHODS, TAIL, class_weights, cross_fit, folds_by_group, method_named, operating_point
from faceproof.conformal import FEWEST, Conformal
from faceproof.curves import Calibration
from faceproof.detectors.card import Card, OperatingPoint, read_card
from faceproof.detectors.folders import new_folder, write_card
from faceproof.detectors.store import model_folder
from faceproof.errors import UsageError
from faceproof.fusion import SUPERVISED, Single
from faceproof.heldout import HeldOut, Progress, scored, without_trained
from faceproof.images import printable
from faceproof.metrics import ece, nll
from faceproof.pipeline import FaceChecker
from faceproof.verdict import decide

__all__ = ["FPRS", "Comparison", "Recalibration", "calibrate", "fields", "fit"]

FPRS = (0.05, 0.01, 0.001)
FOLDS = 5
FEWEST_PHOTOGRAPHS = 20
STALE = {
    "ece", "nll", "nll_balanced", "fpr_at_threshold", "fpr_at_threshold_interval", "tpr_at_threshold",
    "balanced_accuracy", "fpr_by_source",
}  # fmt: skip
"""Figures in a card that hold for its old curve and threshold only."""
ANEW = "Calibrated anew"


@dataclass(frozen=True)
class Comparison:
    """How well one method does on groups it was not fitted on; classes weigh alike.

    Attributes:
        method: name as in `METHODS`.
        ece: expected calibration error, 0 to 1; NaN where the method does not fit these scores.
        nll: mean negative log-likelihood in nats (ln 2 = 0.693 says nothing); NaN likewise.
    """

    method: str
    ece: float
    nll: float


@dataclass(frozen=True)
class Recalibration:
    """What was fitted, on what, and where it was written.

    Attributes:
        folder: the new model folder.
        model, parent: identities of the new model and of the one it was made from.
        method: name as in `METHODS`.
        calibration: its curve.
        comparisons: every method, cross-fitted by group.
        points: operating points, strictest last.
        default_fpr: the one in force.
        conformal: the judged faces' scores, for promised error rates; None with fewer than 20 of a class.
        photographs, generated, groups: judged faces fitted on, and their groups.
        faceless, not_judged, trained: pictures left out: no face; face unfit by quality; group trained on.
        unreadable: (path, why) of pictures left out because they cannot be read.
        notes: what the reader must know.
    """

    folder: Path
    model: str
    parent: str
    method: str
    calibration: Calibration
    comparisons: tuple[Comparison, ...]
    points: tuple[OperatingPoint, ...]
    default_fpr: float
    conformal: Conformal | None
    photographs: int
    generated: int
    groups: int
    faceless: int
    not_judged: int
    trained: int
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the record that --json prints: plain values, null for figures that do not exist."""
        return {
            "folder": printable(self.folder),
            "model": self.model,
            "parent": self.parent,
            "method": self.method,
            "calibration": self.calibration.to_card(),
            "cross_fitted": _compared(self.comparisons),
            "operating_points": [_point(point) for point in self.points],
            "default_fpr": self.default_fpr,
            **self.counts(),
            "unreadable": [{"path": path, "error": why} for path, why in self.unreadable],
            "notes": list(self.notes),
        }

    def counts(self) -> dict[str, int]:
        """Return how many pictures were fitted on and how many left out, by reason."""
        names = ("photographs", "generated", "groups", "faceless", "not_judged", "trained")
        return {name: getattr(self, name) for name in names}


def calibrate(
    model: str | os.PathLike[str] | None,
    data: HeldOut,
    out: str | os.PathLike[str],
    *,
    method: str = "auto",
    fprs: Sequence[float] = FPRS,
    overwrite: bool = False,
    drop_straddling: bool = False,
    command: str = "faceproof.recalibration.calibrate",
    progress: Progress = lambda done, total: None,
) -> Recalibration:
    """Fit curve and thresholds on held-out pictures and write a new model folder, all or nothing.

    Args:
        model: shipped name, model folder, or None for the default model; it is not changed.
        data: from `held_out` or `read_scores`; the latter's scores must be this model's.
        out: the new folder; its name becomes the model's.
        method: "platt", "temperature", "isotonic", or "auto": the lowest cross-fitted NLL.
        fprs: false-alarm rates of the operating points, each between 0 and 1.
        overwrite: replace an older model at `out`.
        drop_straddling: leave out pictures of groups that trained the model, instead of an error.
        command: what the card says it was made with.
        progress: called with pictures scored and pictures in all.

    Raises:
        UsageError: too few pictures, one class, scores that run the wrong way, groups that trained the
            model, most pictures unreadable, or `out` is taken.
        ModelError: the model must not be used.
        OutputError: the disk does not take the new folder.
    """
    if method != "auto":
        method_named(method)
    rates = _rates(fprs)
    folder = model_folder(model)
    card = read_card(folder)
    kept, remark = without_trained(data, folder, card, drop=drop_straddling)
    # The folder is made first: a full or locked disk shows before the work, not after.
    with new_folder(out, overwrite=overwrite) as fresh:
        if kept.scores is None:
            kept = scored(kept, FaceChecker(folder), progress)
        fitted = fit(kept, method, rates, card)
        result = replace(
            fitted,
            folder=Path(out),
            trained=len(data.samples) - len(kept.samples),
            notes=tuple(note for note in (remark, *fitted.notes) if note),
        )
        _write(fresh, _card(result, card, folder, data, command), folder, card)
        return replace(result, model=read_card(fresh).identity)


def _rates(fprs: Sequence[float]) -> tuple[float, ...]:
    for fpr in fprs:
        if not 0 < fpr < 1:
            raise UsageError(
                f"a false-alarm rate lies between 0 and 1, not {fpr:g}; 0.01 is one photograph in a hundred"
            )
    if not fprs:
        raise UsageError("no false-alarm rate is given; name at least one, such as 0.01")
    return tuple(sorted({float(f"{fpr:.6g}") for fpr in fprs}, reverse=True))


def fit(data: HeldOut, method: str, rates: Sequence[float], card: Card) -> Recalibration:
    """Fit curve and thresholds on the judged faces of scored data; nothing is written."""
    assert data.scores is not None
    judged = data.scores.judged
    y, s, groups = data.scores.label[judged], data.scores.score[judged], data.scores.group[judged]
    photographs = y == 0
    _enough(data, int(photographs.sum()), int((~photographs).sum()))
    comparisons = _compare(y, s, groups)
    chosen = method.lower() if method != "auto" else min(comparisons, key=_loss).method
    curve = METHODS[chosen](y, s)
    points = tuple(operating_point(s[photographs], groups[photographs], fpr) for fpr in rates)
    return Recalibration(
        folder=Path(),
        model="",
        parent=card.identity,
        method=chosen,
        calibration=curve,
        comparisons=comparisons,
        points=points,
        default_fpr=min(rates, key=lambda fpr: abs(math.log(fpr / card.default_fpr))),
        photographs=int(photographs.sum()),
        generated=int((~photographs).sum()),
        conformal=Conformal.of(y, s) if min(photographs.sum(), (~photographs).sum()) >= FEWEST else None,
        groups=len(set(groups.tolist())),
        faceless=data.scores.faceless,
        not_judged=int((~judged).sum()),
        trained=0,
        unreadable=data.unreadable,
        notes=tuple(_tail_note(point) for point in points if point.method == TAIL),
    )


def _enough(data: HeldOut, photographs: int, generated: int) -> None:
    """Refuse too few judged faces, saying where the pictures went."""
    assert data.scores is not None
    if photographs >= FEWEST_PHOTOGRAPHS and generated:
        return
    what = (
        f"{photographs} photographs are too few for a threshold; at least {FEWEST_PHOTOGRAPHS} are needed"
        if generated
        else "no generated face is left; both classes are needed"
    )
    raise UsageError(
        f"{data.name}: {what} (of {len(data.samples)} pictures {len(data.unreadable)} cannot be read, "
        f"{data.scores.faceless} have no face, {int((~data.scores.judged).sum())} are not fit to be judged); "
        "add pictures"
    )


def _compare(labels: Any, scores: Any, groups: Any) -> tuple[Comparison, ...]:
    """Cross-fit every method by group; a method that does not fit these scores gets NaN."""
    fold, weights = folds_by_group(labels, groups, folds=FOLDS), class_weights(labels)
    found = []
    errors: list[UsageError] = []
    for name, fit in METHODS.items():
        try:
            p = cross_fit(labels, scores, fold, fit)
            found.append(Comparison(name, ece(labels, p, weights=weights), nll(labels, p, weights=weights)))
        except UsageError as err:
            errors.append(err)
            found.append(Comparison(name, math.nan, math.nan))
    if len(errors) == len(found):
        raise errors[0]
    return tuple(found)


def _loss(one: Comparison) -> float:
    return math.inf if math.isnan(one.nll) else one.nll


def _tail_note(point: OperatingPoint) -> str:
    expected = point.photographs * point.fpr
    return (
        f"the threshold for {point.fpr:g} is extrapolated ({TAIL}): of {point.photographs} photographs "
        f"{'less than one' if expected < 1 else 'fewer than two'} would reach it; to count it takes "
        f"{math.ceil(2 / point.fpr)}"
    )


def _compared(comparisons: Iterable[Comparison]) -> dict[str, dict[str, float | None]]:
    return {
        one.method: {"ece": None, "nll": None} if math.isnan(one.nll) else {"ece": one.ece, "nll": one.nll}
        for one in comparisons
    }


def _point(point: OperatingPoint) -> dict[str, Any]:
    return {
        "fpr": point.fpr, "threshold": point.threshold, "interval": [point.low, point.high],
        "photographs": point.photographs, "method": point.method,
    }  # fmt: skip


def _part(data: HeldOut) -> str:
    return f"{data.split} of {data.name}" if data.split else f"the scores {data.name}"


def fields(result: Recalibration, data: HeldOut, command: str) -> dict[str, Any]:
    """Return a card's `calibration`, `operating_points` and `default_fpr` for what was fitted."""
    return {
        "calibration": {
            **result.calibration.to_card(),
            "prior": 0.5,
            "fitted_on": f"{_part(data)}, {result.photographs + result.generated} judged faces, classes weighted alike",
            "data": {"name": data.name, "split": data.split, "digest": data.digest},
            "counts": result.counts() | {"unreadable": len(result.unreadable)},
            "cross_fitted": {"folds": FOLDS, **_compared(result.comparisons)},
            "notes": list(result.notes),
            "command": printable(command),
        },
        "operating_points": [_point(point) | {"split": data.split or "scores"} for point in result.points],
        "default_fpr": result.default_fpr,
        "conformal": None if result.conformal is None else result.conformal.to_card(),
    }


def _card(result: Recalibration, parent: Card, folder: Path, data: HeldOut, command: str) -> dict[str, Any]:
    """Return the parent's card with what was fitted anew; figures that no longer hold are taken out."""
    raw: dict[str, Any] = json.loads(json.dumps(dict(parent.raw)))
    raw |= fields(result, data, command)
    faces, part = result.photographs + result.generated, _part(data)
    raw["parent"] = {
        "identity": parent.identity,
        "card_sha256": hashlib.sha256((folder / "card.json").read_bytes()).hexdigest(),
    }
    raw["metrics"] = _still_true(raw["metrics"])
    raw["limits"] = [line for line in raw["limits"] if not str(line).startswith(ANEW)]
    raw["limits"].append(
        f"{ANEW} on {faces} faces ({part}). Figures that depend on the curve or a threshold were taken out of the "
        f"card of {parent.identity} and not measured again; `faceproof evaluate` measures them."
    )
    # Records carry name, version and the weights' hash: the version tells this calibration from others.
    fitted = json.dumps([result.calibration.to_card(), raw["operating_points"]], sort_keys=True)
    raw["name"] = printable(Path.cwd().joinpath(result.folder).name)
    raw["version"] = f"{parent.version.split('+')[0]}+cal.{hashlib.sha256(fitted.encode()).hexdigest()[:8]}"
    return raw


def _still_true(figures: Any) -> Any:
    """Return metrics without those of the old curve and threshold, at any depth."""
    if not isinstance(figures, dict):
        return figures
    return {key: _still_true(value) for key, value in figures.items() if key not in STALE}


def _write(fresh: Path, raw: dict[str, Any], folder: Path, parent: Card) -> None:
    """Copy the weights and the list of training groups, and write the card."""
    shutil.copyfile(folder / parent.file, fresh / parent.file)
    for listed in (raw["training"].get("groups"), raw.get("mixture")):
        if listed is not None:
            shutil.copyfile(folder / listed["file"], fresh / listed["file"])
    write_card(fresh, raw)
    test = raw.get("selftest")
    if isinstance(test, dict) and "score" in test:
        # The doctor expects this verdict; the score is the weights' and stays.
        card = read_card(fresh)
        score, alone = float(test["score"]), Single(card)
        test["verdict"] = decide(score, alone.evidence({SUPERVISED: score}), (), alone.rule(None, None)).label
        write_card(fresh, raw)
