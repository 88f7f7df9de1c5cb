"""What a post's text is made of: words, links, hashtags; the form in which two texts count as the same."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import urlsplit

__all__ = ["domain", "hashtags", "key", "links", "plain_text", "shingles", "words"]

_LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
_TAG = re.compile(r"(?<![\w&])[#\uff03](\w+)")
_MENTION = re.compile(r"(?<!\w)@\w+")
_TRAILING = ".,;:!?)]}'\u2019\u201d\u00bb\u2026"
LONGEST_TEXT = 10_000
"""Characters of a text that are looked at."""
SHINGLE = 5
"""Characters of a shingle."""
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts that put no spaces between words, as the Unicode names of their letters begin."""


def links(text: str) -> list[str]:
    """Return the links of a text, without the punctuation behind them, each once, in order."""
    return list(dict.fromkeys(found.rstrip(_TRAILING) for found in _LINK.findall(text[:LONGEST_TEXT])))


def domain(link: str) -> str:
    """Return a link's host in lower case, without "www."; "" where there is none."""
    try:
        host = urlsplit(link if "://" in link else f"http://{link}").hostname
    except ValueError:
        return ""
    return (host or "").removeprefix("www.")


def hashtags(text: str) -> list[str]:
    """Return the hashtags of a text, folded to lower case, without "#", each once; numbers alone are none."""
    found = (unicodedata.normalize("NFKC", tag).casefold() for tag in _TAG.findall(text[:LONGEST_TEXT]))
    return [tag for tag in dict.fromkeys(found) if not tag.isdigit()]


def plain_text(text: str) -> str:
    """Return a text without links and mentions, in NFKC, with single spaces; "" where no letter is left."""
    text = _MENTION.sub(" ", _LINK.sub(" ", text[:LONGEST_TEXT]))
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    return text if any(letter.isalpha() for letter in text) else ""


def key(plain: str) -> bytes:
    """Return 16 bytes that are the same for texts that differ in case, punctuation and spaces only."""
    return hashlib.blake2b(_letters(plain).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shingles(plain: str) -> frozenset[str]:
    """Return the runs of `SHINGLE` characters of a text in lower case, letters, digits and single spaces only."""
    text = _letters(plain)
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))


def words(plain: str) -> Iterator[str]:
    """Yield the words of a text in lower case; pairs of letters where a script puts no spaces between words."""
    for word in "".join(c if _kind(c) in "LM" else " " for c in plain.casefold()).split():
        if any(_kind(c) == "L" and unicodedata.name(c, "").startswith(UNSPACED) for c in word):
            yield from (word[i : i + 2] for i in range(max(1, len(word) - 1)))
        elif len(word) > 1:
            yield word


@functools.lru_cache(maxsize=1 << 14)
def _kind(letter: str) -> str:
    """L letter, M mark, N number, and so on."""
    return unicodedata.category(letter)[0]


def _letters(plain: str) -> str:
    return " ".join("".join(c if _kind(c) in "LMN" else " " for c in plain.casefold()).split())
