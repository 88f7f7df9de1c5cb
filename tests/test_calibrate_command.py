"""`faceproof calibrate` on the shipped model: what it writes, what it refuses, what it leaves alone."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from faceproof import FaceChecker, ModelError, OutputError, UsageError
from faceproof.calibration import fit_platt, operating_point
from faceproof.datasets import Sample
from faceproof.detectors.card import read_card
from faceproof.detectors.folders import group_key, new_folder, training_groups, write_card, write_groups
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from faceproof.evaluation import Scores, write_scores
from faceproof.heldout import HeldOut, held_out, read_scores
from faceproof.images import RGB
from faceproof.metrics import nll
from faceproof.recalibration import calibrate
from tests.helpers import run_cli, without_root

SHIPPED = shipped_models()[DEFAULT_MODEL]
PHOTOGRAPHS, GENERATED = 26, 12
Row = dict[str, str]


@pytest.fixture(scope="session")
def pictures(
    tmp_path_factory: pytest.TempPathFactory, astronaut: RGB, checker: FaceChecker
) -> tuple[Path, dict[str, float]]:
    """A folder with manifest.csv: one face cut, sharpened and blurred in many ways; and the score of each.

    Those with the highest scores are called generated, so that it does not matter which model is shipped.
    """
    folder = tmp_path_factory.mktemp("pictures")
    scores: dict[str, float] = {}
    for number in range(PHOTOGRAPHS + GENERATED):
        left, top = 60 + 2 * (number % 7), number % 5
        image = Image.fromarray(astronaut).crop((left, top, left + 330 + number, top + 330 + number))
        image = image.filter(ImageFilter.UnsharpMask(3, 12 * number, 0))
        image.save(folder / f"{number:02}.png")
        face = checker.check(folder / f"{number:02}.png").faces[0]
        assert not face.quality
        scores[f"{number:02}.png"] = face.verdict.score
    order = sorted(scores, key=lambda name: scores[name])
    order[PHOTOGRAPHS - 1], order[PHOTOGRAPHS] = order[PHOTOGRAPHS], order[PHOTOGRAPHS - 1]  # classes overlap
    rows = [_row(name, place >= PHOTOGRAPHS) for place, name in enumerate(order)]
    _manifest(folder / "manifest.csv", rows)
    return folder, scores


def _row(name: str, generated: bool, split: str = "val") -> Row:
    label = "generated" if generated else "photograph"
    return {"path": name, "label": label, "source": "astronaut", "split": split, "group": f"g{name[:2]}"}


def _manifest(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _scores(path: Path, *, photographs: int = 60, generated: int = 40, gap: float = 3.0) -> list[Row]:
    """A score file of two overlapping classes, every picture a group."""
    rng = np.random.default_rng(0)
    labels = [0] * photographs + [1] * generated
    samples = tuple(
        Sample(Path(f"x/y/{n}.jpg"), y, "gan" if y else "", "web", "val", f"g{n}", "") for n, y in enumerate(labels)
    )
    scores = rng.normal(np.where(np.array(labels) == 1, gap, 0), 1.5)
    write_scores(path, Scores(samples, scores, np.ones(len(labels), bool), 0))
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    _scores(tmp_path / "scores.csv")
    return tmp_path / "scores.csv"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped model that names three groups it was trained on."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "trained"))
    raw = json.loads((folder / "card.json").read_text())
    raw["training"]["groups"] = write_groups(folder, ["g1", "g2", "elsewhere"])
    write_card(folder, raw)
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_command_from_pictures_to_a_model_that_checks(
    tmp_path: Path, pictures: tuple[Path, dict[str, float]], checker: FaceChecker
) -> None:
    folder, known = pictures
    before, out = _hashes(SHIPPED), tmp_path / "mine"
    done = run_cli("calibrate", DEFAULT_MODEL, "--data", folder, "--out", out, "--fpr", "0.1", "--fpr", "0.01")
    assert done.returncode == 0, done.stderr
    for text in (
        "platt",
        "temperature",
        "isotonic",
        "ECE",
        "NLL",
        "taken",
        "0.1",
        "0.01 (default)",
        "operating points",
    ):
        assert text in done.stdout
    assert (
        f"{PHOTOGRAPHS} photographs and {GENERATED} generated faces of {PHOTOGRAPHS + GENERATED} groups" in done.stdout
    )
    assert "could not be checked" not in done.stdout  # the shipped model names its training groups
    assert "generalised Pareto tail" in done.stdout
    assert _hashes(SHIPPED) == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    card = read_card(out)
    assert (card.name, card.sha256) == ("mine", read_card(SHIPPED).sha256)
    assert card.identity != read_card(SHIPPED).identity
    assert [point.fpr for point in card.points] == [0.1, 0.01]
    raw: Any = card.raw
    assert raw["parent"]["identity"] == read_card(SHIPPED).identity
    assert raw["calibration"]["command"].startswith("faceproof calibrate ")
    assert raw["calibration"]["counts"]["photographs"] == PHOTOGRAPHS
    # Figures of the old threshold are gone, those of the weights stay.
    assert raw["metrics"]["val"]["auc"] == read_card(SHIPPED).raw["metrics"]["val"]["auc"]  # type: ignore[index]
    assert "fpr_at_threshold" not in json.dumps(raw["metrics"])
    assert '"ece"' not in json.dumps(raw["metrics"])
    again = FaceChecker(out).check(folder / "00.png")
    assert again.faces[0].verdict.score == pytest.approx(known["00.png"], abs=5e-3)
    assert again.faces[0].verdict.probability == pytest.approx(card.calibration.probability(known["00.png"]), abs=1e-3)
    assert again.model == card.identity != checker.check(folder / "00.png").model
    assert run_cli("models", out).returncode == 0


def test_a_score_file_gives_what_the_pictures_give(tmp_path: Path, pictures: tuple[Path, dict[str, float]]) -> None:
    """And both what the library's own parts give by hand."""
    folder, known = pictures
    data = held_out(folder)
    score = np.array([known[sample.path.name] for sample in data.samples])
    write_scores(tmp_path / "s.csv", Scores(data.samples, score, np.ones(len(score), bool), 0))
    options = ("--method", "platt", "--fpr", "0.1", "--json")
    done = run_cli("calibrate", SHIPPED, "--scores", tmp_path / "s.csv", "--out", tmp_path / "a", *options)
    assert done.returncode == 0, done.stderr
    one = json.loads(done.stdout)
    other = calibrate(None, data, tmp_path / "b", method="platt", fprs=[0.1]).to_dict()
    y = np.array([sample.label for sample in data.samples])
    platt = fit_platt(y, score)
    point = operating_point(score[y == 0], np.arange(PHOTOGRAPHS), 0.1)
    for record in (one, other):
        assert record["calibration"]["slope"] == pytest.approx(platt.slope, rel=0.02)
        assert record["calibration"]["intercept"] == pytest.approx(platt.intercept, abs=0.05)
        assert record["operating_points"][0]["threshold"] == pytest.approx(point.threshold, abs=0.01)
    assert one["photographs"] == other["photographs"] == PHOTOGRAPHS


@pytest.mark.parametrize("method", ["platt", "temperature", "isotonic"])
def test_every_method_makes_a_model_that_judges(tmp_path: Path, scores: Path, astronaut: RGB, method: str) -> None:
    result = calibrate(None, read_scores(scores), tmp_path / "m", method=method)
    assert result.method == method
    checker = FaceChecker(tmp_path / "m")
    assert checker.card.calibration == result.calibration
    face = checker.check(astronaut).faces[0]
    assert face.verdict.probability == pytest.approx(result.calibration.probability(face.verdict.score), abs=1e-6)
    assert face.verdict.band[0] <= face.verdict.threshold <= face.verdict.band[1]
    raw: Any = checker.card.raw
    assert face.verdict.label == raw["selftest"]["verdict"]


def test_auto_takes_the_lowest_held_out_loss(tmp_path: Path, scores: Path) -> None:
    result = calibrate(None, read_scores(scores), tmp_path / "m")
    losses = {one.method: one.nll for one in result.comparisons}
    assert result.method == min(losses, key=lambda name: losses[name])
    assert all(0 < loss < np.log(2) for loss in losses.values())
    # Scores that all lie far above zero: a temperature alone cannot move them, and Platt's does not care.
    rows = _scores(tmp_path / "far.csv")
    for row in rows:
        row["score"] = str(float(row["score"]) + 9)
    _manifest(tmp_path / "far.csv", rows)
    far = calibrate(None, read_scores(tmp_path / "far.csv"), tmp_path / "far")
    assert far.method != "temperature"
    y = np.r_[np.zeros(60), np.ones(40)]
    assert far.comparisons[1].nll > nll(y, np.full(100, 0.5)) - 0.05
    assert far.comparisons[0].nll == pytest.approx(losses["platt"], rel=1e-6)


def test_order_of_rows_and_unjudged_faces_do_not_matter(tmp_path: Path, scores: Path) -> None:
    rows = _scores(scores)
    one = calibrate(None, read_scores(scores), tmp_path / "a", method="isotonic").to_dict()
    unfit = [{**row, "judged": "0", "group": f"{row['group']}x", "score": "99"} for row in rows[:7]]
    _manifest(scores, rows + unfit)
    other = calibrate(None, read_scores(scores), tmp_path / "b", method="isotonic").to_dict()
    assert other["not_judged"] == 7
    assert other["calibration"] == one["calibration"]
    assert other["operating_points"] == one["operating_points"]


def _change(scores: Path, change: Callable[[list[Row]], Any]) -> None:
    rows = _scores(scores)
    changed = change(rows)
    _manifest(scores, rows if changed is None else changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[:60], "no generated face is left; both classes are needed"),
        (lambda r: r[60:], "0 photographs are too few"),
        (lambda r: r[45:], r"15 photographs are too few for a threshold; at least 20 are needed \(of 55 pictures"),
        (lambda r: [{**row, "judged": "0"} for row in r], "100 are not fit to be judged"),
        (lambda r: r[:64], r"4 group\(s\) of generated pictures are too few.*at least 5"),
        (lambda r: [{**row, "group": "one"} for row in r], r"1 group\(s\) of photographs are too few"),
        (lambda r: r[3].update(score="nan"), r"row of 'x/y/3\.jpg': score 'nan' is not a finite number"),
        (lambda r: r[3].update(score=""), "score '' is not a finite number"),
        (lambda r: r[3].update(label="fake"), r"row of 'x/y/3\.jpg': label 'fake'; known: 0, photograph, 1, generated"),
        (lambda r: r[3].update(judged="yes"), "judged 'yes'; known: 0, 1"),
        (lambda r: r[3].update(group=""), r"row of 'x/y/3\.jpg': no group"),
        (lambda r: [{**row, "score": str(-float(row["score"]))} for row in r], "wrong way round"),
        (lambda r: [{**row, "score": "1.5"} for row in r], r"wrong way round.*cannot tell"),
        (lambda r: [{k: row[k] for k in row if k != "group"} for row in r], r"lacks the column\(s\) group; it needs"),
    ],
)  # fmt: skip
def test_bad_scores_are_named(tmp_path: Path, scores: Path, change: Callable[[list[Row]], Any], message: str) -> None:
    _change(scores, change)
    with pytest.raises(UsageError, match=message):
        calibrate(None, read_scores(scores), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no scores"),
        (b"path,label\n", "holds no scores"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "cannot be read.*No such file"),
    ],
)
def test_no_score_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_scores(tmp_path / "s.csv")


def test_comments_and_words_for_labels_are_read(tmp_path: Path, scores: Path) -> None:
    text = scores.read_text().replace(",0,,web", ",photograph,,web")
    scores.write_text("# faceproof evaluate\n" + text)
    assert [sample.label for sample in read_scores(scores).samples] == [0] * 60 + [1] * 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: [row for row in r if row["label"] == "photograph"], "split 'val' holds photographs only"),
        (lambda r: [row for row in r if row["label"] == "generated"], "split 'val' holds generated pictures only"),
        (lambda r: [{**row, "split": "test"} for row in r], "split 'val' is empty; the data has: test"),
        (lambda r: [*r, {**r[0], "split": "train"}], r"1 group\(s\) lie in several splits.* g\d.*--drop-strad"),
        (lambda r: r[0].update(label="deepfake"), "line 2: label 'deepfake'; known: photograph, generated"),
        (lambda r: [{k: v for k, v in row.items() if k != "group"} for row in r], r"lacks the column\(s\) group"),
        (lambda r: [{**row, "path": "no/" + row["path"]} for row in r],
         r"38 of 38 pictures cannot be read, e\.g\. .*no/.*no such file"),
    ],
)  # fmt: skip
def test_bad_data_is_named(
    tmp_path: Path, pictures: tuple[Path, dict[str, float]], change: Callable[[list[Row]], Any], message: str
) -> None:
    with (pictures[0] / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["path"] = str(pictures[0] / row["path"])
    changed = change(rows)
    _manifest(tmp_path / "m.csv", rows if changed is None else changed)
    with pytest.raises(UsageError, match=message):
        calibrate(None, held_out(tmp_path / "m.csv"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]


def test_unreadable_pictures_are_named_and_tell_in_the_exit_code(
    tmp_path: Path, pictures: tuple[Path, dict[str, float]]
) -> None:
    folder = Path(shutil.copytree(pictures[0], tmp_path / "data"))
    (folder / "00.png").write_bytes((folder / "00.png").read_bytes()[:3000])
    Image.new("RGB", (200, 200)).save(folder / "01.png")
    done = run_cli("calibrate", DEFAULT_MODEL, "--data", folder, "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert "00.png: " in done.stdout.replace("\n", "")
    assert "damaged or truncated" in done.stdout
    raw: Any = read_card(tmp_path / "out").raw
    counts = raw["calibration"]["counts"]
    assert (counts["unreadable"], counts["faceless"]) == (1, 1)
    assert counts["photographs"] + counts["generated"] == PHOTOGRAPHS + GENERATED - 2


def test_groups_that_trained_the_model_are_refused_or_left_out(tmp_path: Path, scores: Path, copy: Path) -> None:
    assert training_groups(copy) == {group_key(name) for name in ("g1", "g2", "elsewhere")}
    assert len(training_groups(SHIPPED) or ()) > 10_000
    data = read_scores(scores)
    with pytest.raises(UsageError, match=r"2 of 100 pictures are of groups that trained .*group g1 \(x/y/1\.jpg\)"):
        calibrate(copy, data, tmp_path / "out")
    done = run_cli("calibrate", copy, "--scores", scores, "--out", tmp_path / "out", "--drop-straddling", "--json")
    record = json.loads(done.stdout)
    assert (record["trained"], record["photographs"]) == (2, 58)
    assert not any("could not be checked" in note for note in record["notes"])
    assert training_groups(tmp_path / "out") == training_groups(copy)  # the new model can be asked the same


def test_a_damaged_list_of_groups_is_refused(tmp_path: Path, scores: Path, copy: Path) -> None:
    (copy / "groups.txt").write_text("".join(sorted((copy / "groups.txt").read_text())))
    with pytest.raises(ModelError, match=r"groups\.txt does not match its card"):
        calibrate(copy, read_scores(scores), tmp_path / "out")
    (copy / "groups.txt").unlink()
    with pytest.raises(ModelError, match=r"names the list 'groups\.txt', which is not in its folder"):
        training_groups(copy)
    raw = json.loads((copy / "card.json").read_text())
    raw["training"]["groups"]["file"] = "../../etc/passwd"
    write_card(copy, raw)
    with pytest.raises(ModelError, match="is not in its folder"):
        training_groups(copy)
    raw["training"]["groups"] = "all"
    write_card(copy, raw)
    with pytest.raises(ModelError, match="does not say which groups"):
        training_groups(copy)


def test_the_pool_of_the_data_tells_what_trained_a_model(tmp_path: Path, scores: Path, copy: Path) -> None:
    """A card with the digest of its pool needs no list where the same data are given."""
    from faceproof.datasets import pool_digest

    data = read_scores(scores)
    pool = tuple(data.samples[:3])
    raw = json.loads((copy / "card.json").read_text())
    del raw["training"]["groups"]
    raw["training"]["pool"] = pool_digest(pool)
    write_card(copy, raw)
    asked = HeldOut(data.name, "train", "", data.samples, pool, data.scores)
    with pytest.raises(UsageError, match="3 of 100 pictures are of groups that trained"):
        calibrate(copy, asked, tmp_path / "out")


def test_nothing_is_overwritten_unasked(tmp_path: Path, scores: Path) -> None:
    arguments = ("calibrate", DEFAULT_MODEL, "--scores", scores, "--out", tmp_path / "m")
    assert run_cli(*arguments).returncode == 0
    before = _hashes(tmp_path / "m")
    done = run_cli(*arguments, "--fpr", "0.2")
    assert done.returncode == 2
    assert "exists; give another --out, or --overwrite" in done.stderr
    assert _hashes(tmp_path / "m") == before
    assert run_cli(*arguments, "--fpr", "0.2", "--overwrite").returncode == 0
    assert [point.fpr for point in read_card(tmp_path / "m").points] == [0.2]
    (tmp_path / "m" / "thesis.txt").write_text("three years")
    done = run_cli(*arguments, "--overwrite")
    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    assert (tmp_path / "m" / "thesis.txt").read_text() == "three years"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "scores.csv"]


def test_a_model_may_be_calibrated_again(tmp_path: Path, scores: Path) -> None:
    calibrate(None, read_scores(scores), tmp_path / "a")
    calibrate(tmp_path / "a", read_scores(scores), tmp_path / "b", fprs=[0.1])
    first, second = read_card(tmp_path / "a"), read_card(tmp_path / "b")
    raw: Any = second.raw
    assert raw["parent"]["identity"] == first.identity
    assert sum(line.startswith("Calibrated anew") for line in raw["limits"]) == 1
    assert second.version.count("+") == 1
    assert second.default_fpr == 0.1


def test_a_stopped_replacement_brings_the_old_model_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "m"))
    before, rename = _hashes(folder), Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name == "model":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OutputError, match="cannot write the model .*No space left"), new_folder(folder, overwrite=True):
        pass
    assert _hashes(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_locked_disk_shows_before_the_work(tmp_path: Path, pictures: tuple[Path, dict[str, float]]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    done = run_cli("calibrate", DEFAULT_MODEL, "--data", pictures[0], "--out", closed / "m", before=without_root())
    assert done.returncode == 1
    assert "cannot write the model" in done.stderr
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--scores", "scores.csv", "--out", "out"], "unknown model 'nowhere'"),
        (["empty", "--scores", "scores.csv", "--out", "out"], "a model is a folder with card.json"),
        ([DEFAULT_MODEL, "--out", "out"], "give either --data"),
        ([DEFAULT_MODEL, "--data", ".", "--scores", "scores.csv", "--out", "out"], "give either --data"),
        ([DEFAULT_MODEL, "--data", "nothing.csv", "--out", "out"], "no manifest at nothing.csv"),
        ([DEFAULT_MODEL, "--scores", "scores.csv", "--out", "out", "--method", "plat"], "did you mean 'platt'"),
        ([DEFAULT_MODEL, "--scores", "scores.csv", "--out", "out", "--fpr", "5"], "lies between 0 and 1, not 5"),
        ([DEFAULT_MODEL, "--scores", "scores.csv", "--out", "out", "--fpr", "nan"], "lies between 0 and 1, not nan"),
        ([DEFAULT_MODEL, "--scores", "scores.csv", "--out", "scores.csv"], "exists and is not a folder"),
        ([DEFAULT_MODEL, "--scores", "scores.csv"], "Missing option"),
    ],
)  # fmt: skip
def test_wrong_use_is_two(tmp_path: Path, scores: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run_cli("calibrate", *arguments, cwd=tmp_path, env={"COLUMNS": "200"})
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "scores.csv"]


@pytest.mark.data
@pytest.mark.slow
def test_the_shipped_threshold_is_found_again_on_val(tmp_path: Path, faces_data: Path) -> None:
    """The card's was set on val and on fetched pictures; val alone must agree within its interval. Train is refused."""
    data = held_out(faces_data, drop_straddling=True)
    result = calibrate(None, data, tmp_path / "out", method="platt")
    shipped = read_card(SHIPPED).point(0.01)
    own = next(point for point in result.points if point.fpr == 0.01)
    assert own.photographs == pytest.approx(446, abs=6)
    assert own.low <= shipped.high
    assert shipped.low <= own.high
    assert own.threshold == pytest.approx(shipped.threshold, abs=1.0)
    with pytest.raises(UsageError, match=r"pictures are of groups that trained"):
        calibrate(None, held_out(faces_data, "train", drop_straddling=True), tmp_path / "none")


def test_a_model_that_does_not_name_its_groups_says_so(tmp_path: Path, scores: Path, copy: Path) -> None:
    raw = json.loads((copy / "card.json").read_text())
    del raw["training"]["groups"]
    raw["training"]["pool"] = "unknown"
    write_card(copy, raw)
    result = calibrate(copy, read_scores(scores), tmp_path / "out")
    assert any("could not be checked" in note for note in result.notes)
