"""Records: validated when made, plain when written."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from faceproof import SCHEMA, Evidence, Face, FaceChecker, ImageResult, QualityReason, UsageError, Verdict
from faceproof.images import RGB


def make_verdict(score: float = 1.0, label: str = "generated", probability: float = 0.9) -> Verdict:
    return Verdict(
        label, score, score, probability, 0.8, 0.01, (0.7, 0.85), evidence=(Evidence("e", score, "s"),), reasons=("r",)
    )  # type: ignore[arg-type]  # fmt: skip


def make_face(verdict: Verdict, *quality: QualityReason) -> Face:
    return Face((1, 2, 30, 40), ((1, 1), (2, 1), (1.5, 2), (1, 3), (2, 3)), 0.99, quality, verdict)


def make_result(*faces: Face, status: str = "ok", error: str | None = None) -> ImageResult:
    return ImageResult("a.jpg", status, "m", "f", "0", 0.8, 0.01, (0.7, 0.85), "00", 64, 48, faces, error)  # type: ignore[arg-type]


BLURRED = QualityReason("blurred", "blurred: why", 1.0, 6.5)


def test_the_most_suspicious_fit_face_speaks() -> None:
    calm = make_face(make_verdict(-2, "photograph", 0.1))
    loud = make_face(make_verdict(3, "generated", 0.95))
    unfit = make_face(make_verdict(9, "inconclusive", 0.99), BLURRED)
    record = make_result(unfit, calm, loud).to_dict()
    assert (record["verdict"], record["score"], record["probability"]) == ("generated", 3.0, 0.95)
    assert [face["verdict"] for face in record["faces"]] == ["inconclusive", "photograph", "generated"]


def test_only_unfit_faces_are_inconclusive() -> None:
    record = make_result(make_face(make_verdict(9, "inconclusive", 0.99), BLURRED)).to_dict()
    assert (record["verdict"], record["score"], record["probability"]) == ("inconclusive", None, None)


def test_no_face_has_no_verdict() -> None:
    record = make_result(status="no_face").to_dict()
    assert (record["verdict"], record["score"], record["faces"]) == (None, None, [])


def test_the_fields_the_issue_names(checker: FaceChecker, astronaut: RGB) -> None:
    record = checker.check(astronaut).to_dict()
    wanted = {"path", "sha256", "status", "error", "width", "height", "faces", "score", "probability", "verdict"}
    assert wanted | {"threshold", "threshold_fpr", "model", "version", "schema"} <= record.keys()
    assert {"box", "landmarks", "quality", "score", "probability", "verdict"} <= record["faces"][0].keys()
    assert record["schema"] == SCHEMA == "faceproof.result/1"
    assert np.array(record["faces"][0]["landmarks"]).shape == (5, 2)
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_records_are_frozen() -> None:
    for made in (make_verdict(), make_face(make_verdict()), make_result(status="no_face"), BLURRED):
        field = dataclasses.fields(made)[0].name  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field, None)


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown verdict 'fake'"):
        make_verdict(label="fake")
    with pytest.raises(UsageError, match="finite"):
        make_verdict(score=float("nan"))
    with pytest.raises(UsageError, match=r"0\.\.1"):
        make_verdict(probability=1.5)
    with pytest.raises(UsageError, match="fails quality is inconclusive"):
        make_face(make_verdict(), BLURRED)
    with pytest.raises(UsageError, match="at least one face"):
        make_result()
    with pytest.raises(UsageError, match="an error has a message"):
        make_result(status="error")
    with pytest.raises(UsageError, match="a box is"):
        dataclasses.replace(make_face(make_verdict()), box=(5, 0, 1, 1))
