"""The engine: the same numbers on disk, in panels and in any order, from wide float32 features, for many sides."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from repalign import stack as stacks
from repalign.align import align, align_all, prepare
from repalign.arithmetic import full_float32
from repalign.errors import InputError
from repalign.infer.jackknife import deleted_scores, refit
from repalign.infer.matched import deleted_matched, refit_matched, score_matched
from repalign.infer.permute import permuted_scores
from repalign.infer.resample import deletions, permutations
from repalign.metrics import parse_metric, symmetric
from repalign.metrics.gram import from_pairs, linear_gram, pairs, squared_distances, unit_row_gram
from repalign.metrics.ranks import midranks
from repalign.stack import OnDisk
from repalign.wrap import as_activations, as_rdms

COSINE = ["cka_linear", "cka_linear:debiased=false", "cka_rbf", "distance_correlation", "rsa", "rsa:compare=pearson"]
SPECS = [*COSINE, "rsa:compare=cosine_cov", "rsa:compare=kendall_a", "mutual_knn:k=3", "cka_minibatch:batch=8"]
ON_DISK = [*COSINE, "rsa:compare=cosine_cov"]
N = 24
KENDALL = "rsa:compare=kendall_a"
WORK = int(stacks.WORK * 8 * N * N)  # the least memory that is enough: every stack goes to disk
GROUPS = tuple(f"g{k % 8}" for k in range(N))


def side(name, seed=0, layers=3, groups=None, n=N):
    rng = np.random.default_rng(seed)
    z = np.random.default_rng(99).normal(size=(n, 4))
    found = as_activations(
        name, {f"{name}{k}": z @ rng.normal(size=(4, 5 + k)) + rng.normal(size=(n, 5 + k)) for k in range(layers)}
    )
    return replace(found, groups=groups)


def least(spec, layers=6):
    """The least memory that is enough for a metric: what is compared one by one has to be held."""
    one = 8 * N * N * parse_metric(spec).work
    return WORK if spec in ON_DISK else int(one + layers * 8 * N * N)


def everything(prepared):
    """All that is computed of a comparison."""
    groups, half = prepared.groups, torch.arange(0, N, 2) if prepared.groups is None else torch.arange(N)
    closed = getattr(prepared.metric, "centring", None) is not None
    left_out = deletions(N, groups, 99 if closed else 5, 0)
    drawn = permutations(N, groups, 9, 0)
    return {
        "scores": prepared.alignment().scores,
        "deleted": deleted_scores(prepared, left_out),
        "refit": refit(prepared, half),
        "matched": score_matched(*prepared.embedded, prepared.metric).values,
        "deleted matched": deleted_matched(prepared, left_out),
        "refit matched": refit_matched(prepared, half),
        "permuted": permuted_scores(prepared, drawn),
    }


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["single", "groups"])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("same", [False, True])
def test_disk_and_memory_give_the_same_numbers(spec, groups, same):
    a, b, metric = side("a", groups=groups), side("b", 1, groups=groups), parse_metric(spec)
    b = a if same else b
    in_memory, on_disk = (prepare(a, b, metric, memory=memory) for memory in (10**9, least(spec)))
    if spec in COSINE:
        assert isinstance(on_disk.embedded[0].values, OnDisk)
        assert not isinstance(in_memory.embedded[0].values, OnDisk)
    found = everything(on_disk)
    for name, values in everything(in_memory).items():
        assert np.isfinite(values).any()
        assert found[name] == pytest.approx(values, abs=1e-13, nan_ok=True), name


@pytest.mark.parametrize("spec", COSINE)
def test_what_stands_on_disk_is_the_same_to_the_bit(spec):
    a, b = side("a"), side("b", 1)
    in_memory, on_disk = (prepare(a, b, parse_metric(spec), memory=memory) for memory in (10**9, WORK))
    for x, y in zip(in_memory.embedded, on_disk.embedded, strict=True):
        assert torch.equal(x.values.read(0, N), y.values.read(0, N))


@pytest.mark.parametrize("rows", [1, 5, N])
@pytest.mark.parametrize("spec", ["cka_linear", "rsa"])
def test_any_height_of_panels_gives_the_same_numbers(spec, rows, monkeypatch):
    a, b = side("a"), side("b", 1)
    whole, parts = (prepare(a, b, parse_metric(spec), memory=memory) for memory in (10**9, WORK))
    monkeypatch.setattr(stacks, "PANEL", 8 * N * 6 * rows)
    for one in parts.embedded:
        one.values.where = stacks.room(10**9)  # what is left decides how much is read at once
    expected = everything(whole)
    for name, values in everything(parts).items():
        assert values == pytest.approx(expected[name], abs=1e-13), name


def test_the_order_of_layers_moves_scores_about_and_nothing_else():
    a, b = side("a"), side("b", 1)
    turned = replace(a, layers=dict(reversed(a.layers.items())))
    for spec in SPECS:
        metric = parse_metric(spec)
        assert align(turned, b, metric).scores[::-1] == pytest.approx(align(a, b, metric).scores, abs=1e-14)


def test_layers_without_geometry_leave_no_gap_on_disk():
    a, b = side("a"), side("b", 1)
    a = replace(a, layers={"dead": torch.ones(N, 2), **a.layers}, depths={"dead": 0.0, **a.depths})
    with pytest.warns(UserWarning, match="'dead' of a has no score"):
        found = prepare(a, b, parse_metric("cka_linear"), memory=WORK)
    scores = found.alignment().scores
    assert np.isnan(scores[0]).all()
    assert scores[1:] == pytest.approx(align(side("a"), b, parse_metric("cka_linear")).scores, abs=1e-14)
    assert refit(found, torch.arange(0, N, 2))[1:] == pytest.approx(
        refit(prepare(side("a"), b, parse_metric("cka_linear")), torch.arange(0, N, 2)), abs=1e-14
    )


def test_missing_pairs_of_an_rdm_are_left_out_on_disk_too():
    rdm = squared_distances(linear_gram(side("a").layers["a0"])).numpy()
    rdm[2, 7] = rdm[7, 2] = np.nan
    found = []
    for memory in (10**9, WORK):
        with pytest.warns(UserWarning, match="1 of 276 pairs"):
            both = prepare(as_rdms("brain", {"v1": rdm}), side("b", 1), parse_metric("rsa"), memory=memory)
        found.append((both.alignment().scores, deleted_scores(both, deletions(N, None, 99, 0))))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-14)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-13)


def test_too_little_memory_for_one_layer_is_refused_with_a_remedy():
    with pytest.raises(InputError, match=r"all pairs of 24 stimuli take .* raise --memory or lower --max-pairwise"):
        prepare(side("a"), side("b", 1), parse_metric("cka_rbf"), memory=WORK - 1)
    with pytest.raises(InputError, match=r"rsa holds 24 stimuli × 20 layers in memory, which takes more than 0\.0 GB"):
        prepare(side("a", layers=20), side("b", 1), parse_metric("rsa:compare=kendall_a"), memory=2 * WORK)
    with pytest.raises(InputError, match=r"rsa holds 24 stimuli × 12 layers in memory"):  # both sides count
        prepare(side("a", layers=12), side("b", 1, layers=12), parse_metric(KENDALL), memory=int(10.5 * 8 * N * N))
    prepare(side("a"), side("b", 1), parse_metric("procrustes"), memory=WORK - 1)  # works on features


def test_embedding_lets_the_kept_geometries_be():
    both = prepare(side("a"), side("b", 1), parse_metric("cka_rbf"))
    kept = both.geometries[0].layers[1].clone()
    refit(both, torch.arange(N))
    assert torch.equal(both.geometries[0].layers[1], kept)
    assert kept.diagonal().tolist() == [1.0] * N


@pytest.mark.parametrize("spec", ["cka_linear", "cka_rbf", "rsa", "distance_correlation", "rsa:compare=pearson"])
def test_a_mean_of_1e4_deviations_costs_no_digits(spec):
    shifted = side("a")
    centred = replace(shifted, layers={k: x - x.mean(0) for k, x in shifted.layers.items()})
    moved = replace(shifted, layers={k: x + 1e4 * x.std() for k, x in centred.layers.items()})
    back = replace(shifted, layers={k: moved.layers[k] - 1e4 * x.std() for k, x in centred.layers.items()})
    metric = parse_metric(spec.replace("rsa", "rsa:rdm=euclidean") if spec == "rsa" else spec)
    if spec == "rsa:compare=pearson":
        metric = parse_metric("rsa:rdm=euclidean,compare=pearson")
    expected = align(back, side("b", 1), metric).scores
    assert align(moved, side("b", 1), metric).scores == pytest.approx(expected, abs=1e-9)


def definition(x):
    x = np.asarray(x, dtype=np.float64)
    x = x - x.mean(0)
    return x @ x.T


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("width", [8193, 20000])
def test_wide_float32_features_are_multiplied_in_float32_and_stay_right(offset, width, monkeypatch):
    monkeypatch.setattr("repalign.metrics.gram.ENTRIES", 30 * 3000)  # several panels
    x = (np.random.default_rng(0).normal(size=(30, width)) + offset).astype(np.float32)
    exact = definition(x)
    ours = (
        linear_gram(torch.tensor(x), single=True).numpy() * np.abs(x.astype(float) - x.astype(float).mean(0)).max() ** 2
    )
    size = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert np.abs((ours - exact) / size).max() < 5e-7
    assert np.abs((ours - exact) / size).max() > 1e-12  # it is the float32 path that was tested
    for gram in (linear_gram(torch.tensor(x).double(), single=True), linear_gram(torch.tensor(x))):
        assert gram.numpy() * np.abs(x - x.mean(0, dtype=float)).max() ** 2 == pytest.approx(
            exact, rel=1e-10, abs=1e-10 * exact.max()
        )


@pytest.mark.parametrize("centre_rows", [True, False])
def test_wide_float32_patterns_of_length_one_are_multiplied_in_float64(centre_rows):
    x = np.random.default_rng(0).normal(size=(30, 9000)).astype(np.float32) + np.float32(3)
    single, double = (unit_row_gram(torch.tensor(v), centre_rows) for v in (x, x.astype(np.float64)))
    assert torch.equal(single, double)


def test_scores_of_wide_float32_features_are_those_of_float64():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 5))
    wide = [(z @ rng.normal(size=(5, 9000)) + rng.normal(size=(40, 9000)) + 1e3).astype(np.float32) for _ in "ab"]
    single = [as_activations(name, {"l": x}) for name, x in zip("ab", wide, strict=True)]
    double = [as_activations(name, {"l": x.astype(np.float64)}) for name, x in zip("ab", wide, strict=True)]
    for spec in COSINE:
        one, other = (align(*sides, parse_metric(spec)).scores for sides in (single, double))
        assert one == pytest.approx(other, abs=1e-6 if spec.startswith("cka_linear") else 1e-13)


def both_widths(x, y):
    """Scores by metric of wide float32 features and of the same in float64."""
    for spec in (*SPECS, "rsa:rdm=sqeuclidean", "rsa:rdm=euclidean", "rsa:rdm=cosine,compare=kendall_b"):
        sides = ([as_activations("s", {"l": v.astype(kind)}) for v in (x, y)] for kind in (np.float32, np.float64))
        yield spec, *(align(*of_kind, parse_metric(spec)).scores for of_kind in sides)


def test_ties_of_wide_binary_float32_features_are_ties():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 30))
    for level in (0.0, 2.05):  # half of the entries, and one in fifty
        binary = z @ rng.normal(size=(30, 9000)) > np.sqrt(30) * level
        for spec, one, other in both_widths(binary.astype(float), z.astype(np.float32).astype(float)):
            assert one == pytest.approx(other, abs=1e-6 if spec.startswith("cka_linear") else 1e-13), spec


@pytest.mark.parametrize("far", [1e2, 1e5])
def test_a_far_stimulus_among_wide_float32_features_costs_linear_cka_alone_a_few_digits(far):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 5))
    x, y = (z @ rng.normal(size=(5, 9000)) + rng.normal(size=(60, 9000)) for _ in "xy")
    x[7] *= far
    x = x.astype(np.float32).astype(np.float64)
    y = y.astype(np.float32).astype(np.float64)
    for spec, one, other in both_widths(x, y):
        assert one == pytest.approx(other, abs=2e-5 if spec.startswith("cka_linear") else 1e-13), spec


def test_float32_products_refuse_tf32_and_put_the_setting_back():
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with full_float32():
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_halves_are_mirrored_in_blocks_of_any_size(n, size, monkeypatch):
    monkeypatch.setattr(symmetric, "BLOCK", size)
    k = torch.arange(float(n * n)).view(n, n)
    place = torch.arange(n) // max(size, -(-n // symmetric.BLOCKS))
    assert torch.equal(symmetric.mirror_(k.clone()), torch.where(place[:, None] >= place, k, k.T))
    values = torch.arange(n * (n - 1) // 2, dtype=torch.float64) + 1
    assert torch.equal(pairs(from_pairs(values, n)), values)
    assert torch.equal(from_pairs(values, n), from_pairs(values, n).T)
    panel = torch.randn(n, 4, dtype=torch.float64)
    product = torch.full((n, n), torch.nan, dtype=torch.float64)
    symmetric.add_product_(product, panel, first=True)
    symmetric.add_product_(product, panel, first=False)
    assert torch.allclose(symmetric.mirror_(product), 2 * panel @ panel.T)


def test_ranks_of_negative_tiny_and_tied_values_are_scipys():
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    for values in (rng.normal(size=500), rng.normal(size=500) * 1e-300, rng.integers(-4, 5, 500) / 7, np.zeros(5)):
        assert np.array_equal(midranks(torch.tensor(values)).numpy(), rankdata(values))


@pytest.mark.parametrize("memory", [10**9, WORK])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["single", "groups"])
@pytest.mark.parametrize("spec", SPECS)
def test_many_sides_at_once_are_each_pair(spec, groups, memory):
    sides = [
        side(name, seed, layers, groups) for seed, (name, layers) in enumerate(zip("abcd", (3, 1, 2, 3), strict=True))
    ]
    metric = parse_metric(spec)
    found = align_all(sides, metric, memory=max(memory, least(spec, 9)))
    assert list(found) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for (i, j), one in found.items():
        alone = align(sides[i], sides[j], metric)
        assert one.scores == pytest.approx(alone.scores, abs=1e-13)
        assert (one.layers_a, one.layers_b, one.n, one.options) == (alone.layers_a, alone.layers_b, N, alone.options)


def test_each_side_is_embedded_once(monkeypatch):
    taken = []
    whole = stacks.Room.stack
    monkeypatch.setattr(stacks.Room, "stack", lambda *given: taken.append(given[1:]) or whole(*given))
    align_all([side(name, seed) for seed, name in enumerate("abcd")], parse_metric("cka_linear"))
    assert taken == [(3, N, among, 5.0) for among in (12, 9, 6, 3)]


def test_sides_that_leave_out_different_pairs_are_compared_pair_by_pair():
    rdm = squared_distances(linear_gram(side("a").layers["a0"])).numpy()
    gap = rdm.copy()
    gap[2, 7] = gap[7, 2] = np.nan
    sides = [as_rdms("whole", {"v1": rdm}), as_rdms("gap", {"v1": gap}), side("b", 1, groups=GROUPS), side("c", 2)]
    sides = [replace(one, ids=sides[0].ids) for one in sides]
    with pytest.warns(UserWarning, match="missing"):
        found = align_all(sides, parse_metric("rsa"))
    for (i, j), one in found.items():
        if 1 in (i, j):
            with pytest.warns(UserWarning, match="missing"):
                alone = align(sides[i], sides[j], parse_metric("rsa"))
        else:
            alone = align(sides[i], sides[j], parse_metric("rsa"))
        assert one.scores == pytest.approx(alone.scores, abs=1e-13), (i, j)


def test_many_sides_name_what_has_no_score_once(recwarn):
    dead = replace(side("b", 1), layers={"dead": torch.ones(N, 2)}, depths={"dead": 0.0})
    found = align_all([side("a"), dead, side("c", 2)], parse_metric("cka_linear"))
    assert [str(w.message).split(":")[0] for w in recwarn] == ["layer 'dead' of b has no score (NaN)"]
    assert np.isnan(found[0, 1].scores).all()
    assert found[0, 1].undefined["dead"].startswith("the features are the same")
    assert np.isfinite(found[0, 2].scores).all()
    assert align_all([side("a")], parse_metric("cka_linear")) == {}


def test_tables_of_arrangements_are_made_as_memory_allows():
    a, b = side("a"), side("b", 1)
    drawn = permutations(N, None, 7, 0)
    whole = permuted_scores(prepare(a, b, parse_metric("rsa"), memory=10**9), drawn)
    counted = []
    parts = permuted_scores(prepare(a, b, parse_metric("rsa"), memory=WORK), drawn, counted.append)
    assert parts == pytest.approx(whole, abs=1e-13)
    assert sum(counted) == 7


@pytest.mark.parametrize("spare", [14.0, 16.0, 25.0])  # matrices: the stacks just fit, or all geometries too
@pytest.mark.parametrize("spec", ["cka_linear", "rsa", "rsa:compare=cosine_cov"])
def test_held_matrices_never_exceed_memory(spec, spare, monkeypatch):
    """Whatever is taken again, embedded again or laid out in tables, beside what is held."""
    where, least_left = [], []
    hold = stacks.Room.hold

    def held(self, tensor):
        hold(self, tensor)
        where.append(self)
        least_left.append(self.memory - self.held.size)

    monkeypatch.setattr(stacks.Room, "hold", held)
    both = prepare(side("a"), side("b", 1), parse_metric(spec), memory=int(spare * 8 * N * N))
    whole = prepare(side("a"), side("b", 1), parse_metric(spec), memory=10**9)
    expected, found = everything(whole), everything(both)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-13), name
    own = [left for room, left in zip(where, least_left, strict=True) if room is both.room]
    assert own
    assert min(own) >= WORK


@pytest.mark.parametrize("spec", ["cka_linear", "rsa"])
def test_panels_read_from_disk_are_let_go_before_more_are_read(spec, monkeypatch):
    prepared = prepare(side("a"), side("b", 1), parse_metric(spec), memory=WORK)
    monkeypatch.setattr(stacks, "PANEL", 8 * N * 6)  # one row of all layers at a time
    read, there, most = OnDisk.rows, [], []

    def rows(self, index):
        found = read(self, index)
        there.append(weakref.ref(found.untyped_storage()))
        most.append(sum(one() is not None for one in there))
        return found

    monkeypatch.setattr(OnDisk, "rows", rows)
    everything(prepared)
    prepared.embedded[0].values.diagonals()
    assert len(most) > 2 * N
    assert max(most) <= 4  # of each side the one in use and the next


def test_geometries_are_kept_where_there_is_room_for_them_and_taken_once_more_where_not(monkeypatch):
    taken = []
    monkeypatch.setattr("repalign.metrics.cka.linear_gram", lambda x, single: taken.append(1) or linear_gram(x, single))
    for memory, again in ((10**9, 0), (int(12 * 8 * N * N), 6)):
        taken.clear()
        both = prepare(side("a"), side("b", 1), parse_metric("cka_linear"), memory=memory)
        assert len(taken) == 6
        refit(both, torch.arange(0, N, 2))
        refit(both, torch.arange(1, N, 2))
        assert len(taken) == 6 + again
    taken.clear()
    align(side("a"), side("b", 1), parse_metric("cka_linear"))
    assert len(taken) == 6


def test_an_asymmetric_metric_of_many_sides_has_both_orders():
    sides = [side(name, seed) for seed, name in enumerate("abc")]
    metric = parse_metric("linear_predictivity:folds=3")
    found = align_all(sides, metric)
    assert len(found) == 6
    for (i, j), one in found.items():
        assert one.scores == pytest.approx(align(sides[i], sides[j], metric).scores, abs=1e-13)
