"""Evaluation: figures against scikit-learn and hand-made tables, pairs, folds, peers, parallel and serial scoring."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import spearmanr

from faceproof import ModelError, UsageError
from faceproof.contenders import Frozen, Spec, distinct_names, freeze, model_spec, peer_spec
from faceproof.curves import Platt
from faceproof.datasets import Sample, read_manifest
from faceproof.detectors.store import DEFAULT_MODEL, load_detector
from faceproof.evaluation import Scores, from_readings, read_scores, report, score_samples, write_scores
from faceproof.faces.detection import RetinaFace
from faceproof.figures import Figure, differences, measure, pick, rank_correlation, since_plain, to_json
from faceproof.images import RGB
from faceproof.leftout import left_out
from faceproof.metrics import bootstrap, spearman, tpr_at_fpr
from faceproof.resampling import group_weights, interval, weighted_auc, weighted_share, weighted_tpr_at_fpr
from faceproof.scoring import Reading, Task, jpeg_quality, readings

PEER = """
class Bright:
    name = "brightness"
    def score(self, pixels, landmarks):
        if pixels.shape[0] == 77:
            raise ValueError("77 rows are too many")
        return float(pixels.mean())
def make():
    return Bright()
def fixed():
    from faceproof.contenders import Frozen
    made = Bright()
    made.frozen = Frozen({0.01: 200.0}, None, 0.01, "its paper")
    return made
def wrong():
    return 7
def broken():
    raise RuntimeError("weights are not here")
"""


def sample(number: int, label: int, *, generator: str = "g", source: str = "s", group: str = "", **more: str) -> Sample:
    name = generator if label else ""
    return Sample(Path(f"a/b/{number}.jpg"), label, name, source, "val", group or f"{number}", "", **more)


def scores_of(rows: list[tuple[int, float, str]], **more: Any) -> Scores:
    """(label, score, generator or source) -> scores."""
    samples = tuple(sample(i, y, generator=name, source=name) for i, (y, _, name) in enumerate(rows))
    return Scores(samples, np.array([s for _, s, _ in rows]), np.ones(len(rows), bool), 0, **more)


def random_scores(seed: int, n: int = 200, *, shift: float = 1.0, groups: int = 10**6) -> Scores:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    s = np.round(rng.normal(0, 1, n) + shift * y, 1)  # rounded: ties
    names = [f"g{rng.integers(groups)}" for _ in range(n)]
    samples = tuple(sample(i, int(y[i]), group=f"{y[i]}{names[i]}") for i in range(n))
    return Scores(samples, s, np.ones(n, bool), 0)


# ---- resampling


@st.composite
def weighted(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 30))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v))))
    s = np.array(draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))) / 4
    w = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.uint16)
    return y, s, np.where((y == y[0]) & (np.arange(n) == 0), w + 1, w).astype(np.uint16)


@given(weighted(), st.sampled_from([0.0, 0.01, 0.2, 1.0]))
def test_weighted_figures_equal_scikit_learn_and_repeats(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], fpr: float
) -> None:
    y, s, w = case
    stacked = np.stack([w, np.ones_like(w)])
    found, rates = weighted_auc(y, s, stacked), weighted_tpr_at_fpr(y, s, stacked, fpr)
    assert found[1] == pytest.approx(sk.roc_auc_score(y, s))
    if w[y == 0].sum() and w[y == 1].sum():
        assert found[0] == pytest.approx(sk.roc_auc_score(y, s, sample_weight=w))
        assert rates[0] == pytest.approx(tpr_at_fpr(np.repeat(y, w), np.repeat(s, w), fpr))
    else:
        assert np.isnan(found[0])
        assert np.isnan(rates[0])


def test_group_weights_are_the_resamples_of_the_plain_bootstrap() -> None:
    scores = random_scores(0, groups=60)
    y, s = scores.label, scores.score
    weights = group_weights(scores.group, strata=y, rounds=50, seed=3)
    plain = bootstrap(lambda i: float(sk.roc_auc_score(y[i], s[i])), scores.group, strata=y, rounds=50, seed=3)
    assert interval(weighted_auc(y, s, weights)) == pytest.approx(plain)
    assert weighted_share(s, weights)[7] == pytest.approx(np.average(s, weights=weights[7]))
    for group in set(scores.group.tolist()):  # a group is drawn whole
        assert (np.ptp(weights[:, scores.group == group], axis=1) == 0).all()


def test_rank_correlation_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 9, 300)
    b = a + rng.integers(0, 9, 300)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    rho, low, high = rank_correlation(a, b)
    assert low < rho < high
    assert np.isnan(spearman(a, np.ones(300)))


# ---- figures


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1, 3))
def test_report_equals_scikit_learn(seed: int, shift: float) -> None:
    scores = random_scores(seed, shift=shift)
    y, s, platt = scores.label, scores.score, Platt(1.3, -0.4)
    found = report(scores, platt, 0.5, rounds=5)
    p = platt.probability(s)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, s))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(y, s))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, s >= 0.5))
    assert found["nll"] == pytest.approx(sk.log_loss(y, p))
    assert found["tpr_at_threshold"] == pytest.approx(sk.recall_score(y, s >= 0.5))
    false, true, _ = sk.roc_curve(y, s, drop_intermediate=False)
    for key, rate in (("tpr_at_fpr_1", 0.01), ("tpr_at_fpr_01", 0.001), ("tpr_at_fpr_5", 0.05)):
        assert found[key] == pytest.approx(true[false <= rate + 1e-12].max())
    weight = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum())
    assert found["nll_balanced"] == pytest.approx(2 * sk.log_loss(y, p, sample_weight=weight, normalize=False))
    assert found["tpr_at_fpr_01_coarse"] is True


TINY = [
    (0, -2.0, "camera"), (0, -1.0, "camera"), (0, 0.5, "phone"), (0, 2.0, "phone"),
    (1, 1.0, "gan"), (1, 3.0, "gan"), (1, 0.5, "flow"), (1, -3.0, "flow"),
]  # fmt: skip


def test_a_tiny_table_by_hand() -> None:
    """Four photographs, two generators of two; the threshold 1 flags one photograph and both of gan."""
    frozen = Frozen({0.01: 1.0}, None, 0.01, "by hand")
    figures = measure("m", scores_of(TINY), frozen, "val", "none", rounds=20)

    def value(kind: str, subset: str, metric: str) -> Figure:
        return pick(figures, kind=kind, subset=subset, metric=metric)[0]

    assert value("generator", "gan", "auc").value == pytest.approx((3 + 4) / 8)
    assert value("generator", "flow", "auc").value == pytest.approx((2 + 0.5 + 0) / 8)  # one tie
    assert value("generator", "gan", "tpr_at_threshold").value == 1.0
    assert value("generator", "flow", "tpr_at_threshold").value == 0.0
    assert value("generator", "flow", "auc").n == 2
    assert value("source", "camera", "fpr_at_threshold").value == 0.0
    assert value("source", "phone", "fpr_at_threshold").value == 0.5
    assert value("source", "phone", "fpr_at_threshold").high == pytest.approx(0.9055, abs=1e-4)  # Wilson, 1 of 2
    assert value("all", "all", "auc").value == pytest.approx((7 + 2.5) / 16)
    assert value("all", "all", "fpr_at_threshold").value == 0.25
    assert value("all", "all", "fpr_at_threshold").n == 4
    assert value("all", "all", "balanced_accuracy").value == pytest.approx((0.75 + 0.5) / 2)
    assert np.isnan(value("all", "all", "ece").value)
    assert to_json(value("all", "all", "ece"))["value"] is None


def test_a_model_minus_itself_is_nothing() -> None:
    scores = random_scores(1, groups=40)
    for figure in differences({"a": scores, "b": scores}, "val", "none", rounds=50):
        assert (figure.value, figure.low, figure.high) == (0.0, 0.0, 0.0)
        assert (figure.contender, figure.subset, figure.n) == ("a", "minus b", 200)


def test_pairs_see_what_single_intervals_do_not() -> None:
    """A slightly better copy of one detector: the pair's interval leaves 0 out although both intervals overlap."""
    first = random_scores(2, 600)
    better = Scores(first.samples, first.score + 0.25 * first.label, first.judged, 0)
    figure = pick(differences({"a": better, "b": first}, "val", "none", rounds=300), metric="auc")[0]
    assert 0 < figure.low < figure.value < figure.high
    lows = [report(s, None, 0.0, rounds=300)["auc_interval"] for s in (better, first)]
    assert lows[0][0] < lows[1][1]


def test_pairs_are_matched_by_picture() -> None:
    """In another order, and one picture short: still nothing."""
    scores = random_scores(3)
    mixed = scores.take(np.random.default_rng(0).permutation(200)[:-1])
    figures = [
        *differences({"a": scores, "b": mixed}, "val", "none", rounds=20),
        *since_plain("a", scores, mixed, "v", "c"),
    ]
    assert {(f.value, f.n) for f in figures} == {(0.0, 199)}


def test_one_class_names_a_picture(tmp_path: Path) -> None:
    samples = [sample(i, i % 2) for i in range(4)]
    read = [Reading("ok", scores={"m": 1.0}) if s.label else Reading("unreadable", "it is empty") for s in samples]
    found = from_readings(samples, read, "m")
    with pytest.raises(UsageError, match=r"no photograph has a score; e\.g\. a/b/0\.jpg: it is empty; mend"):
        measure("m", found, Frozen({0.01: 0.0}, None, 0.01, ""), "val", "none")


# ---- scores on disk, folds


def test_scores_come_back(tmp_path: Path) -> None:
    scores = random_scores(4)
    write_scores(tmp_path / "s.csv", scores)
    back = read_scores(tmp_path / "s.csv")
    np.testing.assert_allclose(back.score, scores.score)
    assert [(s.label, s.generator, s.source, s.group) for s in back.samples] == [
        (s.label, s.generator, s.source, s.group) for s in scores.samples
    ]
    assert back.fold == ()
    with pytest.raises(UsageError, match="no column `fold`"):
        left_out("s", back)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,score\n", "holds no scores"),
        ("path,label,score\na,0,1\n", "lacks the column.*generator, source, group"),
        ("path,label,generator,source,group,judged,score\na,2,,s,g,1,0\n", "line 2, row of 'a': label '2'"),
        ("path,label,generator,source,group,judged,score\n", "holds no scores"),
        ("# c\npath,label,generator,source,group,judged,score\na,0,,s,g,1,0\nb,0,,s,g,1,x\n", "line 4, .*score 'x'"),
        ("path,label,generator,source,group,judged,score\na,0,,s,g,1,inf\n", "line 2, .*score 'inf'"),
    ],
)
def test_wrong_scores_name_the_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_scores(tmp_path / "s.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        read_scores(tmp_path / "none.csv")


FOLDS = """# a comment
path,label,generator,source,group,judged,score,fold,threshold
1,1,gan,x,1,1,3.0,A,2.0
2,1,gan,x,2,1,1.0,A,2.0
3,0,,camera,3,1,2.0,A,2.0
4,0,,camera,4,1,0.0,A,2.0
5,1,flow,x,5,1,-1.0,B,-2.0
6,0,,phone,6,1,-3.0,B,-2.0
7,0,,phone,7,1,-4.0,B,-2.0
8,0,,scan,8,1,-1.5,B,-2.0
"""


def test_left_out_by_hand(tmp_path: Path) -> None:
    """Each generator against its own fold's photographs; rates at the fold's own threshold."""
    (tmp_path / "run.csv").write_text(FOLDS)
    figures = left_out("run", read_scores(tmp_path / "run.csv"), rounds=50)
    found = {(f.kind, f.subset, f.metric): f.value for f in figures}
    assert found == {
        ("left-out generator", "gan", "auc"): 0.75,
        ("left-out generator", "gan", "tpr_at_fold_threshold"): 0.5,
        ("left-out generator", "flow", "auc"): 1.0,
        ("left-out generator", "flow", "tpr_at_fold_threshold"): 1.0,
        ("left-out generator", "mean", "auc"): 0.875,
        ("left-out generator", "lowest", "auc"): 0.75,
        ("left-out source", "camera", "fpr_at_fold_threshold"): 0.5,
        ("left-out source", "phone", "fpr_at_fold_threshold"): 0.0,
        ("left-out source", "scan", "fpr_at_fold_threshold"): 1.0,
        ("left-out source", "all", "fpr_at_fold_threshold"): 0.4,
    }
    (tmp_path / "run.csv").write_text(FOLDS.replace("5,1,flow", "5,0,flow"))
    with pytest.raises(UsageError, match="fold 'B': one class only"):
        left_out("run", read_scores(tmp_path / "run.csv"))


def test_left_out_without_thresholds_gives_aucs_only(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text(FOLDS.replace(",2.0\n", ",\n").replace(",-2.0\n", ",\n"))
    assert {f.metric for f in left_out("run", read_scores(tmp_path / "run.csv"), rounds=5)} == {"auc"}


# ---- contenders


def test_freezing_fixes_thresholds_and_a_curve() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    s = rng.normal(0, 1, 400) + 3 * y
    frozen = freeze(y, s, "val")
    assert (s[y == 0] >= frozen.thresholds[0.05]).mean() == pytest.approx(0.05)
    assert (s[y == 0] >= frozen.threshold).mean() == pytest.approx(0.01)
    p = frozen.probability(s)
    assert p is not None
    assert p[y == 1].mean() > 0.85
    assert freeze(y, -s, "val").probability(s) is None  # the wrong way round: no curve, and no crash
    with pytest.raises(UsageError, match="7 photographs are too few"):
        freeze(y[:14], s[:14], "val")


def test_peers(tmp_path: Path) -> None:
    path = tmp_path / "adapter.py"
    path.write_text(PEER)
    spec = peer_spec(f"{path}:make")
    assert (spec.kind, spec.name, spec.frozen) == ("peer", "brightness", None)
    assert spec.make().score(np.full((9, 9, 3), 7, np.uint8), np.zeros((5, 2), np.float32)) == 7.0
    own = peer_spec(f"{path}:fixed")
    assert own.frozen is not None
    assert own.frozen.threshold == 200.0
    assert own.identity != spec.identity
    for where, error, message in (
        (f"{path}:nothing", UsageError, "has no function 'nothing'"),
        (f"{path}:wrong", UsageError, "has .name and .score"),
        (f"{path}:broken", ModelError, "RuntimeError: weights are not here"),
        (str(path), UsageError, "not FILE.py:FUNCTION|is not FILE"),
        (f"{tmp_path}/no.py:make", UsageError, "no adapter at"),
        ("no_such_module:make", UsageError, "cannot be imported"),
    ):
        with pytest.raises(error, match=message):
            peer_spec(where)


def test_models_of_one_name_are_told_apart() -> None:
    one = model_spec(DEFAULT_MODEL)
    assert one.frozen is not None
    assert one.frozen.threshold == load_detector().card.point().threshold
    assert distinct_names([one, one]) == [one]
    other = Spec("model", "/elsewhere", one.name, "f" * 64, one.frozen)
    assert [s.name for s in distinct_names([one, other])] == [
        f"{one.name} ({one.identity[:6]})",
        f"{one.name} (ffffff)",
    ]


# ---- scoring


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, astronaut: RGB) -> Path:
    """Forty faces of several sizes and qualities, one picture without a face, one damaged, one missing."""
    folder = tmp_path_factory.mktemp("pictures")
    face = Image.fromarray(astronaut[:256, 96:352])
    for number in range(40):
        size = 150 + 3 * number
        face.resize((size, size)).save(folder / f"{number:02d}.jpg", quality=95 - number)
    face.resize((77, 77)).save(folder / "77.png")
    (folder / "damaged.jpg").write_bytes((folder / "00.jpg").read_bytes()[:900])
    Image.new("RGB", (99, 99), "teal").save(folder / "teal.png")
    return folder


def samples_in(folder: Path) -> list[Sample]:
    paths = [*sorted(folder.iterdir()), folder / "missing.jpg"]
    return [Sample(p, i % 2, "g" if i % 2 else "", "s", "val", p.name, "") for i, p in enumerate(paths)]


def test_jpeg_quality_is_read_from_the_tables(folder: Path) -> None:
    for number in (0, 20, 39):
        assert jpeg_quality(folder / f"{number:02d}.jpg") == 95 - number
    assert jpeg_quality(folder / "teal.png") == 0
    for quality in (5, 30, 100):
        stream = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(stream, "JPEG", quality=quality)
        assert jpeg_quality(stream) == quality  # type: ignore[arg-type]


@pytest.mark.slow
def test_parallel_is_serial_and_nothing_is_lost(folder: Path, tmp_path: Path) -> None:
    """Two processes give to the bit what one gives, in order; each missing picture has its reason and class."""
    (tmp_path / "adapter.py").write_text(PEER)
    specs = [model_spec(DEFAULT_MODEL), peer_spec(f"{tmp_path / 'adapter.py'}:make")]
    samples = samples_in(folder)
    names = tuple(spec.name for spec in specs)
    tasks = [Task(s.path, "avatar", number, names) for number, s in enumerate(samples)]
    serial = list(readings(tasks, specs, workers=1))
    parallel = list(readings(tasks, specs, workers=2))
    assert [(r.status, r.error, r.judged, dict(r.scores), dict(r.failures)) for r in parallel] == [
        (r.status, r.error, r.judged, dict(r.scores), dict(r.failures)) for r in serial
    ]
    bright = from_readings(samples, serial, "brightness")
    assert len(bright.samples) + len(bright.missing) == len(samples)
    reasons = {m.sample.path.name: (m.status, m.reason) for m in bright.missing}
    assert set(reasons) == {"77.png", "damaged.jpg", "missing.jpg", "teal.png"}
    assert reasons["77.png"][0] == "failed"
    assert "77 rows are too many" in reasons["77.png"][1]
    assert reasons["teal.png"][0] == "no_face"
    assert "truncated" in reasons["damaged.jpg"][1]
    assert bright.count("unreadable") == 2
    assert bright.count("no_face", 0) + bright.count("no_face", 1) == bright.faceless == 1
    # The detector's part is what the card's own figures are made with.
    alone = score_samples(samples, RetinaFace(), load_detector(), chain="avatar")
    mine = from_readings(samples, serial, names[0])
    np.testing.assert_allclose(alone.score, mine.score, atol=1e-5)
    assert (alone.judged == mine.judged).all()
    assert [m.status for m in alone.missing] == [m.status for m in mine.missing]


def test_no_workers_is_an_error() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        next(readings([], [], workers=0))


@pytest.mark.data
@pytest.mark.slow
def test_figures_on_val_are_the_cards(faces_data: Path) -> None:
    """Every sixth picture of val: the card's AUC lies in this sample's interval, and file facts are read."""
    samples = [s for s in read_manifest(faces_data / "manifest.csv", drop_straddling=True) if s.split == "val"][::6]
    spec = model_spec(DEFAULT_MODEL)
    read = list(readings([Task(s.path, wanted=(spec.name,)) for s in samples], [spec], workers=1))
    scores = from_readings(samples, read, spec.name)
    assert spec.frozen is not None
    top = pick(measure(spec.name, scores, spec.frozen, "val", "none", rounds=200), kind="all", metric="auc")[0]
    assert top.low - 0.01 <= load_detector().card.raw["metrics"]["val"]["auc"] <= min(1.0, top.high + 0.01)
    assert {fact.jpeg_quality for fact in scores.facts} == {91}
    assert all(0.05 < fact.face_share < 1 for fact in scores.facts)
