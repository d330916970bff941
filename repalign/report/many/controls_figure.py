"""The controls on paper: a panel each, where a row sets an encoder's score beside that under the condition."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repalign.report.heatmap import INK, QUIET
from repalign.report.many.control_chart import contrast_box
from repalign.report.many.controls import Contrasts
from repalign.report.many.paper import frame, head, mark, say_below, under
from repalign.report.many.saved import Condition, ManyStudy
from repalign.report.saved import Metric
from repalign.report.wording import clip, number

NAMES, PLOT, ROW, GAP = 1.75, 1.9, 0.2, 0.35
"""Inches of the names, of a panel's width, of a row, and between panels."""

EDGE = 0.012
"""Score beyond the axis, room for half a mark."""

COLUMNS = 4
"""At most so many panels beside each other."""


def controls_figure(study: ManyStudy, condition: Condition, metric: Metric, found: list[Contrasts]) -> Figure:
    """Draw a panel a control on one scale."""
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    high = ROW * max(len(one.rows) for one in found) + 0.25
    width, height = NAMES + columns * (PLOT + GAP), rows * (high + 0.95) + 0.1
    figure = Figure(figsize=(width, height))
    box = contrast_box(found)
    for k, one in enumerate(found):
        left = NAMES + k % columns * (PLOT + GAP)
        bottom = height - (k // columns) * (high + 0.95) - high - 0.45
        axes = figure.add_axes((left / width, bottom / height, PLOT / width, high / height))
        _draw(axes, one, names=k % columns == 0)
        axes.set_xlim(box.low - EDGE, box.high + EDGE)
        axes.set_title(_title(one), loc="left", fontsize=8, color=INK)
    lower = "" if metric.higher_is_similar else "; lower is more alike"
    said = f"{under(study, condition)}; filled marks: under the condition, rings: under the control{lower}"
    head(figure, f"{metric.label}, mean over layers, against the controls", said, study)
    say_below(figure, study)
    return figure


def _title(one: Contrasts) -> str:
    label = clip(one.label, 34)
    return label if math.isnan(one.ratio) else f"{label}\n{number(one.ratio)} × as strong"


def _draw(axes: Axes, one: Contrasts, names: bool) -> None:
    count = len(one.rows)
    for k, row in enumerate(one.rows):
        y = count - 1 - k
        axes.plot([row.condition.value, row.control.value], [y, y], color="#b9c0c7", linewidth=2, zorder=2)
        axes.add_line(
            Line2D([row.condition.low, row.condition.high], [y, y], color=row.look.hue, linewidth=1, zorder=3)
        )
        axes.plot([row.control.value], [y], "o", markersize=5, markerfacecolor="white", markeredgecolor=QUIET, zorder=4)
        axes.plot([row.condition.value], [y], zorder=5, **mark(row.look, 6.5))
    frame(axes, "both")
    labels = [f"{clip(row.encoder.described, 22)}  {row.look.code}" if names else "" for row in reversed(one.rows)]
    axes.set_yticks(range(count), labels, fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.set_ylim(-0.7, count - 0.3)
