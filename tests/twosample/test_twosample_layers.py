"""Tables of tests over layers: shared swaps, adjustment, groups, layers without a value, and what is refused."""

import re

import numpy as np
import pytest
import torch
from test_twosample_inference import form, pair

from repalign.errors import InputError, RepalignWarning
from repalign.infer.pvalues import benjamini_hochberg, max_t
from repalign.infer.resample import sign_flips
from repalign.infer.two_sample import two_sample, two_sample_layers
from repalign.types import Activations


def sides(**layers):
    n = len(next(iter(layers.values()))[0])
    ids = tuple(f"s{i}" for i in range(n))
    depths = dict.fromkeys(layers, 0.0)
    make = lambda k, name: Activations(name, "t", ids, {s: torch.tensor(v[k]) for s, v in layers.items()}, depths)  # noqa: E731
    return make(0, "net"), make(1, "net+grey")


def test_layers_share_their_swaps_and_are_adjusted_together():
    a, b = sides(l1=pair(0), l2=pair(1, shift=1.5), l3=pair(2, d=5, shift=0))
    layers = [(s, s) for s in a.layers]
    table = two_sample_layers(a, b, layers, ("mmd2", "energy"), 300, seed=3)
    assert list(table.columns) == [
        "test", "layer_a", "layer_b", "metric", "statistic", "null_mean", "p", "p_adjusted", "q", "n", "n_groups",
        "n_permutations", "note",
    ]  # fmt: skip
    assert table["test"].tolist() == ["mmd2"] * 3 + ["energy"] * 3
    signs = torch.cat([torch.ones(1, 12, dtype=torch.int8), sign_flips(12, 300, 3, mirrored=True).signs])
    for name, rows in table.groupby("test"):
        everything = []
        for row in rows.itertuples():
            x, y = a.layers[row.layer_a].numpy(), b.layers[row.layer_b].numpy()
            alone = two_sample(x, y, name, n_permutations=300, seed=3)
            assert (row.statistic, row.null_mean, row.p) == (alone.statistic, alone.null_mean, alone.p_value)
            everything.append(form(x, y, name).swapped(signs).numpy())
        values = np.stack(everything, axis=1)
        assert rows["p_adjusted"].to_numpy() == pytest.approx(max_t(values[0], values[1:]))
        assert rows["q"].to_numpy() == pytest.approx(benjamini_hochberg(rows["p"].to_numpy()))
        assert (rows["p_adjusted"] >= rows["p"]).all()
    assert set(table["n"]) == {12}
    assert set(table["n_permutations"]) == {300}
    assert table["n_groups"].isna().all()


def test_layers_take_the_groups_of_the_stimuli():
    a, b = sides(l1=pair(0, n=24))
    groups = tuple(f"v{i % 7}" for i in range(24))
    grouped = Activations(a.encoder, "t", a.ids, a.layers, a.depths, groups=groups)
    table = two_sample_layers(grouped, b, [("l1", "l1")], ["energy"])
    assert (table["n_groups"][0], table["n_permutations"][0]) == (7, 127)
    assert table.equals(two_sample_layers(a, b, [("l1", "l1")], ["energy"], groups=groups))


def test_a_dead_layer_leaves_the_others_alone():
    a, b = sides(dead=(np.ones((12, 2)), np.ones((12, 2))), live=pair(0))
    with pytest.warns(RepalignWarning, match="mmd2 of layers 'dead' of net and 'dead' of net\\+grey has no value"):
        table = two_sample_layers(a, b, [("dead", "dead"), ("live", "live")], ["mmd2"], 50)
    assert table[["statistic", "p", "p_adjusted", "q"]].isna().all(axis=1).tolist() == [True, False]
    assert "kernel has no width" in table["note"][0]
    assert table["note"][1] == ""


def test_too_few_groups_leave_the_statistics():
    a, b = sides(l1=pair(0))
    with pytest.warns(RepalignWarning, match="tests of net and net\\+grey have no p: .*at least 6 groups"):
        table = two_sample_layers(a, b, [("l1", "l1")], ["energy"], groups=["a"] * 6 + ["b"] * 6)
    assert table["p"].isna().all()
    assert (table["statistic"] > 0).all()
    assert "at least 6 groups" in table["note"][0]


def test_repeats_are_averaged():
    x, y = pair(0)
    a, b = sides(l1=(x, y))
    repeats = torch.stack([torch.tensor(x) - 1, torch.tensor(x) + 1])
    twice = Activations("net", "t", a.ids, {"l1": repeats}, {"l1": 0.0}, geometry="repeats")
    found = two_sample_layers(twice, b, [("l1", "l1")], ["energy"], 0)["statistic"][0]
    assert found == pytest.approx(two_sample(x, y, "energy", n_permutations=0).statistic, rel=1e-12)


def test_what_layers_refuse():
    a, b = sides(l1=pair(0), l2=pair(1, d=5))
    other = Activations("net", "t", a.ids[::-1], a.layers, a.depths)
    holes = b.layers["l1"].clone()
    holes[4, :2] = torch.nan
    holed = Activations("net", "t", a.ids, {"l1": holes}, {"l1": 0.0})
    rdm = Activations("brain", "t", a.ids, {"l1": torch.zeros(12, 12)}, {"l1": 0.0}, geometry="rdm")
    for change, message in [
        ({"b": other}, "net and net hold different stimuli"),
        ({"layers": [("l1", "l9")]}, "unknown layer of net+grey 'l9'"),
        ({"layers": [("l1", "l2")]}, "net l1 has 3 features and net+grey l2 5"),
        ({"layers": []}, "0 pairs of layers and 1 statistics"),
        ({"b": holed}, "layer 'net l1' holds 2 NaN or infinite values in 1 of 12 stimuli"),
        ({"a": rdm}, "brain gives dissimilarities, but a two-sample test needs the features"),
    ]:
        given = {"a": a, "b": b, "layers": [("l1", "l1")], "statistics": ["energy"], "n_permutations": 20} | change
        with pytest.raises(InputError, match=re.escape(message)):
            two_sample_layers(**given)
