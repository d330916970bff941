"""Crossnobis distances: references, what noise does and does not do to them, and RSA of repeated measurements."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import squareform
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf
from test_metrics_values import REGIMES, regime

from repalign.align import align
from repalign.api import similarity
from repalign.errors import InputError, RepalignWarning
from repalign.metrics import make_metric
from repalign.metrics.crossnobis import crossnobis
from repalign.metrics.shrinkage import ShrunkCovariance, ledoit_wolf
from repalign.types import Activations

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import cov_from_residuals
    from rsatoolbox.rdm import calc_rdm, compare


def repeats(name, side=0, count=3):
    """Measure a side of a regime repeatedly, with noise that is correlated between features."""
    x = regime(name)[side][:60, :300]
    rng = np.random.default_rng(len(name) + side)
    d = x.shape[1]
    mixing = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / d**0.5
    return x + 0.6 * x.std(0) * rng.normal(size=(count, *x.shape)) @ mixing


def residuals_of(x):
    """Take the means of stimuli and of repeats out, `(r n, d)`; gives their degrees of freedom too."""
    left = x - x.mean(0) - x.mean(1, keepdims=True) + x.mean((0, 1))
    return left.reshape(-1, x.shape[2]), (len(x) - 1) * (x.shape[1] - 1)


def by_rsatoolbox(x, precision):
    """Let rsatoolbox compute crossnobis distances; it does not centre, so offsets are taken out first, exactly."""
    r, n, d = x.shape
    x = x - np.rint(x.mean((0, 1)))
    descriptors = {"stimulus": np.tile(np.arange(n), r), "repeat": np.repeat(np.arange(r), n)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return calc_rdm(
            Dataset(x.reshape(-1, d), obs_descriptors=descriptors), method="crossnobis", descriptor="stimulus",
            cv_descriptor="repeat", noise=precision,
        )  # fmt: skip


def side(x, name="brain", layer="V1"):
    ids = tuple(map(str, range(x.shape[1])))
    return Activations(name, "s", ids, {layer: torch.tensor(x)}, {layer: 0.0}, geometry="repeats")


def rsa(x, y, **options):
    return float(align(side(x), side(y), make_metric("rsa", rdm="crossnobis", **options)).scores[0, 0])


@pytest.mark.parametrize("name", REGIMES)
def test_shrunk_covariance_is_sklearns_and_rsatoolboxs(name):
    left, degrees = residuals_of(repeats(name))
    ours = ledoit_wolf(torch.tensor(left), degrees)
    covariance, shrinkage = sklearn_ledoit_wolf(left, assume_centered=True)
    assert ours.shrinkage == pytest.approx(shrinkage, rel=1e-8)
    size = np.abs(covariance).max()
    assert np.abs(ours.matrix().numpy() - covariance * len(left) / degrees).max() <= 1e-9 * size
    if left.shape[1] < 100:  # rsatoolbox loops over d × d
        theirs = cov_from_residuals(left, dof=degrees, method="shrinkage_eye")
        assert np.abs(ours.matrix().numpy() - theirs).max() <= 1e-9 * size


@pytest.mark.parametrize("name", REGIMES)
def test_crossnobis_is_rsatoolboxs(name):
    x = repeats(name)
    left, degrees = residuals_of(x)
    precision = np.linalg.inv(sklearn_ledoit_wolf(left, assume_centered=True)[0]) * degrees / len(left)
    theirs = by_rsatoolbox(x, precision)
    scale = np.abs(theirs.get_vectors()).max()
    assert np.abs(crossnobis(torch.tensor(x)).numpy() - squareform(theirs.get_vectors()[0])).max() <= 1e-8 * scale


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize(("ours", "theirs"), [("spearman", "spearman"), ("cosine", "cosine"), ("cosine_cov",) * 2])
def test_rsa_of_crossnobis_distances_is_rsatoolboxs(name, ours, theirs):
    both = []
    for k in (0, 1):
        x = repeats(name, k)
        left, degrees = residuals_of(x)
        precision = np.linalg.inv(sklearn_ledoit_wolf(left, assume_centered=True)[0]) * degrees / len(left)
        both.append(by_rsatoolbox(x, precision))
    expected = float(compare(*both, method=theirs)[0, 0])
    assert rsa(repeats(name, 0), repeats(name, 1), compare=ours) == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_crossnobis_is_its_definition():
    """All pairs of different repeats, written out, under a given precision; leaving one repeat out is the same."""
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    root = np.random.default_rng(1).normal(size=(3, 3))
    precision = root @ root.T
    ours = crossnobis(torch.tensor(x), torch.tensor(precision)).numpy()
    for i in range(5):
        for j in range(5):
            delta = x[:, i] - x[:, j]
            pairs = [delta[k] @ precision @ delta[m] for k in range(4) for m in range(4) if k != m]
            assert ours[i, j] == pytest.approx(np.mean(pairs) / 3, abs=1e-13)
            left_out = [delta[k] @ precision @ np.delete(delta, k, 0).mean(0) for k in range(4)]
            assert ours[i, j] == pytest.approx(np.mean(left_out) / 3, abs=1e-13)


def test_more_features_than_residuals_needs_no_square_matrix_of_features():
    """Both ways of inverting give the same; the second is Woodbury's."""
    rng = np.random.default_rng(0)
    left = torch.tensor(rng.normal(size=(30, 80)) * np.linspace(0.1, 3, 80))
    x = torch.tensor(rng.normal(size=(7, 80)))
    noise = ledoit_wolf(left, 20)
    expected = x @ torch.linalg.inv(noise.matrix()) @ x.T
    assert torch.allclose(noise.inverse_products(x), expected, rtol=1e-10)


def test_noise_adds_nothing_on_average():
    """Patterns 3 apart in one of ten features, noise of variance 4: squared distance over d is 9/4/10, or 0."""
    rng = np.random.default_rng(0)
    signal = np.zeros((20, 10))
    signal[10:, 0] = 3.0
    precision = torch.eye(10, dtype=torch.float64) / 4
    known, estimated, between, naive = [], [], [], []
    for _ in range(60):
        x = torch.tensor(signal + 2 * rng.normal(size=(3, 20, 10)))
        distances = crossnobis(x, precision).numpy()
        known.append(distances[:10, :10][np.triu_indices(10, 1)].mean())
        estimated.append(crossnobis(x).numpy()[:10, :10][np.triu_indices(10, 1)].mean())
        between.append(distances[:10, 10:].mean())
        naive.append(float((x.mean(0)[0] - x.mean(0)[1]).square().mean() / 4))
    for values, truth in ((known, 0), (estimated, 0), (between, 9 / 40)):
        error = np.std(values) / len(values) ** 0.5
        assert abs(np.mean(values) - truth) < 4 * error < 0.1
    assert min(known) < 0
    assert np.mean(naive) == pytest.approx(2 / 3, rel=0.2)  # without cross-validation, 2/r from noise alone


def test_a_given_precision_keeps_the_unit_of_the_features():
    x = torch.tensor(repeats("plain"))
    precision = torch.eye(x.shape[2], dtype=torch.float64)
    assert torch.allclose(crossnobis(x * 10, precision), crossnobis(x, precision) * 100)
    assert torch.allclose(crossnobis(x * 10), crossnobis(x))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_invariances(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6, 4)) + rng.normal(size=(3, 6, 4))
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    expected = crossnobis(torch.tensor(x)).numpy()
    order = rng.permutation(6)
    for changed in (x * 37.5, x @ rotation, x[::-1].copy(), x + 5 * rng.normal(size=(3, 1, 4))):
        assert np.allclose(crossnobis(torch.tensor(changed)).numpy(), expected, atol=1e-9)
    assert np.allclose(crossnobis(torch.tensor(x[:, order])).numpy(), expected[order][:, order], atol=1e-9)
    assert np.array_equal(expected, expected.T)


@pytest.mark.parametrize("change", [lambda x: x * 1e150, lambda x: x * 1e-150, lambda x: x + 1e6])
def test_scale_and_offset_change_nothing(change):
    x = repeats("plain")
    expected = crossnobis(torch.tensor(x))
    assert float((crossnobis(torch.tensor(change(x))) - expected).abs().max() / expected.abs().max()) < 1e-8


def test_a_feature_without_noise_is_weighed_and_nothing_is_divided_by_zero():
    x = repeats("plain")
    x[:, :, 2] = x[0, :, 2]
    left, degrees = residuals_of(x)
    assert np.abs(left[:, 2]).max() < 1e-15
    covariance = sklearn_ledoit_wolf(left, assume_centered=True)[0] * len(left) / degrees
    distances = crossnobis(torch.tensor(x)).numpy()
    assert squareform(distances, checks=False) == pytest.approx(
        by_rsatoolbox(x, np.linalg.inv(covariance)).get_vectors()[0], rel=1e-8, abs=1e-10
    )


def test_one_feature_has_a_variance_and_no_shrinkage_to_speak_of():
    x = repeats("plain")[:, :, :1]
    left, degrees = residuals_of(x)
    precision = np.array([[degrees / (left**2).sum()]])
    expected = crossnobis(torch.tensor(x), torch.tensor(precision))
    assert torch.allclose(crossnobis(torch.tensor(x)), expected, rtol=1e-12)


def test_other_distances_average_the_repeats():
    x, y = repeats("plain", 0), repeats("plain", 1)
    for options in ({"rdm": "euclidean"}, {"rdm": "correlation", "compare": "kendall_a"}):
        ours = float(align(side(x), side(y), make_metric("rsa", **options)).scores[0, 0])
        assert ours == similarity(x.mean(0), y.mean(0), "rsa", **options)


def test_crossnobis_metrics_say_what_they_are():
    metric = make_metric("rsa", rdm="crossnobis", compare="cosine")
    assert metric.bounds == (-1.0, 1.0)
    assert not metric.unbiased
    assert metric.label == "RSA, cosine of crossnobis distances"
    x = repeats("plain")
    for compare_by in ("spearman", "pearson", "cosine", "kendall_b", "corr_cov", "cosine_cov"):
        assert rsa(x, x, compare=compare_by) == pytest.approx(1, abs=1e-12)


def test_crossnobis_distances_can_be_given_as_an_rdm():
    x, y = repeats("plain", 0), regime("plain")[1]
    distances = crossnobis(torch.tensor(x))
    ids = tuple(map(str, range(40)))
    brain = Activations("brain", "s", ids, {"V1": distances}, {"V1": 0.0}, geometry="rdm")
    net = Activations("net", "s", ids, {"l": torch.tensor(y)}, {"l": 0.0})
    score = float(align(brain, net, make_metric("rsa", rdm="sqeuclidean", compare="cosine_cov")).scores[0, 0])
    assert 0.3 < score < 1


def test_plain_features_are_refused():
    x, y = regime("plain")
    with pytest.raises(InputError, match=r"crossnobis distances need repeated measurements .* holds one, \(40, 12\)"):
        similarity(x, y, "rsa", rdm="crossnobis")


def test_one_repeat_is_refused_by_layer():
    x = repeats("plain")[:1]
    with pytest.raises(InputError, match=r"layer 'V1': crossnobis needs at least 2 repeats .* not 1 of 40"):
        rsa(x, x)


def test_identical_repeats_have_no_noise():
    x = np.stack([repeats("plain")[0]] * 3)
    with pytest.raises(InputError, match="the 3 repeats are identical, so there is no noise to estimate; use rdm=sq"):
        crossnobis(torch.tensor(x))


def test_constant_features_give_nan_and_a_warning():
    x = repeats("plain")
    dead = np.broadcast_to(np.array([0.7, 0.1, 3.0])[:, None, None], (3, 40, 5)).copy()
    with pytest.warns(RepalignWarning, match="'V1' of brain has no score .* the same for every stimulus"):
        assert np.isnan(rsa(dead, x))


def test_noise_in_one_direction_can_not_be_inverted():
    direction = np.array([1.0, -1.0, 2.0])
    x = np.random.default_rng(0).normal(size=(6, 3))
    x = np.stack([x + direction * s for s in (np.resize([1, -1], (6, 1)), -np.resize([1, -1], (6, 1)))])
    with pytest.raises(InputError, match="the noise covariance of 3 features from 12 residuals can't be inverted"):
        crossnobis(torch.tensor(x))
    wide = ShrunkCovariance(torch.ones(2, 5, dtype=torch.float64), 0.0, 1.0, 1.0)
    with pytest.raises(InputError, match="5 features from 2 residuals can't be inverted"):
        wide.inverse_products(torch.ones(1, 5, dtype=torch.float64))


def test_precision_of_the_wrong_kind():
    x = torch.tensor(repeats("plain"))
    with pytest.raises(InputError, match=r"precision has shape \(3, 3\), but 12 features need \(12, 12\)"):
        crossnobis(x, torch.eye(3))
    skewed = torch.eye(12)
    skewed[0, 1] = 0.5
    with pytest.raises(InputError, match=r"precision differs from its transpose by 0\.5"):
        crossnobis(x, skewed)
