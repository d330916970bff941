"""Matched layers: the diagonal of the full jackknife without the rest, means over layers, and what is missing."""

from dataclasses import replace

import numpy as np
import pytest

from repalign.align import prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.jackknife import deleted_scores
from repalign.infer.matched import deleted_matched, matched_scores, score_matched
from repalign.infer.matrix import Plan, infer
from repalign.infer.resample import deletions
from repalign.metrics import METRICS, parse_metric
from repalign.metrics.procrustes import Procrustes
from repalign.wrap import as_activations, as_rdms

SPECS = [
    *(name for name in METRICS if name not in ("mutual_knn", "linear_predictivity")),
    "mutual_knn:k=3", "linear_predictivity:folds=2", "cka_linear:debiased=false", "cka_rbf:debiased=false",
    "distance_correlation:debiased=false", "rsa:rdm=euclidean,compare=pearson", "rsa:compare=cosine",
    "rsa:compare=kendall_b", "rsa:rdm=sqeuclidean,compare=cosine_cov", "rsa:rdm=euclidean,compare=corr_cov",
]  # fmt: skip
GROUPS = tuple(f"video{k}" for k in [0] * 3 + [1] * 6 + [2] * 4 + [3] * 2 + [4] * 5 + [5] * 4)


def conditions(groups=None, n=24, noise=1.0, seed=0, dead=((), ()), layers=4):
    """The same layers twice, the second with noise; `dead` names those that are constant on either side."""
    rng = np.random.default_rng(seed)
    a = {f"l{k}": rng.normal(size=(n, 3)) @ rng.normal(size=(3, 5 + k)) for k in range(layers)}
    b = {name: x + noise * rng.normal(size=x.shape) for name, x in a.items()}
    for side, names in ((a, dead[0]), (b, dead[1])):
        side.update({name: np.ones((n, 3)) for name in names})
    return tuple(replace(as_activations(name, side), groups=groups) for name, side in (("clean", a), ("cat", b)))


def prepared(spec, groups=None, pairs="between", **options):
    return prepare(*conditions(groups, **options), parse_metric(spec), pairs)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["stimuli", "groups"])
def test_they_are_the_diagonal_of_the_full_jackknife(spec, groups):
    one = prepared(spec, groups)
    left_out = deletions(24, groups, 6, 0)
    expected = np.diagonal(deleted_scores(one, left_out), axis1=1, axis2=2)
    assert np.isfinite(expected).all()
    assert deleted_matched(one, left_out) == pytest.approx(expected, abs=1e-12)
    found = score_matched(*one.embedded, one.metric).values
    assert found == pytest.approx(np.diag(one.alignment().scores), abs=1e-12)


@pytest.mark.parametrize("spec", ["cka_linear", "rsa", "rsa:compare=cosine", "procrustes", "rsa:compare=kendall_b"])
def test_layers_undefined_on_one_side_are_nan_and_the_others_unchanged(spec):
    with pytest.warns(RepalignWarning, match="has no score"):
        one = prepared(spec, dead=(["l1", "l3"], ["l2", "l3"]))
    left_out = deletions(24, None, 6, 0)
    found = deleted_matched(one, left_out)
    assert found == pytest.approx(np.diagonal(deleted_scores(one, left_out), axis1=1, axis2=2), abs=1e-12, nan_ok=True)
    assert np.isnan(found).any(0).tolist() == [False, True, True, True]
    scores = matched_scores(one)
    assert np.isnan(scores.scores).tolist() == [False, True, True, True]
    assert sum(note.startswith("layer 'l") and "has no score" in note for note in scores.notes) == 3


def test_a_side_with_itself_and_a_side_without_any_matched_layer():
    a, _ = conditions()
    same = prepare(a, a, parse_metric("cka_linear"))
    assert matched_scores(same).deleted == pytest.approx(np.ones((24, 4)), abs=1e-12)
    with pytest.warns(RepalignWarning, match="has no score"):
        none = prepared("cka_linear", dead=(["l0", "l1"], ["l2", "l3"]))
    scores = matched_scores(none)
    assert np.isnan(scores.deleted).all()
    assert np.isnan(scores.mean().estimate().value).all()
    assert "the mean leaves out 4 of 4 layers, without a score: l0, l1, l2, l3" in scores.mean().notes


@pytest.mark.parametrize("spec", ["cka_linear", "cka_linear:debiased=false", "rsa", "rsa:compare=pearson"])
def test_an_extreme_stimulus_is_left_out_afresh(spec):
    a, b = conditions()
    for side in (a, b):
        side.layers["l2"][7] *= 1e6
    one = prepare(a, b, parse_metric(spec))
    left_out = deletions(24, None, 24, 0)
    expected = np.diagonal(deleted_scores(one, left_out), axis1=1, axis2=2)
    assert deleted_matched(one, left_out) == pytest.approx(expected, abs=1e-12)


def test_missing_pairs_are_left_out_of_deletions_too():
    rng = np.random.default_rng(0)
    rdms = []
    for _ in range(2):
        x = rng.normal(size=(15, 4))
        rdms.append(np.linalg.norm(x[:, None] - x[None], axis=2))
    rdms[0][2, 7] = rdms[0][7, 2] = np.nan
    with pytest.warns(RepalignWarning, match="pairs of stimuli are missing"):
        one = prepare(as_rdms("a", {"r": rdms[0]}), as_rdms("b", {"r": rdms[1]}), parse_metric("rsa:compare=pearson"))
    expected = deleted_scores(one, deletions(15, None, 15, 0))[:, :, 0]
    assert matched_scores(one).deleted == pytest.approx(expected, abs=1e-12)


def test_a_pair_metric_scores_only_layers_that_match(monkeypatch):
    one, calls, score = prepared("procrustes", GROUPS), [], Procrustes.score
    monkeypatch.setattr(Procrustes, "score", lambda self, a, b: calls.append(1) or score(self, a, b))
    matched_scores(one)
    assert len(calls) == 4 * (1 + 6)  # four layers, with all groups and without each of six


@pytest.mark.parametrize("pairs", ["between", "all"])
@pytest.mark.parametrize("spec", ["cka_linear", "cka_rbf", "rsa", "procrustes"])
def test_intervals_are_those_of_the_whole_matrix(spec, pairs):
    one = prepared(spec, GROUPS, pairs)
    whole, found = infer(one, Plan(n_permutations=0, level=0.9)), matched_scores(one).estimate(0.9)
    for own, expected in (
        (found.value, whole.alignment.scores), (found.se, whole.se),
        (found.ci_low, whole.ci_low), (found.ci_high, whole.ci_high),
    ):  # fmt: skip
        assert own == pytest.approx(np.diag(expected), abs=1e-12)
    assert (found.se > 0).all()
    assert [note for note in whole.notes if not note.startswith("no p")] == list(matched_scores(one).notes)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith("linear_predictivity")])
def test_equal_conditions_score_one_without_error(spec):
    """The identity filter; warnings are errors here."""
    a, b = conditions(GROUPS, noise=0.0)
    one = matched_scores(prepare(a, b, parse_metric(spec)))
    if spec in ("cka_linear", "rsa", "cka_rbf"):
        single = [replace(side, groups=None) for side in (a, b)]
        assert (matched_scores(prepare(*single, parse_metric(spec))).estimate().se == 0).all()
    for scores in (one, one.mean()):
        found = scores.estimate()
        assert found.value == pytest.approx(np.ones(len(scores.layers)), abs=1e-12)
        assert (found.se == 0).all()
        assert found.ci_low == pytest.approx(found.value, abs=1e-12)
        assert found.ci_high == pytest.approx(found.value, abs=1e-12)


def test_the_mean_is_over_layers_of_every_deletion():
    with pytest.warns(RepalignWarning, match="'l2'"):
        one = prepared("rsa", GROUPS, dead=((), ["l2"]))
    scores = matched_scores(one)
    mean, there = scores.mean(), [0, 1, 3]
    assert mean.layers == ("",)
    assert mean.scores == pytest.approx([np.mean(scores.scores[there])])
    assert mean.deleted[:, 0] == pytest.approx([np.mean(row[there]) for row in scores.deleted])
    assert mean.units == scores.units == tuple(f"video{k}" for k in range(6))
    assert (mean.n, mean.n_groups) == (24, 6)
    assert mean.notes[-1] == "the mean leaves out 1 of 4 layers, without a score: l2"
    assert 0 < mean.estimate().se[0] < scores.estimate().se[there].max()


def test_units_are_named():
    assert matched_scores(prepared("cka_linear")).units == tuple(map(str, range(24)))
    many = matched_scores(prepared("procrustes", n=60, layers=2), seed=3)
    assert many.units == tuple(f"block {k}" for k in range(50))
    assert many.seed == 3
    assert many.deleted.shape == (50, 2)
    assert many.n_groups is None


def test_what_is_missing_or_approximate_is_said():
    few = matched_scores(prepared("cka_linear", tuple("abcd" * 6)))
    assert few.deleted.shape == (4, 4)
    assert np.isfinite(few.scores).all()
    assert all(np.isnan(part).all() for part in (few.estimate().se, few.estimate().ci_low, few.mean().estimate().se))
    assert "no interval: 4 groups are too few; at least 5 are needed" in few.notes
    assert "the jackknife keeps the kernel's bandwidth of all stimuli" in matched_scores(prepared("cka_rbf")).notes
    assert "the jackknife keeps the ranks of the distances among all stimuli" in matched_scores(prepared("rsa")).notes
    assert "60 of 276 pairs within a group are left out" in few.notes


def test_what_can_not_be_left_out_is_said():
    n, odd = 20, np.zeros((20, 3))
    odd[4] = 1
    rng = np.random.default_rng(0)
    a = as_activations("a", {"odd": odd, "x": rng.normal(size=(n, 3))})
    b = as_activations("b", {"odd": odd + 0.0, "x": rng.normal(size=(n, 3))})
    scores = matched_scores(prepare(a, b, parse_metric("cka_linear:debiased=false")))
    assert np.isnan(scores.estimate().se).tolist() == [True, False]
    assert "no interval for 1 of 2 layers, undefined with some stimuli left out" in scores.notes
    knn = matched_scores(prepared("mutual_knn", ("a",) * 20 + tuple("bcde")))  # ten neighbours of four stimuli
    assert np.isfinite(knn.scores).all()
    assert np.isnan(knn.estimate().se).all()
    assert any(note.startswith("no interval: with some groups left out: mutual_knn") for note in knn.notes)


def test_other_layers_are_refused():
    a, b = conditions()
    short = replace(b, layers={name: b.layers[name] for name in ("l0", "l1", "l2")})
    with pytest.raises(InputError, match=r"clean has 4 layers and cat 3, 'l3' in one only.*record the same layers"):
        matched_scores(prepare(a, short, parse_metric("cka_linear")))
    turned = replace(b, layers=dict(reversed(b.layers.items())))
    with pytest.raises(InputError, match="in another order"):
        matched_scores(prepare(a, turned, parse_metric("cka_linear")))
    scores = matched_scores(prepare(a, b, parse_metric("cka_linear")))
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        scores.estimate(95.0)
    with pytest.raises(InputError, match="seed must be a whole number"):
        matched_scores(prepare(a, b, parse_metric("cka_linear")), seed=-1)
