"""Minibatch CKA: its definition, its batches, and what becomes of them under subsets and new orders."""

import numpy as np
import pytest
import reference
import torch
from ckatorch.hsic import hsic1
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics_values import REGIMES, regime

from repalign.align import align
from repalign.api import similarity
from repalign.errors import RepalignWarning
from repalign.metrics import make_metric
from repalign.metrics.minibatch import batch_numbers
from repalign.types import Activations


def minibatch_cka(x, y, numbers, hsic):
    """Nguyen, Raghu & Kornblith 2021, from Grams of features centred over all stimuli."""
    k, m = reference.linear_kernel(x), reference.linear_kernel(y)
    sums = np.zeros(3)
    for b in set(numbers.tolist()):
        rows = np.ix_(numbers == b, numbers == b)
        sums += [hsic(k[rows], m[rows]), hsic(k[rows], k[rows]), hsic(m[rows], m[rows])]
    return sums[0] / np.sqrt(sums[1] * sums[2])


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize(("batch", "seed"), [(8, 0), (9, 4)])
def test_minibatch_cka_is_its_definition(name, batch, seed):
    x, y = regime(name)
    numbers = batch_numbers(len(x), batch, seed).numpy()
    ours = similarity(x, y, "cka_minibatch", batch=batch, seed=seed)
    # near zero the rounding of the sums is what is left of ten digits
    assert ours == pytest.approx(minibatch_cka(x, y, numbers, reference.hsic_unbiased), rel=1e-8, abs=1e-11)

    def theirs(k, m):
        return float(hsic1(torch.tensor(k)[None], torch.tensor(m)[None]))

    assert ours == pytest.approx(minibatch_cka(x, y, numbers, theirs), rel=1e-8, abs=1e-11)


@pytest.mark.parametrize(
    ("n", "batch", "sizes"),
    [(24, 256, [24]), (16, 8, [8, 8]), (19, 8, [8, 11]), (20, 8, [8, 8, 4]), (11, 8, [11]), (8, 8, [8]), (4, 8, [4])],
)
def test_batches_and_what_is_left_over(n, batch, sizes):
    numbers = batch_numbers(n, batch, 0)
    assert numbers.bincount().tolist() == sizes
    assert torch.equal(numbers, batch_numbers(n, batch, 0))
    if len(sizes) > 1:
        assert not torch.equal(numbers, batch_numbers(n, batch, 1))


def test_one_batch_is_debiased_linear_cka():
    x, y = regime("plain")
    assert similarity(x, y, "cka_minibatch") == pytest.approx(similarity(x, y, "cka_linear"), rel=1e-12)
    assert similarity(x, y, "cka_minibatch", batch=8) != pytest.approx(similarity(x, y, "cka_linear"), rel=1e-3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_minibatches_are_symmetric_bounded_and_invariant(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(21, 6))
    y = x[:, :2] + rng.normal(size=(21, 2))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    value = similarity(x, y, "cka_minibatch", batch=5)
    assert -1 - 1e-12 <= value <= 1 + 1e-12
    assert similarity(y, x, "cka_minibatch", batch=5) == pytest.approx(value, abs=1e-12)
    assert similarity(x, x, "cka_minibatch", batch=5) == pytest.approx(1, abs=1e-12)
    assert similarity(x @ rotation * 7 + 3, y, "cka_minibatch", batch=5) == pytest.approx(value, abs=1e-10)


def test_minibatch_numerator_is_unbiased():
    """Over the partitions the mean of HSIC₁ of the batches is HSIC₁ of all."""
    x, y = regime("plain")
    k, m = reference.linear_kernel(x), reference.linear_kernel(y)
    values = []
    for seed in range(400):
        numbers = batch_numbers(40, 5, seed).numpy()
        blocks = [np.ix_(numbers == b, numbers == b) for b in range(8)]
        values.append(np.mean([reference.hsic_unbiased(k[rows], m[rows]) for rows in blocks]))
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values) - reference.hsic_unbiased(k, m)) < 4 * error
    assert error < 0.02 * np.mean(values)


def test_a_subset_keeps_its_batches_and_a_new_order_does_not():
    x, y = regime("plain")
    metric = make_metric("cka_minibatch", batch=8, seed=3)
    geometry = metric.geometry(torch.tensor(x))
    numbers = batch_numbers(40, 8, 3)
    kept = torch.arange(1, 40)
    left = minibatch_cka(x[1:], y[1:], numbers[1:].numpy(), reference.hsic_unbiased)
    a, b = (metric.embed(metric.take(metric.geometry(torch.tensor(v)), kept)) for v in (x, y))
    assert metric.score(a, b) == pytest.approx(left, rel=1e-10)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    moved = metric.take(geometry, order)
    assert torch.equal(moved.diagonal(), numbers.double())
    assert torch.allclose(metric.embed(moved), metric.embed(metric.geometry(torch.tensor(x)[order])))


def test_minibatches_without_stimuli_or_variance():
    metric = make_metric("cka_minibatch", batch=4)
    x = torch.zeros(8, 2, dtype=torch.float64)
    x[batch_numbers(8, 4, 0) == 0] = 1.0
    ids = tuple(map(str, range(8)))
    side = Activations("net", "s", ids, {"flat": x}, {"flat": 0.0})
    with pytest.warns(RepalignWarning, match="'flat' of net has no score .*zero in every batch"):
        assert np.isnan(align(side, side, metric).scores).all()
    with pytest.raises(Exception, match="no batch holds 4 stimuli"):
        metric.embed(metric.take(metric.geometry(torch.tensor(regime("plain")[0])), torch.tensor([0, 1, 2])))
