"""Who is measured side by side: model folders, and other people's detectors behind a small adapter.

A contender is described by a `Spec`, which travels to worker processes and makes it there. An adapter
is any Python file or module with a function that takes nothing and returns a `Contender`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from faceproof.calibration import fit_platt, threshold_at
from faceproof.curves import Calibration
from faceproof.detectors.base import Detector
from faceproof.detectors.card import Card, read_card
from faceproof.detectors.crops import cut
from faceproof.detectors.store import load_detector, model_folder
from faceproof.errors import FaceproofError, ModelError, UsageError

__all__ = ["Contender", "Frozen", "ModelContender", "Spec", "distinct_names", "freeze", "model_spec", "peer_spec"]

Floats = npt.NDArray[np.float64]
FPRS = (0.05, 0.01)
"""False-alarm rates at which a contender without a card gets its thresholds."""


@runtime_checkable
class Contender(Protocol):
    """Anything that scores the largest face of a picture.

    It may also have `frozen`, a `Frozen` with thresholds and calibration of its own (otherwise they are
    fixed on a split, see `freeze`), and `identity`, text that changes when its weights do.
    """

    @property
    def name(self) -> str:
        """Short name for tables."""
        ...

    def score(self, pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> float:
        """Score one face.

        Args:
            pixels: (H, W, 3) uint8 RGB picture, upright, after its chain.
            landmarks: (5, 2) float32 x, y pixels of the face: eyes, nose, mouth corners.

        Returns:
            Any finite number, higher = more likely generated.

        Raises:
            ValueError: this face cannot be scored; it is counted and listed.
        """
        ...


@dataclass(frozen=True)
class Frozen:
    """What was fixed before measuring.

    Attributes:
        thresholds: false-alarm rate -> score; the largest rate's threshold is the lowest.
        calibration: score -> log-odds; None where scores cannot be turned into probabilities.
        default_fpr: the rate in force, one of `thresholds`.
        where: what it was fixed on, for people.
    """

    thresholds: Mapping[float, float]
    calibration: Calibration | None
    default_fpr: float
    where: str

    @property
    def threshold(self) -> float:
        """The threshold in force, a score."""
        return self.thresholds[self.default_fpr]

    def probability(self, scores: npt.ArrayLike) -> Floats | None:
        """Return the probability of generated for each score, 0 to 1; None without a calibration."""
        return None if self.calibration is None else self.calibration.probability(np.asarray(scores, np.float64))

    @staticmethod
    def of_card(card: Card) -> Frozen:
        """Return what a model's card says."""
        points = {point.fpr: point.threshold for point in card.points}
        return Frozen(points, card.calibration, card.default_fpr, "its card")


def freeze(labels: npt.ArrayLike, scores: npt.ArrayLike, where: str) -> Frozen:
    """Fix thresholds (5 %, 1 %) and a Platt curve on a split, for a contender that brings none.

    Args:
        labels: (N,) 1 = generated, 0 = photograph.
        scores: (N,) of faces that pass quality.
        where: what they are, for people.

    Raises:
        UsageError: fewer than 20 photographs.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    photographs = s[y == 0]
    if len(photographs) < 20:
        raise UsageError(f"{where}: {len(photographs)} photographs are too few to fix a threshold on; 20 are needed")
    try:
        calibration = fit_platt(y, s)
    except UsageError:  # the scores say nothing, or the opposite: that is a result, not an error
        calibration = None
    return Frozen({fpr: threshold_at(photographs, fpr)[0] for fpr in FPRS}, calibration, 0.01, where)


class ModelContender:
    """A model folder or any `Detector`, cut and scored as `FaceChecker` does it.

    Args:
        detector: the model.
        name: for tables; the card's name if None.
    """

    def __init__(self, detector: Detector, name: str | None = None) -> None:
        self._detector = detector
        self._name = detector.card.name if name is None else name

    @property
    def name(self) -> str:
        """The card's name, or the one given."""
        return self._name

    def score(self, pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> float:
        """Score one face; see `Contender`."""
        crop = cut(self._detector.card.crop, pixels, landmarks)
        return float(self._detector.score(crop[None])[0])


@dataclass(frozen=True)
class Spec:
    """How to make a contender again, in another process.

    Attributes:
        kind: "model" or "peer".
        where: the model folder, or "file.py:factory" or "package.module:factory".
        name: unique among the contenders of a run.
        identity: hex digest of the weights (a model) or of the adapter's file (a peer).
        frozen: what its card (or adapter) fixes; None: it is fixed on a split.
    """

    kind: str
    where: str
    name: str
    identity: str
    frozen: Frozen | None = None

    def make(self) -> Contender:
        """Make it, with one thread.

        Raises:
            ModelError, UsageError: it cannot be made.
        """
        if self.kind == "model":
            return ModelContender(load_detector(self.where, threads=1), self.name)
        return _peer(self.where)


def model_spec(choice: str) -> Spec:
    """Return the description of a shipped model or a model folder.

    Raises:
        UsageError, ModelError: there is no such model, or it must not be used.
    """
    folder = model_folder(choice)
    card = read_card(folder)
    return Spec("model", str(folder.resolve()), card.name, card.fingerprint, Frozen.of_card(card))


def peer_spec(where: str) -> Spec:
    """Return the description of an adapter, "file.py:factory" or "package.module:factory"; it is made once to see.

    Raises:
        UsageError: there is no such file or function, or what it makes is no contender.
        ModelError: making it fails.
    """
    place, _, factory = where.rpartition(":")
    if place.endswith(".py") and Path(place).is_file():
        where = f"{Path(place).resolve()}:{factory}"
    contender = _peer(where)
    source = getattr(_module(where.rpartition(":")[0]), "__file__", None)
    content = Path(source).read_bytes() if source else b""
    # An adapter may say what else its scores depend on, such as the hash of its weights.
    more = str(getattr(contender, "identity", ""))
    identity = hashlib.sha256(content + where.encode() + more.encode()).hexdigest()
    frozen = getattr(contender, "frozen", None)
    return Spec("peer", where, str(contender.name), identity, frozen if isinstance(frozen, Frozen) else None)


def distinct_names(specs: Iterable[Spec]) -> list[Spec]:
    """Tell contenders of one name apart by their hash; drop exact repeats."""
    distinct = list({(spec.kind, spec.where): spec for spec in specs}.values())
    names = [spec.name for spec in distinct]
    return [
        replace(spec, name=f"{spec.name} ({spec.identity[:6]})") if names.count(spec.name) > 1 else spec
        for spec in distinct
    ]


def _peer(where: str) -> Contender:
    place, _, factory = where.rpartition(":")
    if not place or not factory.isidentifier():
        raise UsageError(f"peer {where!r} is not FILE.py:FUNCTION (such as benchmarks/peers/x.py:make)")
    make = getattr(_module(place), factory, None)
    if not callable(make):
        raise UsageError(f"{place} has no function {factory!r}; name the one that returns the contender")
    try:
        contender: Any = make()
    except FaceproofError:
        raise
    except Exception as err:  # an adapter is foreign code: whatever it raises becomes one line
        raise ModelError(f"peer {where} cannot be made: {type(err).__name__}: {err}; see its adapter") from err
    if not isinstance(contender, Contender):
        raise UsageError(f"peer {where}: a contender has .name and .score(pixels, landmarks); {contender!r} has not")
    return contender


def _module(place: str) -> Any:
    """Import a file by its path, or a module by its name."""
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ImportError as err:
            raise UsageError(f"peer module {place} cannot be imported ({err}); give FILE.py:FUNCTION") from err
    path = Path(place)
    if not path.is_file():
        raise UsageError(f"no adapter at {path}; give FILE.py:FUNCTION")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"faceproof_peer_{re.sub(r'[^A-Za-z0-9]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the ending is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as err:
        del sys.modules[name]
        raise UsageError(f"adapter {path} cannot be imported ({type(err).__name__}: {err})") from err
    return module
