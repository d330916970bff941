"""The figures of a run on paper: PNG and SVG, the same bytes from the same folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from repalign.report.chart import Chart
from repalign.report.diagnosis.paper import Panel, chart_panel, dots_panel, maps_figure
from repalign.report.distillation import charts
from repalign.report.distillation.compared import Both, both, probe_dots, similarity_dots
from repalign.report.distillation.maps import shown_maps, stage_names
from repalign.report.distillation.saved import Alignment, Distillation
from repalign.report.distillation.sentences import brief, question
from repalign.report.figures import draw_each
from repalign.report.many.paper import head, warn_below
from repalign.report.stability_charts import Dots

CHART, LEGEND = (3.9, 2.4), 0.17
"""Inches of a chart, and of a line of the legend above it."""

NAMES, AXIS, VALUES, ROW = 2.0, 2.4, 1.4, 0.3
"""Inches left of dots, of their axis, right of it, and of a row."""


def draw_distillation_figures(run: Distillation) -> list[Path]:
    """Draw accuracies, training curves, alignment and the two diagnoses, each where there is something to draw."""
    return draw_each(run.path, _figures(run))


def _figures(run: Distillation) -> Iterator[tuple[str, Figure]]:
    accuracies, aligned, found = charts.outcome_dots(run), charts.alignment_chart(run), both(run)
    drawn = [(title, chart) for title, draw in charts.OVER_EPOCHS.items() if (chart := draw(run))]
    if accuracies:
        yield "accuracies", _dots(run, [("Accuracy, 95 % intervals", accuracies)], "How good the student is")
    if drawn:
        yield "training", _charts(run, drawn, "Training")
    if aligned and run.alignment:
        yield "alignment", _charts(run, [("Stages at the same share of the way", aligned)], "Alignment to the teacher")
        yield "alignment_maps", _maps(run, run.alignment)
    if found:
        yield "before_after", _compared(run, found)


def _charts(run: Distillation, drawn: list[tuple[str, Chart]], title: str) -> Figure:
    """Draw charts side by side, legends above them."""
    legend = LEGEND * (1.5 + max(len(chart.series) for _, chart in drawn))
    width = CHART[0] * (1.4 if len(drawn) == 1 else 1.0)
    figure = Figure(figsize=(len(drawn) * (width + 0.75), 0.5 + CHART[1] + legend))
    for k, (name, chart) in enumerate(drawn):
        chart_panel(figure, (0.6 + k * (width + 0.75), 0.5, width, CHART[1]), chart, name)
    return _finish(figure, run, title)


def _dots(run: Distillation, panels: list[tuple[str, Dots]], title: str) -> Figure:
    """Draw rows of dots side by side."""
    high, whole = ROW * max(len(dots.rows) for _, dots in panels), NAMES + AXIS + VALUES
    figure = Figure(figsize=(len(panels) * whole, 0.4 + high + 0.35))
    for k, (name, dots) in enumerate(panels):
        own = ROW * len(dots.rows)
        dots_panel(figure, (NAMES + k * whole, 0.4 + high - own, AXIS, own), dots, name)
    return _finish(figure, run, title)


def _finish(figure: Figure, run: Distillation, title: str) -> Figure:
    head(figure, title, question(run))
    warn_below(figure, brief(run), 0.05)
    return figure


def _maps(run: Distillation, found: Alignment) -> Figure:
    rows, columns = stage_names(found)
    panels = [
        Panel(title[:1].upper() + title[1:], scores, np.zeros(scores.shape, dtype=bool), rows, columns, found.pairs)
        for title, _, scores in shown_maps(found)
    ]
    sides = (run.student.name, run.teacher.name if run.teacher else "teacher")
    said = f"{question(run)} Linear CKA, debiased; frames: stages at the same share of the way"
    return maps_figure(panels, sides, "Alignment to the teacher", said, brief(run))


def _compared(run: Distillation, found: Both) -> Figure:
    panels = [("Linear CKA to the teacher's stage", similarity_dots(found))]
    probes = probe_dots(found)
    if probes:
        panels.append(("Accuracy of a linear probe", probes))
    return _dots(run, panels, "Diagnosed before and after")
