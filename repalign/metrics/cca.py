"""Canonical correlations: how far two representations span the same directions over stimuli."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import PairMetric, UndefinedError
from repalign.metrics.coordinates import centred, coordinates
from repalign.metrics.gram import EPSILON
from repalign.metrics.ranks import TIE


@final
@dataclass(frozen=True)
class CCA(PairMetric):
    """Average the squared canonical correlations, `R²_CCA = ‖Q_Yᵀ Q_X‖²_F / min(r_X, r_Y)`; 0..1.

    The columns of Q are an orthonormal basis of the centred features, r their rank: singular values above
    `max(n, d) · 2.2e-16` of the largest count, after every feature was scaled to length 1. Kornblith et al.
    divide by the number of features of X; the smaller rank makes the score symmetric and reach 1.

    Invariant to every invertible linear map, so a direction of tiny variance counts as much as the largest.
    Misleads when the features are not far fewer than the stimuli: independent ones score `max(r_X, r_Y)/(n − 1)`
    on average. A layer of rank n − 1 spans everything and would score 1 with any other, so it has no score (NaN).
    Its jackknife intervals are too wide (98 to 100 % hold where 95 should).
    """

    name: ClassVar[str] = "cca"
    reference: ClassVar[str] = (
        "Kornblith, Norouzi, Lee & Hinton 2019, Similarity of Neural Network Representations Revisited, "
        "arXiv:1905.00414, table 1 (R²_CCA); Hotelling 1936, doi:10.1093/biomet/28.3-4.321"
    )
    pairwise: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """Name the metric for a person."""
        return "CCA, mean squared correlation"

    @property
    def bounds(self) -> tuple[float, float]:
        """Give 0..1."""
        return (0.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "the larger rank over n − 1 on average; meaningless near 1"

    @property
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average: they don't."""
        return False

    @property
    def invariances(self) -> frozenset[str]:
        """List shift and every invertible linear map."""
        return frozenset({"shift", "scale", "orthogonal", "affine"})

    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Scale every feature to length 1, which CCA can't see, and rotate them into at most n axes."""
        return coordinates(unit_columns(x))

    def embed(self, geometry: Float[Tensor, "n k"]) -> Float[Tensor, "n r"]:
        """Find an orthonormal basis of the centred features.

        Raises UndefinedError when it has n − 1 vectors, all there are.
        """
        return _proper(principal(coordinates(geometry)).basis, "cka_linear, or more stimuli than features")

    def score(self, a: Float[Tensor, "n p"], b: Float[Tensor, "n q"]) -> float:
        """Average the squared cosines between two bases."""
        return float((a.T @ b).square().sum()) / min(a.shape[1], b.shape[1])


@final
@dataclass(frozen=True)
class SVCCA(PairMetric):
    """Average the canonical correlations of the leading principal components, `Σ ρ_i / min(k_X, k_Y)`; 0..1.

    Each side keeps the fewest components with at least `variance` of its variance (1: all of them), k in number;
    ρ are the singular values of `Q_Yᵀ Q_X`, not squared.

    Invariant to shift, isotropic scale and rotation. Misleads when k is not far below n, since ρ grows towards 1
    whatever the features; a layer that keeps n − 1 components has no score (NaN). The number of components can
    jump with a small change of the features, and the score with it.
    """

    variance: float = 0.99

    name: ClassVar[str] = "svcca"
    reference: ClassVar[str] = (
        "Raghu, Gilmer, Yosinski & Sohl-Dickstein 2017, SVCCA: Singular Vector Canonical Correlation Analysis, "
        "arXiv:1706.05806"
    )
    pairwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.variance <= 1:
            raise InputError(f"svcca: variance must be a share above 0 and at most 1, not {self.variance}; try 0.99")

    @property
    def label(self) -> str:
        """Name the metric and its options for a person."""
        return f"SVCCA, {self.variance:.6g} of variance"

    @property
    def bounds(self) -> tuple[float, float]:
        """Give 0..1."""
        return (0.0, 1.0)

    @property
    def chance(self) -> str:
        """Say what independent features give."""
        return "above 0, and near 1 when the components kept are nearly as many as the stimuli"

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
        """Find the leading principal components, of length 1.

        Raises UndefinedError when n − 1 are kept, all there are.
        """
        found = principal(coordinates(geometry))
        left_out = found.values.square().flip(0).cumsum(0).flip(0)  # from each component on: exact for small ones
        allowed = (1 - self.variance) * left_out[0] * (1 + TIE)
        kept = int((left_out > allowed).sum())
        return _proper(found.basis[:, :kept], f"a variance below {self.variance:g}, or more stimuli")

    def score(self, a: Float[Tensor, "n p"], b: Float[Tensor, "n q"]) -> float:
        """Average the cosines of the principal angles between two bases."""
        return float(torch.linalg.svdvals(a.T @ b).mean())


@dataclass(frozen=True)
class Principal:
    """The left singular vectors of centred features and their singular values, as many as the rank."""

    basis: Float[Tensor, "n r"]
    values: Float[Tensor, " r"]


def principal(x: Float[Tensor, "n k"]) -> Principal:
    """Decompose centred features; singular values below `max(n, k) · ε` of the largest are rounding."""
    basis, values, _ = torch.linalg.svd(x, full_matrices=False)
    rank = int((values > max(x.shape) * EPSILON * values[0]).sum())
    return Principal(basis[:, :rank], values[:rank])


def unit_columns(x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """Scale every feature that varies to length 1 about its mean, so that none is lost beside a larger one.

    Raises UndefinedError when none varies.
    """
    values = x.to(torch.float64)
    largest = values.abs().amax(0)
    values = centred(values / torch.where(largest > 0, largest, 1.0))
    values = values[:, values.abs().amax(0) > len(x) * EPSILON]
    if not values.shape[1]:
        raise UndefinedError("the features are the same for every stimulus")
    return values / values.norm(dim=0)


def _proper(basis: Float[Tensor, "n r"], remedy: str) -> Float[Tensor, "n r"]:
    n, rank = basis.shape
    if rank >= n - 1:
        raise UndefinedError(
            f"its {rank} directions are all that {n} centred stimuli have, so it would correlate perfectly with every "
            f"layer; use {remedy}"
        )
    return basis
