"""Controls on paper: the condition and each control on one axis, best first, a panel a measure."""

import math
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repalign.report.certainty import level
from repalign.report.colours import LINES
from repalign.report.condition_tables import rests_on
from repalign.report.conditions import condition_name
from repalign.report.control_charts import Row, control_axis, control_rows, control_ticks
from repalign.report.heatmap import INK, QUIET, say_caveats
from repalign.report.saved import Metric, Study
from repalign.report.sentences import named
from repalign.report.wording import clip

WIDTH, ROW = 8.0, 0.25
"""Inches of a panel with its margins, and of a row of dots."""

LEFT, RIGHT = 2.85, 1.15
"""Inches left and right of the axes, where names and values stand."""

ABOVE, BELOW = 0.36, 0.42
"""Inches above the axes for the measure's name, and below for marks."""

NAME_LETTERS = 44
"""Characters of a name in one line; a longer one takes two."""


def control_figure(study: Study) -> Figure | None:
    """Draw the mean score under the condition and each control with intervals; None without controls."""
    panels = [(k, metric, rows) for k, metric in enumerate(study.metrics) if (rows := control_rows(study, metric))]
    if not panels:
        return None
    heights = [ABOVE + ROW * len(rows) + BELOW for _, _, rows in panels]
    total = sum(heights)
    figure = Figure(figsize=(WIDTH, total))
    top = total
    for (k, metric, rows), height in zip(panels, heights, strict=True):
        box = (LEFT / WIDTH, (top - height + BELOW) / total, (WIDTH - LEFT - RIGHT) / WIDTH, ROW * len(rows) / total)
        _draw(figure.add_axes(box), study, metric, rows, LINES[k % len(LINES)])
        top -= height
    figure.axes[-1].set_xlabel("mean score over layers", color=QUIET)
    _head(figure, study)
    # room for marks and the axis title, in points
    say_caveats(figure.axes[-1], study, -34.0)
    return figure


def _draw(axes: Axes, study: Study, metric: Metric, rows: list[Row], colour: str) -> None:
    for place, row in enumerate(rows):
        if math.isfinite(row.low) and math.isfinite(row.high):
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=3, alpha=0.45, zorder=2)
        look: dict[str, Any] = {"color": colour, "markersize": 6.5, "markeredgewidth": 1.4, "zorder": 3}
        look["clip_on"] = False  # a score of 1 lies on the edge
        if row.is_condition:
            axes.axvline(row.value, color=colour, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        else:
            look["markerfacecolor"] = "white"
        axes.plot([row.value], [place], "D" if row.is_condition else "o", **look)
        at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        weight = "bold" if row.is_condition else "normal"
        axes.annotate(row.written, (1, place), (8, 0), fontsize=7.5, fontweight=weight, color=INK, **at)
    axes.set_yticks(range(len(rows)), [_in_lines(row.name) for row in rows], fontsize=7.5)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.is_condition else "normal")
    _finish(axes, study, metric, len(rows))


def _in_lines(name: str) -> str:
    return "\n".join(textwrap.wrap(clip(name, 2 * NAME_LETTERS - 8), NAME_LETTERS))


def _finish(axes: Axes, study: Study, metric: Metric, rows: int) -> None:
    box = control_axis(study, metric)
    room = 0.02 * (box.high - box.low)
    axes.set(xlim=(box.low - room, box.high + room), ylim=(rows - 0.5, -0.5))
    ticks = control_ticks(box)
    axes.set_xticks([box.high - tick.at / 100 * (box.high - box.low) for tick in ticks], [tick.text for tick in ticks])
    axes.grid(axis="x", color="#e3e5e8", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.tick_params(length=2.5, color=QUIET, labelcolor=INK)
    lower = "" if metric.higher_is_similar else " (lower is more alike)"
    axes.set_title(f"{metric.label}{lower}", loc="left", fontsize=9, fontweight="bold", color=INK)


def _head(figure: Figure, study: Study) -> None:
    """Say above the panels what is compared, and what the intervals rest on."""
    title = f"{named(study.a)} on {study.a.stimuli} as they are and changed: {condition_name(study)} beside controls"
    sure = any(math.isfinite(one.mean_low) for one in study.conditions.summaries)
    under = rests_on(study) + (f"; {100 * level(study):g} % intervals" if sure else "")
    lines = [*textwrap.wrap(title, 92), *textwrap.wrap(under, 110)]
    height = figure.get_size_inches()[1]
    for k, line in enumerate(reversed(lines)):
        first = k >= len(textwrap.wrap(under, 110))
        look: dict[str, Any] = {"fontsize": 10, "fontweight": "bold"} if first else {"fontsize": 8.5}
        figure.text(0.0, 1 + 0.17 * (k + 0.4) / height, line, color=INK if first else QUIET, va="bottom", **look)
