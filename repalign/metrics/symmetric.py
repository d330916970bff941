"""Symmetric matrices (n, n) in place: products of which half is computed, mirrored halves, shares taken out."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Num
from torch import Tensor

from repalign.arithmetic import full_float32

BLOCK = 192  # rows multiplied or mirrored at once: small enough to save half, large enough to be quick
BLOCKS = 8  # at most; more save no more


def add_product_(k: Float[Tensor, "n n"], panel: Float[Tensor, "n p"], first: bool) -> None:
    """Add `panel panelᵀ` to the blocks of `k` on and below the diagonal, or put it there in place of what is.

    A float32 panel is multiplied as such.
    """
    kept = 0.0 if first else 1.0
    for rows in blocks(len(k)):
        part = k[rows, : rows.stop]
        if panel.dtype == k.dtype:
            part.addmm_(panel[rows], panel[: rows.stop].T, beta=kept)
            continue
        with full_float32():
            product = panel[rows] @ panel[: rows.stop].T
        part.copy_(product) if first else part.add_(product)


def mirror_(k: Num[Tensor, "n n"]) -> Num[Tensor, "n n"]:
    """Copy the blocks below the diagonal to above it; those on it stay as they are."""
    cuts = list(blocks(len(k)))
    for i, rows in enumerate(cuts):
        for columns in cuts[:i]:
            k[columns, rows].copy_(k[rows, columns].T)
    return k


def add_shares_(k: Float[Tensor, "n n"], share: Float[Tensor, " n"], sign: float, times: float = 1.0) -> None:
    """Turn k into `times k + sign (share_i + share_j)` in one pass."""
    ones = torch.ones_like(share)
    k.addmm_(torch.stack([share, ones], 1), torch.stack([ones, share]), alpha=sign, beta=times)


def blocks(n: int) -> Iterator[slice]:
    """Divide n rows into blocks."""
    size = max(BLOCK, -(-n // BLOCKS))
    return (slice(k, min(k + size, n)) for k in range(0, n, size))
