"""Linear CKA of two sides of any number of stimuli, with its standard errors: all passes in their order."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repalign.align import FEWEST_GROUPS, PAIRS, too_few_groups
from repalign.errors import InputError, RepalignWarning
from repalign.metrics.cka import LinearCKA
from repalign.progress import Track, silent
from repalign.streaming.blocks import Side, highest, survey
from repalign.streaming.grouping import Grouping, grouping
from repalign.streaming.groups import Ask, leave_out_groups
from repalign.streaming.panels import panels
from repalign.streaming.products import Products, centre, multiply
from repalign.streaming.singles import Inners, full_inners, full_totals, leave_out_each
from repalign.together import ALONE, Together
from repalign.types import Alignment, Rows

CONSTANT = "the features are the same for every stimulus"
CANCELLED = "its centred kernel is zero"
FEWEST = 64  # roundings of a sum, whatever the number of stimuli
HELD = 0.25  # of the memory, for the rows of groups that are spread over blocks


@dataclass(frozen=True)
class Streamed:
    """Linear CKA of every pair of layers over all n stimuli, `(la, lb)`, with its jackknife standard errors.

    `degrees` of freedom go with `se`; both are NaN without an interval, and where a deletion leaves no score.
    `n_groups` is None when stimuli are exchangeable one by one; `undefined` says why a layer has no score.
    Where stimuli came by `once` there are no errors: a second pass over them takes those.
    """

    debiased: bool
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    n: int
    scores: Float[np.ndarray, "la lb"]
    se: Float[np.ndarray, "la lb"]
    degrees: Float[np.ndarray, "la lb"]
    undefined: Mapping[str, str]
    n_groups: int | None = None
    notes: tuple[str, ...] = ()
    once: bool = False

    def alignment(self) -> Alignment:
        """Give the scores as every other measure's are given."""
        metric = LinearCKA(self.debiased)
        return Alignment(
            metric.name, metric.options, self.layers_a, self.layers_b, self.n, self.scores.copy(), self.undefined
        )


@dataclass(frozen=True)
class _Plan:
    """What is asked of every panel of layers."""

    a: Side
    b: Side
    n: int
    debiased: bool
    interval: bool
    groups: Grouping | None
    between: bool
    memory: int
    together: Together

    @property
    def grouped(self) -> bool:
        """Tell whether the second pass is about groups."""
        return self.groups is not None and (self.between or self.interval)

    @property
    def passes(self) -> int:
        """Count how often each panel's rows are read."""
        return 1 + (self.interval or self.grouped)


@dataclass(frozen=True)
class Found:
    """What a panel gives: scores, standard errors and degrees `(la, lb)`, and why layers of either side have none."""

    values: tuple[Tensor, Tensor, Tensor]
    undefined: tuple[dict[str, str], dict[str, str]]


def stream(
    a: Rows, b: Rows, debiased: bool, memory: int, together: Together = ALONE, interval: bool = True,
    pairs: str = "between", track: Track = silent,
) -> Streamed:  # fmt: skip
    """Score every layer of `a` with every layer of `b` by linear CKA over all stimuli, as `align` does, in float64.

    Reads every block once, and once more for the errors or where pairs within groups are left out; again for every
    further panel of layers when the products of all don't fit in `memory`. `memory` is in bytes and bounds the
    products, the sums and the rows of one block in float64, of this process; not what `read` holds. `b` is `a`:
    nothing is read or multiplied twice. The standard error leaves out every stimulus, or every group, in turn, and is
    exact; it is NaN where all but 10⁻⁹ of a layer's variation goes with one of them. With groups, the work also grows
    with their number times n.

    Warns of layers without a score. Raises InputError for fewer than four stimuli, sides whose blocks or groups differ,
    values that are not finite, groups split between processes or spread over too many blocks, and memory in which two
    layers don't fit.
    """
    check_rows(a, b, pairs)
    counts = torch.zeros(together.world, dtype=torch.float64)
    counts[together.rank] = len(a)
    counts = together.sum_(counts)
    n = int(counts.sum())
    if n < LinearCKA.fewest:
        raise InputError(f"cka_linear needs at least {LinearCKA.fewest} stimuli, not {n}")
    groups = grouping(a if a.groups is not None else b, together)
    first = int(counts.gt(0).nonzero()[0])
    left = Side(a, survey(a, together, first))
    right = left if b is a else Side(b, survey(b, together, first))
    between = groups is not None and debiased and pairs == "between" and len(groups) >= FEWEST_GROUPS
    plan = _Plan(left, right, n, debiased, interval, groups, between, memory, together)
    found = _all_panels(plan, track)
    scores, se, degrees = (value.numpy() for value in found.values)
    undefined = found.undefined[0] | found.undefined[1]
    if together.first:
        warn_of(undefined)
    return Streamed(
        debiased, tuple(a.widths), tuple(b.widths), n, scores, se, degrees, undefined,
        None if groups is None else len(groups), _said_of_groups(plan, pairs),
    )  # fmt: skip


def check_rows(a: Rows, b: Rows, pairs: str) -> None:
    """Raise InputError unless both sides have the same stimuli in the same blocks and groups."""
    if pairs not in PAIRS:
        raise InputError(f"pairs must be one of {', '.join(PAIRS)}, not {pairs!r}")
    if a.ids != b.ids:
        raise InputError(
            f"the sides have {len(a)} stimuli in {len(a.ids)} blocks and {len(b)} in {len(b.ids)}, not the same ones "
            "in the same order; stream the same stimuli in the same blocks"
        )
    if a.groups is not None and b.groups is not None and a.groups != b.groups:
        raise InputError("the sides put the same stimuli into different groups; give one grouping")


def _all_panels(plan: _Plan, track: Track) -> Found:
    """Do every panel of layers, and put what they give in its place."""
    a, b = plan.a.rows, plan.b.rows
    names = list(a.widths), list(b.widths)
    values = [torch.full((len(names[0]), len(names[1])), math.nan, dtype=torch.float64) for _ in range(3)]
    undefined: tuple[dict[str, str], dict[str, str]] = ({}, {})
    block, memory = _of_all_processes(plan)
    memory = int(memory * (1 - HELD)) if plan.grouped else memory
    count = len(plan.groups) + 1 if plan.groups and plan.grouped else 0  # the last one is no group
    todo = panels(a, b, memory, block, count)
    with track("linear CKA over all stimuli", plan.passes * len(todo) * len(a)) as advance:
        for panel in todo:
            found = _one_panel(plan, multiply(
                plan.a, plan.b, panel, plan.n, plan.groups.codes if plan.groups and plan.grouped else None, count,
                plan.together, advance,
            ), advance)  # fmt: skip
            rows = torch.tensor([names[0].index(name) for name in panel.left.names])
            columns = torch.tensor([names[1].index(name) for name in panel.right.names])
            for whole, part in zip(values, found.values, strict=True):
                whole[rows[:, None], columns] = part
                if plan.a is plan.b:
                    whole[columns[:, None], rows] = part.T
            for all_of_them, some in zip(undefined, found.undefined, strict=True):
                all_of_them.update(some)
    return Found((values[0], values[1], values[2]), undefined)


def _of_all_processes(plan: _Plan) -> tuple[int, int]:
    """Agree on the longest block and the least memory: all processes must choose the same panels."""
    mine = torch.tensor([max(map(len, plan.a.rows.ids), default=0), -plan.memory], dtype=torch.float64)
    longest, least = highest(mine, plan.together).tolist()
    return int(longest), -int(least)


def _one_panel(
    plan: _Plan, multiplied: tuple[Products, tuple[Tensor, Tensor]], advance: Callable[[int], None]
) -> Found:
    found, constant = multiplied
    means = centre(found)
    inners = full_inners(found, plan.debiased)
    scores, nothing = inners.scores(), torch.full_like(inners.cross, math.nan)
    values = (scores, nothing, nothing)
    if plan.grouped and plan.groups is not None:
        ask = Ask(plan.between, plan.debiased, plan.interval, int(plan.memory * HELD))
        deletions = leave_out_groups(plan.a, plan.b, found, means, plan.groups, ask, plan.together, advance)
        inners, powers, count = deletions.full, deletions.powers(), len(plan.groups)
        values = (inners.scores(), powers.standard_error(count), powers.degrees_of_freedom(count))
        values = values if plan.interval else (values[0], nothing, nothing)
    elif plan.interval:
        powers = leave_out_each(plan.a, plan.b, found, means, plan.debiased, plan.together, advance)
        values = (scores, powers.standard_error(plan.n), powers.degrees_of_freedom(plan.n))
    return judged(found, constant, inners, values)


def judged(
    found: Products, constant: tuple[Tensor, Tensor], inners: Inners, values: tuple[Tensor, Tensor, Tensor]
) -> Found:
    """Make NaN the `values` of layers that have no score, which their inner products over all n stimuli tell."""
    _, first, second = full_totals(found)
    undefined = (
        _undefined(found.panel.left.names, constant[0], inners.left, first.square, found.n),
        _undefined(found.panel.right.names, constant[1], inners.right, second.square, found.n),
    )
    missing = _marked(found.panel.left.names, undefined[0])[:, None] | _marked(found.panel.right.names, undefined[1])
    scores, se, degrees = (value.masked_fill(missing, math.nan) for value in values)
    return Found((scores, se, degrees), undefined)


def warn_of(undefined: Mapping[str, str]) -> None:
    """Warn of each layer that has no score."""
    for layer, reason in undefined.items():
        warnings.warn(f"layer {layer!r} has no score (NaN): {reason}", RepalignWarning, stacklevel=3)


def _undefined(
    names: Sequence[str], constant: Bool[Tensor, " l"], inner: Float[Tensor, " l"], square: Float[Tensor, " l"], n: int
) -> dict[str, str]:
    """Say which layers have no variation, or none but rounding after centring."""
    rounding = (FEWEST + n) * torch.finfo(torch.float64).eps * square
    return {
        name: CONSTANT if same else CANCELLED
        for name, same, left in zip(names, constant.tolist(), (inner > rounding).tolist(), strict=True)
        if same or not left
    }


def _marked(names: Sequence[str], undefined: Mapping[str, str]) -> Bool[Tensor, " l"]:
    return torch.tensor([name in undefined for name in names])


def _said_of_groups(plan: _Plan, pairs: str) -> tuple[str, ...]:
    """Say whether pairs of stimuli within a group count, as `align` does."""
    if plan.groups is None or pairs == "all":
        return ()
    if plan.between:
        sizes = plan.groups.sizes
        within, of_all = int((sizes * (sizes - 1)).sum()) // 2, plan.n * (plan.n - 1) // 2
        return (f"{within:,} of {of_all:,} pairs within a group are left out",)
    if plan.debiased:
        few = too_few_groups(len(plan.groups))
        return (f"{few}, so pairs of stimuli within a group count too, which lifts the scores",)
    return ("pairs of stimuli within a group count too, which lifts the score: read it against null_mean",)
