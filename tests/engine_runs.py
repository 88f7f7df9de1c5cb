"""What the tests of engines share: pictures that are quick, hooks that slow down or kill, folders of parts."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import encode

HOOK = """
import os, signal, time
if "FACEPROOF_TEST_VERSION" in os.environ:
    import faceproof._version
    faceproof._version.VERSION = os.environ["FACEPROOF_TEST_VERSION"]
import faceproof.images as images
load = images.load
def hooked(source, **options):
    if "killer" in os.path.basename(str(getattr(source, "name", source))):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("FACEPROOF_TEST_SLEEP", "0")))
    return load(source, **options)
images.load = hooked
"""
"""Stands for a crash in a decoder, and for pictures that take their time; put where Python imports it at its start."""


def hooked(folder: Path, sleep: float = 0.0) -> dict[str, str]:
    """Environment of processes in which pictures named killer kill, and every picture takes `sleep` seconds more."""
    (folder / "hook").mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(folder / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "FACEPROOF_TEST_SLEEP": str(sleep)}


def fill(folder: Path, count: int, face: bytes) -> dict[str, str]:
    """Write small pictures, hardly any with a face; path -> status its record must have."""
    plain = encode(np.random.default_rng(1).integers(0, 255, (48, 48, 3)).astype(np.uint8), "PNG")
    expected = {}
    for number in range(count):
        data, status = (face, "ok") if number % 50 == 3 else (face[:900], "error") if number % 50 == 7 else (plain, "")
        path = folder / f"sub{number % 3}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        expected[str(path)] = status or "no_face"
    return expected


def parts(out: Path) -> list[Path]:
    """The parts that are in place."""
    return sorted(out.glob("part-*")) if out.is_dir() else []


def records(out: Path) -> list[dict[str, Any]]:
    """All records, read without our own code; the manifest says the same."""
    found: list[dict[str, Any]] = []
    manifest = json.loads((out / "_manifest.json").read_text())
    assert [part["name"] for part in manifest["parts"]] == [path.name for path in parts(out)]
    for part, path in zip(manifest["parts"], parts(out), strict=True):
        if path.suffix == ".parquet":
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(path).to_pylist()
        else:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        data = path.read_bytes()
        assert (len(rows), len(data), hashlib.sha256(data).hexdigest()) == (
            part["records"], part["bytes"], part["sha256"],
        )  # fmt: skip
        found += rows
    assert manifest["records"] == len(found)
    return found


def assert_exactly_once(out: Path, expected: dict[str, str]) -> list[dict[str, Any]]:
    """Every picture has one record with its status, the run is finished, nothing else lies about."""
    found = records(out)
    assert [path for path, count in Counter(record["path"] for record in found).items() if count > 1] == []
    assert {record["path"]: record["status"] for record in found} == expected
    assert json.loads((out / "_manifest.json").read_text())["finished"] is True
    beside = {path.name for path in out.iterdir()} - {path.name for path in parts(out)}
    assert beside <= {"_manifest.json", "_lock", "_run"}
    return found
