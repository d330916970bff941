"""Which model explains these subjects best? Scores with errors from subjects and stimuli, differences with p."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from repalign.encoders.group import Subjects
from repalign.errors import InputError, RepalignWarning
from repalign.infer.jackknife import interval, standard_error
from repalign.infer.pvalues import benjamini_hochberg, p_values
from repalign.infer.resample import Flips, NoTestError, deletions, given_signs, sign_flips
from repalign.metrics import Metric, make_metric
from repalign.metrics.base import UndefinedError
from repalign.subjects.ceiling import ceiling_of, missing_notes, require_two
from repalign.subjects.load import rows_from_arrays
from repalign.subjects.representation import (
    Representation,
    averages,
    has_average,
    represent,
    represent_subjects,
    score,
)
from repalign.subjects.results import Differences, Estimates, ModelComparison
from repalign.types import Activations

LEVEL = 0.95
MOST_PARTS = 100  # refits of the jackknife over stimuli; more stimuli are left out in random blocks
CEILING = "lower noise ceiling"


def model_comparison(
    subjects: Subjects,
    models: Mapping[str, ArrayLike | Tensor],
    metric: str = "rsa",
    layer: str | None = None,
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    models_are_rdms: bool = False,
    n_permutations: int = 9999,
    seed: int = 0,
    signs: ArrayLike | None = None,
    **options: object,
) -> ModelComparison:
    """Score models, features `(n, d)` or RDMs `(n, n)`, against every subject, and compare their means.

    `ids` name the rows of the models, which are joined to the subjects' by name; without them the rows must be in
    the order of `subjects.ids`. `groups` (default: the subjects' own) belong to the same rows; stimuli of one group
    are left out together. Each standard error is a jackknife: over subjects, over stimuli or groups (at most 100
    parts), and both, `se² = se_subjects² + se_stimuli²`, which counts the noise of single responses twice and so
    errs on the wide side (Schütt et al. 2023, doi:10.7554/eLife.82566, shrink that with a two-factor bootstrap).
    Intervals use t with the smaller number of parts less one.

    The p of a difference flips its sign within subjects, two-sided, `(b + 1) / (m + 1)` over all 2ˢ patterns or
    `n_permutations` of them, or over explicit `signs (m, s)`. It speaks of other subjects with these very stimuli;
    `se` speaks of both. Subjects' ceilings share their data, so p against the ceiling is approximate.

    Raises InputError for fewer than two subjects, rows that can't be joined, and a metric that can't use the data.
    A model with nothing to compare (constant features) gives NaN and a warning that names it.
    """
    chosen, name = make_metric(metric, **options), subjects.choose(layer)
    require_two(subjects)
    rows, order_notes = _rows(subjects, models, ids, models_are_rdms)
    units = _units(subjects, groups, ids)
    members = represent_subjects(subjects, name, chosen)
    found = {key: _represent_model(rows, key, chosen) for key in models}
    flips, flip_notes = _flips(len(members), n_permutations, seed, signs)
    ceiling = ceiling_of(subjects, chosen, name, members) if has_average(chosen) else None
    ceiling_notes = (
        () if ceiling else (f"no noise ceiling: the features of several subjects have no average for {metric}",)
    )
    table = _table(members, list(found.values()), ceiling is not None)
    parts = deletions(len(subjects.ids), units, MOST_PARTS, seed)
    deleted, part_notes = _deleted(members, list(found.values()), ceiling is not None, parts, chosen)
    sizes = [len(part) for part in parts]

    def differences(index: Sequence[tuple[int, int]]) -> Differences:
        names = [*models, CEILING]
        a, b = (np.array([pair[k] for pair in index], dtype=int) for k in (0, 1))
        each, without = table[a] - table[b], None if deleted is None else deleted[:, a] - deleted[:, b]
        p = _sign_flip_p(each, flips)
        pairs = tuple((names[i], names[j]) for i, j in index)
        return Differences(pairs, _estimates(each, without, sizes), p, benjamini_hochberg(p))

    k = len(models)
    return ModelComparison(
        chosen.name, chosen.options, name, tuple(models), subjects.names, len(subjects.ids),
        len(set(units)) if units is not None else len(subjects.ids), table[:k],
        _estimates(table[:k], None if deleted is None else deleted[:, :k], sizes, chosen.bounds),
        differences(list(combinations(range(k), 2))),
        ceiling,
        None if ceiling is None else differences([(i, k) for i in range(k)]),
        len(flips.signs), flips.exact, seed,
        (*subjects.notes, *missing_notes(subjects, members), *order_notes, *ceiling_notes, *flip_notes, *part_notes),
    )  # fmt: skip


def _rows(
    subjects: Subjects, models: Mapping[str, ArrayLike | Tensor], ids: Sequence[str] | None, rdms: bool
) -> tuple[Activations, tuple[str, ...]]:
    """Join the models to the subjects' stimuli."""
    if not models:
        raise InputError("there is no model; give at least one array, {name: array}")
    if CEILING in models:
        raise InputError(f"a model can't be called {CEILING!r}; give it another name")
    rows = rows_from_arrays("models", models, ids, rdms)
    if ids is not None:
        return rows.join(subjects.ids), ()
    if len(rows) != len(subjects.ids):
        raise InputError(
            f"the models have {len(rows)} rows without ids, and the subjects {len(subjects.ids)} stimuli; "
            "give the rows' ids, ids=[…], to join them by name"
        )
    return rows, ("the models' rows carry no ids and were taken in the order of the subjects' ids",)


def _units(subjects: Subjects, groups: Sequence[str] | None, ids: Sequence[str] | None) -> tuple[str, ...] | None:
    """Give the group of each of the subjects' stimuli."""
    if groups is None:
        return subjects.groups
    named = subjects.ids if ids is None else tuple(map(str, ids))
    if len(groups) != len(named):
        raise InputError(f"{len(groups)} groups for {len(named)} rows of the models; give one group a row")
    group = dict(zip(named, map(str, groups), strict=True))
    return tuple(group[i] for i in subjects.ids)


def _represent_model(rows: Activations, name: str, metric: Metric) -> Representation | None:
    try:
        found = represent(rows, name, metric)
        _ = found.embedded
    except UndefinedError as reason:
        warnings.warn(f"model {name!r} has no score (NaN): {reason}", RepalignWarning, stacklevel=4)
        return None
    return found


def _flips(units: int, count: int, seed: int, signs: ArrayLike | None) -> tuple[Flips, tuple[str, ...]]:
    if signs is not None:
        return given_signs(signs, units), ()
    try:
        return sign_flips(units, count, seed, mirrored=True), ()
    except NoTestError as reason:
        note = f"no p: {reason}".replace("groups", "subjects")
        return Flips(torch.zeros(0, units, dtype=torch.int8), exact=False), (note,)


def _table(
    members: Sequence[Representation], models: Sequence[Representation | None], ceiling: bool
) -> Float[np.ndarray, "k s"]:
    """Score every model, and last, with `ceiling`, the average of the other subjects, with every subject."""
    rows = [[_score(model, one) for one in members] for model in models]
    if ceiling:
        try:
            rows.append([_score(rest, one) for rest, one in zip(averages(members)[1], members, strict=True)])
        except UndefinedError:
            rows.append([np.nan] * len(members))
    return np.array(rows)


def _score(model: Representation | None, subject: Representation) -> float:
    try:
        return np.nan if model is None else score(model, subject)
    except UndefinedError:
        return np.nan


def _deleted(
    members: Sequence[Representation], models: Sequence[Representation | None], ceiling: bool,
    parts: Sequence[Int[Tensor, " p"]], metric: Metric,
) -> tuple[Float[np.ndarray, "g k"] | None, tuple[str, ...]]:  # fmt: skip
    """Take the mean over subjects without each part of the stimuli; None with the reason when too few stay."""
    n = sum(len(part) for part in parts)
    fewest = n - max(len(part) for part in parts)
    if len(parts) < 2 or fewest < metric.fewest:
        return None, (
            f"no error from stimuli: {n} stimuli in {len(parts)} parts leave {fewest} when one is left out, and "
            f"{metric.name} needs {metric.fewest}",
        )
    means = []
    for part in parts:
        stay = torch.ones(n, dtype=torch.bool)
        stay[part] = False
        index = stay.nonzero().flatten()
        kept = [None if model is None else model.take(index) for model in models]
        try:
            means.append(_table([one.take(index) for one in members], kept, ceiling).mean(1))
        except InputError as reason:  # an option that fits all stimuli and no fewer
            return None, (f"no error from stimuli: {reason}",)
    return np.array(means), ()


def _estimates(
    each: Float[np.ndarray, "k s"], deleted: Float[np.ndarray, "g k"] | None, sizes: Sequence[int],
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimates:  # fmt: skip
    """Average over subjects, with the errors that subjects and stimuli bring."""
    value, count = each.mean(1), each.shape[1]
    of_subjects = each.std(1, ddof=1) / np.sqrt(count)  # the delete-one jackknife of a mean
    of_stimuli = np.full(len(value), np.nan) if deleted is None else standard_error(value, deleted, sizes)
    both = np.sqrt(of_subjects**2 + of_stimuli**2)
    low, high = interval(value, both, min(count, len(sizes)), LEVEL, bounds)
    return Estimates(value, of_subjects, of_stimuli, both, low, high)


def _sign_flip_p(each: Float[np.ndarray, "k s"], flips: Flips) -> Float[np.ndarray, " k"]:
    """Compute the two-sided p of differences `each`: how often flipped ones have a mean as far from 0."""
    null = np.abs(flips.signs.numpy().astype(np.float64) @ each.T) / each.shape[1]
    return p_values(np.abs(each.mean(1)), null)
