"""Stability on paper: scores over the number of stimuli, agreement of halves, and poolings."""

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
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
from repalign.report.wording import clip, shorten

WIDTH, HEIGHT, ROW = 5.6, 2.6, 0.22
"""Inches of a panel with its margins, of a chart, and of a row of dots."""

CHART_MARGINS, DOTS_MARGINS = (0.6, 0.25), (2.45, 1.15)
"""Inches left and right of the axes, where names and values stand."""

ABOVE, BELOW = 0.62, 0.55
"""Inches above the axes for title and legend, a legend's line more each, and below for marks."""

NAME_LETTERS = 40


def stability_figure(study: Study) -> Figure:
    """Draw what the study's `curves.csv` holds: lines above, rows of dots below."""
    charts = [[g for g in growths(study) if any(g.layers) is single] for single in (False, True)]
    bands = [_Band([some for some in charts if some], _draw_lines, CHART_MARGINS, HEIGHT, legend=0.17)]
    rows = [found for found in (halves(study), pools(study)) if found]
    bands.append(_Band(rows, _draw_dots, DOTS_MARGINS, 0.2 + ROW * max(map(len, rows), default=0)))
    bands = [band for band in bands if band.panels]
    figure = Figure(figsize=(2 * WIDTH, max(1.0, sum(band.total for band in bands))))
    top = sum(band.total for band in bands)
    for band in bands:
        for k, some in enumerate(band.panels):
            left, right = band.margins
            box = (k * WIDTH + left, top - band.head - band.height, WIDTH - left - right, band.height)
            axes = figure.add_axes(tuple(np.array(box) / np.tile(figure.get_size_inches(), 2)))
            band.draw(axes, study, some)
        top -= band.total
    _finish(figure, study)
    return figure


@dataclass(frozen=True)
class _Band:
    """Panels side by side: what draws one, margins, inches of the axes, and of a legend's line above them."""

    panels: list[Any]
    draw: Callable[[Axes, Study, Any], None]
    margins: tuple[float, float]
    height: float
    legend: float = 0.0

    @property
    def head(self) -> float:
        return ABOVE + self.legend * max(map(len, self.panels), default=0)

    @property
    def total(self) -> float:
        return self.head + self.height + BELOW


def _finish(figure: Figure, study: Study) -> None:
    """Name both sides above and repeat the caveats below."""
    a, b = sides(study)
    title = "\n".join(textwrap.wrap(f"Stability of {a} × {b} · {seen(study)}", 110))
    figure.text(0.6 / (2 * WIDTH), 1.0, title, fontsize=11, fontweight="bold", color=INK, va="bottom")
    if figure.axes:
        lowest = min(figure.axes, key=lambda axes: (round(axes.get_position().y0, 6), axes.get_position().x0))
        say_caveats(lowest, study, -36.0)


def _draw_lines(axes: Axes, study: Study, some: list[Growth]) -> None:
    places = {metric.id: k for k, metric in enumerate(study.metrics)}
    for growth in some:
        k = places[growth.metric.id]
        style: dict[str, Any] = {"dashes": DASHES[k % len(DASHES)]} if DASHES[k % len(DASHES)] else {}
        where = f": {' × '.join(map(shorten, growth.layers))}" if any(growth.layers) else ""
        look: dict[str, Any] = {"color": LINES[k % len(LINES)], "linewidth": LINE_WIDTH, "marker": "o", **style}
        axes.plot(growth.n, growth.value, markersize=3.2, label=growth.metric.label + where, zorder=3, **look)
        axes.fill_between(growth.n, growth.low, growth.high, color=look["color"], alpha=0.18, linewidth=0, zorder=2)
    box = score_box(np.concatenate([np.concatenate([g.value, g.low, g.high]) for g in some]))
    every = np.concatenate([g.n for g in some])
    marks = count_marks(every, (float(every.min()), float(every.max())))
    axes.set_xscale("log")
    axes.set_xticks(marks, [f"{n:,.0f}" for n in marks])
    axes.set_xticks([], minor=True)
    axes.set(ylim=(box.low, box.high + 0.02))
    axes.set_xlabel(f"number of {study.pictures}", color=QUIET)
    axes.set_ylabel("score", color=QUIET)
    axes.grid(axis="y", color="#e3e5e8", linewidth=0.6, zorder=0)
    _plain(axes)
    look = {"handlelength": 3.2, "labelcolor": INK, "fontsize": 7.5, "frameon": False, "alignment": "left"}
    title = "The pair most alike" if any(some[0].layers) else "Mean over layers matched by depth"
    legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), title=title, title_fontsize=9, **look)
    legend.get_title().set(fontweight="bold", color=INK)


def _draw_dots(axes: Axes, study: Study, some: list[Choice]) -> None:
    box = score_box(np.array([v for one in some for v in (one.value, one.low, one.high)]))
    for row, one in enumerate(some):
        colour = LINES[study.metrics.index(one.metric) % len(LINES)]
        if math.isfinite(one.low) and math.isfinite(one.high):
            axes.plot([one.low, one.high], [row, row], color=colour, linewidth=3, alpha=0.45, zorder=2)
        axes.plot([one.value], [row], "o", color=colour, markersize=6, zorder=3)
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        axes.annotate(one.written, (1, row), (6, 0), fontsize=7.5, color=INK, **place)
    names = [f"{one.metric.label}, {one.name}" if one.name else one.metric.label for one in some]
    axes.set_yticks(range(len(some)), [clip(name, NAME_LETTERS) for name in names], fontsize=7.5)
    axes.set(xlim=(box.low - 0.02, box.high + 0.02), ylim=(len(some) - 0.5, -0.5))
    axes.grid(axis="x", color="#e3e5e8", linewidth=0.6, zorder=0)
    _plain(axes)
    title = "By pooling" if some[0].name else f"Agreement of two halves, {some[0].n:,.0f} {study.pictures} each"
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.tick_params(length=2.5, color=QUIET, labelcolor=INK)
