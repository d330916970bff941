"""Panels on paper that diagnoses and runs share: maps on one scale, and the page's own charts and dots drawn in ink."""

import re
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from repalign.report.chart import FULL, Chart, Series
from repalign.report.colours import DASHES, LINES, tail_end
from repalign.report.heatmap import ANNOTATED, INK, QUIET, draw_bar, draw_cells, frame_cells, write_scores
from repalign.report.many.paper import FAINT, frame, head, warn_below
from repalign.report.saved import Metric
from repalign.report.stability_charts import Dots
from repalign.report.wording import clip, shorten, ticks

SIDE, CELL = (2.1, 3.6), (0.3, 0.55)
"""Inches of the side of a map, shortest and longest, and of a cell."""

LEFT, BETWEEN, BELOW, ABOVE = 1.0, 1.0, 0.95, 0.42
"""Inches around maps: names on the left and below, the title above."""

SMALL = 7.5
"""Points of small letters."""

LETTERS = 30
"""Letters of a row's name in one line."""


Inches = tuple[float, float, float, float]
"""Left, bottom, width and height of axes."""


@dataclass(frozen=True)
class Panel:
    """One map on paper: `marked` cells are framed; the way runs through points of its own, x and y in cells."""

    title: str
    scores: Float[np.ndarray, "la lb"]
    muted: Bool[np.ndarray, "la lb"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    marked: tuple[tuple[int, int], ...] = ()
    way: Float[np.ndarray, "k 2"] | None = None


def maps_figure(panels: list[Panel], sides: tuple[str, str], title: str, said: str, caveats: list[str]) -> Figure:
    """Draw maps side by side on the one colour scale: `sides` go upwards and to the right."""
    width, height = (max(_inches(one.scores.shape[k]) for one in panels) for k in (1, 0))
    whole = (LEFT + len(panels) * (width + BETWEEN) - 0.2, ABOVE + height + BELOW)
    figure = Figure(figsize=whole)
    for k, panel in enumerate(panels):
        axes = _place(figure, (LEFT + k * (width + BETWEEN), BELOW, width, height))
        _draw_map(axes, panel)
        axes.set_xlabel(f"{clip(sides[1], 40)}, deep →", color=QUIET)
        if k == 0:
            axes.set_ylabel(f"{clip(sides[0], 40)}, deep →", color=QUIET)
    known = np.concatenate([np.zeros(1), *(one.scores[np.isfinite(one.scores)] for one in panels)])
    bar = _place(figure, (whole[0] - BETWEEN + 0.35, BELOW, 0.13, height))
    draw_bar(bar, Metric("score", "score", "score"), tail_end(float(known.min())))
    head(figure, title, said)
    warn_below(figure, caveats, 0.1)
    return figure


def _inches(count: int) -> float:
    return float(np.clip(count * np.clip(SIDE[1] / count, *CELL), *SIDE))


def _place(figure: Figure, box: Inches) -> Axes:
    """Add axes in a box of inches."""
    return figure.add_axes(tuple(np.array(box) / np.tile(figure.get_size_inches(), 2)))


def _draw_map(axes: Axes, panel: Panel) -> None:
    draw_cells(axes, panel.scores, panel.muted)
    frame_cells(axes, list(panel.marked))
    if panel.way is not None and len(panel.way):
        x, y = panel.way.T - 0.5
        for colour, line, size in ((INK, 3.0, 6.5), ("white", 1.3, 4.5)):
            axes.plot(x, y, color=colour, linewidth=line, solid_joinstyle="round", zorder=3.5)
            axes.plot(x[::3], y[::3], "o", color=colour, markersize=size, markeredgewidth=0, zorder=3.6)
    if max(panel.scores.shape) <= ANNOTATED:
        write_scores(axes, panel.scores, panel.muted)
    places = [ticks(len(names), 16) for names in (panel.columns, panel.rows)]
    axes.set_xticks(places[0], [shorten(panel.columns[j], 14) for j in places[0]], fontsize=SMALL)
    axes.set_yticks(places[1], [shorten(panel.rows[i], 14) for i in places[1]], fontsize=SMALL)
    for label in axes.get_xticklabels():
        label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(which="major", length=2.5, color=QUIET, labelcolor=INK)
    axes.spines[:].set_color(QUIET)
    title = "\n".join(textwrap.wrap(panel.title, 34))
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)


def dots_panel(figure: Figure, box: Inches, dots: Dots, title: str) -> Axes:
    """Draw the page's rows of dots in ink, in a box of inches; names stand left of it and values right."""
    axes = _place(figure, box)
    for place, row in enumerate(dots.rows):
        colour = LINES[row.line]
        if row.low is not None:
            axes.plot([row.low, row.low + row.width], [place] * 2, color=colour, linewidth=3, alpha=0.45, zorder=2)
        if row.at is not None:
            look: dict[str, Any] = {"color": colour, "markersize": 6.5, "markeredgewidth": 1.4, "zorder": 3}
            look["markerfacecolor"] = "white" if dots.rule is not None and not row.strong else colour
            axes.plot([row.at], [place], "D" if row.strong else "o", clip_on=False, **look)
        at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        weight = "bold" if row.strong else "normal"
        axes.annotate(row.text, (1, place), (8, 0), fontsize=SMALL, fontweight=weight, color=INK, **at)
    if dots.rule is not None:
        axes.axvline(dots.rule, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    names = [f"{row.heading}\n{row.name}" if row.heading else row.name for row in dots.rows]
    names = ["\n".join(part for line in name.split("\n") for part in textwrap.wrap(line, LETTERS)) for name in names]
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.set_xticks([tick.at for tick in dots.ticks], [tick.text for tick in dots.ticks])
    axes.set(xlim=(-2, 102), ylim=(len(names) - 0.4, -0.6))
    frame(axes, "x")
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    return axes


def chart_panel(figure: Figure, box: Inches, chart: Chart, title: str) -> Axes:
    """Draw one of the page's charts in ink, in a box of inches."""
    axes = _place(figure, box)
    keys = [_draw_series(axes, one) for one in chart.series]
    axes.set_xticks([tick.at * 10 for tick in chart.x_ticks], [tick.text for tick in chart.x_ticks])
    axes.set_yticks([tick.at * 10 for tick in chart.y_ticks], [tick.text for tick in chart.y_ticks])
    axes.set(xlim=(-20, FULL + 20), ylim=(FULL, -20), xlabel=chart.x_label, ylabel=chart.y_label)
    frame(axes)
    axes.xaxis.label.set(color=QUIET, fontsize=8)
    axes.yaxis.label.set(color=QUIET, fontsize=8)
    look: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "fontsize": SMALL, "frameon": False}
    look |= {"title": title, "title_fontsize": 9, "alignment": "left", "labelcolor": INK, "handlelength": 3.2}
    legend = axes.legend(handles=keys, borderaxespad=0.2, **look)
    legend.get_title().set(fontweight="bold", color=INK)
    return axes


def _draw_series(axes: Axes, one: Series) -> Line2D:
    """Draw a line with ribbon, chance, dots and ring, and give what stands for it in the legend."""
    colour, dashes = LINES[one.colour], DASHES[one.colour]
    style: dict[str, Any] = {"linestyle": (0, dashes)} if dashes else {}
    thin: dict[str, Any] = {"facecolor": "none", "edgecolor": colour}
    axes.add_patch(PathPatch(_path(one.ribbon), facecolor=colour, alpha=0.18, linewidth=0, zorder=2))
    axes.add_patch(PathPatch(_path(one.chance), linewidth=1.1, linestyle=(0, (1, 2)), zorder=2, **thin))
    axes.add_patch(PathPatch(_path(one.line), linewidth=1.8, zorder=3, **thin, **style))
    x, y = _corners(one.dots).T
    axes.plot(x, y, "o", color=colour, markersize=3.2, clip_on=False, zorder=3)
    if one.peak:
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.6}
        axes.plot([one.peak[0] * 10], [one.peak[1] * 10], "o", markersize=9, zorder=4, **ring)
    return Line2D([], [], color=colour, linewidth=1.8, label=f"{one.label} {one.said}".strip(), **style)


def _path(text: str) -> Path:
    """Read the moves and lines of one of the page's paths."""
    pens = re.findall(r"[ML]", text)
    return Path(_corners(text), [Path.MOVETO if pen == "M" else Path.LINETO for pen in pens] or None)


def _corners(text: str) -> Float[np.ndarray, "k 2"]:
    found = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", text)
    return np.array([[float(x), float(y)] for x, y in found]).reshape(-1, 2)


def bars_panel(figure: Figure, box: Inches, rows: list[tuple[str, str, float]], title: str) -> Axes:
    """Draw bars of a name, a text and a length in per cent, in a box of inches."""
    axes = _place(figure, box)
    for place, (_, text, length) in enumerate(rows):
        axes.barh([place], [length], height=0.5, color=LINES[0], zorder=2)
        axes.annotate(text, (length, place), (5, 0), textcoords="offset points", va="center", fontsize=SMALL, color=INK)
    axes.set_yticks(range(len(rows)), ["\n".join(textwrap.wrap(name, LETTERS)) for name, *_ in rows], fontsize=SMALL)
    axes.set(xlim=(0, 130), xticks=[], ylim=(len(rows) - 0.4, -0.6))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines[:].set_color(FAINT)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    return axes
