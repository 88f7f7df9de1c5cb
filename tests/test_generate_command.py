"""`faceproof generate` as real processes: the plan and the question, killed and gone on with, folders and buckets."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from faceproof.datasets import read_manifest
from faceproof.images import RGB
from faceproof.prompts import PORTRAITS
from tests.helpers import command, encode, environment, read_records, run_cli, start_cli, wait_until, whole_lines
from tests.image_server import KEY, ImageServer
from tests.object_store import environment_of, get, put, running_store

pytest.importorskip("openai", reason="the extra [openai] is not installed")
pytestmark = pytest.mark.slow


def _words(images: ImageServer, out: str | Path, *more: str | Path) -> list[str]:
    given = ("--base-url", images.url, "--size", "64x64", "--rate", "0", "--price", "0.5")
    return [os.fspath(word) for word in ("generate", "openai", "--out", out, *given, *more)]


ENV = {"OPENAI_API_KEY": KEY, "no_proxy": "127.0.0.1", "COLUMNS": "200"}


def test_from_prompts_to_a_training_set(images: ImageServer, tmp_path: Path) -> None:
    done = run_cli(*_words(images, tmp_path / "out", "--count", "24", "--yes"), env=ENV)
    assert done.returncode == 0, done.stderr
    assert "24 to make; about 12.00 USD (0.5000 each; the price you gave)" in done.stderr
    assert "24 ok" in done.stderr
    assert KEY not in done.stderr + done.stdout
    with open(tmp_path / "out" / "manifest.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for trait in ("age", "sex", "skin_tone"):
        counts = Counter(row[trait] for row in rows)
        assert set(counts) == set(PORTRAITS.traits[trait])
        assert len(set(counts.values())) == 1
    assert sorted(row["prompt"] for row in rows) == sorted(images.billed)
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 24
    # Nothing is left to do, and nothing is asked about.
    done = run_cli(*_words(images, tmp_path / "out", "--count", "24"), env=ENV)
    assert done.returncode == 0
    assert len(images.billed) == 24
    # Enlarging a set pays for the new ones only.
    done = run_cli(*_words(images, tmp_path / "out", "--count", "30", "--yes"), env=ENV)
    assert "24 done, 6 to make; about 3.00 USD" in done.stderr
    assert len(set(images.billed)) == len(images.billed) == 30


def test_killed_in_the_middle_nothing_is_paid_twice(images: ImageServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = _words(images, out, "--count", "60", "--yes", "--parallel", "1")
    journal = out / "provenance.jsonl"
    for sign in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        before = whole_lines(journal)
        process = start_cli(*words, env=ENV)
        wait_until(lambda b=before: whole_lines(journal) >= b + 8, seconds=60, what="eight more pictures")
        process.send_signal(sign)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (-9 if sign == signal.SIGKILL else 130), said
        if sign == signal.SIGINT:
            assert b"stopping" in said
            assert (out / "manifest.csv").exists()
    done = run_cli(*words, env=ENV)
    assert done.returncode == 0, done.stderr
    records = read_records(journal)
    assert len(records) == len({record["id"] for record in records}) == 60
    # What a kill meets between the answer and the disk is lost to anybody: at most the one under way, each time.
    twice = len(images.billed) - len(set(images.billed))
    assert twice <= 2
    assert len(read_manifest(out / "manifest.csv")) == 60


def test_the_cost_is_asked_about(images: ImageServer, tmp_path: Path) -> None:
    words = _words(images, tmp_path / "out", "--count", "4")
    done = run_cli(*words, env=ENV)
    assert (done.returncode, images.seen) == (2, [])
    assert "--yes" in done.stderr
    for answer, status, billed in ((b"n\n", 1, 0), (b"y\n", 0, 4)):
        assert _on_a_terminal(words, answer) == status
        assert len(images.billed) == billed
    done = run_cli(*_words(images, tmp_path / "two", "--count", "4", "--yes", "--budget", "1.99"), env=ENV)
    assert done.returncode == 2
    assert "over --budget 1.99" in done.stderr
    unknown = [word for word in _words(images, tmp_path / "two", "--count", "4") if word not in ("--price", "0.5")]
    done = run_cli(*unknown, env=ENV)
    assert done.returncode == 2
    assert "cost unknown" in done.stderr


def _on_a_terminal(words: list[str], answer: bytes) -> int:
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(command(*words), stdin=slave, stdout=slave, stderr=slave, env=environment(ENV))
        os.close(slave)
        shown = b""
        while b"Go ahead?" not in shown:
            shown += os.read(master, 4096)
        os.write(master, answer)
        with_rest = shown
        while True:
            try:
                if not (part := os.read(master, 4096)):
                    break
            except OSError:  # the other end is closed
                break
            with_rest += part
        return process.wait(timeout=60)
    finally:
        os.close(master)


def test_refusals_and_failures_are_told(images: ImageServer, tmp_path: Path) -> None:
    images.rule = lambda asked: "refuse" if "webcam" in asked.fields["prompt"] else None
    done = run_cli(*_words(images, tmp_path / "out", "--count", "12", "--yes"), env=ENV)
    assert done.returncode == 1
    assert "10 ok, 2 refused" in done.stderr
    assert "safety system" in done.stderr
    images.rule = lambda asked: "500"
    done = run_cli(*_words(images, tmp_path / "two", "--count", "12", "--yes", "--attempts", "1"), env=ENV)
    assert done.returncode == 1
    assert "failed one after the other" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "edit"], "needs photographs"),
        (["x.jpg", "--task", "text"], "takes no photographs"),
        (["--prompt", "a", "--prompts", "b"], "either --prompt or --prompts"),
        (["--prompts", "absent.txt"], "cannot be read"),
        (["--set", "nonsense"], "FIELD=VALUE"),
        (["--rate", "-1"], "rate and waits of 0 or more"),
        (["--val-share", "2"], "between 0 and 1"),
        (["--key-file", "absent"], "cannot be read"),
        (["--price", "-1"], "not a price"),
        (["--size", "huge"], "WIDTHxHEIGHT"),
        (["emptyfolder"], "no pictures"),
    ],
)
def test_wrong_use_is_two_and_free(images: ImageServer, tmp_path: Path, more: list[str], message: str) -> None:
    (tmp_path / "emptyfolder").mkdir()
    done = run_cli(*_words(images, "out", *more, "--yes"), env=ENV, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert images.seen == []


def test_no_key(tmp_path: Path) -> None:
    done = run_cli("generate", "openai", "--out", tmp_path / "o", "--yes", env={"OPENAI_API_KEY": ""})
    assert done.returncode == 2
    assert "set OPENAI_API_KEY" in done.stderr
    assert not (tmp_path / "o").exists()


def test_help_and_a_missing_extra(tmp_path: Path) -> None:
    for name in ("openai", "diffusers", "reconstruct"):
        assert run_cli("generate", name, "--help").returncode == 0
    (tmp_path / "openai.py").write_text("raise ImportError('not installed')")
    env = {"OPENAI_API_KEY": "x", "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = run_cli("generate", "openai", "--out", tmp_path / "o", env=env)
    assert done.returncode == 2
    assert 'pip install "faceproof[openai]"' in done.stderr


def test_bucket_to_bucket(images: ImageServer, tmp_path: Path, astronaut: RGB) -> None:
    pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
    pytest.importorskip("moto", reason="the S3 server for tests is not installed")
    with running_store() as proxy:
        put(
            proxy,
            "album",
            {f"faces/{n}.jpg": encode(astronaut[: 300 + n], "JPEG") for n in range(4)} | {"faces/x.png": b"x"},
        )
        put(proxy, "made", {})
        env = ENV | environment_of(proxy)
        words = _words(images, "s3://made/pairs", "s3://album/faces/", "--prompt", "again", "--yes", "--parallel", "1")
        # The bucket fails half-way; what came before is kept and not asked for again.
        proxy.rule = lambda request: "403 AccessDenied" if request.method == "PUT" and images.billed[2:] else None
        done = run_cli(*words, env=env)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        proxy.reset()
        done = run_cli(*words, env=env)
        assert done.returncode == 1, done.stderr  # the one that is no picture
        assert "4 ok, 1 failed" in done.stderr
        assert len(images.billed) <= 5
        manifest = get(proxy, "made", "pairs/manifest.csv")
        assert manifest is not None
        rows = list(csv.DictReader(io.StringIO(manifest.decode())))
        assert Counter(row["label"] for row in rows) == {"photograph": 4, "generated": 4}
        assert Counter(Counter(row["group"] for row in rows).values()) == {2: 4}
        assert {row["source"] for row in rows} == {"faces"}
        assert all(get(proxy, "made", f"pairs/{row['path']}") for row in rows)
        lines: list[Any] = [
            json.loads(line) for line in (get(proxy, "made", "pairs/provenance.jsonl") or b"").splitlines()
        ]
        assert {line["source_path"] for line in lines if line["status"] == "ok"} == {
            f"s3://album/faces/{n}.jpg" for n in range(4)
        }
        # Nothing is left.
        asked = len(images.seen)
        run_cli(*words, env=env)
        assert len(images.seen) == asked
