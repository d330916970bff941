"""Statistics that contrast mean similarities within and between two samples: MMD² and energy distance.

Both are `T = mean K_xx + mean K_yy − 2 mean K_xy` of a pooled matrix K: a Gaussian kernel, or the negative distance
(Sejdinovic et al. 2013, doi:10.1214/13-AOS1140, theorem 22). An arrangement of the labels indexes K and computes
nothing of it anew.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from repalign.twosample.base import Arrangeable

ROWS = 1024  # arrangements in one product


@final
@dataclass(frozen=True)
class MeanContrast(Arrangeable):
    """Contrast the means of a symmetric `kernel (N, N)`, its diagonal set to zero.

    `unbiased` divides sums within a sample of n by n(n−1), else by n², which counts the zero diagonal (the
    distance of a point from itself) as the V-statistic does.
    """

    kernel: Float[Tensor, "N N"]
    unbiased: bool

    def relabelled(self, first: Bool[Tensor, "m N"]) -> Float[Tensor, " m"]:
        """Value the contrast for labels `a ∈ {0, 1}`, y being `b = 1 − a`.

        With row sums r = K1, `Σ K_xx = a'Ka`, `Σ K_xy = a'r − a'Ka` and `Σ K_yy = 1'r − 2a'r + a'Ka`: one matrix
        product for all arrangements.
        """
        sums = self.kernel.sum(0)
        return torch.cat([self._relabelled(a.to(torch.float64), sums) for a in first.split(ROWS)])

    def swapped(self, signs: Int8[Tensor, "m n"]) -> Float[Tensor, " m"]:
        """Value the contrast for signs s of the pairs, as the quadratic form `s'As + c`.

        Two pairs i ≠ j bring `W = K_xx + K_yy` to the sums within and `C = K_xy + K_yx` to the sums between. Swapping
        both leaves W and C as they are, swapping one exchanges them: so they bring
        `(W + C)/2 ± s_i s_j (W − C)/2`, + within and − between, and the coefficients 1/n(n−1) (or 1/n²) within and
        −1/n² between are collected. A pair by itself brings K_xy(i, i) whatever its sign. Four times
        cheaper than `relabelled`, since A is n × n.
        """
        n = len(self.kernel) // 2
        xx, yy, xy = self.kernel[:n, :n], self.kernel[n:, n:], self.kernel[:n, n:]
        own = xy.diagonal().sum()
        within, between = 1 / (n * (n - int(self.unbiased))), 1 / n**2
        # the diagonal of W is zero; that of C is not, and belongs to the constant
        crossed = (xy + xy.T).fill_diagonal_(0.0)
        a = (xx + yy - crossed) * ((within + between) / 2)
        constant = (xx + yy + crossed).sum() * ((within - between) / 2) - 2 * between * own
        parts = (part.to(torch.float64) for part in signs.split(ROWS))
        return torch.cat([((s @ a) * s).sum(1) for s in parts]) + constant

    def _relabelled(self, a: Float[Tensor, "m N"], sums: Float[Tensor, " N"]) -> Float[Tensor, " m"]:
        n_x = a.sum(1)
        n_y = a.shape[1] - n_x
        xx = ((a @ self.kernel) * a).sum(1)
        x_all = a @ sums
        yy = sums.sum() - 2 * x_all + xx
        less = int(self.unbiased)
        within = xx / (n_x * (n_x - less)) + yy / (n_y * (n_y - less))
        return within - 2 * (x_all - xx) / (n_x * n_y)
