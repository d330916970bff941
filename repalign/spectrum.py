"""How many directions a layer's variance is spread over."""

import math

from jaxtyping import Float
from torch import Tensor

from repalign.metrics.base import UndefinedError
from repalign.metrics.gram import linear_gram


def participation_ratio(x: Float[Tensor, "n d"]) -> float:
    """Compute `(Σλ)² / Σλ²` over the eigenvalues λ of the features' covariance, between 1 and min(n − 1, d).

    1 means one direction carries all the variance, and then linear CKA compares that direction alone. Computed
    as `tr(K)² / ‖K‖²` of the centred Gram, which has the same eigenvalues (Gao et al. 2017, bioRxiv 214262).
    NaN for constant features.
    """
    try:
        gram = linear_gram(x)
    except UndefinedError:
        return math.nan
    return float(gram.trace() ** 2 / gram.square().sum())
