"""Leave pictures as they are: the control whose similarity must be 1."""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from repalign.filters.base import Domain, Step
from repalign.filters.flow import Scene


@final
@dataclass(frozen=True)
class Identity(Step):
    """Return the same values, neither decoded nor encoded."""

    name: ClassVar[str] = "identity"
    source: ClassVar[str] = "none needed"
    domain: ClassVar[Domain] = "any"

    @property
    def label(self) -> str:
        """Name the filter."""
        return "unchanged"

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Copy the pictures."""
        return x.clone()
