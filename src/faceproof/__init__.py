"""faceproof: is this face a photograph, or was it generated?

    >>> from faceproof import FaceChecker                      # doctest: +SKIP
    >>> FaceChecker().check("portrait.jpg").verdict            # doctest: +SKIP
    'photograph'

Names are loaded on first use: importing the package loads neither numpy, OpenCV, onnxruntime nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from faceproof._version import VERSION

if TYPE_CHECKING:
    from faceproof.detectors.base import Detector
    from faceproof.detectors.card import Card, OperatingPoint
    from faceproof.duplicates import HashOptions
    from faceproof.errors import (
        DamagedError,
        FaceproofError,
        MissingExtraError,
        ModelError,
        NotAPictureError,
        OutputError,
        PictureError,
        StorageError,
        TooLargeError,
        UnreadableError,
        UsageError,
        VideoError,
    )
    from faceproof.faces.detection import DetectedFace, FaceDetector, RetinaFace, YuNet
    from faceproof.faces.quality import Gates
    from faceproof.hash_files import find_duplicates, hash_to_file, open_hashes
    from faceproof.images import Limits, Picture, load
    from faceproof.inputs import Inputs, Item
    from faceproof.pipeline import FaceChecker
    from faceproof.records import SCHEMA, Evidence, Face, ImageResult, QualityReason, Stability, Verdict
    from faceproof.reports import open_results, scan_to_file
    from faceproof.result_parts import open_parts
    from faceproof.scan import Options
    from faceproof.side_by_side import SideBySide, compare

__version__ = VERSION

_HOMES = {
    "faceproof.detectors.base": ("Detector",),
    "faceproof.detectors.card": ("Card", "OperatingPoint"),
    "faceproof.duplicates": ("HashOptions",),
    "faceproof.errors": (
        "DamagedError", "FaceproofError", "MissingExtraError", "ModelError", "NotAPictureError",
        "OutputError", "PictureError", "StorageError", "TooLargeError", "UnreadableError", "UsageError", "VideoError",
    ),
    "faceproof.faces.detection": ("DetectedFace", "FaceDetector", "RetinaFace", "YuNet"),
    "faceproof.faces.quality": ("Gates",),
    "faceproof.hash_files": ("find_duplicates", "hash_to_file", "open_hashes"),
    "faceproof.images": ("Limits", "Picture", "load"),
    "faceproof.inputs": ("Inputs", "Item"),
    "faceproof.pipeline": ("FaceChecker",),
    "faceproof.records": ("SCHEMA", "Evidence", "Face", "ImageResult", "QualityReason", "Stability", "Verdict"),
    "faceproof.reports": ("open_results", "scan_to_file"),
    "faceproof.result_parts": ("open_parts",),
    "faceproof.scan": ("Options",),
    "faceproof.side_by_side": ("SideBySide", "compare"),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "SCHEMA",
    "Card",
    "DamagedError",
    "DetectedFace",
    "Detector",
    "Evidence",
    "Face",
    "FaceChecker",
    "FaceDetector",
    "FaceproofError",
    "Gates",
    "HashOptions",
    "ImageResult",
    "Inputs",
    "Item",
    "Limits",
    "MissingExtraError",
    "ModelError",
    "NotAPictureError",
    "OperatingPoint",
    "Options",
    "OutputError",
    "Picture",
    "PictureError",
    "QualityReason",
    "RetinaFace",
    "SideBySide",
    "Stability",
    "StorageError",
    "TooLargeError",
    "UnreadableError",
    "UsageError",
    "Verdict",
    "VideoError",
    "YuNet",
    "__version__",
    "compare",
    "find_duplicates",
    "hash_to_file",
    "load",
    "open_hashes",
    "open_parts",
    "open_results",
    "scan_to_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'faceproof' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
