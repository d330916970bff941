"""A aligns more than B: the difference, its interval and its sign flips."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import permutation_test

import repalign as ra
from repalign.align import prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.difference import score_differences
from repalign.infer.matched import matched_scores
from repalign.metrics import parse_metric
from repalign.wrap import as_activations


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


def scored(x, y, spec="cka_linear", groups=None, seed=0):
    """Two layers in two conditions: x with y, and y with x."""
    a, b = as_activations("a", {"l0": x, "l1": y}), as_activations("b", {"l0": y, "l1": x})
    return matched_scores(prepare(replace(a, groups=groups), b, parse_metric(spec)), seed)


@pytest.mark.parametrize("spec", ["cka_linear", "rsa", "procrustes"])
@pytest.mark.parametrize("groups", [None, tuple(f"g{k % 9}" for k in range(45))], ids=["stimuli", "groups"])
def test_differences_of_layers_are_those_of_difference(spec, groups):
    x1, x2, y = data(n=45, a=1.0, b=1.2)
    metric = parse_metric(spec)
    expected = ra.difference(x1, x2, y, metric, groups=groups, n_permutations=400, seed=3, level=0.9)
    found = score_differences(*(scored(x, y, spec, groups) for x in (x1, x2)), 400, 0.9, 3)
    assert found.n_permutations == expected.n_permutations
    assert found.p_value == pytest.approx([expected.p_value] * 2, abs=1e-12)
    for own, other in (
        (found.difference, expected.difference), (found.se, expected.se),
        (found.ci_low, expected.ci_low), (found.ci_high, expected.ci_high),
    ):  # fmt: skip
        assert own == pytest.approx([other] * 2, rel=1e-9)
    assert found.note == ""


def test_differences_take_all_signs_when_they_are_few():
    x1, x2, y = data(n=40, a=1.0, b=1.2)
    sides = [scored(x, y, groups=tuple(f"g{k % 8}" for k in range(40))) for x in (x1, x2)]
    found, again = score_differences(*sides, 255, seed=1), score_differences(*sides, 9999, seed=2)
    assert found.n_permutations == again.n_permutations == 255
    assert (found.p_value == again.p_value).all()
    assert score_differences(*sides, 99).n_permutations == 99
    back = score_differences(sides[1], sides[0], 255)
    assert back.difference == pytest.approx(-found.difference)
    assert (back.p_value == found.p_value).all()


def test_equal_scores_do_not_differ():
    x1, _, y = data(n=30)
    found = score_differences(scored(x1, y), scored(3 * x1 + 5, y))
    assert (found.difference == 0).all()
    assert (found.se == 0).all()
    assert (found.p_value == 1).all()


def test_an_undefined_layer_leaves_the_others_as_they_are():
    x1, x2, y = data(n=30, a=1.0, b=1.3)
    one, other = scored(x1, y), scored(x2, y)
    whole = score_differences(one, other, 99)
    one.deleted[4, 1] = np.nan
    found = score_differences(one, other, 99)
    assert found.p_value[0] == whole.p_value[0]
    assert np.isnan([found.p_value[1], found.se[1]]).all()
    assert found.difference == pytest.approx(whole.difference)
    assert found.note == "no p for 1 of 2 scores: a score is undefined, or is with some of the stimuli left out"


def test_few_units_leave_differences_without_p_or_interval():
    x1, x2, y = data(n=40)
    five, three = ([scored(x, y, groups=tuple(f"g{k % u}" for k in range(40))) for x in (x1, x2)] for u in (5, 3))
    found = score_differences(*five)
    assert np.isnan(found.p_value).all()
    assert np.isfinite(found.se).all()
    assert "at least 6 groups are needed" in found.note
    fewer = score_differences(*three)
    assert np.isfinite(fewer.difference).all()
    assert np.isnan([fewer.se, fewer.ci_low, fewer.p_value]).all()
    assert "at least 6 groups are needed" in fewer.note
    assert np.isnan(score_differences(*five, 0).p_value).all()


def test_differences_of_unlike_scores_are_refused():
    x1, x2, y = data(n=60)
    one, other = scored(x1, y), scored(x2, y)
    with pytest.raises(InputError, match=r"compared unit by unit, but.*60 and 59 units of 60 and 59 stimuli, '59'"):
        score_differences(one, scored(x2[:59], y[:59]))
    with pytest.raises(InputError, match=r"scores of the first are cka_linear.*and those of the second rsa"):
        score_differences(one, scored(x2, y, "rsa"))
    with pytest.raises(InputError, match="give those of the same layers"):
        score_differences(one, other.mean())
    blocks = [scored(x1, y, "procrustes", seed=seed) for seed in (0, 1)]
    with pytest.raises(InputError, match="drawn by seeds 0, 1"):
        score_differences(*blocks)
    assert score_differences(one, replace(other, seed=1), 99).n_permutations == 99
