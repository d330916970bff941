"""Inference for a whole matrix of scores: an interval and a test for every layer pair, and what chance would give."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repalign.align import FEWEST_GROUPS, Prepared, align
from repalign.errors import InputError
from repalign.infer.checks import check_count, check_level, check_seed
from repalign.infer.jackknife import degrees_of_freedom, deleted_scores, interval, refit, standard_error
from repalign.infer.over_subjects import Compared, OverSubjects, averaged
from repalign.infer.permute import observed_scores, permuted_scores
from repalign.infer.pvalues import benjamini_hochberg, max_t, p_values
from repalign.infer.resample import NoTestError, Permutations, arrangements_of, deletions, half_samples, members
from repalign.metrics.base import CosineMetric, Metric
from repalign.progress import Track, silent
from repalign.types import Activations, Alignment, Inference

INTERVALS = ("jackknife", "half", "none")
FEWEST_UNITS = 5  # stimuli or groups; with fewer, t has so few degrees of freedom that an interval says nothing
REFITS = 50  # blocks left out in turn where every deletion is computed afresh
HALVES = 200  # halves of the stimuli
DRAWS = 5  # of independent features


@dataclass(frozen=True)
class Plan:
    """How sure is each score: which interval at which level, and how many arrangements for the tests.

    `interval`: "jackknife" (leave out one stimulus, or one group, at a time), "half" (halves of the stimuli or groups
    without replacement; too wide with few groups) or "none". `n_permutations` = 0: no test. `permutations`, an explicit
    `(m, n)` array of arrangements, takes their place.
    """

    interval: str = "jackknife"
    level: float = 0.95
    n_permutations: int = 999
    seed: int = 0
    permutations: object = None

    def __post_init__(self) -> None:
        if "bootstrap" in str(self.interval):
            raise InputError(
                "a bootstrap with replacement shows some stimuli twice, two copies of one stimulus look alike, and the "
                "score rises (debiased CKA of independent data from -0.01 to 0.72); use jackknife or half"
            )
        if self.interval not in INTERVALS:
            raise InputError(f"interval must be one of {', '.join(INTERVALS)}, not {self.interval!r}")
        check_level(self.level)
        check_count("permutations", self.n_permutations)
        check_seed(self.seed)


def infer(
    prepared: Compared, plan: Plan | None = None, alignment: Alignment | None = None, track: Track = silent
) -> Inference:
    """Give every layer pair's standard error, interval, permutation p, adjusted p and q, all from whole groups.

    The interval is about the score that other stimuli (groups) of the same kind and number would give on average. Near
    no alignment it is up to twice too wide, since the score is degenerate there; whether there is any alignment is the
    test's question. The test's hypothesis: which stimulus of B stands with which of A does not matter. Groups are those
    of the activations; with fewer than five no interval is given, with fewer than four no p, and `notes` say so. Of a
    side with itself every two different layers are one test, and the diagonal is none.

    Of several subjects all numbers are about the mean of their scores. `se² = se_stimuli² + se_subjects²`, each a
    delete-one jackknife of that mean, and t has the smaller number of degrees of freedom: the interval is about other
    stimuli and other subjects. It counts the noise of single responses twice, and so errs on the wide side (Schütt et
    al. 2023, doi:10.7554/eLife.82566): with 6 to 20 simulated subjects `se` was 7 to 21 % too large, and 95 % intervals
    held the truth in 97 to 99.7 %. The test, with one set of arrangements for all, is about these subjects.

    Raises InputError for permutations that are none.
    """
    plan = plan or Plan()
    found = infer_pairs(prepared, plan, alignment, track)
    return replace(found, independent=averaged(prepared, lambda one: independent_scores(one, plan.seed)))


def infer_pairs(prepared: Compared, plan: Plan, alignment: Alignment | None = None, track: Track = silent) -> Inference:
    """Do what `infer` does but for what independent features would score."""
    alignment = alignment or prepared.alignment()
    groups = prepared.groups
    nothing = np.full(alignment.scores.shape, np.nan)
    count = len(set(groups)) if groups else None
    found = Inference(
        alignment, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, plan.interval, 0, count,
        plan.seed, prepared.notes,
    )  # fmt: skip
    return _with_test(_with_interval(found, prepared, groups, plan), prepared, groups, plan, track)


def independent_scores(prepared: Prepared, seed: int) -> Float[np.ndarray, "la lb"]:
    """Score independent Gaussian features of the same n and d, for a measure whose chance is not 0; else NaN.

    NaN with groups too, whose alikeness Gaussian features don't have: the null's mean is the yardstick there.

    More features than stimuli are drawn as the triangular factor of their Gram (Bartlett's decomposition of a Wishart
    matrix), which has the same distribution for every measure that rotations leave alone.
    """
    metric, sides = prepared.metric, (prepared.a, prepared.b)
    grouped = prepared.groups is not None and len(set(prepared.groups)) < len(prepared.a)
    if metric.unbiased or grouped or any(s.geometry != "features" for s in sides):
        return np.full((len(prepared.a.layers), len(prepared.b.layers)), np.nan)
    rng, n = np.random.default_rng(seed), len(prepared.a)
    widths = [[x.shape[1] for x in side.layers.values()] for side in sides]
    kinds = [list(dict.fromkeys(those)) for those in widths]
    draws = []
    for _ in range(DRAWS):
        one, other = (_gaussian(rng, n, kind) for kind in kinds)
        draws.append(align(one, other, metric, "all", prepared.spare(), prepared.room.device).scores)
    rows, columns = ([kind.index(d) for d in those] for kind, those in zip(kinds, widths, strict=True))
    return np.mean(draws, axis=0)[np.ix_(rows, columns)]


def _gaussian(rng: np.random.Generator, n: int, widths: Sequence[int]) -> Activations:
    layers = {str(d): torch.tensor(_gaussian_features(rng, n, d)) for d in widths}
    return Activations("independent", "", tuple(map(str, range(n))), layers, dict.fromkeys(layers, 0.0))


def _gaussian_features(rng: np.random.Generator, n: int, d: int) -> Float[np.ndarray, "n k"]:
    if d <= n:
        return rng.normal(size=(n, d))
    factor = np.tril(rng.normal(size=(n, n)), -1)
    np.fill_diagonal(factor, np.sqrt(rng.chisquare(d - np.arange(n))))
    return factor


def _with_interval(found: Inference, prepared: Compared, groups: Sequence[str] | None, plan: Plan) -> Inference:
    if plan.interval == "none":
        return found
    n, what = len(prepared.a), "groups" if groups else "stimuli"
    parts = members(n, groups)
    if len(parts) < FEWEST_UNITS:
        return _no_interval(found, f"{len(parts)} {what} are too few; at least {FEWEST_UNITS} are needed")
    if n - max(map(len, parts)) < prepared.metric.fewest:
        return _no_interval(found, f"without its largest group too few stimuli are left for {prepared.metric.name}")
    full = found.alignment.scores
    try:
        se, degrees, notes = (_jackknife if plan.interval == "jackknife" else _halves)(prepared, groups, plan)
    except InputError as reason:  # a subset on which the metric can't be computed
        return _no_interval(found, f"with some {what} left out: {reason}")
    if isinstance(prepared, OverSubjects):
        se, degrees = np.hypot(se, prepared.between_subjects()), np.fmin(degrees, prepared.count - 1)
        notes = [*notes, f"errors add those of {what} and of subjects"]
    low, high = interval(full, se, degrees, plan.level, prepared.metric.bounds)
    lost = int((np.isfinite(full) & np.isnan(se)).sum())
    if lost:
        notes = [*notes, f"no interval for {lost} of {full.size} layer pairs, undefined with some {what} left out"]
    return replace(found, se=se, ci_low=low, ci_high=high, notes=(*found.notes, *notes))


def _no_interval(found: Inference, reason: str) -> Inference:
    return replace(found, interval="none", notes=(*found.notes, f"no interval: {reason}"))


def _jackknife(
    prepared: Compared, groups: Sequence[str] | None, plan: Plan
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Give standard errors, their degrees of freedom, and what is to be said of them."""
    metric = prepared.metric
    left_out = deletions_for(metric, len(prepared.a), groups, plan.seed)
    deleted = averaged(prepared, lambda one: deleted_scores(one, left_out))
    return standard_error(deleted), degrees_of_freedom(deleted), approximations(metric)


def deletions_for(metric: Metric, n: int, groups: Sequence[str] | None, seed: int) -> list[Int[Tensor, "_"]]:
    """List what the jackknife leaves out at a time: every stimulus, or every group.

    Where each deletion is computed afresh and there are more than fifty, fifty random blocks of them.
    """
    closed = isinstance(metric, CosineMetric) and metric.centring is not None
    return deletions(n, groups, n if closed else REFITS, seed)


def _halves(prepared: Compared, groups: Sequence[str] | None, plan: Plan) -> tuple[np.ndarray, float, list[str]]:
    """Spread of the scores of m of n stimuli, drawn without replacement, times √(m / (n − m))."""
    n = len(prepared.a)
    units = len(members(n, groups))
    if prepared.within_groups and units // 2 < FEWEST_GROUPS:
        raise InputError(f"half of {units} groups are too few to compare between groups ({FEWEST_GROUPS} are needed)")
    drawn = half_samples(n, groups, HALVES, plan.seed)
    smallest = min(len(rows) for rows in drawn)
    if smallest < prepared.metric.fewest:
        raise InputError(
            f"{prepared.metric.name} needs {prepared.metric.fewest} stimuli, and half of them are {smallest}"
        )
    values = np.stack([averaged(prepared, partial(refit, index=rows)) for rows in drawn])
    m = np.mean([len(rows) for rows in drawn])
    return values.std(0, ddof=1) * np.sqrt(m / (n - m)), float(units - 1), []


def approximations(metric: Metric) -> list[str]:
    """Say what a metric's jackknife keeps fixed that a new computation would not."""
    if metric.name == "cka_rbf":
        return ["the jackknife keeps the kernel's bandwidth of all stimuli"]
    if metric.options.get("compare") == "spearman":
        return ["the jackknife keeps the ranks of the distances among all stimuli"]
    return []


def _with_test(
    found: Inference, prepared: Compared, groups: Sequence[str] | None, plan: Plan, track: Track
) -> Inference:
    n = len(prepared.a)
    if plan.n_permutations == 0 and plan.permutations is None:
        return found
    try:
        drawn = arrangements_of(plan.permutations, n, groups, plan.n_permutations, plan.seed)
        check_testable(prepared, drawn)
    except NoTestError as reason:
        return replace(found, notes=(*found.notes, f"no p: {reason}"))
    sign = 1 if prepared.metric.higher_is_similar else -1
    rounds = len(drawn.index) * (len(prepared.parts) if isinstance(prepared, OverSubjects) else 1)
    try:
        with track(f"arrangements of {prepared.metric.label}", rounds) as advance:
            null = sign * averaged(prepared, lambda one: permuted_scores(one, drawn, advance))
        observed = sign * averaged(prepared, lambda one: observed_scores(one, drawn))
    except InputError as reason:  # too few of the stimuli are left for the metric
        return replace(found, notes=(*found.notes, f"no p: {drawn.note}; {reason}"))
    tested = _tested(prepared)
    p, adjusted, q = (np.full(observed.shape, np.nan) for _ in range(3))
    p[tested] = p_values(observed[tested], null[:, tested])
    adjusted[tested] = max_t(observed[tested], null[:, tested])
    q[tested] = benjamini_hochberg(p[tested])
    if prepared.b is prepared.a:  # a pair of layers is one test, whichever of them is permuted
        p, adjusted, q = (np.where(np.isnan(v), v.T, v) if prepared.metric.symmetric else v for v in (p, adjusted, q))
    lost = int((np.isfinite(observed) & np.isnan(p) & tested).sum())
    notes = [drawn.note] if drawn.note else []
    if lost:
        notes.append(f"no p for {lost} of {int(tested.sum())} layer pairs, undefined in some arrangement")
    return replace(
        found, null_mean=sign * null.mean(0), p_values=p, p_adjusted=adjusted, q_values=q, n_permutations=len(null),
        notes=(*found.notes, *notes),
    )  # fmt: skip


def check_testable(prepared: Compared, drawn: Permutations) -> None:
    """Raise NoTestError when arrangements can't be compared with what was observed."""
    missing = max(one.missing for one in (prepared.parts if isinstance(prepared, OverSubjects) else (prepared,)))
    if missing:
        raise NoTestError(
            f"{missing} pairs of stimuli are missing, so arrangements don't compare the same pairs; leave out the "
            "stimuli that lack pairs"
        )
    if len(drawn.rows) < prepared.metric.fewest:
        raise NoTestError(f"{prepared.metric.name} needs {prepared.metric.fewest} stimuli; {drawn.note}")


def _tested(prepared: Compared) -> Bool[np.ndarray, "la lb"]:
    """Mark the layer pairs that are tests of their own: of a side with itself, each two different layers once."""
    shape = (len(prepared.a.layers), len(prepared.b.layers))
    if prepared.b is not prepared.a:
        return np.ones(shape, dtype=bool)
    different = ~np.eye(*shape, dtype=bool)
    return np.triu(different) if prepared.metric.symmetric else different
