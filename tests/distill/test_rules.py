"""The rules that choose stages, on numbers made by hand."""

import itertools

import numpy as np
import pytest

from repalign.distill.rules import TAU, gap, knee, lag, monotone_path, proportional

WIDE = 0.05


def around(values, half=WIDE):
    values = np.array(values, dtype=float)
    return values, values - half, values + half


def test_gap_keeps_what_is_surely_apart():
    # 1 − CKA: 0.10 ± 0.05 below τ, 0.43 ± 0.05 holds τ, 0.50 ± 0.05 above
    choice = gap(*around([0.9, 0.57, 0.5]))
    assert choice.kept == (3,)
    assert choice.sufficient
    assert [("kept" in r, "undecided" in r) for r in choice.reasons] == [(False, False), (False, True), (True, False)]
    assert "0.50 [0.45, 0.55]" in choice.reasons[2]


def test_gap_at_its_edge():
    edge = gap(*around([1 - TAU - WIDE], WIDE))
    assert (edge.kept, edge.sufficient) == ((), False)  # the lower end is τ itself, not above it
    assert gap(*around([1 - TAU - WIDE - 1e-9], WIDE)).kept == (1,)


def test_gap_without_a_kept_stage_is_insufficient_while_one_is_undecided():
    choice = gap(*around([0.9, 0.58]))
    assert not choice.sufficient
    assert choice.kept == ()
    assert choice.why == "no stage is surely above τ = 0.4, and stage 2 may be"
    assert gap(*around([0.58, 0.2])).kept == (2,)
    missing = gap(np.array([0.1, 0.2]), np.full(2, np.nan), np.full(2, np.nan))
    assert not missing.sufficient
    assert "no interval" in missing.reasons[0]


def test_gap_where_nothing_is_apart_keeps_none_and_is_sure():
    choice = gap(*around([0.9, 0.95]))
    assert (choice.kept, choice.sufficient) == ((), True)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 4), (4, 3), (5, 2)])
def test_path_is_the_best_of_all(shape):
    rng = np.random.default_rng(sum(shape))
    for _ in range(20):
        matrix = rng.normal(size=shape)
        every = itertools.combinations_with_replacement(range(shape[1]), shape[0])  # monotone ones, no others
        best = max(every, key=lambda path: sum(matrix[k, j] for k, j in enumerate(path)))
        assert monotone_path(matrix) == tuple(j + 1 for j in best)


def test_path_takes_the_shallower_of_equals():
    assert monotone_path(np.ones((3, 3))) == (1, 1, 1)


def test_proportional_depth():
    assert [proportional(k, 4, 4) for k in range(1, 5)] == [1, 2, 3, 4]
    assert [proportional(k, 3, 4) for k in range(1, 4)] == [1, 3, 4]
    assert [proportional(k, 4, 2) for k in range(1, 5)] == [1, 1, 2, 2]


def test_lag_keeps_stages_that_match_shallower():
    matrix = np.array([[0.9, 0.1, 0.1, 0.1], [0.8, 0.3, 0.1, 0.1], [0.1, 0.2, 0.9, 0.1], [0.1, 0.1, 0.3, 0.8]])
    choice = lag(*around(matrix))
    assert choice.kept == (2,)
    said = "matches the teacher's stage 1, shallower than its proportional stage 2 (CKA 0.80 [0.75, 0.85] there, "
    assert f"{said}0.30 [0.25, 0.35] here)" in choice.reasons[1]


def test_lag_with_an_undefined_pair_is_insufficient():
    assert not lag(*around([[0.5, np.nan], [0.1, 0.2]])).sufficient


def test_knee_is_farthest_from_the_chord():
    choice = knee(*around([0.1, 0.12, 0.15, 0.9]))  # chord at stage 3: 0.63
    assert choice.kept == (3, 4)
    assert "0.48 from the chord (CKA 0.15, chord 0.63)" in choice.reasons[2]
    concave = knee(*around([0.1, 0.8, 0.85, 0.9]))
    assert concave.kept == (2, 3, 4)


def test_knee_needs_four_stages_intervals_and_a_bend():
    assert "needs 4 stages, and there are 3" in knee(*around([0.1, 0.2, 0.9])).why
    assert "within its interval" in knee(*around([0.1, 0.2, 0.31, 0.4])).why
    broken = knee(np.array([0.1, np.nan, 0.3, 0.9]), np.zeros(4), np.ones(4))
    assert (broken.sufficient, broken.kept) == (False, ())
