"""Chains: the language, the named ones, determinism, landmarks, odd pictures."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import UsageError, chains
from faceproof.chains import CHAINS, MOST_STEPS, STEPS, apply_chain, parse_chain
from faceproof.images import RGB
from faceproof.perturb import View, blur, jpeg, noise, resize, thumbnail, webp
from tests.helpers import brightest_near, spot

DOCS = Path(__file__).resolve().parents[1] / "docs" / "perturbations.md"
RANDOM = ["noise:4", "noise:1-5", "screenshot", "platform", "tone:20", "repost", "random:1", "random:3", "random:5"]


def _digest(pixels: RGB) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _psnr(a: RGB, b: RGB) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-6)))


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_named_chains(name: str, astronaut: RGB) -> None:
    once, again = apply_chain(astronaut, name, seed=3), apply_chain(astronaut, name, seed=3)
    np.testing.assert_array_equal(once, again)
    assert once.dtype == np.uint8
    assert (name == "none") == (once.shape == astronaut.shape and bool((once == astronaut).all()))


def test_names_that_results_use_mean_what_they_meant(astronaut: RGB) -> None:
    """The shipped tables were measured with these (results/*-chains.csv)."""
    view = View(astronaut)
    meant = {
        "none": view,
        "avatar": jpeg(jpeg(thumbnail(view, 400), 75), 70),
        "jpeg50": jpeg(view, 50),
        "thumb128": thumbnail(view, 128),
        "blur1": blur(view, 1.0),
        "webp75": webp(view, 75),
        "level": jpeg(resize(view, 128), 75),
        "noise4": noise(view, 4.0, np.random.default_rng(7)),
    }
    for name, expected in meant.items():
        np.testing.assert_array_equal(apply_chain(astronaut, name, seed=7), expected.pixels, err_msg=name)


def test_double_jpeg_equals_pillow(astronaut: RGB) -> None:
    theirs = astronaut
    for cut in (0, 3):
        stream = io.BytesIO()
        Image.fromarray(theirs[cut:, cut:]).save(stream, "JPEG", quality=75, subsampling="4:2:0")
        theirs = np.asarray(Image.open(stream).convert("RGB"))
    ours = apply_chain(astronaut, "jpeg75x2-shifted")
    assert _psnr(ours, theirs) > _psnr(ours, astronaut[3:, 3:]) + 4


def test_sequences_are_their_steps_in_order(astronaut: RGB) -> None:
    by_hand = apply_chain(apply_chain(astronaut, "resize:200:lanczos"), "jpeg:62:444")
    np.testing.assert_array_equal(apply_chain(astronaut, "resize:200:lanczos+jpeg:62:444"), by_hand)
    np.testing.assert_array_equal(apply_chain(astronaut, "avatar"), apply_chain(astronaut, CHAINS["avatar"]))
    np.testing.assert_array_equal(apply_chain(astronaut, "none+jpeg:75+none"), apply_chain(astronaut, "jpeg75"))


def test_ranges_are_drawn_evenly_with_both_ends() -> None:
    picture = np.zeros((20, 20, 3), np.uint8)
    sizes = [apply_chain(picture, "resize:20-24", seed=seed).shape[0] for seed in range(500)]
    counts = np.bincount(sizes)[20:]
    assert len(counts) == 5
    # Chi-square with 4 degrees of freedom: 18.5 is exceeded once in a thousand.
    assert ((counts - 100) ** 2 / 100).sum() < 18.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("avatr", "unknown chain or step 'avatr'; did you mean 'avatar'"),
        ("jpg:75", "did you mean 'jpeg'"),
        ("jpeg:75+thump:64", "unknown chain or step 'thump'; did you mean 'thumb'"),
        ("jpeg", r"has 0 value\(s\); write e\.g\. 'jpeg:75:444'"),
        ("jpeg:0", "quality 0 is outside 1 to 100"),
        ("jpeg:101", "quality 101 is outside 1 to 100"),
        ("jpeg:60-200", "quality 60-200 is outside 1 to 100"),
        ("jpeg:85-60", "the range 85-60 runs backwards; write 60-85"),
        ("jpeg:75.5", "quality '75.5' is not a whole number or a range"),
        ("jpeg:-5", "quality '-5' is not a whole number"),
        ("jpeg:75:430", "unknown chroma subsampling '430'; did you mean '4"),
        ("jpeg:75:420:1", r"has 3 value\(s\)"),
        ("resize:200:lancos", "unknown kernel 'lancos'; did you mean 'lanczos'"),
        ("thumb:15", "longer side in pixels 15 is outside 16 to 8192"),
        ("thumb:8193", "outside 16 to 8192"),
        ("blur:nan", "sigma in pixels 'nan' is not a number"),
        ("blur:1e3", "is not a number"),
        ("blur:" + "9" * 200, "is outside 0.1 to 20"),
        ("random:6", "steps 6 is outside 1 to 5"),
        ("grey:3", r"has 1 value\(s\); write e\.g\. 'grey'"),
        ("", "needs 1 to 300 characters, got 0"),
        ("jpeg:75+", "unknown chain or step ''"),
        ("+".join(["jpeg:75"] * 9), "has 9 steps; at most 8"),
        ("random:5+random:1-4", "has 9 steps"),
        ("repost+jpeg:75+jpeg:75", "has 9 steps"),
        ("jpeg:75+" * 90, "got 720"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_chain(text)


@pytest.mark.parametrize("bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)])
def test_pixels_of_another_kind_are_refused(bad: RGB) -> None:
    with pytest.raises(UsageError, match=r"needs \(H, W, 3\) uint8 RGB pixels, got \(\d"):
        apply_chain(bad, "none")


def test_every_example_is_valid() -> None:
    for name, step in STEPS.items():
        assert step.example.split(":")[0] == name
        parse_chain(step.example)
    assert all(name == "none" or parse_chain(text) for name, text in CHAINS.items())


def test_limits_are_allowed() -> None:
    picture = np.full((20, 30, 3), 90, np.uint8)
    for name, step in STEPS.items():
        if step.number and name != "resize":
            for end in (step.number.low, step.number.high):
                assert apply_chain(picture, f"{name}:{end:g}").size
    assert apply_chain(picture, "resize:16").shape == (11, 16, 3)
    assert apply_chain(picture, "+".join(["jpeg:50"] * MOST_STEPS)).shape == picture.shape


@pytest.mark.parametrize("name", RANDOM)
def test_seeds_decide(name: str, astronaut: RGB) -> None:
    small = astronaut[:160, 150:300]
    digests = [_digest(apply_chain(small, name, seed=seed)) for seed in (0, 0, 1, 2, 3, 4)]
    assert digests[0] == digests[1]
    assert len(set(digests)) > 3


def test_a_fresh_process_draws_the_same(astronaut: RGB) -> None:
    """Under another hash seed, too: no set or dict order takes part."""
    small = astronaut[:160, 150:300]
    names = [*RANDOM, "repost+tone:5"]
    code = (
        "import sys, hashlib, skimage.data; from faceproof.chains import apply_chain\n"
        "small = skimage.data.astronaut()[:160, 150:300]\n"
        "for name in sys.argv[1:]:\n"
        "    p = apply_chain(small, name, seed=11)\n"
        "    print(hashlib.sha256(repr(p.shape).encode() + p.tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == [_digest(apply_chain(small, name, seed=11)) for name in names]


def test_random_runs_exactly_so_many_different_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def counting(number: int) -> chains.Chain:
        return lambda view, rng: (ran.append(number), view)[1]

    monkeypatch.setattr(chains, "_MEASURED", tuple(counting(i) for i in range(9)))
    met = set()
    for count in range(1, 6):
        for seed in range(40):
            ran.clear()
            apply_chain(np.zeros((4, 4, 3), np.uint8), f"random:{count}", seed=seed)
            assert len(ran) == len(set(ran)) == count
            met.update(ran)
    assert met == set(range(9))


@pytest.mark.parametrize(
    "name", [*sorted(set(CHAINS) - {"none"}), *(s.example for s in STEPS.values()), "random:5", "scale:1.9:cubic"]
)
def test_a_bright_spot_stays_on_its_landmark(name: str) -> None:
    """Painted before, found after, for each of the five landmarks; a pixel is the tolerance."""
    chain = parse_chain(name)
    for index in range(5):
        view = chain(spot(256, index), np.random.default_rng(index))
        assert view.landmarks is not None
        error = np.abs(brightest_near(view, index) - view.landmarks[index]).max()
        assert error < 1.0, f"landmark {index}: {error:.2f} px"


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (1, 3000), (3000, 2), (7, 1)])
def test_odd_pictures_go_through_everything(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for name in [*CHAINS, *(step.example for step in STEPS.values()), "random:5"]:
        result = apply_chain(picture, name, seed=1)
        assert result.dtype == np.uint8
        assert result.shape[2] == 3
        assert min(result.shape) >= 1


def test_the_docs_show_every_chain_and_step() -> None:
    if not DOCS.parent.is_dir():
        pytest.skip("docs/ is not part of the source distribution")
    text = DOCS.read_text(encoding="utf-8")
    for name, steps in CHAINS.items():
        assert f"| `{name}` | {f'`{steps}`' if steps else 'nothing'} |" in text
    for name, step in STEPS.items():
        ends = f"{step.number.meaning}, {step.number.low:g} to {step.number.high:g}" if step.number else ""
        words = f"{', '.join(step.choice.words)} or any" if step.choice else ""
        assert f"| `{name}` | {step.says} | {ends} | {words} | `{step.example}` |" in text
