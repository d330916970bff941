"""The controls for the page: a panel each, where a row sets an encoder's score beside that under the condition."""

from dataclasses import dataclass

import numpy as np

from repalign.report.chart import Box, Tick
from repalign.report.many.controls import Contrast, Contrasts
from repalign.report.many.layout import across, fitted_box, fitted_ticks, signed
from repalign.report.many.looks import Look
from repalign.report.wording import number


@dataclass(frozen=True)
class Dumbbell:
    """One encoder's row: places in per cent of the axis, None where undefined, and the difference in words."""

    look: Look
    name: str
    condition: float | None
    control: float | None
    low: float | None
    width: float
    difference: str
    span: str


@dataclass(frozen=True)
class Dumbbells:
    """All encoders against one control on the axis that the condition's controls share."""

    of: Contrasts
    rows: tuple[Dumbbell, ...]
    ticks: tuple[Tick, ...]
    alt: str


def dumbbells(found: list[Contrasts]) -> list[Dumbbells]:
    """Lay out one panel a control."""
    box = contrast_box(found)
    ticks = fitted_ticks(box)
    return [Dumbbells(one, tuple(_row(row, box) for row in one.rows), ticks, _alt(one)) for one in found]


def contrast_box(found: list[Contrasts]) -> Box:
    """Span the axis that all controls share."""
    values = [v for one in found for row in one.rows for v in (row.condition.value, row.control.value)]
    return fitted_box(np.array(values, dtype=np.float64))


def _row(row: Contrast, box: Box) -> Dumbbell:
    condition, control = (across(box, one.value) for one in (row.condition, row.control))
    low, width = None, 0.0
    if condition is not None and control is not None:
        low, width = min(condition, control), abs(condition - control)
    difference = signed(row.difference.value)
    return Dumbbell(row.look, row.encoder.described, condition, control, low, width, difference, row.difference.span)


def _alt(one: Contrasts) -> str:
    rows = "; ".join(
        f"{r.encoder.described} {number(r.condition.value)} against {number(r.control.value)}" for r in one.rows
    )
    return f"Mean score under the condition against {one.label}: {rows}"
