"""Rows of features in blocks: of what is in memory, and the same stimuli on both sides."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from repalign.types import Activations, Rows

Blocks = tuple[tuple[str, ...], ...]


def blocks(ids: Sequence[str], size: int) -> Blocks:
    """Cut stimuli into blocks of `size`, the last one of what is left."""
    return tuple(tuple(ids[k : k + size]) for k in range(0, len(ids), size))


def rows_of(activations: Activations, ids: Blocks) -> Rows:
    """Read features that are in memory by the blocks of `ids`.

    Raises InputError naming the stimuli that are not there.
    """
    place = {name: i for i, name in enumerate(activations.ids)}
    if any(name not in place for block in ids for name in block):
        activations.join([name for block in ids for name in block])  # raises
    index = [torch.tensor([place[name] for name in block], dtype=torch.long) for block in ids]
    of_block = None
    if activations.groups is not None:
        known = activations.groups
        of_block = tuple(tuple(known[i] for i in one.tolist()) for one in index)

    def read(k: int, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return {name: activations.layers[name][index[k]] for name in layers}

    return Rows(ids, of_block, {name: x.shape[-1] for name, x in activations.layers.items()}, read)


def common(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    """Keep, in every block of two sides, the stimuli that both have, with the groups that either knows.

    Blocks without any are left out.
    """
    if b is a:
        whole = a if all(a.ids) else _only(a, a.ids, a.groups)
        return whole, whole
    groups = a.groups if a.groups is not None else b.groups
    source = a if a.groups is not None else b
    there = [frozenset(block) for block in b.ids]
    ids = tuple(tuple(name for name in block if name in known) for block, known in zip(a.ids, there, strict=True))
    if groups is not None:
        of_name = [dict(zip(n, g, strict=True)) for n, g in zip(source.ids, groups, strict=True)]
        groups = tuple(tuple(known[name] for name in block) for known, block in zip(of_name, ids, strict=True))
    return _only(a, ids, groups), _only(b, ids, groups)


def _only(rows: Rows, ids: Blocks, groups: Blocks | None) -> Rows:
    """Keep the stimuli `ids` of each block, and the blocks that have some."""
    if rows.ids == ids and all(ids):
        return Rows(ids, groups, rows.widths, rows.read)
    numbers = [k for k, block in enumerate(ids) if block]
    places = [{name: i for i, name in enumerate(rows.ids[k])} for k in numbers]
    index = [torch.tensor([p[n] for n in ids[k]], dtype=torch.long) for p, k in zip(places, numbers, strict=True)]

    def read(k: int, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return {name: x[index[k]] for name, x in rows.read(numbers[k], layers).items()}

    kept = None if groups is None else tuple(groups[k] for k in numbers)
    return Rows(tuple(ids[k] for k in numbers), kept, rows.widths, read)
