"""Mantel's test against scikit-bio, and its own rules."""

import itertools
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

import repalign as ra
from repalign.errors import InputError, RepalignWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skbio.stats.distance import DistanceMatrix
    from skbio.stats.distance import mantel as skbio_mantel


def data(seed=0, n=25, noise=2.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    return x, x @ rng.normal(size=(4, 5)) + noise * rng.normal(size=(n, 5))


@pytest.mark.parametrize("compare", ["pearson", "spearman"])
@pytest.mark.parametrize("noise", [1.0, 4.0, 12.0])
def test_statistic_and_p_are_scikit_bios(compare, noise):
    x, y = data(noise=noise)
    ours = ra.mantel(x, y, "euclidean", compare, n_permutations=1999, seed=1)
    matrices = [DistanceMatrix(squareform(pdist(v))) for v in (x, y)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statistic, p, n = skbio_mantel(*matrices, method=compare, permutations=1999, alternative="greater", seed=2)
    assert ours.statistic == pytest.approx(statistic, rel=1e-8)
    assert n == ours.n == 25
    spread = 3 * np.sqrt(2 * max(p, 0.001) * (1 - p) / 2000)
    assert ours.p_value == pytest.approx(p, abs=spread + 1 / 2000)


def test_p_is_exact_for_few_stimuli():
    x, y = data(n=6)
    found = ra.mantel(x, y, n_permutations=9999)
    every = [pearsonr(pdist(x), pdist(y[list(order)])).statistic for order in itertools.permutations(range(6))]
    assert found.exact
    assert found.n_permutations == 719
    assert found.p_value == pytest.approx(np.mean(np.array(every) >= every[0] - 1e-10))


def test_two_sided():
    x, y = data(n=20)
    both, upper = (ra.mantel(x, y, n_permutations=999, alternative=a) for a in ("two-sided", "greater"))
    assert both.p_value >= upper.p_value


def test_distance_matrices_and_features_agree():
    x, y = data()
    given = [squareform(pdist(v, "cityblock")) for v in (x, y)]
    found = ra.mantel(*given, "precomputed", "spearman", n_permutations=99)
    assert found.statistic == pytest.approx(spearmanr(pdist(x, "cityblock"), pdist(y, "cityblock")).statistic)
    with pytest.raises(InputError, match="is no distance matrix"):
        ra.mantel(x, y, "precomputed")


def test_groups_move_as_blocks_and_too_few_give_no_p():
    x, y = data(n=24)
    by_group = ra.mantel(x, y, groups=[i // 4 for i in range(24)], n_permutations=9999)
    assert by_group.n_groups == 6
    assert by_group.n_permutations == 719
    with pytest.warns(RepalignWarning, match=r"mantel: no p: 3 groups .* at least 4 groups"):
        few = ra.mantel(x, y, groups=[i // 8 for i in range(24)])
    assert np.isnan(few.p_value)
    assert few.statistic == by_group.statistic
    assert "at least 4" in few.note
    with pytest.raises(InputError, match="23 groups for 24 stimuli"):
        ra.mantel(x, y, groups=range(23))


def test_explicit_permutations_and_none():
    x, y = data(n=10)
    orders = np.array([np.random.default_rng(k).permutation(10) for k in range(49)])
    found = ra.mantel(x, y, permutations=orders)
    by_hand = [pearsonr(pdist(x), pdist(y[order])).statistic for order in orders]
    assert found.p_value == (np.sum(np.array(by_hand) >= found.statistic - 1e-10) + 1) / 50
    assert found.null_mean == pytest.approx(np.mean(by_hand))
    alone = ra.mantel(x, y, n_permutations=0)
    assert np.isnan(alone.p_value)
    assert alone.statistic == found.statistic
