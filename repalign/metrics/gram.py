"""Gram matrices, squared distances and their centrings, in float64 unless float32 products are asked for.

Symbols: `X (n, d)` features, `K (n, n)` a Gram or kernel matrix, `D (n, n)` squared distances.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import UndefinedError
from repalign.metrics.symmetric import add_product_, add_shares_, blocks, mirror_

PANEL = 1 << 16  # features converted to float64 at once
ENTRIES = 1 << 23  # of a panel, which bounds its width when there are many stimuli: 64 MB
CACHED = 1 << 18  # entries that are centred at once: 2 MB, so that they stay in a core's cache
SINGLE_ABOVE = 8192  # float32 features: above it their float64 products would cost a quarter of the forward pass
EPSILON = torch.finfo(torch.float64).eps


def linear_gram(x: Float[Tensor, "n d"], single: bool = False) -> Float[Tensor, "n n"]:
    """Compute `X Xᵀ` of column-centred features, divided by the square of their scale.

    The features are brought to at most 1 before they are centred, so an offset of 1e6 or a scale of 1e±150 changes
    nothing, and no product overflows. Wide features are taken in panels of columns.

    With `single`, more than 8,192 float32 features are centred in float64, multiplied in float32 and added up in
    float64, which moves an entry by about 1e-7 of the diagonal. That is harmless where entries are summed, and
    misleads where they are subtracted: it breaks ties between distances, and one far stimulus, whose length is in
    every entry after centring, drowns the distances between the others.

    Raises UndefinedError when nothing is left after centring.
    """
    columns = _Columns(x, _scale(x))
    if x.shape[1] <= min(SINGLE_ABOVE, _width(x, ENTRIES)):  # fewer entries to divide than their products
        panel = next(columns.panels(ENTRIES))
        gram = x.new_empty(len(x), len(x), dtype=torch.float64)
        add_product_(gram, panel.div_(_checked(largest(panel), len(x))), first=True)
        return mirror_(gram)
    gram, left = _products(columns, single)
    _checked(left, len(x))
    return mirror_(gram.div_(left * left))


def unit_row_gram(x: Float[Tensor, "n d"], centre_rows: bool) -> Float[Tensor, "n n"]:
    """Compute the column-centred Gram of patterns brought to length 1, after their own mean is taken out or not.

    Half the squared distance of two such rows is 1 − cosine (or 1 − correlation), and, unlike `1 − product`,
    keeps its digits when all patterns are nearly parallel.

    Raises UndefinedError when all patterns are the same, InputError naming the rows that have no length.
    """
    columns = _Columns(x, _scale(x), centre=False)
    totals, left = _totals(columns)
    _checked(left, len(x))
    if centre_rows:
        columns = replace(columns, means=totals / x.shape[1])
    lengths, most = _lengths(columns)
    flat = (most <= x.shape[1] * EPSILON).nonzero().flatten().tolist()
    if flat:
        what, distance = ("the same", "correlation") if centre_rows else ("zero", "cosine")
        raise InputError(
            f"{len(flat)} stimuli (row {flat[0]} first) are {what} in every feature, so they have no {distance} "
            "distance; leave them out or use rsa:rdm=euclidean"
        )
    return mirror_(_products(replace(columns, lengths=lengths, centre=True))[0])


def squared_distances(gram: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Compute `D_ij = K_ii + K_jj − 2 K_ij`, with what is only rounding set to zero, and an exact zero diagonal."""
    return squared_distances_(gram.clone())


def squared_distances_(gram: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Turn a Gram into `squared_distances`, in place."""
    diagonal = gram.diagonal().clone()
    add_shares_(gram, diagonal, sign=1.0, times=-2.0)
    gram.fill_diagonal_(math.inf)
    if float(gram.min()) < 8 * EPSILON * 2 * float(diagonal.max()):  # some may be rounding; mostly none is
        height = max(1, CACHED // len(gram))
        for part, own in zip(gram.split(height), diagonal.split(height), strict=True):
            part.masked_fill_(part < 8 * EPSILON * (own[:, None] + diagonal), 0.0)
    return gram.fill_diagonal_(0.0)


def double_centred(k: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Compute `H K H` with `H = I − 11ᵀ/n`."""
    return double_centre_(k.clone())


def double_centre_(k: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Turn a symmetric matrix into `double_centred`, in place."""
    means = k.mean(0)
    add_shares_(k, means - means.mean() / 2, sign=-1.0)
    return k


def u_centred(k: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Take out of the off-diagonal entries all that is a sum of a row's and a column's share, diagonal zero.

    The inner product of two such matrices over `i ≠ j`, divided by `n(n−3)`, equals HSIC₁ of Song et al. 2012 (JMLR
    13, eq. 5), which is 0 on average for independent features; with `K̃` of zero diagonal the result is
    `K̃_ij − Σ_l K̃_il/(n−2) − Σ_l K̃_lj/(n−2) + Σ K̃/((n−1)(n−2))` (Székely & Rizzo 2014, doi:10.1214/14-AOS1255,
    eq. 2.1). Needs n ≥ 4.

    Entries that are NaN, blocks of stimuli of one group with the diagonal among them, are left out and become 0. What
    is left is again the part orthogonal to every row and column share, so the average stays 0 for independent
    features of exchangeable groups, however alike the stimuli of one group are: all entries between groups have one
    expectation, and a constant is a sum of shares. Needs four groups.
    """
    return u_centre_(k.clone())


def u_centre_(k: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Turn a symmetric matrix into `u_centred`, in place."""
    missing, codes = None, torch.arange(len(k), device=k.device)
    if k.diagonal().isnan().any():  # each stimulus is in the group of its own
        missing = k.isnan()
        codes = missing.byte().argmax(1).unique(return_inverse=True)[1]
        k.masked_fill_(missing, 0.0)
    k.fill_diagonal_(0.0)
    add_shares_(k, shares(k.sum(0)[None], codes)[0], sign=-1.0)
    return k.fill_diagonal_(0.0) if missing is None else k.masked_fill_(missing, 0.0)


def shares(sums: Float[Tensor, "l n"], codes: Int[Tensor, " n"]) -> Float[Tensor, "l n"]:
    """Find `u` with `Σ_j (u_i + u_j) = sums_i` over the stimuli j of other groups, one row for each of l layers.

    With n_g stimuli in group g, U_g and R_g the sums of `u` and of `sums` over it, and U = Σ U_g, the equations of one
    group add up to `(n − 2 n_g) U_g + n_g U = R_g`, one for each group; then `u_i = (sums_i − U + U_g) / (n − n_g)`.
    """
    n, sizes = sums.shape[1], torch.bincount(codes).to(sums.dtype)
    if len(sizes) == n:  # every stimulus is a group of its own
        return (sums - sums.sum(1, keepdim=True) / (2 * n - 2)) / (n - 2)
    totals = sums.new_zeros(len(sums), len(sizes)).index_add_(1, codes, sums)
    system = torch.diag(n - 2 * sizes) + sizes[:, None]
    solved = torch.linalg.solve(system, totals.T).T
    return (sums - (solved.sum(1, keepdim=True) - solved)[:, codes]) / (n - sizes)[codes]


def pairs(k: Num[Tensor, "n n"]) -> Num[Tensor, " m"]:
    """List the entries above the diagonal, `m = n(n−1)/2`, row by row."""
    n = len(k)
    if k.device.type != "cpu":
        return k[torch.ones(n, n, dtype=torch.bool, device=k.device).triu(1)]
    found = k.new_empty(n * (n - 1) // 2)
    source, listed = k.numpy(), found.numpy()  # slices of which cost a tenth of a tensor's
    start = 0
    for i in range(n - 1):
        listed[start : start + n - 1 - i] = source[i, i + 1 :]
        start += n - 1 - i
    return found


def from_pairs(values: Num[Tensor, " m"], n: int, out: Tensor | None = None) -> Num[Tensor, "n n"]:
    """Lay `pairs` out again as a symmetric matrix with zero diagonal, in `out` if given."""
    k = values.new_zeros(n, n) if out is None else out.fill_diagonal_(0.0)
    if k.device.type != "cpu":
        k[torch.ones(n, n, dtype=torch.bool, device=k.device).triu(1)] = values
    else:
        target, listed = k.numpy(), values.numpy()
        start = 0
        for i in range(n - 1):
            target[i, i + 1 :] = listed[start : start + n - 1 - i]
            start += n - 1 - i
    for rows in blocks(n):
        own = k[rows, rows]
        own.copy_(own.triu() + own.triu(1).T)
    mirror_(k.T)
    return k


@dataclass(frozen=True)
class _Columns:
    """Features read in panels of columns: `x / size`, less row means, over row lengths, less column means."""

    x: Tensor
    size: float
    means: Tensor | None = None
    lengths: Tensor | None = None
    centre: bool = True

    def panels(self, entries: int) -> Iterator[Tensor]:
        """Yield float64 panels of about that many entries."""
        for panel in self.x.split(_width(self.x, entries), dim=1):
            found = panel.to(torch.float64, copy=True).div_(self.size)
            if self.means is not None:
                found -= self.means[:, None]
            if self.lengths is not None:
                found /= self.lengths[:, None]
            yield found.sub_(found.mean(0)) if self.centre else found

    def single(self) -> Iterator[Tensor]:
        """Yield float32 panels, centred in float64 a few columns at a time, in one buffer."""
        width = _width(self.x, 2 * ENTRIES)
        buffer = self.x.new_empty(len(self.x), width)
        for panel in self.x.split(width, dim=1):
            found, start = buffer[:, : panel.shape[1]], 0
            for part in replace(self, x=panel).panels(CACHED):
                found[:, start : start + part.shape[1]] = part
                start += part.shape[1]
            yield found


def _width(x: Tensor, entries: int) -> int:
    return min(PANEL, max(64, entries // max(1, len(x))))


def _products(columns: _Columns, single: bool = False) -> tuple[Float[Tensor, "n n"], float]:
    """Add up the products of all panels below the diagonal, and find the largest magnitude among the features."""
    x, left = columns.x, 0.0
    gram = x.new_empty(len(x), len(x), dtype=torch.float64)
    single = single and x.dtype == torch.float32 and x.shape[1] > SINGLE_ABOVE
    for k, panel in enumerate(columns.single() if single else columns.panels(ENTRIES)):
        left = max(left, largest(panel))
        add_product_(gram, panel, first=k == 0)
    return gram, left


def _totals(columns: _Columns) -> tuple[Float[Tensor, " n"], float]:
    """Sum each row, and find the largest magnitude that is left after column centring."""
    totals, left = torch.zeros(len(columns.x), dtype=torch.float64, device=columns.x.device), 0.0
    for panel in columns.panels(CACHED):
        totals += panel.sum(1)
        left = max(left, largest(panel.sub_(panel.mean(0))))
    return totals, left


def _lengths(columns: _Columns) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Give the length and the largest magnitude of each row; above 1e-16, so that no square is lost."""
    squares = torch.zeros(len(columns.x), dtype=torch.float64, device=columns.x.device)
    most = squares.clone()
    for panel in columns.panels(CACHED):
        squares += torch.linalg.vector_norm(panel, dim=1).square()
        torch.maximum(most, torch.linalg.vector_norm(panel, torch.inf, dim=1), out=most)
    return squares.sqrt(), most


def _scale(x: Tensor) -> float:
    """Find the power of two next to the largest magnitude: dividing by it rounds nothing."""
    most = largest(x) if x.numel() else 0.0
    return 2.0 ** (math.frexp(most)[1] - 1) if most else 1.0


def largest(x: Tensor) -> float:
    """Find the largest magnitude without a copy."""
    least, most = torch.aminmax(x)
    return max(-float(least), float(most))


def _checked(left: float, n: int) -> float:
    """Give back the largest magnitude left after centring, in units of the scale, unless it is rounding."""
    if left <= n * EPSILON:
        raise UndefinedError("the features are the same for every stimulus")
    return left
