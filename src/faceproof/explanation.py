"""Why this verdict: the maps of one face, each with its deletion test, and its spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.detectors.crops import cut
from faceproof.detectors.onnx import OnnxDetector
from faceproof.errors import PictureError, UsageError
from faceproof.explain.deletion import DRAWS, SHARE, Deletion, deletion_test
from faceproof.explain.maps import OCCLUSION_SCALE, HeatMap, marked, upscaled
from faceproof.explain.occlusion import occlusion_map
from faceproof.explain.residuals import ela_map, noise_map, smoothed
from faceproof.explain.spectrum import SPEC, Spectrum, compare
from faceproof.fusion import ANOMALY, START, SUPERVISED
from faceproof.images import Picture, PictureSource
from faceproof.pipeline import FaceChecker
from faceproof.records import Face, ImageResult

__all__ = ["EXPLANATION_SCHEMA", "Explanation", "MapMaker", "TestedMap", "explain", "explain_loaded"]

EXPLANATION_SCHEMA = "faceproof.explanation/1"

RGB = npt.NDArray[np.uint8]
MapMaker = Callable[[RGB, int], Sequence[HeatMap]]
"""(crop (S, S, 3) uint8 RGB, sign) -> further maps towards the answer: `explain.gradcam.network_maps` makes one."""


@dataclass(frozen=True)
class TestedMap:
    """A map with what it marks and how that fared.

    Attributes:
        heat: the map.
        mask: (S, S) bool, the marked tenth.
        deletion: its test.
    """

    heat: HeatMap
    mask: npt.NDArray[np.bool_]
    deletion: Deletion

    __test__ = False  # no test class, whatever its name begins with


@dataclass(frozen=True)
class Explanation:
    """What is said about one face, and why.

    Attributes:
        result: of the whole picture.
        number: of the face explained, from 1, in the order of `result.faces`.
        crop: (S, S, 3) uint8 RGB, the face as a person sees it.
        maps: each with its test.
        spectrum: beside photographs' band.
    """

    result: ImageResult
    number: int
    crop: RGB
    maps: tuple[TestedMap, ...]
    spectrum: Spectrum

    @property
    def face(self) -> Face:
        """The face explained."""
        return self.result.faces[self.number - 1]

    @property
    def decided(self) -> bool:
        """Whether there is an answer; if not, the side the log-odds lean to is explained."""
        return self.face.verdict.label != "inconclusive"

    @property
    def answer(self) -> str:
        """What is explained: "generated" or "photograph"."""
        return _answer(self.face)

    @property
    def contradicted(self) -> bool:
        """Whether the network leans to the other answer: what decided is then other evidence, which no map shows."""
        own = [piece.weight for piece in self.face.verdict.evidence if _of_network(piece.name)]
        return (math.fsum(own) > 0) != (self.answer == "generated")

    @property
    def about(self) -> str:
        """A line that says what is explained."""
        how = "the answer" if self.decided else "inconclusive; it leans to"
        against = "; THE NETWORK LEANS THE OTHER WAY, other evidence decided" if self.contradicted else ""
        return (
            f"face {self.number} of {len(self.result.faces)}, {how} {self.answer} "
            f"(score {self.face.verdict.score:+.2f}, higher speaks for generated{against})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what explain.json holds; `values` of maps are means over a 13 x 13 grid, rows from the top."""
        record = self.result.to_dict()
        return {
            "schema": EXPLANATION_SCHEMA,
            "path": record["path"],
            "sha256": record["sha256"],
            "face_number": self.number,
            "faces": len(self.result.faces),
            "explained": self.answer,
            "decided": self.decided,
            "network_leans_the_other_way": self.contradicted,
            "face": record["faces"][self.number - 1],
            "maps": [
                {
                    "name": one.heat.name,
                    "title": one.heat.title,
                    "sentence": one.heat.sentence,
                    "explains_the_score": one.heat.explains,
                    "unit": one.heat.unit,
                    "scale": one.heat.scale,
                    "deletion": one.deletion.to_dict(),
                    "words": one.deletion.sentence(self.answer),
                    "values": _coarse(one.heat.values),
                }
                for one in self.maps
            ],
            "spectrum": self.spectrum.to_dict(),
            "model": record["model"],
            "face_detector": record["face_detector"],
            "version": record["version"],
        }


def explain(
    picture: PictureSource,
    checker: FaceChecker | None = None,
    *,
    face: int | None = None,
    more: MapMaker | None = None,
    draws: int = DRAWS,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Explanation:
    """Explain the verdict on one face.

    Args:
        picture: as for `FaceChecker.check`.
        checker: to check with; one with the default model for None.
        face: number of the face, from 1, largest first; None: the one that speaks for the picture.
        more: makes further maps.
        draws: random places each map is held against.
        on_step: called with maps made and tested, and how many there will be.

    Returns:
        The same for the same picture, whenever it is asked for.

    Raises:
        PictureError: the picture cannot be read, has no face, or the face fails the quality gates.
        UsageError: there is no face of that number, or an argument is wrong.
    """
    checker = checker or FaceChecker()
    loaded = checker.load(picture)
    return explain_loaded(
        loaded, checker.check_loaded(loaded), checker, face=face, more=more, draws=draws, on_step=on_step
    )


def explain_loaded(
    loaded: Picture,
    result: ImageResult,
    checker: FaceChecker,
    *,
    face: int | None = None,
    more: MapMaker | None = None,
    draws: int = DRAWS,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Explanation:
    """Explain what `checker` has said about a picture it read; for the rest see `explain`."""
    number = _chosen(result, face)
    landmarks, spec = np.array(result.faces[number - 1].landmarks, np.float32), checker.card.crop
    crop = cut(spec, loaded.pixels, landmarks)
    sign = 1 if _answer(result.faces[number - 1]) == "generated" else -1
    heats = [*_score_maps(checker, crop, sign), *(more(crop, sign) if more is not None else ())]
    heats += [make(loaded.pixels, landmarks, spec) for make in (ela_map, noise_map)]
    tested = []
    for done, heat in enumerate(heats):
        on_step(done, len(heats))
        tested.append(_tested(checker, crop, heat, sign, draws))
    on_step(len(heats), len(heats))
    return Explanation(
        result,
        number,
        cut(replace(spec, features="rgb"), loaded.pixels, landmarks),
        tuple(tested),
        compare(cut(SPEC, loaded.pixels, landmarks)),
    )


def _of_network(name: str) -> bool:
    return name in (START, SUPERVISED, ANOMALY) or name.startswith("detector ")


def _answer(face: Face) -> str:
    verdict = face.verdict
    if verdict.label != "inconclusive":
        return verdict.label
    return "generated" if verdict.log_odds > 0 else "photograph"


def _chosen(result: ImageResult, face: int | None) -> int:
    """Return the number of the face to explain."""
    if not result.faces:
        raise PictureError(
            f"{result.path}: no face was found in {result.width} x {result.height} pixels, so there is no verdict to "
            "explain; give a picture with a face"
        )
    if face is not None and not 1 <= face <= len(result.faces):
        raise UsageError(f"{result.path} has {len(result.faces)} face(s); --face {face} is none of them")
    if face is None and result.decisive is not None:
        return next(n for n, one in enumerate(result.faces, 1) if one is result.decisive)
    number = face or 1
    reasons = result.faces[number - 1].quality
    if reasons:
        which = f"face {number}" if face else f"none of {len(result.faces)} face(s) can be judged; face {number}"
        raise PictureError(
            f"{result.path}: {which} is not judged, so there is nothing to explain "
            f"({'; '.join(reason.sentence for reason in reasons)}); give a better picture, or another --face"
        )
    return number


def _score_maps(checker: FaceChecker, crop: RGB, sign: int) -> list[HeatMap]:
    """Maps that need the detector only."""
    detector, maps = checker.detector, []
    if isinstance(detector, OnnxDetector) and detector.maps:
        cells = detector.evidence_map(crop[None])[0]
        maps.append(
            HeatMap(
                "cam",
                "class activation map",
                f"Where the score comes from, exactly: the mean of its {cells.shape[0]} x {cells.shape[1]} cells plus "
                "a constant is the score (Zhou et al. 2016). Each cell has seen more than its own place.",
                upscaled(sign * cells, crop.shape[0]),
            )
        )
    sentence = (
        "What the score loses when a patch is covered with a blur of its surroundings, a quarter and an eighth of the "
        "crop wide, divided by the share covered. Needs no look into the network."
    )
    covered = sign * occlusion_map(detector.score, crop)
    maps.append(HeatMap("occlusion", "occlusion", sentence, covered, scale=OCCLUSION_SCALE))
    return maps


def _tested(checker: FaceChecker, crop: RGB, heat: HeatMap, sign: int, draws: int) -> TestedMap:
    """Test a map; those that show the picture are averaged first, or their tenth would be single pixels."""
    values = heat.values if heat.explains else smoothed(heat.values)
    return TestedMap(
        heat, marked(values, SHARE), deletion_test(checker.detector.score, crop, values, sign=sign, draws=draws)
    )


def _coarse(values: npt.NDArray[np.float32]) -> list[list[float]]:
    size = values.shape[0]
    edges = np.linspace(0, size, min(13, size) + 1).round().astype(int)
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float64), edges[:-1], 0), edges[:-1], 1)
    counts = np.outer(np.diff(edges), np.diff(edges))
    return [[round(float(v), 3) for v in row] for row in sums / counts]
