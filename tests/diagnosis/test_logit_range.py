"""The limits are those at which torch itself overflows."""

import pytest
import torch

from repalign.diagnosis.logit_range import largest_gap, logit_range


def overflows(gap, dtype):
    return bool(torch.log(torch.softmax(torch.tensor([0.0, gap], dtype=dtype), 0)).isinf().any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_limits_are_torchs(dtype):
    limit = largest_gap(dtype)
    assert not overflows(0.95 * limit, dtype)
    assert overflows(1.05 * limit, dtype)


def logits(gap, start=0.0):
    return torch.tensor([[start, start + gap, start], [start, start, start]])


@pytest.mark.parametrize(
    ("gap", "half", "single", "words"),
    [(10.0, False, False, "safe, below"), (20.0, True, False, "not in float16"), (110.0, True, True, "−∞ beyond 103")],
)
def test_either_networks_gap_counts(gap, half, single, words):
    for found in (logit_range(logits(gap), logits(1.0)), logit_range(logits(1.0), logits(gap))):
        assert (found.float16_overflow, found.naive_log_softmax_overflow) == (half, single)
        assert words in found.said


def test_large_logits_overflow_in_halves_alone():
    found = logit_range(logits(1.0, start=70000.0), logits(1.0))
    assert (found.teacher_min, found.teacher_max, found.teacher_gap_max) == (70000.0, 70001.0, 1.0)
    assert found.float16_overflow
    assert not found.naive_log_softmax_overflow
    assert "65,504" in found.said
