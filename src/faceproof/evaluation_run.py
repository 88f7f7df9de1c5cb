"""A whole evaluation: score, freeze, measure, probe, and write tables; stopped, it goes on where it was.

OUT/scores/*.csv    scores, one file a contender, split and chain: what a later run does not do again
OUT/scores.csv      all of them in one table
OUT/figures.csv     every figure; probes.csv and gaps.csv: those of the audits
OUT/missing.csv     pictures without a score, with the reason
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faceproof import audits
from faceproof.contenders import Frozen, Spec, freeze
from faceproof.datasets import Sample
from faceproof.errors import OutputError, UsageError
from faceproof.evaluation import Scores, from_readings, read_scores
from faceproof.figures import COLUMNS, Figure, differences, measure, since_plain
from faceproof.leftout import left_out
from faceproof.score_cache import Round, data_digest, load_round, save_round
from faceproof.scoring import Reading, Task, check_chains, readings
from faceproof.splits import check_split
from faceproof.tables import provenance, well_formed, write_table

__all__ = ["ROBUSTNESS", "Outcome", "Plan", "evaluate", "thin"]

ROBUSTNESS = (
    "none", "avatar", "platform", "repost", "level", "screenshot",
    "jpeg:95", "jpeg:75", "jpeg:62", "jpeg:50", "jpeg:30", "webp:75", "webp:50", "thumb:128", "thumb:96", "thumb:64",
    "blur:0.5", "blur:1", "blur:2", "noise:4", "noise:8",
)  # fmt: skip
"""Chains of the robustness grid."""
SHEETS = {"probes.csv": ("probe", "floor"), "gaps.csv": ("gap by age", "gap by sex", "gap by ethnicity")}
"""Table -> the kinds of figures that it holds beside figures.csv."""


@dataclass(frozen=True)
class Plan:
    """What to evaluate.

    Attributes:
        specs: the contenders, in the order of tables and differences.
        samples: of all splits.
        out: folder for results.
        splits: what to measure on.
        chains: what to do to pictures first.
        freeze_on: split on which contenders without a card get threshold and calibration.
        probes, gaps: whether to run the audits.
        gap_splits: more splits whose photographs with stated age, sex or ethnicity count for gaps.
        score_files: tables of leave-out scores to report too.
        workers: processes; None takes one per core.
        rounds: of every bootstrap.
    """

    specs: tuple[Spec, ...]
    samples: tuple[Sample, ...]
    out: Path
    splits: tuple[str, ...] = ("val",)
    chains: tuple[str, ...] = ("none",)
    freeze_on: str = "val"
    probes: bool = False
    gaps: bool = False
    gap_splits: tuple[str, ...] = ()
    score_files: tuple[Path, ...] = ()
    workers: int | None = None
    rounds: int = 1000


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        plan: what was asked for.
        figures: every figure.
        scores: (contender, split, chain) -> scores.
        frozen: contender -> what was fixed before.
        missing: rows of missing.csv: contender or "" for all, split, chain, path, label, status, reason.
        provenance: command, commit, hardware, data, one line.
    """

    plan: Plan
    figures: tuple[Figure, ...]
    scores: Mapping[tuple[str, str, str], Scores]
    frozen: Mapping[str, Frozen]
    missing: tuple[tuple[str, ...], ...]
    provenance: str

    @property
    def unreadable(self) -> int:
        """How many different pictures could not be read."""
        return len({row[3] for row in self.missing if row[5] == "unreadable"})


@dataclass
class _State:
    """Readings as they come: (split, chain, contender or "") -> readings."""

    plan: Plan
    done: dict[tuple[str, str, str], list[Reading]] = field(default_factory=dict)
    rounds: dict[tuple[str, str], Round] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.plan.out / "scores"


def thin(samples: Iterable[Sample], count: int) -> list[Sample]:
    """Return at most `count` pictures of each split and class, taken evenly from all generators and sources."""
    strata: dict[tuple[str, int, str], list[Sample]] = {}
    for sample in samples:
        strata.setdefault((sample.split, sample.label, sample.stratum), []).append(sample)
    kept: list[Sample] = []
    for split, label in sorted({key[:2] for key in strata}):
        parts = [part for key, part in strata.items() if key[:2] == (split, label)]
        turns = [part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part)]
        kept += turns[:count]
    return kept


def evaluate(plan: Plan, progress: Callable[[int, int, str], None] = lambda done, total, text: None) -> Outcome:
    """Carry out a plan and write its tables.

    Args:
        plan: what to do.
        progress: called with pictures done, pictures to do, and what is being done.

    Raises:
        UsageError: a split is empty or holds one class, a chain is not known, a contender scores nothing.
        ModelError: a contender cannot be made.
        OutputError: results cannot be written.
    """
    check_chains(plan.chains)
    state = _State(plan)
    try:
        state.folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"cannot make the folder {state.folder} ({err.strerror or err}); choose another --out"
        ) from err
    wanted = _rounds(plan)
    _score(state, wanted, progress)
    scores = _collect(state, wanted)
    frozen = {spec.name: _frozen(spec, scores, plan.freeze_on) for spec in plan.specs}
    figures = _figures(plan, scores, frozen, progress)
    if plan.probes:
        figures += _probes(state, scores)
    if plan.gaps:
        figures += _gaps(plan, scores, frozen)
    figures += _left_out(plan)
    outcome = Outcome(plan, tuple(figures), scores, frozen, _missing(scores), provenance(data_digest(plan.samples)))
    _write(outcome)
    return outcome


# ---- which pictures, which chains


def _rounds(plan: Plan) -> list[tuple[Round, tuple[Spec, ...]]]:
    """Every pass over pictures, with the contenders that take part; no contender: file facts only."""
    if not plan.specs:
        return []
    found: dict[tuple[str, str], tuple[Round, tuple[Spec, ...]]] = {}

    def add(split: str, chain: str, samples: Sequence[Sample], specs: Sequence[Spec]) -> None:
        turn, before = found.get((split, chain)) or (Round(split, chain, tuple(samples)), ())
        found[split, chain] = turn, (*before, *(spec for spec in specs if spec not in before))

    peers = [spec for spec in plan.specs if spec.frozen is None]
    if peers:
        add(plan.freeze_on, "none", check_split(plan.samples, plan.freeze_on), peers)
    for split in plan.splits:
        chosen = check_split(plan.samples, split)
        # The plain pictures always: chains are compared with them.
        for chain in dict.fromkeys(["none", *plan.chains, *(["level"] if plan.probes else [])]):
            add(split, chain, chosen, plan.specs)
    if plan.probes and _training(plan):
        add("train", "none", _training(plan), ())
    for split in plan.gap_splits if plan.gaps else ():
        if (split, "none") not in found or not found[split, "none"][1]:
            stated = [s for s in plan.samples if s.split == split and not s.label and any(audits.groups_of(s).values())]
            add(f"{split} (stated age, sex, ethnicity)", "none", stated, plan.specs)
    return list(found.values())


def _training(plan: Plan) -> list[Sample]:
    """Pictures to fit the probes on: `train`, where it has both classes and is not what is measured."""
    chosen = [sample for sample in plan.samples if sample.split == "train"]
    return chosen if "train" not in plan.splits and len({sample.label for sample in chosen}) == 2 else []


def _score(
    state: _State, wanted: Sequence[tuple[Round, tuple[Spec, ...]]], progress: Callable[[int, int, str], None]
) -> None:
    """Do every pass that no earlier run has done, in one stream, so that workers never wait between passes."""
    open_rounds: list[tuple[Round, tuple[Spec | None, ...]]] = []
    for turn, specs in wanted:
        state.rounds[turn.split, turn.chain] = turn
        parts: list[Spec | None] = list(specs) or [None]
        for spec in list(parts):
            known = load_round(state.folder, turn, spec)
            if known is not None:
                state.done[turn.split, turn.chain, spec.name if spec else ""] = known
                parts.remove(spec)
        if parts:
            open_rounds.append((turn, tuple(parts)))
    total = sum(len(turn.samples) for turn, _ in open_rounds)
    if not total:
        return
    specs_in_use = [s for s in state.plan.specs if any(s in parts for _, parts in open_rounds)]
    stream = readings(_tasks(open_rounds), specs_in_use, workers=state.plan.workers)
    done = 0
    for turn, missing in open_rounds:
        found: list[Reading] = []
        for _ in turn.samples:
            found.append(next(stream))
            done += 1
            progress(done, total, f"{turn.split}, {turn.chain}")
        for spec in missing:
            save_round(state.folder, turn, spec, found)
            state.done[turn.split, turn.chain, spec.name if spec else ""] = found
    next(stream, None)  # lets the stream end, and its workers with it


def _tasks(rounds: Sequence[tuple[Round, tuple[Spec | None, ...]]]) -> Iterator[Task]:
    for turn, parts in rounds:
        names = tuple(spec.name for spec in parts if spec)
        for number, sample in enumerate(turn.samples):
            yield Task(sample.path, turn.chain, number, names)


def _collect(state: _State, wanted: Sequence[tuple[Round, tuple[Spec, ...]]]) -> dict[tuple[str, str, str], Scores]:
    return {
        (spec.name, turn.split, turn.chain): from_readings(
            turn.samples, state.done[turn.split, turn.chain, spec.name], spec.name
        )
        for turn, specs in wanted
        for spec in specs
    }


# ---- figures


def _frozen(spec: Spec, scores: Mapping[tuple[str, str, str], Scores], split: str) -> Frozen:
    if spec.frozen is not None:
        return spec.frozen
    found = scores[spec.name, split, "none"]
    if not found.judged.any():
        reason = next((m.reason for m in found.missing if m.reason), "no face passes quality")
        raise UsageError(f"{spec.name} has no score on split {split!r} ({reason}); mend its adapter")
    return freeze(found.label[found.judged], found.score[found.judged], f"split {split!r}")


def _figures(
    plan: Plan,
    scores: Mapping[tuple[str, str, str], Scores],
    frozen: Mapping[str, Frozen],
    progress: Callable[[int, int, str], None],
) -> list[Figure]:
    figures: list[Figure] = []
    turns = [(s, c) for s in plan.splits for c in dict.fromkeys(["none", *plan.chains])] if plan.specs else []
    for number, (split, chain) in enumerate(turns):
        progress(number, len(turns), f"figures, {split}, {chain}")
        side_by_side = {spec.name: scores[spec.name, split, chain] for spec in plan.specs}
        for name, found in side_by_side.items():
            figures += measure(name, found, frozen[name], split, chain, rounds=plan.rounds)
            if chain != "none":
                plain = scores[name, split, "none"]
                figures += since_plain(name, plain, found, split, chain, rounds=plan.rounds)
        figures += differences(side_by_side, split, chain, rounds=plan.rounds)
    return figures


def _probes(state: _State, scores: Mapping[tuple[str, str, str], Scores]) -> list[Figure]:
    plan, figures = state.plan, []
    training = None
    if _training(plan):
        turn = state.rounds["train", "none"]
        facts = [reading.facts for reading in state.done["train", "none", ""]]
        whole = [i for i, fact in enumerate(facts) if math.isfinite(fact.face_share)]
        training = [facts[i] for i in whole], [turn.samples[i] for i in whole]
    for split in plan.splits:
        first = scores[plan.specs[0].name, split, "none"]
        figures += audits.fact_probes(split, first.facts, first.samples, training, rounds=plan.rounds)
        for spec in plan.specs:
            plain, level = scores[spec.name, split, "none"], scores[spec.name, split, "level"]
            figures += audits.score_probes(spec.name, split, plain, level, rounds=plan.rounds)
            figures += audits.source_floor(spec.name, split, plain, rounds=plan.rounds)
    return figures


def _gaps(plan: Plan, scores: Mapping[tuple[str, str, str], Scores], frozen: Mapping[str, Frozen]) -> list[Figure]:
    figures: list[Figure] = []
    for (name, split, chain), found in scores.items():
        if chain == "none" and (split in plan.splits or split.endswith("(stated age, sex, ethnicity)")):
            limits = audits.thresholds(found, frozen[name])
            figures += audits.gaps(name, split, found, limits, rounds=plan.rounds)
    people = {"/".join(s.path.parts[-3:]): s for s in plan.samples if any(audits.groups_of(s).values())}
    for path in plan.score_files:
        found = read_scores(path)
        if found.fold:
            known = [s.path.as_posix() in people for s in found.samples]
            stated = tuple(people.get(s.path.as_posix(), s) for s in found.samples)
            limits = {rate: values[known] for rate, values in audits.fold_thresholds(found).items()}
            part = Scores(stated, found.score, found.judged, 0, fold=found.fold, threshold=found.threshold).take(known)
            figures += audits.gaps(path.stem, "out of fold", part, limits, rounds=plan.rounds)
    if not figures:
        raise UsageError("--gaps: no photograph of these splits states an age, sex or ethnicity; leave --gaps out")
    return figures


def _left_out(plan: Plan) -> list[Figure]:
    return [
        figure for path in plan.score_files for figure in left_out(path.stem, read_scores(path), rounds=plan.rounds)
    ]


# ---- files


def _missing(scores: Mapping[tuple[str, str, str], Scores]) -> tuple[tuple[str, ...], ...]:
    """Rows of missing.csv; what concerns the picture and not the contender is said once."""
    rows: dict[tuple[str, ...], None] = {}
    for (name, split, chain), found in scores.items():
        for m in found.missing:
            who = name if m.status == "failed" else ""
            word = "generated" if m.sample.label else "photograph"
            path = well_formed(str(m.sample.path))
            rows[who, split, chain, path, word, m.status, m.reason] = None
    return tuple(rows)


def _write(outcome: Outcome) -> None:
    plan, said = outcome.plan, outcome.provenance
    write_table(plan.out / "figures.csv", said, COLUMNS, [_row(figure) for figure in outcome.figures])
    for name, kinds in SHEETS.items():
        rows = [_row(figure) for figure in outcome.figures if figure.kind in kinds]
        if rows:
            write_table(plan.out / name, said, COLUMNS, rows)
    columns = ("contender", "split", "chain", "path", "label", "status", "reason")
    write_table(plan.out / "missing.csv", said, columns, outcome.missing)
    names = ("contender", "split", "chain", "path", "label", "generator", "source", "group", "judged", "score")
    write_table(plan.out / "scores.csv", said, names, _score_rows(outcome.scores))


def _row(figure: Figure) -> list[str]:
    """Floats with six digits, what is not known empty."""
    return [
        ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else str(value)
        for value in figure.row()
    ]


def _score_rows(scores: Mapping[tuple[str, str, str], Scores]) -> Iterator[tuple[object, ...]]:
    for key, found in scores.items():
        for sample, judged, score in zip(found.samples, found.judged, found.score, strict=True):
            name = well_formed("/".join(sample.path.parts[-3:]))
            yield (
                *key, name, sample.label, sample.generator, sample.source, sample.group, int(judged), f"{score:.5f}",
            )  # fmt: skip
