"""How light passes a chain of filters: decoded once, clipped and encoded once, unless a filter needs encoded pixels."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.filters.light import as_bytes, decode, encode

if TYPE_CHECKING:
    from repalign.filters.base import Step

ROUNDING = 1e-5  # linear light this far outside 0..1 is float32 rounding, not a colour out of gamut


@dataclass(frozen=True)
class Scene:
    """What filters know about a batch beside its pixels: each picture's `extent`, and its key where noise is drawn."""

    extent: tuple[float, ...]
    keys: tuple[int, ...] = ()

    def part(self, rows: slice) -> "Scene":
        """Keep the pictures of `rows`."""
        return Scene(self.extent[rows], self.keys[rows])


def flow(
    steps: "Sequence[Step]", x: Float[Tensor, "n 3 h w"], scene: Scene, *, count: bool
) -> tuple[Float[Tensor, "n 3 k m"], Float[Tensor, " n"]]:
    """Lead sRGB pictures through `steps`, and with `count` find the share of each one's pixels that was cut.

    Where a chain clips more than once, the share is that of the clipping that cut most.
    """
    linear, twins, cut = False, False, x.new_zeros(len(x))
    for step in steps:
        if step.domain == "linear" and not linear:
            x, linear = decode(x), True
        elif step.domain == "encoded" and linear:
            cut = torch.maximum(cut, _outside(x)) if count else cut
            x, linear = _encoded(x, twins), False
        x, twins = step.render(x, scene), step.twins or (twins and step.domain == "any")
    if linear:
        cut = torch.maximum(cut, _outside(x)) if count else cut
        x = _encoded(x, twins)
    return x, cut


def picture_keys(x: Float[Tensor, "n 3 h w"]) -> tuple[int, ...]:
    """Compute a number for each picture from its 8-bit pixels, the same on every device and in every batch."""
    return tuple(zlib.crc32(picture.numpy().tobytes()) for picture in as_bytes(x.float()))


def _encoded(x: Float[Tensor, "n 3 h w"], twins: bool) -> Float[Tensor, "n 3 h w"]:
    """Clip and encode; of `twins`, red and green alike, one is encoded."""
    if not twins:
        return encode(x.clamp(0, 1))
    return encode(x[:, 1:].clamp(0, 1))[:, [0, 0, 1]]


def _outside(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Find the share of each picture's pixels that lie outside 0..1 in any channel."""
    return ((x < -ROUNDING) | (x > 1 + ROUNDING)).any(1).to(x.dtype).mean((1, 2))
