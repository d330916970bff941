from dataclasses import replace

import numpy as np
import pytest

from repalign.diagnosis.choices import BY_SIMILARITY, RULES, SOURCES, Evidence, best_path, check_rule, choose_all
from repalign.diagnosis.choices import describe_matching as matching
from repalign.diagnosis.similarity import Scores
from repalign.errors import InputError

FOUR = np.array([[0.9, 0.7, 0.3, 0.1], [0.8, 0.5, 0.3, 0.2], [0.6, 0.5, 0.4, 0.3], [0.5, 0.4, 0.4, 0.2]])


def scores(value, half=0.02):
    value = np.array(value, dtype=float)
    blank = np.full(value.shape, np.nan)
    return Scores(value, blank, value - half, value + half, blank, blank, blank)


def evidence(value=FOUR, penultimate=(0.1, 0.12, 0.2, 0.8), unusable=None, half=0.02):
    last = None if penultimate is None else scores(np.array(penultimate)[:, None], half)
    return Evidence(scores(value, half), last, unusable or {})


def test_each_rule_is_asked():
    found = choose_all(evidence())
    assert {name: one.kept for name, one in found.items()} == {
        "gap": (2, 3, 4), "lag": (2, 3, 4), "knee": (3, 4), "all": (1, 2, 3, 4), "logits": (),
    }  # fmt: skip
    assert all(len(one.reasons) == 4 for one in found.values())
    assert set(SOURCES) == set(RULES) == {*BY_SIMILARITY, "all", "logits"}


def test_tau_reaches_gap():
    assert choose_all(evidence(), 0.55)["gap"].kept == (3, 4)


def test_gap_compares_at_the_same_share_of_the_way():
    narrow = evidence(FOUR[:, [0, 3, 1]])  # a teacher of three stages
    assert narrow.matched == (1, 2, 2, 3)
    assert narrow.at_matched.value[:, 0].tolist() == [0.9, 0.2, 0.3, 0.4]
    assert choose_all(narrow)["gap"].kept == (2, 3, 4)
    assert matching(narrow.matched, 3).endswith("1 with 1, 2 with 2, 3 with 2, 4 with 3")
    assert matching((1, 2, 3, 4), 4) == "each student stage with the teacher's stage of the same number"


def test_three_stages_have_no_knee():
    found = choose_all(evidence(FOUR[:3], penultimate=(0.1, 0.2, 0.8)))["knee"]
    assert not found.sufficient
    assert "needs 4 stages" in found.why


def test_no_penultimate_no_knee():
    assert "no penultimate" in choose_all(evidence(penultimate=None))["knee"].why


def test_a_stage_that_can_carry_no_branch_is_kept_by_no_rule():
    dead = FOUR.copy()
    dead[2] = np.nan
    found = choose_all(evidence(dead, unusable={3: "its features are constant"}))
    assert all(3 not in one.kept for one in found.values())
    assert found["all"].kept == (1, 2, 4)
    assert found["all"].reasons[2] == "stage 3: its features are constant, so not kept"
    assert not found["lag"].sufficient
    assert best_path(dead) == ()


def test_path_names_both_sides():
    assert best_path(FOUR) == ((1, 1), (2, 1), (3, 1), (4, 1))


def test_undecided_everywhere_is_insufficient():
    wide = replace(evidence(half=0.9))
    assert not choose_all(wide)["gap"].sufficient


def test_bad_rules_are_refused():
    check_rule("gap", 0.4)
    with pytest.raises(InputError, match="known: all, gap, knee, lag, logits"):
        check_rule("best-of-three", 0.4)
    with pytest.raises(InputError, match="tau must lie between 0 and 2"):
        check_rule("gap", -0.1)
    with pytest.raises(InputError, match="tau"):
        check_rule("gap", float("nan"))
