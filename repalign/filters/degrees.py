"""What a picture spans in degrees of visual angle, and the Gaussian optics in these units."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.filters.cosine import gaussian_operator, multiply_axes
from repalign.filters.flow import Scene

WIDEST = 360.0


def required_fov(name: str, fov_deg: float | None) -> float:
    """Return the width of the scene in degrees.

    Raises InputError explaining why it must be given, or for a value outside 0..360.
    """
    if fov_deg is None:
        raise InputError(
            f"{name} works in degrees of visual angle, and pixels alone don't say how many a picture spans; give the "
            f"width of the whole scene, as in {name}:fov_deg=60 (about what a phone's photograph spans)"
        )
    if not 0 < fov_deg <= WIDEST:
        raise InputError(f"{name}: fov_deg is the width of the scene in degrees, in 0..360, not {fov_deg}")
    return fov_deg


def span(x: Float[Tensor, "n c h w"], fov_deg: float, extent: float) -> tuple[float, float]:
    """Compute the height and width in degrees of pictures that show `extent` of a scene `fov_deg` wide.

    Pixels are square and every pixel spans the same angle.
    """
    width = fov_deg * extent
    return width * x.shape[2] / x.shape[3], width


def by_extent(
    x: Float[Tensor, "n c h w"], scene: Scene, work: Callable[[Tensor, float], Tensor]
) -> Float[Tensor, "n c h w"]:
    """Apply `work(pictures, extent)` to the pictures of each extent, and keep their order."""
    if len(set(scene.extent)) == 1:
        return work(x, scene.extent[0])
    done = torch.empty_like(x)
    for extent in sorted(set(scene.extent)):
        rows = [i for i, value in enumerate(scene.extent) if value == extent]
        done[rows] = work(x[rows], extent)
    return done


def gaussian_optics(
    x: Float[Tensor, "n c h w"], degrees: tuple[float, float], mtf50: float
) -> Float[Tensor, "n c h w"]:
    """Apply the Gaussian transfer `2^−(f / mtf50)²`, alike in all directions; `degrees` are height and width."""
    if math.isinf(mtf50):
        return x
    rows = gaussian_operator(x.shape[2], degrees[0], mtf50, x.dtype, x.device)
    columns = gaussian_operator(x.shape[3], degrees[1], mtf50, x.dtype, x.device)
    return multiply_axes(x, rows, columns)
