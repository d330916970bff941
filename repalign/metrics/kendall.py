"""Kendall's τ between two RDMs."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from repalign.metrics.base import PairMetric, UndefinedError
from repalign.metrics.gram import pairs
from repalign.metrics.ranks import dense_ranks
from repalign.metrics.rdm_metric import RdmMetric


@final
@dataclass(frozen=True)
class KendallRSA(RdmMetric, PairMetric):
    """Count in how many pairs of distances two RDMs agree on which is larger: Kendall's τ, −1..1.

    `kendall_a`: (concordant − discordant) / all; a layer with tied distances scores below 1 even with itself, and
    a model with few distinct distances is not favoured (Nili et al. 2014). `kendall_b` divides by the geometric mean
    of the pairs untied in each RDM, which favours such models. Both ignore any increasing change of the distances.

    Distances equal but for rounding are ties (`dense_ranks`); missing pairs are left out. m distances take
    `O(m log m)` for every pair of layers. It misleads as Spearman does: entries of an RDM share stimuli, so their
    number says nothing about certainty; and it is smaller than Spearman's ρ for the same relation.
    """

    compare: str = "kendall_a"

    comparisons: ClassVar[tuple[str, ...]] = ("kendall_a", "kendall_b")
    reference: ClassVar[str] = (
        "Kendall 1938, A New Measure of Rank Correlation, doi:10.1093/biomet/30.1-2.81 (τ-a); Kendall 1945, "
        "doi:10.1093/biomet/33.3.239 (τ-b); for RDMs Nili et al. 2014, doi:10.1371/journal.pcbi.1003553"
    )

    @property
    def bounds(self) -> tuple[float, float]:
        """Give −1..1."""
        return -1.0, 1.0

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "0 on average"

    @property
    def leaves_pairs_out(self) -> bool:
        """Tell whether pairs within a group can be left out: an RDM is a list of pairs."""
        return True

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average: yes, over all orders of the stimuli."""
        return True

    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, " m"]:
        """Give each pair the place of its distance among the distinct ones, from 0; missing pairs are NaN.

        Raises UndefinedError when all distances are equal.
        """
        values = pairs(geometry)
        present = torch.isfinite(values)
        if present.any():
            values[present] = dense_ranks(values[present]).to(values.dtype)
        if not (values > 0).any():
            raise UndefinedError("all its distances are equal")
        return values

    def score(self, a: Float[Tensor, " m"], b: Float[Tensor, " m"]) -> float:
        """Compute τ of the pairs present in both; NaN when all of those are equal in one."""
        from scipy.stats import kendalltau

        present = torch.isfinite(a) & torch.isfinite(b)
        x, y = a[present].long().cpu().numpy(), b[present].long().cpu().numpy()
        total = len(x) * (len(x) - 1) // 2
        untied = (total - _tied(x)) * (total - _tied(y))  # Python integers: exact
        if untied == 0:
            return float("nan")
        counted: Any = kendalltau(x, y, method="asymptotic")
        tau_b = float(counted.statistic)
        # concordant − discordant is a whole number, so rounding recovers it exactly
        return tau_b if self.compare == "kendall_b" else round(tau_b * untied**0.5) / total


def _tied(ranks: NDArray[np.int64]) -> int:
    """Count the pairs that share a rank."""
    counts = np.bincount(ranks)
    return int((counts * (counts - 1) // 2).sum())
