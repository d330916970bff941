"""Maximum mean discrepancy: how far apart two samples lie in the space of a kernel."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from repalign.errors import InputError
from repalign.metrics.base import UndefinedError
from repalign.metrics.gram import pairs
from repalign.twosample.base import TwoSampleStatistic
from repalign.twosample.means import MeanContrast
from repalign.twosample.pooled import Pooled


@final
@dataclass(frozen=True)
class MMD2(TwoSampleStatistic):
    """Estimate the squared maximum mean discrepancy without bias, Gaussian kernel (Gretton et al. 2012, eq. 3).

    `Σ_{i≠j} k(x_i, x_j) / n_x(n_x−1) + Σ_{i≠j} k(y_i, y_j) / n_y(n_y−1) − 2 Σ_ij k(x_i, y_j) / n_x n_y` with
    `k = exp(−d² / (2 t² σ²))`, t = `bandwidth`. σ is the median of the Euclidean distances d (not of their squares)
    over all pairs i < j of the pooled points, so it is the same for every arrangement of the labels. In −2..2, 0 on
    average for equal distributions; negative values are legitimate. Blind to differences much finer or much coarser
    than tσ: two conditions that differ in a few of many dimensions can look alike. For pairs of near copies the
    terms k(x_i, y_i) make it negative though the copies differ: the swaps within pairs, not zero, say what to expect.
    """

    bandwidth: float = 1.0

    name: ClassVar[str] = "mmd2"
    in_units: ClassVar[bool] = False
    reference: ClassVar[str] = (
        "Gretton, Borgwardt, Rasch, Schölkopf & Smola 2012, A Kernel Two-Sample Test, JMLR 13:723–773, Lemma 6"
    )

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < float("inf"):
            raise InputError(f"mmd2: bandwidth must be a positive number of median distances, not {self.bandwidth}")

    def prepare(self, pooled: Pooled) -> MeanContrast:
        """Compute the kernel of the pooled points.

        Raises UndefinedError when half of the distances are zero, so that the bandwidth is.
        """
        median = float(np.median(pairs(pooled.distances).numpy()))
        if median == 0:
            raise UndefinedError("the median distance between the pooled points is zero, so the kernel has no width")
        kernel = torch.exp((pooled.distances / (self.bandwidth * median)).square_().div_(-2))
        return MeanContrast(1.0, 1.0, kernel.fill_diagonal_(0.0), unbiased=True)
