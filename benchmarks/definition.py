"""What the measures are, written out plainly in float64 and apart from repalign's code: every benchmark's yardstick.

Symbols: `X (n, d)` features of one layer, `K (n, n)` their kernel.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

COLUMNS = 1 << 16  # of features taken to float64 at once, so that wide layers fit

Matrix = NDArray[np.float64]


def linear(X: Tensor) -> Matrix:
    """Compute the Gram of centred features."""
    K = np.zeros((len(X), len(X)))
    for panel in X.split(COLUMNS, dim=1):
        x = panel.double().numpy()
        x = x - x.mean(0)
        K += x @ x.T
    return K


def rbf(X: Tensor) -> Matrix:
    """Compute `exp(−d² / (2 median d²))` with the median over all n × n distances (Kornblith et al. 2019)."""
    K = linear(X)
    squares = np.diag(K)[:, None] + np.diag(K)[None, :] - 2 * K
    np.fill_diagonal(squares, 0)
    return np.exp(-squares / (2 * np.median(squares)))


def hsic_unbiased(K: Matrix, L: Matrix) -> float:
    """Compute HSIC₁ (Song et al. 2012, JMLR 13, eq. 5)."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    k, m = K.sum(0), L.sum(0)
    return float((np.vdot(K, L) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m) / (n - 2)) / (n * (n - 3)))


def hsic_biased(K: Matrix, L: Matrix) -> float:
    """Compute `tr(K H L H) / (n − 1)²` (Gretton et al. 2005)."""
    n = len(K)
    k = K - K.mean(0) - K.mean(1)[:, None] + K.mean()
    return float(np.vdot(k, L) / (n - 1) ** 2)


def cka(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], kernel: Callable[[Tensor], Matrix] = linear, debiased: bool = True
) -> Matrix:
    """Score every layer of `a` with every layer of `b`: `HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))`."""
    hsic = hsic_unbiased if debiased else hsic_biased
    left, right = ([kernel(x) for x in side.values()] for side in (a, b))
    own = [np.sqrt([hsic(K, K) for K in side]) for side in (left, right)]
    return np.array([[hsic(K, L) for L in right] for K in left]) / np.outer(*own)


def rsa(a: Mapping[str, Tensor], b: Mapping[str, Tensor], ranked: bool = True) -> Matrix:
    """Correlate the correlation distances of all pairs of stimuli, or their ranks, layer with layer."""
    left, right = (np.stack([_unit(distances(x), ranked) for x in side.values()]) for side in (a, b))
    return left @ right.T


def distances(X: Tensor) -> NDArray[np.float64]:
    """Compute `1 − r` of every two stimuli's patterns, i < j."""
    n, d = X.shape
    K, means = np.zeros((n, n)), X.double().sum(1, keepdim=True) / d
    for panel in X.split(COLUMNS, dim=1):
        x = (panel.double() - means).numpy()
        K += x @ x.T
    lengths = np.sqrt(np.diag(K))
    return 1 - (K / np.outer(lengths, lengths))[np.triu_indices(n, 1)]


def jackknife(X: Tensor, Y: Tensor) -> float:
    """Compute the delete-one standard error of debiased linear CKA, every deletion from the start."""
    n = len(X)
    rows = [[j for j in range(n) if j != i] for i in range(n)]
    values = np.array([cka({"x": X[keep]}, {"y": Y[keep]})[0, 0] for keep in rows])
    return float(np.sqrt((n - 1) / n * np.square(values - values.mean()).sum()))


def worst(found: Matrix, truth: Matrix) -> float:
    """Take the largest absolute difference of any score; NaN when any score is."""
    return float(np.abs(np.asarray(found, dtype=np.float64) - truth).max())


def _unit(values: NDArray[np.float64], ranked: bool) -> NDArray[np.float64]:
    """Centre and bring to length 1, as ranks or as they are; equal but for rounding is a tie."""
    if ranked:
        values = rankdata(np.round(values / values.max(), 10))
    values = values - values.mean()
    return values / np.linalg.norm(values)
