"""Camera EXIF that agrees with itself, that was edited, and that lies; and what each kind of evidence weighs."""

from __future__ import annotations

import csv
import struct
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from PIL.TiffImagePlugin import IFDRational

from faceproof.images import RGB
from faceproof.metadata import Credentials, Metadata, provenance_evidence
from faceproof.metadata.camera import Camera, read_camera
from faceproof.metadata.content_credentials import Declared
from faceproof.metadata.evidence import WEIGHTS
from faceproof.metadata.generators import GeneratorTag
from faceproof.metadata.tags import EXIF, MAIN, Tags
from faceproof.records import Evidence
from tests.conftest import DATA
from tests.signing import encoded
from tests.test_metadata import camera, read

NUMBERS = {name: tag for table in (MAIN, EXIF) for tag, name in table.items()}
WHOLE: dict[str, Any] = {
    "Make": "Canon", "Model": "Canon EOS R6", "DateTimeOriginal": "2021:06:05 12:30:00", "ExposureTime": (1, 200),
    "FNumber": (28, 10), "ISOSpeedRatings": 400, "FocalLength": (85, 1),
}  # fmt: skip


def judged(**changes: Any) -> Camera:
    values = {name: value for name, value in {**WHOLE, **changes}.items() if value is not None}
    tags = Tags(
        {NUMBERS[name]: value for name, value in values.items() if NUMBERS[name] in MAIN},
        {NUMBERS[name]: value for name, value in values.items() if NUMBERS[name] in EXIF},
    )
    found = read_camera(tags, width=128, height=96)
    assert found is not None
    return found


def only(metadata: Metadata) -> Evidence:
    (piece,) = provenance_evidence(metadata)
    return piece


def test_consistent_camera_data_weigh_a_little_for_photograph(astronaut: RGB) -> None:
    found = read(encoded(astronaut, "JPEG", exif=camera()))
    assert found.camera == Camera(
        "NIKON CORPORATION", "NIKON D750", "Ver.1.10", 0.005, 2.8, 400.0, 85.0, "2021-06-05T12:30:00"
    )
    piece = only(found)
    assert piece.weight == -0.7
    assert "NIKON D750, 1/200 s, f/2.8, ISO 400, 85 mm, taken 2021-06-05 12:30:00" in piece.sentence
    assert "anyone can write them" in piece.sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ExifImageWidth": 4000, "ExifImageHeight": 3000}, "4000 x 3000 pixels, the picture has 128 x 96"),
        ({"Software": "Adobe Photoshop 25.0 (Windows)"}, 'edited with "Adobe Photoshop 25.0 (Windows)"'),
        ({"Software": "GIMP 2.10.36"}, "GIMP"),
        ({"Software": "Picasa"}, "Picasa"),
    ],
)
def test_edited_is_said_and_is_not_generated(astronaut: RGB, changes: dict[str, Any], words: str) -> None:
    piece = only(read(encoded(astronaut, "JPEG", exif=camera(**changes))))
    assert piece.weight == -0.3
    assert words in piece.sentence
    assert "not generated" in piece.sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ExposureTime": IFDRational(10**9, 1)}, 'ExposureTime reads "1000000000/1", which is not an exposure time'),
        ({"ExposureTime": IFDRational(1, 0)}, 'ExposureTime reads "1/0"'),
        ({"FNumber": IFDRational(10**6, 1)}, "is not an f-number of any camera"),
        ({"FocalLength": IFDRational(10**9, 1)}, "is not a focal length"),
        ({"ShutterSpeedValue": IFDRational(3, 1)}, "ExposureTime is 0.005s and ShutterSpeedValue says 0.125s"),
        ({"ApertureValue": IFDRational(8, 1)}, "FNumber is 2.8 and ApertureValue says 16"),
        ({"DateTimeOriginal": "2199:01:01 00:00:00"}, "lies in the future"),
        ({"DateTime": "2019:06:05 12:30:00"}, "was changed (2019-06-05 12:30:00) before the picture was taken"),
        ({"DateTimeOriginal": "2021:13:45 99:00:00"}, "which is no date"),
        ({"DateTimeOriginal": "yesterday"}, 'DateTimeOriginal reads "yesterday"'),
        ({"Orientation": 17}, 'Orientation reads "17", where 1 to 8 exist'),
    ],
)
def test_contradictions_are_stated_and_weigh_nothing(astronaut: RGB, changes: dict[str, Any], words: str) -> None:
    for kind in ("JPEG", "WEBP"):
        piece = only(read(encoded(astronaut, kind, exif=camera(**changes))))
        assert piece.weight == 0
        assert "contradict themselves" in piece.sentence
        assert words in piece.sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ExposureTime", "1/0"), ("ExposureTime", b"\xff\xfe"), ("ExposureTime", (2**32 - 1, 1)), ("FNumber", "sharp"),
        ("FNumber", (-28, 10)), ("ISOSpeedRatings", 2**31), ("ISOSpeedRatings", "high"), ("ISOSpeedRatings", -1),
        ("FocalLength", float("inf")), ("FocalLength", (1, 0)), ("DateTimeOriginal", 5), ("DateTimeOriginal", b"x"),
        ("DateTimeOriginal", (1, 2)), ("Orientation", "up"), ("Orientation", [1, 1]), ("Orientation", (1, 0)),
    ],
)  # fmt: skip
def test_wrong_types_and_impossible_values_are_contradictions(name: str, value: object) -> None:
    found = judged(**{name: value})
    assert len(found.contradictions) == 1
    assert name in found.contradictions[0]
    assert all(text.isprintable() for text in found.contradictions)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ExposureTime", "1/200 s"), ("FNumber", "f/2.8"), ("FNumber", (0, 1)), ("FNumber", (0, 0)), ("FocalLength", 0),
        ("FocalLength", "0/0"), ("ISOSpeedRatings", 65535), ("ISOSpeedRatings", [400, 0]), ("ISOSpeedRatings", 0),
        ("DateTimeOriginal", "    :  :     :  :  "), ("DateTimeOriginal", "0000:00:00 00:00:00"), ("Orientation", 0),
        ("DateTimeOriginal", "2021-06-05T12:30:00"), ("ShutterSpeedValue", (76, 10)), ("ShutterSpeedValue", (1, 0)),
        ("PixelXDimension", 0), ("PixelXDimension", "wide"), ("ExposureTime", ""),
    ],
)  # fmt: skip
def test_unknown_and_odd_spellings_are_not(name: str, value: object) -> None:
    """Files say "unknown" as 0, 0/0, 65535 and blanks; lenses without contacts, scanners and old bodies do."""
    assert judged(**{name: value}).contradictions == ()


def test_a_turned_picture_has_its_sides_swapped() -> None:
    assert judged(PixelXDimension=96, PixelYDimension=128, Orientation=6).edits == ()
    assert judged(PixelXDimension=128, PixelYDimension=128).edits


def test_incomplete_camera_data_weigh_nothing(astronaut: RGB) -> None:
    found = read(encoded(astronaut, "JPEG", exif=camera(ExposureTime=None, FNumber=None)))
    assert only(found).weight == 0
    assert "incomplete" in only(found).sentence
    maker = judged(**dict.fromkeys([*WHOLE][1:]))
    assert maker.make == "Canon"
    assert not maker.complete


def test_values_that_overflow_are_damage_not_crashes() -> None:
    """An entry of 2**32 - 1 rationals, and a directory of 65,535 entries, in a file of 100 bytes."""
    from faceproof.metadata.tags import read_tags

    entry = struct.pack("<HHII", NUMBERS["ISOSpeedRatings"], 5, 2**32 - 1, 30)
    exif = struct.pack("<H", 1) + entry + bytes(4)
    main = struct.pack("<HHHII", 1, 0x8769, 4, 1, 26) + bytes(4)
    tags = read_tags(b"II*\0\x08\0\0\0" + main + exif + bytes(40))
    assert (dict(tags.exif), tags.damaged) == ({}, 1)
    assert read_tags(b"II*\0\x08\0\0\0\xff\xff" + bytes(100)).damaged == 1


@pytest.mark.data
def test_real_cameras_are_consistent() -> None:
    """Values of 1,234 photographs by 304 camera models, with the APEX twins that belong to them."""
    import math

    path = DATA / "exif" / "manifest.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the project's data set is not part of the repository")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        exposure, aperture = float(row["exposure_seconds"]), float(row["f_number"])
        pair = Fraction(row["exposure_seconds"]).limit_denominator(10**6)
        found = judged(
            Make=row["make"], Model=row["model"], ExposureTime=(pair.numerator, pair.denominator),
            FNumber=(round(aperture * 100), 100), ISOSpeedRatings=int(float(row["iso"])),
            FocalLength=(round(float(row["focal_length_mm"]) * 100), 100),
            ShutterSpeedValue=(round(-math.log2(exposure) * 10**4), 10**4),
            ApertureValue=(round(2 * math.log2(aperture) * 10**4), 10**4),
        )  # fmt: skip
        assert found.contradictions == ()
        assert found.complete


# Weights

GENERATED = Credentials(
    "valid", "maker", (Declared("c2pa.created", "trainedAlgorithmicMedia", "generated"),), signer="Someone"
)
TAGS = (GeneratorTag("ComfyUI", 'PNG text "prompt"', '{"3": ...'),)


def test_one_program_is_counted_once() -> None:
    both = Metadata("PNG", GENERATED, TAGS, ("trainedAlgorithmicMedia",))
    assert [piece.weight for piece in provenance_evidence(both)] == [6, 0, 0]
    assert "not counted again: the content credentials" in provenance_evidence(both)[1].sentence
    assert [piece.weight for piece in provenance_evidence(replace(both, credentials=Credentials("absent")))] == [5, 0]


def test_evidence_for_both_sides_is_kept() -> None:
    """Generated pictures with copied EXIF: both are reported, and the sum says which weighs more."""
    found = Metadata("PNG", generator_tags=TAGS, camera=judged())
    assert [piece.weight for piece in provenance_evidence(found)] == [5, -0.7]


def test_a_part_weighs_less_than_the_whole() -> None:
    part = replace(GENERATED, declared=(Declared("c2pa.created", "digitalCapture", "captured"),
                                        Declared("c2pa.edited", "trainedAlgorithmicMedia", "part")))  # fmt: skip
    assert only(Metadata("JPEG", part)).weight == WEIGHTS["credentials: part"] == 2
    assert only(Metadata("JPEG", source_types=("digitalCapture", "compositeSynthetic"))).weight == 2


def test_weights_keep_their_order() -> None:
    assert WEIGHTS["credentials: generated"] > WEIGHTS["IPTC: generated"] > WEIGHTS["credentials: part"] > 0
    assert WEIGHTS["credentials: captured"] < WEIGHTS["camera: consistent"] < WEIGHTS["camera: edited"] < 0
    assert WEIGHTS["credentials: invalid"] == WEIGHTS["camera: contradictory"] == 0
