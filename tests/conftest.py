"""Fixtures shared by all tests. Tests pass without ../shared; those that want it skip with a reason."""

from __future__ import annotations

import io
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import settings
from PIL import Image

from faceproof import FaceChecker, servers
from faceproof.images import RGB
from tests.helpers import kill_leftovers
from tests.image_server import ImageServer, running_image_server
from tests.object_store import Proxy, environment_of, put, running_store

# A busy machine must not fail a test: speed is for benchmarks.
settings.register_profile("faceproof", deadline=None)
settings.load_profile("faceproof")
# A shell starts what runs in its background with Ctrl-C ignored, and what that starts ignores it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

_BUCKETS = itertools.count()
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    kill_leftovers()


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


@pytest.fixture(scope="module")
def store() -> Iterator[Proxy]:
    """An S3 server behind a proxy that can misbehave."""
    with running_store() as proxy:
        yield proxy


@pytest.fixture
def bucket(store: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new, empty bucket, and an environment that leads there through the proxy."""
    for name, value in environment_of(store).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(servers, "FIRST_WAIT", 0.01)
    store.reset()
    name = f"bucket-{next(_BUCKETS)}"
    put(store, name, {})
    yield name
    store.reset()


@pytest.fixture(scope="module")
def running_images() -> Iterator[ImageServer]:
    with running_image_server() as server:
        yield server


@pytest.fixture
def images(running_images: ImageServer) -> ImageServer:
    """A server of OpenAI's image API that has forgotten earlier tests."""
    running_images.rule, running_images.made = lambda asked: None, None
    running_images.seen, running_images.billed = [], []
    return running_images
