"""The permutation test of a whole matrix of scores: one set of arrangements shared by all layer pairs.

An arrangement π of the stimuli of B permutes rows and columns of its embedded matrices, which exist already (ranks,
centring and lengths stay as they are), so a permuted score is `Σ_{i<j} A_ij B_π(i)π(j)`, and the diagonal where the
embedding has one. All layers of B are laid out side by side for each pair of stimuli, `(pairs, lb)`: one arrangement
gathers whole rows of that table, a block of pairs at a time that fits the cache, and multiplies it with `(la, pairs)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.align import Prepared
from repalign.embedding import Embedded, Geometries, embed, scores
from repalign.infer.resample import Permutations
from repalign.metrics.base import CosineMetric
from repalign.metrics.gram import from_pairs, pairs
from repalign.progress import Advance, quiet
from repalign.stack import BYTES, Stack

BLOCK = 1 << 14  # pairs of stimuli gathered at once
PLACES = 12  # bytes for each n² that list which pair stands where


def permuted_scores(
    prepared: Prepared, permutations: Permutations, advance: Advance = quiet
) -> Float[np.ndarray, "m la lb"]:
    """Score all layer pairs under every arrangement of the stimuli of B.

    Where the arrangements use only some of the stimuli, those alone are embedded; `observed_scores` then gives what
    the null values are to be compared with.
    """
    metric, (first, second) = prepared.metric, _embedded(prepared, permutations)
    if not isinstance(metric, CosineMetric):
        right = _restricted(prepared, prepared.geometries[1], permutations)
        found = []
        for index in permutations.index:
            found.append(scores(first, embed(right.take(metric, index), metric), metric))
            advance(1)
        return np.stack(found)
    null = np.full((len(permutations.index), first.count, second.count), np.nan)
    if first.rows and second.rows:
        found = _permuted_products(first.values, second.values, permutations.index, prepared.room.left(), advance)
        null[np.ix_(range(len(null)), first.rows, second.rows)] = found.cpu().numpy()
    return null


def observed_scores(prepared: Prepared, permutations: Permutations) -> Float[np.ndarray, "la lb"]:
    """Score all layer pairs on the stimuli the arrangements use, as they are paired."""
    return scores(*_embedded(prepared, permutations), prepared.metric)


def _embedded(prepared: Prepared, permutations: Permutations) -> tuple[Embedded, Embedded]:
    """Give both sides embedded on the stimuli the arrangements use: as they are where those are all."""
    if _uses_all(prepared, permutations):
        return prepared.embedded
    left, right = (embed(_restricted(prepared, g, permutations), prepared.metric) for g in prepared.geometries)
    return left, right


def _restricted(prepared: Prepared, side: Geometries, permutations: Permutations) -> Geometries:
    return side if _uses_all(prepared, permutations) else side.take(prepared.metric, permutations.rows)


def _uses_all(prepared: Prepared, permutations: Permutations) -> bool:
    return len(permutations.rows) == len(prepared.a) and bool((permutations.rows.diff() == 1).all())


def _permuted_products(
    a: Stack, b: Stack, index: Int[Tensor, "m n"], memory: int, advance: Advance
) -> Float[Tensor, "m la lb"]:
    """Multiply under every arrangement, as many layers of both sides at a time as have their tables in `memory`.

    Of one side there is a table, of the other two while it is laid out the other way round.
    """
    n = a.n
    null = torch.empty(len(index), len(a), len(b), dtype=torch.float64, device=a.device)
    tables = (memory - PLACES * n * n) // (BYTES * max(1, n * (n - 1) // 2))
    most = max(len(a), len(b)) if len(a) + 2 * len(b) <= tables else max(1, tables // 3)
    blocks = [(slice(i, i + most), slice(j, j + most)) for i in range(0, len(a), most) for j in range(0, len(b), most)]
    own_a, own_b = a.diagonals(), b.diagonals()
    table, held = torch.empty(0), None
    for rows, columns in blocks:
        if rows != held:
            table, held = _by_layer(a, range(len(a))[rows]), rows
        layers = range(len(b))[columns]
        both = _Tables(table, _by_layer(b, layers).T.contiguous(), own_a[rows], own_b[columns])
        last = (rows, columns) == blocks[-1]
        _permute_into(null[:, rows, columns], both, index, advance if last else quiet)
    return null


@dataclass(frozen=True)
class _Tables:
    """Layers laid out by pairs of stimuli, and their diagonals."""

    left: Float[Tensor, "la p"]
    right: Float[Tensor, "p lb"]
    own_left: Float[Tensor, "la n"]
    own_right: Float[Tensor, "lb n"]


def _permute_into(null: Float[Tensor, "m la lb"], tables: _Tables, index: Int[Tensor, "m n"], advance: Advance) -> None:
    n, count, device = index.shape[1], len(tables.right), null.device
    place = from_pairs(torch.arange(count, dtype=torch.int32, device=device), n)
    upper = pairs(torch.arange(n * n, dtype=torch.int32, device=device).view(n, n))
    together = max(1, BLOCK // max(1, count))  # arrangements of few stimuli are taken several at a time
    for first in range(0, len(index), together):
        orders = index[first : first + together].to(device)
        chosen = place[orders[:, :, None], orders[:, None, :]].flatten(1)[:, upper]
        products = tables.own_left @ tables.own_right[:, orders].permute(1, 2, 0)
        for start in range(0, count, BLOCK):
            part = slice(start, start + BLOCK)
            gathered = tables.right.index_select(0, chosen[:, part].flatten()).view(len(orders), -1, null.shape[2])
            products.baddbmm_(tables.left[:, part].expand(len(orders), -1, -1), gathered, alpha=2.0)
        null[first : first + together] = products
        advance(len(orders))


def _by_layer(stack: Stack, places: Sequence[int]) -> Float[Tensor, "l p"]:
    """List the pairs of stimuli of some layers."""
    found = torch.empty(len(places), stack.n * (stack.n - 1) // 2, dtype=torch.float64, device=stack.device)
    for place, row in zip(places, found, strict=True):
        row.copy_(pairs(stack.matrix(place)))
    return found
