"""The mixture against scikit-learn and closed forms, its file against the safetensors package, and fitting."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load as load_reference
from safetensors.numpy import save as save_reference
from sklearn.mixture import GaussianMixture

from faceproof import ModelError, UsageError
from faceproof.anomaly_fitting import Choice, choose_mixture, fit_mixture, principal_components
from faceproof.mixture import KINDS, Mixture, Projection
from faceproof.tensor_files import read_tensors, tensor_bytes

Floats = np.ndarray


def clouds(count: int = 600, d: int = 4, seed: int = 0) -> Floats:
    """Three stretched clouds."""
    rng = np.random.default_rng(seed)
    places = rng.normal(0, 6, (3, d))
    shapes = rng.normal(0, 1, (3, d, d))
    which = np.arange(count) % 3
    return np.einsum("nij,nj->ni", shapes[which], rng.normal(size=(count, d))) + places[which]


def of_sklearn(model: GaussianMixture, projection: Projection | None = None) -> Mixture:
    return Mixture(str(model.covariance_type), model.weights_, model.means_, model.precisions_cholesky_, projection)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3])
def test_log_likelihood_is_scikit_learns(kind: str, k: int) -> None:
    x = clouds()
    model = GaussianMixture(k, covariance_type=kind, random_state=0).fit(x)
    far = np.concatenate([x, x * 50 + 1000])  # where every density underflows
    found = of_sklearn(model).log_likelihood(far)
    np.testing.assert_allclose(found, model.score_samples(far), rtol=1e-6)
    assert of_sklearn(model).log_likelihood(np.zeros((0, 4))).shape == (0,)


def test_one_gaussian_with_a_projection_is_probabilistic_pca() -> None:
    """Its density is that of a Gaussian with covariance U diag(l) U' + s (I - U U'), written down by hand."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :2]
    mean, spread, residual = rng.normal(size=6), np.array([3.0, 0.5]), 0.04
    projection = Projection(mean, basis, spread, residual)
    mixture = Mixture("full", np.ones(1), np.zeros((1, 2)), np.eye(2)[None], projection)
    covariance = basis @ np.diag(spread**2) @ basis.T + residual * (np.eye(6) - basis @ basis.T)
    x = rng.normal(size=(50, 6))
    wanted = scipy.stats.multivariate_normal(mean, covariance).logpdf(x)
    np.testing.assert_allclose(mixture.log_likelihood(x), wanted, rtol=1e-9)


def test_whitening_alone_moves_the_density_by_its_volume() -> None:
    x = clouds(d=3)
    whole = principal_components(x, 3)
    assert whole.residual == 0
    model = GaussianMixture(2, random_state=0).fit(whole.apply(x)[0])
    found = of_sklearn(model, whole).log_likelihood(x)
    volume = 0.5 * np.linalg.slogdet(np.cov(x.T, bias=True))[1]
    np.testing.assert_allclose(found, model.score_samples(whole.apply(x)[0]) - volume, rtol=1e-8)


def test_principal_components_are_scikit_learns() -> None:
    from sklearn.decomposition import PCA

    x = clouds(d=5)
    ours, theirs = principal_components(x, 2), PCA(2, whiten=True).fit(x)
    bias = np.sqrt((len(x) - 1) / len(x))  # theirs divides by n - 1
    np.testing.assert_allclose(np.abs(ours.apply(x)[0]), np.abs(theirs.transform(x)) / bias, rtol=1e-6)
    assert ours.residual == pytest.approx(theirs.noise_variance_ * bias**2)


# ---- the file


def a_mixture(kind: str = "full", *, projected: bool = True) -> Mixture:
    x = clouds(d=5)
    projection = principal_components(x, 3) if projected else None
    z = projection.apply(x)[0] if projection else x
    return of_sklearn(GaussianMixture(2, covariance_type=kind, random_state=0).fit(z), projection)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("projected", [True, False])
def test_a_file_gives_the_same_mixture(kind: str, projected: bool) -> None:
    mixture, x = a_mixture(kind, projected=projected), clouds(d=5, seed=0)
    data = mixture.to_bytes()
    again = Mixture.from_bytes(data)
    np.testing.assert_allclose(again.log_likelihood(x), mixture.log_likelihood(x), rtol=1e-4, atol=1e-3)
    assert again.to_bytes() == data
    assert set(load_reference(data)) == set(read_tensors(data)[0])


def test_tensor_files_are_those_of_the_safetensors_package() -> None:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(2, 3)), "b": rng.normal(size=5).astype(np.float32), "c": np.zeros((0, 4)),
              "one": np.array(3.5)}  # fmt: skip
    for name, array in load_reference(tensor_bytes(arrays, {"x": "y"})).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype
    found, metadata = read_tensors(save_reference(arrays, {"x": "y", "kind": "ü"}))
    assert metadata == {"x": "y", "kind": "ü"}
    assert found.keys() == arrays.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert not array.flags.writeable
    with pytest.raises(UsageError, match="float32 and float64"):
        tensor_bytes({"a": np.arange(3)})


def raw(header: object, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(first: int, last: int, shape: object = None, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": [(last - first) // 4] if shape is None else shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (b"\x00" * 7, "7 bytes"),
        (raw({}, length=2**63), "claims"),
        (raw({}, length=3), "claims"),
        (raw(b"[" * 20000), "not JSON"),
        (raw(b"\xff\xfe{}"), "not JSON"),
        (raw([]), "not a JSON object"),
        (raw(b'{"a": NaN}'), "not JSON"),
        (raw(b'{"a": 1, "a": 2}'), "twice"),
        (raw({"__metadata__": {"a": 1}}), "metadata"),
        (raw({"__metadata__": "a"}), "metadata"),
        (raw({"a": 3}), "lacks"),
        (raw({"a": tensor(0, 4) | {"more": 1}}, b"0000"), "or has more"),
        (raw({"a": tensor(0, 4, dtype="I64")}, b"0000"), "read: F32, F64"),
        (raw({"a": tensor(0, 4, dtype=["F32"])}, b"0000"), "read: F32, F64"),
        (raw({"a": tensor(0, 4, [-1])}, b"0000"), "no possible shape"),
        (raw({"a": tensor(0, 4, [True])}, b"0000"), "no possible shape"),
        (raw({"a": tensor(0, 4, [1.0])}, b"0000"), "no possible shape"),
        (raw({"a": tensor(0, 4, [1, 1, 1, 1, 1])}, b"0000"), "no possible shape"),
        (raw({"a": tensor(0, 4, [2**28, 2**28, 2**28, 2**28])}, b"0000"), "another size"),
        (raw({"a": tensor(0, 4, [2])}, b"0000"), "another size"),
        (raw({"a": tensor(4, 0, [1])}, b"0000"), "another size"),
        (raw({"a": tensor(0, 8)}, b"0000"), "end at byte 8 of 4"),
        (raw({"a": tensor(0, 4)}, b"00000000"), "end at byte 4 of 8"),
        (raw({"a": tensor(4, 8)}, b"00000000"), "gap"),
        (raw({"a": tensor(0, 8), "b": tensor(4, 12)}, b"0" * 12), "overlap"),
    ],
)
def test_broken_tensor_files_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        read_tensors(data)


@given(st.data())
def test_damaged_mixture_files_give_a_mixture_or_an_error_of_ours(data: st.DataObject) -> None:
    """Bytes changed, cut and put in anywhere: never another exception, never numbers that are not finite."""
    whole = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(whole) - 1, 700)))
        how = data.draw(st.sampled_from(("change", "cut", "insert")))
        if how == "change":
            whole[place] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del whole[place : place + data.draw(st.integers(1, 40))]
        else:
            whole[place:place] = data.draw(st.binary(min_size=1, max_size=9))
    try:
        mixture = Mixture.from_bytes(bytes(whole))
    except ModelError:
        return
    assert np.isfinite(mixture.means).all()


WHOLE = a_mixture().to_bytes()


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(ModelError):
        Mixture.from_bytes(data)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weights": np.array([0.5, 0.6])}, "sum to 1"),
        ({"weights": np.array([1.5, -0.5])}, "positive"),
        ({"weights": np.ones(3) / 3}, "2 weights"),
        ({"means": np.full((2, 3), np.nan)}, "finite"),
        ({"means": np.zeros(3)}, r"\(K, D\)"),
        ({"precisions": np.zeros((2, 3, 3))}, "positive"),
        ({"precisions": np.ones((2, 3))}, "needs precisions"),
        ({"residual": np.zeros(1)}, "residual"),
        ({"residual": np.zeros(2)}, "residual is one number"),
        ({"spread": np.array([1.0, 0.0, 1.0])}, "positive spreads"),
        ({"basis": np.ones((5, 3))}, "orthonormal"),
        ({"mean": np.zeros(4)}, "a projection needs"),
        ({"more": np.zeros(1)}, "it holds"),
    ],
)
def test_files_that_are_no_mixture(change: dict[str, Floats], why: str) -> None:
    tensors, metadata = read_tensors(WHOLE)
    with pytest.raises(ModelError, match=why):
        Mixture.from_bytes(tensor_bytes(tensors | change, metadata))


def test_files_of_another_kind() -> None:
    tensors, metadata = read_tensors(WHOLE)
    with pytest.raises(ModelError, match="format"):
        Mixture.from_bytes(tensor_bytes(tensors, {}))
    with pytest.raises(ModelError, match="unknown covariance 'ful'; did you mean 'full'"):
        Mixture.from_bytes(tensor_bytes(tensors, metadata | {"kind": "ful"}))
    with pytest.raises(ModelError, match="it holds nothing|it holds weights"):
        Mixture.from_bytes(tensor_bytes({"weights": tensors["weights"]}, metadata))


def test_embeddings_that_cannot_be_scored() -> None:
    mixture = a_mixture()
    with pytest.raises(UsageError, match=r"must be \(N, 5\), not \(2, 3\)"):
        mixture.log_likelihood(np.zeros((2, 3)))
    with pytest.raises(UsageError, match="not finite"):
        mixture.log_likelihood(np.full((1, 5), np.inf))


# ---- fitting


def test_held_out_likelihood_finds_the_number_of_clouds() -> None:
    """Three clouds far apart in four dimensions, two of them empty: three components, and neither one nor eight."""
    rng = np.random.default_rng(3)
    places = np.array([[0, 0], [9, 0], [0, 9]], float)
    x = np.zeros((600, 4))
    x[:, :2] = places[np.arange(600) % 3] + rng.normal(size=(600, 2))
    x[:, 2:] = rng.normal(0, 0.01, (600, 2))
    groups = [f"g{n // 3}" for n in range(600)]
    result = choose_mixture(x, groups, components=(1, 3, 8), kinds=("full", "diag"), dims=(2,))
    assert result.choice.components == 3
    assert len(result.tried) == 6
    assert result.mixture.means.shape == (3, 2)
    best = max(result.tried, key=lambda tried: tried.held_out)
    assert best == result.choice
    # The density of three equal unit clouds, known in closed form, up to what 600 points can tell.
    entropy = -np.log(3) - np.log(2 * np.pi * np.e) - np.log(2 * np.pi * np.e * 1e-4)
    assert result.choice.held_out == pytest.approx(entropy, abs=0.15)


def test_likelihoods_of_different_dimensions_can_be_compared() -> None:
    """Two directions carry structure, six are noise: leaving signal out loses, leaving noise out does not."""
    rng = np.random.default_rng(4)
    x = rng.normal(0, 0.1, (500, 8))
    x[:, :2] += rng.choice([-3.0, 3.0], (500, 2))
    tried = {
        t.dims: t.held_out
        for t in choose_mixture(x, [str(n) for n in range(500)], components=(4,), kinds=("full",), dims=(1, 2, 8)).tried
    }
    assert tried[2] > tried[1] + 0.5
    assert tried[2] > tried[8]  # 8 dimensions of full covariance fit the noise


def test_fitting_is_repeatable_and_groups_stay_whole() -> None:
    x = clouds(240)
    groups = [f"g{n // 4}" for n in range(240)]
    one, two = (choose_mixture(x, groups, components=(2,), kinds=("diag",), dims=(4,), seed=5) for _ in range(2))
    assert one.mixture.to_bytes() == two.mixture.to_bytes()
    assert one.tried == two.tried
    # A group of copies that would leak: held-out likelihood must not profit from knowing the point already.
    doubled = np.repeat(clouds(80), 5, axis=0)
    apart = choose_mixture(doubled, [str(n) for n in range(400)], components=(5,), kinds=("diag",), dims=(4,))
    whole = choose_mixture(doubled, [str(n // 5) for n in range(400)], components=(5,), kinds=("diag",), dims=(4,))
    assert whole.choice.held_out < apart.choice.held_out


def test_a_mixture_that_collapses_says_so() -> None:
    x = clouds(200, d=20)
    with pytest.raises(ModelError, match=r"component .* holds .* photographs.*fewer components.*tied or diag"):
        fit_mixture(x, Choice("full", 16, 20))
    same = np.repeat(np.random.default_rng(0).normal(size=(1, 6)), 100, axis=0)
    with pytest.raises(ModelError, match="all embeddings are the same"):
        fit_mixture(same, Choice("full", 1, 2))
    with pytest.raises(ModelError, match="no mixture could be fitted.*fewer components"):
        choose_mixture(x, [str(n) for n in range(200)], components=(16,), kinds=("full",), dims=(20,))


def test_candidates_that_collapse_are_passed_over() -> None:
    x = clouds(200, d=20)
    result = choose_mixture(x, [str(n) for n in range(200)], components=(1, 16), kinds=("full",), dims=(20,))
    assert result.choice.components == 1
    assert [t.problem != "" for t in result.tried] == [False, True]
    assert np.isnan(result.tried[1].held_out) or result.tried[1].held_out == -np.inf


def test_the_next_best_where_the_best_collapses_on_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """It held together on the part it was chosen on; met in practice with 16 components, forced here."""
    x, groups = clouds(200, d=20), [str(n) for n in range(200)]
    forms = {"components": (1, 2), "kinds": ("diag",), "dims": (4,)}
    best = choose_mixture(x, groups, **forms).choice

    def collapses(x: object, choice: Choice, *, seed: int = 0) -> Mixture:
        if choice == best:
            raise ModelError("collapsed")
        return fit_mixture(x, choice, seed=seed)

    monkeypatch.setattr("faceproof.anomaly_fitting.fit_mixture", collapses)
    result = choose_mixture(x, groups, **forms)
    assert result.choice.components == 3 - best.components
    assert result.choice.held_out < best.held_out
    with pytest.raises(ModelError, match="every mixture that stood on a part collapsed on all photographs.*collapsed"):
        choose_mixture(x, groups, components=(best.components,), kinds=("diag",), dims=(4,))


def test_too_few_photographs() -> None:
    with pytest.raises(UsageError, match="49 photographs.*at least 50"):
        choose_mixture(clouds(49), [str(n) for n in range(49)])
    with pytest.raises(UsageError, match="4 groups.*at least 5"):
        choose_mixture(clouds(100), [str(n % 4) for n in range(100)])
    with pytest.raises(UsageError, match="not finite"):
        choose_mixture(np.full((100, 3), np.nan), [str(n) for n in range(100)])
    with pytest.raises(UsageError, match="99 groups for 100"):
        choose_mixture(clouds(100), [str(n) for n in range(99)])
