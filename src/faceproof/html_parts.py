"""Pieces of the self-contained pages about posts and studies: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from faceproof._version import VERSION

__all__ = ["bars", "day", "document", "escaped", "moment", "scatter", "table"]

STYLE = """
:root{color-scheme:light dark;--ink:#1b1d21;--soft:#5b616b;--line:#d9dce1;--paper:#fff;--ground:#f4f5f7}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4abb6;--line:#3a3f47;--paper:#202329;--ground:#16181c}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:76rem;margin:auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2rem 0 .4rem}
h3{font-size:1rem;margin:1.2rem 0 .3rem}.soft,small,caption{color:var(--soft)}p{margin:.3rem 0}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;background:var(--paper)}caption{text-align:left}
td,th{text-align:left;vertical-align:top;padding:.3rem .7rem;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{color:var(--soft);font-weight:500}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;background:var(--paper);border:1px solid var(--line)}figure{margin:.5rem 0}
.pictures{display:flex;flex-wrap:wrap;gap:.5rem}.pictures figure{width:8rem;margin:0}.pictures img{width:8rem;border-radius:.3rem}
"""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6BB1")
"""Okabe and Ito (2008), told apart by colour-blind eyes."""


def escaped(value: object) -> str:
    """Return text for HTML."""
    return html.escape(str(value), quote=True)


def document(title: str, said: str, body: str) -> str:
    """Return the page.

    Args:
        title: plain text.
        said: plain text below it.
        body: HTML.
    """
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer"><title>{escaped(title)}</title><style>{STYLE}</style></head><body><main>
<h1>{escaped(title)}</h1><p class="soft">{escaped(said)}. faceproof {VERSION}, {made}</p>
{body}
</main></body></html>
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """Return a table; numbers stand on the right, texts are escaped, empty tables say so."""
    body = ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
    if not body:
        return '<p class="soft">none</p>'
    names = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    said = f"<caption>{escaped(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{said}<thead><tr>{names}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"<td>{escaped(value)}</td>"
    return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f'<td class="n">{value:.3g}</td>'


def bars(counts: Sequence[int], label: str, *, marked: Iterable[tuple[int, int]] = (), most: int = 400) -> str:
    """Return a bar chart of counts over time.

    Args:
        counts: of each bin; joined to at most `most` bars.
        label: what it shows, plain text.
        marked: stretches of bins to mark, the first and the one after the last.
        most: bars.
    """
    step = max(1, -(-len(counts) // most))
    joined = [sum(counts[i : i + step]) for i in range(0, len(counts), step)]
    top = max(joined, default=0) or 1
    width = 1000 / max(1, len(joined))
    shapes = [
        f'<rect x="{first / step * width:.2f}" y="0" width="{max(1.5, (end - first) / step * width):.2f}" height="130" '
        'fill="#D55E00" opacity=".25"/>'
        for first, end in marked
    ]
    shapes += [
        f'<rect x="{i * width:.2f}" y="{130 - 120 * n / top:.2f}" width="{max(0.5, width - 0.3):.2f}" '
        f'height="{120 * n / top:.2f}" fill="#0072B2"/>'
        for i, n in enumerate(joined) if n
    ]  # fmt: skip
    return (
        f'<figure><svg viewBox="0 0 1000 132" role="img" aria-label="{escaped(label)}">{"".join(shapes)}</svg>'
        f'<figcaption class="soft">{escaped(label)}; the highest bar is {top:,}</figcaption></figure>'
    )


def scatter(points: Sequence[tuple[float, float, int]], label: str) -> str:
    """Return a map of points (x, y, cluster); cluster 0 is grey."""
    if not points:
        return ""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    wide, high = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    dots = "".join(
        f'<circle cx="{10 + 780 * (x - min(xs)) / wide:.1f}" cy="{10 + 430 * (y - min(ys)) / high:.1f}" r="2.5" '
        f'fill="{COLOURS[(c - 1) % len(COLOURS)] if c else "#888"}" opacity="{0.85 if c else 0.35}">'
        f"<title>{f'cluster {c}' if c else 'in no cluster'}</title></circle>"
        for x, y, c in sorted(points, key=lambda p: p[2] > 0)
    )
    return (
        f'<figure><svg viewBox="0 0 800 450" role="img" aria-label="{escaped(label)}">{dots}</svg>'
        f'<figcaption class="soft">{escaped(label)}</figcaption></figure>'
    )


def moment(seconds: float | None) -> str:
    """Return a time in words, UTC."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M")


def day(seconds: float | None) -> str:
    """Return a day, UTC."""
    return moment(seconds)[:10]
