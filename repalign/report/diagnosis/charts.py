"""Charts of a diagnosis: how far apart the stages are, the knee, what a linear probe reads, and what heads cost."""

import math
from dataclasses import dataclass

import numpy as np

from repalign.report.chart import Box, Chart, Series, Tick, score_box, score_ticks
from repalign.report.diagnosis.saved import Diagnosis, Probe, Rule
from repalign.report.diagnosis.sentences import apart
from repalign.report.stability_charts import Dot, Dots
from repalign.report.wording import big, number, share

SIDES = 1.96
"""Standard errors from a mean to either end of its 95 % interval."""


@dataclass(frozen=True)
class Chip:
    """One stage as one rule sees it: `state` is `kept`, `left` or `open`, `said` the same in words."""

    number: int
    layer: str
    state: str
    said: str
    reason: str


@dataclass(frozen=True)
class HeadRow:
    """What the head of one stage costs, in words and as bars in per cent of the longest of their column."""

    stage: str
    layer: str
    parameters: str
    parameters_share: str
    parameters_bar: float
    flops: str
    flops_share: str
    flops_bar: float


def chips(found: Diagnosis, rule: Rule) -> list[Chip]:
    """Lay out what a rule says of every stage."""
    reasons = rule.reasons or ("",) * len(found.student.stages)
    listed = []
    for stage, reason in zip(found.student.stages, reasons, strict=True):
        state = "open" if not rule.sufficient else "kept" if stage.number in rule.kept else "left"
        said = {"kept": "branch", "left": "no branch", "open": "undecided"}[state]
        listed.append(Chip(stage.number, stage.layer, state, said, reason.removeprefix(f"stage {stage.number}: ")))
    return listed


def gap_dots(found: Diagnosis) -> Dots:
    """Lay out 1 − CKA of each student stage with the teacher's as far along, against τ; a kept one stands out."""
    value, low, high = (found.along(column) for column in ("value", "ci_low", "ci_high"))
    box = score_box(1 - np.concatenate([value, low, high]))
    rule = found.rule("gap")
    kept = rule.kept if rule else ()
    rows = []
    for (i, j), v, lo, hi in zip(found.pairs, value.tolist(), low.tolist(), high.tolist(), strict=True):
        student, teacher = found.student.stages[i], found.teacher.stages[j]
        name = f"stage {student.number}: {student.layer} and {teacher.layer}"
        rows.append(_dot(name, apart(v, lo, hi), (1 - v, 1 - hi, 1 - lo), box, 0, student.number in kept))
    return Dots(tuple(rows), _ticks(box), _spoken("1 − CKA", rows), _at(found.tau, box))


def probe_dots(found: Diagnosis) -> Dots | None:
    """Lay out the accuracy of a linear probe on every stage, against guessing; None without probes."""
    if not found.probes:
        return None
    box = Box(0.0, 1.0)
    rows = [_probe_dot(found, one, box) for one in found.probes]
    ticks = tuple(Tick(100 - t.at, f"{100 * float(t.text):.0f} %") for t in score_ticks(box))
    return Dots(tuple(rows), ticks, _spoken("Accuracy of a linear probe", rows), _at(found.chance, box))


def _probe_dot(found: Diagnosis, one: Probe, box: Box) -> Dot:
    side = SIDES * one.se
    text = "undefined" if math.isnan(one.accuracy) else f"{100 * one.accuracy:.1f} %"
    text += f" ± {100 * side:.1f}" if math.isfinite(side) else ""
    name = f"stage {one.stage}: {one.layer}" if one.stage else "the teacher's penultimate layer"
    span = (one.accuracy, max(one.accuracy - side, box.low), min(one.accuracy + side, box.high))
    return _dot(name, text, span, box, 0 if one.stage else 1, not one.stage)


def _dot(name: str, text: str, span: tuple[float, float, float], box: Box, line: int, strong: bool) -> Dot:
    at, low, high = (_at(v, box) for v in span)
    width = 0.0 if low is None or high is None else high - low
    return Dot(name, text, at, low if width else None, round(width, 2), line, strong=strong)


def _at(value: float, box: Box) -> float | None:
    return round(100 - box.y(value) / 10, 2) if math.isfinite(value) else None


def _ticks(box: Box) -> tuple[Tick, ...]:
    return tuple(Tick(100 - tick.at, tick.text) for tick in score_ticks(box))


def _spoken(what: str, rows: list[Dot]) -> str:
    return f"{what}: " + "; ".join(f"{row.name} {row.text}" for row in rows)


def knee_chart(found: Diagnosis) -> Chart | None:
    """Lay out each stage's similarity to the teacher's penultimate layer, with the chord; None without it."""
    grid, count = found.penultimate, len(found.student.stages)
    if grid is None or count < 2:
        return None
    value, low, high = (grid.matrix(column)[:, 0] for column in ("value", "ci_low", "ci_high"))
    box, xs = score_box(np.concatenate([value, low, high])), np.linspace(0, 1, count)
    rule = found.rule("knee")
    at = rule.kept[0] - 1 if rule and rule.kept else -1
    chord = np.linspace(value[0], value[-1], count)
    line = Series(
        label=grid.metric.label,
        colour=0,
        line=box.line(xs, value),
        dots=box.dots(xs, value),
        ribbon=box.area(xs, low, high),
        peak=(box.x(xs[at]) / 10, box.y(value[at]) / 10) if at >= 0 else None,
        said=f"knee at stage {at + 1}" if at >= 0 else "no knee",
        chance=box.line(xs, chord),
    )
    spoken = ", ".join(f"stage {k + 1} {number(float(v))}" for k, v in enumerate(value))
    return Chart(
        name="knee",
        alt=f"Similarity of the student's stages to the teacher's penultimate layer: {spoken}",
        series=(line,),
        x_ticks=tuple(Tick(100 * z, f"{k + 1}") for k, z in enumerate(xs.tolist())),
        y_ticks=score_ticks(box),
        x_label="stage of the student",
        y_label="similarity to the teacher's penultimate layer",
        chance_label="chord from the first stage to the last",
    )


def head_rows(found: Diagnosis) -> list[HeadRow]:
    """Lay out what each head costs, with all of them together below; nothing when it is unknown."""
    if not found.heads:
        return []
    sizes = [(one.parameters, one.share_of_parameters, one.flops, one.share_of_flops) for one in found.heads]
    longest = [max((v for v in column if math.isfinite(v)), default=0.0) for column in zip(*sizes, strict=True)]
    rows = [_head_row(f"{one.stage}", one.layer, size, longest) for one, size in zip(found.heads, sizes, strict=True)]
    if len(rows) > 1:
        total = tuple(float(sum(column)) for column in zip(*sizes, strict=True))
        rows.append(_head_row("all", "", total, [0.0] * 4))
    return rows


def _head_row(stage: str, layer: str, size: tuple[float, ...], longest: list[float]) -> HeadRow:
    parameters, of_parameters, flops, of_flops = size
    bars = [100 * v / most if most and math.isfinite(v) else 0.0 for v, most in zip(size, longest, strict=True)]
    written = ["" if math.isnan(v) else big(v) for v in (parameters, flops)]
    return HeadRow(stage, layer, written[0], share(of_parameters), bars[0], written[1], share(of_flops), bars[2])
