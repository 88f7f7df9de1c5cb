"""Distillation: the loss against its definition, training on a teacher's scores, and storage in eight bits."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from faceproof import UsageError
from faceproof.detectors.card import read_card
from faceproof.detectors.crops import CropSpec
from faceproof.detectors.folders import group_key, training_groups, write_card, write_groups
from faceproof.detectors.store import WEIGHTS, load_detector
from faceproof.images import RGB
from faceproof.landmarks import Landmarked
from faceproof.recipes import Recipe

from .training_sets import MARKS, landmarked

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = list(MARKS)

from faceproof import checkpoints, training  # noqa: E402
from faceproof.export import MIN_EIGHT, _eight_bits, parity, to_onnx  # noqa: E402
from faceproof.features.backbone import build_network  # noqa: E402
from faceproof.runs import Job, leave_out_runs, train_model  # noqa: E402
from faceproof.teachers import Teacher, distillation, teacher_of  # noqa: E402
from faceproof.training import Device, train  # noqa: E402
from faceproof.training_log import Silent  # noqa: E402

CPU = Device("cpu", 1, "32-true", workers=0)
TINY = Recipe(
    backbone="small-cnn", start="random", size=32, augment="flip", samples=160, epochs=2, batch=8, rate=3e-3,
    average=0.9, smoothing=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Landmarked:
    return landmarked(tmp_path_factory.mktemp("train"), 16)


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Landmarked:
    return landmarked(tmp_path_factory.mktemp("val"), 8, first=100, split="val")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(training, "_keep_memory", lambda: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---- the loss


def cross_entropy(logit: npt.NDArray[np.float64], share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From the definition, in float64: -q log p - (1 - q) log(1 - p)."""
    p = 1 / (1 + np.exp(-logit))
    return -share * np.log(p) - (1 - share) * np.log(1 - p)


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 2.0), (0.3, 1.0), (0.7, 3.0), (1.0, 5.0)])
def test_the_loss_is_its_definition(weight: float, temperature: float) -> None:
    rng = np.random.default_rng(1)
    logit, told, label = rng.normal(0, 3, 40), rng.normal(0, 3, 40), rng.integers(0, 2, 40) * 0.9 + 0.05
    soft = 1 / (1 + np.exp(-told / temperature))
    expected = (1 - weight) * cross_entropy(logit, label) + weight * temperature**2 * cross_entropy(
        logit / temperature, soft
    )
    given = distillation(*map(torch.from_numpy, (logit, label, told)), weight=weight, temperature=temperature)
    assert float(given) == pytest.approx(expected.mean(), rel=1e-9)


def test_a_hot_teacher_asks_for_its_own_score() -> None:
    """Hinton et al. 2015, section 2.1: for a large T the gradient is a constant times (logit - told); binary, 1/4."""
    logit = torch.tensor([-3.0, 0.5, 4.0], dtype=torch.float64, requires_grad=True)
    told = torch.tensor([-1.0, 2.5, 4.0], dtype=torch.float64)
    distillation(logit, torch.zeros(3, dtype=torch.float64), told, weight=1, temperature=1e3).backward()
    assert logit.grad is not None
    np.testing.assert_allclose(logit.grad.numpy() * 3, (logit - told).detach().numpy() / 4, atol=1e-5)


# ---- training


def mean_scores(network: Any, val: Landmarked, recipe: Recipe) -> tuple[float, float]:
    crops = training._Crops(val, range(len(val.samples)), recipe, augment="none")
    images = torch.stack([crops[i][0] for i in range(len(crops))]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        scores = network((images - 0.5) / 0.5).squeeze(1).numpy()
    labels = np.array([sample.label for sample in val.samples])
    return float(scores[labels == 0].mean()), float(scores[labels == 1].mean())


def test_a_pupil_believes_its_teacher_by_weight(
    data: Landmarked, val: Landmarked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weight 1 a teacher that is always wrong teaches the reverse of the labels; with weight 0 nothing."""

    class Wrong:
        def score(self, crop: RGB) -> float:
            return -5.0 if labels[crop.tobytes()] else 5.0

    recipe = dataclasses.replace(
        TINY, teacher="wrong", teacher_weight=1.0, temperature=1.0, samples=320, augment="none"
    )
    crops = training._Crops(data, range(len(data.samples)), recipe, augment="none")
    labels = {crops[i][0].numpy().tobytes(): crops[i][1] for i in range(len(data.samples))}
    monkeypatch.setattr(training, "teacher_of", lambda _: Wrong())
    reversed_ = mean_scores(train(data, val, recipe, tmp_path / "a", device=CPU), val, recipe)
    assert reversed_[0] > reversed_[1] + 0.2
    deaf = dataclasses.replace(recipe, teacher_weight=0.0)
    told = train(data, val, deaf, tmp_path / "b", device=CPU)
    monkeypatch.undo()
    alone = train(data, val, dataclasses.replace(recipe, teacher=None), tmp_path / "c", device=CPU)
    assert all(torch.equal(a, b) for a, b in zip(told.state_dict().values(), alone.state_dict().values(), strict=True))


def test_a_real_teacher_sees_the_very_crop_and_a_broken_run_goes_on(
    data: Landmarked, val: Landmarked, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(TINY, size=208, augment="life", samples=16, epochs=1, batch=4, teacher="lite2-208")
    teacher = teacher_of(recipe)
    assert teacher is not None
    crops = training._Crops(data, range(4), recipe, augment="life", teacher=teacher)
    detector = load_detector("lite2-208")
    for position in range(4):
        crop, label, told = crops[position]
        assert told == pytest.approx(float(detector.score(crop.numpy()[None])[0]), abs=1e-4)
        assert label == data.samples[position].label

    class Stop(Exception):  # noqa: N818
        pass

    class Ends(Silent):
        def progress(self, progress: Any) -> None:
            if progress.step == 2:
                raise Stop

    with_worker = Device("cpu", 1, "32-true", workers=1)
    whole = train(data, val, recipe, tmp_path / "a", device=with_worker)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "REPORT_EVERY", 1)
        with pytest.raises(Stop):
            train(data, val, recipe, tmp_path / "b", device=CPU, watcher=Ends(), save_every=1)
    again = train(data, val, recipe, tmp_path / "b", device=CPU)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_an_older_checkpoint_had_no_teacher(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    """Checkpoints from before the fields existed go on; with a teacher asked for they are another recipe's."""
    train(data, val, TINY, tmp_path, device=CPU)
    younger = {"teacher", "teacher_weight", "temperature"}
    theirs = {key: value for key, value in TINY.to_dict().items() if key not in younger}
    checkpoints._same(tmp_path, theirs, TINY, True)
    with pytest.raises(UsageError, match=r"another recipe's: teacher None \(asked: 'lite2-208'\)"):
        checkpoints._same(tmp_path, theirs, dataclasses.replace(TINY, size=32, teacher="lite2-208"), True)


def test_teachers_that_cannot_teach(data: Landmarked, val: Landmarked, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown model 'lite2-20'; did you mean 'lite2-208'"):
        Teacher("lite2-20", CropSpec(208))
    with pytest.raises(
        UsageError, match=r"sees rgb crops of 208 px, frame aligned, the recipe makes rgb crops of 32 px"
    ):
        train(data, val, dataclasses.replace(TINY, teacher="lite2-208"), tmp_path, device=CPU)
    copy = shutil.copytree(WEIGHTS / "lite2-208", tmp_path / "copy")
    raw = dict(read_card(copy).raw)
    write_card(copy, raw | {"kind": "anomaly"})
    with pytest.raises(UsageError, match="is of kind 'anomaly'; its scores are no log-odds to learn"):
        Teacher(copy, CropSpec(208))
    job = Job("x", [], tmp_path / "out")
    with pytest.raises(UsageError, match="a teacher knows the generators that are left out"):
        leave_out_runs(job, dataclasses.replace(TINY, size=208, teacher="lite2-208"))
    with pytest.raises(UsageError, match="both see the same"):  # before any face is looked for
        train_model(job, dataclasses.replace(TINY, teacher="lite2-208"))
    with pytest.raises(UsageError, match="unknown storage 'int9'; did you mean 'int8'"):
        train_model(dataclasses.replace(job, storage="int9"), TINY)
    assert not (tmp_path / "out").exists()


def test_what_trained_the_teacher_counts_as_seen(tmp_path: Path) -> None:
    """`faceproof calibrate` then refuses pictures of groups that only the teacher was trained on."""
    said = write_groups(tmp_path, ["a", "b"], {group_key("b"), group_key("c")})
    write_card(tmp_path, {"training": {"groups": said}})
    assert training_groups(tmp_path) == {group_key(name) for name in "abc"}
    assert said["count"] == 3


# ---- eight bits


def test_eight_bits_are_the_nearest_of_255() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, [[[[0.01]]], [[[1.0]]], [[[0.0]]]], (3, 50, 1, 2)).astype(np.float32)
    whole, scale = _eight_bits(values)
    assert whole.dtype == np.int8
    assert scale.shape == (3, 1, 1, 1)
    assert np.abs(whole.astype(int)).max(axis=(1, 2, 3)).tolist() == [127, 127, 0]
    steps = np.abs(values).max(axis=(1, 2, 3)) / 127
    assert (np.abs(whole * scale - values).max(axis=(1, 2, 3)) <= steps / 2 + 1e-8).all()
    grid = np.arange(-127, 128)
    nearest = np.abs(values[1, :, 0, 0][:, None] / steps[1] - grid).argmin(1) - 127
    np.testing.assert_array_equal(whole[1, :, 0, 0], nearest)


def test_a_network_in_eight_bits(tmp_path: Path, astronaut: RGB) -> None:
    """A byte less a weight, nearly the same scores, every output; weights are float32 again before the first run."""
    import onnx
    import onnxruntime

    torch.manual_seed(0)
    network = build_network("mobilenetv2_100", 64, start="random")
    torch.nn.init.normal_(network.head[-1].weight)
    crops = np.stack([astronaut[i : i + 64, 2 * i : 2 * i + 64] for i in range(0, 200, 20)])
    network.train()
    with torch.no_grad():  # statistics as a trained network has them: a signal that neither dies nor explodes
        network((torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)
    batch = ((crops / 255 - 0.5) / 0.5).astype(np.float32).transpose(0, 3, 1, 2)
    size, said = {}, {}
    for storage in ("float16", "int8"):
        path = tmp_path / f"{storage}.onnx"
        to_onnx(network, 64, path, storage=storage)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "ready.onnx")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        assert [output.name for output in session.get_outputs()] == ["score", "embedding", "evidence"]
        size[storage], said[storage] = path.stat().st_size, session.run(None, {"crops": batch})
        operators = {node.op_type for node in onnx.load(tmp_path / "ready.onnx").graph.node}
        assert not operators & {"Cast", "Mul", "DequantizeLinear"}
    eight = sum(p.numel() for p in network.parameters() if p.numel() >= MIN_EIGHT)  # none of these is depthwise
    assert eight > 1_000_000
    assert size["float16"] - size["int8"] == pytest.approx(eight, rel=0.03)  # two bytes became one, and the scales
    measured = parity(network, said["int8"][0].reshape(-1), crops, 0.5, 0.5)
    assert 0 < measured["largest"] < 0.1 * np.ptp(said["float16"][0])
    np.testing.assert_allclose(
        said["int8"][2].mean((1, 2)) + float(network.head[-1].bias), said["int8"][0][:, 0], rtol=2e-3, atol=2e-3
    )
