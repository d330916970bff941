"""Every registered metric, over its options: symmetry, bounds, invariances, degenerate input, messages."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repalign.api import compare_arrays, similarity
from repalign.errors import InputError, RepalignWarning
from repalign.metrics import METRICS, make_metric, parse_metric
from repalign.metrics.predictivity import deal

VARIANTS = [
    "cka_linear", "cka_linear:debiased=false", "cka_rbf", "cka_rbf:debiased=false", "cka_rbf:median=offdiag",
    "cka_rbf:bandwidth=0.4",
    *(f"rsa:rdm={d},compare={c}" for d in ("correlation", "euclidean", "sqeuclidean", "cosine")
      for c in ("spearman", "pearson", "cosine", "kendall_a", "kendall_b", "corr_cov", "cosine_cov")),
    "distance_correlation", "distance_correlation:debiased=false", "cka_minibatch", "cka_minibatch:batch=64,seed=1",
    "procrustes", "cca", "svcca", "svcca:variance=0.8", "linear_predictivity", "linear_predictivity:scoring=pearson",
    "mutual_knn", "mutual_knn:k=3,distance=euclidean",
]  # fmt: skip


def score(spec, x, y):
    return float(next(iter(compare_arrays({"x": x}, {"y": y}, [spec]).values())).scores[0, 0])


def features(seed, n=24, d=7):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, x @ rng.normal(size=(d, 5)) + rng.normal(size=(n, 5))


def test_every_metric_has_a_variant_here():
    assert {v.split(":")[0] for v in VARIANTS} == set(METRICS)


@pytest.mark.parametrize("spec", VARIANTS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_symmetric_bounded_and_one_with_itself(spec, seed):
    metric = parse_metric(spec)
    x, y = features(seed)
    low, high = metric.bounds
    there, back = score(spec, x, y), score(spec, y, x)
    assert low - 1e-12 <= there <= high + 1e-12
    if metric.symmetric:
        assert there == pytest.approx(back, abs=1e-12)
    else:
        assert there != pytest.approx(back, abs=1e-3)
    # ridge regression shrinks even a prediction of itself
    assert score(spec, x, x) == pytest.approx(1, abs=1e-12 if metric.symmetric else 1e-3)


@pytest.mark.parametrize("spec", VARIANTS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_invariances_it_declares(spec, seed):
    rng = np.random.default_rng(seed)
    x, y = features(seed)
    rotation = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    changed = {
        "shift": x + rng.normal(size=x.shape[1]) * 5,
        "scale": x * 37.5,
        "orthogonal": x @ rotation,
        "affine": x * rng.uniform(0.1, 3, size=x.shape[1]) @ rotation * rng.uniform(0.1, 3, size=x.shape[1]),
        "row_affine": x * rng.uniform(0.5, 2, size=(len(x), 1)) + rng.normal(size=(len(x), 1)),
    }
    expected = score(spec, x, y)
    assert parse_metric(spec).invariances <= set(changed)
    for name in parse_metric(spec).invariances:
        assert score(spec, changed[name], y) == pytest.approx(expected, abs=1e-9), name


@pytest.mark.parametrize("spec", VARIANTS)
def test_changes_it_does_not_declare_do_change_it(spec):
    if "affine" in parse_metric(spec).invariances:
        pytest.skip("nothing linear changes it")
    x, y = features(3)
    stretched = x * np.linspace(0.2, 3, x.shape[1])
    assert abs(score(spec, stretched, y) - score(spec, x, y)) > 1e-4


@pytest.mark.parametrize("spec", VARIANTS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_joint_permutation_of_stimuli_changes_nothing(spec, seed):
    x, y = features(seed)
    order = np.random.default_rng(seed).permutation(len(x))
    if parse_metric(spec).name == "linear_predictivity":  # folds go by place: only the order within them is free
        order = np.arange(len(x))
        folds = deal(torch.arange(len(x)), 5, 0).numpy()
        for fold in np.unique(folds):
            order[folds == fold] = np.random.default_rng(seed).permutation(np.flatnonzero(folds == fold))
    assert score(spec, x[order], y[order]) == pytest.approx(score(spec, x, y), abs=1e-11)


@pytest.mark.parametrize("spec", VARIANTS)
def test_constant_features_give_nan_and_one_warning_naming_the_layer(spec):
    x, _ = features(0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = next(iter(compare_arrays({"dead": np.full((24, 3), 0.7)}, {"live": x}, [spec]).values()))
    assert np.isnan(result.scores).all()
    assert [str(w.message).count("'dead'") for w in seen if issubclass(w.category, RepalignWarning)] == [1]
    assert "same for every stimulus" in result.undefined["dead"]


def test_a_dead_layer_leaves_the_others_alone():
    x, y = features(0)
    with pytest.warns(RepalignWarning, match="'dead'"):
        scores = compare_arrays({"dead": np.ones((24, 3)), "x": x}, {"y": y})["cka_linear"].scores
    assert np.isnan(scores[0, 0])
    assert scores[1, 0] == similarity(x, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_raises_naming_layer_and_count(bad):
    x, y = features(0)
    x[2, 3] = x[2, 4] = x[5, 0] = bad
    with pytest.raises(InputError, match=r"layer 'x' holds 3 NaN or infinite values in 2 of 24 stimuli"):
        similarity(x, y)


def test_unequal_counts_say_both():
    x, y = features(0)
    with pytest.raises(InputError, match="24 stimuli and y 20"):
        similarity(x, y[:20])


@pytest.mark.parametrize(("spec", "n"), [("cka_linear", 3), ("cka_rbf", 3), ("rsa", 2)])
def test_too_few_stimuli(spec, n):
    x, y = features(0)
    with pytest.raises(InputError, match=f"needs at least {n + 1} stimuli, not {n}"):
        similarity(x[:n], y[:n], spec)


def test_names_and_options_with_typos():
    with pytest.raises(InputError, match="unknown metric 'cka_liner'; did you mean cka_linear"):
        make_metric("cka_liner")
    with pytest.raises(InputError, match="unknown option of rsa 'rdms'; did you mean rdm"):
        parse_metric("rsa:rdms=cosine")
    with pytest.raises(InputError, match=r"rdm must be one of correlation, euclidean, .*, crossnobis, not 'cos'"):
        parse_metric("rsa:rdm=cos")
    with pytest.raises(InputError, match="debiased takes true or false, not 'maybe'"):
        parse_metric("cka_linear:debiased=maybe")
    with pytest.raises(InputError, match="write rsa:key=value"):
        parse_metric("rsa:spearman")
    with pytest.raises(InputError, match="bandwidth must be a positive number"):
        parse_metric("cka_rbf:bandwidth=0")
    with pytest.raises(InputError, match="median must be one of all, offdiag"):
        parse_metric("cka_rbf:median=mean")


def test_wrong_shapes_and_kinds():
    with pytest.raises(InputError, match="'x' has shape"):
        similarity(np.zeros(5), np.zeros((5, 2)))
    with pytest.raises(InputError, match="real numbers"):
        similarity(np.zeros((5, 2), dtype=complex), np.zeros((5, 2)))


def test_constant_pattern_has_no_correlation_distance():
    x, y = features(0)
    x[4] = 2.5
    with pytest.raises(InputError, match=r"layer 'x': 1 stimuli \(row 4 first\) are the same in every feature"):
        similarity(x, y, "rsa")


def test_spec_round_trip():
    for spec in VARIANTS:
        metric = parse_metric(spec)
        assert parse_metric(metric.spec) == metric
        assert metric.label
        assert metric.reference
        assert metric.chance


@pytest.mark.parametrize("spec", VARIANTS)
def test_float32_tensors_and_nested_lists_are_taken(spec):
    x, y = features(1)
    assert score(spec, torch.tensor(x).float(), y.tolist()) == pytest.approx(score(spec, x, y), abs=1e-4)


@pytest.mark.parametrize("spec", VARIANTS)
def test_scale_offset_and_precision_change_nothing(spec):
    """Scale 1e±150 overflows or vanishes when squared; an offset of 1e6 hides float64 digits, 1e3 float32's."""
    x, y = features(4)
    expected = score(spec, x, y)
    assert score(spec, x * 1e150, y) == pytest.approx(expected, abs=1e-12)
    assert score(spec, x * 1e-150, y) == pytest.approx(expected, abs=1e-12)
    if parse_metric(spec).invariances & {"shift", "row_affine"}:
        assert score(spec, x + 1e6, y) == pytest.approx(expected, abs=1e-9)
        single = (x + 1e3).astype(np.float32)
        assert score(spec, single, y) == pytest.approx(score(spec, single.astype(float) - 1e3, y), abs=1e-9)
