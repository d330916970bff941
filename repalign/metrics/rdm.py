"""Representational dissimilarity matrices: the distance between every two stimuli."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from repalign.metrics.crossnobis import crossnobis
from repalign.metrics.gram import linear_gram, squared_distances_, unit_row_gram


def correlation(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Compute `1 − r` between the feature patterns of two stimuli, 0..2.

    Raises InputError when a pattern is constant, since it has no correlation.
    """
    return squared_distances_(unit_row_gram(x, centre_rows=True)).div_(2)


def cosine(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Compute `1 − cos` between two patterns as they are, 0..2: not invariant to a shift of the features.

    Raises InputError when a pattern is zero.
    """
    return squared_distances_(unit_row_gram(x, centre_rows=False)).div_(2)


def sqeuclidean(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Compute the squared Euclidean distance, up to a positive factor that no comparison sees."""
    return squared_distances_(linear_gram(x))


def euclidean(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Compute the Euclidean distance, up to a positive factor that no comparison sees."""
    return sqeuclidean(x).sqrt_()


RDMS: dict[str, Callable[[Tensor], Tensor]] = {  # of features (n, d); repeats are averaged first
    "correlation": correlation,
    "euclidean": euclidean,
    "sqeuclidean": sqeuclidean,
    "cosine": cosine,
}
REPEAT_RDMS: dict[str, Callable[[Tensor], Tensor]] = {  # of repeats (r, n, d)
    "crossnobis": crossnobis,
}
