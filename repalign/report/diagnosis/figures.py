"""The figures of a diagnosis on paper: PNG and SVG, the same bytes from the same folder."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from repalign.report.diagnosis.charts import gap_dots, head_rows, knee_chart, probe_dots
from repalign.report.diagnosis.maps import best_of, way_points, with_untrained
from repalign.report.diagnosis.paper import Panel, bars_panel, chart_panel, dots_panel, maps_figure
from repalign.report.diagnosis.saved import Diagnosis
from repalign.report.diagnosis.sentences import caveats, how_sure, verdict
from repalign.report.figures import draw_each
from repalign.report.many.paper import head, warn_below
from repalign.report.stability_charts import Dots
from repalign.report.wording import number

PANEL, ROW = 3.0, 0.3
"""Inches of a panel's width, and of a row of dots."""

NAMES, VALUES = 1.9, 1.3
"""Inches left and right of a panel, for names and values."""

CHART = 2.3
"""Inches of a chart's height."""


def draw_diagnosis_figures(found: Diagnosis) -> list[Path]:
    """Draw the maps of stages and of blocks, and the evidence for the verdict; return the files."""
    return draw_each(found.path, _figures(found))


def _figures(found: Diagnosis) -> Iterator[tuple[str, Figure]]:
    yield "stages", _stages(found)
    if found.level("block"):
        yield "blocks", _blocks(found)
    yield "evidence", _evidence(found)


def _said(found: Diagnosis) -> str:
    sure = how_sure(found, found.stages)
    seen = f"{found.student.described} and its teacher {found.teacher.described} on {found.pictures:,} pictures of"
    return f"{seen} {found.meta['data']['name']}" + (f"; {sure}" if sure else "")


def _sides(found: Diagnosis) -> tuple[str, str]:
    return found.student.described, found.teacher.described


def _stages(found: Diagnosis) -> Figure:
    names = [tuple(stage.named for stage in one.stages) for one in (found.student, found.teacher)]
    panels = [
        Panel(grid.metric.label, grid.matrix(), grid.muted, names[0], names[1], found.pairs if k == 0 else (),
              way_points(found.ways) if k == 0 else None)
        for k, grid in enumerate(with_untrained(found))
    ]  # fmt: skip
    keys = "; frames: what “gap” compares" + ("; line: the way of “lag”" if found.ways else "")
    return maps_figure(panels, _sides(found), "Stage by stage", _said(found) + keys, caveats(found))


def _blocks(found: Diagnosis) -> Figure:
    panels = []
    for grid in found.level("block"):
        best = tuple((i, j) for i, j in enumerate(best_of(grid)) if j >= 0)
        panels.append(Panel(grid.metric.label, grid.matrix(), grid.muted, grid.rows, grid.columns, best))
    said = f"{_said(found)}; frames: best match of each row"
    return maps_figure(panels, _sides(found), "Block by block", said, caveats(found))


def _evidence(found: Diagnosis) -> Figure:
    """Draw what the rules read: gaps and probes in the upper row, the knee and the cost of heads in the lower."""
    gap, probe, knee, heads = gap_dots(found), probe_dots(found), knee_chart(found), head_rows(found)
    upper = 0.3 + ROW * max(len(gap.rows), len(probe.rows) if probe else 0)
    lower = CHART + 1.2 if knee or heads else 0.0
    figure = Figure(figsize=(2 * (NAMES + PANEL + VALUES), upper + 0.3 + lower))
    top, right = upper + lower, NAMES + PANEL + VALUES + NAMES
    dots_panel(figure, (NAMES, top - _high(gap), PANEL, _high(gap)), gap, f"1 − CKA, τ = {number(found.tau)}")
    if probe:
        box = (right, top - _high(probe), PANEL, _high(probe))
        dots_panel(figure, box, probe, "Accuracy of a linear probe; dashed: guessing")
    if knee:
        chart_panel(figure, (0.6, 0.5, NAMES + PANEL - 0.6, CHART), knee, "Towards the teacher's penultimate layer")
    if heads:
        rows = [(f"stage {one.stage}: {one.layer}", f"{one.parameters}, {one.parameters_share}", one.parameters_bar)
                for one in heads if one.layer]  # fmt: skip
        high = ROW * len(rows)
        box = (right, 0.5 + CHART - high, PANEL + 0.6, high)
        bars_panel(figure, box, rows, "Parameters of each head, and beside the student's")
    head(figure, verdict(found)[0], _said(found))
    warn_below(figure, caveats(found), 0.05)
    return figure


def _high(dots: Dots) -> float:
    """Give the inches of a panel of dots."""
    return ROW * len(dots.rows)
