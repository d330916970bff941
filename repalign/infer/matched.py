"""One encoder in two conditions: every layer of a with the same layer of b, and its jackknife.

Symbols: `l` layers, `u` units that are left out in turn (groups, stimuli, or blocks of them).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repalign.align import Prepared
from repalign.embedding import Embedded, Geometries, embed
from repalign.errors import InputError
from repalign.infer.checks import check_level, check_seed
from repalign.infer.jackknife import degrees_of_freedom, each_own, from_row_sums, interval, others, standard_error
from repalign.infer.matrix import FEWEST_UNITS, approximations, deletions_for
from repalign.infer.pvalues import TIE
from repalign.infer.resample import members
from repalign.metrics.base import CosineMetric, Metric, PairMetric, UndefinedError
from repalign.stack import Stack, panels
from repalign.types import Activations


@dataclass(frozen=True)
class Estimate:
    """Scores with their jackknife standard errors and the ends of their intervals; NaN where there is none."""

    value: Float[np.ndarray, " l"]
    se: Float[np.ndarray, " l"]
    ci_low: Float[np.ndarray, " l"]
    ci_high: Float[np.ndarray, " l"]


@dataclass(frozen=True)
class MatchedScores:
    """The score of each layer in two conditions, with all stimuli and without each unit in turn.

    `deleted (u, l)` are the scores without one of `units (u,)`: the names of groups, the ids of stimuli, or "block 0"
    and so on, which `seed` chose. `n_groups` is None when stimuli are exchangeable one by one; `bounds` are those of
    the measure; `notes` say what is approximate and why something is NaN.
    """

    metric: str
    layers: tuple[str, ...]
    scores: Float[np.ndarray, " l"]
    deleted: Float[np.ndarray, "u l"]
    units: tuple[str, ...]
    n: int
    n_groups: int | None
    bounds: tuple[float, float]
    notes: tuple[str, ...] = ()
    seed: int = 0

    def keep(self, layers: Bool[np.ndarray, " l"]) -> "MatchedScores":
        """Keep the layers that are marked."""
        names = tuple(name for name, kept in zip(self.layers, layers, strict=True) if kept)
        return replace(self, layers=names, scores=self.scores[layers], deleted=self.deleted[:, layers])

    def mean(self) -> "MatchedScores":
        """Average over the layers that have a score, with all stimuli and without each unit; the layer's name is "".

        A layer without a score is left out, and a note names it. One that has a score but loses it with some unit left
        out stays in the mean, which then has no interval.
        """
        known = np.isfinite(self.scores)
        notes = self.notes
        if not known.all():
            missing = ", ".join(name for name, there in zip(self.layers, known, strict=True) if not there)
            notes = (*notes, f"the mean leaves out {(~known).sum()} of {len(known)} layers, without a score: {missing}")
        score, deleted = np.full(1, np.nan), np.full((len(self.units), 1), np.nan)
        if known.any():
            score, deleted = self.scores[None, known].mean(1), self.deleted[:, known].mean(1, keepdims=True)
        return replace(self, layers=("",), scores=score, deleted=deleted, notes=notes)

    def estimate(self, level: float = 0.95) -> Estimate:
        """Give each score its jackknife standard error and interval, cut at the measure's bounds.

        Deletions that change a score by rounding only have a standard error of 0.

        Raises InputError for a level that is none.
        """
        scale = np.fmax(np.abs(self.scores), np.abs(self.deleted).max(0))
        se = standard_error(self.deleted)
        se = np.where(se <= TIE * scale, 0.0, se)
        degrees = degrees_of_freedom(self.deleted)
        low, high = interval(self.scores, se, degrees, check_level(level), self.bounds)
        return Estimate(self.scores, se, low, high)


def matched_scores(prepared: Prepared, seed: int = 0) -> MatchedScores:
    """Score each layer of a with the layer of b of the same name, with all stimuli and without each unit.

    Units are groups, or stimuli where there are no groups; of more than fifty, fifty random blocks where the metric has
    to be computed afresh. Pairs of layers that don't match are not scored. With fewer than five units the deletions are
    NaN, and a note says so. A layer without a score is NaN, and a note says why.

    Raises InputError when the two sides have different layers.
    """
    check_seed(seed)
    check_layers(prepared.a, prepared.b)
    metric, n, groups = prepared.metric, len(prepared.a), prepared.groups
    full = score_matched(*prepared.embedded, metric)
    left_out = deletions_for(metric, n, groups, seed)
    deleted, notes = _without_each(prepared, left_out, full.values)
    left, right = prepared.embedded
    layers = tuple(prepared.a.layers)
    undefined = left.undefined | right.undefined | {layers[k]: reason for k, reason in full.undefined.items()}
    return MatchedScores(
        metric.spec, layers, full.values, deleted, _unit_names(prepared, left_out), n,
        len(set(groups)) if groups else None, metric.bounds,
        (*prepared.notes, *(f"layer {name!r} has no score: {reason}" for name, reason in undefined.items()), *notes),
        seed,
    )  # fmt: skip


def check_layers(a: Activations, b: Activations) -> None:
    """Raise InputError unless both sides have the same layers in the same order."""
    if tuple(a.layers) == tuple(b.layers):
        return
    only = [name for name in (*a.layers, *b.layers) if (name in a.layers) != (name in b.layers)]
    first = f", {only[0]!r} in one only" if only else ", in another order"
    raise InputError(
        f"layers of one encoder are matched by name, but {a.encoder} has {len(a.layers)} layers and {b.encoder} "
        f"{len(b.layers)}{first}; record the same layers in both conditions, or score all pairs of layers with align()"
    )


@dataclass(frozen=True)
class Matched:
    """The scores of layers at the same place, and by place why two that have a geometry have no score."""

    values: Float[np.ndarray, " l"]
    undefined: dict[int, str]


def score_matched(a: Embedded, b: Embedded, metric: Metric) -> Matched:
    """Score each layer of a with the layer of b at its place; NaN where either has no geometry."""
    found = Matched(np.full(a.count, np.nan), {})
    if not isinstance(metric, PairMetric):
        both = [row for row in a.rows if row in b.rows]
        if both:
            x = _stack_of(a, both)
            found.values[both] = _inner_products(x, x if b is a else _stack_of(b, both)).cpu().numpy()
        return found
    of_b = dict(zip(b.rows, b.values, strict=True))
    for row, x in zip(a.rows, a.values, strict=True):
        if row not in of_b:
            continue
        try:
            found.values[row] = metric.score(x, of_b[row])
        except UndefinedError as reason:
            found.undefined[row] = str(reason)
    return found


def deleted_matched(prepared: Prepared, deleted: Sequence[Int[Tensor, "_"]]) -> Float[np.ndarray, "g l"]:
    """Score each layer of a with the layer of b at its place, each set of `deleted` stimuli left out in turn.

    It is the diagonal of `deleted_scores`, from l products of layers in place of l².
    """
    metric, n, (left, right) = prepared.metric, len(prepared.a), prepared.embedded
    if not isinstance(metric, CosineMetric) or metric.centring is None:
        return np.stack([refit_matched(prepared, others(n, rows)) for rows in deleted])
    result = np.full((len(deleted), left.count), np.nan)
    both = [row for row in left.rows if row in right.rows]
    if both:
        a = _stack_of(left, both)
        b = a if right is left else _stack_of(right, both)
        found = from_row_sums(prepared, deleted, metric.centring, a, b, each_own)
        result[:, both] = found.scores
        for k in found.lost:
            result[k] = refit_matched(prepared, others(n, deleted[k]))
    return result


def refit_matched(prepared: Prepared, index: Int[Tensor, " m"]) -> Float[np.ndarray, " l"]:
    """Score each layer of a with the layer of b at its place on the stimuli at `index` alone.

    The geometries are indexed and embedded again, so the RBF kernel keeps the bandwidth of all stimuli.
    """
    left, right = prepared.geometries
    both = left.layers.keys() & right.layers.keys()
    first = _embedded(left, both, prepared.metric, index)
    second = first if right is left else _embedded(right, both, prepared.metric, index)
    return score_matched(first, second, prepared.metric).values


def _embedded(side: Geometries, rows: set[int], metric: Metric, index: Int[Tensor, " m"]) -> Embedded:
    return embed(side.only(rows).take(metric, index), metric)


def _stack_of(side: Embedded, rows: Sequence[int]) -> Stack:
    """Take the unit matrices of the layers in `rows`, without a copy where those are all."""
    return side.values if len(rows) == len(side.rows) else side.values.pick([side.rows.index(row) for row in rows])


def _inner_products(a: Stack, b: Stack) -> Float[Tensor, " l"]:
    """Multiply each matrix of a with the matrix of b at its place, entry by entry."""
    found = torch.zeros(len(a), dtype=torch.float64, device=a.device)
    for _, x, y in panels(a, b):
        for total, one, other in zip(found, x, y, strict=True):
            total += torch.dot(one.flatten(), other.flatten())
    return found


def _without_each(
    prepared: Prepared, left_out: Sequence[Int[Tensor, "_"]], full: Float[np.ndarray, " l"]
) -> tuple[Float[np.ndarray, "u l"], list[str]]:
    """Score the layers without each unit, and say what is to be said of that; all NaN where it can't be done."""
    what = "groups" if prepared.groups else "stimuli"
    nothing = np.full((len(left_out), len(full)), np.nan)
    if len(left_out) < FEWEST_UNITS:
        return nothing, [f"no interval: {len(left_out)} {what} are too few; at least {FEWEST_UNITS} are needed"]
    try:
        deleted = deleted_matched(prepared, left_out)
    except InputError as reason:  # a subset on which the metric can't be computed
        return nothing, [f"no interval: with some {what} left out: {reason}"]
    lost = int((np.isfinite(full) & np.isnan(deleted).any(0)).sum())
    said = [f"no interval for {lost} of {len(full)} layers, undefined with some {what} left out"] if lost else []
    return deleted, [*said, *approximations(prepared.metric)]


def _unit_names(prepared: Prepared, left_out: Sequence[Int[Tensor, "_"]]) -> tuple[str, ...]:
    if len(left_out) < len(members(len(prepared.a), prepared.groups)):
        return tuple(f"block {k}" for k in range(len(left_out)))
    names = prepared.groups or prepared.a.ids
    return tuple(names[int(rows[0])] for rows in left_out)
