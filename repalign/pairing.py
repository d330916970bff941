"""Two sides brought to the same stimuli in the same order, in memory and in blocks."""

from dataclasses import replace

from repalign.chunks import CHUNK
from repalign.errors import InputError
from repalign.rows import blocks, common, rows_of
from repalign.side import Options, Side
from repalign.subjects.aligned import rejoin, rename
from repalign.subset import subset


def pair(left: Side, right: Side, options: Options) -> tuple[Side, Side]:
    """Join the sides by id: pictures that one side could not read leave the other too.

    Raises InputError when saved features lack stimuli of the other side, or are rows without ids of another number.
    """
    if right is left:
        one = _with_rows(left, left, options)[0]
        one = one if one.rows is None else _held(one, _chosen(one, one, options))
        return one, one
    left, right = _adopt_ids(left, right), _adopt_ids(right, left)
    left, right = _with_rows(left, right, options)
    held, everyone = _chosen(left, right, options), _both(left, right)
    return _same_groups(*(replace(_held(side, held), ids=everyone) for side in (left, right)))


def _both(left: Side, right: Side) -> tuple[str, ...]:
    """Name the stimuli that both sides have, in the order of a side that was shown pictures."""
    first, second = (right, left) if left.encoder is None and right.encoder is not None else (left, right)
    there = set(second.ids)
    return tuple(name for name in first.ids if name in there)


def _chosen(left: Side, right: Side, options: Options) -> tuple[str, ...]:
    """Name the stimuli that both sides hold in memory; of saved features that are many, the subset."""
    if left.encoder is not None and right.encoder is not None:
        there = set(right.activations.ids)
        return tuple(name for name in left.activations.ids if name in there)
    if left.encoder is None and right.encoder is None:
        ids = left.activations.ids
        known = next((s.activations for s in (left, right) if s.activations.groups is not None), None)
        group = None if known is None else dict(zip(known.ids, known.groups or (), strict=True))
        groups = None if group is None else [group.get(name, "") for name in ids]
        return tuple(ids[i] for i in subset(len(ids), groups, options.max_pairwise, options.seed))
    return (left if left.encoder is not None else right).activations.ids


def _with_rows(left: Side, right: Side, options: Options) -> tuple[Side, Side]:
    """Give both sides their rows by the same blocks, where there are more stimuli than pairs are taken of."""
    if left.subjects or right.subjects or any(s.activations.geometry != "features" for s in (left, right)):
        return replace(left, rows=None), replace(right, rows=None)  # only features can be streamed
    if any(side.encoder is not None and side.rows is None for side in (left, right)):
        return replace(left, rows=None), replace(right, rows=None)  # few stimuli, or maps too wide for sums over all
    known = left.rows if left.rows is not None else right.rows
    if known is None:
        there = left.ids if left.encoder is None and right.encoder is None else _both(left, right)
        if len(there) <= options.max_pairwise:
            return left, right
        ids = blocks(there, CHUNK)
    else:
        ids = known.ids
    of_left = left.rows if left.rows is not None else rows_of(left.activations, ids)
    if right is left:
        of_left = common(of_left, of_left)[0]
        return replace(left, rows=of_left), replace(left, rows=of_left)
    of_right = right.rows if right.rows is not None else rows_of(right.activations, ids)
    of_left, of_right = common(of_left, of_right)
    return replace(left, rows=of_left), replace(right, rows=of_right)


def _same_groups(left: Side, right: Side) -> tuple[Side, Side]:
    """Give a side that has no groups those of the other: what is exchangeable holds for both."""
    known = left.activations.groups or right.activations.groups
    if known is None:
        return left, right
    of_id = dict(zip(left.activations.ids, known, strict=True))

    def grouped(side: Side) -> Side:
        if side.activations.groups is not None:
            return side
        stimuli = side.stimuli and replace(side.stimuli, groups=tuple(of_id.get(i, "") for i in side.stimuli.ids))
        pooled = {name: replace(one, groups=known) for name, one in side.pooled.items()}
        return replace(side, stimuli=stimuli, activations=replace(side.activations, groups=known), pooled=pooled)

    return grouped(left), grouped(right)


def _held(side: Side, ids: tuple[str, ...]) -> Side:
    pooled = {name: activations.join(ids) for name, activations in side.pooled.items()}
    subjects = None if side.subjects is None else rejoin(side.subjects, ids)
    return replace(side, activations=side.activations.join(ids), pooled=pooled, subjects=subjects)


def _adopt_ids(side: Side, other: Side) -> Side:
    """Give rows saved without ids the ids of the other side, by order, when the counts agree."""
    if side.encoder is not None or not side.activations.meta.get("ids_by_order"):
        return side
    if other.encoder is None and other.activations.meta.get("ids_by_order"):
        return side
    rows, ids = len(side.activations), other.ids
    if rows != len(ids):
        raise InputError(
            f"{side.activations.encoder} has {rows} rows without ids, and {other.activations.encoder} "
            f"{len(ids)} stimuli; give one row a stimulus in the same order, or save the ids with the features"
        )
    note = f"{side.activations.encoder}: rows carry no ids and were joined by order"
    subjects = None if side.subjects is None else rename(side.subjects, ids)
    return replace(
        side, activations=replace(side.activations, ids=ids), ids=ids, notes=(*side.notes, note), subjects=subjects
    )  # fmt: skip
