"""Which model explains these subjects best? Scores with errors from subjects and stimuli, differences with p."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from repalign.encoders.group import Subjects
from repalign.errors import InputError, RepalignWarning
from repalign.infer.checks import check_count, check_seed
from repalign.infer.resample import Flips, NoTestError, deletions, given_signs, sign_flips
from repalign.metrics import Metric
from repalign.metrics.base import UndefinedError
from repalign.subjects.ceiling import ceiling_of, check_subjects, missing_notes, require_two
from repalign.subjects.load import rows_from_arrays
from repalign.subjects.representation import Representation, group_notes, has_average, represent, represent_subjects
from repalign.subjects.resampled import resample
from repalign.subjects.results import ModelComparison
from repalign.types import Activations
from repalign.wrap import as_metric, check_named, names_of

MOST_PARTS = 100  # refits of the jackknife over stimuli; more stimuli are left out in random blocks
CEILING = "lower noise ceiling"


def model_comparison(
    subjects: Subjects,
    models: Mapping[str, ArrayLike | Tensor],
    metric: str | Metric = "rsa",
    layer: str | None = None,
    *,
    ids: Sequence[str] | None = None,
    groups: Iterable[object] | None = None,
    models_are_rdms: bool = False,
    n_permutations: int = 9999,
    seed: int = 0,
    signs: ArrayLike | None = None,
    **options: object,
) -> ModelComparison:
    """Score models, features `(n, d)` or RDMs `(n, n)`, against every subject, and compare their means.

    `ids` name the rows of the models, which are joined to the subjects' by name; without them the rows must be in
    the order of `subjects.ids`. `groups` (default: the subjects' own) belong to the same rows; stimuli of one group
    are left out together, and pairs within one do not count where the metric can leave them out: they are alike for
    every subject and model, which lifts all scores. Each standard error is a jackknife: over subjects, over stimuli
    or groups (at most 100 parts; NaN for fewer than five), and both, `se² = se_subjects² + se_stimuli²`, which counts
    the noise of single responses twice and so errs on the wide side (Schütt et al. 2023, doi:10.7554/eLife.82566,
    correct that with a two-factor bootstrap). Intervals use t with the smaller number of parts less one.

    The p of a difference flips its sign within subjects, two-sided, `(b + 1) / (m + 1)` over all 2ˢ patterns or
    `n_permutations` of them, or over explicit `signs (m, s)`. It speaks of other subjects with these very stimuli:
    of two models equally good for all stimuli, one is better on 30 of them, and p < 0.05 in 16 % of simulations with
    12 subjects. For other stimuli read the interval (there 98 % held 0). Subjects' ceilings share their data, so
    p against the ceiling is approximate. A metric with a direction predicts the subject from the model.

    Raises InputError for fewer than two subjects, rows that can't be joined, and a metric that can't use the data.
    A model with nothing to compare (constant features) gives NaN and a warning that names it.
    """
    check_subjects(subjects)
    check_count("n_permutations", n_permutations)
    check_seed(seed)
    chosen, name = as_metric(metric, options), subjects.choose(layer)
    require_two(subjects)
    ids = names_of("ids", ids)
    rows, order_notes = _rows(subjects, models, ids, models_are_rdms)
    units = _units(subjects, groups, ids)
    rows = replace(rows, groups=units)
    grouped = tuple(replace(one, groups=units) for one in subjects.activations)
    subjects = replace(subjects, groups=units, activations=grouped)
    said = group_notes(chosen, units, len(subjects.ids))
    flips, flip_notes = _flips(len(subjects.names), n_permutations, seed, signs)
    members = represent_subjects(subjects, name, chosen)
    found = [_represent_model(rows, key, chosen) for key in models]
    ceiling = ceiling_of(subjects, chosen, name, members, said) if has_average(chosen) else None
    parts = deletions(len(subjects.ids), units, MOST_PARTS, seed)
    resampled = resample((*models, CEILING), members, found, ceiling is not None, parts)
    k, without_ceiling = len(models), f"no noise ceiling: {chosen.name} compares features, which have no average"
    return ModelComparison(
        chosen.name, chosen.options, name, tuple(models), subjects.names, len(subjects.ids),
        len(subjects.ids) if units is None else len(set(units)), resampled.each[:k],
        resampled.estimates(k, chosen.bounds), resampled.differences(list(combinations(range(k), 2)), flips),
        ceiling, None if ceiling is None else resampled.differences([(i, k) for i in range(k)], flips),
        len(flips.signs), flips.exact, seed,
        (*subjects.notes, *missing_notes(subjects, name), *said, *order_notes, *flip_notes,
         *filter(None, ["" if ceiling else without_ceiling, resampled.note])),
    )  # fmt: skip


def _rows(
    subjects: Subjects, models: Mapping[str, ArrayLike | Tensor], ids: Sequence[str] | None, rdms: bool
) -> tuple[Activations, tuple[str, ...]]:
    """Join the models to the subjects' stimuli."""
    check_named("models", models)
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


def _units(subjects: Subjects, groups: Iterable[object] | None, ids: Sequence[str] | None) -> tuple[str, ...] | None:
    """Give the group of each of the subjects' stimuli."""
    names = names_of("groups", groups)
    if names is None:
        return subjects.groups
    named = subjects.ids if ids is None else tuple(map(str, ids))
    if len(names) != len(named):
        raise InputError(f"{len(names)} groups for {len(named)} rows of the models; give one group a row")
    group = dict(zip(named, names, strict=True))
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
