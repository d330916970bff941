"""Crossnobis distances: squared Mahalanobis distances that noise does not inflate, from repeated measurements."""

import torch
from jaxtyping import Float
from torch import Tensor

from repalign.errors import InputError
from repalign.metrics.base import UndefinedError
from repalign.metrics.gram import EPSILON
from repalign.metrics.shrinkage import ledoit_wolf

FEWEST_REPEATS = 2
FEWEST_STIMULI = 2
SKEW = 1e-8  # of the largest entry; an inverse is symmetric up to its rounding


def crossnobis(x: Float[Tensor, "r n d"], precision: Float[Tensor, "p q"] | None = None) -> Float[Tensor, "n n"]:
    """Compute the cross-validated squared Mahalanobis distance between stimuli measured r times, over d.

    `D_ij = Σ_{k≠l} (b_ik − b_jk)ᵀ Σ⁻¹ (b_il − b_jl) / (r (r−1) d)` over all pairs of different repeats k, l, which
    is also leave-one-repeat-out (Diedrichsen & Kriegeskorte 2017, doi:10.1371/journal.pcbi.1005508, eq. 5; Walther
    et al. 2016, doi:10.1016/j.neuroimage.2015.12.012). Independent noise of the repeats cancels on average, so
    two stimuli that evoke the same pattern are 0 apart on average; negative distances are legitimate and stay.

    Σ is the covariance of what is left of the features after the means of each stimulus and of each repeat are
    taken out, with (r−1)(n−1) degrees of freedom, shrunk towards a multiple of the identity (`ledoit_wolf`); a
    feature without noise thereby has a small variance and weighs much, but not infinitely. `precision (d, d)` is
    used for Σ⁻¹ instead; it must come from other data or a known model, in the units of `x`. Without it distances
    have no unit. Work and memory grow with the square of the smaller of d and r · n.

    It misleads when the repeats share noise (a drift, one session), and with few residuals per feature, when the
    shrinkage decides more than the data do.

    Raises InputError for fewer than 2 repeats or 2 stimuli, for identical repeats, for a noise covariance without
    an inverse, and for a precision of another shape or not symmetric; UndefinedError when no feature differs
    between stimuli.
    """
    _check(x, precision)
    r, n, d = x.shape
    centred, size = _centred(x)
    means = centred.mean(0, keepdim=True)
    residuals = centred - means
    patterns = torch.cat([means, residuals])
    if precision is not None:
        return _distances(patterns @ precision.to(patterns) @ patterns.mT) / d * size * size
    if float(residuals.abs().max()) * size <= r * n * EPSILON * float(x.abs().max()):
        raise InputError(
            f"crossnobis: the {r} repeats are identical, so there is no noise to estimate; use rdm=sqeuclidean"
        )
    noise = ledoit_wolf(residuals.flatten(0, 1), (r - 1) * (n - 1))
    return _distances(noise.inverse_products(patterns)) / d


def _distances(products: Float[Tensor, "m n n"]) -> Float[Tensor, "n n"]:
    """Turn the products of the mean patterns, and of the residuals of each of r = m − 1 repeats, into distances.

    With `b_k = a + e_k`, the products of different repeats are those of the means less each residual's with itself:
    `Σ_{k≠l} b_k b_lᵀ / (r (r−1)) = a aᵀ − Σ_k e_k e_kᵀ / (r (r−1))`.
    """
    r = len(products) - 1
    gram = products[0] - products[1:].sum(0) / (r * (r - 1))
    diagonal = gram.diagonal()
    distances = diagonal[:, None] + diagonal[None, :] - gram - gram.T
    distances.fill_diagonal_(0.0)
    return distances


def _centred(x: Float[Tensor, "r n d"]) -> tuple[Float[Tensor, "r n d"], float]:
    """Take the mean of each repeat out, in units of the largest magnitude left, which is returned too."""
    x = x.to(torch.float64)
    centred = x - x.mean(1, keepdim=True)
    size = float(centred.abs().max())
    if size <= x.shape[1] * EPSILON * float(x.abs().max()):
        raise UndefinedError("the features are the same for every stimulus")
    return centred / size, size


def _check(x: Float[Tensor, "r n d"], precision: Float[Tensor, "p q"] | None) -> None:
    r, n, d = x.shape
    if r < FEWEST_REPEATS or n < FEWEST_STIMULI:
        raise InputError(
            f"crossnobis needs at least {FEWEST_REPEATS} repeats of at least {FEWEST_STIMULI} stimuli, not {r} of {n}; "
            "use rdm=sqeuclidean for features measured once"
        )
    if precision is None:
        return
    if precision.shape != (d, d):
        raise InputError(f"crossnobis: precision has shape {tuple(precision.shape)}, but {d} features need ({d}, {d})")
    skew = float((precision - precision.T).abs().max())
    if not skew <= SKEW * float(precision.abs().max()):
        raise InputError(f"crossnobis: precision differs from its transpose by {skew:.2g}; give (P + P.T) / 2")
