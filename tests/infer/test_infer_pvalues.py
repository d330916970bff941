"""p-values for one test and for many."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from repalign.errors import InputError
from repalign.infer.pvalues import benjamini_hochberg, max_t, p_value, p_values


def test_p_counts_ties_and_never_reaches_zero():
    null = np.array([0.1, 0.2, 0.3, 0.4])
    assert p_value(0.5, null) == 1 / 5
    assert p_value(0.3, null) == 3 / 5
    assert p_value(0.3 + 2e-11, null) == 3 / 5
    assert p_value(0.3 + 1e-8, null) == 2 / 5
    assert p_value(-1.0, null) == 1.0


def test_two_sided_measures_from_the_middle_of_the_null():
    null = np.array([-1.0, 0.0, 1.0, 0.0])
    assert p_value(-5.0, null, "two-sided") == 1 / 5
    assert p_value(-5.0, null) == 1.0
    with pytest.raises(InputError, match="greater, two-sided, not 'less'"):
        p_value(0.0, null, "less")


def test_undefined_statistics_have_no_p():
    null = np.array([[0.1, np.nan], [0.2, 0.3]])
    assert np.isnan(p_values(np.array([0.5, 0.5]), null)).tolist() == [False, True]
    assert np.isnan(p_value(np.nan, null[:, 0]))
    assert np.isnan(p_value(0.5, np.zeros(0)))


def plain_step_down(observed, null):
    """Westfall & Young's algorithm 4.1, literally."""
    everything = np.vstack([observed, null])
    z = (everything - everything.mean(0)) / everything.std(0)
    order = np.argsort(-z[0])
    adjusted, before = np.empty(len(observed)), 0.0
    for place, test in enumerate(order):
        left = order[place:]
        count = sum(row[left].max() >= z[0, test] - 1e-12 for row in z[1:])
        before = max(before, (count + 1) / (len(null) + 1))
        adjusted[test] = before
    return adjusted


def test_max_t_is_the_step_down_algorithm():
    rng = np.random.default_rng(0)
    null = rng.normal(size=(199, 7)) * np.arange(1, 8) + rng.normal(size=(199, 1))
    observed = np.array([0.5, 9.0, 2.0, 12.0, -1.0, 3.0, 20.0])
    assert max_t(observed, null) == pytest.approx(plain_step_down(observed, null), abs=1e-12)
    assert (max_t(observed, null) >= p_values(observed, null) - 1e-12).all()


def test_max_t_of_one_test_is_its_p():
    null = np.random.default_rng(1).normal(size=(99, 1))
    assert max_t(np.array([1.0]), null)[0] == p_value(1.0, null[:, 0])


def test_max_t_controls_the_family_where_single_tests_do_not():
    rng = np.random.default_rng(2)
    single = family = 0
    for _ in range(200):
        data = rng.normal(size=(100, 20))
        single += p_values(data[0], data[1:]).min() <= 0.05
        family += max_t(data[0], data[1:]).min() <= 0.05
    assert single > 100
    assert family < 22


def test_nan_stays_nan():
    null = np.random.default_rng(3).normal(size=(19, 3))
    null[4, 1] = np.nan
    assert np.isnan(max_t(np.array([1.0, 1.0, np.nan]), null)).tolist() == [False, True, True]
    q = benjamini_hochberg(np.array([[0.01, np.nan], [0.04, 0.03]]))
    assert np.isnan(q).tolist() == [[False, True], [False, False]]
    assert q[~np.isnan(q)] == pytest.approx(false_discovery_control([0.01, 0.04, 0.03]))
