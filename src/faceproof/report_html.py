"""One self-contained page a person can file: pictures, boxes, numbers, limits, and the JSON itself."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card
from faceproof.extras import opencv
from faceproof.records import Face, ImageResult
from faceproof.report_video import video_article
from faceproof.video_records import AnyResult, VideoResult

__all__ = ["page", "shrink"]

SHOWN_SIDE = 1024
"""Longer side of the embedded pictures, pixels."""

WORDS = {
    "photograph": "photograph",
    "generated": "generated",
    "inconclusive": "inconclusive",
    "no_face": "no face found",
    "error": "not readable",
}

STYLE = """
:root{color-scheme:light dark;--ink:#1b1d21;--soft:#5b616b;--line:#d9dce1;--paper:#fff;--ground:#f4f5f7;
--photograph:#146c43;--generated:#b02a37;--inconclusive:#8a5a00;--none:#4a5568}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4abb6;--line:#3a3f47;--paper:#202329;--ground:#16181c;
--photograph:#5bd19a;--generated:#ff8d97;--inconclusive:#f0bf5a;--none:#a4abb6}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:0}
h3{font-size:1rem;margin:1.2rem 0 .3rem}p{margin:.3rem 0}.soft{color:var(--soft)}small{color:var(--soft)}
article{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;margin:1.2rem 0;padding:1.2rem;
display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.2fr);gap:1.5rem;break-inside:avoid}
@media(max-width:46rem){article{grid-template-columns:1fr}}header,.wide{grid-column:1/-1}
.path{overflow-wrap:anywhere}figure{margin:0}svg.picture{width:100%;height:auto;max-height:34rem;background:#8882;border-radius:.3rem}
.tag{display:inline-block;border:2px solid currentColor;border-radius:99rem;padding:.05rem .8rem;font-weight:650}
.photograph{color:var(--photograph)}.generated{color:var(--generated)}.inconclusive{color:var(--inconclusive)}
.no_face,.error{color:var(--none)}table{border-collapse:collapse;width:100%;margin:.4rem 0}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);font-weight:400}
th{color:var(--soft);width:11rem}code{font-size:.85em;overflow-wrap:anywhere}ul{margin:.3rem 0;padding-left:1.2rem}
.scale{width:100%;height:2.6rem;display:block}section.face+section.face{margin-top:1.4rem}
@media print{body{background:#fff}article{border-color:#999}}
"""


def page(
    entries: Iterable[tuple[AnyResult, npt.NDArray[np.uint8] | None]], card: Card, *, made: datetime | None = None
) -> str:
    """Return the page as HTML text.

    Args:
        entries: results, each with its picture (H, W, 3) uint8 RGB (of any scale, see `shrink`), or
            None to show none.
        card: of the detector, for the limits.
        made: time to print, now in UTC if None.
    """
    entries = list(entries)
    when = (made or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC")
    records = [result.to_dict() for result, _ in entries]
    # "<" inside JSON strings could close the script element; its escape cannot.
    embedded = json.dumps(records, ensure_ascii=False).replace("<", "\\u003c")
    body = "\n".join(_article(number, result, pixels) for number, (result, pixels) in enumerate(entries, 1))
    version = _text(entries[0][0].version) if entries else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>faceproof report</title><style>{STYLE}</style></head><body><main>
<h1>faceproof report</h1>
<p class="soft">{len(entries)} picture{"" if len(entries) == 1 else "s"} checked, {when}, faceproof {version}, model {_text(card.identity)}</p>
{body}
{_limits(card)}
</main><script type="application/json" id="faceproof-results">{embedded}</script></body></html>
"""


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _article(number: int, result: AnyResult, pixels: npt.NDArray[np.uint8] | None) -> str:
    if isinstance(result, VideoResult):
        return video_article(number, result, WORDS)
    outcome = result.verdict or result.status
    figure = _figure(result, pixels) if pixels is not None else ""
    if result.status == "error":
        detail = f"<p>{_text(result.error)}</p>"
    elif result.status == "no_face":
        detail = "<p>No face was found, so there is no verdict. Faces under about 16 pixels are not found.</p>"
    else:
        detail = "".join(_face(i, face, result) for i, face in enumerate(result.faces, 1))
    notes = "".join(f"<li>{_text(note)}</li>" for note in result.notes)
    rows = [
        ("size", f"{result.width} x {result.height} pixels" if result.width else "unknown"),
        ("sha256", f"<code>{_text(result.sha256 or 'not read')}</code>"),
        ("face detector", _text(result.face_detector)),
    ]
    table = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f"""<article id="picture-{number}" data-verdict="{outcome}">
<header><h2 class="path">{number}. {_text(result.path)}</h2><p><span class="tag {outcome}">{WORDS[outcome]}</span></p></header>
<div>{figure}</div><div>{detail}{f"<h3>Reading it</h3><ul>{notes}</ul>" if notes else ""}</div>
<div class="wide"><table>{table}</table></div></article>"""


def _face(number: int, face: Face, result: ImageResult) -> str:
    verdict = face.verdict
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in verdict.reasons)
    box = ", ".join(f"{value:.0f}" for value in face.box)
    evidence = "".join(
        f"<tr><th scope='row'>{_text(piece.name)}</th><td>{piece.weight:+.2f} log-odds. {_text(piece.sentence)}</td></tr>"
        for piece in verdict.evidence
    )
    note = " (the one that speaks for the picture)" if len(result.faces) > 1 and face is result.decisive else ""
    return f"""<section class="face" data-face="{number}"><h3>Face {number}{note}: <span class="{verdict.label}">{verdict.label}</span></h3>
{_scale(face)}
<table><tr><th scope="row">probability of generated</th><td>{verdict.probability:.3f}</td></tr>
<tr><th scope="row">threshold</th><td>{verdict.threshold:.3f}, which {100 * verdict.threshold_fpr:g} % of known photographs reach</td></tr>
<tr><th scope="row">log-odds</th><td>{verdict.log_odds:+.2f}, the sum of the evidence</td></tr>
<tr><th scope="row">band without a claim</th><td>{verdict.band[0]:.3f} to {verdict.band[1]:.3f}</td></tr>
<tr><th scope="row">score</th><td>{verdict.score:+.3f}</td></tr>{evidence}
{_stability(face)}
<tr><th scope="row">box</th><td>{box}</td></tr></table><ul>{reasons}</ul></section>"""


def _stability(face: Face) -> str:
    """Rows of the stability certificate: the range, and every perturbation with its probability."""
    found = face.verdict.stability
    if found is None:
        return ""
    after = ", ".join(
        f"<b>{_text(chain)} {value:.3f}</b>" if chain in found.flips else f"{_text(chain)} {value:.3f}"
        for chain, value in found.probabilities
    )
    flips = f"turned by {_text(', '.join(found.flips))}" if found.flips else "no perturbation turns the answer"
    return f"""<tr><th scope="row">stability</th><td>{found.lowest:.3f} to {found.highest:.3f}, median {found.median:.3f}; {flips}<br><small>{after}</small></td></tr>"""


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


def _limits(card: Card) -> str:
    raw: Any = card.raw
    limits = "".join(f"<li>{_text(limit)}</li>" for limit in raw["limits"])
    return f"""<h2>What this can and cannot say</h2>
<ul><li>The probability assumes that {card.prior:.0%} of the faces asked about are generated. Where fewer are, a flag is worth less.</li>
{limits}
<li>A verdict is one piece of evidence. Look for the picture's origin before you accuse anyone.</li></ul>"""
