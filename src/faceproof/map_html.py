"""The map as one self-contained page: points on a canvas, thumbnails, legend, search, lasso.

Nothing is loaded from elsewhere: the content security policy allows the page's own script and style by their
hashes, and pictures as data. Names and values reach the page as JSON, and the document as text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from faceproof._version import VERSION
from faceproof.picture_map import PictureMap

__all__ = ["PAGE_SCHEMA", "page", "page_data"]

PAGE_SCHEMA = "faceproof.map/1"
PARTS = Path(__file__).parent / "pages"


def page_data(made: PictureMap) -> dict[str, Any]:
    """Return what the page's JSON holds, without the thumbnails: columns of equal length, points in order."""
    points = made.points
    return {
        "schema": PAGE_SCHEMA,
        "path": [point.path for point in points],
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "verdict": [point.verdict for point in points],
        "probability": [point.probability for point in points],
        "columns": {name: list(values) for name, values in made.columns.items()},
        "missing": [vars(one) for one in made.missing],
        "layout": made.layout,
        "notes": list(made.notes),
        "made_with": made.made_with,
    }


def page(made: PictureMap, *, when: datetime | None = None) -> str:
    """Return the page as HTML text.

    Args:
        made: of `picture_map.build_map`.
        when: time to print, now in UTC if None.
    """
    style, script = (PARTS / "map.css").read_text(encoding="utf-8"), (PARTS / "map.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    sheets = [f"data:image/jpeg;base64,{base64.b64encode(sheet).decode()}" for sheet in made.sheets.jpegs]
    data = page_data(made) | {
        "thumbnails": {"side": made.sheets.side, "per_row": made.sheets.per_row, "sheets": sheets},
        "made": f"{when or datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, faceproof {VERSION}",
    }
    # "<" inside JSON strings could close the script element; its escape cannot.
    embedded = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    body = (PARTS / "map.html").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>faceproof map</title><style>{style}</style></head>
{body}
<script type="application/json" id="faceproof-map">{embedded}</script><script>{script}</script></body></html>
"""


def _hash(text: str) -> str:
    """Return what a content security policy names an inline part by (CSP level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
