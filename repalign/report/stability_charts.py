"""Charts of stability for the page: lines over the number of stimuli, dots with ranges for the rest."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repalign.report.chart import COLOURS, Box, Chart, Series, Tick, score_box, score_ticks
from repalign.report.saved import Study
from repalign.report.stability import Choice, Growth, growths, halves, pools
from repalign.report.wording import number

NEAR = 0.12
"""Marks on the axis of stimuli keep this part of it apart, room for five digits on a telephone."""


@dataclass(frozen=True)
class Dot:
    """One row of dots: its name, the value in words, and places of dot and range in per cent of the axis.

    `line` is the number of the measure's colour; `heading` starts a new block; a `strong` dot is what all others are
    beside.
    """

    name: str
    text: str
    at: float | None
    low: float | None
    width: float
    line: int
    heading: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Dots:
    """Rows of dots on one axis, with what they show in words; `rule` is where a line stands through all rows."""

    rows: tuple[Dot, ...]
    ticks: tuple[Tick, ...]
    alt: str
    rule: float | None = None


def growth_charts(study: Study) -> list[Chart]:
    """Lay out scores over the number of stimuli: one chart of averages, one of single pairs, on the same axes."""
    found = growths(study)
    if not found:
        return []
    box = score_box(np.concatenate([np.concatenate([g.value, g.low, g.high]) for g in found]))
    ends = min(float(g.n.min()) for g in found), max(float(g.n.max()) for g in found)
    average = ("mean over layers matched by depth", [g for g in found if not any(g.layers)])
    single = ("the pair most alike on all", [g for g in found if any(g.layers)])
    return [_growth_chart(study, title, some, box, ends) for title, some in (average, single) if some]


def half_dots(study: Study) -> Dots | None:
    """Lay out the agreement of two halves per measure."""
    return _dots(study, halves(study), "agreement of two halves", headings=False)


def pool_dots(study: Study) -> Dots | None:
    """Lay out each measure under each pooling."""
    return _dots(study, pools(study), "score by pooling", headings=True)


def along(n: Float[np.ndarray, " k"], ends: tuple[float, float]) -> Float[np.ndarray, " k"]:
    """Place numbers of stimuli on a logarithmic axis, 0 at its first end and 1 at its last."""
    low, high = (math.log(end) for end in ends)
    return (np.log(n) - low) / (high - low) if high > low else np.full(n.shape, 0.5)


def count_marks(n: Float[np.ndarray, " k"], ends: tuple[float, float]) -> list[float]:
    """Choose numbers of stimuli to name on the axis: the largest always, others while they keep apart."""
    kept: list[float] = []
    for value in sorted(set(n.tolist()), reverse=True):
        if not kept or along(np.array([kept[-1]]), ends)[0] - along(np.array([value]), ends)[0] >= NEAR:
            kept.append(value)
    return kept[::-1]


def _growth_chart(study: Study, title: str, some: list[Growth], box: Box, ends: tuple[float, float]) -> Chart:
    places = {metric.id: k for k, metric in enumerate(study.metrics)}
    by_metric = sorted(some, key=lambda g: places[g.metric.id])
    every = np.concatenate([g.n for g in by_metric])
    marks = count_marks(every, ends)
    at = along(np.array(marks), ends)
    return Chart(
        name="growth",
        alt=f"Scores against the number of {study.pictures}, {title}: " + "; ".join(_spoken(g) for g in by_metric),
        series=tuple(_line(g, places[g.metric.id], box, ends) for g in by_metric),
        x_ticks=tuple(Tick(round(100 * float(z), 2), f"{n:,.0f}") for z, n in zip(at, marks, strict=True)),
        y_ticks=score_ticks(box),
        x_label=f"number of {study.pictures}, each step the same factor",
        y_label=f"score, {title}" + (f" {study.pictures}" if "most alike" in title else ""),
    )


def _line(growth: Growth, k: int, box: Box, ends: tuple[float, float]) -> Series:
    xs = along(growth.n, ends)
    return Series(
        label=growth.metric.label,
        colour=k % COLOURS,
        line=box.line(xs, growth.value),
        dots=box.dots(xs, growth.value),
        ribbon=box.area(xs, growth.low, growth.high),
        said=" × ".join(growth.layers) if any(growth.layers) else "",
    )


def _spoken(growth: Growth) -> str:
    values = ", ".join(f"{number(v)} with {n:,.0f}" for n, v in zip(growth.n, growth.value, strict=True))
    return f"{growth.metric.label} {values}"


def _dots(study: Study, choices: list[Choice], what: str, headings: bool) -> Dots | None:
    if not choices:
        return None
    box = score_box(np.array([v for one in choices for v in (one.value, one.low, one.high)]))
    rows, before = [], None
    for one in choices:
        heading = one.metric.label if headings and one.metric != before else ""
        rows.append(_dot(one, box, study.metrics.index(one.metric) % COLOURS, heading, headings))
        before = one.metric
    ticks = tuple(Tick(100 - tick.at, tick.text) for tick in score_ticks(box))
    spoken = "; ".join(f"{one.metric.label} {one.name} {one.written}" for one in choices)
    return Dots(tuple(rows), ticks, f"{what}: {spoken}")


def _dot(one: Choice, box: Box, line: int, heading: str, named: bool) -> Dot:
    at, low, high = (100 - box.y(v) / 10 if math.isfinite(v) else None for v in (one.value, one.low, one.high))
    width = 0.0 if low is None or high is None else high - low
    name = one.name if named else one.metric.label
    return Dot(name, one.written, at, low if width else None, round(width, 2), line, heading)
