"""Alignment: every layer of one side against every layer of the other.

A cosine metric turns each layer into one symmetric matrix that lists what the layer says about every pair of
stimuli, and the similarity of two layers is the cosine of their matrices, `⟨A, B⟩ / (‖A‖ ‖B‖)`. With the unit
matrices of all layers laid out as rows, `E_a (la, n²)` and `E_b (lb, n²)`, the whole matrix of scores is
`E_a E_bᵀ`: one product, each layer embedded once, not once a pair. A pair metric is a plain loop.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from repalign.errors import InputError, RepalignWarning
from repalign.memory import check_memory
from repalign.metrics.base import CosineMetric, Metric, PairMetric, UndefinedError
from repalign.types import Activations, Alignment

PAIRS = ("between", "all")
FEWEST_GROUPS = 4  # between which an unbiased estimate exists, as four stimuli are needed without groups


@dataclass(frozen=True)
class Geometries:
    """The geometry of every layer that has one, by its row in the matrix of scores, and why the others have none."""

    names: tuple[str, ...]
    layers: dict[int, Tensor]
    undefined: dict[str, str]

    def take(self, metric: Metric, index: Tensor) -> "Geometries":
        """Restrict every layer to the stimuli at `index`."""
        return Geometries(self.names, {k: metric.take(g, index) for k, g in self.layers.items()}, self.undefined)


@dataclass(frozen=True)
class Embedded:
    """The embedded layers by row: a stack of unit matrices `(l, n, n)` for a cosine metric, else a list."""

    count: int
    rows: tuple[int, ...]
    values: Any
    undefined: dict[str, str]


@dataclass(frozen=True)
class Scored:
    """The scores of all layer pairs, and why a pair whose layers both have a geometry is NaN, by its place."""

    values: Float[np.ndarray, "la lb"]
    undefined: dict[tuple[int, int], str]


@dataclass(frozen=True)
class Prepared:
    """Both sides of a comparison under one metric, each layer's geometry taken and embedded once.

    `left_out (n, n)` marks the pairs of stimuli that do not count, None when all do; `within_groups` says that those
    within a group are among them; `missing` counts those that a given RDM lacks. `notes` say what was left out.
    """

    a: Activations
    b: Activations
    metric: Metric
    geometries: tuple[Geometries, Geometries]
    embedded: tuple[Embedded, Embedded]
    left_out: Bool[Tensor, "n n"] | None = None
    within_groups: bool = False
    missing: int = 0
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Name the group of each stimulus, as either side has it."""
        return self.a.groups or self.b.groups

    def alignment(self) -> Alignment:
        """Score every layer of `a` against every layer of `b`; warns once of layer pairs without a score."""
        left, right = self.embedded
        return Alignment(
            self.metric.name,
            self.metric.options,
            tuple(self.a.layers),
            tuple(self.b.layers),
            len(self.a),
            self._scored.values.copy(),
            left.undefined | right.undefined | self._undefined_pairs,
        )

    @cached_property
    def _scored(self) -> Scored:
        found = scored(*self.embedded, self.metric)
        if found.undefined:
            (i, j), reason = next(iter(found.undefined.items()))
            _warn(
                f"{len(found.undefined)} layer pairs of {self.a.encoder} and {self.b.encoder} have no score (NaN), "
                f"{list(self.a.layers)[i]!r} with {list(self.b.layers)[j]!r} first: {reason}"
            )
        return found

    @property
    def _undefined_pairs(self) -> dict[str, str]:
        left, right = list(self.a.layers), list(self.b.layers)
        return {f"{left[i]} × {right[j]}": reason for (i, j), reason in self._scored.undefined.items()}


def align(a: Activations, b: Activations, metric: Metric, pairs: str = "between") -> Alignment:
    """Score every layer of `a` against every layer of `b`, `(la, lb)` float64.

    Where the stimuli come in groups (frames of a video), `pairs="between"` compares stimuli of different groups only,
    for the metrics that can: frames of one video are alike in both layers whatever these are, which lifts a score that
    is debiased for single stimuli (independent layers, 10 videos: debiased CKA 0.22). `"all"` compares all pairs.

    A layer without a geometry (constant features) gives NaN, one warning and its reason in `undefined`.

    Raises InputError when the two sides hold different stimuli, when a layer holds NaN or infinite values, and
    when there are fewer stimuli than the metric needs.
    """
    return prepare(a, b, metric, pairs).alignment()


def prepare(a: Activations, b: Activations, metric: Metric, pairs: str = "between") -> Prepared:
    """Take and embed every layer of both sides; warns and raises as `align` does.

    Pairs of stimuli that are NaN in any given RDM are left out of all layers, with a warning that counts them.
    """
    check_pair(a, b, metric, pairs)
    codes = group_codes(a.groups or b.groups, len(a))
    left = _geometries(a, metric, codes)
    right = left if b is a else _geometries(b, metric, codes)
    missing = missing_pairs(a, b)
    if missing is not None:
        _warn(f"{_count(missing)} of stimuli are missing (NaN) in {_rdm_names(a, b)} and left out of every layer")
    within, notes = None, ()
    if pairs == "between":
        within, notes = within_groups(metric, codes), _said_of_groups(metric, codes)
    left_out = within if missing is None else missing if within is None else missing | within
    for side in {id(left): left, id(right): right}.values():
        _leave_out(side, left_out)
    first = embed(left, metric)
    second = first if right is left else embed(right, metric)
    for side, embedded in ((a, first), (b, second))[: 1 if b is a else 2]:
        _warn_undefined(side, embedded)
    lacking = 0 if missing is None else int(missing.sum()) // 2
    return Prepared(a, b, metric, (left, right), (first, second), left_out, within is not None, lacking, notes)


def against(prepared: Prepared, b: Activations) -> Prepared:
    """Put other activations of the same stimuli in the place of `b`; side `a` is not embedded again.

    Warns and raises as `align` does.
    """
    check_pair(prepared.a, b, prepared.metric)
    right = _geometries(b, prepared.metric, group_codes(prepared.groups, len(b)))
    _leave_out(right, prepared.left_out)
    second = embed(right, prepared.metric)
    _warn_undefined(b, second)
    return replace(prepared, b=b, geometries=(prepared.geometries[0], right), embedded=(prepared.embedded[0], second))


def group_codes(groups: tuple[str, ...] | None, n: int) -> Int[Tensor, " n"]:
    """Give the group of each of n stimuli a number from 0, or each stimulus one where there are no groups."""
    return torch.arange(n) if groups is None else torch.tensor(np.unique(groups, return_inverse=True)[1])


def within_groups(metric: Metric, codes: Int[Tensor, " n"]) -> Bool[Tensor, "n n"] | None:
    """Mark the pairs of stimuli of one group, each stimulus with itself among them, or None where all pairs count."""
    count = len(codes.unique())
    if not metric.leaves_pairs_out or count == len(codes) or count < FEWEST_GROUPS:
        return None
    return codes[:, None] == codes[None, :]


def said_of_pairs_left_out(within: Bool[Tensor, "n n"]) -> str:
    """Count the pairs of different stimuli that a mask of whole groups leaves out."""
    return f"{_count(within & ~torch.eye(len(within), dtype=torch.bool))} within a group are left out"


def too_few_groups(count: int) -> str:
    """Say that so few groups can't be compared between groups only."""
    return f"{count} groups are too few to compare between groups only ({FEWEST_GROUPS} are needed)"


def _said_of_groups(metric: Metric, codes: Int[Tensor, " n"]) -> tuple[str, ...]:
    """Say whether pairs of stimuli within a group count."""
    count, within = len(codes.unique()), within_groups(metric, codes)
    if within is not None:
        return (said_of_pairs_left_out(within),)
    if count == len(codes) or metric.splits_by_group:
        return ()
    if metric.leaves_pairs_out:
        few = too_few_groups(count)
        return (f"{few}, so pairs of stimuli within a group count too, which lifts the scores",)
    return ("pairs of stimuli within a group count too, which lifts the score: read it against null_mean",)


def _count(marked: Tensor) -> str:
    n = len(marked)
    return f"{int(marked.sum()) // 2:,} of {n * (n - 1) // 2:,} pairs"


def _rdm_names(a: Activations, b: Activations) -> str:
    return " and ".join(dict.fromkeys(side.encoder for side in (a, b) if side.geometry == "rdm"))


def _warn(message: str, stacklevel: int = 4) -> None:
    warnings.warn(message, RepalignWarning, stacklevel=stacklevel)


def embed(side: Geometries, metric: Metric) -> Embedded:
    """Embed every layer; matrices of a cosine metric are scaled to length one."""
    undefined = dict(side.undefined)
    found: dict[int, Any] = {}
    stack = None
    for row, geometry in side.layers.items():
        try:
            value = metric.embed(geometry)
        except UndefinedError as reason:
            undefined[side.names[row]] = str(reason)
            continue
        if isinstance(metric, CosineMetric):
            if stack is None:
                stack = value.new_empty(len(side.layers), *value.shape)
            torch.div(value, value.norm(), out=stack[len(found)])
            value = None
        found[row] = value
    values = list(found.values()) if stack is None else stack[: len(found)]
    return Embedded(len(side.names), tuple(found), values, undefined)


def scores(a: Embedded, b: Embedded, metric: Metric) -> NDArray[np.float64]:
    """Score all embedded layers of `a` with all of `b`, `(la, lb)`; NaN where there is nothing to compare."""
    return scored(a, b, metric).values


def scored(a: Embedded, b: Embedded, metric: Metric) -> Scored:
    """Score all embedded layers of `a` with all of `b`, and say why two that have a geometry have no score."""
    if isinstance(metric, PairMetric):
        return _one_by_one(a, b, metric)
    matrix = np.full((a.count, b.count), np.nan)
    if a.rows and b.rows:
        matrix[np.ix_(a.rows, b.rows)] = (a.values.flatten(1) @ b.values.flatten(1).T).cpu().numpy()
    return Scored(matrix, {})


def _one_by_one(a: Embedded, b: Embedded, metric: PairMetric) -> Scored:
    """Score pair after pair; of a side with itself only one of both orders when they are the same."""
    found = Scored(np.full((a.count, b.count), np.nan), {})
    mirrored = a is b and metric.symmetric
    for i, x in zip(a.rows, a.values, strict=True):
        for j, y in zip(b.rows, b.values, strict=True):
            if mirrored and j > i:
                continue
            try:
                found.values[i, j] = metric.score(x, y)
            except UndefinedError as reason:
                found.undefined[i, j] = str(reason)
            if mirrored:
                found.values[j, i] = found.values[i, j]
    return found


def check_pair(a: Activations, b: Activations, metric: Metric, pairs: str = "between") -> None:
    """Raise InputError unless both sides hold the same stimuli in the same groups, enough of them, and fit."""
    if pairs not in PAIRS:
        raise InputError(f"pairs must be one of {', '.join(PAIRS)}, not {pairs!r}")
    if a.groups and b.groups and a.groups != b.groups:
        raise InputError(f"{a.encoder} and {b.encoder} put the same stimuli into different groups; give one grouping")
    if a.ids != b.ids:
        shared = len(set(a.ids) & set(b.ids))
        raise InputError(
            f"{a.encoder} has {len(a)} stimuli and {b.encoder} {len(b)}, of which {shared} have the same id in "
            "both; compare the same stimuli in the same order"
        )
    if len(a) < metric.fewest:
        raise InputError(f"{metric.name} needs at least {metric.fewest} stimuli, not {len(a)}")
    if metric.pairwise:
        n, layers = len(a), len(a.layers) + (0 if b is a else len(b.layers))
        # each layer's geometry, and its embedding
        check_memory(16 * layers * n * n, f"all pairs of {n} stimuli × {layers} layers", "--limit N or fewer --layers")


def check_features(name: str, x: Tensor, axes: int = 2) -> None:
    """Raise InputError unless `x` is `(n, d)` with d ≥ 1 and finite, naming the layer and the count."""
    if x.ndim != axes or x.shape[-1] == 0:
        wanted = "features must be (stimuli, features)" if axes == 2 else "repeats must be (repeats, stimuli, features)"
        raise InputError(f"layer {name!r} has shape {tuple(x.shape)}; {wanted}")
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        rows = int((~torch.isfinite(x)).any(-1).sum())
        raise InputError(f"layer {name!r} holds {bad} NaN or infinite values in {rows} of {x[..., 0].numel()} stimuli")


def missing_pairs(a: Activations, b: Activations) -> Bool[Tensor, "n n"] | None:
    """Find the pairs of stimuli that are NaN in any given RDM of either side, or None when none is."""
    given = [rdm for side in (a, b) if side.geometry == "rdm" for rdm in side.layers.values()]
    missing = torch.stack([torch.isnan(rdm) for rdm in given]).any(0) if given else torch.zeros(0)
    return missing if missing.any() else None


def _leave_out(side: Geometries, left_out: Bool[Tensor, "n n"] | None) -> None:
    """Make the pairs of stimuli that do not count NaN, in place."""
    if left_out is not None:
        for geometry in side.layers.values():
            geometry[left_out] = torch.nan


def _warn_undefined(side: Activations, embedded: Embedded) -> None:
    for layer, reason in embedded.undefined.items():
        _warn(f"layer {layer!r} of {side.encoder} has no score (NaN): {reason}", stacklevel=5)


def _geometries(side: Activations, metric: Metric, codes: Int[Tensor, " n"]) -> Geometries:
    found = Geometries(tuple(side.layers), {}, {})
    for row, name in enumerate(side.layers):
        try:
            found.layers[row] = geometry_of(side, name, metric, codes)
        except UndefinedError as reason:
            found.undefined[name] = str(reason)
    return found


def geometry_of(side: Activations, layer: str, metric: Metric, codes: Int[Tensor, " n"]) -> Tensor:
    """Take the geometry of a layer, whatever it holds; `codes` number the groups of the stimuli.

    Raises UndefinedError when it has none, InputError naming side and layer when the metric can't use it.
    """
    x = side.layers[layer]
    if side.geometry != "rdm":
        check_features(layer, x, 3 if side.geometry == "repeats" else 2)
    try:
        match side.geometry:
            case "rdm":
                geometry = metric.geometry_of_rdm(x.double()).clone()
            case "repeats":
                geometry = metric.geometry_of_repeats(x)
            case _:
                geometry = metric.geometry(x)
        return metric.mark(geometry, codes)
    except InputError as error:
        raise InputError(f"{side.encoder}, layer {layer!r}: {error}") from None


def matched(depths_a: NDArray[np.float64], depths_b: NDArray[np.float64], same: bool) -> NDArray[np.intp]:
    """Find for each layer of A, by its depth in 0..1, the place of B's layer nearest in depth, `(la,)`.

    Of several equally near, but for rounding, the first is taken: the shallowest. With `same`, both sides have the
    same layers, and they match one to one.
    """
    if same:
        return np.arange(len(depths_a))
    distance = np.abs(np.subtract.outer(depths_a, depths_b))
    # 1e-10 of the whole depth is rounding: thirds and sixths that meet halfway must not choose by their last bit
    return (distance <= distance.min(axis=1, keepdims=True) + 1e-10).argmax(axis=1)
