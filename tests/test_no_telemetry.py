"""Checking a picture writes nothing to the home and temporary folders: onnxruntime's telemetry stays off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .helpers import environment

CODE = """
import psutil, numpy
from faceproof import FaceChecker
FaceChecker().check(numpy.zeros((64, 64, 3), numpy.uint8))
print([c.raddr for c in psutil.Process().net_connections()])
"""


def test_nothing_is_written_or_asked(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    own = {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / ".cache")}
    plain = {key: value for key, value in environment(own).items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", CODE], env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert sorted(tmp_path.rglob("*")) == [home, temporary]
