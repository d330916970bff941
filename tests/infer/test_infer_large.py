"""Inference over more stimuli than all pairs of them fit: what is of all, and what of the subset."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from repalign.align import prepare
from repalign.infer.large import independent_features, infer_large
from repalign.infer.matrix import Plan, independent_scores, infer
from repalign.metrics.cka import LinearCKA
from repalign.streaming import stream
from repalign.types import Rows
from repalign.wrap import as_activations

N, SUBSET = 120, 40


def layers(n=N, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    return ({f"{side}{k}": z @ rng.normal(size=(3, 6)) + rng.normal(size=(n, 6)) for k in range(2)} for side in "ab")


def rows_of(x, groups=None):
    held = {name: torch.tensor(values) for name, values in x.items()}
    blocks = [slice(k, k + 50) for k in range(0, N, 50)]
    of_blocks = None if groups is None else tuple(tuple(groups[cut]) for cut in blocks)
    return Rows(
        tuple(tuple(map(str, range(N)[cut])) for cut in blocks), of_blocks, {k: v.shape[1] for k, v in held.items()},
        lambda k, names: {name: held[name][blocks[k]] for name in names},
    )  # fmt: skip


def both(debiased=True, groups=None, interval=True):
    """Stream all stimuli, and embed the first of them."""
    a, b = layers()
    streamed = stream(rows_of(a, groups), rows_of(b, groups), debiased, 1 << 30, interval=interval)
    sides = (as_activations(name, {k: v[:SUBSET] for k, v in x.items()}) for name, x in (("a", a), ("b", b)))
    if groups is not None:
        sides = (replace(side, groups=tuple(groups[:SUBSET])) for side in sides)
    return streamed, prepare(*sides, LinearCKA(debiased))


def embedded(debiased, plan, groups=None):
    sides = (as_activations(name, x) for name, x in zip("ab", layers(), strict=True))
    if groups is not None:
        sides = (replace(side, groups=tuple(groups)) for side in sides)
    return infer(prepare(*sides, LinearCKA(debiased)), plan)


@pytest.mark.parametrize("groups", [None, [f"g{k // 5}" for k in range(N)]])
@pytest.mark.parametrize("debiased", [True, False])
def test_intervals_are_of_all_and_tests_of_the_subset(groups, debiased):
    plan = Plan(n_permutations=99, level=0.9)
    streamed, prepared = both(debiased, groups)
    found, of_all = infer_large(streamed, prepared, plan), embedded(debiased, plan, groups)
    of_subset = infer(prepared, plan)
    for name in ("se", "ci_low", "ci_high"):
        assert getattr(found, name) == pytest.approx(getattr(of_all, name), rel=1e-8)
    assert found.alignment.scores == pytest.approx(of_all.alignment.scores, rel=1e-9)
    for name in ("p_values", "p_adjusted", "q_values", "null_mean"):
        assert np.array_equal(getattr(found, name), getattr(of_subset, name))
    assert (found.alignment.n, found.n_permutations, found.interval) == (N, 99, "jackknife")
    assert found.n_groups == of_all.n_groups
    assert found.notes[len(streamed.notes)] == (
        "scores and intervals are of all 120 stimuli (streamed); p and the null are of a seeded subset of 40 of them"
    )
    assert found.notes[: len(streamed.notes)] == streamed.notes
    assert not set(prepared.notes) - set(streamed.notes) & set(found.notes)


def test_halves_give_way_to_the_jackknife_and_say_so():
    streamed, prepared = both()
    found = infer_large(streamed, prepared, Plan("half", n_permutations=0))
    assert found.interval == "jackknife"
    assert found.notes == (
        "scores and intervals are of all 120 stimuli (streamed)",
        "halves are not drawn of all stimuli: the interval is the jackknife's",
    )
    assert np.array_equal(found.se, streamed.se)
    assert np.isnan(found.p_values).all()


def test_no_interval_on_request():
    streamed, prepared = both(interval=False)
    found = infer_large(streamed, prepared, Plan("none", n_permutations=0))
    assert found.interval == "none"
    assert np.isnan([found.se, found.ci_low, found.ci_high]).all()


def test_too_few_groups_have_no_interval():
    streamed, prepared = both(groups=[f"g{k % 4}" for k in range(N)])
    found = infer_large(streamed, prepared, Plan(n_permutations=9))
    assert found.interval == "none"
    assert found.notes[-1] == "no interval: 4 groups are too few; at least 5 are needed"
    assert np.isnan(found.se).all()


def test_a_layer_that_one_stimulus_makes_has_no_interval():
    a, b = layers()
    a["a1"] = np.eye(N, 1)
    streamed = stream(rows_of(a), rows_of(b), False, 1 << 30)
    prepared = prepare(*(as_activations("s", {k: v[:SUBSET] for k, v in x.items()}) for x in (a, b)), LinearCKA(False))
    found = infer_large(streamed, prepared, Plan(n_permutations=9))
    assert found.notes[-1] == "no interval for 2 of 4 layer pairs, undefined with some stimuli left out"
    assert np.isnan(found.ci_low[1]).all()
    assert np.isfinite(found.ci_low[0]).all()


def test_independent_features_score_what_gaussian_ones_do():
    streamed, prepared = both(debiased=False)
    of_all = independent_features(streamed, prepared)
    assert of_all == pytest.approx(np.full((2, 2), 6 / 126))
    rng = np.random.default_rng(0)
    wide = [as_activations("s", {"l": rng.normal(size=(SUBSET, d))}) for d in (300, 500)]
    drawn = independent_scores(prepare(*wide, LinearCKA(False)), 0)
    one = np.zeros((1, 1))
    subset = replace(streamed, n=SUBSET, scores=one, se=one, degrees=one)
    assert independent_features(subset, prepare(*wide, LinearCKA(False))) == pytest.approx(drawn, rel=0.01)
    assert np.isnan(independent_features(*both())).all()
    assert np.isnan(independent_features(*both(False, [f"g{k // 5}" for k in range(N)]))).all()
