"""Which arrangements of the labels a test looks at, the observed one first."""

import math
import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from repalign.errors import RepalignWarning
from repalign.metrics.base import UndefinedError
from repalign.metrics.gram import EPSILON
from repalign.twosample.base import TwoSampleStatistic
from repalign.twosample.pooled import Pooled
from repalign.twosample.units import Units

SAME = "every arrangement gives the same value, so p is 1 and says nothing"
ROUNDING = 64 * EPSILON  # of the largest kernel value or distance: a statistic below it is zero


@dataclass(frozen=True)
class Arrangements:
    """Arrangements `rows (m + 1, ·)`: ±1 for every pair (int8), or True for every point that counts as x.

    `exact`: the observed one and all others, each once; `note` says why there is none but the observed one.
    """

    rows: Shaped[Tensor, "m r"]
    n_groups: int | None
    exact: bool = False
    note: str = ""

    def values(self, statistic: TwoSampleStatistic, pooled: Pooled, what: str) -> "Valued":
        """Value every arrangement, the observed one in the same product as the others, so that ties are ties.

        What differs by rounding alone is made equal, and zero for two conditions that are the same. Without a value,
        warns and names `what`.
        """
        try:
            form = statistic.prepare(pooled)
        except UndefinedError as reason:
            warnings.warn(f"{statistic.name} of {what} has no value (NaN): {reason}", RepalignWarning, stacklevel=3)
            return Valued(np.full(len(self.rows), np.nan), 1.0, str(reason))
        values = form.relabelled(self.rows) if self.rows.dtype == torch.bool else form.swapped(self.rows)
        rounding = ROUNDING * form.scale
        if len(values) > 1 and float((values - values[0]).abs().max()) <= rounding:
            values, note = torch.full_like(values, float(values[0])), SAME
        else:
            note = ""
        return Valued(torch.where(values.abs() <= rounding, 0.0, values).numpy(), form.unit, note)


@dataclass(frozen=True)
class Valued:
    """A statistic of every arrangement of a plan, in units of `unit`; `note` says why it is NaN or never changes."""

    values: Float[np.ndarray, " m"]
    unit: float
    note: str = ""


@dataclass(frozen=True)
class Labellings:
    """Units that count as x, `first (m, u)`; `exact`: all choices but the observed one, each once."""

    first: Bool[Tensor, "m u"]
    exact: bool


def labellings(units: int, units_x: int, count: int, seed: int) -> Labellings:
    """Draw `count` choices of `units_x` of all units, those of x standing first; all when there are no more."""
    if math.comb(units, units_x) - 1 <= count:
        chosen = np.array(list(combinations(range(units), units_x))[1:], dtype=np.int64).reshape(-1, units_x)
        first = np.zeros((len(chosen), units), dtype=bool)
        np.put_along_axis(first, chosen, True, axis=1)
        return Labellings(torch.tensor(first), exact=True)
    observed = np.tile(np.arange(units) < units_x, (count, 1))
    return Labellings(torch.tensor(np.random.default_rng(seed).permuted(observed, axis=1)), exact=False)


def distinct_labellings(units: int, units_x: int) -> int:
    """Count the choices that can differ in the statistic: with as many of x as of y, exchanging them changes nothing.

    >>> distinct_labellings(7, 3), distinct_labellings(8, 4)
    (35, 35)
    """
    return math.comb(units, units_x) // (2 if units == 2 * units_x else 1)


def too_few(units: Units, distinct: int) -> str:
    """Say that so few units have no arrangement that would be rare, and how many are enough."""
    what = "groups" if units.grouped else "points"
    return (
        f"{units.count_x} {what} of x and {units.count - units.count_x} of y have {distinct} labellings, so no p can "
        f"fall below {1 / distinct:.2g}; 4 {what} of each are enough"
    )
