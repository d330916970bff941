import numpy as np
import pytest
import torch

from repalign.metrics import LinearCKA
from repalign.pooling import Pool, parse_pool, reducer, width
from repalign.projection import CountSketch, gram_error
from repalign.types import Layer

CKA = LinearCKA()


def matrix(d, k, seed=0):
    """The projection as the d × k matrix that it never makes."""
    return CountSketch(d, k, seed)(torch.eye(d))


def cka(x, y):
    a, b = (CKA.embed(CKA.geometry(z)) for z in (x, y))
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize(("d", "k"), [(20, 7), (21, 7), (9, 8), (64, 1)])
def test_every_feature_goes_to_one_place_with_a_sign(d, k):
    s = matrix(d, k)
    assert s.shape == (d, k)
    assert torch.equal(s.abs().sum(1), torch.ones(d))
    assert set(s.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_features_of_one_block_never_meet_and_others_meet_once_in_k():
    d, k = 24, 8
    places = torch.stack([matrix(d, k, seed).abs().argmax(1) for seed in range(400)])
    together = (places[:, :, None] == places[:, None, :]).double().mean(0)
    block = torch.arange(d) // k
    same = block[:, None] == block[None, :]
    assert (together[same & ~torch.eye(d, dtype=torch.bool)] == 0).all()
    assert torch.allclose(together[~same], torch.tensor(1 / k, dtype=torch.float64), atol=5 * (1 / k / 400) ** 0.5)


def test_inner_products_are_right_on_average_with_the_variance_that_is_stated():
    torch.manual_seed(0)
    x = torch.randn(2, 300)
    x[1] += 0.5 * x[0]
    k = 16
    found = np.array([float(torch.linalg.vecdot(*CountSketch(300, k, seed)(x))) for seed in range(500)])
    true = float(x[0] @ x[1])
    bound = float(x[0] @ x[0] * (x[1] @ x[1]) + true**2) / k
    assert abs(found.mean() - true) < 4 * (bound / len(found)) ** 0.5
    assert 0.6 * bound < found.var() <= 1.25 * bound


def test_the_error_of_the_gram_halves_when_k_is_fourfold():
    torch.manual_seed(1)
    x = torch.randn(20, 5000) + 3
    errors = [np.mean([gram_error(x, CountSketch(5000, k, seed)(x)) for seed in range(20)]) for k in (64, 256, 1024)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)


def test_the_error_of_the_gram_by_its_definition_at_any_offset_and_scale():
    torch.manual_seed(2)
    x, y = torch.randn(8, 40, dtype=torch.float64), torch.randn(8, 10, dtype=torch.float64)
    grams = [(z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y)]
    expected = float((grams[1] - grams[0]).norm() / grams[0].norm())
    assert gram_error(x, y) == pytest.approx(expected, rel=1e-12)
    assert gram_error(1e-200 * x, 1e-200 * y) == pytest.approx(expected, rel=1e-12)
    assert gram_error(x + 1e4, y - 1e4) == pytest.approx(expected, rel=1e-8)
    assert gram_error(x, x) == 0
    assert np.isnan(gram_error(torch.ones(4, 3), torch.ones(4, 3)))


def test_debiased_cka_stays_near_the_exact_one_and_shrinks_as_stated():
    torch.manual_seed(3)
    shared = torch.randn(60, 12)
    x, y = (shared @ torch.randn(12, 6000) + 0.3 * torch.randn(60, 6000) + 2 for _ in range(2))
    exact = cka(x, y)
    assert cka(CountSketch(6000, 1024)(x), CountSketch(6000, 1024, 1)(y)) == pytest.approx(exact, abs=0.02)
    eigenvalues = torch.linalg.svdvals((x - x.mean(0)).double()) ** 2
    p, k = float(eigenvalues.sum() ** 2 / eigenvalues.square().sum()), 64
    found = np.mean([cka(CountSketch(6000, k, s)(x), CountSketch(6000, k, s + 500)(y)) for s in range(20)])
    assert found < exact
    assert found == pytest.approx(exact / (1 + p / k), abs=0.03)


def test_rows_do_not_depend_on_the_batch_and_half_precision_is_added_up_in_float32():
    torch.manual_seed(4)
    x = torch.randn(6, 5000)
    whole = CountSketch(5000, 64)(x)
    assert torch.equal(whole[2:3], CountSketch(5000, 64)(x[2:3]))
    half = CountSketch(5000, 64)(x.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, CountSketch(5000, 64)(x.bfloat16().float()))


def test_a_seed_gives_one_projection_for_good():
    """The literal is what makes it the same in every process and version."""
    assert matrix(5, 3, 7).tolist() == [[0, -1, 0], [0, 0, -1], [1, 0, 0], [1, 0, 0], [0, -1, 0]]
    assert not torch.equal(matrix(50, 8, 0), matrix(50, 8, 1))


def test_short_rows_are_copied():
    x = torch.randn(3, 8)
    rows = CountSketch(8, 8)(x)
    assert torch.equal(rows, x)
    assert rows.data_ptr() != x.data_ptr()


def test_flatten_k_projects_the_positions_and_leaves_prefix_tokens_out():
    tokens = Layer("l", "Kind", (26, 3), "tokens", 2, (4, 6), 0, 0.5, "block")
    maps = Layer("l", "Kind", (3, 4, 6), "nchw", 0, (4, 6), 0, 0.5, "block")
    pool = parse_pool("flatten:16")
    assert (str(pool), pool) == ("flatten:16", Pool("flatten", features=16))
    x = torch.randn(2, 3, 4, 6)
    y = torch.cat([torch.full((2, 2, 3), 99.0), x.flatten(2).transpose(1, 2)], dim=1)
    rows = reducer(maps, pool)(x)
    assert rows.shape == (2, width(maps, pool)) == (2, 16)
    assert torch.equal(rows, reducer(maps, pool)(x.contiguous(memory_format=torch.channels_last)))
    assert torch.equal(rows, reducer(tokens, pool)(y))
    assert not torch.equal(rows, reducer(maps, pool, seed=1)(x))
    long = parse_pool("flatten:100")
    assert width(maps, long) == 72
    assert torch.equal(reducer(maps, long)(x).sort().values, x.flatten(1).sort().values)
