"""The page's JavaScript against the Python and OpenCV it stands for, step by step, in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceproof import FaceChecker
from faceproof.curves import Calibration, Isotonic, Platt, Temperature
from faceproof.detectors.crops import cut
from faceproof.detectors.store import model_folder
from faceproof.faces.alignment import TEMPLATE, align, crop_quad, similarity
from faceproof.faces.detection import DetectedFace, RetinaFace, _anchors, _decode
from faceproof.faces.quality import measure
from faceproof.images import RGB
from faceproof.mixture import Mixture
from faceproof.offline_config import page_config
from tests.live_page import browser
from tests.offline import packed, picture, run, served

PARTS = Path(__file__).resolve().parents[1] / "src" / "faceproof" / "pages" / "offline"


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """The scripts alone, without a runtime: nothing here runs a network."""
    with served(PARTS) as server, browser() as context:
        opened = context.new_page()
        opened.goto(server.url + "page.html")
        yield opened


@pytest.fixture(scope="module")
def config(checker: FaceChecker) -> dict[str, Any]:
    return page_config(checker)


def noise(height: int, width: int, seed: int = 0) -> RGB:
    """Random pixels: nothing in them is smooth, so every wrong weight shows."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "to_height", "to_width"),
    [(301, 233, 96, 96), (208, 208, 96, 96), (192, 192, 96, 96), (240, 300, 80, 100), (97, 1, 13, 1), (64, 48, 64, 48),
     (640, 480, 320, 240), (500, 333, 320, 213), (201, 200, 200, 199), (3, 3, 1, 1), (900, 1200, 720, 960)],
)  # fmt: skip
def test_shrinking_is_opencvs(page: Any, height: int, width: int, to_height: int, to_width: int) -> None:
    source = noise(height, width)
    own = cv2.resize(source, (to_width, to_height), interpolation=cv2.INTER_AREA)
    given = {"data": packed(source), "size": [width, height, to_width, to_height]}
    found = run(
        page, "const [w, h, u, v] = given.size; return text(P.shrink(pixels(given.data, w, h), u, v).data);", given
    )
    difference = np.abs(picture(found, to_height, to_width).astype(int) - own)
    assert difference.max() <= 1  # float32 sums in another order
    assert (difference > 0).mean() < 0.002


LANDMARKS = {
    "upright": TEMPLATE * 150 + [60, 40],
    "large": TEMPLATE * 900 + [-50, -80],
    "turned": (TEMPLATE - 0.5) @ np.array([[0.8, 0.6], [-0.6, 0.8]]) * 310 + [250, 180],
    "at the border": TEMPLATE * 260 + [-90, -60],
    "small": TEMPLATE * 40 + [300, 200],
}


@pytest.mark.parametrize("name", LANDMARKS)
@pytest.mark.parametrize("size", [208, 112])
def test_crops_are_opencvs(page: Any, name: str, size: int) -> None:
    source = cv2.GaussianBlur(noise(420, 520, 3), (0, 0), 1.5)
    landmarks = (LANDMARKS[name] + np.random.default_rng(1).normal(0, 2, (5, 2))).astype(np.float32)
    own = align(source, landmarks, size)
    given = {
        "data": packed(source), "landmarks": landmarks.tolist(),
        "crop": {"size": size, "template": TEMPLATE.tolist(), "max_reach": 4, "margin": 4},
    }  # fmt: skip
    body = "return text(F.align(pixels(given.data, 520, 420), given.landmarks, given.crop).data);"
    difference = np.abs(picture(run(page, body, given), size, size).astype(int) - own)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_impossible_landmarks_give_no_crop(page: Any, config: dict[str, Any]) -> None:
    source = noise(100, 100)
    body = "return F.align(pixels(given.data, 100, 100), given.landmarks, given.crop) === null;"
    for landmarks in (np.full((5, 2), 30.0), TEMPLATE * 9000):
        given = {"data": packed(source), "landmarks": landmarks.tolist(), "crop": config["crop"]}
        assert run(page, body, given)
        with pytest.raises(ValueError, match="landmarks"):
            align(source, landmarks, 208)


def test_similarity_and_corners(page: Any) -> None:
    points = LANDMARKS["turned"] + np.random.default_rng(2).normal(0, 3, (5, 2))
    given = {"points": points.tolist(), "template": TEMPLATE.tolist()}
    body = "return [F.similarity(given.points, given.template), F.quad(given.points, given.template)];"
    matrix, corners = run(page, body, given)
    np.testing.assert_allclose(np.reshape(matrix, (2, 3)), similarity(points, TEMPLATE), atol=1e-9)
    np.testing.assert_allclose(corners, crop_quad(points), atol=1e-9)


def test_grey_and_edges(page: Any) -> None:
    source = noise(96, 96, 5)
    given = {"data": packed(source)}
    body = "const g = P.grey(pixels(given.data, 96, 96)); return [text(g), text(P.laplacian(g, 96, 96))];"
    grey, edges = (np.frombuffer(_bytes(part), np.float32).reshape(96, 96) for part in run(page, body, given))
    own = cv2.cvtColor(source, cv2.COLOR_RGB2GRAY).astype(np.float32)
    np.testing.assert_array_equal(grey, own)
    np.testing.assert_array_equal(edges, cv2.Laplacian(own, cv2.CV_32F))


def _bytes(answer: str) -> bytes:
    import base64

    return base64.b64decode(answer)


@pytest.mark.parametrize("name", LANDMARKS)
def test_quality_measures(page: Any, config: dict[str, Any], checker: FaceChecker, name: str) -> None:
    source = cv2.GaussianBlur(noise(420, 520, 3), (0, 0), 2)
    landmarks = LANDMARKS[name].astype(np.float32)
    box = np.array([*landmarks.min(0) - 20, *landmarks.max(0) + 25], np.float32)
    face = DetectedFace(box, landmarks, 0.9)
    crop = cut(checker.card.crop, source, landmarks)
    own = measure(face, crop, 520, 420)
    given = {
        "crop": packed(crop), "face": {"box": box.tolist(), "landmarks": landmarks.tolist()}, "config": config,
        "size": checker.card.size,
    }  # fmt: skip
    body = """const values = F.measure(given.face, pixels(given.crop, given.size, given.size), 520, 420, given.config);
      return [values, F.judge(values, given.config.gates)];"""
    found, reasons = run(page, body, given)
    assert found == pytest.approx(own, rel=2e-3, abs=1e-9)
    assert [(r["code"], r["sentence"]) for r in reasons] == [
        (r.code, r.sentence) for r in checker.gates.judge(face, crop, 520, 420)
    ]


def test_every_gate_says_what_python_says(page: Any, config: dict[str, Any], checker: FaceChecker) -> None:
    values = {"side": 31.5, "inside": 0.333, "sharpness": 2.26, "turn": 1.76}
    found = run(page, "return F.judge(given.values, given.gates);", {"values": values, "gates": config["gates"]})
    assert [reason["sentence"] for reason in found] == [
        "too small: the face covers 32 px, at least 80 are needed",
        "cut off: 33% of the face lies in the picture, at least 70% are needed",
        f"blurred: sharpness {values['sharpness']:.1f}, at least {checker.gates.min_sharpness:.1f} is needed",
        "profile: the head is turned by 1.8 half eye distances, at most 1.3 is allowed",
    ]


def test_anchors_and_decoding(page: Any, config: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    own = _anchors(96, 128)
    offsets, points = (rng.normal(0, 2, (len(own), k)).astype(np.float32) for k in (4, 10))
    offsets[0, 2:] = 99  # ends at the bound
    given = {"finder": config["finder"], "offsets": packed(offsets), "points": packed(points), "count": len(own)}
    body = """const all = F.anchors(96, 128, given.finder), o = floats(given.offsets), p = floats(given.points);
      const found = Array.from({ length: given.count }, (_, k) => F.decode(o, p, all, k, given.finder));
      return [[...all], found.map((f) => f.box), found.map((f) => f.landmarks)];"""
    anchors, boxes, landmarks = run(page, body, given)
    np.testing.assert_array_equal(np.reshape(anchors, (-1, 3)), own)
    own_boxes, own_landmarks = _decode(offsets, points, own)
    np.testing.assert_allclose(boxes, own_boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(landmarks, own_landmarks, rtol=1e-5, atol=1e-3)


def test_suppression_is_opencvs(page: Any, config: dict[str, Any]) -> None:
    rng = np.random.default_rng(6)
    corner, extent = rng.uniform(0, 200, (300, 2)), rng.uniform(20, 90, (300, 2))
    boxes, scores = np.hstack([corner, corner + extent]), rng.uniform(0.8, 1, 300)
    kept = cv2.dnn.NMSBoxes(np.hstack([corner, extent]).tolist(), scores.tolist(), 0.8, RetinaFace.overlap)
    faces = [{"box": boxes[k].tolist(), "confidence": float(scores[k]), "id": k} for k in range(300)]
    given = {"faces": faces, "overlap": config["finder"]["overlap"]}
    found = run(page, "return F.suppressed(given.faces, given.overlap).map((f) => f.id);", given)
    assert found == np.asarray(kept).reshape(-1).tolist()


def test_network_inputs(page: Any, config: dict[str, Any], checker: FaceChecker) -> None:
    """Sums of both networks' inputs, and the place of every channel."""
    small, size = noise(50, 70), checker.card.size
    crop = noise(size, size, 1)
    given = {"small": packed(small), "crop": packed(crop), "config": config}
    body = """const b = F.blob(pixels(given.small, 70, 50), given.config.finder), size = given.config.crop.size;
      const t = F.tensor(pixels(given.crop, size, size), given.config.crop);
      return [b.dims, text(b.data), t.dims, text(t.data)];"""
    dims, blob, shape, tensor = run(page, body, given)
    own = np.zeros((1, 3, 64, 96), np.float32)
    own[0, :, :50, :70] = (small - RetinaFace.mean).transpose(2, 0, 1)[::-1]
    np.testing.assert_array_equal(np.frombuffer(_bytes(blob), np.float32).reshape(dims), own)
    mean, std = np.array(checker.card.mean), np.array(checker.card.std)
    wanted = (crop / 255 - mean) / std
    found = np.frombuffer(_bytes(tensor), np.float32).reshape(shape)
    np.testing.assert_allclose(found[0], wanted.transpose(2, 0, 1), atol=1e-6)
    assert found.sum() == pytest.approx(wanted.sum(), abs=0.1)


@pytest.mark.parametrize(
    "calibration",
    [
        Platt(1.7, -0.4),
        Temperature(2.5),
        Isotonic((-2.0, 0.5, 0.75, 3.0), (-1.5, 0.1, 0.1, 4.0)),
        Isotonic((0.0,), (1.0,)),
    ],
)
def test_calibration(page: Any, calibration: Calibration) -> None:
    scores = [*np.linspace(-4, 5, 37).tolist(), 0.5, 0.75, 3.0, -2.0]
    body = "return given.scores.map((score) => [V.curve(given.card, score), V.sigmoid(V.curve(given.card, score))]);"
    found = np.array(run(page, body, {"scores": scores, "card": calibration.to_card()}))
    np.testing.assert_allclose(found[:, 0], calibration.curve(scores), atol=1e-12)
    np.testing.assert_allclose(found[:, 1], calibration.probability(np.array(scores)), atol=1e-12)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_mixture(page: Any, kind: str, checker: FaceChecker) -> None:
    assert checker.scorer is not None
    shipped = checker.scorer.mixture
    k, d = shipped.means.shape
    rng = np.random.default_rng(8)
    factors = {
        "full": shipped.precisions,
        "tied": shipped.precisions[0],
        "diag": np.diagonal(shipped.precisions, axis1=1, axis2=2).copy(),
    }[kind]
    mixture = Mixture(kind, shipped.weights, shipped.means, factors, shipped.projection)
    embeddings = rng.normal(0.2, 0.5, (3, mixture.width)).astype(np.float32)
    file = packed(np.frombuffer(mixture.to_bytes(), np.uint8))
    given = {"file": file, "embeddings": packed(embeddings), "width": mixture.width}
    body = """const m = V.tensors(bytes(given.file).buffer), all = floats(given.embeddings), w = given.width;
      return [0, 1, 2].map((k) => V.logLikelihood(m, all.subarray(k * w, k * w + w)));"""
    own = Mixture.from_bytes(mixture.to_bytes()).log_likelihood(embeddings)
    np.testing.assert_allclose(run(page, body, given), own, rtol=1e-9)


@pytest.mark.parametrize(
    "scores", [{"supervised": v, "anomaly": a} for v in (-5.0, 0.0, 2.0, 5.0) for a in (0.3, 50.0)]
)
def test_verdicts(page: Any, config: dict[str, Any], checker: FaceChecker, scores: dict[str, float]) -> None:
    """Everything a person reads, from scores alone: labels, odds, reasons, the alarm."""
    own = checker._verdict(scores, (), (), ())
    found = run(page, "return V.decide(given.scores, [], [], given.config);", {"scores": scores, "config": config})
    assert found["verdict"] == own.label
    assert found["log_odds"] == pytest.approx(own.log_odds, abs=1e-9)
    assert found["alarm"] == own.alarm
    assert found["reasons"] == list(own.reasons)
    assert [(e["name"], e["sentence"]) for e in found["evidence"]] == [(e.name, e.sentence) for e in own.evidence]


def test_a_model_by_itself(page: Any, tmp_path: Path) -> None:
    """Without a fusion beside it the card's curve and conformal scores decide."""
    shutil.copytree(model_folder(None), tmp_path / "alone")
    (tmp_path / "alone" / "fusion.json").unlink()
    alone = FaceChecker(tmp_path / "alone", fpr=0.05, alpha=0.1)
    config = page_config(alone)
    assert config["combiner"]["start"] is None
    for score in (-5.0, -1.0, 0.7, 3.0, 5.0):
        own = alone._verdict({"supervised": score}, (), (), ())
        given = {"scores": {"supervised": score}, "config": config}
        found = run(page, "return V.decide(given.scores, [], [], given.config);", given)
        assert (found["verdict"], found["reasons"]) == (own.label, list(own.reasons))
        assert found["probability"] == pytest.approx(own.probability, abs=1e-12)


def test_alignment_evidence(page: Any, config: dict[str, Any], checker: FaceChecker) -> None:
    from faceproof.detectors.alignment import alignment_evidence, alignment_evidence_inputs

    landmarks = np.array(checker.reference.mean) * 512 + 3
    own = alignment_evidence(alignment_evidence_inputs(landmarks, 512, 512, checker.reference))
    body = "return V.alignment(given.landmarks, given.width, 512, given.faces, given.reference);"
    given = {"landmarks": landmarks.tolist(), "width": 512, "faces": 1, "reference": config["alignment"]}
    assert run(page, body, given) == [vars(own)]
    for other in ({"faces": 2}, {"width": 700}, {"landmarks": (landmarks + 200).tolist()}):
        assert run(page, body, given | other) == []


def test_headers(page: Any, tmp_path: Path) -> None:
    """Sizes are read without decoding; broken-off files are seen."""
    import io

    from PIL import Image

    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"):
        stream = io.BytesIO()
        Image.fromarray(noise(37, 53)).save(stream, kind)
        data = np.frombuffer(stream.getvalue(), np.uint8)
        body = """const D = await import("./decode.js"), all = bytes(given.data);
          return [D.header(all), D.truncated(D.header(all).kind, all, new DataView(all.buffer))];"""
        found, broken = run(page, body, {"data": packed(data)})
        assert found == {"kind": kind, "width": 53, "height": 37}
        assert not broken
        if kind in ("JPEG", "PNG", "WEBP"):
            assert run(page, body, {"data": packed(data[: len(data) * 2 // 3])})[1]
