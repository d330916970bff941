"""The depth curves of all encoders on paper, each named at its end."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repalign.report.heatmap import INK, QUIET
from repalign.report.many.depth import Curve, DepthCurves, Panel
from repalign.report.many.layout import spread
from repalign.report.many.paper import FAINT, dashes, frame, head, left_out, mark, say_below, under
from repalign.report.many.saved import ManyStudy
from repalign.report.wording import clip, number

PLOT, NAMES, GAP = 3.9, 1.9, 0.75
"""Inches of a panel, of the names beside it, and between panels and below them."""

TITLE = 0.25
"""Inches of a panel's title."""

ALONE = 5.2
"""Inches of a panel that is alone."""

LOWEST, LINE = 3.3, 0.155
"""Inches of the lowest panel, and of a name."""

OTHERS = "#cdd2d7"
"""Lines of the other families."""

NAME_LETTERS = 24


def depth_figure(study: ManyStudy, found: DepthCurves) -> Figure:
    """Draw every panel of curves on one scale, with title, families and caveats."""
    panels = found.panels
    columns = min(2, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    wide = ALONE if len(panels) <= 1 else PLOT
    high = max(LOWEST, LINE * max((len(panel.curves) for panel in panels), default=0) + 0.2)
    width, height = columns * (wide + NAMES + GAP), rows * (high + GAP) + (TITLE if len(panels) > 1 else 0)
    figure = Figure(figsize=(width, height))
    for k, panel in enumerate(panels):
        left, bottom = (
            k % columns * (wide + NAMES + GAP) + 0.5,
            rows * (high + GAP) - (k // columns) * (high + GAP) - high,
        )
        axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
        _draw(axes, found, panel, high)
    words = f"{found.metric.label} over the depth"
    lower = "" if found.metric.higher_is_similar else "; lower is more alike"
    said = f"{under(study, found.condition)}{lower}{left_out([e.described for e in found.undefined])}"
    head(figure, words, said, study)
    say_below(figure, study)
    return figure


def _draw(axes: Axes, found: DepthCurves, panel: Panel, high: float) -> None:
    box = found.box
    for other in panel.others:
        axes.plot(other.depths, other.values, color=OTHERS, linewidth=0.7, zorder=1)
    for curve in panel.curves:
        axes.plot(curve.depths, curve.values, color=curve.look.hue, linewidth=1.5, zorder=3, **dashes(curve.look))
        axes.plot(*([v] for v in curve.end), zorder=4, **mark(curve.look))
        if panel.ribbons:
            low, high_end = (np.clip(end, box.low, box.high) for end in (curve.low, curve.high))
            axes.fill_between(curve.depths, low, high_end, color=curve.look.hue, alpha=0.16, linewidth=0, zorder=2)
    frame(axes)
    room = 0.03 * (box.high - box.low)
    axes.set(xlim=(-0.02, 1.02), ylim=(box.low - room, box.high + room), xticks=(0, 0.25, 0.5, 0.75, 1))
    axes.axhline(0.0, color=QUIET, linewidth=0.6, zorder=1)
    axes.set_xlabel("relative depth: 0 first layer, 1 last", color=QUIET)
    axes.set_ylabel(found.metric.label, color=QUIET)
    if panel.title:
        axes.set_title(panel.title, loc="left", fontsize=9.5, fontweight="bold", color=INK)
    _name(axes, panel.curves, LINE / high)


def _name(axes: Axes, curves: tuple[Curve, ...], line: float) -> None:
    """Write every curve's name beside its end, moved apart, with a thin line to it."""
    low, high = axes.get_ylim()
    ends = np.array([(curve.end[1] - low) / (high - low) for curve in curves])
    for curve, end, at in zip(curves, ends, spread(ends, line, 0.0, 1.0), strict=True):
        axes.plot([1.005, 1.035], [end, at], transform=axes.transAxes, clip_on=False, color=FAINT, linewidth=0.8)
        axes.plot([1.05], [at], transform=axes.transAxes, clip_on=False, **mark(curve.look, 5.0))
        name = f"{curve.look.code}  {clip(curve.encoder.described, NAME_LETTERS)}  {number(curve.end[1])}"
        axes.text(1.075, at, name, transform=axes.transAxes, va="center", fontsize=7.5, color=INK)
