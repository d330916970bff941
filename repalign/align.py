"""Alignment: every layer of one side against every layer of the other."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from repalign.embedding import Embedded, Geometries, Scored, Side, all_scores, embed_side, scored
from repalign.errors import InputError, RepalignWarning
from repalign.metrics.base import CosineMetric, Metric
from repalign.stack import Room, room
from repalign.types import Activations, Alignment

PAIRS = ("between", "all")
FEWEST_GROUPS = 4  # between which an unbiased estimate exists, as four stimuli are needed without groups


@dataclass(frozen=True)
class Prepared:
    """Both sides of a comparison under one metric, each layer's geometry taken and embedded once.

    `left_out (n, n)` marks the pairs of stimuli that do not count, None when all do; `within_groups` says that those
    within a group are among them; `missing` counts those that a given RDM lacks. `notes` say what was left out.
    `room` says where everything is computed and how much memory it may take.
    """

    a: Activations
    b: Activations
    metric: Metric
    geometries: tuple[Geometries, Geometries]
    embedded: tuple[Embedded, Embedded]
    room: Room
    left_out: Bool[Tensor, "n n"] | None = None
    within_groups: bool = False
    missing: int = 0
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Name the group of each stimulus, as either side has it."""
        return self.a.groups or self.b.groups

    def spare(self) -> int:
        """Count the bytes that another comparison may take beside this one.

        That is what is left, or everything for a metric that can't do its work on disk.
        """
        return self.room.left() if isinstance(self.metric, CosineMetric) else self.room.memory

    def alignment(self) -> Alignment:
        """Score every layer of `a` against every layer of `b`; warns once of layer pairs without a score."""
        return _alignment((self.a, self.b), self.embedded, self.metric, self._scored.values, self._undefined_pairs)

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
        return _by_name(self.a, self.b, self._scored)


def align(
    a: Activations, b: Activations, metric: Metric, pairs: str = "between", memory: int | None = None,
    device: str | torch.device | None = None,
) -> Alignment:  # fmt: skip
    """Score every layer of `a` against every layer of `b`, `(la, lb)` float64, within `memory` bytes, on `device`.

    Where the stimuli come in groups (frames of a video), `pairs="between"` compares stimuli of different groups only,
    for the metrics that can: frames of one video are alike in both layers whatever these are, which lifts a score that
    is debiased for single stimuli (independent layers, 10 videos: debiased CKA 0.22). `"all"` compares all pairs.

    A layer without a geometry (constant features) gives NaN, one warning and its reason in `undefined`.

    Raises InputError when the two sides hold different stimuli, when a layer holds NaN or infinite values, when
    there are fewer stimuli than the metric needs, and when neither memory nor the disk holds all pairs of them.
    """
    return _prepared(a, b, metric, pairs, (memory, device), keep=False).alignment()


def prepare(
    a: Activations, b: Activations, metric: Metric, pairs: str = "between", memory: int | None = None,
    device: str | torch.device | None = None,
) -> Prepared:  # fmt: skip
    """Take and embed every layer of both sides; warns and raises as `align` does.

    Embedded layers are held in `memory` bytes (a quarter of what is free), on `device` (the CPU), or else on disk.
    Pairs of stimuli that are NaN in any given RDM are left out of all layers, with a warning that counts them.
    """
    return _prepared(a, b, metric, pairs, (memory, device), keep=True)


def _prepared(
    a: Activations, b: Activations, metric: Metric, pairs: str, within: tuple[int | None, str | torch.device | None],
    keep: bool,
) -> Prepared:  # fmt: skip
    """Do what `prepare` does; without `keep`, geometries that would serve refits are let go."""
    check_pair(a, b, metric, pairs)
    where = room_for(metric, len(a), *within)
    codes = group_codes(a.groups or b.groups, len(a))
    missing = missing_pairs(a, b)
    if missing is not None:
        _warn(f"{_count(missing)} of stimuli are missing (NaN) in {_rdm_names(a, b)} and left out of every layer")
    inside, notes = None, ()
    if pairs == "between":
        inside, notes = within_groups(metric, codes), _said_of_groups(metric, codes)
    left_out = inside if missing is None else missing if inside is None else missing | inside
    among = len(a.layers) + (0 if b is a else len(b.layers))
    first = embed_side(_side(a, metric, codes, left_out, where, among), metric, where, keep)
    second = first
    if b is not a:
        second = embed_side(_side(b, metric, codes, left_out, where, len(b.layers)), metric, where, keep)
    for side, (_, embedded) in ((a, first), (b, second))[: 1 if b is a else 2]:
        _warn_undefined(side, embedded)
    lacking = 0 if missing is None else int(missing.sum()) // 2
    geometries, embedded = (first[0], second[0]), (first[1], second[1])
    return Prepared(a, b, metric, geometries, embedded, where, left_out, inside is not None, lacking, notes)


def against(prepared: Prepared, b: Activations) -> Prepared:
    """Put other activations of the same stimuli in the place of `b`; side `a` is not embedded again.

    Warns and raises as `align` does.
    """
    a, metric, where = prepared.a, prepared.metric, prepared.room
    check_pair(a, b, metric)
    codes = group_codes(prepared.groups, len(b))
    right, second = embed_side(_side(b, metric, codes, prepared.left_out, where, len(b.layers)), metric, where)
    _warn_undefined(b, second)
    return replace(prepared, b=b, geometries=(prepared.geometries[0], right), embedded=(prepared.embedded[0], second))


def align_all(
    sides: Sequence[Activations], metric: Metric, pairs: str = "between", memory: int | None = None,
    device: str | torch.device | None = None,
) -> dict[tuple[int, int], Alignment]:  # fmt: skip
    """Score every side against every later one, `(i, j)` with i < j, as `align` does, each side embedded once.

    A metric that isn't symmetric scores every side against every earlier one too, `(j, i)`.

    Sides that lack pairs of stimuli (NaN in an RDM), or between which none have groups while others have, are compared
    pair by pair, since what they leave out depends on the pair. Warns and raises as `align` does.
    """
    both = list((combinations if metric.symmetric else permutations)(range(len(sides)), 2))
    for i, j in both:
        check_pair(sides[i], sides[j], metric, pairs)
    groups = next((side.groups for side in sides if side.groups), None)
    whole = [missing_pairs(side, side) is None for side in sides]
    alike = [(i, j) for i, j in both if whole[i] and whole[j] and (sides[i].groups or sides[j].groups) == groups]
    found = _align_together(sides, alike, metric, groups if pairs == "between" else None, groups, (memory, device))
    return {k: found[k] if k in found else align(sides[k[0]], sides[k[1]], metric, pairs, memory, device) for k in both}


def _align_together(
    sides: Sequence[Activations], both: Sequence[tuple[int, int]], metric: Metric,
    between: tuple[str, ...] | None, groups: tuple[str, ...] | None,
    within: tuple[int | None, str | torch.device | None],
) -> dict[tuple[int, int], Alignment]:  # fmt: skip
    """Score pairs of sides that leave out the same pairs of stimuli: those within the groups of `between`."""
    used = sorted({k for pair in both for k in pair})
    if not used:
        return {}
    n, among = len(sides[used[0]]), sum(len(sides[k].layers) for k in used)
    where = room_for(metric, n, *within)
    left_out = within_groups(metric, group_codes(between, n))
    embedded = {}
    for k in used:
        side = _side(sides[k], metric, group_codes(groups, n), left_out, where, among)
        embedded[k] = embed_side(side, metric, where, keep=False)[1]
        among -= len(sides[k].layers)
        _warn_undefined(sides[k], embedded[k])
    if not isinstance(metric, CosineMetric):
        pairwise = {(i, j): scored(embedded[i], embedded[j], metric) for i, j in both}
    else:
        every = all_scores([embedded[k] for k in used])
        ends = dict(zip(used, np.cumsum([embedded[k].count for k in used]).tolist(), strict=True))
        rows = {k: slice(ends[k] - embedded[k].count, ends[k]) for k in used}
        pairwise = {(i, j): Scored(every[rows[i], rows[j]], {}) for i, j in both}
    return {
        (i, j): _alignment(
            (sides[i], sides[j]), (embedded[i], embedded[j]), metric, one.values, _by_name(sides[i], sides[j], one)
        )
        for (i, j), one in pairwise.items()
    }


def _alignment(
    sides: tuple[Activations, Activations], embedded: tuple[Embedded, Embedded], metric: Metric,
    values: NDArray[np.float64], undefined: dict[str, str],
) -> Alignment:  # fmt: skip
    return Alignment(
        metric.name,
        metric.options,
        tuple(sides[0].layers),
        tuple(sides[1].layers),
        len(sides[0]),
        values.copy(),
        embedded[0].undefined | embedded[1].undefined | undefined,
    )


def _by_name(a: Activations, b: Activations, found: Scored) -> dict[str, str]:
    left, right = list(a.layers), list(b.layers)
    return {f"{left[i]} × {right[j]}": reason for (i, j), reason in found.undefined.items()}


def room_for(metric: Metric, n: int, memory: int | None, device: str | torch.device | None = None) -> Room:
    """Say where n stimuli are compared; raises InputError when not even one layer's pairs of them fit there."""
    where = room(memory, device)
    if metric.pairwise:
        where.check(n, metric.work)
    return where


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


def check_features(name: str, x: Tensor, axes: int = 2) -> None:
    """Raise InputError unless `x` is `(n, d)` with d ≥ 1 and finite, naming the layer and the count."""
    if x.ndim != axes or x.shape[-1] == 0:
        wanted = "features must be (stimuli, features)" if axes == 2 else "repeats must be (repeats, stimuli, features)"
        raise InputError(f"layer {name!r} has shape {tuple(x.shape)}; {wanted}")
    if x.numel() and not all(torch.isfinite(v) for v in torch.aminmax(x)):  # NaN is both; no copy of wide features
        bad = int((~torch.isfinite(x)).sum())
        rows = int((~torch.isfinite(x)).any(-1).sum())
        raise InputError(f"layer {name!r} holds {bad} NaN or infinite values in {rows} of {x[..., 0].numel()} stimuli")


def missing_pairs(a: Activations, b: Activations) -> Bool[Tensor, "n n"] | None:
    """Find the pairs of stimuli that are NaN in any given RDM of either side, or None when none is."""
    given = [rdm for side in (a, b) if side.geometry == "rdm" for rdm in side.layers.values()]
    missing = torch.stack([torch.isnan(rdm) for rdm in given]).any(0) if given else torch.zeros(0)
    return missing if missing.any() else None


def _warn_undefined(side: Activations, embedded: Embedded) -> None:
    for layer, reason in embedded.undefined.items():
        _warn(f"layer {layer!r} of {side.encoder} has no score (NaN): {reason}", stacklevel=5)


def _side(
    side: Activations, metric: Metric, codes: Int[Tensor, " n"], left_out: Bool[Tensor, "n n"] | None, where: Room,
    among: int,
) -> Side:  # fmt: skip
    """Say how to take each layer's geometry: on the device, the pairs of stimuli that do not count NaN."""
    names, there = tuple(side.layers), None if left_out is None else left_out.to(where.device)

    def geometry(row: int) -> Tensor:
        found = geometry_of(side, names[row], metric, codes, where.device)
        return found if there is None else found.masked_fill_(there, torch.nan)

    return Side(names, len(side), geometry, among)


def geometry_of(
    side: Activations, layer: str, metric: Metric, codes: Int[Tensor, " n"], device: torch.device | None = None
) -> Tensor:
    """Take the geometry of a layer, whatever it holds, on a device; `codes` number the groups of the stimuli.

    Raises UndefinedError when it has none, InputError naming side and layer when the metric can't use it.
    """
    x = side.layers[layer] if device is None else side.layers[layer].to(device)
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
