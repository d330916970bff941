"""A heatmap of one measure: layers of A upwards, layers of B to the right, both from shallow to deep."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from repalign.report.certainty import brief
from repalign.report.colours import CLEAR, STRIKE, is_light, score_map, score_rgba, tail_end
from repalign.report.saved import Metric, Study
from repalign.report.scores import at_chance, best_matches
from repalign.report.sentences import caveats, seen, sides
from repalign.report.wording import clip, number, shorten, ticks

ANNOTATED = 12
"""Up to so many layers each cell carries its number."""

LABELLED = 32
"""At most about so many layer names on an axis."""

CAVEAT_WIDTH = 96
"""Characters in a line of caveats."""

LETTER = 0.085
"""Inches a letter of a layer's name takes, with room."""

INK, QUIET, WARN = "#1b1f24", "#5c6570", "#7a4a00"
SIDE_LIMITS = (3.2, 7.5)
"""Shortest and longest side of the map in inches."""


def heatmap_figure(study: Study, metric: Metric) -> Figure:
    """Draw the heatmap of one metric with its title, colour bar, legend and caveats."""
    scores = study.matrix(metric)
    width, height = _map_size(*scores.shape)
    figure = Figure(figsize=(width + 2.6, height + 2.2))
    total_w, total_h = figure.get_size_inches()
    axes = figure.add_axes((1.6 / total_w, 1.3 / total_h, width / total_w, height / total_h))
    muted = at_chance(study, metric)
    draw_cells(axes, scores, muted)
    _name_layers(axes, study)
    best = best_matches(study, metric)
    _mark_best(axes, best, scores.shape)
    if max(scores.shape) <= ANNOTATED:
        write_scores(axes, scores, muted)
    bar = figure.add_axes(((1.6 + width + 0.18) / total_w, 1.3 / total_h, 0.15 / total_w, height / total_h))
    draw_bar(bar, metric, tail_end(study.lowest()))
    _write_titles(axes, study, metric)
    _write_legend(axes, study, scores, muted)
    return figure


def _map_size(la: int, lb: int) -> tuple[float, float]:
    """Choose inches for a map of la × lb cells: square cells where that stays within the limits."""
    shortest, longest = SIDE_LIMITS
    cell = min(max(0.36, shortest / min(la, lb)), longest / max(la, lb))
    return max(lb * cell, shortest), max(la * cell, shortest)


def draw_cells(axes: Axes, scores: np.ndarray, muted: np.ndarray) -> None:
    """Paint the cells of a map: undefined ones hatched, muted ones struck through."""
    la, lb = scores.shape
    if np.isnan(scores).any():
        axes.add_patch(
            Rectangle(
                (-0.5, -0.5), lb, la, facecolor="#eceef0", edgecolor="#8a929a", hatch="////", linewidth=0, zorder=0
            )
        )
    axes.imshow(score_rgba(scores, muted), origin="lower", aspect="auto", interpolation="nearest", zorder=1)
    ends = [(-0.5, -CLEAR), (CLEAR, 0.5)]
    strikes = [[(j + d, i - d) for d in part] for i, j in np.argwhere(muted) for part in ends]
    axes.add_collection(LineCollection(strikes, colors=STRIKE, linewidths=1.0, zorder=2, rasterized=True))
    axes.set(xlim=(-0.5, lb - 0.5), ylim=(-0.5, la - 0.5))
    if max(la, lb) <= ANNOTATED * 3:
        axes.set_xticks(np.arange(0.5, lb - 1), minor=True)
        axes.set_yticks(np.arange(0.5, la - 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=0.8)
        axes.tick_params(which="minor", length=0)


def _name_layers(axes: Axes, study: Study) -> None:
    columns, rows = (ticks(len(side.layers), LABELLED) for side in (study.b, study.a))
    small = 7.5 if max(len(rows), len(columns)) > ANNOTATED else 8.5
    axes.set_xticks(columns, [shorten(study.b.layers[j]) for j in columns], fontsize=small)
    axes.set_yticks(rows, [shorten(study.a.layers[i]) for i in rows], fontsize=small)
    cell = axes.get_window_extent().width / axes.figure.dpi / len(study.b.layers)
    if max(len(shorten(study.b.layers[j])) for j in columns) * LETTER > cell:
        for label in axes.get_xticklabels():
            label.set(rotation=50, ha="right", rotation_mode="anchor")
    axes.tick_params(which="major", length=2.5, color=QUIET, labelcolor=INK)
    axes.spines[:].set_color(QUIET)
    a, b = sides(study)
    axes.set_xlabel(f"{clip(b, 64)}, shallow → deep", color=QUIET, labelpad=6)
    axes.set_ylabel(f"{clip(a, 64)}, shallow → deep", color=QUIET, labelpad=6)


def _mark_best(axes: Axes, best: np.ndarray, shape: tuple[int, ...]) -> None:
    """Frame the best match of each row, or dot it where cells are small."""
    rows = np.flatnonzero(best >= 0) if shape[1] > 1 else np.array([], dtype=int)
    if max(shape) <= ANNOTATED * 3:
        frame_cells(axes, [(int(i), int(best[i])) for i in rows])
        return
    axes.scatter(best[rows], rows, s=5, c="white", edgecolors=INK, linewidths=0.4, zorder=3)


def frame_cells(axes: Axes, cells: list[tuple[int, int]]) -> None:
    """Draw a frame around each of some cells."""
    for i, j in cells:
        for colour, line in (("white", 2.6), (INK, 1.1)):
            look: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": line, "zorder": 3}
            axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, **look))


def write_scores(axes: Axes, scores: np.ndarray, muted: np.ndarray) -> None:
    """Write each cell's number in the ink that reads on it."""
    light = is_light(score_rgba(scores, muted))
    for (i, j), value in np.ndenumerate(scores):
        if not np.isnan(value):
            axes.text(
                j,
                i,
                number(value),
                ha="center",
                va="center",
                fontsize=7,
                color=INK if light[i, j] else "white",
                zorder=4,
            )


def draw_bar(axes: Axes, metric: Metric, low: float) -> None:
    """Draw the colour scale from `low` to 1."""
    values = np.linspace(low, 1.0, 512)
    axes.imshow(
        score_map()((values[:, None] + 1) / 2),
        origin="lower",
        aspect="auto",
        extent=(0, 1, low, 1.0),
        interpolation="nearest",
    )
    axes.yaxis.tick_right()
    marks = [low, *np.arange(0.0, 1.01, 0.2)] if low < 0 else list(np.arange(0.0, 1.01, 0.2))
    axes.set(xticks=[], yticks=marks, yticklabels=[number(v, 1) for v in marks])
    axes.tick_params(length=2.5, color=QUIET, labelcolor=INK, labelsize=8)
    axes.spines[:].set_color(QUIET)
    if low < 0:
        axes.axhline(0.0, color="white", linewidth=0.8)
    direction = "" if metric.higher_is_similar else " (lower is more alike)"
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(f"score{direction}", color=QUIET)


def _write_titles(axes: Axes, study: Study, metric: Metric) -> None:
    a, b = sides(study)
    wide = int(axes.get_window_extent().width / axes.figure.get_dpi() * 14 + 10)
    parts = [f"{a} × {b}", seen(study), brief(study, metric)]
    under = "\n".join(textwrap.wrap(" · ".join(part for part in parts if part), wide))
    axes.annotate(under, (0, 1), (0, 8), "axes fraction", "offset points", va="bottom", color=QUIET, fontsize=8.5)
    lines = under.count("\n") + 1
    axes.annotate(
        metric.label,
        (0, 1),
        (0, 11 + 11.5 * lines),
        "axes fraction",
        "offset points",
        va="bottom",
        fontsize=12,
        fontweight="bold",
        color=INK,
    )


def _write_legend(axes: Axes, study: Study, scores: np.ndarray, muted: np.ndarray) -> None:
    """Explain frames, hatches and muted cells and repeat the caveats, below the axis title."""
    small = max(scores.shape) <= ANNOTATED * 3
    mark = {"marker": "s", "markersize": 8} if small else {"marker": "o", "markersize": 3.5}
    shown = {"color": "none", "markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.1}
    keys: list[Any] = [Line2D([], [], label="best match of the row", **mark, **shown)]
    if np.isnan(scores).any():
        keys.append(Patch(facecolor="#eceef0", edgecolor="#8a929a", hatch="/////", label="undefined"))
    if muted.any():
        pale = score_rgba(np.zeros((1, 1)), np.ones((1, 1), dtype=bool))[0, 0]
        keys.append(
            Patch(facecolor=tuple(pale), edgecolor=STRIKE, hatch="\\\\", linewidth=0, label="interval includes chance")
        )
    below = _points_below(axes) - 8
    axes.legend(
        handles=keys,
        loc="upper left",
        bbox_to_anchor=(0, below / _points_high(axes)),
        ncols=3,
        frameon=False,
        fontsize=8,
        handlelength=1.2,
        labelcolor=QUIET,
        borderaxespad=0,
        borderpad=0,
    )
    say_caveats(axes, study, below - 18)


def say_caveats(axes: Axes, study: Study, below: float) -> None:
    """Write every caveat of the study under the axes, `below` points from their lower edge."""
    said = [line for caveat in caveats(study) for line in textwrap.wrap(f"⚠ {caveat}", CAVEAT_WIDTH)]
    if said:
        place = (0, below)
        axes.annotate(
            "\n".join(said), (0, 0), place, "axes fraction", "offset points", va="top", fontsize=7.5, color=WARN
        )


def _points_below(axes: Axes) -> float:
    """Measure how far labels reach below the axes, in points (negative)."""
    drawn, dpi = axes.get_tightbbox(), axes.figure.dpi
    return 0.0 if drawn is None else (drawn.y0 - axes.get_window_extent().y0) * 72 / dpi


def _points_high(axes: Axes) -> float:
    return axes.get_window_extent().height * 72 / axes.figure.dpi
