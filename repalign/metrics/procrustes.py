"""Orthogonal Procrustes: how well one representation can be rotated onto another."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.metrics.base import PairMetric
from repalign.metrics.coordinates import coordinates


@final
@dataclass(frozen=True)
class Procrustes(PairMetric):
    """Score the best rotation of X onto Y, `‖XᵀY‖_*`, both centred and brought to Frobenius norm 1; 0..1.

    `‖·‖_*` is the sum of singular values, and the score is `max tr(RᵀXᵀY)` over orthogonal R. This is a
    similarity; the distances made of it are `√(2 − 2·score)` (what is left after the rotation, and the square of
    which Ding et al. report), `arccos(score)` (Williams et al.) and `1 − score²` (with the best scaling too;
    `scipy.spatial.procrustes` calls it disparity). Of different numbers of features the smaller is padded with
    zeros.

    Invariant to shift, isotropic scale and rotation. Weights directions by standard deviation, where linear CKA
    weights them by variance, so small directions count more. Misleads when features outnumber stimuli: the
    score of independent features grows towards 1 with d/n.
    """

    name: ClassVar[str] = "procrustes"
    reference: ClassVar[str] = (
        "Williams, Kunz, Kornblith & Linderman 2021, Generalized Shape Metrics on Neural Representations, "
        "arXiv:2110.14739; Ding, Denain & Steinhardt 2021, arXiv:2108.01661"
    )
    pairwise: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """Name the metric for a person."""
        return "Orthogonal Procrustes"

    @property
    def bounds(self) -> tuple[float, float]:
        """Give 0..1."""
        return (0.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "above 0, and near 1 when features outnumber stimuli"

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average: they don't."""
        return False

    @property
    def invariances(self) -> frozenset[str]:
        """List shift, isotropic scale and rotation."""
        return frozenset({"shift", "scale", "orthogonal"})

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Rotate the features into at most n axes."""
        return coordinates(x)

    def embed(self, geometry: Float[Tensor, "n k"]) -> Float[Tensor, "n r"]:
        """Centre the stimuli that are there, and bring them to Frobenius norm 1."""
        x = coordinates(geometry)
        return x / x.norm()

    def score(self, a: Float[Tensor, "n p"], b: Float[Tensor, "n q"]) -> float:
        """Sum the singular values of `XᵀY`."""
        return float(torch.linalg.svdvals(a.T @ b).sum())
