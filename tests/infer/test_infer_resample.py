"""Resampling plans: whole groups, nothing twice, all arrangements where there are few."""

from collections import Counter

import numpy as np
import pytest
import torch

from repalign.errors import InputError
from repalign.infer.resample import (
    NoTestError,
    arrangements_of,
    deletions,
    given_permutations,
    given_signs,
    half_samples,
    permutations,
    sign_flips,
)

GROUPS = ["a", "b", "c", "d", "e"] * 4


def test_arrangements_of_stimuli_are_permutations():
    drawn = permutations(12, None, 50, 0)
    assert drawn.index.shape == (50, 12)
    assert not drawn.exact
    assert (drawn.index.sort(1).values == torch.arange(12)).all()
    assert torch.equal(drawn.rows, torch.arange(12))


def test_the_seed_decides():
    first, again, other = (permutations(12, None, 5, seed).index for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_few_units_are_enumerated_without_the_identity():
    drawn = permutations(5, None, 9999, 0)
    assert drawn.exact
    assert len(drawn.index) == 119
    assert len({tuple(row) for row in drawn.index.tolist()}) == 119
    assert list(range(5)) not in drawn.index.tolist()


def test_groups_move_as_blocks_in_their_own_order():
    drawn = permutations(20, GROUPS, 30, 0)
    names = np.array(GROUPS)[drawn.rows]
    for order in drawn.index:
        for block in np.array(names)[order].reshape(5, 4):
            assert len(set(block)) == 1
        moved = drawn.rows[order].reshape(5, 4)
        assert (moved.diff() > 0).all()


def test_groups_of_unequal_size_are_cut_and_the_note_counts():
    groups = ["a"] * 9 + ["b"] * 7 + ["c"] * 8 + ["d"] * 7 + ["e"]
    drawn = permutations(32, groups, 10, 0)
    assert Counter(np.array(groups)[drawn.rows]) == dict.fromkeys("abcd", 7)
    assert drawn.note == "groups of unequal size: p and the null are of 7 stimuli of each of 4 groups, 28 of 32"
    assert len(set(drawn.rows.tolist())) == 28


def test_too_few_groups_say_how_many_are_needed():
    with pytest.raises(NoTestError, match=r"3 groups have 6 arrangements, so no p .* 0.17; at least 4 groups"):
        permutations(12, ["a", "b", "c"] * 4, 99, 0)
    with pytest.raises(NoTestError, match="at least 4 stimuli"):
        permutations(3, None, 99, 0)
    with pytest.raises(NoTestError, match=r"signs of 5 groups have 16 .* at least 6 groups"):
        sign_flips(5, 99, 0, mirrored=True)
    assert len(sign_flips(5, 99, 0).signs) == 31


def test_signs_are_enumerated_or_drawn():
    exact = sign_flips(6, 9999, 0)
    assert exact.exact
    assert len({tuple(row) for row in exact.signs.tolist()}) == 63
    assert [1] * 6 not in exact.signs.tolist()
    drawn = sign_flips(40, 500, 0)
    assert drawn.signs.shape == (500, 40)
    assert set(drawn.signs.unique().tolist()) == {-1, 1}
    assert abs(drawn.signs.double().mean()) < 0.03


@pytest.mark.parametrize(("groups", "most", "parts"), [(None, 99, 20), (None, 6, 6), (GROUPS, 99, 5), (GROUPS, 3, 3)])
def test_deletions_leave_every_stimulus_out_once_and_split_no_group(groups, most, parts):
    left_out = deletions(20, groups, most, 0)
    assert len(left_out) == parts
    assert sorted(torch.cat(left_out).tolist()) == list(range(20))
    if groups:
        names = [{groups[i] for i in rows.tolist()} for rows in left_out]
        assert sum(len(those) for those in names) == 5


def test_halves_are_drawn_without_replacement_and_by_group():
    for index in half_samples(20, GROUPS, 25, 0):
        assert len({GROUPS[i] for i in index.tolist()}) == 2
        assert len(set(index.tolist())) == len(index) == 8
        assert (index.diff() > 0).all()
    assert {len(index) for index in half_samples(21, None, 5, 0)} == {10}


def test_given_arrangements_and_signs_are_checked():
    assert given_permutations([[1, 0, 2]], 3).index.tolist() == [[1, 0, 2]]
    with pytest.raises(InputError, match="row 1 of permutations does not hold each of 0…2 once"):
        given_permutations([[1, 0, 2], [1, 1, 2]], 3)
    with pytest.raises(InputError, match=r"give whole numbers \(m, 3\)"):
        given_permutations(np.ones((2, 3)), 3)
    assert given_signs([[1, -1]], 2).signs.tolist() == [[1, -1]]
    with pytest.raises(InputError, match=r"give \+1 and −1, one column for each of 2 units"):
        given_signs([[1, 0]], 2)


def test_trimming_keeps_groups_rather_than_stimuli():
    groups = [str(k) for k, size in enumerate([61] * 4 + [10] * 20) for _ in range(size)]
    assert "10 stimuli of each of 24 groups" in permutations(len(groups), groups, 9, 0).note


def test_given_arrangements_must_keep_groups_whole():
    groups = ["a", "a", "b", "b", "c", "c", "d"]
    whole = [[2, 3, 0, 1, 4, 5, 6], [5, 4, 2, 3, 1, 0, 6]]
    assert arrangements_of(whole, 7, groups, 0, 0).index.tolist() == whole
    for split in ([0, 2, 1, 3, 4, 5, 6], [1, 0, 2, 3, 4, 6, 5]):
        with pytest.raises(InputError, match="row 1 of permutations splits a group"):
            arrangements_of([whole[0], split], 7, groups, 0, 0)
    with pytest.raises(InputError, match="no array of rows of one length"):
        given_permutations([[0, 1], [0]], 2)
    with pytest.raises(InputError, match="give whole numbers"):
        given_permutations(np.zeros((0, 3), dtype=int), 3)
