"""Fixtures shared by all tests. Tests pass without ../shared; those that want it skip with a reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import settings
from PIL import Image

from faceproof import FaceChecker
from faceproof.images import RGB

# A busy machine must not fail a test: speed is for benchmarks.
settings.register_profile("faceproof", deadline=None)
settings.load_profile("faceproof")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def astronaut() -> RGB:
    """NASA's photograph of Eileen Collins (public domain): (512, 512, 3) uint8 RGB."""
    return np.asarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def face_jpeg(astronaut: RGB) -> bytes:
    """A real JPEG with one face, 256 x 256."""
    stream = io.BytesIO()
    Image.fromarray(astronaut).resize((256, 256), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@pytest.fixture(scope="session")
def checker() -> FaceChecker:
    """A checker with the default model."""
    return FaceChecker()


@pytest.fixture(scope="session")
def faces_data() -> Path:
    """The folder of the faces data set, where it is there."""
    folder = DATA / "faces"
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"{folder} is not there: the project's data set is not part of the repository")
    return folder
