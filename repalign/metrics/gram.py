"""Gram matrices, squared distances and their centrings, all in float64.

Symbols: `X (n, d)` features, `K (n, n)` a Gram or kernel matrix, `D (n, n)` squared distances.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import UndefinedError

PANEL = 1 << 16  # features converted to float64 at once
EPSILON = torch.finfo(torch.float64).eps


def linear_gram(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Compute `X Xᵀ` of column-centred features, divided by the square of their scale.

    The features are scaled to at most 1 before they are centred and again after, so an offset of 1e6 or a
    scale of 1e±150 changes nothing, and no product overflows. Wide features are taken in panels of columns.

    Raises UndefinedError when nothing is left after centring.
    """
    size = _scale(x)
    return _product(_panels(x, size * _variation(x, size)), x)


def unit_row_gram(x: Float[Tensor, "n d"], centre_rows: bool) -> Float[Tensor, "n n"]:
    """Compute the column-centred Gram of patterns brought to length 1, after their own mean is taken out or not.

    Half the squared distance of two such rows is 1 − cosine (or 1 − correlation), and, unlike `1 − product`,
    keeps its digits when all patterns are nearly parallel.

    Raises UndefinedError when all patterns are the same, InputError naming the rows that have no length.
    """
    size = _scale(x)
    _variation(x, size)
    means = x.to(torch.float64).div(size).mean(1, keepdim=True) if centre_rows else None
    largest = torch.stack([p.abs().amax(1) for p in _panels(x, size, means, centre=False)]).amax(0)[:, None]
    flat = (largest <= x.shape[1] * EPSILON).flatten().nonzero().flatten().tolist()
    if flat:
        what, distance = ("the same", "correlation") if centre_rows else ("zero", "cosine")
        raise InputError(
            f"{len(flat)} stimuli (row {flat[0]} first) are {what} in every feature, so they have no {distance} "
            "distance; leave them out or use rsa:rdm=euclidean"
        )
    squares = torch.stack([(p / largest).square().sum(1) for p in _panels(x, size, means, centre=False)])
    return _product(_panels(x, size, means, largest * squares.sum(0)[:, None].sqrt()), x)


def squared_distances(gram: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Compute `D_ij = K_ii + K_jj − 2 K_ij`, with what is only rounding set to zero, and an exact zero diagonal."""
    diagonal = gram.diagonal()
    total = diagonal[:, None] + diagonal[None, :]
    distances = total - 2 * gram
    distances[distances < 8 * EPSILON * total] = 0.0
    distances.fill_diagonal_(0.0)
    return distances


def double_centred(k: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Compute `H K H` with `H = I − 11ᵀ/n`."""
    means = k.mean(0)
    return k - means[:, None] - means[None, :] + means.mean()


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
    missing = torch.isnan(k)
    if missing.any():
        off, codes = k.masked_fill(missing, 0.0), missing.int().argmax(1).unique(return_inverse=True)[1]
    else:
        missing, codes = torch.eye(len(k), dtype=torch.bool, device=k.device), torch.arange(len(k), device=k.device)
        off = k.masked_fill(missing, 0.0)
    share = shares(off.sum(0)[None], codes)[0]
    return (off - share[:, None] - share[None, :]).masked_fill(missing, 0.0)


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


def pairs(k: Float[Tensor, "n n"]) -> Float[Tensor, " m"]:
    """List the entries above the diagonal, `m = n(n−1)/2`, row by row."""
    return k[*torch.triu_indices(len(k), len(k), 1, device=k.device)]


def from_pairs(values: Float[Tensor, " m"], n: int) -> Float[Tensor, "n n"]:
    """Lay `pairs` out again as a symmetric matrix with zero diagonal."""
    k = values.new_zeros(n, n)
    rows, columns = torch.triu_indices(n, n, 1, device=values.device)
    k[rows, columns] = values
    k[columns, rows] = values
    return k


def _scale(x: Tensor) -> float:
    """Find the power of two next to the largest magnitude: dividing by it rounds nothing."""
    largest = float(x.abs().max()) if x.numel() else 0.0
    if largest == 0.0:
        return 1.0
    return float(torch.tensor(largest, dtype=torch.float64).log2().floor().exp2())


def _variation(x: Tensor, size: float) -> float:
    """Find the largest magnitude, in units of `size`, that is left after column centring."""
    left = max((float(p.abs().max()) for p in _panels(x, size)), default=0.0)
    if left <= len(x) * EPSILON:
        raise UndefinedError("the features are the same for every stimulus")
    return left


def _panels(
    x: Tensor, size: float, means: Tensor | None = None, lengths: Tensor | None = None, centre: bool = True
) -> Iterator[Tensor]:
    """Yield float64 panels of columns: `x / size`, less row means, over row lengths, less column means."""
    for panel in x.split(PANEL, dim=1):
        scaled = panel.to(torch.float64) / size
        if means is not None:
            scaled = scaled - means
        if lengths is not None:
            scaled = scaled / lengths
        yield scaled - scaled.mean(0) if centre else scaled


def _product(panels: Iterator[Tensor], x: Tensor) -> Tensor:
    gram = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    for panel in panels:
        gram.addmm_(panel, panel.T)
    return gram
