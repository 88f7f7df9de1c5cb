"""What is to be generated and what came of it: jobs, answers, records. The format of provenance.jsonl."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from faceproof.errors import StorageError, UsageError
from faceproof.prompts import Prompt

__all__ = [
    "SCHEMA",
    "STATUSES",
    "Answer",
    "Generated",
    "Job",
    "NotServedError",
    "Photograph",
    "TryAgainError",
    "jobs_of",
    "split_of",
]

SCHEMA = "faceproof.generated/1"
STATUSES = ("ok", "refused", "failed")
"""refused: the generator will not make it, and is not asked again; failed: asked again by the next run."""


@dataclass(frozen=True)
class Photograph:
    """A photograph to make pictures from.

    Attributes:
        path: of the picture, its URL, or SHARD::MEMBER.
        source: where it comes from, as manifests name it.
        group: what must not be torn apart; "" takes a hash of its bytes.
        split: "" leaves it to the group's hash.
        licence: as stated, or "not stated".
        traits: age, sex, ethnicity where known.
    """

    path: str
    source: str
    group: str = ""
    split: str = ""
    licence: str = "not stated"
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One picture to make.

    Attributes:
        id: 20 hex digits, of everything that decides what is asked for.
        prompt: text, traits and seed.
        photograph: to make it from; None for text alone.
    """

    id: str
    prompt: Prompt
    photograph: Photograph | None = None


@dataclass(frozen=True)
class Answer:
    """What a generator gave.

    Attributes:
        data: the picture's file; None where it was refused.
        refusal: why there is none; "" where there is one.
        facts: revised_prompt, usage, cost, ... as far as known.
    """

    data: bytes | None = field(default=None, repr=False)
    refusal: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.data is None) == (not self.refusal):
            raise UsageError("an answer holds a picture or says why there is none")


class TryAgainError(Exception):
    """A generator cannot answer now.

    Attributes:
        wait: seconds the server asks for; None where it does not say.
        billed: whether a picture may have been made, and cost money, all the same.
    """

    def __init__(self, why: str, wait: float | None = None, *, billed: bool = True) -> None:
        super().__init__(why)
        self.wait, self.billed = wait, billed


class NotServedError(StorageError):
    """A generator answers nothing more, and made nothing: key refused, no money left, a model or size it has not."""


@dataclass(frozen=True)
class Generated:
    """One line of provenance.jsonl: a picture, or why there is none.

    Attributes:
        id, status: of the job; one of `STATUSES`.
        path, photograph: relative to the folder, "" for none: the picture made, and the one it was made from.
        generator, source, group, split, licence: as manifests hold them.
        task: "text", "edit", "variation", "image", "inpaint" or "reconstruct".
        prompt, traits, seed: what was asked for; revised_prompt: what the server made of it, "" for nothing.
        model, server, parameters, versions: who made it, and how.
        created: UTC, ISO 8601. seconds: all it took, waits included. attempts: how often it was asked for.
        answers: pictures that came, damaged ones too: what a server bills.
        sha256, bytes, format, width, height: of the file.
        source_path, source_sha256: of the photograph's own file.
        photograph_sha256, photograph_licence: of the photograph as the generator got it.
        usage, cost: tokens as the server counted them, US dollars by them; None where not known.
        recovered: found finished after a kill, so that the server's own words about it are lost.
        error: why there is no picture.
    """

    id: str
    status: str
    task: str
    generator: str
    model: str
    prompt: str
    seed: int
    created: str
    path: str = ""
    photograph: str = ""
    source: str = ""
    group: str = ""
    split: str = ""
    licence: str = "not stated"
    traits: Mapping[str, str] = field(default_factory=dict)
    revised_prompt: str = ""
    server: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 0
    answers: int = 0
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    source_path: str = ""
    source_sha256: str = ""
    photograph_sha256: str = ""
    photograph_licence: str = "not stated"
    usage: Mapping[str, Any] | None = None
    cost: float | None = None
    recovered: bool = False
    error: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise UsageError(f"unknown status {self.status!r}; known: {', '.join(STATUSES)}")
        if (self.status == "ok") == bool(self.error) or (self.status == "ok") != bool(self.path):
            raise UsageError("a record has a path, or an error that says why there is none")

    def to_dict(self) -> dict[str, Any]:
        """Return what a line of provenance.jsonl holds."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Generated:
        """Read a line.

        Raises:
            UsageError: it is of another schema, or no record.
        """
        if raw.get("schema") != SCHEMA:
            raise UsageError(f"schema is {raw.get('schema')!r}, this version reads {SCHEMA!r}")
        known = {each.name for each in fields(cls)}
        try:
            return cls(**{name: value for name, value in raw.items() if name in known})
        except TypeError as err:
            raise UsageError(f"not a record of a generated picture ({err})") from err


def jobs_of(
    prompts: Sequence[Prompt], photographs: Sequence[Photograph] | None, settings: Mapping[str, Any]
) -> list[Job]:
    """Pair prompts with photographs and give every job its id.

    Args:
        prompts: one for each picture; with photographs one for each of these.
        photographs: None for text alone.
        settings: what else decides the picture: task, model, server, parameters.

    Raises:
        UsageError: another number of prompts than of photographs.
    """
    if photographs is not None and len(prompts) != len(photographs):
        raise UsageError(f"{len(prompts)} prompts for {len(photographs)} photographs; give one each")
    jobs, seen = [], set()
    sources: Sequence[Photograph | None] = photographs if photographs is not None else [None] * len(prompts)
    for prompt, photograph in zip(prompts, sources, strict=True):
        path = None if photograph is None else photograph.path
        text = json.dumps([settings, prompt.text, prompt.seed, path], sort_keys=True, default=str)
        name = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
        if name not in seen:
            seen.add(name)
            jobs.append(Job(name, prompt, photograph))
    return jobs


def split_of(group: str, val_share: float) -> str:
    """Return "val" for a share of all groups and "train" for the others, by a hash of the name."""
    number = int.from_bytes(hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return "val" if number < val_share * 2**64 else "train"
