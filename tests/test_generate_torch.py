"""Reconstructions and diffusers pipelines, tiny ones built here. Needs torch; some tests diffusers and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import ModelError, UsageError
from faceproof.datasets import read_manifest
from faceproof.errors import PictureError
from faceproof.generate_sources import photographs
from faceproof.generated_records import Generated, Job, Photograph, jobs_of
from faceproof.generated_store import open_store
from faceproof.generating import Pace, Run
from faceproof.images import RGB
from faceproof.prompts import Prompt
from tests.conftest import DATA
from tests.helpers import encode, run_cli

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = [
    pytest.mark.train,
    pytest.mark.slow,
    # These libraries use what they and torch deprecate, and say so on import.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::ImportWarning"),
]

from faceproof.features.taef2 import decoder, encoder  # noqa: E402
from faceproof.reconstruction import Autoencoder  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in TAEF2's shape, one file of each kind."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("taef2")
    torch.manual_seed(0)
    save_file(encoder().state_dict(), folder / "taef2_encoder.safetensors")
    torch.save(decoder().state_dict(), folder / "taef2_decoder.pth")
    return folder


@pytest.fixture
def album(tmp_path: Path, astronaut: RGB) -> Path:
    (tmp_path / "album").mkdir()
    for number, (height, width) in enumerate(((90, 123), (64, 64), (200, 300))):
        picture = np.ascontiguousarray(astronaut[:height, 100 : 100 + width])
        (tmp_path / "album" / f"{number}.png").write_bytes(encode(picture, "PNG"))
    return tmp_path / "album"


def _run(generator: Any, out: Path, prompts: list[Prompt], found: list[Photograph] | None) -> list[Generated]:
    with open_store(str(out)) as store:
        return list(Run(generator, jobs_of(prompts, found, generator.settings), store, Pace()))


def test_pairs_are_aligned(weights: Path, album: Path, tmp_path: Path) -> None:
    generator = Autoencoder("taef2", weights=weights, largest=128)
    found = photographs([str(album)])
    records = _run(generator, tmp_path / "out", [Prompt("", {}, 0)] * 3, found)
    assert [record.status for record in records] == ["ok"] * 3
    samples = read_manifest(tmp_path / "out" / "manifest.csv")
    by_group: dict[str, dict[int, Path]] = {}
    for sample in samples:
        by_group.setdefault(sample.group, {})[sample.label] = sample.path
        assert sample.generator == ("taef2" if sample.label else "")
    assert len(by_group) == 3
    sizes = set()
    for pair in by_group.values():
        first, second = (Image.open(pair[label]) for label in (0, 1))
        assert first.size == second.size
        assert first.format == second.format == "PNG"
        assert np.array_equal(np.asarray(second), generator.reconstructed(np.asarray(first)))
        sizes.add(first.size)
    # Cut to multiples of 8; the largest shrunk to 128 x 85, then cut.
    assert sizes == {(120, 88), (64, 64), (128, 80)}
    assert json.loads(json.dumps(records[0].parameters))["weights_sha256"]


def test_what_is_no_taef2(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--weights"):
        Autoencoder("taef2")
    with pytest.raises(UsageError, match="has no taef2_encoder"):
        Autoencoder("taef2", weights=tmp_path)
    for data in (b"", b"\x80\x04K\x01.", b"PK\x03\x04nonsense"):
        (tmp_path / "taef2_encoder.pth").write_bytes(data)
        with pytest.raises(ModelError, match="no weights of TAEF2"):
            Autoencoder("taef2", weights=tmp_path)
    with pytest.raises(UsageError, match="--largest"):
        Autoencoder("taef2", weights=weights, largest=3)
    with pytest.raises(PictureError, match="too thin"):
        Autoencoder("taef2", weights=weights).fitted(np.zeros((4, 300, 3), np.uint8))


class _Evil:
    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("pickle-ran"), "x"))


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": _Evil()}, tmp_path / "taef2_encoder.pth")
    with pytest.raises(ModelError, match="no weights"):
        Autoencoder("taef2", weights=tmp_path)
    assert not (tmp_path / "pickle-ran").exists()


@pytest.mark.data
def test_real_weights_make_a_near_identical_picture(astronaut: RGB, tmp_path: Path) -> None:
    folder = DATA / "taef2"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: the project's data set is not part of the repository")
    generator = Autoencoder("taef2", weights=folder)
    again = generator.reconstructed(generator.fitted(astronaut))
    error = np.mean((astronaut.astype(float) - again) ** 2)
    assert 28 < 10 * np.log10(255**2 / error) < 40
    shown = np.asarray(Image.open(Path(__file__).resolve().parents[1] / "examples" / "astronaut_reconstructed.jpg"))
    assert np.abs(shown.astype(int) - again).mean() < 3  # examples/ has a JPEG of the same
    (tmp_path / "a.png").write_bytes(encode(astronaut, "PNG"))
    done = run_cli("generate", "reconstruct", tmp_path / "a.png", "--weights", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "1 ok" in done.stderr


# diffusers


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion pipeline with a few thousand random weights, saved as one is."""
    diffusers = pytest.importorskip("diffusers", reason="the extra [diffusers] is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra [diffusers] is not installed")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "tiny-sd"
    letters = [chr(n) for n in range(97, 123)]
    words = [*letters, *(f"{each}</w>" for each in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = tmp_path_factory.mktemp("words")
    (vocabulary / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (vocabulary / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(vocabulary, model_max_length=77)
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
    ))  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, norm_num_groups=32,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=32,
    )  # fmt: skip
    whole = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, safety_checker=None, feature_extractor=None,
        scheduler=diffusers.DDIMScheduler(clip_sample=False), requires_safety_checker=False,
    )  # fmt: skip
    whole.save_pretrained(folder, safe_serialization=True)
    return folder


def _pipeline(folder: Path, **more: Any) -> Any:
    from faceproof.diffusers_images import Pipeline

    return Pipeline(str(folder), **{"width": 64, "height": 48, "steps": 2, **more})


def test_text_to_image_is_repeatable(pipeline: Path, tmp_path: Path) -> None:
    generator = _pipeline(pipeline)
    prompts = [Prompt("a face", {"age": "20"}, seed) for seed in (1, 2)]
    first = _run(generator, tmp_path / "one", prompts, None)
    again = _run(_pipeline(pipeline), tmp_path / "two", prompts, None)
    assert [record.status for record in first] == ["ok", "ok"]
    assert [record.sha256 for record in first] == [record.sha256 for record in again]
    assert first[0].sha256 != first[1].sha256
    assert (first[0].width, first[0].height, first[0].generator) == (64, 48, "tiny-sd")
    assert first[0].parameters["pipeline"] == "StableDiffusionPipeline"
    assert first[0].parameters["steps"] == 2
    assert {"torch", "diffusers"} <= set(first[0].versions)


@pytest.mark.parametrize("task", ["image", "inpaint"])
def test_photographs_are_changed_where_they_should_be(
    pipeline: Path, tmp_path: Path, astronaut: RGB, task: str
) -> None:
    (tmp_path / "a.png").write_bytes(encode(astronaut, "PNG"))
    generator = _pipeline(pipeline, task=task, width=256, height=256, strength=0.9)
    records = _run(generator, tmp_path / "out", [Prompt("a face", {}, 1)], photographs([str(tmp_path / "a.png")]))
    assert records[0].status == "ok", records[0].error
    samples = read_manifest(tmp_path / "out" / "manifest.csv")
    assert {sample.label for sample in samples} == {0, 1}
    assert len({(sample.group, sample.split) for sample in samples}) == 1
    before, after = (np.asarray(Image.open(s.path)).astype(int) for s in sorted(samples, key=lambda s: s.label))
    assert before.shape == after.shape == (256, 256, 3)
    assert np.abs(before - after).mean() > 5


def test_masks_lie_on_the_face(astronaut: RGB) -> None:
    pytest.importorskip("diffusers", reason="the extra [diffusers] is not installed")
    from faceproof.diffusers_images import face_mask
    from faceproof.faces.detection import face_detector

    face = face_detector(None).detect(astronaut)[0]
    landmarks = np.asarray(face.landmarks)
    mask = face_mask(astronaut.shape[:2], landmarks)
    assert all(mask[round(float(y)), round(float(x))] == 255 for x, y in landmarks)
    x0, y0, x1, y1 = face.box
    area = (x1 - x0) * (y1 - y0)
    assert 0.4 * area < (mask > 0).sum() < 1.5 * area
    assert mask[0, 0] == 0
    assert np.array_equal(255 - mask, face_mask(astronaut.shape[:2], landmarks, background=True))


def test_no_face_and_impossible_settings(pipeline: Path) -> None:
    generator = _pipeline(pipeline, task="inpaint")
    job = Job("0" * 20, Prompt("x", {}, 0))
    with pytest.raises(PictureError, match="no face"):
        generator.make(job, np.zeros((48, 64, 3), np.uint8))
    for change, message in (
        ({"task": "images"}, "did you mean 'image'"), ({"width": 65}, "multiples of 8"), ({"strength": 0}, "strength"),
        ({"mask": "nose"}, "unknown mask"), ({"dtype": "int8"}, "unknown dtype"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            _pipeline(pipeline, **change)


def test_no_pickle_and_no_code_of_a_models_own(pipeline: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(ModelError, match="cannot be loaded"):
        _pipeline(tmp_path)
    pickled = Path(shutil.copytree(pipeline, tmp_path / "pickled"))
    whole = pickled / "unet" / "diffusion_pytorch_model.safetensors"
    from safetensors.torch import load_file

    torch.save(load_file(whole), whole.with_suffix(".bin"))
    whole.unlink()
    with pytest.raises(ModelError, match="safetensors"):
        _pipeline(pickled)
    coded = Path(shutil.copytree(pipeline, tmp_path / "coded"))
    index = json.loads((coded / "model_index.json").read_text())
    index["unet"] = ["mine", "Evil"]
    (coded / "model_index.json").write_text(json.dumps(index))
    (coded / "unet" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ModelError):
        _pipeline(coded)
    assert not (tmp_path / "ran").exists()


def test_any_diffusers_autoencoder(pipeline: Path, album: Path, tmp_path: Path) -> None:
    generator = Autoencoder(str(pipeline), subfolder="vae", largest=96)
    records = _run(generator, tmp_path / "out", [Prompt("", {}, 0)] * 3, photographs([str(album)]))
    assert [record.status for record in records] == ["ok"] * 3
    for record in records:
        pair = [Image.open(tmp_path / "out" / name) for name in (record.path, record.photograph)]
        assert pair[0].size == pair[1].size
    with pytest.raises(ModelError, match="cannot be loaded as an autoencoder"):
        Autoencoder(str(tmp_path))


def test_the_command(pipeline: Path, tmp_path: Path) -> None:
    words = ("generate", "diffusers", "--model", pipeline, "--size", "32x32", "--steps", "1", "--count", "3")
    done = run_cli(*words, "--device", "cpu", "--out", tmp_path / "out", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "3 ok" in done.stderr
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 3
