"""From a file's bytes to what its metadata say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from faceproof.metadata.camera import Camera, named, read_camera
from faceproof.metadata.containers import MAX_TEXT, Text, read_blocks
from faceproof.metadata.content_credentials import ABSENT, Credentials, read_credentials
from faceproof.metadata.generators import GeneratorTag, find_generators, quoted
from faceproof.metadata.source_types import source_type
from faceproof.metadata.tags import Tags, read_tags
from faceproof.metadata.xmp import read_xmp

__all__ = ["Metadata", "read_metadata"]

MAX_NOTES = 10
MAKER_NOTE = 4096
"""Bytes of MakerNote searched for text: generators that use it write a word."""
_FORMATS = "JPEG, PNG, WebP, TIFF, AVIF and HEIF"


@dataclass(frozen=True)
class Metadata:
    """What a file says about where its picture comes from. Texts are printable and bounded.

    Attributes:
        format: "JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"; "" for others, of which nothing is read.
        credentials: C2PA content credentials.
        generator_tags: traces of generators in texts, EXIF and XMP.
        source_types: IPTC digital source types that XMP declares, by name.
        camera: what EXIF says about the camera; None where it says nothing.
        notes: what could not be read, and what absence means; one sentence each.
    """

    format: str = ""
    credentials: Credentials = ABSENT
    generator_tags: tuple[GeneratorTag, ...] = ()
    source_types: tuple[str, ...] = ()
    camera: Camera | None = None
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing was found that bears on where the picture comes from."""
        return (
            self.credentials.status == "absent"
            and self.camera is None
            and not self.generator_tags
            and not self.source_types
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        plain_values: dict[str, Any] = _lists(asdict(self))
        return plain_values


def read_metadata(data: bytes, *, width: int, height: int) -> Metadata:
    """Read what a file says about where its picture comes from.

    Never raises for what is in the bytes: what cannot be read becomes a note. Reads no network and changes
    nothing. Content credentials are verified where the file has any (needs the extra "provenance").

    Args:
        data: a whole file.
        width, height: of its decoded picture, upright, in pixels.
    """
    blocks = read_blocks(data)
    notes = list(blocks.notes)
    tags = Tags() if blocks.exif is None else read_tags(blocks.exif)
    if tags.damaged:
        notes.append(f"{tags.damaged} EXIF entries are damaged and were not read")
    properties: list[tuple[str, str]] = []
    for packet in blocks.xmp:
        found, problems = read_xmp(packet)
        properties += found
        notes += problems
    texts = [*blocks.texts, *_exif_texts(tags), *(Text(f"XMP {name}", name, value) for name, value in properties)]
    sources = {source_type(value): None for name, value in properties if name == "DigitalSourceType"}
    result = Metadata(
        blocks.format,
        read_credentials(data, blocks.format) if blocks.c2pa else ABSENT,
        find_generators(texts),
        tuple(name for name in sources if name is not None),
        read_camera(tags, width=width, height=height),
        tuple(notes[:MAX_NOTES]),
    )
    return _with_remarks(result, properties)


def _with_remarks(found: Metadata, properties: list[tuple[str, str]]) -> Metadata:
    """Add what a reader must know: credentials elsewhere, and that nothing found means nothing."""
    remarks = [
        f"content credentials are said to lie at {quoted(value)}; faceproof fetches nothing"
        for name, value in properties[:MAX_NOTES]
        if name == "provenance" and found.credentials.status == "absent"
    ][:1]
    if found.empty and not found.format:
        remarks.append(f"metadata were not looked for: they are read in {_FORMATS} files only")
    elif found.empty:
        remarks.append("no metadata about the origin: this says nothing, because most platforms strip them")
    return Metadata(
        found.format,
        found.credentials,
        found.generator_tags,
        found.source_types,
        found.camera,
        (*found.notes, *remarks),
    )


def _exif_texts(tags: Tags) -> Iterator[Text]:
    for name, value in named(tags).items():
        text = _decoded(name, value) if isinstance(value, bytes) else value
        if isinstance(text, str) and text:
            yield Text(f"EXIF {name}", name, text[:MAX_TEXT])


def _decoded(name: str, raw: bytes) -> str:
    if name == "UserComment":
        return _comment(raw)
    return _wide(raw) if name.startswith("XP") else raw[:MAKER_NOTE].decode("latin-1").strip("\0 ")


def _comment(raw: bytes) -> str:
    """UserComment: eight bytes name the code (Exif 2.32, section 4.6.5); "UNICODE" is UTF-16 of any order."""
    code, body = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        return _wide(body)
    return (
        (body if code in (b"ASCII\0\0\0", bytes(8), b"JIS\0\0\0\0\0") else raw).decode("utf-8", "replace").strip("\0 ")
    )


def _wide(raw: bytes) -> str:
    """UTF-16 in the order that makes more of it ASCII: writers disagree with the standard and each other."""
    big = raw[0::2].count(0) > raw[1::2].count(0)
    return raw.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0\ufeff ")


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
