"""Splits that do not leak: groups stay whole, and a generator or a source can be left out entirely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from faceproof.datasets import Sample
from faceproof.errors import UsageError

__all__ = ["Fold", "check_split", "leave_out", "left_out_folds"]


def check_split(samples: Sequence[Sample], split: str) -> list[Sample]:
    """Return the pictures of one split, which must hold both classes.

    Raises:
        UsageError: the split is empty or holds one class.
    """
    chosen = [sample for sample in samples if sample.split == split]
    if not chosen:
        known = sorted({sample.split for sample in samples})
        raise UsageError(f"split {split!r} is empty; the data has: {', '.join(known) or 'no pictures at all'}")
    if len({sample.label for sample in chosen}) == 1:
        only = "generated pictures" if chosen[0].label else "photographs"
        raise UsageError(f"split {split!r} holds {only} only; both classes are needed")
    return chosen


@dataclass(frozen=True)
class Fold:
    """One leave-out run.

    Attributes:
        generators: generators absent from `fit`, and all generated pictures of `held`.
        sources: sources of photographs absent from `fit`, and all photographs of `held`.
        fit, held: the two parts; no group lies in both.
    """

    generators: tuple[str, ...]
    sources: tuple[str, ...]
    fit: tuple[Sample, ...]
    held: tuple[Sample, ...]

    @property
    def name(self) -> str:
        """The generators and sources left out, readable."""
        return f"without {', '.join(self.generators)}; photographs of {', '.join(self.sources)}"


def leave_out(samples: Iterable[Sample], generators: Iterable[str], sources: Iterable[str]) -> Fold:
    """Hold back every picture of some generators and some photograph sources; fit on the rest.

    A held-back picture takes its whole group with it.

    Raises:
        UsageError: a name is not in the data, or a part lacks a class.
    """
    everything = list(samples)
    generators, sources = tuple(generators), tuple(sources)
    known = {s.generator for s in everything if s.label}, {s.source for s in everything if not s.label}
    for what, names, there in (("generator", generators, known[0]), ("source", sources, known[1])):
        for name in names:
            if name not in there:
                raise UsageError(f"no {what} {name!r} in the data; it has: {', '.join(sorted(there))}")
    held = [s for s in everything if (s.generator in generators if s.label else s.source in sources)]
    groups = {s.group for s in held}
    fit = [s for s in everything if s.group not in groups]
    for part, what in ((fit, "is left to fit on"), (held, "is held back")):
        if len({s.label for s in part}) < 2:
            raise UsageError(
                f"leaving out {', '.join((*generators, *sources))}: only one class {what}; "
                "leave out at least one generator and one source, and not all of either"
            )
    return Fold(generators, sources, tuple(fit), tuple(held))


def left_out_folds(
    samples: Sequence[Sample], count: int | None = None, *, only: Sequence[str] | None = None
) -> Iterator[Fold]:
    """Yield folds so that every generator and every source of photographs is left out exactly once.

    One run leaves out one generator (or a share of them, if `count` is smaller than their number) and
    a share of the sources together: each held-back score then comes from a network that knows neither
    that generator nor that photographer, at the price of one training a fold.

    Args:
        samples: what may be fitted on.
        count: folds, at least 2; default: the number of generators.
        only: generators to leave out, the others are always fitted on; default: all.

    Raises:
        UsageError: there are not so many generators or sources, or one named in `only` is not there.
    """
    sizes: dict[str, int] = {}
    for sample in samples:
        if not sample.label:
            sizes[sample.source] = sizes.get(sample.source, 0) + 1
    generators = sorted({s.generator for s in samples if s.label})
    for name in only or ():
        if name not in generators:
            raise UsageError(f"no generator {name!r} in the data; it has: {', '.join(generators)}")
    generators = list(dict.fromkeys(only)) if only else generators
    folds = len(generators) if count is None else count
    if not 2 <= folds <= min(len(generators), len(sizes)):
        raise UsageError(
            f"{folds} leave-out folds cannot be made of {len(generators)} generators and {len(sizes)} sources of "
            "photographs; give a number from 2 to the smaller of the two"
        )
    parts: list[list[str]] = [[] for _ in range(folds)]
    load = [0] * folds
    for source in sorted(sizes, key=lambda name: (-sizes[name], name)):  # largest first, to the emptiest fold
        fold = min(range(folds), key=lambda k: (load[k], k))
        parts[fold].append(source)
        load[fold] += sizes[source]
    for fold in range(folds):
        yield leave_out(samples, generators[fold::folds], parts[fold])
