"""How far a network's logits spread, and what floating point makes of that."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Tensor


def largest_gap(dtype: torch.dtype) -> float:
    """Give the gap between two logits beyond which a softmax of that type is 0 for the smaller, so that its log is −∞.

    That is −ln of the smallest positive number, `smallest_normal · eps`: 103 for float32, 16.6 for float16.

    >>> round(largest_gap(torch.float32), 2), round(largest_gap(torch.float16), 2)
    (103.28, 16.64)
    """
    info = torch.finfo(dtype)
    return -log(info.smallest_normal) - log(info.eps)


@dataclass(frozen=True)
class LogitRange:
    """The smallest and largest logit of the teacher, and the largest gap within one picture of either network.

    `naive_log_softmax_overflow`: log(softmax) in float32, without log-softmax, gives −∞ for some picture.
    `float16_overflow`: it does in float16, or a logit is beyond float16's largest number. `said` puts it in words.
    """

    teacher_min: float
    teacher_max: float
    teacher_gap_max: float
    student_gap_max: float
    float16_overflow: bool
    naive_log_softmax_overflow: bool
    said: str


def logit_range(teacher: Float[Tensor, "n c"], student: Float[Tensor, "n k"]) -> LogitRange:
    """Measure the spread of both networks' logits and compare it with the limits of float32 and float16."""
    gaps = {name: _gap(logits) for name, logits in (("teacher", teacher), ("student", student))}
    most = max(gaps.values())
    size = max(float(teacher.abs().max()), float(student.abs().max()))
    half = torch.finfo(torch.float16).max
    wide, narrow = most > largest_gap(torch.float32), most > largest_gap(torch.float16)
    return LogitRange(
        float(teacher.min()), float(teacher.max()), gaps["teacher"], gaps["student"], narrow or size > half, wide,
        _said(gaps, size > half, wide, narrow),
    )  # fmt: skip


def _gap(logits: Float[Tensor, "n c"]) -> float:
    return float((logits.amax(1) - logits.amin(1)).max())


def _said(gaps: dict[str, float], large: bool, wide: bool, narrow: bool) -> str:
    spread = (
        f"largest gap between two logits of a picture: teacher {gaps['teacher']:.1f}, student {gaps['student']:.1f}"
    )
    limits = largest_gap(torch.float32), largest_gap(torch.float16)
    if large:
        return f"{spread}; a logit is beyond float16's largest number, {torch.finfo(torch.float16).max:,.0f}"
    if wide:
        return f"{spread}: log(softmax) is −∞ beyond {limits[0]:.0f} in float32; repalign's losses use log-softmax"
    if narrow:
        return (
            f"{spread}: safe in float32 (log(softmax) up to {limits[0]:.0f}), not in float16 (up to {limits[1]:.1f}); "
            "repalign's losses use log-softmax in float32"
        )
    return f"{spread}: safe, below {limits[1]:.1f} (float16) and {limits[0]:.0f} (float32), where log(softmax) is −∞"
