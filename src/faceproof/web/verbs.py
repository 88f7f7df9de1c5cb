"""The verbs of the API: their options and files. Requests are read by this table, and OpenAPI is written from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from faceproof.clusters import METHODS
from faceproof.explain.stability import LEVELS
from faceproof.hashing import KINDS
from faceproof.web.problems import Problem

__all__ = ["NAME", "QUALITIES", "SIZES", "VERBS", "Option", "Verb", "read_options"]


@dataclass(frozen=True)
class Option:
    """One option, given in the query.

    Attributes:
        name: of it.
        schema: JSON schema: of type boolean, integer, number or string.
        about: what it does.
        default: value where it is not given.
    """

    name: str
    schema: Mapping[str, Any]
    about: str
    default: Any = None

    def read(self, text: str) -> Any:
        """Return the value of a text.

        Raises:
            Problem: it is none.
        """
        kind = self.schema["type"]
        value: Any = text
        if kind == "boolean":
            value = {"true": True, "false": False}.get(text)
        elif kind in ("integer", "number"):
            value = _number(text, whole=kind == "integer")
        if value is None or not self._allowed(value):
            raise Problem(400, "bad_request", f"{self.name}={text[:80]!r} cannot be; give {self._wanted()}")
        return value

    def _allowed(self, value: Any) -> bool:
        if "enum" in self.schema:
            return bool(value in self.schema["enum"])
        if isinstance(value, str):
            return bool(len(value) <= self.schema["maxLength"])
        if isinstance(value, bool):
            return True
        return bool(self.schema["minimum"] <= value <= self.schema["maximum"])

    def _wanted(self) -> str:
        if "enum" in self.schema:
            return "one of " + ", ".join(self.schema["enum"])
        if self.schema["type"] == "boolean":
            return "true or false"
        if self.schema["type"] == "string":
            return f"at most {self.schema['maxLength']} letters"
        article = "a whole number" if self.schema["type"] == "integer" else "a number"
        return f"{article} from {self.schema['minimum']} to {self.schema['maximum']}"


def _number(text: str, *, whole: bool) -> float | int | None:
    # Digits only: Python's own readers take spaces, underscores, and figures of other scripts.
    if not text.isascii() or len(text) > 30 or any(c in text for c in " _\t\n\r\v\f"):
        return None
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: of the verb and its path.
        about: one line.
        least, most: files it takes; most 0 means the server's limit, least 0 that it takes a prompt instead.
        options: of the query.
        answer: name of the schema of its record.
    """

    name: str
    about: str
    least: int
    most: int
    options: tuple[Option, ...]
    answer: str


def _choice(name: str, values: Iterable[str], about: str, default: str) -> Option:
    return Option(name, {"type": "string", "enum": list(values)}, about, default)


STABILITY = _choice("stability", LEVELS, "Perturb each face and see whether the answer holds.", "off")
METADATA = Option("metadata", {"type": "boolean"}, "Read what the file says about its origin.", True)
NAME = Option("name", {"type": "string", "maxLength": 300}, "Name of a file that is sent without one.", "")

SIZES = ("1024x1024", "1536x1024", "1024x1536")
QUALITIES = ("low", "medium", "high", "auto")

VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("check", "Check one picture.", 1, 1, (STABILITY, METADATA, NAME), "ImageResult"),
        Verb("compare", "Check two pictures, and say whether they are copies of one.", 2, 2, (STABILITY, METADATA),
             "Comparison"),
        Verb(
            "duplicates", "Find near-copies among pictures.", 2, 0,
            (
                _choice("kind", KINDS, "Perceptual hash.", "phash"),
                Option("radius", {"type": "integer", "minimum": 0, "maximum": 31},
                       "Bits up to which two pictures count as the same; the hash's own where not given."),
                _choice("method", METHODS, "Clusters around a middle, or chains.", "medoid"),
                Option("rotations", {"type": "boolean"}, "Find turned and mirrored copies too.", False),
            ),
            "Duplicates",
        ),
        Verb(
            "explain", "Say why: maps of where the score comes from, each with its test.", 1, 1,
            (
                Option("face", {"type": "integer", "minimum": 1, "maximum": 1000},
                       "Number of the face, largest first; the one that decides where not given."),
                Option("pictures", {"type": "boolean"}, "Send the maps as PNG in base64 too.", False), NAME,
            ),
            "Explanation",
        ),
        Verb(
            "report", "Check one picture in full and answer with a page to file or print.", 1, 1,
            (Option("maps", {"type": "boolean"}, "Include the maps of an explanation.", True), NAME), "",
        ),
        Verb(
            "video", "Check one video: a verdict per person.", 1, 1,
            (Option("fps", {"type": "number", "minimum": 0.1, "maximum": 10}, "Frames checked per second.", 2.0),
             NAME),
            "VideoResult",
        ),
        Verb(
            "generate", "Have a picture made from a prompt, and check it.", 0, 0,
            (
                _choice("size", SIZES, "Width and height in pixels.", SIZES[0]),
                _choice("quality", QUALITIES, "What the image service is asked for; auto leaves it to the service.",
                        "medium"),
                STABILITY,
            ),
            "Generation",
        ),
    )
}  # fmt: skip


def read_options(verb: Verb, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return every option of a verb, from the pairs of a query.

    Raises:
        Problem: one is unknown, given twice, or not a possible value.
    """
    known = {option.name: option for option in verb.options}
    found: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            raise Problem(400, "bad_request", f"unknown option {name[:80]!r}; {verb.name} knows: {', '.join(known)}")
        if name in found:
            raise Problem(400, "bad_request", f"the option {name} is given twice; give it once")
        found[name] = known[name].read(text)
    return {option.name: found.get(option.name, option.default) for option in verb.options}
