"""Linear predictivity: against scikit-learn's ridge on the same folds, its direction, its folds and groups."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import PredefinedSplit
from test_metrics_features import centred
from test_metrics_values import REGIMES, regime

from repalign.align import group_codes, prepare
from repalign.api import Plan, compare_arrays, infer_arrays, similarity
from repalign.errors import InputError, RepalignWarning
from repalign.infer.jackknife import deleted_scores, others, refit, standard_error
from repalign.infer.permute import permuted_scores
from repalign.infer.resample import given_permutations, members
from repalign.metrics import UndefinedError, parse_metric
from repalign.metrics.predictivity import deal, splits
from repalign.metrics.ridge import STRENGTHS
from repalign.wrap import as_activations


def ridge_fold(x, y, train, test):
    """Choose a strength by GCV with the hat matrix written out; predict with sklearn. Both about the training mean."""
    inner = x[train] - x[train].mean(0)
    m, gram = len(train), inner @ inner.T
    targets = y[train] - y[train].mean(0)
    best = (np.inf, 0.0)
    for alpha in np.array(STRENGTHS) * np.trace(gram) / m:
        rest = alpha * np.linalg.inv(gram + alpha * np.eye(m)) - 1 / m  # I − H − 11ᵀ/m
        best = min(best, (m * ((rest @ targets) ** 2).sum() / np.trace(rest) ** 2, alpha))
    model = Ridge(alpha=best[1], solver="svd").fit(x[train], y[train])
    return model.predict(x[test]).reshape(len(test), -1) - y[train].mean(0), y[test] - y[train].mean(0)


def shuffled_folds(n, folds=5, seed=0):
    order, numbers = np.random.default_rng(seed).permutation(n), np.empty(n, dtype=int)
    for fold in range(folds):
        numbers[order[fold::folds]] = fold
    return numbers


def predictivity(x, y, scoring, numbers=None):
    x, y = centred(x), centred(y)
    numbers = shuffled_folds(len(x)) if numbers is None else numbers
    held_out = [ridge_fold(x, y, train, test) for train, test in PredefinedSplit(numbers).split()]
    if scoring == "r2":
        return 1 - sum(((t - p) ** 2).sum() for p, t in held_out) / sum((t**2).sum() for _, t in held_out)
    r = [[np.corrcoef(p[:, u], t[:, u])[0, 1] if np.ptp(t[:, u]) else np.nan for u in range(y.shape[1])]
         for p, t in held_out]  # fmt: skip
    return np.median(np.nanmean(r, axis=0))


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("scoring", ["r2", "pearson"])
def test_linear_predictivity_is_sklearns_ridge(name, scoring):
    x, y = regime(name)
    y = y[:, :40]
    ours = similarity(x, y, "linear_predictivity", scoring=scoring)
    assert ours == pytest.approx(predictivity(x, y, scoring), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", ["plain", "heavy tails", "low rank"])
def test_generalised_cross_validation_chooses_about_as_well_as_leaving_one_out(name):
    x, y = regime(name)
    sse, sst = 0.0, 0.0
    for train, test in PredefinedSplit(shuffled_folds(len(x))).split():
        alphas = np.array(STRENGTHS) * ((x[train] - x[train].mean(0)) ** 2).sum() / len(train)
        model = RidgeCV(alphas).fit(x[train], y[train])
        sse += ((y[test] - model.predict(x[test])) ** 2).sum()
        sst += ((y[test] - y[train].mean(0)) ** 2).sum()
    assert similarity(x, y, "linear_predictivity") == pytest.approx(1 - sse / sst, abs=0.03)


def test_linear_predictivity_has_a_direction():
    """Two of three dimensions can be read out of all three, not the third out of the two."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    assert similarity(x, x[:, :2], "linear_predictivity") == pytest.approx(1, abs=1e-6)
    assert similarity(x[:, :2], x, "linear_predictivity") == pytest.approx(2 / 3, abs=0.1)


def test_linear_predictivity_of_independent_features_is_not_above_zero():
    rng = np.random.default_rng(1)
    for d in (10, 100):
        found = [similarity(rng.normal(size=(50, d)), rng.normal(size=(50, 8)), "linear_predictivity")
                 for _ in range(10)]  # fmt: skip
        assert -0.1 < np.mean(found) < 0.01


def test_folds_are_a_seeded_deal_of_places():
    found = deal(torch.arange(11), 3, 4)
    assert found.tolist() == shuffled_folds(11, 3, 4).tolist()
    assert found.bincount().tolist() == [4, 4, 3]
    assert deal(torch.arange(11), 3, 5).tolist() != found.tolist()
    for fold, split in enumerate(splits(found)):
        assert split.test.tolist() == [i for i in range(11) if found[i] == fold]
        assert sorted(split.train.tolist() + split.test.tolist()) == list(range(11))


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_split_and_folds_are_even(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 15, size=30)
    codes = torch.tensor(rng.permutation(np.repeat(np.arange(30), sizes)))
    found = deal(codes, 5, seed)
    assert all(len(found[codes == g].unique()) == 1 for g in range(30))
    assert np.ptp(found.bincount(minlength=5).numpy()) <= 3
    assert deal(codes, 5, seed + 1).tolist() != found.tolist()


def test_fewer_groups_than_folds_are_a_fold_each():
    codes = torch.tensor([0, 0, 1, 1, 1, 2])
    found = deal(codes, 5, 0)
    assert len(splits(found)) == 3
    assert sorted(found[codes == g][0].item() for g in range(3)) == [0, 1, 2]


def grouped(n_groups=9, d=4, seed=0):
    """Groups of 3 to 8 stimuli, most of the variance common to a group, y a noisy part of x; stimuli in no order."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.repeat(np.arange(n_groups), rng.integers(3, 9, size=n_groups)))
    x = rng.normal(size=(n_groups, d))[names] + 0.3 * rng.normal(size=(len(names), d))
    y = x[:, :2] + 0.7 * rng.normal(size=(n_groups, 2))[names] + 0.2 * rng.normal(size=(len(names), 2))
    return x, y, names


def folds_of(names):
    return deal(group_codes(tuple(map(str, names)), len(names)), 5, 0).numpy()


def prepared(x, y, names, spec="linear_predictivity"):
    a, b = as_activations("a", {"x": x}), as_activations("b", {"y": y})
    return prepare(replace(a, groups=None if names is None else tuple(map(str, names))), b, parse_metric(spec))


@pytest.mark.parametrize("scoring", ["r2", "pearson"])
def test_linear_predictivity_of_groups_is_sklearns_ridge_on_whole_groups(scoring):
    x, y, names = grouped()
    numbers = folds_of(names)
    assert all(not set(names[train]) & set(names[test]) for train, test in PredefinedSplit(numbers).split())
    ours = prepared(x, y, names, f"linear_predictivity:scoring={scoring}").alignment().scores[0, 0]
    assert ours == pytest.approx(predictivity(x, y, scoring, numbers), rel=1e-8)
    assert ours < similarity(x, y, "linear_predictivity", scoring=scoring) - 0.02


@pytest.mark.parametrize("scoring", ["r2", "pearson"])
def test_subsets_keep_the_folds_of_their_stimuli(scoring):
    x, y, names = grouped(15)
    everything = prepared(x, y, names, f"linear_predictivity:scoring={scoring}")
    numbers = folds_of(names)
    deleted = members(len(x), everything.groups)
    found = deleted_scores(everything, deleted)[:, 0, 0]
    for rows, value in zip(deleted, found, strict=True):
        left = others(len(x), rows).numpy()
        assert value == pytest.approx(predictivity(x[left], y[left], scoring, numbers[left]), rel=1e-8)
    order = torch.tensor(np.random.default_rng(1).permutation(len(x)))
    assert refit(everything, order)[0, 0] == pytest.approx(everything.alignment().scores[0, 0], rel=1e-9)


def test_a_subset_uses_the_folds_that_are_left():
    x, y, names = grouped(5)
    everything = prepared(x, y, names)
    numbers = folds_of(names)
    left = np.flatnonzero(names < 2)
    expected = predictivity(x[left], y[left], "r2", numbers[left])
    assert refit(everything, torch.tensor(left))[0, 0] == pytest.approx(expected, rel=1e-8)
    assert np.isnan(refit(everything, torch.tensor(np.flatnonzero(names == 1)))).all()
    metric, geometry = everything.metric, everything.geometries[0].layers[0]
    with pytest.raises(UndefinedError, match=r"stimuli are left in 1 folds, and 2 are needed to predict"):
        metric.embed(metric.take(geometry, torch.tensor(np.flatnonzero(names == 1))))


def test_pearson_does_not_score_folds_with_fewer_than_three_stimuli():
    x, y = (v[:15] for v in regime("plain"))
    metric = parse_metric("linear_predictivity:scoring=pearson")
    numbers = deal(torch.arange(15), 5, 0)
    kept = torch.arange(15)[torch.arange(15) != numbers.tolist().index(2)]
    embedded = metric.embed(metric.take(metric.geometry(torch.tensor(x)), kept))
    assert [len(s.test) for s in embedded.splits] == [3, 3, 3, 3]
    assert all(len(s.train) == 11 for s in embedded.splits)
    assert len(parse_metric("linear_predictivity").embed(metric.geometry(torch.tensor(x))).splits) == 5
    assert np.isfinite(similarity(x, y, "linear_predictivity", scoring="pearson"))


def test_permuted_stimuli_keep_the_folds_of_the_first_side():
    x, y, names = grouped(6)
    order = np.random.default_rng(2).permutation(len(x))
    for groups in (names, None):
        null = permuted_scores(prepared(x, y, groups), given_permutations(order[None], len(x)))[0, 0, 0]
        numbers = None if groups is None else folds_of(names)
        assert null == pytest.approx(predictivity(x, y[order], "r2", numbers), rel=1e-8)


def test_the_jackknife_knows_the_spread_of_the_score():
    """Sixty stimuli of one population, drawn again and again: its standard error is their deviation, about."""
    rng = np.random.default_rng(0)
    mixing, values, errors = rng.normal(size=(6, 4)), [], []
    for draw in range(60):
        x = rng.normal(size=(60, 6))
        found = prepared(x, x @ mixing + 2 * rng.normal(size=(60, 4)), None)
        values.append(found.alignment().scores[0, 0])
        if draw < 5:
            errors.append(standard_error(deleted_scores(found, members(60, None)))[0, 0])
    assert np.median(errors) == pytest.approx(np.std(values, ddof=1), rel=0.3)


def test_groups_are_named_in_the_interval_and_without_them_independent_groups_look_alike():
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(12), 6)
    x, y = (rng.normal(size=(12, 20))[names] + 0.2 * rng.normal(size=(72, 20)) for _ in range(2))
    alone = infer_arrays({"x": x}, {"y": y}, ["linear_predictivity"], plan=Plan(interval="none", n_permutations=0))
    assert alone["linear_predictivity"].alignment.scores[0, 0] > 0.8
    plan = Plan(n_permutations=19)
    whole = infer_arrays({"x": x}, {"y": y}, ["linear_predictivity"], groups=names, plan=plan)["linear_predictivity"]
    assert whole.alignment.scores[0, 0] < 0.1
    assert whole.n_groups == 12
    assert whole.ci_low[0, 0] < whole.alignment.scores[0, 0] < whole.ci_high[0, 0]


def test_too_few_groups():
    x, y = regime("plain")
    with pytest.raises(InputError, match=r"a, layer 'x': .* at least 2 groups are needed, not 1; give more groups, or"):
        prepared(x, y, np.zeros(len(x)))
    with pytest.raises(InputError, match=r"needs 3 stimuli in each fold, and of 13 folds .* one holds 2; use fewer"):
        prepared(x, y, np.arange(40) // 2, "linear_predictivity:scoring=pearson,folds=13")


def test_pearson_leaves_out_units_that_do_not_vary():
    x, y = regime("plain")
    plain = similarity(x, y, "linear_predictivity", scoring="pearson")
    dead = np.hstack([y, np.full((40, 30), 3.0)])
    assert similarity(x, dead, "linear_predictivity", scoring="pearson") == pytest.approx(plain, rel=1e-12)


def test_pearson_has_no_score_where_no_unit_varies_within_a_fold():
    x, y = regime("plain")
    steps = shuffled_folds(40)[:, None].astype(float)
    spec = "linear_predictivity:scoring=pearson"
    with pytest.warns(RepalignWarning) as seen:
        found = compare_arrays({"x": x, "z": x[:, :3]}, {"steps": steps, "y": y}, [spec])[spec]
    assert np.isnan(found.scores).tolist() == [[True, False], [True, False]]
    (warning,) = seen
    assert str(warning.message).startswith("2 layer pairs of a and b have no score (NaN), 'x' with 'steps' first: no f")
    assert set(found.undefined) == {"x × steps", "z × steps"}
    assert "varies within a fold" in found.undefined["x × steps"]
