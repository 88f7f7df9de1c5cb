"""Reports of scans, what a report says in words, and that the options of a scan reach its workers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
import shlex
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from faceproof import FaceChecker, UsageError
from faceproof.errors import OutputError
from faceproof.images import RGB
from faceproof.records import ImageResult, Verdict
from faceproof.report_pages import SHOWN, Flagged, check_target, check_to_page, scan_to_page
from faceproof.report_words import NOT_TESTED, Terms, guarantee, limits
from faceproof.scan import Options

from .helpers import read_records, run_cli
from .test_explain_command import EXAMPLE, Stub
from .test_report import _parse

TAG = "a woman\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: x"


def embedded(text: str, name: str) -> Any:
    found = re.search(rf'id="{name}">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


def tagged(path: Path, pixels: RGB) -> Path:
    """A photograph whose file says that a generator made it: evidence enough to be flagged."""
    info = PngInfo()
    info.add_text("parameters", TAG)
    Image.fromarray(pixels).save(path, pnginfo=info)
    return path


@pytest.fixture
def folder(tmp_path: Path, astronaut: RGB) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    shutil.copy(EXAMPLE, made / "a.jpg")
    tagged(made / "b.png", astronaut)
    tagged(made / "c.png", astronaut[:, ::-1])
    Image.new("RGB", (90, 90)).save(made / "d.png")
    (made / "e.jpg").write_bytes(b"no picture")
    return made


@pytest.mark.slow
def test_the_report_of_a_scan(tmp_path: Path, folder: Path) -> None:
    out, page = tmp_path / "out.jsonl", tmp_path / "page.html"
    done = run_cli("scan", folder, "--out", out, "--report", page, "--report-maps", "1")
    assert done.returncode == 1, done.stderr  # one file is no picture
    assert f"report: {page}" in done.stdout.replace("\n", "")
    records, text = read_records(out), page.read_text(encoding="utf-8")
    _parse(text)
    report, results = embedded(text, "faceproof-report"), embedded(text, "faceproof-results")
    facts = report["about"]
    assert facts["counts"] == {"photograph": 1, "generated": 2, "inconclusive": 0, "no_face": 1, "error": 1}
    assert facts["records"] == len(records) == 5
    assert facts["results_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    flagged = sorted((r for r in records if r["verdict"] == "generated"), key=lambda r: -r["log_odds"])
    assert [one["path"] for one in results] == [one["path"] for one in flagged]
    for one, before in zip(results, flagged, strict=True):
        assert one["sha256"] == before["sha256"]
        assert one["faces"][0]["stability"] is not None  # checked again in full
        assert one["log_odds"] == pytest.approx(before["log_odds"], abs=1e-4)
    first, second = report["explanations"]
    assert second is None
    assert first["path"] == flagged[0]["path"]
    assert first["maps"][0]["deletion"]["draws"] == 39
    assert "no maps were made of this picture" in text
    assert 'data-outcome="generated"' in text
    again = run_cli("scan", folder, "--out", out, "--report", page, "--report-maps", "0", "--quiet")
    assert again.returncode == 1  # nothing left to check, and the report is about all records all the same
    assert embedded(page.read_text(encoding="utf-8"), "faceproof-report")["about"]["counts"] == facts["counts"]


@pytest.mark.slow
def test_the_options_of_a_scan_are_used(tmp_path: Path, folder: Path) -> None:
    """They once were parsed and forgotten."""
    plain, full = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run_cli("scan", folder / "b.png", "--out", plain, "--quiet")
    run_cli(
        "scan", folder / "b.png", "--out", full, "--quiet", "--stability", "quick", "--no-metadata", "--alpha", "0.3"
    )
    (one,), (other,) = read_records(plain), read_records(full)
    assert one["faces"][0]["stability"] is None
    assert len(other["faces"][0]["stability"]["after"]) == 3
    assert any(piece["name"] == "generator tag" for piece in one["faces"][0]["evidence"])
    assert not any(piece["name"] == "generator tag" for piece in other["faces"][0]["evidence"])
    assert (one["alpha"], other["alpha"]) == (0.2, 0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "-", "--report", "page.html"], "--report is about a file of results"),
        (["--out", "o.jsonl", "--report", "no/page.html"], "a folder or lies in none"),
        (["--out", "o.jsonl", "--report", "page.html", "--report-maps", "-1"], "--report-maps"),
    ],
)  # fmt: skip
def test_wrong_use_is_said_before_the_scan(tmp_path: Path, arguments: list[str], message: str) -> None:
    shutil.copy(EXAMPLE, tmp_path / "a.jpg")
    done = run_cli("scan", "a.jpg", *arguments, cwd=tmp_path, env={"COLUMNS": "200"})
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "o.jsonl").exists()


def test_files_that_have_changed_or_are_gone(tmp_path: Path, folder: Path, astronaut: RGB) -> None:
    checker, flagged, results = FaceChecker(), Flagged(), tmp_path / "out.jsonl"
    records = [checker.check(folder / name).to_dict() for name in ("b.png", "c.png")]
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    for record in records:
        flagged.add({**record, "version": "0.0.1"})
    tagged(folder / "b.png", np.ascontiguousarray(astronaut[4:, 4:]))
    (folder / "c.png").unlink()
    scan_to_page(flagged, Options(), results, tmp_path / "page.html", maps=0)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"THE FILE HAS CHANGED since the scan, which read the sha256 {records[0]['sha256']}" in text
    assert "no such file" in text
    assert "cannot be read any more" in text
    assert text.count("in faceproof 0.0.1") == 2
    results.unlink()
    with pytest.raises(OutputError, match="cannot read the results"):
        scan_to_page(flagged, Options(), results, tmp_path / "page.html", maps=0)


def test_only_the_most_suspicious_are_kept(checker: FaceChecker) -> None:
    """Against a sort of all records; of equals the first ones stay."""
    empty = checker.failed("x", "y").to_dict()
    odds = [round(random.Random(n).uniform(0, 9)) for n in range(500)]
    records = [
        {**empty, "path": str(n), "status": "ok", "verdict": ("generated", "photograph")[n % 3 == 0], "log_odds": value}
        for n, value in enumerate(odds)
    ]
    flagged = Flagged()
    for record in [*records, empty]:
        flagged.add(record)
    expected = sorted((r for r in records if r["verdict"] == "generated"), key=lambda r: -r["log_odds"])[:SHOWN]
    assert [r["path"] for r in flagged.top] == [r["path"] for r in expected]
    assert flagged.total == 501
    assert (flagged.counts["generated"], flagged.counts["error"]) == (333, 1)


def test_a_scan_without_flags(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("")
    scan_to_page(Flagged(), Options(), tmp_path / "out.jsonl", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The 0 most suspicious pictures" in text
    assert embedded(text, "faceproof-results") == []


class TestWords:
    def _result(self, checker: FaceChecker, label: str, alpha: float | None) -> ImageResult:
        found = checker.check(EXAMPLE)
        face = found.faces[0]
        verdict: Verdict = dataclasses.replace(face.verdict, label=label, alpha=alpha)  # type: ignore[arg-type]
        return dataclasses.replace(found, faces=(dataclasses.replace(face, verdict=verdict),), alpha=alpha)

    @pytest.mark.parametrize(
        ("label", "alpha", "words"),
        [
            ("generated", 0.2, "At most 1 % of photographs are called generated. Set on 858"),
            ("generated", None, "About 1 % of photographs reach this limit: an extrapolation, not a promise"),
            ("photograph", 0.2, "At most 20 % of generated faces, of the kinds the limits were set on"),
            ("photograph", None, "Nothing is promised about how many generated faces are missed"),
            ("inconclusive", 0.2, "Nothing is claimed either way"),
        ],
    )
    def test_the_promise_of_each_answer(
        self, checker: FaceChecker, label: str, alpha: float | None, words: str
    ) -> None:
        result = self._result(checker, label, alpha)
        assert words in guarantee(result.decisive, result, checker.rule.photographs)

    def test_where_nothing_is_promised(self, checker: FaceChecker) -> None:
        assert "could not be read" in guarantee(None, checker.failed("x", "gone"), 1)
        assert "No face was found" in guarantee(None, checker.check(np.zeros((64, 64, 3), np.uint8)), 1)

    def test_the_terms_are_the_checkers(self, checker: FaceChecker) -> None:
        made = datetime(2026, 11, 21, 14, 0, tzinfo=timezone.utc)
        terms = Terms.of(FaceChecker(fpr=0.05, stability="quick", metadata=False), made=made)
        rows = dict(terms.rows)
        assert rows["made"] == "2026-11-21 14:00 UTC"
        assert rows["limits"].startswith("false alarms 5 % at most, misses 20 % at most")
        assert (rows["stability"], rows["metadata"]) == ("quick set of perturbations", "not read")
        assert rows["model's weights, sha256"] == checker.card.raw["sha256"]
        assert rows["smallest face judged"] == "80 pixels"
        assert json.loads(json.dumps(terms.to_dict()))["photographs"] == checker.rule.photographs
        assert limits(checker.card)[0].startswith("The probability assumes that 50%")
        with pytest.raises(UsageError, match="needs its zone"):
            Terms.of(checker, made=datetime(2026, 1, 1))  # noqa: DTZ001


def test_maps_are_bounded_and_in_the_page(tmp_path: Path, checker: FaceChecker, astronaut: RGB) -> None:
    own, steps = FaceChecker(Stub(checker.card, 2.0, 6.0)), []

    def progress(what: str) -> Any:
        import contextlib

        return contextlib.nullcontext(lambda done, total: steps.append((done, total)))

    blank = np.zeros((64, 64, 3), np.uint8)
    check_to_page([blank, astronaut, astronaut], own, tmp_path / "p.html", maps=1, progress=progress)
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    explained = embedded(text, "faceproof-report")["explanations"]
    assert [one is not None for one in explained] == [False, True, False]
    assert text.count('data-map="occlusion"') == 1
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for sentence in NOT_TESTED:
        assert sentence in text
    with pytest.raises(UsageError, match="cannot be -1"):
        check_to_page([], own, tmp_path / "p.html", maps=-1)
    for wrong in (tmp_path, tmp_path / "no" / "p.html"):
        with pytest.raises(UsageError, match="a folder or lies in none"):
            check_target(wrong)


@pytest.mark.slow
def test_the_commands_of_the_documentation(tmp_path: Path, folder: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (faceproof .+?)(?:  +#.*)?$", text, re.M)
    assert len(commands) >= 2
    shutil.copy(EXAMPLE, tmp_path / "portrait.jpg")
    (folder / "e.jpg").unlink()
    for name in ("pictures", "archive"):
        shutil.copytree(folder, tmp_path / name)
    for command in commands:
        done = run_cli(*shlex.split(command)[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert {"portrait.html", "pictures.html"} <= {path.name for path in tmp_path.iterdir()}
    assert f"at most {SHOWN} flagged pictures" in text
