"""The few XMP properties we judge, from a packet of at most `containers.MAX_XMP` bytes.

The packet goes through expat as a stream: no tree is built, depth and values are bounded, and a document type
declaration stops the parser before any entity exists. That is what defusedxml does, without a dependency: all
XML bombs and external references need a declaration. What came before damage is kept.
Source: Adobe XMP specification part 1 (properties are attributes or elements of rdf:Description).
"""

from __future__ import annotations

from xml.parsers import expat

__all__ = ["PROPERTIES", "read_xmp"]

_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
PROPERTIES = {
    (_EXT, "DigitalSourceType"): "DigitalSourceType",
    (_EXT, "DigitalSourcefileType"): "DigitalSourceType",  # its name until 2009
    (_EXT, "AISystemUsed"): "AISystemUsed",  # IPTC 2025.1
    ("http://ns.adobe.com/xap/1.0/", "CreatorTool"): "CreatorTool",
    ("http://ns.adobe.com/photoshop/1.0/", "Credit"): "Credit",
    ("http://purl.org/dc/elements/1.1/", "description"): "description",
    ("http://purl.org/dc/elements/1.1/", "creator"): "creator",
    ("http://purl.org/dc/terms/", "provenance"): "provenance",
    ("http://ns.adobe.com/tiff/1.0/", "Software"): "Software",
    ("http://ns.adobe.com/exif/1.0/", "UserComment"): "UserComment",
    ("http://ns.adobe.com/xap/1.0/sType/ResourceEvent#", "softwareAgent"): "softwareAgent",
    ("http://www.tc260.org.cn/ns/AIGC/1.0/", "AIGC"): "AIGC",  # GB 45438-2025, appendix E
}
"""Namespace and name of the properties read -> the name they get here."""

MAX_DEPTH = 64
MAX_VALUES = 64
MAX_VALUE = 64 * 1024
MAX_TAG = 64 * 1024
"""Bytes of one tag: expat's time grows with the square of the number of attributes."""
_RESOURCE = "http://www.w3.org/1999/02/22-rdf-syntax-ns# resource"
_BY_NAME = {f"{space} {name}": known for (space, name), known in PROPERTIES.items()}


class _RefusedError(Exception):
    """The packet asks for more than a packet may; the text says what."""


class _Collector:
    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.depth = 0
        self.inside: tuple[int, str, list[str]] | None = None  # depth, name and text of the open property

    def add(self, name: str, value: str) -> None:
        if value.strip() and len(self.found) < MAX_VALUES:
            self.found.append((name, value.strip()[:MAX_VALUE]))

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _RefusedError(f"it is nested deeper than {MAX_DEPTH} elements")
        for name, value in attributes.items():
            if name in _BY_NAME:
                self.add(_BY_NAME[name], value)
        if tag in _BY_NAME and self.inside is None:
            self.add(_BY_NAME[tag], attributes.get(_RESOURCE, ""))
            self.inside = (self.depth, _BY_NAME[tag], [])

    def end(self, _tag: str) -> None:
        if self.inside is not None and self.inside[0] == self.depth:
            self.add(self.inside[1], "".join(self.inside[2]))
            self.inside = None
        self.depth -= 1

    def text(self, text: str) -> None:
        if self.inside is not None:
            self.inside[2].append(text)

    def refuse(self, *_: object) -> None:
        raise _RefusedError("it declares a document type, as XML bombs do")


def read_xmp(packet: bytes) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return what a packet says: (name, value) pairs by the names in `PROPERTIES`, and notes on what was not read."""
    collector = _Collector()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = collector.start
    parser.EndElementHandler = collector.end
    parser.CharacterDataHandler = collector.text
    parser.StartDoctypeDeclHandler = collector.refuse
    notes: tuple[str, ...] = ()
    try:
        if any(piece.find(b">") > MAX_TAG for piece in packet.split(b"<")):
            raise _RefusedError(f"it has a tag of more than {MAX_TAG} bytes")  # noqa: TRY301  (one place for refusals)
        parser.Parse(packet.strip(b"\0 \r\n\t"), True)
    except _RefusedError as err:
        notes = (f"an XMP packet was not read to its end: {err}",)
    except (expat.ExpatError, ValueError, LookupError):  # damage; an encoding unknown here
        notes = ("an XMP packet is damaged; what could be read of it was",)
    return tuple(collector.found), notes
