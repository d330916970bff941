"""Where things go: dots on an axis of their own, labels so that none lies on another."""

import math

import numpy as np
from jaxtyping import Float

from repalign.report.chart import Box, Tick
from repalign.report.wording import number

SIDES = {
    "right": (1, 0), "left": (-1, 0), "above": (0, -1), "below": (0, 1), "above-right": (1, -1), "below-right": (1, 1),
    "above-left": (-1, -1), "below-left": (-1, 1),
}  # fmt: skip
"""Where a point's label may stand, the first preferred: steps to the right and down."""

ROUNDS = 4
"""How often all labels choose their side."""

WORSE = 4
"""How much worse it is to cover a mark, or to stand outside, than to cover a label."""

NARROWEST = 2
"""Tenths of the shortest axis of dots."""

LETTER, LINE = 6.4, 13.0
"""Width of a letter and height of a line of a label, in pixels of a 12-pixel font."""


def spread(wanted: Float[np.ndarray, " k"], gap: float, low: float, high: float) -> Float[np.ndarray, " k"]:
    """Move places apart until neighbours keep `gap`, between `low` and `high`, as little as possible.

    The least squares of the moves with the order kept: in `wanted − rank·gap` that is an isotonic regression, by
    pooling adjacent violators (Barlow et al. 1972). When `high − low` is too short for all of them the gap shrinks.
    """
    count = len(wanted)
    if count == 0:
        return wanted.copy()
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = np.argsort(wanted, kind="stable")
    pools: list[list[float]] = []  # sum and count of places that move as one
    for value in wanted[order] - gap * np.arange(count):
        pools.append([float(value), 1.0])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, number = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + number]
    level = np.concatenate([np.full(int(number), total / number) for total, number in pools])
    placed = np.empty(count)
    placed[order] = np.clip(level, low, high - gap * (count - 1)) + gap * np.arange(count)
    return placed


def fitted_box(values: Float[np.ndarray, " k"]) -> Box:
    """Span an axis of dots by whole tenths, `NARROWEST` at least; 0 to 1 when nothing is known."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return Box(0.0, 1.0)
    low, high = math.floor(10 * known.min() + 1e-9), math.ceil(10 * known.max() - 1e-9)
    return Box(min(low, high - NARROWEST) / 10, high / 10)


def fitted_ticks(box: Box) -> tuple[Tick, ...]:
    """Choose round marks for a horizontal axis, four to eight of them."""
    span = box.high - box.low
    step = next(s for s in (0.1, 0.2, 0.5, *(10.0**k for k in range(30))) if span / s <= 8)
    marks = [k * step for k in range(math.ceil(box.low / step - 1e-9), math.floor(box.high / step + 1e-9) + 1)]
    return tuple(Tick(100 - box.y(v) / 10, number(v, 1)) for v in marks)


def across(box: Box, value: float) -> float | None:
    """Place a score on a horizontal axis, in per cent; None when it is undefined."""
    return None if math.isnan(value) else round(100 - box.y(min(max(value, box.low), box.high)) / 10, 2)


def signed(difference: float) -> str:
    """Write a difference with its sign; 0 has none."""
    text = number(difference)
    return f"+{text}" if difference > 0 and float(text) > 0 else text


def beside(points: Float[np.ndarray, "k 2"], letters: list[int], size: tuple[float, float], mark: float) -> list[str]:
    """Choose for each point, in pixels with y downwards, on which side its label of so many letters stands.

    One after the other takes the side where its label covers least of the marks, of the other labels and of what lies
    outside the box of `size`; then all choose again, knowing the others. `mark` is the radius of a mark.
    """
    marks = np.concatenate([points - mark, points + mark], axis=1)
    boxes = [
        np.array([_box(away, x, y, count * LETTER, mark) for away in SIDES.values()])
        for (x, y), count in zip(points.tolist(), letters, strict=True)
    ]
    chosen: dict[int, int] = {}
    for k in [*range(len(points))] * ROUNDS:
        labels = np.array([boxes[i][side] for i, side in chosen.items() if i != k]).reshape(-1, 4)
        other_marks = np.delete(marks, k, axis=0)
        costs = [_covered(b, labels) + WORSE * (_covered(b, other_marks) + _outside(b, size)) for b in boxes[k]]
        chosen[k] = int(np.argmin(costs))
    names = list(SIDES)
    return [names[chosen[k]] for k in range(len(points))]


def _box(away: tuple[int, int], x: float, y: float, width: float, mark: float) -> Float[np.ndarray, " 4"]:
    """Give the corners of a label on one side of a mark: left, top, right, bottom."""
    near = (mark + 3) * (0.7 if all(away) else 1.0)
    left = x + near if away[0] > 0 else x - near - width if away[0] < 0 else x - width / 2
    top = y + near if away[1] > 0 else y - near - LINE if away[1] < 0 else y - LINE / 2
    return np.array([left, top, left + width, top + LINE])


def _covered(box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "k 4"]) -> float:
    """Measure how much of other boxes a box covers."""
    if others.size == 0:
        return 0.0
    wide = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    high = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return float((wide.clip(0) * high.clip(0)).sum())


def _outside(box: Float[np.ndarray, " 4"], size: tuple[float, float]) -> float:
    """Measure how much of a box lies outside 0..width × 0..height."""
    inside = max(0.0, min(box[2], size[0]) - max(box[0], 0.0)) * max(0.0, min(box[3], size[1]) - max(box[1], 0.0))
    return float((box[2] - box[0]) * (box[3] - box[1]) - inside)
