"""Definitions written out plainly in numpy, independent of repalign's code."""

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr


def hsic_biased(K, L):
    n = len(K)
    H = np.eye(n) - np.ones((n, n)) / n
    return np.trace(K @ H @ L @ H) / (n - 1) ** 2


def hsic_unbiased(K, L):
    """Song et al. 2012, eq. 5."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    a = np.trace(K @ L)
    b = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    c = 2 / (n - 2) * one @ K @ L @ one
    return (a + b - c) / (n * (n - 3))


def cka(K, L, debiased):
    hsic = hsic_unbiased if debiased else hsic_biased
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def linear_kernel(X):
    X = X - X.mean(0)
    return X @ X.T


def rbf_kernel(X, bandwidth=1.0, median="all"):
    D = squareform(pdist(X, "sqeuclidean"))
    values = D.ravel() if median == "all" else D[np.triu_indices(len(D), 1)]
    return np.exp(-D / (2 * bandwidth**2 * np.median(values)))


def rsa(X, Y, rdm, compare):
    a, b = pdist(X, rdm), pdist(Y, rdm)
    if compare == "spearman":  # scipy ranks distances apart that differ by rounding alone
        a, b = np.round(a / a.max(), 10), np.round(b / b.max(), 10)
    if compare == "cosine":
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return (pearsonr if compare == "pearson" else spearmanr)(a, b).statistic
