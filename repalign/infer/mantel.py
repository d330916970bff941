"""Mantel's test of two sets of distances between the same stimuli."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from repalign.align import prepare
from repalign.errors import RepalignWarning
from repalign.infer.checks import check_count, check_seed
from repalign.infer.matrix import check_testable
from repalign.infer.permute import observed_scores, permuted_scores
from repalign.infer.pvalues import check_alternative, p_value
from repalign.infer.resample import NoTestError, arrangements_of
from repalign.metrics import make_metric
from repalign.wrap import as_activations, as_rdms, check_groups

PRECOMPUTED = "precomputed"


@dataclass(frozen=True)
class Mantel:
    """Mantel's statistic with its p, the mean of its null and how many arrangements that rests on.

    `exact`: every arrangement was counted. `note` says why there is no p (NaN), or what the test left out; `tested` is
    the statistic of the stimuli it used, all of them unless groups are of unequal size.
    """

    statistic: float
    p_value: float
    null_mean: float
    n_permutations: int
    n: int
    n_groups: int | None
    exact: bool
    note: str = ""
    tested: float = float("nan")


def mantel(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, rdm: str = "euclidean", compare: str = "pearson", *,
    n_permutations: int = 9999, groups: Iterable[object] | None = None, seed: int = 0, alternative: str = "greater",
    permutations: object = None,
) -> Mantel:  # fmt: skip
    """Correlate two distance matrices and permute the stimuli of one, rows and columns together (Mantel 1967).

    `x (n, dx)` and `y (n, dy)` are features of the same stimuli, or distance matrices `(n, n)` with
    `rdm="precomputed"`; `rdm` and `compare` are those of the metric `rsa`. Hypothesis: which stimulus of y stands
    with which of x does not matter. `groups (n,)` move as blocks; up to 7 units all arrangements are counted.

    It misleads where y is computed from x or from the same pictures: then the hypothesis is false by construction and
    p sits on its floor whatever the encoder, so p cannot rank encoders.

    Raises InputError for wrong arrays and options. Too few stimuli or groups: p is NaN, with a warning.
    """
    check_alternative(alternative)
    check_count("n_permutations", n_permutations)
    check_seed(seed)
    wrap = as_rdms if rdm == PRECOMPUTED else as_activations
    metric = make_metric("rsa", compare=compare, **({} if rdm == PRECOMPUTED else {"rdm": rdm}))
    prepared = prepare(wrap("x", {"x": x}), wrap("y", {"y": y}), metric)
    n = len(prepared.a)
    names = check_groups(groups, n)
    count = len(set(names)) if names else None
    score = float(prepared.alignment().scores[0, 0])
    if n_permutations == 0 and permutations is None:
        return Mantel(score, np.nan, np.nan, 0, n, count, exact=False)
    try:
        drawn = arrangements_of(permutations, n, names, n_permutations, seed)
        check_testable(prepared, drawn)
    except NoTestError as reason:
        warnings.warn(f"mantel: no p: {reason}", RepalignWarning, stacklevel=2)
        return Mantel(score, np.nan, np.nan, 0, n, count, exact=False, note=f"no p: {reason}")
    null = permuted_scores(prepared, drawn)[:, 0, 0]
    observed = float(observed_scores(prepared, drawn)[0, 0])
    p = p_value(observed, null, alternative)
    return Mantel(score, p, float(null.mean()), len(null), n, count, drawn.exact, drawn.note, observed)
