"""Distance correlation, Kendall's τ and whitened RSA: definitions, references, traps, messages."""

import itertools
import warnings

import dcor
import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kendalltau
from test_metrics_values import REGIMES, regime

from repalign.align import align
from repalign.api import similarity
from repalign.errors import InputError, RepalignWarning
from repalign.metrics import make_metric, parse_metric
from repalign.metrics.gram import double_centred, pairs, u_centred
from repalign.metrics.kendall import KendallRSA
from repalign.metrics.ranks import dense_ranks, midranks
from repalign.types import Activations

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from rsatoolbox.rdm import RDMs, compare

RSATOOLBOX = {"corr_cov": "corr_cov", "cosine_cov": "cosine_cov", "kendall_a": "tau-a", "kendall_b": "kendall"}


def given_rdms(*rdms):
    """Wrap RDMs `(n, n)` as one side of a comparison each."""
    ids = tuple(map(str, range(len(rdms[0]))))
    layers = [{"rdm": torch.tensor(rdm, dtype=torch.float64)} for rdm in rdms]
    return [Activations(f"s{k}", "given", ids, x, {"rdm": 0.0}, geometry="rdm") for k, x in enumerate(layers)]


def rsa_of_rdms(a, b, compare):
    return float(align(*given_rdms(a, b), make_metric("rsa", compare=compare)).scores[0, 0])


def by_rsatoolbox(a, b, compare_by):
    return float(compare(RDMs(a[None]), RDMs(b[None]), method=RSATOOLBOX[compare_by])[0, 0])


# distance correlation


@pytest.mark.parametrize("name", REGIMES)
def test_distance_correlation_is_dcors(name):
    x, y = regime(name)
    for debiased, theirs in ((True, dcor.u_distance_correlation_sqr), (False, dcor.distance_correlation_sqr)):
        ours = similarity(x, y, "distance_correlation", debiased=debiased)
        assert ours == pytest.approx(float(theirs(x, y)), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_distance_correlation_of_a_bivariate_normal(rho):
    """Székely, Rizzo & Bakirov 2007, theorem 7, gives the population value."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 1))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=(1500, 1))
    top = rho * np.arcsin(rho) + np.sqrt(1 - rho**2) - rho * np.arcsin(rho / 2) - np.sqrt(4 - rho**2) + 1
    population = top / (1 + np.pi / 3 - np.sqrt(3))
    assert similarity(x, y, "distance_correlation") == pytest.approx(population, abs=0.03)


def test_distance_correlation_sees_what_linear_cka_can_not():
    x = np.random.default_rng(0).normal(size=(400, 1))
    assert similarity(x, np.abs(x), "distance_correlation") > 0.1
    assert abs(similarity(x, np.abs(x), "cka_linear")) < 0.02


def test_debiased_distance_correlation_of_independent_wide_features_is_near_zero():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 500)), rng.normal(size=(60, 500))
    assert abs(similarity(x, y, "distance_correlation")) < 0.1  # its standard error is 0.024
    assert similarity(x, y, "distance_correlation", debiased=False) > 0.8


@pytest.mark.parametrize(
    ("spec", "centred"),
    [
        ("distance_correlation", u_centred),
        ("distance_correlation:debiased=false", double_centred),
        ("rsa:rdm=correlation,compare=cosine_cov", double_centred),
    ],
)
def test_a_deletion_follows_from_the_embedding_as_its_centring_says(spec, centred):
    metric = parse_metric(spec)
    geometry = metric.geometry(torch.tensor(regime("plain")[0]))
    kept = torch.tensor([0, 3, 4, 7, 9, 20, 31])
    assert metric.centring == {u_centred: "u", double_centred: "double"}[centred]
    assert torch.allclose(metric.embed(metric.take(geometry, kept)), centred(metric.embed(geometry)[kept][:, kept]))


# Kendall's τ


def tau(a, b):
    """Count every pair of distances: concordant, discordant, tied in a, tied in b."""
    s, t = np.sign(np.subtract.outer(a, a)), np.sign(np.subtract.outer(b, b))
    upper = np.triu_indices(len(a), 1)
    s, t = s[upper], t[upper]
    net, total = (s * t).sum(), len(s)
    return net / total, net / np.sqrt((s != 0).sum() * (t != 0).sum())


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("rdm", ["correlation", "euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("how", ["kendall_a", "kendall_b"])
def test_kendall_is_rsatoolboxs(name, rdm, how):
    x, y = (v[:100] for v in regime(name))  # fewer of the 300 stimuli of n ≫ p, to be quick
    a, b = pdist(x, rdm), pdist(y, rdm)
    a, b = np.round(a / a.max(), 10), np.round(b / b.max(), 10)  # rsatoolbox ranks rounding apart
    # 1 − product loses ten digits of a distance of 1e-12; nearly parallel patterns: ties depend on where one cuts
    lost = (rdm == "cosine" and name == "huge offset") or (rdm in ("correlation", "cosine") and name == "low rank")
    expected = by_rsatoolbox(a, b, how)
    assert similarity(x, y, "rsa", rdm=rdm, compare=how) == pytest.approx(expected, rel=1e-3 if lost else 1e-8)


def test_kendall_counts_pairs_of_distances():
    x, y = regime("integer ties")
    distances = [np.rint(pdist(v * 2, "sqeuclidean")) for v in (x, y)]  # half-integers, so exact
    expected = tau(*distances)
    assert len(set(distances[0])) < 100
    assert similarity(x, y, "rsa", rdm="sqeuclidean", compare="kendall_a") == pytest.approx(expected[0], rel=1e-14)
    assert similarity(x, y, "rsa", rdm="sqeuclidean", compare="kendall_b") == pytest.approx(expected[1], rel=1e-14)


def test_kendall_worked_by_hand():
    """Four stimuli, six distances, fifteen pairs of them.

    a = 1 2 3 4 5 6 against b = 1 2 3 4 6 5: one pair in fifteen is discordant, τ = (14 − 1)/15.
    a = 1 1 2 3 4 5 against b = 1 2 3 3 5 4: 2 pairs tied, 1 discordant, 12 concordant: τ-a = 11/15, τ-b = 11/14.
    """
    a, b = squareform([1, 2, 3, 4, 5, 6]), squareform([1, 2, 3, 4, 6, 5])
    assert rsa_of_rdms(a, b, "kendall_a") == 13 / 15
    assert rsa_of_rdms(a, b, "kendall_b") == pytest.approx(13 / 15, rel=1e-15)
    a, b = squareform([1, 1, 2, 3, 4, 5]), squareform([1, 2, 3, 3, 5, 4])
    assert rsa_of_rdms(a, b, "kendall_a") == 11 / 15
    assert rsa_of_rdms(a, b, "kendall_b") == pytest.approx(11 / 14, rel=1e-15)


def test_ties_keep_tau_a_below_one_even_for_itself():
    """Two classes of 3: 6 distances of one size, 9 of another; 54 of 105 pairs are untied."""
    labels = np.repeat([0.0, 1.0], 3)[:, None]
    assert similarity(labels, labels, "rsa", rdm="euclidean", compare="kendall_a") == 54 / 105
    assert similarity(labels, labels, "rsa", rdm="euclidean", compare="kendall_b") == pytest.approx(1, rel=1e-15)


def test_kendall_leaves_missing_pairs_out():
    rng = np.random.default_rng(0)
    a, b = (squareform(rng.integers(1, 9, 66).astype(float)) for _ in range(2))
    missing = [(0, 4), (2, 9), (5, 6)]
    for i, j in missing:
        a[i, j] = a[j, i] = np.nan
    kept = np.isfinite(a[np.triu_indices(12, 1)])
    x, y = a[np.triu_indices(12, 1)][kept], b[np.triu_indices(12, 1)][kept]
    for how, expected in zip(("kendall_a", "kendall_b"), tau(x, y), strict=True):
        with pytest.warns(RepalignWarning, match="3 of 66 pairs of stimuli are missing"):
            assert rsa_of_rdms(a, b, how) == pytest.approx(expected, rel=1e-14)
        masked = np.where(np.isnan(a), np.nan, b)
        both = (m[np.triu_indices(12, 1)] for m in (a, masked))
        assert by_rsatoolbox(*both, how) == pytest.approx(expected, rel=1e-12)


def test_kendall_scores_the_pairs_present_in_both():
    """A permutation moves the missing pairs of one side only."""
    metric = KendallRSA(compare="kendall_b")
    nan = float("nan")
    a = torch.tensor([0.0, 1, 2, nan, 3, 4], dtype=torch.float64)
    b = torch.tensor([nan, 1, 0, 2, 3, 3], dtype=torch.float64)
    expected = kendalltau([1, 2, 3, 4], [1, 0, 3, 3]).statistic
    assert metric.score(a, b) == pytest.approx(expected, rel=1e-14)
    assert np.isnan(metric.score(a, torch.tensor([nan, nan, nan, 0, 2, 2], dtype=torch.float64)))


@pytest.mark.parametrize("how", ["kendall_a", "corr_cov", "spearman"])
def test_equal_distances_have_no_rank(how):
    flat = np.ones((6, 6)) - np.eye(6)
    other = squareform(np.arange(15.0))
    with pytest.warns(RepalignWarning, match="'rdm' of s0 has no score .*: all its distances are equal"):
        assert np.isnan(rsa_of_rdms(flat, other, how))


@pytest.mark.parametrize("spec", ["rsa:compare=kendall_a", "rsa:compare=kendall_b", "rsa:compare=corr_cov"])
def test_the_mean_over_all_orders_of_the_stimuli_is_zero(spec):
    metric = parse_metric(spec)
    assert metric.unbiased
    x, y = (torch.tensor(v[:5]) for v in regime("plain"))
    a, b = metric.geometry(x), metric.geometry(y)
    values = []
    for order in itertools.permutations(range(5)):
        first, second = metric.embed(a), metric.embed(metric.take(b, torch.tensor(order)))
        cosine = "cov" in spec
        values.append(float((first * second).sum()) if cosine else metric.score(first, second))
    assert abs(np.mean(values)) < 1e-13 < np.std(values)


# ties


def test_a_chain_of_near_values_is_no_giant_tie():
    chain = torch.arange(1000, dtype=torch.float64) * 1e-11 + 1
    places = dense_ranks(chain)
    assert 90 <= places.max() < 110  # 1e-8 wide, ties of 1e-10
    widths = [float(chain[places == k].max() - chain[places == k].min()) for k in range(int(places.max()) + 1)]
    assert max(widths) <= 1e-10 * (1 + 1e-5)  # but for rounding
    assert (midranks(chain).diff() >= 0).all()
    assert torch.equal(dense_ranks(chain.flip(0)), places.flip(0))


def test_equal_but_for_rounding_is_a_tie_wherever_the_value_lies():
    rng = np.random.default_rng(0)
    exact = rng.integers(0, 50, 400) / 7
    noisy = torch.tensor(exact * (1 + 1e-13 * rng.uniform(-1, 1, 400)))
    assert torch.equal(dense_ranks(noisy), dense_ranks(torch.tensor(exact)))
    assert dense_ranks(noisy).max() == len(set(exact)) - 1


def test_negative_distances_are_ranked_too():
    assert dense_ranks(torch.tensor([-2.0, 3, -2 - 1e-14, 0], dtype=torch.float64)).tolist() == [0, 2, 0, 1]


# whitened


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("rdm", ["correlation", "euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("how", ["corr_cov", "cosine_cov"])
def test_whitened_rsa_is_rsatoolboxs(name, rdm, how):
    x, y = (v[:60] for v in regime(name))  # as above
    # the reference's cosine distances have lost ten digits
    rel = 1e-5 if rdm == "cosine" and name == "huge offset" else 1e-8
    expected = by_rsatoolbox(pdist(x, rdm), pdist(y, rdm), how)
    assert similarity(x, y, "rsa", rdm=rdm, compare=how) == pytest.approx(expected, rel=rel, abs=1e-11)


@pytest.mark.parametrize("how", ["corr_cov", "cosine_cov"])
def test_whitened_rsa_is_its_definition(how):
    """With V = (CCᵀ) ∘ (CCᵀ), C the contrasts of pairs: Diedrichsen et al. 2021."""
    x, y = (v[:9] for v in regime("plain"))
    contrasts = np.zeros((36, 9))
    for row, (i, j) in enumerate(itertools.combinations(range(9), 2)):
        contrasts[row, i], contrasts[row, j] = 1, -1
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    a, b = pdist(x, "sqeuclidean"), pdist(y, "sqeuclidean")
    if how == "corr_cov":
        a, b = a - a.mean(), b - b.mean()
    expected = a @ inverse @ b / np.sqrt((a @ inverse @ a) * (b @ inverse @ b))
    assert similarity(x, y, "rsa", rdm="sqeuclidean", compare=how) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", REGIMES)
def test_whitened_cosines_that_are_known_by_other_names(name):
    x, y = regime(name)
    cka = similarity(x, y, "cka_linear", debiased=False)
    assert similarity(x, y, "rsa", rdm="sqeuclidean", compare="cosine_cov") == pytest.approx(cka, rel=1e-9)
    correlation = similarity(x, y, "distance_correlation", debiased=False)
    assert similarity(x, y, "rsa", rdm="euclidean", compare="cosine_cov") == pytest.approx(correlation, rel=1e-9)


@pytest.mark.parametrize("how", ["corr_cov", "cosine_cov"])
def test_whitened_rsa_refuses_missing_pairs(how):
    rng = np.random.default_rng(0)
    a, b = (squareform(rng.uniform(1, 2, 15)) for _ in range(2))
    a[0, 3] = a[3, 0] = a[1, 2] = a[2, 1] = np.nan
    message = rf"compare={how} needs the distances of all pairs, but 2 of 15 are missing \(NaN\); leave the stimuli"
    with pytest.warns(RepalignWarning), pytest.raises(InputError, match=message):
        rsa_of_rdms(a, b, how)


def test_a_given_rdm_that_is_zero_has_no_whitened_cosine():
    with pytest.warns(RepalignWarning, match="all its distances are zero"):
        assert np.isnan(rsa_of_rdms(np.zeros((5, 5)), squareform(np.arange(10.0)), "cosine_cov"))


def test_a_given_diagonal_is_not_read():
    rng = np.random.default_rng(0)
    a, b = (squareform(rng.uniform(1, 2, 15)) for _ in range(2))
    for how in ("corr_cov", "cosine_cov", "kendall_a"):
        assert rsa_of_rdms(a + 5 * np.eye(6), b, how) == rsa_of_rdms(a, b, how)


# names and messages


def test_rsa_is_one_name_with_the_same_options_whatever_it_compares():
    for how, label in {
        "spearman": "RSA, Spearman of Euclidean distances",
        "kendall_a": "RSA, Kendall's τ-a of Euclidean distances",
        "corr_cov": "RSA, whitened Pearson of Euclidean distances",
    }.items():
        metric = make_metric("rsa", rdm="euclidean", compare=how)
        assert metric.name == "rsa"
        assert metric.options == {"rdm": "euclidean", "compare": how}
        assert metric.label == label
        assert parse_metric(metric.spec) == metric


def test_options_that_can_not_be():
    known = "spearman, pearson, cosine, kendall_a, kendall_b, corr_cov, cosine_cov"
    with pytest.raises(InputError, match=f"rsa: compare must be one of {known}, not 'kendall'"):
        make_metric("rsa", compare="kendall")
    with pytest.raises(InputError, match="rsa: compare must be one of kendall_a, kendall_b, not 'spearman'"):
        KendallRSA(compare="spearman")
    with pytest.raises(InputError, match=r"batch must be at least 4 stimuli, .* not 3"):
        make_metric("cka_minibatch", batch=3)
    with pytest.raises(InputError, match="seed must be 0 or more, not -1"):
        make_metric("cka_minibatch", seed=-1)
    with pytest.raises(InputError, match="needs at least 4 stimuli, not 3"):
        similarity(np.eye(3), np.eye(3), "distance_correlation")
    with pytest.raises(InputError, match="distance_correlation needs features, but this layer is a dissimilarity"):
        align(*given_rdms(np.ones((5, 5)), np.ones((5, 5))), make_metric("distance_correlation"))


def test_pairs_of_a_geometry_are_what_kendall_ranks():
    metric = KendallRSA(rdm="euclidean")
    geometry = metric.geometry(torch.tensor(regime("plain")[0]))
    assert torch.equal(metric.embed(geometry).argsort(), pairs(geometry).argsort())
