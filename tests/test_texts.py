"""Words, links and hashtags; languages; near-copies; words of clusters."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from faceproof.copies import band_keys, group_copies, jaccard
from faceproof.errors import UsageError
from faceproof.keywords import class_tf_idf
from faceproof.texts import domain, hashtags, key, links, plain_text, shingles, words


def test_links_and_domains() -> None:
    text = 'see https://www.Example.com/a?b=1, (http://t.co/Xy) www.b.org! and "https://c.net/d" twice www.b.org'
    assert links(text) == ["https://www.Example.com/a?b=1", "http://t.co/Xy", "www.b.org", "https://c.net/d"]
    assert [domain(link) for link in links(text)] == ["example.com", "t.co", "b.org", "c.net"]
    assert domain("http://[broken") == ""


def test_hashtags() -> None:
    assert hashtags("#News #news ＃Straße #2024 &#39; a#b #日本 #snake_case") == [
        "news", "strasse", "日本", "snake_case",
    ]  # fmt: skip


def test_texts_that_count_as_the_same() -> None:
    one = plain_text("  Buy NOW!!! https://a.b/c @someone\n cheap Ｔshirts")
    assert one == "Buy NOW!!! cheap Tshirts"
    assert key(one) == key(plain_text("buy now - cheap tshirts http://other.org"))
    assert key(one) != key(plain_text("buy now cheap shirts"))
    assert plain_text("@a @b https://x.y 😀 123") == ""


def test_words_of_scripts_with_and_without_spaces() -> None:
    assert list(words("Don't PANIC, 42 naïve a")) == ["don", "panic", "naïve"]
    assert list(words("हिन्दी भाषा")) == [
        "हिन्दी", "भाषा",
    ]  # fmt: skip
    assert list(words("日本語")) == ["日本", "本語"]


def test_languages() -> None:
    pytest.importorskip("py3langid", reason="extra posts")
    from faceproof.language import UNKNOWN, LanguageFinder

    finder = LanguageFinder()
    texts = {
        "en": "The weather will be fine for the rest of the week",
        "de": "Das Wetter bleibt für den Rest der Woche schön",
        "fr": "Le temps restera beau pour le reste de la semaine",
        "ru": "Погода будет хорошей всю неделю",
        "ja": "今週はずっと天気がいいでしょう",
        "ar": "ستظل السماء صافية والجو جميلا في المدينة حتى نهاية هذا الأسبوع",
    }
    assert {code: finder.find(text) for code, text in texts.items()} == {code: code for code in texts}
    assert finder.find("ok") == finder.find("") == UNKNOWN


def _texts() -> list[str]:
    """300 texts of their own, then five templates with 8 copies each that differ in one word of 20."""
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 9))) for _ in range(3000)]
    texts = [" ".join(rng.choices(vocabulary, k=20)) for _ in range(300)]
    for _ in range(5):
        template = rng.choices(vocabulary, k=20)
        for _ in range(8):
            copy = list(template)
            copy[rng.randrange(20)] = rng.choice(vocabulary)
            texts.append(" ".join(copy))
    return texts


def test_planted_copies_are_found_and_nothing_else() -> None:
    pytest.importorskip("datasketch", reason="extra posts")
    texts = _texts()
    weights = np.ones(len(texts), np.int64)
    weights[300::8] = 3  # the first of each template is what the others are copies of
    of = group_copies(band_keys(texts), weights, lambda numbers: {n: texts[n] for n in numbers})
    assert (of[:300] == np.arange(300)).all()
    for template in range(5):
        first = 300 + 8 * template
        near = [n for n in range(first, first + 8) if jaccard(shingles(texts[first]), shingles(texts[n])) >= 0.7]
        assert len(near) >= 4
        assert [n for n in range(len(texts)) if of[n] == first] == near


def test_band_keys_are_alike_as_often_as_the_formula_says() -> None:
    """P(a shared band) = 1 - (1 - J^5)^25 (Leskovec, Rajaraman and Ullman, section 3.4), over many pairs."""
    pytest.importorskip("datasketch", reason="extra posts")
    rng = random.Random(2)
    expected, shared = 0.0, 0
    pairs = []
    for _ in range(400):
        one = [chr(0x4E00 + rng.randrange(8000)) for _ in range(104)]
        cut = rng.randrange(15, 60)
        other = one[:-cut] + [chr(0x4E00 + rng.randrange(8000)) for _ in range(cut)]
        pairs.append(("".join(one), "".join(other)))
    keys = band_keys(text for pair in pairs for text in pair)
    for place, (one_text, other_text) in enumerate(pairs):
        expected += 1 - (1 - jaccard(shingles(one_text), shingles(other_text)) ** 5) ** 25
        shared += bool((keys[2 * place] == keys[2 * place + 1]).any())
    assert shared == pytest.approx(expected, abs=4 * math.sqrt(400 * 0.25))


def test_groups_of_copies_do_not_chain() -> None:
    pytest.importorskip("datasketch", reason="extra posts")
    letters = [chr(0x4E00 + n) for n in range(200)]
    texts = ["".join(letters[start : start + 100]) for start in range(0, 100, 10)]
    of = group_copies(band_keys(texts), np.ones(len(texts), np.int64), lambda numbers: {n: texts[n] for n in numbers})
    for member, leader in enumerate(of):
        assert jaccard(shingles(texts[member]), shingles(texts[leader])) >= 0.7
    assert len(set(of)) >= 4
    with pytest.raises(UsageError, match="between 0 and 1"):
        group_copies(band_keys(texts), np.ones(len(texts), np.int64), lambda numbers: {}, alike=0)


def test_class_tf_idf_by_hand() -> None:
    """Two classes: 4 words and 6 words, so A = 5. f(cat) = 3, f(dog) = 4, f(the) = 3."""
    found = class_tf_idf([{"cat": 3, "the": 1}, {"dog": 4, "the": 2}])
    assert found[0] == [
        ("cat", pytest.approx(3 / 4 * math.log(1 + 5 / 3))),
        ("the", pytest.approx(1 / 4 * math.log(1 + 5 / 3))),
    ]
    assert found[1] == [
        ("dog", pytest.approx(4 / 6 * math.log(1 + 5 / 4))),
        ("the", pytest.approx(2 / 6 * math.log(1 + 5 / 3))),
    ]
    assert class_tf_idf([{}, {"a": 1}]) == [[], [("a", 0.0)]]


def test_class_tf_idf_is_bertopics_formula() -> None:
    """BERTopic's ClassTfidfTransformer, written as there: L1-normalised counts times log(A / f + 1), A an int."""
    documents = ["a b b c d", "b b e f a a", "g g g a h i j"]
    vectorizer = CountVectorizer(token_pattern=r"\w+")
    counts = vectorizer.fit_transform(documents).toarray()
    idf = np.log(int(counts.sum(axis=1).mean()) / counts.sum(axis=0) + 1)
    expected = counts / counts.sum(axis=1, keepdims=True) * idf
    names = vectorizer.get_feature_names_out()
    found = class_tf_idf([Counter(document.split()) for document in documents])
    for row, one in zip(expected, found, strict=True):
        assert dict(one) == pytest.approx({name: value for name, value in zip(names, row, strict=True) if value})
