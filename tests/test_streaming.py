"""Streaming linear CKA against the definition, and against the engine that holds all pairs."""

import numpy as np
import pytest
import torch
from streamed import PLENTY, definition, embedded, make, rows_of

from repalign.errors import InputError, RepalignWarning
from repalign.streaming import stream
from repalign.streaming.panels import panels

EXACT = {"rel": 1e-9, "abs": 1e-12}


def regime(name):
    """Two layers of 24 stimuli, cut into blocks of five."""
    rng = np.random.default_rng(len(name))
    n = 24
    x = rng.normal(size=(n, 6))
    y = x @ rng.normal(size=(6, 4)) + 0.7 * rng.normal(size=(n, 4))
    match name:
        case "more features than stimuli":
            x, y = rng.normal(size=(n, 90)), rng.normal(size=(n, 70))
        case "one feature":
            x, y = x[:, :1], x[:, :1] + rng.normal(size=(n, 1))
        case "integers":
            x, y = rng.integers(0, 3, size=(n, 4)).astype(float), rng.integers(0, 3, size=(n, 5)).astype(float)
        case "duplicate stimuli":
            x[5:10], y[5:10] = x[:5], y[:5]
        case "near-constant column":
            x[:, 3] = 1 + 1e-9 * rng.normal(size=n)
        case "mean 1e4 times the spread":
            x, y = x + 1e4, y - 1e4
        case "heavy tails":
            x, y = rng.standard_t(1.5, size=x.shape), rng.standard_t(1.5, size=y.shape)
        case "one strong channel":
            x[:, 0] *= 1e3
        case "low rank":
            x = np.outer(x[:, 0], rng.normal(size=6)) + 1e-3 * x
        case "huge and tiny":
            x, y = 1e150 * (x + 1e4), 1e-150 * (y - 1e4)
        case "first block elsewhere":
            x[:5] += 100
        case "first block without variation":
            x[:5], y[:10] = 0.0, 3.0
        case "float32":
            x, y = x.astype(np.float32), y.astype(np.float32)
    return x, y


REGIMES = [
    "plain", "more features than stimuli", "one feature", "integers", "duplicate stimuli", "near-constant column",
    "mean 1e4 times the spread", "heavy tails", "one strong channel", "low rank", "huge and tiny",
    "first block elsewhere", "first block without variation", "float32",
]  # fmt: skip


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("debiased", [True, False])
def test_scores_and_errors_are_those_of_the_definition(name, debiased):
    x, y = regime(name)
    found = stream(rows_of({"x": x}, 5), rows_of({"y": y}, 5), debiased, PLENTY)
    x, y = x.astype(float), y.astype(float)
    assert found.scores[0, 0] == pytest.approx(definition(x, y, debiased), **EXACT)
    without = [definition(np.delete(x, q, 0), np.delete(y, q, 0), debiased) for q in range(24)]
    assert found.se[0, 0] == pytest.approx(np.sqrt(23 * np.var(without)), rel=1e-8)


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("debiased", [True, False])
def test_streamed_is_embedded(name, debiased):
    x, y = regime(name)
    found = stream(rows_of({"x": x}, 5), rows_of({"y": y}, 5), debiased, PLENTY)
    scores, se, degrees, _ = embedded({"x": x}, {"y": y}, debiased)
    assert found.scores == pytest.approx(scores, **EXACT)
    assert found.se == pytest.approx(se, rel=1e-9)
    assert found.degrees == pytest.approx(degrees, rel=1e-8)
    assert (found.n, found.n_groups, found.undefined, found.notes) == (24, None, {}, ())


@pytest.mark.parametrize("starts", [[0], range(61), [0, 60], [0, 1], [0, 13, 14, 40], range(0, 61, 15)])
@pytest.mark.parametrize("debiased", [True, False])
def test_blocks_may_be_cut_anywhere(starts, debiased):
    rng = np.random.default_rng(0)
    a, b = make(rng, 61, (3, 90, 7)), make(rng, 61, (8, 5), "m")
    found = stream(rows_of(a, starts=starts), rows_of(b, starts=starts), debiased, PLENTY)
    scores, se, degrees, _ = embedded(a, b, debiased)
    assert found.scores == pytest.approx(scores, **EXACT)
    assert found.se == pytest.approx(se, rel=1e-9)
    assert found.degrees == pytest.approx(degrees, rel=1e-8)


@pytest.mark.parametrize("debiased", [True, False])
def test_a_side_with_itself_is_two_sides_alike(debiased):
    a = make(np.random.default_rng(1), 50, (3, 20, 7))
    one = rows_of(a)
    found, twice = stream(one, one, debiased, PLENTY), stream(rows_of(a), rows_of(a), debiased, PLENTY)
    scores, se, _, _ = embedded(a, a, debiased)
    different = ~np.eye(3, dtype=bool)
    assert (np.diag(found.scores) == 1).all()
    assert (np.diag(found.se) == 0).all()
    for those in (found, twice):
        assert those.scores == pytest.approx(scores, **EXACT)
        assert those.se[different] == pytest.approx(se[different], rel=1e-9)
    assert np.array_equal(found.scores, found.scores.T)


def smallest_memory(a, b):
    """Find the memory in which every layer pair fits, but no two."""
    memory = PLENTY
    while True:
        try:
            panels(a, b, int(memory * 0.98), 7, 0)
        except InputError:
            return memory
        memory = int(memory * 0.98)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("debiased", [True, False])
def test_panels_change_nothing(same, debiased):
    rng = np.random.default_rng(2)
    a, b = make(rng, 40, (30, 25, 35, 5)), make(rng, 40, (20, 30, 25), "m")
    reads = []
    first = rows_of(a, reads=reads)
    second = first if same else rows_of(b)
    whole = stream(first, second, debiased, PLENTY)
    once = len(reads)
    memory = smallest_memory(first, second)
    assert len(panels(first, second, memory, 7, 0)) > 2
    reads.clear()
    found = stream(first, second, debiased, memory)
    assert len(reads) > 3 * once / 2
    assert min(len(names) for _, names in reads) < 4
    assert found.scores == pytest.approx(whole.scores, rel=1e-13, abs=1e-14)
    assert found.se == pytest.approx(whole.se, rel=1e-11, abs=1e-14)


def test_layers_may_come_in_any_order():
    rng = np.random.default_rng(3)
    a, b = make(rng, 40, (3, 20, 7)), make(rng, 40, (8, 5), "m")
    plain = stream(rows_of(a), rows_of(b), True, PLENTY)
    turned = stream(rows_of(dict(reversed(a.items()))), rows_of(dict(reversed(b.items()))), True, PLENTY)
    assert turned.layers_a == ("l2", "l1", "l0")
    assert turned.scores == pytest.approx(plain.scores[::-1, ::-1], rel=1e-13)
    assert turned.se == pytest.approx(plain.se[::-1, ::-1], rel=1e-11)


def test_rows_are_read_once_for_the_sums_and_once_for_the_errors():
    a, reads = make(np.random.default_rng(4), 21, (3, 5)), []
    rows = rows_of(a, reads=reads)
    stream(rows, rows, True, PLENTY)
    both = ("l0", "l1")
    shift_and_size = [(0, both)] * 2
    assert reads == [*shift_and_size, *[(k, both) for k in range(3)] * 2]
    reads.clear()
    found = stream(rows, rows, True, PLENTY, interval=False)
    assert reads == [*shift_and_size, *[(k, both) for k in range(3)]]
    assert np.isnan(found.se).all()
    assert np.isnan(found.degrees).all()


def test_the_numbers_are_reported_as_every_measures_are():
    rng = np.random.default_rng(5)
    a, b = make(rng, 30, (3, 5)), make(rng, 30, (4,), "m")
    done = []

    class Told:
        def __enter__(self):
            return done.append

        def __exit__(self, *_):
            pass

    totals = []
    found = stream(rows_of(a), rows_of(b), False, PLENTY, track=lambda _, total: totals.append(total) or Told())
    assert (sum(done), totals) == (60, [60])
    alignment = found.alignment()
    assert (alignment.metric, alignment.options, alignment.n) == ("cka_linear", {"debiased": False}, 30)
    assert alignment.to_frame()["value"].tolist() == found.scores.ravel().tolist()


@pytest.mark.parametrize("debiased", [True, False])
def test_layers_without_variation_have_no_score(debiased):
    rng = np.random.default_rng(6)
    a = make(rng, 40, (3, 5)) | {"dead": np.full((40, 2), 7.3), "rounding": 7.3 + 4e-16 * rng.normal(size=(40, 2))}
    b = make(rng, 40, (4,), "m")
    with pytest.warns(RepalignWarning, match="no score") as caught:
        found = stream(rows_of(a), rows_of(b), debiased, PLENTY)
    assert sorted(str(w.message).split("'")[1] for w in caught) == ["dead", "rounding"]
    assert found.undefined == dict.fromkeys(("dead", "rounding"), "the features are the same for every stimulus")
    assert np.isnan(found.scores[2:]).all()
    assert np.isnan(found.se[2:]).all()
    scores, se, _, _ = embedded({k: a[k] for k in ("l0", "l1")}, b, debiased)
    assert found.scores[:2] == pytest.approx(scores, **EXACT)
    assert found.se[:2] == pytest.approx(se, rel=1e-9)


def test_one_stimulus_that_differs_leaves_nothing_between_stimuli():
    rng = np.random.default_rng(7)
    a, b = {"alone": np.zeros((40, 3))}, make(rng, 40, (4,), "m")
    a["alone"][17] = 5.0
    with pytest.warns(RepalignWarning, match="'alone' has no score"):
        found = stream(rows_of(a), rows_of(b), True, PLENTY)
    assert found.undefined == {"alone": "its centred kernel is zero"}
    biased = stream(rows_of(a), rows_of(b), False, PLENTY)
    assert biased.scores == pytest.approx(embedded(a, b, False)[0], **EXACT)
    assert np.isnan(biased.se).all(), "without that stimulus there is no score"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, b: (rows_of(a, 5), rows_of(b, 7)), "not the same ones in the same order"),
        (lambda a, b: (rows_of(a, groups=["g"] * 20), rows_of(b, groups=["h"] * 20)), "give one grouping"),
        (lambda a, b: (rows_of({k: x[:3] for k, x in a.items()}), rows_of({"m": b["m0"][:3]})), "at least 4 stimuli"),
        (lambda a, b: (rows_of(a), rows_of(b | {"bad": np.where(np.eye(20, 3), np.nan, 1.0)})), "'bad' holds 3 NaN"),
        (lambda a, b: (rows_of(a), rows_of(b | {"bad": np.diag([0.0] * 11 + [np.inf] * 9)})), r"\(s11 first\)"),
    ],
)  # fmt: skip
def test_what_can_not_be_streamed_is_refused(change, said):
    rng = np.random.default_rng(8)
    a, b = change(make(rng, 20, (3, 5)), make(rng, 20, (4,), "m"))
    with pytest.raises(InputError, match=said):
        stream(a, b, True, PLENTY)


def test_other_rows_than_announced_are_refused():
    a = make(np.random.default_rng(9), 20, (3,))
    rows = rows_of(a)
    rows.widths["l0"] = 4
    with pytest.raises(InputError, match=r"'l0' has shape \(7, 3\) in block 0; \(7, 4\) was announced"):
        stream(rows, rows, True, PLENTY)


def test_memory_that_two_layers_exceed_is_refused_by_name():
    rng = np.random.default_rng(10)
    a, b = rows_of(make(rng, 20, (3, 300))), rows_of(make(rng, 20, (4,), "m"))
    with pytest.raises(InputError, match=r"'l1' \(300 features\) with 'm0' \(4 features\) needs .* give more memory"):
        stream(a, b, True, 500_000)


def test_pairs_are_between_or_all():
    rows = rows_of(make(np.random.default_rng(11), 20, (3,)))
    with pytest.raises(InputError, match="pairs must be one of between, all, not 'some'"):
        stream(rows, rows, True, PLENTY, pairs="some")


def test_rows_with_gaps_in_memory_are_read_as_they_are():
    x = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))[:, ::2]
    found = stream(rows_of({"x": x}), rows_of({"x": x.flip(1)}), True, PLENTY)
    assert found.scores[0, 0] == pytest.approx(1, abs=1e-12)
