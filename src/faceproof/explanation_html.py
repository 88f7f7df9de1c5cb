"""The page of an explanation: one file, no request to anywhere."""

from __future__ import annotations

import base64
import html
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card
from faceproof.explain.overlay import map_picture, spectrum_picture
from faceproof.explanation import Explanation, TestedMap
from faceproof.extras import opencv

__all__ = ["MAP_STYLE", "explanation_page", "map_section"]

MAP_STYLE = """
.maps{display:grid;gap:1.2rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}
.map{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;padding:1rem;break-inside:avoid}
.map h4{font-size:1rem;margin:0 0 .4rem}
.map img{display:block;width:100%;max-width:24rem;height:auto;border-radius:.3rem;background:#fff}
.map p{margin:.4rem 0;overflow-wrap:anywhere}.warn{color:var(--warn);font-weight:650}
.good{color:var(--good);font-weight:650}
"""
"""Of `map_section`; needs the colours --paper, --line, --warn, --good and the class soft."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1d21;--soft:#5b616b;--line:#d9dce1;--paper:#fff;--ground:#f4f5f7;--warn:#b02a37;
--good:#146c43}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4abb6;--line:#3a3f47;--paper:#202329;--ground:#16181c;
--warn:#ff8d97;--good:#5bd19a}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;margin:0}
h2{font-size:1.1rem;margin:0 0 .4rem}
.soft{color:var(--soft)}.path,code{overflow-wrap:anywhere}p{margin:.4rem 0}
@media print{body{background:#fff}}
"""


def explanation_page(explanation: Explanation, card: Card) -> str:
    """Return the page as HTML text; `card` is the detector's, for its limits."""
    record = explanation.to_dict()
    # "<" inside JSON strings could close the script element; its escape cannot.
    embedded = json.dumps(record, ensure_ascii=False).replace("<", "\\u003c")
    raw: Any = card.raw
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in explanation.face.verdict.reasons)
    limits = "".join(f"<li>{_text(limit)}</li>" for limit in raw["limits"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>faceproof explanation</title><style>{STYLE}{MAP_STYLE}</style></head><body><main>
<h1>Why: {_text(explanation.face.verdict.label)}</h1>
<p class="path">{_text(record["path"])}</p>
<p class="soft">Model {_text(record["model"])}, faceproof {_text(record["version"])}.<br>
sha256 <code>{_text(record["sha256"] or "not read from a file")}</code></p>
<ul>{reasons}</ul>
{map_section(explanation)}
<h2>What this can and cannot say</h2><ul>{limits}</ul>
</main><script type="application/json" id="faceproof-explanation">{embedded}</script></body></html>
"""


def map_section(explanation: Explanation) -> str:
    """Return all maps and the spectrum as HTML, pictures inside; style it with `MAP_STYLE`."""
    maps = "\n".join(_map(one, explanation) for one in explanation.maps)
    spectrum = explanation.spectrum
    return f"""<p class="{"warn" if explanation.contradicted else "soft"}">Explained: {_text(explanation.about)}.</p>
<p>A map says where the network looked, not why. Each is held against chance: the tenth of the crop it marks is
removed, then as many random places of the same shape. A map that does no better says nothing, and is labelled so.</p>
<div class="maps">
{maps}
<div class="map" data-map="spectrum"><h4>radial power spectrum</h4>
{_image("radial power spectrum", spectrum_picture(spectrum))}
<p class="{"warn" if spectrum.unusual else "soft"}">{_text(spectrum.sentence)}</p></div>
</div>"""


def _map(one: TestedMap, explanation: Explanation) -> str:
    kind, answer = "good" if one.deletion.better else "warn", explanation.answer
    shown = map_picture(one.heat, explanation.crop, one.mask, one.deletion, answer=answer)
    return f"""<div class="map" data-map="{one.heat.name}" data-better="{str(one.deletion.better).lower()}">
<h4>{_text(one.heat.title)}</h4>{_image(one.heat.title, shown)}
<p class="{kind}">{_text(one.deletion.sentence(answer))}</p>
<p class="soft">{_text(one.heat.sentence)} In {_text(one.heat.unit)}; the line holds the marked tenth.</p></div>"""


def _image(name: str, pixels: npt.NDArray[np.uint8]) -> str:
    cv2 = opencv()
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return f'<img alt="{_text(name)}" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
