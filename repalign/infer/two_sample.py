"""Do two conditions differ: two-sample tests that swap within pairs, or relabel, stimuli or whole groups.

Symbols: `n` pairs, `N = n_x + n_y` points, `m` arrangements, `k` pairs of layers.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from repalign.align import check_features
from repalign.errors import InputError, RepalignWarning, unknown
from repalign.infer.checks import check_count, check_seed
from repalign.infer.pvalues import benjamini_hochberg, check_alternative, max_t, p_value, p_values
from repalign.infer.resample import LEVEL, NoTestError, given_permutations, given_signs, sign_flips
from repalign.twosample import make_two_sample
from repalign.twosample.plan import Arrangements, Valued, distinct_labellings, labellings, too_few
from repalign.twosample.pooled import check_conditions, pool
from repalign.twosample.units import Groups, Units, units_of_both, units_of_pairs
from repalign.types import Activations
from repalign.wrap import as_array, as_tensor, names_of

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_STATISTICS = ("mmd2", "energy")  # the two whose arrangements cost one matrix product


@dataclass(frozen=True)
class TwoSample:
    """How far apart two conditions are, and how often an arrangement of their labels sets them as far apart.

    `name` and `options` say what was computed; `n` counts pairs, or the points of both conditions when unpaired;
    `n_groups` is None when stimuli are exchangeable one by one; `n_permutations` counts the arrangements, `exact`
    when these are all there are. `note` says why a value is missing or the statistic another one.
    """

    statistic: float
    p_value: float
    null_mean: float
    n_permutations: int
    name: str
    options: Mapping[str, int | float]
    n: int
    n_groups: int | None
    exact: bool
    note: str
    seed: int


def two_sample(
    x: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    statistic: str = "mmd2",
    *,
    paired: bool = True,
    n_permutations: int = 9999,
    groups: Iterable[object] | None = None,
    seed: int = 0,
    signs: ArrayLike | Tensor | None = None,
    permutations: ArrayLike | Tensor | None = None,
    alternative: str = "greater",
    **options: object,
) -> TwoSample:
    """Test whether features `(n_x, d)` and `(n_y, d)` come from one distribution, or pairs from an exchangeable one.

    Statistics: `mmd2`, `energy`, `wasserstein1`, `sliced_wasserstein1`; further keywords are their options.

    Paired: row i of x and of y are one stimulus in two conditions, and under the null hypothesis these can change
    places; `groups (n,)` (videos, photographs) change places as a whole, with one sign each. A test that relabels
    pairs as if they were independent all but never rejects. Unpaired: points are relabelled, the numbers of x and y
    kept. There `groups` is a tuple of names, `(n_x,)` and `(n_y,)`; whole groups are relabelled, the numbers of groups
    kept, so with groups of unequal size n_x varies. That is valid when groups, their sizes included, are exchangeable:
    not when one condition has the longer videos; cut them to one length first.

    `signs (m, n)`, or `(m, groups)` in order of first appearance, and `permutations (m, n_x + n_y)` (rows that stand
    where x and then y stood) replace the draw of `n_permutations`; all arrangements are taken when there are no more.
    p = (b + 1)/(m + 1). The statistic alone with `n_permutations=0`. Too few pairs or groups, or no value (constant
    features under mmd2) give NaN, a warning and a note.

    Raises InputError (a ValueError) for arrays, groups or options that can't be used as asked.

    >>> x = np.arange(24.0).reshape(12, 2) % 7
    >>> found = two_sample(x, x + 2, "energy")
    >>> found.n_permutations, found.exact, found.p_value < 0.01
    (4095, True, True)
    """
    check_alternative(alternative)
    check_count("n_permutations", n_permutations)
    check_seed(seed)
    first, second = _features("x", x), _features("y", y)
    check_conditions("x", "y", first, second, paired)
    chosen, changed = make_two_sample(statistic, **options).for_counts(len(first), len(second))
    if paired:
        _refuse(permutations, "permutations= belongs to an unpaired test; a paired one takes signs=")
        plan = _swaps(units_of_pairs(names_of("groups", groups), len(first)), n_permutations, seed, signs)
    else:
        _refuse(signs, "signs= belongs to a paired test; an unpaired one takes permutations=")
        plan = _relabellings(
            units_of_both(_of_both(groups), len(first), len(second)), n_permutations, seed, permutations
        )
    if plan.note:
        warnings.warn(f"{chosen.name} of x and y has {plan.note}", RepalignWarning, stacklevel=2)
    found = plan.values(chosen, pool(first, second), "x and y")
    return TwoSample(
        statistic=float(found.values[0]) * found.unit,
        p_value=p_value(float(found.values[0]), found.values[1:], alternative),
        null_mean=_mean(found.values[1:]) * found.unit,
        n_permutations=len(plan.rows) - 1,
        name=chosen.name,
        options=chosen.options,
        n=len(first) if paired else len(first) + len(second),
        n_groups=plan.n_groups,
        exact=plan.exact,
        note=_joined(changed, plan.note, found.note),
        seed=seed,
    )


def two_sample_layers(
    a: Activations,
    b: Activations,
    layers: Sequence[tuple[str, str]],
    statistics: Sequence[str] = DEFAULT_STATISTICS,
    n_permutations: int = 9999,
    groups: Iterable[object] | None = None,
    seed: int = 0,
) -> "pd.DataFrame":
    """Test pairs of layers, `(layer of a, layer of b)`, of the same stimuli in two conditions.

    All layers and statistics share the same swaps, of whole groups where there are any (`groups (n,)`, by default those
    of `a`). One row a test: `p` by itself, `p_adjusted` for all layers of a statistic (step-down max-T), `q` of the
    false discovery rate over them (Benjamini–Hochberg).

    Raises InputError when the stimuli differ or a layer does not exist, holds no features or has another width in b.
    """
    import pandas as pd

    if a.ids != b.ids:
        raise InputError(f"{a.encoder} and {b.encoder} hold different stimuli; pairs need the same ids in one order")
    check_count("n_permutations", n_permutations)
    check_seed(seed)
    if not layers or not statistics:
        raise InputError(f"{len(layers)} pairs of layers and {len(statistics)} statistics; give at least one of each")
    plan = _swaps(
        units_of_pairs(a.groups if groups is None else names_of("groups", groups), len(a)), n_permutations, seed
    )
    if plan.note:
        what = f"two conditions of {a.encoder}" if a.encoder == b.encoder else f"{a.encoder} and {b.encoder}"
        warnings.warn(f"tests of {what} have {plan.note}", RepalignWarning, stacklevel=2)
    chosen = [make_two_sample(name).for_counts(len(a), len(a)) for name in statistics]
    found: list[list[Valued]] = [[] for _ in chosen]
    for left, right in layers:
        x, y = _layer(a, left), _layer(b, right)
        check_conditions(f"{a.encoder} {left}", f"{b.encoder} {right}", x, y, paired=True)
        pooled = pool(x, y)  # its distances serve every statistic
        what = f"layers {left!r} of {a.encoder} and {right!r} of {b.encoder}"
        for column, (statistic, _) in zip(found, chosen, strict=True):
            column.append(plan.values(statistic, pooled, what))
    tables = [_table(s.name, note, layers, column, plan) for (s, note), column in zip(chosen, found, strict=True)]
    return pd.concat(tables, ignore_index=True)


def _swaps(units: Units, count: int, seed: int, signs: ArrayLike | Tensor | None = None) -> Arrangements:
    """Plan the swaps within pairs, whole groups together."""
    n = len(units.of_row)
    observed = torch.ones(1, n, dtype=torch.int8)
    if signs is not None:
        signs = as_array("signs", signs)
        by_row = signs.ndim == 2 and signs.shape[1] == n
        given = given_signs(signs, n if by_row else units.count).signs
        rows = given if by_row else given[:, units.of_row]
        units.check_whole("signs", rows)
        return Arrangements(torch.cat([observed, rows]), units.n_groups)
    if count == 0:
        return Arrangements(observed, units.n_groups)
    try:
        flips = sign_flips(units.count, count, seed, mirrored=True, what="groups" if units.grouped else "pairs")
    except NoTestError as reason:
        return Arrangements(observed, units.n_groups, note=f"no p: {reason}")
    return Arrangements(torch.cat([observed, flips.signs[:, units.of_row]]), units.n_groups, flips.exact)


def _relabellings(units: Units, count: int, seed: int, permutations: ArrayLike | Tensor | None) -> Arrangements:
    """Plan the relabelling of all points, whole groups together."""
    observed = (units.of_row < units.count_x)[None]
    if permutations is not None:
        index = given_permutations(permutations, observed.shape[1]).index
        rows = torch.zeros(index.shape, dtype=torch.bool).scatter_(1, index[:, : int(observed.sum())], True)
        units.check_whole("permutations", rows)
        return Arrangements(torch.cat([observed, rows]), units.n_groups)
    if count == 0:
        return Arrangements(observed, units.n_groups)
    distinct = distinct_labellings(units.count, units.count_x)
    if distinct < 1 / LEVEL:
        return Arrangements(observed, units.n_groups, note=f"no p: {too_few(units, distinct)}")
    drawn = labellings(units.count, units.count_x, count, seed)
    return Arrangements(torch.cat([observed, drawn.first[:, units.of_row]]), units.n_groups, drawn.exact)


def _table(
    name: str, note: str, layers: Sequence[tuple[str, str]], found: Sequence[Valued], plan: Arrangements
) -> "pd.DataFrame":
    import pandas as pd

    values = np.stack([f.values for f in found], axis=1)
    units = np.array([f.unit for f in found])
    p = p_values(values[0], values[1:])
    return pd.DataFrame(
        {
            "test": name,
            "layer_a": [a for a, _ in layers],
            "layer_b": [b for _, b in layers],
            "metric": "",
            "statistic": values[0] * units,
            "null_mean": np.array([_mean(f.values[1:]) for f in found]) * units,
            "p": p,
            "p_adjusted": max_t(values[0], values[1:]),
            "q": benjamini_hochberg(p),
            "n": plan.rows.shape[1],
            "n_groups": plan.n_groups,
            "n_permutations": len(plan.rows) - 1,
            "note": [_joined(note, plan.note, f.note) for f in found],
        }
    )


def _features(name: str, values: ArrayLike | Tensor) -> Tensor:
    x = as_tensor(name, values).cpu()
    check_features(name, x)
    return x


def _layer(side: Activations, name: str) -> Tensor:
    if name not in side.layers:
        raise unknown(f"layer of {side.encoder}", name, side.layers)
    if side.geometry == "rdm":
        raise InputError(f"{side.encoder} gives dissimilarities, but a two-sample test needs the features themselves")
    x, what = side.layers[name], f"{side.encoder} {name}"
    if side.geometry == "repeats":
        check_features(what, x, 3)
        x = x.double().mean(0)
    return _features(what, x)


def _refuse(given: object, message: str) -> None:
    if given is not None:
        raise InputError(message)


def _of_both(groups: Iterable[object] | None) -> Groups:
    """List the names of each condition's groups; what is no tuple of two stays, for `units_of_both` to refuse."""
    if isinstance(groups, tuple) and len(groups) == 2:
        left, right = names_of("groups of x", groups[0]), names_of("groups of y", groups[1])
        if left is None or right is None:
            raise InputError("groups are None in one condition only; give those of both, or groups=None")
        return left, right
    names = names_of("groups", groups)
    return None if names is None else list(names)


def _mean(null: Float[np.ndarray, " m"]) -> float:
    return float(null.mean()) if len(null) else float("nan")


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))
