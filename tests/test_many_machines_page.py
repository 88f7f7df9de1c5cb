"""docs/many-machines.md: its commands run, its plan is what the script says, its figures are those of the code."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from faceproof.engine_ray import AHEAD
from faceproof.engines import TRIES
from faceproof.units import UNIT
from tests.engine_runs import assert_exactly_once, fill
from tests.helpers import run_cli
from tests.object_store import environment_of, put, running_store
from tests.test_remote_runs import parts_of
from tests.test_shards import tar_of

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "many-machines.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_pages_commands_run(tmp_path: Path, face_jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, extra in (("ray", "ray"), ("pyarrow", "parquet"), ("s3fs", "remote"), ("moto", "test")):
        pytest.importorskip(module, reason=f"the extra [{extra}] is not installed")
    expected = {
        str(Path(path).relative_to(tmp_path)): status
        for path, status in fill(tmp_path / "pictures", 5, face_jpeg).items()
    }
    (tmp_path / "shards").mkdir()
    for number in range(2):
        (tmp_path / "shards" / f"{number:03d}.tar").write_bytes(tar_of({"a.jpg": face_jpeg}))
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) == 4
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with running_store() as store:
        for name, value in environment_of(store).items():
            monkeypatch.setenv(name, value)
        put(store, "my-bucket", {"avatars/a.jpg": face_jpeg})
        for line in lines:
            done = run_cli(*shlex.split(line, comments=True)[1:], cwd=tmp_path, timeout=300)
            assert done.returncode == 0, (line, done.stderr)
            if "pictures/" in line:  # the second command goes on from the first one's parts
                assert_exactly_once(tmp_path / "results.parquet", expected)
        assert parts_of(store, "my-bucket", "runs/results.parquet")[0]["records"] == 1
    assert not (home / ".ray").exists()  # a token there would make later clusters ask for it
    assert_exactly_once(tmp_path / "shards.parquet", {f"shards/00{n}.tar::a.jpg": "ok" for n in range(2)})


def test_the_plan_is_what_the_script_says() -> None:
    (command, table) = re.findall(r"<!-- plan -->\n`([^`]+)` says:\n\n(.*?)<!-- end of plan -->", TEXT, re.DOTALL)[0]
    said = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert table == said.stdout


def test_the_plan_by_hand() -> None:
    """Time, storage and cost from the measured numbers, computed anew."""

    def values(name: str, column: str, **where: str) -> float:
        with (ROOT / "benchmarks" / name).open() as stream:
            rows = csv.DictReader(line for line in stream if not line.startswith("#"))
            return next(float(row[column]) for row in rows if all(row[key] == text for key, text in where.items()))

    words = ["benchmarks/many_machines.py", "--pictures", "1e6", "--machines", "4", "--price", "2", "--cores", "8"]
    said = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rate = values("throughput.csv", "median", pipeline="faceproof", measure="pictures/s, steady")
    known = (ROOT / "benchmarks" / "engines.csv").is_file()
    ratio = values("engines.csv", "value", engine="ray", measure="seconds / plain's") if known else 1.0
    hours = 1e6 / (4 * rate * 4 / ratio) / 3600  # 8 cores are 4 times the 2 that were measured
    assert f"| time | {hours:.1f} hours | 1,000,000 pictures on 4 machines |" in said
    assert f"| cost | {hours * 8:.2f} | {hours * 4:.1f} machine hours at 2.00 |" in said
    each = values("engines.csv", "value", engine="ray", measure="bytes/record") if known else None
    stored = "unknown" if each is None else f"{each / 1000:.1f} GB in 2,000 parts"
    assert f"| results | {stored} |" in said


def test_the_page_says_what_the_code_does() -> None:
    assert f"units of work ({UNIT} pictures" in TEXT
    assert (TRIES, AHEAD) == (4, 2)  # "kills four workers", "two units under way"
