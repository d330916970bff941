import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from streamed import in_processes

from repalign.errors import InputError
from repalign.stimuli.reservoir import Reservoir


def rows(times):
    """Rows that say when they came, in two layers."""
    column = torch.tensor(times, dtype=torch.float64).reshape(-1, 1)
    return {"a": column.float(), "b": torch.cat([column, -column, 2 * column], 1)}


def filled(n, size, seed, cuts=()):
    reservoir = Reservoir(size, seed)
    for block in np.split(np.arange(n), list(cuts)):
        reservoir.add([f"s{t:04d}" for t in block], rows(block.tolist()))
    return reservoir


def test_ids_and_layers_belong_together_in_order_of_ids():
    reservoir = filled(1000, 20, 0, [1, 7, 300])
    times = [int(name[1:]) for name in reservoir.ids]
    assert reservoir.seen == 1000
    assert len(times) == 20
    assert times == sorted(set(times))
    assert times[-1] > 500
    for name, expected in rows(times).items():
        assert torch.equal(reservoir.layers[name], expected)
        assert reservoir.layers[name].dtype == expected.dtype


@pytest.mark.parametrize("cuts", [[1], [10, 20, 30], [0, 0, 500], range(500), [50], [49, 51], []])
def test_blocks_make_no_difference(cuts):
    assert filled(500, 50, 3, cuts).ids == filled(500, 50, 3).ids


def test_what_is_kept_is_told():
    reservoir, there = Reservoir(10, 1), set()
    for block in np.split(np.arange(200), 8):
        ids = [f"s{t:04d}" for t in block]
        kept = reservoir.add(ids, rows(block.tolist()))
        assert {ids[row] for row in kept} == set(reservoir.ids) - there
        there = set(reservoir.ids)


@pytest.mark.parametrize("order", [range(499, -1, -1), [*range(1, 500, 2), *range(0, 500, 2)]])
def test_order_makes_no_difference(order):
    reservoir = Reservoir(50, 3)
    for t in order:
        reservoir.add([f"s{t:04d}"], rows([t]))
    expected = filled(500, 50, 3)
    assert reservoir.ids == expected.ids
    assert torch.equal(reservoir.layers["b"], expected.layers["b"])


@pytest.mark.parametrize("parts", [[0, 250, 500], [0, 3, 490, 500], [0, 0, 0, 500], [0, 20, 30, 40]])
def test_processes_keep_together_what_one_would(parts):
    def work(together):
        own = Reservoir(50, 3)
        times = list(range(*parts[together.rank : together.rank + 2]))
        own.add([f"s{t:04d}" for t in times], rows(times))
        trimmed = own.trimmed(together)
        assert set(trimmed.ids) <= set(own.ids)
        return trimmed

    first, *others = in_processes(len(parts) - 1, work)
    assert sum(len(one.ids) for one in (first, *others)) == min(50, parts[-1])  # no row travels in vain
    for other in others:
        first.merge(other)
    expected = filled(parts[-1], 50, 3)
    assert (first.ids, first.seen) == (expected.ids, expected.seen)
    for name, kept in expected.layers.items():
        assert torch.equal(first.layers[name], kept)


def test_an_id_that_comes_twice():
    reservoir = filled(5, 9, 0)
    with pytest.raises(InputError, match="the id 's0003' comes twice; give every picture a name of its own"):
        reservoir.add(["s0003"], rows([3]))


def test_reading_makes_no_difference():
    read = Reservoir(10, 1)
    for t in range(100):
        read.add([f"s{t:04d}"], rows([t]))
        assert len(read.ids) == len(read.layers["a"]) == min(t + 1, 10)
    assert read.ids == filled(100, 10, 1).ids


def test_the_seed_decides():
    assert filled(500, 50, 3).ids != filled(500, 50, 4).ids


def test_fewer_rows_than_places_are_all_kept():
    reservoir = filled(7, 50, 0, [2])
    assert reservoir.ids == tuple(f"s{t:04d}" for t in range(7))
    assert torch.equal(reservoir.layers["b"], rows(list(range(7)))["b"])
    assert Reservoir(5, 0).ids == ()


def kept(n, size, seed):
    reservoir = Reservoir(size, seed)
    reservoir.add([str(t) for t in range(n)], {"a": torch.zeros(n, 1)})
    return [int(name) for name in reservoir.ids]


def test_every_row_has_the_same_chance():
    n, size, repeats = 40, 8, 800
    counts = np.zeros(n)
    for seed in range(repeats):
        counts[kept(n, size, seed)] += 1
    assert counts.sum() == repeats * size
    # counts of draws without replacement vary by (n - size)/(n - 1) less than multinomial ones do
    statistic = ((counts - repeats * size / n) ** 2).sum() / (repeats * size / n) * (n - 1) / (n - size)
    assert chisquare(counts).pvalue > 0.001
    assert 15 < statistic < 75  # chi-square of 39 degrees: 0.001 at either end is 16.3 and 72.1


def test_every_pair_has_the_same_chance():
    pairs = np.zeros((6, 6))
    for seed in range(1500):
        pairs[tuple(kept(6, 2, seed))] += 1
    assert np.count_nonzero(pairs) == 15
    assert chisquare(pairs[np.triu_indices(6, 1)]).pvalue > 0.001


def test_blocks_that_do_not_fit():
    reservoir = filled(5, 3, 0)
    with pytest.raises(InputError, match=r"has the layers \{'a': 1\} after \{'a': 1, 'b': 3\}; give the same in each"):
        reservoir.add(["x"], {"a": torch.zeros(1, 1)})
    with pytest.raises(InputError, match=r"2 ids came with \{'a': 1, 'b': 1\} rows; give one id a row"):
        reservoir.add(["x", "y"], rows([1]))
