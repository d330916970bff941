"""Streaming with groups of alike stimuli: against the definition, and against the engine that holds all pairs."""

import numpy as np
import pytest
from streamed import PLENTY, definition, embedded, make, rows_of

from repalign.errors import InputError
from repalign.streaming import stream
from repalign.streaming.panels import panels

SIZES = {
    "even": [4] * 8,
    "uneven": [3, 9, 5, 2, 11, 6],
    "one is half": [16, 3, 5, 4, 4],
    "half of what stays": [3, 10, 4, 3, 3],
    "many alone": [1, 1, 1, 2, 30, 1, 7, 9, 9, 1],
    "too few": [5, 9, 7],
}
ORDERS = ("in a row", "scattered")


def clustered(sizes, order, seed=0):
    """Layers whose stimuli are alike within groups."""
    rng = np.random.default_rng(seed)
    label = np.repeat(range(len(sizes)), sizes)
    if order == "scattered":
        label = rng.permutation(label)
    sides = [make(rng, len(label), widths, name) for widths, name in (((3, 20, 5), "a"), ((7, 4), "b"))]
    for side in sides:
        for name, x in side.items():
            side[name] = 1e3 + x + 2 * rng.normal(size=(len(sizes), x.shape[1]))[label]
    return *sides, [f"video {k}" for k in label]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("pairs", ["between", "all"])
@pytest.mark.parametrize("debiased", [True, False])
def test_streamed_is_embedded(sizes, order, pairs, debiased):
    a, b, groups = clustered(SIZES[sizes], order)
    first, second = rows_of(a, 7, groups), rows_of(b, 7)
    found = stream(first, second, debiased, PLENTY, pairs=pairs)
    scores, se, degrees, notes = embedded(a, b, debiased, groups, pairs)
    assert found.scores == pytest.approx(scores, rel=1e-9, abs=1e-12)
    assert found.se == pytest.approx(se, rel=1e-9)
    assert found.degrees == pytest.approx(degrees, rel=1e-8)
    assert (found.n, found.n_groups, found.notes) == (len(groups), len(SIZES[sizes]), notes)
    alone = stream(first, second, debiased, PLENTY, pairs=pairs, interval=False)
    assert alone.scores == pytest.approx(found.scores, rel=1e-12)
    assert np.isnan(alone.se).all()


@pytest.mark.parametrize("sizes", ["even", "uneven", "one is half"])
def test_between_groups_is_the_definition(sizes):
    a, b, groups = clustered(SIZES[sizes], "scattered", seed=1)
    found = stream(rows_of(a, 6, groups), rows_of(b, 6, groups), True, PLENTY)
    x, y, labels = a["a1"], b["b0"], np.array(groups)
    assert found.scores[1, 0] == pytest.approx(definition(x, y, True, labels), rel=1e-9)
    kept = [labels != name for name in np.unique(labels)]
    without = [definition(x[stay], y[stay], True, labels[stay]) for stay in kept]
    assert found.se[1, 0] == pytest.approx(np.sqrt((len(kept) - 1) * np.var(without)), rel=1e-8)


@pytest.mark.parametrize("pairs", ["between", "all"])
@pytest.mark.parametrize("debiased", [True, False])
def test_a_side_with_itself_is_two_sides_alike(pairs, debiased):
    a, _, groups = clustered(SIZES["uneven"], "scattered")
    one = rows_of(a, 7, groups)
    found = stream(one, one, debiased, PLENTY, pairs=pairs)
    scores, se, _, _ = embedded(a, a, debiased, groups, pairs)
    different = ~np.eye(3, dtype=bool)
    assert found.scores == pytest.approx(scores, rel=1e-9)
    assert (np.diag(found.se) == 0).all()
    assert found.se[different] == pytest.approx(se[different], rel=1e-9)


@pytest.mark.parametrize("same", [True, False])
def test_panels_change_nothing(same):
    a, b, groups = clustered(SIZES["uneven"], "in a row")
    first = rows_of(a, 7, groups)
    second = first if same else rows_of(b, 7, groups)
    memory = PLENTY
    while len(panels(first, second, int(memory * 0.75), 7, len(SIZES["uneven"]) + 1)) < 3:
        memory = int(memory * 0.95)
    whole, found = stream(first, second, True, PLENTY), stream(first, second, True, memory)
    assert found.scores == pytest.approx(whole.scores, rel=1e-12, abs=1e-14)
    assert found.se == pytest.approx(whole.se, rel=1e-10, abs=1e-14)


def test_every_stimulus_a_group_of_its_own_is_no_group():
    a, b, groups = clustered([1] * 30, "in a row")
    found, plain = (
        stream(rows_of(a, 7, groups), rows_of(b, 7), True, PLENTY),
        stream(rows_of(a), rows_of(b), True, PLENTY),
    )
    assert found.n_groups is None
    assert np.array_equal(found.se, plain.se)


def test_a_group_without_which_a_layer_is_constant_leaves_no_error():
    a, b, groups = clustered([4] * 8, "in a row")
    a["a1"][4:] = 1.0
    found = stream(rows_of(a, 7, groups), rows_of(b, 7), False, PLENTY)
    assert np.isfinite(found.scores).all()
    assert np.isnan(found.se[1]).all()
    assert np.isfinite(found.se[[0, 2]]).all()


def test_rows_that_wait_for_their_group_are_bounded():
    a, b, groups = clustered([60, 4, 4, 4, 60], "scattered")
    with pytest.raises(
        InputError, match=r"wait for the rest of their stimuli, .*'video \d' holds most\. Put the stimuli"
    ):
        stream(rows_of(a, 7, groups), rows_of(b, 7), True, 140_000)
    a, b, groups = clustered([60, 4, 4, 4, 60], "in a row")
    assert stream(rows_of(a, 7, groups), rows_of(b, 7), True, 140_000, interval=False).n == 132
