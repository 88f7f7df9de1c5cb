"""What the offline page's JavaScript is told: every number and sentence, from the Python that owns it."""

from __future__ import annotations

from typing import Any

import numpy as np

from faceproof._version import VERSION
from faceproof.detectors.alignment import ALIGNED_SENTENCE, ALIGNED_WEIGHT, SIGMAS, SQUARE
from faceproof.detectors.anomaly import LIMIT
from faceproof.errors import ModelError, UsageError
from faceproof.faces.alignment import MARGIN, MAX_REACH, TEMPLATE
from faceproof.faces.detection import MAX_FACES, RetinaFace
from faceproof.faces.quality import GATES, SHARPNESS_SIZE
from faceproof.fusion import ANOMALY, SINGLE_SENTENCE, START, SUPERVISED, TILT, Fusion, Single
from faceproof.pipeline import FaceChecker
from faceproof.records import SCHEMA, Evidence, Face, ImageResult, QualityReason, Verdict
from faceproof.report_html import SHOWN_SIDE, WORDS
from faceproof.report_words import guarantee
from faceproof.verdict import decide

__all__ = ["NOT_LOOKED_AT", "PAGE_SCHEMA", "page_config"]

PAGE_SCHEMA = "faceproof.page/1"
NOT_LOOKED_AT = {
    "metadata": "What the file says about its origin: EXIF, content credentials, generators' tags.",
    "stability": "Whether the answer holds when the picture is saved again or resized.",
    "maps": "Where in the face the score comes from.",
}
"""What `faceproof check` and its report look at and the page does not: a word -> a sentence."""
_ANYTHING = 1e9


def page_config(checker: FaceChecker) -> dict[str, Any]:
    """Return what `config.json` holds, but for the list of files.

    Args:
        checker: with a model by name or folder, and RetinaFace.

    Raises:
        ModelError: the page cannot cut the model's crops.
        UsageError: another face detector.
    """
    if not isinstance(checker.face_detector, RetinaFace):
        raise UsageError(f"the page finds faces with RetinaFace only, not {checker.face_detector.name}")
    rule, scorer = checker.rule, checker.scorer
    return {
        "schema_page": PAGE_SCHEMA,
        "schema": SCHEMA,
        "version": VERSION,
        "model": checker.card.identity,
        "face_detector": checker.face_detector.name,
        "limits": {"max_pixels": checker.limits.max_pixels, "max_bytes": checker.limits.max_bytes},
        "shown_side": SHOWN_SIDE,
        "finder": _finder(checker.face_detector),
        "crop": _crop(checker),
        "gates": _gates(checker),
        "combiner": _combiner(checker),
        "scorer": None if scorer is None else {"centre": scorer.centre, "spread": scorer.spread, "limit": LIMIT},
        "alignment": _alignment(checker),
        "rule": {"high": rule.high, "low": rule.low, "threshold": rule.threshold, "fpr": rule.fpr, "alpha": rule.alpha},
        "answers": _answers(checker),
        "promises": _promises(checker),
        "words": WORDS,
        "not_looked_at": list(NOT_LOOKED_AT),
    }


def _finder(found: RetinaFace) -> dict[str, Any]:
    return {
        "near": found.near,
        "far": found.far,
        "min_confidence": found.min_confidence,
        "strides": list(found.strides),
        "anchor_sizes": [list(sizes) for sizes in found.anchor_sizes],
        "mean": found.mean.tolist(),
        "variances": list(found.variances),
        "exponent": found.exponent,
        "overlap": found.overlap,
        "second_look": found.second_look,
        "small": found.small,
        "covered": found.covered,
        "max_faces": MAX_FACES,
    }


def _crop(checker: FaceChecker) -> dict[str, Any]:
    card = checker.card
    if card.crop.frame != "aligned" or card.crop.features != "rgb" or card.kind != "classifier":
        raise ModelError(
            f"model {card.name} takes {card.crop.frame} crops of {card.crop.features} and is a {card.kind}; the page "
            "runs classifiers of aligned crops in colours: give another --model"
        )
    mean, std = np.array(card.mean), np.array(card.std)
    return {
        "size": card.size,
        "template": TEMPLATE.tolist(),
        "max_reach": MAX_REACH,
        "margin": MARGIN,
        # float32, as `detectors.onnx` has them.
        "gain": (1 / (255 * std)).astype(np.float32).tolist(),
        "shift": (-mean / std).astype(np.float32).tolist(),
    }


def _gates(checker: FaceChecker) -> dict[str, Any]:
    rules = []
    for gate in GATES:
        limit = float(getattr(checker.gates, gate.field))
        words = gate.sentence.replace("{limit}", gate.written(limit))
        rules.append(
            {
                "code": gate.code, "measure": gate.measure, "below": gate.below, "limit": limit, "digits": gate.digits,
                "sentence": words,
            }
        )  # fmt: skip
    return {"sharpness_size": SHARPNESS_SIZE, "rules": rules}


def _combiner(checker: FaceChecker) -> dict[str, Any]:
    """A fusion, or a model by itself, which is a sum of one term with nothing held back."""
    combiner = checker.combiner
    if isinstance(combiner, Single):
        term = {
            "name": SUPERVISED, "title": combiner.title, "slope": 1.0, "low": -_ANYTHING, "high": _ANYTHING,
            "curve": checker.card.calibration.to_card(), "sentence": SINGLE_SENTENCE,
        }  # fmt: skip
        return {"tilt": TILT, "start": None, "terms": [term], "alarm": None}
    if not isinstance(combiner, Fusion) or not set(combiner.detectors) <= {SUPERVISED, ANOMALY}:
        raise ModelError(f"the page cannot weigh what model {checker.card.name} is fused from: {combiner.detectors}")
    terms = [
        {
            "name": term.name, "title": term.name, "slope": term.slope, "low": term.low, "high": term.high,
            "curve": None if term.curve is None else term.curve.to_card(), "sentence": term.sentence,
        }
        for term in combiner.terms
    ]  # fmt: skip
    start = next(piece for piece in combiner.evidence({}) if piece.name == START)
    return {"tilt": TILT, "start": vars(start), "terms": terms, "alarm": _alarm(checker, combiner)}


def _alarm(checker: FaceChecker, combiner: Fusion) -> dict[str, Any] | None:
    """Its limits, each with the sentence that `decide` gives a would-be photograph as unlike photographs."""
    warning = combiner.warning
    if warning is None:
        return None
    photograph = [Evidence("any", checker.rule.low - 1, "")]
    limits = [
        [limit, share, decide(0.0, photograph, (), checker.rule, alarm=share).reasons[0]]
        for limit, share in warning.limits
    ]
    return {"term": warning.term, "fpr": warning.fpr, "limits": limits}


def _alignment(checker: FaceChecker) -> dict[str, Any] | None:
    reference = checker.reference
    if reference.face_detector != checker.face_detector.name:
        return None
    return {
        "mean": reference.mean,
        "std": reference.std,
        "sigmas": SIGMAS,
        "square": SQUARE,
        "weight": ALIGNED_WEIGHT,
        "sentence": ALIGNED_SENTENCE,
    }


def _answers(checker: FaceChecker) -> dict[str, str]:
    """Label -> the first reason `decide` gives for it."""
    rule = checker.rule
    found: dict[str, str] = {}
    for odds in (rule.high, (rule.low + rule.high) / 2, rule.low - 1):
        verdict = decide(0.0, [Evidence("any", odds, "")], (), rule)
        found[verdict.label] = verdict.reasons[0]
    return found


def _promises(checker: FaceChecker) -> dict[str, str]:
    """Outcome -> what stands behind it, as a report says it; "unfit" where no face can be judged."""
    rule = checker.rule
    unfit = (QualityReason("unfit", "unfit", 0.0, 1.0),)
    outcomes: dict[str, tuple[str, tuple[QualityReason, ...]]] = {
        "photograph": ("photograph", ()), "generated": ("generated", ()), "inconclusive": ("inconclusive", ()),
        "unfit": ("inconclusive", unfit),
    }  # fmt: skip
    found = {}
    for name, (label, quality) in outcomes.items():
        verdict = Verdict(label, 0.0, 0.0, 0.5, 0.5, rule.fpr, (0.0, 1.0), rule.alpha)  # type: ignore[arg-type]
        face = Face((0.0, 0.0, 1.0, 1.0), ((0.0, 0.0),) * 5, 1.0, quality, verdict)
        found[name] = guarantee(face, _result(checker, "ok", (face,)), rule.photographs)
    for status in ("no_face", "error"):
        found[status] = guarantee(None, _result(checker, status), rule.photographs)
    return found


def _result(checker: FaceChecker, status: str, faces: tuple[Face, ...] = ()) -> ImageResult:
    rule = checker.rule
    return ImageResult(
        "", status, checker.card.identity, checker.face_detector.name, VERSION, 0.5, rule.fpr, (0.0, 1.0),  # type: ignore[arg-type]
        faces=faces, error="not read" if status == "error" else None, alpha=rule.alpha,
    )  # fmt: skip
