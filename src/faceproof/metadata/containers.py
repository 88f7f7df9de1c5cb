"""Find the blocks of metadata in a JPEG, PNG, WebP, TIFF, AVIF or HEIF file, without decoding it.

The walks are ours because a scan needs all kinds of block in one pass over hostile bytes, within limits that
no library offers together. Sources: ITU-T T.81 annex B (JPEG), Adobe XMP specification part 3 (XMP in every
format), W3C PNG 3rd edition, RFC 9649 (WebP), ISO/IEC 14496-12 (boxes), C2PA specification 2.2, appendix A
(where a manifest store lies in each format).
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass, field

from faceproof.errors import plain
from faceproof.metadata.tags import C2PA_TAG, XMP_TAG, read_tags

__all__ = ["MAX_TEXT", "MAX_XMP", "Blocks", "Text", "read_blocks"]

MAX_BLOCKS = 50_000
"""Segments, chunks or boxes walked: a PNG of 64 megapixels has at most about 24,000."""
MAX_TEXTS = 256
MAX_TEXT = 64 * 1024
"""Characters kept of a text, and bytes inflated of a compressed one."""
MAX_EXIF = 8 * 1024 * 1024
MAX_XMP = 1024 * 1024
"""Bytes of a packet, and of all parts of an extended one."""
MAX_PACKETS = 2

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


@dataclass(frozen=True)
class Text:
    """A text found in a file.

    Attributes:
        where: for a person: 'PNG text "parameters"', "EXIF Software", "XMP CreatorTool".
        key: the bare name: "parameters", "Software", "CreatorTool".
        value: at most `MAX_TEXT` characters, as found: may hold control characters.
    """

    where: str
    key: str
    value: str


@dataclass(frozen=True)
class Blocks:
    """The metadata of a file, unread.

    Attributes:
        format: "JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", or "" for anything else.
        exif: a TIFF structure, None without.
        xmp: packets, at most `MAX_XMP` bytes each.
        texts: PNG texts and JPEG comments.
        c2pa: the file has a box for a C2PA manifest store; nothing is said about its content.
        notes: what could not be read, one sentence each.
    """

    format: str = ""
    exif: bytes | None = None
    xmp: tuple[bytes, ...] = ()
    texts: tuple[Text, ...] = ()
    c2pa: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    exif: bytes | None = None
    xmp: list[bytes] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    c2pa: bool = False
    notes: list[str] = field(default_factory=list)

    def add_exif(self, block: bytes) -> None:
        if len(block) > MAX_EXIF:
            self.notes.append(f"EXIF of {len(block)} bytes was not read: more than any camera writes")
        elif self.exif is None:
            self.exif = block.removeprefix(_EXIF)

    def add_xmp(self, packet: bytes) -> None:
        if len(packet) > MAX_XMP:
            self.notes.append(f"an XMP packet of {len(packet)} bytes was not read: more than {MAX_XMP}")
        elif len(self.xmp) < MAX_PACKETS:
            self.xmp.append(packet)

    def add_text(self, kind: str, key: str, value: str) -> None:
        if len(self.texts) < MAX_TEXTS:
            self.texts.append(Text(f'{kind} "{plain(key)}"' if key else kind, key or kind, value[:MAX_TEXT]))

    def too_many(self) -> None:
        self.notes.append(f"the file has more than {MAX_BLOCKS} blocks: the rest was not read")


def read_blocks(data: bytes) -> Blocks:
    """Find the metadata of a file; bytes in no format known here give an empty record."""
    kind = _format(data)
    found = _Found()
    walk = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "TIFF": _tiff, "AVIF": _boxes, "HEIF": _boxes}.get(kind)
    if walk is not None:
        walk(data, found)
    return Blocks(kind, found.exif, tuple(found.xmp), tuple(found.texts), found.c2pa, tuple(found.notes))


def _format(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data[4:8] == b"ftyp":
        return "AVIF" if data[8:12] in _AVIF_BRANDS else "HEIF" if data[8:12] in _HEIF_BRANDS else ""
    return ""


def _jpeg(data: bytes, found: _Found) -> None:
    """Segments up to the first scan: what follows is pixels and further pictures."""
    extended: dict[bytes, list[tuple[int, bytes]]] = {}
    position = 2
    for _ in range(MAX_BLOCKS):
        marker = data[position : position + 2]
        if marker in (b"\xff\xda", b"\xff\xd9"):
            break
        if marker == b"\xff\xff":  # fill byte
            position += 1
            continue
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        if len(marker) < 2 or marker[0] != 0xFF or size < 2 or position + 2 + size > len(data):
            found.notes.append("the JPEG's segments break off: what follows was not read")
            break
        body = data[position + 4 : position + 2 + size]
        if marker == b"\xff\xfe":
            found.add_text("JPEG comment", "", body.decode("utf-8", "replace"))
        elif marker == b"\xff\xe1" and body.startswith(_EXIF):
            found.add_exif(body)
        elif marker == b"\xff\xe1" and body.startswith(_XMP):
            found.add_xmp(body[len(_XMP) :])
        elif marker == b"\xff\xe1" and body.startswith(_EXTENDED) and len(body) >= len(_EXTENDED) + 40:
            part = body[len(_EXTENDED) :]  # 32 letters of MD5, full length, offset
            extended.setdefault(part[:32], []).append((int.from_bytes(part[36:40], "big"), part[40:]))
        elif marker == b"\xff\xeb" and body[:2] == b"JP" and b"jumb" in body[:32]:
            found.c2pa |= b"c2pa" in body[:80]  # other JUMBF boxes hold 360 degree pictures and such
        position += 2 + size
    else:
        found.too_many()
    for parts in extended.values():
        _join_extended(parts, found)


def _join_extended(parts: list[tuple[int, bytes]], found: _Found) -> None:
    parts.sort(key=lambda part: part[0])
    at = 0
    for offset, part in parts:
        if offset != at:
            found.notes.append("an extended XMP packet lacks a part and was not read")
            return
        at += len(part)
    found.add_xmp(b"".join(part for _, part in parts))


def _png(data: bytes, found: _Found) -> None:
    position = 8
    for _ in range(MAX_BLOCKS):
        if position >= len(data):
            break
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        start, end = position + 8, position + 8 + size
        if len(kind) < 4 or end > len(data):
            found.notes.append("the PNG's chunks break off: what follows was not read")
            break
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            _png_text(kind, data[start:end], found)
        elif kind == b"eXIf":
            found.add_exif(data[start:end])
        elif kind == b"caBX":
            found.c2pa = True
        elif kind == b"IEND":
            break
        position = end + 4
    else:
        found.too_many()


def _png_text(kind: bytes, body: bytes, found: _Found) -> None:
    keyword, _, rest = body.partition(b"\0")
    key = keyword[:79].decode("latin-1")
    compressed = kind == b"zTXt"
    if kind == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:]
        rest = rest.partition(b"\0")[2].partition(b"\0")[2]  # language tag, translated keyword
    elif compressed:
        rest = rest[1:]
    limit = MAX_XMP + 1 if key == "XML:com.adobe.xmp" else MAX_TEXT
    if compressed:
        try:
            rest = zlib.decompressobj().decompress(rest, limit)
        except zlib.error:
            found.notes.append(f'the PNG text "{plain(key)}" is damaged and was not read')
            return
    if key == "XML:com.adobe.xmp":
        found.add_xmp(rest)
    else:
        found.add_text("PNG text", key, rest[:MAX_TEXT].decode("utf-8" if kind == b"iTXt" else "latin-1", "replace"))


def _webp(data: bytes, found: _Found) -> None:
    position = 12
    for _ in range(MAX_BLOCKS):
        if position >= len(data):
            break
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        start, end = position + 8, position + 8 + size
        if start > len(data) or end > len(data):
            found.notes.append("the WebP's chunks break off: what follows was not read")
            break
        if kind == b"EXIF":
            found.add_exif(data[start:end])
        elif kind == b"XMP ":
            found.add_xmp(data[start:end])
        elif kind == b"C2PA":
            found.c2pa = True
        position = end + size % 2
    else:
        found.too_many()


def _tiff(data: bytes, found: _Found) -> None:
    found.exif = data  # the whole file is what EXIF is elsewhere; only wanted tags are ever read
    main = read_tags(data).main
    packet = main.get(XMP_TAG)
    if isinstance(packet, bytes):
        found.add_xmp(packet)
    found.c2pa = C2PA_TAG in main


def _boxes(data: bytes, found: _Found) -> None:
    """Content credentials by their box; EXIF and XMP are items that libavif and libheif find for us."""
    position = 0
    for _ in range(MAX_BLOCKS):
        if position + 8 > len(data):
            break
        size, kind, head = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        elif size == 0:
            size = len(data) - position
        if size < head or position + size > len(data):
            found.notes.append("the file's boxes break off: what follows was not read")
            break
        found.c2pa |= kind == b"uuid" and data[position + head : position + head + 16] == _C2PA_UUID
        position += size
    else:
        found.too_many()
    _add_items(data, found)


def _add_items(data: bytes, found: _Found) -> None:
    """Add EXIF and XMP as Pillow's plugins find them; nothing is decoded, what they raise becomes a note."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            info = _items(data)
        except Image.DecompressionBombError:
            found.notes.append("EXIF and XMP were not read: the file has more pixels than any limit allows")
            return
        # What Pillow's parsers raise on broken files, as in images.py.
        except (
            OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError,
            RuntimeError, MemoryError, struct.error,
        ):  # fmt: skip
            found.notes.append("EXIF and XMP could not be read: the file's header is damaged")
            return
    if info is None:
        found.notes.append('EXIF and XMP were not read: HEIF needs pip install "faceproof[heif]"')
        return
    for name, add in (("exif", found.add_exif), ("xmp", found.add_xmp)):
        block = info.get(name)
        if isinstance(block, bytes) and block:
            add(block)


def _items(data: bytes) -> dict[str, object] | None:
    """What the file holds beside pixels; None where HEIF cannot be read here."""
    if _format(data) == "AVIF":
        from PIL import Image

        with Image.open(io.BytesIO(data), formats=["AVIF"]) as image:
            return {str(key): value for key, value in image.info.items()}
    try:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return dict(pillow_heif.open_heif(data).info)
