"""Mutual nearest neighbours: the share of nearest stimuli that two representations have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics import rdm
from repalign.metrics.base import PairMetric, UndefinedError
from repalign.metrics.gram import EPSILON
from repalign.metrics.ranks import TIE

DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {"cosine": rdm.cosine, "euclidean": rdm.sqeuclidean}


@final
@dataclass(frozen=True)
class MutualKNN(PairMetric):
    """Average the share of nearest neighbours two layers have in common, `mean_i |N_X(i) ∩ N_Y(i)| / k`; 0..1.

    N(i) are the k stimuli nearest to stimulus i, itself left out. Huh et al. take the largest inner products of
    features brought to length 1, which is `distance="cosine"`, and k = 10; `"euclidean"` compares lengths too.
    (Their code first clips each layer's magnitudes at their 95 % quantile; we don't.)

    Stimuli whose distance equals the k-th smallest, to 1e-10 of the largest distance, share the places that are
    left: each is a neighbour with the same probability. The score is the overlap to be expected when both layers
    break their ties at random, each for itself, so no order of stimuli matters, and a layer with such ties
    scores below 1 with itself.

    Invariant to scale and rotation, `euclidean` to shift too. Only local order counts: two layers can agree on
    categories and score near 0, or differ in everything coarse and score near 1. Frames of one video are each
    other's neighbours in any layer, so they inflate the score: k should be larger than a group, or compare one
    frame a video. Values of different n or k can't be compared. A delete-one jackknife overstates the standard error
    (0.050 for 0.028 at n = 60, k = 5), since an overlap jumps.
    """

    k: int = 10
    distance: str = "cosine"

    name: ClassVar[str] = "mutual_knn"
    reference: ClassVar[str] = (
        "Huh, Cheung, Wang & Isola 2024, The Platonic Representation Hypothesis, arXiv:2405.07987"
    )

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"mutual_knn: k must be at least 1 neighbour, not {self.k}; try 10")
        if self.distance not in DISTANCES:
            raise InputError(f"mutual_knn: distance must be one of {', '.join(DISTANCES)}, not {self.distance!r}")

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        return f"Mutual k-NN, {self.k} by {'Euclidean' if self.distance == 'euclidean' else self.distance} distance"

    @property
    def bounds(self) -> tuple[float, float]:
        """Give 0..1."""
        return (0.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return f"{self.k}/(n − 1) on average"

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average: they don't."""
        return False

    @property
    def invariances(self) -> frozenset[str]:
        """List scale and rotation, and shift for Euclidean distances."""
        return frozenset({"scale", "orthogonal"} | ({"shift"} if self.distance == "euclidean" else set()))

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Compute the distances; cosine as the chord between two patterns of length 1, `√(1 − cos)` but for a factor.

        Raises UndefinedError when the features are constant, InputError when a pattern is zero and has no cosine.
        """
        if self.distance == "cosine":
            _check_rows(x)
        return DISTANCES[self.distance](x).sqrt()

    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Give the probability with which j is among the neighbours of i, rows that sum to k.

        Raises UndefinedError when all distances are equal, InputError when k is not below n − 1.
        """
        n = len(geometry)
        if self.k >= n - 1:
            raise InputError(
                f"mutual_knn: k must be at most n − 2 = {n - 2} for {n} stimuli, not {self.k} (all others would be "
                "neighbours); lower k or give more stimuli"
            )
        tolerance = TIE * float(geometry.max())
        distances = geometry.clone().fill_diagonal_(float("inf"))
        if float(geometry.max() - distances.min()) <= tolerance:
            raise UndefinedError("all its distances are equal")
        last = distances.kthvalue(self.k, dim=1, keepdim=True).values
        nearer = (distances < last - tolerance).double()
        tied = ((distances - last).abs() <= tolerance).double()
        return nearer + tied * (self.k - nearer.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)

    def score(self, a: Float[Tensor, "n n"], b: Float[Tensor, "n n"]) -> float:
        """Average the expected overlap."""
        return float(a.flatten() @ b.flatten()) / (self.k * len(a))


def _check_rows(x: Float[Tensor, "n d"]) -> None:
    largest = x.abs().amax(1)
    zero = (largest <= x.shape[1] * EPSILON * largest.max()).nonzero().flatten().tolist()
    if zero and len(zero) < len(x):
        raise InputError(
            f"{len(zero)} stimuli (row {zero[0]} first) are zero in every feature, so they have no cosine distance; "
            "leave them out or use mutual_knn:distance=euclidean"
        )
