"""`faceproof import`: every layout as published, from its tree to a manifest that training and evaluation read."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from faceproof import UsageError
from faceproof.datasets import Sampler, read_manifest
from faceproof.exif_data import read_tagged
from faceproof.importing import table as layouts
from faceproof.importing.joining import Told, assign, parse_ratios
from faceproof.importing.probes import file_probes
from faceproof.importing.results import Import
from faceproof.importing.rows import Notes
from faceproof.importing.run import Options, import_data
from faceproof.importing.tree import LARGEST_ENTRY, json_entries, open_tree
from tests.helpers import run_cli
from tests.import_trees import TREES, encoded, ffhq, pictures, pixels, put, read, table


def imported(folder: Path, out: Path, **options: object) -> Import:
    return import_data([str(folder)], out, Options(workers=1, **options))  # type: ignore[arg-type]


def kinds(found: Import) -> dict[str, int]:
    return dict(found.notes.counts)


# ---- layouts


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_layout_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    """From the tree as published to the reader of train and evaluate."""
    tree, out = tmp_path / "set", tmp_path / "out.csv"
    expected = TREES[name](tree)
    found = imported(tree, out)
    assert [each.name for each in found.recognised] == [name]
    assert found.recognised[0].why
    rows = {row["path"]: row for row in read(out)}
    assert rows.keys() == {f"set/{picture}" for picture in expected}
    for picture, wanted in expected.items():
        row = rows[f"set/{picture}"]
        got = tuple(row[column] for column in ("label", "generator", "source", "split", "licence"))
        assert tuple("*" if w == "*" else g for g, w in zip(got, wanted, strict=True)) == wanted, picture
        assert row["split"] in ("train", "val", "test")
        assert (row["width"], row["height"]) == (("128", "128") if name == "fdf" else ("96", "96"))
        assert len(row["sha256"]) == 64
    samples = read_manifest(out)
    assert [str(sample.path) for sample in samples] == [str(tree / row["path"][4:]) for row in rows.values()]
    assert all(sample.path.is_file() for sample in samples)
    if {sample.label for sample in samples} == {0, 1}:
        assert len(list(Sampler(samples).indices(8))) == 8
    assert not found.notes.faults
    assert not list(tmp_path.glob("*.partial*"))


def test_every_layout_is_tested_and_documented() -> None:
    assert set(TREES) | {"huggingface", "folder"} == set(layouts.LAYOUTS)
    text = (Path(__file__).parents[1] / "docs" / "import.md").read_text(encoding="utf-8")
    for name, layout in layouts.LAYOUTS.items():
        assert f"| `{name}` |" in text, name
        assert layout.seen in ("files", "documentation")


def test_facts_that_layouts_keep(tmp_path: Path) -> None:
    for name in ("ciplab", "darwin", "coco", "manifest", "diff", "ffhq"):
        TREES[name](tmp_path / name)
        imported(tmp_path / name, tmp_path / f"{name}.csv")

    def row(name: str, end: str) -> dict[str, str]:
        return next(row for row in read(tmp_path / f"{name}.csv") if row["path"].endswith(end))

    assert (row("ciplab", "mid_100_0001.jpg")["difficulty"], row("ciplab", "mid_100_0001.jpg")["replaced"]) == (
        "mid", "mouth",
    )  # fmt: skip
    assert row("ciplab", "easy_1_1110.jpg")["replaced"] == "left eye, right eye, nose"
    assert row("darwin", "a.jpg")["box"] == "10 12.5 40 50"
    assert row("darwin", "a.jpg")["tags"] == "glasses, real"
    assert json.loads(row("darwin", "b.png")["annotations"]) == [{"name": "fake", "box": [0, 0, 96, 96]}]
    boxes = json.loads(row("coco", "train2017/000000000001.jpg")["annotations"])
    assert [box["box"] for box in boxes] == [[1, 2, 30, 40], [50, 2, 30.5, 40]]
    assert row("coco", "train2017/000000000001.jpg")["box"] == "50 2 30.5 40"  # the largest
    assert (row("manifest", "a.jpg")["sex"], row("manifest", "a.jpg")["box"]) == ("f", "1 2 3 4")
    assert row("diff", "1.png")["condition"] == "text to image"
    assert row("ffhq", "00000.png")["author"] == "Ünal"


def test_what_belongs_together_has_one_group(tmp_path: Path) -> None:
    groups = {}
    for name in ("ffhq", "fdf", "df40", "manifest"):
        TREES[name](tmp_path / name)
        imported(tmp_path / name, tmp_path / f"{name}.csv")
        groups[name] = {row["path"].rpartition("/")[2]: row["group"] for row in read(tmp_path / f"{name}.csv")}
    assert groups["ffhq"]["00000.png"] == groups["ffhq"]["00001.png"] != groups["ffhq"]["69999.png"]  # one photograph
    assert groups["fdf"]["0.png"] == groups["fdf"]["1.png"] != groups["fdf"]["2.png"]
    assert groups["manifest"]["a.jpg"] == groups["manifest"]["b.jpg"] != groups["manifest"]["c.jpg"]
    by_path = {row["path"].partition("/")[2]: row["group"] for row in read(tmp_path / "df40.csv")}
    swap, real = "DF40/blendface/cdf/frames/id0_id1_0000/000.png", "Celeb-DF-v2/Celeb-real/frames/id0_0000/000.png"
    assert by_path[swap] == by_path[real]  # the swapped video and the one it was made from
    frames = [group for path, group in by_path.items() if "001_870" in path]
    assert len(frames) == 2
    assert len(set(frames)) == 1
    assert len(set(by_path.values())) == 6


def test_fdf_is_read_by_pretraining_too(tmp_path: Path) -> None:
    TREES["fdf"](tmp_path / "fdf")
    put(tmp_path, "fdf/fdf_ccby2_exif_update_filtered_v2/300.json", "{")  # of a picture that is not there: not opened
    imported(tmp_path / "fdf", tmp_path / "m.csv")
    crops = {crop.path.name: crop for crop in read_tagged(tmp_path / "m.csv").crops}
    assert crops["0.png"].values == (400, 2.8, 0.005, 50)
    assert crops["2.png"].values == (400, 2.8, 2, 50)
    assert (crops["0.png"].camera, crops["2.png"].camera) == ("maker one", "maker a")
    assert (crops["0.png"].split, crops["2.png"].split, crops["7.png"].split) == ("train", "val", "train")
    assert np.isnan(crops["7.png"].values).all()
    rows = {row["path"].rpartition("/")[2]: row for row in read(tmp_path / "m.csv")}
    assert rows["0.png"]["box"] == "32 32 64 32"  # corners .25 .25 .75 .5 of 128 px


def test_ffhq_by_its_numbers_alone(tmp_path: Path) -> None:
    expected = ffhq(tmp_path / "set", listed=False)
    found = imported(tmp_path / "set", tmp_path / "m.csv")
    assert found.recognised[0].name == "ffhq"
    assert {row["split"] for row in read(tmp_path / "m.csv")} == {"train", "val"}
    assert len(found.pictures) == len(expected)


def test_sets_are_brought_together(tmp_path: Path) -> None:
    """Layouts of several sources; FFHQ's 00000 is in the Kaggle set too, and they become one group."""
    TREES["140k"](tmp_path / "kaggle")
    ffhq(tmp_path / "ffhq")
    put(tmp_path, "made/x.png", encoded(77, "PNG"))
    done = run_cli(
        "import", tmp_path / "kaggle", tmp_path / "ffhq", tmp_path / "made", "--label", "x.png=generated",
        "--out", tmp_path / "m.csv",
    )  # fmt: skip
    assert done.returncode == 2
    assert "--label x.png=generated: no picture lies in a folder or has a tag of that name" in done.stderr
    pictures(tmp_path, "made/dalle/x.png", start=77)
    (tmp_path / "made" / "x.png").unlink()
    done = run_cli(
        "import", tmp_path / "kaggle", tmp_path / "ffhq", tmp_path / "made", "--label", "dalle=generated",
        "--generator", "dalle=dall-e 2", "--out", tmp_path / "m.csv", "--straddling", "keep", env={"COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["path"]: row for row in read(tmp_path / "m.csv")}
    assert rows["made/dalle/x.png"]["generator"] == "dall-e 2"
    one = rows["kaggle/real_vs_fake/real-vs-fake/train/real/00000.jpg"]
    assert one["group"] == rows["ffhq/images1024x1024/00000/00000.png"]["group"]
    assert "kaggle: 140k (140k real and fake faces (Kaggle))" in done.stderr
    assert "ffhq (Flickr-Faces-HQ), by the list ffhq-dataset-v2.json" in done.stderr


# ---- labels are not guessed


def test_unknown_labels_are_asked_for(tmp_path: Path) -> None:
    pictures(tmp_path / "set", "sdxl/a.jpg", "sdxl/b.jpg", "phone/c.jpg", "real/fake/d.jpg")
    done = run_cli("import", tmp_path / "set", "--out", tmp_path / "m.csv")
    assert done.returncode == 2
    for text in ("no label for 4 pictures", "sdxl (2)", "phone (1)", "real/fake (1)", "--label sdxl=generated"):
        assert text in done.stderr
    assert not (tmp_path / "m.csv").exists()
    found = imported(
        tmp_path / "set", tmp_path / "m.csv",
        told=Told.parse(label=["sdxl=generated", "phone=photograph", "real/fake=skip"], licence=["CC0"],
                        source=["phone=my phone"]),
    )  # fmt: skip
    rows = {Path(row["path"]).name: row for row in read(tmp_path / "m.csv")}
    assert {name: (row["label"], row["generator"], row["source"]) for name, row in rows.items()} == {
        "a.jpg": ("generated", "sdxl", "sdxl"), "b.jpg": ("generated", "sdxl", "sdxl"),
        "c.jpg": ("photograph", "", "my phone"),
    }  # fmt: skip
    assert {row["licence"] for row in rows.values()} == {"CC0"}
    assert kinds(found) == {"skipped": 1}


def test_the_most_particular_option_counts(tmp_path: Path) -> None:
    pictures(tmp_path / "set", "all/a.jpg", "all/mine/b.jpg")
    imported(tmp_path / "set", tmp_path / "m.csv", told=Told.parse(label=["generated", "all/mine=photograph"]))
    assert [row["label"] for row in read(tmp_path / "m.csv")] == ["generated", "photograph"]


@pytest.mark.parametrize("text", ["real=photo", "=generated", "a=", "maybe"])
def test_labels_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--label"):
        Told.parse(label=[text])


def test_tags_may_be_told(tmp_path: Path) -> None:
    TREES["coco"](tmp_path / "set")
    for name in ("train2017", "val2017"):
        path = tmp_path / f"set/annotations/instances_{name}.json"
        path.write_text(path.read_text().replace("synthetic", "midjourney v6"))
    with pytest.raises(
        UsageError, match="no label for 2 pictures.*their tags are midjourney v6.*--label midjourney v6="
    ):
        imported(tmp_path / "set", tmp_path / "m.csv")
    imported(tmp_path / "set", tmp_path / "m.csv", told=Told.parse(label=["midjourney v6=generated"]))
    assert [sample.label for sample in read_manifest(tmp_path / "m.csv")] == [0, 1, 0, 1]


# ---- what is wrong is counted and named


def test_everything_wrong_is_named(tmp_path: Path) -> None:
    tree = tmp_path / "set"
    pictures(tree, "real/a.jpg", "real/b.jpg", "fake/c.jpg", "fake/d.jpg")
    put(tree, "fake/same-as-a.jpg", (tree / "real/a.jpg").read_bytes())
    put(tree, "fake/again.jpg", (tree / "fake/c.jpg").read_bytes())
    put(tree, "real/torn.jpg", encoded(9)[:500])
    put(tree, "real/empty.png", b"")
    put(tree, "real/page.jpg", "<html>")
    outside = put(tmp_path, "secret.jpg", encoded(50))
    (tree / "real/link.jpg").symlink_to(outside)
    (tree / "real/gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tree / "real/folder").symlink_to(tmp_path)
    (tree / "real/inside.jpg").symlink_to(tree / "real/b.jpg")
    done = run_cli("import", tree, "--out", tmp_path / "m.csv", env={"COLUMNS": "300"})
    assert done.returncode == 1
    rows = read(tmp_path / "m.left-out.csv")
    found = {(row["what"], Path(row["picture"]).name) for row in rows}
    assert found == {
        ("mixed", "a.jpg"), ("mixed", "same-as-a.jpg"), ("unreadable", "torn.jpg"), ("unreadable", "empty.png"),
        ("unreadable", "page.jpg"), ("outside", "link.jpg"), ("outside", "gone.jpg"), ("outside", "folder"),
        ("repeated", "inside.jpg"), ("repeated", "c.jpg"),
    }  # fmt: skip
    assert {Path(row["path"]).name for row in read(tmp_path / "m.csv")} == {"b.jpg", "again.jpg", "d.jpg"}
    assert all(row["why"] for row in rows)
    for text in ("mixed: 2", "generated as fake/same-as-a.jpg", "outside: 3", "m.left-out.csv"):
        assert text in done.stderr


def test_lists_that_lie(tmp_path: Path) -> None:
    TREES["140k"](tmp_path / "set")
    path = tmp_path / "set/train.csv"
    rows = read(path)
    rows[0]["label_str"] = "fake"  # of a picture in real/
    rows += [{**rows[1]}, {**rows[1], "path": "train/real/99999.jpg"}, {**rows[1], "path": "../../etc/x.jpg"},
             {**rows[1], "path": "/etc/passwd"}, {**rows[1], "label_str": "?"}]  # fmt: skip
    path.write_text(table([*rows[:2], *rows[3:]]))  # the fake one is missing in it
    found = imported(tmp_path / "set", tmp_path / "m.csv")
    assert kinds(found) == {"disagree": 1, "twice": 1, "missing": 1, "outside": 2, "broken": 1, "unlisted": 1}
    assert len(found.pictures) == 8
    assert found.notes.faults == 5


def test_coco_that_lies(tmp_path: Path) -> None:
    TREES["coco"](tmp_path / "set")
    path = tmp_path / "set/annotations/instances_train2017.json"
    said = json.loads(path.read_text())
    names = ("../../secret.jpg", "C:/x.jpg", "gone.jpg", "000000000001.jpg", "", 5)
    said["images"] += [*({"id": 7, "file_name": name} for name in names), "text", None]
    said["annotations"] += [
        {"image_id": 0, "category_id": 7, "bbox": box}
        for box in ([90, 90, 30, 30], [-5, 0, 10, 10], [0, 0, 0, 5], [1, 2, 3], "box", [1, 2, 3, float("nan")], None)
    ]
    path.write_text(json.dumps(said))
    put(tmp_path, "set/annotations/broken.json", '{"images": [')
    found = imported(tmp_path / "set", tmp_path / "m.csv")
    assert kinds(found) == {"outside": 2, "missing": 1, "twice": 1, "broken": 5, "box": 2}
    assert len(found.pictures) == 4
    boxes = [each.row.boxes for each in found.pictures if each.row.name.endswith("train2017/000000000001.jpg")]
    assert [(box.x, box.width) for box in boxes[0]] == [(1, 30), (50, 30.5), (-5, 10)]  # over the border is no fault
    assert [each.why for each in found.notes if each.kind == "box"][0].endswith("in a picture of 96 x 96")


def test_darwin_that_lies(tmp_path: Path) -> None:
    TREES["darwin"](tmp_path / "set")
    base = "set/releases/latest/annotations"
    items = {"up": ("../../a.jpg", "/"), "gone": ("z.jpg", "/"), "path": ("a.jpg", "/../.."), "twice": ("c.jpg", "/")}
    for name, (file, inner) in items.items():
        said = {"item": {"name": file, "path": inner}, "annotations": []}
        put(tmp_path, f"{base}/{name}.json", json.dumps(said))
    put(tmp_path, f"{base}/broken.json", '{"item": ')
    put(tmp_path, f"{base}/other.json", "[1, 2]")
    put(tmp_path, "set/images/more.jpg", encoded(60))
    with pytest.raises(UsageError, match=r"no label for 1 pictures, in images \(1\)"):
        imported(tmp_path / "set", tmp_path / "m.csv")
    found = imported(tmp_path / "set", tmp_path / "m.csv", told=Told.parse(label=["images/more.jpg*=skip"]))
    assert kinds(found) == {"outside": 2, "missing": 1, "twice": 1, "broken": 2, "unlisted": 1, "skipped": 1}
    assert len(found.pictures) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not a JSON object"), ("[]", "not a JSON object"), ('{"0": {"category": "training"}', "not a JSON object"),
     ('{"0": 1,}', "not a JSON object"), ("\xff", "not a JSON object"), ("", "not a JSON object")],
)  # fmt: skip
def test_a_broken_list_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    ffhq(tmp_path / "set")
    (tmp_path / "set" / "ffhq-dataset-v2.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=said):
        imported(tmp_path / "set", tmp_path / "m.csv")


def test_entries_of_the_wrong_kind(tmp_path: Path) -> None:
    ffhq(tmp_path / "set")
    path = tmp_path / "set" / "ffhq-dataset-v2.json"
    said = json.loads(path.read_text())
    said |= {"0": "text", "x": {}, "1": {"metadata": [], "category": 5}, "69999": {"metadata": {"license": ["x"]}}}
    path.write_text(json.dumps(said))
    found = imported(tmp_path / "set", tmp_path / "m.csv")
    assert kinds(found) == {"broken": 2, "unlisted": 1}
    assert {row["licence"] for row in read(tmp_path / "m.csv")} == {"FFHQ, CC BY-NC-SA 4.0"}


def test_zero_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path, "notes/readme.txt", "nothing")
    put(tmp_path, "torn/real/a.jpg", b"\xff\xd8\xff")
    for name, said in (("empty", "no pictures in"), ("notes", "no pictures in"), ("torn", "not one picture of"),
                       ("gone", "there is nothing at")):  # fmt: skip
        done = run_cli("import", tmp_path / name, "--out", tmp_path / "m.csv")
        assert done.returncode == 2
        assert said in done.stderr
        assert not (tmp_path / "m.csv").exists()


def test_wrong_use(tmp_path: Path) -> None:
    pictures(tmp_path / "set", "real/a.jpg", "fake/b.jpg")
    for args, said in (
        (["set"], "--out"), (["set", "--out", "m.json"], "must end in .csv"), (["coco", "set", "--out", "m.csv"],
         "does not look like the layout 'coco'"), (["coco", "--out", "m.csv"], "coco is a layout"),
        (["set", "--out", "m.csv", "--ratios", "train=1,val=0"], "--ratios"),
        (["set", "--out", "m.csv", "--splits", "some"], "keep or new"),
        (["set", "--out", "m.csv", "--radius", "64"], "--radius"),
        (["set", "--out", "m.csv", "--report", "no/where.html"], "make the folder"),
        (["set", "--out", "m.csv", "--upload", "/tmp"], "s3://BUCKET/PREFIX"),
        (["exif", "set", "set", "--out", "m.csv"], "takes one folder"),
    ):  # fmt: skip
        done = run_cli("import", *args, cwd=tmp_path)
        assert done.returncode == 2, (args, done.stderr)
        assert said in " ".join(done.stderr.split()), args
    assert not (tmp_path / "m.csv").exists()
    assert run_cli("import", "set", "--out", "n.csv", cwd=tmp_path).returncode == 0
    again = run_cli("import", "set", "--out", "n.csv", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists; give another --out, or --overwrite" in again.stderr
    assert run_cli("import", "set", "--out", "n.csv", "--overwrite", cwd=tmp_path).returncode == 0
    assert "140k" in run_cli("import", "layouts", env={"COLUMNS": "200"}).stdout


def test_a_run_does_not_take_its_own_files(tmp_path: Path) -> None:
    pictures(tmp_path / "set", "real/a.jpg", "fake/b.jpg")
    out = tmp_path / "set" / "manifest.csv"
    first = imported(tmp_path / "set", out)
    second = imported(tmp_path / "set", out, overwrite=True)
    assert [each.recognised[0].name for each in (first, second)] == ["imagefolder", "imagefolder"]
    assert first.pictures == second.pictures
    assert [row["path"] for row in read(out)] == ["fake/b.jpg", "real/a.jpg"]


# ---- near-duplicates and splits


def test_near_duplicates_share_a_group_and_a_split(tmp_path: Path) -> None:
    """The same picture at other sizes and qualities, of both classes (a photograph and its variation)."""
    rng = np.random.default_rng(5)
    for number in range(30):
        name = f"{'real' if number % 2 else 'fake'}/{number}"
        put(tmp_path, f"set/{name}.jpg", encoded(number))
        if number % 3 == 0:
            put(tmp_path, f"set/real/small-{number}.jpg", encoded(number, side=64, quality=int(rng.integers(60, 90))))
    flat = io.BytesIO()
    Image.new("RGB", (96, 96), (90, 90, 90)).save(flat, "PNG")
    put(tmp_path, "set/real/flat.png", flat.getvalue())
    put(tmp_path, "set/fake/flat.jpg", encoded(1000))
    Image.new("RGB", (96, 96), (91, 90, 90)).save(tmp_path / "set/fake/flat.png")
    found = imported(tmp_path / "set", tmp_path / "m.csv", ratios="train=0.5,val=0.3,test=0.2")
    of = {Path(each.row.name).name: (each.group, each.split) for each in found.pictures}
    for number in range(0, 30, 3):
        assert of[f"{number}.jpg"] == of[f"small-{number}.jpg"]
    assert len(found.pictures) == 43
    assert found.groups == 30 + 3  # flat pictures look like nothing
    assert (found.alike, found.both, found.largest) == (20, 5, 2)
    off = imported(tmp_path / "set", tmp_path / "off.csv", radius=-1)
    assert off.groups == len(off.pictures)


def test_splits_that_leak_are_named_and_mended(tmp_path: Path) -> None:
    tree = tmp_path / "set"
    pictures(tree, "train/real/a.jpg", "train/fake/b.jpg", "val/real/c.jpg", "test/real/d.jpg", "test/fake/e.jpg")
    put(tree, "test/real/a-smaller.jpg", encoded(0, side=72))  # of train/real/a.jpg
    put(tree, "val/real/a-copy.jpg", encoded(0))  # the same bytes
    found = imported(tree, tmp_path / "m.csv")
    assert kinds(found) == {"repeated": 1, "straddling": 1}
    assert [(dict(each.splits)) for each in found.straddling] == [{"val": 1, "test": 1}]
    rows = {row["path"][4:]: row["split"] for row in read(tmp_path / "m.csv")}
    assert rows["test/real/a-smaller.jpg"] == "test"
    assert not {"train/real/a.jpg", "val/real/a-copy.jpg"} & rows.keys()
    read_manifest(tmp_path / "m.csv")
    kept = imported(tree, tmp_path / "kept.csv", keep_straddling=True)
    assert kinds(kept) == {"repeated": 1}
    with pytest.raises(UsageError, match="1 group.s. lie in several splits"):
        read_manifest(tmp_path / "kept.csv")
    new = imported(tree, tmp_path / "new.csv", new_splits=True)
    assert not new.straddling
    assert new.dealt == len(new.pictures) == 6
    read_manifest(tmp_path / "new.csv")


def test_dealing_is_stratified_whole_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(900), rng.integers(1, 4, 900))
    strata = [("photograph", "sdxl/a", "flux/b")[int(group) % 7 % 3] for group in groups]
    names = {int(group): f"g{group}" for group in groups}
    ratios = parse_ratios("train=8,val=1,test=1")
    dealt = assign(groups.tolist(), strata, names, ratios, seed=3)
    for stratum in set(strata):
        inside = [split for split, s in zip(dealt, strata, strict=True) if s == stratum]
        for split, share in ratios.items():
            assert abs(inside.count(split) / len(inside) - share) < 0.02, (stratum, split)
    assert all(len({s for s, g in zip(dealt, groups, strict=True) if g == group}) == 1 for group in range(0, 900, 50))
    order = rng.permutation(len(groups))
    again = assign(groups[order].tolist(), [strata[k] for k in order], names, ratios, seed=3)
    assert [dealt[k] for k in order] == again
    assert assign(groups.tolist(), strata, names, ratios, seed=4) != dealt
    # Pairs and singles alike come into every split.
    sizes = np.bincount(groups)[groups]
    assert {int(size) for size, split in zip(sizes, dealt, strict=True) if split == "test"} == {1, 2, 3}


def test_a_split_of_its_own_is_kept_and_the_rest_is_dealt(tmp_path: Path) -> None:
    TREES["manifest"](tmp_path / "set")
    found = imported(tmp_path / "set", tmp_path / "m.csv")
    assert found.dealt == 1
    assert [each.split for each in found.pictures[:2]] == ["train", "train"]


@pytest.mark.parametrize("text", ["train", "train=a", "train=1,train=2", "a b=1", "train=inf", "train=-1", ""])
def test_ratios_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--ratios"):
        parse_ratios(text)


# ---- long runs


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceproof.importing import examining

    pictures(tmp_path / "set", *(f"real/{n}.jpg" for n in range(10)), "fake/x.jpg")
    calls: list[str] = []
    whole = examining.examine

    def counting(path: str, limits: object) -> examining.Examined:
        calls.append(path)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return whole(path, limits)  # type: ignore[arg-type]

    monkeypatch.setattr(examining, "examine", counting)
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path / "set", tmp_path / "m.csv")
    journal = tmp_path / "m.csv.partial.jsonl"
    assert len(journal.read_text().splitlines()) == 5
    journal.write_bytes(journal.read_bytes() + b'{"path": "torn')
    put(tmp_path, "set/fake/x.jpg", encoded(99))  # changed since: read again
    calls[:] = ["again"] * 6
    found = imported(tmp_path / "set", tmp_path / "m.csv")
    assert len(calls) - 6 == 11 - 5 + 1
    assert len(found.pictures) == 11
    assert not journal.exists()
    put(tmp_path, "none.csv.partial.jsonl", 'garbage\n{"path": 3}\n[]\n')
    assert imported(tmp_path / "set", tmp_path / "none.csv").pictures == found.pictures


@pytest.mark.slow
def test_many_processes_give_what_one_gives(tmp_path: Path) -> None:
    pictures(tmp_path / "set", *(f"{c}/{n}.jpg" for n in range(25) for c in ("real", "fake")))
    put(tmp_path, "set/real/torn.jpg", b"\xff\xd8\xff\0")
    one = imported(tmp_path / "set", tmp_path / "one.csv")
    two = import_data([str(tmp_path / "set")], tmp_path / "two.csv", Options(workers=2))
    assert one.pictures == two.pictures
    assert kinds(one) == kinds(two) == {"unreadable": 1}


# ---- the report


def test_probes_see_a_shortcut_and_no_shortcut(tmp_path: Path) -> None:
    """PNG against JPEG is an AUC of 1; equal files are chance within the noise."""
    for number in range(40):
        put(tmp_path, f"fair/real/{number}.jpg", encoded(number))
        put(tmp_path, f"fair/fake/{number}.jpg", encoded(1000 + number))
        put(tmp_path, f"unfair/real/{number}.jpg", encoded(number, quality=75))
        put(tmp_path, f"unfair/fake/{number}.png", encoded(1000 + number, "PNG"))
    fair = {each.name: each for each in file_probes(imported(tmp_path / "fair", tmp_path / "a.csv").pictures)}
    unfair = {each.name: each for each in file_probes(imported(tmp_path / "unfair", tmp_path / "b.csv").pictures)}
    for name in ("format", "JPEG quality", "all together"):
        assert unfair[name].auc == 1
    for name in ("longer side", "shape (width / height)"):
        assert unfair[name].auc == fair[name].auc == 0.5
    assert fair["format"].auc == fair["JPEG quality"].auc == 0.5
    assert fair["bytes per pixel"].low < 0.5 < fair["bytes per pixel"].high


def test_the_page(tmp_path: Path) -> None:
    for number in range(22):
        put(tmp_path, f"set/train/real/{number}.jpg", encoded(number))
        put(tmp_path, f"set/train/fake/flux/{number}.png", encoded(100 + number, "PNG"))
    put(tmp_path, "set/val/real/<script>alert(1)<.jpg", encoded(0, side=70))
    put(tmp_path, "set/val/real/=cmd.jpg", b"broken")
    done = run_cli("import", tmp_path / "set", "-o", tmp_path / "m.csv", "--report", tmp_path / "r.html")
    assert done.returncode == 1, done.stderr
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in text.replace("<script>alert(1)<", "&lt;", 0)
    for wanted in ("class folders: real, fake", "A detector trained on these files", "flux/flux", "PNG 100 %",
                   "straddling", "unreadable", "Licences", "&lt;script&gt;"):  # fmt: skip
        assert wanted in text, wanted
    assert text.count("data:image/jpeg;base64,") == 16  # eight of each class
    assert "http://" not in text
    assert "https://" not in text
    assert "'=cmd.jpg" not in text
    assert len(text) < 400_000
    few = tmp_path / "few"
    pictures(few, "real/a.jpg", "fake/b.jpg")
    run_cli("import", few, "-o", tmp_path / "f.csv", "--report", tmp_path / "f.html")
    assert "Not measured" in (tmp_path / "f.html").read_text(encoding="utf-8")


# ---- reading large lists


@given(st.dictionaries(st.text(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)), st.integers(1, 9),
    st.sampled_from([None, 2]), st.booleans())  # fmt: skip
def test_entries_are_those_of_json(value: dict[str, object], block: int, indent: int | None, plain: bool) -> None:
    from faceproof.importing import tree

    data = json.dumps(value, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree._Forward, "BLOCK", block)
        assert dict(json_entries(io.BytesIO(data))) == value
        if len(data) > 2:
            with pytest.raises(ValueError):  # noqa: PT011
                list(json_entries(io.BytesIO(data.rstrip()[:-1])))


def test_an_entry_without_an_end_is_refused() -> None:
    class Endless(io.RawIOBase):
        sent = 0

        def read(self, size: int = -1) -> bytes:
            self.sent += size
            return b'{"a": [' + b"1," * (size // 2) if self.sent == size else b"1," * (size // 2)

    stream = Endless()
    with pytest.raises(ValueError):  # noqa: PT011
        list(json_entries(stream))  # type: ignore[arg-type]
    assert stream.sent < 4 * LARGEST_ENTRY


def test_ends_of_paths_must_name_one_file(tmp_path: Path) -> None:
    pictures(tmp_path, "x/a/1.jpg", "y/a/1.jpg", "y/b/2.jpg")
    tree = open_tree(str(tmp_path), Notes())
    assert tree.find("/home/me/data/y/a/1.jpg") == "y/a/1.jpg"
    assert tree.find("/home/me/a/1.jpg") is None
    assert tree.find("C/2.jpg") == "y/b/2.jpg"
    assert tree.find("1.jpg", "x/a") == "x/a/1.jpg"
    for bad in ("", "..", "a/../b.jpg", "..\\x.jpg", "C:\\x.jpg", "a\0.jpg"):
        with pytest.raises(UsageError, match="leads out"):
            tree.find(bad)


# ---- Hugging Face


def _parquet(path: Path, names: list[str] | None, labels: list[int | str], start: int = 0) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra parquet")
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": encoded(start + n, "PNG"), "path": None} for n in range(len(labels))]
    columns = {"image": pictures, "label": labels}
    found = pa.table(columns)
    if names:
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
        found = found.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(found, path, row_group_size=2)


def test_parquet_files_of_a_hugging_face_set(tmp_path: Path) -> None:
    _parquet(tmp_path / "set/data/train-00000-of-00001.parquet", ["fake", "real"], [0, 1, 1])
    _parquet(tmp_path / "set/data/test-00000-of-00001.parquet", ["fake", "real"], [0, 1], start=10)
    found = imported(tmp_path / "set", tmp_path / "out" / "m.csv")
    assert found.recognised[0].name == "huggingface"
    rows = read(tmp_path / "out" / "m.csv")
    assert [(row["label"], row["split"]) for row in rows] == [
        ("generated", "test"), ("photograph", "test"), ("generated", "train"), ("photograph", "train"),
        ("photograph", "train"),
    ]  # fmt: skip
    assert all(row["path"].startswith("pictures/") for row in rows)
    assert (tmp_path / "out" / rows[2]["path"]).read_bytes() == encoded(0, "PNG")  # byte for byte
    assert len(read_manifest(tmp_path / "out" / "m.csv")) == 5
    # One file alone, and numbers without names.
    _parquet(tmp_path / "bare.parquet", None, [0, 1])
    with pytest.raises(UsageError, match="--label 0=generated"):
        imported(tmp_path / "bare.parquet", tmp_path / "b.csv")
    imported(
        tmp_path / "bare.parquet", tmp_path / "b.csv", told=Told.parse(label=["0=generated", "label=1=photograph"])
    )
    assert [sample.label for sample in read_manifest(tmp_path / "b.csv")] == [1, 0]
    put(tmp_path, "torn.parquet", (tmp_path / "bare.parquet").read_bytes()[:300])
    with pytest.raises(UsageError, match="no Parquet file, or damaged"):
        imported(tmp_path / "torn.parquet", tmp_path / "t.csv")


@pytest.mark.slow
def test_a_saved_set_through_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra huggingface")
    hub = pytest.importorskip("huggingface_hub")
    # Both read the environment once, when they are imported, and other tests need the hub.
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["photo", "ai"])})
    given = {"image": [{"bytes": encoded(n), "path": None} for n in range(4)], "label": [0, 1, 0, 1]}
    part = datasets.Dataset.from_dict(given, features=features)
    part.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": part}).save_to_disk(str(tmp_path / "dict"))
    for name, split in (("one", None), ("dict", "train")):
        found = imported(tmp_path / name, tmp_path / name / "out" / "m.csv")
        assert [each.row.label for each in found.pictures] == [0, 1, 0, 1]
        assert split is None or {each.split for each in found.pictures} == {split}
        assert Path(found.pictures[1].file.path).read_bytes() == encoded(1)
    with pytest.raises(UsageError, match="cannot load"):
        import_data(["hf://nobody/nothing-at-all"], tmp_path / "n.csv", Options())


# ---- real files, and the whole chain


@pytest.mark.data
@pytest.mark.slow
def test_the_projects_own_set(faces_data: Path, tmp_path: Path) -> None:
    found = import_data([str(faces_data)], tmp_path / "m.csv", Options())
    assert found.recognised[0].name == "manifest"
    lines = read(faces_data / "manifest.csv")
    assert len(found.pictures) + len(found.notes) == len(lines)
    assert set(kinds(found)) <= {"straddling", "repeated"}
    samples = read_manifest(tmp_path / "m.csv")  # raises where a group straddles
    assert {sample.split for sample in samples} == {"train", "val", "unseen"}
    probes = {each.name: each.auc for each in file_probes(found.pictures)}
    assert 0.6 < probes["longer side"] < 1  # DATA.md: picture size alone tells the class


@pytest.mark.slow
def test_from_a_tree_to_an_evaluation(tmp_path: Path, astronaut: np.ndarray) -> None:  # type: ignore[type-arg]
    """`faceproof import`, then `faceproof evaluate` on what it wrote."""
    for number in range(12):
        crop = Image.fromarray(astronaut).crop((50 + 3 * number, 2 * number, 400 + 2 * number, 350))
        for folder in ("real", "fake"):
            image = crop if folder == "real" else crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(number - 6)
            (tmp_path / "set/val" / folder).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / f"set/val/{folder}/{number}.png")
    shutil.copy(tmp_path / "set/val/real/0.png", tmp_path / "set/val/real/copy.png")
    done = run_cli("import", tmp_path / "set", "--out", tmp_path / "m.csv", "--radius", "0")
    assert done.returncode == 0, done.stderr
    done = run_cli(
        "evaluate", "lite2-208", "--data", tmp_path / "m.csv", "--out", tmp_path / "eval", "--split", "val", timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert pixels(1).shape == (96, 96, 3)
