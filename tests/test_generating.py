"""Runs of generators: pace, second tries, stops, what is written; with OpenAI's client against a local server."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import UsageError
from faceproof.datasets import read_manifest
from faceproof.errors import OutputError, PictureError, StorageError
from faceproof.generate_sources import photographs
from faceproof.generated_records import Answer, Generated, Job, Photograph, TryAgainError, jobs_of, split_of
from faceproof.generated_store import FolderStore, open_store
from faceproof.generating import Pace, Run, fitted
from faceproof.images import RGB
from faceproof.openai_images import OpenAIImages, read_key
from faceproof.prompts import Prompt
from tests.helpers import encode, read_records
from tests.image_server import KEY, ImageServer

pytest.importorskip("openai", reason="the extra [openai] is not installed")
FAST = Pace(first_wait=0.01)


def _prompts(count: int) -> list[Prompt]:
    return [Prompt(f"face {number}", {"age": "30", "hair": "red"}, number) for number in range(count)]


def _generator(images: ImageServer, **more: Any) -> OpenAIImages:
    return OpenAIImages("test-model", **{"size": "64x64", "base_url": images.url, "key": KEY, "timeout": 2.0, **more})


def _run(images: ImageServer, out: Path, count: int = 3, pace: Pace = FAST, **more: Any) -> list[Generated]:
    generator = _generator(images, **more)
    with open_store(str(out)) as store:
        return list(Run(generator, jobs_of(_prompts(count), None, generator.settings), store, pace))


def test_pictures_provenance_and_a_manifest(images: ImageServer, tmp_path: Path) -> None:
    records = _run(images, tmp_path / "out", quality="high", more={"style": "natural"}, send_seed=True)
    assert [record.status for record in records] == ["ok"] * 3
    fields = images.seen[0].fields
    assert fields == {
        "model": "test-model", "prompt": "face 0", "n": 1, "size": "64x64", "quality": "high", "style": "natural",
        "seed": 0, "response_format": "b64_json",
    }  # fmt: skip
    lines = read_records(tmp_path / "out" / "provenance.jsonl")
    assert [Generated.from_dict(line) for line in lines] == records
    import hashlib

    for record in records:
        data = (tmp_path / "out" / record.path).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (record.sha256, record.bytes)
        assert (record.width, record.height, record.format) == (64, 64, "PNG")
        assert record.prompt.startswith("face ")
        assert record.created.endswith("+00:00")
        assert record.usage
        assert record.usage["output_tokens"] == 1000
        assert record.server == images.url
        assert record.parameters["quality"] == "high"
        assert record.versions["openai"]
    samples = read_manifest(tmp_path / "out" / "manifest.csv")
    assert {(s.label, s.generator, s.source, s.age) for s in samples} == {(1, "test-model", "api 127.0.0.1", "30")}
    assert len({s.group for s in samples}) == 3
    assert all(s.path.is_file() for s in samples)
    with open(tmp_path / "out" / "manifest.csv", newline="") as stream:
        assert json.loads(next(csv.DictReader(stream))["traits"]) == {"hair": "red"}


def test_the_key_is_nowhere(images: ImageServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    caplog.set_level(logging.DEBUG)
    images.rule = lambda asked: "500" if asked.number == 0 else None
    _run(images, tmp_path / "out")
    with pytest.raises(StorageError) as caught:
        _run(images, tmp_path / "two", key="sk-anotherkey0123456789")
    assert "sk-another" not in str(caught.value)
    assert "401" in str(caught.value)
    assert KEY not in caplog.text
    assert "sk-another" not in caplog.text
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()
    assert KEY not in repr(_generator(images))


@pytest.mark.parametrize(
    ("trouble", "bills"), [("500", 3), ("429 0.05", 3), ("hang", 4), ("cut", 4), ("garbage", 4), ("truncated", 4)]
)
def test_trouble_once_is_overcome(images: ImageServer, tmp_path: Path, trouble: str, bills: int) -> None:
    images.rule = lambda asked: trouble if asked.fields["prompt"] == "face 1" and asked.number == 0 else None
    records = _run(images, tmp_path / "out", timeout=1.0)
    assert [record.status for record in records] == ["ok"] * 3
    assert [record.attempts for record in records] == [1, 2, 1]
    assert len(images.seen) == 4
    assert len(images.billed) <= bills
    assert records[1].answers == (2 if trouble == "truncated" else 1)


def test_retry_after_is_kept_to(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: "429 1" if asked.fields["prompt"] == "face 0" and asked.number == 0 else None
    _run(images, tmp_path / "out", count=4, pace=Pace(parallel=4, first_wait=0.01))
    first = next(asked.at for asked in images.seen if asked.fields["prompt"] == "face 0")
    again = [asked.at for asked in images.seen if asked.fields["prompt"] == "face 0"][1]
    assert again - first >= 1.0
    later = [asked.at for asked in images.seen if asked.at > first + 0.3]
    assert min(later) - first >= 1.0, "another thread asked meanwhile"


def test_refusals_are_records_and_final(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: "refuse" if asked.fields["prompt"] == "face 1" else None
    records = _run(images, tmp_path / "out")
    assert [record.status for record in records] == ["ok", "refused", "ok"]
    assert "safety system" in records[1].error
    assert len(images.seen) == 3
    assert _run(images, tmp_path / "out") == []
    assert len(images.seen) == 3, "a refusal was asked for again"
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 2


def test_failures_are_asked_for_again_by_the_next_run(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: "500" if asked.fields["prompt"] == "face 1" else None
    records = _run(images, tmp_path / "out", pace=Pace(attempts=2, first_wait=0.01))
    assert [record.status for record in records] == ["ok", "failed", "ok"]
    assert records[1].attempts == 2
    assert "500" in records[1].error
    assert KEY not in records[1].error
    images.rule = lambda asked: None
    assert [record.status for record in _run(images, tmp_path / "out")] == ["ok"]
    assert sorted(images.billed) == ["face 0", "face 1", "face 2"]


def test_pictures_that_are_always_damaged_fail_after_two(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: "truncated"
    records = _run(images, tmp_path / "out", count=1)
    assert (records[0].status, records[0].answers) == ("failed", 2)
    assert "no whole picture" in records[0].error
    assert len(images.billed) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [("401", "check OPENAI_API_KEY"), ("429 insufficient_quota", "see to the account"), ("404", "mend the model"),
     ("429 100000", "asks to wait"), ("500", "5 pictures failed one after the other")],
)  # fmt: skip
def test_a_server_that_answers_nothing_more_ends_the_run(
    images: ImageServer, tmp_path: Path, answer: str, message: str
) -> None:
    images.rule = lambda asked: answer if int(asked.fields["prompt"].split()[1]) >= 2 else None
    with pytest.raises(StorageError, match=message):
        _run(images, tmp_path / "out", count=20, pace=Pace(attempts=2, first_wait=0.01))
    assert len(images.seen) <= 14
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 2, "what was paid for is in the manifest"


def test_the_pace_is_kept(images: ImageServer, tmp_path: Path) -> None:
    _run(images, tmp_path / "out", count=5, pace=Pace(rate=600, parallel=5))
    times = [asked.at for asked in images.seen]
    assert times[-1] - times[0] >= 0.38  # four gaps of 0.1 s
    assert min(b - a for a, b in zip(times, times[1:], strict=False)) >= 0.05


def test_requests_run_side_by_side(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: "slow"
    begun = time.monotonic()
    records = _run(images, tmp_path / "out", count=6, pace=Pace(parallel=6), timeout=10.0)
    assert len(records) == 6
    assert time.monotonic() - begun < 4


def test_ending_early_waits_for_what_is_paid(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: None if asked.fields["prompt"] == "face 0" else "slow"
    generator = _generator(images, timeout=10.0)
    jobs = jobs_of(_prompts(10), None, generator.settings)
    with open_store(str(tmp_path / "out")) as store:
        for _ in Run(generator, jobs, store, Pace(parallel=3)):
            break
    assert len(images.billed) in (3, 4)
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == len(images.billed)
    _run_all = _run(images, tmp_path / "out", count=10, timeout=10.0)
    assert sorted(images.billed) == sorted(f"face {n}" for n in range(10))
    assert len(_run_all) == 10 - len(store.known)


def test_a_picture_whose_record_was_lost_is_not_paid_for_again(images: ImageServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    records = _run(images, out)
    lines = (out / "provenance.jsonl").read_bytes().splitlines(keepends=True)
    (out / "provenance.jsonl").write_bytes(lines[0] + lines[1][: len(lines[1]) // 2])
    (out / "generated" / f"{records[2].id}.png.123.tmp").write_bytes(b"half")
    again = _run(images, out)
    assert len(images.billed) == 3
    assert [(r.path, r.sha256, r.recovered) for r in again] == [(r.path, r.sha256, True) for r in records[1:]]
    assert len(read_manifest(out / "manifest.csv")) == 3


def test_a_picture_that_was_deleted_is_made_again(images: ImageServer, tmp_path: Path) -> None:
    records = _run(images, tmp_path / "out")
    (tmp_path / "out" / records[0].path).unlink()
    assert [record.id for record in _run(images, tmp_path / "out")] == [records[0].id]
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 3


def test_more_and_other_pictures_join_the_same_folder(images: ImageServer, tmp_path: Path) -> None:
    _run(images, tmp_path / "out", count=2)
    _run(images, tmp_path / "out", count=4)
    _run(images, tmp_path / "out", count=1, quality="low")
    assert len(images.billed) == 5
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 5


# Photographs


@pytest.fixture
def folder(tmp_path: Path, astronaut: RGB) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(encode(np.ascontiguousarray(astronaut[:, number * 20 : 300]), "JPEG"))
    (folder / "copy of 0.jpg").write_bytes((folder / "0.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes((folder / "0.jpg").read_bytes()[:900])
    return folder


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's, of variations
@pytest.mark.parametrize("task", ["edit", "variation"])
def test_pairs_share_group_split_size_and_codec(images: ImageServer, tmp_path: Path, folder: Path, task: str) -> None:
    generator = _generator(images, task=task, size="96x64")
    found = photographs([str(folder)])
    jobs = jobs_of([Prompt("again", {}, n) for n in range(len(found))], found, generator.settings)
    with open_store(str(tmp_path / "out")) as store:
        records = list(Run(generator, jobs, store, Pace(val_share=0.5)))
    assert {Path(r.source_path).name: r.status for r in records} == {
        "0.jpg": "ok", "1.jpg": "ok", "2.jpg": "ok", "copy of 0.jpg": "ok", "broken.jpg": "failed",
    }  # fmt: skip
    asked = images.seen[0]
    assert asked.path == f"/v1/images/{'edits' if task == 'edit' else 'variations'}"
    assert asked.picture is not None
    assert asked.fields.get("prompt") == ("again" if task == "edit" else None)
    samples = read_manifest(tmp_path / "out" / "manifest.csv")
    assert sum(s.label == 0 for s in samples) == 3  # files of the same bytes are one photograph
    assert sum(s.label == 1 for s in samples) == 4
    assert {s.source for s in samples} == {"album"}
    for group in {s.group for s in samples}:
        pair = [s for s in samples if s.group == group]
        assert {s.label for s in pair} == {0, 1}
        assert len({s.split for s in pair}) == 1
        shapes = {(Image.open(s.path).size, Image.open(s.path).format) for s in pair}
        assert shapes == {((96, 64), "PNG")}


def test_copies_of_a_photograph_side_by_side(images: ImageServer, tmp_path: Path, astronaut: RGB) -> None:
    (tmp_path / "album").mkdir()
    for number in range(12):
        (tmp_path / "album" / f"{number}.jpg").write_bytes(encode(astronaut, "JPEG"))
    generator = _generator(images, task="edit", timeout=30.0)
    found = photographs([str(tmp_path / "album")])
    with open_store(str(tmp_path / "out")) as store:
        records = list(
            Run(generator, jobs_of([Prompt("", {}, 0)] * 12, found, generator.settings), store, Pace(parallel=8))
        )
    assert [record.status for record in records] == ["ok"] * 12
    samples = read_manifest(tmp_path / "out" / "manifest.csv")
    assert [sum(sample.label == label for sample in samples) for label in (0, 1)] == [1, 12]
    assert len({sample.group for sample in samples}) == 1


def test_groups_and_splits_of_a_manifest_are_kept(images: ImageServer, tmp_path: Path, folder: Path) -> None:
    rows = [
        ("0.jpg", "photograph", "web", "train", "anna", "CC0", "31"),
        ("1.jpg", "photograph", "web", "val", "ben", "", ""),
        ("2.jpg", "generated", "gan", "train", "x", "", ""),
    ]  # fmt: skip
    with open(folder / "mine.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "source", "split", "group", "licence", "age"), *rows])
    found = photographs([str(folder / "mine.csv")])
    assert [(p.group, p.split, p.source, p.licence) for p in found] == [
        ("anna", "train", "web", "CC0"), ("ben", "val", "web", "not stated"),
    ]  # fmt: skip
    generator = _generator(images, task="edit")
    with open_store(str(tmp_path / "out")) as store:
        list(Run(generator, jobs_of([Prompt("", {}, 0)] * 2, found, generator.settings), store, FAST))
    samples = read_manifest(tmp_path / "out" / "manifest.csv")
    assert {(s.group, s.split, s.label) for s in samples} == {
        ("anna", "train", 0), ("anna", "train", 1), ("ben", "val", 0), ("ben", "val", 1),
    }  # fmt: skip
    assert next(s for s in samples if s.group == "anna" and s.label == 0).licence == "CC0"
    assert {s.age for s in samples if s.group == "anna"} == {"31"}


def test_fitting_keeps_shape_and_middle(astronaut: RGB) -> None:
    wide = fitted(astronaut[:200, :400], 100, 100)
    assert wide.shape == (100, 100, 3)
    expected = Image.fromarray(astronaut[:200, 100:300]).resize((100, 100), Image.Resampling.BOX)
    assert np.abs(wide.astype(int) - np.asarray(expected)).max() <= 1
    assert np.array_equal(fitted(astronaut, 512, 512), astronaut)
    assert fitted(astronaut[:3, :400], 64, 128).shape == (128, 64, 3)


# Answers of other servers


def test_links_are_fetched_from_the_server_itself_only(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: "url"
    assert [r.status for r in _run(images, tmp_path / "own", count=1)] == ["ok"]
    for link in ("http://127.0.0.1:1/x.png", "https://127.0.0.1/x.png", "https://localhost/x", "https://[::1]/x",
                 "https://10.0.0.1/x", "file:///etc/passwd", "http://example.com/x.png"):  # fmt: skip
        images.rule = lambda asked, link=link: f"link {link}"
        with pytest.raises(StorageError, match="not fetched"):
            _run(images, tmp_path / "other", count=1)


def test_other_formats_are_kept_and_endless_answers_are_not(
    images: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.rule = lambda asked: "webp"
    record = _run(images, tmp_path / "out", count=1)[0]
    assert record.path.endswith(".webp")
    assert Image.open(tmp_path / "out" / record.path).format == "WEBP"
    monkeypatch.setattr("faceproof.openai_images.MAX_ANSWER", 1 << 20)
    images.rule = lambda asked: "huge"
    record = _run(images, tmp_path / "two", count=1, pace=Pace(attempts=1))[0]
    assert record.status == "failed"
    assert "over 1 MiB" in record.error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "edits"}, "did you mean 'edit'"),
        ({"size": "64"}, "WIDTHxHEIGHT"),
        ({"base_url": "ftp://x/v1"}, "not the address of an API"),
        ({"base_url": "http://user:secret@localhost/v1"}, "not the address"),
        ({"base_url": "http://192.168.1.5/v1"}, "not encrypted"),
        ({"timeout": 0}, "timeout"),
        ({"more": {"n": 4}}, "--set n"),
        ({"task": "variation", "base_url": "https://api.openai.com/v1"}, "retired variations"),
    ],
)
def test_impossible_settings(images: ImageServer, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        _generator(images, **change)
    assert "secret" not in str(caught.value)


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert read_key() is None
    monkeypatch.setenv("OPENAI_API_KEY", " sk-env ")
    assert read_key() == "sk-env"
    path = tmp_path / "key"
    path.write_text("sk-file\n")
    path.chmod(0o600)
    assert read_key(path) == "sk-file"
    for mode in (0o644, 0o640, 0o606):
        path.chmod(mode)
        with pytest.raises(UsageError, match="chmod 600") as caught:
            read_key(path)
        assert "sk-file" not in str(caught.value)
    path.chmod(0o600)
    for text, message in (
        ("", "is empty"),
        ("two words", "holds no key"),
        ("a\nb", "holds no key"),
        ("kéy", "holds no key"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_key(path)
    for bad in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_key(bad)


# Stores, and what generators may do


class Fake:
    """A generator without a server."""

    name = model = "fake"
    task, server, source, licence, parallel = "text", "", "here", "CC0", True
    settings: Mapping[str, Any] = {"model": "fake"}
    versions: Mapping[str, str] = {}

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers, self.lock = list(answers), threading.Lock()

    def fitted(self, pixels: RGB) -> RGB:
        return pixels

    def make(self, job: Job, photograph: RGB | None) -> Answer:
        with self.lock:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


PNG = encode(np.zeros((8, 8, 3), np.uint8), "PNG")


def test_formats_we_do_not_keep_become_png(tmp_path: Path) -> None:
    generator = Fake(Answer(encode(np.zeros((8, 8, 3), np.uint8), "BMP")))
    with open_store(str(tmp_path / "o")) as store:
        record = next(iter(Run(generator, jobs_of(_prompts(1), None, {}), store, FAST)))
    assert (record.format, record.path[-4:]) == ("PNG", ".png")


def test_unreadable_photographs_do_not_end_a_run(tmp_path: Path) -> None:
    found = [Photograph(str(tmp_path / f"absent{n}.jpg"), "x") for n in range(9)]
    jobs = jobs_of(_prompts(9), found, {})
    with open_store(str(tmp_path / "o")) as store:
        assert [r.status for r in Run(Fake(Answer(PNG)), jobs, store, FAST)] == ["failed"] * 9
    generator = Fake(PictureError("no face in it"))
    with open_store(str(tmp_path / "o2")) as store:
        assert [r.error for r in Run(generator, jobs_of(_prompts(9), None, {}), store, FAST)] == ["no face in it"] * 9


def test_waits_double(tmp_path: Path) -> None:
    waits: list[float] = []
    generator = Fake(*[TryAgainError("busy")] * 3, Answer(PNG))
    with open_store(str(tmp_path / "o")) as store:
        run = Run(generator, jobs_of(_prompts(1), None, {}), store, Pace(first_wait=0.01))
        run.waiting = lambda seconds, why: waits.append(seconds)
        list(run)
    assert waits == pytest.approx([0.01, 0.02, 0.04])


def test_one_run_at_a_time_and_only_our_folders(tmp_path: Path) -> None:
    with FolderStore(tmp_path / "o"), pytest.raises(OutputError, match="another"):
        FolderStore(tmp_path / "o")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        FolderStore(tmp_path / "mine")
    with pytest.raises(UsageError, match="not a folder"):
        FolderStore(tmp_path / "mine" / "thesis.txt")
    with pytest.raises(UsageError, match="cannot be written to a web server"):
        open_store("https://example.org/x")
    for text in ("nonsense\n", '{"schema": "faceproof.result/1"}\n', "[]\n", '{"schema": "faceproof.generated/1"}\n'):
        (tmp_path / "o" / "provenance.jsonl").write_text(text)
        with pytest.raises(UsageError, match="not a journal"):
            FolderStore(tmp_path / "o")


def test_prompts_that_are_formulas(tmp_path: Path) -> None:
    jobs = jobs_of([Prompt("=cmd|' /C calc'!A0", {}, 0)], None, {})
    with open_store(str(tmp_path / "o")) as store:
        list(Run(Fake(Answer(PNG)), jobs, store, FAST))
    with open(tmp_path / "o" / "manifest.csv", newline="") as stream:
        assert next(csv.DictReader(stream))["prompt"].startswith("'=")
    assert read_records(tmp_path / "o" / "provenance.jsonl")[0]["prompt"].startswith("=cmd")


def test_jobs_are_what_decides_a_picture() -> None:
    one = jobs_of(_prompts(2), None, {"size": 1})
    assert one == jobs_of(_prompts(2), None, {"size": 1})
    assert not {job.id for job in one} & {job.id for job in jobs_of(_prompts(2), None, {"size": 2})}
    same = Photograph("a.jpg", "x")
    assert len(jobs_of([Prompt("p", {}, 0)] * 2, [same, same], {})) == 1
    with pytest.raises(UsageError, match="one each"):
        jobs_of(_prompts(2), [same], {})


def test_splits_by_group() -> None:
    share = np.mean([split_of(f"group {n}", 0.2) == "val" for n in range(4000)])
    assert share == pytest.approx(0.2, abs=0.02)
    assert {split_of(str(n), 0.0) for n in range(50)} == {"train"}
    assert {split_of(str(n), 1.0) for n in range(50)} == {"val"}
