"""The ranking of encoders: order, ties, differences to the best, and their p against definitions written out."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import permutation_test

from repalign.errors import InputError
from repalign.infer.difference import jackknifed, score_differences
from repalign.infer.matched import MatchedScores
from repalign.infer.ranking import rank


def scores_of(values, metric="cka_linear", layers=("",), bounds=(-1.0, 1.0)):
    """The mean of one number a unit: its deletions are the means of the other units."""
    values = np.atleast_2d(np.asarray(values, dtype=float).T).T
    count = len(values)
    deleted = (values.sum(0) - values) / (count - 1)
    units = tuple(f"video{k}" for k in range(count))
    return MatchedScores(metric, layers, values.mean(0), deleted, units, 3 * count, count, bounds)


def encoders(count=9, shifts=(0.3, 0.5, 0.1, 0.45), seed=0):
    rng = np.random.default_rng(seed)
    shared = 0.1 * rng.normal(size=count)
    spread = (0.02, 0.05, 0.2, 0.1)
    return {
        f"net{k}": scores_of(shift + shared + s * rng.normal(size=count))
        for k, (shift, s) in enumerate(zip(shifts, spread, strict=True))
    }


def by_hand(contributions):
    """Step-down max-T of |t| over all patterns of signs but the one without a flip, as Westfall & Young list it."""
    u, k = contributions.shape
    flips = np.array(list(itertools.product((1, -1), repeat=u)))
    flipped = flips[:, :, None] * contributions
    ratio = np.abs(flipped.mean(1)) / np.sqrt((contributions**2).mean(0))
    student = np.abs(flipped.mean(1)) / (flipped.std(1, ddof=1) / np.sqrt(u))
    p = (student >= student[0] * (1 - 1e-9)).mean(0)
    z = (ratio - ratio.mean(0)) / ratio.std(0)
    order, adjusted = np.argsort(-z[0]), np.zeros(k)
    for step, column in enumerate(order):
        highest = z[:, order[step:]].max(1)
        adjusted[column] = max((highest >= z[0, column] - 1e-9).mean(), adjusted[order[step - 1]] if step else 0.0)
    return p, adjusted


def test_the_best_comes_first_and_differences_are_those_of_two_encoders():
    given = encoders()
    found = rank(given, True, n_permutations=999, level=0.9, seed=4)
    assert [row.name for row in found] == ["net1", "net3", "net0", "net2"]
    assert [row.rank for row in found] == [1, 2, 3, 4]
    best = found[0]
    assert (best.difference, best.difference_low, best.difference_high) == (0, 0, 0)
    assert np.isnan([best.p, best.p_adjusted]).all()
    for row in found:
        own = given[row.name].estimate(0.9)
        assert (row.value, row.se, row.ci_low, row.ci_high) == tuple(
            part[0] for part in (own.value, own.se, own.ci_low, own.ci_high)
        )
    for row in found[1:]:
        alone = score_differences(given[row.name], given["net1"], 999, 0.9, 4)
        assert row.difference == pytest.approx(alone.difference[0]) == pytest.approx(row.value - best.value)
        assert (row.difference_low, row.difference_high) == pytest.approx((alone.ci_low[0], alone.ci_high[0]))
        assert row.p == alone.p_value[0]
        assert row.p <= row.p_adjusted <= 1
        assert row.difference < 0


def test_p_and_adjusted_p_are_their_definitions():
    given = encoders(count=8, shifts=(0.4, 0.5, 0.45, 0.46), seed=2)
    found = rank(given, True)
    best = given[found[0].name]
    columns = [
        jackknifed(
            np.stack([given[row.name].scores, best.scores]),
            np.stack([given[row.name].deleted, best.deleted], axis=1),
            0.95,
        ).contributions
        for row in found[1:]
    ]
    p, adjusted = by_hand(np.concatenate(columns, axis=1))
    assert [row.p for row in found[1:]] == pytest.approx(p, abs=1e-12)
    assert [row.p_adjusted for row in found[1:]] == pytest.approx(adjusted, abs=1e-12)
    assert (adjusted > p + 0.01).any()
    for row, parts in zip(found[1:], columns, strict=True):
        exact = permutation_test(
            (parts[:, 0],), lambda v, axis: np.abs(v.mean(axis=axis)), permutation_type="samples", vectorized=True,
            alternative="greater", n_resamples=np.inf,
        )  # fmt: skip
        assert row.p == pytest.approx(exact.pvalue)


def test_a_measure_may_rank_the_lowest_first():
    upward, downward = rank(encoders(), True, 99), rank(encoders(), False, 99)
    assert [row.name for row in downward] == [row.name for row in reversed(upward)]
    assert all(row.difference > 0 for row in downward[1:])


def test_equal_scores_share_a_place_and_equal_encoders_do_not_differ():
    first = scores_of([0.1, 0.6, 0.3, 0.8, 0.2, 0.4, 0.5])
    rounded = replace(first, scores=first.scores * (1 + 1e-15), deleted=first.deleted * (1 - 1e-15))
    worse = replace(first, scores=first.scores - 0.1, deleted=first.deleted - 0.1)
    found = rank({"c": worse, "a": first, "b": rounded, "d": worse}, True)
    assert [(row.name, row.rank) for row in found] == [("a", 1), ("b", 1), ("c", 3), ("d", 3)]
    assert (found[1].difference, found[1].p, found[1].p_adjusted) == (0, 1, 1)
    assert found[2].p == found[3].p == 2 / 2**7  # every unit differs alike: only all signs together are as extreme


def test_an_encoder_without_a_score_comes_last_and_is_said():
    given = encoders()
    nothing = replace(given["net0"], scores=np.array([np.nan]), deleted=np.full((9, 1), np.nan), notes=("layers dead",))
    found = rank({"dead": nothing, **given, "gone": nothing}, True, 99)
    assert [(row.name, row.rank) for row in found[-2:]] == [("dead", 5), ("gone", 5)]
    assert found[-1].note == "layers dead; no score, so it comes last"
    assert np.isnan([found[-1].value, found[-1].difference, found[-1].p]).all()
    assert all(np.isfinite(row.p) and not row.note for row in found[1:4])
    assert [row.rank for row in rank({"dead": nothing}, True)] == [1]


def test_an_encoder_without_an_interval_has_a_difference_but_no_p():
    given = encoders()
    given["net3"].deleted[2] = np.nan
    found = {row.name: row for row in rank(given, True, 99)}
    assert np.isfinite(found["net3"].difference)
    assert np.isnan([found["net3"].p, found["net3"].p_adjusted, found["net3"].difference_low]).all()
    assert found["net3"].note == "no p: this encoder has no score with some of the stimuli left out"
    assert all(np.isfinite(found[name].p) and not found[name].note for name in ("net0", "net2"))
    given["net1"].deleted[2] = np.nan
    assert all("a score is undefined, or is with some" in row.note for row in rank(given, True, 99)[1:])


def test_one_encoder_and_none():
    (only,) = rank({"net": encoders()["net0"]}, True)
    assert (only.rank, only.difference, only.note) == (1, 0, "")
    assert np.isnan(only.p)
    assert only.ci_low < only.value < only.ci_high
    assert rank({}, True) == ()


def test_few_units_are_said():
    given = encoders(count=5)
    found = rank(given, True)
    assert "no p: the signs of 5 groups" in found[1].note
    assert "at least 6 groups are needed" in found[1].note
    assert found[1].difference_low < found[1].difference < found[1].difference_high
    assert found[0].note == ""
    for one in given.values():
        one.deleted[:] = np.nan
    assert "at least 6 groups are needed" in rank(given, True)[1].note
    asked = rank(given, True, n_permutations=0)
    assert np.isnan(asked[1].p)
    assert asked[1].note == ""


def test_what_can_not_be_compared_is_refused():
    given = encoders()
    with pytest.raises(InputError, match=r"net0 and net1 are compared unit by unit, but.*8 and 9 units.*'video8'"):
        rank({"net0": scores_of(np.full(8, 0.3)), "net1": given["net1"]}, True)
    with pytest.raises(InputError, match="scores of net0 are rsa and those of net1 cka_linear"):
        rank({"net0": replace(given["net0"], metric="rsa"), "net1": given["net1"]}, True)
    with pytest.raises(InputError, match=r"net has scores of 2 layers.*MatchedScores.mean"):
        rank({"net": scores_of(np.ones((6, 2)), layers=("x", "y"))}, True)
    with pytest.raises(InputError, match="n_permutations must be a whole number"):
        rank(given, True, n_permutations=-1)
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        rank(given, True, level=2.0)
