"""Peer: phorensics 0.1.1 (PyPI, MIT), hand-made rules without weights, the whole picture.

Read in the package: engine.py (longer side to at most 600 px; robust z-scores of 128 px patches for error levels,
Laplacian noise and chroma; slope of the power spectrum; copies by ORB; a weighted percentage), reporter.py
(>= 50 is fake). It reads a file only, so each picture goes through a PNG.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from faceproof.errors import MissingExtraError, ModelError

THRESHOLD = 50.0
"""Published: 50 %."""
VERSION = "0.1.1"
# Without its dependencies: it asks for opencv-python-headless, and faceproof's opencv-python owns cv2 already.
INSTALL = 'pip install torch tqdm && pip install --no-deps "phorensics==0.1.1"'


class Phorensics:
    """Score whole pictures.

    Attributes:
        name: for tables.
        identity: what the scores depend on besides this file.
    """

    name, identity = "phorensics", VERSION

    def __init__(self, scanner: Any) -> None:
        self._scanner = scanner

    def score(self, pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> float:
        """Return its "Fake_Prob", 0 to 99.9, higher = more likely generated. `landmarks`: unused."""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            path = os.path.join(folder, "picture.png")
            Image.fromarray(pixels).save(path, compress_level=1)
            return float(self._scanner(path, force_cpu=True).analyze()["Fake_Prob"])


def make() -> Phorensics:
    """Return the peer."""
    try:
        from phorensics.engine import ImageScanner
    except ImportError as err:
        raise MissingExtraError(f"the peer phorensics cannot be imported ({err}); install it with: {INSTALL}") from err
    found = importlib.metadata.version("phorensics")
    if found != VERSION:
        raise ModelError(
            f"phorensics {found} is installed, {VERSION} is wanted (other weights, other figures): {INSTALL}"
        )
    return Phorensics(ImageScanner)
