"""Human dichromats: the controls for losing one dimension of colour as some people do."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from repalign.filters import dichromat
from repalign.filters.base import Step
from repalign.filters.colour import transform
from repalign.filters.flow import Scene

# what human L, M and S cones catch of linear R, G, B: Viénot et al. 1999, eq. 3, from the Smith & Pokorny fundamentals
CATCHES = np.array([
    [17.8824, 43.5161, 4.11935],
    [3.45565, 27.1554, 3.86714],
    [0.0299566, 0.184309, 1.46709],
])  # fmt: skip


@dataclass(frozen=True)
class HumanDichromat(Step):
    """What both share: the colour with R = G that the two remaining cones catch equally, in linear light.

    Source: Viénot, Brettel & Mollon 1999, without their initial reduction of the gamut, which would change greys.
    """

    source: ClassVar[str] = dichromat.SOURCE
    twins: ClassVar[bool] = True
    keeps: ClassVar[tuple[int, int]]

    def render(self, x: Float[Tensor, "n 3 h w"], scene: Scene) -> Float[Tensor, "n 3 h w"]:
        """Project every colour."""
        return transform(x, self.matrix)

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """Compute the projection of linear RGB."""
        return dichromat.projection(CATCHES[list(self.keeps)])


@final
@dataclass(frozen=True)
class Protan(HumanDichromat):
    """Show a protanope's colours: no L cones."""

    name: ClassVar[str] = "protan"
    keeps: ClassVar[tuple[int, int]] = (1, 2)

    @property
    def label(self) -> str:
        """Name the filter."""
        return "human protanope"


@final
@dataclass(frozen=True)
class Deutan(HumanDichromat):
    """Show a deuteranope's colours: no M cones."""

    name: ClassVar[str] = "deutan"
    keeps: ClassVar[tuple[int, int]] = (0, 2)

    @property
    def label(self) -> str:
        """Name the filter."""
        return "human deuteranope"
