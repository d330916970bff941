"""A whole matrix: permutations against explicit ones, groups, what is missing and why, explicit arrangements."""

import math

import numpy as np
import pytest

import repalign as ra
from repalign.align import prepare
from repalign.errors import InputError
from repalign.infer.jackknife import deleted_scores
from repalign.infer.matrix import Plan, independent_scores, infer
from repalign.infer.permute import permuted_scores
from repalign.infer.resample import deletions, permutations
from repalign.metrics import parse_metric
from repalign.wrap import as_activations, as_rdms

SPECS = ["cka_linear", "cka_linear:debiased=false", "rsa", "rsa:compare=cosine", "procrustes", "rsa:compare=kendall_b"]
GROUPS = [f"video{k}" for k in range(8) for _ in range(4)]


def spec_options(spec):
    metric = parse_metric(spec)
    return {"metric": metric.name, **metric.options}


def layers(seed=0, n=32, share=1.0):
    rng = np.random.default_rng(seed)
    z = share * rng.normal(size=(n, 3))
    make = lambda: z @ rng.normal(size=(3, 6)) + rng.normal(size=(n, 6))  # noqa: E731
    return {f"a{k}": make() for k in range(3)}, {f"b{k}": make() for k in range(2)}


@pytest.mark.parametrize("spec", SPECS)
def test_permuted_scores_are_scores_of_permuted_stimuli(spec):
    a, b = layers(n=17)
    metric = parse_metric(spec)
    prepared = prepare(as_activations("a", a), as_activations("b", b), metric)
    drawn = permutations(17, None, 4, 0)
    for order, scores in zip(drawn.index.numpy(), permuted_scores(prepared, drawn), strict=True):
        moved = as_activations("b", {k: x[order] for k, x in b.items()})
        assert scores == pytest.approx(prepare(prepared.a, moved, metric).alignment().scores, abs=1e-12)


def test_everything_is_there_and_in_order():
    a, b = layers()
    found = ra.infer_arrays(a, b, ["cka_linear"], plan=Plan(n_permutations=199))["cka_linear"]
    assert found.alignment.scores == pytest.approx(ra.compare_arrays(a, b, ["cka_linear"])["cka_linear"].scores)
    assert (found.ci_low < found.alignment.scores).all()
    assert (found.alignment.scores < found.ci_high).all()
    assert (found.p_values == 1 / 200).all()
    assert (found.p_values <= found.p_adjusted).all()
    assert (found.p_values <= found.q_values).all()
    assert abs(found.null_mean).max() < 0.05
    assert np.isnan(found.independent).all()
    assert list(found.to_frame().columns) == [
        "layer_a", "layer_b", "metric", "n", "value", "se", "ci_low", "ci_high", "null_mean", "p", "p_adjusted", "q",
        "independent",
    ]  # fmt: skip
    assert found.to_frame()["se"].to_numpy() == pytest.approx(found.se.ravel())


def test_the_seed_reproduces_everything():
    a, b = layers(share=0.2)
    first, again, other = (
        ra.infer_arrays(a, b, ["rsa"], plan=Plan(n_permutations=99, seed=s))["rsa"] for s in (5, 5, 6)
    )
    assert np.array_equal(first.p_values, again.p_values)
    assert not np.array_equal(first.null_mean, other.null_mean)


def test_explicit_permutations_reproduce_a_p():
    a, b = layers(share=0.15)
    drawn = permutations(32, None, 99, 7).index.numpy()
    given = ra.infer_arrays(a, b, ["rsa"], plan=Plan(permutations=drawn))["rsa"]
    seeded = ra.infer_arrays(a, b, ["rsa"], plan=Plan(n_permutations=99, seed=7))["rsa"]
    assert np.array_equal(given.p_values, seeded.p_values)
    by_hand = [ra.similarity(a["a0"], b["b0"][order], "rsa") for order in drawn]
    extreme = sum(s >= ra.similarity(a["a0"], b["b0"], "rsa") - 1e-12 for s in by_hand)
    assert given.p_values[0, 0] == (extreme + 1) / 100
    with pytest.raises(InputError, match="row 0 of permutations"):
        ra.infer_arrays(a, b, ["rsa"], plan=Plan(permutations=np.zeros((3, 32), dtype=int)))


def test_frames_of_one_video_move_together():
    """Independent but clustered: the test by frames rejects, the one by videos does not."""
    rng = np.random.default_rng(0)
    by_frame, by_video = [], []
    for _ in range(25):
        x, y = (rng.normal(size=(8, 5))[np.repeat(range(8), 4)] + 0.2 * rng.normal(size=(32, 5)) for _ in "xy")
        for groups, found in ((None, by_frame), (GROUPS, by_video)):
            plan = Plan("none", n_permutations=99)
            found.append(ra.infer_arrays({"x": x}, {"y": y}, ["cka_linear"], groups=groups, plan=plan)["cka_linear"])
    assert np.mean([f.p_values[0, 0] <= 0.05 for f in by_frame]) > 0.6
    assert np.mean([f.p_values[0, 0] <= 0.05 for f in by_video]) < 0.25
    assert by_video[0].n_groups == 8


def test_few_groups_give_neither_p_nor_interval_and_say_what_is_needed():
    a, b = layers(n=12)
    found = ra.infer_arrays(a, b, ["cka_linear"], groups=["a", "b", "c"] * 4)["cka_linear"]
    assert np.isnan(found.se).all()
    assert np.isnan(found.p_values).all()
    assert found.n_permutations == 0
    assert found.interval == "none"
    assert any("3 groups are too few; at least 5 are needed" in note for note in found.notes)
    assert any("at least 4 groups are needed" in note for note in found.notes)


def test_half_samples_agree_with_the_jackknife():
    a, b = layers(n=200)
    errors = [
        ra.infer_arrays(a, b, ["cka_linear"], plan=Plan(kind, n_permutations=0))["cka_linear"].se
        for kind in ("jackknife", "half")
    ]
    assert errors[1] == pytest.approx(errors[0], rel=0.3)


def test_the_bootstrap_is_refused_with_its_reason():
    with pytest.raises(InputError, match=r"two copies of one stimulus look alike.*use jackknife or half"):
        Plan("bootstrap")
    with pytest.raises(InputError, match="interval must be one of jackknife, half, none, not 'delete'"):
        Plan("delete")
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        Plan(level=95.0)
    with pytest.raises(InputError, match="permutations must be a whole number of 0 or more, not -1"):
        Plan(n_permutations=-1)


@pytest.mark.parametrize(("n", "d"), [(20, 768), (100, 768), (100, 30), (300, 768)])
def test_independent_features_score_what_theory_says(n, d):
    """Biased linear CKA of independent Gaussian features: √(d₁d₂ / ((n + d₁)(n + d₂))), a ratio of Wishart means."""
    rng = np.random.default_rng(0)
    a, b = {"x": rng.normal(size=(n, d))}, {"wide": rng.normal(size=(n, d)), "narrow": rng.normal(size=(n, 10))}
    prepared = prepare(as_activations("a", a), as_activations("b", b), parse_metric("cka_linear:debiased=false"))
    expected = [math.sqrt(d * other / ((n + d) * (n + other))) for other in (d, 10)]
    assert independent_scores(prepared, 0)[0] == pytest.approx(expected, abs=0.03)


def test_a_dead_layer_has_neither_score_nor_p():
    a, b = layers()
    with pytest.warns(UserWarning, match="'dead'"):
        found = infer(
            prepare(as_activations("a", a | {"dead": np.ones((32, 2))}), as_activations("b", b), parse_metric("rsa"))
        )
    for values in (found.se, found.ci_low, found.p_values, found.p_adjusted, found.q_values):
        assert np.isnan(values[3]).all()
        assert np.isfinite(values[:3]).all()


def test_missing_pairs_leave_no_p():
    """Arrangements would not compare the same pairs: p would sit on its floor for the cosine of distances."""
    rng = np.random.default_rng(0)
    rdms = []
    for _ in range(2):
        x = rng.normal(size=(20, 5))
        rdms.append(np.linalg.norm(x[:, None] - x[None], axis=2))
    holes = np.triu(rng.random((20, 20)) < 0.3, 1)
    rdms[0][holes | holes.T] = np.nan
    with pytest.warns(UserWarning, match="pairs of stimuli are missing"):
        prepared = prepare(
            as_rdms("a", {"r": rdms[0]}), as_rdms("b", {"s": rdms[1]}), parse_metric("rsa:compare=cosine")
        )
    found = infer(prepared)
    assert np.isnan(found.p_values).all()
    assert np.isfinite(found.se).all()
    assert any("pairs of stimuli are missing, so arrangements don't compare the same pairs" in n for n in found.notes)


def test_explicit_permutations_that_split_groups_are_refused():
    a, b = layers()
    plan = Plan(permutations=np.random.default_rng(0).permuted(np.tile(np.arange(32), (9, 1)), axis=1))
    with pytest.raises(InputError, match="splits a group"):
        ra.infer_arrays(a, b, ["rsa"], groups=GROUPS, plan=plan)


def test_a_score_that_no_arrangement_changes_has_p_one():
    """One-hot features under biased CKA: rounding must not look like a signal."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        a = {"eye": np.eye(20), "x": rng.normal(size=(20, 6))}
        b = {"y": rng.normal(size=(20, 4)), "z": rng.normal(size=(20, 2))}
        plan = Plan("none", n_permutations=199)
        found = ra.infer_arrays(a, b, ["cka_linear:debiased=false"], plan=plan)["cka_linear:debiased=false"]
        assert (found.p_values[0] == 1).all()
        assert (found.p_adjusted[0] == 1).all()
        assert (found.p_adjusted >= found.p_values).all()


def test_a_side_with_itself_has_one_test_for_two_different_layers():
    rng = np.random.default_rng(0)
    a = as_activations("a", {f"l{k}": rng.normal(size=(40, 5)) for k in range(4)})
    found = infer(prepare(a, a, parse_metric("cka_linear")), Plan("none", n_permutations=99))
    assert np.isnan(np.diag(found.p_values)).all()
    assert np.isnan(np.diag(found.q_values)).all()
    off = ~np.eye(4, dtype=bool)
    for values in (found.p_values, found.p_adjusted, found.q_values):
        assert np.isfinite(values[off]).all()
        assert values[off] == pytest.approx(values.T[off])


def test_an_extreme_stimulus_is_left_out_afresh():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 4))
    x[7] *= 1e6
    for spec in ("cka_linear", "cka_linear:debiased=false", "rsa:rdm=sqeuclidean,compare=pearson"):
        prepared = prepare(as_activations("a", {"x": x}), as_activations("b", {"y": y}), parse_metric(spec))
        found = deleted_scores(prepared, deletions(30, None, 30, 0))[7, 0, 0]
        assert found == pytest.approx(
            ra.similarity(np.delete(x, 7, 0), np.delete(y, 7, 0), **spec_options(spec)), abs=1e-6
        )


def test_what_can_not_be_left_out_is_said():
    odd = np.zeros((20, 3))
    odd[4] = 1
    y = np.random.default_rng(0).normal(size=(20, 3))
    found = ra.infer_arrays({"x": odd}, {"y": y}, ["cka_linear:debiased=false"])["cka_linear:debiased=false"]
    assert np.isnan(found.se).all()
    assert any("no interval for 1 of 1 layer pairs" in note for note in found.notes)
    rng = np.random.default_rng(1)
    groups = [0] * 40 + [1] * 2 + [2] * 2 + [3] * 2 + [4] * 2
    sides = ({"x": rng.normal(size=(48, 4))}, {"y": rng.normal(size=(48, 4))})
    few = ra.infer_arrays(*sides, ["mutual_knn"], groups=groups)["mutual_knn"]
    assert few.interval == "none"
    assert any(note.startswith("no interval: with some groups left out") for note in few.notes)
    assert any(note.startswith("no p: groups of unequal size") for note in few.notes)
    halves = ra.infer_arrays(*sides, ["cka_linear"], groups=groups, plan=Plan("half"))["cka_linear"]
    assert any("half of 5 groups are too few" in note for note in halves.notes)


def test_groups_that_can_not_be_left_out_are_said_to_lift_the_score():
    a, b = layers()
    found = ra.infer_arrays(a, b, ["procrustes", "linear_predictivity"], groups=GROUPS, plan=Plan(n_permutations=9))
    assert any("within a group count too" in note for note in found["procrustes"].notes)
    assert not any("within a group count too" in note for note in found["linear_predictivity"].notes)
    assert np.isnan(found["procrustes"].independent).all()
