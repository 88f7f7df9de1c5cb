"""Learning from pairs: which of two photographs has the longer exposure? (Zou et al. 2025, FIELD.md 1.4).

For scores s and tag values t of a batch, every pair i < j has d = s_i - s_j, the answer
g = (sign(t_i - t_j) + 1) / 2 and the belief p = Phi(2 d), Phi the standard normal's distribution function. The
loss is the mean fidelity loss (Tsai et al. 2007), 1 - sqrt(p g + e) - sqrt((1 - p)(1 - g) + e), e = 1e-8.
"""

from __future__ import annotations

import torch

__all__ = ["fidelity", "joint_loss", "manipulation_loss", "ranking_loss"]

SMALL = 1e-8


def fidelity(p: torch.Tensor, g: torch.Tensor, q: torch.Tensor | None = None) -> torch.Tensor:
    """Return the fidelity loss of beliefs `p` and answers `g`, element by element; 0 where they agree, else up to 1.

    Args:
        p, g: probabilities of one shape.
        q: 1 - p, where it is known more exactly than by taking the difference.
    """
    rest = 1 - p if q is None else q
    return 1 - torch.sqrt(p * g + SMALL) - torch.sqrt(rest * (1 - g) + SMALL)


def ranking_loss(scores: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the mean loss over all B (B - 1) / 2 pairs whose values are both known; 0 where there is none.

    Args:
        scores: (B,) of one tag's head, higher = larger value.
        values: (B,) the tag's values in any unit; NaN where unknown.
    """
    known = ~torch.isnan(values)
    s, t = scores[known].float(), values[known]
    i, j = torch.triu_indices(len(s), len(s), offset=1, device=s.device)
    if not len(i):
        return scores.sum() * 0.0  # a zero that backward can pass through
    d = s[i] - s[j]
    g = ((torch.sign(t[i] - t[j]) + 1) / 2).to(d.dtype)
    # Phi(2 d) = erfc(-sqrt(2) d) / 2: exact in both tails, where (1 + erf) / 2 is rounded to 0.
    p, q = (torch.special.erfc(sign * 2**0.5 * d) / 2 for sign in (-1, 1))
    return fidelity(p, g, q).mean()


def manipulation_loss(logits: torch.Tensor, manipulated: torch.Tensor) -> torch.Tensor:
    """Return the mean fidelity loss of telling manipulated faces; 0 where none was asked about.

    Args:
        logits: (B,) higher = more likely manipulated.
        manipulated: (B,) 1 manipulated, 0 untouched, NaN where not asked.
    """
    asked = ~torch.isnan(manipulated)
    if not bool(asked.any()):
        return logits.sum() * 0.0
    z = logits[asked].float()
    return fidelity(torch.sigmoid(z), manipulated[asked].to(z.dtype), torch.sigmoid(-z)).mean()


def joint_loss(outputs: torch.Tensor, values: torch.Tensor, manipulated: torch.Tensor) -> torch.Tensor:
    """Return the sum of the tags' ranking losses and the manipulation loss, each with weight 1.

    Args:
        outputs: (B, T + 1) heads, the last one for manipulations.
        values: (B, T) tags; NaN where unknown.
        manipulated: (B,) as in `manipulation_loss`.
    """
    tags = [ranking_loss(outputs[:, k], values[:, k]) for k in range(values.shape[1])]
    return torch.stack([*tags, manipulation_loss(outputs[:, -1], manipulated)]).sum()
