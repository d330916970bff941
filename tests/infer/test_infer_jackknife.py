"""Deletions from row sums against plain refits, and the standard error against textbook formulas."""

import numpy as np
import pytest
import torch

from repalign.align import prepare
from repalign.infer.jackknife import degrees_of_freedom, deleted_scores, interval, others, refit, standard_error
from repalign.infer.resample import deletions
from repalign.metrics import parse_metric
from repalign.wrap import as_activations, as_rdms

EXACT = [
    "cka_linear", "cka_linear:debiased=false", "distance_correlation", "distance_correlation:debiased=false",
    "rsa:compare=pearson", "rsa:rdm=euclidean,compare=cosine", "rsa:rdm=sqeuclidean,compare=cosine_cov",
    "rsa:rdm=euclidean,compare=corr_cov", "cka_minibatch:batch=9", "procrustes", "mutual_knn:k=4",
]  # fmt: skip
UNEVEN = [f"g{k}" for k in [0] * 3 + [1] * 9 + [2] * 5 + [3] * 2 + [4] * 11 + [5] * 6]


def layers(seed=0, n=36):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4))
    make = lambda d: z @ rng.normal(size=(4, d)) + rng.normal(size=(n, d))  # noqa: E731
    return {f"a{k}": make(3 + k) for k in range(3)}, {f"b{k}": make(5) for k in range(2)}


def sides(spec, seed=0):
    a, b = layers(seed)
    return prepare(as_activations("a", a), as_activations("b", b), parse_metric(spec))


@pytest.mark.parametrize("spec", EXACT)
@pytest.mark.parametrize("groups", [None, UNEVEN])
def test_deleted_scores_are_those_of_the_features_that_stay(spec, groups):
    prepared = sides(spec)
    left_out = deletions(36, groups, 12 if "cka_mini" in spec or "procr" in spec or "knn" in spec else 99, 0)
    found = deleted_scores(prepared, left_out)
    a, b = layers()
    for rows, scores in list(zip(left_out, found, strict=True))[::5]:
        stay = others(36, rows).numpy()
        kept = ({k: x[stay] for k, x in side.items()} for side in (a, b))
        again = prepare(*(as_activations("s", side) for side in kept), parse_metric(spec))
        if spec.startswith("cka_mini"):  # its batches are a function of the positions
            assert scores == pytest.approx(refit(prepared, torch.tensor(stay)), abs=1e-12)
        else:
            assert scores == pytest.approx(again.alignment().scores, abs=1e-10)


@pytest.mark.parametrize("spec", ["cka_rbf", "cka_rbf:debiased=false", "rsa"])
@pytest.mark.parametrize("groups", [None, UNEVEN])
def test_fixed_bandwidth_and_ranks_come_close(spec, groups):
    prepared = sides(spec)
    left_out = deletions(36, groups, 99, 0)
    quick = deleted_scores(prepared, left_out)
    plain = np.stack([refit(prepared, others(36, rows)) for rows in left_out])
    if spec.startswith("cka"):  # the geometry is the kernel, so its bandwidth is kept by both
        assert quick == pytest.approx(plain, abs=1e-12)
    assert standard_error(quick) == pytest.approx(standard_error(plain), rel=0.1)


def test_missing_pairs_are_left_out_of_deletions_too():
    a, b = layers()
    whole = prepare(as_activations("a", a), as_activations("b", b), parse_metric("rsa"))
    rdm = whole.geometries[0].layers[0].numpy().copy()
    rdm[2, 7] = rdm[7, 2] = rdm[11, 3] = rdm[3, 11] = np.nan
    with pytest.warns(UserWarning, match="2 of 630 pairs of stimuli are missing"):
        prepared = prepare(as_rdms("a", {"brain": rdm}), as_activations("b", b), parse_metric("rsa:compare=pearson"))
    left_out = deletions(36, None, 99, 0)
    plain = np.stack([refit(prepared, others(36, rows)) for rows in left_out])
    assert deleted_scores(prepared, left_out) == pytest.approx(plain, abs=1e-12)


def test_a_layer_without_geometry_stays_nan():
    a, b = layers()
    with pytest.warns(UserWarning, match="'dead'"):
        prepared = prepare(
            as_activations("a", a | {"dead": np.ones((36, 2))}), as_activations("b", b), parse_metric("rsa")
        )
    found = deleted_scores(prepared, deletions(36, None, 99, 0))
    assert np.isnan(found[:, 3]).all()
    assert np.isfinite(found[:, :3]).all()


def test_standard_error_of_a_mean_is_the_textbooks():
    x = np.random.default_rng(0).normal(size=40)
    deleted = np.array([np.delete(x, i).mean() for i in range(40)])
    assert standard_error(deleted) == pytest.approx(x.std(ddof=1) / np.sqrt(40))
    low, high = interval(np.array(0.0), np.array(1.0), 39, 0.95)
    assert (low, high) == pytest.approx((-2.0227, 2.0227), abs=1e-4)


def test_standard_error_with_unequal_groups_is_right_on_average():
    """The mean of clustered data: the delete-group error against the spread over simulations."""
    rng, sizes = np.random.default_rng(1), [3, 9, 5, 2, 11, 6, 4, 8, 7, 5, 3, 10]
    label = np.repeat(range(12), sizes)
    means, errors = [], []
    for _ in range(600):
        x = rng.normal(size=12)[label] + rng.normal(size=len(label))
        deleted = np.array([x[label != g].mean() for g in range(12)])
        means.append(x.mean())
        errors.append(float(standard_error(deleted)))
    assert np.mean(np.square(errors)) == pytest.approx(np.var(means), rel=0.15)


def test_intervals_stop_at_the_bounds():
    low, high = interval(np.array([0.9]), np.array([0.2]), 9, 0.95, (-1.0, 1.0))
    assert high[0] == 1
    assert low[0] == pytest.approx(0.9 - 2.262157 * 0.2)


def test_degrees_of_freedom_follow_the_units_that_carry_the_variance():
    rng = np.random.default_rng(0)
    assert degrees_of_freedom(rng.normal(size=(5000, 1)))[0] == pytest.approx(4999, rel=0.1)
    alone = np.zeros((50, 1))
    alone[7] = 1.0
    assert degrees_of_freedom(alone)[0] == pytest.approx(2 * 50 * 1.0412 / 48.9588, rel=0.01)
    assert degrees_of_freedom(np.ones((7, 2))).tolist() == [6, 6]
    assert degrees_of_freedom(rng.standard_t(2, size=(200, 1)))[0] < 100
