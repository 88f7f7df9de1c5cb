"""One self-contained page a person can file: pictures, verdicts with their promises, evidence, maps, limits, the JSON.

It is made to be printed, too: in print every colour is light and nothing is wider than the paper.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof._version import VERSION
from faceproof.explanation import Explanation
from faceproof.explanation_html import MAP_STYLE, map_section
from faceproof.extras import opencv
from faceproof.hashing import HashedPicture
from faceproof.near_matches import Near
from faceproof.records import Face, ImageResult, Stability, Verdict
from faceproof.report_video import video_article
from faceproof.report_words import NOT_TESTED, Terms, guarantee, limits
from faceproof.video_records import AnyResult, VideoResult

__all__ = ["REPORT_SCHEMA", "Entry", "page", "shrink"]

REPORT_SCHEMA = "faceproof.report/1"
SHOWN_SIDE = 1024
"""Longer side of the embedded pictures, pixels."""

WORDS = {
    "photograph": "photograph",
    "generated": "generated",
    "inconclusive": "inconclusive",
    "no_face": "no face found",
    "error": "not readable",
}

_LIGHT = (
    "color-scheme:light;--ink:#1b1d21;--soft:#5b616b;--line:#d9dce1;--paper:#fff;--ground:#f4f5f7;--warn:#b02a37;"
    "--good:#146c43;--photograph:#146c43;--generated:#b02a37;--inconclusive:#8a5a00;--none:#4a5568;--on:#fff"
)
_DARK = (
    "--ink:#e8eaed;--soft:#a4abb6;--line:#3a3f47;--paper:#202329;--ground:#16181c;--warn:#ff8d97;--good:#5bd19a;"
    "--photograph:#5bd19a;--generated:#ff8d97;--inconclusive:#f0bf5a;--none:#a4abb6;--on:#16181c"
)
STYLE = (
    f":root{{{_LIGHT};color-scheme:light dark}}@media(prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    """
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:0}
h3{font-size:1rem;margin:1.2rem 0 .3rem}p{margin:.3rem 0}.soft{color:var(--soft)}small{color:var(--soft)}
article{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;margin:1.2rem 0;padding:1.2rem;
display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.2fr);gap:1.5rem}
@media(max-width:46rem){article{grid-template-columns:minmax(0,1fr)}}header,.wide{grid-column:1/-1;min-width:0}
h2,.path,li,td,th,p{overflow-wrap:anywhere}figure{margin:0}
svg{display:block}svg.picture{width:100%;height:auto;max-height:34rem;background:#8882;border-radius:.3rem}
.verdict{background:currentColor;border-radius:.4rem;margin-top:.6rem}
.verdict p{color:var(--on);margin:0;padding:.5rem .8rem}.verdict b{font-size:1.25rem}
.photograph{color:var(--photograph)}.generated{color:var(--generated)}.inconclusive{color:var(--inconclusive)}
.no_face,.error{color:var(--none)}table{border-collapse:collapse;width:100%;margin:.4rem 0}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);font-weight:400}
th{color:var(--soft);width:11rem}code{font-size:.85em;overflow-wrap:anywhere}ul{margin:.3rem 0;padding-left:1.2rem}
.scale{width:100%;height:auto;max-width:34rem}section.face+section.face{margin-top:1.4rem}
.counts th{width:9rem}.counts svg{width:100%;height:.8rem}
"""
    f"{MAP_STYLE}@page{{size:A4;margin:14mm}}@media print{{:root{{{_LIGHT}}}"
    """
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}body{background:#fff;font-size:10pt}
main{max-width:none;padding:0}article{display:block;border:0;border-top:2px solid #999;border-radius:0;padding:.6rem 0}
article+article{break-before:page}svg.picture{max-height:75mm}header,figure,tr,.scale,h2,h3{break-inside:avoid}h2,h3{break-after:avoid}
.maps{display:block}.map{display:inline-block;vertical-align:top;width:32.5%;border:0;padding:.3rem;font-size:.85em}
}
"""
)


@dataclass(frozen=True)
class Entry:
    """One picture or video of a report.

    Attributes:
        result: what was found.
        shown: (H, W, 3) uint8 RGB of any scale (`shrink`); None to show none.
        explanation: maps of the face that decides; None where there are none.
        notes: sentences on this picture, such as why there are no maps.
        hashed: its perceptual hashes in all views; None where there are none.
        near: what looks like it; None where it was compared with nothing.
    """

    result: AnyResult
    shown: npt.NDArray[np.uint8] | None = None
    explanation: Explanation | None = None
    notes: tuple[str, ...] = ()
    hashed: HashedPicture | None = None
    near: Near | None = None


def page(entries: Sequence[Entry], terms: Terms, *, about: str = "", facts: object = None) -> str:
    """Return the page as HTML text.

    Args:
        entries: the pictures, in order.
        terms: how they were tested.
        about: HTML that stands before the pictures, such as the counts of a scan.
        facts: the same for the embedded JSON.
    """
    records = [entry.result.to_dict() for entry in entries]
    explained = [None if one.explanation is None else one.explanation.to_dict() for one in entries]
    report = {"schema": REPORT_SCHEMA, **terms.to_dict(), "about": facts, "explanations": explained}
    report["near_matches"] = [None if one.near is None else one.near.to_dict() for one in entries]
    body = "\n".join(_article(number, entry, terms) for number, entry in enumerate(entries, 1))
    rows = "".join(_row(name, _text(value)) for name, value in terms.rows)
    cannot = "".join(f"<li>{_text(limit)}</li>" for limit in limits(terms.card))
    not_tested = "".join(f"<li>{_text(sentence)}</li>" for sentence in NOT_TESTED)
    count = f"{len(entries)} picture{'' if len(entries) == 1 else 's'}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>faceproof report</title><style>{STYLE}</style></head><body><main>
<h1>faceproof report</h1>
<p class="soft">{count} shown, {terms.made:%Y-%m-%d %H:%M} UTC, faceproof {_text(VERSION)}, model {_text(terms.card.identity)}</p>
<p>Asked of each face: is it a photograph, or was it generated?</p>
{about}{body}
<h2>How it was tested</h2><table>{rows}</table>
<h2>What was not tested</h2><ul>{not_tested}</ul>
<h2>What this can and cannot say</h2><ul>{cannot}</ul>
</main>{_embedded("faceproof-results", records)}{_embedded("faceproof-report", report)}</body></html>
"""


def _embedded(name: str, content: object) -> str:
    # "<" inside JSON strings could close the script element; its escape cannot.
    text = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _row(name: str, value: str) -> str:
    return f"<tr><th scope='row'>{_text(name)}</th><td>{value}</td></tr>"


def _article(number: int, entry: Entry, terms: Terms) -> str:
    result = entry.result
    if isinstance(result, VideoResult):
        return video_article(number, result, WORDS, entry.notes)
    outcome = result.verdict or result.status
    figure = "" if entry.shown is None else _figure(result, entry.shown)
    detail = f"<p>{_text(result.error)}</p>" if result.status == "error" else ""
    detail += "".join(_face(i, face, result) for i, face in enumerate(result.faces, 1))
    notes = "".join(f"<li>{_text(note)}</li>" for note in (*result.notes, *entry.notes))
    rows = _row("size", f"{result.width} x {result.height} pixels" if result.width else "unknown")
    rows += _row("sha256", f"<code>{_text(result.sha256 or 'not read from a file')}</code>")
    maps = ""
    if entry.explanation is not None:
        maps = f'<div class="wide"><h3>Where the score comes from</h3>{map_section(entry.explanation)}</div>'
    return f"""<article id="picture-{number}" data-verdict="{outcome}">
<header><h2 class="path">{number}. {_text(result.path)}</h2>{_banner(result, outcome, terms)}</header>
<div>{figure}</div><div>{detail}{f"<h3>Notes</h3><ul>{notes}</ul>" if notes else ""}</div>
{maps}<div class="wide"><h3>The file</h3><table>{rows}</table>{"" if entry.near is None else _near(entry.near)}</div></article>"""


def _near(near: Near) -> str:
    """What looks like the picture: neither answer gains by it, but an earlier copy may tell more than this file."""
    others = f"{near.among} other picture{'' if near.among == 1 else 's'}"
    if near.flat:
        said = "It is so flat that pictures of this kind have no telling hash; it was compared with none."
    elif not near.total:
        said = f"Among {others} none is within {near.radius} bits of it ({near.kind}, turned and mirrored copies included)."
    else:
        said = (
            f"Of {others}, {near.total} within {near.radius} bits of it ({near.kind}). They are no evidence for either answer; "
            "an older or larger copy may be the better one to test."
        )
    rows = "".join(_row(f"{one.distance} bits, {one.view}", _text(one.path)) for one in near.nearest)
    if near.total > len(near.nearest):
        rows += _row("", f"and {near.total - len(near.nearest)} more")
    return f"<h3>Near matches</h3><p>{_text(said)}</p>{f'<table class=near>{rows}</table>' if rows else ''}"


def _banner(result: ImageResult, outcome: str, terms: Terms) -> str:
    """The verdict on its colour, with what it promises."""
    face = result.decisive
    odds = "" if face is None else f", probability of generated {face.verdict.probability:.3f}"
    promise = _text(guarantee(face, result, terms.photographs))
    return f'<div class="verdict {outcome}"><p><b>{WORDS[outcome]}</b>{odds}<br>{promise}</p></div>'


def _face(number: int, face: Face, result: ImageResult) -> str:
    verdict = face.verdict
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in verdict.reasons)
    box = ", ".join(f"{value:.0f}" for value in face.box)
    pieces = sorted(verdict.evidence, key=lambda piece: -abs(piece.weight))
    evidence = "".join(_row(piece.name, f"{piece.weight:+.2f} log-odds. {_text(piece.sentence)}") for piece in pieces)
    note = " (the one that speaks for the picture)" if len(result.faces) > 1 and face is result.decisive else ""
    stability = "" if verdict.stability is None else _stability(verdict, verdict.stability)
    return f"""<section class="face" data-face="{number}"><h3>Face {number}{note}: <span class="{verdict.label}">{verdict.label}</span></h3>
{_scale(face)}
<ul>{reasons}</ul>
<table>{_row("probability of generated", f"{verdict.probability:.3f}")}
{_row("threshold", f"{verdict.threshold:.3f}, which {100 * verdict.threshold_fpr:g} % of known photographs reach")}
{_row("band without a claim", f"{verdict.band[0]:.3f} to {verdict.band[1]:.3f}")}
{_row("box", box)}</table>
<h3>Evidence, which adds up to {verdict.log_odds:+.2f} log-odds</h3><table>{evidence}
{_row("detector's raw score", f"{verdict.score:+.3f}")}</table>{stability}</section>"""


def _stability(verdict: Verdict, found: Stability) -> str:
    """The certificate: the range in words, and every perturbation's probability on the scale of the verdict."""
    flips = f"turned by {', '.join(found.flips)}" if found.flips else "no perturbation turns the answer"
    low, high = (100 + value * 200 for value in verdict.band)
    height = 12 * len(found.probabilities) + 4
    lines = "".join(
        f'<text x="0" y="{12 * n + 11}" font-size="9" fill="currentColor">{_text(chain)}</text>'
        f'<line x1="100" x2="300" y1="{12 * n + 8}" y2="{12 * n + 8}" stroke="currentColor" opacity=".2"/>'
        f'<circle data-after="{_text(chain)}" cx="{100 + 200 * value:.2f}" cy="{12 * n + 8}" r="3.5" fill="currentColor" '
        f'class="{_side(value, verdict)}"/>'
        f'<text x="338" y="{12 * n + 11}" font-size="9" text-anchor="end" fill="currentColor">{value:.3f}</text>'
        for n, (chain, value) in enumerate(found.probabilities)
    )
    return f"""<h3>Stability: the same face, saved and resized in {len(found.probabilities)} ways</h3>
<p>{found.lowest:.3f} to {found.highest:.3f}, median {found.median:.3f}; {_text(flips)}.</p>
<svg class="scale" viewBox="0 0 340 {height}" role="img" aria-label="probability of generated after each perturbation">
<rect x="{low:.1f}" y="0" width="{max(high - low, 1):.1f}" height="{height}" fill="currentColor" opacity=".15"/>{lines}</svg>"""


def _side(probability: float, verdict: Verdict) -> str:
    if probability >= verdict.band[1]:
        return "generated"
    return "photograph" if probability < verdict.band[0] else "inconclusive"


def _scale(face: Face) -> str:
    """Probability on a fixed scale from 0 to 1 with the band and the threshold."""
    verdict = face.verdict
    low, high = (value * 300 for value in verdict.band)
    at, limit = verdict.probability * 300, verdict.threshold * 300
    return f"""<svg class="scale" viewBox="-6 0 312 36" role="img" aria-label="probability {verdict.probability:.3f}, threshold {verdict.threshold:.3f}">
<rect x="0" y="10" width="300" height="8" fill="currentColor" opacity=".15"/>
<rect x="{low:.1f}" y="10" width="{max(high - low, 1):.1f}" height="8" fill="currentColor" opacity=".3"/>
<line x1="{limit:.1f}" x2="{limit:.1f}" y1="6" y2="22" stroke="currentColor" stroke-width="1.5"/>
<circle cx="{at:.1f}" cy="14" r="5.5" class="{verdict.label}" fill="currentColor"/>
<text x="0" y="33" font-size="10" fill="currentColor">0 photograph</text>
<text x="300" y="33" font-size="10" text-anchor="end" fill="currentColor">generated 1</text></svg>"""


def _figure(result: ImageResult, pixels: npt.NDArray[np.uint8]) -> str:
    width, height = result.width, result.height
    stroke = max(width, height) / 220
    shapes = []
    for number, face in enumerate(result.faces, 1):
        x0, y0, x1, y1 = face.box
        style = f'class="{face.verdict.label}" stroke="currentColor" fill="none" stroke-width="{stroke:.2f}"'
        dash = f' stroke-dasharray="{3 * stroke:.1f}"' if face.quality else ""
        shapes.append(
            f'<rect data-box="{number}" x="{x0:.2f}" y="{y0:.2f}" width="{x1 - x0:.2f}" height="{y1 - y0:.2f}" {style}{dash}/>'
        )
        shapes += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{stroke:.2f}" fill="#fff" stroke="#000" stroke-width="{stroke / 3:.2f}"/>'
            for x, y in face.landmarks
        ]
        shapes.append(
            f'<text x="{max(x0, 0) + 2 * stroke:.1f}" y="{max(y0, 0) + 9 * stroke:.1f}" font-size="{8 * stroke:.1f}" '
            f'font-weight="700" fill="#fff" stroke="#000" stroke-width="{stroke * 1.2:.2f}" paint-order="stroke">{number}</text>'
        )
    return f"""<figure><svg class="picture" viewBox="0 0 {width} {height}" role="img" aria-label="the picture with {len(result.faces)} marked faces">
<image href="{_data_url(pixels)}" width="{width}" height="{height}"/>{"".join(shapes)}</svg></figure>"""


def shrink(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the picture with its longer side at most `SHOWN_SIDE` pixels: all a page needs to keep."""
    cv2 = opencv()
    height, width = pixels.shape[:2]
    scale = SHOWN_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _data_url(pixels: npt.NDArray[np.uint8]) -> str:
    cv2 = opencv()
    _, data = cv2.imencode(".jpg", shrink(pixels)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
