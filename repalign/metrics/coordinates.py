"""Features as coordinates: float64, centred, and rotated into no more axes than there are stimuli."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.metrics.base import UndefinedError
from repalign.metrics.gram import EPSILON

PANEL = 1 << 14  # features rotated at once


def coordinates(x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """Rotate centred features into `k = min(n, d)` axes; `X Xᵀ` stays the same up to a positive factor.

    More features than stimuli are rotated by a QR decomposition, panel by panel, which keeps small directions
    to rounding, as the eigenvectors of `X Xᵀ` would not.

    Raises UndefinedError when nothing is left after centring.
    """
    n, d = x.shape
    if d <= n:
        return scaled(x)
    left = 0.0
    rotated = torch.zeros(0, n, dtype=torch.float64, device=x.device)
    for panel in _panels(x):
        left = max(left, float(panel.abs().max()))
        rotated = torch.linalg.qr(torch.cat([rotated, panel.T]), mode="r").R
    return rotated.T / _checked(left, n)


def scaled(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Centre the columns in float64, and scale all of them so that the largest magnitude left is 1.

    Raises UndefinedError when nothing is left after centring.
    """
    found = torch.cat(list(_panels(x)), 1)
    return found / _checked(float(found.abs().max()), len(x))


def centred(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Centre the columns twice: the first mean is rounded at the size of the offset, the second at what is left."""
    once = x - x.mean(0)
    return once - once.mean(0)


def _panels(x: Tensor) -> Iterator[Tensor]:
    """Yield centred float64 panels of columns, in units of the power of two below the largest magnitude."""
    exponent = math.frexp(float(x.abs().max()))[1] - 1
    for panel in x.split(PANEL, dim=1):
        yield centred(panel.to(torch.float64) / 2.0**exponent)


def _checked(left: float, n: int) -> float:
    if left <= n * EPSILON:
        raise UndefinedError("the features are the same for every stimulus")
    return left
