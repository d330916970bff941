"""Distance correlation: the cosine between two centred Euclidean distance matrices."""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from repalign.metrics.cka import CKA
from repalign.metrics.rdm import euclidean


@final
@dataclass(frozen=True)
class DistanceCorrelation(CKA):
    """Compare centred Euclidean distance matrices A, B: the squared correlation `⟨A, B⟩ / (‖A‖ ‖B‖)`.

    `debiased` (default) is the bias-corrected form of 2014, U-centred distances, −1..1 and 0 on average for
    independent features; negative values are legitimate and have no square root. The biased form of 2007 (V-statistic,
    0..1) grows towards 1 with d/n whatever the features. In the population it is 0 only for independent features,
    so it also sees relations that linear CKA can't. It is CKA with the kernel −distance (Sejdinovic et al. 2013,
    doi:10.1214/13-AOS1140). Unchanged by shift, isotropic scale and rotation.

    It misleads beside unsquared distance correlations, which are larger, and when a few far stimuli make up most
    of the distances.
    """

    name: ClassVar[str] = "distance_correlation"
    reference: ClassVar[str] = (
        "Székely, Rizzo & Bakirov 2007, doi:10.1214/009053607000000505, def. 3; debiased with Székely & Rizzo 2014, "
        "doi:10.1214/14-AOS1255"
    )

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        return f"Squared distance correlation, {self.kind}"

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Compute the Euclidean distances."""
        return euclidean(x)
