"""Stability on paper: scores over the number of stimuli, agreement of halves, and poolings, side by side."""

import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repalign.report.chart import score_box
from repalign.report.colours import DASHES, LINES
from repalign.report.curve import LINE_WIDTH
from repalign.report.heatmap import INK, QUIET, say_caveats
from repalign.report.saved import Study
from repalign.report.sentences import seen, sides
from repalign.report.stability import Choice, Growth, growths, halves, pools
from repalign.report.stability_charts import count_marks
from repalign.report.wording import counted, shorten

PANEL_HEIGHT, ROW_HEIGHT, WIDTH = 2.5, 0.24, 4.0
"""Inches of a chart, of a row of dots, and of either's axes."""

NAME_WIDTH = 26
"""Characters of a name beside a row of dots."""


def stability_figure(study: Study) -> Figure:
    """Draw what the study's `curves.csv` holds: lines above, rows of dots below."""
    lines = growths(study)
    charts = [[g for g in lines if not any(g.layers)], [g for g in lines if any(g.layers)]]
    dots = [halves(study), pools(study)]
    rows = max(map(len, dots))
    heights = [PANEL_HEIGHT] * any(charts) + [max(0.5, rows * ROW_HEIGHT)] * (rows > 0)
    figure = Figure(figsize=(2 * WIDTH + 3.2, sum(heights) + 1.1 * len(heights)))
    titles = ("Mean over layers matched by depth", "The pair most alike"), ("Agreement of two halves", "By pooling")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, hspace=1.1 / max(heights), wspace=0.62)
    first = None
    if any(charts):
        for k, some in enumerate(charts):
            if some:
                axes = figure.add_subplot(grid[0, k])
                _draw_lines(axes, study, some, titles[0][k])
                first = first or axes
    for k, some in enumerate(dots):
        if some:
            axes = figure.add_subplot(grid[-1, k])
            _draw_dots(axes, study, some, titles[1][k], named=k == 1)
            first = first or axes
    a, b = sides(study)
    figure.suptitle("\n".join(textwrap.wrap(f"{a} × {b} · {seen(study)}", 110)), fontsize=10, color=QUIET, y=1.0)
    if first is not None:
        lowest = min(figure.axes, key=lambda axes: (axes.get_position().y0, axes.get_position().x0))
        say_caveats(lowest, study, -36.0)
    return figure


def _draw_lines(axes: Axes, study: Study, some: list[Growth], title: str) -> None:
    places = {metric.id: k for k, metric in enumerate(study.metrics)}
    every = np.concatenate([g.n for g in some])
    for growth in some:
        k = places[growth.metric.id]
        style: dict[str, Any] = {"dashes": DASHES[k % len(DASHES)]} if DASHES[k % len(DASHES)] else {}
        where = f": {' × '.join(map(shorten, growth.layers))}" if any(growth.layers) else ""
        look: dict[str, Any] = {"color": LINES[k % len(LINES)], "linewidth": LINE_WIDTH, "marker": "o", **style}
        axes.plot(growth.n, growth.value, markersize=3.2, label=growth.metric.label + where, zorder=3, **look)
        axes.fill_between(growth.n, growth.low, growth.high, color=look["color"], alpha=0.18, linewidth=0, zorder=2)
    box = score_box(np.concatenate([np.concatenate([g.value, g.low, g.high]) for g in some]))
    axes.set_xscale("log")
    marks = count_marks(every, (float(every.min()), float(every.max())))
    axes.set_xticks(marks, [f"{n:,.0f}" for n in marks])
    axes.set_xticks([], minor=True)
    axes.set(ylim=(box.low, box.high + 0.02))
    axes.set_xlabel(f"number of {study.pictures}", color=QUIET)
    axes.set_ylabel("score", color=QUIET)
    axes.grid(axis="y", color="#e3e5e8", linewidth=0.6, zorder=0)
    _plain(axes, title)
    axes.legend(loc="lower right", frameon=False, fontsize=7, handlelength=3.2, labelcolor=INK)


def _draw_dots(axes: Axes, study: Study, some: list[Choice], title: str, named: bool) -> None:
    box = score_box(np.array([v for one in some for v in (one.value, one.low, one.high)]))
    for row, one in enumerate(some):
        colour = LINES[study.metrics.index(one.metric) % len(LINES)]
        if math.isfinite(one.low) and math.isfinite(one.high):
            axes.plot([one.low, one.high], [row, row], color=colour, linewidth=3, alpha=0.45, zorder=2)
        axes.plot([one.value], [row], "o", color=colour, markersize=6, zorder=3)
        axes.annotate(
            one.written, (1, row), (6, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=7.5
        )
    names = [f"{one.metric.label}, {one.name}" if named else one.metric.label for one in some]
    axes.set_yticks(range(len(some)), [textwrap.shorten(n, NAME_WIDTH, placeholder="…") for n in names], fontsize=7.5)
    axes.set(xlim=(box.low - 0.02, box.high + 0.02), ylim=(len(some) - 0.5, -0.5))
    axes.grid(axis="x", color="#e3e5e8", linewidth=0.6, zorder=0)
    _plain(axes, title if named else f"{title} of {counted(int(some[0].n), 'stimulus', 'stimuli')} each")


def _plain(axes: Axes, title: str) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.tick_params(length=2.5, color=QUIET, labelcolor=INK)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
