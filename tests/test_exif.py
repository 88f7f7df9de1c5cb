"""EXIF values as numbers: by hand, against Pillow's rationals, and against values of real cameras."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.TiffImagePlugin import IFDRational

from faceproof.exif import (
    apex_f_number,
    apex_seconds,
    exposure_seconds,
    f_number,
    focal_length_mm,
    iso,
    number,
)
from tests.conftest import DATA

PARSERS: list[Callable[[object], float | None]] = [
    number, exposure_seconds, f_number, iso, focal_length_mm, apex_seconds, apex_f_number,
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1/200", 0.005), (b"1/200\0", 0.005), ("1/200 s", 0.005), ("1/200sec", 0.005), ("1 / 200 sec.", 0.005),
        ("0.005", 0.005), (".005", 0.005), ("5e-3", 0.005), ("5 ms", 0.005), ("2 s", 2.0), ("2", 2.0), ('2"', 2.0),
        ("2 seconds", 2.0), ("30", 30.0), ("1.3", 1.3), ("10/25", 0.4), (IFDRational(1, 200), 0.005),
        (Fraction(1, 200), 0.005), ((1, 200), 0.005), (((1, 200),), None), ((IFDRational(1, 200),), 0.005),
        (0.005, 0.005), (2, 2.0), (np.float32(0.5), 0.5),
    ],
)  # fmt: skip
def test_exposures_are_seconds(value: object, seconds: float | None) -> None:
    assert exposure_seconds(value) == (None if seconds is None else pytest.approx(seconds))


def test_exposures_keep_their_order_in_every_spelling() -> None:
    """FIELD.md 1.4: the parser of the paper's code put 1/200 s above 2 s."""
    written = ["1/8000", "1/200 s", "1/60", "0.25", "1/2", "0.8", "1.3", "2 s", "15", "30 s"]
    values = [exposure_seconds(text) for text in written]
    assert all(value is not None for value in values)
    assert values == sorted(values, key=lambda value: value or 0)


@pytest.mark.parametrize(
    ("value", "aperture"),
    [("f/2.8", 2.8), ("F2.8", 2.8), ("ƒ/2.8", 2.8), ("f 2.8", 2.8), ("28/10", 2.8), (IFDRational(28, 10), 2.8),
     ((28, 10), 2.8), (8, 8.0), ("f/0", None), (0, None), ((0, 0), None), ("f/", None), ("2.8f", None)],
)  # fmt: skip
def test_f_numbers(value: object, aperture: float | None) -> None:
    assert f_number(value) == (None if aperture is None else pytest.approx(aperture))


@pytest.mark.parametrize(
    ("value", "speed"),
    [(400, 400.0), ("400", 400.0), ("ISO 400", 400.0), ("iso400", 400.0), ("ISO: 400", 400.0), ((400, 0), 400.0),
     ((400,), 400.0), (b"400\0", 400.0), (65535, None), (0, None), ((), None), (10**9, None), ("auto", None),
     (3_280_000, 3_280_000.0)],
)  # fmt: skip
def test_isos(value: object, speed: float | None) -> None:
    assert iso(value) == speed


@pytest.mark.parametrize(
    ("value", "length"),
    [("50 mm", 50.0), ("50mm", 50.0), ("50.0", 50.0), ("500/10", 50.0), (IFDRational(42, 10), 4.2), (0, None),
     ("24-70 mm", None), ((0, 0), None), ("5 cm", None)],
)  # fmt: skip
def test_focal_lengths(value: object, length: float | None) -> None:
    assert focal_length_mm(value) == length


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "value",
    ["1/0", "0/0", (1, 0), IFDRational(1, 0), IFDRational(0, 0), "", " ", "f/2.8/3", "abc", "1/2/3", "nan", "inf",
     "1e999", "-", "/", "1/", "/200", "²", "١", "9" * 500, 10**400, -(10**400), math.nan, math.inf, True, None,
     object(), {}, [], [[1]], b"\xff\xfe", (1, 2, 3), 1j, ("a", "b")],
)  # fmt: skip
def test_nonsense_is_none(parse: Callable[[object], float | None], value: object) -> None:
    if parse is iso and value in ((1, 2, 3), (1, 0)):
        assert iso(value) == 1.0  # a list of speeds, see its docstring
    else:
        assert parse(value) is None


@pytest.mark.parametrize("value", [10**9, "1000000000", -1, "-1/200", 0])
def test_what_no_camera_does_is_none(value: object) -> None:
    assert [exposure_seconds(value), f_number(value), iso(value), focal_length_mm(value)] == [None] * 4


def test_apex_against_the_standards_table() -> None:
    """Exif 2.32, annex C: Tv 0 is 1 s and each step halves it; Av 0 is f/1, 2 is f/2, 3 is f/2.8, 8 is f/16."""
    assert [apex_seconds(v) for v in (-2, -1, 0, 1, 5)] == [4, 2, 1, 0.5, 1 / 32]
    assert apex_seconds((6, 1)) == pytest.approx(1 / 60, rel=0.1)  # the table's rounded name of 1/64
    assert [apex_f_number(v) for v in (0, 2, 8)] == [1, 2, 16]
    assert apex_f_number(3) == pytest.approx(2.8, abs=0.03)
    assert apex_seconds(10**9) is None
    assert apex_f_number(-500) is None


@given(st.integers(1, 1000), st.integers(1, 10_000))
def test_spellings_agree(numerator: int, denominator: int) -> None:
    spellings: list[Any] = [
        f"{numerator}/{denominator}", f" {numerator} / {denominator} s ", (numerator, denominator),
        IFDRational(numerator, denominator), Fraction(numerator, denominator), numerator / denominator,
    ]  # fmt: skip
    for value in spellings:
        assert exposure_seconds(value) == pytest.approx(numerator / denominator, rel=1e-12)


@given(st.one_of(st.text(), st.binary(), st.floats(), st.integers(), st.tuples(st.integers(), st.integers())))
def test_nothing_raises(value: object) -> None:
    for parse in PARSERS:
        found = parse(value)
        assert found is None or math.isfinite(found)


@pytest.mark.data
def test_real_cameras_pass() -> None:
    """All 1,509 rows of the EXIF data lie within the limits and come back as they were."""
    path = DATA / "exif" / "manifest.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the project's data set is not part of the repository")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        assert exposure_seconds(row["exposure_seconds"]) == float(row["exposure_seconds"])
        assert f_number(row["f_number"]) == float(row["f_number"])
        assert iso(row["iso"]) == float(row["iso"])
        assert focal_length_mm(row["focal_length_mm"]) == float(row["focal_length_mm"])
