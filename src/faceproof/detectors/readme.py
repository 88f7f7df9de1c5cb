"""A model's README, made from its card: what a person reads on a hub or in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceproof.detectors.card import Card

__all__ = ["readme"]

HEAD = """---
library_name: faceproof
pipeline_tag: image-classification
license: other
license_name: stated-in-the-card
tags: [faceproof, deepfake-detection, image-forensics, onnx]
---"""
"""What the hub reads. Nothing of a card goes in, so no card can call itself anything else there."""


def readme(card: Card, files: Mapping[str, tuple[int, str]]) -> str:
    """Return the README of a model folder, Markdown with a YAML head as the Hugging Face hub reads it.

    Args:
        card: of the model.
        files: name -> (bytes, sha256) of what the folder holds besides the README.
    """
    raw: Any = card.raw
    parts = [
        HEAD,
        f"# {_text(card.name)} {_text(card.version)}",
        _text(raw.get("description", "")),
        "A model of **faceproof**: is this face a photograph, or was it generated? It gives a calibrated probability "
        "and a third answer, *inconclusive*, when neither can be defended.",
        "## Use",
        f"```sh\npip install faceproof\nfaceproof models pull SOURCE --out {_word(card.name)}\n"
        f"faceproof check --model {_word(card.name)} picture.jpg\n```",
        "## Limits", _list(raw["limits"]),
        "## Licence", _text(raw["licence"]),
        "## Measured", _metrics(raw["metrics"]),
        "## By generator and source", _details(raw["metrics"]),
        "## Thresholds", _points(card),
        "## Trained on", _data(raw["training"]),
        "## What it takes", _input(card),
        "## Files", _files(files),
        f"Made by faceproof from card.json ({_text(raw['schema'])}), which has all of this for machines, and the "
        "commands that made it. Model identity in results: "
        f"`{_code(card.identity)}`.",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _metrics(metrics: Mapping[str, Any]) -> str:
    rows = []
    for split, row in metrics.items():
        rows.append([
            _text(split), _text(row.get("photographs", "")), _text(row.get("generated", "")),
            _with(row, "auc"), _with(row, "tpr_at_fpr_1"), _with(row, "tpr_at_threshold"),
            _with(row, "fpr_at_threshold"), _number(row.get("ece")),
        ])  # fmt: skip
    head = ["pictures", "photographs", "generated", "AUC", "TPR at FPR 1 %", "TPR at the threshold", "FPR at it", "ECE"]
    return _table(head, rows) + "\n\nIn brackets: 95 % intervals, by bootstrap over groups or after Wilson."


def _details(metrics: Mapping[str, Any]) -> str:
    rows = []
    for split, row in metrics.items():
        if " after " in split:  # a chain's rows repeat these
            continue
        for name, figures in dict(row.get("auc_by_generator") or {}).items():
            low, high = figures.get("interval", (None, None))
            rows.append(
                [
                    _text(split),
                    f"generated: {_text(name)}",
                    f"AUC {_number(figures.get('auc'))} ({_number(low)} to {_number(high)})",
                ]
            )
        for name, figures in dict(row.get("fpr_by_source") or {}).items():
            low, high = figures.get("interval", (None, None))
            rows.append(
                [
                    _text(split),
                    f"photographs: {_text(name)}",
                    f"FPR {_number(figures.get('fpr'))} ({_number(low)} to {_number(high)})",
                ]
            )
    return _table(["pictures", "which", "figure"], rows) if rows else "Not measured apart."


def _points(card: Card) -> str:
    rows = [
        [
            f"{point.fpr:g}{' (default)' if point.fpr == card.default_fpr else ''}", f"{point.threshold:.3f}",
            f"{point.low:.3f} to {point.high:.3f}", str(point.photographs), _text(point.method),
        ]
        for point in card.points
    ]  # fmt: skip
    return _table(["false alarms", "score", "95 % interval", "photographs", "how"], rows)


def _data(training: Mapping[str, Any]) -> str:
    rows = [
        [_text(row.get(name, "")) for name in ("source", "label", "pictures", "licence")]
        for row in training.get("data", [])
    ]
    text = _table(["source", "class", "pictures", "licence"], rows) if rows else "Not stated."
    start = training.get("start")
    return f"{text}\n\nBegun from: {_text(start)}." if start else text


def _input(card: Card) -> str:
    spec = card.crop
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (card.mean, card.std))
    return (
        f"Crops of {spec.size} px, frame `{_code(spec.frame)}`, features `{_code(spec.features)}`; RGB in 0 to 1, less "
        f"{mean}, divided by {std}. Out comes a score, higher = more likely generated. faceproof finds "
        "and aligns the faces."
    )


def _files(files: Mapping[str, tuple[int, str]]) -> str:
    rows = [[f"`{_code(name)}`", f"{size:,}", f"`{digest}`"] for name, (size, digest) in sorted(files.items())]
    return _table(["file", "bytes", "sha256"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(lines: object) -> str:
    return "\n".join(f"- {_text(line)}" for line in (lines if isinstance(lines, list) else [lines]))


def _text(value: object) -> str:
    """A card's words as plain text: no markup, links, tables or lines of their own."""
    words = " ".join(str(value).split())
    for letter in "\\`*_[]<>|#":
        words = words.replace(letter, f"\\{letter}")
    return words


def _code(value: object) -> str:
    return " ".join(str(value).replace("`", "'").replace("|", "/").split())


def _word(value: object) -> str:
    """A name for a shell line."""
    return (
        "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in str(value)).lstrip("-.") or "model"
    )


def _with(row: Mapping[str, Any], name: str) -> str:
    interval = row.get(f"{name}_interval")
    text = _number(row.get(name))
    return f"{text} ({_number(interval[0])} to {_number(interval[1])})" if interval else text


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else ""
