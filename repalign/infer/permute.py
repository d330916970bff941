"""The permutation test of a whole matrix of scores: one set of arrangements shared by all layer pairs.

An arrangement π of the stimuli of B permutes rows and columns of its embedded matrices, which exist already (ranks,
centring and lengths stay as they are), so a permuted score is `Σ_{i<j} A_ij B_π(i)π(j)`, and the diagonal where the
embedding has one. All layers of B are laid out side by side for each pair of stimuli, `(pairs, lb)`: one arrangement
gathers whole rows of that table, a block of pairs at a time that fits the cache, and multiplies it with `(la, pairs)`.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.align import Embedded, Geometries, Prepared, embed, scores
from repalign.infer.resample import Permutations
from repalign.metrics.base import CosineMetric
from repalign.progress import Advance, quiet

BLOCK = 1 << 14  # pairs of stimuli gathered at once


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
        found = _permuted_products(first.values, second.values, permutations.index, advance)
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
    a: Float[Tensor, "la n n"], b: Float[Tensor, "lb n n"], index: Int[Tensor, "m n"], advance: Advance
) -> Float[Tensor, "m la lb"]:
    n = a.shape[1]
    rows, columns = torch.triu_indices(n, n, 1, device=a.device)
    place = torch.zeros(n, n, dtype=torch.int32, device=a.device)
    place[rows, columns] = torch.arange(len(rows), dtype=torch.int32, device=a.device)
    place += place.T.clone()
    left = _by_pairs(a, rows, columns).T.contiguous()
    right = _by_pairs(b, rows, columns)
    own_left, own_right = a.diagonal(dim1=1, dim2=2), b.diagonal(dim1=1, dim2=2)
    upper = rows * n + columns
    null = a.new_empty(len(index), len(a), len(b))
    together = max(1, BLOCK // max(1, len(rows)))  # arrangements of few stimuli are taken several at a time
    for first in range(0, len(index), together):
        orders = index[first : first + together].to(a.device)
        chosen = place[orders[:, :, None], orders[:, None, :]].flatten(1)[:, upper]
        products = own_left @ own_right[:, orders].permute(1, 2, 0)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            gathered = right.index_select(0, chosen[:, part].flatten()).view(len(orders), -1, len(b))
            products.baddbmm_(left[:, part].expand(len(orders), -1, -1), gathered, alpha=2.0)
        null[first : first + together] = products
        advance(len(orders))
    return null


def _by_pairs(stack: Float[Tensor, "l n n"], rows: Int[Tensor, " p"], columns: Int[Tensor, " p"]) -> Tensor:
    """Lay a stack out as `(pairs, l)`, one layer at a time."""
    table = stack.new_empty(len(rows), len(stack))
    for k, matrix in enumerate(stack):
        table[:, k] = matrix[rows, columns]
    return table
