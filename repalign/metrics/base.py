"""What every metric is: options that name it, a geometry of each layer, and what two embedded geometries score."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor

from repalign.errors import InputError

Centring = Literal["u", "double", "mean", "none"]


class UndefinedError(Exception):
    """Raised inside a metric when a layer has no geometry to compare; the score becomes NaN with this reason."""


@dataclass(frozen=True)
class Metric(ABC):
    """A similarity of two layers; its options are the dataclass fields.

    A layer goes through two steps, each once: `geometry` turns its features into what the metric reads of them, and
    `embed` brings that into the form that is compared. A subset of stimuli indexes the geometry (`take`) and embeds
    again; what a stimulus keeps in all of them, such as its fold, is attached before (`mark`). With `pairwise`, a
    geometry is indexed by pairs of stimuli, `(n, n)`, else by stimuli, `(n, d)`; `work` counts the matrices (n, n) that
    both steps and a score take in memory. `chance` says what independent features give, and `unbiased` whether that is
    0 on average; `reference` names the source; `invariances` lists what leaves the score unchanged (`shift`, `scale`,
    `orthogonal`, `affine`: any invertible linear map, `row_affine`: each pattern scaled and shifted by itself).
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    fewest: ClassVar[int] = 3
    symmetric: ClassVar[bool] = True
    higher_is_similar: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True
    work: ClassVar[float] = 5.0  # measured: RBF CKA 2.3, Spearman RSA 4.6, corr_cov 5.0
    splits_by_group: ClassVar[bool] = False

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
    def unbiased(self) -> bool:
        """Tell whether independent features give 0 on average."""

    @property
    def leaves_pairs_out(self) -> bool:
        """Tell whether `embed` takes NaN for pairs of stimuli within one group, and leaves them out."""
        return False

    @property
    @abstractmethod
    def invariances(self) -> frozenset[str]:
        """List the changes to the features that leave the score as it is."""

    @abstractmethod
    def geometry(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Turn features `(n, d)` into the float64 geometry: `(n, n)` with `pairwise`, else `(n, k)`.

        Raises UndefinedError when the features have no geometry (constant features).
        """

    def geometry_of_rdm(self, rdm: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Take a given dissimilarity matrix `(n, n)` as the geometry; missing pairs are NaN.

        Raises InputError for every metric that needs the features themselves.
        """
        raise InputError(
            f"{self.name} needs features, but this layer is a dissimilarity matrix of {len(rdm)} stimuli, from which "
            "they can't be recovered; use rsa"
        )

    def geometry_of_repeats(self, x: Float[Tensor, "r n d"]) -> Float[Tensor, "n k"]:
        """Take the geometry of features measured `r` times; most metrics average the repeats first."""
        return self.geometry(x.double().mean(0))

    def mark(self, geometry: Tensor, codes: Int[Tensor, " n"]) -> Tensor:
        """Attach to each stimulus what it keeps in every subset, before the first is taken; most metrics need nothing.

        `codes` number the groups of the stimuli, or the stimuli where there are none. Raises InputError when there
        are too few groups.
        """
        return geometry

    def take(self, geometry: Tensor, index: Tensor) -> Tensor:
        """Restrict a geometry to the stimuli at `index`, in that order."""
        return geometry[index][:, index] if self.pairwise else geometry[index]

    @abstractmethod
    def embed(self, geometry: Tensor) -> Any:  # noqa: ANN401  what two of which are compared
        """Bring a geometry into the form that is compared.

        Raises UndefinedError when nothing is left of it.
        """

    @property
    def options(self) -> dict[str, bool | int | float | str]:
        """List the options by name."""
        return asdict(self)

    @property
    def spec(self) -> str:
        """Write the metric as the command line takes it, `name:key=value,…`."""
        given = ",".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in self.options.items())
        return f"{self.name}:{given}" if given else self.name


@dataclass(frozen=True)
class CosineMetric(Metric):
    """A similarity that is the cosine of two embedded geometries, each a symmetric matrix `(n, n)`.

    `centring` names what makes the delete-one and delete-group values follow from row sums: the embedding is
    U-centred (`u`), doubly centred (`double`), has pairs of mean zero (`mean`) or is compared as it is (`none`).
    None: no such form, so a deletion indexes the geometry and embeds again.
    """

    @property
    @abstractmethod
    def centring(self) -> Centring | None:
        """Name the form of the embedding, from which deletions follow."""

    @abstractmethod
    def embed(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Turn a geometry into the symmetric matrix whose cosines are the scores; missing pairs become 0."""

    def embed_in_place(self, geometry: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        """Do what `embed` does, at liberty to overwrite the geometry, which saves copies of large matrices."""
        return self.embed(geometry)


@dataclass(frozen=True)
class PairMetric(Metric):
    """A similarity computed for one pair of layers at a time; `embed` does what each layer needs once."""

    work: ClassVar[float] = 6.0  # measured: Kendall's τ 5.8, for which two lists of all pairs are sorted

    @abstractmethod
    def score(self, a: Any, b: Any) -> float:  # noqa: ANN401  two embedded geometries
        """Score two embedded geometries of the same stimuli."""
