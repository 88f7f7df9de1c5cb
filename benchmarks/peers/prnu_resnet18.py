"""Peer: prnu 0.1.0 (PyPI, GPL-3.0), a ResNet-18 on the noise of the middle 512 x 512 pixels, the whole picture.

Read in the package: ai_predictor.py (its module run as a program asks for paths and prints probabilities; the
class ai is 0, probability 0.5), __init__.py (grey, middle 512 x 512, 3 x 3 Wiener residual, zero row and column
means). GPL: neither this file nor anything else here imports it. The package's own program runs in its own Python
environment, and what goes to and fro are paths of PNG files and lines of text.

The package refuses pictures under 512 px. Those are enlarged here (bicubic) until the shorter side is 512,
which it was not made for: camera noise does not survive that, and its figure says so.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import weakref
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from faceproof.errors import ModelError

THRESHOLD = 0.0
"""Published: probability 0.5, as a logit."""
VERSION = "0.1.0"
INSTALL = 'python3 -m venv "$FACEPROOF_PEERS/prnu" && "$FACEPROOF_PEERS/prnu/bin/pip" install "prnu==0.1.0"'
PROMPT, ANSWER = b"quit): ", b"AI-Likelihood:"
SIDE = 512


class Prnu:
    """Score whole pictures in a process of the package's own.

    Attributes:
        name: for tables.
        identity: what the scores depend on besides this file.
    """

    name, identity = "prnu-resnet18", VERSION

    def __init__(self, python: Path) -> None:
        # In a folder of its own, so that no module lying about is taken for the package's.
        self._folder = tempfile.TemporaryDirectory()
        self._log = (Path(self._folder.name) / "log.txt").open("wb")
        self._process = subprocess.Popen(
            [str(python), "-m", "prnu.ai_predictor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=self._folder.name,
            env={"OMP_NUM_THREADS": "1", **os.environ},
        )
        self._end = weakref.finalize(self, _stop, self._process, self._log, self._folder)
        self._read()

    def score(self, pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> float:
        """Return the logit of its probability, higher = more likely generated. `landmarks`: unused."""
        picture = Image.fromarray(pixels)
        scale = SIDE / min(picture.size)
        if scale > 1:
            width, height = (max(SIDE, round(side * scale)) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        path = Path(self._folder.name) / "picture.png"
        picture.save(path, compress_level=1)
        try:
            self._process.stdin.write(f"{path}\n".encode())
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended: reading says why
        said = self._read()
        if ANSWER not in said:
            raise ModelError(f"prnu gave no probability for a picture of {picture.size}: {self._complaint()}")
        probability = np.clip(float(said.split(ANSWER)[1].split()[0]), 1e-7, 1 - 1e-7)
        return float(np.log(probability / (1 - probability)))

    def _read(self) -> bytes:
        """Return what it says before it asks for the next path."""
        said = b""
        while not said.endswith(PROMPT):
            part = os.read(self._process.stdout.fileno(), 65536)
            if not part:
                raise ModelError(f"prnu's process has ended: {self._complaint()}; install it anew: {INSTALL}")
            said += part
        return said

    def _complaint(self) -> str:
        lines = Path(self._log.name).read_text("utf-8", "replace").splitlines()
        return lines[-1] if lines else "without a word"


def _stop(process: subprocess.Popen[bytes], log: object, folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, log):
        stream.close()
    folder.cleanup()


def make() -> Prnu:
    """Start the package's program in the environment at $FACEPROOF_PEERS/prnu."""
    python = Path(os.environ.get("FACEPROOF_PEERS", "$FACEPROOF_PEERS")) / "prnu" / "bin" / "python"
    installed = python.parent.parent.glob(f"lib/python*/site-packages/prnu-{VERSION}.dist-info")
    if not python.exists() or not any(installed):
        raise ModelError(
            f"prnu {VERSION} is not installed in the environment of {python}; set FACEPROOF_PEERS to a folder, then "
            f"{INSTALL} (a separate process, as it is GPL)"
        )
    return Prnu(python.absolute())
