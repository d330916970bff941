"""Representational similarity analysis: compare two dissimilarity matrices entry by entry."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import Centring, CosineMetric, UndefinedError
from repalign.metrics.gram import EPSILON, from_pairs, pairs
from repalign.metrics.ranks import midranks
from repalign.metrics.rdm import RDMS

COMPARISONS = ("spearman", "pearson", "cosine")
LABELS = {"sqeuclidean": "squared Euclidean", "euclidean": "Euclidean"}


@final
@dataclass(frozen=True)
class RSA(CosineMetric):
    """Correlate the upper triangles of two RDMs: Spearman's ρ (midranks), Pearson's r, or their cosine.

    `rdm` is the distance between two stimuli within one layer: correlation, euclidean, sqeuclidean or cosine.
    Spearman ignores how distances are scaled; Pearson and cosine do not. The cosine of two sets of positive
    distances is high for unrelated features too. Entries of an RDM share stimuli: their number says nothing
    about certainty.
    """

    rdm: str = "correlation"
    compare: str = "spearman"

    name: ClassVar[str] = "rsa"
    reference: ClassVar[str] = (
        "Kriegeskorte, Mur & Bandettini 2008, Representational similarity analysis, doi:10.3389/neuro.06.004.2008"
    )

    def __post_init__(self) -> None:
        if self.rdm not in RDMS:
            raise InputError(f"rsa: rdm must be one of {', '.join(RDMS)}, not {self.rdm!r}")
        if self.compare not in COMPARISONS:
            raise InputError(f"rsa: compare must be one of {', '.join(COMPARISONS)}, not {self.compare!r}")

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        compare = self.compare if self.compare == "cosine" else self.compare.capitalize()
        return f"RSA, {compare} of {LABELS.get(self.rdm, self.rdm)} distances"

    @property
    def bounds(self) -> tuple[float, float]:
        """Give −1..1, or 0..1 for the cosine of distances."""
        return (0.0, 1.0) if self.compare == "cosine" else (-1.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "well above 0: all distances are positive" if self.compare == "cosine" else "0 on average"

    @property
    def invariances(self) -> frozenset[str]:
        """List what the distance ignores; the scale is always ignored."""
        return frozenset(
            {
                "correlation": {"scale", "row_affine"},
                "cosine": {"scale", "orthogonal"},
            }.get(self.rdm, {"shift", "scale", "orthogonal"})
        )

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average."""
        return self.compare != "cosine"

    @property
    def centring(self) -> Centring:
        """Name the form of the embedding. Spearman's ranks stay those of all stimuli, an approximation."""
        return "none" if self.compare == "cosine" else "mean"

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Compute the RDM of the features."""
        return RDMS[self.rdm](x)

    def geometry_of_rdm(self, rdm: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Take a given RDM as it is, missing pairs NaN."""
        return rdm.double()

    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Rank and centre the pairs, centre them, or leave them; missing pairs (NaN) become 0.

        Raises UndefinedError when all distances are equal.
        """
        values = pairs(geometry)
        present = torch.isfinite(values)
        values[present] = self._compared(values[present])
        values[~present] = 0.0
        return from_pairs(values, len(geometry))

    def _compared(self, values: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        scale = float(values.abs().max()) if len(values) else 0.0
        if self.compare == "spearman" and len(values):
            values = midranks(values)
            scale = float(len(values))
        if self.compare != "cosine" and len(values):
            values = values - values.mean()
        if not len(values) or float(values.abs().max()) <= len(values) * EPSILON * scale:
            raise UndefinedError("all its distances are equal")
        return values
