"""Groups of alike stimuli: an estimate that they don't lift, and its exact deletions."""

import itertools

import numpy as np
import pytest
import torch

import repalign as ra
from repalign.align import prepare
from repalign.errors import InputError
from repalign.infer.jackknife import deleted_scores, others, refit
from repalign.infer.resample import deletions
from repalign.metrics import parse_metric
from repalign.metrics.gram import linear_gram, shares, u_centred
from repalign.wrap import as_activations, check_groups

BETWEEN = ["cka_linear", "cka_rbf", "distance_correlation", "rsa", "rsa:compare=pearson", "rsa:compare=cosine"]
SIZES = {"even": [4] * 8, "uneven": [3, 9, 5, 2, 11, 6], "one is half": [16, 3, 5, 4, 4]}


def clustered(sizes, seed=0, noise=0.3):
    """Independent layers of alike frames; the frames of a group are not next to each other."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(range(len(sizes)), sizes))
    make = lambda: rng.normal(size=(len(sizes), 6))[label] + noise * rng.normal(size=(len(label), 6))  # noqa: E731
    return {"a0": make(), "a1": make()}, {"b0": make()}, [f"video {k}" for k in label]


def prepared(spec, sizes, pairs="between", seed=0):
    a, b, groups = clustered(sizes, seed)
    left, right = as_activations("a", a), as_activations("b", b)
    left = left.__class__(**{**left.__dict__, "groups": check_groups(groups, len(left))})
    return prepare(left, right, parse_metric(spec), pairs)


def hsic_of_one_frame_a_group(first, second, label):
    """Average the unbiased HSIC over every choice of one stimulus a group: what groups leave unbiased."""
    found = []
    for chosen in itertools.product(*(np.flatnonzero(label == g) for g in np.unique(label))):
        u, v = (u_centred(torch.tensor(m[np.ix_(chosen, chosen)])) for m in (first, second))
        found.append(float((u * v).sum()))
    return np.mean(found)


@pytest.mark.parametrize("spec", BETWEEN)
def test_independent_layers_score_zero_between_groups_and_more_with_all_pairs(spec):
    found = {
        pairs: [prepared(spec, [6] * 9, pairs, seed).alignment().scores[0, 0] for seed in range(40)]
        for pairs in ("between", "all")
    }
    error = np.std(found["between"]) / np.sqrt(40)
    if spec != "rsa:compare=cosine":
        assert abs(np.mean(found["between"])) < 3 * error
        assert np.mean(found["all"]) > np.mean(found["between"]) + 0.05


def test_between_groups_it_estimates_what_single_frames_do():
    """Same expectation as unbiased HSIC of one frame a group, here up to the factor of the number of pairs."""
    rng = np.random.default_rng(0)
    ours, frames = [], []
    for _ in range(60):
        label = np.repeat(range(5), 2)
        z = rng.normal(size=(5, 3))
        x, y = (z[label] + rng.normal(size=(10, 3)) for _ in "xy")
        grams = [linear_gram(torch.tensor(v)).numpy() * np.abs(v - v.mean(0)).max() ** 2 for v in (x, y)]
        within = label[:, None] == label[None]
        masked = [u_centred(torch.tensor(np.where(within, np.nan, m))) for m in grams]
        ours.append(float((masked[0] * masked[1]).sum()) / (10 * 8 - 2 * 10))  # pairs less row shares, as 5·4 − 2·5
        frames.append(hsic_of_one_frame_a_group(*grams, label) / (5 * 4 - 2 * 5))
    gap = np.array(ours) / np.mean(ours) - np.array(frames) / np.mean(frames)
    assert np.mean(ours) > 0
    assert abs(np.mean(gap)) < 1e-9 + 3 * np.std(gap) / np.sqrt(60)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_u_centring_leaves_no_row_share(sizes):
    _, b, groups = clustered(sizes)
    gram = linear_gram(torch.tensor(b["b0"]))
    within = torch.tensor([[g == h for h in groups] for g in groups])
    centred = u_centred(gram.masked_fill(within, torch.nan))
    assert (centred[within] == 0).all()
    assert centred.sum(0).numpy() == pytest.approx(np.zeros(len(groups)), abs=1e-10)
    shifted = gram + torch.arange(len(gram))[:, None] + torch.arange(len(gram))[None, :]
    again = u_centred(shifted.masked_fill(within, torch.nan))
    assert again.numpy() == pytest.approx(centred.numpy(), abs=1e-10)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_row_shares_solve_their_equations(sizes):
    _, _, groups = clustered(sizes)
    codes = torch.tensor(np.unique(groups, return_inverse=True)[1])
    sums = torch.randn(3, len(codes), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = shares(sums, codes)
    between = (codes[:, None] != codes[None, :]).double()
    assert (found * between.sum(0) + found @ between).numpy() == pytest.approx(sums.numpy(), abs=1e-10)


def test_groups_of_one_are_no_groups():
    a, b, _ = clustered([5] * 6)
    alone = ra.infer_arrays(a, b, ["cka_linear"], groups=range(30))["cka_linear"]
    plain = ra.infer_arrays(a, b, ["cka_linear"])["cka_linear"]
    assert alone.alignment.scores == pytest.approx(plain.alignment.scores, abs=1e-14)
    assert alone.se == pytest.approx(plain.se, abs=1e-14)


@pytest.mark.parametrize("spec", [s for s in BETWEEN if s != "rsa"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_deleted_groups_are_exact(spec, sizes):
    both = prepared(spec, sizes)
    left_out = deletions(len(both.a), both.groups, 99, 0)
    plain = np.stack([refit(both, others(len(both.a), rows)) for rows in left_out])
    assert deleted_scores(both, left_out) == pytest.approx(plain, abs=1e-11)


def test_what_is_left_out_is_counted_and_few_groups_say_that_nothing_is():
    a, b, groups = clustered([4] * 8)
    found = ra.infer_arrays(a, b, ["cka_linear", "cka_linear:debiased=false"], groups=groups)
    assert "48 of 496 pairs within a group are left out" in found["cka_linear"].notes
    assert not any("left out" in note for note in found["cka_linear:debiased=false"].notes)
    a, b, groups = clustered([10] * 3)
    few = ra.infer_arrays(a, b, ["cka_linear"], groups=groups)["cka_linear"]
    assert any("3 groups are too few to compare between groups only (4 are needed)" in note for note in few.notes)
    assert few.alignment.scores == pytest.approx(ra.compare_arrays(a, b, ["cka_linear"])["cka_linear"].scores)
    with pytest.raises(InputError, match="pairs must be one of between, all, not 'within'"):
        ra.infer_arrays(a, b, groups=groups, pairs="within")
