"""The pooled sample: both conditions one below the other, and the distances between all of their points."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.gram import PANEL, squared_distances

NEAR = 1e-3  # of |a|² + |b|²: below it a squared distance taken from products has lost more than 3 of its 16 digits
ELEMENTS = 1 << 22  # float64 numbers held at once while near points are subtracted


@dataclass(frozen=True)
class Pooled:
    """Points `(N, d)` of x, then of y, as given; `unit` is the power of two next to their largest magnitude.

    Everything is computed on features divided by `unit`, which rounds nothing, so no square over- or underflows.
    """

    features: Float[Tensor, "N d"]
    n_x: int
    unit: float

    @property
    def n_y(self) -> int:
        """Count the points of y."""
        return len(self.features) - self.n_x

    def panels(self) -> Iterator[Float[Tensor, "N p"]]:
        """Yield the columns in float64 and in units of `unit`, a panel at a time."""
        for panel in self.features.split(PANEL, dim=1):
            yield panel.to(torch.float64) / self.unit

    @cached_property
    def distances(self) -> Float[Tensor, "N N"]:
        """Compute the Euclidean distances between all points, in units of `unit`.

        Products of centred features give them, and subtraction where points are so near that products lose digits:
        a stimulus and its slightly altered copy.
        """
        gram = self.features.new_zeros(len(self.features), len(self.features), dtype=torch.float64)
        for panel in self.panels():
            centred = panel - panel.mean(0)
            gram.addmm_(centred, centred.T)
        squares = squared_distances(gram)
        lengths = gram.diagonal()
        near = (squares < NEAR * (lengths[:, None] + lengths)).triu(1).nonzero()
        exact = self._squares_by_subtraction(near)
        squares[near[:, 0], near[:, 1]] = exact
        squares[near[:, 1], near[:, 0]] = exact
        return squares.sqrt_()

    def project(self, directions: Float[Tensor, "d p"]) -> Float[Tensor, "N p"]:
        """Project the centred points onto directions, in units of `unit`."""
        found = directions.new_zeros(len(self.features), directions.shape[1])
        for panel, part in zip(self.panels(), directions.split(PANEL, dim=0), strict=True):
            found.addmm_(panel - panel.mean(0), part)
        return found

    def _squares_by_subtraction(self, near: Int[Tensor, "k 2"]) -> Float[Tensor, " k"]:
        squares = self.features.new_zeros(len(near), dtype=torch.float64)
        for panel in self.panels():
            step = max(1, ELEMENTS // panel.shape[1])
            for some, total in zip(near.split(step), squares.split(step), strict=True):
                total += (panel[some[:, 0]] - panel[some[:, 1]]).square().sum(1)
        return squares


def pool(x: Float[Tensor, "nx d"], y: Float[Tensor, "ny d"]) -> Pooled:
    """Lay y below x and find their common unit."""
    largest = max(float(x.abs().max()), float(y.abs().max()))
    unit = 2.0 ** (math.frexp(largest)[1] - 1) if largest else 1.0
    return Pooled(torch.cat([x, y]), len(x), unit)


def check_conditions(a: str, b: str, x: Tensor, y: Tensor, paired: bool) -> None:
    """Raise InputError unless two conditions have one width and enough points, as many in each when paired."""
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"{a} has {x.shape[1]} features and {b} {y.shape[1]}; both conditions must come from one "
            "layer of one encoder"
        )
    if paired and len(x) != len(y):
        raise InputError(
            f"{a} has {len(x)} stimuli and {b} {len(y)}; pairs need the same stimuli in both, or use paired=False"
        )
    if min(len(x), len(y)) < 2:
        raise InputError(f"two-sample statistics need at least 2 stimuli of each condition, not {len(x)} and {len(y)}")
