"""The ranking losses against a slow reference in numpy and cases worked out by hand. Needs the extra [train]."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

torch = pytest.importorskip("torch", reason="the extra [train] is not installed (CI installs it and runs these)")
pytestmark = pytest.mark.train

from faceproof.ranking import fidelity, joint_loss, manipulation_loss, ranking_loss  # noqa: E402

E = 1e-8


def slow(scores: list[float], values: list[float]) -> float:
    """FIELD.md 1.4, pair by pair."""
    losses = []
    for i in range(len(scores)):
        for j in range(i + 1, len(scores)):
            if math.isnan(values[i]) or math.isnan(values[j]):
                continue
            d = scores[i] - scores[j]
            g = (np.sign(values[i] - values[j]) + 1) / 2
            p = norm.cdf(2 * d)
            losses.append(1 - math.sqrt(p * g + E) - math.sqrt((1 - p) * (1 - g) + E))
    return float(np.mean(losses)) if losses else 0.0


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(6))
def test_the_loss_is_the_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 0.3, 17).astype(np.float32)
    values = rng.choice([0.001, 0.01, 0.02, np.nan], 17)  # ties and gaps
    found = ranking_loss(torch.from_numpy(scores), tensor(values))
    assert float(found) == pytest.approx(slow(scores.tolist(), values.tolist()), abs=1e-5)


def test_cases_by_hand() -> None:
    root = math.sqrt(0.5 + E)
    equal = float(ranking_loss(torch.zeros(2), tensor([1.0, 2.0])))
    assert equal == pytest.approx(1 - root - math.sqrt(E), abs=1e-6)  # no opinion, and there is an answer
    tie = float(ranking_loss(torch.zeros(2), tensor([2.0, 2.0])))
    assert tie == pytest.approx(1 - 2 * math.sqrt(0.25 + E), abs=1e-6)  # no opinion is right about a tie
    right = float(ranking_loss(torch.tensor([9.0, -9.0]), tensor([2.0, 1.0])))
    wrong = float(ranking_loss(torch.tensor([-9.0, 9.0]), tensor([2.0, 1.0])))
    assert right == pytest.approx(-1e-4, abs=1e-6)  # 1 - 1 - sqrt(e)
    assert wrong == pytest.approx(1 - 2e-4, abs=1e-6)
    sure_of_a_tie = float(ranking_loss(torch.tensor([9.0, -9.0]), tensor([2.0, 2.0])))
    assert sure_of_a_tie == pytest.approx(1 - math.sqrt(0.5) - 1e-4, abs=1e-6)
    half = 0.5 * 0.6744897501960817  # Phi(2 d) = 3/4
    assert float(ranking_loss(torch.tensor([half, 0.0]), tensor([2.0, 1.0]))) == pytest.approx(
        1 - math.sqrt(0.75) - 1e-4, abs=1e-6
    )


def test_only_the_order_of_values_counts() -> None:
    rng = np.random.default_rng(1)
    scores, values = torch.from_numpy(rng.normal(size=9)), tensor(rng.uniform(1e-4, 30, 9))
    assert torch.equal(ranking_loss(scores, values), ranking_loss(scores, torch.log(values)))
    turned = torch.flip(scores, [0]), torch.flip(values, [0])
    assert float(ranking_loss(*turned)) == pytest.approx(float(ranking_loss(scores, values)), abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "values"),
    [
        ([0.0, 0.0, 0.0], [1.0, 1.0, 2.0]),
        ([50.0, -50.0, 1e4], [1.0, 2.0, 3.0]),
        ([-3.0, 3.0, 0.0], [math.nan, math.nan, math.nan]),
        ([1.0], [1.0]),
        ([], []),
    ],
)
def test_gradients_are_finite(scores: list[float], values: list[float]) -> None:
    s = torch.tensor(scores, requires_grad=True)
    loss = ranking_loss(s, tensor(values))
    loss.backward()
    assert torch.isfinite(loss)
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()


def test_gradients_lead_to_the_right_order() -> None:
    values = tensor([3.0, 1.0, 2.0, math.nan])
    s = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.SGD([s], 0.5)
    for _ in range(60):
        optimiser.zero_grad()
        ranking_loss(s, values).backward()
        optimiser.step()
    assert s.tolist()[:3] == sorted(s.tolist()[:3], key=lambda v: s.tolist().index(v))
    assert s[0] > s[2] > s[1]
    assert s[3] == 0  # nothing is known of it
    assert float(ranking_loss(s, values).detach()) < 0.05


def test_half_precision_scores_are_ranked_in_float32() -> None:
    s = torch.tensor([4.0, -4.0], dtype=torch.bfloat16, requires_grad=True)
    loss = ranking_loss(s, tensor([1.0, 2.0]))
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(s.grad).all()


def test_manipulations() -> None:
    logits = torch.tensor([0.0, 0.0, 2.0, 80.0, -80.0, 1.0], requires_grad=True)
    labels = tensor([0, 1, 1, 1, 1, math.nan])
    p = 1 / (1 + math.exp(-2))
    wanted = np.mean([1 - math.sqrt(0.5), 1 - math.sqrt(0.5), 1 - math.sqrt(p), 0, 1]) - 1e-4
    loss = manipulation_loss(logits, labels)
    assert float(loss.detach()) == pytest.approx(wanted, abs=2e-4)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[5] == 0
    assert float(manipulation_loss(torch.ones(2), tensor([math.nan, math.nan]))) == 0


def test_the_joint_loss_is_the_sum() -> None:
    rng = np.random.default_rng(2)
    outputs = torch.from_numpy(rng.normal(size=(8, 3))).float()
    values = tensor(np.where(rng.random((8, 2)) < 0.3, np.nan, rng.normal(size=(8, 2))))
    labels = tensor([math.nan] * 4 + [0, 1, 0, 1])
    whole = sum(slow(outputs[:, k].tolist(), values[:, k].tolist()) for k in range(2))
    whole += float(manipulation_loss(outputs[:, 2], labels))
    assert float(joint_loss(outputs, values, labels)) == pytest.approx(whole, abs=1e-5)


def test_fidelity_is_one_minus_bhattacharyya() -> None:
    g = tensor([0.0, 0.25, 0.5, 1.0])
    assert fidelity(g, g).abs().max() < 3e-4
    assert torch.allclose(fidelity(1 - g, g)[[0, 3]], tensor([1.0, 1.0]), atol=3e-4)
