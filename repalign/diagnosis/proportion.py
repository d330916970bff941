"""Proportions of pictures: standard errors over pictures or whole groups, and intervals that hold at 0 and 1 too."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import norm
from scipy.stats import t as student

from repalign.infer.resample import members

LEVEL = 0.95


@dataclass(frozen=True)
class Proportion:
    """A share of pictures, its standard error and 95 % interval, and how many pictures or groups carry it."""

    value: float
    se: float
    ci_low: float
    ci_high: float
    units: int

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.ci_low:.1%}, {self.ci_high:.1%}]"


def proportion(correct: Shaped[np.ndarray, " n"], groups: Sequence[str] | None = None) -> Proportion:
    """Estimate the share of `correct (n,)` pictures, 0 or 1 each.

    Standard error: binomial, or over whole groups (see `clustered_se`). Interval: Wilson's (1927); with groups, of as
    many pictures as a binomial share of that error would have, and where all pictures agree, as many as groups.
    """
    values = np.asarray(correct, dtype=np.float64)
    share, n = float(values.mean()), len(values)
    units = n if groups is None else len(set(groups))
    se = sqrt(share * (1 - share) / n) if groups is None else clustered_se(values, groups)
    effective = n if groups is None else min(share * (1 - share) / se**2, n) if se > 0 else units
    z = float(norm.ppf(0.5 + LEVEL / 2))
    centre = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * sqrt(share * (1 - share) / effective + (z / (2 * effective)) ** 2)
    return Proportion(share, se, max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0), units)


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference on the same pictures, its standard error and 95 % interval."""

    value: float
    se: float
    ci_low: float
    ci_high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} points [{100 * self.ci_low:+.1f}, {100 * self.ci_high:+.1f}]"


def paired_difference(
    first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"], groups: Sequence[str] | None = None
) -> PairedDifference:
    """Compare two networks' right answers, 0 or 1 each, picture by picture: the share of the first less the second's.

    Interval: t with one degree of freedom less than there are pictures or groups.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    value, se = float(differences.mean()), clustered_se(differences, groups)
    units = len(differences) if groups is None else len(set(groups))
    half = float(student.ppf(0.5 + LEVEL / 2, units - 1)) * se if units > 1 else float("inf")
    return PairedDifference(value, se, value - half, value + half)


def clustered_se(values: Float[np.ndarray, " n"], groups: Sequence[str] | None) -> float:
    """Estimate the standard error of a mean: `√(G/(G − 1) Σ_g (Σ_{i∈g} (v_i − v̄))²) / n` over G groups.

    Single pictures are groups of one. Of one group: 0.
    """
    residuals = values - values.mean()
    sums = np.array([residuals[rows.numpy()].sum() for rows in members(len(values), groups)])
    count = len(sums)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)) if count > 1 else 0.0
