"""Linear predictivity: against scikit-learn's ridge on the same folds, its direction, its folds."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from test_metrics_features import centred
from test_metrics_values import REGIMES, regime

from repalign.api import similarity
from repalign.metrics.predictivity import splits
from repalign.metrics.ridge import STRENGTHS


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


def predictivity(x, y, scoring, folds=5, seed=0):
    x, y = centred(x), centred(y)
    order = np.random.default_rng(seed).permutation(len(x))
    held_out = [ridge_fold(x, y, np.setdiff1d(order, t), t) for t in (order[f::folds] for f in range(folds))]
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
    rows = torch.arange(len(x)).numpy()
    sse, sst = 0.0, 0.0
    for split in splits(len(x), 5, 0):
        train, test = rows[split.train], rows[split.test]
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
    found = list(splits(11, 3, 4))
    assert sorted(torch.cat([s.test for s in found]).tolist()) == list(range(11))
    assert [len(s.test) for s in found] == [4, 4, 3]
    assert all(sorted(s.train.tolist() + s.test.tolist()) == list(range(11)) for s in found)
    assert [s.test.tolist() for s in splits(11, 3, 4)] == [s.test.tolist() for s in found]
    assert [s.test.tolist() for s in splits(11, 3, 5)] != [s.test.tolist() for s in found]


def test_pearson_leaves_out_units_that_do_not_vary():
    x, y = regime("plain")
    plain = similarity(x, y, "linear_predictivity", scoring="pearson")
    dead = np.hstack([y, np.full((40, 30), 3.0)])
    assert similarity(x, dead, "linear_predictivity", scoring="pearson") == pytest.approx(plain, rel=1e-12)
    only_between_folds = np.zeros((40, 1))
    for number, split in enumerate(splits(40, 5, 0)):
        only_between_folds[split.test] = number
    assert np.isnan(similarity(x, only_between_folds, "linear_predictivity", scoring="pearson"))
