"""Blur that grows with the distance from the picture's centre."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

HALVING_DEG = 10.4  # degrees at which acuity is half; see `acuity_octaves`
LEVELS_PER_OCTAVE = 4


def acuity_octaves(degrees: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Compute by how many octaves a cat's acuity has fallen at `degrees` from the area centralis, `log₂(1 + e / 10.4)`.

    The constant fits Pasternak & Horn 1991 (Vis Neurosci 6:151–158), −0.5 octave at 4° and −1.3 at 16°, within 0.04.
    """
    return torch.log2(1 + degrees / HALVING_DEG)


def blend(
    x: Float[Tensor, "n c h w"],
    degrees: tuple[float, float],
    mtf50: float,
    uniform: Callable[[Tensor, tuple[float, float], float], Tensor],
) -> Float[Tensor, "n c h w"]:
    """Filter with an `mtf50` that falls with eccentricity about the picture's centre.

    `uniform(x, degrees, mtf50)` filters with one; levels a quarter of an octave apart are mixed linearly.
    """
    fall = acuity_octaves(_eccentricity(x, degrees)) * LEVELS_PER_OCTAVE
    mixed = torch.zeros_like(x)
    for level in range(math.ceil(float(fall.max())) + 1):
        weight = (1 - (fall - level).abs()).clamp(min=0)
        mixed += weight * uniform(x, degrees, mtf50 * 2 ** (-level / LEVELS_PER_OCTAVE))
    return mixed


def _eccentricity(x: Tensor, degrees: tuple[float, float]) -> Float[Tensor, "h w"]:
    """Compute each pixel's distance in degrees from the picture's centre."""
    y, z = (
        ((torch.arange(n, dtype=x.dtype, device=x.device) + 0.5) / n - 0.5) * size
        for n, size in zip(x.shape[2:], degrees, strict=True)
    )
    return torch.sqrt(y[:, None] ** 2 + z[None, :] ** 2)
