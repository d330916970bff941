import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from repalign.diagnosis.probe import PENALTIES, fit, probe_all
from repalign.diagnosis.splitting import split


def clouds(n=200, d=6, spread=1.0, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    centres = rng.normal(size=(classes, d))
    return torch.tensor(centres[codes] + spread * rng.normal(size=(n, d))).float(), torch.tensor(codes)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_fit_is_scikit_learns(penalty):
    x, codes = clouds(90)
    given = x.double()
    given = ((given - given.mean(0)) / given.std(0, correction=0)).numpy()
    other = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-9, max_iter=5000).fit(given, codes.numpy())
    mine = fit(x, codes, 3, penalty).logits(x).softmax(1)
    assert np.abs(mine.numpy() - other.predict_proba(given)).max() < 1e-4


def test_parts_are_disjoint_and_balanced():
    codes = [0] * 40 + [1] * 80
    parts = split(codes, None, seed=0)
    rows = torch.cat([parts.fit, parts.validation, parts.test])
    assert sorted(rows.tolist()) == list(range(120))
    assert (len(parts.fit), len(parts.validation), len(parts.test)) == (45, 15, 60)
    assert sum(codes[i] for i in parts.test) == 40  # two thirds, as among all
    assert split(codes, None, seed=1).test.tolist() != parts.test.tolist()


def test_groups_are_never_split():
    groups = [f"video{i // 5}" for i in range(100)]
    parts = split([i % 2 for i in range(100)], groups, seed=0)
    own = [{groups[int(i)] for i in rows} for rows in (parts.fit, parts.validation, parts.test)]
    assert sum(map(len, own)) == len(set.union(*own)) == 20


def test_probes_read_what_is_there_and_no_more():
    x, codes = clouds(400, spread=0.3)
    noise = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    found, note = probe_all({"known": x, "noise": noise, "still": torch.ones(400, 3)}, codes, 3, None, seed=0)
    known, random, still = found
    assert not note
    assert known.accuracy > 0.97
    assert abs(random.accuracy - 1 / 3) < 3 * random.se
    assert abs(still.accuracy - 1 / 3) < 0.01  # the largest class
    assert (known.n_train, known.n_test) == (200, 200)


def test_nothing_is_learned_or_chosen_on_the_part_that_is_scored():
    x, codes = clouds(200, spread=2.0)
    whole = probe_all({"x": x}, codes, 3, None, seed=0)[0][0]
    test = split(codes.tolist(), None, 0).test
    changed = x.clone()
    changed[test] = 1e6 * torch.randn(len(test), 6, generator=torch.Generator().manual_seed(0))
    other = probe_all({"x": changed}, codes, 3, None, seed=0)[0][0]
    assert other.penalty == whole.penalty
    assert other.accuracy < 0.45 < whole.accuracy


def test_clustered_pictures_have_larger_errors():
    x, codes = clouds(60, spread=2.0)
    groups = [str(i // 8) for i in range(480)]
    found = probe_all({"x": x.repeat_interleave(8, 0)}, codes.repeat_interleave(8), 3, groups, seed=0)[0][0]
    binomial = np.sqrt(found.accuracy * (1 - found.accuracy) / found.n_test)
    assert found.se > 2 * binomial


@pytest.mark.parametrize(
    ("n", "groups", "classes", "why"),
    [
        (12, None, 3, "12 pictures"),
        (40, ["a", "b"] * 20, 3, "2 groups are too few"),
        (40, None, 1, "one class"),
        (40, None, 7, "20 pictures to learn 7 classes"),
    ],
)
def test_too_little_to_probe_is_said(n, groups, classes, why):
    found, note = probe_all({"x": torch.randn(n, 2)}, torch.arange(n) % classes, max(classes, 3), groups, seed=0)
    assert found == ()
    assert why in note
