"""Mutual k-NN: against scikit-learn's neighbours, and ties against every order of the stimuli."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from test_metrics_features import centred, undefined
from test_metrics_values import REGIMES, regime

from repalign.api import similarity
from repalign.errors import InputError
from repalign.metrics import make_metric


def brute_neighbours(distances, k):
    """Average the neighbour indicators over every order of the stimuli, ties broken by place."""
    n = len(distances)
    orders = list(permutations(range(n)))
    found = np.zeros((n, n))
    for order in orders:
        for i in range(n):
            found[i, sorted((j for j in order if j != i), key=lambda j: distances[i, j])[:k]] += 1
    return found / len(orders)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_mutual_knn_is_the_overlap_of_sklearns_neighbours(name, distance):
    x, y = regime(name)
    if name == "integer ties":  # ties at the k-th place are another test; a little noise parts them
        x, y = (v + 0.01 * np.random.default_rng(0).normal(size=v.shape) for v in (x, y))
    if name == "duplicate stimuli":  # so do they here, where k cuts a pair of them
        x, y = (v + 1e-6 * np.random.default_rng(0).normal(size=v.shape) for v in (x, y))
    for k in (1, 10):
        model = NearestNeighbors(n_neighbors=k, metric=distance, algorithm="brute")
        near = [model.fit(points(v, distance)).kneighbors(return_distance=False) for v in (x, y)]
        expected = np.mean([len({*a} & {*b}) / k for a, b in zip(*near, strict=True)])
        assert similarity(x, y, "mutual_knn", k=k, distance=distance) == pytest.approx(expected, rel=1e-12)


def points(x, distance):
    """Keep sklearn's digits: it computes distances as |a|² + |b|² − 2ab, so an offset of 1e6 costs it twelve."""
    return centred(x) if distance == "euclidean" else x


@pytest.mark.parametrize("k", [1, 2, 3])
def test_ties_are_shared_as_if_broken_at_random(k):
    rng = np.random.default_rng(k)
    x, y = rng.integers(0, 3, size=(2, 6, 2)).astype(float)
    distances = [np.abs(v[:, None] - v[None]) ** 2 @ np.ones(2) for v in (x, y)]
    weights = [brute_neighbours(d, k) for d in distances]
    metric = make_metric("mutual_knn", k=k, distance="euclidean")
    for v, w in zip((x, y), weights, strict=True):
        assert metric.embed(metric.geometry(torch.tensor(v / 3 + 0.1))).numpy() == pytest.approx(w, abs=1e-12)
    expected = (weights[0] * weights[1]).sum() / (6 * k)
    assert similarity(x, y, "mutual_knn", k=k, distance="euclidean") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ties_do_not_depend_on_the_order_of_stimuli(distance, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(1, 4, size=(2, 30, 3)) / 3
    order = rng.permutation(30)
    there = similarity(x, y, "mutual_knn", k=5, distance=distance)
    assert similarity(x[order], y[order], "mutual_knn", k=5, distance=distance) == pytest.approx(there, abs=1e-12)


def test_mutual_knn_of_any_two_layers_averages_to_chance_over_arrangements():
    """Ties included: over all relabellings of Y the mean is k / (n − 1) exactly."""
    x, y = np.random.default_rng(0).integers(0, 3, size=(2, 6, 2)).astype(float)
    metric = make_metric("mutual_knn", k=2, distance="euclidean")
    a, b = (metric.embed(metric.geometry(torch.tensor(v))) for v in (x, y))
    orders = [torch.tensor(p) for p in permutations(range(6))]
    assert np.mean([metric.score(a, metric.take(b, o)) for o in orders]) == pytest.approx(2 / 5, abs=1e-12)


def test_a_zero_pattern_has_no_cosine():
    x, y = regime("plain")
    x[7] = 0
    message = r"layer 'x': 1 stimuli \(row 7 first\) are zero in every feature.*use mutual_knn:distance=euclidean"
    with pytest.raises(InputError, match=message):
        similarity(x, y, "mutual_knn")
    assert 0 < similarity(x, y, "mutual_knn", distance="euclidean") < 1


def test_equally_distant_stimuli_have_no_neighbours():
    assert (
        undefined(np.eye(20), np.eye(20)[:, :4], "mutual_knn:distance=euclidean")["x"] == "all its distances are equal"
    )
