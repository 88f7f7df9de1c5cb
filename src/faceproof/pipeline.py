"""FaceChecker: the only file that knows all stages in order.

bytes -> image -> faces -> aligned crops -> scores -> probability -> verdict
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceproof._version import VERSION
from faceproof.curves import sigmoid
from faceproof.detectors.alignment import alignment_evidence, alignment_evidence_inputs, read_reference
from faceproof.detectors.anomaly import AnomalyScorer, read_scorer
from faceproof.detectors.base import Detector, EmbeddingDetector
from faceproof.detectors.card import Card
from faceproof.detectors.crops import cut
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import load_detector, model_folder
from faceproof.errors import ModelError, PictureError, UsageError
from faceproof.explain.stability import chains_of, perturbed_crops
from faceproof.extras import opencv
from faceproof.faces.alignment import EYE_DISTANCE, TEMPLATE
from faceproof.faces.detection import DetectedFace, FaceDetector
from faceproof.faces.detection import face_detector as make_face_detector
from faceproof.faces.quality import Gates
from faceproof.fusion import ANOMALY, SUPERVISED, Combiner, Single, read_fusion
from faceproof.images import Encoded, Limits, Picture, PictureSource, load, printable
from faceproof.metadata import provenance_evidence
from faceproof.records import Evidence, Face, ImageResult, QualityReason, Verdict
from faceproof.verdict import decide, steadied

__all__ = ["EmbeddedPicture", "FaceChecker"]


BATCH = 4
"""Faces scored at once: a scan of two processes checks 119 pictures a second with 4, 85 with 16, whose layers between
do not fit into the cache (benchmarks/throughput.py)."""
RGB = npt.NDArray[np.uint8]
Scored = Mapping[str, float]


@dataclass
class _Prepared:
    """A picture on its way: everything but the scores; pixels are already let go."""

    name: str
    sha256: str | None = None
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()
    error: str | None = None
    faces: tuple[DetectedFace, ...] = ()
    quality: tuple[tuple[QualityReason, ...], ...] = ()
    crops: tuple[RGB, ...] = ()
    perturbed: tuple[tuple[RGB, ...], ...] = ()
    provenance: tuple[Evidence, ...] = ()
    alignment: tuple[tuple[Evidence, ...], ...] = ()


@dataclass(frozen=True)
class EmbeddedPicture:
    """A result with what the network saw of the face that speaks for the picture.

    Attributes:
        result: as `FaceChecker.check` gives it.
        embedding: (E,) float32 of the decisive face, of the largest where none is fit; None without a face.
        crop: (S, S, 3) uint8 RGB, that face as the network got it; None without a face.
    """

    result: ImageResult
    embedding: npt.NDArray[np.float32] | None = None
    crop: RGB | None = None


class FaceChecker:
    """Is this face a photograph, or was it generated?

    Args:
        model: name of a shipped model, path of a model folder, a `Detector`, or None (the default).
        face_detector: None (RetinaFace), the path of a YuNet .onnx file, or a `FaceDetector`.
        fpr: share of photographs that may be called generated; None: the model's default, 0.01.
        alpha: share of generated faces that may be called photographs, of the kinds the model was calibrated
            on; None: the model's default.
        stability: "off", "quick" or "full": how many perturbations a verdict has to survive.
        metadata: read what files say about their origin (EXIF, content credentials, generators' tags).
        gates: quality limits.
        limits: what a picture may cost.
        threads: threads of each network; more processes serve a scan better than more threads.
        runtime: what runs the detector's network: "onnxruntime", "openvino", "litert", "auto" (the fastest
            installed one that gives the same scores); None: onnxruntime, or what the model's file is for.

    Raises:
        ModelError: the model must not be used (no card, wrong hash, another crop template).
        UsageError: an argument is wrong, or the model cannot promise these rates.
        MissingExtraError: the runtime is not installed.

    A checker is not for use by several threads at once; make one per thread or process.
    """

    def __init__(
        self,
        model: Detector | str | os.PathLike[str] | None = None,
        face_detector: FaceDetector | str | os.PathLike[str] | None = None,
        *,
        fpr: float | None = None,
        alpha: float | None = None,
        stability: str = "off",
        metadata: bool = True,
        gates: Gates | None = None,
        limits: Limits | None = None,
        threads: int = 1,
        runtime: str | None = None,
    ) -> None:
        if threads < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        opencv().setNumThreads(threads)
        self.detector = load_detector(model, threads=threads, runtime=runtime)
        _check_template(self.card)
        self.chains, self.stability = chains_of(stability), stability
        self.combiner, self.scorer = _beside(model, self.detector)
        self.rule = self.combiner.rule(fpr, alpha)
        self.face_detector = make_face_detector(face_detector, threads=threads)
        self.metadata, self.reference = metadata, read_reference()
        self.gates = gates or Gates()
        self.limits = limits or Limits()

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.detector.card

    def check(self, picture: PictureSource) -> ImageResult:
        """Check one picture.

        Args:
            picture: path, URL, SHARD::MEMBER, bytes of a file, uint8 array (H, W, 3) RGB or PIL picture.

        Returns:
            The result. A picture that cannot be used gives one with status "error" and the reason;
            nothing is raised for it.

        Raises:
            UsageError: `picture` is of a type that cannot be a picture.
        """
        return next(self.check_many([picture]))

    def load(self, picture: PictureSource) -> Picture:
        """Read a picture within this checker's limits, for `check_loaded`.

        Raises:
            PictureError: it cannot be used.
            UsageError: `picture` is of a type that cannot be a picture.
        """
        return load(picture, limits=self.limits, metadata=self.metadata)

    def check_loaded(self, picture: Picture) -> ImageResult:
        """Check a picture that `load` has read already."""
        return next(self._finish([self._find(picture)], BATCH))

    def check_many(self, pictures: Iterable[PictureSource], *, batch: int = BATCH) -> Iterator[ImageResult]:
        """Check pictures one after the other, scoring faces of several pictures together.

        Args:
            pictures: as for `check`; read lazily.
            batch: faces scored at once. At most this many crops and 4 x as many pictures without a
                face are held back, so memory does not grow with the number of pictures.

        Yields:
            One result per picture, in order.
        """
        for held in self._batches(pictures, batch):
            yield from self._finish(held, batch)

    def embed_many(self, pictures: Iterable[PictureSource], *, batch: int = BATCH) -> Iterator[EmbeddedPicture]:
        """Check pictures as `check_many` does, and keep the embedding and crop of one face of each.

        Raises:
            ModelError: the model gives no embeddings.
        """
        if not isinstance(self.detector, EmbeddingDetector) or not self.detector.embeds:
            raise ModelError(f"model {self.card.name} gives no embeddings; use one with outputs score and embedding")
        for held in self._batches(pictures, batch):
            embeddings: list[npt.NDArray[np.float32]] = []
            results = list(self._finish(held, batch, embeddings))
            start = 0
            for prepared, result in zip(held, results, strict=True):
                if not result.faces:
                    yield EmbeddedPicture(result)
                    continue
                chosen = 0 if result.decisive is None else result.faces.index(result.decisive)
                yield EmbeddedPicture(result, embeddings[start + chosen], prepared.crops[chosen])
                start += len(result.faces)

    def _batches(self, pictures: Iterable[PictureSource], batch: int) -> Iterator[list[_Prepared]]:
        if batch < 1:
            raise UsageError(f"batch must be at least 1, not {batch}")
        held: list[_Prepared] = []
        faces = 0
        for picture in pictures:
            prepared = self._prepare(picture)
            held.append(prepared)
            faces += len(prepared.crops)
            if faces >= batch or len(held) >= 4 * batch:
                yield held
                held, faces = [], 0
        yield held

    def failed(self, path: str | os.PathLike[str], error: str) -> ImageResult:
        """Return the record of a picture that could not be reached at all."""
        return self._result(_Prepared(printable(path), error=error), (), ())

    def _prepare(self, picture: PictureSource) -> _Prepared:
        try:
            loaded = self.load(picture)
        except PictureError as err:
            named = picture.name if isinstance(picture, Encoded) else picture
            name = named if isinstance(named, (str, os.PathLike)) else f"<{type(picture).__name__}>"
            return _Prepared(printable(name), error=str(err))
        return self._find(loaded)

    def _find(self, loaded: Picture) -> _Prepared:
        found = []
        for face in self.face_detector.detect(loaded.pixels):
            try:
                found.append((face, cut(self.card.crop, loaded.pixels, face.landmarks)))
            except ValueError:  # coinciding landmarks: a false find, not a face
                continue
        quality = tuple(self.gates.judge(face, crop, loaded.width, loaded.height) for face, crop in found)
        return _Prepared(
            loaded.name,
            loaded.sha256,
            loaded.width,
            loaded.height,
            loaded.notes,
            None,
            tuple(face for face, _ in found),
            quality,
            tuple(crop for _, crop in found),
            tuple(self._perturbed(loaded, face, reasons) for (face, _), reasons in zip(found, quality, strict=True)),
            () if loaded.metadata is None else provenance_evidence(loaded.metadata),
            tuple(self._aligned(loaded, face, len(found)) for face, _ in found),
        )

    def _aligned(self, loaded: Picture, face: DetectedFace, faces: int) -> tuple[Evidence, ...]:
        """Where the face lies in the picture, if that says anything (another face detector's landmarks do not)."""
        if self.reference.face_detector != self.face_detector.name:
            return ()
        found = alignment_evidence_inputs(face.landmarks, loaded.width, loaded.height, self.reference, faces=faces)
        return (alignment_evidence(found),) if found.aligned else ()

    def _perturbed(self, loaded: Picture, face: DetectedFace, reasons: tuple[QualityReason, ...]) -> tuple[RGB, ...]:
        """Crops for the stability certificate; none of a face that is not judged anyway."""
        if reasons:
            return ()
        return tuple(c for _, c in perturbed_crops(loaded.pixels, face.landmarks, self.card.crop, self.stability))

    def _finish(
        self, held: list[_Prepared], batch: int, embeddings: list[npt.NDArray[np.float32]] | None = None
    ) -> Iterator[ImageResult]:
        """Results of the pictures held; the embeddings of all their crops are appended to `embeddings` if given."""
        scores = iter(self._scores([crop for prepared in held for crop in prepared.crops], batch, embeddings))
        after = iter(self._scores([c for prepared in held for crops in prepared.perturbed for c in crops], batch))
        for prepared in held:
            own = tuple(next(scores) for _ in prepared.crops)
            yield self._result(prepared, own, tuple(tuple(next(after) for _ in crops) for crops in prepared.perturbed))

    def _scores(
        self, crops: list[RGB], batch: int, kept: list[npt.NDArray[np.float32]] | None = None
    ) -> list[dict[str, float]]:
        """Scores of every crop by name; one run of the network gives all of them, and the embeddings to keep."""
        found: list[dict[str, float]] = []
        for start in range(0, len(crops), batch):
            stack = np.stack(crops[start : start + batch])
            if self.scorer is None and kept is None:
                found += [{SUPERVISED: float(score)} for score in self.detector.score(stack)]
                continue
            assert isinstance(self.detector, EmbeddingDetector)  # _beside and embed_many made sure
            scores, embeddings = self.detector.score_and_embed(stack)
            if kept is not None:
                kept.extend(embeddings)
            if self.scorer is None:
                found += [{SUPERVISED: float(score)} for score in scores]
                continue
            unlike = self.scorer.score(embeddings)
            found += [{SUPERVISED: float(a), ANOMALY: float(b)} for a, b in zip(scores, unlike, strict=True)]
        return found

    def _result(
        self, prepared: _Prepared, scores: tuple[Scored, ...], after: tuple[tuple[Scored, ...], ...]
    ) -> ImageResult:
        extra = [(*prepared.provenance, *own) for own in prepared.alignment]
        faces = tuple(
            Face(
                box=(float(f.box[0]), float(f.box[1]), float(f.box[2]), float(f.box[3])),
                landmarks=tuple((float(x), float(y)) for x, y in f.landmarks),
                confidence=f.confidence,
                quality=reasons,
                verdict=self._verdict(scored, reasons, pieces, steps),
            )
            for f, reasons, scored, pieces, steps in zip(
                prepared.faces, prepared.quality, scores, extra, after, strict=True
            )
        )
        status = "error" if prepared.error is not None else "ok" if faces else "no_face"
        low, high, threshold = sigmoid([self.rule.low, self.rule.high, self.rule.threshold])
        return ImageResult(
            path=prepared.name,
            status=status,  # type: ignore[arg-type]
            model=self.card.identity,
            face_detector=self.face_detector.name,
            version=VERSION,
            threshold=float(threshold),
            threshold_fpr=self.rule.fpr,
            band=(float(low), float(high)),
            alpha=self.rule.alpha,
            sha256=prepared.sha256,
            width=prepared.width,
            height=prepared.height,
            faces=faces,
            error=prepared.error,
            notes=prepared.notes,
        )

    def _verdict(
        self, scores: Scored, quality: tuple[QualityReason, ...], extra: tuple[Evidence, ...], after: tuple[Scored, ...]
    ) -> Verdict:
        pieces = (*self.combiner.evidence(scores), *extra)
        verdict = decide(scores[SUPERVISED], pieces, quality, self.rule, alarm=self.combiner.alarm(scores))
        if not after:
            return verdict
        constant = sum(piece.weight for piece in extra)
        odds = [constant + sum(piece.weight for piece in self.combiner.evidence(one)) for one in after]
        return steadied(verdict, list(zip(self.chains, odds, strict=True)), self.rule)


def _beside(
    model: Detector | str | os.PathLike[str] | None, detector: Detector
) -> tuple[Combiner, AnomalyScorer | None]:
    """What lies beside the model's card: a fusion and the mixture it asks for; else the model stands by itself."""
    alone = Single(detector.card)
    if not (model is None or isinstance(model, (str, os.PathLike))):
        return alone, None
    folder = model_folder(model)
    fusion = read_fusion(folder)
    if fusion is None:
        return alone, None
    scorer = None
    if ANOMALY in fusion.detectors:
        scorer = read_scorer(folder, detector.card)
        if scorer is None or not isinstance(detector, OnnxDetector) or not detector.embeds:
            raise ModelError(
                f"the fusion in {folder} needs a mixture and a network with embeddings; get the model again"
            )
    return fusion, scorer


def _check_template(card: Card) -> None:
    """A model sees crops of the template it was trained on, or its card is not for this version."""
    height = float(TEMPLATE[:2, 1].mean())
    if abs(card.eye_distance - EYE_DISTANCE) > 1e-3 or abs(card.eye_height - height) > 1e-3:
        raise ModelError(
            f"model {card.name} was trained on another crop (eyes {card.eye_distance} apart at {card.eye_height}; "
            f"this version cuts {EYE_DISTANCE} at {height:.2f}); use the faceproof version its card names"
        )
