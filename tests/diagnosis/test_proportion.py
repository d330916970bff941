import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from repalign.diagnosis.proportion import clustered_se, paired_difference, proportion


@pytest.mark.parametrize("right", [0, 1, 37, 99, 100])
def test_single_pictures_have_wilsons_interval(right):
    values = np.arange(100) < right
    found = proportion(values)
    low, high = binomtest(right, 100).proportion_ci(method="wilson")
    assert found.value == right / 100
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=1e-12)
    assert 0 <= found.ci_low <= found.value <= found.ci_high <= 1


def test_copies_in_a_group_add_nothing():
    values = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 0] * 4)
    once, twice = proportion(values), proportion(np.repeat(values, 2), [str(i // 2) for i in range(80)])
    assert twice.se == pytest.approx(once.se * np.sqrt(40 / 39))
    assert twice.ci_low == pytest.approx(once.ci_low, abs=0.01)
    assert twice.units == 40
    assert proportion(np.repeat(values, 2)).se < 0.75 * once.se


def test_groups_that_all_agree_are_not_certain():
    found = proportion(np.ones(1000), [str(i % 4) for i in range(1000)])
    assert found.ci_low < 0.6  # four groups, not a thousand pictures


def test_clustered_error_by_hand():
    values, groups = np.array([1.0, 1, 0, 0, 1]), ["a", "a", "b", "b", "c"]
    sums = np.array([0.8, -1.2, 0.4])  # around the mean of 0.6
    assert clustered_se(values, groups) == pytest.approx(np.sqrt(3 / 2 * (sums**2).sum()) / 5)


def test_paired_differences_are_students():
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.6
    found = paired_difference(a, b)
    expected = ttest_rel(a.astype(float), b.astype(float)).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    assert str(found).startswith(f"{100 * found.value:+.1f} points [")


def test_one_group_says_nothing():
    found = paired_difference(np.array([1, 1]), np.array([0, 1]), ["a", "a"])
    assert (found.ci_low, found.ci_high) == (-np.inf, np.inf)
