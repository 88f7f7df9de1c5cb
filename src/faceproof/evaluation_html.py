"""An evaluation as one self-contained page: tables, drawings, limits in plain words, the figures as JSON."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from faceproof.audits import MIN_SOURCE, MIN_SUBGROUP
from faceproof.evaluation import COARSE
from faceproof.evaluation_run import Outcome
from faceproof.figures import Figure, pick, to_json

__all__ = ["page"]

STYLE = """
:root{color-scheme:light dark;--ink:#1b1d21;--soft:#5b616b;--line:#d9dce1;--paper:#fff;--ground:#f4f5f7}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4abb6;--line:#3a3f47;--paper:#202329;--ground:#16181c}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:76rem;margin:auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .3rem}
p{margin:.3rem 0;max-width:60rem}.soft,caption{color:var(--soft)}
.table{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:.5rem;margin:.6rem 0;padding:.4rem .8rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}caption{text-align:left;padding:.2rem 0}
td,th{text-align:right;padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600}td:first-child,th:first-child,td.word,th.word{text-align:left}tr:last-child td{border-bottom:0}
small{color:var(--soft)}.narrow small{display:block}.narrow td,.narrow th{padding-right:.7rem;vertical-align:top}.narrow th{white-space:normal;vertical-align:bottom}figure{margin:.8rem 0;background:#fff;border:1px solid var(--line);border-radius:.5rem;padding:.4rem;overflow-x:auto}
svg{max-width:100%;height:auto;display:block;margin:auto}code{font-size:.85em;overflow-wrap:anywhere}ul{padding-left:1.2rem;max-width:60rem}
@media print{body{background:#fff}}
"""
LIMITS = (
    "Intervals are 95 %. Those of AUC and TPR resample groups (near-duplicates, one person), those of shares are Wilson's. "
    "They speak of more pictures from the same sources, not of other generators or cameras.",
    "The threshold was fixed before, on the split named in the first table. Where that is the split measured, the "
    "rates at the threshold, ECE and NLL flatter.",
    f"TPR at FPR 0.1 % rests on the one or two highest photographs while there are fewer than {COARSE}: it is marked ~.",
    "A generator's AUC is against all photographs of the split. A generator is known to a model whose training "
    "held it; only left-out figures say what happens with an unknown one.",
    "An AUC of the file facts well above .5 means that the data can be sorted without looking at faces; a detector "
    "measured on such data may owe part of its figures to that.",
    "A gap is never negative. It means something where it is well above the gap by chance.",
    f"Subgroups with fewer than {MIN_SUBGROUP} photographs do not count in a gap; sources with fewer than {MIN_SOURCE} are not "
    "held against the others. Ages, sexes and ethnicities are what the data set states, themselves estimates.",
)
NAMES = {
    "auc": "AUC",
    "average_precision": "AP",
    "eer": "EER",
    "tpr_at_fpr_1": "TPR at FPR 1 %",
    "tpr_at_fpr_01": "TPR at FPR 0.1 %",
    "balanced_accuracy": "balanced accuracy",
    "fpr_at_threshold": "FPR at threshold",
    "tpr_at_threshold": "TPR at threshold",
    "ece": "ECE",
    "nll": "NLL",
    "mean_score": "mean score",
    "spearman": "rank correlation",
    "auc_against_other_photographs": "AUC against the other photographs",
    "spread_about_half": "spread about .5",
    "fpr_at_fold_threshold": "FPR at the fold's threshold",
    "tpr_at_fold_threshold": "TPR at the fold's threshold",
}
OVERALL = (
    "auc", "average_precision", "eer", "tpr_at_fpr_1", "tpr_at_fpr_01", "balanced_accuracy", "fpr_at_threshold",
    "tpr_at_threshold", "ece", "nll",
)  # fmt: skip


def page(outcome: Outcome, drawings: Mapping[str, str], *, made: datetime | None = None) -> str:
    """Return the page as HTML text.

    Args:
        outcome: of `evaluation_run.evaluate`.
        drawings: name -> SVG text, of `plots.save`; may be empty.
        made: time to print, now in UTC if None.
    """
    when = (made or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC")
    embedded = json.dumps({"provenance": outcome.provenance, "figures": [to_json(f) for f in outcome.figures]})
    body = [_contenders(outcome)]
    for split in outcome.plan.splits if outcome.plan.specs else ():
        body += _split(outcome, split, drawings)
    body += [_left_out(outcome), _probes(outcome), _gaps(outcome), _missing(outcome)]
    limits = "".join(f"<li>{_text(limit)}</li>" for limit in LIMITS)
    # "<" inside JSON strings could close the script element; its escape cannot.
    safe = embedded.replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>faceproof evaluation</title><style>{STYLE}</style></head><body><main>
<h1>faceproof evaluation</h1><p class="soft">{when}. <code>{_text(outcome.provenance)}</code></p>
{"".join(body)}
<h2>What these figures can and cannot say</h2><ul>{limits}</ul>
</main><script type="application/json" id="faceproof-evaluation">{safe}</script></body></html>
"""


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _number(figure: Figure | None, *, coarse: bool = False) -> str:
    """Value with its interval: three digits, signs where it is a difference."""
    if figure is None or not math.isfinite(figure.value):
        return "<td></td>"
    form = "{:+.3f}" if figure.kind in ("difference", "chain") or figure.metric == "spearman" else "{:.3f}"
    text = ("~" if coarse else "") + form.format(figure.value)
    if math.isfinite(figure.low) and math.isfinite(figure.high):
        text += f" <small>{form.format(figure.low)} to {form.format(figure.high)}</small>"
    elif math.isfinite(figure.high):
        text += f" <small>up to {form.format(figure.high)}</small>"
    return f"<td>{text}</td>"


def _table(caption: str, head: Sequence[str], rows: Iterable[str], *, more: str = "") -> str:
    lines = list(rows)
    if not lines:
        return ""
    body = "".join(f"<tr>{row}</tr>" for row in lines)
    # A heading stands over its column: words to the left, numbers to the right.
    kinds = re.findall(r"<td( class=\"word\")?>", lines[0])
    cells = "".join(f"<th scope='col'{kind}>{_text(cell)}</th>" for cell, kind in zip(head, kinds, strict=True))
    return f'<div class="table"><table{more}><caption>{_text(caption)}</caption><tr>{cells}</tr>{body}</table></div>'


def _word(value: object) -> str:
    return f'<td class="word">{_text(value)}</td>'


def _first(figures: Sequence[Figure], **wanted: str) -> Figure | None:
    return next(iter(pick(figures, **wanted)), None)


def _contenders(outcome: Outcome) -> str:
    rows = []
    for spec in outcome.plan.specs:
        frozen = outcome.frozen[spec.name]
        rows.append(
            _word(spec.name) + _word(spec.kind) + _word(spec.identity[:12])
            + f"<td>{frozen.threshold:.4g} <small>for FPR {100 * frozen.default_fpr:g} %</small></td>" + _word(frozen.where)
        )  # fmt: skip
    return _table("Who was measured", ("contender", "kind", "sha256", "threshold", "fixed by"), rows)


def _split(outcome: Outcome, split: str, drawings: Mapping[str, str]) -> list[str]:
    figures = pick(outcome.figures, split=split)
    names = [spec.name for spec in outcome.plan.specs]
    parts = [f"<h2>{_text(split)}</h2>", _overall(figures, names), _drawing(drawings, f"roc-{split}")]
    parts += [_differences(figures), _drawing(drawings, f"scores-{split}"), _drawing(drawings, f"reliability-{split}")]
    parts.append(_chains(figures, names))
    parts.append(_drawing(drawings, f"robustness-{split}"))
    parts.append(_by(figures, names, "generator", "auc", "AUC by generator, against all photographs; hardest first"))
    parts.append(
        _by(figures, names, "source", "fpr_at_threshold", "False alarms by source of photographs; worst first")
    )
    return parts


def _overall(figures: Sequence[Figure], names: Sequence[str]) -> str:
    plain = pick(figures, kind="all", chain="none")
    rows = []
    for name in sorted(names, key=lambda n: -_value(_first(plain, contender=n, metric="auc"))):
        mine = pick(plain, contender=name)
        counts = [_value(_first(mine, metric=metric)) for metric in ("photographs", "generated")]
        cells = [
            _number(_first(mine, metric=metric), coarse=metric == "tpr_at_fpr_01" and counts[0] < COARSE)
            for metric in OVERALL
        ]
        rows.append(_word(name) + "".join(cells) + f"<td>{counts[0]:.0f} / {counts[1]:.0f}</td>")
    head = ("contender", *(NAMES[metric] for metric in OVERALL), "photographs / generated")
    return _table("Pictures as they are, best AUC first", head, rows, more=' class="narrow"')


def _value(figure: Figure | None) -> float:
    return figure.value if figure is not None and math.isfinite(figure.value) else 0.0


def _differences(figures: Sequence[Figure]) -> str:
    found = pick(figures, kind="difference", chain="none")
    rows = []
    for figure in pick(found, metric="auc"):
        other = _first(found, contender=figure.contender, subset=figure.subset, metric="tpr_at_fpr_1")
        clear = "yes" if figure.low > 0 or figure.high < 0 else "no"
        rows.append(_word(f"{figure.contender} {figure.subset}") + _number(figure) + _number(other) + _word(clear))
    head = ("difference", "AUC", "TPR at FPR 1 %", "AUC interval without 0")
    return _table("Paired by picture and group", head, rows)


def _chains(figures: Sequence[Figure], names: Sequence[str]) -> str:
    chains = list(dict.fromkeys(f.chain for f in pick(figures, kind="all")))
    if len(chains) < 2:
        return ""
    rows = []
    for chain in chains:
        for name in names:
            mine = pick(figures, kind="all", chain=chain, contender=name)
            drop = _first(figures, kind="chain", chain=chain, contender=name, metric="auc")
            cells = [
                _number(_first(mine, metric=m))
                for m in ("auc", "tpr_at_fpr_1", "balanced_accuracy", "fpr_at_threshold")
            ]
            rows.append(_word(chain) + _word(name) + cells[0] + _number(drop) + "".join(cells[1:]))
    head = ("chain", "contender", "AUC", "AUC minus plain", "TPR at FPR 1 %", "balanced accuracy", "FPR at threshold")
    return _table("After what happens to pictures on their way, both classes alike", head, rows)


def _by(figures: Sequence[Figure], names: Sequence[str], kind: str, metric: str, caption: str) -> str:
    found = pick(figures, kind=kind, chain="none", metric=metric)

    def hardest_first(subset: str) -> tuple[float, str]:
        worst = max(f.value for f in found if f.subset == subset)
        return (worst if kind == "generator" else -worst), subset

    rows = []
    for subset in sorted({f.subset for f in found}, key=hardest_first):
        cells = [_number(_first(found, subset=subset, contender=name)) for name in names]
        count = max(f.n for f in found if f.subset == subset)
        rows.append(_word(subset) + "".join(cells) + f"<td>{count}</td>")
    return _table(caption, (kind, *names, "pictures"), rows)


def _drawing(drawings: Mapping[str, str], name: str) -> str:
    svg = drawings.get(name, "")
    start = svg.find("<svg")
    if start < 0:
        return ""
    # The prolog and the metadata (with its links) are of no use inside a page.
    inner = re.sub(r"<metadata>.*?</metadata>", "", svg[start:], flags=re.DOTALL)
    return f'<figure role="img" aria-label="{_text(name)}">{inner}</figure>'


def _rows(figures: Sequence[Figure]) -> list[str]:
    return [
        _word(f.contender) + _word(f.split) + _word(f.subset) + _word(NAMES.get(f.metric, f.metric.replace("_", " ")))
        + _number(f) + f"<td>{f.n or ''}</td>"
        for f in figures
    ]  # fmt: skip


HEAD = ("contender", "split", "what", "figure", "value", "pictures")


def _left_out(outcome: Outcome) -> str:
    generators = sorted(pick(outcome.figures, kind="left-out generator"), key=lambda f: (f.metric, f.value))
    sources = sorted(pick(outcome.figures, kind="left-out source"), key=lambda f: -f.value)
    if not generators:
        return ""
    return (
        "<h2>Left out of training</h2>"
        + _table("Generators a model had never seen; hardest first", HEAD, _rows(generators))
        + _table("Sources of photographs a model had never seen; worst first", HEAD, _rows(sources))
    )


def _probes(outcome: Outcome) -> str:
    probes = sorted(pick(outcome.figures, kind="probe"), key=lambda f: (f.split, f.metric, f.contender))
    floor = sorted(pick(outcome.figures, kind="floor"), key=lambda f: (f.metric, -abs(f.value - 0.5)))
    if not probes:
        return ""
    return (
        "<h2>Shortcut probes</h2><p>File facts alone should not tell the classes apart, scores should not follow them, "
        "and scores should not tell one source of photographs from the others.</p>"
        + _table("File facts, and what scores make of them", HEAD, _rows(probes))
        + _table("One source of photographs against the others; furthest from .5 first", HEAD, _rows(floor))
    )


def _gaps(outcome: Outcome) -> str:
    parts = []
    for trait in ("age", "sex", "ethnicity"):
        found = pick(outcome.figures, kind=f"gap by {trait}")
        parts.append(_table(f"By {trait}", HEAD, _rows(sorted(found, key=lambda f: (f.split, f.contender, f.metric)))))
    return f"<h2>Groups of people: false alarms on photographs</h2>{''.join(parts)}" if any(parts) else ""


def _missing(outcome: Outcome) -> str:
    counts: dict[tuple[str, ...], int] = {}
    for contender, split, chain, _, label, status, _ in outcome.missing:
        key = (contender or "all", split, chain, label, status.replace("_", " "))
        counts[key] = counts.get(key, 0) + 1
    rows = ["".join(map(_word, key)) + f"<td>{count}</td>" for key, count in sorted(counts.items())]
    head = ("contender", "split", "chain", "class", "why", "pictures")
    return _table("Pictures without a score (each is listed in missing.csv)", head, rows)
