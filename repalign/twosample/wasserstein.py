"""1-Wasserstein distance: the least mean way to move one sample onto the other, exactly and by projections."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from repalign.errors import InputError
from repalign.twosample.base import Arrangeable, TwoSampleStatistic
from repalign.twosample.pooled import Pooled

MOST_POINTS = 2000  # of one condition that are assigned exactly; the costs of one arrangement are then 32 MB
ELEMENTS = 1 << 17  # labels of points summed at once: what a processor keeps near it (1 MB)


@final
@dataclass(frozen=True)
class Wasserstein1(TwoSampleStatistic):
    """Compute the mean distance of the best one-to-one assignment of x to y, in the units of the features.

    Never negative, 0 for equal samples only; at most the mean distance between the points of a pair. Needs as many
    points in x as in y. In many dimensions n points are far from any other n, so it is well above 0 for equal
    distributions (it falls as n^(−1/d)): compare it with the mean of its null. Where every stimulus lies nearest to
    its own copy, the pairs are the best assignment whichever of them are swapped: a paired test then sees nothing
    (p = 1, with a note), in 64 dimensions from a correlation of 0.9 on. Use `energy` or `mmd2` there.

    An assignment takes O(n³) and a test repeats it for every arrangement, on distances computed once: 1,000
    arrangements of unrelated points take about 0.5 s for n = 100, 7 s for 300 and 2 min for 1,000. Above 2,000 points
    of either condition `sliced_wasserstein1` takes its place, and the result's name and note say so: its values are
    smaller and must not be compared with these.
    """

    name: ClassVar[str] = "wasserstein1"
    reference: ClassVar[str] = (
        "Peyré & Cuturi 2019, Computational Optimal Transport, arXiv:1803.00567, proposition 2.1 and eq. 2.14"
    )

    def for_counts(self, n_x: int, n_y: int) -> tuple[TwoSampleStatistic, str]:
        """Choose the sliced distance above 2,000 points.

        Raises InputError for fewer but unequal numbers of points.
        """
        if max(n_x, n_y) > MOST_POINTS:
            sliced = SlicedWasserstein1()
            return sliced, (
                f"sliced over {sliced.n_projections} directions instead of assigned exactly, because {max(n_x, n_y):,} "
                f"points are more than {MOST_POINTS:,}; its values are smaller than those of wasserstein1"
            )
        if n_x != n_y:
            raise InputError(
                f"wasserstein1 assigns points one to one, but x has {n_x} and y {n_y}; use sliced_wasserstein1, or as "
                "many of one as of the other"
            )
        return self, ""

    def prepare(self, pooled: Pooled) -> "Assignment":
        """Take the distances as costs."""
        return Assignment(float(pooled.distances.max()), pooled.unit, pooled.distances)


@final
@dataclass(frozen=True)
class SlicedWasserstein1(TwoSampleStatistic):
    """Average the one-dimensional 1-Wasserstein distance over random directions, in the units of the features.

    In one direction it is the area between the two distribution functions, so x and y may differ in number.
    Never negative and never above `wasserstein1`; between two equal clouds a shift δ in d dimensions gives
    about |δ|√(2/(πd)). Choosing other directions moves that by 0.76/√n_projections of itself (8 % of it with
    100), so fix `projection_seed`; the p-value is valid for any directions, every arrangement having the same ones.
    Differences in few of many dimensions are thinned out.
    """

    n_projections: int = 100
    projection_seed: int = 0

    name: ClassVar[str] = "sliced_wasserstein1"
    reference: ClassVar[str] = (
        "Bonneel, Rabin, Peyré & Pfister 2015, Sliced and Radon Wasserstein Barycenters of Measures, "
        "doi:10.1007/s10851-014-0506-3, definition 1 with p = 1"
    )

    def __post_init__(self) -> None:
        if self.n_projections < 1:
            raise InputError(f"sliced_wasserstein1: n_projections must be at least 1, not {self.n_projections}")
        if self.projection_seed < 0:
            raise InputError(f"sliced_wasserstein1: projection_seed can't be negative, as {self.projection_seed} is")

    def directions(self, d: int) -> Float[Tensor, "d p"]:
        """Draw unit vectors, uniform on the sphere, one a column."""
        drawn = np.random.default_rng(self.projection_seed).normal(size=(d, self.n_projections))
        return torch.tensor(drawn / np.linalg.norm(drawn, axis=0))

    def prepare(self, pooled: Pooled) -> "Slices":
        """Project the points and sort them along every direction."""
        ordered, order = pooled.project(self.directions(pooled.features.shape[1])).sort(dim=0)
        return Slices(float(ordered.abs().max()), pooled.unit, order.T.contiguous(), ordered.diff(dim=0).T.contiguous())


@final
@dataclass(frozen=True)
class Assignment(Arrangeable):
    """The exact assignment under `costs (N, N)`, which an arrangement indexes; equal numbers of x and y."""

    costs: Float[Tensor, "N N"]

    def relabelled(self, first: Bool[Tensor, "m N"]) -> Float[Tensor, " m"]:
        """Assign anew for every arrangement.

        Raises InputError when groups of unequal size leave other numbers of x and y.
        """
        if (first.sum(1) * 2 != first.shape[1]).any():
            raise InputError(
                "wasserstein1 assigns points one to one, so relabelling whole groups needs groups of one size; cut "
                "them to one size, or use sliced_wasserstein1"
            )
        costs = self.costs.numpy()
        return torch.tensor([_mean_cost(costs[row][:, ~row]) for row in first.numpy()], dtype=torch.float64)


@final
@dataclass(frozen=True)
class Slices(Arrangeable):
    """Points sorted along p directions: `order` says which, `gaps` how far it is to the next."""

    order: Int[Tensor, "p N"]
    gaps: Float[Tensor, "p N-1"]

    def relabelled(self, first: Bool[Tensor, "m N"]) -> Float[Tensor, " m"]:
        """Sum |F_x − F_y| times the gap to the next point along every direction; nothing is sorted anew.

        The difference is kept as the whole number `n_x n_y (F_x − F_y)`, which no sum rounds.
        """
        return torch.cat([self._areas(part) for part in first.split(max(1, ELEMENTS // first.shape[1]))])

    def _areas(self, first: Bool[Tensor, "m N"]) -> Float[Tensor, " m"]:
        n = first.shape[1]
        n_x = first.sum(1)
        steps = (first.T * n - n_x).to(torch.float64)  # +n_y for a point of x, −n_x for one of y
        total = steps.new_zeros(len(first))
        for order, gaps in zip(self.order, self.gaps, strict=True):
            total += gaps @ steps.index_select(0, order[:-1]).cumsum_(0).abs_()
        return total / (n_x * (n - n_x) * len(self.order))


def _mean_cost(costs: np.ndarray) -> float:
    return float(costs[linear_sum_assignment(costs)].mean())
