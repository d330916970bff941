"""Centred kernel alignment: the cosine between two centred kernel matrices."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import Centring, CosineMetric, UndefinedError
from repalign.metrics.gram import (
    EPSILON,
    double_centre_,
    linear_gram,
    pairs,
    squared_distances_,
    u_centre_,
)

SAMPLE = 1 << 16  # distances that say about where the median is
MEDIANS = ("all", "offdiag")


def centred_embedding_(k: Float[Tensor, "n n"], debiased: bool) -> Float[Tensor, "n n"]:
    """Turn a kernel matrix into its embedding, in place: its U-centred form (zero diagonal), or `H K H`.

    Raises UndefinedError when only rounding is left after centring.
    """
    before = float(torch.linalg.vector_norm(k))
    if math.isnan(before):  # pairs are left out; only then is a copy needed
        before = float(torch.linalg.vector_norm(k.nan_to_num()))
    centred = u_centre_(k) if debiased else double_centre_(k)
    if float(torch.linalg.vector_norm(centred)) <= len(k) * EPSILON * before:
        raise UndefinedError("its centred kernel is zero")
    return centred


@dataclass(frozen=True)
class CKA(CosineMetric):
    """What linear and RBF CKA share: `⟨K, L⟩ / (‖K‖ ‖L‖)` of centred kernels.

    `debiased` (default) uses unbiased HSIC (Song et al. 2012) in every term; values below 0 are legitimate.
    The biased form grows towards 1 with d/n whatever the features: 0.88 for independent features at d = 768,
    n = 100.
    """

    debiased: bool = True

    reference: ClassVar[str] = (
        "Kornblith, Norouzi, Lee & Hinton 2019, Similarity of Neural Network Representations Revisited, "
        "arXiv:1905.00414; debiased with Song et al. 2012, JMLR 13:1393–1434"
    )
    fewest: ClassVar[int] = 4

    @property
    def bounds(self) -> tuple[float, float]:
        """Give −1..1 debiased, 0..1 biased."""
        return (-1.0, 1.0) if self.debiased else (0.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "0 on average" if self.debiased else "above 0, and near 1 when features outnumber stimuli"

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average: debiased, up to O(1/n) of the ratio."""
        return self.debiased

    @property
    def leaves_pairs_out(self) -> bool:
        """Tell whether pairs within a group can be left out: the debiased form, which leaves out self-pairs."""
        return self.debiased

    @property
    def invariances(self) -> frozenset[str]:
        """List shift, isotropic scale and rotation."""
        return frozenset({"shift", "scale", "orthogonal"})

    @property
    def centring(self) -> Centring:
        """Name the centring of the estimator."""
        return "u" if self.debiased else "double"

    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Centre the kernel."""
        return centred_embedding_(geometry.clone(), self.debiased)

    def embed_in_place(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Centre the kernel where it is."""
        return centred_embedding_(geometry, self.debiased)

    @property
    def kind(self) -> str:
        """Name the estimator."""
        return "debiased" if self.debiased else "biased"


@final
@dataclass(frozen=True)
class LinearCKA(CKA):
    """Compare centred linear Grams, K = HXXᵀH. Dominated by the directions of largest variance."""

    name: ClassVar[str] = "cka_linear"

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        return f"Linear CKA, {self.kind}"

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Compute the linear Gram of centred features; of very wide float32 ones multiplied in float32."""
        return linear_gram(x, single=True)


@final
@dataclass(frozen=True)
class RbfCKA(CKA):
    """Compare centred Gaussian kernels `exp(−d² / (2 t² median d²))`, t = `bandwidth`.

    `median="all"` (Kornblith's) takes the median over all n × n squared distances, zero diagonal included, the
    mean of the middle two for even counts; `"offdiag"` over pairs i < j. Small bandwidths compare near
    neighbours, large ones approach linear CKA.
    """

    bandwidth: float = 1.0
    median: str = "all"

    name: ClassVar[str] = "cka_rbf"

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < float("inf"):
            raise InputError(f"cka_rbf: bandwidth must be a positive number of medians, not {self.bandwidth}")
        if self.median not in MEDIANS:
            raise InputError(f"cka_rbf: median must be one of {', '.join(MEDIANS)}, not {self.median!r}")

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        width = "" if self.bandwidth == 1 else f", bandwidth {self.bandwidth:g}"
        median = "" if self.median == "all" else ", off-diagonal median"
        return f"RBF CKA, {self.kind}{width}{median}"

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Compute the Gaussian kernel. A subset of stimuli keeps the bandwidth of all.

        Raises UndefinedError when half of the distances are zero, so that the bandwidth is.
        """
        distances = squared_distances_(linear_gram(x))
        median = median_distance(pairs(distances), len(x) if self.median == "all" else 0)
        if median == 0:
            raise UndefinedError("the median distance between stimuli is zero, so the RBF kernel has no width")
        return distances.div_(-2 * self.bandwidth**2 * median).exp_()


def median_distance(distances: Float[Tensor, " m"], diagonal: int) -> float:
    """Take the median over pairs i < j, or, with `diagonal` = n, over the whole n × n matrix with its zeros.

    The whole matrix sorted is n zeros, then each pair twice; so its middle entries are entries of the pairs.
    """
    count = 2 * len(distances) + diagonal if diagonal else len(distances)
    middle = {(count - 1) // 2, count // 2}
    places = {(i - diagonal) // 2 for i in middle} if diagonal else middle
    chosen = sorted(p for p in places if p >= 0)
    found = [0.0] * (len(places) - len(chosen)) + (_at(distances, chosen) if chosen else [])
    return sum(found) / len(found)


def _at(values: Float[Tensor, " m"], places: list[int]) -> list[float]:
    """Give the values at ascending places, were all of them sorted.

    A sample says between which two values those lie but for a chance of 1 in 10,000; if they don't, the bounds are
    moved apart. Only what is between them is put in order: a third of the time that doing it to all takes.
    """
    m = len(values)
    sample = values[:: max(1, m // SAMPLE)].sort().values.tolist()
    margin = 2 * math.sqrt(len(sample))  # four standard errors of a sample's median place
    while True:
        low, high = (math.floor(place / m * len(sample)) for place in (places[0], places[-1]))
        least = sample[int(low - margin)] if low >= margin else -math.inf
        most = sample[int(high + margin)] if high + margin < len(sample) else math.inf
        between = values[(values >= least) & (values <= most)].cpu().numpy()
        below = int(torch.count_nonzero(values < least))
        if below <= places[0] and places[-1] - below < len(between):
            break
        margin *= 4
    between.partition([place - below for place in places])
    return [float(between[place - below]) for place in places]
