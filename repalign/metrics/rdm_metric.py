"""What all forms of representational similarity analysis share: the distance within a layer, and its options."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import Metric
from repalign.metrics.rdm import RDMS, REPEAT_RDMS

RDM_NAMES = {
    "correlation": "correlation",
    "euclidean": "Euclidean",
    "sqeuclidean": "squared Euclidean",
    "cosine": "cosine",
    "crossnobis": "crossnobis",
}
COMPARISON_NAMES = {
    "spearman": "Spearman",
    "pearson": "Pearson",
    "cosine": "cosine",
    "kendall_a": "Kendall's τ-a",
    "kendall_b": "Kendall's τ-b",
    "corr_cov": "whitened Pearson",
    "cosine_cov": "whitened cosine",
}


@dataclass(frozen=True)
class RdmMetric(Metric):
    """A comparison of two RDMs: `rdm` is the distance between two stimuli within a layer, `compare` the comparison.

    Each final class takes the comparisons it lists in `comparisons`. Features measured repeatedly are averaged
    over the repeats, except for crossnobis distances, which need the repeats.
    """

    rdm: str = "correlation"
    compare: str = "spearman"

    name: ClassVar[str] = "rsa"
    comparisons: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        check_choice("rdm", self.rdm, (*RDMS, *REPEAT_RDMS))
        check_choice("compare", self.compare, self.comparisons)

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        return f"RSA, {COMPARISON_NAMES[self.compare]} of {RDM_NAMES[self.rdm]} distances"

    @property
    def invariances(self) -> frozenset[str]:
        """List what the distance ignores; the scale is always ignored."""
        return frozenset(
            {
                "correlation": {"scale", "row_affine"},
                "cosine": {"scale", "orthogonal"},
            }.get(self.rdm, {"shift", "scale", "orthogonal"})
        )

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Compute the RDM of the features.

        Raises InputError for a distance that needs repeats.
        """
        if self.rdm in REPEAT_RDMS:
            raise InputError(
                f"rsa: {self.rdm} distances need repeated measurements (repeats, stimuli, features), but this layer "
                f"holds one, {tuple(x.shape)}; give repeats, or use rdm=sqeuclidean. To compare a layer measured once "
                f"with one measured repeatedly, give the {self.rdm} distances of the latter as an RDM"
            )
        return RDMS[self.rdm](x)

    def geometry_of_rdm(self, rdm: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Take a given RDM as it is, missing pairs NaN."""
        return rdm.double()

    def geometry_of_repeats(self, x: Float[Tensor, "r n d"]) -> Float[Tensor, "n k"]:
        """Compute the RDM of the mean over repeats, or across repeats. A subset of stimuli keeps the noise of all."""
        return REPEAT_RDMS[self.rdm](x) if self.rdm in REPEAT_RDMS else super().geometry_of_repeats(x)


def check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    """Raise InputError unless the option of rsa is one of those known."""
    if value not in known:
        raise InputError(f"rsa: {option} must be one of {', '.join(known)}, not {value!r}")
