"""Add noise: the control that destroys nothing in particular."""

import zlib
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.filters.base import Step, Strength
from repalign.filters.checks import positive, required
from repalign.filters.flow import Scene


@final
@dataclass(frozen=True)
class Noise(Step):
    """Add Gaussian noise of standard deviation `sd` to linear light 0..1, each pixel and channel by itself.

    A picture's noise follows from `seed` and the picture's own pixels: the same in every batch and on every device, but
    another for every picture. What leaves 0..1 is cut at the end, so dark pictures change by less than `sd`.
    """

    sd: float | None = None
    seed: int = 0

    name: ClassVar[str] = "noise"
    source: ClassVar[str] = "white Gaussian noise, a control"
    strength: ClassVar[Strength] = Strength("sd", 1e-4, 10.0, "log")
    seeded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sd = required(self.name, "sd", self.sd, "the standard deviation in linear light 0..1")
        positive(self.name, "sd", sd, "linear light, 1 is white")

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        return f"noise, SD {self.sd:.3g} of white"

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Add each picture's own noise."""
        drawn = torch.stack([self._draw(x.shape[1:], key) for key in scene.keys])
        return x + drawn.to(x.device, x.dtype) * required(self.name, "sd", self.sd, "")

    def _draw(self, shape: torch.Size, key: int) -> Float[Tensor, "3 h w"]:
        own = zlib.crc32(str(self.seed).encode(), key)  # torch's CPU generator takes 32 bits
        generator = torch.Generator().manual_seed(own)  # on the CPU: one stream for all devices
        return torch.randn(shape, generator=generator)
