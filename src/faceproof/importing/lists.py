"""Layouts that a JSON or CSV tells. Each has two functions: what it is recognised by, and its rows."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from faceproof.errors import UsageError
from faceproof.exif_data import TAGS, camera_name
from faceproof.exif_import import split_of as camera_split
from faceproof.importing.folders import parts_of, stem_of, unlabelled
from faceproof.importing.rows import Box, Notes, Row, label_of, split_of
from faceproof.importing.tree import Tree
from faceproof.remote import is_url

__all__ = [
    "coco", "coco_rows", "darwin", "darwin_rows", "fdf", "fdf_rows", "ffhq", "ffhq_rows", "manifest", "manifest_rows",
]  # fmt: skip

MOST_BOXES = 1000
LONGEST_TEXT = 200


def _words(value: object) -> str:
    """Text of a list as a manifest can hold it: one line, printable, short; "" for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)[:LONGEST_TEXT]).split())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _box(values: object, name: str = "") -> Box | None:
    """x, y, width, height of a list; None where they are no box."""
    numbers = values if isinstance(values, (list, tuple)) else ()
    if len(numbers) != 4 or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in numbers):
        return None
    if not all(math.isfinite(v) for v in numbers):
        return None
    x, y, width, height = (float(v) for v in numbers)
    return Box(x, y, width, height, name)


# ---- FFHQ (https://github.com/NVlabs/ffhq-dataset)

_FFHQ_LIST = "ffhq-dataset-v2.json"
_FFHQ_PICTURE = re.compile(r"(?:^|/)(\d\d)000/(\1\d{3})\.(?:png|jpe?g|webp)$")
_FFHQ_FIT = 60_000
"""The first so many are for training, the others for validation (its README)."""


def ffhq(tree: Tree) -> str:
    """Its list, or folders 00000, 01000, ... with the pictures of these numbers."""
    if place := _named(tree, _FFHQ_LIST):
        return f"the list {place}"
    example = next((name for name in tree.pictures if _FFHQ_PICTURE.search(name)), None)
    return f"numbered folders ({example})" if example else ""


def ffhq_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Photographs; faces of one Flickr photograph are one group. The list tells licence, split and photograph."""
    place = _named(tree, _FFHQ_LIST)
    listed = {}
    for key, entry in tree.entries(place) if place else ():
        if not key.isdecimal() or not isinstance(entry, Mapping):
            notes.add("broken", f"{place}: {key[:40]!r}", "an entry without a number or content")
            continue
        said = _mapping(entry.get("metadata"))
        split = split_of(_words(entry.get("category")))
        listed[int(key)] = (
            split,
            _words(said.get("license")),
            _words(said.get("photo_url")),
            _words(said.get("author")),
        )
    for name in tree.pictures:
        found = _FFHQ_PICTURE.search(name)
        number = int(stem_of(name)) if found or (stem_of(name).isdecimal() and len(stem_of(name)) == 5) else None
        if number is None:
            yield unlabelled(name)
            continue
        split, licence, photo, author = listed.get(number, ("", "", "", ""))
        if listed and number not in listed:
            notes.add("unlisted", name)
        split = split or ("train" if number < _FFHQ_FIT else "val")
        groups = (f"ffhq-{number}", *((f"photo {photo}",) if photo else ()))
        facts = {"author": author, "photo_url": photo} if photo else {}
        yield Row(name, 0, "", "ffhq", split, groups, licence or "FFHQ, CC BY-NC-SA 4.0", facts=facts)


def _named(tree: Tree, name: str) -> str:
    return next((each for each in tree.names if each.rpartition("/")[2] == name), "")


# ---- FDF with EXIF (https://github.com/hukkelas/FDF, https://github.com/MZMMSEC/AIGFD_EXIF)

_FDF_LIST = "fdf_metainfo.json"
_PHOTO = re.compile(r"flickr\.com/photos/[^/]+/(\d+)")
_EXIF = {
    "iso": "ISO Speed Ratings", "f_number": "Aperture Value", "exposure_seconds": "Exposure Time",
    "focal_length_mm": "Focal Length",
}  # fmt: skip


def fdf(tree: Tree) -> str:
    """Its list fdf_metainfo.json."""
    place = _named(tree, _FDF_LIST)
    return f"the list {place}" if place else ""


def fdf_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Photographs of 128 px; EXIF from one JSON a photograph, named by its Flickr number. Pickles are not read.

    With EXIF whole camera models are train or val, as `faceproof pretrain` wants them. Pictures elsewhere than in
    images/ (manipulations) have no label.
    """
    place = _named(tree, _FDF_LIST)
    inside = len(place.rpartition("/")[0])
    pictures = {stem_of(name): name for name in tree.pictures if "images" in parts_of(name[inside:].lstrip("/"))}
    tagged = {stem_of(name): name for name in tree.names if name.endswith(".json") and stem_of(name).isdecimal()}
    for other in sorted(set(tree.pictures) - set(pictures.values())):
        yield unlabelled(other)
    for key, entry in tree.entries(place):
        picture = pictures.pop(key, "")
        if picture:  # the list has 1.5 million faces, of which one usually holds a part
            yield _fdf_row(tree, picture, _mapping(entry), tagged, notes)
    for key, picture in pictures.items():
        notes.add("unlisted", picture, f"its number is not in {_FDF_LIST}")
        yield Row(picture, 0, "", "fdf", "train" if tagged else "", facts={"photo": f"fdf-{key}", "kind": "face"})


def _fdf_row(tree: Tree, name: str, said: Mapping[str, Any], tagged: Mapping[str, str], notes: Notes) -> Row:
    found = _PHOTO.search(_words(said.get("photo_url")))
    photo = found[1] if found else ""
    facts = {"photo": photo or f"fdf-{stem_of(name)}", "kind": "face", "author": _words(said.get("author"))}
    facts |= _tags(tree, tagged[photo], notes) if photo in tagged else {}
    split = split_of(_words(said.get("category")))
    if tagged:  # what was learned of one camera must show on another, and unknown ones can only be learned from
        camera = camera_name(facts.get("make"), facts.get("model"))
        split = camera_split(camera) if camera else "train"
    side = next((int(part) for part in reversed(parts_of(name)) if part.isdecimal() and len(part) < 5), 128)
    box = _shares(said.get("bounding_box"), side)
    return Row(
        name, 0, "", "fdf", split, (f"photo {photo}",) if photo else (), _words(said.get("license")),
        boxes=(box,) if box else (), facts=facts,
    )  # fmt: skip


def _shares(values: object, side: int) -> Box | None:
    """FDF's box: x0, y0, x1, y1 as shares of a square picture, whose side names its folder."""
    corners = _box(values)
    if corners is None:
        return None
    x0, y0, x1, y1 = (value * side for value in (corners.x, corners.y, corners.width, corners.height))
    return Box(x0, y0, x1 - x0, y1 - y0, "face")


def _tags(tree: Tree, name: str, notes: Notes) -> dict[str, str]:
    """The four tags of a photograph and its camera, values that no camera has left out."""
    try:
        whole = _mapping(tree.json(name, 1 << 20))
    except UsageError as err:
        notes.add("broken", name, str(err))
        return {}
    said, spaces = _mapping(whole.get("EXIF")), [_mapping(space) for space in whole.values()]
    # Flickr keeps the camera's name in another space of tags (IFD0) than the exposure.
    found = {key.lower(): next((w for s in spaces if (w := _words(s.get(key)))), "") for key in ("Make", "Model")}
    for tag, (_, read) in TAGS.items():
        value = read(said.get(_EXIF[tag]))
        found[tag] = "" if value is None else f"{value:.9g}"
    return found


# ---- V7's Darwin JSON (https://docs.v7labs.com/reference/darwin-json)


def darwin(tree: Tree) -> str:
    """One JSON a picture, with annotations and an item (2.0) or an image (1.0)."""
    for name in tree.ending(".json")[:5]:
        try:
            said = _mapping(tree.json(name, 64 << 20))
        except UsageError:
            continue
        if _is_darwin(said):
            return f"{name} is a Darwin JSON export"
    return ""


def darwin_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Tags and names of boxes tell the label, and all are kept."""
    seen: set[str] = set()
    for place in tree.ending(".json"):
        try:
            said = _mapping(tree.json(place, 64 << 20))
            if not _is_darwin(said):
                notes.add("broken", place, "a JSON without Darwin's item or image, and annotations")
                continue
            row = _darwin_row(tree, place, said)
        except UsageError as err:
            notes.add("outside" if "leads out" in str(err) else "broken", place, str(err))
            continue
        if row is None:
            item = _mapping(said.get("item") or said.get("image"))
            notes.add("missing", place, f"no picture {_words(item.get('name') or item.get('filename'))!r}")
        elif row.name in seen:
            notes.add("twice", row.name, f"named again in {place}")
        else:
            seen.add(row.name)
            yield row
    for name in sorted(set(tree.pictures) - seen):
        notes.add("unlisted", name)
        yield _by_folders(name)


def _is_darwin(said: Mapping[str, Any]) -> bool:
    there = isinstance(said.get("item"), Mapping) or "filename" in _mapping(said.get("image"))
    return there and isinstance(said.get("annotations"), list)


def _darwin_row(tree: Tree, place: str, said: Mapping[str, Any]) -> Row | None:
    item = _mapping(said.get("item") or said.get("image"))
    name = str(item.get("name") or item.get("filename") or "")
    inner = str(item.get("path") or "").strip("/")
    near = [place.rpartition("/")[0], *_images(tree)]
    picture = tree.find(f"{inner}/{name}" if inner else name, *near)
    if picture is None:
        return None
    boxes, tags = [], []
    for annotation in said["annotations"][:MOST_BOXES]:
        one = _mapping(annotation)
        what, around = _words(one.get("name")), _mapping(one.get("bounding_box"))
        if "tag" in one:
            tags.append(what)
        if around and (box := _box([around.get(side) for side in "xywh"], what)):
            boxes.append(box)
    group = _words(_mapping(_mapping(item.get("source_info")).get("dataset")).get("slug") or said.get("dataset"))
    facts = {"tags": ", ".join(sorted(set(tags)))} if tags else {}
    keys = (*tags, *(box.name for box in boxes))
    return _labelled(picture, keys, tuple(boxes), facts, group or tree.title)


def _images(tree: Tree) -> list[str]:
    """Folders called images, where exports keep what their lists name."""
    return [path for path in sorted(tree.folders) if path.rpartition("/")[2] == "images"]


def _labelled(
    name: str, keys: tuple[str, ...], boxes: tuple[Box, ...], facts: dict[str, str], source: str, split: str = "",
) -> Row:  # fmt: skip
    """A row whose label its tags tell, or its folders; contradicting ones tell nothing."""
    by_folders = _by_folders(name)
    labels = {label_of(key) for key in keys} - {None} or {by_folders.label}
    label = labels.pop() if len(labels) == 1 else None
    return Row(
        name, label, "unknown" if label == 1 else "", source, split or by_folders.split, keys=keys, boxes=boxes,
        facts=facts,
    )  # fmt: skip


def _by_folders(name: str) -> Row:
    folders = parts_of(name)
    labels = {label_of(folder) for folder in folders} - {None}
    label = labels.pop() if len(labels) == 1 else None
    split = next((split_of(folder) for folder in folders if split_of(folder)), "")
    return Row(name, label, "unknown" if label == 1 else "", "/".join(folders), split)


# ---- COCO (https://cocodataset.org/#format-data)


def coco(tree: Tree) -> str:
    """A JSON with images, annotations and categories."""
    for name in tree.ending(".json")[:20]:
        if name.rpartition("/")[2] in (_FFHQ_LIST, _FDF_LIST):
            continue
        try:
            said = _mapping(tree.json(name))
        except UsageError:
            continue
        if _is_coco(said):
            return f"{name} has images, annotations and categories"
    return ""


def _is_coco(said: Mapping[str, Any]) -> bool:
    return all(isinstance(said.get(part), list) for part in ("images", "annotations"))


def coco_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Categories tell the label, the list's name the split; licences are the list's own."""
    seen: set[str] = set()
    for place in tree.ending(".json"):
        try:
            said = _mapping(tree.json(place))
        except UsageError as err:
            notes.add("broken", place, str(err))
            continue
        if not _is_coco(said):
            notes.add("broken", place, "a JSON without COCO's images and annotations")
            continue
        yield from _coco_list(tree, place, said, seen, notes)
    for name in sorted(set(tree.pictures) - seen):
        notes.add("unlisted", name)
        yield _by_folders(name)


def _coco_list(tree: Tree, place: str, said: Mapping[str, Any], seen: set[str], notes: Notes) -> Iterator[Row]:
    names = {_words(_mapping(c).get("id")): _words(_mapping(c).get("name")) for c in said.get("categories") or ()}
    licences = {_words(_mapping(c).get("id")): _words(_mapping(c).get("name")) for c in said.get("licenses") or ()}
    around: dict[str, list[Mapping[str, Any]]] = {}
    for annotation in said["annotations"]:
        around.setdefault(_words(_mapping(annotation).get("image_id")), []).append(_mapping(annotation))
    for entry in said["images"]:
        image = _mapping(entry)
        path = image.get("file_name")
        if not isinstance(path, str) or not path:
            notes.add("broken", place, f"an image without file_name: {_words(str(entry))[:80]}")
            continue
        try:
            name = tree.find(path, place.rpartition("/")[0], *_coco_folders(tree, place))
        except UsageError as err:
            notes.add("outside", f"{place}: {path[:200]!r}", str(err))
            continue
        if name is None or name in seen:
            notes.add("missing" if name is None else "twice", name or f"{place}: {path[:200]!r}")
            continue
        seen.add(name)
        own = around.get(_words(image.get("id")), [])[:MOST_BOXES]
        keys = tuple(names.get(_words(a.get("category_id")), "") for a in own)
        boxes = [_box(a.get("bbox"), key) for a, key in zip(own, keys, strict=True)]
        row = _labelled(name, keys, tuple(box for box in boxes if box), {}, tree.title, _split_in(place))
        licence = licences.get(_words(image.get("license")), "")
        yield replace(row, licence=licence)


def _coco_folders(tree: Tree, place: str) -> list[str]:
    """Where pictures of annotations/instances_train2017.json lie: train2017, images/train2017, images."""
    words = re.findall(r"(?:train|val|test)\w*", place.rpartition("/")[2].removesuffix(".json"))
    above = place.rpartition("/")[0].rpartition("/")[0]
    prefix = f"{above}/" if above else ""
    return [f"{prefix}{each}" for word in words for each in (word, f"images/{word}")] + _images(tree)


def _split_in(place: str) -> str:
    """The split in a list's name or folders, such as instances_train2017.json or valid/_annotations.coco.json."""
    pieces = re.split(r"[^a-z]+", place.lower().removesuffix(".json"))
    return next((split_of(piece) for piece in reversed(pieces) if split_of(piece)), "")


# ---- manifests: ours, and CSVs with the same columns

KNOWN = ("path", "label", "generator", "source", "split", "group", "licence")
OWN = (
    *KNOWN, "sha256", "width", "height", "format", "jpeg_quality", "bytes", "box", "annotations",
)  # fmt: skip
"""Columns that an import writes itself; all others are taken along."""
LABELS = {"photograph": 0, "generated": 1}
_OWN_GROUP = re.compile(r"g[0-9a-f]{14}")


def manifest(tree: Tree) -> str:
    """A CSV with path and label."""
    for name in [tree.only] if tree.only else ["manifest.csv"]:
        if name in tree and name.lower().endswith(".csv") and {"path", "label"} <= set(_header(tree, name)):
            return f"{name} has the columns path and label"
    return ""


def manifest_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Every line a picture. Lists on this machine may name pictures anywhere on it; those in buckets may not."""
    place = tree.only or "manifest.csv"
    seen: set[str] = set()
    try:
        lines = list(csv.DictReader(io.StringIO(tree.text(place), newline=""), restval=""))
    except csv.Error as err:
        raise UsageError(f"{tree.shown(place)} is not a CSV ({err}); mend it") from err
    for number, line in enumerate(lines, 2):
        path = line.get("path") or ""
        if not path or "\0" in path:
            notes.add("broken", f"{place}:{number}", "no path")
        elif is_url(path) or (tree.is_bucket and (path.startswith("/") or ".." in path.split("/"))):
            notes.add(
                "outside", f"{place}:{number}", f"{path[:200]!r}: a manifest names files, one in a bucket below it"
            )
        elif path in seen:
            notes.add("twice", path, f"{place}:{number}")
        else:
            seen.add(path)
            yield _manifest_row(tree, place, path, line)


def _manifest_row(tree: Tree, place: str, path: str, line: Mapping[str, Any]) -> Row:
    word = (line.get("label") or "").strip()
    label = LABELS.get(word.lower(), label_of(word))
    group = line.get("group") or ""
    # Our own groups are named by their pictures' bytes; what others call g1 is g1 in their list only.
    groups = (group if _OWN_GROUP.fullmatch(group) else f"{tree.locate(place)} {group}",) if group else ()
    facts = {key: str(value) for key, value in line.items() if key and key not in OWN and value and value is not None}
    boxes = _own_boxes(line)
    licence = (line.get("licence") or "").replace("not stated", "")
    return Row(
        path, label, line.get("generator") or ("unknown" if label == 1 else ""), line.get("source") or tree.title,
        line.get("split") or "", groups, licence, keys=(word,), boxes=boxes, facts=facts,
    )  # fmt: skip


def _own_boxes(line: Mapping[str, Any]) -> tuple[Box, ...]:
    """Boxes of an earlier import, or one in the column box: x y w h."""
    try:
        stated = json.loads(line.get("annotations") or "[]")
        found = [_box(_mapping(each).get("box"), _words(_mapping(each).get("name"))) for each in stated]
        found = found or [_box([float(value) for value in (line.get("box") or "").split()])]
    except (ValueError, TypeError, RecursionError):
        return ()
    return tuple(box for box in found if box)


def _header(tree: Tree, name: str) -> list[str]:
    try:
        with tree.opened(name) as stream:
            first = stream.readline(1 << 16).decode("utf-8-sig", "replace")
    except OSError:
        return []
    return next(csv.reader([first]), [])
