"""Dim the red channel: the control for losing long wavelengths without a model of any eye."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from repalign.filters.base import Step, Strength
from repalign.filters.checks import share
from repalign.filters.colour import transform
from repalign.filters.flow import Scene


@final
@dataclass(frozen=True)
class RedRemoval(Step):
    """Multiply linear red by 1 − `amount`; greys turn cyan, unlike under any dichromat's projection."""

    amount: float = 1.0

    name: ClassVar[str] = "red_removal"
    source: ClassVar[str] = "a control of this study, no model of an eye"
    strength: ClassVar[Strength] = Strength("amount", 0.0, 1.0, "linear")

    def __post_init__(self) -> None:
        share(self.name, "amount", self.amount)

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        return "red removed" if self.amount == 1 else f"{self.amount:.3g} of red removed"

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Dim red."""
        return transform(x, np.diag([1 - self.amount, 1.0, 1.0]))
