"""`faceproof study`: from files to a folder; bad tables; labels by hand; what is private stays so."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof.detectors.card import read_card
from faceproof.detectors.store import model_folder
from faceproof.images import RGB
from faceproof.study_report import CELLS, blurred
from tests.helpers import read_records, run_cli
from tests.platforms import platform, write

pytest.importorskip("py3langid", reason="extra posts")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        lines = [line for line in stream if not line.startswith("#")]
    return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A platform of 1,500 accounts and its study, posts included."""
    folder = tmp_path_factory.mktemp("platform")
    accounts = platform(2, 1500)
    write(accounts, read_card(model_folder(None)), folder)
    done = run_cli(
        "study", "--accounts", "accounts.csv", "--results", "scan.jsonl", "--clusters", "clusters.csv", "--posts",
        "posts.csv", "--encoder", "words", "--prevalence", "0.02", "--out", "study", cwd=folder, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, accounts


def test_campaigns_from_files(studied: tuple[Path, Any]) -> None:
    folder, accounts = studied
    planted = {one.name for one in accounts if one.campaign}
    rows = _rows(folder / "study" / "campaign_accounts.csv")
    found = {row["account"] for row in rows}
    assert len(found & planted) / len(found) >= 0.97
    assert len(found & planted) / len(planted) >= 0.95
    first = {row["account"] for row in rows if row["campaign"] == "1"}
    assert {name[0] for name in first} == {"A"}
    kinds = _rows(folder / "study" / "campaigns.csv")[0]["kinds"]
    assert {"created", "flagged", "text"} <= set(kinds.split())
    html = (folder / "study" / "study.html").read_text()
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "Campaign 1:" in html


def test_prevalence_and_comparison_from_files(studied: tuple[Path, Any]) -> None:
    folder, accounts = studied
    flagged = sum(one.flagged for one in accounts)
    rows = _rows(folder / "study" / "accounts.csv")
    assert len(rows) == len(accounts)
    assert sum(row["picture"] == "flagged" for row in rows) == flagged
    methods = {row["method"]: row for row in _rows(folder / "study" / "prevalence.csv")}
    val = methods["Rogan-Gladen, rates of val"]
    assert float(val["low"]) <= float(val["prevalence"]) <= float(val["high"])
    assert "bootstrap of picture clusters, rates of val" in methods
    traits = {row["trait"]: row for row in _rows(folder / "study" / "comparison.csv")}
    assert float(traits["suspended"]["flagged"]) > 0.5
    assert float(traits["followers"]["size"]) < 0
    assert float(traits["share of copied posts"]["q"]) < 0.01


def test_labels_by_hand_replace_the_card(studied: tuple[Path, Any]) -> None:
    folder, accounts = studied
    rows = _rows(folder / "study" / "label_me.csv")
    flagged = {one.name for one in accounts if one.flagged}
    picked = [row for row in rows if row["account"] in flagged]
    assert len(picked) == min(200, len(flagged))
    assert len(rows) == len(picked) + 200
    for row in rows:
        row["label"] = "generated" if row["account"] in flagged and row["account"][0] in "AB" else "photograph"
    rows[0]["label"], rows[1]["label"] = "?", ""
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    done = run_cli(
        "study", "--accounts", "accounts.csv", "--results", "scan.jsonl", "--labels", "labels.csv", "--out", "again",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "labels: no label" in done.stderr
    hand = next(r for r in _rows(folder / "again" / "prevalence.csv") if r["method"] == "labelled by hand")
    counted = [row for row in picked if row["label"] in ("generated", "photograph")]
    right = sum(row["label"] == "generated" for row in counted)
    assert float(hand["prevalence"]) == pytest.approx(right / len(counted) * len(flagged) / len(accounts), rel=1e-4)
    assert "By hand" in (folder / "again" / "study.html").read_text()
    # Labels written into the file itself stay there.
    (folder / "again" / "label_me.csv").write_bytes(before := (folder / "labels.csv").read_bytes())
    run = ("study", "--accounts", "accounts.csv", "--results", "scan.jsonl", "--out", "again", "-q")
    assert run_cli(*run, cwd=folder).returncode == 0
    assert (folder / "again" / "label_me.csv").read_bytes() == before


def test_a_salt_hides_ids_and_itself(studied: tuple[Path, Any]) -> None:
    folder, accounts = studied
    run = ("study", "--accounts", "accounts.csv", "--results", "scan.jsonl", "--clusters", "clusters.csv", "--salt",
           "a long secret", "-q")  # fmt: skip
    done = run_cli(*run, "--out", "salted", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    for path in (folder / "salted").iterdir():
        text = path.read_text()
        if path.name != "label_me.csv":  # it names pictures, for a person to look at
            assert not re.search(r"\b(user|[A-D])\d+\b", text), path.name
        assert "a long secret" not in text
    assert len({row["account"] for row in _rows(folder / "salted" / "accounts.csv")}) == len(accounts)
    labels = _rows(folder / "salted" / "label_me.csv")
    for row in labels:
        row["label"] = "photograph"
    with (folder / "salted.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(labels[0]))
        writer.writeheader()
        writer.writerows(labels)
    done = run_cli(*run, "--labels", "salted.csv", "--out", "salted2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert _rows(folder / "salted2" / "prevalence.csv")[-1]["method"] == "labelled by hand"


def test_bad_tables_are_counted_and_named(tmp_path: Path) -> None:
    card = read_card(model_folder(None))
    write(platform(0, 60)[:100], card, tmp_path)
    names = [row["account_id"] for row in _rows(tmp_path / "accounts.csv")]
    bad = [
        "account_id,created_at,followers_count,statuses_count,suspended",
        f"{names[0]},1950-01-01,many,3,maybe",
        f"{names[0]},2020-01-01,1,1,0",
        ",2020-01-01,1,1,0",
        f"{names[1]},2999-01-01,-4,1,1",
        "nobody,soon,1,1,0",
        "torn,2020",
        *(f"{name},2020-01-01,1,1,0" for name in names[2:-2]),
    ]
    (tmp_path / "accounts.csv").write_text("\n".join(bad) + "\n")
    done = run_cli("study", "-a", "accounts.csv", "--results", "scan.jsonl", "--out", "s", cwd=tmp_path)
    assert done.returncode == 1  # a broken row
    rows = _rows(tmp_path / "s" / "problems.csv")
    kinds = {f"{row['table']}: {row['problem']}" for row in rows}
    assert kinds == {
        "accounts: clock before 1970", "accounts: followers: no number", "accounts: suspended: neither yes nor no",
        "accounts: repeated id", "accounts: no id", "accounts: clock in the future", "accounts: time cannot be read",
        "accounts: broken row", "pictures: picture without account", "pictures: account without picture",
    }  # fmt: skip
    assert sum(row["problem"] == "picture without account" for row in rows) == 2
    assert any("nobody" in row["detail"] for row in rows)
    for kind in kinds:
        assert kind in done.stderr
    assert len(_rows(tmp_path / "s" / "accounts.csv")) == len(names) - 2 + 1


@pytest.mark.slow
def test_pictures_are_scanned_and_faces_blurred(tmp_path: Path, astronaut: RGB) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    crop = Image.fromarray(astronaut[:300, 100:400])
    for n in range(4):
        crop.save(folder / f"a{n}.png")
    (folder / "a4.png").write_bytes(b"no picture")
    Image.new("RGB", (200, 200), "gray").save(folder / "a5.png")
    (tmp_path / "accounts.csv").write_text("id,avatar\n" + "".join(f"{n},a{n}.png\n" for n in range(7)))
    (tmp_path / "clusters.csv").write_text("cluster,path\n" + "".join(f"1,pictures/a{n}.png\n" for n in range(4)))
    run = ("study", "-a", "accounts.csv", "--pictures", "pictures", "--clusters", "clusters.csv", "--fpr", "0.05",
           "--out", "s", "-j", "1")  # fmt: skip
    done = run_cli(*run, cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # a4 is not readable
    states = [row["picture"] for row in _rows(tmp_path / "s" / "accounts.csv")]
    assert states == ["judged"] * 4 + ["not readable", "no face fit to be judged", "no picture"]
    records = read_records(tmp_path / "s" / "scan.jsonl")
    assert len(records) == 6
    (tmp_path / "s" / "scan.jsonl").write_text(
        "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records[:3])
    )
    assert run_cli(*run, cwd=tmp_path).returncode == 1
    assert len(read_records(tmp_path / "s" / "scan.jsonl")) == 6


@pytest.mark.slow
def test_copies_are_looked_for_where_no_clusters_are_given(tmp_path: Path, face_jpeg: bytes) -> None:
    """What `duplicates` finds by its defaults; hashes are kept, and a later run looks at new pictures only."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for n in range(6):
        (folder / f"a{n}.jpg").write_bytes(face_jpeg)
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"b{n}.png")
    names = [f"{kind}{n}" for n in range(7) for kind in "ab"]
    (tmp_path / "accounts.csv").write_text("id\n" + "".join(f"{name}\n" for name in names))
    run = ("study", "-a", "accounts.csv", "--pictures", "pictures", "--out", "s", "-j", "1", "-q")
    assert run_cli(*run, cwd=tmp_path).returncode == 0
    clusters = {row["account"]: row["picture_cluster"] for row in _rows(tmp_path / "s" / "accounts.csv")}
    assert [clusters[name] for name in names] == ["1" if n % 2 == 0 and n < 12 else "" for n in range(14)]
    done = run_cli("duplicates", "pictures", "--out", "clusters.csv", "-q", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "clusters.csv").read_bytes() == (tmp_path / "s" / "clusters.csv").read_bytes()
    before = (tmp_path / "s" / "hashes.jsonl").read_bytes()
    (folder / "a6.jpg").write_bytes(face_jpeg)
    assert run_cli(*run, cwd=tmp_path).returncode == 0
    after = (tmp_path / "s" / "hashes.jsonl").read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].count(b"\n") == 1
    assert {row["account"]: row["picture_cluster"] for row in _rows(tmp_path / "s" / "accounts.csv")}["a6"] == "1"


def test_nothing_is_left_of_a_blurred_face(astronaut: RGB) -> None:
    box = (180.0, 60.0, 280.0, 190.0)
    found = blurred(astronaut, [box, (-50, -50, 10, 10), (600, 600, 700, 700)])
    inside = found[25:225, 155:305].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) <= CELLS * CELLS
    assert (found[300:] == astronaut[300:]).all()
    assert found is not astronaut


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-a", "accounts.csv"], "no pictures; give --pictures DIR"),
        (["-a", "no.csv", "--results", "scan.jsonl"], "no table at no.csv"),
        (["-a", "accounts.csv", "--results", "no.jsonl"], "no results at no.jsonl"),
        (["-a", "accounts.csv", "--results", "accounts.csv"], "does not hold faceproof results"),
        (["-a", "accounts.csv", "--results", "scan.jsonl", "--clusters", "no.csv"], "no table at no.csv"),
        (["-a", "accounts.csv", "--results", "scan.jsonl", "--as-of", "soon"], "is no date"),
        (["-a", "accounts.csv", "--results", "scan.jsonl", "--column", "age=x"], "no role 'age'"),
        (["-a", "accounts.csv", "--results", "scan.jsonl", "--min-campaign", "1"], "at least 2 accounts"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], message: str) -> None:
    write(platform(0, 20)[:30], read_card(model_folder(None)), tmp_path)
    done = run_cli("study", *arguments, "--out", "s", cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
