"""Values: against scikit-learn, dcor and POT in ten regimes, closed forms, and numerical traps."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist
from scipy.stats import wasserstein_distance

from repalign.infer.two_sample import two_sample
from repalign.twosample import TWO_SAMPLE, make_two_sample
from repalign.twosample.pooled import pool

STATISTICS = ["mmd2", "energy", "wasserstein1", "sliced_wasserstein1"]
DEGREE = {"mmd2": 0, "energy": 1, "wasserstein1": 1, "sliced_wasserstein1": 1}


def conditions(name, unequal=False):
    """Two conditions of the same stimuli; unequal: y without its last seven."""
    rng = np.random.default_rng(len(name))
    n, d = 40, 12
    x = rng.normal(size=(n, d))
    y = 0.8 * x + 0.4 * rng.normal(size=(n, d)) + 0.2
    match name:
        case "plain":
            pass
        case "p much larger than n":
            x = rng.normal(size=(20, 900))
            y = 0.9 * x + 0.5 * rng.normal(size=(20, 900)) + 0.1
        case "n much larger than p":
            x = rng.normal(size=(300, 2))
            y = x + 0.3 * rng.normal(size=(300, 2))
        case "integer ties":
            x, y = (rng.integers(0, 3, size=(n, 4)).astype(float) for _ in range(2))
        case "duplicate stimuli":
            x[5:10], y[5:10], y[20:25] = x[:5], y[:5], x[20:25]
        case "near-constant columns":
            x[:, 3] = 1 + 1e-9 * rng.normal(size=n)
            y[:, 3] = 1
        case "huge offset":
            x, y = x + 1e6, y + 1e6
        case "heavy tails":
            x, y = rng.standard_t(1.5, size=x.shape), rng.standard_t(1.5, size=y.shape)
        case "one strong channel":
            x[:, 0] *= 1e3
        case "low rank":
            x = np.outer(x[:, 0], rng.normal(size=d)) + 1e-3 * x
            y = 1.1 * x + 1e-3 * rng.normal(size=x.shape)
        case "two far clusters":
            x[::2], y[::2] = x[::2] * 1e-3 + 1e3, y[::2] * 1e-3 + 1e3
    return x, y[:-7] if unequal else y


REGIMES = [
    "plain", "p much larger than n", "n much larger than p", "integer ties", "duplicate stimuli",
    "near-constant columns", "huge offset", "heavy tails", "one strong channel", "low rank", "two far clusters",
]  # fmt: skip


def value(x, y, name, **options):
    return two_sample(x, y, name, n_permutations=0, paired=len(x) == len(y), **options).statistic


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("unequal", [False, True])
def test_mmd2_is_scikit_learns(name, unequal):
    from sklearn.metrics.pairwise import rbf_kernel

    x, y = conditions(name, unequal)
    for bandwidth in (0.5, 1.0):
        ours = value(x, y, "mmd2", bandwidth=bandwidth)
        # scikit-learn expands the square, which loses ten digits at an offset of 1e6: centre for it
        middle = np.concatenate([x, y]).mean(0)
        a, b = x - middle, y - middle
        gamma = 1 / (2 * (bandwidth * np.median(pdist(np.concatenate([x, y])))) ** 2)
        k = [rbf_kernel(*p, gamma=gamma) for p in ((a, a), (b, b), (a, b))]
        within = [(m.sum() - np.trace(m)) / (len(m) * (len(m) - 1)) for m in k[:2]]
        assert ours == pytest.approx(sum(within) - 2 * k[2].mean(), rel=1e-8)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("unequal", [False, True])
def test_energy_is_dcors(name, unequal):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dcor

    x, y = conditions(name, unequal)
    assert value(x, y, "energy") == pytest.approx(float(dcor.energy_distance(x, y)), rel=1e-8)


@pytest.mark.parametrize("name", REGIMES)
def test_wasserstein1_is_pots(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot

    x, y = conditions(name)
    assert value(x, y, "wasserstein1") == pytest.approx(ot.emd2([], [], cdist(x, y)), rel=1e-8)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("unequal", [False, True])
def test_sliced_wasserstein1_is_pots(name, unequal):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot

    x, y = conditions(name, unequal)
    directions = make_two_sample("sliced_wasserstein1", n_projections=30, projection_seed=5).directions(x.shape[1])
    expected = ot.sliced_wasserstein_distance(x, y, projections=directions.numpy(), p=1)
    ours = value(x, y, "sliced_wasserstein1", n_projections=30, projection_seed=5)
    assert ours == pytest.approx(expected, rel=1e-8)


def test_directions_are_unit_vectors_that_the_seed_fixes():
    drawn = [make_two_sample("sliced_wasserstein1", projection_seed=s).directions(50) for s in (1, 1, 2)]
    assert torch.allclose(drawn[0].norm(dim=0), torch.ones(100, dtype=torch.float64))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_one_dimension_is_the_area_between_distribution_functions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 1)), rng.gamma(2, size=(60, 1))
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert value(x, y, "wasserstein1") == pytest.approx(expected, rel=1e-12)
    assert value(x, y, "sliced_wasserstein1", n_projections=3) == pytest.approx(expected, rel=1e-12)


def test_a_shift_has_closed_forms():
    """Moved as a whole by δ, a cloud is |δ| away: nothing moves it more cheaply. Sliced: |δ| E|u₁|."""
    x = np.random.default_rng(1).normal(size=(50, 6))
    shift = np.array([3.0, 0, 0, 4.0, 0, 0])
    assert value(x, x + shift, "wasserstein1") == pytest.approx(5, rel=1e-12)
    found = value(x, x + shift, "sliced_wasserstein1", n_projections=20_000)
    # E|u₁| = Γ(d/2) / (√π Γ((d+1)/2)), 16/(15π) for d = 6; 0.76/√20,000 is half a percent
    assert found == pytest.approx(5 * 16 / (15 * np.pi), rel=0.02)


def test_mmd2_of_four_points_by_hand():
    """Points 0 and 3 against 1 and 2: distances 1, 1, 1, 2, 2, 3, so σ = 1.5."""
    k = lambda d: np.exp(-(d**2) / (2 * 1.5**2))  # noqa: E731
    expected = k(3) + k(1) - (k(1) + k(2) + k(2) + k(1)) / 2
    assert value([[0.0], [3.0]], [[1.0], [2.0]], "mmd2") == pytest.approx(expected, rel=1e-14)


def test_energy_of_four_points_by_hand():
    """Means of |x−y| 6/4, |x−x'| 6/4 (zeros included) and |y−y'| 2/4: 3 − 1.5 − 0.5 = 1."""
    assert value([[0.0], [3.0]], [[1.0], [2.0]], "energy") == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize(("n_x", "n_y"), [(4, 4), (3, 5)])
def test_over_all_labellings_mmd2_averages_zero_and_energy_its_bias(n_x, n_y):
    """A fair labelling makes every pair of points as likely within as between, whence unbiasedness for equal
    distributions; of the V-statistic's means within, 1/n are zeros."""
    z = np.random.default_rng(2).normal(size=(8, 3))
    found = {s: two_sample(z[:n_x], z[n_x:], s, paired=False) for s in ("mmd2", "energy")}
    assert all(f.exact for f in found.values())
    mean = {s: (f.null_mean * f.n_permutations + f.statistic) / (f.n_permutations + 1) for s, f in found.items()}
    assert mean["mmd2"] == pytest.approx(0, abs=1e-14)
    assert mean["energy"] == pytest.approx(pdist(z).mean() * (1 / n_x + 1 / n_y), rel=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_symmetry_invariance_and_bounds(name, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 15, 4)) * rng.uniform(0.2, 3)
    y += rng.normal()
    here = value(x, y, name)
    assert value(y, x, name) == pytest.approx(here, abs=1e-12)
    assert value(x, rng.permutation(y), name) == pytest.approx(here, abs=1e-12)
    assert value(x + 7, y + 7, name) == pytest.approx(here, abs=1e-11)
    assert value(x * 3.7, y * 3.7, name) == pytest.approx(here * 3.7 ** DEGREE[name], rel=1e-10)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    if name == "sliced_wasserstein1":  # its directions stay; only their distribution is invariant
        assert 0 <= here <= value(x, y, "wasserstein1") + 1e-12
    else:
        assert value(x @ rotation, y @ rotation, name) == pytest.approx(here, abs=1e-11)
    if name == "wasserstein1":
        assert np.linalg.norm(x.mean(0) - y.mean(0)) - 1e-12 <= here <= np.linalg.norm(x - y, axis=1).mean() + 1e-12
    if name == "energy":
        assert here >= 0
    if name == "mmd2":
        assert -2 <= here <= 2


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("scale", [1e150, 1e-150, 1e307, 1e-300])
def test_scale_changes_the_units_and_not_p(name, scale):
    x, y = conditions("plain")
    x, y = x[:9] / 10, y[:9] / 10
    plain, scaled = (two_sample(x * s, y * s, name, n_permutations=600) for s in (1, scale))
    assert scaled.p_value == plain.p_value
    for field in ("statistic", "null_mean"):
        expected = getattr(plain, field) * scale ** DEGREE[name]
        assert getattr(scaled, field) == pytest.approx(expected, rel=1e-8, abs=0)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("paired", [True, False])
def test_offset_changes_nothing(name, paired):
    x, y = conditions("plain")
    x, y = x[:9], y[:9]
    plain, moved = (two_sample(x + c, y + c, name, n_permutations=300, paired=paired) for c in (0, 1e6))
    assert moved.p_value == plain.p_value
    assert moved.statistic == pytest.approx(plain.statistic, rel=1e-7)


def test_float32_with_a_large_mean_is_its_own_exact_value():
    x, y = ((v + 1000).astype(np.float32) for v in conditions("plain"))
    for name in STATISTICS:
        exact = value(x.astype(np.float64) - 1000, y.astype(np.float64) - 1000, name)
        assert value(torch.tensor(x), torch.tensor(y), name) == pytest.approx(exact, rel=1e-9)


def test_distances_of_near_copies_keep_their_digits():
    x = np.random.default_rng(3).normal(size=(30, 40)) + 100
    y = x + 1e-9 * np.random.default_rng(4).normal(size=x.shape)
    pooled = pool(torch.tensor(x), torch.tensor(y))
    ours = pooled.distances.numpy() * pooled.unit
    both = np.concatenate([x, y])
    assert np.allclose(ours, cdist(both, both), rtol=1e-10, atol=0)


@pytest.mark.parametrize("near", [0.0, 10.0])
def test_panels_and_chunks_change_nothing(monkeypatch, near):
    x, y = (torch.tensor(v) for v in conditions("plain"))
    directions = torch.tensor(np.random.default_rng(0).normal(size=(12, 3)))
    whole = pool(x, y)
    expected = whole.distances, whole.project(directions)
    monkeypatch.setattr("repalign.twosample.pooled.PANEL", 5)
    monkeypatch.setattr("repalign.twosample.pooled.ELEMENTS", 50)
    monkeypatch.setattr("repalign.twosample.pooled.NEAR", near)
    parts = pool(x, y)
    assert torch.allclose(parts.distances, expected[0], rtol=1e-12, atol=0)
    assert torch.allclose(parts.project(directions), expected[1], rtol=1e-12, atol=1e-14)


def test_every_statistic_names_itself_and_its_source():
    assert list(TWO_SAMPLE) == STATISTICS
    for name in TWO_SAMPLE:
        made = make_two_sample(name)
        assert made.name == name
        assert made.reference
        assert made.in_units == bool(DEGREE[name])
