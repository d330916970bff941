"""Ridge regression of many targets on one decomposition, its strength chosen by generalised cross-validation.

Symbols: `m` training and `t` held-out stimuli, `k` features of X, `r` their rank, `q` units of Y; `λ` the squared
singular values of the centred training features.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.metrics.gram import EPSILON

# over the mean eigenvalue of the training Gram, one a decade; strong to weak, so that of equals the strongest is taken
STRENGTHS = tuple(10.0**e for e in range(6, -7, -1))


@dataclass(frozen=True)
class Ridge:
    """Features decomposed once for all targets and strengths: left singular vectors, singular values, `X_test V`."""

    left: Float[Tensor, "m r"]
    singular: Float[Tensor, " r"]
    held_out: Float[Tensor, "t r"]

    def predict(self, y: Float[Tensor, "m q"]) -> Float[Tensor, "t q"]:
        """Predict held-out targets from centred training targets, `X_test V diag(s/(s² + α)) Uᵀ Y`."""
        rotated = self.left.T @ y
        alpha = self._strength(rotated.square().sum(1), float(y.square().sum()))
        return self.held_out @ ((self.singular / (self.singular.square() + alpha))[:, None] * rotated)

    def _strength(self, energy: Float[Tensor, " r"], total: float) -> float:
        """Choose the α that minimises `GCV(α) = m ‖(I − H)Y‖² / (m − 1 − tr H)²`, `H = XXᵀ (XXᵀ + αI)⁻¹`.

        The 1 is for the mean; `energy` is the part of ‖Y‖², `total`, along each left singular vector. This is V of
        Golub, Heath & Wahba 1979, numerator summed over units.
        """
        m, rank = self.left.shape
        squares = self.singular.square()
        alphas = torch.tensor(STRENGTHS, dtype=torch.float64, device=squares.device) * squares.sum() / m
        kept_out = alphas[:, None] / (squares + alphas[:, None])
        beyond = 0.0 if rank >= m - 1 else max(total - float(energy.sum()), 0.0)  # what no strength can explain
        freedom = kept_out.sum(1) + (m - 1 - rank)
        gcv = (kept_out.square() @ energy + beyond) / freedom.square()
        return float(alphas[gcv.argmin()])


def decomposed(train: Float[Tensor, "m k"], test: Float[Tensor, "t k"]) -> Ridge:
    """Decompose training features about their mean, and lay the held-out ones out along their axes."""
    mean = train.mean(0)
    left, singular, right = torch.linalg.svd(train - mean, full_matrices=False)
    rank = int((singular > max(train.shape) * EPSILON * train.abs().max()).sum())
    return Ridge(left[:, :rank], singular[:rank], (test - mean) @ right[:rank].T)
