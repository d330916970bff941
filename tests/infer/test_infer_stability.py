"""Stability curves: subsets, halves, poolings."""

import dataclasses

import numpy as np
import pytest

from repalign.align import prepare
from repalign.infer.stability import COLUMNS, spearman_brown, stability
from repalign.metrics import parse_metric
from repalign.wrap import as_activations


def layers(n=80, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4))
    deep = np.linspace(0.3, 3, 4)
    return tuple(
        {f"{s}{k}": z @ rng.normal(size=(4, 6)) + noise * rng.normal(size=(n, 6)) for k, noise in enumerate(deep)}
        for s in "ab"
    )


def curves(spec="cka_linear", groups=None, pooled=None, n=80):
    a, b = (as_activations(name, side) for name, side in zip("ab", layers(n), strict=True))
    a = dataclasses.replace(a, groups=groups)
    return stability(prepare(a, b, parse_metric(spec)), pooled or {}, seed=0)


def test_the_curve_ends_at_the_score_itself():
    table = curves()
    assert tuple(table.columns) == COLUMNS
    a, b = layers()
    prepared = prepare(as_activations("a", a), as_activations("b", b), parse_metric("cka_linear"))
    scores = prepared.alignment().scores
    line = table[(table.kind == "stimuli") & (table.layer_a == "")]
    assert line.x.tolist() == [10, 20, 40, 60, 80]
    assert line.value.iloc[-1] == pytest.approx(np.diag(scores).mean())
    best = table[(table.kind == "stimuli") & (table.layer_a != "")]
    assert best.value.iloc[-1] == pytest.approx(scores.max())
    assert (best.low.iloc[:-1] < best.high.iloc[:-1]).all()
    spread = (best.high - best.low).iloc[:-1]
    assert spread.iloc[0] > spread.iloc[-1]


def test_halves_of_a_clear_pattern_agree():
    row = curves()[lambda t: t.kind == "split_half"].iloc[0]
    assert row.n == 40
    assert 0.7 < row.value <= 1
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    assert spearman_brown(-0.9) == -0.9  # stepping a negative one up would leave the range of a correlation


def test_groups_stay_whole_and_few_of_them_leave_gaps():
    table = curves(groups=tuple(str(i % 8) for i in range(80)))
    assert table[(table.kind == "stimuli") & (table.layer_a == "")].x.tolist() == [40, 60, 80]


def test_poolings_are_listed_with_the_one_in_use():
    a, b = (as_activations(name, side) for name, side in zip("ab", layers(seed=4), strict=True))
    table = curves(pooled={"max": (a, b)})
    pools = table[table.kind == "pool"].set_index("x").value
    assert list(pools.index) == ["none", "max"]
    assert pools["max"] != pools["none"]


def test_a_measure_without_scores_has_no_curves():
    with pytest.warns(UserWarning, match="no score"):
        prepared = prepare(
            as_activations("a", {"dead": np.ones((20, 3))}), as_activations("b", {"x": layers(20)[0]["a0"]}),
            parse_metric("cka_linear"),
        )  # fmt: skip
    assert stability(prepared, {}).empty


def test_unrelated_halves_stay_within_the_range_of_a_correlation():
    rng = np.random.default_rng(0)
    a, b = (as_activations(s, {f"{s}{k}": rng.normal(size=(40, 5)) for k in range(3)}) for s in "ab")
    row = stability(prepare(a, b, parse_metric("cka_linear")), {})[lambda t: t.kind == "split_half"].iloc[0]
    assert -1 <= row.low <= row.value <= row.high <= 1
    assert abs(row.value) < 0.5


@pytest.mark.parametrize("groups", [4, 5, 6, 7])
def test_few_groups_have_short_curves(groups):
    names = tuple(str(i % groups) for i in range(80))
    table = curves(groups=names)
    assert set(table.kind) <= {"stimuli", "split_half"}
    assert table.x.max() == 80
    assert not (table.kind == "split_half").any()


def test_a_side_with_itself_counts_different_layers_only():
    rng = np.random.default_rng(1)
    a = as_activations("a", {f"l{k}": rng.normal(size=(60, 5)) for k in range(5)})
    table = stability(prepare(a, a, parse_metric("cka_linear")), {"max": (a, a)})
    assert (table[table.kind == "stimuli"].layer_a != "").all()
    assert (table.layer_a != table.layer_b)[table.kind == "stimuli"].all()
    assert abs(table[table.kind == "split_half"].value.iloc[0]) < 0.9
    assert not (table.kind == "pool").any()
