"""Clusters to look at: one self-contained page, and contact sheets as JPEG files."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from faceproof._version import VERSION
from faceproof.errors import OutputError, PictureError
from faceproof.hash_files import Duplicates, Group, Member
from faceproof.images import Limits, load
from faceproof.tables import write_atomically

__all__ = ["page", "write_sheets"]

RGB = npt.NDArray[np.uint8]
SIDE = 112
"""Side of a thumbnail, pixels."""
COLUMNS, CAPTION = 8, 16
"""Thumbnails in a row of a contact sheet; height of the line below each, pixels."""
GROUND, INK = (245, 245, 247), (60, 64, 72)

STYLE = """
:root{color-scheme:light dark;--ink:#1b1d21;--soft:#5b616b;--line:#d9dce1;--paper:#fff;--ground:#f4f5f7}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4abb6;--line:#3a3f47;--paper:#202329;--ground:#16181c}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:76rem;margin:auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:0}
p{margin:.3rem 0;max-width:60rem}.soft{color:var(--soft)}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.2rem 1.2rem .2rem 0;border-bottom:1px solid var(--line);font-weight:400}
th{color:var(--soft)}article{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;margin:1.2rem 0;
padding:1rem;break-inside:avoid}ul{list-style:none;display:flex;flex-wrap:wrap;gap:.8rem;padding:0;margin:.6rem 0 0}
li{width:7rem;font-size:.8rem;line-height:1.3;overflow-wrap:anywhere}
img,.gone{display:block;width:7rem;height:7rem;object-fit:contain;background:#8882;border-radius:.3rem}
.gone{padding:.5rem;color:var(--soft)}
"""


def page(found: Duplicates, *, limits: Limits | None = None, shown: int = 12, made: datetime | None = None) -> str:
    """Return the page as HTML text: the figures, and the clusters in `found.groups` with thumbnails.

    Args:
        found: of `hash_files.find_duplicates`.
        limits: what reading a picture once more may cost.
        shown: pictures of each cluster.
        made: time to print, now in UTC if None.
    """
    when = (made or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC")
    rows = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in _figures(found))
    limits = limits or Limits()
    body = "\n".join(_article(group, limits, shown) for group in found.groups)
    left = found.clusters - len(found.groups)
    more = f"<p class='soft'>{left:,} smaller clusters are in the CSV only.</p>" if left else ""
    # "<" inside JSON strings could close the script element; its escape cannot.
    embedded = json.dumps(found.to_dict()).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>faceproof duplicates</title><style>{STYLE}</style></head><body><main>
<h1>Near-duplicates</h1><p class="soft">{when}, faceproof {VERSION}</p><table>{rows}</table>
<p>{_reading(found)}</p>
{body}
{more}
</main><script type="application/json" id="faceproof-duplicates">{embedded}</script></body></html>
"""


def write_sheets(groups: Sequence[Group], folder: str | Path, *, limits: Limits | None = None) -> list[Path]:
    """Write one contact sheet for each cluster, `cluster-00001.jpg` and so on.

    Below each picture stands how many bits it is from the medoid; one that cannot be read now is left grey.

    Args:
        groups: of `Duplicates.groups`.
        folder: made if it is not there; sheets of the same names are replaced.
        limits: what reading a picture once more may cost.

    Raises:
        OutputError: they cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make the folder {folder} ({err.strerror or err}); check the path") from err
    paths = []
    for group in groups:
        paths.append(folder / f"cluster-{group.number:05d}.jpg")
        write_atomically(paths[-1], _sheet(group, limits or Limits()))
    return paths


def _figures(found: Duplicates) -> list[tuple[str, str]]:
    return [
        ("pictures", f"{found.pictures:,}"),
        ("clusters", f"{found.clusters:,}"),
        ("pictures in clusters", f"{found.clustered:,}"),
        ("flat, left out", f"{found.flat:,}"),
        ("not readable", f"{found.errors:,}"),
        ("hash", f"{found.kind}, within {found.radius} bits" + (", turned and mirrored" if found.rotations else "")),
        ("method", found.method),
    ]


def _reading(found: Duplicates) -> str:
    words = (
        "Every picture lies within the radius of its cluster's medoid, the picture in the middle."
        if found.method == "medoid"
        else "A cluster is everything that a chain of small steps joins: its ends may look nothing alike."
    )
    return words + " Alike pictures are no proof of a common owner: look at them."


def _article(group: Group, limits: Limits, shown: int) -> str:
    items = "".join(_item(member, limits) for member in group.members[:shown])
    more = group.size - min(shown, len(group.members))
    rest = f"<p class='soft'>and {more:,} more</p>" if more else ""
    return (
        f'<article id="cluster-{group.number}"><h2>Cluster {group.number}: {group.size:,} pictures</h2>'
        f"<ul>{items}</ul>{rest}</article>"
    )


def _item(member: Member, limits: Limits) -> str:
    small = _thumbnail(member.path, limits)
    name = html.escape(member.path, quote=True)
    turned = "" if member.view == "as it is" else f", {member.view}"
    if small is None:
        picture = '<span class="gone">cannot be shown</span>'
    else:
        data = base64.b64encode(_jpeg(small, 80)).decode()
        picture = f'<img alt="{name}" src="data:image/jpeg;base64,{data}">'
    return f"<li>{picture}{member.distance} bits{turned}<br>{name}</li>"


def _sheet(group: Group, limits: Limits) -> bytes:
    """A JPEG file: the medoid first, then the others by distance."""
    columns = min(COLUMNS, len(group.members))
    rows = -(-len(group.members) // columns)
    sheet = Image.new("RGB", (columns * SIDE, CAPTION + rows * (SIDE + CAPTION)), GROUND)
    pen = ImageDraw.Draw(sheet)
    # PIL's built-in font knows ASCII only, so names stay in the CSV.
    pen.text((4, 2), f"cluster {group.number}: {len(group.members)} of {group.size} pictures", INK)
    for place, member in enumerate(group.members):
        x, y = (place % columns) * SIDE, CAPTION + (place // columns) * (SIDE + CAPTION)
        small = _thumbnail(member.path, limits)
        if small is None:
            pen.rectangle((x + 2, y + 2, x + SIDE - 3, y + SIDE - 3), (200, 200, 204))
        else:
            sheet.paste(small, (x + (SIDE - small.width) // 2, y + (SIDE - small.height) // 2))
        pen.text((x + 4, y + SIDE + 1), f"{member.distance} bits", INK)
    return _jpeg(sheet, 88)


def _thumbnail(path: str, limits: Limits) -> Image.Image | None:
    try:
        picture = Image.fromarray(load(path, limits=limits).pixels)
    except PictureError:
        return None
    picture.thumbnail((SIDE - 4, SIDE - 4))
    return picture


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()
