"""Midranks that treat values equal but for rounding as ties."""

import torch
from jaxtyping import Float
from torch import Tensor

TIE = 1e-10  # of the largest magnitude; distances of integer features differ by less


def midranks(values: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Rank from 1, giving tied values the mean of their ranks.

    Neighbours in sorted order closer than 1e-10 of the largest magnitude are ties.

    >>> midranks(torch.tensor([3.0, 1.0, 1.0 + 1e-15, 2.0], dtype=torch.float64)).tolist()
    [4.0, 1.5, 1.5, 3.0]
    """
    ordered, order = values.sort()
    tolerance = TIE * float(values.abs().max())
    starts = torch.ones_like(order)
    starts[1:] = (ordered.diff() > tolerance).long()
    run = starts.cumsum(0) - 1
    length = torch.bincount(run)
    last = length.cumsum(0)
    mean = last.to(torch.float64) - (length.to(torch.float64) - 1) / 2
    ranks = torch.empty_like(values)
    ranks[order] = mean[run].to(values.dtype)
    return ranks
