"""Does A align with a reference more than B does? The difference of two scores on the same stimuli."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repalign.align import Prepared, prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.checks import check_count, check_level, check_seed
from repalign.infer.jackknife import degrees_of_freedom, deleted_scores, interval, refit, standard_error
from repalign.infer.matrix import FEWEST_UNITS, deletions_for
from repalign.infer.pvalues import TIE, p_value
from repalign.infer.resample import NoTestError, given_signs, members, sign_flips
from repalign.metrics import Metric, make_metric
from repalign.wrap import as_activations, check_groups

TESTS = ("jackknife", "within")


@dataclass(frozen=True)
class Difference:
    """Score of A less score of B: its interval from the jackknife of the difference, its p from sign flips.

    `contributions (u,)` are what was flipped: one number for each group or stimulus (for a metric that is computed
    afresh with every deletion, for each of at most 50 random blocks of them). `note` says why something is
    missing (NaN).
    """

    difference: float
    score_a: float
    score_b: float
    se: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan
    p_value: float = np.nan
    n_permutations: int = 0
    n_groups: int | None = None
    contributions: Float[np.ndarray, " u"] = field(default_factory=lambda: np.zeros(0))
    note: str = ""


def difference(
    a: ArrayLike | Tensor, b: ArrayLike | Tensor, reference: ArrayLike | Tensor, metric: str | Metric = "cka_linear", *,
    test: str = "jackknife", groups: Iterable[object] | None = None, n_permutations: int = 9999, level: float = 0.95,
    seed: int = 0, signs: object = None, **options: object,
) -> Difference:  # fmt: skip
    """Compare how well `a (n, da)` and `b (n, db)` align with `reference (n, dr)` on the same stimuli.

    Interval: the jackknife of the difference, one stimulus or one group of `groups (n,)` at a time. Test, two-sided:
    under the hypothesis of no difference each unit's contribution is as likely above zero as below, so its sign may
    flip. `test="jackknife"`: contributions are the jackknife's pseudo-values of the difference, moved so that their
    mean is the difference θ itself, `θ + (u − 1)(θ̄₋ − θ₋ⱼ)`; unmoved they average to the bias-corrected difference,
    which varies more, and reject in up to 13 % of runs with 10 to 20 groups, not 5. `test="within"`: the difference of
    the scores computed within each group alone, exact for symmetric differences, but about the geometry within groups
    only: scores, difference and interval are then of the mean over groups too. Every group needs as many stimuli as
    the metric does, better 30. Rows of a and b are never exchanged: they live in different spaces. `signs (m, u)` take
    the place of drawn ones. The jackknife's test is cautious with few units: with 10 it rejects 1 to 3 %, not 5.

    Raises InputError for wrong arrays and options. Too few units for an interval or a p: NaN, with a warning.
    """
    if test not in TESTS:
        raise InputError(f"test must be one of {', '.join(TESTS)}, not {test!r}")
    if isinstance(metric, Metric) and options:
        raise InputError(f"options {', '.join(options)} beside a metric that is made already; give its name instead")
    check_count("n_permutations", n_permutations)
    check_seed(seed)
    check_level(level)
    chosen = metric if isinstance(metric, Metric) else make_metric(metric, **options)
    sides = as_activations("a", {"a": a, "b": b}), as_activations("reference", {"reference": reference})
    names = check_groups(groups, len(sides[0]))
    units, what = members(len(sides[0]), names), "groups" if names else "stimuli"
    grouped = None if test == "within" else names  # each group is scored alone, with all its pairs
    prepared = prepare(replace(sides[0], groups=grouped), sides[1], chosen)
    count = len(units) if names else None
    if test == "within":
        return _with_p(_from_groups(prepared, units, level, count), n_permutations, seed, signs, what)
    full = prepared.alignment().scores[:, 0]
    found = Difference(float(full[0] - full[1]), float(full[0]), float(full[1]), n_groups=count)
    if len(units) < FEWEST_UNITS:
        return _without(found, f"{len(units)} {what} are too few; at least {FEWEST_UNITS} are needed")
    try:
        deleted = deleted_scores(prepared, deletions_for(chosen, len(sides[0]), names, seed))
    except InputError as reason:
        return _without(found, f"with some {what} left out: {reason}")
    lost = _without_rounding(deleted[:, 0, 0] - deleted[:, 1, 0], full)
    theta = float(_without_rounding(np.array(found.difference), full))
    se = standard_error(lost)
    low, high = interval(np.array(theta), se, degrees_of_freedom(lost), level)
    found = replace(
        found, difference=theta, se=float(se), ci_low=float(low), ci_high=float(high),
        contributions=theta + (len(lost) - 1) * (lost.mean() - lost),
    )  # fmt: skip
    return _with_p(found, n_permutations, seed, signs, what)


def _from_groups(prepared: Prepared, units: Sequence[Tensor], level: float, count: int | None) -> Difference:
    """Average the scores computed within each group alone; the interval is that of the mean of their differences."""
    few = min(len(rows) for rows in units)
    if few < prepared.metric.fewest:
        raise InputError(
            f"test='within' scores each group alone; {prepared.metric.name} needs {prepared.metric.fewest} stimuli and "
            f"the smallest group has {few}; use test='jackknife'"
        )
    scores = np.stack([refit(prepared, rows)[:, 0] for rows in units])
    parts, full = _without_rounding(scores[:, 0] - scores[:, 1], scores), scores.mean(0)
    se = parts.std(ddof=1) / np.sqrt(len(parts)) if len(parts) > 1 else np.nan
    low, high = interval(np.array(parts.mean()), np.array(se), max(len(parts) - 1, 1), level)
    return Difference(
        float(parts.mean()), float(full[0]), float(full[1]), float(se), float(low), float(high), n_groups=count,
        contributions=parts,
    )  # fmt: skip


def _without_rounding(values: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Set to 0 the differences that are only rounding of the scores they are taken of."""
    return np.where(np.abs(values) <= TIE * np.abs(scores).max(), 0.0, values)


def _with_p(found: Difference, count: int, seed: int, signs: object, what: str) -> Difference:
    """Add the two-sided p of the mean contribution from flipping signs."""
    parts = found.contributions
    if count == 0 and signs is None:
        return found
    if not np.isfinite(parts).all():
        return _without(found, "a score is undefined")
    try:
        flips = (
            sign_flips(len(parts), count, seed, mirrored=True, what=what)
            if signs is None
            else given_signs(signs, len(parts))
        ).signs.numpy()
    except NoTestError as reason:
        return _without(found, str(reason))
    null = np.abs(flips @ parts) / len(parts)
    return replace(found, p_value=p_value(abs(float(parts.mean())), null), n_permutations=len(flips))


def _without(found: Difference, reason: str) -> Difference:
    warnings.warn(f"difference: no p: {reason}", RepalignWarning, stacklevel=3)
    return replace(found, note=f"no p: {reason}")
