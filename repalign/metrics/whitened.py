"""Whitened comparisons of RDMs, which allow for the distances that share a stimulus."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import Centring, CosineMetric, UndefinedError
from repalign.metrics.gram import EPSILON, double_centred, from_pairs, pairs
from repalign.metrics.rdm_metric import RdmMetric


@final
@dataclass(frozen=True)
class WhitenedRSA(RdmMetric, CosineMetric):
    """Compare RDMs after whitening by the covariance V of their entries: `aᵀV⁻¹b / √(aᵀV⁻¹a · bᵀV⁻¹b)`.

    V is that of squared distances whose patterns have independent noise of one size (Σ_k = I), up to a factor; the
    value is the cosine of doubly centred RDMs, diagonal included. `cosine_cov` takes the distances as they are:
    with squared Euclidean distances it is biased linear CKA, with Euclidean ones biased squared distance correlation.
    `corr_cov` first takes out their mean, which leaves exactly 0 on average over all orders of the stimuli.

    −1..1; `cosine_cov` is not negative when both RDMs are Euclidean distances or squares of them, as all but
    crossnobis are. It is nearly the best choice for crossnobis distances, and misleads beside biased distances:
    independent features then score above 0, near 1 with more features than stimuli. Other noise needs another V.

    Raises InputError when pairs are missing, since they can't be centred.
    """

    compare: str = "cosine_cov"

    comparisons: ClassVar[tuple[str, ...]] = ("corr_cov", "cosine_cov")
    reference: ClassVar[str] = (
        "Diedrichsen, Berlot, Mur, Schütt, Shahbazi & Kriegeskorte 2021, Comparing representational geometries using "
        "whitened unbiased-distance-matrix similarity, arXiv:2007.02789, doi:10.51628/001c.27664"
    )

    @property
    def bounds(self) -> tuple[float, float]:
        """Give −1..1; a given RDM need not be Euclidean."""
        return -1.0, 1.0

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        if self.unbiased:
            return "0 on average"
        if self.rdm == "crossnobis":
            return "above 0 when the stimuli differ in both"
        return "above 0, and near 1 when features outnumber stimuli"

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average."""
        return self.compare == "corr_cov"

    @property
    def centring(self) -> Centring | None:
        """Name the form of the embedding; None for `corr_cov`, where a deletion moves the mean taken out."""
        return "double" if self.compare == "cosine_cov" else None

    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Centre the RDM doubly, after the mean of its pairs is taken out or not; the diagonal starts at zero.

        Raises InputError when pairs are missing, UndefinedError when nothing is left.
        """
        values = pairs(geometry)
        missing = int((~torch.isfinite(values)).sum())
        if missing:
            raise InputError(
                f"rsa: compare={self.compare} needs the distances of all pairs, but {missing} of {len(values)} are "
                "missing (NaN); leave the stimuli of missing pairs out, or use compare=spearman"
            )
        size = float(values.norm())
        if self.compare == "corr_cov":
            values = values - values.mean()
        centred = double_centred(from_pairs(values, len(geometry)))
        if float(centred.norm()) <= len(values) * EPSILON * size:
            what = "equal" if self.compare == "corr_cov" else "zero"
            raise UndefinedError(f"all its distances are {what}")
        return centred
