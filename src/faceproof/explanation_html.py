"""The page of an explanation: one file, no request to anywhere."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from typing import Any

from faceproof.detectors.card import Card
from faceproof.explanation import Explanation, TestedMap

__all__ = ["explanation_page"]

STYLE = """
:root{color-scheme:light dark;--ink:#1b1d21;--soft:#5b616b;--line:#d9dce1;--paper:#fff;--ground:#f4f5f7;--warn:#b02a37;
--good:#146c43}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4abb6;--line:#3a3f47;--paper:#202329;--ground:#16181c;
--warn:#ff8d97;--good:#5bd19a}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;margin:0}
h2{font-size:1.1rem;margin:0 0 .4rem}
.soft{color:var(--soft)}.path,code{overflow-wrap:anywhere}.maps{display:grid;gap:1.2rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr))}
article{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;padding:1rem;break-inside:avoid}
article img{width:100%;height:auto;border-radius:.3rem;background:#fff}.warn{color:var(--warn);font-weight:650}
.good{color:var(--good);font-weight:650}p{margin:.4rem 0}
@media print{body{background:#fff}}
"""


def explanation_page(explanation: Explanation, card: Card, pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML text.

    Args:
        explanation: what to show.
        card: of the detector, for its limits.
        pictures: name of a map, or "spectrum" -> PNG bytes.
    """
    record = explanation.to_dict()
    # "<" inside JSON strings could close the script element; its escape cannot.
    embedded = json.dumps(record, ensure_ascii=False).replace("<", "\\u003c")
    maps = "\n".join(_map(one, explanation.answer, pictures[one.heat.name]) for one in explanation.maps)
    raw: Any = card.raw
    spectrum = explanation.spectrum
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in explanation.face.verdict.reasons)
    limits = "".join(f"<li>{_text(limit)}</li>" for limit in raw["limits"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>faceproof explanation</title><style>{STYLE}</style></head><body><main>
<h1>Why: {_text(explanation.face.verdict.label)}</h1>
<p class="path">{_text(record["path"])}</p>
<p class="soft">{_text(explanation.about)}. Model {_text(record["model"])}, faceproof {_text(record["version"])}.<br>
sha256 <code>{_text(record["sha256"] or "not read from a file")}</code></p>
<ul>{reasons}</ul>
<p>A map says where the network looked, not why. Each is held against chance: the tenth of the crop it marks is
removed, then as many random places of the same shape. A map that does no better says nothing, and is labelled so.</p>
<div class="maps">
{maps}
<article data-map="spectrum"><h2>radial power spectrum</h2>{_image("spectrum", pictures["spectrum"])}
<p class="{"warn" if spectrum.unusual else "soft"}">{_text(spectrum.sentence)}</p></article>
</div>
<h2>What this can and cannot say</h2><ul>{limits}</ul>
</main><script type="application/json" id="faceproof-explanation">{embedded}</script></body></html>
"""


def _map(one: TestedMap, answer: str, png: bytes) -> str:
    kind = "good" if one.deletion.better else "warn"
    return f"""<article data-map="{one.heat.name}" data-better="{str(one.deletion.better).lower()}">
<h2>{_text(one.heat.title)}</h2>{_image(one.heat.name, png)}
<p class="{kind}">{_text(one.deletion.sentence(answer))}</p><p class="soft">{_text(one.heat.sentence)}</p></article>"""


def _image(name: str, png: bytes) -> str:
    return f'<img alt="{_text(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
