"""A aligns more than B: the difference, its interval and its sign flips."""

import numpy as np
import pytest
from scipy.stats import permutation_test

import repalign as ra
from repalign.errors import InputError, RepalignWarning


def data(seed=0, n=120, a=0.5, b=2.0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 5))
    return y + a * rng.normal(size=y.shape), y + b * rng.normal(size=y.shape), y


def test_the_better_one_wins():
    x1, x2, y = data()
    found = ra.difference(x1, x2, y, n_permutations=999)
    assert found.score_a == pytest.approx(ra.similarity(x1, y), abs=1e-12)
    assert found.difference == pytest.approx(found.score_a - ra.similarity(x2, y))
    assert 0 < found.ci_low < found.difference < found.ci_high
    assert found.p_value == 1 / 1000
    back = ra.difference(x2, x1, y, n_permutations=999)
    assert back.difference == pytest.approx(-found.difference, abs=1e-12)
    assert back.p_value == found.p_value == 1 / 1000


def test_within_groups_it_is_scipys_sign_flip():
    x1, x2, y = data(n=80, a=1.0, b=1.1)
    groups = np.repeat(range(8), 10)
    found = ra.difference(x1, x2, y, groups=groups, test="within")
    parts = [
        ra.similarity(x1[groups == g], y[groups == g]) - ra.similarity(x2[groups == g], y[groups == g])
        for g in range(8)
    ]
    assert found.contributions == pytest.approx(parts)
    exact = permutation_test(
        (np.array(parts),), lambda v, axis: np.abs(v.mean(axis=axis)), permutation_type="samples", vectorized=True,
        alternative="greater", n_resamples=np.inf,
    )  # fmt: skip
    assert found.p_value == pytest.approx(exact.pvalue)
    assert found.n_permutations == 255


def test_explicit_signs_reproduce_the_p():
    x1, x2, y = data(n=60, a=1.0, b=1.3)
    signs = np.random.default_rng(3).choice([-1, 1], size=(199, 60))
    found = ra.difference(x1, x2, y, signs=signs)
    null = np.abs(signs @ found.contributions) / 60
    assert found.p_value == (np.sum(null >= abs(found.contributions.mean()) - 1e-12) + 1) / 200


def test_what_is_missing_is_said():
    x1, x2, y = data(n=40)
    with pytest.warns(RepalignWarning, match="at least 6 groups are needed"):
        few = ra.difference(x1, x2, y, groups=np.repeat(range(5), 8))
    assert np.isnan(few.p_value)
    assert np.isfinite(few.ci_low)
    with pytest.warns(RepalignWarning, match="3 groups are too few; at least 5 are needed"):
        fewer = ra.difference(x1, x2, y, groups=np.arange(40) % 3)
    assert np.isnan(fewer.se)
    assert fewer.difference == pytest.approx(ra.similarity(x1, y) - ra.similarity(x2, y), abs=1e-12)
    with pytest.raises(InputError, match=r"test='within' scores each group alone.*the smallest group has 1"):
        ra.difference(x1, x2, y, test="within")
    with pytest.raises(InputError, match="test must be one of jackknife, within, not 'swap'"):
        ra.difference(x1, x2, y, test="swap")


@pytest.mark.parametrize("change", [lambda x: x, lambda x: 3 * x, lambda x: x + 5, lambda x: x[:, [1, 0, 2, 3, 4]]])
def test_equal_layers_do_not_differ(change):
    """What rounding leaves of the difference must not be tested."""
    x, _, y = data(n=40)
    found = ra.difference(x, change(x), y, n_permutations=999)
    assert found.difference == 0
    assert found.p_value == 1


def test_within_groups_score_difference_and_interval_are_one_quantity():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(12), 12)
    means = rng.normal(size=(12, 5))
    reference = 3 * means[g] + rng.normal(size=(144, 5))
    a = 3 * means[g] + rng.normal(size=(144, 5))
    b = 3 * rng.normal(size=(12, 5))[g] + (reference - 3 * means[g])
    found = ra.difference(a, b, reference, test="within", groups=g)
    assert found.difference == pytest.approx(found.contributions.mean()) == found.score_a - found.score_b
    assert found.ci_low < found.difference < found.ci_high < 0
    assert found.p_value < 0.01


def test_undefined_and_wrong_input_is_said():
    x1, x2, y = data(n=30)
    with pytest.warns(RepalignWarning, match="a score is undefined|has no score"):
        assert np.isnan(ra.difference(np.ones_like(x1), x2, y).p_value)
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        ra.difference(x1, x2, y, level=1.5)
    with pytest.raises(InputError, match="n_permutations must be a whole number"):
        ra.difference(x1, x2, y, n_permutations=-3)
    with pytest.raises(InputError, match="options typo beside a metric"):
        ra.difference(x1, x2, y, ra.make_metric("rsa"), typo=3)
