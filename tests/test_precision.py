import json

import numpy as np
import pytest
import torch

from repalign.align import align
from repalign.infer.jackknife import standard_error
from repalign.metrics import LinearCKA, RbfCKA
from repalign.metrics.rsa import rsa
from repalign.precision import (
    FEWEST,
    TOLERANCE,
    _expected,
    bf16_pays,
    check_precision,
    sample_size,
    without_check,
)
from repalign.types import Activations

CPU = torch.device("cpu")
METRICS = [LinearCKA(), RbfCKA(), rsa()]


def side(seed, m=40, noise=0.0, layers=("x", "y"), groups=None):
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).normal(size=(m, 6))
    found = {}
    for name in layers:
        values = shared @ rng.normal(size=(6, 20)) + rng.normal(size=(m, 20))
        values += noise * np.random.default_rng(7 + seed).normal(size=values.shape)
        found[name] = torch.tensor(values, dtype=torch.float32)
    return Activations(f"e{seed}", "s", tuple(map(str, range(m))), found, dict.fromkeys(layers, 0.5), groups=groups)


def sampler(noise, **options):
    """Both sides as they are, and with noise in the place of bfloat16's rounding."""
    asked = []

    def sample(precision):
        asked.append(precision)
        return tuple(side(k, noise=noise * (precision == "bf16"), **options) for k in (0, 1))

    return sample, asked


def test_small_changes_choose_bf16_and_large_ones_fp32():
    sample, asked = sampler(1e-3)
    found = check_precision(sample, METRICS, n=640)
    assert (found.chosen, found.sample, found.n, asked) == ("bf16", 40, 640, ["fp32", "bf16"])
    assert all(0 < d.ratio <= TOLERANCE for d in found.deviations)
    assert "within 0.1" in found.reason
    found = check_precision(sampler(0.5)[0], METRICS, n=640)
    assert found.chosen == "fp32"
    assert max(d.ratio for d in found.deviations) > TOLERANCE
    assert "more than 0.1" in found.reason


def test_changes_and_standard_errors_are_by_their_definition():
    sample, _ = sampler(0.02)
    (a, b), (fast_a, fast_b) = sample("fp32"), sample("bf16")
    n, m = 1000, len(a)
    (found,) = check_precision(sample, [LinearCKA()], n).deviations
    ids = list(a.ids)
    left, fast = (
        np.stack([align(*(x.join(ids[:k] + ids[k + 1 :]) for x in both), LinearCKA()).scores for k in range(m)])
        for both in ((a, b), (fast_a, fast_b))
    )
    se = standard_error(left) * np.sqrt(m / n)
    moved = align(fast_a, fast_b, LinearCKA()).scores - align(a, b, LinearCKA()).scores
    noise = standard_error(fast - left)
    change = np.sqrt(np.maximum(moved**2 - noise**2, 0) + noise**2 * m / n)
    assert found.change == pytest.approx(change.max(), rel=1e-6)
    assert found.se == pytest.approx(se.flat[change.argmax()], rel=1e-6)
    assert found.ratio == pytest.approx((change / se).max(), rel=1e-6)


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_the_expected_change_is_that_of_all_stimuli(shift):
    """Means of m of n draws: their squares estimate those of means of n."""
    m, n = 64, 1024
    drawn = np.random.default_rng(0).normal(shift, 1.0, (4000, m))
    found = _expected(drawn.mean(1), drawn.std(1, ddof=1) / np.sqrt(m), np.sqrt(m / n))
    assert (found**2).mean() == pytest.approx(shift**2 + 1 / n, rel=0.02)


def test_one_metric_too_far_off_is_enough():
    """A monotone change leaves Spearman's RSA as it is and moves CKA."""

    def sample(precision):
        a, b = side(0), side(1)
        if precision == "bf16":
            a.layers["x"][0] *= 3
        return a, b

    found = check_precision(sample, [LinearCKA(), rsa()], n=640)
    far = {d.metric: d.ratio for d in found.deviations}
    assert found.chosen == "fp32"
    assert f"of {max(far, key=far.get)} by" in found.reason


def test_more_stimuli_are_stricter():
    sample, _ = sampler(0.01)
    few, many = (check_precision(sample, METRICS, n) for n in (512, 51_200))
    for a, b in zip(few.deviations, many.deviations, strict=True):
        assert b.change <= a.change
        assert 2 * a.ratio < b.ratio <= 10 * a.ratio * (1 + 1e-9)  # all of a change is at most systematic
    assert (few.chosen, many.chosen) == ("bf16", "fp32")


def test_a_layer_with_itself_is_left_out_and_with_another_is_not():
    def sample(precision):
        one = side(0, noise=1e-3 * (precision == "bf16"))
        return one, one

    found = check_precision(sample, METRICS, n=640)
    assert found.chosen == "bf16"

    def apart(precision):
        return sample(precision)[0], sample(precision)[0]

    assert check_precision(apart, METRICS, n=640) == found

    def only(precision):
        one = side(0, layers=("x",))
        return one, one

    found = check_precision(only, METRICS, n=640)
    assert (found.chosen, np.isnan(found.deviations[0].ratio)) == ("fp32", True)
    assert "scored nothing" in found.reason


def test_undefined_scores_are_left_out_but_not_those_that_bf16_loses():
    def sample(precision, dead, lost=False):
        a, b = side(0, noise=1e-3 * (precision == "bf16")), side(1)
        if dead or (lost and precision == "bf16"):
            a.layers["y"].fill_(1.0)
        return a, b

    assert check_precision(lambda p: sample(p, dead=True), METRICS, n=640).chosen == "bf16"
    found = check_precision(lambda p: sample(p, dead=False, lost=True), METRICS, n=640)
    assert (found.chosen, found.deviations[0].change) == ("fp32", float("inf"))


def test_a_score_without_spread_falls_back_when_it_moves():
    def sample(precision):
        a = side(0)
        b = side(0)
        b.layers["x"].mul_(2.0)  # the same geometry under another name and scale: scores exactly 1
        if precision == "bf16":
            b.layers["x"][0, 0] += 0.01
        return a, b

    assert check_precision(sample, [LinearCKA()], n=640).chosen == "fp32"


def test_groups_are_left_out_whole_and_too_few_stimuli_fall_back():
    groups = tuple(str(k // 4) for k in range(40))
    found = check_precision(sampler(1e-3, groups=groups)[0], METRICS, n=640)
    assert found.chosen == "bf16"
    alone = check_precision(sampler(1e-3)[0], METRICS, n=640)
    assert [d.se for d in found.deviations] != [d.se for d in alone.deviations]
    found = check_precision(sampler(1e-3, m=3)[0], METRICS, n=640)
    assert found.chosen == "fp32"
    assert "needs at least 4 stimuli, not 3" in found.reason


def test_what_is_described_is_plain_and_reads_back():
    found = check_precision(sampler(1e-3)[0], METRICS, n=640)
    plain = json.loads(json.dumps(found.describe()))
    assert plain["chosen"] == "bf16"
    assert plain["tolerance"] == TOLERANCE
    assert [d["metric"] for d in plain["deviations"]] == [m.label for m in METRICS]


def test_sizes_and_what_needs_no_check(monkeypatch):
    assert [sample_size(n) for n in (20, 512, 1024, 6400, 10**7)] == [20, 64, 64, 200, 2048]
    monkeypatch.setattr("repalign.precision.bf16_pays", lambda _: False)
    assert without_check(CPU, 10_000).reason == "cpu has no bfloat16 units"
    monkeypatch.setattr("repalign.precision.bf16_pays", lambda _: True)
    assert without_check(CPU, 10_000) is None
    few = without_check(CPU, FEWEST - 1)
    assert (few.chosen, few.sample, few.deviations) == ("fp32", 0, ())


@pytest.mark.parametrize(
    ("flags", "pays"), [("sse avx512_bf16 fma", True), ("amx_bf16", True), ("avx512f bf16x", False)]
)
def test_the_cpu_is_asked_for_its_units(monkeypatch, tmp_path, flags, pays):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr("repalign.precision.CPU_FLAGS", tmp_path / "cpuinfo")
    assert bf16_pays(CPU) is (pays and torch.backends.mkldnn.is_available())
    monkeypatch.setattr("repalign.precision.CPU_FLAGS", tmp_path / "nowhere")
    assert not bf16_pays(CPU)
    assert not bf16_pays(torch.device("meta"))
