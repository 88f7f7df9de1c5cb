"""Layouts against scikit-learn and closed forms; groups against how the data were made."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from faceproof import MissingExtraError, UsageError
from faceproof.extras import EXTRAS
from faceproof.layouts import MIN_UMAP, cluster, layout, pca
from faceproof.map_columns import ABSENT, NO_CLUSTER, read_clusters, read_columns

needs_umap = pytest.mark.skipif(
    importlib.util.find_spec("umap") is None, reason="umap-learn (with numba and LLVM, 200 MB) is not installed"
)


def _spread(count: int, width: int, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return chance.normal(size=(count, width)) * np.linspace(5, 0.1, width) @ np.linalg.qr(
        chance.normal(size=(width, width))
    )[0] + chance.normal(size=width)


@pytest.mark.parametrize(("count", "width"), [(300, 40), (40, 300), (50, 50), (3, 7), (2, 2)])
def test_pca_is_scikit_learns_up_to_sign(count: int, width: int) -> None:
    from sklearn.decomposition import PCA

    data = _spread(count, width)
    components = min(2, count - 1, width)
    own, theirs = pca(data, components), PCA(components, svd_solver="full").fit(data)
    np.testing.assert_allclose(own.shares, theirs.explained_variance_ratio_, atol=1e-10)
    signs = np.sign((own.components * theirs.components_).sum(1))
    np.testing.assert_allclose(own.components * signs[:, None], theirs.components_, atol=1e-7)
    np.testing.assert_allclose(own.points * signs, theirs.transform(data), atol=1e-6)


def test_pca_of_an_ellipse_has_its_axes() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    found = pca(np.column_stack([3 * np.cos(angle), np.sin(angle)]) @ turn + [5, -7])
    np.testing.assert_allclose(np.abs(found.components), np.abs(turn), atol=1e-12)
    np.testing.assert_allclose(found.shares, [0.9, 0.1], atol=1e-12)  # of variances 9/2 and 1/2
    np.testing.assert_allclose(found.points.std(0), [3 / np.sqrt(2), 1 / np.sqrt(2)])
    assert (found.components[np.arange(2), np.abs(found.components).argmax(1)] > 0).all()


def test_pca_does_not_depend_on_the_order() -> None:
    data = _spread(60, 200)
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(pca(data[order]).points, pca(data).points[order], atol=1e-8)


def test_pca_of_data_without_directions_is_zero() -> None:
    for data in (np.ones((1, 5)), np.full((9, 5), 0.1), np.full((3, 2000), 1e6)):
        found = pca(data, 3)
        assert found.points.shape == (len(data), 3)
        assert not found.points.any()
        assert not found.shares.any()
    line = np.outer(np.arange(6.0), np.ones(4))
    found = pca(line, 3)
    np.testing.assert_allclose(found.shares, [1, 0, 0])
    np.testing.assert_allclose(found.points[:, 0], 2 * (np.arange(6) - 2.5))
    assert not found.points[:, 1:].any()


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((0, 4)), np.zeros((4, 0)), [[1.0, np.nan]], [[np.inf, 0.0]]])
def test_pca_refuses_what_is_no_embedding(wrong: object) -> None:
    with pytest.raises(UsageError, match=r"must be \(N, E\)"):
        pca(wrong)  # type: ignore[arg-type]


def test_groups_are_the_ones_the_data_have() -> None:
    chance = np.random.default_rng(3)
    centres = 40 * np.eye(3, 64)
    truth = np.repeat([0, 1, 2], [60, 90, 30])
    data = centres[truth] + chance.normal(size=(180, 64))
    far = np.vstack([data, -500 * np.ones((1, 64))])
    found = cluster(far, 10)
    assert found[-1] == 0
    for label, number in ((1, 1), (0, 2), (2, 3)):  # by size
        assert (found[:-1][truth == label] == number).all()


def test_few_or_equal_pictures_are_no_crash() -> None:
    assert cluster(np.zeros((3, 8))).tolist() == [0, 0, 0]
    assert set(cluster(np.zeros((12, 8)))) <= {0, 1}
    with pytest.raises(UsageError, match="at least 2 pictures, not 1"):
        cluster(np.zeros((3, 8)), 1)


def test_names_of_layouts() -> None:
    with pytest.raises(UsageError, match=r"unknown layout 'umpa'; did you mean 'umap'\? Known: auto, pca, umap"):
        layout(np.eye(3), "umpa")
    found = layout(_spread(30, 8), "pca")
    np.testing.assert_array_equal(found.points, pca(_spread(30, 8)).points)
    assert found.method == "pca"


def test_without_the_extra_auto_is_pca_and_umap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> object:
        if name.split(".", maxsplit=1)[0] in EXTRAS["map"]:
            raise ImportError(f"No module named {name!r}")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    found = layout(_spread(30, 8))
    assert found.method == "pca"
    assert 'pip install "faceproof[map]"' in found.note
    for call in (lambda: layout(_spread(30, 8), "umap"), lambda: cluster(_spread(30, 8))):
        with pytest.raises(MissingExtraError, match=r'pip install "faceproof\[map\]"'):
            call()


@needs_umap
@pytest.mark.slow
def test_umap_keeps_groups_together_and_is_repeatable() -> None:
    chance = np.random.default_rng(5)
    truth = np.repeat([0, 1, 2], 40)
    data = 30 * np.eye(3, 32)[truth] + chance.normal(size=(120, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and umap's own, about themselves
        first, again = (layout(data, "umap", seed=1) for _ in range(2))
        small = layout(data[: MIN_UMAP - 1], "umap")
        least = layout(data[:MIN_UMAP], "umap")
    np.testing.assert_array_equal(first.points, again.points)
    near = np.argsort(((first.points[:, None] - first.points) ** 2).sum(-1), axis=1)[:, 1:6]
    assert (truth[near] == truth[:, None]).all()
    assert small.method == "pca"
    assert least.points.shape == (MIN_UMAP, 2)
    assert np.isfinite(least.points).all()


@pytest.fixture
def set_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set" / "a").mkdir(parents=True)
    return tmp_path / "set"


def test_columns_are_met_by_path(set_of: Path) -> None:
    (set_of / "m.csv").write_text(
        "path,label,source,extra\na/1.jpg,generated,s1,x\n./a/2.jpg,photograph,,y\nother.jpg,photograph,s9,z\n"
    )
    pictures = ["set/a/2.jpg", f"{set_of}/a/1.jpg", "set/a/3.jpg"]
    found = read_columns(set_of / "m.csv", pictures)
    assert found == {"label": ["photograph", "generated", ABSENT], "source": [ABSENT, "s1", ABSENT]}
    assert read_columns("set/m.csv", pictures, ["extra"]) == {"extra": ["y", "x", ABSENT]}
    (set_of / "m.tsv").write_text("file\tgenerator\na/1.jpg\t" + "g" * 500 + "\n")
    assert read_columns(set_of / "m.tsv", pictures)["generator"][1] == "g" * 119 + "…"


def test_names_that_need_escapes_are_met(set_of: Path) -> None:
    r"""A file named \x41.jpg is printed with doubled backslashes; the manifest has it as it is."""
    (set_of / "m.csv").write_text("path,label\na\\x41.jpg,generated\n")
    assert read_columns(set_of / "m.csv", ["set/a\\\\x41.jpg"]) == {"label": ["generated"]}


def test_clusters_are_those_of_duplicates(set_of: Path) -> None:
    (set_of / "c.csv").write_text("cluster,path,hash\n1,'=a.jpg,0\n1,set/./b.jpg,0\n,c.jpg,0\n")
    assert read_clusters(set_of / "c.csv", ["set/b.jpg", "=a.jpg", "c.jpg", "d.jpg"]) == [
        "1", "1", NO_CLUSTER, NO_CLUSTER,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        ("name,label\na.jpg,x\n", [], "no column named path"),
        ("path,tone\na.jpg,x\n", [], "none of the columns label, generator, source"),
        ("path,label\na.jpg,x\n", ["age"], "has no column age; it has path, label"),
        ("path,label\nz.jpg,x\n", [], "names none of the pictures"),
        ("path,label\na.jpg,x,too,many\n", [], "line 2: not as many cells as columns"),
        ("path,label\na.jpg\n", [], "line 2: not as many cells as columns"),
        ("", [], "names none of the pictures"),
        ("path,label\na.jpg,\xff\n", [], "cannot be read"),
        ("path,label\na.jpg," + "x" * 200_000 + "\n", [], "cannot be read"),
    ],
)
def test_wrong_manifests_are_said(set_of: Path, content: str, columns: list[str], said: str) -> None:
    (set_of / "m.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=said):
        read_columns(set_of / "m.csv", ["set/a.jpg"], columns)


def test_wrong_clusters_are_said(set_of: Path) -> None:
    (set_of / "c.csv").write_text("path,group\na.jpg,1\n")
    with pytest.raises(UsageError, match="lacks the columns path and cluster"):
        read_clusters(set_of / "c.csv", ["a.jpg"])
    with pytest.raises(UsageError, match="cannot be read"):
        read_clusters(set_of / "absent.csv", ["a.jpg"])
