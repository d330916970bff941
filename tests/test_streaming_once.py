"""Linear CKA of rows that come by once: the scores of `stream`, the errors of a sample."""

import numpy as np
import pytest
import torch
from streamed import PLENTY, in_processes, make, rows_of

from repalign.align import prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.large import infer_large
from repalign.infer.matrix import Plan
from repalign.metrics.cka import LinearCKA
from repalign.streaming import Once, stream
from repalign.subset import subset
from repalign.together import ALONE
from repalign.wrap import as_activations

N = 61


def widths(layers):
    return {name: x.shape[1] for name, x in layers.items()}


def once(a, b, cuts, together=ALONE, memory=PLENTY):
    """Show rows in blocks that start at `cuts`."""
    found = Once(widths(a), None if b is a else widths(b), N, memory, together)
    n = len(next(iter(a.values())))
    for block in np.split(np.arange(n), list(cuts)):
        rows = [{name: torch.as_tensor(x)[block] for name, x in side.items()} for side in (a, b)]
        if len(block):
            found.add([f"s{t}" for t in block], *rows)
    return found.finish()


@pytest.fixture
def sides():
    rng = np.random.default_rng(5)
    return make(rng, N, (3, 30, 7)), make(rng, N, (8, 5), "m")


@pytest.mark.parametrize("cuts", [[], [1], [60], [7, 14, 21], range(1, N), [0, 30, 30]])
@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_scores_are_those_of_all_stimuli(sides, cuts, debiased, same):
    a, b = sides[0], sides[0] if same else sides[1]
    rows = rows_of(a)
    expected = stream(rows, rows if same else rows_of(b), debiased, PLENTY, interval=False)
    sums = once(a, b, cuts)
    for _ in range(2):  # one set of sums serves both forms, in any order
        found = sums.streamed(debiased)
        sums.streamed(not debiased)
        assert found.scores == pytest.approx(expected.scores, rel=1e-12, abs=1e-14)
    assert (found.n, found.layers_a, found.layers_b) == (N, expected.layers_a, expected.layers_b)
    assert np.isnan(found.se).all()
    assert found.once


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_a_large_mean_does_no_harm(sides, offset):
    a, b = ({name: x + offset for name, x in side.items()} for side in sides)
    found = once(a, b, [5, 9]).streamed(True)
    assert found.scores == pytest.approx(stream(rows_of(a), rows_of(b), True, PLENTY).scores, rel=1e-12 * offset)
    assert found.scores == pytest.approx(once(*sides, [5, 9]).streamed(True).scores, rel=1e-13 * offset, abs=1e-12)


@pytest.mark.parametrize("starts", [[0, 20, N], [0, 0, N], [0, 40, 40, N], [0, N, N]])
def test_processes_change_nothing(sides, starts):
    a, b = sides

    def work(together):
        mine = slice(*starts[together.rank : together.rank + 2])
        own = [{name: x[mine] for name, x in side.items()} for side in sides]
        return once(*own, [4], together).streamed(True)

    for found in in_processes(len(starts) - 1, work):
        assert found.n == N
        assert found.scores == pytest.approx(once(a, b, [4]).streamed(True).scores, rel=1e-12)


def test_layers_without_a_score_are_named(sides):
    a = sides[0] | {"dead": np.full((N, 2), 3.0)}
    with pytest.warns(RepalignWarning, match="'dead' has no score .* the same for every stimulus") as caught:
        found = once(a, sides[1], [30]).streamed(True)
    assert len(caught) == 1
    assert list(found.undefined) == ["dead"]
    assert np.isnan(found.scores[3]).all()
    assert np.isfinite(found.scores[:3]).all()


def test_a_layer_that_varies_late_has_its_score(sides):
    late = np.zeros((N, 2))
    late[40:] = np.random.default_rng(0).normal(size=(N - 40, 2)) * 1e-20
    a = sides[0] | {"late": late}
    found = once(a, sides[1], [30]).streamed(True)
    assert found.scores == pytest.approx(stream(rows_of(a), rows_of(sides[1]), True, PLENTY).scores, rel=1e-9)


def test_what_can_not_be_summed(sides):
    a, b = sides
    need = r"sums over all pictures for 3 × 2 layers need \d+\.\d MB, and memory is 0\.0 MB; .*"
    with pytest.raises(
        InputError, match=need + r"fewer --layers \(--layers stages\), give more --memory, or compare a"
    ):
        Once(widths(a), widths(b), 8, 5000)
    with pytest.raises(InputError, match="cka_linear needs at least 4 stimuli, not 3"):
        once({name: x[:3] for name, x in a.items()}, {name: x[:3] for name, x in b.items()}, [1])
    with pytest.raises(InputError, match="cka_linear needs at least 4 stimuli, not 0"):
        Once(widths(a), widths(b), 8, PLENTY).finish()
    a["l0"][9, 1] = np.nan
    with pytest.raises(InputError, match=r"'l0' holds 1 NaN or infinite values .*\(s9 first\)"):
        once(a, b, [5])


def test_standard_errors_are_those_of_a_sample():
    n, m, rng = 3000, 1000, np.random.default_rng(1)
    shared = rng.normal(size=(n, 4))
    a, b = ({f"{side}{k}": shared @ rng.normal(size=(4, d)) + rng.normal(size=(n, d)) for k, d in enumerate((6, 20))}
            for side in "ab")  # fmt: skip
    exact = stream(rows_of(a, 500), rows_of(b, 500), True, PLENTY)
    index = subset(n, None, m, 0)
    kept = [as_activations(name, {k: x[index] for k, x in side.items()}) for name, side in (("a", a), ("b", b))]
    prepared = prepare(*kept, LinearCKA(True))
    streamed = once(a, b, range(500, n, 500)).streamed(True)
    sure = infer_large(streamed, prepared, Plan(n_permutations=0))
    assert sure.alignment.n == n
    assert sure.alignment.scores == pytest.approx(exact.scores, rel=1e-12)
    assert sure.se == pytest.approx(exact.se, rel=0.08)
    assert "standard errors are those of a sample of 1,000 stimuli, scaled by √(m/n)" in sure.notes
    assert f"scores are of all {n:,} stimuli (streamed)" in sure.notes
    middle = (sure.ci_low + sure.ci_high) / 2
    assert middle == pytest.approx(exact.scores, rel=1e-9)
    none = infer_large(streamed, prepared, Plan("none", n_permutations=0))
    assert np.isnan(none.se).all()
    assert not any("sample" in note for note in none.notes)


def test_a_sample_of_all_is_said_to_be_no_sample(sides):
    a, b = sides
    prepared = prepare(as_activations("a", a), as_activations("b", b), LinearCKA(True))
    sure = infer_large(once(a, b, [9]).streamed(True), prepared, Plan(n_permutations=0))
    assert sure.se == pytest.approx(stream(rows_of(a), rows_of(b), True, PLENTY).se, rel=1e-9)
    assert not any("sample" in note for note in sure.notes)
