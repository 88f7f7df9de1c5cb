"""`faceproof export`: what is written, what its numbers are worth, what is refused and leaves nothing behind."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceproof import FaceChecker, MissingExtraError, ModelError, UsageError
from faceproof.curves import Calibration, Isotonic, Platt, Temperature
from faceproof.datasets import Sample
from faceproof.detectors.card import Card, read_card
from faceproof.detectors.fastest import real_crops
from faceproof.detectors.onnx import OnnxDetector
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from faceproof.export_data import evenly, without_groups
from faceproof.exporting import Exported, Material, export_model
from faceproof.metrics import auc
from faceproof.parity import compare, decision
from tests.helpers import run_cli, without_root
from tests.training_sets import face_set

onnx = pytest.importorskip("onnx", reason="needs the extra export")

from faceproof.onnx_graphs import CARD_KEY, card_inside, in_float32, in_half, read_graph, with_preprocessing  # noqa: E402
from faceproof.quantizing import layers_of, quantise  # noqa: E402
from faceproof.runtimes import OnnxSession, Program  # noqa: E402
from tests.small_models import SIZE, Weights, folder_of, network, random_weights  # noqa: E402

SHIPPED = shipped_models()[DEFAULT_MODEL]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_set(tmp_path_factory.mktemp("pictures") / "set", train=10, val=12)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return folder_of(network(random_weights(8, 12, 16)), tmp_path / "small")


def _material(data: Path, **changes: Any) -> Material:
    return Material(data, **{"pictures": 24, "calibration": 20} | changes)


def _export(model: Path, to: str, pictures: Path, out: Path, **options: Any) -> Exported:
    options.setdefault("max_auc_loss", 0.1)
    return export_model(model, to, out, _material(pictures), **options)


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _run(path: Path, batch: Any, name: str) -> Any:
    return OnnxSession(Program("here", "model.onnx", path.read_bytes()), 1).run(batch, [name])[0]


def test_onnx_with_preprocessing_takes_crops_and_gives_probabilities(
    tmp_path: Path, model: Path, pictures: Path
) -> None:
    done = run_cli(
        "export", model, "--to", "onnx", "--with-preprocessing", "--data", pictures, "--pictures", "24",
        "--out", tmp_path / "phone",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for text in (
        "AUC",
        "TPR at FPR 1 %",
        "the same 24 faces (12 photographs, 12 generated)",
        "model.onnx",
        "made from small",
    ):
        assert text in done.stdout
    card, crops = read_card(tmp_path / "phone"), real_crops(SIZE, 6)
    scores = OnnxDetector(model).score(crops)
    inside = _run(tmp_path / "phone" / "model.onnx", crops, "score").reshape(-1)
    assert inside == pytest.approx(scores, abs=2e-2)  # weights are stored in half precision
    probability = _run(tmp_path / "phone" / "model.onnx", crops, "probability").reshape(-1)
    assert probability == pytest.approx(card.calibration.probability(inside.astype(np.float64)), abs=1e-6)
    assert OnnxDetector(tmp_path / "phone").score(crops) == pytest.approx(inside, abs=1e-6)
    raw: Any = card.raw
    assert raw["input"] | {"name": "pixels", "layout": "NHWC uint8 RGB", "shape": ["n", SIZE, SIZE, 3]} == raw["input"]
    assert raw["outputs"] == ["score", "embedding", "probability"]
    assert raw["export"]["preprocessing_inside"] is True
    assert raw["export"]["command"].startswith("faceproof export ")
    assert raw["parent"]["identity"] == read_card(model).identity
    assert card.version == "1+onnx"
    carried = card_inside(onnx.load(str(tmp_path / "phone" / "model.onnx")))
    assert carried is not None
    assert {key: raw[key] for key in carried if key in raw and key != "selftest"} == {
        key: value for key, value in carried.items() if key != "selftest"
    }
    assert _names(tmp_path) == ["phone", "small"]


def test_parity_is_what_one_gets_by_hand(tmp_path: Path, model: Path, pictures: Path) -> None:
    result = _export(model, "onnx", pictures, tmp_path / "out")
    held = [p for p in result.to_dict()["parity"] if p.startswith(("auc", "tpr"))]
    assert len(held) == 5
    raw: Any = read_card(tmp_path / "out").raw
    assert raw["export"]["parity"] == result.parity.to_dict()
    assert raw["export"]["measured_on"]["faces"] == 24
    assert result.parity.largest < 0.05
    assert raw["bytes"] == (tmp_path / "out" / "model.onnx").stat().st_size == result.bytes
    # The exported folder is a model like any other.
    assert FaceChecker(tmp_path / "out").card.sha256 == raw["sha256"]


def test_compare_by_its_definitions() -> None:
    card = read_card(SHIPPED)
    y = np.array([0, 0, 0, 1, 1, 1])
    before = np.array([-5.0, -4.0, 1.0, 0.5, 5.0, 6.0])
    after = before + np.array([0, 0.1, -0.2, 0, 0, -11.5])
    parity = compare(y, before, after, card)
    assert (parity.photographs, parity.generated) == (3, 3)
    assert parity.largest == pytest.approx(11.5)
    assert parity.mean == pytest.approx(11.8 / 6)
    assert parity.auc_before == pytest.approx(8 / 9)
    assert parity.auc_loss == pytest.approx(8 / 9 - auc(y, after))
    assert parity.tpr_before == pytest.approx(2 / 3)
    assert parity.tpr_after == pytest.approx(1 / 3)
    # 6.0 was generated and -5.5 is a photograph: one face of six, in the opposite direction.
    assert parity.opposite == pytest.approx(1 / 6)
    assert parity.changed >= parity.opposite
    p = card.calibration.probability
    assert parity.probability == pytest.approx(max(abs(p(a) - p(b)) for a, b in zip(before, after, strict=True)))
    same = compare(y, before, before, card)
    assert (same.largest, same.auc_loss, same.changed) == (0, 0, 0)
    with pytest.raises(ModelError, match="1 of 6 scores of the exported network are not finite"):
        compare(y, before, [np.nan, *before[1:]], card)
    with pytest.raises(UsageError, match="vectors of one length"):
        compare(y, before, before[:3], card)


def test_decision_is_the_checkers_rule() -> None:
    from faceproof.fusion import Single

    for card in (read_card(SHIPPED), dataclasses.replace(read_card(SHIPPED), conformal=None)):
        limits, rule, alone = decision(card), Single(card).rule(None, None), Single(card)
        for name in ("generated_from", "photograph_below"):
            for shift in (-1e-6, 0, 1e-6):
                score = limits[name] + shift
                by_score = (
                    "generated" if score >= limits["generated_from"]
                    else "photograph" if score < limits["photograph_below"] else "inconclusive"
                )  # fmt: skip
                odds = sum(piece.weight for piece in alone.evidence({"supervised": score}))
                assert rule.label(odds) == by_score
        assert limits["false_alarm_rate"] == 0.01


@pytest.mark.parametrize(
    "curve",
    [
        Platt(0.8, -0.3), Temperature(2.5), Isotonic((1.5,), (0.25,)),
        Isotonic((-2.0, -1.0, 0.5, 0.5000001, 3.0), (-3.0, -1.0, -1.0, 2.0, 4.5)),
        read_card(SHIPPED).calibration,
    ],
)  # fmt: skip
def test_the_curve_inside_is_the_cards(curve: Calibration) -> None:
    card = dataclasses.replace(_card(), calibration=curve)
    weights = random_weights(4)
    weights["head"] *= 30  # scores across all knots
    graph = with_preprocessing(network(weights), card)
    crops = np.random.default_rng(1).integers(0, 256, (40, SIZE, SIZE, 3), np.uint8) // np.arange(1, 41)[
        :, None, None, None
    ].astype(np.uint8)
    session = OnnxSession(Program("here", "model.onnx", graph.SerializeToString()), 1)
    assert session.takes_pixels
    score, probability = session.run(crops, ["score", "probability"])
    assert np.ptp(score) > 5
    far = np.abs(score - 0.50000005) > 1e-5  # on a step as narrow as a rounding error either side is right
    expected = curve.probability(score.astype(np.float64))
    assert probability[far] == pytest.approx(expected[far], abs=2e-6)


def _card() -> Card:
    card = read_card(SHIPPED)
    return dataclasses.replace(
        card, crop=dataclasses.replace(card.crop, size=SIZE), mean=(0.5, 0.4, 0.45), std=(0.5, 0.25, 0.3)
    )


def test_preprocessing_is_the_checkers_number_for_number() -> None:
    card, crops = _card(), real_crops(SIZE, 4)
    plain = network(random_weights(6, 6))
    one = OnnxSession(Program("here", "model.onnx", with_preprocessing(plain, card).SerializeToString()), 1)
    other = OnnxSession(Program("here", "model.onnx", plain.SerializeToString()), 1)
    normal = ((crops / 255 - np.array(card.mean)) / np.array(card.std)).transpose(0, 3, 1, 2).astype(np.float32)
    assert one.run(crops, ["score"])[0] == pytest.approx(other.run(normal, ["score"])[0], abs=1e-5)


def test_half_precision_and_back() -> None:
    weights = random_weights(16, 16)
    graph = network(weights)
    half = in_half(graph)
    back = in_float32(half)
    assert len(half.SerializeToString()) < 0.6 * len(graph.SerializeToString())
    assert not any(node.op_type == "Cast" for node in back.graph.node)
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in back.graph.initializer}
    for name, value in weights.items():
        stored = value.astype(np.float16).astype(np.float32) if value.size >= 256 else value
        assert (found[name] == stored).all(), name
    shipped = read_graph(SHIPPED / "model.onnx")
    batch = np.random.default_rng(0).normal(size=(1, 3, 208, 208)).astype(np.float32)
    runs = [
        OnnxSession(Program("here", "model.onnx", g.SerializeToString()), 1).run(batch, ["score"])[0]
        for g in (shipped, in_float32(shipped))
    ]
    assert runs[0] == pytest.approx(runs[1], abs=1e-5)


# int8 --------------------------------------------------------------------------------------------------------


def _batches(count: int = 48) -> tuple[Any, Any]:
    crops = real_crops(SIZE, count)[np.random.default_rng(0).permutation(count)]
    normal = (crops / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32)
    return normal[: count // 2], normal[count // 2 :]


def test_int8_is_smaller_and_near(tmp_path: Path, model: Path, pictures: Path) -> None:
    wide = folder_of(network(random_weights(48, 64, 64)), tmp_path / "wide")
    result = _export(wide, "onnx-int8", pictures, tmp_path / "int8", preprocessing=True)
    assert result.quantised is not None
    assert result.quantised.layers == 3
    graph = onnx.load(str(tmp_path / "int8" / "model.onnx"))
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    scales = [t for t in graph.graph.initializer if t.name.startswith("c1") and t.name.endswith("scale")]
    assert any(onnx.numpy_helper.to_array(t).size == 64 for t in scales), "weights are not quantised by channel"
    assert result.bytes < 0.45 * (wide / "model.onnx").stat().st_size
    scores = OnnxDetector(wide).score(real_crops(SIZE, 8))
    assert OnnxDetector(tmp_path / "int8").score(real_crops(SIZE, 8)) == pytest.approx(
        scores, abs=0.3 * float(np.std(scores)) + 0.2
    )
    raw: Any = read_card(tmp_path / "int8").raw
    assert raw["export"]["quantisation"]["calibrated_on"] == "train"
    assert raw["export"]["quantisation"]["layers"] == 3


def _harmful() -> Weights:
    """Between c1 and c2 lies a channel a thousand times larger than the others, which c2 then ignores."""
    weights = random_weights(6, 6, 6, 6, 6, 6)
    weights["c1"][0], weights["bc1"][0] = 0, 5000
    weights["c2"][:, 0] = 0
    return weights


def test_layers_that_hurt_are_found_and_left_in_float() -> None:
    calibration, tuning = _batches()
    steps: list[tuple[int, int]] = []
    found = quantise(network(_harmful()), calibration, tuning, progress=lambda *step: steps.append(step))
    assert found.drift_all > 0.5
    assert found.drift < 0.05
    assert {"c1", "c2"} <= set(found.kept) <= set(layers_of(network(_harmful())))
    assert len(found.kept) <= 3
    assert found.ranked == found.layers == 6 == len(steps)
    # The measure is what it says: mean difference over deviation, on the tuning crops.
    scores = [
        OnnxSession(Program("here", "model.onnx", g.SerializeToString()), 1).run(tuning, ["score"])[0].reshape(-1)
        for g in (network(_harmful()), found.graph)
    ]
    assert found.drift == pytest.approx(np.abs(scores[0] - scores[1]).mean() / scores[0].std(), rel=0.05)


def test_nothing_is_measured_alone_where_all_is_well() -> None:
    calibration, tuning = _batches()
    found = quantise(
        network(random_weights(16, 16)), calibration, tuning, near=0.5, progress=lambda *_: pytest.fail("measured")
    )
    assert (found.kept, found.ranked) == ((), 0)
    assert found.drift == found.drift_all


def test_the_search_ends_in_time() -> None:
    calibration, tuning = _batches()
    found = quantise(network(_harmful()), calibration, tuning, seconds=0)
    assert found.ranked == 0
    assert found.drift <= found.drift_all


def test_int8_that_loses_too_much_is_refused(tmp_path: Path, pictures: Path) -> None:
    """A brightness score beside a channel of 10,000: int8 cannot hold it, whatever stays in float."""
    weights: Weights = {
        "c0": np.zeros((2, 3, 1, 1), np.float32), "bc0": np.array([0, 1e6], np.float32),
        "head": np.array([[-1, 0]], np.float32), "bhead": np.zeros(1, np.float32),
    }  # fmt: skip
    weights["c0"][0] = 1
    model = folder_of(network(weights), tmp_path / "fragile")
    with pytest.raises(
        ModelError, match=r"not kept: as onnx-int8 the AUC falls from 0\.\d+ to .*--max-auc-loss 0\.005"
    ):
        _export(model, "onnx-int8", pictures, tmp_path / "out", max_auc_loss=0.005)
    assert _names(tmp_path) == ["fragile"]
    done = run_cli(
        "export", model, "--to", "onnx-int8", "--data", pictures, "--pictures", "24", "--calibration", "20",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 2
    assert "not kept" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert _names(tmp_path) == ["fragile"]


# Other engines -----------------------------------------------------------------------------------------------


def test_openvino_files_run_and_are_checked(tmp_path: Path, model: Path, pictures: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    result = _export(model, "openvino", pictures, tmp_path / "ov", preprocessing=True)
    assert _names(tmp_path / "ov") == ["card.json", "model.bin", "model.xml"]
    assert result.bytes == sum((tmp_path / "ov" / name).stat().st_size for name in ("model.bin", "model.xml"))
    crops = real_crops(SIZE, 5)
    detector = OnnxDetector(tmp_path / "ov")
    assert detector.runtime == "openvino"
    assert detector.score(crops) == pytest.approx(OnnxDetector(model).score(crops), abs=2e-2)
    done = run_cli("models", tmp_path / "ov")
    assert done.returncode == 0, done.stderr
    _export(model, "openvino", pictures, tmp_path / "ov", overwrite=True)
    xml = tmp_path / "ov" / "model.xml"
    xml.write_bytes(xml.read_bytes() + b" ")
    with pytest.raises(ModelError, match=r"model\.xml does not match its card"):
        OnnxDetector(tmp_path / "ov")
    xml.unlink()
    with pytest.raises(ModelError, match="graph file is not there"):
        OnnxDetector(tmp_path / "ov")


@pytest.mark.parametrize(
    ("to", "module"),
    [("openvino", "openvino"), ("litert", "litert_torch"), ("executorch", "executorch"), ("onnx-int8", "onnx")],
)
def test_what_is_missing_is_said_before_any_work(
    tmp_path: Path, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, to: str, module: str
) -> None:
    for name in [name for name in list(sys.modules) if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("faceproof.exporting.RetinaFace", lambda: pytest.fail("worked"))
    with pytest.raises(MissingExtraError, match=r'install it with: pip install "faceproof\[[a-z-]+\]"'):
        _export(model, to, pictures, tmp_path / "out")
    assert _names(tmp_path) == ["small"]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac runs Core ML files")
def test_coreml_needs_a_mac(tmp_path: Path, model: Path, pictures: Path) -> None:
    done = run_cli("export", model, "--to", "coreml", "--data", pictures, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "can only be run on a Mac" in done.stderr
    assert "export to onnx" in done.stderr
    assert _names(tmp_path) == ["small"]


# Bad input ---------------------------------------------------------------------------------------------------


def test_one_class_is_refused(tmp_path: Path, model: Path, pictures: Path) -> None:
    folder = Path(shutil.copytree(pictures, tmp_path / "data"))
    shutil.rmtree(folder / "train" / "fake")
    with pytest.raises(UsageError, match="split 'train' holds photographs only; both classes are needed"):
        _export(model, "onnx-int8", folder, tmp_path / "out")
    assert _export(model, "onnx", folder, tmp_path / "fine").parity.photographs == 12  # nothing to calibrate
    shutil.rmtree(folder / "val" / "real")
    with pytest.raises(UsageError, match="split 'val' holds generated pictures only"):
        _export(model, "onnx", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_without_faces_are_counted(tmp_path: Path, model: Path) -> None:
    rows = []
    for number in range(24):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
        label = "generated" if number % 2 else "photograph"
        rows.append({"path": f"{number}.jpg", "label": label, "source": "web", "split": "val", "group": str(number)})
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(
        UsageError, match=r"0 photographs are too few to measure with.*24 cannot be read and 0 have no face"
    ):
        export_model(model, "onnx", tmp_path / "out", Material(tmp_path / "manifest.csv"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("card", "no model at .*card.json"),
        ("bytes", "is not an ONNX file"),
        ("old", r"is of opset 11; .* need 13 or newer"),
        ("new", r"is of opset 99, the onnx installed knows \d+: pip install -U onnx"),
        ("inputs", "takes 2 inputs"),
        ("external", "keeps weights in other files"),
    ],
)
def test_networks_that_cannot_be_exported(tmp_path: Path, pictures: Path, damage: str, message: str) -> None:
    graph = network(random_weights(4), opset=11 if damage == "old" else 18)
    if damage == "new":
        graph.opset_import[0].version = 99
    if damage == "inputs":
        graph.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    if damage == "external":
        graph.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    folder = folder_of(graph, tmp_path / "bad")
    if damage == "card":
        (folder / "card.json").unlink()
    if damage == "bytes":
        (folder / "model.onnx").write_bytes(b"\xff\xff\xff")
        raw = json.loads((folder / "card.json").read_text())
        raw["sha256"] = hashlib.sha256(b"\xff\xff\xff").hexdigest()
        (folder / "card.json").write_text(json.dumps(raw))
    for to in ("onnx", "onnx-int8"):
        with pytest.raises(ModelError, match=message):
            _export(folder, to, pictures, tmp_path / "out")
    assert _names(tmp_path) == ["bad"]


def test_exports_are_not_exported_again(tmp_path: Path, model: Path, pictures: Path) -> None:
    _export(model, "onnx-int8", pictures, tmp_path / "int8", preprocessing=True)
    with pytest.raises(UsageError, match="int8 is int8 already; export to onnx-int8 from the float model"):
        _export(tmp_path / "int8", "onnx-int8", pictures, tmp_path / "out")
    with pytest.raises(UsageError, match="preprocessing inside already"):
        _export(tmp_path / "int8", "onnx", pictures, tmp_path / "out", preprocessing=True)
    if importlib.util.find_spec("openvino"):
        _export(model, "openvino", pictures, tmp_path / "ov")
        with pytest.raises(UsageError, match=r"ov is an export itself \(model.bin\)"):
            _export(tmp_path / "ov", "onnx", pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tflite"}, "unknown target 'tflite'.*litert"),
        ({"max_auc_loss": 1.5}, "the largest loss of AUC lies between 0 and 1, not 1.5"),
        ({"max_auc_loss": float("nan")}, "the largest loss of AUC lies between 0 and 1"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, model: Path, pictures: Path, options: dict[str, Any], message: str
) -> None:
    to = options.pop("to", "onnx")
    with pytest.raises(UsageError, match=message):
        _export(model, to, pictures, tmp_path / "out", **options)
    with pytest.raises(UsageError, match="at least 20 pictures"):
        _material(pictures, pictures=5)
    with pytest.raises(UsageError, match="no manifest at"):
        _export(model, "onnx", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="split 'test' is empty; the data has: train, val"):
        export_model(model, "onnx", tmp_path / "out", _material(pictures, split="test"))
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_replaced(tmp_path: Path, model: Path, pictures: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="exists|holds 'diary.txt'"):
            _export(model, "onnx", pictures, tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "diary.txt").read_text() == "mine"
    before = (model / "model.onnx").read_bytes()
    _export(model, "onnx", pictures, tmp_path / "again")
    _export(model, "onnx", pictures, tmp_path / "again", overwrite=True)
    assert (model / "model.onnx").read_bytes() == before


def test_a_closed_folder_leaves_nothing(tmp_path: Path, model: Path, pictures: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    done = run_cli(
        "export", model, "--to", "onnx", "--data", pictures, "--out", tmp_path / "closed" / "out",
        before=without_root(),
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot write the model" in done.stderr
    assert _names(tmp_path / "closed") == []


# Choosing pictures -------------------------------------------------------------------------------------------


def _samples(counts: dict[tuple[int, str], int]) -> list[Sample]:
    return [
        Sample(Path(f"{label}/{source}/{n}.jpg"), label, source if label else "", source, "val", f"{source}{n}", "")
        for (label, source), count in counts.items()
        for n in range(count)
    ]


def test_pictures_are_chosen_evenly() -> None:
    pool = _samples({(0, "web"): 90, (0, "book"): 6, (0, "film"): 40, (1, "gan"): 50, (1, "diffusion"): 50})
    picked = evenly(pool, 40)
    count = {source: sum(s.source == source for s in picked) for source in ("web", "book", "film", "gan", "diffusion")}
    assert count == {"web": 7, "book": 6, "film": 7, "gan": 10, "diffusion": 10}
    assert len({s.path for s in picked}) == 40
    assert picked == evenly(pool, 40)
    assert picked != evenly(pool, 40, seed=1)
    # Where a class has too few, the other gives more.
    few = evenly(_samples({(0, "web"): 90, (1, "gan"): 5}), 40)
    assert (sum(s.label for s in few), len(few)) == (5, 40)
    assert len(evenly(pool, 10_000)) == len(pool)
    assert {s.group for s in without_groups(pool, picked)}.isdisjoint(s.group for s in picked)


def test_the_card_key_is_documented() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "mobile.md").read_text(encoding="utf-8")
    assert f"`{CARD_KEY}`" in text
