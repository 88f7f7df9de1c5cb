"""Random lives for training."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.augment import random_chain
from faceproof.perturb import View


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_random_chain_is_a_function_of_the_seed(seed: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (120, 100, 3), dtype=np.uint8)
    landmarks = np.array([[40, 40], [60, 40], [50, 55], [42, 70], [58, 70]], np.float32)
    one, two = (random_chain(View(picture, landmarks), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.pixels.dtype == np.uint8
    assert one.pixels.ndim == 3
    assert one.landmarks is not None
    assert one.landmarks.dtype == np.float32
    np.testing.assert_array_equal(one.landmarks, two.landmarks)
