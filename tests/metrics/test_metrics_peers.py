"""CKA and RSA against other people's implementations: ckatorch, dcor, rsatoolbox."""

import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from test_metrics_values import REGIMES, regime

import repalign as ra

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dcor
    from ckatorch.core import cka_base
    from rsatoolbox.rdm import RDMs, compare


def both(name):
    """An odd number of stimuli, since torch's median is the lower of two; centred, since peers don't centre."""
    x, y = (v[: min(len(v), 61) // 2 * 2 - 1] for v in regime(name))
    return x - x.mean(0), y - y.mean(0)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_cka_is_ckatorchs(name, debiased, kernel):
    x, y = both(name)
    ours = ra.similarity(x, y, f"cka_{kernel}", debiased=debiased)
    theirs = float(cka_base(torch.tensor(x), torch.tensor(y), kernel, unbiased=debiased))
    assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", REGIMES)
def test_linear_cka_is_distance_correlation_of_squared_distances(name):
    x, y = both(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dcor says that exponent 2 does not characterise independence: it is CKA
        debiased, biased = (
            f(x, y, exponent=2) for f in (dcor.u_distance_correlation_sqr, dcor.distance_correlation_sqr)
        )
    assert ra.similarity(x, y, "cka_linear") == pytest.approx(debiased, rel=1e-8, abs=1e-10)
    assert ra.similarity(x, y, "cka_linear", debiased=False) == pytest.approx(biased, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("rdm", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize(("ours", "theirs"), [("spearman", "spearman"), ("pearson", "corr"), ("cosine", "cosine")])
def test_rsa_is_rsatoolboxs(name, rdm, ours, theirs):
    x, y = both(name)
    a, b = (pdist(v, rdm) for v in (x, y))
    if ours == "spearman":  # rsatoolbox ranks distances apart that differ by rounding alone
        a, b = np.round(a / a.max(), 10), np.round(b / b.max(), 10)
    expected = float(compare(RDMs(a[None]), RDMs(b[None]), method=theirs)[0, 0])
    assert ra.similarity(x, y, "rsa", rdm=rdm, compare=ours) == pytest.approx(expected, rel=1e-8, abs=1e-10)
