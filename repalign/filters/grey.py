"""Take colour away and keep luminance: the control for colour as such."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from repalign.filters.base import Step, Strength
from repalign.filters.checks import share
from repalign.filters.colour import transform
from repalign.filters.flow import Scene

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709-6, item 3.2, the primaries of sRGB


@final
@dataclass(frozen=True)
class Grey(Step):
    """Mix linear RGB with its luminance; `amount` 1 (default) leaves no colour, 0 all of it."""

    amount: float = 1.0

    name: ClassVar[str] = "grey"
    source: ClassVar[str] = "ITU-R BT.709-6 (luminance of the sRGB primaries)"
    strength: ClassVar[Strength] = Strength("amount", 0.0, 1.0, "linear")

    def __post_init__(self) -> None:
        share(self.name, "amount", self.amount)

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        return "grey" if self.amount == 1 else f"{self.amount:.3g} of the way to grey"

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Mix each pixel with its luminance."""
        return transform(x, (1 - self.amount) * np.eye(3) + self.amount * np.tile(LUMINANCE, (3, 1)))
