"""Dots of controls for the page: the condition and each control on one axis, best first, a panel a measure."""

import math
from dataclasses import dataclass

import numpy as np

from repalign.report.chart import COLOURS, Box, Tick, score_ticks
from repalign.report.condition_tables import ordered
from repalign.report.conditions import condition_name, scored, strength
from repalign.report.saved import Metric, Study
from repalign.report.stability_charts import Dot, Dots
from repalign.report.wording import number

SHORT = 0.6
"""An axis no longer than this has a mark every tenth."""


@dataclass(frozen=True)
class Row:
    """One row of a panel: the condition or a control, with its mean score and interval; NaN where unknown."""

    name: str
    value: float
    low: float
    high: float
    is_condition: bool = False

    @property
    def written(self) -> str:
        """Write the score with its interval."""
        return scored(self.value, self.low, self.high)


@dataclass(frozen=True)
class Panel:
    """One measure's dots on the page: its name, which way is more alike, and where the condition's line stands."""

    title: str
    direction: str
    dots: Dots


def control_rows(study: Study, metric: Metric) -> list[Row]:
    """List the condition and every control that has a score, from the most alike to the least."""
    summary = study.conditions.summary(metric.id)
    rows = []
    for control in ordered(study, metric):
        found = study.conditions.effect(metric.id, control)
        if found is not None and math.isfinite(found.value):
            aside = f" ({strength(control)})" if strength(control) else ""
            rows.append(Row(control.label + aside, found.value, found.ci_low, found.ci_high))
    if not rows or summary is None or math.isnan(summary.mean):
        return rows
    own = Row(condition_name(study), summary.mean, summary.mean_low, summary.mean_high, is_condition=True)
    sign = 1 if metric.higher_is_similar else -1
    return sorted([own, *rows], key=lambda row: -sign * row.value)


def control_panels(study: Study) -> list[Panel]:
    """Lay out the dots of every measure; nothing without controls that have scores."""
    panels = []
    for k, metric in enumerate(study.metrics):
        rows = control_rows(study, metric)
        if rows:
            direction = "" if metric.higher_is_similar else "lower is more alike"
            panels.append(Panel(metric.label, direction, _dots(study, metric, rows, k % COLOURS)))
    return panels


def control_axis(study: Study, metric: Metric) -> Box:
    """Span the axis over every score and interval end of the measures that have the same bounds, in whole tenths."""
    alike = [one for one in study.metrics if one.bounds == metric.bounds]
    ends = [v for one in alike for row in control_rows(study, one) for v in (row.value, row.low, row.high)]
    known = np.array([v for v in ends if math.isfinite(v)])
    # a score of exactly 1 must not make room for scores beyond it
    low, high = math.floor(known.min() * 10 + 1e-9) / 10, math.ceil(known.max() * 10 - 1e-9) / 10
    return Box(low, high) if high > low else Box(low - 0.1, high + 0.1)


def control_ticks(box: Box) -> tuple[Tick, ...]:
    """Mark every tenth of a short axis, and a long one as any axis of scores."""
    if box.high - box.low > SHORT:
        return score_ticks(box)
    marks = [k / 10 for k in range(round(box.low * 10), round(box.high * 10) + 1)]
    return tuple(Tick(box.y(v) / 10, number(v, 1)) for v in marks)


def _dots(study: Study, metric: Metric, rows: list[Row], line: int) -> Dots:
    box = control_axis(study, metric)
    dots = tuple(_dot(row, box, line) for row in rows)
    ticks = tuple(Tick(100 - tick.at, tick.text) for tick in control_ticks(box))
    spoken = "; ".join(f"{row.name} {row.written}" for row in rows)
    rule = next((dot.at for dot in dots if dot.strong), None)
    return Dots(dots, ticks, f"Mean score over layers by {metric.label}: {spoken}", rule)


def _dot(row: Row, box: Box, line: int) -> Dot:
    at, low, high = (100 - box.y(v) / 10 if math.isfinite(v) else None for v in (row.value, row.low, row.high))
    width = 0.0 if low is None or high is None else high - low
    return Dot(row.name, row.written, at, low if width else None, round(width, 2), line, strong=row.is_condition)
