"""The tests: every arrangement valued as if by hand, levels, groups, reproducible p-values, and what is refused."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, wasserstein_distance

from repalign.errors import InputError, RepalignWarning
from repalign.infer.resample import sign_flips
from repalign.infer.two_sample import two_sample
from repalign.twosample import make_two_sample
from repalign.twosample.plan import labellings
from repalign.twosample.pooled import pool

STATISTICS = ["mmd2", "energy", "wasserstein1", "sliced_wasserstein1"]


def pair(seed=0, n=12, d=3, shift=0.3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, 0.7 * x + rng.normal(size=(n, d)) + shift


def form(x, y, name, **options):
    return make_two_sample(name, **options).prepare(pool(torch.tensor(x), torch.tensor(y)))


@pytest.mark.parametrize("name", STATISTICS)
def test_swaps_are_swapped_rows(name):
    x, y = pair()
    signs = np.random.default_rng(1).choice([1, -1], size=(20, 12)).astype(np.int8)
    values = form(x, y, name).swapped(torch.tensor(signs))
    for row, found in zip(signs, values.tolist(), strict=True):
        kept = (row > 0)[:, None]
        expected = form(np.where(kept, x, y), np.where(kept, y, x), name)
        observed = expected.relabelled((torch.arange(24) < 12)[None])
        assert found == pytest.approx(float(observed[0]), rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("name", STATISTICS)
def test_relabellings_are_relabelled_rows(name):
    x, y = pair()
    z = np.concatenate([x, y])
    rng = np.random.default_rng(2)
    sizes = [12] * 8 if name == "wasserstein1" else [2, 5, 12, 12, 17, 22]
    first = np.array([rng.permutation(24) < size for size in sizes])
    values = form(x, y, name).relabelled(torch.tensor(first))
    for row, found in zip(first, values.tolist(), strict=True):
        # the unit is that of the whole, which stays
        expected = form(z[row], z[~row], name).relabelled((torch.arange(24) < row.sum())[None])
        assert found == pytest.approx(float(expected[0]), rel=1e-11, abs=1e-14)


def test_many_arrangements_in_chunks_change_nothing(monkeypatch):
    x, y = pair()
    plain = {s: two_sample(x, y, s, n_permutations=200) for s in STATISTICS}
    monkeypatch.setattr("repalign.twosample.means.ROWS", 7)
    monkeypatch.setattr("repalign.twosample.wasserstein.ELEMENTS", 100)
    for name, whole in plain.items():
        parts = two_sample(x, y, name, n_permutations=200)
        assert parts.p_value == whole.p_value
        assert parts.null_mean == pytest.approx(whole.null_mean, rel=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_explicit_signs_reproduce_p(name, alternative):
    x, y = pair(3)
    drawn = two_sample(x, y, name, n_permutations=29, seed=4, alternative=alternative)
    signs = sign_flips(12, 29, 4, mirrored=True).signs
    given = two_sample(x, y, name, signs=signs, alternative=alternative)
    assert (given.p_value, given.null_mean) == (drawn.p_value, drawn.null_mean)
    assert drawn.n_permutations == given.n_permutations == 29
    if alternative == "greater":
        null = np.array([two_sample(np.where(s, x, y), np.where(s, y, x), name, n_permutations=0).statistic
                         for s in (signs.numpy() > 0)[:, :, None]])  # fmt: skip
        assert drawn.p_value == (np.sum(null >= drawn.statistic * (1 - 1e-10)) + 1) / 30
        assert drawn.null_mean == pytest.approx(null.mean(), rel=1e-10)


@pytest.mark.parametrize("name", STATISTICS)
def test_explicit_permutations_reproduce_p(name):
    x, y = pair(3)
    y = y if name == "wasserstein1" else y[:9]
    n = len(x) + len(y)
    index = np.array([np.random.default_rng(i).permutation(n) for i in range(25)])
    given = two_sample(x, y, name, paired=False, permutations=index)
    z = np.concatenate([x, y])
    null = np.array([
        two_sample(z[i[:12]], z[i[12:]], name, paired=False, n_permutations=0).statistic for i in index
    ])  # fmt: skip
    assert given.p_value == (np.sum(null >= given.statistic - 1e-12) + 1) / 26
    assert given.null_mean == pytest.approx(null.mean(), rel=1e-10, abs=1e-15)


def test_few_pairs_are_enumerated():
    x, y = pair(n=6, shift=4)
    found = two_sample(x, y, "energy")
    assert (found.n_permutations, found.exact, found.n) == (63, True, 6)
    assert found.p_value == 2 / 64  # the observed arrangement and its mirror image
    assert two_sample(x, y, "energy", n_permutations=62).exact is False


@pytest.mark.parametrize(("n_x", "n_y", "count"), [(4, 4, 69), (3, 5, 55), (2, 6, 27)])
def test_few_labellings_are_enumerated(n_x, n_y, count):
    drawn = labellings(n_x + n_y, n_x, 100, 0)
    assert drawn.exact
    rows = {tuple(r) for r in drawn.first.tolist()}
    observed = tuple(i < n_x for i in range(n_x + n_y))
    assert rows | {observed} == {r for r in itertools.product([False, True], repeat=n_x + n_y) if sum(r) == n_x}
    assert observed not in rows
    assert len(drawn.first) == count


def test_drawn_labellings_keep_the_count_and_follow_the_seed():
    drawn = [labellings(30, 11, 50, seed).first for seed in (1, 1, 2)]
    assert (drawn[0].sum(1) == 11).all()
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].double().mean(0).min() > 0.2  # no unit stands still


def test_pairs_swap_as_whole_groups():
    x, y = pair(n=24)
    groups = np.array([f"v{i % 8}" for i in range(24)])
    found = two_sample(x, y, "energy", groups=groups)
    assert (found.n, found.n_groups, found.n_permutations, found.exact) == (24, 8, 255, True)
    patterns = np.array(list(itertools.product([1, -1], repeat=8))[1:])
    by_group = two_sample(x, y, "energy", groups=groups, signs=patterns)
    by_row = two_sample(x, y, "energy", groups=list(groups), signs=patterns[:, np.arange(24) % 8])
    plain = two_sample(x, y, "energy", signs=patterns[:, np.arange(24) % 8])
    assert found.p_value == by_group.p_value == by_row.p_value == plain.p_value
    assert (by_row.n_groups, plain.n_groups) == (8, None)


def test_points_are_relabelled_as_whole_groups():
    x, y = pair(n=20)
    groups = ([f"x{i // 4}" for i in range(20)], np.arange(16) // 2)
    found = two_sample(x, y[:16], "energy", paired=False, groups=groups, n_permutations=2000)
    assert (found.n, found.n_groups, found.n_permutations, found.exact) == (36, 13, 1286, True)
    members = [np.flatnonzero(np.r_[np.arange(20) // 4, 5 + np.arange(16) // 2] == g) for g in range(13)]
    z = np.concatenate([x, y[:16]])
    null = []
    for chosen in itertools.islice(itertools.combinations(range(13), 5), 1, None, 40):
        row = np.zeros(36, bool)
        row[np.concatenate([members[g] for g in chosen])] = True
        null.append((row, two_sample(z[row], z[~row], "energy", paired=False, n_permutations=0).statistic))
    values = form(x, y[:16], "energy")
    unit = values.unit
    ours = values.relabelled(torch.tensor(np.array([r for r, _ in null]))) * unit
    assert ours.numpy() == pytest.approx(np.array([v for _, v in null]), rel=1e-11)


def test_paired_test_keeps_its_level_where_relabelling_never_rejects():
    """Pairs of correlation 0.9 from one distribution, 60 data sets."""
    rng = np.random.default_rng(5)
    paired, pooled = [], []
    for k in range(60):
        x = rng.normal(size=(14, 2))
        y = 0.9 * x + np.sqrt(0.19) * rng.normal(size=x.shape)
        paired.append(two_sample(x, y, "energy", n_permutations=59, seed=k).p_value)
        if k < 15:
            pooled.append(two_sample(x, y, "energy", n_permutations=59, seed=k, paired=False).p_value)
    assert binomtest(sum(p <= 0.05 for p in paired), 60, 0.05).pvalue > 0.01
    assert binomtest(sum(p <= 0.5 for p in paired), 60, 0.5).pvalue > 0.01
    assert min(pooled) > 0.5


def test_groups_keep_the_level_of_a_paired_test():
    """Ten videos of six frames, each video with its own change: frames are no replicates of it."""
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(10), 6)
    frames, videos = [], []
    for k in range(40):
        x = rng.normal(size=(60, 2)) + rng.normal(size=(10, 2))[groups]
        y = x + rng.normal(size=(10, 2))[groups] + 0.3 * rng.normal(size=x.shape)
        frames.append(two_sample(x, y, "energy", n_permutations=59, seed=k).p_value)
        videos.append(two_sample(x, y, "energy", n_permutations=59, seed=k, groups=groups).p_value)
    assert binomtest(sum(p <= 0.05 for p in videos), 40, 0.05).pvalue > 0.01
    assert sum(p <= 0.05 for p in frames) > 10


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("paired", [True, False])
def test_a_clear_difference_is_found(name, paired):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(15, 2))
    found = two_sample(x, rng.normal(size=(15, 2)) + 2, name, n_permutations=199, paired=paired)
    assert found.p_value == 1 / 200
    assert found.statistic > found.null_mean


@pytest.mark.parametrize("name", ["energy", "wasserstein1", "sliced_wasserstein1"])
def test_an_unchanged_condition_is_zero_and_never_ranked_by_rounding(name):
    x, _ = pair(n=30, d=50)
    found = two_sample(x, x.copy(), name, n_permutations=99)
    assert (found.statistic, found.null_mean, found.p_value) == (0, 0, 1)
    assert "every arrangement gives the same value" in found.note


def test_wasserstein1_says_when_no_swap_can_change_it():
    x = np.random.default_rng(8).normal(size=(30, 64))
    found = two_sample(x, x + 0.2, "wasserstein1", n_permutations=50)
    assert found.p_value == 1
    assert found.note == "every arrangement gives the same value, so p is 1 and says nothing"
    assert two_sample(x, x + 0.2, "wasserstein1", n_permutations=50, alternative="two-sided").p_value == 1
    assert two_sample(x, x + 0.2, "energy", n_permutations=50).p_value < 0.05


def test_constant_conditions():
    flat = np.full((8, 3), 0.1)
    for name in ("energy", "wasserstein1", "sliced_wasserstein1"):
        found = two_sample(flat, flat, name, n_permutations=20)
        assert (found.statistic, found.p_value) == (0, 1)
    with pytest.warns(RepalignWarning, match=r"mmd2 of x and y has no value \(NaN\): the median distance"):
        found = two_sample(flat, flat, "mmd2", n_permutations=20)
    assert np.isnan([found.statistic, found.p_value, found.null_mean]).all()
    assert "kernel has no width" in found.note


def test_two_constants_apart():
    x, y = np.full((8, 3), 1e9), np.full((8, 3), 1e9 + 2)
    for name in ("energy", "wasserstein1"):
        factor = 2 if name == "energy" else 1
        assert two_sample(x, y, name, n_permutations=20).statistic == pytest.approx(factor * np.sqrt(12), rel=1e-12)


def test_the_statistic_alone():
    x, y = pair(n=3)
    found = two_sample(x, y, n_permutations=0)
    assert np.isfinite(found.statistic)
    assert np.isnan([found.p_value, found.null_mean]).all()
    assert (found.n_permutations, found.exact, found.note, found.options) == (0, False, "", {"bandwidth": 1.0})


def test_too_few_for_a_p():
    x, y = pair(n=5)
    with pytest.warns(RepalignWarning, match="energy of x and y has no p: .* at least 6 "):
        found = two_sample(x, y, "energy")
    assert np.isnan(found.p_value)
    assert found.statistic > 0
    assert "at least 6" in found.note
    with pytest.warns(RepalignWarning, match="at least 6 groups are needed"):
        found = two_sample(*pair(n=20), "energy", groups=np.arange(20) % 5)
    assert found.n_groups == 5
    with pytest.warns(
        RepalignWarning, match="3 points of x and 3 of y have 10 labellings, so no p can fall below 0.1; 4"
    ):
        assert np.isnan(two_sample(x[:3], y[:3], "energy", paired=False).p_value)
    groups = (np.arange(20) % 3, 10 + np.arange(20) % 3)
    with pytest.warns(RepalignWarning, match="3 groups of x and 3 of y .*; 4 groups of each are enough"):
        assert np.isnan(two_sample(*pair(n=20), "energy", paired=False, groups=groups).p_value)


def test_above_2000_points_wasserstein1_is_sliced_and_says_so():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2001, 1)), rng.normal(size=(1500, 1))
    found = two_sample(x, y, "wasserstein1", paired=False, n_permutations=0)
    assert found.statistic == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-10)
    assert found.name == "sliced_wasserstein1"
    assert found.options == {"n_projections": 100, "projection_seed": 0}
    assert "2,001 points are more than 2,000" in found.note


def test_more_points_than_a_float_can_count_labellings_of():
    rng = np.random.default_rng(10)
    found = two_sample(rng.normal(size=(700, 1)), rng.normal(size=(600, 1)), "energy", paired=False, n_permutations=5)
    assert found.n_permutations == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros((12, 4))}, "x has 3 features and y 4; both conditions must come from one layer"),
        ({"y": np.zeros((9, 3))}, "x has 12 stimuli and y 9; pairs need .* paired=False"),
        ({"y": np.zeros((9, 3)), "paired": False, "statistic": "wasserstein1"}, "x has 12 and y 9; use sliced_wass"),
        ({"x": np.zeros((1, 3)), "paired": False}, "at least 2 stimuli of each condition, not 1 and 12"),
        ({"x": np.full((12, 3), np.nan)}, "'x' holds 36 NaN or infinite values in 12 of 12 stimuli"),
        ({"y": np.r_[np.full((1, 3), np.inf), np.zeros((11, 3))]}, "'y' holds 3 NaN or infinite values in 1 of 12"),
        ({"x": np.zeros(12)}, r"'x' has shape \(12,\)"),
        ({"x": np.zeros((12, 3), complex)}, "'x' is torch.complex128; features must be real"),
        ({"statistic": "mmd"}, "unknown two-sample statistic 'mmd'; did you mean mmd2"),
        ({"bandwith": 2}, "unknown option of mmd2 'bandwith'; did you mean bandwidth"),
        ({"bandwidth": 0}, "bandwidth must be a positive number of median distances, not 0.0"),
        ({"bandwidth": "wide"}, "mmd2: bandwidth takes a number, not 'wide'"),
        ({"statistic": "sliced_wasserstein1", "n_projections": 2.5}, "n_projections takes a whole number, not 2.5"),
        ({"statistic": "sliced_wasserstein1", "n_projections": 0}, "n_projections must be at least 1, not 0"),
        ({"statistic": "sliced_wasserstein1", "projection_seed": -1}, "projection_seed can't be negative"),
        ({"statistic": "energy", "bandwidth": 1}, "unknown option of energy 'bandwidth'"),
        ({"alternative": "less"}, "alternative must be one of greater, two-sided, not 'less'"),
        ({"n_permutations": -1}, "n_permutations must be a whole number of 0 or more, not -1"),
        ({"groups": ["a"] * 11}, "11 groups for 12 rows; give one each"),
        ({"signs": np.ones((4, 11))}, r"signs has shape \(4, 11\)"),
        ({"signs": np.zeros((4, 12))}, "give \\+1 and −1"),
        ({"signs": np.r_[np.ones((1, 12)), [[-1] + [1] * 11]], "groups": ["a"] * 6 + ["b"] * 6}, "row 1 of signs"),
        ({"permutations": np.zeros((1, 24), int)}, "permutations= belongs to an unpaired test"),
        ({"signs": np.ones((1, 12)), "paired": False}, "signs= belongs to a paired test"),
        ({"permutations": np.zeros((1, 24), int), "paired": False}, "row 0 of permutations does not hold each"),
        ({"permutations": np.arange(24)[None, ::-1].copy(), "paired": False,
          "groups": (["a"] * 12, ["b"] * 5 + ["c"] * 7)}, None),
        ({"permutations": np.roll(np.arange(24), 1)[None], "paired": False,
          "groups": (["a"] * 12, ["b"] * 12)}, "row 0 of permutations splits a group"),
        ({"paired": False, "groups": ["a"] * 24}, r"must be a tuple \(groups of x, groups of y\), not list of 24"),
        ({"paired": False, "groups": (["a"] * 12, ["a"] * 12)}, r"1 groups are in x and in y \(a\)"),
        ({"paired": False, "groups": (["a"] * 12, ["b"] * 11)}, "11 groups of y for 12 rows"),
    ],
)  # fmt: skip
def test_what_is_refused(change, message):
    x, y = pair()
    given = {"x": x, "y": y, "n_permutations": 9} | change
    if message is None:
        assert two_sample(**given).n_permutations == 1
        return
    with pytest.raises(InputError, match=message):
        two_sample(**given)


def test_unequal_groups_under_wasserstein1_are_refused():
    x, y = pair()
    groups = (np.arange(12) // 3, [f"y{max(i, 3)}" for i in range(12)])
    with pytest.raises(InputError, match=r"groups of one size.*sliced_wasserstein1"):
        two_sample(x, y, "wasserstein1", paired=False, groups=groups, n_permutations=50)


def test_tensors_and_lists_are_taken():
    x, y = pair()
    plain = two_sample(x, y, "energy", n_permutations=50)
    assert two_sample(x.tolist(), torch.tensor(y, requires_grad=True), "energy", n_permutations=50) == plain
