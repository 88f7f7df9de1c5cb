"""An explanation on disk: a picture a map, explain.json, and one self-contained page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.card import Card
from faceproof.errors import OutputError, UsageError
from faceproof.explain.overlay import map_picture, spectrum_picture
from faceproof.explanation import Explanation
from faceproof.explanation_html import explanation_page
from faceproof.extras import opencv
from faceproof.images import printable

__all__ = ["JSON_FILE", "PAGE_FILE", "check_folder", "pictures_of", "write_explanation"]

JSON_FILE, PAGE_FILE = "explain.json", "explain.html"
OWN = {JSON_FILE, PAGE_FILE} | {
    f"{name}.png" for name in ("cam", "occlusion", "gradcam", "gradcam-plus", "gap", "ela", "noise", "spectrum")
}
"""Every file an explanation may have: the only ones that are replaced."""


def check_folder(out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the folder to write to, after a look at what is there; nothing is made yet.

    Raises:
        UsageError: it is no folder, or holds something that must not be replaced.
    """
    folder = Path(out)
    if not os.path.lexists(folder):
        return folder
    if not folder.is_dir():
        raise UsageError(f"{printable(folder)} exists and is not a folder; give another --out")
    held = {entry.name for entry in folder.iterdir()}
    if held - OWN:
        foreign = printable(sorted(held - OWN)[0])
        raise UsageError(
            f"{printable(folder)} holds {foreign!r}, which is no part of an explanation; give another --out"
        )
    if held and not overwrite:
        raise UsageError(f"{printable(folder)} holds an explanation; give another --out, or --overwrite it")
    return folder


def pictures_of(explanation: Explanation) -> dict[str, npt.NDArray[np.uint8]]:
    """Return every picture: name -> (H, W, 3) uint8 RGB, the spectrum's chart last."""
    about, answer = explanation.about, explanation.answer
    found = {
        one.heat.name: map_picture(one.heat, explanation.crop, one.mask, one.deletion, answer=answer, about=about)
        for one in explanation.maps
    }
    return {**found, "spectrum": spectrum_picture(explanation.spectrum, about=about)}


def write_explanation(
    explanation: Explanation, card: Card, out: str | os.PathLike[str], *, overwrite: bool = False
) -> list[Path]:
    """Write an explanation into a folder.

    Args:
        explanation: what to write.
        card: of the detector, for its limits.
        out: the folder; it and its parents are made.
        overwrite: replace an older explanation there, and nothing else.

    Returns:
        The files, the page first.

    Raises:
        UsageError: as for `check_folder`.
        OutputError: the disk does not take it.
    """
    folder = check_folder(out, overwrite=overwrite)
    encoded = {name: _png(pixels) for name, pixels in pictures_of(explanation).items()}
    text = json.dumps(explanation.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
    files: Mapping[str, bytes] = {
        PAGE_FILE: explanation_page(explanation, card).encode(),
        JSON_FILE: (text + "\n").encode(),
        **{f"{name}.png": data for name, data in encoded.items()},
    }
    assert files.keys() <= OWN, files.keys()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in OWN - files.keys():
            (folder / name).unlink(missing_ok=True)  # maps of an older explanation that this one has not
        for name, data in files.items():
            temporary = folder / f"{name}.tmp"
            try:
                temporary.write_bytes(data)
                os.replace(temporary, folder / name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as err:
        raise OutputError(
            f"cannot write the explanation into {printable(folder)} ({err.strerror or err}); check the disk"
        ) from err
    return [folder / name for name in files]


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    cv2 = opencv()
    _, data = cv2.imencode(".png", pixels[:, :, ::-1])
    return bytes(data)
