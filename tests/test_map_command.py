"""`faceproof map` from pictures to page: nothing dropped, resumed after a kill, the same with several processes."""

from __future__ import annotations

import csv
import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceproof import FaceChecker, ModelError, OutputError, PictureError, UsageError
from faceproof.detectors.crops import cut
from faceproof.embeddings import EmbeddingRecord, embed, made_with, open_embeddings
from faceproof.images import RGB
from faceproof.inputs import Inputs, Item
from faceproof.layouts import pca
from faceproof.picture_map import Choice, build_map, check_choice
from faceproof.scan import Options
from tests.helpers import bad_folder, encode, run_cli, start_cli, wait_until, whole_lines

PICTURES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> Path:
    """Crops of one face, and a picture without any; a manifest beside them."""
    top = tmp_path_factory.mktemp("mapped")
    (top / "pictures").mkdir()
    rows = ["path,label,source"]
    for number in range(PICTURES):
        crop = astronaut[number % 5 : 330 + number, 60 + number % 7 : 390 + number]
        name = f"face-{number:02}.jpg"
        (top / "pictures" / name).write_bytes(encode(crop, "JPEG", quality=60 + number))
        rows.append(f"pictures/{name},{'generated' if number % 3 else 'photograph'},s{number % 2}")
    (top / "pictures" / "grey.png").write_bytes(encode(np.full((80, 80, 3), 128, np.uint8), "PNG"))
    (top / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (top / "manifest.csv").write_text("\n".join(rows) + "\n")
    return top


@pytest.fixture(scope="module")
def records(folder: Path) -> list[EmbeddingRecord]:
    return list(embed(Inputs([str(folder / "pictures")]), Options(), workers=1))


def _data(page: Path) -> dict[str, Any]:
    found = re.search(r'id="faceproof-map">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_embeddings_are_the_networks(checker: FaceChecker, folder: Path, records: list[EmbeddingRecord]) -> None:
    """Against the network run by hand on the crop of the face, and the checker's verdict."""
    record = next(r for r in records if r.path.endswith("face-07.jpg"))
    result = checker.check(record.path)
    one = next(checker.embed_many([record.path]))
    assert one.crop is not None
    scores, embeddings = checker.detector.score_and_embed(one.crop[None])  # type: ignore[attr-defined]
    assert record.embedding is not None
    np.testing.assert_allclose(record.embedding, embeddings[0], rtol=1e-4, atol=1e-5)
    assert scores[0] == pytest.approx(result.faces[0].verdict.score, abs=1e-4)
    assert record.verdict == result.verdict
    assert record.probability == pytest.approx(result.faces[0].verdict.probability, abs=1e-5)
    assert one.result.to_dict() == result.to_dict()


def test_of_several_faces_the_decisive_one_is_embedded(checker: FaceChecker, astronaut: RGB) -> None:
    """Its crop is cut again from the landmarks in the record, and goes through the network alone."""
    small = np.pad(astronaut[::2, ::2], ((0, 256), (0, 0), (0, 0)), constant_values=128)
    for pair in (np.concatenate([astronaut, small], axis=1), np.concatenate([small, astronaut[:, ::-1]], axis=1)):
        _, one = checker.embed_many([astronaut, pair])
        assert len(one.result.faces) == 2
        assert one.result.decisive is not None
        crop = cut(checker.card.crop, pair, one.result.decisive.landmarks)
        assert one.crop is not None
        np.testing.assert_array_equal(one.crop, crop)
        _, embeddings = checker.detector.score_and_embed(crop[None])  # type: ignore[attr-defined]
        assert one.embedding is not None
        np.testing.assert_allclose(one.embedding, embeddings[0], rtol=1e-4, atol=1e-5)


def test_records_survive_the_file(tmp_path: Path, records: list[EmbeddingRecord], checker: FaceChecker) -> None:
    with open_embeddings(tmp_path / "e.jsonl", made_with(checker)) as file:
        for record in records:
            file.write(record)
    with open_embeddings(tmp_path / "e.jsonl", made_with(checker)) as file:
        assert file.counts == {"ok": PICTURES, "no_face": 1, "error": 1}
        for read, wrote in zip(file.records(), records, strict=True):
            assert read.to_dict() == wrote.to_dict()


def test_a_torn_line_is_cut_and_other_options_are_refused(
    tmp_path: Path, records: list[EmbeddingRecord], checker: FaceChecker
) -> None:
    path = tmp_path / "e.jsonl"
    with open_embeddings(path, made_with(checker)) as file:
        file.write(next(record for record in records if record.status == "ok"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    with open_embeddings(path, made_with(checker)) as file:
        assert file.total == 1
        with pytest.raises(OutputError, match="another scan is writing"):
            open_embeddings(path, made_with(checker))
    assert path.read_bytes() == whole
    with pytest.raises(OutputError, match=r"was made with .* FPR 0.01.*, not .*FPR 0.05.*--overwrite"):
        open_embeddings(path, made_with(FaceChecker(fpr=0.05)))
    for junk in (b"hello\n", b"{}\n", b"[" * 5000 + b"\n", whole.replace(b'"status":"ok"', b'"status":"no"')):
        path.write_bytes(junk)
        with pytest.raises(OutputError, match="does not hold the embeddings that are asked for"):
            open_embeddings(path, made_with(checker))
    with open_embeddings(path, made_with(checker), overwrite=True) as file:
        assert file.total == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "fine"}, "unknown status"),
        ({"embedding": None}, "an embedding, a thumbnail and a verdict"),
        ({"verdict": "perhaps"}, "an embedding, a thumbnail and a verdict"),
        ({"probability": 1.5}, "must lie in 0..1"),
        ({"embedding": np.array([np.nan], np.float32)}, "finite float32"),
        ({"error": "broken"}, "an error has a message"),
    ],
)
def test_records_are_validated(change: dict[str, Any], said: str) -> None:
    good = {"path": "a", "status": "ok", "made_with": "m", "verdict": "photograph", "probability": 0.5}
    with pytest.raises(UsageError, match=said):
        EmbeddingRecord(**{**good, "embedding": np.ones(3, np.float32), "thumbnail": b"x", **change})


@pytest.mark.slow
def test_map_command(folder: Path, tmp_path: Path, records: list[EmbeddingRecord]) -> None:
    done = run_cli(
        "map", "pictures", "--out", tmp_path / "map.html", "--csv", tmp_path / "map.csv", "--layout", "pca",
        "--manifest", "manifest.csv", "-j", "2", cwd=folder, timeout=400,
    )  # fmt: skip
    assert done.returncode == 1  # one cannot be read
    assert "40 pictures on the map" in done.stderr
    assert "1 without a face, 1 not readable" in done.stderr
    assert "not readable: pictures/broken.jpg: the file begins like JPEG" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.csv", "map.html"]
    data = _data(tmp_path / "map.html")
    shown = [record for record in records if record.embedding is not None]
    assert data["path"] == [f"pictures/{Path(record.path).name}" for record in shown]
    assert data["verdict"] == [record.verdict for record in shown]
    np.testing.assert_allclose(data["probability"], [record.probability for record in shown], atol=1e-4)
    assert data["columns"]["label"][:4] == ["photograph", "generated", "generated", "photograph"]
    assert [(one["path"], one["status"]) for one in data["missing"]] == [
        ("pictures/broken.jpg", "error"),
        ("pictures/grey.png", "no_face"),
    ]
    # Distances on the page are those of PCA, all by the same factor.
    points = pca(np.stack([record.embedding for record in shown if record.embedding is not None])).points
    own, theirs = (
        np.sqrt(((p[:, None] - p[None]) ** 2).sum(-1)) for p in (points, np.column_stack([data["x"], data["y"]]))
    )
    np.testing.assert_allclose(theirs / theirs.max(), own / own.max(), atol=2e-3)
    with (tmp_path / "map.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows[:PICTURES]] == data["path"]
    assert [float(row["x"]) for row in rows[:PICTURES]] == data["x"]
    assert [row["status"] for row in rows[PICTURES:]] == ["error", "no_face"]


@pytest.mark.slow
def test_a_killed_run_goes_on(folder: Path, tmp_path: Path) -> None:
    out, journal = tmp_path / "map.html", tmp_path / "map.html.partial.jsonl"
    process = start_cli("map", folder / "pictures", "--out", out, "--layout", "pca", "-j", "1", "-q")
    wait_until(lambda: 0 < whole_lines(journal) < PICTURES, seconds=200, what="the first embeddings")
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not out.exists()
    kept = whole_lines(journal)
    begun = journal.read_bytes()[:200]
    done = run_cli("map", folder / "pictures", "--out", out, "--layout", "pca", "-j", "1", "--embeddings", journal,
                   timeout=400)  # fmt: skip
    assert done.returncode == 1
    assert kept <= PICTURES
    assert journal.read_bytes()[:200] == begun
    assert whole_lines(journal) == PICTURES + 2
    assert len(_data(out)["path"]) == PICTURES


def test_every_bad_picture_is_named(tmp_path: Path, face_jpeg: bytes, astronaut: RGB, checker: FaceChecker) -> None:
    (tmp_path / "bad").mkdir()
    expected = bad_folder(tmp_path / "bad", face_jpeg, astronaut)
    chosen = Inputs([str(tmp_path / "bad")])
    with open_embeddings(tmp_path / "e.jsonl", made_with(checker)) as file:
        for record in embed(chosen, Options(), workers=1):
            file.write(record)
        paths = [record.path for record in file.records()]
        made = build_map(file, paths, Choice(layout="pca"))
    assert len(made.points) + len(made.missing) == len(paths) == chosen.count()
    found = {one.path.removeprefix(f"{tmp_path}/bad/"): one for one in made.missing}
    for name, (status, pattern) in expected.items():
        if status == "error" and name in found:
            assert found[name].status == "error"
            assert re.search(pattern, found[name].why), name
        elif status == "ok":
            assert any(point.path.endswith(name) for point in made.points), name


def test_workers_give_the_same_and_items_with_errors_keep_their_place(records: list[EmbeddingRecord]) -> None:
    items = [Item("closed", "the folder cannot be listed"), *(Item(record.path) for record in records[:3])]
    found = list(embed(items, Options(), workers=1))
    assert [record.path for record in found] == ["closed", *(record.path for record in records[:3])]
    assert found[0].error == "the folder cannot be listed"
    with pytest.raises(UsageError, match="workers must be at least 1"):
        next(embed(items, Options(), workers=0))


def test_nothing_to_map(tmp_path: Path, checker: FaceChecker) -> None:
    (tmp_path / "grey.png").write_bytes(encode(np.full((80, 80, 3), 128, np.uint8), "PNG"))
    with open_embeddings(tmp_path / "e.jsonl", made_with(checker)) as file:
        record = next(embed([Item(str(tmp_path / "grey.png"))], Options()))
        file.write(record)
        with pytest.raises(PictureError, match="no face in any of 1 pictures"):
            build_map(file, [record.path])
        with pytest.raises(UsageError, match="holds no record of 'other.png'"):
            build_map(file, ["other.png"])


def test_wrong_choices_are_said_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--manifest: no file at absent.csv"):
        check_choice(Choice(manifest="absent.csv"))
    with pytest.raises(UsageError, match="give one with --manifest"):
        Choice(columns=("age",))
    with pytest.raises(UsageError, match="one of the two"):
        Choice(clusters="c.csv", smallest=5)
    done = run_cli("map", tmp_path, "--out", tmp_path / "map.txt")
    assert done.returncode == 2
    assert "the map is an .html page" in done.stderr
    done = run_cli("map", tmp_path, "--out", tmp_path / "map.html", "--layout", "tsne")
    assert done.returncode == 2
    assert "unknown layout 'tsne'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_model_without_embeddings_is_said(checker: FaceChecker) -> None:
    class Plain:
        card = checker.card

        def score(self, crops: RGB) -> Any:
            return np.zeros(len(crops), np.float32)

    with pytest.raises(ModelError, match="gives no embeddings"):
        next(FaceChecker(Plain()).embed_many([]))  # type: ignore[arg-type]
