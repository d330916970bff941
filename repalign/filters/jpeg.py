"""Compress pictures as JPEG: the control for a change that no eye makes."""

import io
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from repalign.errors import InputError
from repalign.filters.base import Domain, Step, Strength
from repalign.filters.checks import required
from repalign.filters.flow import Scene
from repalign.filters.light import as_batch, as_picture

BEST = 100


@final
@dataclass(frozen=True)
class Jpeg(Step):
    """Compress at quality `q` (1–100, as Pillow counts), chroma at half the resolution, and read back.

    Pictures are rounded to 8 bits on the way in and come back in 8 bits.
    """

    q: int | None = None

    name: ClassVar[str] = "jpeg"
    source: ClassVar[str] = "ISO/IEC 10918-1, as Pillow writes it"
    domain: ClassVar[Domain] = "encoded"
    strength: ClassVar[Strength] = Strength("q", float(BEST), 1.0, "whole")

    def __post_init__(self) -> None:
        q = required(self.name, "q", self.q, "the quality from 1 (worst) to 100")
        if not 1 <= q <= BEST:
            raise InputError(f"jpeg: q is a quality from 1 (worst) to {BEST}, not {q}")

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        return f"JPEG, quality {self.q}"

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Write and read each picture."""
        return torch.cat([self._compressed(picture) for picture in x])

    def _compressed(self, picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 3 h w"]:
        file = io.BytesIO()
        as_picture(picture).save(file, "JPEG", quality=self.q, subsampling="4:2:0")
        return as_batch(Image.open(file)).to(picture.device, picture.dtype)
