"""Traces that picture generators leave in metadata: a literal table of what they are known to write.

Names alone count only in fields that name a tool: a caption may well speak of Midjourney. In free text only
structure counts that people do not write. Everything here is an unsigned claim that anyone can add or remove.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from faceproof.errors import plain
from faceproof.metadata.containers import Text

__all__ = ["RULES", "GeneratorTag", "Rule", "find_generators", "quoted"]

QUOTE = 80
"""Characters of a tag that a sentence quotes."""
MAX_SEARCHED = 192 * 1024
"""Characters searched in all texts of a file together."""
MAX_NAME = 256
"""Characters searched for a tool's name."""

TOOL_FIELDS = frozenset(
    {"Software", "ProcessingSoftware", "CreatorTool", "softwareAgent", "Source", "Make", "Artist", "Author",
     "creator", "Credit", "HostComputer", "Generator"}
)  # fmt: skip
"""Fields that name a tool or a maker, as EXIF, PNG and XMP call them."""


@dataclass(frozen=True)
class Rule:
    """One known trace.

    Attributes:
        tool: what it gives away.
        keys: names of the fields it counts in; empty: any.
        pattern: searched in the value.
    """

    tool: str
    keys: frozenset[str]
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class GeneratorTag:
    """A trace that was found.

    Attributes:
        tool: the generator.
        where: the field: 'PNG text "parameters"'.
        quote: at most `QUOTE` printable characters of it.
    """

    tool: str
    where: str
    quote: str


def _rule(tool: str, keys: Iterable[str], pattern: str) -> Rule:
    return Rule(tool, frozenset(keys), re.compile(pattern))  # a frozenset stays itself


# No pattern may backtrack: every repetition is bounded or of one class of letters.
RULES = (
    # FLUX's reference code, src/flux/util.py: Software = "AI generated;txt2img;flux", Make = "Black Forest Labs".
    _rule("FLUX", {"Software"}, r"^AI generated;"),
    _rule("FLUX", {"Make"}, r"^Black Forest Labs"),
    # InvokeAI, invokeai/app/services/image_files: these PNG keys; until version 2 "sd-metadata" and "Dream".
    _rule("InvokeAI", {"invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata"}, r"\{"),
    _rule("InvokeAI", {"Dream"}, r"\s-S ?\d"),
    # Fooocus, modules/meta_parser.py: PNG key "fooocus_scheme"; in JPEG and WebP the scheme is EXIF's MakerNote.
    _rule("Fooocus", {"fooocus_scheme"}, r"."),
    _rule("Fooocus", {"MakerNote"}, r"^fooocus\b"),
    _rule("Fooocus", (), r'"metadata_scheme"\s?:\s?"fooocus"'),
    # SwarmUI, src/Media/ImageFile.cs: JSON under "parameters" or EXIF.
    _rule("SwarmUI", (), r'"sui_image_params"\s?:'),
    # ComfyUI, nodes.py SaveImage: PNG keys "prompt", "workflow"; WebP: EXIF Make and Model "prompt:{", "workflow:{".
    _rule("ComfyUI", (), r'^(?:prompt:)?\s?\{[\s\S]{0,20000}"class_type"\s?:'),
    _rule("ComfyUI", {"workflow", "Make", "ImageDescription"}, r'^(?:[Ww]orkflow:)?\s?\{[\s\S]{0,60000}"nodes"\s?:'),
    # Stable Diffusion web UI, modules/processing.py create_infotext; EXIF UserComment in JPEG. Forge, SD.Next and
    # Civitai write the same.
    _rule("Stable Diffusion web UI", (), r"\bSteps: ?\d{1,5}, ?(?:Sampler|Schedule type|CFG scale|Seed): ?\S"),
    # Midjourney: PNG "Description" and XMP dc:description end in the job's UUID.
    _rule("Midjourney", (), r"\bJob ID: [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    # GB 45438-2025, appendix E, mandatory in China since 2025-09-01: label 1 = generated, 2 and 3 = perhaps.
    _rule("a service under China's labelling standard", {"AIGC"}, r'"Label"\s?:\s?"?1\b'),
    _rule("a service under China's labelling standard", (), r'"AIGC"\s?:\s?\{[^{}]{0,400}"Label"\s?:\s?"?1\b'),
    # Google writes photoshop:Credit and the IPTC source type (support.google.com, "AI-generated images").
    _rule("Google AI", {"Credit"}, r"^Made with Google AI\b"),
    # IPTC Photo Metadata 2025.1: "the AI engine and/or model used to generate the content".
    _rule("a generative model", {"AISystemUsed"}, r"\w"),
    # Names no other thing bears, in fields that name a tool: NovelAI and Easy Diffusion write PNG "Software",
    # Draw Things and Midjourney XMP CreatorTool, DALL-E through Bing EXIF Software.
    *(
        _rule(tool, TOOL_FIELDS, rf"(?i:(?<![a-z]){pattern}(?![a-z]))")
        for tool, pattern in (
            ("Stable Diffusion", r"stable[ -]?diffusion"), ("Midjourney", "midjourney"), ("NovelAI", "novelai"),
            ("InvokeAI", r"invoke[ -]?ai"), ("ComfyUI", "comfyui"), ("Fooocus", "fooocus"),
            ("DALL-E", r"dall[-\u00b7\u2022 ]?e(?=[ -]?[23]?\b)"), ("OpenAI", "openai"), ("ChatGPT", "chatgpt"),
            ("GPT Image", r"gpt-image-\d"), ("Adobe Firefly", "adobe[ _]firefly"),
            ("Bing Image Creator", "bing image creator"), ("Easy Diffusion", "easy diffusion"),
            ("DiffusionBee", "diffusionbee"), ("DreamStudio", "dreamstudio"), ("Leonardo.Ai", r"leonardo\.ai"),
            ("Ideogram", r"ideogram[ .]ai"), ("Craiyon", "craiyon"), ("Artbreeder", "artbreeder"),
            ("StyleGAN", r"stylegan[23]?"), ("this person does not exist", r"thispersondoesnotexist"),
            ("Generated Photos", r"generated\.photos"),
        )
    ),
    _rule("Draw Things", {"CreatorTool", "Software"}, r"^Draw Things\b"),
)  # fmt: skip


def find_generators(texts: Iterable[Text]) -> tuple[GeneratorTag, ...]:
    """Return the traces in texts, at most one for each tool, in the order of the texts."""
    found: dict[str, GeneratorTag] = {}
    searched = 0
    for text in texts:
        searched += len(text.value)
        if searched > MAX_SEARCHED:
            break
        for rule in RULES:
            if rule.tool in found or (rule.keys and text.key not in rule.keys):
                continue
            match = rule.pattern.search(text.value, 0, MAX_NAME if rule.keys is TOOL_FIELDS else len(text.value))
            if match is not None:
                found[rule.tool] = GeneratorTag(rule.tool, plain(text.where), quoted(text.value, match))
    return tuple(found.values())


def quoted(value: str, match: re.Match[str] | None = None) -> str:
    """Return up to `QUOTE` characters of a value from where it matched, on one printable line."""
    start = 0 if match is None else match.start()
    piece = value[start : start + QUOTE]
    line = plain(" ".join(piece.split()))[:QUOTE]
    return ("..." if start else "") + line + ("..." if start + QUOTE < len(value) else "")
