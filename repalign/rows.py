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
    """Keep, in every block of two sides, the stimuli that both have, with the groups that either knows."""
    if b is a:
        return a, a
    groups = a.groups if a.groups is not None else b.groups
    source = a if a.groups is not None else b
    ids = tuple(
        tuple(name for name in one if name in frozenset(other)) for one, other in zip(a.ids, b.ids, strict=True)
    )
    if groups is not None:
        of_name = [dict(zip(n, g, strict=True)) for n, g in zip(source.ids, groups, strict=True)]
        groups = tuple(tuple(known[name] for name in block) for known, block in zip(of_name, ids, strict=True))
    return _only(a, ids, groups), _only(b, ids, groups)


def _only(rows: Rows, ids: Blocks, groups: Blocks | None) -> Rows:
    if rows.ids == ids:
        return Rows(ids, groups, rows.widths, rows.read)
    places = [{name: i for i, name in enumerate(block)} for block in rows.ids]
    index = [torch.tensor([p[n] for n in block], dtype=torch.long) for p, block in zip(places, ids, strict=True)]

    def read(k: int, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return {name: x[index[k]] for name, x in rows.read(k, layers).items()}

    return Rows(ids, groups, rows.widths, read)
