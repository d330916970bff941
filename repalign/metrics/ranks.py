"""Ranks that treat values equal but for rounding as ties."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TIE = 1e-10  # of the largest magnitude; distances of integer features differ by less


def midranks(values: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Rank from 1, giving tied values (see `dense_ranks`) the mean of their ranks.

    >>> midranks(torch.tensor([3.0, 1.0, 1.0 + 1e-15, 2.0], dtype=torch.float64)).tolist()
    [4.0, 1.5, 1.5, 3.0]
    """
    dense = dense_ranks(values)
    length = torch.bincount(dense)
    last = length.cumsum(0)
    mean = last.to(torch.float64) - (length.to(torch.float64) - 1) / 2
    return mean[dense].to(values.dtype)


def dense_ranks(values: Float[Tensor, " m"]) -> Int[Tensor, " m"]:
    """Give each of at least one value its place among the distinct ones, from 0 ascending; ties share a place.

    Values within 1e-10 of the largest magnitude of the smallest of them are ties, so no tie spans more than that:
    a chain of values, each close to the next, is cut into ties of this width and not taken for one.

    >>> dense_ranks(torch.tensor([3.0, 1.0, 1.0 + 1e-15, 2.0], dtype=torch.float64)).tolist()
    [2, 0, 0, 1]
    """
    ordered, order = values.sort()
    starts = _tie_starts(ordered, TIE * float(values.abs().max()))
    ranks = torch.empty_like(order)
    ranks[order] = starts.long().cumsum(0) - 1
    return ranks


def _tie_starts(ordered: Float[Tensor, " m"], tolerance: float) -> Bool[Tensor, " m"]:
    """Mark where a tie begins among ascending values."""
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered.diff() > tolerance
    first = starts.nonzero().flatten()
    last = torch.cat([first[1:], first.new_tensor([len(ordered)])]) - 1
    wide = ordered[last] - ordered[first] > tolerance  # chains; rare, so a loop will do
    for begin, end in zip(first[wide].tolist(), last[wide].tolist(), strict=True):
        while begin <= end:
            starts[begin] = True
            begin = int(torch.searchsorted(ordered, ordered[begin] + tolerance, right=True))
    return starts
