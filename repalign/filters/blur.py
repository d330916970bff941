"""Blur alike in all directions: the control for lost detail."""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from repalign.filters.base import Step, Strength
from repalign.filters.checks import positive, required
from repalign.filters.degrees import by_extent, gaussian_optics, required_fov, span
from repalign.filters.flow import Scene


@final
@dataclass(frozen=True)
class Blur(Step):
    """Keep half of the contrast at `cpd` cycles per degree, less above, in a scene `fov_deg` degrees wide.

    The transfer is the Gaussian `2^−(f / cpd)²` in linear light, as in the optics of `cat`.
    """

    cpd: float | None = None
    fov_deg: float | None = None

    name: ClassVar[str] = "blur"
    source: ClassVar[str] = "Gaussian blur, a control"
    strength: ClassVar[Strength] = Strength("cpd", 100.0, 0.001, "log")

    def __post_init__(self) -> None:
        cpd = required(self.name, "cpd", self.cpd, "the cycles per degree of which half the contrast stays")
        positive(self.name, "cpd", cpd, "cycles per degree")
        required_fov(self.name, self.fov_deg)

    @property
    def label(self) -> str:
        """Name the filter and its options for a person."""
        return f"blur, half contrast at {self.cpd:.3g} cycles/°, scene {self.fov_deg:g}° wide"

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Blur linear light."""
        return by_extent(x, scene, self._blurred)

    def _blurred(self, x: Tensor, extent: float) -> Tensor:
        degrees = span(x, required_fov(self.name, self.fov_deg), extent)
        return gaussian_optics(x, degrees, required(self.name, "cpd", self.cpd, ""))
