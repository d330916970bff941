"""Procrustes, CCA and SVCCA against other implementations; all measures of features on subsets and bad input."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh, orthogonal_procrustes, subspace_angles
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from test_metrics_values import REGIMES, regime

from repalign.api import compare_arrays, similarity
from repalign.errors import InputError, RepalignWarning
from repalign.metrics import UndefinedError, parse_metric
from repalign.metrics.coordinates import coordinates

SPECS = [
    "procrustes", "cca", "svcca:variance=0.9", "linear_predictivity", "linear_predictivity:scoring=pearson,folds=4",
    "mutual_knn:k=4", "mutual_knn:k=4,distance=euclidean",
]  # fmt: skip
FRETS = np.array([
    191, 155, 179, 145, 195, 149, 201, 152, 181, 148, 185, 149, 183, 153, 188, 149, 176, 144, 171, 142,
    208, 157, 192, 152, 189, 150, 190, 149, 197, 159, 189, 152, 188, 152, 197, 159, 192, 150, 187, 151,
    179, 158, 186, 148, 183, 147, 174, 147, 174, 150, 185, 152, 190, 159, 195, 157, 188, 151, 187, 158,
    163, 137, 161, 130, 195, 155, 183, 158, 186, 153, 173, 148, 181, 145, 182, 146, 175, 140, 165, 137,
    192, 154, 185, 152, 174, 143, 178, 147, 176, 139, 176, 143, 197, 167, 200, 158, 190, 163, 187, 150,
], dtype=float).reshape(25, 4)  # fmt: skip


def centred(x):
    x = x - x.mean(0)
    return x / np.abs(x).max()


def padded(x, y):
    width = max(x.shape[1], y.shape[1])
    return tuple(np.pad(v, ((0, 0), (0, width - v.shape[1]))) for v in (x, y))


def score(spec, x, y):
    return float(next(iter(compare_arrays({"x": x}, {"y": y}, [spec]).values())).scores[0, 0])


def undefined(x, y, spec):
    with pytest.warns(RepalignWarning, match=r"has no score \(NaN\)"):
        result = next(iter(compare_arrays({"x": x}, {"y": y}, [spec]).values()))
    assert np.isnan(result.scores).all()
    return result.undefined


@pytest.mark.parametrize("name", REGIMES)
def test_procrustes_is_scipys(name):
    x, y = padded(*map(centred, regime(name)))
    ours = similarity(*regime(name), "procrustes")
    unit = x / np.linalg.norm(x), y / np.linalg.norm(y)
    rotation, nuclear = orthogonal_procrustes(*unit)
    assert ours == pytest.approx(nuclear, rel=1e-10)
    assert 2 - 2 * ours == pytest.approx(np.linalg.norm(unit[0] @ rotation - unit[1]) ** 2, rel=1e-8)
    assert 1 - ours**2 == pytest.approx(procrustes(x, y)[2], rel=1e-8)


def test_procrustes_of_scipys_documented_shapes():
    """The example of scipy.spatial.procrustes: one shape is the other turned, mirrored, scaled and moved."""
    a, b = [[1, 3], [1, 2], [1, 1], [2, 1]], [[4, -2], [4, -4], [4, -6], [2, -6]]
    assert similarity(a, b, "procrustes") == pytest.approx(1, abs=1e-14)


def test_procrustes_of_stretched_axes_has_a_closed_form():
    """Whitened X and Y = X diag(s): XᵀY = diag(s), so the score is Σ s / √(p Σ s²)."""
    x = np.random.default_rng(1).normal(size=(50, 4))
    x = np.linalg.qr(x - x.mean(0))[0]
    s = np.array([3.0, 2.0, 1.0, 0.5])
    assert similarity(x, x * s, "procrustes") == pytest.approx(s.sum() / np.sqrt(4 * (s**2).sum()), rel=1e-13)


def canonical(x, y):
    """Correlations from the eigenvalues of `C_XY C_YY⁻¹ C_YX v = ρ² C_XX v`, Hotelling's own problem."""
    x, y = (centred(v) / np.linalg.norm(centred(v), axis=0) for v in (x, y))
    values = eigh(x.T @ y @ np.linalg.solve(y.T @ y, y.T @ x), x.T @ x, eigvals_only=True)
    return np.sqrt(np.clip(np.sort(values)[::-1][: min(x.shape[1], y.shape[1])], 0, None))


@pytest.mark.parametrize("name", REGIMES)
def test_cca_is_its_definition(name):
    x, y = regime(name)
    if name == "p much larger than n":
        assert "all that 20 centred stimuli have" in undefined(x, y, "cca")["x"]
        return
    ours = similarity(x, y, "cca")
    assert ours == pytest.approx((canonical(x, y) ** 2).mean(), rel=1e-8)
    scale = np.linalg.norm(centred(x), axis=0)  # affine invariance; scipy would drop the near-constant column
    assert ours == pytest.approx((np.cos(subspace_angles(centred(x) / scale, centred(y))) ** 2).mean(), rel=1e-9)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("variance", [0.9, 0.6])
def test_svcca_is_sklearns_components_at_scipys_angles(name, variance):
    x, y = map(centred, regime(name))
    kept = [PCA(n_components=variance, svd_solver="full").fit_transform(v) for v in (x, y)]
    expected = np.cos(subspace_angles(*kept)).mean()
    assert similarity(*regime(name), "svcca", variance=variance) == pytest.approx(expected, rel=1e-9)


def test_cca_of_the_heads_of_brothers():
    """Frets' 25 pairs of brothers: 0.7885 and 0.0537 in Mardia, Kent & Bibby 1979, Multivariate Analysis, 10.2."""
    first, second = FRETS[:, :2], FRETS[:, 2:]
    assert similarity(first, second, "cca") == pytest.approx((0.7885**2 + 0.0537**2) / 2, abs=1e-4)
    assert similarity(first, second, "svcca", variance=1) == pytest.approx((0.7885 + 0.0537) / 2, abs=1e-4)


def test_cca_divides_by_the_smaller_rank_not_by_the_number_of_features():
    x, y = regime("plain")
    copied = np.hstack([x[:, :3], x[:, :3] @ np.ones((3, 2)), np.ones((40, 1))])
    assert similarity(copied, y, "cca") == pytest.approx(similarity(x[:, :3], y, "cca"), rel=1e-12)
    assert similarity(x[:, :3], x, "cca") == pytest.approx(1, abs=1e-13)


def test_cca_of_independent_features_is_the_rank_over_n_less_one():
    rng = np.random.default_rng(0)
    found = [similarity(rng.normal(size=(40, 12)), rng.normal(size=(40, 5)), "cca") for _ in range(15)]
    assert np.mean(found) == pytest.approx(12 / 39, abs=4 * np.std(found) / np.sqrt(15))


def test_svcca_with_all_of_the_variance_keeps_directions_of_any_size():
    x, y = regime("plain")
    x = x * 10.0 ** -np.arange(12)
    assert similarity(x, y, "svcca", variance=1) == pytest.approx(canonical(x, y).mean(), rel=1e-8)


@pytest.mark.parametrize("spec", ["cca", "svcca:variance=1"])
def test_a_layer_that_fills_the_space_has_no_canonical_correlations(spec):
    x, y = np.random.default_rng(0).normal(size=(2, 12, 11))
    reason = undefined(x, y[:, :3], spec)["x"]
    assert reason.startswith("its 11 directions are all that 12 centred stimuli have, so it would correlate perfectly")
    assert ("cka_linear" if spec == "cca" else "a variance below 1") in reason
    assert score(spec, x[:, :10], y[:, :3]) < 0.999


@pytest.mark.parametrize("spec", [s for s in SPECS if "predictivity" not in s])  # folds stay with their stimuli
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_subset_scores_as_if_it_were_all(spec, seed):
    """Centring, bases and neighbours belong to the stimuli that are there, wide features included."""
    rng = np.random.default_rng(seed)
    metric = parse_metric(spec)
    width = 60 if "cca" not in spec else 8
    x = torch.tensor(rng.normal(size=(40, width)) * np.linspace(0.1, 2, width) + 3)
    y = torch.tensor(x.numpy() @ rng.normal(size=(width, 5)) + rng.normal(size=(40, 5)))
    index = torch.tensor(rng.permutation(40)[:20])
    taken = [metric.embed(metric.take(metric.geometry(v), index)) for v in (x, y)]
    fresh = [metric.embed(metric.geometry(v[index])) for v in (x, y)]
    for first, second in (0, 1), (1, 0):
        expected = metric.score(fresh[first], fresh[second])
        assert metric.score(taken[first], taken[second]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("spec", SPECS)
def test_constant_on_a_subset_is_undefined_there(spec):
    metric = parse_metric(spec)
    x = torch.tensor(np.random.default_rng(0).normal(size=(40, 6)))
    x[:20] = 0.3
    with pytest.raises(UndefinedError, match=r"same for every stimulus|all its distances are equal"):
        metric.embed(metric.take(metric.geometry(x), torch.arange(20)))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", ["tiny scale", "huge scale"])
def test_scale_changes_nothing(spec, name):
    x, y = regime("plain")
    size = 1e-150 if name == "tiny scale" else 1e150
    expected = score(spec, x, y)
    for a, b in ((x * size, y), (x, y * size)):
        found = score(spec, a, b)
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("spec", [s for s in SPECS if s != "mutual_knn:k=4"])
def test_offset_changes_nothing(spec):
    x, y = regime("plain")
    x = np.round(x, 6)  # so that adding an offset rounds little
    expected = score(spec, x, y)
    found = score(spec, x + 1e6, y)
    assert found == pytest.approx(expected, rel=1e-8)


def test_wide_features_in_panels_are_rotated_as_one(monkeypatch):
    x = torch.tensor(np.random.default_rng(0).normal(size=(9, 50)) + 3)
    whole = coordinates(x)
    monkeypatch.setattr("repalign.metrics.coordinates.PANEL", 7)
    parts = coordinates(x)
    inner = centred(x.numpy())
    assert whole.shape == parts.shape == (9, 9)
    for found in (whole, parts):
        assert (found @ found.T).numpy() == pytest.approx(inner @ inner.T, abs=1e-12)


def test_matrix_of_layers_is_its_pairs():
    rng = np.random.default_rng(5)
    a = {f"a{i}": rng.normal(size=(30, 3 + i)) for i in range(2)}
    b = {f"b{i}": a["a0"] @ rng.normal(size=(3, 4 + i)) for i in range(2)}
    for spec, result in compare_arrays(a, b, SPECS).items():
        for i, x in enumerate(a.values()):
            for j, y in enumerate(b.values()):
                alone = score(spec, x, y)
                assert result.scores[i, j] == pytest.approx(alone, abs=1e-13)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("svcca:variance=0", r"svcca: variance must be a share above 0 and at most 1, not 0\.0; try 0\.99"),
        ("svcca:variance=1.5", r"at most 1, not 1\.5"),
        ("linear_predictivity:folds=1", "linear_predictivity: folds must be at least 2, not 1; try 5"),
        ("linear_predictivity:seed=-1", "linear_predictivity: seed must be 0 or above, not -1"),
        ("linear_predictivity:scoring=r", "linear_predictivity: scoring must be r2 or pearson, not 'r'"),
        ("mutual_knn:k=0", "mutual_knn: k must be at least 1 neighbour, not 0; try 10"),
        ("mutual_knn:distance=l2", "mutual_knn: distance must be one of cosine, euclidean, not 'l2'"),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(InputError, match=message):
        parse_metric(spec)


def test_too_few_stimuli_for_the_options():
    x, y = (v[:11] for v in regime("plain"))
    with pytest.raises(
        InputError, match=r"k must be at most n − 2 = 9 for 11 stimuli, not 10 .*; lower k or give more"
    ):
        similarity(x, y, "mutual_knn")
    with pytest.raises(InputError, match="12 folds with scoring=r2 need at least 12 stimuli, not 11; use fewer folds"):
        similarity(x, y, "linear_predictivity", folds=12)
    with pytest.raises(InputError, match="4 folds with scoring=pearson need at least 12 stimuli, not 11"):
        similarity(x, y, "linear_predictivity", folds=4, scoring="pearson")
    assert similarity(x, y, "linear_predictivity", folds=11) <= 1


@pytest.mark.parametrize("spec", SPECS)
def test_a_dissimilarity_matrix_is_not_enough(spec):
    with pytest.raises(InputError, match=f"{parse_metric(spec).name} needs features, but this layer is a dissim"):
        parse_metric(spec).geometry_of_rdm(torch.eye(20).double())


def test_nothing_warns_on_healthy_input():
    x, y = regime("plain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare_arrays({"x": x}, {"y": y}, SPECS)
