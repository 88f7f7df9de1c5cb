"""Figures of an evaluation, drawn with matplotlib: ROC, reliability, robustness, score histograms.

Colours are those of Okabe and Ito (2008), told apart by colour-blind eyes; lines differ in their dashes
too. Nothing global is touched: no pyplot, no back end chosen for the caller.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.contenders import Frozen
from faceproof.evaluation import Scores
from faceproof.evaluation_run import Outcome
from faceproof.extras import require
from faceproof.figures import Figure, pick
from faceproof.metrics import wilson
from faceproof.resampling import group_weights, interval, weighted_tpr_at_fpr
from faceproof.tables import write_atomically

__all__ = ["draw", "needs", "save"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", ":")
PHOTOGRAPHS, GENERATED = "#0072B2", "#D55E00"
MAX_PANELS = 6
"""Contenders that get a panel of their own where each needs one."""
STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.3, "grid.linewidth": 0.5, "legend.frameon": False, "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"], "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip
FAMILIES = {
    "jpeg": ("JPEG quality", True),
    "webp": ("WebP quality", True),
    "thumb": ("longer side, px", True),
    "blur": ("blur, sigma in px", False),
    "noise": ("noise, sigma of 255", False),
}
"""Chains of one step and one number -> its name; True: a smaller number is the harder one."""

Axes = Any  # matplotlib is an extra: where it is absent its types are unknown


def needs() -> None:
    """Raise with the install line where matplotlib is absent.

    Raises:
        MissingExtraError: it is.
    """
    require("evaluate")


def draw(outcome: Outcome) -> dict[str, Any]:
    """Return file name without ending -> matplotlib figure, for every split.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = require("evaluate")
    drawn: dict[str, Any] = {}
    with matplotlib.rc_context(STYLE):
        for split in outcome.plan.splits if outcome.plan.specs else ():
            plain = {spec.name: outcome.scores[spec.name, split, "none"] for spec in outcome.plan.specs}
            drawn[f"roc-{split}"] = _roc(
                plain, pick(outcome.figures, split=split, chain="none"), split, min(400, outcome.plan.rounds)
            )
            drawn[f"reliability-{split}"] = _reliability(plain, outcome.frozen, split)
            drawn[f"scores-{split}"] = _histograms(plain, outcome.frozen, split)
            grid = _robustness(pick(outcome.figures, split=split, kind="all"), list(plain), split)
            if grid is not None:
                drawn[f"robustness-{split}"] = grid
    return drawn


def save(drawn: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write every figure as SVG and PNG; return name -> SVG text.

    Raises:
        OutputError: a file cannot be written.
    """
    matplotlib = require("evaluate")
    texts = {}
    for name, figure in drawn.items():
        vector, pixels = io.StringIO(), io.BytesIO()
        # A salt of its own: names inside one page's drawings must not clash, and runs must not differ.
        with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
            figure.savefig(vector, format="svg", metadata={"Date": None})
            figure.savefig(pixels, format="png", dpi=150)
        texts[name] = vector.getvalue()
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        write_atomically(folder / f"{plain}.svg", texts[name])
        write_atomically(folder / f"{plain}.png", pixels.getvalue())
    return texts


def _figure(width: float, height: float) -> Any:
    return require("evaluate", "matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def _line(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.6}


def _roc(scores: Mapping[str, Scores], figures: Sequence[Figure], split: str, rounds: int) -> Any:
    """True against false positive rate, the latter on a log axis down to one photograph."""
    figure = _figure(5.2, 4.3)
    axes = figure.add_subplot()
    floor = 1.0
    for index, (name, found) in enumerate(scores.items()):
        y, s = found.label, found.score
        photographs = int((y == 0).sum())
        floor = min(floor, 0.5 / photographs)
        rates = np.unique(np.round([0, *np.geomspace(1, photographs, 60)]) / photographs)
        weights = group_weights(found.group, strata=y, rounds=rounds)
        once = np.ones((1, len(y)), np.uint16)
        curve = [float(weighted_tpr_at_fpr(y, s, once, rate)[0]) for rate in rates]
        bands = np.array([interval(weighted_tpr_at_fpr(y, s, weights, rate)) for rate in rates])
        line = _line(index)
        at = np.maximum(rates, 0.5 / photographs)  # no false alarm at all: drawn at half a photograph
        axes.plot(at, curve, drawstyle="steps-post", **line)
        axes.fill_between(at, bands[:, 0], bands[:, 1], step="post", color=line["color"], alpha=0.15, linewidth=0)
        top = pick(figures, contender=name, kind="all", metric="auc")[0]
        text = f"{name}: AUC {top.value:.3f} ({top.low:.3f} to {top.high:.3f})"
        axes.plot([], [], label=text, **line)
    axes.set(xscale="log", xlim=(floor, 1), ylim=(0, 1.01), xlabel="photographs flagged (FPR, log)")
    axes.set(ylabel="generated found (TPR)", title=f"ROC, {split}, pictures as they are")
    marks = [rate for rate in (1e-5, 1e-4, 0.001, 0.01, 0.1, 1.0) if rate >= floor]
    axes.set_xticks(marks, [f"{100 * rate:g} %" for rate in marks])
    axes.axvline(0.01, color="0.4", linewidth=0.8, linestyle=(0, (2, 2)))
    figure.legend(loc="outside lower center", fontsize=8, ncols=1)
    return figure


def _reliability(scores: Mapping[str, Scores], frozen: Mapping[str, Frozen], split: str) -> Any:
    """Share of generated pictures against the probability said, with how many pictures say it."""
    shown = [name for name in scores if frozen[name].calibration is not None][:MAX_PANELS]
    figure = _figure(max(3.4, 3.1 * len(shown)), 3.9)
    if not shown:
        figure.text(0.5, 0.5, "no contender gives probabilities", ha="center")
        return figure
    grid = figure.subplots(2, len(shown), sharex=True, squeeze=False, height_ratios=(3, 1))
    for (upper, lower), name in zip(grid.T, shown, strict=True):
        p = frozen[name].probability(scores[name].score)
        assert p is not None  # chosen above
        _reliability_panel(upper, lower, p, scores[name].label)
        upper.set_title(name)
        lower.set_xlabel("probability said")
    grid[0, 0].set_ylabel("share generated")
    grid[1, 0].set_ylabel("pictures")
    figure.suptitle(f"Reliability, {split}", fontsize=10)
    return figure


def _reliability_panel(upper: Axes, lower: Axes, p: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> None:
    bins = np.clip((p * 10).astype(int), 0, 9)
    upper.plot([0, 1], [0, 1], color="0.5", linewidth=0.8)
    for index in range(10):
        inside = bins == index
        n, hits = int(inside.sum()), int(y[inside].sum())
        if n:
            low, high = wilson(hits, n)
            at, share = float(p[inside].mean()), hits / n
            upper.errorbar([at], [share], [[share - low], [high - share]], fmt="o", color=PHOTOGRAPHS, markersize=4)
        lower.bar(index / 10 + 0.05, n, width=0.09, color="0.6")
        lower.text(index / 10 + 0.05, n, str(n), ha="center", va="bottom", fontsize=6)
    lower.tick_params(axis="y", which="both", left=False)
    lower.grid(visible=False)
    lower.set(yscale="symlog", ylim=(0, max(10, 8 * len(p))), yticks=[], xlim=(0, 1))
    upper.set(ylim=(-0.02, 1.02))


def _histograms(scores: Mapping[str, Scores], frozen: Mapping[str, Frozen], split: str) -> Any:
    """Scores of both classes, with the threshold in force."""
    shown = list(scores)[:MAX_PANELS]
    figure = _figure(max(4.6, 3.3 * len(shown)), 2.9)
    grid = figure.subplots(1, len(shown), squeeze=False)
    for axes, name in zip(grid[0], shown, strict=True):
        y, s = scores[name].label, scores[name].score
        edges = np.linspace(s.min(), s.max() + 1e-9, 41)
        height = 0.0
        for label, colour, word in ((0, PHOTOGRAPHS, "photographs"), (1, GENERATED, "generated")):
            counts = np.histogram(s[y == label], edges)[0] / max(1, int((y == label).sum()))
            axes.stairs(counts, edges, color=colour, fill=True, alpha=0.35, linewidth=0)
            axes.stairs(counts, edges, color=colour, linewidth=1.2, linestyle="--" if label else "-", label=word)
            height = max(height, float(counts.max()))
        axes.axvline(frozen[name].threshold, color="0.2", linewidth=0.9)
        limit, left = frozen[name].threshold, frozen[name].threshold < (s.min() + s.max()) / 2
        word = f" threshold, {100 * frozen[name].default_fpr:g} % "
        axes.text(limit, 1.18 * height, word, fontsize=7, color="0.2", va="top", ha="left" if left else "right")
        axes.set(title=name, xlabel="score", yticks=[], ylim=(0, 1.2 * height))
        axes.grid(visible=False)
    grid[0, 0].set_ylabel("share of the class")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(f"Scores, {split}", fontsize=10)
    return figure


def family(chain: str) -> tuple[str, float] | None:
    """Return the step and its number for a chain of one step, such as ("jpeg", 75.0); None for others."""
    found = re.fullmatch(r"([a-z]+):?(\d+(?:\.\d+)?)", chain)
    return (found[1], float(found[2])) if found and found[1] in FAMILIES else None


def _robustness(figures: Sequence[Figure], names: Sequence[str], split: str) -> Any | None:
    """AUC (above) and TPR at 1 % (below) against each step's number; None where no step has two."""
    points: dict[str, set[float]] = {}
    for figure in figures:
        its = family(figure.chain)
        if its is not None:
            points.setdefault(its[0], set()).add(its[1])
    steps = [step for step in FAMILIES if len(points.get(step, ())) >= 1]
    if not any(len(points[step]) >= 2 for step in steps):
        return None
    drawn = _figure(1.0 + 2.0 * len(steps), 4.4)
    grid = drawn.subplots(2, len(steps), sharey="row", sharex="col", squeeze=False)
    for column, step in enumerate(steps):
        for row, metric in enumerate(("auc", "tpr_at_fpr_1")):
            for index, name in enumerate(names):
                mine = pick(figures, contender=name, metric=metric)
                _robustness_line(grid[row, column], mine, step, sorted(points[step]), _line(index), name)
        grid[1, column].set_xlabel(FAMILIES[step][0])
    for row, word in enumerate(("AUC", "TPR at FPR 1 %")):
        low = min((f.low for f in figures if f.metric == ("auc", "tpr_at_fpr_1")[row]), default=0.0)
        grid[row, 0].set(ylabel=word, ylim=(max(0.0, low - 0.03) if math.isfinite(low) else 0.0, 1.005))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=min(3, len(names)), fontsize=8)
    drawn.suptitle(f"Both classes through the same step, {split} (bars: 95 %)", fontsize=10)
    return drawn


def _robustness_line(
    axes: Axes, figures: Sequence[Figure], step: str, values: Sequence[float], line: dict[str, Any], name: str
) -> None:
    """From the plain picture on the left to the hardest on the right."""
    order = sorted(values, reverse=FAMILIES[step][1])
    found: dict[str, Figure] = {}
    for figure in figures:
        its = family(figure.chain)
        if figure.chain == "none":
            found["plain"] = figure
        elif its is not None and its[0] == step:
            found[f"{its[1]:g}"] = figure
    ticks = ["plain", *(f"{value:g}" for value in order)]
    at = [(x, found[tick]) for x, tick in enumerate(ticks) if tick in found]
    middle = np.array([f.value for _, f in at])
    spread = np.array([[f.value - f.low for _, f in at], [f.high - f.value for _, f in at]])
    known = np.maximum(np.nan_to_num(spread), 0)
    axes.errorbar([x for x, _ in at], middle, known, marker="o", markersize=3.5, elinewidth=0.8, label=name, **line)
    axes.set_xticks(range(len(ticks)), ticks)
