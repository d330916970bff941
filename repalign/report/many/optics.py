"""What the optics of a filter leave to each encoder: the contrast of the finest grating that its input can carry."""

import math
from dataclasses import dataclass

from repalign.report.conditions import PLAIN
from repalign.report.many.looks import Look, looks_of
from repalign.report.many.saved import Condition, ManyStudy
from repalign.report.many.sentences import quoted
from repalign.report.saved_conditions import Optics
from repalign.report.wording import number, significant


@dataclass(frozen=True)
class OpticsRow:
    """One encoder: the width of its input, and per condition the contrast left with what it is of."""

    look: Look
    name: str
    pixels: str
    cells: tuple[tuple[float | None, str, str], ...]


@dataclass(frozen=True)
class OpticsTable:
    """All encoders under the conditions that have optics, and what to read from it."""

    conditions: tuple[Condition, ...]
    rows: tuple[OpticsRow, ...]
    said: str


def optics_table(study: ManyStudy) -> OpticsTable | None:
    """Lay out what optics leave, None when no condition has any."""
    shown = tuple(c for c in study.conditions if any(one.transfer.get(c.id) for one in study.encoders))
    if not shown:
        return None
    looks, rows = looks_of(study), []
    for encoder in study.encoders:
        steps = [encoder.transfer.get(one.id, ()) for one in shown]
        if any(steps):
            pixels = " / ".join(dict.fromkeys(str(step.pixels) for some in steps for step in some))
            cells = tuple(_cell(some) for some in steps)
            rows.append(OpticsRow(looks[encoder.id], encoder.described, pixels, cells))
    said = " ".join(_said(study, one) for one in shown)
    return OpticsTable(shown, tuple(rows), said)


def left_of(steps: tuple[Optics, ...]) -> float:
    """Multiply what the steps of a chain leave; NaN where one is unknown."""
    return math.prod(step.at_nyquist for step in steps) if steps else math.nan


def _cell(steps: tuple[Optics, ...]) -> tuple[float | None, str, str]:
    left = left_of(steps)
    if math.isnan(left):
        return None, "", ""
    finest = steps[0].pixels / (2 * steps[0].shown_deg)  # one cycle in two pixels
    return left, number(left), f"at {significant(finest)} cycles/°"


def _said(study: ManyStudy, condition: Condition) -> str:
    values = [v for one in study.encoders if math.isfinite(v := left_of(one.transfer.get(condition.id, ())))]
    if not values:
        return ""
    low, high = min(values), max(values)
    span = number(low) if number(low) == number(high) else f"between {number(low)} and {number(high)}"
    start = (
        f"Under {quoted(condition)} the optics leave {span} of the contrast of the finest grating an input can carry"
    )
    if low >= PLAIN:
        return f"{start}: they hardly act, and what the scores show is the rest of the filter."
    return f"{start}."
