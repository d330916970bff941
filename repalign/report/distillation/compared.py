"""Before and after beside each other: the two diagnoses of a run, stage by stage and number by number."""

import math
from collections.abc import Callable

import numpy as np

from repalign.report.chart import Box, Tick, score_box, score_ticks
from repalign.report.diagnosis.charts import SIDES
from repalign.report.diagnosis.saved import Diagnosis, Network, Probe
from repalign.report.distillation.charts import per_cent
from repalign.report.distillation.saved import Distillation
from repalign.report.many.layout import across
from repalign.report.stability_charts import Dot, Dots
from repalign.report.wording import interval, number

Both = tuple[Diagnosis, Diagnosis]
Row = tuple[str, str, str]


def both(run: Distillation) -> Both | None:
    """Give both diagnoses, None unless they are of the same stages."""
    if run.before is None or run.after is None:
        return None
    sides = [[side.layers for side in found.networks] for found in (run.before, run.after)]
    return (run.before, run.after) if sides[0] == sides[1] else None


def similarity_dots(found: Both) -> Dots:
    """Lay out each stage's similarity to the teacher's as far along, before and after, with intervals."""
    spans = [[one.along(column) for column in ("value", "ci_low", "ci_high")] for one in found]
    box = score_box(np.concatenate([values for span in spans for values in span]))
    rows = []
    for k, (i, j) in enumerate(found[0].pairs):
        heading = f"stage {i + 1}: {found[0].student.layers[i]} and {found[0].teacher.layers[j]}"
        for when, span in enumerate(spans):
            value, low, high = (float(values[k]) for values in span)
            text = number(value) + (f" {interval(low, high)}" if math.isfinite(low) and math.isfinite(high) else "")
            rows.append(_dot(when, text, (value, low, high), box, heading))
    return Dots(tuple(rows), _ticks(box), "Linear CKA: " + _spoken(rows))


def probe_dots(found: Both) -> Dots | None:
    """Lay out the accuracy of a linear probe on each stage, before and after; None without probes."""
    known = [{probe.stage: probe for probe in one.probes if probe.stage} for one in found]
    stages = [stage for stage in known[0] if stage in known[1]]
    if not stages:
        return None
    box = Box(0.0, 1.0)
    rows = []
    for stage in stages:
        for when, probes in enumerate(known):
            rows.append(_probe(when, probes[stage], box))
    ticks = tuple(Tick(tick.at, f"{100 * float(tick.text):.0f} %") for tick in _ticks(box))
    return Dots(tuple(rows), ticks, "Accuracy of a linear probe: " + _spoken(rows))


def _probe(when: int, one: Probe, box: Box) -> Dot:
    side = SIDES * one.se
    text = per_cent(one.accuracy) + (f" ± {100 * side:.1f}" if math.isfinite(side) else "")
    span = (one.accuracy, max(0.0, one.accuracy - side), min(1.0, one.accuracy + side))
    return _dot(when, text, span, box, f"stage {one.stage}: {one.layer}")


def _dot(when: int, text: str, span: tuple[float, float, float], box: Box, heading: str) -> Dot:
    at, low, high = (across(box, value) for value in span)
    width = 0.0 if low is None or high is None else round(high - low, 2)
    name = ("before", "after")[when]
    return Dot(name, text, at, low if width else None, width, when, "" if when else heading)


def _ticks(box: Box) -> tuple[Tick, ...]:
    return tuple(Tick(100 - tick.at, tick.text) for tick in score_ticks(box))


def _spoken(rows: list[Dot]) -> str:
    return "; ".join(f"{f'{row.heading}: ' if row.heading else ''}{row.name} {row.text}" for row in rows)


def number_rows(found: Both) -> list[Row]:
    """List what else the two diagnoses measured, before and after; what is unknown of both is left out."""
    said: list[tuple[str, Callable[[Diagnosis], str]]] = [
        ("accuracy of the student", lambda one: _accuracy(one.student)),
        ("negative log-likelihood, nats", lambda one: number(one.student.nll, 3)),
        ("expected calibration error", lambda one: number(one.student.ece, 3)),
        ("pictures that teacher and student see differently", lambda one: per_cent(one.disagreement)),
        ("stages that “gap” would give a branch", _kept),
    ]
    rows = [(what, write(found[0]), write(found[1])) for what, write in said]
    return [row for row in rows if row[1:] != ("undefined", "undefined")]


def _accuracy(one: Network) -> str:
    side = "" if math.isnan(one.accuracy_se) else f" ± {100 * one.accuracy_se:.1f}"
    return per_cent(one.accuracy) + side


def _kept(one: Diagnosis) -> str:
    rule = one.rule("gap")
    if rule is None:
        return "undefined"
    return (", ".join(map(str, rule.kept)) or "none") if rule.sufficient else "insufficient evidence"
