"""Layouts that names of folders tell. Each has two functions: what it is recognised by, and its rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from faceproof.errors import UsageError
from faceproof.importing.rows import Notes, Row, label_of, split_of
from faceproof.importing.tree import Tree

__all__ = [
    "ciplab", "ciplab_rows", "class_folders", "class_rows", "df40", "df40_rows", "diff", "diff_rows", "kaggle",
    "kaggle_rows", "nine", "nine_rows", "plain_rows",
]  # fmt: skip

FFHQ_LICENCE = "FFHQ, CC BY-NC-SA 4.0"


def parts_of(name: str) -> list[str]:
    """Return the folders above a file."""
    return name.split("/")[:-1]


def stem_of(name: str) -> str:
    """Return a file's name without folders and ending."""
    return name.rpartition("/")[2].rpartition(".")[0]


def unlabelled(name: str, folder: str = "") -> Row:
    """Return the row of a picture that the layout does not know; `--label` has to tell."""
    return Row(name, None, source=folder)


# ---- 140k real and fake faces (Kaggle, xhlulu/140k-real-and-fake-faces)

_KAGGLE = re.compile(r"(?:^|/)(train|valid|test)/(real|fake)/[^/]+$")


def kaggle(tree: Tree) -> str:
    """train, valid and test with real and fake in them, below real-vs-fake or beside their lists."""
    lists = [name for name in ("train.csv", "valid.csv", "test.csv") if _kaggle_list(tree, name)]
    folder = tree.words.get("real-vs-fake")
    there = any(path.endswith(("valid/real", "valid/fake", "train/real", "train/fake")) for path in tree.folders)
    if there and (folder or lists):
        return f"the folder {folder}" if folder else f"{lists[0]} beside train/real and train/fake"
    return ""


def kaggle_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Photographs are FFHQ's, by their numbers; the others of StyleGAN. The lists are held against the folders."""
    listed = _kaggle_labels(tree, notes)
    lists = bool(listed)
    for name in tree.pictures:
        found = _KAGGLE.search(name)
        if not found:
            yield unlabelled(name)
            continue
        label = 0 if found[2] == "real" else 1
        stated = listed.pop(found[0].lstrip("/"), None) if lists else label
        if stated is None:
            notes.add("unlisted", name)
        elif stated != label:
            notes.add("disagree", name, f"its folder says {found[2]}, the list says {'fake' if stated else 'real'}")
            continue
        number = stem_of(name)
        yield Row(
            name, label, "stylegan" if label else "", "140k-stylegan" if label else "ffhq", split_of(found[1]),
            (f"ffhq-{int(number)}",) if label == 0 and number.isdecimal() and len(number) <= 5 else (),
            "not stated" if label else FFHQ_LICENCE,
        )  # fmt: skip
    for path in listed:
        notes.add("missing", path)


def _kaggle_list(tree: Tree, name: str) -> str | None:
    return next((each for each in tree.names if each == name or each.endswith(f"/{name}")), None)


def _kaggle_labels(tree: Tree, notes: Notes) -> dict[str, int]:
    """What train.csv, valid.csv and test.csv say: path -> 0 photograph, 1 generated (their own label is 1 for real)."""
    found: dict[str, int] = {}
    for name in ("train.csv", "valid.csv", "test.csv"):
        place = _kaggle_list(tree, name)
        if place is None:
            continue
        try:
            rows = list(csv.DictReader(io.StringIO(tree.text(place), newline="")))
        except csv.Error as err:
            raise UsageError(f"{tree.shown(place)} is not a CSV ({err}); get it again") from err
        for number, row in enumerate(rows, 2):
            path, word = (row.get("path") or "").replace("\\", "/"), (row.get("label_str") or "").lower()
            if word not in ("real", "fake") or not path:
                notes.add("broken", f"{place}:{number}", "no path, or a label_str other than real and fake")
            elif path.startswith("/") or ".." in path.split("/"):
                notes.add("outside", f"{place}:{number}", f"{path!r} leads out of the data set")
            elif path in found:
                notes.add("twice", path)
            else:
                found[path] = int(word == "fake")
    return found


# ---- CIPLAB's real and fake face detection (Kaggle, ciplab/real-and-fake-face-detection)

_COMPOSITE = re.compile(r"(easy|mid|hard)_\d+_([01]{4})$")
_PARTS = ("left eye", "right eye", "nose", "mouth")


def ciplab(tree: Tree) -> str:
    """Folders training_real and training_fake."""
    if {"training_real", "training_fake"} <= set(tree.words):
        return f"the folders {tree.words['training_real']} and {tree.words['training_fake']}"
    return ""


def ciplab_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """The fakes are composites made by hand from photographs; their names say how hard they are, and which parts."""
    for name in tree.pictures:
        inside = [part.lower() for part in parts_of(name)]
        if "training_real" in inside:
            yield Row(name, 0, source="ciplab", licence="CIPLAB, research")
        elif "training_fake" in inside:
            found = _COMPOSITE.match(stem_of(name))
            facts = {}
            if found:
                replaced = [part for part, bit in zip(_PARTS, found[2], strict=True) if bit == "1"]
                facts = {"difficulty": found[1], "replaced": ", ".join(replaced)}
            yield Row(name, 1, "composite by hand", "ciplab", licence="CIPLAB, research", facts=facts)
        else:
            yield unlabelled(name)


# ---- DF40 (https://github.com/YZY-stack/DF40)

_DF40 = {
    "fsgan", "faceswap", "simswap", "inswap", "blendface", "uniface", "mobileswap", "e4s", "facedancer",
    "deepfacelab", "fomm", "facevid2vid", "wav2lip", "mraa", "one_shot_free", "pirender", "tpsm", "tpsmm", "lia",
    "danet", "dagan", "sadtalker", "mcnet", "hyperreenact", "heygen", "vqgan", "stylegan2", "stylegan3", "styleganxl",
    "sd2.1", "ddim", "ddpm", "rddm", "pixart", "dit", "sit", "midjourney", "whichfaceisreal", "whichisreal",
    "collabdiff", "e4e", "stargan", "starganv2", "styleclip",
}  # fmt: skip
_DF40_REAL = ("real", "original_sequences", "celeb-real", "youtube-real", "faceforensics++")
_PAIR = re.compile(r"(\d{3})_(\d{3})$")
_CELEB = re.compile(r"(id\d+)_(?:id\d+_)?(\d{4})$")
_DF40_LICENCE = "DF40, CC BY-NC 4.0"


def df40(tree: Tree) -> str:
    """A folder DF40 or DF40_train, or two folders of its methods with ff, cdf or frames in them."""
    for name in ("df40", "df40_train", "df40_test"):
        if name in tree.words:
            return f"the folder {tree.words[name]}"
    if tree.title.lower() in ("df40", "df40_train"):
        return f"its name, {tree.title}"
    methods = set()
    for path in tree.folders:
        words = path.lower().split("/")
        if words[-1] in ("ff", "cdf", "frames") and len(words) > 1 and words[-2] in _DF40:
            methods.add(words[-2])
    return f"the folders of its methods {', '.join(sorted(methods)[:3])}" if len(methods) > 1 else ""


def df40_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """The method is the folder; frames of one target video are one group, the real video's with them."""
    for name in tree.pictures:
        folders = parts_of(name)
        words = [word.lower() for word in folders]
        method = next((word for word in words if word in _DF40), "")
        real = any(word in _DF40_REAL for word in words)
        if not method and not real:
            yield unlabelled(name)
            continue
        domain = "cdf" if "cdf" in words or any(word.startswith("celeb") for word in words) else ""
        domain = domain or ("ff" if "ff" in words or "original_sequences" in words else "")
        split = "train" if "df40_train" in words or tree.title.lower() == "df40_train" else ""
        split = split or ("test" if "df40_test" in words or ("df40" in words and "df40_train" in tree.words) else "")
        source = f"df40-{domain}" if domain else f"df40-{method or 'real'}"
        groups = _video(folders[-1], domain, "/".join(folders))
        yield Row(name, 0 if real else 1, "" if real else _generator(method), source, split, groups, _DF40_LICENCE)


def _video(folder: str, domain: str, place: str) -> tuple[str, ...]:
    """Names of the videos that frames in a folder are of; the pair 000_003 is of both, id0_id1_0000 of id0's."""
    if pair := _PAIR.match(folder):
        return f"ff-{pair[1]}", f"ff-{pair[2]}"
    if clip := _CELEB.match(folder):
        return (f"cdf-{clip[1]}-{clip[2]}",)
    if domain == "ff" and folder.isdecimal() and len(folder) == 3:
        return (f"ff-{folder}",)
    return (f"df40-{place}",) if folder.lower() not in ("real", "fake", *_DF40) else ()


# ---- DiFF (https://github.com/xaCheng1996/DiFF)

_DIFF = {
    "t2i": "text to image", "i2i": "image to image", "fs": "face swapping", "fe": "face editing",
}  # fmt: skip
_DIFF_LICENCE = "DiFF, research"


def diff(tree: Tree) -> str:
    """At least two of its four conditions as folders: T2I, I2I, FS, FE."""
    found = [tree.words[word] for word in _DIFF if word in tree.words]
    return f"the folders {', '.join(found)} (DiFF's conditions)" if len(found) > 1 else ""


def diff_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Condition, then method; a folder with train, val or test in its name is the split."""
    for name in tree.pictures:
        folders = parts_of(name)
        words = [word.lower() for word in folders]
        split = next((split_of(piece) for word in words for piece in re.split(r"[_\-]", word) if split_of(piece)), "")
        place = next((number for number, word in enumerate(words) if word in _DIFF), None)
        if any(label_of(word) == 0 or word == "pristine" for word in words):
            yield Row(name, 0, source="diff", split=split, licence=_DIFF_LICENCE)
        elif place is not None:
            method = _generator(words[place + 1]) if place + 1 < len(words) else "unknown"
            facts = {"condition": _DIFF[words[place]]}
            yield Row(name, 1, method, "diff", split, licence=_DIFF_LICENCE, facts=facts)
        else:
            yield unlabelled(name)


# ---- nine generators (FIELD.md 1.4, https://github.com/MZMMSEC/AIGFD_EXIF)

_NINE = {
    "stylegan2": "stylegan2", "vq-gan_celebahq": "vqgan", "ldm": "ldm", "ddim": "ddim",
    "stable_diffusion_v_2_1_text2img_p2g3": "sd-2.1", "freedom_t": "freedom", "hps": "hps",
    "midjourney": "midjourney", "sdxl": "sdxl",
}  # fmt: skip
_CELEBA = "celeba-face"
_CELEBA_LICENCE = "CelebA, non-commercial research"


def nine(tree: Tree) -> str:
    """The folder celeba-face beside at least two of the nine generators'."""
    found = [tree.words[word] for word in _NINE if word in tree.words]
    if _CELEBA in tree.words and len(found) > 1:
        return f"{tree.words[_CELEBA]} beside {', '.join(found[:3])}"
    return ""


def nine_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Generated pictures are for testing; of the photographs train.txt and test.txt say what they are for."""
    lists = {split: _listed(tree, notes, f"{split}.txt") for split in ("train", "test")}
    for name in sorted(lists["train"] & lists["test"]):
        notes.add("twice", name, "in train.txt and in test.txt: it counts for test")
    for name in tree.pictures:
        words = [word.lower() for word in parts_of(name)]
        generator = next((_NINE[word] for word in words if word in _NINE), "")
        if _CELEBA in words:
            split = next((split for split in ("test", "train") if name in lists[split]), "")
            if not split and (lists["train"] or lists["test"]):
                notes.add("unlisted", name)
            yield Row(name, 0, source="celeba", split=split, licence=_CELEBA_LICENCE)
        elif generator:
            yield Row(name, 1, generator, "nine-generators", "test", licence="research")
        else:
            yield unlabelled(name)


def _listed(tree: Tree, notes: Notes, name: str) -> set[str]:
    """The files that a list of paths names."""
    place = next((each for each in tree.names if each.rpartition("/")[2] == name), None)
    found: set[str] = set()
    for number, line in enumerate(tree.text(place).splitlines() if place else (), 1):
        if not line.strip():
            continue
        try:
            picture = tree.find(line.strip().removeprefix("./"))
        except UsageError as err:
            notes.add("outside", f"{place}:{number}", str(err))
            continue
        if picture is None:
            notes.add("missing", f"{place}:{number}", f"no file for {line.strip()[:200]!r}")
        elif picture in found:
            notes.add("twice", picture)
        else:
            found.add(picture)
    return found


# ---- class folders


def class_folders(tree: Tree) -> str:
    """Folders whose names are those of classes: real, fake, photograph, generated, ..."""
    found = [path for word, path in sorted(tree.words.items()) if label_of(word) is not None]
    return f"the folders {', '.join(found[:4])}" if found else ""


def class_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """One folder of a path is the class, one may be a split; what is left names source and generator."""
    for name in tree.pictures:
        folders = parts_of(name)
        labels = {label_of(folder) for folder in folders} - {None}
        split = next((split_of(folder) for folder in folders if split_of(folder)), "")
        rest = "/".join(folder for folder in folders if label_of(folder) is None and not split_of(folder))
        label = labels.pop() if len(labels) == 1 else None  # none, or two that contradict each other
        generator = (rest or "unknown") if label == 1 else ""
        yield Row(name, label, generator, rest or tree.title, split)


def plain_rows(tree: Tree, notes: Notes) -> Iterator[Row]:
    """Any folder: nothing is known but what the options say."""
    for name in tree.pictures:
        folders = parts_of(name)
        split = next((split_of(folder) for folder in folders if split_of(folder)), "")
        yield Row(name, None, source="/".join(f for f in folders if not split_of(f)) or tree.title, split=split)


def _generator(folder: str) -> str:
    """One name for a generator, however its folder is written."""
    known = {"sd2.1": "sd-2.1", "inswap": "inswapper", "whichfaceisreal": "whichisreal"}
    return known.get(folder, folder)
