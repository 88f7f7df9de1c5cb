"""The page about an import: what was recognised, what was left out, what files alone tell, and pictures."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence

import numpy as np

from faceproof.errors import PictureError
from faceproof.html_parts import document, escaped, table
from faceproof.images import Limits, load, printable
from faceproof.importing.probes import LEAST, MOST, file_probes, sample_of
from faceproof.importing.results import WORDS, Import, Picture, splits_of
from faceproof.importing.rows import KINDS
from faceproof.importing.table import LAYOUTS

__all__ = ["page"]

SHOWN = 20
"""Problems of a kind, and groups, that are named."""
STRATA = 12
"""Sources or generators of a class that are shown."""
EACH = 8
"""Pictures of each of them."""
SIDE = 128


def page(found: Import, said: str, *, limits: Limits | None = None, seed: int = 0) -> str:
    """Return the page as HTML text.

    Args:
        found: of `importing.run.import_data`.
        said: one line below the title: where the manifest lies.
        limits: what reading a picture once more may cost.
        seed: of the pictures that are shown.
    """
    parts = [
        _recognised(found), _counts(found), _probes(found, seed), _files(found), _groups(found), _problems(found),
        _pictures(found, limits or Limits(), seed),
    ]  # fmt: skip
    return document("Import", said, "\n".join(parts))


def _recognised(found: Import) -> str:
    rows = [
        (printable(each.source), f"{each.name}: {LAYOUTS[each.name].title}", each.why, ", ".join(each.also),
         f"held against {LAYOUTS[each.name].seen}")
        for each in found.recognised
    ]  # fmt: skip
    hints = "".join(f"<p><strong>{escaped(hint)}</strong></p>" for hint in found.hints)
    return (
        "<h2>What was recognised</h2>" + table(("source", "layout", "by", "looks also like", "reading"), rows) + hints
    )


def _counts(found: Import) -> str:
    splits = splits_of(found.pictures)
    counts = Counter((each.label, each.stratum, each.split) for each in found.pictures)
    rows = [
        (label, stratum, *(counts[label, stratum, split] for split in splits),
         sum(counts[label, stratum, split] for split in splits))
        for label, stratum in sorted({(label, stratum) for label, stratum, _ in counts})
    ]  # fmt: skip
    licences = Counter(each.row.licence or "not stated" for each in found.pictures)
    said = (
        f"{found.dealt:,} of {len(found.pictures):,} pictures had no split of their own, or new ones were asked for: whole "
        "groups were dealt out, evenly over generators and sources."
        if found.dealt
        else "All pictures are in the splits that their sets gave them."
    )
    return (
        "<h2>Pictures</h2>"
        + table(("class", "generator/source", *splits, "all"), rows)
        + f"<p>{said}</p>"
        + "<h3>Licences</h3>"
        + table(("licence", "pictures"), licences.most_common())
    )


def _probes(found: Import, seed: int) -> str:
    probes = file_probes(found.pictures, seed=seed)
    head = "<h2>What the files alone tell</h2>"
    if not probes:
        return f"{head}<p>Not measured: both classes need at least {LEAST} pictures of {LEAST} groups.</p>"
    worst = probes[-1].auc
    verdict = (
        "The classes cannot be told apart by their files."
        if worst < 0.6
        else "A detector trained on these files as they are can learn this instead of faces. Send both classes through "
        "the same random resizing and recompression, and measure on sets where this figure is near .5."
    )
    rows = [(probe.name, probe.auc, f"{probe.low:.3f} to {probe.high:.3f}") for probe in probes]
    return (
        f"{head}<p>AUC of a classifier that sees facts of files and no pixel, on groups it was not fitted on: .5 is "
        f"chance. {escaped(verdict)}</p>"
        + table(("facts", "AUC", "95 % interval"), rows)
        + f'<p class="soft">{probes[0].pictures:,} pictures; at most {MOST:,} of each class</p>'
    )


def _files(found: Import) -> str:
    rows = []
    for label, stratum in sorted({(each.label, each.stratum) for each in found.pictures}):
        part = [each.file for each in found.pictures if (each.label, each.stratum) == (label, stratum)]
        sizes = Counter((file.width, file.height) for file in part)
        (width, height), often = sizes.most_common(1)[0]
        formats = ", ".join(
            f"{name} {100 * n / len(part):.0f} %" for name, n in Counter(f.format for f in part).items()
        )
        quality = [file.jpeg_quality for file in part if file.jpeg_quality]
        rows.append((
            label, stratum, len(part), _spread([max(f.width, f.height) for f in part]),
            f"{width} x {height} ({100 * often / len(part):.0f} %)",
            _spread([f.width / max(1, f.height) for f in part]), formats, _spread(quality),
            _spread([f.size / max(1, f.width * f.height) for f in part]),
        ))  # fmt: skip
    head = (
        "class", "generator/source", "pictures", "longer side, px", "commonest size", "width / height", "formats",
        "JPEG quality", "bytes per pixel",
    )  # fmt: skip
    return (
        "<h3>By class</h3>"
        + table(head, rows)
        + '<p class="soft">Numbers: median, and in brackets the 5 % and 95 % quantiles.</p>'
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, middle, high = np.quantile(np.array(values, dtype=np.float64), (0.05, 0.5, 0.95))
    return f"{middle:.4g} ({low:.4g} - {high:.4g})"


def _groups(found: Import) -> str:
    said = (
        f"<p>{found.groups:,} groups; {found.alike:,} pictures look like another one (pHash), {found.both:,} groups hold "
        f"both classes, the largest has {found.largest:,} pictures. A group never lies in two splits that were dealt "
        "out here.</p>"
    )
    rows = [
        (each.group, ", ".join(f"{split} {n}" for split, n in sorted(each.splits.items())), each.example)
        for each in found.straddling[:SHOWN]
    ]
    straddling = (
        f"<h3>Groups in several of the data's own splits: {len(found.straddling):,}</h3>"
        + table(("group", "pictures by split", "one of them"), rows)
        if found.straddling
        else ""
    )
    return f"<h2>Groups</h2>{said}{straddling}"


def _problems(found: Import) -> str:
    if not len(found.notes):
        return "<h2>Left out</h2><p>Nothing.</p>"
    parts = ["<h2>Left out, and other notes</h2>"]
    for kind, meaning in KINDS.items():
        if count := found.notes.counts[kind]:
            rows = [(printable(each.name), each.why) for each in found.notes if each.kind == kind][:SHOWN]
            more = f", {len(rows)} of them here" if count > len(rows) else ""
            parts.append(table(("picture", "why"), rows, caption=f"{kind}: {meaning}: {count:,}{more}"))
    return "\n".join(parts)


def _pictures(found: Import, limits: Limits, seed: int) -> str:
    parts = []
    for word in WORDS:
        own = [each for each in found.pictures if each.label == word]
        parts.append(f"<h2>{word.capitalize()}: {len(own):,}</h2>")
        for stratum, count in Counter(each.stratum for each in own).most_common(STRATA):
            some = sample_of([each for each in own if each.stratum == stratum], EACH, seed)
            shown = "".join(_figure(each, limits) for each in some)
            parts.append(f'<h3>{escaped(stratum)}: {count:,}</h3><div class="pictures">{shown}</div>')
    return "\n".join(parts)


def _figure(each: Picture, limits: Limits) -> str:
    from PIL import Image

    try:
        small = Image.fromarray(load(each.file.path, limits=limits).pixels)
    except PictureError as err:
        return f"<figure><figcaption>{escaped(printable(each.row.name))}: {escaped(err)}</figcaption></figure>"
    small.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    data = base64.b64encode(stream.getvalue()).decode()
    name = escaped(printable(each.row.name))
    return f'<figure><img alt="{name}" title="{name}" src="data:image/jpeg;base64,{data}"></figure>'
