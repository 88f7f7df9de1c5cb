"""Small trees of every layout that `faceproof import` reads, with pictures in them that differ from each other."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 96


def pixels(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture that looks like no other: (96, 96, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def encoded(seed: int, kind: str = "JPEG", *, quality: int = 90, side: int = SIDE) -> bytes:
    """That picture as a file."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels(seed)).resize((side, side))
    image.save(stream, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return stream.getvalue()


def put(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def pictures(folder: Path, *names: str, start: int = 0) -> None:
    for number, name in enumerate(names, start):
        put(folder, name, encoded(number, "PNG" if name.endswith(".png") else "JPEG"))


def table(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# ---- layouts: what is built -> what is expected of each picture: (label, generator, source, split, licence)

Expected = dict[str, tuple[str, str, str, str, str]]
FFHQ = "FFHQ, CC BY-NC-SA 4.0"


def kaggle(folder: Path) -> Expected:
    found: Expected = {}
    for part, (split, ours) in enumerate((("train", "train"), ("valid", "val"), ("test", "test"))):
        names = [f"{split}/real/{31355 + part}.jpg", f"{split}/real/{part:05d}.jpg", f"{split}/fake/A{part}XYZ.jpg"]
        base = "real_vs_fake/real-vs-fake"
        pictures(folder, *(f"{base}/{name}" for name in names), start=10 * part)
        rows = [
            {"": n, "original_path": f"/kaggle/input/x/{Path(name).name}", "id": Path(name).stem,
             "label": int("real" in name), "label_str": "real" if "real" in name else "fake", "path": name}
            for n, name in enumerate(names)
        ]  # fmt: skip
        put(folder, f"{split}.csv", table(rows))
        for name in names:
            real = "/real/" in name
            found[f"{base}/{name}"] = (
                ("photograph", "", "ffhq", ours, FFHQ) if real
                else ("generated", "stylegan", "140k-stylegan", ours, "not stated")
            )  # fmt: skip
    return found


def ciplab(folder: Path) -> Expected:
    names = ["training_real/real_00001.jpg", "training_real/real_00002.jpg", "training_fake/easy_1_1110.jpg",
             "training_fake/mid_100_0001.jpg", "training_fake/hard_9_1111.jpg"]  # fmt: skip
    pictures(folder, *names)
    licence = "CIPLAB, research"
    return {
        name: ("photograph", "", "ciplab", "*", licence)
        if "real" in name.split("/")[0]
        else ("generated", "composite by hand", "ciplab", "*", licence)
        for name in names
    }


def ffhq(folder: Path, *, listed: bool = True) -> Expected:
    names = ["images1024x1024/00000/00000.png", "images1024x1024/00000/00001.png", "images1024x1024/69000/69999.png"]
    pictures(folder, *names)
    said = {}
    for number, photo, licence in ((0, "a/1", "Attribution License"), (1, "a/1", "Public Domain Mark"),
                                   (69999, "b/2", "Attribution-NonCommercial License")):  # fmt: skip
        said[str(number)] = {
            "category": "training" if number < 60000 else "validation",
            "metadata": {"photo_url": f"https://www.flickr.com/photos/{photo}/", "license": licence, "author": "Ünal"},
            "image": {"file_path": f"images1024x1024/{number // 1000:02d}000/{number:05d}.png",
                      "face_landmarks": [[1.5, 2.5]] * 68},
        }  # fmt: skip
    if listed:
        put(folder, "ffhq-dataset-v2.json", json.dumps(said))
    return {
        name: ("photograph", "", "ffhq", "val" if "69999" in name else "train",
               entry["metadata"]["license"] if listed else FFHQ)  # type: ignore[index]
        for name, entry in zip(names, said.values(), strict=True)
    }  # fmt: skip


def fdf(folder: Path) -> Expected:
    names = [f"FDF/data/fdf/images/128/{number}.png" for number in (0, 1, 2, 7)]
    for number, name in enumerate(names):
        put(folder, name, encoded(number, "PNG", side=128))
    said = {
        str(number): {
            "author": "x", "bounding_box": [0.25, 0.25, 0.75, 0.5], "category": "validation" if number == 2 else
            "training", "license": "Attribution License", "photo_url": f"http://www.flickr.com/photos/u/{photo}/",
        }
        for number, photo in ((0, 100), (1, 100), (2, 200), (3, 300))
    }  # fmt: skip
    put(folder, "FDF/data/fdf/fdf_metainfo.json", json.dumps(said))
    exif = {"ISO Speed Ratings": "400", "Aperture Value": "F2.8", "Exposure Time": "1/200 sec", "Focal Length": "50 mm"}
    one = {"EXIF": exif | {"Make": "Maker", "Model": "One"}}
    two = {"EXIF": exif | {"Exposure Time": "2 sec"}, "IFD0": {"Make": "Maker", "Model": "A"}}
    put(folder, "fdf_ccby2_exif_update_filtered_v2/100.json", json.dumps(one))
    put(folder, "fdf_ccby2_exif_update_filtered_v2/200.json", json.dumps(two))
    put(folder, "FDF/data/id_vs_fdfName.pkl", b"\x80\x04never read")
    licence = "Attribution License"
    return {
        names[0]: ("photograph", "", "fdf", "train", licence), names[1]: ("photograph", "", "fdf", "train", licence),
        names[2]: ("photograph", "", "fdf", "val", licence), names[3]: ("photograph", "", "fdf", "*", "not stated"),
    }  # fmt: skip


def df40(folder: Path) -> Expected:
    licence = "DF40, CC BY-NC 4.0"
    found = {
        "DF40_train/simswap/frames/001_870/000.png": ("generated", "simswap", "df40-simswap", "train", licence),
        "DF40_train/simswap/frames/001_870/010.png": ("generated", "simswap", "df40-simswap", "train", licence),
        "DF40_train/StyleGAN2/ff/002/seed0188.png": ("generated", "stylegan2", "df40-ff", "train", licence),
        "DF40/blendface/cdf/frames/id0_id1_0000/000.png": ("generated", "blendface", "df40-cdf", "test", licence),
        "DF40/sd2.1/ff/900/1.png": ("generated", "sd-2.1", "df40-ff", "test", licence),
        "DF40/MidJourney/fake/a.png": ("generated", "midjourney", "df40-midjourney", "test", licence),
        "DF40/MidJourney/real/b.png": ("photograph", "", "df40-midjourney", "test", licence),
        "Celeb-DF-v2/Celeb-real/frames/id0_0000/000.png": ("photograph", "", "df40-cdf", "*", licence),
    }
    pictures(folder, *found)
    return found


def diff(folder: Path) -> Expected:
    found = {
        "DiFF_train/T2I/SDXL/a/1.png": ("generated", "sdxl", "diff", "train", "DiFF, research"),
        "DiFF_train/I2I/LoRA/2.png": ("generated", "lora", "diff", "train", "DiFF, research"),
        "DiFF_val/FE/Imagic/3.jpg": ("generated", "imagic", "diff", "val", "DiFF, research"),
        "DiFF_test/FS/DCFace/4.jpg": ("generated", "dcface", "diff", "test", "DiFF, research"),
        "DiFF_test/Pristine/5.jpg": ("photograph", "", "diff", "test", "DiFF, research"),
    }
    pictures(folder, *found)
    return found


def nine(folder: Path) -> Expected:
    licence = "CelebA, non-commercial research"
    found = {
        "celeba-face/000001.jpg": ("photograph", "", "celeba", "train", licence),
        "celeba-face/000002.jpg": ("photograph", "", "celeba", "test", licence),
        "DDIM/1.png": ("generated", "ddim", "nine-generators", "test", "research"),
        "stable_diffusion_v_2_1_text2img_p2g3/x/2.png": ("generated", "sd-2.1", "nine-generators", "test", "research"),
        "VQ-GAN_celebahq/3.png": ("generated", "vqgan", "nine-generators", "test", "research"),
    }
    pictures(folder, *found)
    put(folder, "train.txt", "./data/celeba-face/000001.jpg\n")
    put(folder, "test.txt", "./data/celeba-face/000002.jpg\n")
    return found


def darwin(folder: Path) -> Expected:
    pictures(folder, "images/day 1/a.jpg", "images/b.png", "c.jpg")
    one = {
        "version": "2.0", "item": {"name": "a.jpg", "path": "/day 1", "source_info": {"dataset": {"slug": "faces"}}},
        "annotations": [
            {"name": "face", "bounding_box": {"x": 10, "y": 12.5, "w": 40, "h": 50}, "slot_names": ["0"]},
            {"name": "real", "tag": {}}, {"name": "glasses", "tag": {}},
        ],
    }  # fmt: skip
    two = {
        "version": "2.0", "item": {"name": "b.png", "path": "/", "source_info": {"dataset": {"slug": "faces"}}},
        "annotations": [{"name": "fake", "bounding_box": {"x": 0, "y": 0, "w": 96, "h": 96},
                         "polygon": {"paths": [[{"x": 0, "y": 0}]]}}],
    }  # fmt: skip
    old = {"dataset": "old", "image": {"filename": "c.jpg", "path": "/", "width": 96, "height": 96},
           "annotations": [{"name": "real", "tag": {}}]}  # fmt: skip
    for name, said in (("a", one), ("b", two), ("c", old)):
        put(folder, f"releases/latest/annotations/{name}.json", json.dumps(said))
    return {
        "images/day 1/a.jpg": ("photograph", "", "faces", "*", "not stated"),
        "images/b.png": ("generated", "unknown", "faces", "*", "not stated"),
        "c.jpg": ("photograph", "", "old", "*", "not stated"),
    }


def coco(folder: Path) -> Expected:
    for split in ("train2017", "val2017"):
        names = [f"{split}/{number:012d}.jpg" for number in (1, 2)]
        pictures(folder, *names, start=20 if split == "val2017" else 0)
        said = {
            "images": [{"id": n, "file_name": Path(name).name, "width": 96, "height": 96, "license": 4}
                       for n, name in enumerate(names)],
            "annotations": [
                {"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 30, 40]},
                {"id": 2, "image_id": 0, "category_id": 7, "bbox": [50, 2, 30.5, 40]},
                {"id": 3, "image_id": 1, "category_id": 8, "bbox": [1, 2, 30, 40]},
            ],
            "categories": [{"id": 7, "name": "photograph"}, {"id": 8, "name": "synthetic"}],
            "licenses": [{"id": 4, "name": "Attribution License"}],
        }  # fmt: skip
        put(folder, f"annotations/instances_{split}.json", json.dumps(said))
    title = folder.name
    return {
        f"{split}/{number:012d}.jpg": (
            *(("photograph", "") if number == 1 else ("generated", "unknown")),
            title,
            ours,
            "Attribution License",
        )
        for split, ours in (("train2017", "train"), ("val2017", "val"))
        for number in (1, 2)
    }  # type: ignore[return-value]


def imagefolder(folder: Path) -> Expected:
    found = {
        "train/0_real/a.jpg": ("photograph", "", folder.name, "train", "not stated"),
        "train/1_fake/flux/b.jpg": ("generated", "flux", "flux", "train", "not stated"),
        "val/0_real/phone/c.jpg": ("photograph", "", "phone", "val", "not stated"),
        "val/1_fake/d.webp": ("generated", "unknown", folder.name, "val", "not stated"),
    }
    pictures(folder, *found)
    return found


def manifest(folder: Path) -> Expected:
    pictures(folder, "p/a.jpg", "p/b.jpg", "p/c.jpg")
    rows = [
        {"path": "p/a.jpg", "label": "photograph", "generator": "", "source": "lfw", "split": "train", "group": "x",
         "licence": "research", "sex": "f", "box": "1 2 3 4"},
        {"path": "p/b.jpg", "label": "photograph", "generator": "", "source": "lfw", "split": "train", "group": "x",
         "licence": "", "sex": "", "box": ""},
        {"path": "p/c.jpg", "label": "generated", "generator": "sdxl", "source": "web", "split": "", "group": "",
         "licence": "", "sex": "", "box": ""},
    ]  # fmt: skip
    put(folder, "manifest.csv", table(rows))
    return {
        "p/a.jpg": ("photograph", "", "lfw", "train", "research"),
        "p/b.jpg": ("photograph", "", "lfw", "train", "not stated"),
        "p/c.jpg": ("generated", "sdxl", "web", "*", "not stated"),
    }


TREES: dict[str, Callable[[Path], Expected]] = {
    "140k": kaggle, "ciplab": ciplab, "ffhq": ffhq, "fdf": fdf, "df40": df40, "diff": diff, "nine": nine,
    "darwin": darwin, "coco": coco, "imagefolder": imagefolder, "manifest": manifest,
}  # fmt: skip
