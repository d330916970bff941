"""The best layer: chosen on one half, measured on the other; why the naive peak is no estimate."""

from dataclasses import replace

import numpy as np
import pytest

from repalign.align import prepare
from repalign.errors import InputError, RepalignWarning
from repalign.infer.matched import matched_scores, refit_matched
from repalign.infer.peak import SPLITS, best_layer, halves, peak
from repalign.metrics import parse_metric
from repalign.wrap import as_activations


def groups_of(count, size=4):
    return tuple(f"video{k}" for k in range(count) for _ in range(size))


def conditions(groups, noise=(2.0, 0.5, 2.0), seed=0, n=48):
    """Layers that the second condition blurs by their noise; frames of one group are alike."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    a = {f"l{k}": rng.normal(size=(codes.max() + 1, 6))[codes] + rng.normal(size=(n, 6)) for k in range(len(noise))}
    b = {name: x + s * rng.normal(size=x.shape) for (name, x), s in zip(a.items(), noise, strict=True)}
    return tuple(replace(as_activations(name, side), groups=groups) for name, side in (("clean", a), ("cat", b)))


def kept(side, layer, rows):
    return replace(side, layers={layer: side.layers[layer]}).join([side.ids[i] for i in rows.tolist()])


@pytest.mark.parametrize("pairs", ["between", "all"])
@pytest.mark.parametrize("spec", ["cka_linear", "cka_rbf", "rsa", "procrustes"])
def test_the_layer_is_chosen_on_one_half_and_measured_on_the_other(spec, pairs):
    a, b = conditions(groups_of(12))
    metric = parse_metric(spec)
    one = prepare(a, b, metric, pairs)
    found = peak(one, level=0.9, seed=5)
    assert (found.layer, found.held_layer, found.share, found.note) == ("l1", "l1", 1.0, "")
    assert found.value == pytest.approx(one.alignment().scores[1, 1])
    first = next(halves(48, one.groups, SPLITS, 5))
    own = prepare(*(kept(side, "l1", first.measuring) for side in (a, b)), metric, pairs)
    expected = matched_scores(own).estimate(0.9)
    assert found.held_value == pytest.approx(own.alignment().scores[0, 0], abs=1e-12)
    assert (found.held_se, found.held_low, found.held_high) == pytest.approx(
        (expected.se[0], expected.ci_low[0], expected.ci_high[0])
    )
    assert found.held_low < found.held_value < found.held_high


def test_the_share_counts_halves_that_choose_the_same_layer():
    one = prepare(*conditions(groups_of(12), noise=(2.0, 2.0, 2.0), seed=3), parse_metric("cka_linear"))
    found = peak(one)
    chosen = [int(np.argmax(refit_matched(one, half.choosing))) for half in halves(48, one.groups, SPLITS, 0)]
    assert found.held_layer == f"l{chosen[0]}"
    assert found.share == np.mean([k == chosen[0] for k in chosen])
    assert 0 < found.share < 1


@pytest.mark.parametrize(("n", "groups"), [(13, None), (12, None), (22, [f"g{k % 7}" for k in range(22)])])
def test_halves_are_whole_groups_and_nearly_equal(n, groups):
    names = None if groups is None else tuple(groups)
    drawn = list(halves(n, names, 6, 2))
    for half in drawn:
        both = [half.choosing.tolist(), half.measuring.tolist()]
        assert sorted(both[0] + both[1]) == list(range(n))
        counts = [len(rows if names is None else {names[i] for i in rows}) for rows in both]
        assert counts[1] - counts[0] in (0, 1)
        assert names is None or sum(counts) == len(set(names))
    assert len({tuple(half.choosing.tolist()) for half in drawn}) > 1
    again = next(halves(n, names, 1, 2))
    assert again.choosing.tolist() == drawn[0].choosing.tolist()


def test_the_naive_peak_of_unrelated_layers_is_optimistic_and_the_held_out_one_is_not(monkeypatch):
    monkeypatch.setattr("repalign.infer.peak.SPLITS", 1)  # the others only count for the share
    naive, held = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a, b = (as_activations(name, {f"l{k}": rng.normal(size=(24, 5)) for k in range(8)}) for name in "ab")
        found = peak(prepare(a, b, parse_metric("cka_linear")), seed=seed)
        naive.append(found.value)
        held.append(found.held_value)
    error = np.std(held) / np.sqrt(len(held))
    assert np.mean(naive) > 5 * np.std(naive) / np.sqrt(len(naive))
    assert np.mean(naive) > np.mean(held) + 3 * error
    assert abs(np.mean(held)) < 3 * error


def test_the_best_is_the_first_of_equals_and_may_be_the_lowest():
    scores = np.array([np.nan, 0.2, 0.7, 0.7 * (1 + 1e-14), 0.1])
    assert best_layer(scores, True) == 2
    assert best_layer(scores, False) == 4
    assert best_layer(-scores, True) == 4
    assert best_layer(np.full(3, np.nan), True) is None


def test_equal_conditions_peak_at_the_first_layer_with_certainty():
    a, b = conditions(groups_of(12), noise=(0.0, 0.0, 0.0))
    for spec in ("cka_linear", "rsa"):
        found = peak(prepare(a, b, parse_metric(spec)))
        assert (found.layer, found.held_layer, found.share, found.held_se, found.note) == ("l0", "l0", 1.0, 0.0, "")
        assert (found.value, found.held_value, found.held_low, found.held_high) == pytest.approx((1,) * 4, abs=1e-12)


@pytest.mark.parametrize(
    ("count", "pairs", "note"),
    [
        (7, "between", "half of 7 groups is too few for cka_linear; at least 8 groups are needed"),
        (8, "between", "half of 8 groups is too few for an interval; at least 9 groups are needed"),
        (9, "between", ""),
        (1, "all", "half of 1 groups is too few for cka_linear; at least 2 groups are needed"),
        (2, "all", "half of 2 groups is too few for an interval; at least 9 groups are needed"),
    ],
)
def test_too_few_groups_are_said_with_how_many_are_needed(count, pairs, note):
    found = peak(prepare(*conditions(groups_of(count), n=4 * count), parse_metric("cka_linear"), pairs))
    assert found.note.endswith(note)
    assert bool(found.note) == bool(note)
    assert found.layer == "l1"
    assert np.isfinite(found.held_value) == (count in (2, 8, 9))
    assert np.isfinite(found.held_se) == (count == 9)


def test_too_few_stimuli_and_halves_a_metric_can_not_use_are_said():
    few = peak(prepare(*conditions(None, n=7), parse_metric("cka_linear")))
    assert few.note.endswith("half of 7 stimuli is too few for cka_linear; at least 8 stimuli are needed")
    assert np.isnan(few.held_value)
    knn = peak(prepare(*conditions(None, n=16), parse_metric("mutual_knn")))
    assert knn.note.startswith("no layer measured on other stimuli: with half of them, mutual_knn")
    assert np.isnan(knn.share)


def test_layers_without_a_score_are_said():
    dead = as_activations("a", {"x": np.ones((20, 2)), "y": np.ones((20, 2))})
    other = as_activations("b", {name: np.random.default_rng(0).normal(size=(20, 2)) for name in "xy"})
    with pytest.warns(RepalignWarning, match="has no score"):
        found = peak(prepare(dead, other, parse_metric("rsa:rdm=euclidean")))
    assert (found.layer, found.note) == ("", "no layer has a score")
    first = next(halves(20, None, 1, 0))
    varying = {}
    for name, rows in (("chosen", first.choosing), ("other", first.measuring)):
        varying[name] = np.zeros((20, 2))
        varying[name][rows] = np.random.default_rng(1).normal(size=(10, 2))
    a, b = (as_activations(name, {"l": varying["chosen"]}) for name in "ab")
    half = peak(prepare(a, b, parse_metric("cka_linear")))
    assert half.held_layer == "l"
    assert np.isnan(half.held_value)
    assert half.note.startswith("on the other half, layer 'l' has no score: the features are the same")
    a, b = (as_activations(name, {"l": varying["other"]}) for name in "ab")
    none = peak(prepare(a, b, parse_metric("cka_linear")))
    assert none.note == "no layer measured on other stimuli: none has a score on half of them"


def test_wrong_input_is_said():
    a, b = conditions(None)
    with pytest.raises(InputError, match="record the same layers in both conditions"):
        peak(prepare(a, kept(b, "l0", np.arange(48)), parse_metric("cka_linear")))
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        peak(prepare(a, b, parse_metric("cka_linear")), level=2.0)
    with pytest.raises(InputError, match="seed must be a whole number"):
        peak(prepare(a, b, parse_metric("cka_linear")), seed=-1)
