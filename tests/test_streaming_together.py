"""Streaming in several processes, here threads: the same numbers as in one."""

import numpy as np
import pytest
from streamed import PLENTY, in_processes, make, part_of, rows_of

from repalign.errors import InputError
from repalign.streaming import stream

PARTS = {
    "two": [[0, 1, 2, 3], [4, 5, 6]],
    "three": [[0, 3], [1, 6], [2, 4, 5]],
    "one without blocks": [[0, 1, 2], [], [3, 4, 5, 6]],
    "the first without blocks": [[], [6], [0, 1, 2, 3, 4, 5]],
}
GROUPS = [f"video {k}" for k in np.repeat(range(14), 4)[:55]]


def sides(rng_seed=0, groups=None):
    """Seven blocks of eight stimuli; the last one holds less."""
    rng, n = np.random.default_rng(rng_seed), 49 if groups is None else 55
    a, b = make(rng, n, (3, 30, 7)), make(rng, n, (8, 5), "m")
    return rows_of(a, 8, groups), rows_of(b, 8, groups)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_processes_change_nothing(parts, debiased, same):
    a, b = sides()
    b = a if same else b
    alone = stream(a, b, debiased, PLENTY)
    assert len(a.ids[-1]) == 1

    def work(together):
        first = part_of(a, PARTS[parts][together.rank])
        second = first if same else part_of(b, PARTS[parts][together.rank])
        return stream(first, second, debiased, PLENTY, together)

    for found in in_processes(len(PARTS[parts]), work):
        assert found.n == 49
        assert found.scores == pytest.approx(alone.scores, rel=1e-11)
        assert found.se == pytest.approx(alone.se, rel=1e-10, abs=1e-13)
        assert found.degrees == pytest.approx(alone.degrees, rel=1e-9)


@pytest.mark.parametrize("parts", ["two", "one without blocks", "the first without blocks"])
@pytest.mark.parametrize("pairs", ["between", "all"])
def test_processes_with_whole_groups_change_nothing(parts, pairs):
    a, b = sides(groups=GROUPS)
    alone = stream(a, b, True, PLENTY, pairs=pairs)

    def work(together):
        first, second = (part_of(side, PARTS[parts][together.rank]) for side in (a, b))
        return stream(first, second, True, PLENTY, together, pairs=pairs)

    for found in in_processes(len(PARTS[parts]), work):
        assert (found.n, found.n_groups, found.notes) == (55, 14, alone.notes)
        assert found.scores == pytest.approx(alone.scores, rel=1e-10)
        assert found.se == pytest.approx(alone.se, rel=1e-10, abs=1e-13)


def test_a_group_in_two_processes_is_refused_everywhere():
    a, b = sides(groups=[*GROUPS[:32], *GROUPS[26:28], *GROUPS[34:]])

    def work(together):
        first, second = (part_of(side, PARTS["two"][together.rank]) for side in (a, b))
        with pytest.raises(InputError, match="1 groups have stimuli in more than one process") as refused:
            stream(first, second, True, PLENTY, together)
        return str(refused.value)

    said = in_processes(2, work)
    assert "'video 6' first" in said[0]


def test_a_constant_layer_is_said_once():
    a = make(np.random.default_rng(1), 49, (3, 5)) | {"dead": np.ones((49, 2))}
    rows = rows_of(a, 8)

    def work(together):
        mine = part_of(rows, PARTS["two"][together.rank])
        return stream(mine, mine, True, PLENTY, together)

    with pytest.warns(UserWarning, match="'dead' has no score") as caught:
        found = in_processes(2, work)
    assert len(caught) == 1
    assert [list(those.undefined) for those in found] == [["dead"]] * 2
