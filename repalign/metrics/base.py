"""What every metric is: options that name it, and an embedding whose cosines are the scores."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError


class UndefinedError(Exception):
    """Raised inside a metric when a layer has no geometry to compare; the score becomes NaN with this reason."""


@dataclass(frozen=True)
class Metric(ABC):
    """A similarity that is a cosine between two embedded geometries; its options are the dataclass fields.

    `chance` says what independent features give; `reference` names the source; `invariances` lists what
    leaves the score unchanged (`shift`, `scale`, `orthogonal`, `row_affine`).
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    fewest: ClassVar[int] = 3
    symmetric: ClassVar[bool] = True
    higher_is_similar: ClassVar[bool] = True

    @property
    @abstractmethod
    def label(self) -> str:
        """Name the metric and its options for a person."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Give the smallest and largest value the score can take."""

    @property
    @abstractmethod
    def chance(self) -> str:
        """Say what independent features give."""

    @property
    @abstractmethod
    def invariances(self) -> frozenset[str]:
        """List the changes to the features that leave the score as it is."""

    @abstractmethod
    def embed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " m"]:
        """Turn features `(n, d)` into the vector `(m,)` float64 of what the metric says about every pair.

        Raises UndefinedError when the features have no geometry (constant features).
        """

    def embed_rdm(self, rdm: Float[Tensor, "n n"]) -> Float[Tensor, " m"]:
        """Embed a given dissimilarity matrix `(n, n)`.

        Raises InputError for every metric that needs the features themselves.
        """
        raise InputError(
            f"{self.name} needs features, but this layer is a dissimilarity matrix of {len(rdm)} stimuli, from which "
            "they can't be recovered; use rsa"
        )

    @property
    def options(self) -> dict[str, bool | float | str]:
        """List the options by name."""
        return asdict(self)

    @property
    def spec(self) -> str:
        """Write the metric as the command line takes it, `name:key=value,…`."""
        given = ",".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in self.options.items())
        return f"{self.name}:{given}" if given else self.name
