"""What every two-sample statistic is: options that name it, and a form that values any arrangement of the labels.

Symbols: `N = n_x + n_y` points of both conditions, `n` pairs, `m` arrangements.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from repalign.twosample.pooled import Pooled


@dataclass(frozen=True)
class Arrangeable(ABC):
    """A statistic of one pooled sample, ready for every arrangement of its labels.

    `scale` is the largest magnitude that enters a sum, from which rounding is judged; `unit` turns a value into the
    units of the features.
    """

    scale: float
    unit: float

    @abstractmethod
    def relabelled(self, first: Bool[Tensor, "m N"]) -> Float[Tensor, " m"]:
        """Value the statistic with the points marked in `first` as x and the others as y."""

    def swapped(self, signs: Int8[Tensor, "m n"]) -> Float[Tensor, " m"]:
        """Value the statistic with x and y of every pair of sign −1 changing places."""
        return self.relabelled(torch.cat([signs > 0, signs < 0], dim=1))


@dataclass(frozen=True)
class TwoSampleStatistic(ABC):
    """A distance between two samples of points; its options are the dataclass fields.

    Exchanging x and y leaves it as it is, and so do a common shift and a common rotation; with `in_units` it scales
    with the features, else a common scale changes nothing. `reference` names the source.
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    in_units: ClassVar[bool] = True

    def for_counts(self, n_x: int, n_y: int) -> "tuple[TwoSampleStatistic, str]":
        """Choose the statistic that so many points allow, and say why when it is another one.

        Raises InputError when none is possible.
        """
        return self, ""

    @abstractmethod
    def prepare(self, pooled: Pooled) -> Arrangeable:
        """Do once what every arrangement shares.

        Raises UndefinedError when these points leave the statistic without a value.
        """

    @property
    def options(self) -> dict[str, int | float]:
        """List the options by name."""
        return asdict(self)
