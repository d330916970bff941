"""From an observed statistic and its null distribution to p, for one test and for many.

Symbols: `m` arrangements, `k` tests that share them.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from repalign.errors import InputError

Alternative = Literal["greater", "two-sided"]
ALTERNATIVES = ("greater", "two-sided")
TIE = 1e-10  # of the statistic's scale: values equal but for rounding count as extreme


def p_value(observed: float, null: Float[np.ndarray, " m"], alternative: str = "greater") -> float:
    """Compute `(b + 1) / (m + 1)`, b counting the null values at least as extreme as the observed one.

    `two-sided` compares distances from the mean of the null. NaN without a null or for an undefined statistic
    (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585).

    Raises InputError for another alternative.
    """
    check_alternative(alternative)
    return float(p_values(np.array([observed]), null[:, None], alternative)[0])


def p_values(
    observed: Float[np.ndarray, "*k"], null: Float[np.ndarray, "m *k"], alternative: str = "greater"
) -> Float[np.ndarray, "*k"]:
    """Compute `p_value` for many statistics that share their arrangements."""
    if not len(null):
        return np.full(observed.shape, np.nan)
    scale = np.maximum(np.abs(observed), np.abs(null).max(0))  # before centring: values equal but for rounding tie
    if alternative == "two-sided":
        centre = (null.sum(0) + observed) / (len(null) + 1)
        observed, null = np.abs(observed - centre), np.abs(null - centre)
    extreme = (null >= observed - TIE * scale).sum(0)
    return np.where(np.isnan(observed) | np.isnan(null).any(0), np.nan, (extreme + 1) / (len(null) + 1))


def max_t(observed: Float[np.ndarray, " k"], null: Float[np.ndarray, "m k"]) -> Float[np.ndarray, " k"]:
    """Adjust for k tests by the step-down maximum of standardised statistics (Westfall & Young 1993, algorithm 4.1).

    Each statistic is standardised by the mean and deviation over all arrangements, the observed one among them, so
    that measures of unequal spread weigh alike. Controls the family-wise error in the strong sense where the
    arrangements leave the joint distribution of the true nulls as it is. NaN stays NaN.
    """
    adjusted = np.full(observed.shape, np.nan)
    usable = np.isfinite(observed) & np.isfinite(null).all(0) if len(null) else np.zeros(observed.shape, bool)
    if not usable.any():
        return adjusted
    everything = np.concatenate([observed[None, usable], null[:, usable]])
    centred, spread = everything - everything.mean(0), everything.std(0)
    flat = spread <= TIE * np.abs(everything).max(0)  # the same in every arrangement, but for rounding
    z = np.where(flat, 0.0, centred / np.where(flat, 1.0, spread))
    order = np.argsort(-z[0], kind="stable")
    highest = np.maximum.accumulate(z[1:, order][:, ::-1], axis=1)[:, ::-1]
    extreme = (highest >= z[0, order] - TIE * np.abs(z).max()).sum(0)
    stepped = np.maximum.accumulate((extreme + 1) / (len(null) + 1))
    back = np.empty_like(stepped)
    back[order] = stepped
    adjusted[usable] = np.maximum(back, p_values(observed[usable], null[:, usable]))
    return adjusted


def benjamini_hochberg(p: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
    """Turn p-values into q-values of the false discovery rate (Benjamini & Hochberg 1995); NaN stays NaN."""
    q: NDArray[np.float64] = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known], method="bh")
    return q


def check_alternative(alternative: str) -> None:
    """Raise InputError unless the alternative is one that is known."""
    if alternative not in ALTERNATIVES:
        raise InputError(f"alternative must be one of {', '.join(ALTERNATIVES)}, not {alternative!r}")
