"""Prompts for faces that differ in what detectors must not depend on: age, sex, skin, light, camera.

A set is a template and the values of each trait. Drawing is a function of the seed and the place alone, and every
first part of a draw is balanced: 50 prompts are the first 50 of 100, so that a set can be enlarged later.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceproof.errors import UsageError
from faceproof.images import printable

__all__ = ["LARGEST", "PORTRAITS", "Prompt", "PromptSet", "read_prompts", "seed_of"]

LARGEST = 100_000
"""Combinations a set may have, and prompts a file may hold."""
MAX_FILE = 16 * 2**20
LONGEST = 8_000
"""Letters of one prompt."""
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        text: what the generator is asked for.
        traits: trait -> label, as manifests hold it ("age" -> "35").
        seed: of this prompt, 0 to 2^31 - 1.
    """

    text: str
    traits: Mapping[str, str]
    seed: int


@dataclass(frozen=True)
class PromptSet:
    """A template and what fills it.

    Attributes:
        name: of the set.
        template: text with {trait} for each trait.
        traits: trait -> label -> the words that go into the template.
    """

    name: str
    template: str
    traits: Mapping[str, Mapping[str, str]]

    def __post_init__(self) -> None:
        places = set(_PLACE.findall(self.template))
        if not self.template.strip():
            raise UsageError(f"the prompt set {self.name!r} has an empty template; give a text")
        if places != set(self.traits):
            odd = ", ".join(sorted(places ^ set(self.traits)))
            raise UsageError(f"the prompt set {self.name!r}: {odd} stand(s) only in the template or only in the traits")
        if any(not values for values in self.traits.values()):
            raise UsageError(f"the prompt set {self.name!r} has a trait without values; give each at least one")
        if self.combinations > LARGEST:
            raise UsageError(f"the prompt set {self.name!r} has over {LARGEST:,} combinations; take traits out")
        long = sum(max(map(len, values.values())) for values in self.traits.values()) + len(self.template)
        if long > LONGEST:
            raise UsageError(f"the prompt set {self.name!r} makes prompts of up to {long} letters, over {LONGEST}")

    @property
    def combinations(self) -> int:
        """How many different prompts there are."""
        return int(np.prod([len(values) for values in self.traits.values()], dtype=np.float64))

    def draw(self, count: int, seed: int = 0) -> list[Prompt]:
        """Return `count` prompts.

        After any number of them the counts of a trait's values differ by at most one; among the combinations
        that keep this, those whose pairs of values were drawn least come first. Ties go by the seed.

        Raises:
            UsageError: a count under 1.
        """
        if count < 1:
            raise UsageError(f"at least one prompt must be drawn, not {count}")
        labels = [list(values) for values in self.traits.values()]
        cells = np.array(list(itertools.product(*(range(len(each)) for each in labels))), np.int64).reshape(
            self.combinations, len(labels)
        )
        rng = np.random.default_rng(seed)
        singles = [np.zeros(len(each)) for each in labels]
        pairs = {
            (i, j): np.zeros((len(labels[i]), len(labels[j]))) for i, j in itertools.combinations(range(len(labels)), 2)
        }
        found = []
        for place in range(count):
            free = np.ones(len(cells), bool)
            for trait, counts in enumerate(singles):
                free &= counts[cells[:, trait]] == counts.min()
            chosen = cells[free]
            score = rng.random(len(chosen))
            for (i, j), table in pairs.items():
                score += 2.0 * table[chosen[:, i], chosen[:, j]]
            cell = chosen[int(score.argmin())]
            for trait, value in enumerate(cell):
                singles[trait][value] += 1
            for (i, j), table in pairs.items():
                table[cell[i], cell[j]] += 1
            found.append(self._prompt({t: labels[n][cell[n]] for n, t in enumerate(self.traits)}, seed_of(seed, place)))
        return found

    def _prompt(self, traits: dict[str, str], seed: int) -> Prompt:
        text = _PLACE.sub(lambda found: self.traits[found[1]][traits[found[1]]], self.template)
        return Prompt(text, traits, seed)


def seed_of(seed: int, place: int) -> int:
    """Return the seed of the picture at a place of a run, 0 to 2^31 - 1."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {place}".encode(), digest_size=4).digest(), "big") >> 1


PORTRAITS = PromptSet(
    "portraits",
    "A photograph of {sex}, about {age} years old, with {skin_tone}, {expression}, {pose}; {light}; {camera}. "
    "One person, the whole face visible. An ordinary, realistic photograph, no text, no frame.",
    {
        # Grown-ups only: faces of children are nothing to generate in numbers.
        "age": {age: age for age in ("20", "30", "40", "50", "60", "75")},
        "sex": {"female": "a woman", "male": "a man"},
        # Six steps from light to dark, after the phototypes of Fitzpatrick (1988).
        "skin_tone": {
            "1": "very light skin", "2": "light skin", "3": "light olive skin", "4": "light brown skin",
            "5": "brown skin", "6": "very dark skin",
        },
        "expression": {
            "neutral": "a neutral expression", "smiling": "smiling", "laughing": "laughing with teeth showing",
            "serious": "looking serious",
        },
        "pose": {
            "front": "facing the camera", "left": "the head turned slightly to the left",
            "right": "the head turned slightly to the right",
        },
        "light": {
            "window": "soft light from a window", "overcast": "outdoors under an overcast sky",
            "sun": "outdoors in hard midday sun", "lamp": "indoors in warm lamp light",
            "office": "under the ceiling lights of an office", "flash": "at night with direct flash",
        },
        "camera": {
            "phone front": "taken with the front camera of a phone", "phone back": "taken with a phone",
            "portrait lens": "taken with an 85 mm lens at f/2", "compact": "taken with a small compact camera",
            "webcam": "a frame of a laptop's webcam", "film": "taken on 35 mm colour film",
        },
    },
)  # fmt: skip
"""The set taken where none is given: 10,368 combinations."""


def read_prompts(path: str | Path) -> PromptSet:
    """Read a prompt set: JSON with "template" and "traits", or a text file with one prompt a line.

    Raises:
        UsageError: it cannot be read, or is neither.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{printable(path)} has over {MAX_FILE >> 20} MiB; prompts are short")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as err:
        why = getattr(err, "strerror", None) or err
        raise UsageError(f"the prompts {printable(path)} cannot be read ({why}); give a text file in UTF-8") from err
    if path.suffix.lower() == ".json":
        return _from_json(path, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError(f"{printable(path)} holds no prompt; write one a line")
    return PromptSet(path.stem, "{line}", {"line": {str(number): line for number, line in enumerate(lines, 1)}})


def _from_json(path: Path, text: str) -> PromptSet:
    try:
        raw: Any = json.loads(text)
        traits = {
            str(trait): {str(label): str(words) for label, words in values.items()}
            if isinstance(values, dict)
            else {str(each): str(each) for each in values}
            for trait, values in raw["traits"].items()
        }
        return PromptSet(str(raw.get("name", path.stem)), str(raw["template"]), traits)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise UsageError(
            f'{printable(path)} is not a prompt set ({err!r}); write {{"template": "A {{hair}} person", '
            '"traits": {"hair": ["fair", "dark"]}}'
        ) from err
