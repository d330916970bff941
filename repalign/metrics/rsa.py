"""Representational similarity analysis: compare two dissimilarity matrices entry by entry."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.metrics.base import Centring, CosineMetric, Metric, UndefinedError
from repalign.metrics.gram import EPSILON, from_pairs, largest, pairs
from repalign.metrics.kendall import KendallRSA
from repalign.metrics.ranks import midranks_
from repalign.metrics.rdm_metric import RdmMetric, check_choice
from repalign.metrics.whitened import WhitenedRSA


@final
@dataclass(frozen=True)
class RSA(RdmMetric, CosineMetric):
    """Correlate the upper triangles of two RDMs: Spearman's ρ (midranks), Pearson's r, or their cosine.

    `rdm` is the distance between two stimuli within one layer: correlation, euclidean, sqeuclidean, cosine, or
    crossnobis for repeated measurements. Spearman ignores how distances are scaled; Pearson and cosine do not. The
    cosine of two sets of positive distances is high for unrelated features too. Entries of an RDM share stimuli:
    their number says nothing about certainty. Pearson's interval is too narrow for heavy-tailed features (t3: 92 % of
    95 % intervals hold, 83 % at n = 1,000), where one stimulus can carry the variance; Spearman's is not.
    """

    compare: str = "spearman"

    comparisons: ClassVar[tuple[str, ...]] = ("spearman", "pearson", "cosine")
    reference: ClassVar[str] = (
        "Kriegeskorte, Mur & Bandettini 2008, Representational similarity analysis, doi:10.3389/neuro.06.004.2008"
    )

    @property
    def bounds(self) -> tuple[float, float]:
        """Give −1..1, or 0..1 for the cosine of distances that can't be negative."""
        return (0.0, 1.0) if self.compare == "cosine" and self.rdm != "crossnobis" else (-1.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        if self.unbiased:
            return "0 on average"
        if self.rdm == "crossnobis":
            return "above 0 when the stimuli differ in both"
        return "well above 0: all distances are positive"

    @property
    def leaves_pairs_out(self) -> bool:
        """Tell whether pairs within a group can be left out: an RDM is a list of pairs."""
        return True

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average."""
        return self.compare != "cosine"

    @property
    def centring(self) -> Centring:
        """Name the form of the embedding. Spearman's ranks stay those of all stimuli, an approximation."""
        return "none" if self.compare == "cosine" else "mean"

    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Rank and centre the pairs, centre them, or leave them; missing pairs (NaN) become 0.

        Raises UndefinedError when all distances are equal.
        """
        return self.embed_in_place(geometry.clone())

    def embed_in_place(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Do what `embed` does where the geometry is."""
        values = pairs(geometry)
        present = torch.isfinite(values)
        if present.all():
            return from_pairs(self._compared(values), len(geometry), out=geometry)
        values[present] = self._compared(values[present])
        values[~present] = 0.0
        return from_pairs(values, len(geometry), out=geometry)

    def _compared(self, values: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        if not len(values):
            raise UndefinedError("all its distances are equal")
        scale = largest(values)
        if self.compare == "spearman":
            values = midranks_(values)
            scale = float(len(values))
        if self.compare != "cosine":
            values -= values.mean()
        if largest(values) <= len(values) * EPSILON * scale:
            raise UndefinedError("all its distances are equal")
        return values


FORMS: dict[str, type[RSA] | type[KendallRSA] | type[WhitenedRSA]] = {
    compare: form for form in (RSA, KendallRSA, WhitenedRSA) for compare in form.comparisons
}


def rsa(rdm: str = "correlation", compare: str = "spearman") -> Metric:
    """Choose the form of RSA that compares two RDMs as `compare` says.

    Raises InputError for an unknown distance or comparison.

    >>> rsa(compare="kendall_b").label
    "RSA, Kendall's τ-b of correlation distances"
    """
    check_choice("compare", compare, tuple(FORMS))
    return FORMS[compare](rdm, compare)
