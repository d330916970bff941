"""Depth-matched curves: each layer of A with the layer of B nearest in depth, all measures on one axis."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from repalign.report.certainty import brief
from repalign.report.chart import score_box
from repalign.report.colours import DASHES, LINES
from repalign.report.depth_charts import CEILING, INDEPENDENT, NULL, along_depth, axis_values
from repalign.report.heatmap import INK, QUIET, say_caveats
from repalign.report.saved import Metric, Study
from repalign.report.scores import diagonal, matched_curve, null_bands
from repalign.report.sentences import described, seen, sides
from repalign.report.wording import clip, number, shorten

SIZE = (7.2, 3.9)
"""Inches of the axes."""

LINE_WIDTH = 1.8


def curve_figure(study: Study) -> Figure:
    """Draw every measure's depth-matched curve with its peak, and ribbons and the null where the study has them."""
    width, height = SIZE
    figure = Figure(figsize=(width + 1, height + 1.6))
    axes = figure.add_axes((0.7 / (width + 1), 1.0 / (height + 1.6), width / (width + 1), height / (height + 1.6)))
    depths = study.a.depths
    for k, metric in enumerate(study.metrics):
        curve = matched_curve(study, metric)
        _draw_line(axes, depths, curve, k, _said(study, metric))
        _draw_peak(axes, study, metric, k)
        _draw_ribbon(axes, study, metric, depths, LINES[k % len(LINES)])
        _draw_ceiling(axes, study, metric, LINES[k % len(LINES)])
        _draw_independent(axes, study, metric, LINES[k % len(LINES)])
    _draw_null(axes, study, depths)
    box = score_box(axis_values(study))
    _finish(axes, study, box.low, box.high)
    return figure


def _said(study: Study, metric: Metric) -> str:
    along = diagonal(study, metric)
    if along is None:
        return f"{metric.label}: undefined"
    peak = along.peak
    where = f"{shorten(peak.layer_a)} × {shorten(peak.layer_b)}"
    return f"{metric.label}: mean {number(along.mean)}, peak {number(peak.value)} at {where}"


def _draw_line(axes: Axes, depths: np.ndarray, curve: np.ndarray, k: int, label: str) -> None:
    style: dict[str, Any] = {"dashes": DASHES[k % len(DASHES)]} if DASHES[k % len(DASHES)] else {}
    few = len(curve) <= 40
    axes.plot(
        depths,
        curve,
        color=LINES[k % len(LINES)],
        linewidth=LINE_WIDTH,
        marker="o" if few else None,
        markersize=3.2,
        label=label,
        zorder=3,
        **style,
    )


def _draw_peak(axes: Axes, study: Study, metric: Metric, k: int) -> None:
    along = diagonal(study, metric)
    if along is not None:
        axes.plot(
            [along.peak_depth],
            [along.peak.value],
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=LINES[k % len(LINES)],
            markeredgewidth=1.6,
            zorder=4,
        )


def _draw_ribbon(axes: Axes, study: Study, metric: Metric, depths: np.ndarray, colour: str) -> None:
    low, high = matched_curve(study, metric, "ci_low"), matched_curve(study, metric, "ci_high")
    if np.isfinite(low).any():
        axes.fill_between(depths, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)


def _draw_ceiling(axes: Axes, study: Study, metric: Metric, colour: str) -> None:
    low, high = study.a.ceiling(metric)
    if along_depth(study) and np.isfinite(low).any():
        look: dict[str, Any] = {"facecolor": to_rgba(colour, 0.06), "edgecolor": to_rgba(colour, 0.8)}
        look["label"] = f"{CEILING} of {metric.label}"
        axes.fill_between(study.a.depths, low, high, linewidth=0.8, linestyle=(0, (6, 3)), zorder=1, **look)


def _draw_independent(axes: Axes, study: Study, metric: Metric, colour: str) -> None:
    curve = matched_curve(study, metric, "independent")
    if np.isfinite(curve).any():
        label = f"{metric.label}: {INDEPENDENT}"
        axes.plot(study.a.depths, curve, color=colour, linewidth=1.3, linestyle=(0, (1, 2)), label=label, zorder=2)


def _draw_null(axes: Axes, study: Study, depths: np.ndarray) -> None:
    """Shade the null's means: one band for the measures that agree on it."""
    for k, (low, high) in enumerate(null_bands(study)):
        look: dict[str, Any] = {"color": QUIET, "alpha": 0.35, "linewidth": 2, "zorder": 1}
        axes.fill_between(depths, low, high, label=NULL if k == 0 else None, **look)


def _finish(axes: Axes, study: Study, lowest: float, highest: float) -> None:
    room = 0.04 * (highest - lowest)
    axes.set(xlim=(-0.03, 1.03), ylim=(lowest - (room if lowest < 0 else 0), highest + room))
    axes.axhline(0.0, color=QUIET, linewidth=0.6, zorder=1)
    axes.grid(axis="y", color="#e3e5e8", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.tick_params(length=2.5, color=QUIET, labelcolor=INK)
    axes.set_xlabel(f"relative depth in {clip(described(study.a), 64)}: 0 first layer, 1 last", color=QUIET, labelpad=6)
    axes.set_ylabel("score", color=QUIET)
    _head(axes, study)
    say_caveats(axes, study, -40.0)


def _under(study: Study) -> list[str]:
    rests = list(dict.fromkeys(text for metric in study.metrics if (text := brief(study, metric))))
    return [seen(study), *rests]


def _head(axes: Axes, study: Study) -> None:
    """Put title and legend above the axes."""
    a, b = sides(study)
    title = [
        *textwrap.wrap(f"{a} × {b}, matched by depth; rings mark peaks", 80),
        *textwrap.wrap("; ".join(_under(study)), 90),
    ]
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        frameon=False,
        fontsize=8.5,
        handlelength=3.2,
        labelcolor=INK,
        title="\n".join(title),
        title_fontproperties=FontProperties(size=10, weight="bold"),
        alignment="left",
    )
    legend.get_title().set_color(INK)
