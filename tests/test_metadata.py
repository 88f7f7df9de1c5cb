"""Metadata of files that Pillow wrote, of files made by hand, and of files made to hurt."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from faceproof.images import RGB
from faceproof.metadata import Metadata, provenance_evidence, read_metadata
from faceproof.metadata.containers import MAX_TEXT, MAX_XMP, Text, read_blocks
from faceproof.metadata.generators import RULES, find_generators
from faceproof.metadata.source_types import SOURCE_TYPES, source_type
from faceproof.metadata.tags import EXIF, MAIN, read_tags
from faceproof.metadata.xmp import read_xmp
from tests.signing import IPTC, encoded

INFOTEXT = (
    "portrait of an astronaut\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, "
    "CFG scale: 7, Seed: 4223, Size: 512x512, Model: sd_xl_base_1.0, Version: v1.10.1"
)
COMFY = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 4223, "steps": 20}}})
PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" %s>%s'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
GENERATED = f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia"'


def read(data: bytes, width: int = 128, height: int = 96) -> Metadata:
    return read_metadata(data, width=width, height=height)


def packet(attributes: str = "", elements: str = "") -> bytes:
    return (PACKET % (attributes, elements)).encode()


def exif_block(**values: Any) -> Image.Exif:
    """Pillow's EXIF with tags by name, in the directory where each belongs."""
    block = Image.Exif()
    for name, value in values.items():
        tag = ExifTags.Base[name].value
        (block.get_ifd(ExifTags.IFD.Exif) if tag in EXIF else block)[tag] = value
    return block


def camera(**changes: Any) -> Image.Exif:
    """What a camera writes about a picture of 128 x 96."""
    values = {
        "Make": "NIKON CORPORATION", "Model": "NIKON D750", "Software": "Ver.1.10", "Orientation": 1,
        "DateTime": "2021:06:05 12:30:00", "DateTimeOriginal": "2021:06:05 12:30:00",
        "ExposureTime": IFDRational(1, 200), "FNumber": IFDRational(28, 10), "ISOSpeedRatings": 400,
        "FocalLength": IFDRational(85, 1), "ShutterSpeedValue": IFDRational(7643856, 1000000),
        "ApertureValue": IFDRational(2970854, 1000000), "ExifImageWidth": 128, "ExifImageHeight": 96,
    }  # fmt: skip
    return exif_block(**{name: value for name, value in {**values, **changes}.items() if value is not None})


def png(pixels: RGB, *texts: tuple[str, str, bool], itxt: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, value, compressed in texts:
        (info.add_itxt(key, value, zip=compressed) if itxt else info.add_text(key, value, zip=compressed))
    return encoded(pixels, "PNG", pnginfo=info)


def dressed(pixels: RGB, kind: str, exif: Image.Exif | None = None) -> bytes:
    """A picture with EXIF and an XMP packet in the place its format has for them."""
    tags = exif or camera()
    if kind == "TIFF":
        tags[700] = packet(GENERATED)
    block = tags.tobytes()
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet(GENERATED).decode())
        return encoded(pixels, kind, exif=block, pnginfo=info)
    return encoded(pixels, kind, exif=block, **({} if kind == "TIFF" else {"xmp": packet(GENERATED)}))


# Containers and tags


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_and_xmp_are_found_in_every_format(astronaut: RGB, kind: str) -> None:
    data = dressed(astronaut, kind)
    found = read(data)
    assert found.format == kind
    assert found.source_types == ("trainedAlgorithmicMedia",)
    assert found.camera is not None
    assert (found.camera.make, found.camera.exposure_seconds) == ("NIKON CORPORATION", 0.005)
    assert found.notes == ()


def test_heif(astronaut: RGB) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra [heif]")
    stream = io.BytesIO()
    heif.from_pillow(Image.fromarray(astronaut[:96, :128])).save(
        stream, exif=camera().tobytes(), xmp=packet(GENERATED), quality=50
    )
    found = read(stream.getvalue())
    assert found.format == "HEIF"
    assert found.source_types == ("trainedAlgorithmicMedia",)
    assert found.camera is not None
    assert found.camera.complete


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_are_those_pillow_reads(order: str) -> None:
    block = camera(Artist="Zoe", UserComment=b"ASCII\0\0\0hello", MakerNote=bytes(range(200)))
    block.endian = order
    raw = block.tobytes().removeprefix(b"Exif\0\0")
    theirs = Image.Exif()
    theirs.load(raw)
    ours = read_tags(raw)
    assert ours.damaged == 0
    for wanted, mine, other in (
        (MAIN, ours.main, theirs), (EXIF, ours.exif, theirs.get_ifd(ExifTags.IFD.Exif)),
    ):  # fmt: skip
        assert set(mine) == {tag for tag in other if tag in wanted}
        for tag, value in mine.items():
            expected = other[tag]
            if isinstance(expected, IFDRational):
                assert value[0] / value[1] == pytest.approx(float(expected))
            else:
                assert value == expected


@pytest.mark.parametrize("raw", ["Zoë".encode(), "Zoë".encode("latin-1"), "Zoë  ".encode()])
def test_text_is_utf_8_or_latin_1(raw: bytes) -> None:
    """The standard says ASCII; Pillow writes question marks."""
    entry = struct.pack(">HHII", 0x013B, 2, len(raw) + 4, 26)
    assert read_tags(b"MM\0*\0\0\0\x08\0\1" + entry + bytes(4) + raw + b"\0abc").main == {0x013B: "Zoë"}


def test_an_extended_xmp_packet_is_joined(astronaut: RGB) -> None:
    """XMP specification part 3, section 1.1.3.1: GUID, full length, offset; parts in any order."""
    whole = packet(GENERATED, f"<dc:description>{'x' * 90_000}</dc:description>")
    pieces = [(at, whole[at : at + 40_000]) for at in range(0, len(whole), 40_000)]
    data = encoded(astronaut, "JPEG")

    def with_parts(parts: list[tuple[int, bytes]]) -> bytes:
        segments = b""
        for at, piece in parts:
            body = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">II", len(whole), at) + piece
            segments += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
        return data[:2] + segments + data[2:]

    assert len(pieces) == 3
    assert read(with_parts(pieces[::-1])).source_types == ("trainedAlgorithmicMedia",)
    lacking = read(with_parts([pieces[0], pieces[2]]))
    assert lacking.source_types == ()
    assert any("lacks a part" in note for note in lacking.notes)


def test_a_thumbnail_tells_of_cropping(astronaut: RGB) -> None:
    """The second directory's JPEG, made by hand: 12-byte entries, little-endian (TIFF 6.0, section 2)."""

    def tiff(width: int, height: int) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (width, height)).save(stream, "JPEG")
        small = stream.getvalue()
        first = struct.pack("<HHHII", 1, 0x0112, 3, 1, 1) + struct.pack("<I", 26)
        second = struct.pack("<HHHII", 2, 0x0201, 4, 1, 56) + struct.pack("<HHII", 0x0202, 4, 1, len(small))
        return b"II*\0\x08\0\0\0" + first + second + bytes(4) + small

    def edits(width: int, height: int) -> str:
        block = Image.Exif()
        block.load(camera().tobytes())
        tags = read_tags(tiff(width, height))
        assert tags.thumbnail[:2] == b"\xff\xd8"
        from faceproof.metadata.camera import _thumbnail

        return " ".join(_thumbnail(tags.thumbnail, 1500, 1000))

    assert edits(150, 100) == edits(100, 150) == ""
    assert edits(160, 120) == ""  # DCF: cameras letterbox
    assert "cropped" in edits(150, 150)


# Generator tags


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("itxt", [False, True])
def test_png_texts_of_every_kind(astronaut: RGB, compressed: bool, itxt: bool) -> None:
    data = png(astronaut, ("parameters", INFOTEXT, compressed), itxt=itxt)
    (tag,) = read(data).generator_tags
    assert (tag.tool, tag.where) == ("Stable Diffusion web UI", 'PNG text "parameters"')
    assert tag.quote.startswith("...Steps: 20, Sampler: DPM++ 2M")
    assert len(tag.quote) <= 86
    assert tag.quote.isprintable()
    (piece,) = provenance_evidence(read(data))
    assert piece.weight == 5
    assert "Steps: 20" in piece.sentence


@pytest.mark.parametrize(
    ("texts", "tool"),
    [
        ([("prompt", COMFY)], "ComfyUI"),
        ([("workflow", '{"last_node_id": 9, "nodes": [{"id": 3}], "links": []}')], "ComfyUI"),
        ([("invokeai_metadata", '{"app_version": "4.2.0"}')], "InvokeAI"),
        ([("sd-metadata", '{"model": "stable diffusion"}')], "InvokeAI"),
        ([("Dream", '"an astronaut" -s 50 -S 4223 -W 512 -H 512 -C 7.5 -A k_lms')], "InvokeAI"),
        ([("Software", "NovelAI"), ("Source", "Stable Diffusion XL C1E1DE52")], "NovelAI"),
        ([("fooocus_scheme", "fooocus"), ("parameters", '{"base_model": "juggernaut"}')], "Fooocus"),
        ([("parameters", '{"sui_image_params": {"prompt": "an astronaut"}}')], "SwarmUI"),
        ([("Description", "an astronaut --v 6.1 Job ID: 1b4e28ba-2fa1-11d2-883f-0016d3cca427")], "Midjourney"),
        ([("AIGC", '{"Label": "1", "ContentProducer": "someone"}')], "a service under China's labelling standard"),
        ([("Software", "Adobe Firefly")], "Adobe Firefly"),
        ([("Software", "DALL·E 3")], "DALL-E"),
        ([("Software", "DALL-E")], "DALL-E"),
    ],
)
def test_what_generators_write_into_png(astronaut: RGB, texts: list[tuple[str, str]], tool: str) -> None:
    found = read(png(astronaut, *((key, value, False) for key, value in texts)))
    assert found.generator_tags[0].tool == tool
    assert sum(piece.weight for piece in provenance_evidence(found)) == 5


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("values", "tool"),
    [
        ({"Software": "AI generated;txt2img;flux", "Make": "Black Forest Labs", "Model": "flux-dev"}, "FLUX"),
        ({"UserComment": b"UNICODE\0" + INFOTEXT.encode("utf-16-be")}, "Stable Diffusion web UI"),
        ({"UserComment": b"UNICODE\0" + INFOTEXT.encode("utf-16-le")}, "Stable Diffusion web UI"),
        ({"UserComment": b"ASCII\0\0\0" + INFOTEXT.encode()}, "Stable Diffusion web UI"),
        ({"Make": 'workflow:{"nodes": []}', "Model": f"prompt:{COMFY}"}, "ComfyUI"),
        ({"Software": "Fooocus v2.5.5", "MakerNote": b"fooocus\0"}, "Fooocus"),
        ({"MakerNote": b"fooocus\0"}, "Fooocus"),
        ({"ImageDescription": INFOTEXT}, "Stable Diffusion web UI"),
        ({"Artist": "Midjourney"}, "Midjourney"),
    ],
)
def test_what_generators_write_into_exif(astronaut: RGB, kind: str, values: dict[str, Any], tool: str) -> None:
    found = read(encoded(astronaut, kind, exif=exif_block(**values).tobytes()))
    assert found.generator_tags[0].tool == tool
    assert sum(piece.weight for piece in provenance_evidence(found)) == 5


@pytest.mark.parametrize(
    ("attributes", "elements", "tool"),
    [
        ('xmp:CreatorTool="Midjourney"', "", "Midjourney"),
        ("", "<xmp:CreatorTool>Draw Things</xmp:CreatorTool>", "Draw Things"),
        ('photoshop:Credit="Made with Google AI"', "", "Google AI"),
        ("", "<Iptc4xmpExt:AISystemUsed>Imagen 4</Iptc4xmpExt:AISystemUsed>", "a generative model"),
        ("", '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">a face --v 6 '
         "Job ID: 1b4e28ba-2fa1-11d2-883f-0016d3cca427</rdf:li></rdf:Alt></dc:description>", "Midjourney"),
        ("", '<TC260:AIGC xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/">{"Label":"1"}</TC260:AIGC>',
         "a service under China's labelling standard"),
    ],
)  # fmt: skip
def test_what_generators_write_into_xmp(astronaut: RGB, attributes: str, elements: str, tool: str) -> None:
    found = read(encoded(astronaut, "JPEG", xmp=packet(attributes, elements)))
    assert [tag.tool for tag in found.generator_tags] == [tool]


def test_jpeg_comments_are_read(astronaut: RGB) -> None:
    (tag,) = read(encoded(astronaut, "JPEG", comment=INFOTEXT)).generator_tags
    assert tag.where == "JPEG comment"


INNOCENT = (
    "Adobe Photoshop 25.0 (Windows)", "Adobe Photoshop Lightroom Classic 13.1", "GIMP 2.10.36", "Google", "Picasa",
    "Picasa 3.0", "Snapseed 2.0", "HDR+ 1.0.585804376", "Google Pixel 8 Pro", "17.1.2", "Ver.1.10", "Windows 11",
    "Instagram", "Meta", "Apple", "Microsoft Designer", "ImageMagick 7", "paint.net 5.0.13", "Firefly", "Gemini",
    "Leonardo", "Flux", "Imagen", "Ideogram", "Dream", "Playground", "Stability", "Diffusion filter Tiffen",
    "samsung", "SM-S918B", "Canon EOS R6", "MediaTek Camera Application", "Invoke", "Runway model", "Dall Eagle",
    "Dallas, Texas", "Wall-E", "M. Journey", "Nova", "Recraft", "FUJIFILM X-T5", "Digital Camera X-T30 Ver2.01",
)  # fmt: skip


@pytest.mark.parametrize("value", INNOCENT)
def test_cameras_editors_and_words_are_no_generators(value: str) -> None:
    keys = {key for rule in RULES for key in rule.keys} - {"AISystemUsed", "fooocus_scheme"}
    assert find_generators(Text(f"EXIF {key}", key, value) for key in (*keys, "ImageDescription", "comment")) == ()


@pytest.mark.parametrize(
    "caption",
    [
        "The founder of Midjourney speaks at a conference", "How OpenAI's DALL-E and Stable Diffusion changed art",
        "Steps: the Sampler is on the right", "Steps: 20 to the door", "Job ID: 4223", "prompt payment is appreciated",
        "Workflow: shot, cropped, sharpened", 'Speaker on "AIGC" and labels', "parameters: f/2.8, 1/200 s", "{}",
        "Not made with Google AI", "A model is used: Anna",
    ],
)  # fmt: skip
def test_captions_about_generators_are_no_tags(astronaut: RGB, caption: str) -> None:
    keys = ("parameters", "prompt", "workflow", "Description", "Comment", "Title", "AIGC")
    assert read(png(astronaut, *((key, caption, False) for key in keys))).generator_tags == ()
    assert read(encoded(astronaut, "JPEG", exif=exif_block(ImageDescription=caption), comment=caption)).empty


def test_perhaps_generated_is_not_generated(astronaut: RGB) -> None:
    """GB 45438-2025: labels 2 and 3 are for content that may have been generated."""
    assert read(png(astronaut, ("AIGC", '{"Label": "2"}', False))).generator_tags == ()
    assert read(png(astronaut, ("AIGC", '{"Label": "10"}', False))).generator_tags == ()


def test_quotes_cannot_drive_a_terminal(astronaut: RGB) -> None:
    hostile = "\x1b[2J\u202eSteps: 20, Sampler: \x07\x00x\n, "
    for data in (
        png(astronaut, ("parameters", hostile, False), itxt=True),
        encoded(astronaut, "JPEG", comment=hostile),
    ):
        found = read(data)
        assert found.generator_tags
        assert all(tag.quote.isprintable() and tag.where.isprintable() for tag in found.generator_tags)
        assert all(piece.sentence.isprintable() for piece in provenance_evidence(found))


# XMP


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        (GENERATED, ""),
        ('Iptc4xmpExt:DigitalSourceType="trainedAlgorithmicMedia"', ""),
        ("", f"<Iptc4xmpExt:DigitalSourceType>{IPTC}trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"),
        ("", f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{IPTC}trainedAlgorithmicMedia"/>'),
        ("", f'<other:DigitalSourceType xmlns:other="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
         f"{IPTC.replace('http:', 'https:')}trainedAlgorithmicMedia</other:DigitalSourceType>"),
    ],
)  # fmt: skip
def test_source_types_in_every_spelling(astronaut: RGB, attributes: str, elements: str) -> None:
    found = read(encoded(astronaut, "WEBP", xmp=packet(attributes, elements)))
    assert found.source_types == ("trainedAlgorithmicMedia",)
    (piece,) = provenance_evidence(found)
    assert piece.weight == 5
    assert "made by a generative model" in piece.sentence


def test_the_name_in_another_namespace_is_another_property() -> None:
    other = '<a:DigitalSourceType xmlns:a="urn:a">trainedAlgorithmicMedia</a:DigitalSourceType>'
    assert read_xmp(packet("", other)) == ((), ())


def test_source_types() -> None:
    for name in SOURCE_TYPES:
        assert source_type(IPTC + name) == source_type(name) == source_type(f"digsrctype:{name}") == name
    for wrong in ("", "TrainedAlgorithmicMedia", "http://evil.example/digitalsourcetype/print", IPTC, "x" * 10**6):
        assert source_type(wrong) is None


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY a{i} "{f"&a{i - 1 if i > 1 else str()};" * 10}">' for i in range(1, 12)
)


@pytest.mark.parametrize(
    "bomb",
    [
        (LAUGHS + "]><x>&a11;</x>").encode(),
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>',
        ('<?xml version="1.0" encoding="utf-16"?>' + LAUGHS + "]><x>&a11;</x>").encode("utf-16"),
        b"<a>" * 300_000,
        b"<a " + b" ".join(b'b%d="c"' % i for i in range(90_000)) + b"/>",
        b"<" * MAX_XMP,
        packet("", "&undefined;"),
        b'<?xml version="1.0" encoding="nonsense"?><x/>',
        b"\xff\xfe\x00",
    ],
)
def test_xmp_bombs_do_nothing(astronaut: RGB, bomb: bytes) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bomb)
    found = read(encoded(astronaut, "PNG", pnginfo=info))
    assert found.empty
    assert sum("XMP" in note for note in found.notes) == 1


def test_a_declaration_is_refused_before_anything_is_expanded() -> None:
    assert "declares a document type" in read_xmp((LAUGHS + "]><x>&a11;</x>").encode())[1][0]
    assert "nested deeper" in read_xmp(b"<a>" * 1000)[1][0]
    assert "a tag of more than" in read_xmp(b"<a b='" + b"c" * 70_000 + b"'/>")[1][0]


def test_what_came_before_damage_is_kept() -> None:
    found, notes = read_xmp(packet(GENERATED)[:-30])
    assert found == (("DigitalSourceType", IPTC + "trainedAlgorithmicMedia"),)
    assert notes


def test_sizes_are_bounded(astronaut: RGB) -> None:
    huge = zlib.compress(bytes(20_000_000), 9)
    info = PngImagePlugin.PngInfo()
    info.add(b"zTXt", b"Comment\0\0" + huge)
    info.add(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + huge)
    for number in range(1000):
        info.add_text(f"key{number}", "x" * 100)
    blocks = read_blocks(encoded(astronaut, "PNG", pnginfo=info))
    assert max(len(text.value) for text in blocks.texts) == MAX_TEXT
    assert len(blocks.texts) == 256
    assert blocks.xmp == ()
    assert any("XMP packet" in note for note in blocks.notes)


# Hostile bytes


@pytest.fixture(scope="session")
def victims(astronaut: RGB) -> list[bytes]:
    """Small files with every kind of metadata in every format, signed where that can be done."""
    files = [png(astronaut, ("parameters", INFOTEXT, True), ("prompt", COMFY, False))]
    files += [dressed(astronaut, kind) for kind in ("JPEG", "WEBP", "TIFF", "AVIF")]
    try:
        from tests.signing import created, sign

        for kind, data in zip(("PNG", "JPEG", "WEBP", "TIFF"), files, strict=False):
            files.append(sign(data, kind, created("digitalCapture"))[0])
    except ImportError:
        pass
    return files


def mutants(files: list[bytes], count: int) -> Iterator[bytes]:
    chance = random.Random(4)
    for _ in range(count):
        data = bytearray(chance.choice(files))
        end = chance.choice([len(data), 4000, 400])  # metadata lie near the start
        for _ in range(chance.choice([1, 3, 30])):
            data[chance.randrange(min(end, len(data)))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        if chance.random() < 0.3:
            at = chance.randrange(len(data))
            del data[at : at + chance.choice([1, 10, len(data)])]
        yield bytes(data)


def test_damaged_files_never_raise(victims: list[bytes]) -> None:
    for data in mutants(victims, 800):
        found = read(data)
        json.dumps(found.to_dict())
        for piece in provenance_evidence(found):
            assert piece.sentence.isprintable()
            assert len(piece.sentence) < 2500


def test_truncated_files_never_raise(victims: list[bytes]) -> None:
    for data in victims:
        for end in {*range(0, 200, 7), *range(200, len(data), 397)}:
            read(data[:end])


@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0\x08\0\0\0",
         b"MM\0*\0\0\0\x08", b"\0\0\0\x1cftypavif", b"\0\0\0\x1cftypheic"]
    ),
    st.binary(max_size=400), st.integers(-1, 10**6), st.integers(-1, 10**6),
)  # fmt: skip
@example(b"II*\0\x08\0\0\0", b"\xff" * 400, 0, 0)
def test_any_bytes_never_raise(start: bytes, rest: bytes, width: int, height: int) -> None:
    found = read(start + rest, width, height)
    json.dumps(found.to_dict())
    provenance_evidence(found)


def test_endless_walks_end(astronaut: RGB) -> None:
    """Empty chunks, directories that point at themselves, entries that claim the whole file."""
    assert read(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0abcd\0\0\0\0" * 300_000).empty
    assert read(b"RIFF\0\0\0\0WEBP" + b"abcd\0\0\0\0" * 300_000).empty
    assert "more than 50000 blocks" in read(b"\xff\xd8" + b"\xff" * 300_000).notes[0]
    loop = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    assert read(loop).empty
    greedy = b"II*\0\x08\0\0\0" + struct.pack("<H", 1000)
    greedy += struct.pack("<HHII", 0x010E, 2, 4_000_000, 0) * 1000 + bytes(4_000_000)
    assert read(greedy).empty


def test_nothing_found_says_nothing(astronaut: RGB) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        found = read(encoded(astronaut, kind))
        assert found.empty
        assert provenance_evidence(found) == ()
        assert found.notes == ("no metadata about the origin: this says nothing, because most platforms strip them",)
    gif = read(encoded(astronaut, "GIF"))
    assert provenance_evidence(gif) == ()
    assert "were not looked for" in gif.notes[0]
