"""Which language a text is in, by py3langid (Lui and Baldwin 2012, langid.py), offline, 97 languages."""

from __future__ import annotations

from faceproof.extras import require

__all__ = ["UNKNOWN", "LanguageFinder"]

UNKNOWN = "und"
"""ISO 639's code for a language that is not known."""
SURE = 0.5
LETTERS = 6
"""Fewer letters say too little, except in scripts where a letter is a syllable or a word."""


class LanguageFinder:
    """Names the language of texts.

    Raises:
        MissingExtraError: py3langid is not installed.
    """

    def __init__(self) -> None:
        langid = require("posts", "py3langid.langid")
        self._model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)

    def find(self, text: str) -> str:
        """Return the two-letter code (ISO 639-1) of a text's language, `UNKNOWN` where it is less than half sure."""
        letters = [letter for letter in text if letter.isalpha()]
        if len(letters) < LETTERS and all(ord(letter) < 0x0E00 for letter in letters):
            return UNKNOWN
        code, share = self._model.classify(text)
        return str(code) if share >= SURE else UNKNOWN
