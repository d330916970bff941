"""What can't be used is refused in one sentence that names it; what looks odd but can be used works.

The refusals run in a process of their own, without the run-time checks of types that the other tests use: these would
answer first, in words that no user ever sees.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

import repalign as ra
from repalign.errors import InputError

N = 12
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, 4)), RNG.normal(size=(N, 3))
D = squareform(pdist(X))
RAGGED = [[1.0, 2.0], [1.0]]
UNSYMMETRIC = np.triu(D) * 1e-9 + np.tril(RNG.random((N, N)), -1) * 1e-9
SUBJECTS = {f"s{k}": RNG.normal(size=(N, 5)) for k in range(6)}
CKA = ra.make_metric("cka_linear")
MODELS = {"m": X}


def infer(metrics=("cka_linear",), groups=None, **plan):
    return ra.infer_arrays({"x": X}, {"y": Y}, metrics, groups=groups, plan=ra.Plan(**{"n_permutations": 9} | plan))


def models(subjects=SUBJECTS, given=MODELS, metric="cka_linear", **options):
    people = ra.subjects_from_arrays(subjects) if subjects is SUBJECTS else subjects
    return ra.model_comparison(people, given, metric, **options)


def mantel(x=X, y=Y, **options):
    return ra.mantel(x, y, **options)


def difference(a=X, **options):
    return ra.difference(a, Y, X[:, :2], **options)


def two_sample(x=X, **options):
    return ra.two_sample(x, X + 1, **options)


# a call, its arguments and words of the message, among which the thing's name
REFUSED = [
    (ra.similarity, (None, Y), {}, "layer 'x' holds object; features must be real numbers"),
    (ra.similarity, (X.astype(str), Y), {}, "layer 'x' holds <U"),
    (ra.similarity, (X, RAGGED), {}, "layer 'y' is no array"),
    (ra.similarity, (X > 0, Y), {}, "layer 'x' is torch.bool; features must be real numbers"),
    (ra.similarity, (X, np.array([object()] * N)), {}, "layer 'y' holds object"),
    (ra.similarity, (torch.tensor(X).to_sparse(), Y), {}, "layer 'x' is torch.sparse_coo"),
    (ra.similarity, (X, Y.astype(np.longdouble) * np.longdouble("1e4000")), {}, "layer 'y' holds 36 NaN or infinite"),
    (ra.similarity, (X, Y[:-1]), {}, "x has 12 stimuli and y 11"),
    (ra.similarity, (X, Y, CKA), {"debiased": False}, "'cka_linear:debiased=true' has its options already, so debiase"),
    (ra.similarity, (X, Y, "cka_rbf:bandwidth=2"), {"median": "all"}, "'cka_rbf:bandwidth=2' has its options already"),
    (ra.similarity, (X, Y, 3), {}, "metric must be a name, such as 'cka_linear', or a Metric, not 3"),
    (ra.similarity, (X, Y, "cka"), {}, "unknown metric 'cka'"),
    (ra.infer_arrays, (X, Y), {}, "a must hold arrays by name, {'name': array}, not ndarray"),
    (ra.infer_arrays, ({"x": X}, Y), {}, "b must hold arrays by name"),
    (ra.infer_arrays, ({"x": X}, {}), {}, "b holds no layer"),
    (infer, ("cka",), {}, "unknown metric 'cka'"),
    (infer, (5,), {}, "metrics must list names or Metrics, such as ['cka_linear'], not 5"),
    (infer, ([5],), {}, "metric must be a name"),
    (infer, (), {"groups": 5}, "groups must list one name for each row, not 5"),
    (infer, (), {"groups": np.array(5)}, "groups must list one name for each row, not array(5)"),
    (infer, (), {"groups": range(5)}, "5 groups for 12 stimuli"),
    (infer, (), {"seed": -1}, "seed must be a whole number of 0 or more, not -1"),
    (infer, (), {"n_permutations": 2.5}, "permutations must be a whole number of 0 or more, not 2.5"),
    (infer, (), {"level": 1.5}, "level must lie between 0 and 1"),
    (infer, (), {"interval": None}, "interval must be one of"),
    (infer, (), {"permutations": np.zeros((0, N), int)}, "permutations has shape (0, 12)"),
    (infer, (), {"permutations": RAGGED}, "permutations is no array"),
    (mantel, (), {"n_permutations": -5}, "permutations must be a whole number of 0 or more, not -5"),
    (mantel, (), {"n_permutations": "99"}, "permutations must be a whole number of 0 or more, not '99'"),
    (mantel, (), {"seed": 1.5}, "seed must be a whole number of 0 or more, not 1.5"),
    (mantel, (), {"groups": 5}, "groups must list one name"),
    (mantel, (), {"permutations": np.zeros((0, N), int)}, "permutations has shape (0, 12)"),
    (mantel, (UNSYMMETRIC, D), {"rdm": "precomputed"}, "'x' with shape (12, 12) is no distance matrix"),
    (mantel, (D * 1e-12 + 1e-14, D), {"rdm": "precomputed"}, "'x' with shape (12, 12) is no distance matrix"),
    (difference, (), {"n_permutations": -3}, "permutations must be a whole number of 0 or more, not -3"),
    (difference, (), {"seed": -1}, "seed must be a whole number of 0 or more, not -1"),
    (difference, (), {"level": 1.5}, "level must lie between 0 and 1"),
    (difference, (), {"level": 0}, "level must lie between 0 and 1"),
    (difference, (), {"signs": np.ones((0, N))}, "signs has shape (0, 12)"),
    (difference, (), {"groups": 5}, "groups must list one name"),
    (two_sample, (None,), {}, "layer 'x' holds object"),
    (two_sample, (), {"n_permutations": 2.5}, "n_permutations must be a whole number of 0 or more, not 2.5"),
    (two_sample, (), {"n_permutations": -1}, "n_permutations must be a whole number of 0 or more, not -1"),
    (two_sample, (), {"seed": -1}, "seed must be a whole number of 0 or more, not -1"),
    (two_sample, (), {"signs": np.ones((0, N))}, "signs has shape (0, 12)"),
    (two_sample, (), {"signs": RAGGED}, "signs is no array"),
    (two_sample, (), {"groups": 5}, "groups must list one name"),
    (two_sample, (), {"groups": 5, "paired": False}, "groups must list one name"),
    (two_sample, (), {"groups": (5, range(N)), "paired": False}, "groups of x must list one name"),
    (two_sample, (), {"groups": (None, range(N)), "paired": False}, "groups are None in one condition only"),
    (models, (X,), {}, "subjects must be what load_subjects or subjects_from_arrays gives, not ndarray"),
    (models, (SUBJECTS, X), {}, "models must hold arrays by name"),
    (models, (SUBJECTS, {"m": None}), {}, "'m' holds object and no real numbers"),
    (models, (SUBJECTS, {"m": RAGGED}), {}, "'m' of models is no array"),
    (models, (), {"n_permutations": -3}, "n_permutations must be a whole number of 0 or more, not -3"),
    (models, (), {"seed": 1.5}, "seed must be a whole number of 0 or more, not 1.5"),
    (models, (), {"signs": np.ones((0, 6))}, "signs has shape (0, 6)"),
    (models, (), {"groups": 5}, "groups must list one name"),
    (models, (), {"ids": 5}, "ids must list one name"),
    (models, (SUBJECTS, MODELS, CKA), {"debiased": False}, "has its options already, so debiased can't be given"),
    (ra.subjects_from_arrays, ([X, X],), {}, "subjects must hold arrays by name"),
]  # fmt: skip


def answers():
    """Call everything, and say what came of it: the kind of error and its message."""
    found = []
    for call, arguments, options, _ in REFUSED:
        try:
            call(*arguments, **options)
        except Exception as error:
            found.append(("InputError" if isinstance(error, InputError) else type(error).__name__, str(error)))
        else:
            found.append(("nothing", ""))
    return found


@pytest.fixture(scope="module")
def answered():
    run = subprocess.run([sys.executable, "-W", "error", Path(__file__)], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def case(number):
    return f"{number}-{REFUSED[number][0].__name__}-{REFUSED[number][3][:30]}"


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=case)
def test_what_cannot_be_used_is_refused_by_name(answered, number):
    kind, message = answered[number]
    assert kind == "InputError", message
    assert REFUSED[number][3] in message


ODD = {
    "negative strides": X[::-1].copy()[::-1],
    "transposed": np.asfortranarray(X),
    "longdouble": X.astype(np.longdouble),
    "other byte order": X.astype(">f8"),
    "list": X.tolist(),
    "list of tensors": list(torch.tensor(X)),
    "needs gradients": torch.tensor(X, requires_grad=True),
}


@pytest.mark.parametrize("form", ODD)
def test_odd_arrays_are_what_they_hold(form):
    assert ra.similarity(ODD[form], Y) == pytest.approx(ra.similarity(X, Y), abs=1e-14)
    people = ra.subjects_from_arrays(SUBJECTS)
    scores = [ra.model_comparison(people, {"m": m}, n_permutations=0).scores for m in (ODD[form], X)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-14)


def test_a_flip_of_channels_is_seen_and_the_callers_array_stays():
    flipped = X[:, ::-1]
    assert ra.similarity(flipped, Y, "rsa") == pytest.approx(ra.similarity(flipped.copy(), Y, "rsa"), abs=1e-14)
    frozen = X.copy()
    frozen.flags.writeable = False
    assert ra.similarity(frozen, Y) == ra.similarity(X, Y)
    people = ra.subjects_from_arrays(SUBJECTS)
    assert ra.model_comparison(people, {"m": frozen}, n_permutations=0).scores.shape == (1, 6)
    wide = np.broadcast_to(X[:, :1], (N, 3))
    assert ra.similarity(wide, Y) == pytest.approx(ra.similarity(X[:, :1], Y), abs=1e-12)
    assert ra.similarity((100 * X).astype(np.uint16), Y) == ra.similarity((100 * X).astype(np.uint16).astype(float), Y)


def test_a_metric_may_be_a_name_a_spec_or_itself():
    biased = ra.similarity(X, Y, "cka_linear", debiased=False)
    chosen = ra.make_metric("cka_linear", debiased=False)
    assert ra.similarity(X, Y, "cka_linear:debiased=false") == ra.similarity(X, Y, chosen) == biased
    arrays = {"x": X}, {"y": Y}
    for given, key in (("rsa", "rsa"), (chosen, chosen.spec), (["rsa"], "rsa")):
        assert list(ra.infer_arrays(*arrays, given, plan=ra.Plan(n_permutations=0))) == [key]
        assert list(ra.compare_arrays(*arrays, given)) == [key]
    people = ra.subjects_from_arrays(SUBJECTS)
    by_name = ra.model_comparison(people, MODELS, "cka_linear", debiased=False, n_permutations=0)
    assert ra.model_comparison(people, MODELS, chosen, n_permutations=0).scores == pytest.approx(by_name.scores)
    assert ra.noise_ceiling(people, chosen).upper == ra.noise_ceiling(people, "cka_linear:debiased=false").upper


def test_groups_may_come_one_at_a_time():
    groups = [i // 2 for i in range(N)]
    assert two_sample(groups=iter(groups), n_permutations=9) == two_sample(groups=groups, n_permutations=9)
    apart = {"paired": False, "n_permutations": 9}
    both = tuple([f"{side}{g}" for g in groups] for side in "xy")
    assert two_sample(groups=tuple(map(iter, both)), **apart) == two_sample(groups=both, **apart)
    people = ra.subjects_from_arrays(SUBJECTS)
    assert ra.model_comparison(people, MODELS, groups=(g for g in groups)).n_units == 6
    assert infer(groups=iter(groups))["cka_linear"].n_groups == 6


@pytest.mark.parametrize("scale", [1e-150, 1e-9, 1.0, 1e9])
def test_an_rdm_is_symmetric_at_its_own_scale(scale):
    rounded = D * scale * (1 + 1e-9 * np.triu(np.random.default_rng(1).normal(size=D.shape)))
    found = ra.mantel(rounded, D, rdm="precomputed", n_permutations=0)
    assert found.statistic == pytest.approx(1, abs=1e-8)
    with pytest.raises(InputError, match="is no distance matrix"):
        ra.mantel(UNSYMMETRIC * scale, D, rdm="precomputed", n_permutations=0)


def test_the_command_line_refuses_a_seed_below_zero(cli):
    code, _, err = cli("compare", "--a", "pocket:vit", "--seed", "-1")
    assert code == 2
    assert "--seed" in err
    assert "our fault" not in err


if __name__ == "__main__":
    print(json.dumps(answers()))
