"""The words that set a cluster of texts apart: class-based TF-IDF (Grootendorst 2022, BERTopic)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["class_tf_idf"]


def class_tf_idf(counts: Sequence[Mapping[str, int]], *, top: int = 10) -> list[list[tuple[str, float]]]:
    """Return the words with the largest weights of every class.

    tf(w, c) / sum of tf(., c) * ln(1 + A / f(w)), with f(w) the number of times w stands in all classes together and A
    the mean number of words of a class, cut to a whole number as in BERTopic's code.

    Args:
        counts: for each class, how often each word stands in it.
        top: words to return of each.

    Returns:
        For each class (word, weight), the largest first, equal weights by the alphabet.
    """
    total: dict[str, int] = {}
    for one in counts:
        for word, times in one.items():
            total[word] = total.get(word, 0) + times
    sizes = [sum(one.values()) for one in counts]
    average = sum(sizes) // max(1, len(sizes))
    found = []
    for one, size in zip(counts, sizes, strict=True):
        weights = [(word, times / size * math.log(1 + average / total[word])) for word, times in one.items() if times]
        found.append(sorted(weights, key=lambda pair: (-pair[1], pair[0]))[:top])
    return found
