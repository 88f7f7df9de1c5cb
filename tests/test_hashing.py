"""Perceptual hashes: equal to imagehash's, stable under recompression, flat pictures told apart."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from faceproof import UsageError, hashing
from faceproof.hashing import INVERSES, KINDS, RADII, VIEWS, distance, from_hex, hash_picture, to_hex
from faceproof.images import RGB


def _pictures(astronaut: RGB) -> list[RGB]:
    """Photographs of all kinds and shapes, noise, and a crop of one pixel."""
    rng = np.random.default_rng(0)
    found = [astronaut, astronaut[:301, :97], astronaut[100:105, 200:290], astronaut[40:41, 50:51]]
    found += [np.asarray(skimage.data.chelsea()), np.asarray(skimage.data.coffee())]
    found += [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)]
    return [np.ascontiguousarray(each) for each in found]


def _gradient(low: int, high: int) -> RGB:
    ramp = np.linspace(low, high, 200).astype(np.uint8)
    return np.repeat(np.repeat(ramp[:, None], 160, axis=1)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(("kind", "theirs"), [("phash", imagehash.phash), ("dhash", imagehash.dhash)])
def test_hashes_are_imagehashs(kind: str, theirs: object, astronaut: RGB) -> None:
    for pixels in _pictures(astronaut):
        own = to_hex(hash_picture(pixels, kind).hashes[0])
        assert own == str(theirs(Image.fromarray(pixels)))  # type: ignore[operator]


@pytest.mark.data
def test_hashes_of_the_face_crops_are_imagehashs(faces_data: object) -> None:
    paths = sorted(faces_data.rglob("*.jpg"))[::97]  # type: ignore[attr-defined]
    assert len(paths) > 50
    for path in paths:
        image = Image.open(path).convert("RGB")
        pixels = np.asarray(image)
        assert to_hex(hash_picture(pixels).hashes[0]) == str(imagehash.phash(image))
        assert to_hex(hash_picture(pixels, "dhash").hashes[0]) == str(imagehash.dhash(image))
        assert not hash_picture(pixels).flat


def test_pdq_is_pdqhashs_first_bit_highest(astronaut: RGB) -> None:
    pdqhash = pytest.importorskip("pdqhash")
    bits, _ = pdqhash.compute(astronaut)
    # As ThreatExchange writes it: the vector read as one binary number.
    assert to_hex(hash_picture(astronaut, "pdq").hashes[0]) == f"{int(''.join(str(int(bit)) for bit in bits), 2):064x}"


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_the_turned_and_mirrored_pictures(kind: str, astronaut: RGB) -> None:
    if kind == "pdq":
        pytest.importorskip("pdqhash")
    pixels = np.ascontiguousarray(astronaut[:, 60:400])
    views = hash_picture(pixels, kind, views=True).hashes
    assert views.shape == (len(VIEWS), KINDS[kind])
    turned = [
        np.ascontiguousarray(np.rot90(np.fliplr(pixels) if "mirrored" in name else pixels, turns))
        for name, turns in zip(VIEWS, [0, 1, 2, 3] * 2, strict=True)
    ]
    assert all(("turned" in name) == (turns > 0) for name, turns in zip(VIEWS, [0, 1, 2, 3] * 2, strict=True))
    for view, picture in zip(views, turned, strict=True):
        apart = distance(views, hash_picture(picture, kind).hashes)
        assert distance(view, hash_picture(picture, kind).hashes[0]) <= RADII[kind]
        assert (apart <= RADII[kind]).sum() == 1  # and no other view is like it
    assert (views[0] == hash_picture(pixels, kind).hashes[0]).all()


def test_inverses_lead_back() -> None:
    numbers = np.arange(6).reshape(2, 3)

    def lay(array: np.ndarray, view: int) -> np.ndarray:
        return np.rot90(np.fliplr(array) if view >= 4 else array, view % 4)

    for view, back in enumerate(INVERSES):
        assert (lay(lay(numbers, view), back) == numbers).all()


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_near_and_others_far(kind: str, astronaut: RGB) -> None:
    if kind == "pdq":
        pytest.importorskip("pdqhash")
    stream = io.BytesIO()
    Image.fromarray(astronaut).resize((200, 200)).save(stream, "JPEG", quality=50)
    copy = np.asarray(Image.open(stream).convert("RGB"))
    own = hash_picture(astronaut, kind).hashes[0]
    assert distance(own, hash_picture(copy, kind).hashes[0]) <= RADII[kind]
    other = hash_picture(np.asarray(skimage.data.chelsea()), kind).hashes[0]
    assert distance(own, other) > 3 * RADII[kind]  # about half of the bits


def test_flat_pictures_are_told_apart(astronaut: RGB) -> None:
    rng = np.random.default_rng(0)
    grey = np.full((120, 120, 3), 140, np.uint8)
    flat = [grey, grey // 2, _gradient(0, 255), _gradient(250, 20), np.ascontiguousarray(np.rot90(_gradient(0, 255)))]
    flat += [(grey + rng.normal(0, 3, grey.shape)).astype(np.uint8)]  # a lens cap
    halves = grey.copy()
    halves[:60] = 20
    assert all(hash_picture(picture).flat for picture in [*flat, halves])
    dim = (astronaut.astype(np.float32) * 0.15 + 100).astype(np.uint8)
    assert not any(hash_picture(picture).flat for picture in (astronaut, dim))
    # Why it matters: different ones share a hash.
    assert (hash_picture(flat[0]).hashes == hash_picture(flat[1]).hashes).all()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_text_and_back(kind: str, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=KINDS[kind], max_size=KINDS[kind]))
    words = np.array(numbers, np.uint64)
    text = to_hex(words)
    assert len(text) == 16 * KINDS[kind]
    assert (from_hex([text], kind)[0] == words).all()
    assert int(text, 16) == int("".join(f"{n:064b}" for n in numbers), 2)


def test_leading_zeros_are_kept() -> None:
    assert to_hex(np.array([5], np.uint64)) == "0000000000000005"
    assert from_hex(["0000000000000005"], "phash")[0, 0] == 5
    assert from_hex([], "pdq").shape == (0, 4)


@pytest.mark.parametrize(
    "text", ["5", "0x00000000000005", "+000000000000005", "00000000000 0005", "0" * 17, "g" * 16, ""]
)
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a phash: it needs 16 hexadecimal digits"):
        from_hex([text], "phash")


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_distance_counts_bits(one: int, other: int) -> None:
    first, second = np.array([one, one], np.uint64), np.array([other, one], np.uint64)
    assert int(distance(first, second)) == bin(one ^ other).count("1")
    assert list(hashing._ONES[first.view(np.uint16)].reshape(2, 4).sum(1)) == [bin(one).count("1")] * 2  # numpy 1


def test_distance_of_pdq_reaches_256() -> None:
    assert int(distance(np.zeros(4, np.uint64), ~np.zeros(4, np.uint64))) == 256


def test_wrong_pictures_and_names_are_refused(astronaut: RGB) -> None:
    with pytest.raises(UsageError, match="did you mean 'phash'"):
        hash_picture(astronaut, "fhash")
    for pixels in (astronaut[:, :, 0], astronaut.astype(np.float32), astronaut[:0]):
        with pytest.raises(UsageError, match="pixels must be uint8"):
            hash_picture(pixels)
