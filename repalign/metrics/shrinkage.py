"""The covariance of noise, shrunk so that it can be inverted, and inner products under its inverse."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.gram import EPSILON


@dataclass(frozen=True)
class ShrunkCovariance:
    """The covariance `Σ = c ((1 − ρ) EᵀE/N + ρ μ I)` of residuals `E (N, d)`, kept as its factors.

    `shrinkage` is ρ, 0..1; `variance` is μ, the mean variance of a feature; `correction` is c, N over the degrees
    of freedom.
    """

    residuals: Float[Tensor, "m d"]
    shrinkage: float
    variance: float
    correction: float

    def matrix(self) -> Float[Tensor, "d d"]:
        """Write Σ out."""
        full = self.residuals.T @ self.residuals * ((1 - self.shrinkage) / len(self.residuals))
        full.diagonal().add_(self.shrinkage * self.variance)
        return full * self.correction

    def inverse_products(self, x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n n"]:
        """Compute `X Σ⁻¹ Xᵀ` with a matrix of the smaller of d and N; `d × d` is never formed when d > N.

        Raises InputError when Σ has no inverse.
        """
        count, d = self.residuals.shape
        if d <= count:
            whitened = torch.linalg.solve_triangular(self._root(self.matrix()), x.mT, upper=False)
            return whitened.mT @ whitened
        # Woodbury: (a I + b EᵀE)⁻¹ = (I − b Eᵀ (a I + b E Eᵀ)⁻¹ E) / a
        a, b = self.shrinkage * self.variance, (1 - self.shrinkage) / count
        inner = self.residuals @ self.residuals.T * b
        inner.diagonal().add_(a)
        if a <= count * EPSILON * float(inner.diagonal().sum()):
            raise self._singular()
        seen = torch.linalg.solve_triangular(self._root(inner), self.residuals @ x.mT, upper=False)
        return (x @ x.mT - b * (seen.mT @ seen)) / (a * self.correction)

    def _root(self, matrix: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
        root, failed = torch.linalg.cholesky_ex(matrix)
        smallest, largest = root.diagonal().min(), root.diagonal().max()
        if int(failed) or float(smallest) ** 2 <= len(matrix) * EPSILON * float(largest) ** 2:
            raise self._singular()
        return root

    def _singular(self) -> InputError:
        count, d = self.residuals.shape
        return InputError(
            f"the noise covariance of {d} features from {count} residuals can't be inverted (shrinkage "
            f"{self.shrinkage:.2g}): some direction has no noise; leave out features that only copy others, or give "
            "a precision"
        )


def ledoit_wolf(residuals: Float[Tensor, "m d"], degrees: int) -> ShrunkCovariance:
    """Shrink the covariance of residuals of mean zero towards a multiple of the identity.

    `degrees` of freedom are left in the residuals, at most m. ρ = min(β², δ²)/δ², with
    `β² = (Σ_k |e_k|⁴/m − |S|²)/m` and `δ² = |S − μI|²` (Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4,
    lemmas 3.2–3.4). A feature without noise gets the variance ρμ, so nothing is divided by zero.
    Residuals of one stimulus are not independent of each other: with 2 repeats ρ is about half of the best.
    """
    m, d = residuals.shape
    squares = residuals.square().sum(1)
    variance = float(squares.sum()) / (m * d)
    products = residuals @ residuals.T if d > m else residuals.T @ residuals
    size = float(products.square().sum()) / m**2
    spread = size - d * variance**2
    error = (float(squares.square().sum()) / m - size) / m
    shrinkage = min(max(error / spread, 0.0), 1.0) if spread > d * EPSILON * size else 1.0
    return ShrunkCovariance(residuals, shrinkage, variance, m / degrees)
