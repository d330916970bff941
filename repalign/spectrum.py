"""How a layer's variance is spread over directions and channels."""

import math

from jaxtyping import Float
from torch import Tensor

from repalign.metrics.base import UndefinedError
from repalign.metrics.coordinates import scaled
from repalign.metrics.gram import linear_gram


def participation_ratio(x: Float[Tensor, "n d"]) -> float:
    """Compute `(Σλ)² / Σλ²` over the eigenvalues λ of the features' covariance, between 1 and min(n − 1, d).

    1 means one direction carries all the variance, and then linear CKA compares that direction alone. Computed
    as `tr(K)² / ‖K‖²` of the centred Gram, which has the same eigenvalues (Gao et al. 2017, bioRxiv 214262).
    NaN for constant features.
    """
    try:
        gram = linear_gram(x, single=True)
    except UndefinedError:
        return math.nan
    return float(gram.trace() ** 2 / gram.square().sum())


def largest_share(x: Float[Tensor, "n d"]) -> float:
    """Compute the share of the variance that the strongest channel carries, between 1/d and 1.

    Above a half, linear CKA and Euclidean distances hear mostly that channel. NaN for constant features.
    """
    try:
        variances = scaled(x).square().sum(0)
    except UndefinedError:
        return math.nan
    return float(variances.max() / variances.sum())
