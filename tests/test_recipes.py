"""Recipes, presets, and what `faceproof train` says before anything is trained. Runs without torch."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from faceproof import UsageError, cli
from faceproof.recipes import AUGMENTS, BALANCES, OPTIMISERS, PRESETS, SCHEDULES, Recipe, preset

from .helpers import run_cli

# ---- the record


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high) | st.integers(math.ceil(low), math.floor(high))


GOOD: dict[str, st.SearchStrategy[Any]] = {
    "backbone": st.sampled_from(["small-cnn", "resnet18", "tf_efficientnet_lite2"]),
    "start": st.sampled_from(["imagenet", "random", "weights/ü.safetensors"]),
    "head": st.lists(st.integers(1, 2048), max_size=4).map(tuple),
    "dropout": _numbers(0, 0.95),
    "trained_layers": st.none() | st.integers(0, 500),
    "size": st.integers(32, 1024),
    "frame": st.sampled_from(["aligned", "square", "centre"]),
    "features": st.sampled_from(["rgb", "ela"]),
    "mean": st.tuples(*[st.floats(0, 1)] * 3),
    "std": st.tuples(*[st.floats(0.01, 1)] * 3),
    "augment": st.sampled_from(sorted(AUGMENTS)),
    "balance": st.sampled_from(sorted(BALANCES)),
    "batch": st.integers(2, 64),
    "epochs": st.integers(1, 50),
    "samples": st.integers(64 * 50, 10**8),
    "optimiser": st.sampled_from(OPTIMISERS),
    "rate": st.floats(1e-9, 10),
    "decay": _numbers(0, 10),
    "schedule": st.sampled_from(SCHEDULES),
    "plateau": st.integers(1, 50),
    "patience": st.integers(0, 50),
    "smoothing": _numbers(0, 0.5),
    "average": st.floats(0, 0.99999),
    "keep": st.sampled_from(["last", "best"]),
    "seed": st.integers(0, 2**32 - 1),
    "teacher": st.none() | st.sampled_from(["lite2-208", "models/ü"]),
    "teacher_weight": _numbers(0, 1),
    "temperature": _numbers(0.1, 100),
}


@given(st.fixed_dictionaries(GOOD))
@settings(max_examples=80)
def test_a_recipe_survives_json(values: dict[str, Any]) -> None:
    recipe = Recipe(**values)
    text = json.dumps(recipe.to_dict(), allow_nan=False)
    assert Recipe.from_dict(json.loads(text)) == recipe
    assert recipe.to_dict().keys() == {field.name for field in dataclasses.fields(Recipe)} == GOOD.keys()


@given(st.fixed_dictionaries(GOOD))
@settings(max_examples=80)
def test_epochs_divide_the_steps(values: dict[str, Any]) -> None:
    """Every step lies in one epoch, none is empty, they differ by one step at most, and the last one ends the run."""
    recipe = Recipe(**values)
    ends = [0, *(recipe.epoch_end(epoch) for epoch in range(recipe.epochs))]
    lengths = [b - a for a, b in zip(ends, ends[1:], strict=False)]
    assert ends[-1] == recipe.steps == recipe.samples // recipe.batch
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1


HOSTILE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3),
    st.sampled_from([
        "", " ", "0", "1e-3", "\0", "nan", 10**400, -(10**400), 10**5000, 1e308, -0.0, math.nan, math.inf, 2**64, 2**31,
        [], (), (0,), [0], [-1], [1.5], ["64"], [[64]], [10**9], [None], [True], {}, {"a": 1}, {1}, [0.5, 0.5],
        [0.5, 0.5, "x"], [0.0, 0.0, 0.0], [math.nan] * 3, [1e-30] * 3, [[0.5] * 3], list(range(1, 100)), "x" * 10**6,
    ]),
    st.lists(st.integers() | st.floats() | st.text(max_size=2), max_size=4),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), HOSTILE, min_size=1, max_size=3))
@settings(max_examples=600, deadline=None)
def test_hostile_values_are_refused_or_harmless(values: dict[str, Any]) -> None:
    """Either a UsageError of one readable line, or a recipe with which everything can be computed."""
    try:
        recipe = Recipe.from_dict(values)
    except UsageError as err:
        message = str(err)
    else:
        _computes(recipe)
        return
    assert len(message) < 1000 + 2 * max(len(v) if isinstance(v, str) else 0 for v in values.values())


def _computes(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict(), allow_nan=False))) == recipe
    assert recipe.steps >= recipe.epochs
    assert all(isinstance(recipe.epoch_end(epoch), int) for epoch in range(min(recipe.epochs, 3)))
    assert recipe.crop.size == recipe.size
    assert all(spread > 0 for spread in recipe.std)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": [0]}, "a width of head must lie between 1 and 65536, not 0"),
        ({"head": 512}, "head must be a list of up to 8 widths"),
        ({"size": -1}, "size must lie between 32 and 1024, not -1"),
        ({"size": "208"}, "size must be a whole number, not '208'"),
        ({"size": 208.0}, "size must be a whole number"),
        ({"batch": 1}, "batch must lie between 2 and 65536"),
        ({"batch": True}, "batch must be a whole number, not True"),
        ({"rate": "fast"}, "rate must be a number, not 'fast'"),
        ({"rate": math.nan}, "rate must lie between 1e-09 and 10, not nan"),
        ({"samples": 10**400}, "samples must lie between 1 and 1e.08, not 1000"),
        ({"samples": 10**5000}, "samples must .* not a number of thousands of digits"),
        ({"samples": 100}, "100 samples are fewer than 8 epochs of one batch of 32"),
        ({"seed": -1}, "seed must lie between 0"),
        ({"teacher": ""}, "teacher must be a name, not ''"),
        ({"teacher_weight": 1.5}, "teacher_weight must lie between 0 and 1, not 1.5"),
        ({"temperature": 0}, "temperature must lie between 0.1 and 100, not 0"),
        ({"trained_layers": -3}, "trained_layers must lie between 0"),
        ({"mean": [0.5]}, "mean must be three numbers"),
        ({"std": [0, 0, 0]}, "a channel of std must lie between 0.001"),
        ({"augment": 3}, "unknown augment '3'"),
        ({"balance": "sources"}, "did you mean 'source'"),
        ({"backbone": 50}, "backbone must be a name, not 50"),
        ({"start": ""}, "start must be a name"),
        ({"frame": ["square"]}, "frame must be a name"),
        ({"sample": 3}, "unknown recipe field 'sample'; did you mean 'samples'"),
        ({"name": "x"}, "unknown recipe field 'name'"),
        ({"self": "x"}, "unknown recipe field 'self'"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset("faceproof", **changes)


def test_presets_are_the_published_recipes() -> None:
    """FIELD.md 1.1, 1.2, 1.3 and 1.5, in the figures it states."""
    study = preset("study-resnet50")
    assert (study.backbone, study.size, study.rate, study.batch) == ("resnet50", 224, 1e-4, 32)
    assert (study.optimiser, study.schedule, study.plateau, study.balance) == ("adam", "plateau", 5, "class")
    video = preset("video-densenet121")
    assert (video.backbone, video.size, video.head, video.dropout) == ("densenet121", 254, (512, 64), 0.2)
    assert (video.trained_layers, video.keep) == (None, "best")
    assert video.patience > 0
    assert {preset(f"pairs-{name}").backbone for name in ("mobilenetv2", "resnet50", "small-cnn")} == {
        "mobilenetv2_100", "resnet50", "small-cnn",
    }  # fmt: skip
    mobile, with_ela = preset("mobile-mobilenetv1"), preset("mobile-mobilenetv1-ela")
    assert (mobile.size, mobile.head, mobile.dropout, mobile.trained_layers) == (256, (1024,), 0.5, 10)
    assert dataclasses.replace(with_ela, features="rgb", trained_layers=10) == mobile
    assert with_ela.trained_layers == 20
    for name, known in PRESETS.items():
        assert known.source
        assert known.notes
        assert preset(name) == known.recipe
    with pytest.raises(UsageError, match="unknown preset 'study-resnet'; did you mean 'study-resnet50'"):
        preset("study-resnet")


# ---- the command before torch


@pytest.fixture
def no_torch(tmp_path: Path) -> dict[str, str]:
    """An environment in which torch cannot be imported, whether it is installed or not."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "torch.py").write_text("raise ImportError(\"No module named 'torch'\")\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "hidden"), os.environ.get("PYTHONPATH", "")])}


def test_help_and_presets_need_no_torch(no_torch: dict[str, str]) -> None:
    helped = run_cli("train", "--help", env=no_torch | {"COLUMNS": "200"})
    assert (helped.returncode, helped.stderr) == (0, "")
    for option in ("--data", "--real", "--generated", "--preset", "--set", "--leave-out", "--tensorboard"):
        assert option in helped.stdout
    listed = run_cli("train", "--presets", env=no_torch | {"COLUMNS": "200"})
    assert (listed.returncode, listed.stderr) == (0, "")
    assert all(name in listed.stdout for name in PRESETS)


def test_without_torch_the_install_line_is_given(no_torch: dict[str, str], tmp_path: Path) -> None:
    done = run_cli("train", "--out", tmp_path / "x", "--data", tmp_path / "y", env=no_torch)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("faceproof: this needs torch (")
    assert done.stderr.endswith('install it with: pip install "faceproof[train]"\n')
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give --out DIR"),
        (("--out", "x", "--set", "samples"), "--set 'samples' is not FIELD=VALUE"),
        (("--out", "x", "--set", "=3"), "--set '=3' is not FIELD=VALUE"),
        (("--out", "x", "--set", "samples=1e5"), "samples must be a whole number, not 100000.0"),
        (("--out", "x", "--set", "samples=" + "9" * 5000), "samples must be a whole number, not '9999"),
        (("--out", "x", "--set", "head=" + "[" * 100_000), "head must be a list"),
        (("--out", "x", "--set", "head=[0]"), "a width of head must lie"),
        (("--out", "x", "--set", "rate=NaN"), "rate must lie between"),
        (("--out", "x", "--set", "name=x"), "unknown recipe field 'name'"),
        (("--out", "x", "--set", "sise=64"), "did you mean 'size'"),
        (("--out", "x", "--preset", "studi"), "unknown preset 'studi'"),
        (("--out", "x", "--seed", "-1"), "seed must lie between"),
    ],
)
def test_wrong_options(args: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # nothing of it may be needed to say this
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["train", *args])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert list(tmp_path.iterdir()) == []
