"""Does A align with a reference more than B does? The difference of two scores on the same stimuli.

Symbols: `k` differences, `u` units that are left out, or whose signs flip, in turn.
"""

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
from repalign.infer.matched import MatchedScores
from repalign.infer.matrix import FEWEST_UNITS, deletions_for
from repalign.infer.pvalues import TIE, p_values
from repalign.infer.resample import NoTestError, given_signs, members, sign_flips
from repalign.metrics import Metric, make_metric
from repalign.wrap import as_activations, check_groups

TESTS = ("jackknife", "within")
UNDEFINED = "a score is undefined, or is with some of the stimuli left out"


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
    one = jackknifed(full[:, None], deleted, level)
    found = replace(
        found, difference=float(one.difference[0]), se=float(one.se[0]), ci_low=float(one.ci_low[0]),
        ci_high=float(one.ci_high[0]), contributions=one.contributions[:, 0],
    )  # fmt: skip
    return _with_p(found, n_permutations, seed, signs, what)


@dataclass(frozen=True)
class Differences:
    """Scores of A less those of B: intervals from the jackknife of each difference, p from sign flips that they share.

    `note` says why something is missing (NaN).
    """

    difference: Float[np.ndarray, " k"]
    se: Float[np.ndarray, " k"]
    ci_low: Float[np.ndarray, " k"]
    ci_high: Float[np.ndarray, " k"]
    p_value: Float[np.ndarray, " k"]
    n_permutations: int
    note: str


def score_differences(
    a: MatchedScores, b: MatchedScores, n_permutations: int = 9999, level: float = 0.95, seed: int = 0
) -> Differences:
    """Compare two sets of scores of the same layers on the same units, layer by layer: a less b.

    Interval and two-sided p as in `difference`: the jackknife of the difference, and sign flips of its moved
    pseudo-values, shared by all layers; p is of each layer by itself. All patterns of signs are taken when there are no
    more than `n_permutations`. What a and b share in how they depend on the units cancels, so the interval of a
    condition less its control is narrower than those of both.

    Raises InputError when metric, layers or units differ, and for counts, levels and seeds that are none.
    """
    check_count("n_permutations", n_permutations)
    check_seed(seed)
    check_comparable(a, b, "the first", "the second")
    if a.layers != b.layers:
        raise InputError(
            f"scores of {len(a.layers)} layers from {a.layers[0]!r} on and of {len(b.layers)} from {b.layers[0]!r} on "
            "can't be subtracted; give those of the same layers"
        )
    found = jackknifed(np.stack([a.scores, b.scores]), np.stack([a.deleted, b.deleted], axis=1), check_level(level))
    tested = flipped(found.contributions, n_permutations, seed, unit_kind(a))
    return Differences(
        found.difference, found.se, found.ci_low, found.ci_high, p_values(tested.observed, tested.null),
        len(tested.null), tested.note,
    )  # fmt: skip


def check_comparable(a: MatchedScores, b: MatchedScores, name_a: str, name_b: str) -> None:
    """Raise InputError unless two sets of scores are of one metric, and leave out the same units."""
    if a.metric != b.metric:
        raise InputError(
            f"scores of {name_a} are {a.metric} and those of {name_b} {b.metric}; compare scores of one metric"
        )
    blocks = len(a.units) < (a.n_groups or a.n)
    if (a.units, a.n) == (b.units, b.n) and (a.seed == b.seed or not blocks):
        return
    only = [unit for unit in (*a.units, *b.units) if (unit in a.units) != (unit in b.units)]
    first = (
        f", {only[0]!r} in one only" if only else f", left out in another order or drawn by seeds {a.seed}, {b.seed}"
    )
    raise InputError(
        f"scores of {name_a} and {name_b} are compared unit by unit, but they come from {len(a.units)} and "
        f"{len(b.units)} units of {a.n} and {b.n} stimuli{first}; score both on the same stimuli, groups and seed"
    )


def unit_kind(scores: MatchedScores) -> str:
    """Name what is left out in turn, in the plural."""
    count = scores.n_groups or scores.n
    return "blocks" if len(scores.units) < count else "groups" if scores.n_groups else "stimuli"


@dataclass(frozen=True)
class Jackknifed:
    """The jackknife of k differences; the means of `contributions (u, k)` are the differences."""

    difference: Float[np.ndarray, " k"]
    se: Float[np.ndarray, " k"]
    ci_low: Float[np.ndarray, " k"]
    ci_high: Float[np.ndarray, " k"]
    contributions: Float[np.ndarray, "u k"]


def jackknifed(scores: Float[np.ndarray, "2 k"], deleted: Float[np.ndarray, "u 2 k"], level: float) -> Jackknifed:
    """Compute the first less the second of k pairs of scores, its interval, and what each unit contributes."""
    scale = np.abs(scores).max(0)
    theta = _without_rounding(scores[0] - scores[1], scale)
    lost = _without_rounding(deleted[:, 0] - deleted[:, 1], scale)
    se = standard_error(lost)
    low, high = interval(theta, se, degrees_of_freedom(lost), level)
    return Jackknifed(theta, se, low, high, theta + (len(lost) - 1) * (lost.mean(0) - lost))


@dataclass(frozen=True)
class Flipped:
    """Absolute means of k columns, as they are and, `(m, k)`, with flipped signs; `note` says why there are none."""

    observed: Float[np.ndarray, " k"]
    null: Float[np.ndarray, "m k"]
    note: str = ""


def flipped(
    contributions: Float[np.ndarray, "u k"], count: int, seed: int, what: str, signs: object = None
) -> Flipped:  # fmt: skip
    """Flip the signs of units, all columns together: the null hypothesis that each contributes to either side alike.

    No flips, and a note, where there are too few units for a p below 0.05; a column with NaN stays NaN.
    """
    units, columns = contributions.shape
    observed, nothing = np.abs(contributions.mean(0)), np.zeros((0, columns))
    if count == 0 and signs is None:
        return Flipped(observed, nothing)
    try:
        flips = sign_flips(units, count, seed, mirrored=True, what=what) if signs is None else given_signs(signs, units)
    except NoTestError as reason:
        return Flipped(observed, nothing, f"no p: {reason}")
    undefined = int(np.isnan(observed).sum())
    if undefined == columns:
        return Flipped(observed, nothing, f"no p: {UNDEFINED}")
    null = np.abs(flips.signs.numpy() @ contributions) / units
    return Flipped(observed, null, f"no p for {undefined} of {columns} scores: {UNDEFINED}" if undefined else "")


def _from_groups(prepared: Prepared, units: Sequence[Tensor], level: float, count: int | None) -> Difference:
    """Average the scores computed within each group alone; the interval is that of the mean of their differences."""
    few = min(len(rows) for rows in units)
    if few < prepared.metric.fewest:
        raise InputError(
            f"test='within' scores each group alone; {prepared.metric.name} needs {prepared.metric.fewest} stimuli and "
            f"the smallest group has {few}; use test='jackknife'"
        )
    scores = np.stack([refit(prepared, rows)[:, 0] for rows in units])
    parts, full = _without_rounding(scores[:, 0] - scores[:, 1], np.abs(scores).max()), scores.mean(0)
    se = parts.std(ddof=1) / np.sqrt(len(parts)) if len(parts) > 1 else np.nan
    low, high = interval(np.array(parts.mean()), np.array(se), max(len(parts) - 1, 1), level)
    return Difference(
        float(parts.mean()), float(full[0]), float(full[1]), float(se), float(low), float(high), n_groups=count,
        contributions=parts,
    )  # fmt: skip


def _without_rounding(values: NDArray[np.float64], scale: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Set to 0 the differences that are only rounding of scores of that size."""
    return np.where(np.abs(values) <= TIE * scale, 0.0, values)


def _with_p(found: Difference, count: int, seed: int, signs: object, what: str) -> Difference:
    """Add the two-sided p of the mean contribution from flipping signs."""
    tested = flipped(found.contributions[:, None], count, seed, what, signs)
    if tested.note:
        return _without(found, tested.note.removeprefix("no p: "))
    return replace(found, p_value=float(p_values(tested.observed, tested.null)[0]), n_permutations=len(tested.null))


def _without(found: Difference, reason: str) -> Difference:
    warnings.warn(f"difference: no p: {reason}", RepalignWarning, stacklevel=3)
    return replace(found, note=f"no p: {reason}")
