"""Values: against plain definitions in ten regimes, closed forms, and numerical traps."""

import numpy as np
import pytest
import reference
import torch

from repalign.api import compare_arrays, similarity
from repalign.metrics.cka import median_distance
from repalign.metrics.gram import linear_gram, pairs, squared_distances, unit_row_gram
from repalign.metrics.ranks import midranks
from repalign.metrics.rdm import cosine


def regime(name):
    rng = np.random.default_rng(len(name))
    n, d = 40, 12
    x = rng.normal(size=(n, d))
    y = x @ rng.normal(size=(d, 9)) + 0.7 * rng.normal(size=(n, 9))
    match name:
        case "plain":
            pass
        case "p much larger than n":
            x, y = rng.normal(size=(20, 900)), rng.normal(size=(20, 700))
        case "n much larger than p":
            x = rng.normal(size=(300, 2))
            y = x[:, :1] + 0.3 * rng.normal(size=(300, 3))
        case "integer ties":
            x, y = rng.integers(0, 3, size=(n, 4)).astype(float), rng.integers(0, 3, size=(n, 5)).astype(float)
            x[:, 0] += np.arange(n) % 2 * 0.5
            x[(x == x[:, :1]).all(1), 0] += 1
            y[(y == y[:, :1]).all(1), 0] += 1
        case "duplicate stimuli":
            x[5:10], y[5:10] = x[:5], y[:5]
        case "near-constant columns":
            x[:, 3] = 1 + 1e-9 * rng.normal(size=n)
        case "huge offset":
            x = x + 1e6
        case "heavy tails":
            x, y = rng.standard_t(1.5, size=x.shape), rng.standard_t(1.5, size=y.shape)
        case "tiny scale":
            x = x * 1e-140
        case "huge scale":
            x = x * 1e140
        case "one strong channel":
            x[:, 0] *= 1e3
        case "low rank":
            x = np.outer(x[:, 0], rng.normal(size=d)) + 1e-3 * x
    return x, y


REGIMES = [
    "plain", "p much larger than n", "n much larger than p", "integer ties", "duplicate stimuli",
    "near-constant columns", "huge offset", "heavy tails", "one strong channel", "low rank",
]  # fmt: skip


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("debiased", [True, False])
def test_cka_is_its_definition(name, debiased):
    x, y = regime(name)
    kernels = reference.linear_kernel(x), reference.linear_kernel(y)
    assert similarity(x, y, "cka_linear", debiased=debiased) == pytest.approx(
        reference.cka(*kernels, debiased), rel=1e-8, abs=1e-10
    )
    for median in ("all", "offdiag"):
        kernels = reference.rbf_kernel(x, 0.8, median), reference.rbf_kernel(y, 0.8, median)
        ours = similarity(x, y, "cka_rbf", bandwidth=0.8, median=median, debiased=debiased)
        assert ours == pytest.approx(reference.cka(*kernels, debiased), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("rdm", ["correlation", "euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("compare", ["pearson", "cosine", "spearman"])
def test_rsa_is_its_definition(name, rdm, compare):
    x, y = regime(name)
    ours = similarity(x, y, "rsa", rdm=rdm, compare=compare)
    # the reference's 1 − product loses ten digits of a distance of 1e-12; ours does not
    lost = rdm == "cosine" and name == "huge offset"
    # nearly parallel patterns: hundreds of distances within 1e-6 of each other, so ties depend on where one cuts
    lost |= compare == "spearman" and name == "low rank" and rdm in ("correlation", "cosine")
    assert ours == pytest.approx(reference.rsa(x, y, rdm, compare), rel=1e-3 if lost else 1e-8, abs=1e-9)


def test_cosine_distances_keep_their_digits_far_from_the_origin():
    x, _ = regime("huge offset")
    from fractions import Fraction

    rows = [[Fraction(v) for v in r] for r in x[:8].tolist()]
    dot = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in rows] for a in rows]
    # 1 − cos = (|a|²|b|² − (a·b)²) / (|a||b| (|a||b| + a·b)), exact in its numerator
    pair = [(i, j) for i in range(8) for j in range(i + 1, 8)]
    top = [float(dot[i][i] * dot[j][j] - dot[i][j] ** 2) for i, j in pair]
    norm = [float(dot[i][i]) ** 0.5 * float(dot[j][j]) ** 0.5 for i, j in pair]
    exact = np.array([t / (m * (m + float(dot[i][j]))) for t, m, (i, j) in zip(top, norm, pair, strict=True)])
    ours = pairs(cosine(torch.tensor(x[:8]))).numpy()
    assert ours == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("metric", ["cka_linear", "cka_rbf", "rsa"])
@pytest.mark.parametrize("change", [lambda x: x * 1e150, lambda x: x * 1e-150, lambda x: x + 1e6])
def test_scale_and_offset_change_nothing(metric, change):
    x, y = regime("plain")
    assert similarity(change(x), y, metric) == pytest.approx(similarity(x, y, metric), rel=1e-8)


@pytest.mark.parametrize("metric", ["cka_linear", "cka_rbf"])
def test_float32_features_with_a_large_mean(metric):
    x, y = regime("plain")
    exact = similarity((x + 1000).astype(np.float32).astype(np.float64) - 1000, y, metric)
    assert similarity((x + 1000).astype(np.float32), y, metric) == pytest.approx(exact, abs=1e-9)
    assert exact == pytest.approx(similarity(x, y, metric), abs=1e-4)


def test_independent_features_biased_and_debiased():
    """Murphy et al. and our own measurement: d = 768, n = 100 reads 0.88 biased, 0 debiased."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 768)), rng.normal(size=(100, 768))
    assert similarity(x, y, "cka_linear", debiased=False) == pytest.approx(0.884, abs=0.005)
    assert abs(similarity(x, y, "cka_linear")) < 0.02


def test_cka_of_stretched_axes_has_a_closed_form():
    """For whitened X and Y = X diag(s): biased linear CKA = Σ s² / √(p Σ s⁴), from Kornblith 2019, eq. 3."""
    x = np.random.default_rng(1).normal(size=(50, 4))
    x = np.linalg.qr(x - x.mean(0))[0]
    s = np.array([3.0, 2.0, 1.0, 0.5])
    expected = (s**2).sum() / np.sqrt(4 * (s**4).sum())
    assert similarity(x, x * s, "cka_linear", debiased=False) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("debiased", [True, False])
def test_rbf_cka_converges_to_linear_cka(debiased):
    """Alvarez 2021 (arXiv:2112.09305) proves it for the bandwidth going to infinity, at the rate of its square."""
    x, y = regime("plain")
    linear = similarity(x, y, "cka_linear", debiased=debiased)
    gaps = [similarity(x, y, "cka_rbf", bandwidth=t, debiased=debiased) - linear for t in (10.0, 100.0)]
    assert abs(gaps[1]) < 1e-3
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.05)


def test_spearman_sees_ties_through_rounding():
    """Integer features with duplicates: adding an offset must not move the ranks by rounding."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 4, size=(60, 6)).astype(float)
    y = rng.integers(0, 4, size=(60, 6)).astype(float)
    plain = similarity(x, y, "rsa", rdm="euclidean")
    assert similarity(x + 0.1, y / 3, "rsa", rdm="euclidean") == pytest.approx(plain, abs=1e-12)
    exact = np.abs(x[:, None] - x[None]) ** 2
    iu = np.triu_indices(60, 1)
    from scipy.stats import spearmanr

    other = np.abs(y[:, None] - y[None]) ** 2
    assert plain == pytest.approx(spearmanr(exact.sum(2)[iu], other.sum(2)[iu]).statistic, abs=1e-12)


def test_midranks_are_scipys():
    from scipy.stats import rankdata

    values = np.random.default_rng(0).integers(0, 9, 200).astype(float)
    assert np.array_equal(midranks(torch.tensor(values)).numpy(), rankdata(values))


@pytest.mark.parametrize("n", [4, 5, 6, 7, 30, 31])
def test_median_over_the_whole_matrix_counts_its_zeros(n):
    x = torch.tensor(np.random.default_rng(n).normal(size=(n, 3)))
    distances = squared_distances(linear_gram(x))
    assert median_distance(pairs(distances), n) == pytest.approx(np.median(distances.numpy()), rel=1e-14)
    off = distances.numpy()[np.triu_indices(n, 1)]
    assert median_distance(pairs(distances), 0) == pytest.approx(np.median(off), rel=1e-14)


def test_wide_features_in_panels_give_the_same_gram(monkeypatch):
    x = torch.tensor(np.random.default_rng(0).normal(size=(9, 50)) + 3)
    whole = linear_gram(x), unit_row_gram(x, True), unit_row_gram(x, False)
    monkeypatch.setattr("repalign.metrics.gram.PANEL", 7)
    parts = linear_gram(x), unit_row_gram(x, True), unit_row_gram(x, False)
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)


def test_matrix_of_layers_is_its_pairs():
    rng = np.random.default_rng(5)
    a = {f"a{i}": rng.normal(size=(30, 3 + i)) for i in range(3)}
    b = {f"b{i}": a["a0"] @ rng.normal(size=(3, 4 + i)) for i in range(4)}
    for spec, result in compare_arrays(a, b, ["cka_linear", "cka_rbf:debiased=false", "rsa"]).items():
        assert result.scores.shape == (3, 4)
        for i, x in enumerate(a.values()):
            for j, y in enumerate(b.values()):
                alone = next(iter(compare_arrays({"x": x}, {"y": y}, [spec]).values())).scores[0, 0]
                assert result.scores[i, j] == pytest.approx(alone, abs=1e-13)
        assert len(result.to_frame()) == 12
