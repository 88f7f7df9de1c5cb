"""Random lives of pictures, for training: the steps of `chains`, drawn.

Both classes are sent through the same lives, and a life hides how large the picture was and how it was
saved last; a detector could otherwise tell the classes by these (DATA.md: size alone gives AUC 0.79).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from faceproof.chains import Chain, parse_chain
from faceproof.perturb import KERNELS, Rng, View, crop, resize

__all__ = ["gentle_chain", "random_chain"]


@dataclass(frozen=True)
class _Weighted:
    """Chains drawn in proportion to weights."""

    chains: tuple[Chain, ...]
    ends: tuple[float, ...]

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> _Weighted:
        return cls(tuple(map(parse_chain, weights)), tuple(accumulate(weights.values())))

    def draw(self, rng: Rng) -> Chain:
        return self.chains[bisect(self.ends, rng.random() * self.ends[-1], hi=len(self.ends) - 1)]


_CODEC = {"webp:45-95": 0.15, "jpeg:40-96:444": 0.25, "jpeg:40-96:420": 0.6}
_ANYWHERE = {
    "noise:1-5": 20, "jpeg:40-96:any": 20, "webp:45-95": 3, "tone:3-10": 5, "grey": 3, "blur:1.2-2.5": 3,
}  # fmt: skip
_EARLY = _Weighted.of({**_ANYWHERE, "blur:0.3-1.2": 20, "scale:0.5-1.2:any": 20, "screenshot:0.6-1.4": 10})
_LATE = _Weighted.of({**_ANYWHERE, "blur:0.3-1.2": 20, "rescale:0.5-0.95:any": 20})
_LAST = _Weighted.of(_CODEC)
_SHIFT = parse_chain("shift:1-7")

_MORE_STEPS = (0.45, 0.8)
"""Below the first no step beside size and codec, up to the second one, else two."""
_SMALLEST, _LARGEST = 96, 320
"""The longer side at the end, in pixels."""
_KEPT = 0.25
"""Share of pictures that are not resized to it, of those that lie in that range already."""
_MOST_ENLARGED = 4.0
"""Small cuts grow no further; a lower bound would show in the final size."""


_GENTLE_CODEC = _Weighted.of({"webp:70-98": 0.15, "jpeg:70-98:444": 0.25, "jpeg:70-98:420": 0.6})
_GENTLE_SMALLEST, _GENTLE_LARGEST = 160, 640


def random_chain(view: View, rng: Rng) -> View:
    """Send a picture through a random life of one to five steps, for training.

    A tight cut around the face (35 %); up to two of blur, noise, JPEG, WebP, resizes, a screenshot, and
    rarely a stronger blur, tone or black and white, before or after the picture gets its final size;
    and in the end up to two codecs, the second half of the time on a shifted grid. The cut and the shift
    are not counted; the size is, also where it happens to be the picture's own.

    The final size is drawn from one distribution whatever the picture's own, and the last codec and
    quality too. How much detail a small picture has left cannot be hidden that way.
    """
    if view.landmarks is not None and rng.random() < 0.35:
        view = _tight(view, view.landmarks, rng)
    late = 0
    for _ in range(bisect(_MORE_STEPS, rng.random())):
        if rng.random() < 0.5:
            view = _EARLY.draw(rng)(view, rng)
        else:
            late += 1
    view = _final_size(view, rng, _SMALLEST, _LARGEST)
    for _ in range(late):
        view = _LATE.draw(rng)(view, rng)
    for turn in range(1 + int(rng.random() < 0.35)):
        if rng.random() < 0.9:
            if turn and rng.random() < 0.5:
                view = _SHIFT(view, rng)
            view = _LAST.draw(rng)(view, rng)
    return view


def gentle_chain(view: View, rng: Rng) -> View:
    """Half the time `random_chain`, else a life that leaves the fine detail: a new size and at most one mild codec.

    The longer side is drawn log-uniformly from 160 to 640 pixels whatever the picture's own, as in `random_chain`,
    so that size tells nothing here either.
    """
    if rng.random() < 0.5:
        return random_chain(view, rng)
    if view.landmarks is not None and rng.random() < 0.35:
        view = _tight(view, view.landmarks, rng)
    view = _final_size(view, rng, _GENTLE_SMALLEST, _GENTLE_LARGEST)
    return _GENTLE_CODEC.draw(rng)(view, rng) if rng.random() < 0.7 else view


def _tight(view: View, landmarks: npt.NDArray[np.float32], rng: Rng) -> View:
    """Cut around the face, from a passport picture's frame to one that loses hair and ears."""
    middle = landmarks.mean(0)
    eyes = float(np.hypot(*(landmarks[1] - landmarks[0])))
    half = np.maximum(eyes * rng.uniform(1.15, 2.2), 16) * rng.uniform(0.92, 1.08, 4)
    x0, y0 = middle - half[:2]
    x1, y1 = middle + half[2:]
    return crop(view, int(x0), int(y0), int(x1), int(y1))


def _final_size(view: View, rng: Rng, smallest: int, largest: int) -> View:
    """Give the longer side a size drawn log-uniformly from `smallest` to `largest` pixels.

    A quarter of the pictures in that range keep their own pixels: those for which the drawn size fell into
    the quarter of the distribution about their own. Keeping a quarter regardless of the draw would make
    the final size say what the first was.
    """
    longer = max(view.pixels.shape[:2])
    spread = np.log(largest / smallest)
    drawn = rng.random()
    own = np.log(longer / smallest) / spread
    start = min(max(own - _KEPT / 2, 0), 1 - _KEPT)
    if 0 <= own <= 1 and start <= drawn < start + _KEPT:
        return view
    target = round(smallest * float(np.exp(drawn * spread)))
    kernel = KERNELS[1 + int(rng.integers(len(KERNELS) - 1))]
    return resize(view, min(target, max(1, round(longer * _MOST_ENLARGED))), kernel)
